"Packed, padded and windowed calls, and a layer with a cache, against one sequence at a time."

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import relative_rms
from lla_course import KVCache, LocalLinearAttention, SolverWarning, flash_lla
from lla_course.attention.dense import lla_dense
from lla_course.attention.ragged import as_cut, with_window
from lla_course.attention.tiled import RIDGE_FLOOR, QueryTile, lla_tiled
from lla_course.kernels.runtime import INTERPRET

f32, f64 = torch.float32, torch.float64
triton = pytest.mark.skipif(not INTERPRET, reason="needs the interpreter")
interpreted = pytest.param("triton", marks=triton)
pair = st.tuples(st.integers(0, 9), st.integers(0, 5)).map(lambda p: (p[0], p[0] + p[1]))  # T <= S


def draw(*shapes, dtype=f64, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g, dtype=f64).to(dtype) for shape in shapes]


def offsets(lengths, dtype=torch.int64):
    return torch.tensor([0, *torch.tensor(lengths, dtype=torch.int64).cumsum(0).tolist()], dtype=dtype)


def truth(q, k, v, ridge, **knobs):
    "The formula in float64, with the floor of the inputs' dtype."
    wide = [t.double() for t in (q, k, v)]
    return lla_dense(*wide, ridge=ridge.double(), floor=RIDGE_FLOOR[q.dtype], **knobs)


def one_at_a_time(q, k, v, ridge, lengths_q, lengths_k, solve=truth, **knobs):
    "Each packed sequence by its own call."
    parts = zip(
        *(t.split(n, -2) for t, n in ((q, lengths_q), (k, lengths_k), (v, lengths_k))),
        ridge.split(lengths_q, -1),
    )
    return torch.cat([solve(*part, **knobs) for part in parts], -2)


def gradients(o, leaves, seed=1):
    (g,) = draw(o.shape, seed=seed)
    return torch.autograd.grad(o, leaves, g.to(o.dtype), materialize_grads=True)


def agree(f, g, tensors, bound):
    "Values and gradients of two functions of the same tensors."
    ours, theirs = ([t.detach().clone().requires_grad_() for t in tensors] for _ in range(2))
    a, b = f(*ours), g(*theirs)
    assert a.shape == b.shape
    close = lambda x, y: float((x.double() - y.double()).norm()) <= bound * (1e-3 + float(y.double().norm()))
    assert close(a.detach(), b.detach())
    assert all(close(x, y) for x, y in zip(gradients(a, ours), gradients(b, theirs)))


# ---- packed


@settings(max_examples=20)
@given(pairs=st.lists(pair, max_size=5), is_causal=st.booleans(), backend=st.sampled_from(["tiled", "dense"]))
def test_packed_sequences_are_separate_calls_of_the_formula(pairs, is_causal, backend):
    pairs = [(T, S) for T, S in pairs if S or not T]
    Ts, Ss = [p[0] for p in pairs], [p[1] for p in pairs]
    q, k, v = draw((4, sum(Ts), 5), (2, sum(Ss), 5), (2, sum(Ss), 5))
    ridge = torch.linspace(0.1, 1.0, 4 * sum(Ts), dtype=f64).view(4, sum(Ts))
    knobs = dict(enable_gqa=True, is_causal=is_causal)
    lengths = dict(cu_seqlens_q=offsets(Ts), cu_seqlens_k=offsets(Ss, torch.int32))

    def packed(q, k, v, ridge):
        return flash_lla(q, k, v, ridge=ridge, backend=backend, tol=1e-13, **lengths, **knobs)

    def separate(q, k, v, ridge):
        if not pairs:
            return truth(q, k, v, ridge, **knobs)
        return one_at_a_time(q, k, v, ridge, Ts, Ss, **knobs)

    agree(packed, separate, (q, k, v, ridge), 1e-7)


@pytest.mark.parametrize(
    "backend, is_causal",
    [
        ("tiled", True),
        ("tiled", False),
        ("dense", True),
        ("dense", False),
        pytest.param("triton", True, marks=triton),
    ],
)
def test_packed_sequences_are_separate_calls_bit_for_bit(backend, is_causal):
    Ts, Ss = ([3, 0, 4], [5, 2, 4]) if backend == "triton" else ([3, 0, 17, 1], [5, 2, 17, 30])
    T, S = sum(Ts), sum(Ss)  # no two of one size
    q, k, v = (t.requires_grad_() for t in draw((2, T, 8), (1, S, 8), (1, S, 8), dtype=f32))
    ridge = torch.rand(2, T).requires_grad_()
    knobs = dict(enable_gqa=True, is_causal=is_causal, backend=backend, max_steps=3, check=False)

    def alone(q, k, v, ridge, **knobs):
        return flash_lla(q, k, v, ridge=ridge, **knobs)

    lengths = dict(cu_seqlens_q=offsets(Ts), cu_seqlens_k=offsets(Ss))
    packed = flash_lla(q, k, v, ridge=ridge, **lengths, **knobs)
    separate = one_at_a_time(q, k, v, ridge, Ts, Ss, solve=alone, **knobs)
    assert torch.equal(packed, separate)
    for a, b in zip(*(gradients(o, (q, k, v, ridge)) for o in (packed, separate))):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", ["tiled", "dense"])
def test_sequences_of_one_size_travel_together(backend, monkeypatch):
    from lla_course.attention import flash

    calls, solve = [], flash._solve
    monkeypatch.setattr(
        flash, "_solve", lambda heads, **how: calls.append(heads.q.shape) or solve(heads, **how)
    )
    q, k, v = draw((2, 40, 8), (2, 40, 8), (2, 40, 8), dtype=f32)
    o, info = flash_lla(q, k, v, cu_seqlens_q=offsets([9, 11, 9, 0, 11]), backend=backend, return_info=True)
    assert sorted(map(tuple, calls)) == [(2, 0, 8), (4, 9, 8), (4, 11, 8)]
    assert info["steps"].shape == info["residual"].shape == (2, 40)
    alone = [
        flash_lla(*(t[:, a : a + n] for t in (q, k, v))) for a, n in ((0, 9), (9, 11), (20, 9), (29, 11))
    ]
    assert relative_rms(o, torch.cat(alone, 1)) < 1e-5


def test_packed_without_heads_with_more_dimensions_and_from_flash_attentions_layout():
    q, k, v = draw((3, 2, 12, 4), (3, 2, 12, 4), (3, 2, 12, 4))
    cu = offsets([5, 7])
    o = flash_lla(q, k, v, cu_seqlens_q=cu, cu_seqlens_k=cu)
    for i in range(3):
        for h in range(2):
            assert torch.allclose(flash_lla(q[i, h], k[i, h], v[i, h], cu_seqlens_q=cu), o[i, h])
    tokens_first = [t[0].transpose(0, 1).contiguous() for t in (q, k, v)]  # [tokens, heads, D]
    again = flash_lla(*(t.transpose(0, 1) for t in tokens_first), cu_seqlens_q=cu).transpose(0, 1)
    assert torch.allclose(again.transpose(0, 1), o[0])
    with pytest.raises(ValueError, match=r"cu_seqlens_q=.*transpose\(0, 1\)"):
        flash_lla(*tokens_first, cu_seqlens_q=cu)


@pytest.mark.parametrize(
    "wrong, name",
    [
        (dict(cu_seqlens_q=[0, 5, 12]), "^cu_seqlens_q='list'"),
        (dict(cu_seqlens_q=torch.tensor([0.0, 5.0, 12.0])), "^cu_seqlens_q.dtype"),
        (dict(cu_seqlens_q=torch.tensor([False, True])), "^cu_seqlens_q.dtype"),
        (dict(cu_seqlens_q=torch.tensor([0, 5, 12], dtype=torch.int16)), "^cu_seqlens_q.dtype"),
        (dict(cu_seqlens_q=torch.tensor([[0, 12]])), "^cu_seqlens_q.shape"),
        (dict(cu_seqlens_q=torch.tensor(12)), "^cu_seqlens_q.shape"),
        (dict(cu_seqlens_q=torch.tensor([], dtype=torch.int64)), "^cu_seqlens_q.shape"),
        (dict(cu_seqlens_q=torch.tensor([1, 12])), "^cu_seqlens_q=.*expected 0 as the first"),
        (dict(cu_seqlens_q=torch.tensor([0, 7, 5, 12])), "^cu_seqlens_q=.*do not decrease"),
        (dict(cu_seqlens_q=torch.tensor([0, 5, 11])), "^cu_seqlens_q=.*expected 12"),
        (dict(cu_seqlens_q=torch.tensor([0, 5, 13])), "^cu_seqlens_q=.*expected 12"),
        (dict(cu_seqlens_q=torch.tensor([0, 12]), cu_seqlens_k=torch.tensor([0, 6, 12])), "^cu_seqlens_k="),
        (dict(cu_seqlens_q=torch.tensor([0, 6, 12]), cu_seqlens_k=torch.tensor([0, 5, 12])), "6 queries in"),
        (dict(cu_seqlens_q=torch.tensor([0, 6, 12]), cu_seqlens_k=torch.tensor([0, 0, 12])), "one key"),
        (dict(cu_seqlens_k=torch.tensor([0, 12])), "^cu_seqlens_q=None"),
        (dict(cu_seqlens_q=torch.tensor([0, 12]), key_lengths=torch.tensor([12])), "^key_lengths=.*not both"),
        (dict(cu_seqlens_q=torch.tensor([0, 12], device="meta")), "^cu_seqlens_q=.*can be read"),
        (dict(cu_seqlens_q=torch.tensor([0, 12]).to_sparse()), "^cu_seqlens_q.layout"),
    ],
)
def test_wrong_offsets_are_named(wrong, name):
    q, k, v = draw((2, 12, 4), (2, 12, 4), (2, 12, 4))
    with pytest.raises(ValueError, match=name):
        flash_lla(q, k, v, **wrong)


# ---- padded


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    is_causal=st.booleans(),
    backend=st.sampled_from(["tiled", "dense"]),
    strided=st.booleans(),
)
def test_padded_sequences_are_unpadded_calls_and_padding_is_never_read(lengths, is_causal, backend, strided):
    B, n = len(lengths), torch.tensor(lengths)
    q, k, v = draw((B, 4, 9, 5), (B, 2, 9, 5), (B, 2, 9, 5))
    ridge = torch.linspace(0.1, 1.0, B * 36, dtype=f64).view(B, 4, 9)
    real = torch.arange(9) < n[:, None]
    for t in (q, k, v):
        t.masked_fill_(~real[:, None, :, None], torch.nan)
    if strided:  # tokens and heads the other way round in memory
        q, k, v = (t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v))
    leaves = [t.requires_grad_() for t in (q, k, v, ridge)]
    knobs = dict(enable_gqa=True, is_causal=is_causal)
    o = flash_lla(
        q, k, v, ridge=ridge, key_lengths=n, query_lengths=n, backend=backend, tol=1e-13, check=False, **knobs
    )
    assert o.isfinite().all() and not o.detach()[~real[:, None].expand(B, 4, 9)].any()
    grads = gradients(o, leaves)
    for g, rows in zip(grads, (real, real, real, None)):
        assert g.isfinite().all() and (rows is None or not g.transpose(1, 2)[~rows].any())
    for b, m in enumerate(lengths):
        own = [t.detach()[b : b + 1, :, :m].clone().requires_grad_() for t in leaves]
        alone = truth(*own, **knobs)
        assert torch.allclose(o[b : b + 1, :, :m], alone, atol=1e-8)
        (g,) = draw(o.shape, seed=1)
        wanted = torch.autograd.grad(alone, own, g[b : b + 1, :, :m], materialize_grads=True)
        assert all(torch.allclose(a[b : b + 1, :, :m], w, atol=1e-7) for a, w in zip(grads, wanted))


@pytest.mark.parametrize("backend", ["tiled", "dense", interpreted])
@pytest.mark.parametrize("T", [20, 7])
def test_padded_sequences_bit_for_bit(backend, T):
    "T = S: the queries are padded as well; T < S: they are the last tokens before the padding of the keys."
    n = torch.tensor([20, 8] if backend == "triton" else [20, 8, 11], dtype=torch.int32)
    B, knobs = len(n), dict(backend=backend, max_steps=3, check=False)
    q, k, v = draw((B, 1, T, 8), (B, 1, 20, 8), (B, 1, 20, 8), dtype=f32)
    for b, m in enumerate(n.tolist()):
        k[b, :, m:] = v[b, :, m:] = torch.nan
        if T == 20:
            q[b, :, m:] = torch.nan
    o = flash_lla(q, k, v, key_lengths=n, **knobs)
    for b, m in enumerate(n.tolist()):
        t = m if T == 20 else T
        alone = flash_lla(q[b, :, :t], k[b, :, :m], v[b, :, :m], **knobs)
        assert torch.equal(o[b, :, :t], alone) and not o[b, :, t:].any()


def test_keys_alone_may_be_padded():
    q, k, v = draw((2, 2, 9, 4), (2, 2, 9, 4), (2, 2, 9, 4))
    k[1, :, 5:] = v[1, :, 5:] = math.inf
    o = flash_lla(q, k, v, key_lengths=torch.tensor([9, 5]), is_causal=False)
    assert torch.allclose(o[1], flash_lla(q[1], k[1, :, :5], v[1, :, :5], is_causal=False))
    q, k, v = draw((2, 3, 2, 4, 4), (2, 3, 2, 9, 4), (2, 3, 2, 9, 4))
    n = torch.tensor([[4, 5, 6], [7, 8, 9]])
    o = flash_lla(q, k, v, key_lengths=n)
    assert torch.allclose(o[1, 0], flash_lla(q[1, 0], k[1, 0, :, :7], v[1, 0, :, :7]))
    o = flash_lla(q[0, 0], k[0, 0], v[0, 0], key_lengths=torch.tensor(5), query_lengths=torch.tensor(3))
    assert torch.allclose(o[:, :3], flash_lla(q[0, 0, :, :3], k[0, 0, :, :5], v[0, 0, :, :5]))
    assert not o[:, 3:].any()


@pytest.mark.parametrize(
    "wrong, name",
    [
        (dict(key_lengths=[3, 3]), "^key_lengths='list'"),
        (dict(key_lengths=torch.tensor([3.0, 3.0])), "^key_lengths.dtype"),
        (dict(key_lengths=torch.tensor([True, True])), "^key_lengths.dtype"),
        (dict(key_lengths=torch.tensor([3, 3, 3])), "^key_lengths.shape"),
        (dict(key_lengths=torch.tensor([[3, 3]])), "^key_lengths.shape"),
        (dict(key_lengths=torch.tensor([3, 10])), "^key_lengths=10"),
        (dict(key_lengths=torch.tensor([-1, 3])), "^key_lengths=-1"),
        (
            dict(key_lengths=torch.tensor([3, 3]), query_lengths=torch.tensor([3, 4])),
            "^key_lengths=.*at most 3",
        ),
        (dict(key_lengths=torch.tensor([3, 0]), is_causal=False), "at least one key"),
        (dict(query_lengths=torch.tensor([3, 12])), "^query_lengths=12"),
    ],
)
def test_wrong_lengths_are_named(wrong, name):
    q, k, v = draw((2, 2, 9, 4), (2, 2, 9, 4), (2, 2, 9, 4))
    with pytest.raises(ValueError, match=name):
        flash_lla(q, k, v, **wrong)


def test_no_batch_no_heads_no_tokens():
    for shape in ((0, 2, 5, 4), (2, 0, 5, 4), (2, 2, 0, 4)):
        q, k, v = (torch.randn(shape, requires_grad=True) for _ in range(3))
        n = torch.full(shape[:1], min(3, shape[2]))
        o, info = flash_lla(q, k, v, key_lengths=n, return_info=True)
        assert o.shape == shape and info["steps"].shape == shape[:-1]
        o.sum().backward()
    q = torch.randn(2, 0, 4)
    for cu in ([0], [0, 0], [0, 0, 0]):
        assert flash_lla(q, q, q, cu_seqlens_q=torch.tensor(cu)).shape == (2, 0, 4)


# ---- where lengths cannot be read


def test_lengths_under_transformations_of_pytorch():
    q, k, v = draw((3, 1, 5, 2), (3, 1, 5, 2), (3, 1, 5, 2))
    cu = offsets([2, 3])
    f = lambda q, k, v, cu=cu: flash_lla(q, k, v, cu_seqlens_q=cu)
    assert torch.allclose(torch.vmap(f)(q, k, v), f(q, k, v))
    grad = torch.func.grad(lambda q: f(q, k, v).square().sum())(q)
    leaf = q.clone().requires_grad_()
    assert torch.allclose(grad, torch.autograd.grad(f(leaf, k, v).square().sum(), leaf)[0])
    with pytest.raises(ValueError, match="cu_seqlens_q=.*not mapped"):
        torch.vmap(f)(q, k, v, cu.expand(3, 3))
    torch._dynamo.reset()
    with pytest.raises(Exception, match="cu_seqlens_q or key_lengths outside"):
        torch.compile(f, fullgraph=True, backend="aot_eager")(q, k, v)
    torch._dynamo.reset()
    assert torch.allclose(torch.compile(f, backend="aot_eager")(q, k, v), f(q, k, v))


# ---- windows


def banded(q, k, v, ridge, left, right, **knobs):
    "One query at a time, over the keys that it sees."
    T, S, rows = q.shape[-2], k.shape[-2], []
    for i in range(T):
        own = S - T + i
        seen = slice(0 if left < 0 else max(0, own - left), S if right < 0 else min(S, own + right + 1))
        one = q[..., i : i + 1, :], k[..., seen, :], v[..., seen, :], ridge[..., i : i + 1]
        rows.append(truth(*one, is_causal=False, **knobs))
    return torch.cat(rows, -2)


@settings(max_examples=20)
@given(
    T=st.integers(1, 12),
    more=st.integers(0, 6),
    left=st.integers(-1, 20),
    right=st.integers(-1, 20),
    backend=st.sampled_from(["tiled", "dense"]),
)
def test_a_window_is_the_formula_over_the_keys_inside(T, more, left, right, backend):
    q, k, v = draw((4, T, 3), (2, T + more, 3), (2, T + more, 3))
    ridge = torch.linspace(0.1, 1.0, 4 * T, dtype=f64).view(4, T)
    for is_causal in (True, False):
        agree(
            lambda q, k, v, ridge: flash_lla(
                q,
                k,
                v,
                ridge=ridge,
                window=(left, right),
                is_causal=is_causal,
                enable_gqa=True,
                backend=backend,
                tol=1e-13,
            ),
            lambda *x: banded(*x, left, 0 if is_causal else right, enable_gqa=True),
            (q, k, v, ridge),
            1e-7,
        )


@pytest.mark.parametrize("left, right", [(0, 0), (40, 0), (5, 3), (63, 64), (-1, 7), (7, -1), (130, 20)])
@pytest.mark.parametrize("T, S", [(150, 150), (70, 200)])
def test_windows_over_many_tiles(left, right, T, S):
    q, k, v = draw((1, T, 3), (1, S, 3), (1, S, 3))
    ridge = torch.full((1, T), 0.2, dtype=f64)
    agree(
        lambda *x: flash_lla(*x[:3], ridge=x[3], window=(left, right), is_causal=False, tol=1e-13),
        lambda *x: banded(*x, left, right),
        (q, k, v, ridge),
        1e-7,
    )


@pytest.mark.parametrize("BT, BS", [(16, 4), (4, 16), (7, 5), (64, 64)])
def test_a_window_in_tiles_of_any_size(BT, BS):
    from lla_course.attention.dense import as_heads, dense_attention

    heads = with_window(as_heads(*draw((2, 40, 3), (2, 50, 3), (2, 50, 3)), is_causal=False), (6, 2), False)
    found = lla_tiled(heads, BT=BT, BS=BS, tol=1e-13).o
    assert relative_rms(found, dense_attention(heads, floor=1e-8).o) < 1e-8
    seen = torch.cat([QueryTile(heads, i, BT, BS).seen() for i in range(0, 40, BT)])[:, 0]
    assert seen.tolist() == [9] * 38 + [8, 7]


def test_what_is_outside_of_a_window_is_not_seen_and_no_limit_is_no_window():
    q, k, v = draw((2, 100, 4), (2, 100, 4), (2, 100, 4), dtype=f32)
    o = flash_lla(q, k, v, window=(10, 0))
    k[:, :50], v[:, :50] = 7.0, -3.0
    assert torch.equal(flash_lla(q, k, v, window=(10, 0))[:, 60:], o[:, 60:])
    for free in ((-1, -1), (None, None), [None, 3], (-1, 0)):
        assert torch.equal(flash_lla(q, k, v, window=free), flash_lla(q, k, v))
    assert torch.equal(flash_lla(q, k, v, window=(None, 0), is_causal=False), flash_lla(q, k, v))
    alone = flash_lla(q, k, v, window=(0, 0))
    assert torch.allclose(alone, v, atol=1e-5)


def test_a_window_in_ragged_calls_under_compile_and_vmap():
    q, k, v = draw((3, 2, 12, 4), (3, 2, 12, 4), (3, 2, 12, 4))
    cu, knobs = offsets([5, 7]), dict(window=(2, 1), is_causal=False)
    o = flash_lla(q, k, v, cu_seqlens_q=cu, **knobs)
    for a, b in ((0, 5), (5, 12)):
        assert torch.allclose(o[..., a:b, :], flash_lla(*(t[..., a:b, :] for t in (q, k, v)), **knobs))
    f = lambda q, k, v: flash_lla(q, k, v, **knobs)
    assert torch.allclose(torch.vmap(f)(q, k, v), f(q, k, v))
    torch._dynamo.reset()
    assert torch.allclose(torch.compile(f, fullgraph=True, backend="aot_eager")(q, k, v), f(q, k, v))


@pytest.mark.parametrize(
    "wrong, name",
    [
        (dict(window=5), "^window=5"),
        (dict(window=(1, 2, 3)), "^window="),
        (dict(window="ab"), "^window="),
        (dict(window=(-2, 0)), r"^window\[0\]=-2"),
        (dict(window=(1, 0.5)), r"^window\[1\]=0.5"),
        (dict(window=(True, 0)), r"^window\[0\]=True"),
    ],
)
def test_wrong_windows_are_named(wrong, name):
    q, k, v = draw((2, 9, 4), (2, 9, 4), (2, 9, 4))
    with pytest.raises(ValueError, match=name):
        flash_lla(q, k, v, **wrong)


def test_a_window_needs_as_many_keys_as_queries():
    q, k, v = draw((2, 9, 4), (2, 5, 4), (2, 5, 4))
    with pytest.raises(ValueError, match="q.shape=.*window"):
        flash_lla(q, k, v, window=(2, 2), is_causal=False)
    assert flash_lla(q, k, v, window=(-1, -1), is_causal=False).shape == q.shape


# ---- values with a head size of their own


@pytest.mark.parametrize(
    "backend, Dv",
    [(b, Dv) for b in ("tiled", "dense") for Dv in (1, 5, 8, 13)]
    + [pytest.param("triton", Dv, marks=triton) for Dv in (5, 13)],
)
def test_values_may_have_a_head_size_of_their_own(backend, Dv):
    dtype = f32 if backend == "triton" else f64
    sizes = dict(triton=(2, 1, 4, 6)).get(backend, (4, 2, 20, 30))  # the interpreter is slow
    H, Hkv, T, S = sizes
    q, k, v = draw((H, T, 8), (Hkv, S, 8), (Hkv, S, Dv), dtype=dtype)
    ridge = torch.full((H, T), 0.3, dtype=dtype)

    def ours(q, k, v, ridge):
        tol = 1e-6 if dtype == f32 else 1e-13
        return flash_lla(q, k, v, ridge=ridge, enable_gqa=True, backend=backend, tol=tol)

    agree(
        ours,
        lambda *x: truth(*x, enable_gqa=True).to(dtype),
        (q, k, v, ridge),
        1e-3 if dtype == f32 else 1e-7,
    )
    if backend != "triton":
        column = ours(q, k, v[..., :1], ridge)  # each column of the values is averaged for itself
        assert torch.allclose(ours(q, k, v, ridge)[..., :1], column, atol=1e-5)


# ---- a layer with a cache


@pytest.mark.parametrize(
    "knobs", [{}, dict(num_kv_heads=2, rope_base=1e4), dict(max_steps=0), dict(qk_norm=False)]
)
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_a_layer_with_a_cache_answers_as_a_whole_text(knobs, lead):
    layer, x = LocalLinearAttention(32, 4, **knobs), torch.randn(*lead, 30, 32)
    whole = layer(x)
    for sizes in ([30], [1] * 30, [12, 1, 1, 1, 9, 6], [3, 0, 27]):
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                cache = KVCache()
                parts = [layer(part, cache=cache) for part in x.split(sizes, -2)]
            assert torch.allclose(torch.cat(parts, -2), whole, atol=1e-5) and cache.length == 30
    wanted = torch.autograd.grad(whole.square().sum(), list(layer.parameters()), materialize_grads=True)
    found = torch.autograd.grad(
        torch.cat(parts, -2).square().sum(), list(layer.parameters()), materialize_grads=True
    )
    assert all(relative_rms(a, b) < 1e-4 for a, b in zip(found, wanted))


def test_a_cache_keeps_what_was_appended():
    cache = KVCache()
    with torch.no_grad():
        parts = [draw((2, 3, n, 4), (2, 3, n, 4), seed=n) for n in (5, 1, 0, 2, 9)]
        for k, v in parts:
            held = cache.append(k, v)
        fork = copy.deepcopy(cache)
        fork.append(*draw((2, 3, 1, 4), (2, 3, 1, 4)))
    for t, wanted in zip(held, zip(*parts)):
        assert torch.equal(t, torch.cat(wanted, 2))
    assert (cache.length, fork.length) == (17, 18)
    k = torch.randn(2, 3, 1, 4, dtype=f64, requires_grad=True)
    first = cache.append(k, k)[0]
    second = cache.append(2 * k, k)[0]
    (first.square().sum() + second.sum()).backward()
    assert torch.allclose(k.grad, 2 * k + 3)


@pytest.mark.filterwarnings("error")
def test_a_call_that_fails_adds_nothing_to_the_cache():
    layer, x = LocalLinearAttention(16, 2), torch.randn(1, 20, 16)
    for mode in (torch.no_grad, torch.enable_grad):
        cache = KVCache()
        with mode():
            want = layer(x[:, :12], cache=cache)
            layer.max_steps, layer.tol = 1, 1e-6
            with pytest.raises(SolverWarning):
                layer(x[:, 12:], cache=cache)
            layer.max_steps = layer.tol = None
            assert cache.length == 12
            both = torch.cat([want, layer(x[:, 12:], cache=cache)], 1)
            torch.testing.assert_close(both, layer(x), rtol=1e-3, atol=1e-3)


def test_no_token_leaves_gradients_as_they_are():
    layer, x, cache = LocalLinearAttention(16, 2), torch.randn(1, 20, 16), KVCache()
    o = layer(x, cache=cache)
    with torch.no_grad():
        assert layer(x[:, :0], cache=cache).shape == (1, 0, 16) and cache.length == 20
    o.sum().backward()


def test_a_cache_from_inference_mode_goes_on_outside():
    layer, x = LocalLinearAttention(16, 2).eval(), torch.randn(1, 12, 16)
    cache = KVCache()
    with torch.inference_mode():
        parts = [layer(x[:, :3], cache=cache), layer(x[:, 3:4], cache=cache)]
    with torch.no_grad():
        parts += [layer(x[:, 4:5], cache=cache), layer(x[:, 5:], cache=cache)]
    assert torch.allclose(torch.cat(parts, 1), layer(x), atol=1e-5)


def test_a_layer_under_autocast_keeps_a_cache_of_16_bits():
    layer, x, cache = LocalLinearAttention(32, 4, rope_base=1e4), torch.randn(2, 12, 32), KVCache()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        whole = layer(x)
        parts = [layer(part, cache=cache) for part in x.split([7, 1, 4], 1)]
    assert (
        relative_rms(torch.cat(parts, 1), whole) < 3e-2
        and cache.append(*cache._held)[0].dtype == torch.bfloat16
    )


def test_what_does_not_fit_a_cache_is_named():
    layer, x, cache = LocalLinearAttention(16, 2), torch.randn(2, 5, 16), KVCache()
    layer(x, cache=cache)
    for bad, name in (
        (dict(x=torch.randn(3, 5, 16)), "k.shape"),
        (dict(x=torch.randn(5, 16)), "k.shape"),
        (dict(cache=[]), "cache='list'"),
        (dict(key_lengths=torch.tensor([3, 3])), "cache="),
        (dict(cu_seqlens=torch.tensor([0, 5])), "cache="),
    ):
        with pytest.raises(ValueError, match=f"^{name}"):
            layer(**dict(x=x, cache=cache) | bad)
    assert cache.length == 5
    with pytest.raises(ValueError, match="^cache=.*is_causal=False"):
        LocalLinearAttention(16, 2, is_causal=False)(x, cache=KVCache())
    k, v = draw((2, 2, 3, 8), (2, 2, 3, 8), dtype=f32)
    for one, two, name in (
        (k.double(), v, "k.dtype"),
        (k, v.half(), "v.dtype"),
        (k, v[..., :4], "v.shape"),
        (k, v[:, :, :1], "v.shape"),
        (k.to("meta"), v, "k.device"),
        (None, v, "k='NoneType'"),
    ):
        with pytest.raises(ValueError, match=f"^{name}"):
            cache.append(one, two)
    assert cache.length == 5


# ---- a layer with ragged texts


@pytest.mark.parametrize("is_causal", [True, False])
def test_a_layer_takes_padded_and_packed_texts(is_causal):
    layer = LocalLinearAttention(16, 4, num_kv_heads=2, rope_base=1e4, is_causal=is_causal)
    texts = [torch.randn(n, 16) for n in (7, 0, 12, 3)]
    alone = [layer(x) for x in texts]
    padded = torch.full((4, 12, 16), torch.nan)
    for row, x in zip(padded, texts):
        row[: len(x)] = x
    padded.requires_grad_()
    n = torch.tensor([len(x) for x in texts])
    o = layer(padded, key_lengths=n)
    for row, wanted in zip(o, alone):
        assert torch.allclose(row[: len(wanted)], wanted, atol=1e-5) and not row[len(wanted) :].any()
    packed = layer(torch.cat(texts), cu_seqlens=offsets(n.tolist()))
    assert torch.allclose(packed, torch.cat(alone), atol=1e-5)
    weights = list(layer.parameters())
    wanted = torch.autograd.grad(sum(x.square().sum() for x in alone), weights)
    for y in (o, packed):
        assert all(
            relative_rms(a, b) < 1e-4
            for a, b in zip(torch.autograd.grad(y.square().sum(), weights, retain_graph=True), wanted)
        )
    o.square().sum().backward()
    assert padded.grad.isfinite().all() and not padded.grad[torch.arange(12) >= n[:, None]].any()
    for wrong, name in (
        (dict(key_lengths=[1, 2, 3, 4]), "key_lengths='list'"),
        (dict(key_lengths=n[:3]), r"key_lengths=\(3,\)"),
        (dict(key_lengths=n, cu_seqlens=n), "key_lengths=.*not both"),
        (dict(cu_seqlens=n), "cu_seqlens"),
    ):
        with pytest.raises(ValueError, match=f"^{name}"):
            layer(torch.randn(4, 12, 16), **wrong)


def test_nothing_ragged_is_no_cut():
    q, k, _ = draw((2, 5, 4), (2, 5, 4), (2, 5, 4))
    assert as_cut(q, k, True) is None


@pytest.mark.parametrize("learns", [False, True])
def test_an_append_that_fails_adds_nothing(learns, monkeypatch):
    cache, k = KVCache(), torch.randn(2, 3, 4)
    with torch.set_grad_enabled(learns):
        held = cache.append(k, k)[0].clone()
        with monkeypatch.context() as patch:
            for name in ("cat", "Tensor.new_empty"):
                room, _, last = f"torch.{name}".rpartition(".")
                patch.setattr(f"{room}.{last}", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
            with pytest.raises(MemoryError):
                cache.append(k, k)
        assert cache.length == 3 and torch.equal(cache.append(k, k)[0][..., :3, :], held)
