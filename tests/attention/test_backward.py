"""The implicit gradient of tiled attention: against autograd of the dense formula, against finite
differences, in every precision, with inexact solutions; the edges."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lla_course.attention.backward import lla_attention, lla_tiled_backward, query_tile_backward
from lla_course.attention.dense import as_heads, lla_dense
from lla_course.attention.tiled import TOLERANCE, QueryTile, lla_tiled


def draw(T, S, D, *, N=2, group=1, seed=0, dtype=torch.float64):
    "q, k, v and the gradient by the output."
    g = torch.Generator().manual_seed(seed)
    return [
        torch.randn(n, L, D, generator=g, dtype=torch.float64).to(dtype)
        for n, L in ((N * group, T), (N, S), (N, S), (N * group, T))
    ]


def truth(q, k, v, g, ridge, **knobs):
    "Gradients by autograd through the dense formula, in float64."
    inputs = [t.detach().double().requires_grad_() for t in (q, k, v, ridge)]
    return torch.autograd.grad(lla_dense(*inputs[:3], ridge=inputs[3], **knobs), inputs, g.double())


def far(got, want):
    return [float((a.double() - b).norm() / b.norm().clamp_min(1e-9)) for a, b in zip(got, want)]


@st.composite
def problems(draw_):
    T, S, D = (
        draw_(st.sampled_from([1, 17, 63])),
        draw_(st.sampled_from([1, 5, 17, 63])),
        draw_(st.sampled_from([1, 3, 16])),
    )
    group, N, seed = draw_(st.integers(1, 3)), draw_(st.integers(1, 2)), draw_(st.integers(0, 10**6))
    knobs = dict(
        is_causal=draw_(st.booleans()), enable_gqa=group > 1, scale=draw_(st.sampled_from([None, 0.4]))
    )
    if knobs["is_causal"]:
        T, S = sorted((T, S))
    shape = draw_(st.sampled_from([(), (N * group, 1), (T,), (N * group, T)]))
    ridge = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.05
    return (
        draw(T, S, D, N=N, group=group, seed=seed),
        ridge,
        knobs,
        dict(BT=draw_(st.sampled_from([7, 16, 64])), BS=draw_(st.sampled_from([5, 16, 64]))),
    )


# ---- the truth


@settings(max_examples=30)
@given(problem=problems())
def test_it_is_autograd_of_the_dense_formula(problem):
    (q, k, v, g), ridge, knobs, tiles = problem
    want = truth(q, k, v, g, ridge.expand(q.shape[:2]), **knobs)
    heads = as_heads(q, k, v, ridge=ridge, **knobs)
    got = lla_tiled_backward(
        heads, lla_tiled(heads, tol=1e-13, max_steps=200, **tiles), g, tol=1e-13, max_steps=200, **tiles
    )
    for name, a, b in zip(("dq", "dk", "dv", "dridge"), got, want):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-8), name


@given(problem=problems())
@settings(max_examples=15)
def test_the_public_function_gives_it_to_autograd(problem):
    (q, k, v, g), ridge, knobs, _ = problem
    inputs = [t.requires_grad_() for t in (q, k, v, ridge)]
    got = torch.autograd.grad(
        lla_attention(*inputs[:3], ridge=inputs[3], tol=1e-12, max_steps=200, **knobs), inputs, g
    )
    dense = torch.autograd.grad(lla_dense(*inputs[:3], ridge=inputs[3], **knobs), inputs, g)
    for name, t, a, b in zip(("q", "k", "v", "ridge"), inputs, got, dense):
        assert a.shape == t.shape and a.dtype == t.dtype and torch.allclose(a, b, rtol=1e-8, atol=1e-8), name


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("ridge_shape", [(), (2, 1), (2, 6)])
def test_finite_differences(causal, ridge_shape):
    q, k, v, _ = draw(6, 6, 3, N=1, group=2)
    ridge = torch.rand(ridge_shape, dtype=torch.float64) + 0.1
    inputs = [t.requires_grad_() for t in (q, k, v, ridge)]
    assert torch.autograd.gradcheck(
        lambda q, k, v, r: lla_attention(
            q, k, v, ridge=r, is_causal=causal, enable_gqa=True, tol=1e-13, max_steps=60
        ),
        inputs,
    )


@pytest.mark.parametrize(
    "dtype, limit", [(torch.float32, 1e-4), (torch.float16, 0.01), (torch.bfloat16, 0.02)]
)
def test_lower_precision_stays_near_the_truth(dtype, limit):
    q, k, v, g = draw(80, 80, 32, dtype=dtype)
    ridge = torch.full((2, 80), 0.1)
    want = truth(q, k, v, g, ridge)
    heads = as_heads(q, k, v, ridge=ridge)
    got = lla_tiled_backward(heads, lla_tiled(heads), g)
    assert [t.dtype for t in got] == [dtype, dtype, dtype, torch.float32]
    assert max(far(got, want)) < limit
    rounded = lla_tiled_backward(heads, lla_tiled(heads, round_to=dtype), g, round_to=dtype)
    assert max(far(rounded, want)) < 3 * limit


def test_leading_dimensions_and_strides():
    q, k, v, g = (
        t.reshape(2, 3, 20, 8).transpose(1, 2).contiguous().transpose(1, 2) for t in draw(20, 20, 8, N=6)
    )
    inputs = [t.requires_grad_() for t in (q, k, v)]
    assert not q.is_contiguous()
    for a, b in zip(
        torch.autograd.grad(lla_attention(*inputs, tol=1e-12), inputs, g),
        torch.autograd.grad(lla_dense(*inputs), inputs, g),
    ):
        assert torch.allclose(a, b, atol=1e-9)


# ---- laws


def dlogit_rows(heads, saved, g, tol):
    """Sums of the rows of dlogit, and how large their entries are, from the gradient by keys that are the
    identity."""
    at = QueryTile(heads, 0, 64, 64)
    dq, y, _, mean, e = query_tile_backward(at, saved, g, tol, 99)
    p = torch.exp(heads.scale * heads.q @ heads.k.mT - saved.lse[..., None])
    rel = lambda x: x @ heads.k.mT - (x * saved.kbar).sum(-1, keepdim=True)
    h = p * (g @ heads.v.mT - mean[..., None] - rel(y)) * (1 + rel(saved.u))
    return h.sum(-1) - e, (dq - y) / heads.scale, (h - p * e[..., None]) @ heads.k


@pytest.mark.parametrize("tol", [0.3, 1e-2, 1e-6])
def test_inexact_solutions_keep_the_rows_of_the_logit_gradient_at_zero(tol):
    q, k, v, g = draw(30, 30, 8)
    k = k + 5
    q = q + 5
    heads = as_heads(q, k, v, is_causal=False)
    gap, from_dq, wanted = dlogit_rows(heads, lla_tiled(heads, tol=tol), g, tol)
    assert gap.abs().max() < 1e-10 and torch.allclose(from_dq, wanted, atol=1e-9)


def test_exact_solutions_have_the_closed_form():
    q, k, v, g = draw(30, 30, 8)
    heads = as_heads(q, k, v)
    saved = lla_tiled(heads, tol=1e-13)
    _, y, dridge, _, e = query_tile_backward(QueryTile(heads, 0, 64, 64), saved, g, 1e-13, 99)
    assert torch.allclose(e, heads.ridge * (y * saved.u).sum(-1), atol=1e-9) and torch.allclose(
        dridge, -(y * saved.u).sum(-1)
    )


def test_the_error_follows_the_tolerance():
    q, k, v, g = draw(60, 60, 16)
    want = truth(q, k, v, g, torch.full((2, 60), 0.1))
    errors = []
    for tol in (1e-1, 1e-2, 1e-3, 1e-5):
        heads = as_heads(q, k, v)
        errors.append(max(far(lla_tiled_backward(heads, lla_tiled(heads, tol=tol), g, tol=tol), want)))
        assert errors[-1] < 10 * tol
    assert errors == sorted(errors, reverse=True)


def test_the_tolerance_of_the_backward_solver_matters_several_times_as_much():
    q, k, v, g = draw(60, 60, 16)
    want = truth(q, k, v, g, torch.full((2, 60), 0.1))
    heads = as_heads(q, k, v)

    def error(forward, backward):
        return max(far(lla_tiled_backward(heads, lla_tiled(heads, tol=forward), g, tol=backward), want)[:2])

    for tol in (3e-2, 1e-2, 1e-3):
        assert error(1e-12, tol) > 3 * error(tol, 1e-12)


def test_what_is_kept_does_not_grow_with_the_steps_of_the_solver():
    def kept(steps):
        sizes = []
        q, k, v, _ = (t.requires_grad_() for t in draw(40, 40, 8))
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.nbytes), t)[1], lambda t: t):
            lla_attention(q, k, v, tol=0.0, max_steps=steps)
        return sum(sizes)

    assert kept(1) == kept(12) > 0


def with_scaled_ridge(x, q, k, v, constant):
    "Attention from logits, with the ridge lambda omega as the paper's kernel has it: perhaps as a constant."
    w = (x - x.amax(-1, keepdim=True).detach()).exp()
    omega = w.sum(-1)
    p = w / omega[:, None]
    z = k - (p @ k)[:, None]
    A = (w[..., None] * z).mT @ z
    A = A + 0.1 * (omega.detach() if constant else omega)[:, None, None] * torch.eye(q.shape[-1]).double()
    u = torch.linalg.solve(A, omega[:, None] * (q - p @ k))
    return (p * (1 + (z @ u[..., None])[..., 0])) @ v


@pytest.mark.parametrize("scale, least, most", [(1.0, 0.02, 0.15), (4.0, 0.15, 0.5)])
def test_a_scaled_ridge_taken_for_a_constant_spoils_the_rows_and_the_gradient(scale, least, most):
    "The rows of its logit gradient do not sum to zero, and the gradients by queries and keys are off."
    q, k, v, g = (t[0] for t in draw(64, 64, 16, N=1))
    want = truth(q, k, v, g, torch.full((64,), 0.1), scale=scale * 16**-0.5)[:2]
    future = torch.ones(64, 64).bool().triu(1)
    sums, errors = {}, {}
    for constant in (False, True):
        leaves = [t.clone().requires_grad_() for t in (q, k)]
        x = (scale * 16**-0.5 * leaves[0] @ leaves[1].T).masked_fill(future, -torch.inf)
        x.retain_grad()
        (with_scaled_ridge(x, *leaves, v, constant) * g).sum().backward()
        sums[constant] = float(x.grad.sum(-1).abs().max())
        errors[constant] = far([t.grad for t in leaves], want)
    assert max(errors[False]) < 1e-8 and sums[False] < 1e-9
    assert sums[True] > 0.05 and least < min(errors[True]) and max(errors[True]) < most


@pytest.mark.parametrize("common, least, most", [(0.0, 0.02, 0.3), (4.0, 1.0, 10.0)])
def test_where_tokens_share_a_part_that_error_is_longer_than_the_gradient(common, least, most):
    "Tokens make queries, keys and values: the gradients of the queries and of the weights that make them."
    future, scale = torch.ones(64, 64).bool().triu(1), 16**-0.5
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
        tokens = normal(64, 16) + common * normal(16)
        W, *others = (scale * normal(16, 16) for _ in range(3))
        g, found = normal(64, 16), {}
        for constant in (False, True):
            weight = W.clone().requires_grad_()
            q, k, v = tokens @ weight, *(tokens @ w for w in others)
            q.retain_grad()
            x = (scale * q @ k.T).masked_fill(future, -torch.inf)
            (with_scaled_ridge(x, q, k, v, constant) * g).sum().backward()
            found[constant] = q.grad, weight.grad
        errors = far(found[True], found[False])
        assert least < min(errors) and max(errors) < most


def test_the_backward_default_is_a_tenth_of_the_forward_tolerance():
    q, k, v, g = draw(60, 60, 16, dtype=torch.float32)
    heads = as_heads(q, k, v)
    saved = lla_tiled(heads)
    for a, b in zip(
        lla_tiled_backward(heads, saved, g),
        lla_tiled_backward(heads, saved, g, tol=TOLERANCE[torch.float32] / 10),
    ):
        assert torch.equal(a, b)
    inputs = [t.requires_grad_() for t in (q, k, v)]
    got = torch.autograd.grad(lla_attention(*inputs, tol=1e-2), inputs, g)
    for a, b in zip(got, lla_tiled_backward(heads, lla_tiled(heads, tol=1e-2), g, tol=1e-3)):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "dtype, round_to", [(torch.float64, None), (torch.float32, None), (torch.bfloat16, torch.bfloat16)]
)
def test_a_query_gets_no_gradient_information_from_the_future(dtype, round_to):
    """dq and dridge before the cut do not change by one bit; dk and dv after it do not see the gradients
    before it."""
    q, k, v, g = draw(70, 70, 8, dtype=dtype)
    cut = 41
    q2, k2, v2, g2 = (t.clone() for t in (q, k, v, g))
    k2[:, cut:] *= -9
    v2[:, cut:] += 3
    q2[:, cut:] = 1
    g2[:, cut:] = -1
    both = []
    for a in ((q, k, v, g), (q2, k2, v2, g2)):
        heads = as_heads(*a[:3])
        both.append(
            lla_tiled_backward(
                heads,
                lla_tiled(heads, BT=16, BS=32, round_to=round_to),
                a[3],
                BT=16,
                BS=32,
                round_to=round_to,
            )
        )
    for name, i in (("dq", 0), ("dridge", 3)):
        assert torch.equal(both[0][i][:, :cut], both[1][i][:, :cut]), name
    g3 = g.clone()
    g3[:, :cut] += 100
    heads = as_heads(q, k, v)
    saved = lla_tiled(heads)
    for a, b in zip(lla_tiled_backward(heads, saved, g)[1:3], lla_tiled_backward(heads, saved, g3)[1:3]):
        assert torch.equal(a[:, cut:], b[:, cut:])


def test_a_sum_over_keys_heads_is_a_sum_over_the_group():
    q, k, v, g = draw(20, 20, 8, N=2, group=3)
    one = as_heads(q, k, v, enable_gqa=True)
    many = as_heads(q, k.repeat_interleave(3, 0), v.repeat_interleave(3, 0))
    a, b = (lla_tiled_backward(h, lla_tiled(h, tol=1e-13), g, tol=1e-13) for h in (one, many))
    for i in (1, 2):
        assert torch.allclose(a[i], b[i].unflatten(0, (2, 3)).sum(1), atol=1e-10)


def test_equal_values_leave_nothing_to_learn():
    q, k, v, g = draw(30, 30, 8)
    v = v[:, :1].expand_as(v)
    heads = as_heads(q, k, v)
    dq, dk, dv, dridge = lla_tiled_backward(heads, lla_tiled(heads), g)
    for t in (dq, dk, dridge):
        assert t.abs().max() < 1e-7


# ---- edges


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize(
    "kind", ["plain", "identical keys", "one key", "key twice", "far keys", "huge logits"]
)
def test_gradients_are_always_finite(dtype, ridge, kind):
    q, k, v, g = draw(20, 1 if kind == "one key" else 20, 16, dtype=dtype)
    if kind == "identical keys":
        k = k[:, :1].expand(-1, 20, -1)
    if kind == "key twice":
        k[:, 1::2] = k[:, ::2]
    if kind == "far keys":
        k, q = k + 20, q + 20
    if kind == "huge logits":
        k, q = 20 * k, 20 * q
    for round_to in (None, dtype):
        heads = as_heads(q, k, v, ridge=ridge, is_causal=kind != "one key")
        for t in lla_tiled_backward(heads, lla_tiled(heads, round_to=round_to), g, round_to=round_to):
            assert torch.isfinite(t).all()


def test_no_rounding_of_a_huge_logit_makes_a_weight_larger_than_one():
    "Each query has all its weight on one key, so a value's gradient is a sum of those by the outputs."
    g = torch.Generator().manual_seed(0)
    q, k, v, grad = (torch.randn(1, 200, 64, generator=g) for _ in range(4))
    q, k = 1e5 * q, 1e5 * k
    for window in ((5, 0), None):
        heads = replace(as_heads(q, k, v), window=window)
        dq, dk, dv, _ = lla_tiled_backward(heads, lla_tiled(heads), grad)
        assert all(t.isfinite().all() for t in (dq, dk))
        assert (dv.abs() <= 1.01 * grad.abs().sum(1, keepdim=True)).all()


def test_every_entry_is_written(nan_empty):
    q, k, v, g = draw(45, 60, 8, dtype=torch.float32)
    heads = as_heads(q, k, v)
    for t in lla_tiled_backward(heads, lla_tiled(heads, BT=16, BS=16), g, BT=16, BS=16):
        assert torch.isfinite(t).all() and (t.abs() < 1e6).all()


@pytest.mark.parametrize("lead, T", [((0,), 5), ((2,), 0), ((0,), 0)])
def test_empty_problems_have_zero_gradients(lead, T):
    q, k, v = (torch.randn(*lead, n, 8).requires_grad_() for n in (T, 6, 6))
    for t, d in zip((q, k, v), torch.autograd.grad(lla_attention(q, k, v).sum(), (q, k, v))):
        assert d.shape == t.shape and (d == 0).all()


def test_only_what_asks_gets_a_gradient():
    q, k, v, _ = draw(10, 10, 4)
    q.requires_grad_()
    lla_attention(q, k, v).sum().backward()
    assert q.grad is not None and k.grad is None and not lla_attention(q.detach(), k, v).requires_grad


@pytest.mark.parametrize("loss", [lambda o: o.sum(), lambda o: o.square().sum()])
def test_a_second_derivative_is_refused_aloud(loss):
    "`once_differentiable` would drop the first of these losses in silence: its gradient by o is constant."
    q, k, v, _ = draw(6, 6, 4)
    inputs = [t.requires_grad_() for t in (q, k, v)]
    first = torch.autograd.grad(loss(lla_attention(*inputs)), inputs, create_graph=True)
    for t in first:
        with pytest.raises(RuntimeError, match="no derivative of its own"):
            torch.autograd.grad(t.sum() + q.sum(), q, retain_graph=True)


@pytest.mark.parametrize(
    "knobs, names",
    [
        (dict(tol=-1.0), "tol=-1"),
        (dict(max_steps=-2), "max_steps=-2"),
        (dict(ridge=-0.1), "ridge=-0.1"),
        (dict(scale=math.nan), "scale=nan"),
    ],
)
def test_bad_settings_are_named(knobs, names):
    with pytest.raises(ValueError, match=names):
        lla_attention(*draw(3, 3, 2)[:3], **knobs)


def test_memory_for_the_backward_pass_is_linear():
    def kept(T):
        q, k, v, _ = (t.requires_grad_() for t in draw(T, T, 8, N=1, dtype=torch.float32))
        sizes = {}

        def note(t):
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            lla_attention(q, k, v, max_steps=2)
        return sum(sizes.values())

    assert kept(512) == 2 * kept(256)


def test_autocast_does_not_round_the_products_of_the_solver():
    q, k, v, g = draw(30, 30, 8, dtype=torch.float32)
    want = lla_attention(q, k, v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        leaves = [t.clone().requires_grad_() for t in (q, k, v)]
        got = lla_attention(*leaves)
        grads = torch.autograd.grad(got, leaves, g)
    assert torch.equal(got, want)
    for a, b in zip(grads, truth(q, k, v, g, torch.full((2, 30), 0.1))):
        assert far([a], [b])[0] < 1e-4
