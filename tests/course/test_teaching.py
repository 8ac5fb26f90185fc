"The page for teachers: twelve sessions, a half day, and a note on every chapter with exercises."

import json
import re
from pathlib import Path

import pytest
from test_exercises import named_in_chapters

from lla_course.course.runner import select_chapters

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def said(executed):
    "What the cells of the page show, as text."
    book = json.loads(executed(select_chapters(["06"], ROOT)[0]).output.read_text(encoding="utf-8"))
    shown = [o.get("data", {}) for c in book["cells"] for o in c.get("outputs", ())]
    return ["".join(d.get("text/markdown", d.get("text/plain", ""))) for d in shown]


def posed(number):
    "The exercises that stand in the notebook of a chapter."
    (chapter,) = select_chapters([number], ROOT)
    return re.findall(r"\"\*\*(\d\d[a-z]?\.\d+)\*\* ", chapter.path.read_text(encoding="utf-8"))


def table(said, head):
    (text,) = [t for t in said if head in t]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def test_a_term_has_twelve_sessions_of_chapters_in_order(said):
    rows = table(said, "| session |")
    assert [row[0] for row in rows] == [str(i) for i in range(1, 13)]
    chapters = [n for row in rows for n in re.findall(r"\[(\w+)\]", row[2])]
    assert chapters == sorted(chapters) and len(set(chapters)) == len(chapters)
    assert all(40 <= int(row[3]) <= 160 for row in rows)
    counts = [sum(len(posed(n)) for n in re.findall(r"\[(\w+)\]", row[2])) for row in rows]
    assert [int(row[4].split(",")[0]) for row in rows] == counts and min(counts) >= 5


def test_a_half_day_is_four_hours_and_its_exercises_exist(said):
    *blocks, whole = table(said, "| block |")
    assert int(whole[1]) == sum(int(row[1]) for row in blocks) == 240
    assert {row[4] for row in blocks} <= set(named_in_chapters())
    assert next(t for t in said if "in all" in t and "|" not in t).split()[-1] == "90"


def test_every_chapter_with_exercises_has_a_note(said):
    (notes,) = [t for t in said if t.startswith("### ")]
    chapters = dict(re.findall(r"^### (\w+) .*\n((?:(?!^### ).*\n?)*)", notes, re.M))
    assert {n: text for n, text in chapters.items() if not posed(n)} == {}
    assert sum(len(posed(n)) for n in chapters) == len(named_in_chapters())
    hinted = [n for n, text in chapters.items() if "What students get wrong" in text]
    asked = [n for n, text in chapters.items() if "What to ask" in text]
    assert len(hinted) >= 0.9 * len(chapters) and len(asked) >= 0.9 * len(chapters)
    assert notes.count("What to skip") >= 20
