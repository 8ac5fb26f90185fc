"""Softmax attention, linear attention, MesaNet and DeltaNet: against torch, against least squares, against
their own recurrences, and what they refuse."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lla_course.attention.baselines import (
    delta_attention,
    linear_attention,
    mesa_attention,
    softmax_attention,
    write_cache,
    write_linear,
    write_mesa,
)
from lla_course.regression.kernel import nadaraya_watson

near = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
LAYERS = dict(softmax=softmax_attention, linear=linear_attention, mesa=mesa_attention, delta=delta_attention)
causal = {
    name: partial(layer, is_causal=True) if name != "delta" else layer for name, layer in LAYERS.items()
}


@st.composite
def tokens(draw, paired=True):
    "q, k [..., T, D] and v [..., T, Dv]; if not paired, another number of queries."
    seed, T, D, Dv = (
        draw(st.integers(0, 10**6)),
        draw(st.integers(1, 8)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
    )
    lead = draw(st.sampled_from([(), (2,), (2, 3)]))
    m = T if paired else draw(st.integers(1, 6))
    g = torch.Generator().manual_seed(seed)
    return [
        torch.randn(*lead, *shape, generator=g, dtype=torch.float64) for shape in ((m, D), (T, D), (T, Dv))
    ]


# ---- softmax


@given(tokens(paired=False), st.sampled_from([None, 0.1, 3.0]), st.booleans())
def test_softmax_is_torchs(qkv, scale, is_causal):
    q, k, v = qkv
    if is_causal:
        q = q[..., : k.shape[-2], :]
    # the ends lined up
    mask = torch.ones(q.shape[-2], k.shape[-2]).tril(k.shape[-2] - q.shape[-2]).bool() if is_causal else None
    near(
        softmax_attention(q, k, v, scale=scale, is_causal=is_causal),
        F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale),
    )


@pytest.mark.parametrize("layer", [softmax_attention, linear_attention])
def test_fewer_causal_queries_are_the_last_ones_and_more_are_refused(layer):
    q, k, v = torch.randn(3, 9, 4, dtype=torch.float64)
    near(layer(q[6:], k, v, is_causal=True), layer(q, k, v, is_causal=True)[6:])
    with pytest.raises(ValueError, match=r"^q.shape=\(9, 4\): expected at most 5 queries"):
        layer(q, k[:5], v[:5], is_causal=True)


@given(tokens(paired=False), st.sampled_from([0.5, 2.0, 8.0]), st.floats(0.2, 4))
def test_it_is_nadaraya_watson_for_keys_of_one_length_whatever_the_query(qkv, scale, length):
    q, k, v = qkv
    if q.dim() > 2:
        return
    k = length * F.normalize(k, dim=-1)
    near(
        softmax_attention(q, k, v, scale=scale),
        nadaraya_watson(q, k, v, bandwidth=scale**-0.5),
        rtol=1e-7,
        atol=1e-7,
    )
    near(
        softmax_attention(3 * q, k, v, scale=scale),
        nadaraya_watson(q, k, v, bandwidth=(3 * scale) ** -0.5),
        rtol=1e-7,
        atol=1e-7,
    )


@given(tokens(paired=False))
def test_in_general_a_key_weighs_by_its_length_too(qkv):
    q, k, v = qkv
    logits = (
        k.square().sum(-1)[..., None, :]
        - torch.cdist(q, k, compute_mode="donot_use_mm_for_euclid_dist").square()
    ) / 2
    near(softmax_attention(q, k, v, scale=1.0), logits.softmax(-1) @ v, rtol=1e-7, atol=1e-7)


# ---- one squared loss


@given(tokens(paired=False))
def test_linear_attention_is_one_gradient_step_from_zero(qkv):
    q, k, v = qkv
    W = torch.zeros(*k.shape[:-2], v.shape[-1], k.shape[-1], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(0.5 * (v - k @ W.mT).square().sum(), W)
    near(linear_attention(q, k, v), -q @ grad.mT)


@given(tokens(paired=False), st.sampled_from([1e-3, 0.1, 10.0]))
def test_mesa_is_the_minimum(qkv, ridge):
    q, k, v = qkv
    D = k.shape[-1]
    rows, targets = (
        torch.cat([k, ridge**0.5 * torch.eye(D).double().expand(*k.shape[:-2], D, D)], -2),
        torch.cat([v, v.new_zeros(*v.shape[:-2], D, v.shape[-1])], -2),
    )
    near(
        mesa_attention(q, k, v, ridge=ridge),
        q @ torch.linalg.lstsq(rows, targets).solution,
        rtol=1e-7,
        atol=1e-7,
    )


@given(tokens(), st.sampled_from([0.1, 0.7]))
def test_delta_is_a_gradient_step_a_token(qkv, beta):
    q, k, v = qkv
    W = torch.zeros(*k.shape[:-2], v.shape[-1], k.shape[-1], dtype=torch.float64)
    out = []
    for i in range(k.shape[-2]):
        W = W.detach().requires_grad_()
        (grad,) = torch.autograd.grad(
            0.5 * (v[..., i, :] - (W @ k[..., i, :, None])[..., 0]).square().sum(), W
        )
        W = W - beta * grad
        out.append((W @ q[..., i, :, None])[..., 0])
    near(delta_attention(q, k, v, beta=beta), torch.stack(out, -2))
    rows = torch.full(k.shape[:-1], beta, dtype=torch.float64)
    near(delta_attention(q, k, v, beta=rows), torch.stack(out, -2))


def test_a_full_step_stores_the_pair_exactly():
    g = torch.Generator().manual_seed(0)
    k, v = (torch.randn(9, 4, generator=g, dtype=torch.float64) for _ in range(2))
    near(delta_attention(k, k, v, beta=1 / k.square().sum(-1)), v)
    near(mesa_attention(k[:4], k[:4], v[:4], ridge=1e-12), v[:4], rtol=1e-6, atol=1e-6)


def test_a_matrix_holds_as_many_pairs_as_its_side_and_a_cache_holds_them_all():
    "Random pairs of length one in 16 dimensions, each asked for once."

    def recall(n):
        g = torch.Generator().manual_seed(n)
        k, v = (F.normalize(torch.randn(50, n, 16, generator=g).double(), dim=-1) for _ in range(2))
        answers = mesa_attention(k, k, v, ridge=1e-9), softmax_attention(k, k, v, scale=16.0)
        return [float((a - v).square().sum(-1).mean()) for a in answers]

    for n in (4, 12, 16, 24, 32):
        matrix, cache = recall(n)
        assert matrix == pytest.approx(max(0, 1 - 16 / n), abs=0.02) and cache < 1e-3


# ---- recurrences


@given(tokens())
def test_the_recurrences_are_the_formulas(qkv):
    q, k, v = qkv
    lead, D, Dv = k.shape[:-2], k.shape[-1], v.shape[-1]
    W, cache, rls = (
        v.new_zeros(*lead, Dv, D),
        (k[..., :0, :], v[..., :0, :]),
        (v.new_zeros(*lead, Dv, D), torch.eye(D).double().expand(*lead, D, D) / 0.3),
    )
    for i in range(k.shape[-2]):
        token = k[..., i, :], v[..., i, :]
        here = q[..., i : i + 1, :]
        W, cache, rls = write_linear(W, *token), write_cache(cache, *token), write_mesa(rls, *token)
        near(here @ W.mT, linear_attention(q, k, v, is_causal=True)[..., i : i + 1, :])
        near(
            here @ rls[0].mT,
            mesa_attention(q, k, v, ridge=0.3, is_causal=True)[..., i : i + 1, :],
            rtol=1e-7,
            atol=1e-7,
        )
        near(softmax_attention(here, *cache), softmax_attention(q, k, v, is_causal=True)[..., i : i + 1, :])
    assert torch.equal(cache[0], k) and torch.equal(cache[1], v)


@pytest.mark.parametrize("name", LAYERS)
def test_the_past_does_not_see_the_future(name):
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 9, 4, generator=g, dtype=torch.float64) for _ in range(3))
    here = causal[name](q, k, v)
    k2, v2 = k.clone(), v.clone()
    k2[:, 5:] *= -3
    v2[:, 5:] = 7
    assert torch.equal(causal[name](q, k2, v2)[:, :5], here[:, :5]) and not torch.allclose(
        causal[name](q, k2, v2)[:, 5:], here[:, 5:]
    )


@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_and_dtypes(name):
    g = torch.Generator().manual_seed(0)
    qkv = [torch.randn(4, 3, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(causal[name], qkv)
    assert causal[name](*(x.float() for x in qkv)).dtype == torch.float32
    strange = [x.detach().T.contiguous().T for x in qkv]
    near(causal[name](*strange), causal[name](*qkv).detach())


# ---- what is refused


@pytest.mark.parametrize("name", LAYERS)
def test_shapes_that_do_not_fit(name):
    x = torch.ones(5, 3)
    layer = causal[name]
    for bad, message in (
        (dict(q=torch.ones(3)), r"^q.shape=\(3,\)"),
        (dict(k=torch.ones(5, 2)), r"^k.shape=\(5, 2\): expected the last dimension 3"),
        (dict(k=torch.ones(1, 5, 3)), "^k.shape"),
        (dict(v=torch.ones(4, 3)), r"^v.shape=\(4, 3\): expected one value for each of the 5 keys"),
        (dict(v=torch.ones(5)), "^v.shape"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(**dict(q=x, k=x, v=x) | bad)
    if name in ("mesa", "delta"):
        with pytest.raises(ValueError, match=r"^q.shape=\(4, 3\): expected one query for each of the 5 keys"):
            layer(torch.ones(4, 3), x, x)


def test_bad_knobs():
    x = torch.ones(5, 3)
    for ridge in (0.0, -1.0, float("nan"), None, "a"):
        with pytest.raises(ValueError, match="^ridge="):
            mesa_attention(x, x, x, ridge=ridge)
    for beta in (float("nan"), "a", None):
        with pytest.raises(ValueError, match="^beta="):
            delta_attention(x, x, x, beta=beta)
    for scale in (float("nan"), "1", True):
        with pytest.raises(ValueError, match="^scale="):
            softmax_attention(x, x, x, scale=scale)
    for layer in (softmax_attention, linear_attention, mesa_attention):
        with pytest.raises(ValueError, match="^is_causal='no'"):
            layer(x, x, x, is_causal="no")
        with pytest.raises(ValueError, match="^q='list'"):
            layer([[1.0]], x, x)
        with pytest.raises(ValueError, match="^v.dtype=torch.float64"):
            layer(x, x, x.double())
    with pytest.raises(ValueError, match=r"^beta.shape=\(4,\)"):
        delta_attention(x, x, x, beta=torch.ones(4))
