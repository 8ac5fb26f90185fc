"""The form of a chapter, as far as a machine can see it: length, lesson and library, equation, exercises."""

import re
import statistics

import pytest
from test_house import APPENDICES, CHAPTERS, LABS, NBS, READ_ONLY, by_name, cells, label, number

FORMED = [p for p in NBS if p in CHAPTERS or number(p) == 8 if p not in LABS and p.stem not in APPENDICES]
WORDS = 2500
EXERCISES = re.compile(r"^\*\*(\d+[a-z]?\.\d+)\*\*\s*(\*[^*]+\*)?", re.M)


def is_library(cell):
    return "library" in cell.get("metadata", {}).get("tags", [])


def words(path):
    "Words of prose: neither formulas nor code nor the list of sources."
    text = "\n".join(c["source"] for c in cells(path, "markdown"))
    text = text.partition("\n## Where this comes from")[0]
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|```.*?```|\]\([^)]*\)", " ", text, flags=re.S)
    return len(re.findall(r"[A-Za-z][\w'’-]*", text))


def exercises(path):
    "number of an exercise -> its kind, such as 'Build it.', or '' where it says none"
    text = "\n\n".join(c["source"] for c in cells(path, "markdown"))
    return {m[1]: (m[2] or "").strip("*") for m in EXERCISES.finditer(text)}


@pytest.mark.parametrize("path", FORMED, **by_name)
def test_a_chapter_is_one_session_long(path):
    assert 600 <= words(path) <= WORDS, f"{words(path)} words"


@pytest.mark.parametrize("path", FORMED, **by_name)
def test_the_lesson_stands_in_cells_that_a_reader_can_retype(path):
    """A cell of the lesson is short, a kernel or a class excepted; what is longer is a library cell.

    A figure's description does not count, nor do the parameters of a documented signature."""
    sizes = {}
    for cell in cells(path, "code"):
        source = cell["source"]
        if is_library(cell) or re.search(r"^(class |@(triton|gluon)\.jit)", source, re.M):
            continue
        code = re.sub(r"alt=\(.*?\n\s*\),|alt=\"[^\"]*\",?", "", source, flags=re.S)
        # parameters of a documented signature stand one a line
        lines = [x for x in code.splitlines() if x.strip() and not re.match(r"\s+\w+: .*#|\s*#|\)", x)]
        sizes[cell["id"]] = len(lines)
    assert {i: n for i, n in sizes.items() if n > 30} == {}
    assert statistics.median(sizes.values()) <= 15


@pytest.mark.parametrize("path", [p for p in FORMED if p.stem not in READ_ONLY], **by_name)
def test_a_chapter_displays_an_equation(path):
    assert any("$$" in c["source"] for c in cells(path, "markdown"))


@pytest.mark.parametrize("path", FORMED, **by_name)
def test_exercises_are_of_three_kinds_and_have_stubs(path):
    halves = [p for p in FORMED if number(p) == number(path)]
    kinds = {n: kind for p in halves for n, kind in exercises(p).items()}
    assert len(kinds) >= 3 or label(path) == "08"
    for kind in ("Build it.", "Predict", "Find the bug."):
        assert any(k.startswith(kind) for k in kinds.values()) or label(path) == "08", f"none says {kind!r}"
    code = "\n".join(c["source"] for p in halves for c in cells(p, "code"))
    for n, kind in kinds.items():
        if kind in ("Build it.", "Find the bug."):
            assert n in code, f"no stub for {n}"
