"Sweeps on Dask: what is run, what is kept, what a failure, a killed worker and a kill leave behind."

import signal
import socket
import sys
import threading
import time
from importlib import import_module

import pandas as pd
import psutil
import pytest
from miniature import chapter
from test_faults import alive, family, started, strike, wait_for

from lla_course.course import cli, cluster, sweep
from lla_course.course.cli import main
from lla_course.course.cluster import Cluster, require_address
from lla_course.course.recorder import record_cells
from lla_course.course.runner import select_chapters
from lla_course.course.sweep import Sweep, read_table, read_values, reported_numbers, summary_page
from lla_course.records import load

PARAMETERS = 'preset = "fast"; seed = 0\nwidth = 0.5\nkernel = "gaussian"'
REPORT = """from pathlib import Path
with Path("count").open("a") as file:
    file.write(f"{seed} {width}\\n")
print(f"seed {seed}: error {(seed + 1) / (2 - width):.2f}, {kernel}")
seed ** 2, 7"""


@pytest.fixture
def book(root):
    "A book with a chapter 07 that counts its runs and fails at width 2."
    chapter(root, "07_demo", REPORT, parameters=PARAMETERS)
    return root


def counted(root):
    "The runs of chapter 07 that began, as (seed, width)."
    path = root / "nbs" / "count"
    return sorted(tuple(map(float, line.split())) for line in path.read_text().splitlines())


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    "A scheduler with two workers of one thread each, its address, and a folder of modules that they import."
    from distributed import LocalCluster

    modules = tmp_path_factory.mktemp("modules")
    sys.path.insert(0, str(modules))
    more = dict(n_workers=2, threads_per_worker=1, memory_limit=0, host="127.0.0.1")
    with LocalCluster(**more, dashboard_address="127.0.0.1:0", silence_logs=50) as running:
        yield running.scheduler_address, modules
    sys.path.remove(str(modules))


# ---- values


@pytest.mark.parametrize(
    "text, values",
    [
        ("1", [1]),
        ("0..3", [0, 1, 2, 3]),
        ("-1..1,5,0..1", [-1, 0, 1, 5]),
        ("0.1,1e-3", [0.1, 1e-3]),
        ("1,1.0,True", [1, 1.0, True]),
        ("gaussian,'a,b'", ["gaussian", "a,b"]),
        ("[1,2],[3,(4,5)]", [[1, 2], [3, (4, 5)]]),
        ('{"a": 1, "b": 2}', [{"a": 1, "b": 2}]),
        ("None", [None]),
        ("0..0", [0]),
        ("a..b", ["a..b"]),
        ("don't,won't", ["don't", "won't"]),
        ("f(1,2),:),b", ["f(1,2)", ":)", "b"]),
    ],
)
def test_values_of_the_command_line(text, values):
    assert [*map(repr, read_values("x", text))] == [*map(repr, values)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,",
        ",1",
        "1,,2",
        "3..1",
        "0..99999999999",
        "{[]: 1}",
        "0..9..2",
        ".1..",
        "0.1..0.5",
        "[1,2",
        "'a,b",
    ],
)
def test_values_that_are_none(text):
    with pytest.raises(ValueError, match="^x=.*: expected "):
        read_values("x", text)


REFUSED = {
    "-p sede=1": "parameter='sede': expected a parameter of 07_demo: kernel, seed, width",
    "-p seed=0.5": "seed=0.5: expected int, as its default 0 in 07_demo",
    "-p seed=0,one": "seed='one': expected int",
    "-p width=0..2,wide": "width='wide': expected float",
    "-p kernel=1": "kernel=1: expected str",
    "-p seed": "expected NAME=VALUE",
    "-p seed=3..1": "seed='3..1': expected a range FIRST..LAST that rises",
    "-p seed=1 -p seed=2": "parameter='seed': expected each parameter once",
    "-p preset=fast,full": "parameter='preset': expected --preset",
    "-p seed=0..999 -p width=0..999": "'1000000 combinations': expected at most 100000",
    "--preset half": "preset='half'",
    "--jobs 0": "jobs=0",
    "--jobs 2 --scheduler tcp://127.0.0.1:1": "jobs=2: expected no number where there is a scheduler",
    "--scheduler localhost": "scheduler='localhost': expected the address of a Dask scheduler",
    "-p kernel=[a": "kernel='[a': expected brackets and quotes that close",
    "--out settings.ini": "out=",
    "--out nbs/07_demo.ipynb": "out=",
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused_before_anything_starts(book, capsys, words):
    assert main(["sweep", "07", *words.split()]) == 2
    said = capsys.readouterr()
    assert REFUSED[words] in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not (book / "build").exists()


@pytest.mark.parametrize(
    "address",
    ["", "tcp://", "http://a:1", "tcp://a", "tcp://a:0", "tcp://a:70000", "tcp://a:1/x", 8786, b"a"],
)
def test_addresses(address):
    with pytest.raises(ValueError, match="scheduler=.*: expected the address of a Dask scheduler, as tcp://"):
        require_address(address)
    assert require_address("tcp://[::1]:8786") and require_address("tls://a-b.example:1")


def test_what_is_not_installed_is_named(book, monkeypatch, capsys):
    from lla_course.course import runner

    monkeypatch.setattr(runner, "find_spec", lambda name: name != "distributed")
    assert main(["sweep", "07"]) == 2 and "pip install 'lla_course[dask]'" in capsys.readouterr().err


# ---- numbers


@pytest.mark.parametrize(
    "line, numbers",
    [
        ("best 0.017 years = 0.9 weeks, error 0.34 ppm", {"best": 0.017, "best (2)": 0.9, "error": 0.34}),
        ("edge: bias 0.370, deviation -1e-3", {"edge: bias": 0.37, "edge: deviation": -0.001}),
        ("d = 1, n = 10,000: 1.52", {"d = 1, n = 10,000": 1.52}),
        (
            "age 0.792 (half: 0.798); at 1.5 a lag of 2.7%",
            {"age": 0.792, "half": 0.798, "at": 1.5, "a lag of": 2.7},
        ),
        ("seed 3: loss nan", {"seed: loss": "nan"}),
        ("x2 and model7b are names, v1.2", {}),
        ("3 of 4", {"value": 3, "of": 4}),
        ("", {}),
    ],
)
def test_numbers_of_a_printed_line(line, numbers):
    output = dict(output_type="stream", name="stdout", text=[line])
    cell = dict(cell_type="code", source="", metadata={}, outputs=[output])
    found = reported_numbers({"cells": [cell]}, {"seed": 3})
    assert {name: value if value == value else "nan" for name, value in found.items()} == numbers


def shown(source, text, **data):
    output = dict(output_type="execute_result", data={"text/plain": text, **data}, metadata={})
    return dict(cell_type="code", source=source, metadata={}, outputs=[output])


def test_numbers_of_values_and_glue():
    glued = {"application/scrapbook.scrap.json+json": dict(name="loss", data=0.25, encoder="json", version=1)}
    cells = [
        shown("a\nround(x, 1)", "0.5"),
        shown("{'b': 2, 'c': 'text'}", "{'b': 2, 'c': 'text'}"),
        shown("len(a), b.mean()", "(3, 0.1)"),
        shown("found", "[1, 2]"),
        shown("frame", "1", **{"text/html": "<table>"}),
        shown("x = 1", "not a literal"),
        shown("glue('loss', 0.25)", "0.25", **glued),
        dict(cell_type="markdown", source="12", metadata={}),
    ]
    expected = {"round(x, 1)": 0.5, "{'b': 2, 'c': 'text'}: b": 2, "len(a)": 3, "b.mean()": 0.1}
    expected |= {"found[0]": 1, "found[1]": 2, "loss": 0.25}
    assert reported_numbers({"cells": cells}, {}) == expected


def test_numbers_of_a_table():
    frame = pd.DataFrame({"mid May": [0.5, -2.0], "word": ["a", "b"]}, index=["softmax", "LLA & co"])
    expected = {"softmax, mid May": 0.5, "LLA & co, mid May": -2.0}
    for html in frame.to_html(), frame.style.format(precision=1).to_html():
        assert reported_numbers({"cells": [shown("frame", "...", **{"text/html": html})]}, {}) == expected
    for odd in "<table>", "<td>1</td>", "<table><tr><td>1", pd.DataFrame([[0] * 61]).to_html():
        assert reported_numbers({"cells": [shown("frame", "...", **{"text/html": odd})]}, {}) == {}
    two = pd.DataFrame({("a", "b"): [1.0]})
    assert reported_numbers({"cells": [shown("two", "...", **{"text/html": two.to_html()})]}, {}) == {}


def row(key, numbers, **parameters):
    fixed = dict(seconds=1.0, worker="w", notebook="runs/a.ipynb", status="ok", error="", date="d", code="c")
    return dict(fixed, key=key, parameters=parameters, numbers=numbers)


def test_a_table_is_read_as_it_was_written(tmp_path):
    rows = [
        row("a", {"loss": 1, "seconds": 2.5, "seed": 1}, seed=0, size=[1, 2], name="x", status=True),
        row("b", {"loss": 0.5, "word": "far"}, seed=10**30, size={"a": 1}, name="y", status=False),
        row("c", {"loss": float("inf"), "word": 3}, name="z", size=None),
    ]
    path = tmp_path / "table.parquet"
    path.write_bytes(sweep._table_bytes(rows, dict(chapter="07_demo")))
    rows[2]["parameters"].pop("size")
    assert read_table(path) == ("07_demo", rows)
    frame = pd.read_parquet(path)
    assert frame.loss.tolist() == [1, 0.5, float("inf")] and frame.seconds.tolist() == [1] * 3
    assert frame["seconds (reported)"][0] == 2.5 and frame["seed (reported)"][0] == 1
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="is no table of a sweep"):
        read_table(path)


def test_the_summary_shows_what_differs(book):
    rows = [
        row(f"{s} {w}", {"error": s + w, "same": 3, "<b>": s}, seed=s, width=w, kernel="gaussian")
        for s in range(3)
        for w in (0.1, 0.2)
    ]
    rows.append(row("old", {"error": 9.0}, seed=0) | dict(code="before"))
    rows.append(row("bad", {}, seed=9) | dict(status="failed", error="cell 1: <no>"))
    fig = sweep.summary_figure(rows[:6])
    assert {title.text for title in fig.layout.annotations} == {"error", "<b>", "seconds"}
    (lines,) = [t for t in fig.data if t.mode == "lines" and t.xaxis == "x"]
    assert lines.x == (0.1, 0.2) and lines.y == pytest.approx([1.1, 1.2])
    page = summary_page(select_chapters(["07"])[0], rows, "c")
    assert "<td>error</td><td>0.1</td><td>1.15</td><td>2.2</td>" in page and "<td>same</td><td>3</td>" in page
    assert "6 runs, 1 failed, and 1 of other code" in page and "cell 1: &lt;no&gt;" in page
    assert 'role="img"' in page and "<td>&lt;b&gt;</td>" in page and "cdn" not in page.split("<script")[0]


# ---- the command, from end to end


def test_a_sweep_is_a_table_and_goes_on_where_it_stopped(book, workers, capsys):
    words = ["sweep", "07", "-p", "seed=0..1"]
    assert main([*words, "-p", "width=1,2", "--jobs", "2"]) == 1
    said = capsys.readouterr().out
    assert said.count("cell 2: ZeroDivisionError") == 2 and "2 ok, 0 kept, 2 failed" in said
    assert "   4 of 4, 0 s left" in said and "seed=1 width=1.0" in said
    out = book / "build" / "sweeps" / "07_demo"
    assert said.endswith(f"{out / 'table.parquet'}\n{out / 'summary.html'}\n")
    frame = pd.read_parquet(out / "table.parquet")
    assert [*zip(frame.seed, frame.width, frame.status)] == [
        (0, 1.0, "ok"),
        (0, 2.0, "failed"),
        (1, 1.0, "ok"),
        (1, 2.0, "failed"),
    ]
    assert [*frame["seed: error"][[0, 2]]] == [1.0, 2.0] and [*frame["seed ** 2"][[0, 2]]] == [0, 1]
    assert set(frame.kernel) == {"gaussian"} and set(frame.preset) == {"fast"}
    assert frame.worker.str.startswith("tls://127.0.0.1:").all() and (frame.seconds > 0).all()
    assert all((out / name).is_file() for name in frame.notebook)
    assert [name.count(".failed.ipynb") for name in frame.notebook] == [0, 1, 0, 1]
    assert "2 runs, 2 failed" in (out / "summary.html").read_text()

    assert main([*words, "-p", "width=0.5,1", "--scheduler", workers[0]]) == 0
    said = capsys.readouterr().out
    assert "2 of 4 runs are there already" in said and "2 ok, 2 kept, 0 failed" in said
    assert counted(book) == [(0, 0.5), (0, 1), (0, 2), (1, 0.5), (1, 1), (1, 2)]
    _, rows = read_table(out / "table.parquet")
    assert [r["parameters"]["width"] for r in rows] == [0.5, 1, 0.5, 1, 2, 2]

    (out / "table.parquet").write_bytes(b"PAR1")
    assert main([*words, "-p", "width=0.5,1"]) == 0  # all is read from the notebooks
    said = capsys.readouterr()
    assert "is no table of a sweep" in said.err and "0 ok, 4 kept, 0 failed" in said.out
    _, again = read_table(out / "table.parquet")
    assert again == rows[:4] and len(counted(book)) == 6


def test_other_code_is_another_run(book, workers, capsys):
    words = ["sweep", "07", "-p", "width=0,1", "--scheduler", workers[0]]
    assert main([*words, "--out", "here"]) == 0
    _, before = read_table("here/table.parquet")
    chapter(book, "07_demo", REPORT + " + seed", parameters=PARAMETERS)
    assert main([*words[:3], "width=1", *words[4:], "--out", "here"]) == 0
    _, (new, old) = read_table("here/table.parquet")
    assert old == before[0] and new["parameters"] == before[1]["parameters"] and new["code"] != old["code"]
    assert sorted(path.name for path in (book / "here" / "runs").iterdir()) == sorted(
        row["notebook"].removeprefix("runs/") for row in (old, new)
    )
    chapter(book, "08_other", "1")
    assert main(["sweep", "08", "--out", "here"]) == 2
    assert "this one holds a sweep of 07_demo" in capsys.readouterr().err


def test_a_worker_that_does_not_see_the_chapter_is_sent_it(book, workers, monkeypatch):
    (book / "nbs" / "beside.py").write_text("word = 1")
    chapter(
        book, "07_demo", "import importlib.util as u\nu.find_spec('beside') is None", parameters=PARAMETERS
    )
    found = []
    for _ in 1, 2:
        swept = Sweep(select_chapters(["07"])[0], {}, out=f"out{len(found)}", scheduler=workers[0])
        found += [*swept.run()]
        monkeypatch.setattr(Sweep, "source", property(lambda self: self.text + " "), raising=False)
        Sweep.source = Sweep.source.setter(lambda self, text: setattr(self, "text", text))
    assert [row["numbers"]["u.find_spec('beside') is None"] for row in found] == [False, True]


def test_a_table_of_something_else_is_left_alone(book, capsys):
    (book / "here").mkdir()
    pd.DataFrame({"mine": [1]}).to_parquet(book / "here" / "table.parquet")
    before = (book / "here" / "table.parquet").read_bytes()
    assert main(["sweep", "07", "--out", "here"]) == 2
    assert "table.parquet, if any, is that of a sweep" in capsys.readouterr().err
    assert (book / "here" / "table.parquet").read_bytes() == before
    (book / "there" / "table.parquet").mkdir(parents=True)
    assert main(["sweep", "07", "--out", "there"]) == 2


def test_one_sweep_at_a_time_writes_a_table(book, workers, capsys):
    from filelock import FileLock

    (book / "here").mkdir()
    with FileLock(book / "here" / ".lock"):
        assert main(["sweep", "07", "--out", "here", "--scheduler", workers[0]]) == 1
    assert "a folder that no other sweep is writing to" in capsys.readouterr().err


# ---- what is lost


SLOW = """import os, time
from pathlib import Path
if seed == 0 and not Path("go").exists():
    Path("pid").write_text(str(os.getpid()))
    time.sleep(300)
seed"""


def test_a_killed_worker_loses_nothing(book):
    chapter(book, "07_demo", SLOW, parameters=PARAMETERS)
    swept, pid, killed = (
        Sweep(select_chapters(["07"])[0], {"seed": [0, 1, 2]}, jobs=2),
        book / "nbs" / "pid",
        [],
    )

    def kill():
        kernel = psutil.Process(int(wait_for(lambda: pid.exists() and pid.read_text())))
        worker = kernel.parent().parent()
        (book / "nbs" / "go").touch()
        worker.kill()
        killed.extend([kernel, worker])

    with pytest.raises(ValueError, match="expected a Dask scheduler that answers"):  # another user has no key
        cluster._connect(swept.cluster.local.scheduler_address)
    rows = swept.run()
    first = next(rows)
    thread = threading.Thread(target=kill)
    thread.start()
    rest = [*rows]
    thread.join()
    assert sorted(row["parameters"]["seed"] for row in [first, *rest]) == [0, 1, 2]
    assert {row["status"] for row in [first, *rest]} == {"ok"}
    assert len(killed) == 2 and not any(map(alive, killed))
    frame = pd.read_parquet(swept.table)
    assert [*frame.seed] == [0, 1, 2] == [*frame["seed (reported)"]]


@pytest.mark.parametrize("blow", ["SIGKILL", "SIGINT to all"])
def test_nothing_outlives_a_sweep_which_goes_on_later(book, workers, blow, capsys):
    chapter(book, "07_demo", SLOW, parameters=PARAMETERS)
    out = book / "build" / "sweeps" / "07_demo"
    running = started(book, "sweep", "07", "-p", "seed=0..1", "--jobs", "2")
    wait_for(lambda: (book / "nbs" / "pid").exists() and [*(out / "runs").glob("seed=1*.ipynb")])
    said = strike(running, blow)
    assert "stopped; the same command goes on from here" in said or blow == "SIGKILL"
    wait_for(lambda: not family(book), 10)
    assert not [*book.glob("lla-*")] and len([*(out / "runs").iterdir()]) == 1
    if blow == "SIGKILL":
        (book / "nbs" / "go").touch()
        assert main(["sweep", "07", "-p", "seed=0..1", "--scheduler", workers[0]]) == 0
        assert "1 ok, 1 kept, 0 failed" in capsys.readouterr().out


def test_a_signal_waits_while_a_row_is_stored():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with sweep._undisturbed():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("stored")
    assert done == ["stored"] and signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_signal_waits_while_workers_start(monkeypatch):
    closed = []

    class Local:
        def close(self):
            closed.append(True)

    def start(jobs):
        signal.raise_signal(signal.SIGINT)
        return Local()

    monkeypatch.setattr(cluster, "_start_local", start)
    with pytest.raises(KeyboardInterrupt):
        Cluster(None, None, 1)
    assert closed == [True]


# ---- who may work


@pytest.mark.parametrize("port", ["closed", "silent"])
def test_a_scheduler_that_does_not_answer_is_told_soon(book, monkeypatch, capsys, port):
    monkeypatch.setattr(cluster, "PATIENCE", 3.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if port == "silent":
            other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        start = time.monotonic()
        assert main(["sweep", "07", "--scheduler", address]) == 2
    assert time.monotonic() - start < 20  # three, unless the machine is busy
    said = capsys.readouterr().err
    assert f"scheduler='{address}': expected a Dask scheduler that answers" in said and said.count("\n") == 1
    assert not (book / "build").exists()


def test_workers_with_another_library_are_refused_by_name(book, workers, monkeypatch, capsys):
    here = cluster.library_state()
    other = here | {"lla_course": "0.0.9 (code 0)", "torch": "1.0"}
    monkeypatch.setattr(cluster, "library_state", lambda root=None: other)
    assert main(["sweep", "07", "--scheduler", workers[0]]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.count("tcp://127.0.0.1:") == 3  # the scheduler and both workers
    assert f"has lla_course {here['lla_course']} instead of 0.0.9 (code 0), torch {here['torch']}" in said
    missing = cluster._difference(ModuleNotFoundError("No module named 'lla_course'"), other)
    assert missing == "lla_course cannot be imported (No module named 'lla_course')"


def test_a_worker_that_joins_late_is_asked_too(workers):
    joined = Cluster(workers[0], None)
    session = dict(name="s", root=None, library={"lla_course": "0.0.9"})
    future = joined.client.submit(cluster._in_process, session, abs, -1)
    assert "joined with another library: lla_course" in str(future.exception(timeout=30))
    joined.close()


def test_a_scheduler_without_workers(book, monkeypatch, capsys):
    from distributed import LocalCluster

    monkeypatch.setattr(cluster, "PATIENCE", 3.0)
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50) as empty:
        assert main(["sweep", "07", "--scheduler", empty.scheduler_address]) == 2
    assert "expected a scheduler with at least one worker" in capsys.readouterr().err


# ---- recording

CELLS = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from lla_course.records import checkpointed
import psutil
@dataclass(frozen=True)
class Config:
    name: str
    folder: str
def cells(preset): return {name: Config(name, FOLDER) for name in ["killed"]}
def run(cfg):
    done = []
    def part(i):
        if i == 2 and not Path(cfg.folder, "again").exists():
            Path(cfg.folder, "again").touch()
            psutil.Process().parent().kill()
            signal.pause()
        done.append(i)
        return {"i": i}
    return {"found": [checkpointed(f"part_{i}", lambda: part(i))["i"] for i in range(3)], "done": done}
"""


def test_cells_are_recorded_on_a_cluster(book, workers, monkeypatch, capsys):
    address, modules = workers
    (modules / "cluster_cells.py").write_text(CELLS.replace("FOLDER", repr(str(book))))
    module, out = import_module("cluster_cells"), book / "results"
    record = lambda **more: record_cells(module, folder=out, scheduler=address, **more)
    assert [(r.cell, r.state) for r in record()] == [("killed", "recorded")]
    assert load("cluster_cells/killed", folder=out).result == dict(found=[0, 1, 2], done=[2])
    chapter(book, "12_cells", "1", module="part.cells")
    monkeypatch.setattr(cli, "_import_chapter", lambda chapter: module)
    words = ["record", "12", "--cells", "killed", "--out", str(out), "--scheduler"]
    assert main([*words, address]) == 0 and "12_cells/killed kept" in capsys.readouterr().out
    assert main([*words, "localhost"]) == 2 and "scheduler='localhost': " in capsys.readouterr().err
    with pytest.raises(ValueError, match="expected no number where there is a scheduler"):
        record(jobs=2)
    with pytest.raises(ValueError, match="replace=False"):
        record(preset="fast", again=True)
    assert not [*out.glob(".seen*")]
