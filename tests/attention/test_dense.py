"""The oracle of Local Linear Attention: against least squares query by query, against the paper's form, its
laws and limits, and what it refuses."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lla_course.attention.dense import Heads, as_heads, lla_dense, lla_paper, lla_weights, restore
from lla_course.regression.local_linear import equivalent_kernel, global_linear

near = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
every_cause = pytest.mark.parametrize("is_causal", [True, False])


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def qkv(seed, T, S, D, lead=(), kv_lead=None):
    return normal(seed, *lead, T, D), *(
        normal(seed + i, *(lead if kv_lead is None else kv_lead), S, D) for i in (1, 2)
    )


@st.composite
def problems(draw, ridge=None):
    """q, k, v with leading dimensions, grouped heads, T != S, and knobs with a ridge for each token, each
    head, or one."""
    T, S, D, seed = (
        draw(st.integers(1, 7)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 5)),
        draw(st.integers(0, 10**6)),
    )
    lead, group = draw(st.sampled_from([(), (2,), (2, 2), (1, 3, 2)])), draw(st.sampled_from([1, 1, 2, 3]))
    causal = draw(st.booleans())
    if causal:
        T, S = sorted((T, S))
    wide = (*lead[:-1], lead[-1] * group) if lead else ()
    q, (_, k, v) = normal(seed, *wide, T, D), qkv(seed + 1, S, S, D, lead)
    shape = draw(st.sampled_from([(), (T,), (*wide, T), (*wide[-1:], 1)]))
    rows = ridge if ridge is not None else normal(seed + 9, *shape).abs() + 0.02
    return (
        q,
        k,
        v,
        dict(
            ridge=rows,
            is_causal=causal,
            scale=draw(st.sampled_from([None, 0.0, 0.3, 2.0, -1.0])),
            enable_gqa=group > 1,
        ),
    )


def brute(q, k, v, *, ridge, is_causal, scale, enable_gqa):
    "One weighted ridge least squares problem for each query, by numpy."
    T, D = q.shape[-2:]
    group = q.shape[-3] // k.shape[-3] if q.dim() > 2 else 1
    if q.dim() > 2:
        k, v = (x.repeat_interleave(group, -3) for x in (k, v))
    rows = torch.as_tensor(ridge, dtype=torch.float64).expand(q.shape[:-1])
    out = torch.empty_like(q)
    for at in np.ndindex(*q.shape[:-1]):
        n = k.shape[-2] - T + at[-1] + 1 if is_causal else k.shape[-2]
        x, y, c = k[at[:-1]][:n].numpy(), v[at[:-1]][:n].numpy(), q[at].numpy()
        logits = (D**-0.5 if scale is None else scale) * x @ c
        p = np.exp(logits - logits.max())
        p /= p.sum()
        design = np.r_[
            np.c_[np.ones(n), x - c] * np.sqrt(p)[:, None],
            np.c_[np.zeros(D), float(rows[at]) ** 0.5 * np.eye(D)],
        ]
        out[at] = torch.from_numpy(
            np.linalg.lstsq(design, np.r_[y * np.sqrt(p)[:, None], np.zeros((D, D))], rcond=None)[0][0]
        )
    return out


# ---- the definition, and the paper


@given(problems())
def test_it_is_least_squares_at_every_query(problem):
    q, k, v, knobs = problem
    near(lla_dense(q, k, v, **knobs), brute(q, k, v, **knobs), rtol=1e-7, atol=1e-7)


@given(problems())
def test_the_form_of_the_paper_is_the_same_estimator(problem):
    q, k, v, knobs = problem
    ours, theirs = lla_dense(q, k, v, **knobs), lla_paper(q, k, v, **knobs)
    assert ((ours - theirs).norm() <= 1e-12 * max(1, ours.norm())).item()


def by_hand(q, k, v, ridge, scale):
    "One query in the dtype of q: the centred form, the paper's form, and the denominator of the latter."
    w = (scale * k @ q - (scale * k @ q).max()).exp()
    p, eye = w / w.sum(), torch.eye(len(q)).to(q)
    z = k - p @ k
    u = torch.linalg.solve((p[:, None] * z).T @ z + ridge * eye, q - p @ k)
    far = k - q
    rho = torch.linalg.solve((w[:, None] * far).T @ far + ridge * w.sum() * eye, w @ far)
    denominator = w.sum() - (w @ far) @ rho
    return (p * (1 + z @ u)) @ v, (w * (1 - far @ rho) / denominator) @ v, denominator


def test_the_denominator_of_the_paper_is_a_small_difference_where_keys_are_few():
    q, k, v = qkv(0, 1, 6, 8)
    w = (8**-0.5 * k @ q[0] - (8**-0.5 * k @ q[0]).max()).exp()
    for ridge in (1.0, 1e-3):
        _, info = lla_dense(q, k, v, ridge=ridge, is_causal=False, return_info=True)
        beta = (q[0] - info["kbar"][0]) @ info["u"][0]
        near(by_hand(q[0], k, v, ridge, 8**-0.5)[2], w.sum() / (1 + beta))
    assert beta > 100


def test_in_single_precision_the_centred_form_is_five_to_fifty_times_as_exact():
    "Median errors over the keys and ridges of chapter 21."
    D, ratios = 64, []
    for n in (4, 32, 256):
        for ridge in np.geomspace(1e-5, 1, 6):
            g, errors = torch.Generator().manual_seed(0), []
            for _ in range(11):
                draws = (torch.randn(m, D, generator=g, dtype=torch.float64) for m in (1, n, n))
                q, k, v = (F.rms_norm(x, (D,)) for x in draws)
                exact = by_hand(q[0], k, v, ridge, D**-0.5)[0]
                forms = by_hand(q[0].float(), k.float(), v.float(), ridge, D**-0.5)[:2]
                errors.append([float((o - exact).norm()) for o in forms])
            ours, papers = np.median(errors, axis=0)
            ratios.append(papers / ours)
    lost = np.isnan(ratios)  # most answers of the paper's form were no numbers
    assert lost.sum() <= 1 and 5 < np.nanmin(ratios) and np.nanmax(ratios) < 50


def test_negative_weights_leave_the_hull_of_the_values_and_are_noisier():
    g = torch.Generator().manual_seed(0)
    k = torch.randn(60, 2, generator=g, dtype=torch.float64)
    edge, v = torch.tensor([[3.0, 0.0]], dtype=torch.float64), k
    softmax = lla_weights(edge, k, scale=1.0, ridge=1e9, is_causal=False)
    s = lla_weights(edge, k, scale=1.0, ridge=0.01, is_causal=False)
    assert softmax.min() > 0 and s.min() < -0.01
    assert (softmax @ v)[0, 0] < v[:, 0].max() < (s @ v)[0, 0]
    assert s.square().sum() > 2 * softmax.square().sum()


def test_it_is_chapter_11_for_keys_of_one_length():
    q, k, v = qkv(0, 9, 20, 6)
    q, k = (F.rms_norm(x, (6,)) for x in (q, k))
    for ridge in (0.0, 0.1):
        near(
            lla_weights(q, k, scale=2.0, ridge=ridge, is_causal=False),
            equivalent_kernel(q, k, bandwidth=2**-0.5, ridge=ridge),
            atol=1e-8,
            rtol=1e-8,
        )


# ---- laws


@given(problems(), st.booleans())
def test_weights_sum_to_one_and_make_the_answer(problem, no_ridge):
    q, k, v, knobs = problem
    knobs = knobs | (dict(ridge=0.0) if no_ridge else {})
    s = lla_weights(q, k, **knobs)
    o, info = lla_dense(q, k, v, **knobs, return_info=True)
    near(s.sum(-1), torch.ones(q.shape[:-1]).double())
    near(info["weights"], s, rtol=0, atol=0)
    group = q.shape[-3] // k.shape[-3] if q.dim() > 2 else 1
    near(o, s @ (v.repeat_interleave(group, -3) if group > 1 else v), rtol=1e-8, atol=1e-8)
    near(lla_dense(q, k, torch.full_like(v, 3.0), **knobs), torch.full_like(q, 3.0))


@given(problems())
def test_the_info_is_the_solution_of_the_system(problem):
    q, k, v, knobs = problem
    _, info = lla_dense(q, k, v, **knobs, return_info=True)
    assert info["u"].shape == info["kbar"].shape == q.shape and info["lse"].shape == q.shape[:-1]
    if q.dim() > 2:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
    logits = (q.shape[-1] ** -0.5 if knobs["scale"] is None else knobs["scale"]) * q @ k.mT
    if knobs["is_causal"]:
        logits = logits.masked_fill(
            torch.ones_like(logits).bool().triu(1 + k.shape[-2] - q.shape[-2]), -torch.inf
        )
    p = logits.softmax(-1)
    near(info["lse"], logits.logsumexp(-1))
    near(info["kbar"], p @ k)
    z = k[..., None, :, :] - info["kbar"][..., None, :]
    ridge = torch.as_tensor(knobs["ridge"]).double().expand(q.shape[:-1])[..., None]
    near(
        (p[..., None] * z * (z @ info["u"][..., None])).sum(-2) + ridge * info["u"],
        q - info["kbar"],
        rtol=1e-7,
        atol=1e-7,
    )


@given(problems())
def test_grouped_heads_are_repeated_heads(problem):
    q, k, v, knobs = problem
    if q.dim() == 2:
        return
    group = q.shape[-3] // k.shape[-3]
    many = [x.repeat_interleave(group, -3) for x in (k, v)]
    assert torch.equal(lla_dense(q, k, v, **knobs), lla_dense(q, *many, **knobs | dict(enable_gqa=False)))


@given(problems(), st.integers(0, 100))
def test_the_order_of_the_keys_does_not_matter_without_a_mask(problem, seed):
    q, k, v, knobs = problem
    knobs = knobs | dict(is_causal=False)
    order = torch.randperm(k.shape[-2], generator=torch.Generator().manual_seed(seed))
    near(lla_dense(q, k[..., order, :], v[..., order, :], **knobs), lla_dense(q, k, v, **knobs))
    near(lla_weights(q, k[..., order, :], **knobs), lla_weights(q, k, **knobs)[..., order])


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_causality_bit_for_bit(ridge):
    q, k, v = qkv(0, 30, 30, 8, (2,))
    here = lla_dense(q, k, v, ridge=ridge)
    for cut in (1, 7, 8, 29):
        k2, v2 = k.clone(), v.clone()
        k2[:, cut:] = 1e3 * normal(5, 2, 30 - cut, 8)
        v2[:, cut:] = -7
        assert torch.equal(lla_dense(q, k2, v2, ridge=ridge)[:, :cut], here[:, :cut])
    near(here[:, 12], lla_dense(q[:, 12:13], k[:, :13], v[:, :13], ridge=ridge, is_causal=False)[:, 0])


@pytest.mark.parametrize("T", [1, 3, 40, 70])
def test_fewer_queries_than_keys_are_the_last_ones(T):
    """Causal attention is lined up at the ends, as a cache needs it; scaled_dot_product_attention lines up
    the beginnings."""
    q, k, v = qkv(0, 70, 70, 6, (2,))
    full = lla_dense(q, k, v)
    near(lla_dense(q[:, 70 - T :], k, v), full[:, 70 - T :])
    mine = torch.ones(T, 70).tril(70 - T).bool()
    near(
        lla_dense(q[:, 70 - T :], k, v, ridge=1e12),
        F.scaled_dot_product_attention(q[:, 70 - T :], k, v, attn_mask=mine),
    )


def test_more_queries_than_keys_are_refused_with_a_mask_only():
    q, k, v = qkv(0, 9, 4, 3)
    for door in (as_heads, lla_dense, lla_paper):
        with pytest.raises(ValueError, match=r"^q.shape=\(9, 3\): expected at most 4 queries"):
            door(q, k, v)
    assert lla_dense(q, k, v, is_causal=False).shape == q.shape


def test_leading_dimensions_and_layout():
    q, k, v = qkv(0, 5, 6, 4, (2, 3, 2))
    o = lla_dense(q, k, v, ridge=0.05)
    assert o.shape == q.shape
    near(o[1, 2, 0], lla_dense(q[1, 2, 0], k[1, 2, 0], v[1, 2, 0], ridge=0.05))
    near(o.flatten(0, 1), lla_dense(*(x.flatten(0, 1) for x in (q, k, v)), ridge=0.05))
    strange = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (q, k, v)]
    assert not strange[0].is_contiguous() and torch.equal(lla_dense(*strange, ridge=0.05), o)
    near(lla_dense(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), ridge=0.05), o.transpose(0, 1))
    near(
        lla_dense(q[..., :1, :].expand_as(q), k, v, is_causal=False)[..., 4, :],
        lla_dense(q, k, v, is_causal=False)[..., 0, :],
    )


def test_nothing_to_answer():
    assert lla_dense(*qkv(0, 0, 3, 4, (2, 2))).shape == (2, 2, 0, 4) and lla_dense(
        *qkv(0, 3, 3, 4, (0, 2))
    ).shape == (0, 2, 3, 4)
    assert lla_weights(normal(0, 0, 4), normal(1, 3, 4)).shape == (0, 3) and lla_paper(
        *qkv(0, 0, 3, 4)
    ).shape == (0, 4)
    for causal in (True, False):
        assert lla_dense(*qkv(0, 0, 0, 4, (2, 2)), is_causal=causal).shape == (2, 2, 0, 4)
        assert lla_dense(*qkv(0, 3, 0, 4, (0, 2)), is_causal=False).shape == (0, 2, 3, 4)


# ---- limits


@every_cause
def test_a_large_ridge_is_softmax(is_causal):
    q, k, v = qkv(0, 12, 12, 5, (2, 2))
    soft = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    errors = [(lla_dense(q, k, v, ridge=r, is_causal=is_causal) - soft).norm() for r in (1e2, 1e4, 1e6)]
    assert errors[1] / errors[0] == pytest.approx(0.01, rel=0.1) and errors[2] / errors[1] == pytest.approx(
        0.01, rel=0.01
    )


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_scale_zero_is_one_plane(ridge):
    q, k, v = qkv(0, 7, 20, 5)
    near(
        lla_dense(q, k, v, ridge=ridge, scale=0.0, is_causal=False),
        global_linear(q, k, v, ridge=ridge),
        rtol=1e-8,
        atol=1e-8,
    )


@given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from([0.1, 0.5, 1.0]))
def test_affine_values_are_reproduced_without_ridge(seed, D, scale):
    q, k, _ = qkv(seed, 4, 3 * D + 4, D)
    A, a = normal(seed + 3, D, D), normal(seed + 4, D)
    near(lla_dense(q, k, k @ A + a, ridge=0.0, scale=scale, is_causal=False), q @ A + a, rtol=1e-6, atol=1e-6)
    near(lla_weights(q, k, ridge=0.0, scale=scale, is_causal=False) @ k, q, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", range(1, 9))
def test_ridge_zero_is_the_limit_of_a_small_ridge(n):
    "With fewer than D + 1 keys the system is singular; the pseudo-inverse is the limit."
    q, k, v = qkv(n, 3, n, 6)
    o = lla_dense(q, k, v, ridge=0.0, is_causal=False)
    near(o, lla_dense(q, k, v, ridge=1e-9, is_causal=False), rtol=1e-4, atol=1e-4)
    p = (6**-0.5 * q @ k.T).softmax(-1)
    kbar = p @ k
    for i in range(3):
        z = k - kbar[i]
        C = (p[i][:, None] * z).T @ z
        near(
            o[i],
            p[i] * (1 + z @ torch.linalg.pinv(C, rtol=1e-10, hermitian=True) @ (q[i] - kbar[i])) @ v,
            rtol=1e-7,
            atol=1e-7,
        )


@pytest.mark.parametrize("ridge", [0.0, 1e-12, 1e-3, 0.1, 10.0])
def test_the_first_token_answers_with_its_value(ridge):
    q, k, v = qkv(0, 6, 6, 8, (3,))
    near(lla_dense(q, k, v, ridge=ridge)[:, 0], v[:, 0])
    one = [x[..., :1, :] for x in (q, k, v)]
    near(lla_dense(*one, ridge=ridge), one[2])


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_identical_keys_give_the_mean_of_their_values(ridge):
    q, k, v = qkv(0, 5, 7, 4)
    k = k[:1].expand(7, 4)
    near(lla_dense(q, k, v, ridge=ridge, is_causal=False), v.mean(0).expand(5, 4))
    near(lla_dense(q, k, v, ridge=ridge), torch.stack([v[: i + 3].mean(0) for i in range(5)]))


@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize("size", [1e3, 1e6, 1e9])
def test_huge_logits_give_numbers(ridge, size):
    q, k, v = qkv(0, 8, 8, 4)
    for q2, k2 in ((q * size, k), (q, k * size), (q * size, k * size)):
        assert lla_dense(q2, k2, v, ridge=ridge).isfinite().all()


def test_a_query_far_away_is_still_solved_exactly():
    "Rounding is measured against the keys: a long query does not switch the correction off."
    q, k, v = qkv(0, 3, 9, 4)
    _, info = lla_dense(1e6 * q, k, v, scale=1e-6, ridge=0.1, is_causal=False, return_info=True)
    p = (q @ k.T).softmax(-1)
    kbar = p @ k
    z = k - kbar[:, None]
    near(
        info["u"],
        torch.linalg.solve((p[..., None] * z).mT @ z + 0.1 * torch.eye(4).double(), 1e6 * q - kbar),
        rtol=1e-7,
        atol=1e-3,
    )


# ---- the ridge as a tensor, dtypes, derivatives


def test_a_ridge_for_each_token_and_head():
    q, k, v = qkv(0, 5, 5, 3, (2, 4))
    rows = normal(7, 2, 4, 5).abs()
    o = lla_dense(q, k, v, ridge=rows)
    for b, h, i in ((0, 0, 3), (1, 2, 4), (1, 3, 1)):
        near(o[b, h, i], lla_dense(q, k, v, ridge=float(rows[b, h, i]))[b, h, i])
    near(lla_dense(q, k, v, ridge=rows[0, :, :1]), lla_dense(q, k, v, ridge=rows[0, :, :1].expand(2, 4, 5)))
    near(lla_dense(q, k, v, ridge=torch.tensor(0.3, dtype=torch.float64)), lla_dense(q, k, v, ridge=0.3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtypes_come_back_and_the_arithmetic_is_double(dtype):
    q, k, v = (x.to(dtype) for x in qkv(0, 6, 9, 4, (2,)))
    o, info = lla_dense(q, k, v, ridge=0.25, return_info=True)
    assert o.dtype == lla_weights(q, k).dtype == lla_paper(q, k, v).dtype == dtype and {
        t.dtype for t in info.values()
    } == {torch.float64}
    assert torch.equal(o, lla_dense(q.double(), k.double(), v.double(), ridge=0.25).to(dtype))


@every_cause
def test_derivatives(is_causal):
    q, k, v = (x.requires_grad_() for x in qkv(0, 3, 4, 2, (2,), (1,)))
    ridge = (normal(4, 2, 3).abs() + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q, k, v, r: lla_dense(q, k, v, ridge=r, is_causal=is_causal, enable_gqa=True), (q, k, v, ridge)
    )
    assert torch.autograd.gradcheck(
        lambda q, k, r: lla_weights(q, k, ridge=r, is_causal=is_causal, enable_gqa=True), (q, k, ridge)
    )


def test_derivatives_of_half_precision_inputs():
    q, k, v = (x.bfloat16().requires_grad_() for x in qkv(0, 4, 4, 3))
    ridge = torch.tensor(0.1, requires_grad=True)
    lla_dense(q, k, v, ridge=ridge).sum().backward()
    assert all(
        x.grad is not None and x.grad.dtype == x.dtype and x.grad.isfinite().all() for x in (q, k, v, ridge)
    )


# ---- the door


def test_heads():
    q, k, v = qkv(0, 5, 7, 4, (2, 6), (2, 3))
    rows = normal(3, 6, 1).abs().requires_grad_()
    h = as_heads(q, k, v, ridge=rows, enable_gqa=True, is_causal=False)
    assert isinstance(h, Heads) and (h.q.shape, h.k.shape, h.v.shape, h.ridge.shape) == (
        (12, 5, 4),
        (6, 7, 4),
        (6, 7, 4),
        (12, 5),
    )
    assert (h.group, h.scale, h.is_causal) == (2, 0.5, False) and h.ridge.requires_grad
    assert (
        torch.equal(h.q[7], q[1, 1])
        and torch.equal(h.k[7 // 2], k[1, 0])
        and torch.equal(h.ridge[7], rows[1].expand(5))
    )
    assert (
        restore(h.q, q).shape == q.shape
        and restore(h.ridge, q).shape == (2, 6, 5)
        and torch.equal(restore(h.q, q), q)
    )
    with pytest.raises(AttributeError):
        h.group = 3
    assert as_heads(q[0, 0], k[0, 0], v[0, 0]).q.shape == (1, 5, 4)
    assert restore(torch.ones(1, 5), q[0, 0]).shape == (5,)


@given(problems())
def test_rows_are_those_of_the_whole(problem):
    q, k, v, knobs = problem
    rows = torch.tensor([q.shape[-2] - 1, 0, q.shape[-2] // 2])
    (o, info), (whole, all_info) = (
        lla_dense(q, k, v, **knobs, rows=r, return_info=True) for r in (rows, None)
    )
    near(o, whole[..., rows, :])
    for name, axis in dict(weights=-2, u=-2, kbar=-2, lse=-1).items():
        near(info[name], all_info[name].index_select(axis, rows))


@pytest.mark.parametrize(
    "dtype, wanted",
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
    ids=str,
)
def test_the_ridge_is_at_least_single_precision(dtype, wanted):
    x = normal(0, 3, 2, dtype=dtype)
    for ridge in (0.1, 0, torch.tensor(0.1), torch.full((3,), 0.1, dtype=torch.float64), np.float64(0.1)):
        assert as_heads(x, x, x, ridge=ridge).ridge.dtype == wanted


X = torch.randn(2, 4, 5, 3)
BAD = {
    "q": [
        (None, "^q='NoneType'"),
        ([[1.0]], "^q='list': expected a torch tensor"),
        (np.ones((2, 4, 5, 3)), "^q='ndarray'"),
        (torch.ones(3), r"^q.shape=\(3,\)"),
        (X.int(), "^q.dtype=torch.int32"),
        (X.to(torch.complex64), "^q.dtype"),
        (X.bool(), "^q.dtype"),
        (X[..., :0], "^q.shape"),
    ],
    "k": [
        (X.double(), "^k.dtype=torch.float64: expected torch.float32, as q has"),
        (X[..., :2], "^k.shape"),
        (X[:, :, :0], r"^k.shape=\(2, 4, 0, 3\): expected at least one key"),
        (X[0], "^k.shape"),
        (X[:1], "^k.shape"),
        (X[:, :2], "^k.shape.*enable_gqa"),
        (X.to("meta"), "^k.device='meta'"),
        (None, "^k='NoneType'"),
    ],
    "v": [
        (X.half(), "^v.dtype"),
        (X[..., :0], r"^v.shape=\(2, 4, 5, 0\): expected \(2, 4, 5, 3\), as k has"),
        (X[:, :, :4], "^v.shape"),
        (X[:1], "^v.shape"),
        (3.0, "^v='float'"),
    ],
    "ridge": [
        (-0.1, "^ridge=-0.1"),
        (float("nan"), "^ridge=nan"),
        (float("inf"), "^ridge=inf"),
        ("0.1", "^ridge='0.1'"),
        (None, "^ridge=None"),
        (1j, "^ridge"),
        ([0.1, 0.2], "^ridge"),
        (torch.tensor([0.1, -1e-9, 0.1, 0.1, 0.1]), "^ridge=-"),
        (torch.full((4, 1), torch.nan), "^ridge=nan"),
        (torch.full((5,), torch.inf), "^ridge=inf"),
        (torch.ones(3), r"^ridge.shape=\(3,\)"),
        (torch.ones(1, 2, 4, 5), "^ridge.shape"),
        (torch.ones(5).int(), "^ridge.dtype"),
        (torch.ones(5, device="meta"), "^ridge.device"),
    ],
    "is_causal": [
        (None, "^is_causal=None: expected True or False"),
        (1, "^is_causal=1"),
        ("yes", "^is_causal='yes'"),
    ],
    "enable_gqa": [(None, "^enable_gqa=None"), (2, "^enable_gqa=2")],
    "scale": [
        (float("nan"), "^scale=nan"),
        (float("inf"), "^scale=inf"),
        ("1", "^scale='1'"),
        ([1.0], "^scale"),
        (1j, "^scale"),
    ],
}


@pytest.mark.parametrize("door", [as_heads, lla_dense, lla_paper], ids=lambda f: f.__name__)
@pytest.mark.parametrize("argument", BAD)
def test_bad_arguments_are_refused(door, argument):
    good = dict(q=X, k=X, v=X, ridge=0.1, is_causal=True, scale=None, enable_gqa=False)
    for value, message in BAD[argument]:
        with pytest.raises(ValueError, match=message):
            door(**good | {argument: value})


def test_the_form_of_the_paper_needs_a_ridge():
    for ridge in (0.0, torch.tensor([0.1, 0, 0.1, 0.1, 0.1])):
        with pytest.raises(ValueError, match="^ridge=0.0: expected a ridge > 0"):
            lla_paper(X, X, X, ridge=ridge)


def test_heads_that_do_not_divide():
    for heads in ((4, 3), (2, 4), (4, 0), (0, 2)):
        q, k = torch.ones(2, heads[0], 5, 3), torch.ones(2, heads[1], 5, 3)
        with pytest.raises(ValueError, match=r"^k.shape=.*fewer heads that divide"):
            lla_dense(q, k, k, enable_gqa=True)
    with pytest.raises(ValueError, match="^k.shape"):
        lla_dense(torch.ones(2, 4, 5, 3), torch.ones(1, 2, 5, 3), torch.ones(1, 2, 5, 3), enable_gqa=True)
