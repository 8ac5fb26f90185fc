"The measurements of chapter 28a, at sizes that a CPU can do."

import os
import subprocess

import pytest
import torch

from lla_course.attention import benchmark
from lla_course.attention.benchmark import Config, benchmark_heads, cells, run, toy_losses

CPU = torch.device("cpu")
SMALL = dict(heads=2, n=70, rows=16, d=16)


@pytest.mark.parametrize("kind", benchmark.KINDS)
def test_a_forward_pass_is_timed_and_checked(kind):
    found = benchmark.measure_forward(Config(kind=kind, **SMALL), CPU)
    assert found["lla_ms"] > 0 and found["softmax_ms"] > 0 and 0 < found["error"] <= found["worst_row"] < 0.1
    assert 0 < found["steps_mean"] <= found["slowest_row_of_a_tile"] <= found["steps_max"] <= 32


def test_gradients_are_compared_with_float64():
    found = benchmark.measure_training(Config("training", **SMALL), CPU)
    assert all(0 < found[f"{who}_{name}"] < 0.1 for who in ("kernel", "twin") for name in ("dq", "dk", "dv"))


def test_every_measurement_has_a_function():
    assert "note" in run(Config("memory", n=64)).result or torch.cuda.is_available()
    assert {c.measure for c in cells("full").values()} == set(benchmark.MEASURES)
    found = run(Config("tiled", **SMALL)).result
    assert found["tiled_ms"] > 0 and found["lla_ms"] > 0


def test_data_are_normalised_and_drawn_from_their_seed():
    for kind in benchmark.KINDS:
        q, k, v = benchmark_heads(Config(kind=kind, **SMALL, steps=1), CPU)
        again = benchmark_heads(Config(kind=kind, **SMALL, steps=1), CPU)
        assert q.shape == (1, 2, 70, 16) and q.dtype == torch.bfloat16
        assert all(torch.equal(a, b) for a, b in zip((q, k, v), again))
        if kind != "trained":  # whose gains are learned
            assert all((t.float().square().mean(-1) - 1).abs().max() < 0.02 for t in (q, k))


@pytest.mark.parametrize(
    "wrong",
    [dict(measure="backward"), dict(kind="sharp"), dict(n=0), dict(d=64.0), dict(ridge=-1.0), dict(seed=-1)],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}="):
        Config(**wrong)


def test_the_toy_learns():
    "Over forty steps the loss falls by more than four standard errors of its mean."
    losses = torch.tensor(toy_losses("tiled", CPU, 60, 0))
    first, last = losses[:20], losses[-20:]
    assert (first.mean() - last.mean()) / (first.var() / 20 + last.var() / 20).sqrt() > 4


def test_counters_are_read_by_their_names_and_the_longest_launch_counts():
    busy = "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active"
    lines = [
        "==PROF== Connected",
        f'"ID","Host Name","Kernel Name","gpu__time_duration.sum","{busy}"',
        '"","","","ns","%"',
        '"0","127.0.0.1","lla_mean_kernel(a, b)","1,500.00","31.5"',
        '"1","127.0.0.1","hopper_solve_kernel","2000","40"',
        '"2","127.0.0.1","hopper_solve_kernel","3000","45.25"',
    ]
    found = benchmark.read_counters("\n".join(lines))
    assert {name: (r["ns"], r["tensor"]) for name, r in found.items()} == {
        "lla_mean_kernel": (1500.0, 31.5),
        "hopper_solve_kernel": (3000.0, 45.25),
    }
    assert found["lla_mean_kernel"]["special"] is None
    assert "note" in benchmark.measure_counters(Config("counters", **SMALL), CPU)
    assert "note" in benchmark.measure_stages(Config("stages", **SMALL), CPU)


def test_portable_counters_are_read_of_the_kernels_in_triton(monkeypatch):
    "A stand-in for Nsight Compute says which kernels it was asked to watch, and in which environment."
    asked = []

    def ncu(command, **_):
        asked.append((command, os.environ.get("LLA_COURSE_GLUON")))
        table = ['"ID","Kernel Name","gpu__time_duration.sum"', '"","","ns"', '"0","lla_solve_kernel","2000"']
        return subprocess.CompletedProcess(command, 0, "\n".join(table), "")

    monkeypatch.setattr(benchmark.shutil, "which", lambda name: name)
    monkeypatch.setattr(benchmark.subprocess, "run", ncu)
    monkeypatch.delenv("LLA_COURSE_GLUON", raising=False)
    cfg = cells("fast")["counters_portable_anisotropic_d128"]
    assert cfg.measure == "portable_counters" and (cfg.kind, cfg.d) == ("anisotropic", 128)
    found = benchmark.measure_portable_counters(cfg, torch.device("cuda"))
    assert found["lla_solve_kernel"]["ns"] == 2000 and found["lla_solve_kernel"]["tensor"] is None
    benchmark.measure_counters(cfg, torch.device("cuda"))
    assert [gluon for _, gluon in asked] == ["0", None] and "LLA_COURSE_GLUON" not in os.environ
    assert all("one_step('anisotropic', 128)" in command[-1] for command, _ in asked)
    assert "note" in benchmark.measure_portable_counters(cfg, CPU)


STALLED = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
NAMES = [
    "ID",
    "Kernel Name",
    "Block Size",
    "gpu__time_duration.sum",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "smsp__warps_active.avg.per_cycle_active",
    "smsp__average_warp_latency_per_inst_issued.ratio",
    *(STALLED.format(reason) for reason in ("barrier", "gmma", "selected", "wait", "wait_not_issued")),
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",
]
UNITS = ["", "", "", "ns", "%", "warp", "cycle", "inst", "inst", "inst", "inst", "inst", ""]
SOLVE = ["hopper_solve_kernel", "(128, 1, 1)"]


def printed(*rows):
    "Lines in the form of Nsight Compute's raw page."
    numbered = [[str(i), *row] for i, row in enumerate(rows)]
    lines = [",".join(f'"{word}"' for word in row) for row in (NAMES, UNITS, *numbered)]
    return "\n".join(["==PROF== Connected to process 7", *lines, "==PROF== Disconnected from process 7"])


def test_stalls_are_read_by_reason_and_what_is_missing_is_none():
    first = [*SOLVE, "2,000", "60.5", "1.98", "3.27", "0.25", "0.75", "1.00", "1.27", "9", "1,234,567"]
    longest = [*SOLVE, "3,000,000", "50", "2.00", "4.00", "0.50", "", "1.00", "n/a", "9", "2,234,567"]
    mean = ["lla_mean_kernel(a, b)", "(128, 1, 1)", "100", "", "2", "", "0.1", "0", "1", "2", "9", "n/a"]
    found = benchmark.read_stalls(printed(first, longest, mean))
    none = dict.fromkeys(benchmark.STALLS)
    assert found["hopper_solve_kernel"] == none | dict(
        ns=3e6,
        issue=50.0,
        warps=2.0,
        cycles=4.0,
        wavefronts=2234567.0,
        stalls=dict(barrier=0.5, selected=1.0),
    )
    assert found["lla_mean_kernel"] == none | dict(
        ns=100.0, warps=2.0, stalls=dict(barrier=0.1, gmma=0.0, selected=1.0, wait=2.0)
    )
    older = printed(first).replace("warp_latency_per_inst_issued", "warps_active_per_issue_active")
    assert benchmark.read_stalls(older)["hopper_solve_kernel"]["cycles"] == 3.27
    no_reason = printed(first).replace("issue_stalled", "something_else")
    assert benchmark.read_stalls(no_reason) == {} and benchmark.read_counters(no_reason)


def test_stalls_are_asked_for_again_without_what_a_version_does_not_know(monkeypatch):
    asked = []

    def ncu(command, **_):
        asked.append(command)
        if any(unknown in word for word in command):
            return subprocess.CompletedProcess(command, 1, "==ERROR== Failed to find metric", "")
        row = [*SOLVE, "20", "60.5", "1.98", "3.27", "0.25", "0.75", "1.00", "1.27", "9", "7"]
        return subprocess.CompletedProcess(command, 0, printed(row), "")

    monkeypatch.setattr(benchmark.shutil, "which", lambda name: name)
    monkeypatch.setattr(benchmark.subprocess, "run", ncu)
    cfg, gpu = cells("fast")["stalls_trained_d64"], torch.device("cuda")
    unknown = "wavefronts"
    assert benchmark.measure_stalls(cfg, gpu)["hopper_solve_kernel"]["stalls"]["gmma"] == 0.75
    first, second = asked
    assert all("one_step('trained', 64)" in command[-1] for command in asked)
    assert {*benchmark.WAITING} <= {*first} & {*second}
    wanted = [command[command.index("--metrics") + 1].split(",") for command in asked]
    assert wanted[1] == ["gpu__time_duration.sum"] == wanted[0][:1] and len(wanted[0]) == 4
    unknown = "WarpStateStats"
    with pytest.raises(RuntimeError, match="ncu ended with 1: ==ERROR== Failed to find metric"):
        benchmark.measure_stalls(cfg, gpu)
    monkeypatch.setattr(benchmark.shutil, "which", lambda name: None)
    assert benchmark.measure_stalls(cfg, gpu) == benchmark.measure_counters(cfg, gpu)
    assert benchmark.measure_stalls(cfg, gpu) == {"note": "counters are read by ncu, on CUDA only"}


def test_counters_are_asked_for_by_their_sections_alone(monkeypatch):
    asked = []

    def ncu(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "no kernel was seen")

    monkeypatch.setattr(benchmark.shutil, "which", lambda name: name)
    monkeypatch.setattr(benchmark.subprocess, "run", ncu)
    with pytest.raises(RuntimeError, match="ncu ended with 0: no kernel was seen"):
        benchmark.measure_counters(cells("full")["counters_isotropic_d64"], torch.device("cuda"))
    assert len(asked) == 1 and "--metrics" not in asked[0]
    assert [b for a, b in zip(asked[0], asked[0][1:]) if a == "--section"] == [*benchmark.SECTIONS]


def test_parallax_of_the_other_library_gets_its_layout_and_its_sign(monkeypatch):
    "A stand-in for flash-linear-attention, which needs a GPU: tensors [B, T, H, D], and r is -u."

    def parallax(q, r, k, v):
        q, r, k, v = (t.transpose(1, 2) for t in (q, r, k, v))
        p = (
            (q @ k.mT / q.shape[-1] ** 0.5)
            .masked_fill(torch.ones(q.shape[-2], q.shape[-2]).triu(1) > 0, -torch.inf)
            .softmax(-1)
        )
        a = r @ k.mT
        return ((p * (1 - a + (p * a).sum(-1, keepdim=True))) @ v).transpose(1, 2)

    cfg = Config("given", **SMALL)
    monkeypatch.setattr(benchmark, "_others_parallax", lambda: (lambda q, k, v, r: parallax(q, r, k, v), "0"))
    found = benchmark.measure_given(cfg, CPU)
    for who in ("lla", "fla"):
        assert found[who]["ms"] > 0 and found[who]["training_ms"] > 0
        assert set(found[who]["errors"]) == {"o", "dq", "dk", "dv", "du"}
    assert max(found["lla"]["errors"].values()) < 0.01 and max(found["fla"]["errors"].values()) < 0.02
    monkeypatch.setattr(benchmark, "_others_parallax", lambda: (None, ""))
    assert benchmark.measure_given(cfg, CPU)["fla"] is None
