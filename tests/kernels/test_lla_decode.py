"""Decoding: the twin against the dense formula, the merge law, the kernels interpreted, compiled for GPUs
that are not there, and for real where there is one."""

import math
import warnings
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from helpers import DEVICE, FLOOR, counted_products, interpreted, needs_kernels, random_heads, relative_rms
from lla_course.attention import flash
from lla_course.attention.conjugate_gradient import conjugate_gradient
from lla_course.attention.decode import (
    BACKENDS,
    decode_statistics,
    lla_decode,
    lla_decode_tiled,
    merge_statistics,
    sweep_solve,
)
from lla_course.attention.dense import lla_dense
from lla_course.kernels import lla_decode as kernels
from lla_course.kernels.lla_decode import choose_splits, lla_decode_triton


def cache(B, H, Hkv, T, S, D, dtype=torch.float64, seed=0, mean=0.0):
    q, k, v = random_heads((B, H, T, D), (B, Hkv, S, D), (B, Hkv, S, D), seed=seed)
    return (q + mean).to(dtype), (k + mean).to(dtype), v.to(dtype)


def dense(q, k, v, lengths=None, ridge=0.1, scale=None):
    "The oracle: each query of each sequence on the keys that it sees."
    B, H, T, _ = q.shape
    ridge = torch.as_tensor(ridge, dtype=torch.float64).expand(B, H, T)
    lengths = [k.shape[2]] * B if lengths is None else lengths.tolist()
    answer = lambda b, t, n: lla_dense(
        q[b, :, t : t + 1].double(),
        k[b, :, :n].double(),
        v[b, :, :n].double(),
        ridge=ridge[b, :, t : t + 1],
        scale=scale,
        is_causal=False,
        enable_gqa=True,
    )
    return torch.stack(
        [torch.cat([answer(b, t, n - T + t + 1) for t in range(T)], 1) for b, n in enumerate(lengths)]
    )


def decode(q, k, v, lengths=None, **knobs):
    move = lambda t: t.to(DEVICE) if isinstance(t, torch.Tensor) else t
    return lla_decode(
        move(q), move(k), move(v), cache_seqlens=move(lengths), **{n: move(t) for n, t in knobs.items()}
    ).cpu()


def one_pass(q, k, v, lengths=None, ridge=0.1):
    "What one pass in float32 can know: averages about the origin, then everything else in float64."

    def answer(q, k, v):
        p = (q.shape[-1] ** -0.5 * (k @ q)).softmax(0)
        means = p @ k, p @ v, k.T @ (p[:, None] * k), v.T @ (p[:, None] * k)
        kbar, vbar, kk, vk = (t.double() for t in means)
        C = kk - torch.outer(kbar, kbar)
        lam = max(ridge, 1e-3 * float(C.trace()) / len(q) + 1e-6 * float(kbar @ kbar))
        u = torch.linalg.solve(C + lam * torch.eye(len(q), dtype=torch.float64), q - kbar)
        return vbar + (vk - torch.outer(vbar, kbar)) @ u

    (B, H, T, _), (_, HKV, S, _) = q.shape, k.shape
    lengths = [S] * B if lengths is None else lengths.tolist()
    rows = [
        answer(q[b, h, t], *(x[b, h * HKV // H, : lengths[b] - T + t + 1] for x in (k, v)))
        for b in range(B)
        for h in range(H)
        for t in range(T)
    ]
    return torch.stack(rows).reshape(q.shape)


# ---- an oracle of one row at a time, in float64, with the floor of the docstring; what rounding may do

EPS32, EPS64 = 2.0**-23, 2.0**-52
FLOORS = {torch.float64: (1e-8, 8 * EPS64)}  # the ridge is at least floor tr(C) / D + noise |kbar|^2
KERNEL_FLOOR = (1e-3, 1e-6)


def by_rows(q, k, v, lengths=None, ridge=0.1, scale=None, floor=(1e-3, 8 * EPS32), bound=None):
    "Answers of each query, differentiable, the floor held constant; with `bound` also what it says of them."
    (B, H, T, D), (_, HKV, S, _) = q.shape, k.shape
    scale = D**-0.5 if scale is None else scale
    ridge = torch.as_tensor(ridge, dtype=torch.float64).expand(B, H, T)

    def answer(b, h, t):
        n = (S if lengths is None else int(lengths[b])) - T + t + 1
        x, y, c = k[b, h * HKV // H, :n].double(), v[b, h * HKV // H, :n].double(), q[b, h, t].double()
        p = (scale * (x @ c)).softmax(0)
        kbar, vbar = p @ x, p @ y
        z = x - kbar
        C = (p[:, None] * z).T @ z
        least = (floor[0] * C.trace() / D + floor[1] * kbar @ kbar).detach()
        lam = least if ridge[b, h, t] < least else ridge[b, h, t]
        A, u = C + lam * torch.eye(D, dtype=torch.float64), torch.zeros(D, dtype=torch.float64)
        if n > 1 and lam > 0:
            u = torch.linalg.solve(A, c - kbar)
        return vbar + (p * (z @ u)) @ (y - vbar), bound and bound(x, y, c, kbar, A, C, u, scale)

    rows = [answer(b, h, t) for b in range(B) for h in range(H) for t in range(T)]
    o = torch.stack([o for o, _ in rows]).reshape(B, H, T, D)
    return (o, torch.stack([e for _, e in rows]).reshape(B, H, T, 1)) if bound else o


def rounding_bound(eps, keys=0.0, tol=0.0, centred=True):
    """A bound on the error of a row, in first order. V is the largest value.

    Logits are off by eps sum |q_d k_d|, so all weights by a relative eta, consistently in all averages; keys
    and values by a relative `keys`, their rounding, as consistently: C stays a covariance, so that its error
    is that of centred keys. S scales A = C + lam I to a diagonal of ones; `far` is the length of S |k|.
    The mean key is off by eps far; C by eta + eps far if keys were centred first, by eta + eps far^2 if not,
    and by eps D of the solver, which leaves tol of its right-hand side. This reaches u through the inverse,
    and the answer is V |C^1/2 u| at most: each counts with V / sqrt(smallest eigenvalue of S A S)."""

    def bound(x, y, c, kbar, A, C, u, scale):
        V, d = y.abs().amax(), A.diagonal()
        if d.amin() == 0:
            return V * 0
        eta = 2 * eps * (1 + abs(scale) * (x.abs() @ c.abs()).amax())
        smallest = torch.linalg.eigvalsh(A * d.rsqrt()[:, None] * d.rsqrt())[0].clamp_min(1e-300)
        far = ((C.diagonal() + kbar**2) / d).sum().sqrt()
        us, bs = (u * d.sqrt()).norm(), ((c - kbar) * d.rsqrt()).norm()
        dC = eta + 2 * eps * (len(d) + (far if centred else far**2))
        line = 1 + (u @ C @ u).sqrt()  # the length of all weights of the line is at most this
        rounded = keys * (line + far * us + (2 * far * us + far) / smallest.sqrt())
        return V * (eta + rounded + eps * far * us + (dC * us + tol * bs + eta + eps * far) / smallest.sqrt())

    return bound


def within(got, truth, bound, dtype):
    "Rounding of the output may come on top."
    output = torch.finfo(dtype).eps * truth.abs() + torch.finfo(dtype).tiny
    return ((got.double() - truth).abs() <= bound + output).all()


@st.composite
def caches(draw, dtypes, most_queries, dims):
    "Keys of several sizes, distances from the origin and shapes; a ridge and a scale that suit them."
    dtype, T = draw(st.sampled_from(dtypes)), draw(st.integers(1, most_queries))
    D = draw(st.sampled_from(dims))
    S, Hkv, group = draw(st.integers(T, 70)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    size = draw(st.sampled_from([0.1, 1.0, 10.0] if dtype == torch.float16 else [1e-2, 1.0, 30.0]))
    far = draw(st.sampled_from([0.0, 1.0, 30.0]))
    g = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    new = lambda *shape: torch.randn(1, *shape, generator=g, dtype=torch.float64)
    k = new(Hkv, S, D)
    shape = draw(st.sampled_from(["round", "flat", "repeated"]))
    if shape == "flat":
        k = k * torch.logspace(0, -3, D, dtype=torch.float64)
    if shape == "repeated":
        k = k[:, :, torch.randint(0, max(1, S // 4), (S,), generator=g)]
    k, q, v = (k + far * new(D)[0]) * size, (new(Hkv * group, T, D) + far) * size, new(Hkv, S, D)
    ridge = draw(st.sampled_from([0.0, 1e-3, 0.1, 1.0, 1e3])) * size**2
    scale = draw(st.sampled_from([0.1, 1.0, 5.0])) * D**-0.5 / size**2 / (1 + far**2)
    return q.to(dtype), k.to(dtype), v.to(dtype), ridge, scale


ALL = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@given(case=caches(ALL, 8, [1, 3, 8, 16, 40]))
@settings(max_examples=100)
def test_answers_are_right_to_rounding(case):
    *tensors, ridge, scale = case
    dtype = tensors[0].dtype
    truth, bound = by_rows(
        *tensors,
        ridge=ridge,
        scale=scale,
        floor=FLOORS.get(dtype, (1e-3, 8 * EPS32)),
        bound=rounding_bound(EPS64 if dtype == torch.float64 else EPS32),
    )
    assert within(lla_decode(*tensors, ridge=ridge, scale=scale), truth, bound, dtype)


@needs_kernels
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(case=caches(ALL[1:], 2, [3, 8, 16]))
@settings(max_examples=15)
def test_answers_of_the_kernels_are_right_to_rounding(case):
    *tensors, ridge, scale = case
    dtype = tensors[0].dtype
    keys = 0.0 if dtype == torch.float32 else torch.finfo(torch.float16).eps / 2
    truth, bound = by_rows(
        *tensors,
        ridge=ridge,
        scale=scale,
        floor=KERNEL_FLOOR,
        bound=rounding_bound(EPS32, keys, 1e-6, centred=False),
    )
    assert within(decode(*tensors, ridge=ridge, scale=scale, backend="triton"), truth, bound, dtype)


# ---- the twin and its laws


@given(
    B=st.integers(1, 2),
    Hkv=st.integers(1, 2),
    group=st.integers(1, 3),
    T=st.integers(1, 8),
    S=st.integers(8, 40),
    D=st.integers(1, 12),
    ridge=st.sampled_from([1e-3, 0.1, 3.0]),
    scale=st.sampled_from([None, 0.5, 2.0]),
    splits=st.integers(1, 5),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_the_twin_is_the_dense_formula(B, Hkv, group, T, S, D, ridge, scale, splits, seed, data):
    q, k, v = cache(B, Hkv * group, Hkv, T, S, D, seed=seed)
    lengths = (
        torch.tensor(data.draw(st.lists(st.integers(T, S), min_size=B, max_size=B)))
        if data.draw(st.booleans())
        else None
    )
    truth = dense(q, k, v, lengths, ridge, scale)
    torch.testing.assert_close(
        lla_decode(q, k, v, ridge=ridge, scale=scale, cache_seqlens=lengths), truth, rtol=1e-7, atol=1e-7
    )
    rows = torch.full(q.shape[:3], ridge, dtype=torch.float64)
    torch.testing.assert_close(
        lla_decode_tiled(q, k, v, rows, lengths, scale=D**-0.5 if scale is None else scale, splits=splits),
        truth,
        rtol=1e-7,
        atol=1e-7,
    )


@given(
    S=st.integers(1, 30),
    cuts=st.lists(st.integers(0, 30), max_size=6),
    seed=st.integers(0, 99),
    spread=st.sampled_from([0.1, 1.0, 300.0]),
)
def test_any_cut_gives_the_same(S, cuts, seed, spread):
    q, k, v = (t[0, 0] for t in cache(1, 1, 1, 1, S, 5, seed=seed))
    q = q[0] * spread
    seen = torch.ones(S, dtype=torch.bool)
    piece = lambda lo, hi: decode_statistics(q, k[lo:hi], v[lo:hi], seen[lo:hi], scale=0.4)
    bounds = [0, *sorted(min(c, S) for c in cuts), S]
    pieces = [piece(lo, hi) for lo, hi in zip(bounds, bounds[1:])]
    whole = piece(0, S)
    filled = [s for s in pieces if s.lse.isfinite()]
    for merged in (
        merge_statistics(pieces),
        merge_statistics(pieces[::-1]),
        reduce(lambda a, b: merge_statistics([a, b]), filled),
    ):
        for name, value in vars(whole).items():
            torch.testing.assert_close(getattr(merged, name), value, rtol=1e-9, atol=1e-9, msg=name)
        if whole.kk.isfinite().all():  # covariances, not averages about the origin
            p = (0.4 * (k @ q)).softmax(0)
            right = torch.cov(k.T, correction=0, aweights=p) if S > 1 else 0 * whole.kk
            torch.testing.assert_close(merged.kk, right)


@given(D=st.integers(1, 12), seed=st.integers(0, 99), ridge=st.sampled_from([1e-6, 0.1, 10.0]))
def test_the_sweep_solves(D, seed, ridge):
    g = torch.Generator().manual_seed(seed)
    X, b = (
        torch.randn(2, D, D, generator=g, dtype=torch.float64),
        torch.randn(2, D, generator=g, dtype=torch.float64),
    )
    A = X @ X.mT / D + ridge * torch.eye(D, dtype=torch.float64)
    x = sweep_solve(A, b)
    torch.testing.assert_close((A @ x[..., None])[..., 0], b, rtol=1e-6, atol=1e-6)
    for j in range(D + 1):  # after j sweeps: the system of the first j coordinates
        torch.testing.assert_close(
            sweep_solve(A, b, j)[:, :j], torch.linalg.solve(A[:, :j, :j], b[:, :j]), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e4, 1e8, 1e12])
@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_sweep_keeps_its_digits_whatever_the_size_of_the_diagonal(size, graded, dtype):
    X, _, b = (t[0, 0] for t in cache(1, 1, 1, 12, 12, 12))
    b = b[0]
    A, units = (
        X @ X.mT + torch.eye(12, dtype=torch.float64),
        torch.full((12,), size**0.5, dtype=torch.float64),
    )
    if graded:
        units = torch.logspace(0, torch.tensor(size).log10().item() / 2, 12, dtype=torch.float64)
    truth = torch.linalg.solve(A, b)  # the same system in other units: x / units
    got = sweep_solve((A * units[:, None] * units).to(dtype), (b * units).to(dtype)).double() * units
    assert relative_rms(got, truth) < 200 * torch.finfo(dtype).eps


POWERS = [-30, -13, 9, 30]


@pytest.mark.parametrize("backend", ["tiled", pytest.param("triton", marks=needs_kernels)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_unit_of_keys_does_not_matter(backend, dtype):
    q, k, v = cache(1, 2, 1, 2, 40, 16, dtype)
    expected = decode(q, k, v, ridge=0.1, scale=0.25, backend=backend)
    for s in (2.0**n for n in (POWERS if backend == "tiled" else POWERS[::3])):
        got = decode(q * s, k * s, v, ridge=0.1 * s**2, scale=0.25 / s**2, backend=backend)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("s", [3.0, 1e-3, 7e4, 1e-9])
def test_nor_does_one_that_is_no_power_of_two(s):
    q, k, v = cache(1, 2, 1, 2, 40, 16, torch.float32)
    got = lla_decode(q * s, k * s, v, ridge=0.1 * s**2, scale=0.25 / s**2)
    torch.testing.assert_close(got, lla_decode(q, k, v, ridge=0.1, scale=0.25), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("s", [1e-30, 1e-22, 1e-20, 1e-18, 1e18, 1e20, 1e30])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_squares_of_keys_may_leave_float32(s, ridge):
    q, k, v = cache(1, 2, 1, 2, 40, 16, torch.float32)
    got, truth = lla_decode(q, k * s, v, ridge=ridge), by_rows(q, k * s, v, ridge=ridge)
    assert relative_rms(got, truth) < 1e-4


@pytest.mark.parametrize("backend", ["tiled", pytest.param("triton", marks=needs_kernels)])
def test_nothing_to_correct_without_keys_and_ridge(backend):
    q, k, v = cache(1, 1, 1, 1, 20, 16, torch.float32)
    out = decode(q, 0 * k, v, ridge=0.0, backend=backend)
    torch.testing.assert_close(out, v.mean(2, keepdim=True), rtol=1e-5, atol=1e-6)


# ---- gradients of the twin


def gradients(answer, q, k, v, ridge):
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v, ridge)]
    o = answer(*leaves)
    weights = torch.randn(o.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    grads = torch.autograd.grad((o * weights).sum(), leaves, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, grads)]


KEYS = {
    "equal": lambda k: k[:, :, :1].expand_as(k),
    "equal to 1e-3": lambda k: k[:, :, :1] + 1e-3 * k,
    "equal to 1e-6": lambda k: k[:, :, :1] + 1e-6 * k,
    "far": lambda k: k + 1e4,
    "any": lambda k: k,
    "zero": lambda k: 0 * k,
    "two of a kind": lambda k: k[:, :, torch.arange(k.shape[2]) % 2],
}


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1, 3, None),
        (2, 1, 1, 2, 5, None),
        (1, 1, 2, 2, 4, None),
        (4, 2, 3, 9, 6, [9, 4]),
        (2, 2, 8, 12, 3, [8, 12]),
        (3, 1, 1, 20, 8, None),
    ],
)
@pytest.mark.parametrize("ridge", [0.5, 1e-2])
def test_gradients_are_those_of_the_formula(keys, shape, ridge):
    H, Hkv, T, S, D, lengths = shape
    q, k, v = cache(1 if lengths is None else len(lengths), H, Hkv, T, S, D)
    k, ridge = KEYS[keys](k), torch.full((H, 1), ridge, dtype=torch.float64)
    lengths = None if lengths is None else torch.tensor(lengths)
    q = q + k[:, :, :1].mean(1, keepdim=True)
    formula = lambda q, k, v, r: by_rows(q, k, v, lengths, r, floor=FLOORS[torch.float64])
    truth = gradients(formula, q, k, v, ridge)
    pieces = lambda q, k, v, r: lla_decode_tiled(
        q, k, v, r.expand(q.shape[:3]), lengths, scale=D**-0.5, splits=3
    )
    whole = lambda q, k, v, r: lla_decode(q, k, v, ridge=r, cache_seqlens=lengths)
    for answer in (whole, pieces):
        for got, right, name in zip(gradients(answer, q, k, v, ridge), truth, ("q", "k", "v", "ridge")):
            assert (got - right).norm() <= 1e-6 * max(right.norm(), 1e-3), name


def test_equal_keys_have_a_gradient_and_a_lone_key_has_none():
    q, k, v = cache(1, 1, 1, 1, 3, 3)
    ridge, decoded = torch.tensor(0.5, dtype=torch.float64), lambda q, k, v, r: lla_decode(q, k, v, ridge=r)
    _, dk, _, _ = gradients(decoded, q, k[:, :, :1].expand_as(k), v, ridge)
    assert dk.norm() > 0.5
    dq, dk, dv, dr = gradients(decoded, q, k[:, :, :1], v[:, :, :1], ridge)
    assert not dq.any() and not dk.any() and not dr.any() and dv.all()


def test_a_ridge_below_the_floor_has_no_gradient_and_the_floor_is_a_constant():
    q, k, v = cache(1, 2, 1, 2, 12, 4)
    ridge = torch.tensor([1e-12, 0.3], dtype=torch.float64)[:, None]
    got = gradients(lambda q, k, v, r: lla_decode(q, k, v, ridge=r), q, k, v, ridge)
    formula = lambda q, k, v, r: by_rows(q, k, v, None, r, floor=FLOORS[torch.float64])
    right = gradients(formula, q, k, v, ridge)
    assert got[3][0] == 0 and got[3][1] != 0
    for a, b in zip(got, right):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
    assert torch.equal(lla_decode(q, k, v, ridge=1e-12), lla_decode(q, k, v, ridge=0.0))


def test_what_nobody_sees_or_weighs_has_no_gradient_and_spoils_none():
    q, k, v = cache(1, 1, 1, 2, 12, 4)
    q[..., 0] = 40.0
    k[:, :, 3] = 1e200 * torch.tensor([-1.0, 1, 0, 0], dtype=torch.float64)
    k[:, :, 9:], v[:, :, 9:] = torch.nan, torch.inf

    def answer(splits):
        lengths = torch.tensor([9])
        knobs = dict(scale=0.5, splits=splits)
        return lambda q, k, v, r: lla_decode_tiled(q, k, v, r.expand(q.shape[:3]), lengths, **knobs)

    for splits in (1, 4, 12):
        grads = gradients(answer(splits), q, k, v, torch.tensor(0.1, dtype=torch.float64))
        assert all(g.isfinite().all() for g in grads)
        assert all(not g[:, :, 9:].any() and not g[:, :, 3].any() for g in grads[1:3])


def test_gradients_flow_through_the_twin():
    q, k, v = (t.requires_grad_() for t in cache(1, 2, 1, 2, 7, 3))
    ridge = torch.full((1, 2, 2), 0.3, dtype=torch.float64, requires_grad=True)
    work = lambda q, k, v, r: lla_decode(q, k, v, ridge=r)
    assert torch.autograd.gradcheck(work, (q, k, v, ridge), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(work, (q, k, v, ridge))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_roots_survive_a_sharp_softmax_and_rounded_products_do_not(dtype):
    q, k, v = cache(1, 1, 1, 1, 500, 64, dtype)
    q, rows = 6 * q, torch.full((1, 1, 1), 0.1)
    truth = dense(q, k, v)
    wide = [t.float() for t in (q, k, v)]
    roots = {
        to: relative_rms(lla_decode_tiled(*wide, rows, None, scale=0.125, round_to=to), truth)
        for to in (torch.float16, torch.bfloat16)
    }
    (x,), (y,), (c,) = (t[0].double() for t in (k, v, q))
    c = c[0]
    p = (0.125 * (x @ c)).softmax(0)
    products = (p[:, None] * x).to(torch.float16).double()
    kbar, vbar = products.sum(0), p @ y
    C = x.T @ products - torch.outer(kbar, kbar)
    A = (C + C.T) / 2 + 0.1 * torch.eye(64, dtype=torch.float64)
    naive = vbar + (y.T @ products - torch.outer(vbar, kbar)) @ torch.linalg.solve(A, c - kbar)
    assert roots[torch.float16] < 1e-3 and roots[torch.bfloat16] < 8 * FLOOR[torch.bfloat16]
    assert relative_rms(naive, truth[0, 0, 0]) > 8 * roots[torch.float16]


def test_splits_fill_the_gpu_and_stay_long():
    assert (
        choose_splits(32, 32768, 64, 264) == 8
        and choose_splits(32, 32768, 128, 132) == 4
        and choose_splits(512, 131072, 128, 132) == 1
    )
    assert (
        choose_splits(1, 300, 64, 264) == 1
        and 8 < choose_splits(1, 32768, 128, 132) < 32
        and choose_splits(1, 10**6, 64, 264) == 64
    )


# ---- the kernels

CASES = [  # B, H, Hkv, T, S, D, dtype, lengths, ridge
    (1, 1, 1, 1, 1, 16, torch.float32, None, 0.1),
    (2, 2, 1, 1, 17, 16, torch.float32, [17, 5], 0.3),
    (1, 2, 2, 3, 100, 40, torch.float32, None, 0.1),
    (2, 1, 1, 8, 100, 24, torch.float32, [8, 99], 1e-2),
    (1, 1, 1, 1, 100, 64, torch.float32, None, 0.1),
    (1, 4, 2, 1, 63, 16, torch.float16, None, 0.1),
    (1, 1, 1, 2, 100, 64, torch.float16, [70], 0.1),
    (1, 1, 1, 1, 100, 64, torch.bfloat16, None, 0.1),
    (1, 1, 1, 1, 17, 40, torch.bfloat16, None, 1e-2),
    (1, 1, 1, 1, 130, 128, torch.bfloat16, None, 0.1),
    (1, 1, 1, 1, 70, 128, torch.float32, [33], 1.0),
]


@needs_kernels
@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
@pytest.mark.parametrize("splits", [1, 3])
def test_the_kernels_are_as_good_as_their_twin(case, splits, nan_empty):
    *shape, dtype, lengths, ridge = case
    q, k, v = cache(*shape, dtype)
    lengths = None if lengths is None else torch.tensor(lengths, dtype=torch.int32)
    truth, rows = dense(q, k, v, lengths, ridge), torch.full(q.shape[:3], ridge)
    if lengths is not None:
        # beyond what is filled
        for b, n in enumerate(lengths):
            k[b, :, n:], v[b, :, n:] = torch.nan, torch.inf
    rounding = {} if dtype == torch.float32 else dict(round_to=torch.float16)
    twin = lla_decode_tiled(q, k, v, rows, lengths, scale=q.shape[3] ** -0.5, splits=splits, **rounding)
    if dtype == torch.float32:
        twin = one_pass(q, k, v, lengths, ridge)
    move = lambda t: None if t is None else t.to(DEVICE)
    out = lla_decode_triton(
        *map(move, (q, k, v, rows, lengths)), scale=q.shape[3] ** -0.5, splits=splits
    ).cpu()
    assert out.isfinite().all() and out.dtype == dtype and out.shape == q.shape
    # three tf32 products keep 21 of 24 bits
    times = 8 if dtype == torch.float32 and DEVICE == "cuda" else 2
    assert relative_rms(out, truth) <= times * (relative_rms(twin, truth) + FLOOR[dtype])


@needs_kernels
def test_strides_and_ridges_of_every_form():
    q, k, v = cache(2, 2, 1, 2, 50, 16, torch.float32)
    ridge = torch.rand(2, 2, 1) + 0.05
    out = decode(q, k, v, ridge=ridge, backend="triton")
    twisted = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)]
    wide = torch.zeros(2, 1, 50, 32)
    wide[..., ::2] = k
    assert torch.equal(out, decode(*twisted, ridge=ridge, backend="triton")) and torch.equal(
        out, decode(q, wide[..., ::2], v, ridge=ridge, backend="triton")
    )
    assert relative_rms(out, dense(q, k, v, ridge=ridge)) < 1e-4
    for backend in ("triton", "tiled"):
        assert torch.equal(
            decode(q, k, v, ridge=0.2, backend=backend),
            decode(q, k, v, ridge=torch.tensor(0.2), backend=backend),
        )


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_no_finite_input_gives_nan(dtype):
    q, k, v = cache(1, 1, 1, 1, 40, 16, dtype)
    for ridge in (0.0, 1e-6, 1e3):
        assert decode(q, k, v, ridge=ridge, backend="triton").isfinite().all(), ridge
        equal = decode(q, k[:, :, :1].expand_as(k), v, ridge=ridge, backend="triton")
        assert relative_rms(equal, v.double().mean(2, keepdim=True)) < max(1e-5, 3 * FLOOR[dtype]), (
            "equal keys",
            ridge,
        )
        assert decode(30 * q, k, v, ridge=ridge, backend="triton").isfinite().all(), ("huge logits", ridge)
        torch.testing.assert_close(
            decode(q, k[:, :, :1], v[:, :, :1], ridge=ridge, backend="triton"),
            v[:, :, :1],
            rtol=1e-2,
            atol=1e-2,
        )


@needs_kernels
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("first", [-300.0, 300.0])
def test_a_wrong_guess_is_done_again(dtype, first):
    "The first tile promises other logits than the rest of the cache holds, by hundreds of doublings."
    q, k, v = cache(1, 1, 1, 1, 150, 16, dtype)
    q[..., 0] = 40
    k[..., 0] = 0
    k[:, :, :64, 0] = first / 10
    truth = dense(q, k, v, scale=1.0)
    out, twin = (decode(q, k, v, scale=1.0, backend=name) for name in ("triton", "tiled"))
    # a logit of 1200 is 1731 in powers of two, and float32 rounds that to 2e-4: so far off is every weight
    ulp = torch.finfo(torch.float32).eps * 40 * abs(first) / 10 / math.log(2)
    assert out.isfinite().all()
    assert relative_rms(out, truth) < 3 * relative_rms(twin, truth) + 4 * max(FLOOR[dtype], ulp)


@interpreted
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_two_products_a_tile_and_nothing_else(dtype):
    "No product depends on how the logits rise."
    for rising in (0.0, 20.0):
        q, k, v = cache(1, 1, 1, 1, 320, 32, dtype)
        q[..., 0], k[..., 0] = 1, torch.linspace(0, rising, 320).to(dtype)
        with counted_products() as counts:
            decode(q, k, v, scale=1.0, backend="triton")
        assert counts == {((32, 64), (64, 32)): 5 * 2}


@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01])
def test_the_small_system_takes_fewer_steps_than_an_elimination(spread):
    """4096 keys whose coordinates differ by powers of ten: on a diagonal of ones a few steps reach the
    residual of the kernel, where an elimination takes D."""
    k, b = random_heads((4096, 64), (64,))
    k = k * torch.logspace(0, np.log10(spread), 64, dtype=torch.float64)
    A = torch.cov(k.T, correction=0) + 0.1 * torch.eye(64, dtype=torch.float64)
    unit = A.diagonal().rsqrt()
    A = unit[:, None] * A * unit
    found = conjugate_gradient(lambda x: x @ A, unit * b, tol=1e-6, max_steps=64)
    assert found.residuals[-1] <= 1e-6 and found.steps <= 10


@needs_kernels
def test_a_kernel_that_cannot_tell_a_covariance_from_rounding_answers_with_softmax_for_that_query_alone():
    "Two heads in one call: the keys of one differ by a millionth and have no ridge, the other is plain."
    q, k, v = cache(1, 2, 2, 1, 60, 16, torch.float32)
    k[:, 0] = 100 * (k[:, 0, :1] + 1e-6 * k[:, 0])
    ridge = torch.tensor([[[0.0], [0.1]]])
    out = decode(q, k, v, ridge=ridge, backend="triton")
    softmax = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert relative_rms(out[:, 0], softmax[:, 0]) < 1e-3
    assert relative_rms(out[:, 1], dense(q, k, v, ridge=ridge)[:, 1]) < 1e-4
    assert relative_rms(out[:, 1], softmax[:, 1]) > 0.1


@needs_kernels
@pytest.mark.parametrize("spread, ridge", [(1.0, 1e-3), (2.0, 1e-3), (2.0, 0.1), (3.0, 1e-2)])
def test_the_solver_reaches_what_float32_can(spread, ridge):
    """Coordinates whose scales differ by powers of ten, and a softmax that listens to few keys: as exact as
    the elimination of the twin, to a factor."""
    q, k, v = cache(1, 2, 2, 1, 80, 32, torch.float32)
    scales = torch.logspace(0, -spread, 32)
    q, k = 3 * q * scales, 3 * k * scales
    truth, twin = dense(q, k, v, ridge=ridge), one_pass(q, k, v, ridge=ridge)
    out = decode(q, k, v, ridge=ridge, backend="triton")
    assert out.isfinite().all() and relative_rms(out, truth) < 3 * relative_rms(twin, truth) + 1e-5


@needs_kernels
@pytest.mark.parametrize("D, S", [(16, 8), (32, 16)])
def test_the_solver_goes_on_until_it_is_done(D, S):
    "No ridge but the floor, and fewer keys than dimensions: some six D steps. 2 D were 16 % off."
    q, k, v = cache(1, 2, 2, 1, S, D, torch.float32)
    q, k = (x / x.square().mean(-1, keepdim=True).sqrt() for x in (q, k))
    out = decode(q, k, v, ridge=0.0, scale=4 * D**-0.5, backend="triton")
    assert relative_rms(out, by_rows(q, k, v, ridge=0.0, scale=4 * D**-0.5, floor=KERNEL_FLOOR)) < 3e-3


# ---- equal and nearly equal keys, weights of zero, the future


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("D, S", [(16, 40), (40, 100)])
def test_equal_keys_give_softmax_whatever_the_ridge(dtype, D, S):
    "The rounding of sums over equal keys is 1e-7 |v| |k|; it meets u, which a small ridge makes long."
    q, k, v = cache(1, 1, 1, 1, S, D, dtype)
    k, truth = k[:, :, :1].expand_as(k), v.double().mean(2, keepdim=True)
    for ridge in (0.0, 1e-8, 1e-4, 1e-2, 0.1, 1.0, 1e3):
        error = {b: relative_rms(decode(q, k, v, ridge=ridge, backend=b), truth) for b in ("triton", "tiled")}
        assert error["triton"] < max(1e-3 if ridge == 1e-2 else 1e-4, 3 * FLOOR[dtype])
        assert error["tiled"] < max(1e-6, 3 * FLOOR[dtype])


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("window, T", [((0, 0), 3), (None, 1)])
def test_a_lone_key_gives_its_value_whatever_rounding_left_of_its_covariance(dtype, window, T, monkeypatch):
    "One sequence is full and one has T entries; a ridge that is not a number is told."
    merge = kernels._merge_pieces

    def rough(*args, **knobs):
        for t in args:
            if isinstance(t, tuple) and not isinstance(t, kernels.Filled):
                t[2].mul_(1 + 1e-5)
        merge(*args, **knobs)

    monkeypatch.setattr(kernels, "_merge_pieces", rough)
    q, k, v = cache(2, 4, 2, T, 9, 16, dtype, mean=1.0)
    lengths, left = torch.tensor([9, T]), -1 if window is None else 0
    o = decode(q, k, v, lengths, window=window, ridge=1e-3, backend="triton")
    for b, n in enumerate(lengths.tolist()):
        if window or n == 1:
            assert torch.equal(o[b], v[b, :, n - T : n].repeat_interleave(2, 0))
        else:
            assert relative_rms(o[b], v[b, :, n - T : n].repeat_interleave(2, 0)) > 0.1
    ridge = torch.full((2, 4, T), 0.1, device=DEVICE)
    ridge[1, 0] = torch.nan
    q, k, v, lengths = (t.to(DEVICE) for t in (q, k, v, lengths))
    o = lla_decode_triton(q, k, v, ridge, lengths, scale=0.25, left=left)
    assert o[1, 0].isnan().all() and o.isnan().sum() == T * 16


@needs_kernels
@pytest.mark.parametrize("spread", [1e-6, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("far", [1.0, 100.0])
def test_nearly_equal_keys_stay_sane(spread, far):
    "Right where the ridge is above what float32 sums resolve, and nowhere far beyond the line or softmax."
    q, k, v = cache(1, 1, 1, 1, 60, 16, torch.float32)
    k = far * (k[:, :, :1] + spread * k)
    softmax = (by_rows(q, k, v, ridge=1e30)).abs().amax()
    for ridge in (0.0, 1e-6 * far**2, 1e-2 * far**2, 0.1 * far**2):
        out = decode(q, k, v, ridge=ridge, backend="triton")
        once = rounding_bound(EPS32, 0.0, 1e-6, centred=False)
        truth, bound = by_rows(q, k, v, ridge=ridge, floor=KERNEL_FLOOR, bound=once)
        if ridge >= 1e-2 * far**2:
            assert within(out, truth, bound, torch.float32) and relative_rms(out, truth) < 1e-3
        assert out.isfinite().all() and out.abs().amax() <= 3 * max(truth.abs().amax(), softmax)
        twin, bound = by_rows(q, k, v, ridge=ridge, bound=rounding_bound(EPS32))
        assert within(decode(q, k, v, ridge=ridge, backend="tiled"), twin, bound, torch.float32)


HUGE = {torch.float64: 1e30, torch.float32: 1e30, torch.bfloat16: 1e30, torch.float16: 6e4}
BOTH = [("tiled", t) for t in HUGE]
BOTH += [pytest.param("triton", t, marks=needs_kernels) for t in HUGE if t != torch.float64]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("backend, dtype", BOTH)
@pytest.mark.parametrize("where", [0, 20, 64])
def test_a_key_without_weight_changes_nothing_wherever_it_stands(backend, dtype, where):
    "With 65 keys the last is alone in its piece, where it has all the weight."
    q, k, v = cache(1, 1, 1, 1, 65, 16, dtype)
    q[..., 0] = 30.0
    rows, scale = torch.full((1, 1, 1), 0.1), 1.0
    work = dict(tiled=lla_decode_tiled, triton=lla_decode_triton)[backend]

    def answer(first, rest, splits):
        k[:, :, where, 0], k[:, :, where, 1:] = -first, rest
        return work(*(t.to(DEVICE) for t in (q, k, v, rows)), None, scale=scale, splits=splits).cpu()

    for splits in (1, 2):
        modest, huge = answer(50.0, 0.0, splits), answer(HUGE[dtype], HUGE[dtype] / 100, splits)
        assert huge.isfinite().all() and torch.equal(huge, modest)
    others = [j for j in range(65) if j != where]
    truth = by_rows(q, k[:, :, others], v[:, :, others], scale=scale, floor=FLOORS.get(dtype, KERNEL_FLOOR))
    assert relative_rms(huge, truth) < max(3e-4, 3 * FLOOR.get(dtype, 0))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("backend, dtype", BOTH)
def test_a_huge_key_with_all_the_weight_is_no_nan(backend, dtype):
    q, k, v = cache(1, 1, 1, 1, 40, 16, dtype)
    k[:, :, 7] = HUGE[dtype] * q[:, :, 0].sign()
    torch.testing.assert_close(decode(q, k, v, backend=backend), v[:, :, 7:8], rtol=1e-2, atol=1e-2)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("backend, dtype", BOTH)
def test_keys_that_a_query_does_not_see_change_not_one_bit(backend, dtype):
    q, k, v = cache(2, 1, 1, 3, 70, 16, dtype)
    lengths = torch.tensor([70, 35])
    before = decode(q, k, v, lengths, backend=backend)
    for filling in (3.0, HUGE[dtype], -HUGE[dtype], torch.nan):
        for b, n in enumerate(lengths):
            k[b, :, n - 1 :], v[b, :, n - 1 :] = filling, -filling
        after = decode(q, k, v, lengths, backend=backend)
        assert torch.equal(before[:, :, :2], after[:, :, :2])
        assert not torch.equal(before[:, :, 2:], after[:, :, 2:])


# ---- addresses beyond 32 bits, and views of every kind


@needs_kernels
@pytest.mark.skipif(DEVICE == "cuda", reason="the memory is virtual on a CPU only")
@pytest.mark.parametrize(
    "name, dimension",
    [("k", 2), ("v", 2), ("k", 1), ("v", 0), ("q", 2), ("q", 3), ("q", 1), ("ridge", 2), ("ridge", 0)],
)
def test_strides_may_exceed_32_bits(name, dimension):
    "Views of memory that is never touched beyond the numbers themselves."
    q, k, v = cache(2, 2, 2, 2, 20, 16, torch.float16)
    ridge, lengths = torch.rand(2, 2, 2).half() + 0.1, torch.tensor([20, 13], dtype=torch.int32)
    given = dict(q=q, k=k, v=v, ridge=ridge, lengths=lengths)
    t = given[name].movedim(dimension, 0)
    far = -(-(2**31) // (len(t) - 1))
    memory = torch.empty((len(t) - 1) * far + t[0].numel(), dtype=t.dtype)
    view = memory.as_strided(t.shape, (far, *t[0].contiguous().stride())).copy_(t).movedim(0, dimension)

    def answer(q, k, v, ridge, lengths):
        return lla_decode(q, k, v, ridge=ridge, cache_seqlens=lengths, backend="triton")

    assert torch.equal(view, given[name]) and torch.equal(answer(**given), answer(**given | {name: view}))


@needs_kernels
def test_views_are_read_as_they_are():
    q, k, v = cache(2, 1, 1, 1, 9, 16, torch.float32)
    lengths = torch.tensor([9, -5, 6, -5])[::2]
    negated = torch.complex(torch.zeros_like(k), -k).conj().imag
    assert negated.is_neg() and not lengths.is_contiguous()
    expected = decode(q, k, v, torch.tensor([9, 6]), backend="triton")
    for views in ((q, negated, v, lengths), (q, k, v, lengths), (q, k, v, lengths.int())):
        assert torch.equal(decode(*views, backend="triton"), expected)


@needs_kernels
def test_constant_values_are_reproduced():
    q, k, v = cache(1, 1, 1, 1, 100, 64, torch.float32)
    torch.testing.assert_close(
        decode(q, k, torch.full_like(v, 3.0), backend="triton"), torch.full_like(q, 3.0), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("backend", ["tiled", pytest.param("triton", marks=needs_kernels)])
def test_nothing_to_do(backend):
    q, k, v = cache(1, 2, 1, 1, 5, 16, torch.float32)
    none = torch.zeros(0, dtype=torch.int32)
    assert decode(q[:0], k[:0], v[:0], backend=backend).shape == (0, 2, 1, 16)
    assert decode(q[:0], k[:0], v[:0], none, ridge=torch.ones(2, 1), backend=backend).shape == (0, 2, 1, 16)
    assert decode(q[:, :0], k, v, backend=backend).shape == (1, 0, 1, 16)


def test_no_sequences_have_gradients_of_their_shape():
    leaves = [t[:0].requires_grad_() for t in cache(1, 2, 1, 1, 5, 16)]
    grads = torch.autograd.grad(lla_decode(*leaves).sum(), leaves)
    assert [g.shape for g in grads] == [t.shape for t in leaves]


# ---- the door

q, k, v = cache(2, 4, 2, 2, 9, 16, torch.float32)
tensor, meta = torch.tensor, lambda t: t.to("meta")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PyTorch calls them prototypes
    masked = lambda t: torch.masked.masked_tensor(t, torch.ones_like(t, dtype=torch.bool))
    MASKED, MASKED_RIDGE = masked(k), masked(torch.ones(4, 1))
    NESTED = torch.nested.nested_tensor([q[0], q[1]])
BAD = [
    (dict(q=q[0]), "q.shape"),
    (dict(q=[1.0]), "q='list'"),
    (dict(q=q.int()), "q.dtype"),
    (dict(q=q + 0j), "q.dtype"),
    (dict(q=q.to(torch.float8_e4m3fn)), "q.dtype"),
    (dict(q=q > 0), "q.dtype"),
    (dict(k_cache=k.double()), "k_cache.dtype"),
    (dict(v_cache=v.half()), "v_cache.dtype"),
    (dict(k_cache=k[:1]), "k_cache.shape"),
    (dict(k_cache=k.numpy()), "k_cache='ndarray'"),
    (dict(v_cache=None), "v_cache='NoneType'"),
    (dict(k_cache=MASKED), "k_cache='MaskedTensor'"),
    (dict(k_cache=k.to_sparse()), "k_cache.layout=torch.sparse_coo"),
    (dict(q=NESTED), "q.layout='nested'"),
    (dict(k_cache=meta(k)), "k_cache.device='meta'"),
    (dict(v_cache=meta(v)), "v_cache.device='meta'"),
    (dict(k_cache=k[:, :1, :, :8]), "k_cache.shape"),
    (dict(k_cache=k[:, :, :1]), "at least 2 keys"),
    (dict(k_cache=k[:, :, :0], v_cache=v[:, :, :0]), "at least 2 keys"),
    (dict(k_cache=k[:, :0]), "k_cache.shape"),
    (dict(v_cache=v[:, :, :8]), "v_cache.shape"),
    (dict(q=q[:, :3]), "divides the 3"),
    (dict(q=q[..., :0]), "head dimension"),
    (dict(q=q.repeat(1, 1, 5, 1)), "1 to 8 queries"),
    (dict(q=q[:, :, :0]), "q.shape=(2, 4, 0, 16): expected 1 to 8 queries"),
    (dict(ridge=-1.0), "ridge=-1.0"),
    (dict(ridge=float("nan")), "ridge=nan"),
    (dict(ridge="a"), "ridge='a'"),
    (dict(ridge=None), "ridge=None"),
    (dict(ridge=True), "ridge=True"),
    (dict(ridge=np.bool_(True)), "ridge=np.True_"),
    (dict(ridge=1e39), "ridge=1e+39"),
    (dict(ridge=10**400), "ridge=1000"),
    (dict(ridge=float("inf")), "ridge=inf"),
    (dict(ridge=0.1 + 0j), "ridge=(0.1+0j)"),
    (dict(ridge=torch.ones(3)), "ridge.shape"),
    (dict(ridge=tensor([0.1, -2.0])), "ridge=-2"),
    (dict(ridge=tensor(1e39).double()), "ridge=inf"),
    (dict(ridge=tensor(1e39, dtype=torch.float64)), "ridge=1e+39"),
    (dict(ridge=tensor([[0.1], [torch.nan], [0.1], [1.0]])), "ridge=nan"),
    (dict(ridge=torch.ones(2, dtype=torch.int64)), "ridge.dtype"),
    (dict(ridge=tensor(True)), "ridge.dtype"),
    (dict(ridge=tensor(0.1 + 0j)), "ridge.dtype"),
    (dict(ridge=MASKED_RIDGE), "ridge='MaskedTensor'"),
    (dict(ridge=meta(tensor(0.1))), "ridge.device='meta'"),
    (dict(ridge=torch.ones(4, 1).to_sparse()), "ridge.layout"),
    (dict(scale=float("inf")), "scale=inf"),
    (dict(scale="x"), "scale='x'"),
    (dict(scale=True), "scale=True"),
    (dict(scale=1e39), "scale=1e+39"),
    (dict(scale=-1e39), "scale=-1e+39"),
    (dict(scale=10**400), "scale=1000"),
    (dict(scale=tensor(0.3)), "scale=tensor(0.3"),
    (dict(scale=float("nan")), "scale=nan"),
    (dict(scale=np.ones(1)), "scale=array"),
    (dict(scale=np.float16("inf")), "scale=np.float16(inf)"),
    (dict(ridge=np.float16("inf")), "ridge=np.float16"),
    (dict(ridge=np.float32("nan")), "ridge=np.float32(nan)"),
    (dict(cache_seqlens=[9, 9]), "cache_seqlens='list'"),
    (dict(cache_seqlens=9), "cache_seqlens='int'"),
    (dict(cache_seqlens=tensor([9.0, 9.0])), "cache_seqlens=torch.float32"),
    (dict(cache_seqlens=tensor([True, True])), "cache_seqlens=torch.bool"),
    (dict(cache_seqlens=tensor([9])), "cache_seqlens.shape"),
    (dict(cache_seqlens=tensor(9)), "cache_seqlens.shape"),
    (dict(cache_seqlens=tensor([9, 10])), "cache_seqlens=10"),
    (dict(cache_seqlens=tensor([1, 9])), "cache_seqlens=1"),
    (dict(cache_seqlens=tensor([2**32 + 9, 9])), "cache_seqlens=4294967305"),
    (dict(cache_seqlens=tensor([9, 9]).to_sparse()), "cache_seqlens.layout"),
    (dict(cache_seqlens=meta(tensor([9, 9]))), "cache_seqlens.device='meta'"),
    (dict(backend="numpy"), "backend='numpy'"),
    (dict(backend=None), "backend=None"),
    (dict(backend=["torch"]), "backend=['torch']"),
    (dict(backend="triton", q=q.double(), k_cache=k.double(), v_cache=v.double()), "backend='triton'"),
    (dict(backend="triton", q=meta(q), k_cache=meta(k), v_cache=meta(v)), "backend='triton'"),
    (dict(backend="triton", q=q.clone().requires_grad_()), "backend='triton'"),
    (dict(backend="triton", ridge=tensor(0.1, requires_grad=True)), "backend='triton'"),
]


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize("change, message", BAD, ids=[m for _, m in BAD])
def test_refusals(change, message):
    given = dict(q=q, k_cache=k, v_cache=v) | change
    with pytest.raises(ValueError) as told:
        lla_decode(**given)
    assert message in str(told.value) and "expected" in str(told.value)


def test_backends_have_the_names_they_have_for_whole_sequences():
    assert BACKENDS == flash.BACKENDS
    given = dict(q=q, k_cache=k, v_cache=v, cache_seqlens=tensor([9, 5]))
    tiled, truth = lla_decode(**given, backend="tiled"), dense(q, k, v, tensor([9, 5]))
    assert torch.equal(tiled, lla_decode(**given, backend="torch"))  # its old name
    exact = lla_decode(**given, backend="dense")
    assert (
        exact.dtype == torch.float32 and relative_rms(exact, truth) < 1e-7 < relative_rms(tiled, truth) < 1e-5
    )
    wide = [t.double() for t in (q, k, v)]
    assert relative_rms(lla_decode(*wide, backend="dense"), dense(q, k, v)) < 1e-12
    far = q + 100, k + 100, v  # the floor of the ridge is that of float32, in every backend
    want = lla_decode(*far, ridge=0.0, backend="tiled")
    torch.testing.assert_close(lla_decode(*far, ridge=0.0, backend="dense"), want, rtol=1e-2, atol=1e-2)


def test_numbers_of_every_kind_are_numbers():
    expected = lla_decode(q, k, v, ridge=0.25, scale=0.5)
    for number in (np.float64, np.float32, np.float16):
        assert torch.equal(lla_decode(q, k, v, ridge=number(0.25), scale=number(0.5)), expected)
    whole = lla_decode(q, k, v, ridge=2, scale=1)
    assert torch.equal(lla_decode(q, k, v, ridge=np.int64(2), scale=np.int32(1)), whole)
    assert torch.equal(lla_decode(q, k, v, ridge=tensor(0.25, dtype=torch.float64), scale=0.5), expected)
    for knobs in (dict(ridge=3e38), dict(scale=-0.5), dict(scale=0)):
        out, truth = lla_decode(q, k, v, **knobs).double(), by_rows(q, k, v, **knobs)
        torch.testing.assert_close(out, truth, rtol=1e-4, atol=1e-4)
    wide = lla_decode(q.double(), k.double(), v.double(), ridge=1e39)
    torch.testing.assert_close(wide, by_rows(q, k, v, ridge=1e39))


@pytest.mark.parametrize("backend, dtype", [b for b in BOTH if "tiled" in str(b) or "float32" in str(b)])
def test_the_default_dtype_has_no_say(backend, dtype):
    names = zip(("q", "k_cache", "v_cache"), (q, k, v))
    given = {name: t[:, :1].to(DEVICE, dtype) for name, t in names} | dict(backend=backend)
    expected = lla_decode(**given)
    try:
        for default in (torch.bfloat16, torch.float64):
            torch.set_default_dtype(default)
            assert torch.equal(lla_decode(**given), expected) and lla_decode(**given).dtype == dtype
    finally:
        torch.set_default_dtype(torch.float32)


# ---- PyTorch around it


def example(dtype=torch.float64):
    q, k, v = cache(2, 4, 2, 2, 9, 8, dtype)
    return q, k, v, torch.rand(4, 1, dtype=torch.float64) + 0.1, torch.tensor([9, 6])


def answer(q, k, v, ridge, lengths):
    return lla_decode(q, k, v, ridge=ridge, cache_seqlens=lengths)


def test_it_compiles_in_one_piece_with_its_gradient():
    *given, lengths = example()
    compiled = torch.compile(answer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*given, lengths), answer(*given, lengths))
    with_lengths = lambda f: lambda *x: f(*x, lengths)
    a, b = (gradients(with_lengths(f), *given) for f in (compiled, answer))
    for x, y in zip(a, b):
        torch.testing.assert_close(x, y)
    numbers = lambda q, k, v: lla_decode(q, k, v, ridge=0.3, scale=0.2)
    compiled = torch.compile(numbers, fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(compiled(*given[:3]), numbers(*given[:3]))


def test_it_maps_over_sequences_ridges_and_lengths():
    q, k, v, ridge, lengths = example()
    one = lambda q, k, v, n: answer(q[None], k[None], v[None], ridge, n[None])[0]
    torch.testing.assert_close(torch.vmap(one)(q, k, v, lengths), answer(q, k, v, ridge, lengths))
    mapped = torch.vmap(lambda r: answer(q, k, v, r, lengths))(ridge.flatten())
    torch.testing.assert_close(mapped[2], answer(q, k, v, ridge[2, 0], lengths))
    grads = torch.vmap(torch.func.grad(lambda *a: one(*a).square().sum()))(q, k, v, lengths)
    whole = torch.func.grad(lambda q: answer(q, k, v, ridge, lengths).square().sum())(q)
    torch.testing.assert_close(grads, whole)


@pytest.mark.parametrize("i", range(4), ids=["q", "k", "v", "ridge"])
def test_forward_and_functional_derivatives(i):
    *given, lengths = example()
    d = torch.randn(given[i].shape, dtype=torch.float64)
    f = lambda x: answer(*given[:i], x, *given[i + 1 :], lengths)
    slope = (f(given[i] + 1e-6 * d) - f(given[i] - 1e-6 * d)) / 2e-6
    torch.testing.assert_close(torch.func.jvp(f, (given[i],), (d,))[1], slope, rtol=1e-5, atol=1e-6)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(given[i], d))).tangent
    torch.testing.assert_close(tangent, slope, rtol=1e-5, atol=1e-6)
    x = given[i].clone().requires_grad_()
    functional = torch.func.grad(lambda x: f(x).square().sum())(x.detach())
    torch.testing.assert_close(functional, torch.autograd.grad(f(x).square().sum(), x)[0])


@needs_kernels
def test_the_kernels_refuse_what_would_lose_a_tangent_or_has_no_memory():
    q, k, v, *_ = example(torch.float32)
    with pytest.raises(ValueError, match="backend='triton'.*gradients"), forward_ad.dual_level():
        lla_decode(forward_ad.make_dual(q, q), k, v, backend="triton")
    with pytest.raises(ValueError, match="backend='triton'.*memory"):
        torch.vmap(lambda q: lla_decode(q[None], k[:1], v[:1], backend="triton"))(q)
    with pytest.raises(ValueError, match="backend='triton'.*memory"), FakeTensorMode():
        lla_decode(*(torch.randn(t.shape) for t in (q, k, v)), backend="triton")


def test_shapes_alone_give_a_shape():
    given = example(torch.bfloat16)
    out = answer(*map(meta, given))
    assert out.shape == given[0].shape and out.dtype == torch.bfloat16 and out.is_meta
    with FakeTensorMode() as mode:
        out = answer(*map(mode.from_tensor, given))
    assert out.shape == given[0].shape and out.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace.*")
def test_it_can_be_traced_and_exported():
    given = example()
    traced = torch.jit.trace(answer, given, check_trace=False)
    torch.testing.assert_close(traced(*given), answer(*given))

    class Module(torch.nn.Module):
        def forward(self, *given):
            return answer(*given)

    torch.testing.assert_close(torch.export.export(Module(), given).module()(*given), answer(*given))


def test_where_values_cannot_be_checked_a_wrong_one_gives_nan():
    q, k, v, ridge, lengths = example()
    bad = tensor([[0.1], [-1.0], [torch.nan], [torch.inf]], dtype=torch.float64)
    out = torch.vmap(lambda r: lla_decode(q, k, v, ridge=r))(bad.flatten())
    assert out[0].isfinite().all() and out[1:].isnan().all()
    one = lambda q, k, v, n: lla_decode(q[None], k[None], v[None], cache_seqlens=n[None])[0]
    for n in (1, 0, -3, 10):
        out = torch.vmap(one)(q, k, v, tensor([9, n]))
        assert out[0].isfinite().all() and out[1].isnan().all()


@needs_kernels
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_kernels_give_nan_too():
    q, k, v = cache(2, 2, 1, 2, 9, 16, torch.float32)
    work = lambda *more: lla_decode_triton(*(t.to(DEVICE) for t in (q, k, v, *more)), scale=0.25).cpu()
    out = work(tensor([[[0.1, -1.0], [torch.nan, torch.inf]], [[0.1, 0.1], [0.1, 0.1]]]), tensor([9, 1]))
    assert out[0, 0, 0].isfinite().all() and out[0].isnan().sum() == 3 * 16 and out[1].isnan().all()
    assert work(torch.full((2, 2, 2), 0.1), tensor([2**32 + 9, 10])).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("backend", ["tiled", pytest.param("triton", marks=needs_kernels)])
def test_autocast_casts_as_attention_of_pytorch_does(dtype, backend):
    if backend == "triton" and dtype == torch.float64:
        pytest.skip("the kernels take 32 bits at most")
    q, k, v = (t.to(DEVICE) for t in cache(1, 1, 1, 1, 9, 16, dtype))
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        out = lla_decode(q, k, v, backend=backend)
        theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v).dtype
        cached = lla_decode(q, k.to(theirs), v.to(theirs), backend=backend)  # a cache that was cast before
    assert out.dtype == theirs == (torch.float64 if dtype == torch.float64 else torch.bfloat16)
    expected = lla_decode(*(t.to(theirs) for t in (q, k, v)), backend=backend)
    assert torch.equal(out, expected) and torch.equal(out, cached)


def test_autocast_checks_before_it_casts():
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        for change, message in (
            (dict(k_cache=k.numpy()), "k_cache='ndarray'"),
            (dict(q=None), "q='None"),
            (dict(v_cache=v.int()), "v_cache.dtype"),
        ):
            given = dict(q=q, k_cache=k, v_cache=v) | change
            with pytest.raises(ValueError, match=message):
                lla_decode(**given)


# ---- for real


@pytest.mark.gpu
@pytest.mark.parametrize("D", [16, 40, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sharp", [1.0, 5.0])
def test_on_the_gpu(D, dtype, sharp, nan_empty):
    for B, H, Hkv, T, S, lengths in (
        (2, 4, 2, 1, 5000, [5000, 37]),
        (1, 2, 1, 8, 300, None),
        (3, 1, 1, 2, 1100, [2, 1100, 700]),
    ):
        q, k, v = cache(B, H, Hkv, T, S, D, dtype)
        q = sharp * q
        lengths = None if lengths is None else torch.tensor(lengths)
        for ridge in (0.01, 0.1, 1.0):
            truth = dense(q, k, v, lengths, ridge)
            rows, rounding = torch.full(q.shape[:3], ridge), dict(round_to=torch.float16)
            if dtype == torch.float32:
                twin = one_pass(q, k, v, lengths, ridge)
            else:
                twin = lla_decode_tiled(q, k, v, rows, lengths, scale=D**-0.5, **rounding)
            out = decode(q, k, v, lengths, ridge=ridge, backend="triton")
            # three tf32 products keep 21 of the 24 bits of the twin
            times = 8 if dtype == torch.float32 else 2
            assert (
                out.isfinite().all()
                and relative_rms(out, truth) <= times * relative_rms(twin, truth) + FLOOR[dtype]
            ), (B, H, T, S, ridge)


@pytest.mark.gpu
def test_it_can_be_captured_in_a_graph():
    q, k, v = (t.cuda() for t in cache(2, 4, 2, 1, 3000, 64, torch.bfloat16))
    expected = lla_decode(q, k, v)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = lla_decode(q, k, v)
    out.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(out, expected)
