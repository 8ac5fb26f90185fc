"The words of the command: what is refused, in one line and with status 2, and what is shown."

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from miniature import PARAMETERS, chapter

import lla_course
from lla_course import core, records
from lla_course.course import cli, runner
from lla_course.course.cli import main
from lla_course.course.runner import select_chapters

TOY = SimpleNamespace(
    cells=lambda preset: {"one": {"n": 1}, "two": {"n": 2}}, run=lambda cfg: {"x": cfg["n"]}
)
BAD = """
                              | command
fly                           | fly
--fast list                   | --fast
--vers                        | command
list 00                       | 00
list --jobs 2                 | --jobs
run 77                        | chapter='77'
run 00 77                     | chapter='77'
run -1                        | chapter='-1'
run 1e1                       | chapter='1e1'
run nothing                   | chapter='nothing'
run lab                       | 19_a_lab, 29_b_lab
run ../00_core.ipynb          | 00_core.ipynb
run .                         | chapter='.'
run loop                      | chapter='loop'
run 00_core.ipynb/x           | chapter='00_core.ipynb/x'
run ../../etc/passwd          | passwd
run --preset large            | preset='large': expected one of 'fast', 'full'
run --preset=                 | preset=''
run --preset                  | --preset
run --pre full                | --pre
run 00 --fast                 | --fast
run --out there               | --out
run --jobs 0                  | jobs=0
run --jobs -2                 | jobs=-2
run --jobs two                | two
run --jobs 1.5                | 1.5
run --jobs=                   | --jobs
run --jobs                    | --jobs
run 00 -p                     | -p
run 00 -p seed                | NAME=VALUE
run 00 -p =1                  | NAME=VALUE
run 00 -p a.b=1               | NAME=VALUE
run 00 -p seeed=1             | parameter='seeed'
run -p seeed=1                | seeed
run -p __import__=1           | __import__
run 00 19 -p seed=1           | 19_a_lab
run 00 -p preset=full         | --preset
run 00 -p seed=half           | seed='half': expected int
run 00 -p seed=               | seed='': expected int
run 00 -p seed=0.5            | seed=0.5: expected int
run 00 -p seed=True           | seed=True: expected int
run 00 -p seed=None           | seed=None: expected int
run 00 -p width=wide          | width='wide': expected float
run 00 -p width=True          | width=True
run 00 -p width=1j            | width=1j: expected a plain value
run 00 -p sizes=[(1,2)]       | sizes=[(1, 2)]: expected a plain value
run 00 -p sizes=[{1}]         | sizes=[{1}]
run 00 -p sizes=[b'x']        | sizes=[b'x']
run 00 -p sizes=[...]         | sizes=[Ellipsis]
run 00 -p sizes=[{1:2}]       | sizes=[{1: 2}]
run 00 -p sizes=[[[(0,)]]]    | sizes=[[[(0,)]]]
run 00 -p sizes={[]:1}        | expected a plain value
record                        | NAME
record nothing                | 'nothing'
record index                  | exports a module
record 00                     | exports a module
record 03                     | No module named 'lla_course.part'
record 05                     | lla_course.broken cannot be imported: RuntimeError: not today
record 06                     | lla_course.strange.cells('full') fails
record 07                     | cells='../x'
record 12 13                  | 13
record 12 --preset big        | preset='big'
record 12 --jobs 0            | jobs=0
record 12 --cells             | --cells
record 12 --cells ,           | cells='': expected one of 'one', 'two'
record 12 --cells one,,two    | cells=''
record 12 --cells one, two    | cells=''
record 12 --cells three       | cells='three'
record 12 --cells one,../two  | cells='../two'
record 12 --out               | --out
record 12 --out=              | out=''
record 12 --out settings.ini  | a folder that can be written to
record 12 --out settings.ini/x| a folder that can be written to
record 12 --out /proc/x       | a folder that can be written to
record 12 --out /dev/null     | a folder that can be written to
record 12 --out /             | a folder with a name
copy                          | DIR
copy a b                      | argument='b'
copy settings.ini             | folder='settings.ini': expected a new or empty folder
copy settings.ini/x           | a folder that can be written to
copy /proc/x                  | a folder that can be written to
copy nbs                      | this one holds
copy .                        | this one holds
kernels                       | DIR
kernels settings.ini          | folder='settings.ini': expected a new or empty folder
kernels nbs                   | this one holds
kernels /proc/x               | a folder that can be written to
release                       | DIR
release nbs                   | this one holds
release new 7                 | part='7': expected one of 1 to 6
release new 1                 | a part whose solutions are here
progress nope                 | nope
progress --undo               | the chapters that are to be unread
site 00                       | 00
site --jobs none              | none
site --out                    | --out
site --out=                   | out=''
site --out settings.ini       | a new or empty folder
site --out settings.ini/x     | (Not a directory)
site --out nbs                | a new or empty folder
site --out ..                 | a new or empty folder
site --out /proc/x            | a folder that can be written to
site --out build              | a folder apart from build/runs
site --out build/runs/fast/x  | a folder apart from build/runs
"""
BAD = [line.split("|") for line in BAD.splitlines() if "|" in line]


@pytest.fixture
def shelf(root, monkeypatch):
    "Chapters of all kinds: two with one name, one to record, and four that cannot be recorded."
    values = PARAMETERS + "\nsizes = [1, 2]"
    for stem, module in ("19_a_lab", "a.lab"), ("29_b_lab", "b.lab"):
        chapter(root, stem, "1", module=module)
    modules = {
        "12_toy": "toy",
        "03_missing": "part.missing",
        "05_broken": "broken",
        "06_strange": "strange",
        "07_names": "names",
        "index": None,
    }
    for stem, module in modules.items():
        chapter(root, stem, "1", module=module)
    chapter(root, "00_core", "1", parameters=values)

    def bad_argument(*_):
        raise RuntimeError("not today")

    modules = dict(
        toy=TOY,
        strange=SimpleNamespace(cells=bad_argument, run=bad_argument),
        names=SimpleNamespace(cells=lambda preset: {"../x": {}}, run=bad_argument),
    )
    for name, content in modules.items():
        module = ModuleType(f"lla_course.{name}")
        vars(module).update(vars(content))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    (root / "lla").mkdir()
    (root / "lla" / "broken.py").write_text("raise RuntimeError('not today')")
    monkeypatch.setattr(lla_course, "__path__", [*lla_course.__path__, str(root / "lla")])
    (root / "loop").symlink_to("loop")
    return root


def files(root):
    return sorted(p for p in root.rglob("*") if "__pycache__" not in p.parts)


@pytest.mark.parametrize("words, named", BAD, ids=[words.strip() for words, _ in BAD])
def test_refused_in_one_line_before_anything_runs(shelf, capfd, words, named):
    before = files(shelf)
    assert main(words.split()) == 2
    said = capfd.readouterr()
    assert said.err.startswith("lla-course: ") and said.err.count("\n") == 1 and said.out == ""
    assert named.strip() in said.err
    assert files(shelf) == before


@pytest.mark.parametrize(
    "words",
    [
        ["run", ""],
        ["run", "a\0b"],
        ["run", "9" * 5000],
        ["record", "12", "--cells", ""],
        ["record", "12", "--cells", "one "],
        ["run", "00", "-p", "seed=" + "9" * 5000],
        ["run", "00", "-p", "sizes=" + "[" * 5000],
        ["run", "00", "-p", "seed=1\n2"],
        ["site", "--out", "x" * 300],
        ["record", "12", "--out", "x/" + "x" * 300],
        ["site", "--out", "a\0b"],
        ["copy", ""],
        ["copy", "x" * 300],
        ["copy", "a\0b"],
        ["record", "12", "--out", "a\0b"],
    ],
    ids=lambda words: "_".join(words).encode("unicode_escape").decode()[:30],
)
def test_odd_words_are_refused_too(shelf, capfd, words):
    before = files(shelf)
    assert main(words) == 2
    said = capfd.readouterr()
    assert said.err.startswith("lla-course: ") and said.err.count("\n") == 1 and said.out == ""
    assert files(shelf) == before


def test_at_least_fifty_command_lines_are_tried():
    assert len(BAD) >= 50


def test_version_and_help(root, capsys):
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"{lla_course.__version__}\n"
    for words in ["--help"], ["record", "--help"]:
        assert main(words) == 0
    assert "build/results" in capsys.readouterr().out


def test_names_of_a_chapter(root):
    path = chapter(root, "12_bias", "1", module="regression.bias_variance")
    for name in (
        "12",
        "012",
        "12_bias",
        "bias_variance",
        "regression.bias_variance",
        str(path),
        "nbs/12_bias.ipynb",
    ):
        (found,) = select_chapters([name, name])
        assert (found.stem, found.number, found.module, found.short_name) == (
            "12_bias",
            "12",
            "regression.bias_variance",
            "bias_variance",
        )
        assert (found.title, found.summary) == ("Title of 12_bias", "What 12_bias does.")


def test_a_second_half_has_a_letter_and_a_number_of_its_own(root, capsys):
    first = chapter(root, "05_flash", "1", module="attention.flash")
    chapter(root, "05a_measured", "1", module="attention.benchmark")
    for name, stem in {
        "5": "05_flash",
        "05": "05_flash",
        "5a": "05a_measured",
        "05a": "05a_measured",
    }.items():
        assert [c.stem for c in select_chapters([name])] == [stem]
    assert select_chapters([str(first), "05a"])[1].number == "05a"
    assert main(["list"]) == 0 and "\n05a  Title of 05a_measured " in capsys.readouterr().out


def test_list(root, capsys):
    chapter(root, "12_bias", "1", module="regression.bias_variance")
    for stem in "index", "_draft", ".hidden":
        chapter(root, stem, "1")
    runs, results = root / "build" / "runs" / "fast", root / "nbs" / "results" / "12_bias"
    for folder in runs, results:
        folder.mkdir(parents=True)
    (results / "d2.json").touch()
    (results / "d1.json").touch()
    (runs / "00_core.ipynb").write_text('{"metadata": {"lla_course": {"key": "old", "seconds": 3.25}}}')
    (runs / "index.ipynb").write_text('{"metadata": {"lla_cou')  # half a file is no run
    assert main(["list"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [
        "00 Title of 00_core - stale 3.2 s -".split(),
        "12 Title of 12_bias regression.bias_variance never d1, d2".split(),
        "Title of index - never -".split(),
    ]


def test_lab(root, monkeypatch):
    called = {}
    monkeypatch.setattr(os, "execve", lambda path, command, env: called.update(command=command, env=env))
    main(["lab", "--port=9999", "--no-browser", "00_core.ipynb"])
    assert called["command"][1:] == [
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={root / 'nbs'}",
        "--MappingKernelManager.transport_encryption=auto",
        "--port=9999",
        "--no-browser",
        "00_core.ipynb",
    ]
    assert called["env"]["PYTHONPATH"].split(os.pathsep)[0] == str(root)
    (settings,) = Path(called["env"]["JUPYTER_CONFIG_DIR"]).rglob("notification.jupyterlab-settings")
    assert json.loads(settings.read_text()) == {"fetchNews": "false"} and settings.is_relative_to(
        root / "build" / "lab"
    )


def test_a_lab_as_an_application(root, monkeypatch, capsys):
    chapter(root, "12_bias", "1", module="regression.bias_variance")
    chapter(root, "19_lab", "1", module="regression.lab")
    called = {}
    monkeypatch.setattr(os, "execve", lambda path, command, env: called.update(command=command, env=env))
    monkeypatch.setenv("JUPYTER_PATH", "/elsewhere")
    main(["lab", "--app", "19", "--port=9999"])
    command, home = called["command"], root / "build" / "lab"
    assert command[1:4] == ["-m", "voila", str(root / "nbs" / "19_lab.ipynb")]
    assert {"--Voila.ip=127.0.0.1", "--Voila.auto_token=True"} < {*command} and command[-1] == "--port=9999"
    assert called["env"]["JUPYTER_PATH"] == os.pathsep.join([str(home), "/elsewhere"])
    assert called["env"]["PYTHONPATH"].split(os.pathsep)[0] == str(root)
    (template,) = (home / "voila" / "templates").iterdir()
    assert f"--template={template.name}" in command and (template / "index.html.j2").is_file()
    assert json.loads((template / "conf.json").read_text()) == {"base_template": "lab"}
    assert "SIGHUP" in (home / "voila.py").read_text()
    for word, said in ("12", "app='12': expected a lab: 19"), ("77", "chapter='77'"), ("", "chapter=''"):
        assert main(["lab", "--app", word]) == 2 and said in capsys.readouterr().err


def test_site(root, monkeypatch, capsys):
    from lla_course.course import site
    from lla_course.course.runner import Outcome

    built = []
    monkeypatch.setattr(
        site, "build_site", lambda runs, out, **more: built.append((runs, out, more)) or out / "index.html"
    )

    def outcome(state, error=""):
        return lambda plan, jobs, out, root: iter([Outcome(plan[0][0], state, 1.0, out / "x.ipynb", error)])

    monkeypatch.setattr(runner, "_outcomes", outcome("failed", "cell 1: Oh: no"))
    assert main(["site"]) == 1 and not built and "cell 1: Oh: no" in capsys.readouterr().out
    monkeypatch.setattr(runner, "_outcomes", outcome("ok"))
    more = dict(chapters=["00_core"], folder=root / "nbs", lite=None)
    assert main(["site"]) == 0 and built == [
        (root / "build" / "runs" / "fast", root / "build" / "site", more)
    ]
    assert capsys.readouterr().out.endswith(f"{root / 'build' / 'site' / 'index.html'}\n")


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("place", ["new/deep", "empty", "."], ids=["new", "empty", "here"])
def test_copy_writes_the_book_and_nothing_else(root, tmp_path_factory, monkeypatch, capsys, place):
    record = root / "nbs" / "results" / "12_bias" / "d1.json"
    for name in ("d1.json", ".d1.json.tmp"):
        record.parent.mkdir(parents=True, exist_ok=True)
        record.with_name(name).write_text("{}")
    for name in ("build/runs/x", "nbs/.ipynb_checkpoints/x", "nbs/_site/__pycache__/x", "LICENSE"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "empty").mkdir()
    monkeypatch.setattr(cli, "repo_root", lambda: root)
    monkeypatch.chdir(elsewhere / "empty" if place == "." else elsewhere)
    assert main(["copy", place]) == 0 and str(elsewhere) in capsys.readouterr().out
    made = elsewhere / ("empty" if place == "." else place)
    whole = {name: (root / name).read_bytes() for name in ("settings.ini", "LICENSE", "nbs/00_core.ipynb")}
    assert contents(made) == whole | {"nbs/results/12_bias/d1.json": b"{}"}
    assert sorted(made.iterdir()) == [made / "LICENSE", made / "nbs", made / "settings.ini"]
    assert {p.name for p in made.parent.iterdir()} <= {"empty", "deep"}
    assert main(["copy", place]) == 2 and "this one holds LICENSE" in capsys.readouterr().err
    monkeypatch.setattr(cli, "repo_root", core.repo_root)
    monkeypatch.chdir(made / "nbs")
    assert main(["list"]) == 0 and core.repo_root() == core.work_root() == made.resolve()


@pytest.mark.parametrize("place", ["new", "empty"])
@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(15), 143), (OSError(28, "No space left"), 1)])
def test_a_copy_that_is_stopped_leaves_nothing(root, monkeypatch, capsys, place, error, code):
    (root / "empty").mkdir()
    before, count = contents(root), []

    def stop(source, target):
        count.append(target)
        if len(count) == 2:
            raise error
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(cli.shutil, "copyfile", stop)
    assert main(["copy", place]) == code and len(count) == 2
    assert contents(root) == before and [*(root / "empty").iterdir()] == [] and not (root / "new").exists()


@pytest.fixture
def installed(root, tmp_path_factory, monkeypatch):
    "A book inside a package, seen from an empty folder, which is the working directory."
    package, here = root / "site-packages" / "lla_course", tmp_path_factory.mktemp("here")
    for name in ("nbs", "settings.ini"):
        (package / "book" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).rename(package / "book" / name)
    monkeypatch.setattr(core, "package_folder", lambda: package)
    monkeypatch.chdir(here)
    return package / "book", here


def test_an_installed_book_is_read_from_anywhere_and_never_written(installed, monkeypatch, capsys):
    book, here = installed
    chapter(book, "12_bias", "print('result')", module="regression.bias_variance")
    before = contents(book)
    assert core.repo_root() == book and core.work_root() == here
    assert main(["list"]) == 0 and "Title of 12_bias" in capsys.readouterr().out
    assert main(["run", "12", "--jobs", "1"]) == 0
    assert [p.name for p in (here / "build" / "runs" / "fast").iterdir()] == ["12_bias.ipynb"]
    assert main(["run", "12"]) == 0 and "1 kept" in capsys.readouterr().out
    for words in (["pictures"], ["record", "12"]):
        assert main(words) == 2 and "lla-course copy DIR" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="lla-course copy DIR"):
        records.save("a/b", {}, config={}, seed=0, seconds=0)
    assert records.load("a/b") is None and records.stored_records() == {}
    called = {}
    monkeypatch.setattr(os, "execve", lambda path, command, env: called.update(command=command, env=env))
    for _ in range(2):  # the second time the copy is there
        main(["lab"])
        assert f"--ServerApp.root_dir={here / 'lla-course' / 'nbs'}" in called["command"]
        assert contents(here / "lla-course").items() >= before.items()
    assert called["env"]["JUPYTER_CONFIG_DIR"] == str(here / "lla-course" / "build" / "lab")
    assert contents(book) == before


def test_the_site_of_an_installed_book_is_built_here(installed, monkeypatch):
    from lla_course.course import site

    (book, here), built = installed, []
    keep = lambda runs, out, **more: built.append((runs, out, more["folder"])) or out
    monkeypatch.setattr(site, "build_site", keep)
    monkeypatch.setattr(runner, "_outcomes", lambda *_: iter(()))
    assert main(["site"]) == 0
    assert built == [(here / "build" / "runs" / "fast", here / "build" / "site", book / "nbs")]


def test_missing_papermill_is_said_at_once(root, monkeypatch, capsys):
    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    assert main(["run"]) == 2 and "papermill is not installed" in capsys.readouterr().err
    settings = Path(runner.__file__).parents[2] / "settings.ini"
    for package, name in dict(nbgrader="teach", jupyterlite_core="lite", plotly="course").items():
        with pytest.raises(ImportError, match=rf"pip install 'lla_course\[{name}\]'"):
            runner.require_packages(package)
        if settings.is_file():
            extra = re.search(rf"(?m)^{name}_requirements = (.+)", settings.read_text()) or [""] * 2
            assert name == "course" or package.replace("_", "-") in extra[1]


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["wrong"]])
def test_whoever_only_asks_does_not_wait(words, tmp_path):
    "The first words of the command import neither torch nor what draws, runs or builds."
    heavy = {"torch", "scipy", "plotly", "papermill", "nbformat", "sphinx", "IPython", "tqdm"}
    code = (
        "import sys, time\nstart = time.perf_counter()\nfrom lla_course.course.cli import main\n"
        f"main({words})\nprint(time.perf_counter() - start, *{heavy} & set(sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    seconds, *loaded = done.stdout.splitlines()[-1].split()
    assert loaded == [] and float(seconds) < 5  # a tenth of that, unless the machine is busy


def test_pictures_need_a_site_and_a_browser(root, capsys):
    assert main(["pictures"]) == 2 and "is no built site" in capsys.readouterr().err
    (root / "build" / "site").mkdir(parents=True)
    (root / "build" / "site" / "index.html").touch()
    assert main(["pictures", "--chromium", str(root / "none")]) == 1
    assert "expected the path of an installed Chromium browser" in capsys.readouterr().err


def test_the_module_is_a_command(root):
    env = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    run = lambda *words: subprocess.run(
        [sys.executable, "-m", "lla_course.course.cli", *words],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
    )
    assert (done := run("list")).returncode == 0 and "Title of 00_core" in done.stdout and done.stderr == ""
    assert run("--help").returncode == 0
