"Recording large runs: cell by cell, resumable, with nothing but the library's own requirements installed."

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from miniature import chapter

from lla_course.course import recorder, runner
from lla_course.course.cli import main
from lla_course.course.recorder import record_cells
from lla_course.records import Run, as_run, content_hash, load, save


@dataclass(frozen=True)
class Config:
    n: int
    seed: int = 7


def toy(log, broken=()):
    module = ModuleType("lla_course.part.toy")
    module.cells = lambda preset: {
        name: Config(10 * k if preset == "full" else k) for k, name in enumerate(["a", "b", "c"])
    }

    def run(cfg):
        log.append(cfg.n)
        if cfg.n in broken:
            raise RuntimeError(f"no {cfg.n} today")
        return {"double": 2 * cfg.n, "arrays": {"x": np.arange(3) * cfg.n}, "device": "cpu"}

    module.run = run
    return module


def test_each_cell_is_stored_as_it_finishes(tmp_path):
    log = []
    rows = record_cells(toy(log), folder=tmp_path)
    assert log == []
    first = next(rows)
    assert (first.cell, first.state, log) == ("a", "recorded", [0])
    assert [p.name for p in (tmp_path / "toy").glob("*.json")] == ["a.json"]
    assert [r.state for r in rows] == ["recorded", "recorded"]
    record = load("toy/c", Config(20), folder=tmp_path)
    assert record.result == {"double": 40} and record.arrays["x"].tolist() == [0, 20, 40]
    assert record.provenance["seed"] == 7 and record.provenance["preset"] == "full"


@pytest.mark.parametrize("returned", [{"v": 1, "arrays": {"x": [2.0]}}, Run({"v": 1}, {"x": [2.0]})])
def test_a_run_and_a_dictionary_are_recorded_alike(tmp_path, returned):
    module = toy([])
    module.run = lambda cfg: returned
    assert [r.state for r in record_cells(module, cells=["a"], folder=tmp_path)] == ["recorded"]
    record = load("toy/a", folder=tmp_path)
    assert record.result == {"v": 1} and record.arrays["x"].tolist() == [2]
    assert record.provenance["device"].startswith("CPU")


def test_as_run():
    assert as_run({"v": 1}) == Run({"v": 1})
    assert as_run({"v": 1, "device": "cuda", "arrays": None}) == Run({"v": 1}, None, "cuda")
    run = Run({"device": "is a result here"})
    assert as_run(run) is run
    for wrong in (None, 3, [("v", 1)], "v"):
        with pytest.raises(ValueError, match="result=.*expected a Run or a dictionary"):
            as_run(wrong)


def test_resumes_and_forces(tmp_path):
    log = []
    run = lambda **more: [r.state for r in record_cells(toy(log), folder=tmp_path, **more)]
    failing = list(record_cells(toy(log, broken=[10]), folder=tmp_path))
    assert [r.state for r in failing] == ["recorded", "failed", "recorded"]
    assert "RuntimeError: no 10 today" in failing[1].error and "in run" in failing[1].error
    log.clear()
    assert run() == ["kept", "recorded", "kept"] and log == [10]
    assert run(cells=["c", "a"]) == ["kept", "kept"]
    assert run(cells=["a"], again=True) == ["recorded"]
    assert run(preset="fast", replace=True) == [
        "kept",
        "recorded",
        "recorded",
    ]  # a has the same settings in both
    path = tmp_path / "toy" / "b.json"
    path.write_text(path.read_text().replace('"double": 2', '"double": 3'))
    assert run(preset="fast") == ["kept", "recorded", "kept"]  # an altered record is no record


def test_refused_before_anything_runs(tmp_path):
    log = []
    with pytest.raises(ValueError, match="cells='d': expected one of 'a', 'b', 'c'"):
        record_cells(toy(log), cells=["a", "d"], folder=tmp_path)
    with pytest.raises(ValueError, match="preset='large'"):
        record_cells(toy(log), preset="large", folder=tmp_path)
    with pytest.raises(ValueError, match="jobs=0"):
        record_cells(toy(log), jobs=0, folder=tmp_path)
    with pytest.raises(ValueError, match="expected a module with the functions"):
        record_cells(ModuleType("empty"), folder=tmp_path)
    assert log == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words, named",
    [
        (["record", "nothing"], "'nothing'"),
        (["record", "index"], "exports a module"),
        (["record", "00"], "cells(preset)"),
        (["record", "03"], "No module named 'lla_course.part'"),
        (["record"], "NAME"),
        (["record", "00", "--preset", "big"], ""),
    ],
)
def test_refused_by_the_command(root, capsys, words, named):
    chapter(root, "index", "1")
    chapter(root, "00_core", "1", module="core")
    chapter(root, "03_missing", "1", module="part.missing")
    assert main(words) == 2
    said = capsys.readouterr()
    assert named in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not (root / "nbs" / "results").exists()


BLOCKED = """
import runpy, sys
away = ("papermill plotly jupyter jupyterlab jupyter_client nbformat nbclient nbdev tqdm IPython traitlets "
        "psutil sphinx").split()
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in away:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Blocked())
import lla_course
lla_course.__path__.append(sys.argv[1])
sys.argv[0:2] = ["lla-course"]
runpy.run_module("lla_course.course.cli", run_name="__main__", alter_sys=True)
"""
TOY = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Config:
    n: int
    seed: int = 0
def cells(preset): return {"one": Config(1), "two": Config(2), "three": Config(3)}
def run(cfg): return {"inverse": 1 / (cfg.n - 2)}
"""


def test_records_without_jupyter_papermill_and_plotly(root):
    extra = root / "extra" / "part"
    extra.mkdir(parents=True)
    (extra / "toy.py").write_text(TOY)
    chapter(root, "12_toy", "1", module="part.toy")
    record = lambda *words: subprocess.run(
        [sys.executable, "-c", BLOCKED, str(extra.parent), "record", *words],
        cwd=root,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(sys.modules["lla_course.core"].__file__).parents[1]), "PATH": ""},
    )
    done = record("toy", "--cells", "one,three", "two")
    assert done.returncode == 1, done.stderr
    assert (
        "ZeroDivisionError" in done.stderr
        and "toy/one recorded" in done.stdout
        and "toy/two failed" in done.stdout
    )
    assert sorted(p.name for p in (root / "nbs" / "results" / "toy").iterdir()) == ["one.json", "three.json"]
    done = record("12", "--cells", "one", "three", "--out", "nbs/results")
    assert done.returncode == 0 and done.stdout.count("kept") == 4 and done.stderr == ""
    assert json.loads((root / "nbs" / "results" / "toy" / "one.json").read_text())["result"] == {
        "inverse": -1.0
    }
    assert record("12", "--cells", "four").returncode == 2


ODD = """
import os, signal
from dataclasses import dataclass
@dataclass(frozen=True)
class Config:
    n: int
def cells(preset): return {name: Config(n) for n, name in enumerate(["one", "two", "three", "four"])}
def run(cfg):
    if cfg.n == 1: raise RuntimeError("not today")
    if cfg.n == 2: os.kill(os.getpid(), signal.SIGKILL)
    return {"process": os.getpid()}
"""


def test_cells_side_by_side_in_processes_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "odd_cells.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)
    rows = {r.cell: r for r in record_cells(import_module("odd_cells"), jobs=2, folder=tmp_path)}
    assert {name: r.state for name, r in rows.items()} == dict(
        one="recorded", two="failed", three="failed", four="recorded"
    )
    assert "not today" in rows["two"].error and "BrokenProcessPool" in rows["three"].error
    a, b = (
        load(f"odd_cells/{name}", Odd(n), folder=tmp_path).result["process"]
        for name, n in (("one", 0), ("four", 3))
    )
    assert len({a, b, os.getpid()}) == 3


@dataclass(frozen=True)
class Odd:
    n: int


SLOW = """
import os, time
from dataclasses import dataclass
from pathlib import Path
@dataclass(frozen=True)
class Config:
    name: str
    folder: str
def cells(preset): return {name: Config(name, os.environ["MEET"]) for name in ("long", "short", "last")}
def run(cfg):
    end = time.monotonic() + 60
    while cfg.name == "long" and not (Path(cfg.folder)/"over").exists() and time.monotonic() < end:
        time.sleep(.05)
    if cfg.name == "last": (Path(cfg.folder)/"over").touch()
    return {"gpu": os.environ["CUDA_VISIBLE_DEVICES"]}
"""


def test_a_cell_takes_the_gpu_that_has_become_free(tmp_path, monkeypatch):
    (tmp_path / "slow_cells.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MEET", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert {r.state for r in record_cells(import_module("slow_cells"), jobs=2, folder=tmp_path)} == {
        "recorded"
    }
    gpu = {
        name: load(f"slow_cells/{name}", folder=tmp_path).result["gpu"] for name in ("long", "short", "last")
    }
    assert gpu["short"] == gpu["last"] != gpu["long"]


PARTS = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from lla_course.records import checkpointed
@dataclass(frozen=True)
class Config:
    folder: str
def cells(preset): return {"whole": Config(os.environ["MEET"])}
def run(cfg):
    done = []
    def part(i):
        if i == 2 and not (Path(cfg.folder)/"again").exists(): os.kill(os.getpid(), signal.SIGKILL)
        done.append(i); return {"i": i, "loss": (float("inf"), 1.5), "by": {3: i}}
    found = [checkpointed(f"part_{i}", lambda: part(i)) for i in range(4)]
    return {"found": [[p["i"], p["loss"][1], p["by"]["3"]] for p in found], "done": done}
"""


def test_a_cell_that_was_killed_goes_on_with_the_parts_it_had(tmp_path, monkeypatch):
    (tmp_path / "part_cells.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MEET", str(tmp_path))
    module, folder = import_module("part_cells"), tmp_path / "results"
    parts = tmp_path / "results.parts"
    assert [r.state for r in record_cells(module, jobs=2, folder=folder)] == ["failed"] and sorted(
        p.name for p in parts.rglob("*.json")
    ) == ["part_0.json", "part_1.json"]
    (tmp_path / "again").touch()
    assert [r.state for r in record_cells(module, jobs=2, folder=folder)] == ["recorded"] and not list(
        parts.rglob("*.json")
    )
    assert load("part_cells/whole", folder=folder).result == {
        "found": [[i, 1.5, i] for i in range(4)],
        "done": [2, 3],
    }
    assert [r.state for r in record_cells(module, folder=folder, again=True)] == ["recorded"] and load(
        "part_cells/whole", folder=folder
    ).result["done"] == [0, 1, 2, 3]


def test_parts_of_other_code_or_settings_are_not_used(tmp_path, monkeypatch):
    (tmp_path / "part_cells2.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MEET", str(tmp_path))
    (tmp_path / "again").touch()
    module = import_module("part_cells2")
    real, broken = module.run, lambda cfg: (real(cfg), 1 / 0)
    module.run = broken
    assert [r.state for r in record_cells(module, folder=tmp_path / "r")] == ["failed"] and len(
        list((tmp_path / "r.parts").rglob("*.json"))
    ) == 4
    module.run = real
    monkeypatch.setattr(recorder, "code_hash", lambda module: "other")
    assert [r.state for r in record_cells(module, folder=tmp_path / "r")] == ["recorded"] and load(
        "part_cells2/whole", folder=tmp_path / "r"
    ).result["done"] == [0, 1, 2, 3]


# ---- what is there already

HERE, GPU = "CPU (x86_64, 96 threads)", "NVIDIA H200"


def held(folder, cell, n, preset="full", device=HERE):
    "A record as another machine may have left it."
    path = save(
        f"toy/{cell}",
        {"double": -1},
        config=Config(n),
        seed=7,
        seconds=1.0,
        preset=preset,
        folder=folder,
        replace=True,
    )
    body = json.loads(path.read_text())
    del body["hash"]
    body["provenance"]["device"] = device
    path.write_text(json.dumps({**body, "hash": content_hash(body)}))
    return path


def leave(folder, why, preset, device, asked):
    "A record that the next recording would replace, and its path."
    settings = 99 if why == "other settings" else 10 if asked == "full" else 1
    path = held(folder, "b", settings, preset, device)
    if why == "altered":
        path.write_text(path.read_text().replace("-1", "-2"))
    return path


LOSSES = [
    ("full", GPU, "fast"),
    ("full", HERE, "fast"),
    ("fast", HERE, "full"),
    ("fast", GPU, "full"),
    ("full", GPU, "full"),
    ("full", "NVIDIA A100", "full"),
]
WHY = pytest.mark.parametrize("why", ["other settings", "again", "altered"])


@pytest.mark.parametrize("preset, device, asked", LOSSES)
@WHY
def test_a_record_is_not_lost_unasked(tmp_path, capsys, preset, device, asked, why):
    log, path = [], leave(tmp_path, why, preset, device, asked)
    before, more = path.read_bytes(), dict(preset=asked, again=why == "again", folder=tmp_path)
    for jobs in 1, 2:
        with pytest.raises(ValueError, match=f"--replace.*{device[:3]}"):
            record_cells(toy(log), jobs=jobs, **more)
    assert log == [] and path.read_bytes() == before and capsys.readouterr().err == ""
    assert [r.state for r in record_cells(toy(log), replace=True, **more)] == ["recorded"] * 3
    assert load("toy/b", folder=tmp_path).provenance["preset"] == asked


@pytest.mark.parametrize(
    "preset, device, asked", [("full", HERE, "full"), ("fast", GPU, "fast"), ("fast", HERE, "fast")]
)
@WHY
def test_others_are_replaced_and_the_reason_is_told(tmp_path, capsys, preset, device, asked, why):
    path = leave(tmp_path, why, preset, device, asked)
    rows = record_cells(toy([]), preset=asked, again=why == "again", folder=tmp_path)
    assert [r.state for r in rows] == ["recorded"] * 3
    said = capsys.readouterr().err
    assert said.count("\n") == (why != "again") and (str(path) in said or why == "again")


def test_other_machines_have_other_devices(tmp_path, monkeypatch):
    held(tmp_path, "b", 99, device=HERE)
    monkeypatch.setattr("lla_course.records.device_name", lambda device: GPU)
    with pytest.raises(ValueError, match="made on CPU .*, not on NVIDIA H200"):
        record_cells(toy([]), folder=tmp_path)
    held(tmp_path, "b", 99, device=GPU)
    record_cells(toy([]), folder=tmp_path)


def test_a_record_that_serves_is_kept_wherever_it_was_made(tmp_path):
    for preset, device in ("fast", HERE), ("full", GPU):
        held(tmp_path, "b", 10, preset, device)
        assert [r.state for r in record_cells(toy([]), cells=["b"], folder=tmp_path)] == ["kept"]


def test_fast_results_have_a_folder_that_git_ignores(root, monkeypatch, capsys):
    log = []
    module = toy(log)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys.modules["lla_course"], "part", ModuleType("lla_course.part"), raising=False)
    monkeypatch.setitem(sys.modules, "lla_course.part", sys.modules["lla_course"].part)
    chapter(root, "12_toy", "1", module="part.toy")
    precious = held(root / "nbs" / "results", "b", 10, "full", GPU)
    before = precious.read_bytes()
    assert main(["record", "12", "--preset", "fast"]) == 0
    assert {p.name for p in (root / "build" / "results" / "toy").glob("*.json")} == {
        "a.json",
        "b.json",
        "c.json",
    }
    assert [p for p in (root / "nbs" / "results").rglob("*") if p.is_file()] == [precious]
    assert precious.read_bytes() == before
    assert "build/" in (Path(recorder.__file__).parents[2] / ".gitignore").read_text().split()
    log.clear()
    capsys.readouterr()
    assert main(["record", "12", "--preset", "fast", "--out", "nbs/results"]) == 2
    said = capsys.readouterr()
    assert log == [] and precious.read_bytes() == before and said.out == "" and said.err.count("\n") == 1
    assert "--replace" in said.err and "b (preset full, NVIDIA H200)" in said.err
    assert main(["record", "12", "--preset", "fast", "--out", "nbs/results", "--replace"]) == 0
    assert json.loads(precious.read_text())["provenance"]["preset"] == "fast"


# ---- places and names


@pytest.mark.parametrize("cells", [[], "", ",", "ab", [""], ["a", ""], ["a b"], [None], ["../a"]])
def test_no_cell_is_never_all(tmp_path, cells):
    log = []
    with pytest.raises(ValueError, match="cells="):
        record_cells(toy(log), cells=cells, folder=tmp_path)
    assert log == []


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ".x", "", "a b", "a\nb", "..", "-x"])
def test_names_of_cells_stay_in_the_folder(tmp_path, name):
    module = toy([])
    module.cells = lambda preset: {name: Config(1)}
    with pytest.raises(ValueError, match="cells="):
        record_cells(module, folder=tmp_path)


def test_a_place_that_cannot_hold_results_is_refused(tmp_path, monkeypatch):
    log, file = [], tmp_path / "file"
    file.touch()
    (tmp_path / "dir" / "toy" / "c.json").mkdir(parents=True)
    (tmp_path / "parts.parts").touch()
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "toy").touch()
    (tmp_path / "gone").symlink_to("nowhere")
    places = [tmp_path / name for name in ("file", "file/x", "dir", "parts", "room", "gone", "x" * 300)]
    for place in *places, "/proc/x", "/":
        with pytest.raises(ValueError, match="folder="):
            record_cells(toy(log), folder=place)

    def full(*args, **more):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(runner.tempfile, "TemporaryDirectory", full)
    with pytest.raises(ValueError, match="Read-only file system"):
        record_cells(toy(log), folder=tmp_path / "new")
    assert log == [] and not (tmp_path / "new").exists()


def test_the_records_as_a_table(root, capsys):
    chapter(root, "12_toy", "1", module="part.toy")
    folder = root / "nbs" / "results"
    assert main(["records"]) == 0 and len(capsys.readouterr().out.splitlines()) == 1  # nothing but its head
    held(folder, "b", 10, "full", GPU)
    path = held(folder, "c", 20, "fast")
    (folder / "toy").rename(folder / "12_toy")
    for name in "b", "c":
        path = folder / "12_toy" / f"{name}.json"
        body = json.loads(path.read_text())
        del body["hash"]
        body = body | {"name": f"12_toy/{name}"}
        body["provenance"]["date"] = "2026-01-01"
        path.write_text(json.dumps({**body, "hash": content_hash(body)}))
    for words in ["records"], ["records", "12"], ["records", "toy"]:
        assert main(words) == 0
        head, first, second = capsys.readouterr().out.splitlines()
        assert head.split() == ["record", "date", "age", "device", "preset", "seconds", "code"]
        assert first.split()[0] == "12_toy/b" and first.endswith("unknown") and GPU in first
        assert "2026-01-01" in first and " days " in first and "  full  " in first and "1.0" in first
        assert second.split()[0] == "12_toy/c" and "  fast  " in second
    path.write_text("{")
    assert main(["records"]) == 1
    said = capsys.readouterr()
    assert "12_toy/c  damaged" in said.out and str(path) in said.err and said.err.count("\n") == 1
    assert main(["records", "none"]) == 2


# ---- damaged parts


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        '"text"',
        "{}",
        '{"part": {}}',
        '{"seconds": 1}',
        '{"part": 3, "seconds": 1}',
        '{"part": {}, "seconds": "long"}',
        '{"part": {}, "seconds": NaN}',
        "[" * 100_000,
        b"\xff",
        None,
    ],
)
def test_a_damaged_part_is_computed_anew(tmp_path, monkeypatch, capsys, damage):
    (tmp_path / "again").touch()
    name = "part_cells3"
    (tmp_path / f"{name}.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MEET", str(tmp_path))
    module = import_module(name)
    real = module.run
    module.run = lambda cfg: (real(cfg), 1 / 0)
    assert [r.state for r in record_cells(module, folder=tmp_path / "r")] == ["failed"]
    (path,) = (tmp_path / "r.parts").rglob("part_1.json")
    path.unlink()
    if damage is None:
        path.mkdir()
    else:
        path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    module.run = real
    capsys.readouterr()
    assert [r.state for r in record_cells(module, folder=tmp_path / "r")] == ["recorded"]
    assert load(f"{name}/whole", folder=tmp_path / "r").result["done"] == [1]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(path) in said
    del sys.modules[name]
