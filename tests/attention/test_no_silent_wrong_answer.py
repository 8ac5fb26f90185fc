"""What every rung promises beside its formula: which keys a query sees, and what must not change its answer.

Rungs: the dense formula, the tiled reference, the public function with each backend, decoding, and the Triton
kernels (on a GPU,
or under the interpreter). The oracle is written here, one query at a time, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import random_heads
from lla_course import flash_lla, lla_decode
from lla_course.attention.backward import lla_attention
from lla_course.attention.dense import as_heads, lla_dense
from lla_course.attention.tiled import RIDGE_FLOOR, lla_tiled, solve_rows
from lla_course.kernels.runtime import can_run

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
f64, f32, f16, bf16 = torch.float64, torch.float32, torch.float16, torch.bfloat16
triton_runs = pytest.mark.skipif(not can_run(DEVICE), reason="needs Triton, and a GPU or TRITON_INTERPRET=1")


def on_the_device(*tensors):
    return [t.to(DEVICE) if isinstance(t, torch.Tensor) else t for t in tensors]


def triton(q, k, v, **knobs):
    knobs = {n: t.to(DEVICE) if isinstance(t, torch.Tensor) else t for n, t in knobs.items()}
    return flash_lla(*on_the_device(q, k, v), backend="triton", **knobs).to(q.device)


def decode(q, k, v, *, tol=None, is_causal=True, **knobs):
    assert is_causal
    lead = q.shape[:-2]
    four = [t.reshape(1, -1, *t.shape[-2:]) for t in (q, k, v)]
    knobs = {
        n: t.reshape(1, -1, t.shape[-1]) if isinstance(t, torch.Tensor) and t.dim() else t
        for n, t in knobs.items()
    }
    return lla_decode(*four, backend="tiled", **knobs).reshape(*lead, *q.shape[-2:])


def dense(q, k, v, *, tol=None, **knobs):
    return lla_dense(q, k, v, floor=RIDGE_FLOOR[q.dtype], **knobs)


def tiled(q, k, v, **knobs):
    return flash_lla(q, k, v, backend="tiled", **knobs)


EVERY = {"dense": dense, "lla_attention": lla_attention, "flash_lla": tiled}
rungs = pytest.mark.parametrize("rung", EVERY.values(), ids=EVERY)


def draw(T, S, D, N=2, **knobs):
    return random_heads((N, T, D), (N, S, D), (N, S, D), **knobs)


def oracle(q, k, v, ridge, is_causal=True, scale=None, floor=1e-8, eps=2.0**-52):
    "One row after the other, differentiable; the floor is a constant."
    T, S, D = q.shape[-2], k.shape[-2], q.shape[-1]
    rows = torch.as_tensor(ridge, dtype=f64).expand(q.shape[:-1])

    def answer(n, i):
        keys, values = (t[n, : S - T + i + 1] if is_causal else t[n] for t in (k, v))
        if len(keys) == 1:
            return values[0]
        p = ((D**-0.5 if scale is None else scale) * keys @ q[n, i]).softmax(0)
        kbar = p @ keys
        z = keys - kbar
        least = (floor * (p * z.square().sum(-1)).sum() / D + 8 * eps * kbar.square().sum()).detach()
        lam = torch.maximum(rows[n, i], least) if rows[n, i] > least else least
        u = torch.linalg.solve((p[:, None] * z).T @ z + lam * torch.eye(D, dtype=f64), q[n, i] - kbar)
        return (p * (1 + z @ u)) @ values

    return torch.stack([torch.stack([answer(n, i) for i in range(T)]) for n in range(len(q))])


def far(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-300))


# ---- which keys a query sees


@pytest.mark.parametrize("T", [1, 3, 40])
@rungs
def test_fewer_queries_than_keys_are_the_last_ones(rung, T):
    q, k, v = (t.requires_grad_() for t in draw(70, 70, 8))
    mine = q[:, 70 - T :].detach().requires_grad_()
    full, part = rung(q, k, v, ridge=0.1, tol=1e-12), rung(mine, k, v, ridge=0.1, tol=1e-12)
    assert far(part, full[:, 70 - T :]) < 1e-9
    g = torch.randn(part.shape, dtype=f64, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad(part, (mine, k, v), g)
    theirs = torch.autograd.grad(full[:, 70 - T :], (q, k, v), g)
    for a, b in zip(ours, (theirs[0][:, 70 - T :], *theirs[1:])):
        assert far(a, b) < 1e-8


@pytest.mark.parametrize("T", [1, 3, 8])
def test_decoding_answers_for_the_last_ones_too(T):
    q, k, v = draw(70, 70, 8)
    assert far(decode(q[:, 70 - T :], k, v, ridge=0.1), lla_dense(q, k, v)[:, 70 - T :]) < 1e-9


@triton_runs
@pytest.mark.parametrize("T, S, dtype", [(1, 70, f32), (3, 70, f32), (40, 70, f32), (17, 131, bf16)])
def test_the_kernels_answer_for_the_last_ones_too(T, S, dtype):
    q, k, v = draw(S, S, 16, dtype=dtype)
    q = q[:, S - T :].clone()
    close = 1e-4 if dtype == f32 else 3e-2
    truth = [t.double().requires_grad_() for t in (q, k, v)]
    want = lla_dense(*truth, ridge=0.3)
    ours = [t.clone().requires_grad_() for t in (q, k, v)]
    got = triton(*ours, ridge=0.3, tol=1e-6 if dtype == f32 else 1e-2)
    assert far(got, want) < close
    g = torch.randn(want.shape, dtype=f64, generator=torch.Generator().manual_seed(1))
    for a, b in zip(
        torch.autograd.grad(got, ours, g.to(dtype)), torch.autograd.grad(want, truth, g.to(dtype).double())
    ):
        assert far(a, b) < 3 * close


@rungs
def test_one_query_over_a_cache_is_not_its_first_value(rung):
    q, k, v = draw(1, 30, 4)
    assert far(rung(q, k, v), oracle(q, k, v, 0.1)) < 1e-8 and far(rung(q, k, v), v[:, :1]) > 0.1


@pytest.mark.parametrize("door", [*EVERY.values(), triton], ids=[*EVERY, "triton"])
def test_more_queries_than_keys_are_refused(door):
    q, k, v = draw(9, 4, 4, dtype=f32)
    with pytest.raises(ValueError, match=r"^q.shape=\(2, 9, 4\): expected at most 4 queries"):
        door(q, k, v)


def test_transforms_see_the_same_keys():
    q, k, v = draw(3, 20, 8, N=4, dtype=f32)
    want = lla_dense(q, k, v)
    assert far(torch.vmap(flash_lla)(q, k, v), want) < 1e-4
    assert far(torch.compile(flash_lla, backend="aot_eager")(q, k, v), want) < 1e-4
    assert flash_lla(q, k, v, return_info=True)[1]["steps"].shape == (4, 3)


# ---- the future

LATER = [(f32, 1e4), (f32, 1e5), (f32, 1e30), (bf16, 1e5), (bf16, 1e30), (f16, 6e4)]


@pytest.mark.parametrize("dtype, long", LATER)
@pytest.mark.parametrize("narrow", [1.0, 0.01])
def test_a_later_key_changes_no_bit_of_the_tiled_answer(dtype, long, narrow):
    q, k, v = draw(40, 40, 16, N=1, dtype=dtype)
    k = narrow * k
    later = k.clone()
    later[:, -1] = long
    ours, theirs = flash_lla(q, later, v, backend="tiled"), flash_lla(q, k, v, backend="tiled")
    assert torch.equal(ours[:, :-1], theirs[:, :-1]) and theirs.isfinite().all()


@triton_runs
@pytest.mark.parametrize("dtype, long", LATER)
@pytest.mark.parametrize("narrow, ridge", [(1.0, 0.1), (0.01, 0.1), (1.0, 0.0)])
def test_a_later_key_changes_no_bit_of_the_kernels_answer(dtype, long, narrow, ridge):
    q, k, v = draw(40, 40, 16, N=1, dtype=dtype)
    k = narrow * k
    later = k.clone()
    later[:, -1] = long
    ours, theirs = triton(q, later, v, ridge=ridge), triton(q, k, v, ridge=ridge)
    assert torch.equal(ours[:, :-1], theirs[:, :-1]) and theirs.isfinite().all()


@triton_runs
def test_a_neighbours_ridge_changes_no_bit_of_the_kernels_answer():
    q, k, v = draw(40, 40, 16, N=1, dtype=f32)
    ridge = torch.full((1, 40), 0.1)
    other = ridge.clone()
    other[:, 30] = 0.0
    keep = [i for i in range(40) if i != 30]
    assert torch.equal(triton(q, k, v, ridge=ridge)[:, keep], triton(q, k, v, ridge=other)[:, keep])


# ---- a key that nobody attends to


@pytest.mark.parametrize("D, long", [(4, 1000.0), (16, 3000.0), (64, 3000.0), (16, 1e30)])
@pytest.mark.parametrize("place", [0, 20])
@pytest.mark.parametrize("door", [tiled, pytest.param(triton, marks=triton_runs)], ids=["tiled", "triton"])
def test_a_distant_key_that_nobody_attends_to_changes_nothing(door, D, long, place):
    q, k, v = draw(48, 48, D, N=1, dtype=f32)
    q[..., 0], k = q[..., 0].abs() + 0.5, 0.3 * k
    k[:, place] = 0
    k[:, place, 0] = -long
    rest = [i for i in range(48) if i != place]
    want = lla_dense(q[:, place + 1 :].double(), k[:, rest].double(), v[:, rest].double())
    assert far(door(q, k, v)[:, place + 1 :], want) < 1e-4


# ---- equal, nearly equal and few keys

KEYS = {
    "equal": (0.0, 9),
    "two equal": (0.0, 2),
    "apart by 1e-6": (1e-6, 9),
    "apart by 1e-3": (1e-3, 9),
    "one": (1.0, 1),
    "two": (1.0, 2),
    "few": (1.0, 3),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rung", [*EVERY.values(), decode], ids=[*EVERY, "lla_decode"])
def test_gradients_where_keys_coincide(rung, kind, causal):
    spread, S = KEYS[kind]
    if rung is decode and not causal:
        pytest.skip("decoding is causal")
    T = min(S, 8)
    q, k, v = draw(T, S, 4)
    k = k[:, :1] + spread * (k - k[:, :1])
    ridge = torch.full((2, T), 0.5, dtype=f64)
    given = [t.clone().requires_grad_() for t in (q, k, v, ridge)]
    g = torch.randn(2, T, 4, dtype=f64, generator=torch.Generator().manual_seed(1))
    want_o = oracle(*given, is_causal=causal)
    want = torch.autograd.grad(want_o, given, g, allow_unused=True)
    got_o = rung(*given[:3], ridge=given[3], is_causal=causal, tol=1e-13)
    got = torch.autograd.grad(got_o, given, g)
    size = max(float(t.norm()) for t in want if t is not None)
    assert far(got_o, want_o) < 1e-9
    for name, a, b in zip(("dq", "dk", "dv", "dridge"), got, want):
        b = torch.zeros_like(a) if b is None else b
        assert float((a - b).norm()) < 1e-6 * max(float(b.norm()), 1e-3 * size), name


def test_moving_one_of_three_equal_keys():
    "Central differences of a sum of outputs; dropping u gave .892 in the place of 4.193."
    g = torch.Generator().manual_seed(0)
    k = torch.randn(1, 3, generator=g, dtype=f64).expand(3, 3).clone().requires_grad_()
    q, v = torch.randn(1, 3, generator=g, dtype=f64), torch.randn(3, 3, generator=g, dtype=f64)
    value = lambda k: flash_lla(q, k, v, ridge=0.5, is_causal=False, tol=1e-13).sum()
    (ours,) = torch.autograd.grad(value(k), k)
    steps = 1e-5 * torch.eye(9, dtype=f64).view(9, 3, 3)
    theirs = torch.stack([(value(k.detach() + s) - value(k.detach() - s)) / 2e-5 for s in steps]).view(3, 3)
    assert far(ours, theirs) < 1e-6


def equal_columns_stay_equal(D=16, most=64):
    """Whether a product gives equal entries for equal columns.

    A GPU's does; numpy, which is the interpreter, multiplies the last columns by other instructions on some
    processors."""
    u = np.random.default_rng(0).normal(size=(most, D)).astype("float32")
    k = np.tile(u[:1].T, (1, most))
    return all((p == p[:, :1]).all() for p in (u @ k[:, :n] for n in (16, 20, 32, most)))


@triton_runs
@pytest.mark.parametrize("dtype, ridge", [(f32, 0.0), (f32, 0.1), (bf16, 0.0), (bf16, 0.1), (f16, 0.1)])
def test_the_kernels_where_keys_are_equal(dtype, ridge):
    q, k, v = draw(20, 20, 16, N=1, dtype=dtype)
    k = k[:, :1].expand_as(k)
    want = torch.stack([v[0, : i + 1].double().mean(0) for i in range(20)])[None]
    # without a ridge u is 10^5 times as long as a key, and a difference of one rounding is seen
    uneven = DEVICE == "cpu" and not ridge and not equal_columns_stay_equal()
    assert far(triton(q, k, v, ridge=ridge), want) < (1e-5 if dtype == f32 and not uneven else 2e-2)
    if ridge:
        given = [t.clone().requires_grad_() for t in (q, k, v)]
        truth = [t.double().requires_grad_() for t in (q, k, v)]
        g = torch.randn(v.shape, dtype=f64, generator=torch.Generator().manual_seed(1)).to(dtype)
        got = torch.autograd.grad(triton(*given, ridge=ridge), given, g)
        for a, b in zip(got[1:], torch.autograd.grad(oracle(*truth, ridge), truth, g.double())[1:]):
            assert far(a, b) < (1e-4 if dtype == f32 else 3e-2)


# ---- units


@settings(max_examples=20)
@given(power=st.integers(-30, 30), seed=st.integers(0, 99), ridge=st.sampled_from([0.0, 0.01, 0.1, 1.0]))
def test_the_unit_of_keys_and_queries_does_not_matter(power, seed, ridge):
    q, k, v = draw(30, 30, 8, N=1, dtype=f32, seed=seed)
    s = 2.0**power

    def scaled(door, s):
        return door(q * s, k * s, v, ridge=ridge * s * s, scale=8**-0.5 / s / s)

    for door in (tiled, lla_attention, dense):
        assert far(scaled(door, s), scaled(door, 1.0)) < 1e-5


@triton_runs
@pytest.mark.parametrize("power", [-30, -12, 12, 30])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_nor_does_it_in_the_kernels(power, ridge):
    q, k, v = draw(70, 70, 16, N=1, dtype=f32)
    s = 2.0**power

    def scaled(s):
        return triton(q * s, k * s, v, ridge=ridge * s * s, scale=0.25 / s / s)

    assert far(scaled(s), scaled(1.0)) < 1e-5


@pytest.mark.parametrize("size", [1e-18, 1e-20, 1e-22, 1e18])
def test_keys_too_small_or_too_large_to_be_squared_give_numbers(size):
    q, k, v = draw(20, 20, 8, dtype=f32)
    for ridge in (0.0, 0.1):
        o, info = flash_lla(q, size * k, v, ridge=ridge, return_info=True)
        assert o.isfinite().all() and (info["residual"] <= 1).all()


# ---- solvers that do not finish


def residual_of(heads, t):
    "|b - A u| / |b| of every row, in float64."
    q, k, u, kbar = (x.double() for x in (heads.q, heads.k, t.u, t.kbar))
    logits = (heads.scale * q @ k.mT).masked_fill(
        torch.ones(q.shape[1], k.shape[1]).triu(1 + heads.past).bool(), -math.inf
    )
    z = k[:, None] - kbar[:, :, None]
    p = logits.softmax(-1)
    b = q - kbar
    r = b - ((p * (z @ u[..., None])[..., 0])[:, :, None] @ z)[:, :, 0] - t.ridge.double()[..., None] * u
    return r.norm(dim=-1) / b.norm(dim=-1)


@pytest.mark.parametrize(
    "D, ridge, size, T", [(64, 1e-6, 8, 70), (64, 0.0, 8, 70), (16, 0.0, 8, 70), (128, 1e-6, 1, 256)]
)
def test_an_unfinished_row_gives_the_best_it_had(D, ridge, size, T):
    q, k, v = draw(T, T, D, N=1)
    heads = as_heads(q, size * k, v, ridge=ridge)
    t = lla_tiled(heads)
    unfinished = t.residual > 1e-10
    assert unfinished.any() and (t.residual <= 1).all()
    # the rest is rounding of a long u
    assert (residual_of(heads, t)[:, 1:] <= 1.001 * t.residual[:, 1:] + 1e-5).all()


def test_the_best_iterate_is_the_one_of_smallest_residual():
    "Residuals of conjugate gradient rise before they fall on such a matrix."
    g = torch.Generator().manual_seed(3)
    turn = torch.linalg.qr(torch.randn(40, 40, generator=g, dtype=f64)).Q
    A = turn @ torch.diag(torch.logspace(-6, 0, 40, dtype=f64)) @ turn.T
    b = torch.randn(1, 1, 40, generator=g, dtype=f64)

    def go(steps):
        return solve_rows(lambda x: x @ A, b, tol=0.0, max_steps=steps)

    iterates = [go(n) for n in range(12)]
    told = torch.stack([r[0, 0] for _, _, r in iterates])
    true = torch.stack([(b - x @ A).norm() / b.norm() for x, _, _ in iterates])
    assert torch.allclose(told, true, rtol=1e-6) and (told.diff() <= 0).all() and told[-1] <= 1


@triton_runs
def test_an_unfinished_row_of_the_kernels_gives_the_best_it_had():
    q, k, v = draw(70, 70, 64, N=1, dtype=f32)
    k, few = 8 * k, []
    for steps in (1, 2, 3, 5, 8):
        knobs = dict(ridge=0.0, max_steps=steps, return_info=True, backend="triton")
        o, info = flash_lla(*on_the_device(q, k, v), **knobs)
        assert o.isfinite().all()
        few.append(info["residual"].cpu())
    told = torch.stack(few)
    assert (told <= 1).all() and (told.diff(dim=0) <= 1e-5).all() and (told[-1] > 0.01).any()


# ---- the floor


@pytest.mark.parametrize("rung", [lla_attention, tiled, dense], ids=["lla_attention", "flash_lla", "dense"])
def test_a_ridge_below_the_floor_has_no_gradient_and_no_effect(rung):
    q, k, v = draw(30, 30, 8, dtype=f32)
    ridge = torch.full((2, 30), 1e-6, requires_grad=True)
    o = rung(q, k, v, ridge=ridge)
    assert torch.equal(o[:, 1:], rung(q, k, v, ridge=2e-6)[:, 1:])
    (d,) = torch.autograd.grad(o.square().sum(), ridge)
    assert (d == 0).all()
    (above,) = torch.autograd.grad(
        rung(q, k, v, ridge=(big := torch.full((2, 30), 0.5, requires_grad=True))).square().sum(), big
    )
    assert (above[:, 1:] != 0).all()


@triton_runs
def test_nor_has_it_in_the_kernels():
    q, k, v = draw(30, 30, 16, N=1, dtype=f32)
    ridge = torch.full((1, 30), 1e-6, requires_grad=True)
    (d,) = torch.autograd.grad(triton(q, k, v, ridge=ridge).square().sum(), ridge)
    assert (d == 0).all()


@pytest.mark.parametrize("dtype", [f64, f32])
def test_all_backends_have_the_same_floor(dtype):
    q, k, v = draw(40, 40, 8, dtype=dtype)
    tight = 1e-12 if dtype == f64 else 1e-7
    a, b = (
        flash_lla(q, k, v, ridge=0.0, backend=name, tol=tight, max_steps=400) for name in ("tiled", "dense")
    )
    assert far(a, b) < (1e-6 if dtype == f64 else 2e-3)
