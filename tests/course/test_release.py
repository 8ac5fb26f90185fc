"""The exercises as a course of nbgrader: right answers get full marks; stubs and wrong answers none; and what
students get holds no solution."""

import ast
import json
import os
import re
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_exercises import ANSWERS, fails, named_in_chapters

import lla_course.course.release as release
from lla_course.course.cli import main
from lla_course.course.release import PARTS, answer_source, hidden_test, part_assignments, write_release
from lla_course.course.runner import find_chapters

ROOT = Path(__file__).resolve().parents[2]
nbgrader = pytest.mark.skipif(not __import__("importlib").util.find_spec("nbgrader"), reason="extra teach")
COURSE = {part: part_assignments(part, ROOT) for part in PARTS}
EXERCISES = {e.number: (needs, e) for c in COURSE.values() for _, needs, all in c.values() for e in all}
WRONG = (12345.0, "one", fails)


def code(notebook, name):
    "The source of one cell."
    (cell,) = [c for c in notebook["cells"] if c["metadata"]["nbgrader"]["grade_id"] == name]
    return "".join(cell["source"])


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    "number -> its notebook as nbgrader releases it."
    pytest.importorskip("nbgrader")
    out = tmp_path_factory.mktemp("course") / "out"
    write_release(out, COURSE, out)  # not a checkout: no package is built
    books = {}
    for part, chapters in COURSE.items():
        for stem, (_, _, exercises) in chapters.items():
            book = json.loads((out / "release" / f"part-{part}" / f"{stem}.ipynb").read_text("utf-8"))
            books |= {e.number: book for e in exercises}
    return books


def marks(exercise, space, answer=...):
    "Whether nbgrader would give the points: the hidden test passes, after the cells before it."
    if answer is not ...:
        space[exercise.answer] = answer
    try:
        exec(hidden_test(exercise), space)
    except AssertionError as error:
        assert len(str(error)) > 10, "a hint comes along"
        return False
    return True


@nbgrader
@pytest.mark.xdist_group("release")
@pytest.mark.parametrize("number", EXERCISES)
def test_right_is_full_stub_and_wrong_are_zero(number, released):
    needs, exercise = EXERCISES[number]
    name = number.replace(".", "-")
    before = {}
    exec(needs, before)
    untouched = dict(before)
    exec(code(released[number], f"answer-{name}"), untouched)
    assert not marks(exercise, untouched)
    solved = dict(before)
    exec(answer_source(exercise), solved)
    assert marks(exercise, solved)
    wrong = [*ANSWERS.get(number, ([], []))[1], *WRONG][:3]
    assert len(wrong) == 3 and not any(marks(exercise, dict(before), answer) for answer in wrong)


def test_every_exercise_of_the_book_is_in_one_assignment():
    assert sorted(EXERCISES) == named_in_chapters()
    assert sum(len(c) for p in COURSE.values() for *_, c in p.values()) == len(EXERCISES)
    kinds = {e.kind: e.points for _, e in EXERCISES.values()}
    assert kinds["Build it."] == 3 and kinds["Find the bug."] == 2 and kinds["Predict, then run."] == 1


def lines(source):
    "What a line of code says, without its place and its comments."
    return {t for line in source.splitlines() if len(t := re.sub(r"\s*#.*|\s", "", line)) > 8}


@nbgrader
@pytest.mark.xdist_group("release")
@pytest.mark.parametrize("number", EXERCISES)
def test_no_solution_is_in_what_students_get(number, released):
    needs, exercise = EXERCISES[number]
    whole = "\n".join("".join(c["source"]) for c in released[number]["cells"])
    assert exercise.text.splitlines()[0].partition("** ")[2][:60] in whole and "SOLUTION" not in whole
    assert "HIDDEN" not in whole and "lla_course.solutions" not in whole and "mark(" not in whole
    given = lines(needs) | lines("\n".join(e.stub for _, e in EXERCISES.values()))
    given |= {line for line in lines(exercise.solution) if line.startswith(("import", "from"))}
    assert (lines(exercise.solution) - given) & lines(whole) == set()
    mine = code(released[number], f"answer-{number.replace('.', '-')}")
    given = f"{exercise.stub}\n{exercise.answer} = {exercise.given or None}"
    assert ast.dump(ast.parse(mine)) == ast.dump(ast.parse(given)), "the stub, and the name of the answer"
    assert mine.count("# your answer here") == 1


@nbgrader
@pytest.mark.slow
@pytest.mark.xdist_group("release")
def test_nbgrader_marks_three_students(tmp_path, capsys):
    "The command, then nbgrader's own: one who is right, one who hands in the stubs, and one who is wrong."
    part = "1"
    out = tmp_path / "course"
    assert main(["release", str(out), part]) == 0 and str(out) in capsys.readouterr().out
    chapters = COURSE[part]
    for stem in chapters:
        for student in ("right", "stubs", "wrong"):
            from_ = "source" if student == "right" else "release"
            book = json.loads((out / from_ / f"part-{part}" / f"{stem}.ipynb").read_text("utf-8"))
            for cell in book["cells"] if student == "wrong" else ():
                if cell["metadata"]["nbgrader"]["solution"]:
                    name = cell["metadata"]["nbgrader"]["grade_id"].replace("-", "_")
                    cell["source"] = "".join(cell["source"]) + f"\n\n{name} = 12345.0"
            to = out / "submitted" / student / f"part-{part}" / f"{stem}.ipynb"
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(json.dumps(book), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", "autograde", f"part-{part}"],
        cwd=out,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert scores(out / "gradebook.db") == {"right": 1.0, "stubs": 0.0, "wrong": 0.0}
    (wheel,) = (out / "student").glob("*.whl")
    assert "+student" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert not [n for n in names if "solutions/" in n] and any("exercises.py" in n for n in names)
    papers = [n for n in names if re.search(r"9[1-6]_.*_solutions|02e_|06_", n)]
    assert len(papers) == len(PARTS) + 2 and all(
        zipfile.ZipFile(wheel).getinfo(n).file_size < 500 for n in papers
    )


def scores(gradebook):
    "student -> share of the points, as nbgrader has them."
    with sqlite3.connect(gradebook) as base:
        rows = base.execute(
            "select s.student_id, sum(coalesce(g.manual_score, g.auto_score, 0)), sum(c.max_score)"
            " from grade g join grade_cells c on g.cell_id = c.id"
            " join submitted_notebook n on g.notebook_id = n.id"
            " join submitted_assignment s on n.assignment_id = s.id group by s.student_id"
        )
        return {student: got / most for student, got, most in rows}


def test_a_copy_without_graders_says_so(monkeypatch, capsys):
    import lla_course.course.exercises as exercises

    monkeypatch.setattr(exercises, "GRADERS", {})
    monkeypatch.setattr(exercises, "find_spec", lambda name: None)
    assert exercises.check("10.1", 1) is False
    assert "marked when you hand it in" in capsys.readouterr().out


@nbgrader
@pytest.mark.parametrize("error, status", [(OSError("full"), 1), (KeyboardInterrupt(), 130)])
@pytest.mark.parametrize("made", [True, False])
def test_a_release_that_is_stopped_leaves_nothing(tmp_path, monkeypatch, capsys, error, status, made):
    def stop(*_):
        raise error

    monkeypatch.setattr(release, "_generate", stop)
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out"
    if made:
        out.mkdir()
    assert main(["release", str(out), "4"]) == status
    assert [p for p in tmp_path.rglob("*") if p != out] == [] and out.is_dir() == made


def test_an_exercise_without_a_solution_is_named(tmp_path):
    chapter = next(c for c in find_chapters(ROOT) if c.number == "10")
    with pytest.raises(ValueError, match="exercise='10.1': expected a solution"):
        release.chapter_exercises(chapter, {})
    (tmp_path / "nbs").mkdir()
    with pytest.raises(ValueError, match="part='1': expected a part whose solutions are here"):
        part_assignments("1", tmp_path)


@pytest.mark.parametrize("part", ["0", "7", "12", "123456", "", "part-1"])
def test_a_part_that_is_none_is_named(part):
    with pytest.raises(ValueError, match=f"^part='{part}': expected one of 1 to 6"):
        part_assignments(part, ROOT)


@nbgrader
def test_points_are_kept_whatever_the_path(tmp_path):
    one = {"5": COURSE["5"]}
    out = write_release(tmp_path / "100% of a b #1 \u00e9", one, tmp_path)
    assert (out / "gradebook.db").is_file()
    with pytest.raises(ValueError, match="^folder=.*without '[?]'"):
        write_release(tmp_path / "what?", one, tmp_path)
    assert list(tmp_path.iterdir()) == [out]
