"Running chapters: what is kept, what is run again, what a failure and a kill leave behind."

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature import PARAMETERS, chapter, printed

from lla_course.core import repo_root
from lla_course.course import runner
from lla_course.course.cli import main
from lla_course.course.runner import Chapter, chapter_parameters, find_chapters, run_chapters, select_chapters

SEES = """import os, threading
import beside
print(os.environ["OMP_NUM_THREADS"], os.path.basename(os.getcwd()), beside.word)"""


def states(outcomes):
    return {o.chapter.stem: o.state for o in outcomes}


def test_kept_until_something_changes(root):
    (root / "beside.py").write_text("word = 'found'\n")
    chapter(root, "11_two", SEES)
    first = run_chapters(None, jobs=2)
    assert states(first) == {"00_core": "ok", "11_two": "ok"}
    assert first[0].output == root / "build" / "runs" / "fast" / "00_core.ipynb"
    assert printed(first[0].output) == "fast 0\n"
    cores = len(os.sched_getaffinity(0))
    assert printed(first[1].output) == f"{max(1, cores // 2)} nbs found\n"

    old, young = (root / "build" / "runs" / "fast" / f".00_core.ipynb.{word}" for word in ("old", "young"))
    for path in old, young:
        path.write_text("{")
    os.utime(old, (time.time() - 3600,) * 2)
    second = run_chapters(None, jobs=2)
    assert states(second) == {"00_core": "kept", "11_two": "kept"}
    assert [o.seconds for o in second] == pytest.approx([o.seconds for o in first], abs=0.01)
    assert not old.exists() and young.exists()

    chapter(root, "11_two", "print('changed')")
    assert states(run_chapters(None)) == {"00_core": "kept", "11_two": "ok"}
    only = select_chapters(["00"])
    (changed,) = run_chapters(only, parameters={"seed": 3, "width": 1})
    assert changed.state == "ok" and printed(changed.output) == "fast 3\n"
    assert states(run_chapters(only, parameters={"seed": 3, "width": 1})) == {"00_core": "kept"}


def test_what_the_key_covers(root):
    from lla_course.course.runner import _library_hash, _run_key

    (root / "lla_course").mkdir()
    (root / "kernels").mkdir()
    (root / "nbs" / "results").mkdir()
    key = lambda **values: _run_key(find_chapters(root)[0], values, _library_hash(root))
    keys = [key()]
    for name in "lla_course/a.py", "kernels/b.py", "nbs/results/c.json":
        (root / name).write_text("1")
        keys.append(key())
        (root / name).write_text("2")
        keys.append(key())
    keys += [key(seed=1), key(seed=1.0), key(seed=True)]
    (root / "README.md").write_text("no part of it")
    assert len(set(keys)) == len(keys) and key() == keys[6]


def test_a_failure_is_told_and_stops_nothing_else(root, capfd):
    chapter(root, "05_bad", "x = 1", "# the lesson\ny = x + nothing_like_this", parameters=PARAMETERS)
    chapter(root, "06_dies", "import os, time", "time.sleep(.1); os._exit(9)")
    assert main(["run", "--jobs", "2"]) == 1
    said = capfd.readouterr().out
    assert (
        "05_bad" in said
        and "cell 3: NameError: name 'nothing_like_this' is not defined" in said
        and "| y = x + nothing_like_this" in said
    )
    assert "06_dies" in said and "cell 2: DeadKernelError" in said and "os._exit(9)" in said
    assert "1 ok, 0 kept, 2 failed" in said
    runs = root / "build" / "runs" / "fast"
    assert sorted(p.name for p in runs.iterdir()) == ["00_core.ipynb", "05_bad.failed.ipynb"]
    chapter(root, "05_bad", "x = 1")
    assert main(["run", "05"]) == 0
    assert sorted(p.name for p in runs.iterdir()) == ["00_core.ipynb", "05_bad.ipynb"]


def test_parameters_are_read_as_python_reads_them(root):
    path = chapter(
        root,
        "07_many",
        parameters=(
            'a: int = 1; b = "x=#"  # c = 3\nd = 2 * 3\nprint(a)\ne = f = None\nfor i in []: pass\ng: int\nh,'
            ' i = 1, 2'
        ),
    )
    assert chapter_parameters(select_chapters(["07"])[0]) == {
        "a": 1,
        "b": "x=#",
        "d": None,
        "e": None,
        "f": None,
        "g": None,
    }
    chapter(root, "07_many", parameters="%magic")
    (damaged,) = select_chapters(["07"])
    assert damaged.error.startswith(f"{path}: the parameters cell cannot be read: ")
    with pytest.raises(ValueError, match="07_many: the parameters cell cannot be read"):
        chapter_parameters(damaged)
    path.write_text("[")
    assert select_chapters(["07_many"])[0].error.startswith(f"{path} is not a notebook: ")


def test_the_book_has_unique_names():
    chapters = find_chapters(repo_root())
    assert all(c.title and c.summary for c in chapters)
    # all in one call: each reads the whole book
    assert select_chapters([c.stem for c in chapters]) == chapters
    assert select_chapters([str(c.path) for c in chapters]) == chapters


# ---- values are never code

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)
ODD = st.sampled_from(
    [
        (1,),
        ("',); __import__('os').abort(); ('",),
        b"x",
        {1},
        frozenset(),
        ...,
        1j,
        range(2),
        type("S", (str,), {})("x"),
        type("L", (list,), {})(),
        type("I", (int,), {})(1),
        np.float64(1),
        Path("x"),
        "\ud800",
        {1: 2},
        {(1,): 2},
        {True: 2},
        {b"x": 2},
        {None: 2},
        {"\ud800": 1},
        object(),
    ]
)


def nested(inner):
    return st.lists(inner, min_size=1, max_size=2) | st.dictionaries(TEXT, inner, min_size=1, max_size=2)


@given(PLAIN)
def test_a_plain_value_arrives_as_it_was_given(value):
    from papermill.translators import PythonTranslator

    assert runner._is_plain(value)
    found = {}
    exec(PythonTranslator.codify({"x": value}), found)
    assert repr(found["x"]) == repr(value)


@given(st.recursive(ODD, nested))
def test_what_json_cannot_hold_does_not_reach_a_chapter(value):
    book = Chapter(Path("10_a.ipynb"), "10_a", 10, "A", "", None)
    with pytest.raises(ValueError, match="x=.*: expected a plain value"):
        runner._check_type(book, "x", value, None)


def test_lists_without_end_are_refused():
    endless = []
    endless.append(endless)
    deep = []
    for _ in range(10_000):
        deep = [deep]
    for value in endless, deep:
        assert not runner._is_plain(value)
    assert not runner._is_plain({"a": [endless]})
