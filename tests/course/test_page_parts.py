"What stands around a chapter: sliders, links, prerequisites, cards, the glossary, numbers."

import json
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("myst_nb")
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lla_course.core import repo_root
from lla_course.course.page_parts import (
    SLIDER_ROOM,
    Card,
    Home,
    bare_notebook,
    book_home,
    card_html,
    glossary_page,
    glossary_terms,
    mended,
    page_links,
    part_cards,
    prerequisites,
    slider_control,
)
from lla_course.course.site import PLOTLY, build_site

pytestmark = pytest.mark.filterwarnings("ignore:.*MystReferenceResolver")
NBS = repo_root() / "nbs"
INDEX = "\n\n".join(
    c.source for c in nbformat.read(NBS / "index.ipynb", 4).cells if c.cell_type == "markdown"
)


def moving(**layout):
    "A figure of three frames, as `figures.with_slider` makes it."
    from lla_course.figures import add_curve, canvas, with_slider

    frames = {}
    for k in (1, 2, 3):
        frames[f"{k} < 4"] = add_curve(canvas("x", "y", height=300, alt=""), [0, 1], [0, k], "lla")
    said = "A line through the origin becomes steeper with each step."
    return json.loads(with_slider(frames, name="slope <i>k</i>", alt=said).update_layout(**layout).to_json())


def test_a_slider_becomes_one_of_the_browser():
    figure = moving(meta={"alt": "as said", "narrow": {"height": 500}})
    before = json.dumps(figure)
    still, control = slider_control(figure)
    assert json.dumps(figure) == before, "the figure that was given is left alone"
    assert "sliders" not in still["layout"] and still["frames"] == figure["frames"]
    assert still["layout"]["height"] == figure["layout"]["height"] - SLIDER_ROOM
    assert still["layout"]["meta"]["narrow"]["height"] == 500 - SLIDER_ROOM
    assert 'min="0" max="2" value="1"' in control and 'aria-valuetext="2 &lt; 4"' in control
    assert "<span>slope k</span>" in control and "<output>2 &lt; 4</output>" in control
    steps = re.search('data-steps="([^"]*)"', control)[1].replace("&quot;", '"').replace("&lt;", "<")
    assert json.loads(steps) == [["1 < 4", "2 < 4", "3 < 4"]] * 2


@pytest.mark.parametrize(
    "sliders",
    [
        [],
        None,
        [{}],
        [{"steps": [{"method": "restyle", "args": [{"y": [1]}], "label": "a"}]}],
        [{"steps": [{"method": "animate", "args": [["a", "b"]], "label": "a"}]}],
        [{"steps": [{"method": "animate", "args": [["a"]]}, {"method": "skip", "args": []}]}],
        [{"steps": [{"method": "animate", "args": [["a"]]}]}] * 2,
    ],
)
def test_a_slider_that_does_something_else_stays(sliders):
    figure = {"data": [], "layout": {"sliders": sliders, "height": 300, "margin": {"b": 100}}}
    assert slider_control(figure) == (figure, "")


def test_where_a_book_lives(tmp_path):
    said = {
        "": Home(),
        "git_url = https://github.com/a/b.c/\nbranch = main": Home("https://github.com/a/b.c", "main"),
        "git_url = https://gitlab.com/a/b\nbranch = main\ndoc_host = https://a.org/\ndoc_baseurl = /b/": Home(
            "https://gitlab.com/a/b", "main", "https://a.org/b/"
        ),
        "doc_host = https://a.org": Home(site="https://a.org/"),
        "doc_baseurl = /b": Home(),
    }
    for text, home in said.items():
        (tmp_path / "settings.ini").write_text(f"[DEFAULT]\n{text}\n")
        assert book_home(tmp_path / "nbs") == home
    assert Home("https://github.com/a/b.c", "main").github == "a/b.c"
    assert not Home("https://github.com/a/b.c").github and not Home("https://gitlab.com/a/b", "main").github


def test_a_page_leads_to_its_notebook():
    addresses = lambda home: re.findall('href="([^"]*)"', page_links('10_ü "x"', "10_u-x", home))
    file = "10_%C3%BC%20%22x%22"
    assert addresses(Home()) == ["_static/notebooks/10_u-x.ipynb"]
    assert addresses(Home("https://github.com/a/b", "our/main")) == [
        "_static/notebooks/10_u-x.ipynb",
        f"https://github.com/a/b/blob/our/main/nbs/{file}.ipynb",
        f"https://github.com/a/b/edit/our/main/nbs/{file}.ipynb",
        f"https://github.com/a/b/issues/new?template=chapter.yml&amp;title={file}",
    ]
    assert (repo_root() / ".github" / "ISSUE_TEMPLATE" / "chapter.yml").is_file()


def test_the_notebook_of_a_page_can_be_run(tmp_path):
    cells = [
        new_markdown_cell("# A"),
        new_code_cell("seed = 0", metadata={"tags": ["parameters"]}),
        new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]}),
        new_code_cell("seed", outputs=[new_output("display_data", {"text/plain": "1"})], execution_count=3),
    ]
    book = new_notebook(cells=cells)
    (tmp_path / "runs").mkdir()
    nbformat.write(book, tmp_path / "runs" / "10_a b.ipynb")
    out = build_site(tmp_path / "runs", tmp_path / "site").parent
    text = (out / "10_a-b.html").read_text()
    kept = nbformat.read(out / re.search('href="([^"]*)" download="10_a%20b.ipynb"', text)[1], 4)
    nbformat.validate(kept)
    assert [c.source for c in kept.cells] == ["# A", "seed = 0", "seed"]
    assert kept.cells[2].outputs == [] and kept.cells[2].execution_count is None
    assert book.cells[3].outputs and bare_notebook(book).cells[1].metadata.tags == ["parameters"]


# ---- the index


def test_what_comes_before_is_read_from_the_index():
    text = "- [10 A](10_a.ipynb). What. \n- [11b B](11b_b.ipynb). Much after all. After 10.\n"
    text += "- [12 C](12_c.ipynb). So. After 10 and 11b.\n- [Solutions](91.ipynb). After 10."
    assert prerequisites(text) == {"10_a": [], "11b_b": ["10_a"], "12_c": ["10_a", "11b_b"]}
    with pytest.raises(ValueError, match="index='99'.*after 10"):
        prerequisites("- [10 A](10_a.ipynb). After 99.")


def test_every_chapter_says_what_comes_before():
    before = prerequisites(INDEX)
    label = lambda name: name.split("_")[0]
    assert {
        name: names for name, names in before.items() if [n for n in names if label(n) >= label(name)]
    } == {}
    begins = {name for name, names in before.items() if not names and not re.search("records$|^9", name)}
    assert begins == {"10_kernel_regression", "40_latent_reasoning", "50_causal_graphs", "60_mechanisms"}


def test_the_front_page_has_a_card_for_each_part():
    cards, rest = part_cards(INDEX)
    assert [card.title[:7] for card in cards] == [f"Part {i}." for i in range(1, 7)]
    for part, card in enumerate(cards, 1):
        assert len(card.words.split()) >= 8 and (NBS / card.picture).is_file()
        listed = {p.stem for p in NBS.glob(f"{part}*.ipynb")}
        assert {n for n in card.chapters if n[0] == str(part)} == listed
        assert card.line in rest and card.picture not in rest
    assert part_cards("## Part 1. A\n\nNo picture.\n") == ([], "## Part 1. A\n\nNo picture.\n")


def test_a_card_says_how_much_there_is_to_read():
    card = Card("Part 1. A & B", 'A "curve" that rises', "p.png", "One < line.", ("10_a", "11_b", "18_c"))
    text = card_html(card, {"10_a": 40, "11_b": 70, "18_c": 0}, "10_a.html", "_static/p.png")
    assert "2 chapters, about 2 hours" in text and 'alt="A &quot;curve&quot; that rises"' in text
    assert "Part 1. A &amp; B" in text and "One &lt; line." in text and 'href="10_a.html"' in text
    assert "1 chapter, about 1 hour<" in card_html(card, {"10_a": 20}, "10_a.html", "p.png")


# ---- the glossary

WORDS = """# Glossary

The words.

- **bandwidth** (bandwidths): How near is near, $h$.
- **softmax**: A mean.
- **local line**: A *line*.
"""


def test_a_term_has_forms_and_a_meaning():
    terms = glossary_terms(WORDS)
    assert terms["bandwidth"] == (["bandwidth", "bandwidths"], "How near is near, $h$.")
    page = glossary_page(WORDS)
    assert page.index("bandwidth\n  How") < page.index("local line\n") < page.index("softmax\n")
    assert page.startswith("# Glossary\n\nThe words.\n\n```{glossary}\n") and "- **" not in page
    for again in ("- **Softmax**: Twice.", "- **mean** (bandwidths): Twice.", "- **b** (b): Twice."):
        with pytest.raises(ValueError, match="glossary="):
            glossary_terms(WORDS + again + "\n")


def test_a_word_leads_to_its_meaning_and_back(tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    first = (
        "# Softmax here\n\n> No softmax-like thing.\n\n`bandwidth`, $softmax$, [a softmax](11_b.ipynb) and"
        " Bandwidths, *bandwidths* again; softmaxes\n\n$$bandwidth$$\n\n## A local line"
    )
    books = {
        "10_a": [new_markdown_cell(first), new_markdown_cell("a softmax and a softmax")],
        "11_b": [new_markdown_cell("# B\n\nThe bandwidth.")],
        "91_solutions": [new_markdown_cell("# C\n\nThe bandwidth.")],
        "index": [new_markdown_cell("# I\n\nThe [words](glossary.md).")],
    }
    for name, cells in books.items():
        nbformat.write(new_notebook(cells=cells), tmp_path / "runs" / f"{name}.ipynb")
    (tmp_path / "runs" / "glossary.md").write_text(WORDS)
    out = build_site(tmp_path / "runs", tmp_path / "site").parent
    assert capsys.readouterr().err == ""
    read = lambda page: (out / f"{page}.html").read_text()
    links = lambda page: re.findall(r'href="glossary.html#([^"]*)"><span class="term">([^<]*)<', read(page))
    assert links("10_a") == [("term-bandwidth", "Bandwidths"), ("term-softmax", "softmax")]
    assert links("11_b") == [("term-bandwidth", "bandwidth")] and links("91_solutions") == []
    entries = read("glossary").split("<dt ")[1:]
    back = [re.findall(r'internal" href="(1[^"]*)">(\d+)<', entry) for entry in entries]
    assert back == [[("10_a.html", "10"), ("11_b.html", "11")], [], [("10_a.html", "10")]]
    assert read("index").count('href="glossary.html"') >= 2, "the sidebar and the link"


def test_every_word_of_the_glossary_is_explained_once_and_used():
    text = (NBS / "glossary.md").read_text(encoding="utf-8")
    terms = glossary_terms(text)
    assert len(terms) == text.count("\n- **") >= 40, "a line that is no entry"
    assert [*terms] == sorted(terms, key=str.lower)
    prose = ""
    for path in sorted(NBS.glob("[0-8]*.ipynb")):
        cells = nbformat.read(path, 4).cells
        prose += "\n".join(c.source for c in cells if c.cell_type == "markdown").lower()
    unused = [
        t
        for t, (forms, _) in terms.items()
        if not any(re.search(rf"\b{re.escape(f.lower())}\b", prose) for f in forms)
    ]
    assert unused == []
    assert [t for t, (_, meaning) in terms.items() if len(meaning.split()) < 6] == []


# ---- numbers, and words for machines


def test_equations_and_figures_have_numbers_that_lead_to_them(tmp_path):
    math = "# A\n\n$$a = b$$\n\n- item\n\n  $$c$$\n\ntext $$d$$ text\n\n"
    math += "\\begin{align} e &= f \\\\ g \\end{align}"
    shown = new_output("display_data", {PLOTLY: moving()})
    (tmp_path / "runs").mkdir()
    for name in ("12b_a", "index"):
        cells = [new_markdown_cell(math), new_code_cell("f", outputs=[shown])]
        nbformat.write(new_notebook(cells=cells), tmp_path / "runs" / f"{name}.ipynb")
    out = build_site(tmp_path / "runs", tmp_path / "site").parent
    text = (out / "12b_a.html").read_text()
    numbers = re.findall(r'href="#(equation-[^"]*)" aria-label="Equation ([^"]*)"', text)
    assert numbers == [(f"equation-12b-{i}", f"12b.{i}") for i in (1, 2, 3)]
    assert all(f'id="{place}"' in text for place, _ in numbers) and text.count("eqno") == 0
    assert '<a class="figure-number" href="#figure-12b-1">Figure 12b.1.</a>' in text
    assert 'id="figure-12b-1"' in text and text.count('<input type="range"') == 1
    assert "equation-number" not in (out / "index.html").read_text()


def test_a_page_says_what_it_is_to_those_who_preview_it(tmp_path):
    (tmp_path / "nbs" / "pictures").mkdir(parents=True)
    (tmp_path / "settings.ini").write_text("[DEFAULT]\ndoc_host = https://a.org\ndoc_baseurl = /b\n")
    (tmp_path / "nbs" / "pictures" / "10_a.png").write_bytes(b"\x89PNG")
    line = '> A [mean](10_a.ipynb) of "all" $y_j$ & more.'
    books = {"10_a": [new_markdown_cell(f"# An *average*\n\n{line}")], "11_b": [new_markdown_cell("# B")]}
    for name, cells in books.items():
        nbformat.write(new_notebook(cells=cells), tmp_path / "nbs" / f"{name}.ipynb")
    out = build_site(tmp_path / "nbs", tmp_path / "site").parent
    tags = lambda page: dict(
        re.findall(r'<meta (?:name|property)="([^"]*)" content="([^"]*)"', (out / page).read_text())
    )
    found = tags("10_a.html")
    said = "A mean of &#34;all&#34; y_j &amp; more."
    assert found["description"] == found["og:description"] == said
    assert found["og:title"] == "An average" and found["og:url"] == "https://a.org/b/10_a.html"
    assert re.fullmatch(r"https://a\.org/b/_static/files/\w+/10_a\.png", found["og:image"])
    assert (out / found["og:image"].removeprefix("https://a.org/b/")).read_bytes() == b"\x89PNG"
    assert "B, a page of" in tags("11_b.html")["description"] and "og:image" not in tags("11_b.html")
    lost = (out / "404.html").read_text()
    assert 'href="/b/10_a.html"' in lost and 'src="/b/_static/' in lost and "No page here" in lost


def test_what_others_left_out_is_said():
    assert mended('<p class="caption" role="heading">') == '<p class="caption" role="heading" aria-level="2">'
    assert mended('<summary aria-label="Toggle hidden content">x') == "<summary>x"
    long = '<dl>\n<dd><em class="sig-param">a</em>,</dd>\n<dd>b</dd>\n</dl><dl><dt>c</dt><dd>d</dd></dl>'
    div = '<div class="parameters"><div><em class="sig-param">a</em>,</div>\n<div>b</div>\n</div>'
    assert mended(long) == div + "<dl><dt>c</dt><dd>d</dd></dl>"
    assert mended("as it is") == "as it is"


def test_a_figure_has_words_of_its_own():
    "Every picture in the prose of the book: eight words or more, and not those of the title."
    found = {}
    for path in sorted(Path(NBS).glob("*.ipynb")):
        text = "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown")
        title = re.match(r"# ([^\n]*)", text)[1] if text.startswith("# ") else ""
        for words in re.findall(r"!\[([^\]]*)\]\(pictures/", text):
            if len(words.split()) < 8 or title and words.startswith(title):
                found[path.stem] = words
    assert found == {}
