"From notebooks to pages: every notebook gets one, with its links and pictures, or the reason is told before."

import base64
import multiprocessing
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("myst_nb")
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from lla_course.course import runner, site
from lla_course.course.cli import main
from lla_course.course.site import (
    broken_links,
    build_site,
    fold_line,
    holds,
    mark_picture,
    page_names,
    picture_mark,
    reading_minutes,
    site_place,
    without_title_picture,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*MystReferenceResolver")
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"


def md(text, **attachments):
    "A Markdown cell; attachments by name, `plot.png` as `plot_png`."
    kept = {name.replace("_", "."): content for name, content in attachments.items()}
    return new_markdown_cell(text, **({"attachments": kept} if kept else {}))


def write(folder, **books):
    folder.mkdir(parents=True, exist_ok=True)
    for name, cells in books.items():
        nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")
    return folder


def sidebar(out):
    text = (out / "index.html").read_text()
    found = re.findall(
        r'toctree-l1"><a class="reference internal" href="([^"]*)">(.*?)</a>',
        text[text.index("sidebar-tree") :],
    )
    return {title: page for page, title in found}


def article(out, page):
    text = (out / f"{page}.html").read_text()
    return text[text.index("<article") : text.index("</article")]


ODD = {
    "Untitled": [],
    "Untitled1": [new_code_cell("")],
    "Untitled 2": [new_raw_cell("raw")],
    "10_v1.2": [md("# Version")],
    "10_v1-2": [md("# Its neighbour")],
    "11_a b": [md("# Spaces")],
    "12_Größe": [md("# Größe\n\n## Wie groß\n\nso")],
    "13_#1 100% %20": [md("# Hash")],
    "14_a&b<c>'\"": [md("# Signs")],
    "學習": [md("# Study")],
    "search": [md("# A search")],
    "self": [md("# Myself")],
    "genindex": [md("# An index")],
    "70_late": [md("# Part 7")],
    "5_five": [md("# Five")],
    "30_notes.md": [md("# Notes")],
    "20_link": [md("# T [l](https://example.org)")],
    "21_url": [md("# https://example.org/x is it")],
    "22_math": [md("# Of $x^2$, `code`, **bold** and <i>more</i> & so \\*on")],
    "23_angle": [md("# A < B > C <d>")],
    "24_second": [md("## Only the second level")],
    "25_empty": [md("# "), md("text")],
    "26_line": [md("Two\nlines\n===")],
    "27_front": [md("---\na: [\n---\n")],
    "28_list": [md("- # in a list\n\n> # quoted")],
    "29_fence": [md("```\n# no title\n```")],
    "31_html": [md("<h1>No Markdown</h1>")],
    "32_comment": [md("% hidden")],
    "33_picture": [md(f"![p](data:image/png;base64,{PNG})")],
    "34_label": [md("(label)=\n# Labelled\n\n[l](#label)")],
    "35_ticks": [md("# `` ``` `` ticks")],
    "36_colon": [md("# :x: colon")],
    "37_output": [new_code_cell("# no title")],
}
TITLES = {
    "Untitled": "Untitled",
    "Untitled 2": "Untitled-2",
    "10 Version": "10_v1-2-2",
    "10 Its neighbour": "10_v1-2",
    "11 Spaces": "11_a-b",
    "12 Größe": "12_Groe",
    "13 Hash": "13_-1-100-20",
    "14 Signs": "14_a-b-c",
    "Study": "page",
    "A search": "search-2",
    "Myself": "self-2",
    "An index": "genindex-2",
    "70 Part 7": "70_late",
    "5 Five": "5_five",
    "30 Notes": "30_notes-md",
    "20 T l": "20_link",
    "21 https:\u2060//example.org/x is it": "21_url",
    "22 Of x^2, code, bold and more &amp; so *on": "22_math",
    "23 A &lt; B &gt; C": "23_angle",
    "24 24_second": "24_second",
    "25 25_empty": "25_empty",
    "26 Two lines": "26_line",
    "27 27_front": "27_front",
    "34 Labelled": "34_label",
    "35 ˋ ticks": "35_ticks",
    "36 :x: colon": "36_colon",
    "37 37_output": "37_output",
}


def test_every_notebook_has_a_page(tmp_path, capsys):
    links = "".join(
        f"[to]({name}.ipynb) "
        for name in ("10_v1.2", "./11_a%20b", "search", "13_%231%20100%25%20%2520", "學習")
    )
    links += "[w](<12_Größe.ipynb#Wie-groß>) <a href='10_v1.2.ipynb'>tag</a> `[c](gone.ipynb)`"
    first = md(f"# First\n\n{links}")
    runs = write(tmp_path / "runs", **ODD, **{"00_first": [first]})
    out = build_site(runs, tmp_path / "site").parent
    listed = sidebar(out)
    assert {title: listed.get(title) for title in TITLES} == {t: f"{p}.html" for t, p in TITLES.items()}
    assert len(listed) == len(ODD) + 1 and all((out / page).is_file() for page in listed.values())
    found = re.findall(r'href="([^"#]*)[^"]*">(?:<span[^>]*>)?(?:to|w|tag)<', article(out, "00_first"))
    assert found == [
        f"{p}.html"
        for p in ("10_v1-2-2", "11_a-b", "search-2", "13_-1-100-20", "page", "12_Groe", "10_v1-2-2")
    ]
    assert "nbs/14_a&amp;b&lt;c&gt;&#x27;&quot;.ipynb" in article(out, "14_a-b-c")
    assert "More" in (out / "index.html").read_text() and "broken" not in capsys.readouterr().err


@given(st.sets(st.text(min_size=1, max_size=8), max_size=8))
def test_page_names_are_plain_and_different(names):
    pages = page_names(names)
    assert names <= {*pages} <= names | {"index"}
    assert all(re.fullmatch(r"[\w-]+", page, re.ASCII) for page in pages.values())
    assert len({page.lower() for page in pages.values()}) == len(pages)
    assert not {"search", "self", "genindex"} & {*pages.values()}


# ---- pictures


def test_pictures_are_on_the_page(tmp_path):
    "Pasted, written out, lying beside; in Markdown, by reference, as a link, in HTML, in an output."
    nbs = tmp_path / "nbs"
    (nbs / "sub").mkdir(parents=True)
    for name in "pic.png", "sub/a b (1).png", "Bild ü.png":
        (nbs / name).write_bytes(base64.b64decode(PNG))
    (nbs / "data.csv").write_text("1,2")
    (nbs / "notes.md").write_text("# no page")
    data = f"data:image/svg+xml;base64,{base64.b64encode(SVG.encode()).decode()}"
    pasted = "![a](attachment:plot.png) `![a](attachment:plot.png)` <img src='attachment:plot.png'>"
    text = (
        "![c](pic.png) ![d](<sub/a b (1).png> \"title\") ![e](sub/a%20b%20(1).png) ![f][ref]\n\n"
        "![g](Bild%20ü.png) [![h](./pic.png)](11_two.ipynb)\n\n"
        f"![i]({data}) ![j](data:image/png;base64,{PNG}) <img src=\"{data}\">\n\n"
        "[k](data.csv) [l](notes.md) <a href='data.csv'>m</a>"
    )
    shown = [
        {"text/markdown": "![n](pic.png)"},
        {"text/html": ["<img src='pic.png'>", f"<img src='{data}'>"]},
    ]
    one = [
        md("# One\n\n" + pasted, plot_png={"image/png": PNG}),
        md("![b](attachment:plot.png)", plot_png={"image/svg+xml": SVG}),
        md(text),
        md("> [ref]: pic.png"),
        new_code_cell("1", outputs=[new_output("display_data", bundle) for bundle in shown]),
    ]
    runs = write(tmp_path / "runs", **{"10_one": one, "11_two": [md("# Two")]})
    out = build_site(runs, tmp_path / "site", folder=nbs).parent
    text = article(out, "10_one")
    pictures = re.findall(r'<img[^>]*?src=["\']([^"\']*)', text)
    assert len(pictures) == 15
    for address in pictures:
        if address.startswith("data:"):
            continue  # in an output, as the kernel sent it
        content = (out / address).read_bytes()
        assert content == (SVG.encode() if address.endswith("svg") else base64.b64decode(PNG)), address
    assert sum(address.startswith("data:") for address in pictures) == 1
    second = [a for a in pictures if a.startswith("_images")][1]
    assert second.endswith(".svg"), "two cells, two pictures of one name"
    assert "attachment:plot.png" in text, "code stays as it is"
    files = re.findall(r'href="([^"]*\.(?:csv|md))"', text)
    assert [(out / f).read_text() for f in files] == ["1,2", "# no page", "1,2"]


DEAD = {
    "![](attachment:gone.png)": "shows attachment:gone.png",
    "![](gone.png)": "shows gone.png",
    "![](sub/)": "shows sub/",
    "![][r]\n\n[r]: gone.png": "shows gone.png",
    "<img src='gone.png'>": "shows gone.png",
    "![](.)": "shows .",
    "<img src=gone.png>": "shows gone.png",
    "<p>\n<IMG alt=a src=\"gone.png\">\n</p>": "shows gone.png",
    "![](/etc/hostname)": "shows /etc/hostname",
    "![](../../outside.png)": "shows ../../outside.png",
    "![](https://example.org/a.png)": "a page may not fetch",
    "![](//example.org/a.png)": "a page may not fetch",
    "<img src='http://example.org/a.png'>": "a page may not fetch",
    "![](file:///etc/hostname)": "shows file:///etc/hostname",
    "![](data:image/png;base64,)": "shows data:",
    f"![]({'x' * 300}.png)": "shows x",
    "[](gone.ipynb)": "links to gone.ipynb",
    "[](gone.ipynb#a)": "links to gone.ipynb",
    "[](10_a.ipynb#Gone)": "links to 10_a.ipynb#Gone",
    "[](#Gone)": "links to #Gone",
    "[](gone.csv)": "links to gone.csv",
    "[](<gone with space.ipynb>)": "links to gone with space.ipynb",
    "[x][r]\n\n[r]: gone.ipynb": "links to gone.ipynb",
    "<a href='gone.ipynb'>x</a>": "links to gone.ipynb",
    "[](../10_a.ipynb)": "links to ../10_a.ipynb",
    "[](10_A.ipynb)": "links to 10_A.ipynb",
    "[](%00.csv)": "links to",
}
FINE = [
    "[](10_a.ipynb)",
    "[](./10_a.ipynb#Head)",
    "[](#Head)",
    "[](https://example.org)",
    "<mailto:a@example.org>",
    "`![](gone.png)`",
    "```\n![](gone.png)\n```",
    "    ![](gone.png)",
    "$f[a](x)$",
    "$$f[a](x)$$",
    "![](pic.png?raw=true)",
    "\\![a\\](gone.png)",
    "[](10_a.ipynb#b%C3%BC-%C3%9F)",
    "![](attachment:a.png)",
    "[](<>)",
    "<!-- <img src='gone.png'> -->",
    "[](#label)\n\n(label)=\ntext",
    "> ![][p]\n>\n> [p]: pic.png",
]


@pytest.fixture
def nbs(tmp_path):
    (tmp_path / "nbs" / "sub").mkdir(parents=True)
    (tmp_path / "nbs" / "pic.png").write_bytes(base64.b64decode(PNG))
    (tmp_path.parent / "outside.png").write_bytes(base64.b64decode(PNG))
    return tmp_path / "nbs"


@pytest.mark.parametrize("text", DEAD)
def test_what_is_not_there_is_found_in_the_source(nbs, text):
    found = broken_links({"10_a": new_notebook(cells=[md("# Head"), md(text)])}, nbs)
    assert len(found) == 1 and found[0].startswith("10_a.ipynb ") and DEAD[text] in found[0]


@pytest.mark.parametrize("text", FINE)
def test_what_is_there_or_no_address_is_not_complained_of(nbs, text):
    cells = [md("# Head\n\n## bü ß"), md(text, a_png={"image/png": PNG})]
    assert broken_links({"10_a": new_notebook(cells=cells)}, nbs) == []


def test_dead_links_and_pictures_stop_the_command_before_anything_runs(root, capsys, monkeypatch):
    monkeypatch.setattr(runner, "_outcomes", lambda *args: pytest.fail("it was started"))
    for text in "![p](gone.png)", "![p](attachment:gone.png)", "[l](gone.ipynb)", "[l](#Gone)":
        write(root / "nbs", **{"10_a": [md(f"# A\n\n{text}")]})
        assert main(["site"]) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and "10_a.ipynb" in said.err
        assert not (root / "build").exists()


def test_an_output_that_shows_nothing_stops_the_build(tmp_path):
    shown = [
        {"text/markdown": "![](gone.png)"},
        {"text/html": "<img src='gone.png'>"},
        {"text/markdown": "[x](gone.ipynb)"},
    ]
    for bundle in shown:
        cells = [md("# A"), new_code_cell("1", outputs=[new_output("display_data", bundle)])]
        with pytest.raises(ValueError, match="10_a.ipynb (shows|links to) gone"):
            build_site(write(tmp_path / "runs", **{"10_a": cells}), tmp_path / "site")
    assert not (tmp_path / "site").exists() and [p.name for p in tmp_path.iterdir()] == ["runs"]


# ---- places and drafts


def test_only_the_chapters_asked_for(tmp_path):
    "A run may be left of a notebook that was removed, and the failed run of another."
    runs = write(
        tmp_path / "runs", **{"10_a": [md("# A")], "11_gone": [md("# Gone")], "10_a.failed": [md("# Failed")]}
    )
    out = build_site(runs, tmp_path / "site", chapters=["10_a"]).parent
    assert sidebar(out) == {"10 A": "10_a.html"}
    assert not (out / "11_gone.html").exists()


def test_places_for_a_site(tmp_path):
    for name in "empty", "full/x", "site/_static":
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "site" / "_static" / "house.css").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("site")
    (tmp_path / "loop").symlink_to("loop")
    for name in "empty", "new", "new/deeper", "site":
        assert site_place(tmp_path / name) == tmp_path / name
    assert site_place(tmp_path / "link") == tmp_path / "site", (
        "the link stays, the site behind it is replaced"
    )
    used = [tmp_path / name for name in ("file", "file/x", "full", "loop", "x" * 300)]
    for name in *used, "", "/", "/proc", "/dev/null":
        with pytest.raises(ValueError, match="out="):
            site_place(name)


def hold(out, held, go):
    with site._draft(Path(out)):
        held.set()
        go.wait(60)


def test_drafts_of_killed_builds_are_swept_and_others_are_not(tmp_path):
    context = multiprocessing.get_context("fork")
    out, builds = tmp_path / "si[t]e", []
    for _ in range(2):
        held, go = context.Event(), context.Event()
        process = context.Process(target=hold, args=(out, held, go))
        process.start()
        assert held.wait(60)
        builds.append((process, go))
    drafts = lambda: {p.name for p in tmp_path.iterdir()}
    alive = drafts()
    assert len(alive) == 2
    os.kill(builds[0][0].pid, signal.SIGKILL)
    builds[0][0].join()
    fresh, old, mine = (tmp_path / f".si[t]e.{name}" for name in ("fresh", "old", "file"))
    fresh.mkdir()
    old.mkdir()
    os.utime(old, (time.time() - 3600,) * 2)
    mine.touch()
    with site._draft(out) as own:
        assert own.name in drafts()
    left = drafts()
    assert {fresh.name, mine.name} <= left and old.name not in left and len(left & alive) == 1
    builds[1][1].set()
    builds[1][0].join()
    assert not drafts() & alive


def test_the_look_is_that_of_the_checkout_or_of_this_library(tmp_path, monkeypatch):
    own = Path(site.__file__).parents[2] / "nbs" / "_site"
    assert site.style_folder(tmp_path) == own and {p.name for p in own.glob("*.*")} == set(site.STYLE)
    shutil.copytree(own, tmp_path / "_site")
    assert site.style_folder(tmp_path) == tmp_path / "_site"
    (tmp_path / "_site" / "house.css").unlink()
    assert site.style_folder(tmp_path) == own
    monkeypatch.setattr(site, "STYLE", (*site.STYLE, "none.css"))
    with pytest.raises(FileNotFoundError, match="none.css"):
        site.style_folder(tmp_path)


def test_a_page_opens_its_chapter_on_a_borrowed_machine(tmp_path):
    (tmp_path / "nbs").mkdir()
    write = lambda home: (tmp_path / "settings.ini").write_text(f"[DEFAULT]\n{home}\n")
    assert site.launch_links("10_a", tmp_path / "nbs") == ""
    for home in (
        "branch = main",
        "git_url = https://gitlab.com/a/b\nbranch = main",
        "git_url = https://github.com/a/b",
    ):
        write(home)
        assert site.launch_links("10_a", tmp_path / "nbs") == ""
    write("git_url = https://github.com/a/b.c/\nbranch = our/main")
    text = site.launch_links("10_über \"x\"", tmp_path / "nbs")
    name = "nbs/10_%C3%BCber%20%22x%22.ipynb"
    assert re.findall('href="([^"]*)"', text) == [
        f"https://mybinder.org/v2/gh/a/b.c/our%2Fmain?urlpath=lab/tree/{name}",
        f"https://colab.research.google.com/github/a/b.c/blob/our/main/{name}",
    ]
    for name in ("index", "10_a"):
        page = site.prepare(new_notebook(cells=[md("# A\n\n> what\n\ntext")]), name, launch=text)
        head, _, rest = page.cells[0].source.partition("\n\n<div")
        assert head == "# A\n\n> what" and text in "<div" + rest and rest.endswith("</div>\n\ntext")


def test_the_licence_of_mathjax_travels_along(tmp_path):
    site._vendor(tmp_path)
    text = (tmp_path / "tex-svg-full.LICENSE.txt").read_text()
    assert text.startswith("tex-svg-full.js is MathJax") and "The MathJax Consortium" in text
    assert "Apache License" in text and "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
    assert (tmp_path / "tex-svg-full.js").stat().st_size > 1e6
    assert "plotly.js" in (tmp_path / "plotly.min.js").read_text(encoding="utf-8")[:300]


def test_a_picture_carries_the_mark_of_its_figure():
    head = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(17)
    png = mark_picture(head + b"rest", "0123456789abcdef")
    assert picture_mark(png) == "0123456789abcdef" and png.startswith(head) and png.endswith(b"rest")
    assert picture_mark(head) == ""
    with pytest.raises(ValueError, match="^png="):
        mark_picture(b"GIF89a", "0123456789abcdef")


def test_the_picture_under_a_title_gives_way_to_the_figure():
    text = "# T\n\n> line\n\n![words](pictures/10_t.png)\n\nText ![p](pictures/x.png)"
    page = new_notebook(cells=[new_markdown_cell(text)])
    assert without_title_picture(page).cells[0].source == text
    figure = new_output("display_data", {"application/vnd.plotly.v1+json": {}})
    page.cells.append(new_code_cell("fig", outputs=[figure]))
    assert without_title_picture(page).cells[0].source == "# T\n\n> line\n\nText ![p](pictures/x.png)"


# ---- references

BIB = """@article{Fan1993,
  author = {Fan, Jianqing},
  title = {Local Linear Regression Smoothers},
  journal = {The Annals of Statistics},
  year = {1993},
  doi = {10.1214/aos/1176349022},
}

@misc{Nobody1900,
  author = {Nobody, N.},
  title = {Unread},
  year = {1900},
  url = {https://example.org/(x)},
}
"""
FAN = "[Fan 1993](https://doi.org/10.1214/aos/1176349022)"


def test_a_paper_leads_to_its_entry_and_back(tmp_path, capsys):
    pytest.importorskip("sphinxcontrib.bibtex")
    runs = write(
        tmp_path / "runs",
        **{
            "10_a": [md(f"# A\n\nas {FAN} says, in code `{FAN}`")],
            "11_b": [md(f"# B\n\n{FAN}")],
            "12_c": [md("# C")],
        },
        references=[md("# A page of that name")],
    )
    (runs / "references.bib").write_text(BIB)
    out = build_site(runs, tmp_path / "site").parent
    assert capsys.readouterr().err == ""
    assert sidebar(out)["References"] == "references.html"
    assert sidebar(out)["A page of that name"] == "references-2.html"
    cited = re.findall(r'\[<a class="reference internal" href="references.html#(\w+)"', article(out, "10_a"))
    entries = article(out, "references")
    assert len(cited) == 1 and f'id="{cited[0]}"' in entries and "{cite}" not in article(out, "10_a")
    assert re.findall(r'href="([^"]*)">1\d<', entries) == ["10_a.html", "11_b.html"]
    assert "Unread" in entries and "Cited in" not in entries[entries.index("Unread") :]


def test_without_a_list_links_stay_as_they_are(tmp_path):
    out = build_site(write(tmp_path / "runs", **{"10_a": [md(f"# A\n\n{FAN}")]}), tmp_path / "site").parent
    assert not (out / "references.html").exists() and "bibtex" not in article(out, "10_a")


def test_library_cells_are_folded_under_one_line(tmp_path):
    folded = {"tags": ["library"]}
    cells = [
        md("# A"),
        new_code_cell("#| export\nimport math", metadata=folded),
        new_code_cell("#| export\nFARTHEST = 3\n\n\ndef reach():\n    return FARTHEST", metadata=folded),
        new_code_cell("reach()", outputs=[new_output("display_data", {"text/plain": "3"})]),
    ]
    out = build_site(write(tmp_path / "runs", **{"10_a": cells}), tmp_path / "site").parent
    imports, library = re.findall(r"<details.*?</details>", article(out, "10_a"), re.S)
    assert "Library: imports" in imports and "Library: reach, FARTHEST" in library
    assert "return" in library and "open" not in library.split(">")[0]
    assert "farthest" in (out / "searchindex.js").read_text().lower()


@pytest.mark.parametrize(
    "source, words",
    [
        ("import a\nfrom b import c", "imports"),
        ("x = 1\ndef f(): pass\nclass C: pass", "f, C, x"),
        ("f(3)", "settings"),
        ("x.y = 1", "settings"),
    ],
)
def test_a_folded_cell_says_what_it_holds(source, words):
    assert holds(source) == words


@pytest.mark.parametrize(
    "kind, exported, line",
    [
        ("application/vnd.plotly.v1+json", False, "How this figure is drawn"),
        ("text/html", False, "How this table is made"),
        ("text/html", True, "Library: f"),
        ("text/plain", False, "Library: f"),
    ],
)
def test_a_folded_cell_that_shows_something_says_what(kind, exported, line):
    shown = [new_output("display_data", {kind: "x", "text/plain": "x"})]
    assert fold_line("def f(): pass", shown, exported) == line


def test_a_figure_has_its_number_and_its_sentence(tmp_path):
    said = 'The orange curve is "too high" at the left end, the blue one is not.'
    figures = [
        {"data": [], "layout": {"meta": {"alt": words}} if words else {}} for words in ("", said, said)
    ]
    shown = [
        new_code_cell("f", outputs=[new_output("display_data", {"application/vnd.plotly.v1+json": f})])
        for f in figures
    ]
    out = build_site(write(tmp_path / "runs", **{"12b_x": [md("# A"), *shown]}), tmp_path / "site").parent
    page = article(out, "12b_x")
    captions = re.findall(r"<figcaption><a [^>]*>(.*?)</a> (.*?)</figcaption>", page, re.S)
    assert [label for label, _ in captions] == ["Figure 12b.2.", "Figure 12b.3."]
    assert (
        'id="figure-12b-3"' in page and page.count('role="img" aria-label="The orange curve is &quot;') == 2
    )


def test_a_chapter_says_how_long_it_takes(tmp_path):
    words, lines = " ".join(["word"] * 1199), "\n".join(["x = 1"] * 100)
    cells = [md(f"# A {words}"), new_code_cell(lines), new_code_cell(lines, metadata={"tags": ["library"]})]
    assert reading_minutes(new_notebook(cells=cells)) == 30
    runs = write(tmp_path / "runs", **{"10_a": cells, "05_b": cells})
    out = build_site(runs, tmp_path / "site").parent
    assert "about 30 minutes" in article(out, "10_a") and "minutes" not in article(out, "05_b")
