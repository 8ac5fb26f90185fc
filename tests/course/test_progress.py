"What a reader has read and passed: written whole, by check alone, and shown as a table."

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lla_course.course.progress as progress
from lla_course.course.cli import main
from lla_course.course.exercises import check, mark
from lla_course.course.progress import Progress, mark_read, note_passed, progress_file, progress_rows
from lla_course.course.runner import MARK, find_chapters

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    "A user without progress."
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv(MARK, raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.chdir(ROOT)
    return tmp_path / "lla_course"


def stored():
    return json.loads(progress_file().read_text(encoding="utf-8"))


def test_check_notes_what_is_right_once(data, capsys):
    assert progress_file() == data / "progress.json"
    assert not check("10.1", 50) and not data.exists()
    assert mark("10.1", 1) is None and not data.exists()
    assert check("10.1", 1) and list(stored()["passed"]) == ["10.1"]
    first = progress_file().stat().st_mtime_ns
    assert check("10.1", 1) and progress_file().stat().st_mtime_ns == first
    assert sorted(p.name for p in data.iterdir()) == ["progress.json", "progress.lock"]


@pytest.mark.parametrize(
    "name, value", [(MARK, "x"), ("JPY_SESSION_NAME", "/nbs/91_regression_solutions.ipynb")]
)
def test_runs_and_solutions_do_not_count(data, monkeypatch, capsys, name, value):
    monkeypatch.setenv(name, value)
    assert check("10.1", 1) and not data.exists()
    monkeypatch.setenv("JPY_SESSION_NAME", "nbs/10_kernel_regression.ipynb")
    monkeypatch.delenv(MARK, raising=False)
    assert check("10.1", 1) and data.exists()


def test_a_place_that_cannot_be_written_stops_nobody(data, capsys):
    data.parent.joinpath("lla_course").write_text("a file")
    with pytest.warns(UserWarning, match="progress is not kept"):
        assert check("10.1", 1) is True


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"passed": 3, "read": {}}', '{"read": {}}', "\0", pytest.param("[" * 10**5, id="deep")],
)
def test_a_damaged_file_is_put_aside(data, content):
    data.mkdir()
    progress_file().write_text(content)
    with pytest.warns(UserWarning, match="progress.json.damaged"):
        assert note_passed("10.2")
    assert list(stored()["passed"]) == ["10.2"]
    assert (data / "progress.json.damaged").read_text() == content


def test_many_kernels_at_a_time_lose_nothing():
    numbers = [f"10.{i}" for i in range(1, 41)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(note_passed, numbers))
    assert set(stored()["passed"]) == set(numbers)


def test_a_kill_leaves_a_whole_file(data):
    "A process that writes without pause is killed several times: the file is always whole, and goes on."
    code = (
        "import sys, itertools\nfrom lla_course.course.progress import note_passed\n"
        "for i in itertools.count(int(sys.argv[1])):\n    note_passed(f'10.{i}')\n    print(i, flush=True)"
    )
    last = 0
    for _ in range(4):
        words = [sys.executable, "-c", code, str(last + 1)]
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ, text=True)
        for _ in range(5):
            last = int(process.stdout.readline())
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        last = max([last, *map(int, rest)])
        assert {f"10.{i}" for i in range(1, last + 1)} <= set(stored()["passed"])
        last += 1  # it may have been written and not said
        note_passed(f"10.{last}")


def test_the_command_shows_and_marks(capsys):
    assert main(["progress"]) == 0
    said = capsys.readouterr().out
    count = sum(len(done) + len(todo) for *_, done, todo in progress_rows(ROOT))
    assert f"0 of {len(progress_rows(ROOT))} chapters read, 0 of {count} exercises passed" in said
    assert main(["progress", "10", "19"]) == 0
    said = capsys.readouterr().out
    assert "2 of " in said and "The regression lab" in said, "a lab is listed once it is marked"
    note_passed("10.1")
    main(["progress", "19", "--undo"])
    said = capsys.readouterr().out
    assert "1 of 5   still: 10.2, 10.3" in said and "regression lab" not in said
    assert list(stored()["read"]) == ["10_kernel_regression"]


def test_the_index_shows_it_in_the_lab_and_not_on_the_site():
    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text())["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    (source,) = [s for s in sources if "Progress()" in s]
    assert source.startswith("#| hide")
    note_passed("10.1")
    mark_read([c for c in find_chapters(ROOT) if c.number == "10"])
    space = {}
    exec(source.replace("\nProgress()", "\nshown = Progress()"), space)
    page = space["shown"]._repr_html_()
    assert '<a href="10_kernel_regression.ipynb">10 Averaging the neighbours</a>' in page and "●○○○○" in page


def test_the_table_knows_every_exercise_that_can_be_checked():
    from test_exercises import named_in_chapters

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = progress_rows(ROOT)
    assert sorted(n for *_, done, todo in rows for n in done + todo) == named_in_chapters()
    assert repr(Progress(ROOT)).count("\n") == len(rows) + 1
    assert sorted(["9.10", "9.2", "10.1"], key=progress._in_order) == ["10.1", "9.2", "9.10"]


def test_who_only_looks_leaves_nothing(data, capsys):
    assert main(["progress"]) == 0 and "0 of" in capsys.readouterr().out
    assert not data.exists()
