"What a kill, a full disk, a closed pipe or a damaged file costs: itself, in words, and nothing else."
import errno, json, os, shutil, signal, subprocess, sys, time
from pathlib import Path

import psutil, pytest
from miniature import PARAMETERS, chapter, printed

from lla_course import course
from lla_course.core import load_result
from lla_course.course import Chapter, find_chapters, main, run_chapters

LIBRARY = str(Path(course.__file__).parents[1])
COMMAND = [sys.executable, "-m", "lla_course.course"]


def environment(**more): return {**os.environ, "PYTHONPATH": LIBRARY, "OMP_NUM_THREADS": "1", **more}


def usual_signals():
    "A suite that was started in the background has some signals switched off."
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE): signal.signal(number, signal.SIG_DFL)


def started(root, *words, command=COMMAND):
    "The command under way, in a session of its own."
    return subprocess.Popen([*command, *words], cwd=root, env=environment(TMPDIR=str(root)), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                            preexec_fn=usual_signals)


def done(root, *words, **more):
    return subprocess.run([*COMMAND, *words], cwd=root, env=environment(**more), capture_output=True, text=True)


def wait_for(condition, seconds=60.):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(.05)
    return found


def alive(process):
    try: return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess: return False


def family(root):
    "Every process that was started, however far it has wandered: each has the temporary folder in its environment."
    found = []
    for p in psutil.process_iter():
        try:
            if p.environ().get("TMPDIR") == str(root) and alive(p): found.append(p)
        except psutil.Error: pass
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
    for stem in "02_next", "03_last": chapter(root, stem, "1")
    running = started(root, "run", "--jobs", "1")
    wait_for((root/"started").exists)
    worker, = workers(running)
    worker.kill()
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 1 and "3 ok, 0 kept, 1 failed" in said and "Traceback" not in said
    assert "01_slow                      failed" in said and "its process was killed" in said
    wait_for(lambda: not family(root), 5)
    assert not list(root.glob("lla-*"))


BLOWS = ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP to all"]


@pytest.mark.parametrize("blow", BLOWS)
def test_nothing_outlives_a_run_which_goes_on_later(root, blow, monkeypatch):
    chapter(root, "01_slow", STRAY)
    running, runs = started(root, "run", "--jobs", "1"), root/"build"/"runs"/"fast"
    wait_for(lambda: (runs/"00_core.ipynb").exists() and (root/"started").exists())
    number = getattr(signal, blow.split()[0])
    (os.killpg if "all" in blow else os.kill)(running.pid, number)
    said, _ = running.communicate(timeout=15)
    assert running.returncode == (-9 if blow == "SIGKILL" else 128 + number) and "Traceback" not in said
    assert "resource_tracker" not in said or blow == "SIGKILL"
    assert "stopped; the same command goes on from here" in said or blow == "SIGKILL"
    wait_for(lambda: not family(root), 10)
    assert not list(root.glob("lla-*")) and [p.name for p in runs.glob("*.ipynb")] == ["00_core.ipynb"]
    if blow != "SIGKILL": return
    (root/"go").touch()
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
import os
import lla_course
from lla_course.course import main
lla_course.__path__.append(os.environ["TMPDIR"])
if __name__ == "__main__": raise SystemExit(main())
"""


@pytest.fixture
def long(root):
    "A chapter whose second and third cells take for ever."
    (root/"part").mkdir()
    (root/"part"/"long.py").write_text(LONG)
    (root/"record.py").write_text(RECORD)
    chapter(root, "12_long", "1", module="part.long")
    return root


@pytest.mark.parametrize("blow", BLOWS)
def test_nothing_outlives_a_recording(long, blow):
    running = started(long, "record", "12", "--jobs", "2", command=[sys.executable, "record.py"])
    wait_for(lambda: (long/"started_1").exists() and (long/"started_2").exists())
    number = getattr(signal, blow.split()[0])
    (os.killpg if "all" in blow else os.kill)(running.pid, number)
    said, _ = running.communicate(timeout=15)
    assert running.returncode == (-9 if blow == "SIGKILL" else 128 + number) and "Traceback" not in said
    assert "resource_tracker" not in said or blow == "SIGKILL"
    wait_for(lambda: not family(long), 10)
    assert [p.name for p in (long/"nbs"/"results"/"long").iterdir()] == ["one.json"]
