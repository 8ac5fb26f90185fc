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
