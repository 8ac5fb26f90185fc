"What a kill, a full disk, a closed pipe or a damaged file costs: itself, in words, and nothing else."

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from miniature import chapter

from lla_course.course import runner
from lla_course.course.cli import main
from lla_course.course.runner import Chapter, find_chapters, run_chapters

LIBRARY = str(Path(runner.__file__).parents[2])
COMMAND = [sys.executable, "-m", "lla_course.course.cli"]


def environment(**more):
    return {**os.environ, "PYTHONPATH": LIBRARY, "OMP_NUM_THREADS": "1", **more}


def usual_signals():
    "A suite that was started in the background has some signals switched off."
    for name in "SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE":
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def started(root, *words, command=COMMAND):
    "The command under way, in a session of its own."
    return subprocess.Popen(
        [*command, *words],
        cwd=root,
        env=environment(TMPDIR=str(root)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=usual_signals,
    )


def done(root, *words, **more):
    return subprocess.run(
        [*COMMAND, *words], cwd=root, env=environment(**more), capture_output=True, text=True
    )


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return found


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(root):
    "Every process that was started, however far it has wandered: the temporary folder is in its environment."
    found = []
    for p in psutil.process_iter():
        try:
            if p.environ().get("TMPDIR") == str(root) and alive(p):
                found.append(p)
        except psutil.Error:
            pass
    return found


def workers(main):
    return [p for p in psutil.Process(main.pid).children() if "spawn_main" in " ".join(p.cmdline())]


# The shell is gone at once, so that its child belongs to nobody; it is also in a session of its own.
STRAY = """import os, subprocess, time
from pathlib import Path
subprocess.run("setsid sleep 301 & sleep 302 &", shell=True)
Path(os.environ["TMPDIR"], "started").touch()
if not Path(os.environ["TMPDIR"], "go").exists(): time.sleep(303)"""


def test_a_killed_worker_costs_its_own_chapter(root):
    chapter(root, "01_slow", STRAY)
    for stem in "02_next", "03_last":
        chapter(root, stem, "1")
    running = started(root, "run", "--jobs", "1")
    wait_for((root / "started").exists)
    (worker,) = workers(running)
    worker.kill()
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 1 and "3 ok, 0 kept, 1 failed" in said and "Traceback" not in said
    assert "01_slow                      failed" in said and "its process was killed" in said
    wait_for(lambda: not family(root), 5)
    assert not list(root.glob("lla-*"))


BLOWS = ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP to all"]


def strike(running, blow):
    "Send a process, or its whole group, a signal, and see it end without a traceback; returns what it said."
    number = getattr(signal, blow.split()[0])
    (os.killpg if "all" in blow else os.kill)(running.pid, number)
    said, _ = running.communicate(timeout=15)
    assert running.returncode == (-9 if blow == "SIGKILL" else 128 + number) and "Traceback" not in said
    assert "resource_tracker" not in said or blow == "SIGKILL"
    return said


@pytest.mark.parametrize("blow", BLOWS)
def test_nothing_outlives_a_run_which_goes_on_later(root, blow, monkeypatch):
    chapter(root, "01_slow", STRAY)
    running, runs = started(root, "run", "--jobs", "1"), root / "build" / "runs" / "fast"
    wait_for(lambda: (runs / "00_core.ipynb").exists() and (root / "started").exists())
    said = strike(running, blow)
    assert "stopped; the same command goes on from here" in said or blow == "SIGKILL"
    wait_for(lambda: not family(root), 10)
    assert not list(root.glob("lla-*")) and [p.name for p in runs.glob("*.ipynb")] == ["00_core.ipynb"]
    if blow != "SIGKILL":
        return
    (root / "go").touch()
    monkeypatch.setenv("TMPDIR", str(root))
    assert {o.chapter.stem: o.state for o in run_chapters(None)} == {"00_core": "kept", "01_slow": "ok"}


LONG = """
import os, subprocess, time
from dataclasses import dataclass
from pathlib import Path
@dataclass(frozen=True)
class Config:
    n: int
def cells(preset): return {name: Config(n) for n, name in enumerate(["one", "two", "three"])}
def run(cfg):
    if cfg.n: 
        subprocess.run("sleep 304 &", shell=True)
        Path(os.environ["TMPDIR"], f"started_{cfg.n}").touch()
        time.sleep(305)
    return {"n": cfg.n}
"""
RECORD = """
import os, sys
if "BARE" in os.environ: sys.modules["psutil"] = None   # as on a machine without Jupyter
import lla_course
from lla_course.course.cli import main
lla_course.__path__.append(os.environ["TMPDIR"])
if __name__ == "__main__": raise SystemExit(main())
"""


@pytest.fixture
def long(root):
    "A chapter whose second and third cells take for ever."
    (root / "part").mkdir()
    (root / "part" / "long.py").write_text(LONG)
    (root / "record.py").write_text(RECORD)
    chapter(root, "12_long", "1", module="part.long")
    return root


@pytest.mark.parametrize("blow", BLOWS)
def test_nothing_outlives_a_recording(long, blow, monkeypatch):
    if blow == "SIGTERM":
        monkeypatch.setenv("BARE", "1")
    running = started(long, "record", "12", "--jobs", "2", command=[sys.executable, "record.py"])
    wait_for(lambda: (long / "started_1").exists() and (long / "started_2").exists())
    strike(running, blow)
    wait_for(lambda: not family(long), 10)
    assert [p.name for p in (long / "nbs" / "results" / "long").iterdir()] == ["one.json"]


# ---- damaged notebooks

SOUND = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
CODE = {"cell_type": "code", "source": "1", "metadata": {}, "outputs": [], "execution_count": None}


def notebook(**more):
    return json.dumps({**SOUND, **more})


def cell(**more):
    return notebook(cells=[CODE, {**CODE, **more}])


DAMAGED = {
    "no byte": "",
    "no JSON": "<<<<<<< HEAD\n{",
    "half of it": notebook()[:-5],
    "not UTF-8": b'{"cells": "\xff"}',
    "a list": "[]",
    "null": "null",
    "text": '"cells"',
    "deep": "[" * 100_000,
    "only a brace": "{}",
    "cells null": notebook(cells=None),
    "cells a number": notebook(cells=3),
    "cells text": notebook(cells="abc"),
    "cells an object": notebook(cells={"0": CODE}),
    "cell null": notebook(cells=[None]),
    "cell text": notebook(cells=["x"]),
    "no source": notebook(cells=[{"cell_type": "code", "metadata": {}}]),
    "source null": cell(source=None),
    "source a number": cell(source=3),
    "source of numbers": cell(source=[1]),
    "no metadata": notebook(cells=[{"cell_type": "code", "source": ""}]),
    "metadata null": cell(metadata=None),
    "tags null": cell(metadata={"tags": None}),
    "tags text": cell(metadata={"tags": "parameters"}),
    "tags of numbers": cell(metadata={"tags": [1]}),
    "no such type": cell(cell_type="poem"),
    "type a list": cell(cell_type=["code"]),
    "outputs null": cell(outputs=None),
    "outputs of texts": cell(outputs=["x"]),
    "attachments null": cell(cell_type="markdown", attachments=None),
    "attachments of texts": cell(cell_type="markdown", attachments={"a": "b"}),
    "book without metadata": notebook(metadata=None),
    "old": notebook(nbformat=3),
    "no format": json.dumps({"cells": [], "metadata": {}}),
    "format text": notebook(nbformat="4"),
    "no Python": cell(source="%magic", metadata={"tags": ["parameters"]}),
    "null byte": cell(source="a = '\0'", metadata={"tags": ["parameters"]}),
    "brackets": cell(source="a = " + "(" * 5000, metadata={"tags": ["parameters"]}),
}
PLACES = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "dead link": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
}


@pytest.fixture
def quick(monkeypatch):
    "Chapters are not run, but count as run."

    def in_parallel(todo, jobs, root):
        for each, _, _, target in todo:
            yield runner.Outcome(each, "ok", 1.0, target)

    monkeypatch.setattr(runner, "_run_in_parallel", in_parallel)


@pytest.mark.parametrize("damage", [*DAMAGED, *PLACES])
def test_a_damaged_notebook_costs_itself(root, capsys, quick, monkeypatch, damage):
    from lla_course.course import site

    path = root / "nbs" / "12_bad.ipynb"
    if damage in PLACES:
        PLACES[damage](path)
    else:
        path.write_bytes(content if isinstance(content := DAMAGED[damage], bytes) else content.encode())
    chapter(root, "13_last", "1")
    built = []
    monkeypatch.setattr(site, "build_site", lambda *place, **more: built.append(more["chapters"]))
    for words in ["list"], ["run"], ["site"]:
        assert main(words) == 1
        said = capsys.readouterr()
        lines = [line for line in (said.out + said.err).splitlines() if str(path) in line]
        assert len(lines) == 1 and "Traceback" not in said.err
        assert all(len(line) < 600 for line in lines)
        if words != ["list"]:
            assert "13_last                      ok" in said.out
        if words == ["site"]:
            assert said.err.splitlines() == lines
    assert built == [["00_core", "13_last"]]
    assert main(["run", "12", "13"]) == 1 and "1 ok, 0 kept, 1 failed" in capsys.readouterr().out
    assert main(["record", "12"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and ("exports a module" in said or str(path) in said)


def test_a_link_to_a_damaged_notebook_is_told_at_once(root, capsys, quick):
    (root / "nbs" / "12_bad.ipynb").write_text("{")
    link = dict(cell_type="markdown", metadata={}, source="# A\n\n[b](12_bad.ipynb)")
    (root / "nbs" / "11_a.ipynb").write_text(notebook(cells=[link]))
    assert main(["site"]) == 2
    said = capsys.readouterr()
    assert "11_a.ipynb links to 12_bad.ipynb" in said.err and "12_bad.ipynb is not a notebook" in said.err
    assert said.err.count("\n") == 1 and said.out == "" and not (root / "build").exists()


@pytest.mark.parametrize("stem", ["x.failed", "two\nlines", "esc\x1b[31m"])
def test_names_that_cannot_be_used(root, capsys, quick, stem):
    (root / "nbs" / f"{stem}.ipynb").write_text(notebook())
    assert main(["run"]) == 1
    said = capsys.readouterr().out
    assert "1 ok, 0 kept, 1 failed" in said and ": its name " in said


# ---- damaged state


def state(**more):
    about = {"key": "k", "seconds": 1.0, "hash": "h", **more}
    return json.dumps({"cells": [], "metadata": {"lla_course": about}})


STATES = {
    "empty": "",
    "half": '{"metadata": {"lla',
    "null": "null",
    "list": "[]",
    "metadata null": '{"metadata": null}',
    "about null": '{"metadata": {"lla_course": null}}',
    "about list": '{"metadata": {"lla_course": []}}',
    "about text": '{"metadata": {"lla_course": "x"}}',
    "no seconds": '{"metadata": {"lla_course": {"key": "k"}}}',
    "no key": '{"metadata": {"lla_course": {"seconds": 1}}}',
    "text seconds": state(seconds="long"),
    "NaN": state(seconds=float("nan")),
    "no such time": state(seconds=-1),
    "list as key": state(key=["k"]),
    "cells null": state().replace("[]", "null"),
    "other cells": state(),
    "deep": "[" * 100_000,
    "not UTF-8": b"\xff",
}


@pytest.mark.parametrize("damage", STATES)
def test_a_damaged_run_is_named_and_runs_again(root, capsys, quick, damage):
    chapter(root, "13_last", "1")
    path = root / "build" / "runs" / "fast" / "13_last.ipynb"
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content := STATES[damage], bytes) else content.encode())
    for words, shown in (["list"], "never"), (["run"], "13_last                      ok"):
        assert main(words) == 0
        said = capsys.readouterr()
        assert shown in said.out and said.err.count("\n") == 1 and str(path) in said.err


def test_a_run_that_was_altered_runs_again(root, capsys, quick):
    path, draft = root / "build" / "runs" / "fast" / "00_core.ipynb", root / "draft.ipynb"
    (book,) = find_chapters(root)
    draft.write_text(cell(outputs=[{"output_type": "stream", "name": "stdout", "text": ["fast 0\n"]}]))
    key = runner._run_key(book, {"preset": "fast"}, runner._library_hash(root))
    runner._store_run(draft, runner.Outcome(book, "ok", 1.0, path), key=key)
    assert [o.state for o in run_chapters(None)] == ["kept"] and capsys.readouterr().err == ""
    path.write_text(path.read_text().replace("fast 0", "fast 1"))
    assert [o.state for o in run_chapters(None)] == ["ok"]
    assert f"{path} is not what a run has left there" in capsys.readouterr().err
    path.unlink()
    path.mkdir()
    (failed,) = run_chapters(None)
    assert failed.state == "failed" and failed.error == f"{path} is a folder, and in the way"


# ---- disks, places, consoles


def test_a_full_disk_says_so(tmp_path, monkeypatch):
    import papermill

    full = OSError(errno.ENOSPC, "No space left on device")
    book, target = Chapter(tmp_path / "10_a.ipynb", "10_a", 10, "A", "", None), tmp_path / "10_a.ipynb"

    def half(chapter, draft, *args, **more):
        Path(draft).write_text('{"cells": [')
        raise full

    monkeypatch.setattr(papermill, "execute_notebook", half)
    outcome = runner._execute(book, {}, "key", target, None)
    assert outcome.state == "failed" and "No space left on device" in outcome.error
    assert "JSON" not in outcome.error
    monkeypatch.setattr(
        papermill,
        "execute_notebook",
        lambda chapter, draft, *args, **more: Path(draft).write_text(notebook()),
    )

    def no_room(*args):
        raise full

    monkeypatch.setattr(runner, "write_atomic", no_room)
    outcome = runner._execute(book, {}, "key", target, None)
    assert outcome.state == "failed" and outcome.error == f"{target}: No space left on device"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("words", [["run"], ["site"], ["lab"], ["run", "00"]])
@pytest.mark.parametrize("place", ["build", "build/runs", "read-only"])
def test_a_place_that_cannot_be_written_to_is_refused(root, capsys, monkeypatch, quick, words, place):
    if place == "read-only":

        def refuse(*args, **more):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(runner.tempfile, "TemporaryDirectory", refuse)
    else:
        (root / place).parent.mkdir(exist_ok=True)
        (root / place).touch()
    monkeypatch.setattr(os, "execve", lambda *args: pytest.fail("it was started"))
    if words == ["lab"] and place == "build/runs":
        return
    before = sorted(root.rglob("*"))
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "Not a directory" in said.err or "Read-only file system" in said.err
    assert sorted(root.rglob("*")) == before


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_read_only_checkout(root):
    "On a disk that really cannot be written to, also for root."
    script = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" || exit 77; exec "$@"'
    run = lambda *words: subprocess.run(
        ["unshare", "-rm", "bash", "-c", script, "bash", *COMMAND, *words],
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
    )
    if run("--version").returncode:
        pytest.skip("no mounts here")
    for words in ["run"], ["lab"]:
        refused = run(*words)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert "Read-only file system" in refused.stderr


def test_the_temporary_folder_may_have_a_long_name(root):
    deep = root / "/".join(["t" * 100] * 10)
    deep.mkdir(parents=True)
    ran = done(root, "run", TMPDIR=str(deep))
    assert ran.returncode == 0 and "1 ok" in ran.stdout, ran.stdout + ran.stderr
    assert not [*deep.iterdir()]


def test_where_sockets_may_lie(monkeypatch):
    monkeypatch.setattr(runner.tempfile, "gettempdir", lambda: "/" + "ü" * 40)
    assert len(runner._socket_folder()) <= 70
    monkeypatch.setattr(os, "access", lambda place, how: False)
    assert runner._socket_folder() is None
    pytest.importorskip("traitlets")
    assert "transport" not in runner._papermill_settings("/x/y", None)["config"]["KernelManager"]


def test_a_reader_who_leaves_stops_nothing(root):
    for i in range(30):
        chapter(root, f"{20 + i}_a", "1")
    shell = lambda line: subprocess.run(
        ["bash", "-c", line, "bash", *COMMAND], cwd=root, env=environment(), capture_output=True, text=True
    )
    for line in '"$@" list | head -1; exit ${PIPESTATUS[0]}', '"$@" list >&-':
        read = shell(line)
        assert (read.returncode, read.stderr) == (0, "")
    full = shell('"$@" list > /dev/full')
    assert full.returncode == 1 and full.stderr == "lla-course: [Errno 28] No space left on device\n"
    for path in (root / "nbs").glob("[2-9]*"):
        path.unlink()
    chapter(root, "01_last", "1")
    ran = shell('"$@" run --jobs 1 | head -1; exit ${PIPESTATUS[0]}')
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len([*(root / "build" / "runs" / "fast").iterdir()]) == 2


def test_a_console_without_the_character(root):
    chapter(root, "12_λ", "print('größe λ')", "raise ValueError('größe λ')")
    listed = done(root, "list", PYTHONIOENCODING="ascii")
    assert listed.returncode == 0 and listed.stderr == "" and "Title of 12_?" in listed.stdout
    ran = done(root, "run", PYTHONIOENCODING="ascii")
    assert ran.returncode == 1 and ran.stderr == ""
    assert "1 ok, 0 kept, 1 failed" in ran.stdout and "e ?" in ran.stdout


def test_the_laboratory_ends_with_its_terminal(root, monkeypatch):
    "What is written for Jupyter turns a hangup into a request to end."
    monkeypatch.setattr(os, "execve", lambda *args: None)
    main(["lab"])
    script = (root / "build" / "lab" / "jupyter_server_config.py").read_text()
    ended = subprocess.run(
        [sys.executable, "-c", f"{script}\nsignal.raise_signal(signal.SIGHUP)\nsignal.pause()"],
        preexec_fn=usual_signals,
    )
    assert ended.returncode == -signal.SIGTERM
