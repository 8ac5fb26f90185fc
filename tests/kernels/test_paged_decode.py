"""Decoding over pages and windows, and in 16 bits far from the guess: every backend against the formula in
float64, one query at a time on the keys that it sees."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lla_decode import KERNEL_FLOOR, by_rows

from helpers import DEVICE, FLOOR, needs_kernels, random_heads, relative_rms
from lla_course import flash_lla
from lla_course.attention.decode import lla_decode
from lla_course.attention.dense import lla_dense
from lla_course.kernels.lla_decode import lla_decode_triton
from lla_course.kernels.op import decode, lla

BACKENDS = ["tiled", "dense", pytest.param("triton", marks=needs_kernels)]
NOWHERE = (2**31 - 1, -1, 10**6, -(2**31))  # page numbers that do not exist


def cache(B, H, Hkv, T, S, D, dtype=torch.float64, seed=0):
    return [t.to(dtype) for t in random_heads((B, H, T, D), (B, Hkv, S, D), (B, Hkv, S, D), seed=seed)]


def truth(q, k, v, lengths, left=-1, ridge=0.1):
    "The dense formula, for each query on the keys that it sees."

    def answer(b, t):
        own = int(lengths[b]) - q.shape[2] + t
        seen = slice(0 if left < 0 else max(0, own - left), own + 1)
        parts = q[b, :, t : t + 1], k[b, :, seen], v[b, :, seen]
        return lla_dense(*(x.double() for x in parts), ridge=ridge, is_causal=False, enable_gqa=True)

    return torch.stack([torch.cat([answer(b, t) for t in range(q.shape[2])], 1) for b in range(len(q))])


def in_pages(k, v, lengths, page, queries=1, left=-1, filling=torch.nan, seed=0):
    """The same cache in shuffled pages. What no query sees is `filling`, and where a page holds nothing that
    is seen, the table holds numbers of no page."""
    B, _, S, _ = k.shape
    n, g = -(-S // page), torch.Generator().manual_seed(seed)
    table = torch.randperm(B * n + 2, generator=g)[: B * n].view(B, n)
    pages = [torch.full((B * n + 2, page, t.shape[1], t.shape[3]), filling, dtype=t.dtype) for t in (k, v)]
    for b, end in enumerate(lengths.tolist()):
        begin = 0 if left < 0 else max(0, end - queries - left)
        for i in range(n):
            lo, hi = max(i * page, begin), min((i + 1) * page, end)
            for store, t in zip(pages, (k, v)):
                store[table[b, i], lo - i * page : max(hi, lo) - i * page] = t[
                    b, :, lo : max(hi, lo)
                ].transpose(0, 1)
            if hi <= lo:
                table[b, i] = NOWHERE[(b + i) % len(NOWHERE)]
    return *pages, table.to(torch.int32)


def on_device(work, *tensors, **knobs):
    move = lambda t: t.to(DEVICE) if isinstance(t, torch.Tensor) else t
    return work(*map(move, tensors), **{name: move(t) for name, t in knobs.items()}).cpu()


# ---- pages and windows


@settings(max_examples=60)
@given(
    B=st.integers(1, 3),
    Hkv=st.integers(1, 2),
    group=st.integers(1, 3),
    T=st.integers(1, 8),
    S=st.integers(8, 90),
    page=st.sampled_from([16, 17, 32, 256]),
    left=st.integers(-1, 100),
    filling=st.sampled_from([torch.nan, torch.inf, -1e300]),
    whole=st.sampled_from([torch.int32, torch.int64]),
    backend=st.sampled_from(["tiled", "dense"]),
    data=st.data(),
)
def test_pages_and_windows_are_the_formula_on_the_keys_that_a_query_sees(
    B, Hkv, group, T, S, page, left, filling, whole, backend, data
):
    q, k, v = cache(B, Hkv * group, Hkv, T, S, 4)
    lengths = torch.tensor(data.draw(st.lists(st.integers(T, S), min_size=B, max_size=B)), dtype=whole)
    right = truth(q, k, v, lengths, left)
    knobs = dict(cache_seqlens=lengths, window=(left, 0), backend=backend)
    torch.testing.assert_close(lla_decode(q, k, v, **knobs), right, rtol=1e-7, atol=1e-7)
    *pages, table = in_pages(k, v, lengths, page, T, left, filling)
    out = lla_decode(q, *pages, block_table=table.to(whole), **knobs)
    torch.testing.assert_close(out, right, rtol=1e-7, atol=1e-7)


CASES = [  # B, H, Hkv, T, S, D, dtype, page, left, lengths
    (2, 4, 2, 1, 150, 16, torch.float32, 16, -1, [150, 83]),
    (2, 2, 1, 3, 150, 24, torch.float32, 48, 70, [150, 3]),
    (1, 1, 1, 2, 100, 64, torch.float32, 64, 0, [77]),
    (2, 4, 2, 1, 200, 32, torch.float16, 16, 130, [200, 17]),
    (1, 2, 1, 2, 150, 64, torch.float16, 256, -1, [149]),
    (2, 2, 2, 1, 150, 40, torch.bfloat16, 32, 99, [150, 64]),
    (1, 2, 1, 1, 130, 128, torch.bfloat16, 128, -1, [129]),
]


@needs_kernels
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
@pytest.mark.parametrize("splits", [1, 3])
def test_the_kernels_read_pages_and_windows(case, splits):
    *shape, dtype, page, left, lengths = case
    q, k, v = cache(*shape, dtype)
    lengths, T, D = torch.tensor(lengths), q.shape[2], q.shape[3]
    right, knobs = truth(q, k, v, lengths, left), dict(scale=D**-0.5, left=left, splits=splits)
    plain = on_device(lla_decode_triton, q, k, v, 0.1, lengths, **knobs)
    assert relative_rms(plain, right) < (1e-4 if dtype == torch.float32 else 3 * FLOOR[dtype])
    *pages, table = in_pages(k, v, lengths, page, T, left, filling=torch.nan if splits == 1 else torch.inf)
    paged = on_device(lla_decode_triton, q, *pages, 0.1, lengths, table=table, **knobs)
    assert torch.equal(paged, plain) and paged.isfinite().all()


@needs_kernels
def test_views_of_pages_and_tables_are_read_as_they_are():
    q, k, v = cache(2, 2, 2, 1, 90, 16, torch.float32)
    lengths = torch.tensor([90, 41])
    kp, vp, table = in_pages(k, v, lengths, 16)
    given = dict(cache_seqlens=lengths, backend="triton")
    want = on_device(lla_decode, q, kp, vp, block_table=table, **given)
    apart = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (kp, vp)]  # heads before tokens
    both = torch.stack([kp, vp], 1).unbind(1)  # keys and values of a page beside each other
    wide = torch.stack([table, table], 2)[..., 0].long()
    for views in (apart, both):
        assert torch.equal(on_device(lla_decode, q, *views, block_table=wide, **given), want)
    assert torch.equal(on_device(decode, q, kp, vp, block_table=table, cache_seqlens=lengths), want)
    full = lla_decode(q[:1], kp, vp, block_table=table[:1], backend="tiled")
    assert full.isnan().any()  # without lengths all six pages are full, and the end of the last one is not


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sequence_may_share_pages_with_another(backend):
    q, k, v = cache(1, 2, 1, 1, 64, 16, torch.float32)
    kp, vp, table = in_pages(k, v, torch.tensor([64]), 16)
    two = torch.cat([table, table])
    two[1, 2:] = -1
    lengths = torch.tensor([64, 30])
    given = dict(block_table=two, cache_seqlens=lengths, backend=backend)
    out = on_device(lla_decode, q.expand(2, -1, -1, -1), kp, vp, **given)
    right = truth(q.expand(2, -1, -1, -1), k.expand(2, -1, -1, -1), v.expand(2, -1, -1, -1), lengths)
    assert relative_rms(out, right) < 1e-4


@pytest.mark.parametrize("backend", ["tiled", "dense"])
def test_a_window_is_that_of_whole_sequences(backend):
    q, k, v = cache(1, 4, 2, 20, 20, 4)
    for left in (0, 3, 19, 50, -1, None):
        whole = flash_lla(q, k, v, window=(left, 0), enable_gqa=True, backend="dense")
        for window in ((left, 0), (left, None), [left, 7]):
            out = lla_decode(q[:, :, -3:], k, v, window=window, backend=backend)
            torch.testing.assert_close(out, whole[:, :, -3:], rtol=1e-7, atol=1e-7)


def test_gradients_reach_the_pages_and_nothing_that_is_not_seen():
    q, k, v = cache(2, 2, 1, 2, 50, 4)
    lengths = torch.tensor([50, 21])
    kp, vp, table = in_pages(k, v, lengths, 16, 2, 12, filling=1e200)
    flat, paged = [t.requires_grad_() for t in (q, k, v)], [t.requires_grad_() for t in (kp, vp)]
    knobs = dict(cache_seqlens=lengths, window=(12, 0))
    dq, dk, dv = torch.autograd.grad(lla_decode(*flat, **knobs).square().sum(), flat)
    out = lla_decode(q, *paged, block_table=table, **knobs)
    eq, ek, ev = torch.autograd.grad(out.square().sum(), (q, *paged))
    torch.testing.assert_close(eq, dq)
    for a, b in ((ek, dk), (ev, dv)):
        assert a.isfinite().all()
        torch.testing.assert_close(a.abs().sum(), b.abs().sum())


def test_a_missing_page_gives_nan_to_its_sequence_where_numbers_cannot_be_read():
    q, k, v = cache(2, 1, 1, 1, 40, 16, torch.float32)
    lengths = torch.tensor([40, 33])
    kp, vp, table = in_pages(k, v, lengths, 16)
    for wrong in (len(kp), -1):
        bad = table.clone()
        bad[0, 1] = wrong
        given = dict(block_table=bad, cache_seqlens=lengths)
        with pytest.raises(ValueError, match=f"^block_table={wrong}: expected from 0 to {len(kp) - 1}"):
            lla_decode(q, kp, vp, **given)
        one = lambda q, n, row: lla_decode(q[None], kp, vp, cache_seqlens=n[None], block_table=row[None])[0]
        out = torch.vmap(one)(q, lengths, bad)
        assert out[0].isnan().all() and out[1].isfinite().all()
        seen = dict(given, window=(5, 0))  # page 1 is before the window of the first sequence
        assert lla_decode(q, kp, vp, **seen).isfinite().all()


@needs_kernels
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("splits", [1, 2])
def test_the_kernels_give_nan_for_a_missing_page_too(dtype, splits):
    q, k, v = cache(2, 1, 1, 1, 140, 16, dtype)
    lengths = torch.tensor([140, 99])
    kp, vp, table = in_pages(k, v, lengths, 16)
    knobs = dict(scale=0.25, splits=splits)
    want = on_device(lla_decode_triton, q, kp, vp, 0.1, lengths, table=table, **knobs)
    for wrong, place in ((len(kp), 8), (-1, 2)):
        bad = table.clone()
        bad[0, place] = wrong
        out = on_device(lla_decode_triton, q, kp, vp, 0.1, lengths, table=bad, **knobs)
        assert out[0].isnan().all() and torch.equal(out[1], want[1])


def test_pages_compile_in_one_piece_and_export():
    q, k, v = cache(2, 2, 1, 1, 40, 4)
    lengths = torch.tensor([40, 20])
    kp, vp, table = in_pages(k, v, lengths, 16)

    def answer(q, k, v, table, lengths):
        return lla_decode(q, k, v, block_table=table, cache_seqlens=lengths, window=(9, 0))

    given = q, kp, vp, table, lengths
    compiled = torch.compile(answer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*given), answer(*given))
    meta = answer(*(t.to("meta") for t in given))
    assert meta.shape == q.shape and meta.is_meta


@pytest.mark.parametrize("whole", [torch.int32, torch.int64])
@pytest.mark.parametrize("left", [2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**70])
def test_a_window_longer_than_any_number_is_no_window(left, whole):
    q, k, v = cache(2, 2, 1, 1, 40, 4)
    lengths = torch.tensor([40, 21], dtype=whole)
    kp, vp, table = in_pages(k, v, lengths, 16)
    given = dict(cache_seqlens=lengths, window=(left, 0))
    right = truth(q, k, v, lengths)
    for out in (lla_decode(q, k, v, **given), lla_decode(q, kp, vp, block_table=table, **given)):
        torch.testing.assert_close(out, right, rtol=1e-7, atol=1e-7)
    assert torch.equal(flash_lla(k, k, v, window=(left, left)), flash_lla(k, k, v))


# ---- the door

q, k, v = cache(2, 4, 2, 2, 64, 16, torch.float32)
kp, vp, table = in_pages(k, v, torch.tensor([64, 64]), 16)
PAGED = dict(q=q, k_cache=kp, v_cache=vp, block_table=table)
BAD = [
    (dict(block_table=table.tolist()), "block_table='list'"),
    (dict(block_table=table.float()), "block_table=torch.float32"),
    (dict(block_table=table[0]), "block_table.shape=(4,): expected (2, pages)"),
    (dict(block_table=table[:1]), "block_table.shape=(1, 4): expected (2, pages)"),
    (dict(block_table=table[:, :0]), "block_table.shape=(2, 0): expected pages of 16 for at least 2"),
    (dict(block_table=table.to("meta")), "block_table.device='meta'"),
    (dict(block_table=table.to_sparse()), "block_table.layout"),
    (dict(block_table=table + 10), "block_table=1"),
    (dict(cache_seqlens=torch.tensor([64, 65])), "cache_seqlens=65: expected from 2"),
    (dict(cache_seqlens=torch.tensor([1, 64])), "cache_seqlens=1: expected from 2"),
    (dict(k_cache=kp[:, :8], v_cache=vp[:, :8]), "pages of 16 to 256 tokens"),
    (dict(k_cache=kp.transpose(1, 2), v_cache=vp.transpose(1, 2)), "pages of 16 to 256 tokens"),
    (dict(k_cache=kp.repeat(1, 17, 1, 1), v_cache=vp.repeat(1, 17, 1, 1)), "pages of 16 to 256 tokens"),
    (dict(k_cache=kp[:0], v_cache=vp[:0]), "at least one"),
    (dict(k_cache=kp[..., :8]), "[num_pages, page, Hkv, 16]"),
    (dict(k_cache=kp[0]), "[num_pages, page, heads, D]"),
    (dict(q=q[:, :3]), "divides the 3"),
    (dict(v_cache=vp[:3]), "v_cache.shape"),
    (dict(window=5), "window=5"),
    (dict(window=(1, 2, 3)), "window="),
    (dict(window=(-2, 0)), "window[0]=-2"),
    (dict(window=(1, 0.5)), "window[1]=0.5"),
]


@pytest.mark.parametrize("change, message", BAD, ids=[m for _, m in BAD])
def test_refusals(change, message):
    with pytest.raises(ValueError) as told:
        lla_decode(**PAGED | change)
    assert message in str(told.value) and "expected" in str(told.value)


def test_the_function_of_the_kernel_package_refuses_too():
    for change, message in (
        (dict(block_table=table[:1]), "block_table.shape"),
        (dict(block_table=table.float()), "block_table.dtype"),
        (dict(k_cache=kp[:, :8], v_cache=vp[:, :8]), "page from 16 to 256"),
        (dict(v_cache=vp[:3]), "v_cache"),
        (dict(q=q[:, :3]), "Hkv dividing 3"),
        (dict(scale=1e39), "scale=1e"),
    ):
        with pytest.raises(ValueError, match=message):
            decode(**PAGED | change)
    with pytest.raises(TypeError, match="window: expected tiles"):  # it is called left
        decode(**PAGED, window=(3, 0))


# ---- 16 bits, far from the guess


@needs_kernels
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sharp", [1.0, 4.0, 8.0])
def test_sharp_logits_in_16_bits(dtype, sharp):
    "One product of rounded roots: 2 roundings of float16 more than those of the output."
    q, k, v = cache(1, 4, 4, 1, 1500, 64, dtype)
    q = sharp * q
    out = on_device(lla_decode, q, k, v, backend="triton")
    assert relative_rms(out, truth(q, k, v, [1500])) < 1e-3 + (
        0 if dtype == torch.float16 else 2 * FLOOR[dtype]
    )


ADVERSARIAL = {  # of 150 keys, the first 64 of which make the guess
    "a late key with the largest logit that float16 can hold": lambda q, k: (
        q,
        torch.cat([k[:, :, :-1], (6e4 * q.sign()).to(k)], 2),
    ),
    "logits that rise without an end": lambda q, k: (q, torch.linspace(0, 300, 150)[:, None] * q.sign()),
    "logits that fall from the first on": lambda q, k: (q, torch.linspace(300, 0, 150)[:, None] * q.sign()),
    "equal keys": lambda q, k: (q, k[:, :, :1].expand_as(k)),
    "equal huge keys": lambda q, k: (q, 6e4 * k[:, :, :1].sign().expand_as(k)),
    "keys of zero": lambda q, k: (q, 0 * k),
    "the smallest keys that there are": lambda q, k: (q, 6e-8 * k.sign()),
    "late keys a thousand times as long": lambda q, k: (
        q,
        k * torch.where(torch.arange(150) < 100, 1e-2, 10)[:, None],
    ),
    "queries and keys at the end of the range": lambda q, k: (6e4 * q.sign(), 6e4 * k.sign()),
}


@needs_kernels
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_nothing_is_infinite_and_nothing_far_off(name, dtype):
    q, k, v = cache(1, 1, 1, 1, 150, 64, dtype)
    q, k = (t.to(dtype) for t in ADVERSARIAL[name](q, k))
    for values in (v, (6e4 * v.clamp(-1, 1)).to(dtype)):
        out = on_device(lla_decode, q, k, values, backend="triton")
        assert out.isfinite().all()
        if "end of the range" in name:
            continue  # logits of 1e10, of which float32 knows no more than thousands
        right = by_rows(q, k, values, floor=KERNEL_FLOOR)
        off = (out.double() - right).norm() / (8 * values.double().square().mean().sqrt())
        # where nearly all weight is on one key that is far out, the answer is softmax attention
        assert off < 3 * FLOOR[dtype] + (1e-2 if "logits that" in name else 0)


@needs_kernels
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_keys_far_from_the_origin_are_centred_before_they_are_rounded(dtype):
    q, k, v = cache(1, 4, 1, 1, 300, 32, dtype)
    q, k = (q + 8).to(dtype), (k + 8).to(dtype)
    out = on_device(lla_decode, q, k, v, scale=0.02, backend="triton")
    right = lla_decode(q.double(), k.double(), v.double(), scale=0.02, backend="dense")
    assert relative_rms(out, right) < 5e-4 + (0 if dtype == torch.float16 else 2 * FLOOR[dtype])


OP_BAD = [
    (dict(cache_seqlens=torch.tensor([64])), "cache_seqlens=torch.int64, (1,): expected (2,)"),
    (dict(cache_seqlens=torch.tensor([64.0, 9.0])), "cache_seqlens=torch.float32, (2,)"),
    (dict(cache_seqlens=[64, 9]), "cache_seqlens=[64, 9]"),
    (dict(block_table=table.tolist()), "block_table=list"),
    (dict(left=-5), "left=-5"),
    (dict(left=2.5), "left=2.5"),
    (dict(ridge=-1.0), "ridge=-1.0"),
    (dict(ridge=torch.rand(3)), "ridge.shape=(3,): expected to broadcast to (2, 4, 2)"),
]


@pytest.mark.parametrize("change, message", OP_BAD, ids=[m for _, m in OP_BAD])
def test_the_kernels_alone_refuse_too(change, message):
    with pytest.raises(ValueError) as told:
        decode(**PAGED | change)
    assert message in str(told.value) and "expected" in str(told.value)
    if "ridge" in change:
        with pytest.raises(ValueError, match="^ridge"):
            lla(q, q, q, **change)
