"The reference: every public name has its place, says what `help` says, and its example runs."

import ast
import doctest
import html
import inspect
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import lla_course
from lla_course.core import repo_root
from lla_course.course.reference import describe, entries, module_of, public_names, reference_pages

TOP = [*lla_course._public]
BOOK = {
    path.stem: nbformat.read(path, as_version=4) for path in sorted((repo_root() / "nbs").glob("*.ipynb"))
}
MODULES = {module: name for name in BOOK if (module := module_of(BOOK[name]))}


@pytest.fixture(scope="module")
def pages():
    same = {name: name for name in BOOK}
    return reference_pages(BOOK, same, same)


def plain(rst):
    "A text of the reference as a reader sees it."
    text = re.sub(r":py:obj:`([^`<]*?) <[^`]*>`|:doc:`([^`<]*?) <[^`]*>`", r"\1\2", rst)
    return re.sub(r"\\(.)", lambda m: "" if m[1] == " " else m[1], text).replace("``", "")


# ---- every name, on one page


@pytest.mark.parametrize("module", MODULES)
def test_a_module_lists_the_names_that_nbdev_exports(module, pages):
    listed = [entry.name for entry in entries(MODULES[module], BOOK[MODULES[module]])]
    source = (repo_root() / "lla_course" / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    tree = next(
        n for n in ast.parse(source).body if isinstance(n, ast.Assign) and "__all__" in ast.unparse(n)
    )
    assert sorted(listed) == sorted(ast.literal_eval(tree.value))
    page = pages[f"reference/{module}"]
    items = re.findall(r"^- :py:obj:`([^ `]+) <([^`>]+)>`", page, re.M)
    assert [name for name, _ in items] == listed
    own = [full for _, full in items if full.startswith(f"lla_course.{module}.")]
    drawn = re.findall(r"^\.\. py:(?:function|class|exception|data):: (\w+)", page, re.M)
    assert [full.rpartition(".")[2] for full in own] == drawn, "those of lla_course have pages of their own"


def test_the_front_leads_to_all_pages(pages):
    front = pages["reference/index"]
    names = re.findall(r"^- :py:obj:`(\w+) <lla_course\.\1>`", front, re.M)
    assert names == TOP, "those of lla_course, in their order"
    modules = re.findall(r"^- :doc:`([\w.]+) <\1>`", front, re.M)
    assert sorted(modules) == sorted(MODULES) and modules[0] == "regression.kernel"
    assert {f"reference/{name}" for name in [*TOP, *modules, "index"]} == {*pages}


def test_links_lead_to_cells_that_are_there(pages):
    linked = {m for text in pages.values() for m in re.findall(r"<\.\./(\S+)\.html#code-(\w+)>`__", text)}
    there = {
        (chapter, name)
        for chapter in MODULES.values()
        for cell in BOOK[chapter].cells
        if cell.cell_type == "code"
        for name in public_names(cell.source)
    }
    assert linked == there


# ---- the page and `help`


@pytest.mark.parametrize("name", TOP)
def test_help_and_the_page_say_the_same(name, pages):
    public, page = getattr(lla_course, name), plain(pages[f"reference/{name}"])
    head, _, sections = inspect.getdoc(public).partition("\n\nParameters\n")
    text, _, example = head.partition(">>> ")
    for sentence in re.split(r"(?<=[.]) (?=[A-Z`])", " ".join(text.split())):
        sentence = sentence.replace("`", "")
        assert re.sub("^(Raises|Source:) ", "", sentence) in page, sentence
    assert all(line.strip() in page for line in example.splitlines())
    rows = re.findall(r"^(\w+) : (.*)\n    (.*)", sections.partition("\n\nReturns\n")[0], re.M)
    assert bool(rows) == (name not in ("SolverWarning", "KVCache"))  # these take nothing
    shown = dict(re.findall(r"^   :param (\w+): (.*)$", page, re.M))
    kinds = dict(re.findall(r"^   :type (\w+): (.*)$", page.replace("*", ""), re.M))
    for argument, kind, said in rows:
        assert (kinds[argument], shown[argument]) == (kind, said.replace("`", "")), argument
    made = inspect.signature(public) if rows else None
    assert [row[0] for row in rows] == [*(made.parameters if made else [])]


@pytest.mark.parametrize("name", TOP)
def test_a_public_function_has_an_example_that_runs(name):
    public = getattr(lla_course, name)
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(public))
    assert name == "SolverWarning" or 2 <= len(examples) <= 4
    test = doctest.DocTest(examples, {}, name, None, 0, None)
    outcome = doctest.DocTestRunner(verbose=False).run(test)
    assert outcome.failed == 0 and outcome.attempted == len(examples)


# ---- reading a definition

SOURCE = '''
class C(Base):
    """One. Raises `ValueError` for
    x. Two.

    Raises what `f` raises."""

    a: int  # first
    # second,
    # in two lines
    b: str = "*"
'''


def parts(source):
    from lla_course.core import _comments

    return describe(ast.parse(source).body[0], _comments(source))


def test_parts_of_a_docstring():
    found = parts(SOURCE)
    assert found.text == "One. Two."
    assert found.notes == {"Raises": "`ValueError` for x. what `f` raises."}
    assert found.parameters == [("a", "int", "first"), ("b", "str, default '*'", "second, in two lines")]
    one = parts("def f(self, x, *rest: int, y=1, **more) -> int:  # what\n    'Say. Source: me.'")
    assert one.result == ("int", "what") and one.notes == {"Source": "me."} and one.text == "Say."
    assert one.parameters == [("x", "", ""), ("rest", "int", ""), ("y", "default 1", ""), ("more", "", "")]
    assert parts("def f():\n    '''Do.\n\n    >>> f()\n    3'''").example == ">>> f()\n3"


def test_cells_that_are_not_exported_or_not_python_have_no_names():
    assert public_names("def f(): pass") == public_names("#| export\n%magic") == {}
    names = public_names("#| export\nA, _b = 1, 2\nc: int = 3\n@dec\ndef f(): pass\ndef _(): pass")
    assert [*names] == ["A", "c", "f"]


# ---- the pages, built


def test_pages_are_built_and_linked(tmp_path, capsys):
    pytest.importorskip("myst_nb")
    from lla_course.course.site import build_site

    kernel = '#| export\ndef nadaraya_watson(\n    x0,  # *queries*, [M]\n):\n    "A `mean` | of_ <b>y</b>."'
    more = "#| export\nWIDE: dict[str, int] = {}  # a value\n\n\nclass Config:\n    n: int = 3  # of `WIDE`"
    book = {
        "index": [new_markdown_cell("# Book\n\n[a](10_a.ipynb)")],
        "10_a": [
            new_code_cell("#| default_exp regression.kernel"),
            new_markdown_cell("# A\n\n> What it does, by `WIDE`.\n\n## How *so*"),
            new_code_cell(kernel),
            new_code_cell(more),
        ],
    }
    for name, cells in book.items():
        nbformat.write(new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    out = build_site(tmp_path, tmp_path / "site").parent
    assert capsys.readouterr().err == ""
    read = lambda name: (Path(out) / name).read_text(encoding="utf-8")
    article = lambda name: re.search(r"<article.*</article", read(name), re.S)[0]
    assert 'href="reference/index.html"' in article("index.html")
    assert '<a href="reference/regression.kernel.html">lla_course.regression.kernel</a>' in article(
        "10_a.html"
    )
    for name in ("nadaraya_watson", "WIDE", "Config"):
        assert f'id="code-{name}"' in article("10_a.html")
        assert name.lower() in read("searchindex.js").lower()
    top, module = article("reference/nadaraya_watson.html"), article("reference/regression.kernel.html")
    assert 'href="../10_a.html#code-nadaraya_watson"' in top and 'id="lla_course.nadaraya_watson"' in top
    words = html.unescape(re.sub(r"<[^>]+>", "", top))
    assert "A mean | of_ <b>y</b>." in words and "*queries*, [M]" in words and "10 A: How so" in words
    assert 'id="lla_course.regression.kernel.Config"' in module and "a value" in module
    assert 'href="#lla_course.regression.kernel.WIDE"' in module
    assert 'href="nadaraya_watson.html#lla_course.nadaraya_watson"' in module
    every = list((Path(out) / "reference").glob("*.html"))
    assert len(every) == 3 and all(page.stat().st_size < 1_000_000 for page in every)
