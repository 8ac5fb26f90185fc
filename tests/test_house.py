"""The rules of the house, as far as a machine can check them: floors, export, notebooks, sizes, results,
versions."""

import ast
import builtins
import configparser
import functools
import importlib
import inspect
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import symtable
import sys
import tokenize
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from lla_course.records import Run, load, save

ROOT = Path(__file__).resolve().parents[1]
NBS = sorted((ROOT / "nbs").glob("*.ipynb"))
SETTINGS = configparser.ConfigParser(delimiters=["="], interpolation=None)
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = SETTINGS["DEFAULT"]

# ---- reading notebooks and modules


@functools.cache
def cells(path, kind=None):
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [dict(c, source="".join(c["source"])) for c in found if kind in (None, c["cell_type"])]


def number(path):
    "12 for nbs/12_bias_variance.ipynb, 28 for 28a_measurements.ipynb, its second half; index has none."
    digits = re.match(r"\d+", path.stem)
    return int(digits[0]) if digits else None


def label(path):
    "28a for nbs/28a_measurements.ipynb: labels are in the order of the book."
    return path.stem.partition("_")[0]


def default_exp(path):
    return next(
        (
            m[1]
            for c in cells(path, "code")
            if (m := re.search(r"^#\| *default_exp +(\S+)", c["source"], re.M))
        ),
        None,
    )


# regression.kernel -> its notebook
MODULES = {module: path for path in NBS if (module := default_exp(path))}
# tables of records: no picture, no exercises, nothing to conclude
APPENDICES = ("18_records", "28b_records", "38_records", "48_records", "58_records", "68_records")
READ_ONLY = (
    "index",
    "06_teaching",
    "08_first_steps",
    "21b_line_or_average",
    "24b_first_kernels",
    "62b_what_it_leaks",
    "61b_honest_worth",
    "31b_without_the_solver",
    "31c_chunks",
    *APPENDICES,
)  # export nothing
CHAPTERS = [path for path in NBS if 10 <= (number(path) or 0) <= 89]
LABS = [path for path in CHAPTERS if number(path) % 10 == 9]
# 61c_markets: a part of a chapter, whose exercises may stand in another part
LETTERED = [path for path in CHAPTERS if label(path)[-1].isalpha()]
by_name = dict(ids=lambda p: p.stem if isinstance(p, Path) else str(p))


def generated(module):
    return (ROOT / "lla_course" / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")


# ---- three floors

PARTS = dict(regression=1, attention=2, kernels=2, models=3, tasks=3, brite=4, ftct=5, auctions=6)
ROOMS = dict(
    core="",
    figures="core",
    course="core records",
    records="core",
    training="core records",
    models="core",
    pretrained="core",
    kernels="",
    regression="core records",
    attention="core records regression",
    tasks="core records models training attention pretrained",
    brite="core records models training pretrained",
    ftct="core records models training",
    auctions="core records models training",
    integrations="core records training attention pretrained",
)
# these import what stands before them in their own part
SIBLINGS = {"course", "regression", "attention", "tasks", "brite", "ftct", "auctions", "integrations"}
# through these modules all others reach the kernels
OPENS_KERNELS = {"attention.decode", "attention.decode_benchmark", "attention.flash", "attention.benchmark"}
SHOWS = {
    "plotly",
    "ipywidgets",
    "anywidget",
    "papermill",
    "nbformat",
    "nbconvert",
    "nbclient",
    "sphinx",
    "myst_nb",
    "IPython",
    "matplotlib",
    "jupyter_client",
    "jupyter_core",
    "jupyterlab",
    "traitlets",
    "tqdm",
    "nbgrader",
    "dask",
    "distributed",
    "pyarrow",
}
PURE = set(ROOMS) - {"figures", "course"}


def room(module):
    return module.split(".")[0]


def is_lab(module):
    return module.endswith(".lab")


def may_import(module, target, numbers):
    """Whether the table of the design lets `module` import `target`, both without `lla_course.`; `numbers`
    are the places of their notebooks."""
    a, b = room(module), room(target)
    if module == target or is_lab(target):
        return False
    if is_lab(module):
        return b in {"core", "figures", a, *ROOMS[a].split()}
    if a == "solutions":
        return b == "core" or target == "course.exercises" or PARTS.get(b, 99) <= PARTS[module.split(".")[1]]
    if a == "kernels":
        return b == "kernels"
    if b == "kernels":
        return module in OPENS_KERNELS
    if a == b:
        return a in SIBLINGS and numbers[target] < numbers[module]
    return b in ROOMS[a].split()


def imports(source, module):
    "All (target, whether at module level) pairs that a source imports; ours as 'lla_course.x.y'."
    tree = ast.parse(source)
    package = ["lla_course", *module.split(".")[:-1]]
    inside = {
        id(n)
        for f in ast.walk(tree)
        if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for n in ast.walk(f)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*package[: len(package) + 1 - node.level], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            names = [
                (
                    f"{base}.{a.name}"
                    if base in ("lla_course", "lla_course.kernels")
                    or f"{base}.{a.name}".removeprefix("lla_course.") in MODULES
                    else base
                )
                for a in node.names
            ]
        else:
            continue
        yield from ((name, id(node) not in inside) for name in names)


def trespasses(source, module, numbers):
    "What a source imports although its floor must not."
    found, a = [], room(module)
    runtime = {Requirement(r).name for r in SETTINGS["requirements"].split()} - {"tqdm", "triton"} | (
        {"triton"} if a == "kernels" else set()
    )
    for name, top in imports(source, module):
        outside = name.split(".")[0]
        # the optional kernels of the baselines, the timer of a GPU, and the library that is integrated
        if (outside, module) == ("fla", "attention.benchmark") and not top:
            continue
        if (outside, a) in {
            ("fla", "tasks"),
            ("triton", "core"),
            ("transformers", "integrations"),
            ("transformers", "pretrained"),
            ("tokenizers", "pretrained"),
        } and not top:
            continue
        if outside == "lla_course":
            target = name.removeprefix("lla_course").removeprefix(".")
            # whoever asks for --help does not wait for the tools of the others
            late = module == "course.cli" and target in ("course.recorder", "course.site", "course.sweep")
            if not may_import(module, target, numbers) or late and top:
                found.append(name)
        elif outside in SHOWS:
            if not (
                outside in {"plotly", "ipywidgets"}
                and a == "figures"
                or is_lab(module)
                and outside in {"plotly", "ipywidgets", "anywidget", "IPython"}
                or a == "course"
                and not top
            ):
                found.append(name)
        elif (
            a in PURE
            and not is_lab(module)
            and outside not in sys.stdlib_module_names
            and outside not in runtime
        ):
            found.append(name)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_below_it(module):
    numbers = {m: label(p) for m, p in MODULES.items()}
    assert trespasses(generated(module), module, numbers) == []


@pytest.mark.parametrize(
    "module, line",
    [
        ("core", "from .figures import canvas"),
        ("core", "import triton"),
        ("regression.kernel", "from ..figures import canvas"),
        ("regression.kernel", "import plotly.graph_objects as go"),
        ("regression.kernel", "from .local_linear import run"),
        ("regression.kernel", "from lla_course.regression.local_linear import run"),
        ("regression.kernel", "from lla_course.regression import local_linear"),
        ("regression.kernel", "from . import local_linear"),
        ("regression.kernel", "def f():\n    import plotly"),
        ("regression.kernel", "import pandas"),
        ("regression.kernel", "import triton"),
        ("training", "import triton"),
        ("regression.kernel", "from ..course.exercises import check"),
        ("attention.oracle", "from lla_course.kernels.fwd import f"),
        ("brite.a", "from ..ftct.b import f"),
        ("course.runner", "import papermill"),
        ("course.runner", "from .cli import main"),
        ("course.runner", "def f():\n    from .recorder import record_cells"),
        ("course.cli", "from .site import build_site"),
        ("course.cli", "from .sweep import Sweep"),
        ("course.cluster", "import distributed"),
        ("course.runner", "from .cluster import Cluster"),
        ("course.cli", "from lla_course.course.recorder import record_cells"),
        ("course.site", "import plotly"),
        ("course.site", "from ..regression.kernel import x"),
        ("course.exercises", "from ..solutions.regression import x"),
        ("solutions.regression", "from ..course.runner import x"),
        ("solutions.regression", "from ..attention.flash import flash_lla"),
        ("figures", "import jupyterlab"),
        ("course.cli", "import ipywidgets"),
        ("regression.lab", "from ..attention.lab import x"),
        ("regression.local_linear", "from .lab import Lab"),
        ("kernels.fwd", "from ..core import fail"),
        ("tasks.recall", "from ..brite.x import y"),
        ("tasks.recall", "import fla.ops"),
        ("tasks.mixers", "from .online_regression import run"),
        ("attention.flash", "from .benchmark import run"),
        ("auctions.markets", "from .networks import CITransNet"),
        ("auctions.search", "from .citransnet import train"),
        ("models", "def f():\n    import fla"),
        ("attention.flash", "def f():\n    import fla"),
        ("integrations.transformers", "from transformers import PreTrainedModel"),
        ("pretrained", "from transformers import LlamaForCausalLM"),
        ("pretrained", "from .integrations.transformers import register"),
        ("integrations.transformers", "from ..tasks.mixers import mixer"),
        ("attention.flash", "from ..integrations.transformers import register"),
    ],
)
def test_the_floor_rule_refuses(module, line):
    numbers = {m: label(p) for m, p in MODULES.items()}
    assert trespasses(line, module, numbers)


@pytest.mark.parametrize(
    "module, line",
    [
        ("regression.local_linear", "from .kernel import x\nfrom ..core import fail\nimport torch, json"),
        ("regression.lab", "from ..figures import canvas\nfrom .kernel import x\nimport ipywidgets"),
        ("attention.flash", "from ..kernels.fwd import f\nfrom lla_course.regression.kernel import x"),
        ("attention.benchmark", "from .flash import flash_lla\nfrom ..kernels.fwd import f"),
        ("attention.benchmark", "def f():\n    from fla.ops.parallax import x"),
        ("kernels.fwd", "import triton\nfrom .runtime import x"),
        ("course.recorder", "def f():\n    import papermill\nfrom lla_course.course.runner import Worker"),
        ("course.cli", "def f():\n    from lla_course.course.site import build_site"),
        ("course.recorder", "from .cluster import Cluster"),
        ("solutions.attention", "from ..regression.kernel import x\nfrom ..course.exercises import close"),
        ("tasks.recall", "def f():\n    from fla.ops.gla import x"),
        ("core", "def f():\n    from triton.testing import do_bench"),
        ("tasks.online_regression", "from .mixers import mixer"),
        ("auctions.networks", "from .markets import SETTINGS"),
        ("integrations.transformers", "from ..attention.flash import f\ndef g():\n    import transformers"),
        ("auctions.citransnet", "from .search import BatchSearch\nfrom .regretnet import LogRatio"),
    ],
)
def test_the_floor_rule_allows(module, line):
    numbers = {m: label(p) for m, p in MODULES.items()}
    assert trespasses(line, module, numbers) == []


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in PURE | {"figures"} and not is_lab(m)])
def test_pure_rooms_neither_print_nor_import_by_name(module):
    calls = [n for n in ast.walk(ast.parse(generated(module))) if isinstance(n, ast.Call)]
    names = {c.func.id if isinstance(c.func, ast.Name) else getattr(c.func, "attr", "") for c in calls}
    assert not names & {"print", "display", "import_module", "__import__"}


def test_the_library_is_imported_without_torch():
    "Names come on first use, so the package itself costs nothing."
    code = (
        "import sys, time\nstart = time.perf_counter()\nimport lla_course\n"
        "seconds = time.perf_counter() - start\nassert not {'torch', 'numpy', 'scipy'} & set(sys.modules)\n"
        "import lla_course.core, lla_course.records\nassert 'torch' not in sys.modules\nprint(seconds)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 3  # a hundredth of that, unless the machine is busy


def test_pure_rooms_load_no_plotting_and_set_no_environment():
    pure = [f"lla_course.{m}" for m in MODULES if room(m) in PURE and not is_lab(m)]
    code = (
        "import os, sys; before = dict(os.environ); import lla_course; assert not {'torch', 'numpy'} &"
        f" set(sys.modules)\nfor m in {pure}: __import__(m)\nassert dict(os.environ) =="
        f" before\nprint(*sorted({SHOWS - {'tqdm', 'traitlets'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


# ---- notebooks are the only source


def tree(root):
    "Relative path -> content of everything that nbdev writes or could write."
    files = [
        f
        for top in ("lla_course", "kernels")
        for f in (root / top).rglob("*")
        if f.is_file() and "__pycache__" not in f.parts and not (root / "lla_course" / "kernels") in f.parents
    ]
    return {str(f.relative_to(root)): f.read_bytes() for f in files} | {
        n: (root / n).read_bytes() for n in ("settings.ini", "pyproject.toml")
    }


def test_the_modules_are_what_the_notebooks_export(tmp_path):
    "Export into an empty package: a module edited by hand differs, one whose notebook is gone is missing."
    for name in ("settings.ini", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(
        ROOT / "nbs", tmp_path / "nbs", ignore=shutil.ignore_patterns("results", ".ipynb_checkpoints")
    )
    (tmp_path / "lla_course").mkdir()
    (tmp_path / "kernels").mkdir()
    for name in ("__init__.py", "py.typed"):  # written by hand
        shutil.copy(ROOT / "lla_course" / name, tmp_path / "lla_course")
    shutil.copy(ROOT / "kernels" / "README.md", tmp_path / "kernels")
    os.symlink("../kernels", tmp_path / "lla_course" / "kernels")
    done = subprocess.run(
        [Path(sys.executable).parent / "nbdev_export"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    fresh, here = tree(tmp_path), tree(ROOT)
    assert len(fresh) > len(MODULES)
    assert sorted(fresh) == sorted(here), (
        "files come and go: run nbdev_export, delete modules without a notebook"
    )
    assert [name for name in fresh if fresh[name] != here[name]] == [], (
        "run nbdev_export; generated files are not edited"
    )


def test_every_module_has_its_own_notebook_and_no_module_is_orphaned():
    claimed = [default_exp(path) for path in NBS if path.stem not in READ_ONLY]
    assert None not in claimed and len(set(claimed)) == len(claimed), (
        f"default_exp missing or used twice: {claimed}"
    )
    files = {
        str(f.relative_to(ROOT / "lla_course").with_suffix("")).replace("/", ".")
        for f in (ROOT / "lla_course").rglob("*.py")
    }
    files |= {f"kernels.{f.stem}" for f in (ROOT / "kernels").glob("*.py")}
    assert {f for f in files if not f.endswith("__init__") and f != "_modidx"} == set(claimed)


@pytest.mark.parametrize("module", MODULES)
def test_a_name_is_exported_once(module):
    tree = ast.parse(generated(module))
    names = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    names += [
        t.id
        for n in tree.body
        if isinstance(n, (ast.Assign, ast.AnnAssign))
        for t in getattr(n, "targets", [getattr(n, "target", None)])
        if isinstance(t, ast.Name)
    ]
    twice = {n for n in names if names.count(n) > 1 and n != "_"}
    listed = next(
        ast.literal_eval(n.value)
        for n in tree.body
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"
    )
    assert not twice and len(set(listed)) == len(listed)


@pytest.mark.parametrize("module", MODULES)
def test_exported_code_uses_no_notebook_globals(module):
    table = symtable.symtable(generated(module), module, "exec")
    known = {*table.get_identifiers(), *dir(builtins), "__file__", "__name__"}

    def missing(t):
        own = [
            s.get_name()
            for s in t.get_symbols()
            if s.is_referenced() and s.is_global() and s.get_name() not in known
        ]
        return own + [m for child in t.get_children() for m in missing(child)]

    assert missing(table) == []


def public(body, prefix=""):
    "Functions, classes and methods whose names do not begin with an underscore."
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, node.name + ".")


def is_kernel(node):
    return not {"triton.jit", "gluon.jit"}.isdisjoint(map(ast.unparse, node.decorator_list))


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_documented(module):
    source, wrong = generated(module), []
    for name, node in public(ast.parse(source).body):
        if not ast.get_docstring(node):
            wrong.append(f"{name}: no docstring")
        # a kernel's docstring is its contract
        if isinstance(node, ast.ClassDef) or is_kernel(node):
            continue
        if not node.returns:
            wrong.append(f"{name}: no return annotation")
        args = [
            a
            for a in [
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            ]
            if a and a.arg not in ("self", "cls")
        ]
        lines = source.splitlines()
        spoken = lambda line: "#" in lines[line - 1] or lines[line - 2].lstrip().startswith("#")
        bare = [a.arg for a in args if not spoken(a.lineno)]
        if bare:
            wrong.append(f"{name}: no docment for {bare}")
    assert wrong == []


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) == "kernels"])
def test_kernels_take_few_arguments_and_one_a_line(module):
    "What belongs together travels as a tuple: 12 for a kernel, 10 for what it calls."
    source, wrong = generated(module), []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and is_kernel(node):
            names = [a.arg for a in node.args.args]
            lines = {a.lineno for a in node.args.args}
            if len(names) > (12 if node.name.endswith("_kernel") else 10):
                wrong.append(f"{node.name}: {len(names)} arguments")
            if len(names) > 6 and len(lines) < len(names):
                wrong.append(f"{node.name}: several arguments on a line")
    assert wrong == []


# ---- the form of a notebook


@pytest.mark.parametrize("path", NBS, **by_name)
def test_a_notebook_is_valid_and_holds_no_outputs(path):
    book = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(book)
    assert book.nbformat == 4 and set(book.metadata) <= {"kernelspec", "language_info"}
    for cell in cells(path):
        folded = "library" in cell["metadata"].get("tags", [])
        assert set(cell["metadata"]) <= {"tags", "jupyter"}, "only tags are kept, and that a cell is folded"
        assert (cell["metadata"].get("jupyter") == {"source_hidden": True}) == folded, (
            "library cells are folded in JupyterLab too"
        )
    assert [
        i for i, c in enumerate(cells(path)) if c.get("outputs") or c.get("execution_count") is not None
    ] == [], "run nbdev_clean"
    assert path.stat().st_size <= 300_000


@pytest.mark.parametrize("path", NBS, **by_name)
def test_a_notebook_opens_with_its_module_title_and_promise(path):
    if path.stem not in READ_ONLY:
        assert re.fullmatch(r"#\| *default_exp +\S+", cells(path)[0]["source"].strip()), (
            "the first cell names the module"
        )
    title = cells(path)[0 if path.stem in READ_ONLY else 1]
    assert title["cell_type"] == "markdown" and re.match(r"# \S.*\n\n?> \S", title["source"]), (
        "# Title, then > one line"
    )


def code_lines(source):
    "Lines that hold code: signatures, docstrings and comments are read as prose."
    if source.lstrip().startswith("%"):
        return sum(bool(line.strip()) for line in source.splitlines())
    tree, prose = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = node.body[0]
            prose |= set(range(node.lineno, first.lineno)) - {first.lineno}
            if ast.get_docstring(node):
                prose |= set(range(first.lineno, first.end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(re.match(r"\s*[^\s#]", line)) and at not in prose for at, line in lines)


def statements(source):
    "How many statements a cell holds, docstrings apart: the measure of code that no formatter changes."
    if source.lstrip().startswith("%"):
        return code_lines(source)
    found = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.stmt)]
    return len(found) - sum(
        bool(ast.get_docstring(n)) for n in found if isinstance(n, (ast.FunctionDef, ast.ClassDef))
    )


def words(source):
    "Words of prose: no formulas, no symbols."
    return len(
        re.findall(
            r"[^\W\d_]{2,}|\b[aAI]\b",
            re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)", " ", source, flags=re.S),
        )
    )


@pytest.mark.parametrize("path", NBS, **by_name)
def test_code_cells_are_short(path):
    sizes = {c["id"]: code_lines(c["source"]) for c in cells(path, "code") if code_lines(c["source"])}
    limit = {
        c["id"]: 70 if re.search(r"^(class |@(triton|gluon)\.jit)", c["source"], re.M) else 40
        for c in cells(path, "code")
    }
    assert {i: n for i, n in sizes.items() if n > limit[i]} == {}, "too long"
    usual = [
        statements(c["source"]) for c in cells(path, "code") if sizes.get(c["id"]) and limit[c["id"]] == 40
    ]
    # the workshop is mostly signatures
    if path in CHAPTERS:
        assert statistics.median(usual) <= 8, sorted(usual)


@pytest.mark.parametrize("path", CHAPTERS, **by_name)
def test_a_chapter_has_at_most_one_picture_for_the_readme(path):
    assert sum(c["source"].startswith("#| picture") for c in cells(path, "code")) <= 1


@pytest.mark.parametrize(
    "path", [p for p in CHAPTERS if p not in LETTERED and p.stem not in APPENDICES], **by_name
)
def test_a_chapter_shows_its_picture_under_its_title(path):
    "GitHub runs no JavaScript: there, a figure is seen as a picture or not at all."
    shown = re.search(r"^# .*\n\n> .*\n\n!\[(.+)\]\((pictures/.+\.png)\)$", cells(path)[1]["source"], re.M)
    assert shown and shown[2] == f"pictures/{path.stem}.png" and (path.parent / shown[2]).is_file()
    assert len(shown[1].split()) >= 8, "words for those who cannot see it"


@pytest.mark.parametrize("path", CHAPTERS, **by_name)
def test_a_chapter_has_parameters(path):
    tagged = [c for c in cells(path, "code") if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    values = {t.id: ast.literal_eval(n.value) for n in ast.parse(tagged[0]["source"]).body for t in n.targets}
    assert values["preset"] == "fast" and values["seed"] == 0


@pytest.mark.parametrize("path", CHAPTERS, **by_name)
def test_imports_and_argument_checks_are_folded(path):
    "A cell of imports, of private helpers or of a recorded run's harness is no part of the lesson."
    for cell in cells(path, "code"):
        source = cell["source"]
        body = [] if source.lstrip().startswith("%") else ast.parse(source).body
        named = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        imports = body and all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in body)
        private = named and len(named) == len(body) and all(name.startswith("_") for name in named)
        if imports or private and source.startswith("#| export"):
            assert "library" in cell["metadata"].get("tags", []), f"tag it library: {source[:80]}"


@pytest.mark.parametrize("path", CHAPTERS, **by_name)
def test_a_chapter_never_asks_for_its_preset(path):
    "Settings are picked once; the code below is the same for both presets."
    asks = re.compile(r"preset\s*[!=]=|\bif\s+(not\s+)?(fast|full|preset)\b")
    assert [c["source"] for c in cells(path, "code") if asks.search(c["source"])] == []


def section(path, title):
    "The text from a heading to the next, or None."
    text = "\n\n".join(c["source"] for c in cells(path, "markdown"))
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found and found[1]


@pytest.mark.parametrize("path", [p for p in CHAPTERS if p.stem not in APPENDICES], **by_name)
def test_a_chapter_closes_with_what_we_know_and_exercises(path):
    known = section(path, "What we know now")
    assert known and len(re.findall(r"^- ", known, re.M)) == 3
    if path in LABS or path in LETTERED and section(path, "Exercises") is None:
        return
    halves = [p for p in CHAPTERS if number(p) == number(path)]
    exercises = {p: section(p, "Exercises") or "" for p in halves}
    own = re.findall(rf"^\*\*({label(path)}\.\d+)\*\*", exercises[path], re.M)
    if own and own[0].endswith(".1"):  # 28a has exercises of its own
        assert own == [f"{label(path)}.{i}" for i in range(1, len(own) + 1)]
    else:  # 27b goes on counting where 27 stopped, or has none
        numbers = re.findall(rf"^\*\*({number(path)}\.\d+)\*\*", "".join(exercises.values()), re.M)
        assert numbers == [f"{number(path)}.{i}" for i in range(1, len(numbers) + 1)]
        assert 2 <= len(numbers) <= 6 * len(halves)


@pytest.mark.parametrize("path", [p for p in CHAPTERS if p not in LABS], **by_name)
def test_a_chapter_is_read_more_than_it_is_run(path):
    prose = sum(words(c["source"]) for c in cells(path, "markdown"))
    code = sum(statements(c["source"]) for c in cells(path, "code"))
    assert prose >= 3 * code, f"{prose} words for {code} statements"


@pytest.mark.parametrize("path", NBS, **by_name)
def test_links_between_notebooks_lead_somewhere(path):
    links = {
        link
        for c in cells(path, "markdown")
        for link in re.findall(r"\]\(([^)#:]+\.ipynb)", re.sub(r"`[^`]*`", "", c["source"]))
    }
    assert {link for link in links if not (path.parent / link).is_file()} == set()


@pytest.mark.parametrize("path", NBS, **by_name)
def test_commands_in_prose_name_chapters(path):
    "A chapter that is renamed takes the commands along that record and run it."
    from lla_course.course.runner import select_chapters

    text = "".join(c["source"] for c in cells(path))
    names = set(re.findall(r"lla-course (?:record|run) ([a-z0-9][\w.]*\w)", text))
    assert all(select_chapters([name]) for name in names)


# ---- the repository


@functools.cache
def repository():
    "What git tracks or would track."
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [
        ROOT / name
        for name in sorted(set(done.stdout.decode().split("\0")))
        if name and (ROOT / name).is_file()
    ]


def test_nothing_large_is_tracked():
    assert {str(f): f.stat().st_size for f in repository() if f.stat().st_size > 1_000_000} == {}


def test_no_file_names_a_path_of_one_machine():
    private = re.compile(rb"(?<![\w.~-])/(?:" + b"|".join([b"work", b"tmp", b"root", b"home"]) + rb")/")
    found = {}
    for file in repository():
        content = b"" if file.is_symlink() else file.read_bytes()
        if b"\0" not in content and (
            hits := [line.strip()[:80] for line in content.splitlines() if private.search(line)]
        ):
            found[file.name] = hits
    assert found == {}


def test_the_index_maps_the_book_and_the_readme_is_short():
    index = "".join(c["source"] for c in cells(ROOT / "nbs" / "index.ipynb", "markdown"))
    assert [p.name for p in NBS if p.stem != "index" and p.name not in index] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"make {target}" in readme for target in ("course", "lab", "test"))
    assert len(readme.splitlines()) <= 70 and len(readme.split()) <= 700
    screens = list((ROOT / ".github" / "pictures").iterdir())
    assert {path.name for path in screens} == {"page.png", "lab.png", "slide.png"}
    assert all(f".github/pictures/{path.name}" in readme for path in screens)
    assert max(path.stat().st_size for path in screens) <= 150_000


def written(path):
    "The links of a Markdown file, without code."
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize(
    "path",
    sorted(
        [
            *ROOT.glob("*.md"),
            *ROOT.glob(".github/*.md"),
            *ROOT.glob("kernels/*.md"),
            *ROOT.glob("deploy/*.md"),
        ]
    ),
    **by_name,
)
def test_links_of_the_repository_lead_somewhere(path):
    here = [link.partition("#")[0] for link in written(path) if not re.match(r"https://|#", link)]
    assert [link for link in here if not (path.parent / link).exists()] == []


def test_placeholders_stand_in_one_place():
    "The address and the links of a home that does not exist yet: settings.ini, and what nbdev makes of it."
    home = re.compile(rb"lla-course@|lla-course/lla_course|lla-course\.github")
    found = {f.name for f in repository() if not f.is_symlink() and home.search(f.read_bytes())}
    assert found == {"settings.ini", "_modidx.py", "test_house.py"}


def test_code_is_laid_out_and_free_of_what_ruff_finds():
    "110 columns, one statement a line, no unused names, no known traps: the settings are in pyproject.toml."
    ruff = [sys.executable, "-m", "ruff"]
    for words in (["check", "--output-format=concise"], ["format", "--check"]):
        done = subprocess.run([*ruff, *words, "."], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def semicolons(source):
    "Lines where a semicolon ends or parts statements."
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [t.start[0] for t in tokens if t.type == tokenize.OP and t.string == ";"]


@pytest.mark.parametrize("path", NBS, **by_name)
def test_code_is_narrow_and_has_no_semicolons(path):
    found = {
        c["id"]: (wide, semicolons(c["source"]))
        for c in cells(path, "code")
        if (wide := [line for line in c["source"].splitlines() if len(line) > 110])
        or not c["source"].lstrip().startswith("%")
        and semicolons(c["source"])
    }
    assert found == {}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), **by_name)
def test_tests_are_narrow_too(path):
    source = path.read_text(encoding="utf-8")
    assert [line for line in source.splitlines() if len(line) > 110] == [] and semicolons(source) == []


WIDE = {
    "flash_lla",
    "lla_decode",
    "LocalLinearAttention.__init__",
    "flash_forward",  # an operator of PyTorch takes all in a row
}  # what torch and transformers take, in one call


@pytest.mark.parametrize("module", MODULES)
def test_functions_take_few_parameters(module):
    "Ten at most; helpers of a kernel 14, and its launcher 16."
    most = 16 if room(module) == "kernels" else 10
    found = {}
    for node in ast.walk(ast.parse(generated(module))):
        inside = [node] if isinstance(node, ast.FunctionDef) else []
        for function in inside:
            a = function.args
            n = sum(x.arg not in ("self", "cls", "ctx") for x in [*a.posonlyargs, *a.args, *a.kwonlyargs])
            if n > most:
                found[function.name] = n
    allowed = {name.rpartition(".")[2] for name in WIDE}
    assert {name: n for name, n in found.items() if name not in allowed} == {}


def test_type_checkers_see_the_public_names():
    import lla_course

    tree = ast.parse((ROOT / "lla_course" / "__init__.py").read_text(encoding="utf-8"))
    guarded = next(n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))
    seen = {a.name: n.module for n in guarded.body for a in n.names}
    assert seen == lla_course._public and {*seen, "__version__"} == set(lla_course.__all__)
    assert (ROOT / "lla_course" / "py.typed").is_file()


def test_help_shows_every_parameter_of_a_public_name():
    import lla_course

    for name in lla_course._public:
        public = getattr(lla_course, name)
        signature = inspect.signature(public.__init__ if isinstance(public, type) else public)
        if name != "SolverWarning":
            for parameter in signature.parameters.values():
                if parameter.name != "self":
                    assert re.search(rf"^{parameter.name} : .*\n    \S", public.__doc__, re.M), (
                        name,
                        parameter,
                    )


def test_one_version():
    import lla_course

    assert lla_course.__version__ == SETTINGS["version"]


def test_constraints_pin_every_requirement_within_its_range():
    pins = [
        Requirement(line.split("#")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.split("#")[0].strip()
    ]
    pinned = {
        canonicalize_name(p.name): next(iter(p.specifier)).version
        for p in pins
        if [s.operator for s in p.specifier] == ["=="]
    }
    for extra in "", "course_", "teach_", "hub_", "dask_", "kernels_", "dev_":
        for wanted in map(Requirement, SETTINGS[f"{extra}requirements"].split()):
            name = canonicalize_name(wanted.name)
            assert name in pinned, f"{name} is not pinned with =="
            assert pinned[name] in wanted.specifier, f"{name}=={pinned[name]} is not {wanted.specifier}"


def test_no_process_compiles_grammars_to_open_a_notebook():
    "rfc3987-syntax takes two seconds to import; jsonschema does so from 4.25 on, nbformat and plotly use it."
    pins = dict(re.findall(r"(?m)^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text()))
    assert "rfc3987-syntax" not in pins and Version(pins["jsonschema"]) < Version("4.25")


def test_the_kernels_are_reached_through_the_committed_link_only():
    link = ROOT / "lla_course" / "kernels"
    assert link.is_symlink() and os.readlink(link) == "../kernels"
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert ROOT / "kernels" in [
        Path(p).resolve() for p in importlib.import_module("lla_course.kernels").__path__
    ]
    done = subprocess.run(
        ["git", "ls-files", "-s", "lla_course/kernels"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode == 0:
        assert done.stdout.startswith("120000 ")


# ---- recorded results


def complaints(folder, modules):
    "What is wrong with the records of a folder; `modules` maps the name of a room to its module."
    wrong, used = [], set()
    for path in sorted(folder.rglob("*.json")):
        name = (
            path.relative_to(folder).with_suffix("").as_posix()
            if path.suffixes == [".json"]
            else path.relative_to(folder).as_posix()[:-5]
        )
        try:
            record = load(name, folder=folder)
            chapter, _, cell = name.partition("/")
            missing = {"preset", "seed", "device", "versions", "date", "seconds"} - set(record.provenance)
            if missing:
                wrong.append(f"{name}: provenance lacks {sorted(missing)}")
            if record.name != name:
                wrong.append(f"{name}: recorded as {record.name}")
            if chapter not in modules:
                wrong.append(f"{name}: no module {chapter}")
            elif hasattr(modules[chapter], "cells"):
                load(name, modules[chapter].cells(record.provenance["preset"])[cell], folder=folder)
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
        else:
            used.add(path.with_name(json.loads(path.read_text()).get("arrays") or path.name))
        if path.stat().st_size > 200_000:
            wrong.append(f"{name}: {path.stat().st_size} bytes")
    for file in (f for f in sorted(folder.rglob("*")) if f.is_file() and f.suffix != ".json"):
        if file.suffix != ".npz" or file not in used:
            wrong.append(f"{file.name}: belongs to no record")
        if file.stat().st_size > 1_000_000:
            wrong.append(f"{file.name}: {file.stat().st_size} bytes")
    if sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) > 20_000_000:
        wrong.append("more than 20 MB in all")
    return wrong


def test_every_record_is_whole_and_of_todays_settings():
    modules = {
        MODULES[m].stem: importlib.import_module(f"lla_course.{m}")
        for m in MODULES
        if not is_lab(m) and room(m) not in ("figures", "course", "solutions")
    }
    assert complaints(ROOT / "nbs" / "results", modules) == []


def test_a_bad_record_is_found(tmp_path):
    class local_linear:
        cells = staticmethod(lambda preset: {"a": {"n": 1}})

    put = lambda name, n, *arrays: save(
        name, Run({"v": 1}, *arrays), config={"n": n}, seed=0, seconds=1, folder=tmp_path
    )
    put("local_linear/a", 1, {"w": [1.0, 2.0]})
    assert complaints(tmp_path, {"local_linear": local_linear}) == []
    put("local_linear/a", 2)
    assert "other settings" in complaints(tmp_path, {"local_linear": local_linear})[0]
    put("local_linear/a", 1)
    put("local_linear/gone", 1)
    (tmp_path / "local_linear" / "w.npz").write_bytes(b"0" * 1_000_001)
    assert len(complaints(tmp_path, {"local_linear": local_linear})) == 3
    (tmp_path / "local_linear" / "gone.json").write_text("{")
    put("nowhere/a", 1)
    assert len(complaints(tmp_path, {"local_linear": local_linear})) == 4


# ---- the tests' own tools


def test_empty_memory_is_poisoned(nan_empty):
    import torch

    made = [
        torch.empty(2, 3),
        torch.empty_like(torch.ones(2)),
        torch.ones(1).new_empty(4),
        torch.empty_strided((2, 2), (2, 1), dtype=torch.float16),
    ]
    assert all(t.isnan().all() for t in made) and (torch.empty(2, dtype=torch.int32) == 2**31 - 1).all()


def test_test_files_have_names_of_their_own():
    """pytest imports test files by their bare names, so two of one name in two folders cannot be collected
    together."""
    names = [f.name for f in (ROOT / "tests").rglob("test_*.py")]
    assert {n for n in names if names.count(n) > 1} == set()
