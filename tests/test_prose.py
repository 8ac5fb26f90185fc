"""Every number in the prose of chapters 10 to 69 can be read off its chapter.

A number in a Markdown cell has to be in an output (a printed line, a table, words in a figure) of its own
section or a neighbouring one, or in the code or a formula of the chapter. Rounding is undone (0.53 stands
for 0.5312), and "53 per cent" may stand for 0.53. What no cell prints is either computed from a record, in
the words of the sentence (`COMPUTED`), or listed with the reason why it needs no cell (`GIVEN`).

Numbers of one digit are nearly always found somewhere, so this test says little about them. What it is
worth for the others is measured in `test_a_number_that_is_moved_by_one_is_noticed`. Numbers in words, and
whether the sentence around a number is true, are not looked at."""

import json
import re

import pytest

from claims import CLAIMS
from lla_course.core import repo_root
from lla_course.course.runner import find_chapters
from prose_numbers import COMPUTED, GIVEN

CHAPTERS = [c for c in find_chapters() if re.match(r"[1-6]\d", c.stem)]
PLAIN = str.maketrans({"−": "-", "–": "-", "\u2009": "", "\u202f": "", "\xa0": " "})
NUMBER = re.compile(r"(?<![A-Za-z0-9_.])(?=\.?\d)(\d{1,3}(?:[, ]\d{3})+(?!\d)|\d+)?(\.\d+)?(?!\d)")
PRINTED = re.compile(r"(?<![A-Za-z_\d.])(?=\.?\d)(\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(\.\d+)?(e[-+]?\d+)?")
HUNDREDTHS = re.compile(
    r"[ -]*(%|per cent|parts in (a|one) hundred|hundredths|points|of a hundred|times in a hundred)"
)
UNITS = re.compile(
    r"[ -]*(thousand|million|billion|trillion|milli|micro|nano|kilo|mega|giga|ms\b|[µu]s\b|[kKMG]B\b)"
)
REFERENCE = re.compile(
    r"(?i)\b(chapters?|parts?|sections?|cells?|equations?|eqs?\.|figures?|fig\.|tables?|theorems?|"
    r"propositions?|lemmas?|exercises?|bench|python|torch|triton)\s+"
    r"\(?\d[\w.]*\)?((,? and |, | or | to |-)\(?\d[\w.]*\)?)*"
)
ADDRESS = r"\((?:[^()]|\([^()]*\))*\)"  # of a link; a DOI may hold brackets
BITS = re.compile(r"\b(8|16|32|64)[- ]bits?\b")


def text(cell):
    return "".join(cell["source"])


def sentences(markdown):
    "Markdown without code, formulas, addresses, tags, references to chapters, years and exercises."
    words = re.sub(r"(?ms)^## Exercises\n.*?(?=^## |\Z)", " ", markdown.translate(PLAIN))
    words = re.sub(r"```.*?```|\$\$.*?\$\$", " ", words, flags=re.S)
    words = re.sub(r"`[^`]*`|\$[^$\n]*\$|<[^>]+>|!\[[^\]]*\]\([^)]*\)", " ", words)
    words = re.sub(r"\[(\d\d\w?(_\w+)?|[^\]]*\b(1[0-9]|20)\d\d\w?)\]" + ADDRESS, " ", words)
    words = re.sub(r"\]" + ADDRESS, "]", words)
    words = re.sub(r"(?m)^\s*\d+\.\s", " ", words)
    return re.sub(r"\b(19|20)\d\d\b", " ", BITS.sub(" ", REFERENCE.sub(" ", words)))


def figure_words(figure):
    "What is written in a plotly figure: titles, names, ticks, notes; not its data."
    found = []

    def walk(node, key=None):
        if isinstance(node, dict):
            for name, value in node.items():
                if name != "template":
                    walk(value, name)
        elif isinstance(node, list):
            for value in node:
                walk(value, key)
        elif isinstance(node, str) and key in ("text", "name", "title", "label", "ticktext"):
            found.append(node)

    walk(figure)
    return "\n".join(found)


def printed(cells):
    "All that a reader can read in the outputs of these cells."
    found = []
    for cell in cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if output.get("name") == "stdout":
                found.append("".join(output["text"]))
            elif "application/vnd.plotly.v1+json" in data:
                found.append(figure_words(data["application/vnd.plotly.v1+json"]))
            elif "text/html" in data:
                found.append(
                    re.sub(r"<style.*?</style>|<[^>]+>", " ", "".join(data["text/html"]), flags=re.S)
                )
            else:
                found += ["".join(data[kind]) for kind in ("text/markdown", "text/plain") if kind in data]
    return "\n".join(found).translate(PLAIN)


def values(words):
    return {float(m[0].replace(",", "")) for m in PRINTED.finditer(words)}


def decimals(number):
    return len(number.partition(".")[2])


def stands_for(number, after, known):
    "Is `number`, as it is written before the words `after`, one of the known values, rounded?"
    factors = [1.0]
    if HUNDREDTHS.match(after):
        factors.append(100.0)
    if UNITS.match(after):
        factors += [1e3, 1e-3, 1e6, 1e-6, 1e9, 1e-9]
    written, places = float(number), decimals(number)
    half = 0.5 * 10**-places * (1 + 1e-9)
    return any(abs(v * f - written) <= half for v in known for f in factors)


class Chapter:
    "An executed chapter, and what each of its sections may take its numbers from."

    def __init__(self, notebook):
        self.cells = notebook["cells"]
        self.sections = []
        section = 0
        for cell in self.cells:
            section += cell["cell_type"] == "markdown" and bool(re.search(r"(?m)^## ", text(cell)))
            self.sections.append(section)
        code = "\n".join(text(c) for c in self.cells if c["cell_type"] == "code")
        markdown = "\n".join(text(c) for c in self.cells if c["cell_type"] == "markdown")
        formulas = re.findall(r"\$\$.*?\$\$|\$[^$\n]*\$|`[^`]*`", markdown, flags=re.S)
        self.everywhere = values(code) | values("\n".join(formulas).translate(PLAIN))
        self.outputs = {
            s: values(printed(c for c, at in zip(self.cells, self.sections) if at == s))
            for s in set(self.sections)
        }

    def known(self, i):
        "The values that cell `i` may speak of: the opening and the closing cells speak of the whole chapter."
        here = self.sections[i]
        near = range(here - 2, here + 2)
        if here == 0 or "## What we know now" in text(self.cells[i]):
            near = self.outputs
        return self.everywhere.union(*(self.outputs.get(s, set()) for s in near))

    def numbers(self):
        "Every number in prose: (cell, number, the words before, the words after)."
        posed = False  # an exercise sets its numbers itself, in all cells up to the next heading
        for i, cell in enumerate(self.cells):
            if cell["cell_type"] == "markdown":
                own = text(cell)
                if posed:
                    own = re.split(r"(?m)^(?=## )", own, maxsplit=1)[1] if re.search(r"(?m)^## ", own) else ""
                headings = re.findall(r"(?m)^## (.*)", own)
                posed = headings[-1] == "Exercises" if headings else posed
                words = sentences(own)
                for m in NUMBER.finditer(words):
                    before = " ".join(words[max(0, m.start() - 60) : m.start()].split())
                    yield i, re.sub("[, ]", "", m[0]), before, words[m.end() : m.end() + 30]


@pytest.fixture(scope="module")
def chapters(executed):
    read = {}

    def open_chapter(path):
        if path.stem not in read:
            read[path.stem] = Chapter(json.loads(executed(path).output.read_text()))
        return read[path.stem]

    return open_chapter


def backed_elsewhere(chapter, stem, i):
    "The parts of cell `i` whose numbers are computed here or given."
    parts = [part for part, _ in GIVEN.get(stem, ())] + [sentence() for sentence in COMPUTED.get(stem, ())]
    return [part for part in parts if part in text(chapter.cells[i])]


def without(words, parts):
    for part in parts:
        words = words.replace(part, " ")
    return words


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda c: c.stem)
def test_every_number_is_on_the_page(path, chapters):
    chapter = chapters(path)
    for i, cell in enumerate(chapter.cells):
        if cell["cell_type"] == "markdown":
            cell["source"] = without(text(cell), backed_elsewhere(chapter, path.stem, i))
    lost = [
        f"cell {i}: ... {before} [{number}]{after!r}"
        for i, number, before, after in chapter.numbers()
        if not stands_for(number, after, chapter.known(i))
    ]
    assert not lost, f"{path.stem}: no cell shows\n" + "\n".join(lost)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda c: c.stem)
def test_sentences_with_numbers_from_records_stand_in_the_chapter(path):
    "What is computed or given is still in the chapter, to the letter."
    markdown = "\n".join(
        text(c) for c in json.loads(path.path.read_text())["cells"] if c["cell_type"] == "markdown"
    )
    for sentence in COMPUTED.get(path.stem, ()):
        assert sentence() in markdown, f"{path.stem} does not say: {sentence()}"
    for part, reason in GIVEN.get(path.stem, ()):
        assert part in markdown, f"{path.stem} does not say: {part}"
        assert re.search(r"\d", part) and len(reason.split()) >= 3, (part, reason)


def test_a_number_that_is_moved_by_one_is_noticed(chapters):
    "Of the numbers with two digits or more, two in three are found out if the last digit is off by one."
    moved = noticed = 0
    for path in CHAPTERS:
        chapter = chapters(path)
        for i, number, _, after in chapter.numbers():
            if len(number.replace(".", "").lstrip("0")) >= 2:
                places = decimals(number)
                wrong = f"{float(number) + 10**-places:.{places}f}"
                moved += 1
                noticed += not stands_for(wrong, after, chapter.known(i))
    assert moved > 500 and noticed > 0.66 * moved, (moved, noticed)


def test_a_number_that_no_cell_shows_is_found_out():
    cells = [
        {"cell_type": "markdown", "source": "## One\nThe error is 0.53, or 53 per cent, of 1,200 rows."},
        {
            "cell_type": "code",
            "source": "x",
            "outputs": [{"name": "stdout", "text": "error 0.5312, rows 1200"}],
        },
        {
            "cell_type": "markdown",
            "source": "It falls to 0.54 in chapter 77 (see [Stone 1982](https://doi.org/1/2)).",
        },
    ]
    chapter = Chapter({"cells": cells})
    found = {number: stands_for(number, after, chapter.known(i)) for i, number, _, after in chapter.numbers()}
    assert found == {"0.53": True, "53": True, "1200": True, "0.54": False}


def bullets(path):
    "The lines of *What we know now*."
    markdown = [text(c) for c in json.loads(path.path.read_text())["cells"] if c["cell_type"] == "markdown"]
    closing = [
        m.split("## What we know now")[1].split("\n## ")[0] for m in markdown if "## What we know now" in m
    ]
    return [b[2:] for b in closing[0].splitlines() if b.startswith("- ")] if closing else []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda c: c.stem)
def test_each_closing_line_has_something_that_would_notice_if_it_failed(path):
    cells = {c["id"]: text(c) for c in json.loads(path.path.read_text())["cells"] if c["cell_type"] == "code"}
    claims = CLAIMS[path.stem]
    lines = bullets(path)
    assert len(claims) == len(lines), f"{path.stem}: {len(lines)} lines and {len(claims)} claims"
    for line, (begins, fails, where) in zip(lines, claims):
        assert line.startswith(begins) and len(begins) >= 12, (path.stem, line, begins)
        assert len(fails.split()) >= 5, (path.stem, begins)
        for place in where.split(" + "):
            kind, _, name = place.partition("::")
            if kind.startswith("cell "):
                assert "assert" in cells.get(kind[5:], ""), f"{path.stem}: {place} asserts nothing"
            else:
                assert re.search(rf"^def {name}\(", (repo_root() / kind).read_text(), re.M), f"no {place}"
