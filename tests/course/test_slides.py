"Slides: thirty to forty a part, of tagged cells, with few words."

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import lla_course.course.slides as slides
from lla_course.course.cli import main
from lla_course.course.runner import select_chapters
from lla_course.course.site import PLOTLY, WIDGET, read_notebook
from lla_course.course.slides import (
    KINDS,
    TITLES,
    deck,
    figure_html,
    part_chapters,
    slide_text,
    tagged,
    write_slides,
)

ROOT = Path(__file__).resolve().parents[2]
FIGURE = {PLOTLY: dict(data=[dict(y=[1, 2])], layout=dict(height=900, width=700, meta=dict(alt="It rises.")))}


@pytest.mark.parametrize("part", TITLES)
def test_a_part_has_thirty_to_forty_slides_of_all_kinds(part):
    chapters = part_chapters(part, ROOT)
    cells = {c.number: tagged(read_notebook(c.path)) for c in chapters}
    count = 1 + sum(begins for some in cells.values() for begins, _, _ in some)
    kinds = [kind for some in cells.values() for _, kind, _ in some]
    assert 30 <= count <= 40 and len({*kinds}) >= len(KINDS) - 1 and kinds.count("figure") >= 9
    for number, some in cells.items():
        assert some[0][:2] == (True, "question") and len(some) >= 2, number
        assert ("verdict" in [kind for _, kind, _ in some]) or number[-1].isalpha(), number


@pytest.mark.parametrize("part", TITLES)
def test_every_chapter_of_a_part_is_there(part):
    posed = {p.stem for p in (ROOT / "nbs").glob(f"{part}*.ipynb") if not re.search("records|lab", p.stem)}
    assert {c.stem for c in part_chapters(part, ROOT)} == posed


@pytest.mark.parametrize("part", TITLES)
def test_what_a_slide_says_is_short_and_leads_to_no_notebook(part):
    for chapter in part_chapters(part, ROOT):
        for _, kind, cell in tagged(read_notebook(chapter.path)):
            assert (cell.cell_type == "code") == (kind == "figure")
            text = "" if kind == "figure" else slide_text(kind, cell.source, chapter.number)
            words = len(re.sub(r"\$\$.*?\$\$", "", text, flags=re.S).split())
            assert words <= (190 if kind == "verdict" else 110), (chapter.number, kind, words)
            assert ".ipynb" not in text and "![" not in text and text.count("$") % 2 == 0


@pytest.mark.parametrize(
    "kind, source, said",
    [
        ("question", "# T\n\n> P.\n\n![a](b.png)\n\nOne. Two? Three.", "## 7 T\n\n*P.*\n\nOne. Two?"),
        ("question", "# T\n\n> P.\n\nOne. Two. Three.", "## 7 T\n\n*P.*\n\nOne. Two."),
        (
            "equation",
            "## H\n\nFirst. So [we](1.ipynb) have\n\n$$ a. B $$\n\nand.",
            "So we have\n\n$$ a. B $$",
        ),
        ("equation", "$$ a $$", "\n\n$$ a $$"),
        (
            "prediction",
            "A.\n\nB with $x. Y$. Guess first: which?\n\nC.",
            "A. B with $x. Y$. Guess first: which?",
        ),
        (
            "prediction",
            "A b. *Predict* which of\nthe two wins.\n\nC.",
            "A b. *Predict* which of\nthe two wins.",
        ),
        ("verdict", "## What we know now\n\n- a\n- b", "### 7 What we know now\n\n- a\n- b"),
    ],
)
def test_the_sentences_that_matter(kind, source, said):
    assert slide_text(kind, source, "7") == said
    with pytest.raises(ValueError, match=f"expected one with a {kind}"):
        slide_text(kind, "nothing", "7")


def test_a_cell_that_shows_nothing_is_named_before_anything_runs(tmp_path, monkeypatch):
    book = read_notebook(ROOT / "nbs" / "41_brite.ipynb")
    (chapter,) = select_chapters(["41"])
    monkeypatch.setattr(slides, "find_chapters", lambda root: [chapter])
    monkeypatch.setattr(slides, "read_notebook", lambda path: book)
    assert part_chapters("4", ROOT) == [chapter]
    figure = next(cell for _, kind, cell in tagged(book) if kind == "figure")
    for silent in ("def f():\n    return 1", "x = 1", ""):
        figure.source = silent
        with pytest.raises(ValueError, match="^cell='41_brite: .*a tag promises a figure"):
            part_chapters("4", ROOT)
    figure.source, figure.outputs = "x = 1\nprint(x)", []
    assert part_chapters("4", ROOT) == [chapter]
    with pytest.raises(ValueError, match="^41_brite: cell="):
        deck("4", [(chapter, book)])


def test_a_figure_fits_and_a_widget_is_refused():
    (page,) = figure_html(new_code_cell("f", outputs=[new_output("display_data", FIGURE)]), "Figure 7.1")
    assert f'"height":{slides.HIGH}' in page and "Figure 7.1" in page and "It rises." in page
    for outputs in [], [new_output("display_data", {WIDGET: {}})]:
        with pytest.raises(ValueError, match="cell='f': expected a"):
            figure_html(new_code_cell("f", outputs=outputs))


def book():
    title, end = (
        new_markdown_cell("# T\n\n> P.\n\nOne? $x_1$"),
        new_markdown_cell("## What we know now\n\n- a"),
    )
    figure = new_code_cell("f", outputs=[new_output("display_data", FIGURE)])
    for cell, tag in (title, "slide-question"), (figure, "with-figure"), (end, "slide-verdict"):
        cell.metadata.tags = [tag]
    return new_notebook(cells=[title, figure, new_markdown_cell("not this"), end])


def test_a_deck_asks_nothing_of_the_network(tmp_path):
    pytest.importorskip("sphinx_revealjs")
    (chapter,) = select_chapters(["10"], ROOT)
    page = deck("1", [(chapter, book())])
    assert page.count("<section>") - page.count('<section><section>') == 3 and "not this" not in page
    assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//", page)
    out = write_slides(tmp_path / "out", {"1": page})
    local = re.findall(r"<(?:script|link)[^>]*(?:src|href)=\"([^\"#]+)\"", page)
    assert len(local) >= 5 and all((out / name).is_file() for name in local)
    assert (
        "MIT" in (out / "reveal" / "LICENSE").read_text()
        or "Permission" in (out / "reveal" / "LICENSE").read_text()
    )
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_command_runs_chapters_and_writes_decks(root, monkeypatch, capsys):
    pytest.importorskip("sphinx_revealjs")
    source = book()
    source.cells[1] = new_code_cell("print('shown')", metadata=source.cells[1].metadata)
    for stem in "10_a", "60_b":
        nbformat.write(source, root / "nbs" / f"{stem}.ipynb")
    assert main(["slides", "out", "1", "6", "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert "out/part-1.html" in said and "2 ok" in said
    assert "shown" in (root / "out" / "part-6.html").read_text(encoding="utf-8")
    broken = json.loads((root / "nbs" / "60_b.ipynb").read_text())
    broken["cells"][1]["source"] = "1 / 0"
    (root / "nbs" / "60_b.ipynb").write_text(json.dumps(broken))
    assert main(["slides", "again", "6", "--jobs", "1"]) == 1 and not (root / "again").exists()
