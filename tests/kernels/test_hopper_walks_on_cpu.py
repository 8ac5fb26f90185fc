"""The walks in Gluon, run as Python on the CPU (gluon_on_cpu.py), beside their twins and float64."""

import inspect
from functools import cache

import gluon_on_cpu
import pytest
import torch

from helpers import interpreted, random_heads, relative_rms
from lla_course.attention.dense import lla_dense
from lla_course.kernels import flash_lla_backward as backward
from lla_course.kernels import flash_lla_forward as forward
from lla_course.kernels import hopper_walks as walks

pytestmark = interpreted

NAMES = ("o", "dq", "dk", "dv", "dridge")
# heads, key heads, T, S, D, dtype, causal, ridge
CASES = {
    "square": (1, 1, 128, 128, 64, torch.bfloat16, True, 0.1),
    "grouped, odd sizes": (2, 1, 70, 150, 64, torch.bfloat16, True, 0.1),
    "all keys": (2, 1, 90, 130, 64, torch.float16, False, 0.1),
    "causal in float16": (2, 2, 75, 110, 64, torch.float16, True, 0.1),
    "wide": (2, 1, 70, 90, 128, torch.bfloat16, True, 0.1),
    "wide, all keys": (1, 1, 33, 100, 128, torch.float16, False, 0.1),
    "one query": (1, 1, 1, 77, 64, torch.bfloat16, True, 0.1),
}
KNOBS = dict(scale=0.125, is_causal=True, tol=1e-2, max_steps=20)


@pytest.fixture(autouse=True)
def few_keys(monkeypatch):
    "The walks are for many keys; here a few must do."
    monkeypatch.setattr(forward, "FEW_KEYS", 0)


def drawn(heads, kv_heads, T, S, D, dtype, seed=0):
    "q, k, v and a gradient by the output."
    shapes = (heads, T, D), (kv_heads, S, D), (kv_heads, S, D), (heads, T, D)
    return random_heads(*shapes, dtype=dtype, seed=seed)


def passes(q, k, v, g, ridge, is_causal, own=None, tol=1e-3):
    "The output and all gradients: by the walks `own`, or by Triton alone."
    rows = torch.full(q.shape[:2], ridge)
    knobs = dict(scale=q.shape[-1] ** -0.5, is_causal=is_causal, tol=tol, max_steps=60, walks=own)
    saved = forward.lla_forward(q, k, v, rows, **knobs)
    return saved, (saved.o, *backward.lla_backward(q, k, v, saved, g, ridge=rows, **knobs))


def exact(q, k, v, g, ridge, is_causal):
    "The same in float64."
    group = q.shape[0] // k.shape[0]
    leaves = [t.double().requires_grad_() for t in (q, k, v)]
    rows = torch.full(q.shape[:2], ridge, dtype=torch.float64, requires_grad=True)
    k64, v64 = (t.repeat_interleave(group, 0) for t in leaves[1:])
    o = lla_dense(leaves[0], k64, v64, ridge=rows, is_causal=is_causal)
    return (o.detach(), *torch.autograd.grad(o, [*leaves, rows], g.double()))


@cache
def known(name):
    "Of a case: what is given, what Triton makes of it, and what float64 does."
    *sizes, dtype, is_causal, ridge = CASES[name]
    given = *drawn(*sizes, dtype), ridge, is_causal
    return given, passes(*given), exact(*given)


def as_good(name, own):
    "Whether the walks are as near to float64 as the roundings of 16 bits allow, and near to their twins."
    given, (twin, theirs), truth = known(name)
    saved, ours = passes(*given, own)
    unit = dict(o=8e-3, dq=8e-3, dk=4e-2, dv=8e-3, dridge=2e-2)
    less = 1 if given[0].dtype == torch.bfloat16 else 0.25
    for name, a, b, c in zip(NAMES, ours, theirs, truth):
        assert relative_rms(a, c) <= 1.2 * relative_rms(b, c) + less * unit[name], name
    for name in ("kbar", "lse2", "row_max", "n_eff", "ridge"):
        assert relative_rms(getattr(saved, name), getattr(twin, name)) <= 3e-3, name


@pytest.mark.parametrize("name", CASES)
def test_they_are_as_good_as_the_portable_kernels(name):
    as_good(name, gluon_on_cpu.walks_on_cpu(walks))


@pytest.mark.parametrize("is_causal", [True, False])
def test_a_ridge_below_the_floor_is_raised_as_by_the_portable_kernel(is_causal):
    q, k, v, g = drawn(2, 1, 70, 150, 64, torch.float16)
    k[0, 120] *= 20  # seen by the last queries only, if causal
    ridge = torch.logspace(-6, 1, 70).expand(2, 70).contiguous()
    knobs = KNOBS | dict(is_causal=is_causal)
    ours, twin = (
        forward.lla_forward(q, k, v, ridge, **knobs, walks=own).ridge
        for own in (gluon_on_cpu.walks_on_cpu(walks), None)
    )
    raised = ours > ridge
    assert raised.any() and not raised.all() and ((ours / twin - 1).abs() < 2e-3).all()


def test_shared_matrices_are_told_how_many_keys_count():
    q, k, v, g = drawn(1, 1, 650, 650, 64, torch.bfloat16)
    rows, knobs = torch.full((1, 650), 0.1), dict(scale=0.125, is_causal=True, tol=1e-2, max_steps=3)
    ours, twin = (
        forward.lla_forward(q, k, v, rows, **knobs, walks=own)
        for own in (gluon_on_cpu.walks_on_cpu(walks), None)
    )
    assert ours.inverse.shape[1] == 1 and relative_rms(ours.n_eff, twin.n_eff) < 3e-3
    assert relative_rms(ours.o, twin.o) < 1e-2


@pytest.mark.parametrize("late", [3e4, 1e38, torch.nan])
def test_later_keys_change_no_bit(late):
    # nan: from the next tile of queries on
    at = 70 if late == late else 128
    q, k, v, g = drawn(1, 1, 200, 200, 64, torch.bfloat16)
    own = gluon_on_cpu.walks_on_cpu(walks)
    before = forward.lla_forward(q, k, v, torch.full((1, 200), 0.1), **KNOBS, walks=own)
    k[:, at:], v[:, at:] = late, late
    after = forward.lla_forward(q, k, v, torch.full((1, 200), 0.1), **KNOBS, walks=own)
    for name in ("o", "u", "kbar", "lse2", "row_max", "n_eff"):
        assert torch.equal(getattr(before, name)[:, :at], getattr(after, name)[:, :at]), name


def test_another_head_changes_no_bit():
    q, k, v, g = drawn(2, 2, 70, 90, 64, torch.bfloat16)
    own = gluon_on_cpu.walks_on_cpu(walks)
    _, before = passes(q, k, v, g, 0.1, True, own)
    for t in (q[1:], k[1:], v[1:], g[1:]):
        t.fill_(torch.nan)
    _, after = passes(q, k, v, g, 0.1, True, own)
    for a, b in zip(before, after):
        assert torch.equal(a[: len(a) // 2], b[: len(b) // 2])


@pytest.mark.parametrize("how", ["interleaved", "odd rows", "one head again", "not aligned"])
def test_tensors_that_the_copy_engine_does_not_take_are_copied(how):
    q, k, v, g = drawn(2, 2, 40, 80, 64, torch.bfloat16)
    if how == "one head again":
        k, v = (t[:1].expand(2, -1, -1) for t in (k, v))
    _, want = passes(q, k.clone(), v.clone(), g, 0.1, True, gluon_on_cpu.walks_on_cpu(walks))
    if how == "interleaved":
        q, k, v = (t.transpose(0, 1).contiguous().transpose(0, 1) for t in (q, k, v))
    elif how == "odd rows":
        q, k, v = (torch.cat([t, t[..., :3]], -1)[..., :64] for t in (q, k, v))
    elif how == "not aligned":
        q, k, v = (torch.cat([t.flatten()[:1], t.flatten()])[1:].view(t.shape) for t in (q, k, v))
    _, found = passes(q, k, v, g, 0.1, True, gluon_on_cpu.walks_on_cpu(walks))
    assert all(torch.equal(a, b) for a, b in zip(found, want))


# what these tests would notice: the source of a function with a fault in it
FAULTS = {
    "a wait that is too short": ("walk_others", "wait(0, deps=(a, r))", "wait(1, deps=(a, r))"),
    "a place that is filled while it is read": ("walk_some_tiles", "t - 1 + META.STAGES", "t + META.STAGES"),
    "a copy before its place is free": ("walk_some_tiles", "walk_fetch(t - 1", "walk_fetch(t - 2"),
    "the wrong tile of the ring": ("walk_place", "number % META.STAGES", "(number + 1) % META.STAGES"),
    "a mask that is left out": ("walk_program", "it * META.BT + 1)", "(it + 1) * META.BT)"),
    "0 x inf": ("walk_weights", "gl.where(b_p > 0, b_w * a, 0.0)", "b_w * a"),
    "the values of another head": ("walk_program", "n // GROUP", "n"),
    "the other sign of y": ("hopper_halves", "walk_split(-b_y", "walk_split(b_y"),
    "sums that do not shrink": ("mean_add", "sums[1] * ", "sums[1] + 0 * "),
    "the maximum of a tile alone": ("mean_weights", "gl.maximum(b_m, gl.max(b_s, 1))", "gl.max(b_s, 1)"),
    "queries of the first head alone": ("dkv_next", "h, h + 1)", "h, h)"),
    "the first query of a head left out": ("dkv_next", "i, span[2])", "i, span[2] + META.BT)"),
    "a wait for one product fewer": ("dkv_some_tiles", "wait(5, deps=(s, dk", "wait(6, deps=(s, dk"),
    "the numbers of another tile": ("dkv_row", "number % META.STAGES", "(number + 1) % META.STAGES"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault):
    name, right, wrong = FAULTS[fault]
    source = inspect.getsource(getattr(walks, name).fn).split("@gluon.jit\n", 1)[-1]
    assert source.count(right) >= 1, "the fault has nowhere to be"
    made = {}
    exec(compile(source.replace(right, wrong), walks.__file__, "exec"), dict(vars(walks)), made)
    mistaken = made[name]
    mistaken.__module__ = walks.__name__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, name, mistaken)
        with pytest.raises((AssertionError, IndexError, RuntimeError)):
            if fault == "0 x inf":
                test_later_keys_change_no_bit(1e38)
            else:
                as_good("grouped, odd sizes", gluon_on_cpu.walks_on_cpu(walks))


def test_short_texts_and_other_shapes_keep_the_portable_kernels():
    q, k = torch.zeros(1, 2000, 64, dtype=torch.bfloat16), torch.zeros(1, 1000, 64, dtype=torch.bfloat16)
    for args in ((q, k, k), (q, q, q[..., :32]), (q[..., :48],) * 3, (q, q, q, (5, 0)), (q.float(),) * 3):
        assert walks.walks_for(*args) == {}
