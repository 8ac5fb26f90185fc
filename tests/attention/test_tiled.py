"""Attention in tiles: against the dense truth, in every precision; what tiles, futures and neighbours must
not change; the edges; the memory."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from helpers import Largest, random_heads, relative_rms
from lla_course.attention.dense import as_heads, lla_dense, restore
from lla_course.attention.tiled import (
    RIDGE_FLOOR,
    TOLERANCE,
    QueryTile,
    covariance_product,
    lla_tiled,
    softmax_sweep,
    solve_rows,
)


def draw_qkv(T, S, D, *, N=2, group=1, **knobs):
    return random_heads((N * group, T, D), (N, S, D), (N, S, D), **knobs)


def exact(heads, **knobs):
    return lla_tiled(heads, **dict(dict(tol=1e-13, max_steps=4 * heads.q.shape[-1] + 20), **knobs))


@st.composite
def problems(draw):
    "Awkward lengths, tiles, groups, a ridge for each head or token."
    T, S, D = (
        draw(st.sampled_from([1, 2, 17, 63, 100])),
        draw(st.sampled_from([1, 5, 17, 63, 100])),
        draw(st.sampled_from([1, 3, 16, 40, 64])),
    )
    group, causal, seed = draw(st.integers(1, 3)), draw(st.booleans()), draw(st.integers(0, 10**6))
    if causal:
        T, S = sorted((T, S))
    q, k, v = draw_qkv(T, S, D, N=draw(st.integers(1, 2)), group=group, seed=seed)
    ridge = draw(
        st.sampled_from(
            [
                0.03,
                1.0,
                torch.rand(len(q), 1, dtype=torch.float64) + 0.05,
                torch.rand(T, dtype=torch.float64) + 0.05,
            ]
        )
    )
    tiles = dict(BT=draw(st.sampled_from([1, 7, 16, 64, 200])), BS=draw(st.sampled_from([3, 16, 64, 200])))
    if T * S > 2000:
        tiles = {n: max(b, 16) for n, b in tiles.items()}
    return (
        (q, k, v),
        dict(ridge=ridge, is_causal=causal, enable_gqa=group > 1, scale=draw(st.sampled_from([None, 0.4]))),
        tiles,
    )


# ---- the rung above


@settings(max_examples=40)
@given(problem=problems())
def test_it_is_the_dense_formula(problem):
    qkv, knobs, tiles = problem
    truth, info = lla_dense(*qkv, **knobs, return_info=True)
    t = exact(as_heads(*qkv, **knobs), **tiles)
    for name, got, want in (("o", t.o, truth), ("kbar", t.kbar, info["kbar"]), ("lse", t.lse, info["lse"])):
        assert torch.allclose(got, want, rtol=1e-9, atol=1e-9), name
    # where there is a single key the tiled form takes u = 0
    differ = t.steps > 0
    assert torch.allclose(t.u[differ], info["u"][differ], rtol=1e-8, atol=1e-8)


def test_leading_dimensions_strides_and_plain_matrices():
    q, k, v = (t.reshape(2, 3, 40, 16) for t in draw_qkv(40, 40, 16, N=6))
    heads = as_heads(q, k, v)
    assert torch.allclose(restore(exact(heads).o, q), lla_dense(q, k, v), atol=1e-10)
    strided = [t.transpose(1, 2).contiguous().transpose(1, 2).flip(0)[..., ::2] for t in (q, k, v)]
    assert not strided[0].is_contiguous()
    heads = as_heads(*strided)
    assert torch.allclose(restore(exact(heads).o, strided[0]), lla_dense(*strided), atol=1e-10)
    assert torch.allclose(
        exact(as_heads(q[0, 0], k[0, 0], v[0, 0])).o[0], lla_dense(q[0, 0], k[0, 0], v[0, 0]), atol=1e-10
    )


@pytest.mark.parametrize("T, S, D, causal", [(100, 100, 64, True), (63, 100, 16, False), (17, 63, 40, True)])
@pytest.mark.parametrize(
    "dtype, floor", [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 4e-3)]
)
def test_lower_precision_stays_near_the_truth(T, S, D, causal, dtype, floor):
    "The error against float64 is the solver's tolerance and the rounding of the output, no more."
    qkv = draw_qkv(T, S, D, dtype=dtype)
    truth = lla_dense(*(t.double() for t in qkv), is_causal=causal)
    t = lla_tiled(as_heads(*qkv, is_causal=causal))
    assert t.o.dtype == dtype and t.u.dtype == torch.float32 and t.steps.dtype == torch.int32
    assert (t.residual <= TOLERANCE[dtype]).all()
    assert relative_rms(t.o, truth) <= 2 * TOLERANCE[dtype] + floor
    rounded = lla_tiled(as_heads(*qkv, is_causal=causal), round_to=dtype)
    assert relative_rms(rounded.o, truth) <= 2 * relative_rms(t.o, truth) + 4 * floor


@pytest.mark.parametrize("ridge", [0.1, 0.01])
def test_the_first_rows_survive_bfloat16(ridge):
    """Fewer keys than dimensions: the direction u is long, and rounding it once gave errors of 15 % (ridge
    0.1) and over 100 % (0.01)."""
    q, k, v = draw_qkv(64, 64, 64, dtype=torch.bfloat16)
    heads = as_heads(q, k, v, ridge=ridge)
    truth = lla_dense(*(t.double() for t in (q, k, v)), ridge=ridge)
    assert relative_rms(lla_tiled(heads, round_to=torch.bfloat16).o[:, :8], truth[:, :8]) < (
        0.04 if ridge == 0.1 else 0.12
    )


def test_rounded_weights_keep_the_operator_positive():
    "Keys far from the origin: centring on one side only gave eigenvalues of -0.005, and the solver blew up."
    D = 32
    q, k, v = (t + 3 for t in draw_qkv(1, 12, D, N=1, dtype=torch.bfloat16))
    at = QueryTile(as_heads(q.expand(1, D, D), k, v, is_causal=False), 0, D, 5, torch.bfloat16)
    b_q = at.load(at.heads.q)
    b_kbar, b_lse, _ = softmax_sweep(at, b_q)
    A = covariance_product(at, b_q, b_kbar, b_lse, torch.eye(D)[None])[0]
    assert torch.linalg.eigvalsh((A + A.T) / 2)[0] > -1e-4
    t = lla_tiled(
        as_heads(*(t + 3 for t in draw_qkv(100, 100, D, dtype=torch.bfloat16)), ridge=0.01),
        round_to=torch.bfloat16,
    )
    assert (t.residual <= 1e-2).all()


# ---- what must not matter


@given(
    tiles=st.tuples(st.sampled_from([1, 5, 16, 33, 64, 128]), st.sampled_from([2, 16, 31, 64, 128])),
    causal=st.booleans(),
)
def test_tile_sizes_do_not_matter(tiles, causal):
    qkv = draw_qkv(50, 70, 8, dtype=torch.float32)
    a, b = (lla_tiled(as_heads(*qkv, is_causal=causal), BT=BT, BS=BS) for BT, BS in (tiles, (64, 64)))
    assert torch.allclose(a.o, b.o, atol=2e-4) and (a.steps - b.steps).abs().max() <= 2


@pytest.mark.parametrize(
    "dtype, round_to", [(torch.float64, None), (torch.float32, None), (torch.bfloat16, torch.bfloat16)]
)
@pytest.mark.parametrize("cut", [1, 37, 64, 99])
def test_the_future_does_not_change_the_past_by_one_bit(dtype, round_to, cut):
    q, k, v = draw_qkv(100, 100, 16, dtype=dtype)
    k2, v2, q2 = k.clone(), v.clone(), q.clone()
    k2[:, cut:] *= -30
    v2[:, cut:] += 7
    q2[:, cut:] = 5
    a, b = (lla_tiled(as_heads(*qkv), BT=32, BS=16, round_to=round_to) for qkv in ((q, k, v), (q2, k2, v2)))
    for name in ("o", "u", "kbar", "lse", "steps", "residual"):
        assert torch.equal(getattr(a, name)[:, :cut], getattr(b, name)[:, :cut]), name


def test_rows_do_not_see_each_other():
    "A row that needs many steps, or no steps, changes nothing in its neighbours."
    q, k, v = draw_qkv(40, 60, 16, dtype=torch.float32)
    q2 = q.clone()
    q2[:, 11] *= 40
    q2[:, 12] = 0
    a, b = (lla_tiled(as_heads(x, k, v, is_causal=False)) for x in (q, q2))
    others = [i for i in range(40) if i not in (11, 12)]
    assert torch.equal(a.o[:, others], b.o[:, others]) and torch.equal(a.steps[:, others], b.steps[:, others])
    assert not torch.equal(a.steps[:, 11], b.steps[:, 11])


# ---- limits and edges


def test_without_steps_it_is_softmax_attention():
    q, k, v = draw_qkv(50, 50, 16)
    t = lla_tiled(as_heads(q, k, v), max_steps=0)
    assert torch.allclose(
        t.o, torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True), atol=1e-12
    )
    assert (t.steps == 0).all() and (t.u == 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.1, 1e6])
def test_row_0_is_the_first_value(dtype, ridge):
    q, k, v = draw_qkv(20, 20, 16, dtype=dtype)
    for round_to in (None, torch.bfloat16):
        t = lla_tiled(as_heads(q, k, v, ridge=ridge), round_to=round_to)
        assert (t.steps[:, 0] == 0).all() and (t.residual[:, 0] == 0).all()
        assert torch.allclose(t.o[:, 0], v[:, 0], rtol=0, atol=0.02 if round_to else 0)


@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_identical_keys_give_the_mean_value(dtype, ridge):
    q, k, v = draw_qkv(30, 30, 16, dtype=dtype)
    k = k[:, :1].expand(-1, 30, -1)
    t = lla_tiled(as_heads(q, k, v, ridge=ridge, is_causal=False))
    assert torch.allclose(
        t.o, v.mean(1, keepdim=True).expand_as(v), atol=1e-2 if dtype == torch.bfloat16 else 1e-5
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize(
    "kind", ["plain", "huge logits", "one key", "key twice", "far keys", "tiny", "zeros"]
)
def test_the_result_is_always_finite(dtype, ridge, kind):
    S = 1 if kind == "one key" else 30
    q, k, v = draw_qkv(
        30, S, 40, dtype=dtype, scale={"huge logits": 60.0, "tiny": 1e-4, "zeros": 0.0}.get(kind, 1.0)
    )
    if kind == "key twice":
        k[:, 1::2] = k[:, ::2]
    if kind == "far keys":
        k = k + 50
        q = q + 50
    for causal in (True, False) if S > 1 else (False,):
        for round_to in (None, dtype):
            t = lla_tiled(as_heads(q, k, v, ridge=ridge, is_causal=causal), round_to=round_to)
            for name, x in vars(t).items():
                assert torch.isfinite(x).all(), name
            if ridge == 0.1:
                assert (t.o.double().abs() <= 100 * v.double().abs().max()).all()


def test_ridge_zero_is_near_its_limit_in_float64():
    q, k, v = draw_qkv(60, 60, 8)
    few = slice(0, 7)  # fewer keys than dimensions: the pseudo-inverse
    for rows in (few, slice(20, 60)):
        assert torch.allclose(
            lla_tiled(as_heads(q, k, v, ridge=0.0), tol=1e-12, max_steps=200).o[:, rows],
            lla_dense(q, k, v, ridge=0.0)[:, rows],
            atol=1e-4,
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_ridge_below_the_floor_is_the_floor(dtype):
    q, k, v = draw_qkv(30, 30, 16, dtype=dtype)
    low, zero, high = (lla_tiled(as_heads(q, k, v, ridge=r)) for r in (1e-12, 0.0, 0.5))
    assert torch.equal(low.o, zero.o) and (low.ridge > 0).all() and (high.ridge[:, 1:] == 0.5).all()
    p = torch.softmax(
        (q.double() @ k.double().mT / 4).masked_fill(torch.ones(30, 30).triu(1).bool(), -math.inf), -1
    )
    trace = p @ k.double().square().sum(-1, keepdim=True) - (p @ k.double()).square().sum(-1, keepdim=True)
    assert torch.allclose(low.ridge[:, 1:].double(), RIDGE_FLOOR[dtype] * trace[:, 1:, 0] / 16, rtol=0.05)


@pytest.mark.parametrize("shift", [0, 10, 1000])
def test_the_trace_is_right_up_to_the_rounding_that_the_floor_allows_for(shift):
    q, k, v = draw_qkv(1, 50, 8, dtype=torch.float64)
    truth = (k - k.mean(1, keepdim=True)).square().sum(-1).mean(1)
    at = QueryTile(as_heads(*(t.float() for t in (0 * q, k + shift, v)), is_causal=False), 0, 4, 16)
    b_kbar, _, b_trace = softmax_sweep(at, at.load(at.heads.q))
    allowed = 1e-6 * truth + 8 * torch.finfo(torch.float32).eps * b_kbar.double().square().sum(-1)[:, 0]
    assert ((b_trace[:, 0, 0].double() - truth).abs() <= allowed).all()


@pytest.mark.parametrize("lead, T", [((0,), 5), ((2, 0), 5), ((2,), 0), ((0,), 0)])
def test_empty_problems_have_empty_answers(lead, T):
    q, k, v = torch.randn(*lead, T, 8), torch.randn(*lead, 6, 8), torch.randn(*lead, 6, 8)
    heads = as_heads(q, k, v)
    t = lla_tiled(heads)
    assert restore(t.o, q).shape == q.shape and t.steps.shape == heads.q.shape[:2]


def test_every_entry_is_written(nan_empty):
    t = lla_tiled(as_heads(*draw_qkv(33, 45, 8, dtype=torch.float32)), BT=16, BS=16)
    for name, x in vars(t).items():
        assert torch.isfinite(x).all() and (x.abs() < 1e6).all(), name


@pytest.mark.parametrize(
    "knobs, names",
    [
        (dict(BT=0), "BT=0"),
        (dict(BS=2.5), "BS=2.5"),
        (dict(tol=-1), "tol=-1"),
        (dict(tol=math.nan), "tol=nan"),
        (dict(max_steps=-1), "max_steps=-1"),
        (dict(max_steps=1.5), "max_steps=1.5"),
        (dict(BT=True), "BT=True"),
    ],
)
def test_bad_settings_are_named(knobs, names):
    with pytest.raises(ValueError, match=names):
        lla_tiled(as_heads(*draw_qkv(3, 3, 2)), **knobs)


# ---- the solver


def test_each_row_stops_on_its_own_residual():
    A = torch.diag_embed(
        torch.stack([torch.ones(12), torch.logspace(0, 2, 12), torch.linspace(1, 4, 12)])
    ).double()
    b = torch.randn(1, 4, 12, dtype=torch.float64)
    b[0, 3] = 0
    A = torch.cat([A, A[:1]])
    x, steps, residual = solve_rows(lambda y: (A @ y[0, ..., None])[None, ..., 0], b, tol=1e-8, max_steps=50)
    assert (
        steps[0].tolist()[0] == 1
        and steps[0, 3] == 0
        and steps[0, 1] > steps[0, 2] > 1
        and (residual <= 1e-8).all()
    )
    true = ((A @ x[0, ..., None])[..., 0] - b[0]).norm(dim=-1)
    assert (true <= 2e-8 * b[0].norm(dim=-1)).all()


def test_rows_that_stopped_together_would_tell_the_past_how_hard_the_future_is():
    "One step more or less changes what an unfinished row of the past becomes."
    heads = as_heads(*draw_qkv(64, 64, 32, N=1))
    a, b = (lla_tiled(heads, tol=0.0, max_steps=steps).o[:, 20:40] for steps in (8, 9))
    assert (a - b).abs().max() > 1e-4


@pytest.mark.parametrize("dtype, rest", [(torch.float32, 5), (torch.bfloat16, 6)])
def test_tile_products_are_three_a_step_and_five_or_six_more(dtype, rest):
    "Counted by PyTorch; 1 / D of a product is the trace. In 16 bits u is multiplied in two parts."
    T, D = 128, 64
    heads = as_heads(*draw_qkv(T, T, D, N=1, dtype=dtype), is_causal=False, ridge=1.0)
    for steps in (0, 1, 2, 5):
        with FlopCounterMode(display=False) as counter:
            t = lla_tiled(heads, tol=0.0, max_steps=steps, round_to=None if rest == 5 else dtype)
        assert (t.steps == steps).all(), "no tile was solved twice"
        assert counter.get_total_flops() / (2 * T * T * D) == pytest.approx(rest + 3 * steps + 1 / D)


def far_tile(S, shift, dtype=torch.bfloat16):
    "Queries and keys with a common part: the tile with 16-bit factors, and the exact one."
    q, k, v = (t + shift for t in draw_qkv(64, S, 64, N=1, dtype=dtype))
    rounded = QueryTile(as_heads(q, k, v, is_causal=False), 0, 64, 64, dtype)
    return rounded, QueryTile(as_heads(*(t.double() for t in (q, k, v)), is_causal=False), 0, 64, 64)


def test_the_mean_key_is_that_of_the_rounded_weights():
    "Divided by the sum of weights that were not rounded, it is off as far as the keys have a common part."
    at, exact = far_tile(S=512, shift=3)
    b_q, k = at.load(at.heads.q), at.heads.k.float()
    right, want = softmax_sweep(at, b_q)[0], softmax_sweep(exact, b_q.double())[0]
    logits = at.heads.scale * b_q @ k.mT
    w = (logits - logits.amax(-1, keepdim=True)).exp()
    mixed = at.factor(w) @ k / w.sum(-1, keepdim=True)
    assert (mixed - want).norm() > 3 * (right - want).norm()


def test_the_direction_that_is_followed_is_the_rounded_one():
    "Multiplied rounded and followed as it was, the solver ends far from where its residual says."
    at, exact = far_tile(S=32, shift=3)
    b_q = at.load(at.heads.q)
    b_kbar, b_lse, _ = softmax_sweep(at, b_q)
    kbar, lse, _ = softmax_sweep(exact, b_q.double())

    def product(b_x):
        return covariance_product(at, b_q, b_kbar, b_lse, b_x) + 0.01 * b_x

    def residual(multiply, **knobs):
        x, _, told = solve_rows(multiply, b_q - b_kbar, tol=1e-3, max_steps=200, **knobs)
        assert (told <= 1e-3).all()
        left = b_q - b_kbar - covariance_product(exact, b_q.double(), kbar, lse, x.double()) - 0.01 * x
        return float((left.norm(dim=-1) / (b_q - b_kbar).norm(dim=-1)).max())

    mixed = residual(lambda b_x: product(at.factor(b_x)))
    assert mixed > 4 * residual(product, factor=at.factor)


def test_a_row_without_curvature_keeps_what_it_has():
    A = torch.diag_embed(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]]))
    x, steps, residual = solve_rows(
        lambda y: (A @ y[0, ..., None])[None, ..., 0], torch.ones(1, 3, 3), tol=1e-6, max_steps=9
    )
    assert steps.tolist() == [[1, 0, 0]] and torch.isfinite(x).all() and residual.tolist() == [[0, 1, 1]]


# ---- the memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_array_is_larger_than_the_sequence(dtype):
    D = 16
    for T in (256, 1024):
        heads = as_heads(*draw_qkv(T, T, D, N=1, dtype=dtype))
        with Largest() as largest:
            lla_tiled(heads, max_steps=3)
        assert largest.bytes <= max(4 * T * D, 4 * 64 * 64), "an array of T x S or T x D x D"
