"""Windows and values of another size in the kernels: which tiles are walked through, answers and gradients
beside the formula, and what must not be seen."""

from itertools import product

import pytest
import torch

from helpers import DEVICE, FLOOR, counted_products, interpreted, needs_kernels, random_heads, relative_rms
from lla_course import flash_lla
from lla_course.attention.backward import lla_tiled_backward
from lla_course.attention.dense import as_heads
from lla_course.attention.flash import choose_backend
from lla_course.attention.ragged import with_window
from lla_course.attention.tiled import lla_tiled, solver_settings
from lla_course.kernels.flash_lla_backward import lla_query_bounds
from lla_course.kernels.flash_lla_forward import Meta, lla_matrices, lla_reach, lla_span
from lla_course.kernels.runtime import frozen, tile_precision, tl, triton

f32, f16, bf16, f64 = torch.float32, torch.float16, torch.bfloat16, torch.float64
GRADIENTS = FLOOR | {f32: 1e-5}


# ---- which tiles


@triton.jit
def walks_kernel(p_keys, p_queries, sizes, META):
    past, T, S, left, right = sizes
    i = tl.program_id(0)
    keys = lla_span(i, (past, T, S, left, right), META)
    queries = lla_query_bounds(i, (past, T, left, right), META)
    for n in tl.static_range(4):
        tl.store(p_keys + 4 * i + n, keys[n])
        tl.store(p_queries + 4 * i + n, queries[n])


def parts(bounds, step):
    "Every tile of a walk: where it begins, and whether it has a mask."
    for phase in range(3):
        for start in range(bounds[phase], bounds[phase + 1], step):
            yield start, phase != 1


@needs_kernels
@pytest.mark.parametrize("BT, BS", [(16, 16), (32, 16), (16, 64)])
@pytest.mark.parametrize("T, S", [(70, 70), (50, 170), (1, 40), (64, 128)])
def test_walks_are_the_tiles_of_the_band(T, S, BT, BS):
    switches = dict(CAUSAL=False, WINDOW=True, EVEN_D=True, BT=BT, BS=BS, BD=16, BV=16, DV=0)
    meta = frozen(Meta, **switches, **tile_precision(f32))
    reaches = (0, 1, 16, 40, -1)
    for window in product(reaches, reaches):
        left, right = lla_reach(window, False, T + S)
        count = max(-(-T // BT), -(-S // BS))
        keys, queries = torch.zeros(2, count, 4, dtype=torch.int32, device=DEVICE)
        walks_kernel[(count,)](keys, queries, (S - T, T, S, left, right), meta)
        i, j = torch.arange(T)[:, None] + S - T, torch.arange(S)
        seen = (j >= i - left) & (j <= i + right)
        for it, walk in enumerate(keys.tolist()[: -(-T // BT)]):
            block = seen[it * BT : (it + 1) * BT]
            walked = list(parts(walk, BS))
            assert len({start for start, _ in walked}) == len(walked)  # each tile once
            for start, masked in walked:
                tile = block[:, start : start + BS]
                assert start % BS == 0 and tile.any() and (masked or tile.all() and start + BS <= S)
            inside = torch.zeros(S, dtype=torch.bool)
            for start, _ in walked:
                inside[start : start + BS] = True
            assert not block[:, ~inside].any()
        for js, walk in enumerate(queries.tolist()[: -(-S // BS)]):
            block = seen[:, js * BS : (js + 1) * BS]
            walked = list(parts(walk, BT))
            assert len({start for start, _ in walked}) == len(walked)
            for start, masked in walked:
                tile = block[start : start + BT]
                full = tile.all() and start + BT <= T  # keys that do not exist are not stored
                assert start % BT == 0 and tile.any() and (masked or full)
            inside = torch.zeros(T, dtype=torch.bool)
            for start, _ in walked:
                inside[start : start + BT] = True
            assert not block[~inside].any()


@interpreted
def test_the_work_is_that_of_the_band():
    def products(window):
        q, k, v = random_heads(*[(1, 256, 16)] * 3, dtype=f32)
        with counted_products() as counts:
            flash_lla(q, k, v, window=window, backend="triton", max_steps=0, probe=torch.zeros_like(q))
        return sum(counts.values())

    tiles = lambda left: sum(min(i, left // 32) + 1 for i in range(8))  # of 32 queries and keys
    assert products((32, 0)) / tiles(32) == products((96, 0)) / tiles(96) == products(None) / tiles(256) > 0
    assert products((-1, 0)) == products(None)


# ---- answers and gradients


CASES = [  # H, Hkv, T, S, D, Dv, dtype, window, causal
    (2, 1, 70, 70, 16, 16, f32, (20, 0), True),
    (2, 2, 40, 90, 16, 16, f32, (5, 7), False),
    (1, 1, 70, 100, 32, 8, f32, (-1, 3), False),
    (2, 1, 40, 130, 16, 24, f32, (3, -1), False),
    (1, 1, 50, 50, 16, 16, f32, (0, 0), True),
    (1, 1, 40, 60, 16, 16, f32, (500, 300), False),
    (1, 1, 1, 90, 24, 70, f32, (30, 0), True),
    (2, 1, 40, 60, 16, 40, f32, None, True),
    (1, 1, 33, 20, 40, 100, f32, None, False),
    (1, 1, 130, 140, 64, 128, bf16, (33, 0), True),
    (2, 1, 130, 130, 64, 64, f16, (60, 2), False),
    (1, 1, 70, 70, 128, 64, bf16, (20, 0), True),
]


def both(case, backend, dtype, tol=None):
    "Answer and gradients of one backend, in some dtype."
    H, Hkv, T, S, D, Dv, own, window, causal = case
    drawn = random_heads((H, T, D), (Hkv, S, D), (Hkv, S, Dv), (H, T, Dv), dtype=own)
    device = DEVICE if backend == "triton" else "cpu"
    q, k, v, g = (t.to(device, dtype) for t in drawn)
    ridge = torch.linspace(0.1, 0.5, H * T, device=device).view(H, T)
    leaves = [t.requires_grad_() for t in (q, k, v, ridge.to(torch.promote_types(dtype, f32)))]
    knobs = dict(window=window, is_causal=causal, enable_gqa=True, backend=backend, tol=tol, check=False)
    o = flash_lla(*leaves[:3], ridge=leaves[3], **knobs)
    return [o.detach(), *torch.autograd.grad(o, leaves, g)]


def rounded_tiles(case, dtype):
    "The same by the tiles of PyTorch, which round the factors of their products to 16 bits as kernels do."
    H, Hkv, T, S, D, Dv, own, window, causal = case
    drawn = random_heads((H, T, D), (Hkv, S, D), (Hkv, S, Dv), (H, T, Dv), dtype=own)
    q, k, v, g = (t.to(DEVICE, dtype) for t in drawn)
    ridge = torch.linspace(0.1, 0.5, H * T, device=DEVICE).view(H, T).to(torch.promote_types(dtype, f32))
    heads = as_heads(q, k, v, ridge=ridge, is_causal=causal, enable_gqa=True)
    heads, exact = with_window(heads, window, causal), dtype == f64
    knobs = dict(max_steps=8 * D if exact else 2 * D, round_to=None if exact else own)
    tol = solver_settings(own, D, None, None)[0]
    saved = lla_tiled(heads, tol=1e-11 if exact else tol, **knobs)
    return saved.o, *lla_tiled_backward(heads, saved, g, tol=1e-11 if exact else tol / 10, **knobs)


@needs_kernels
@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
def test_kernels_are_as_good_as_the_tiles(case, nan_empty):
    dtype, T = case[6], case[2]
    tol = 1e-6 if dtype == f32 else None
    truth = both(case, "dense", f64)
    twin = both(case, "tiled", dtype, tol) if dtype == f32 else rounded_tiles(case, dtype)
    for name, mine, other, want in zip(
        ("o", "dq", "dk", "dv", "dridge"), both(case, "triton", dtype, tol), twin, truth
    ):
        assert mine.isfinite().all() and mine.shape == want.shape, name
        floor = (FLOOR if name == "o" else GRADIENTS)[dtype] * (10 if name == "dridge" else 1)
        if want.norm() < 1e-6 * T:  # a single key leaves nothing to fit
            assert mine.norm() <= 1e-3, name
            continue
        assert relative_rms(mine, want) <= 3 * relative_rms(other, want) + floor, name


@needs_kernels
def test_rows_at_the_edges_see_their_own_keys_only(nan_empty):
    "Nothing outside of a window changes a bit: neither answers nor gradients."
    q, k, v = (
        t.to(DEVICE).requires_grad_()
        for t in random_heads((2, 90, 16), (1, 120, 16), (1, 120, 40), dtype=f32)
    )
    knobs = dict(window=(20, 3), is_causal=False, enable_gqa=True, backend="triton")
    o = flash_lla(q, k, v, **knobs)
    first, end = 30 + 40 - 20, 30 + 59 + 3 + 1  # of what queries 40 to 59 see
    want = torch.autograd.grad(o[:, 40:60].square().sum(), (q, k, v))
    other = [t.detach().clone() for t in (k, v)]
    for t in other:
        t[:, :first], t[:, end:] = 50.0, -7.0
        t.requires_grad_()
    again = flash_lla(q, *other, **knobs)
    assert torch.equal(o[:, 40:60], again[:, 40:60])
    found = torch.autograd.grad(again[:, 40:60].square().sum(), (q, *other))
    for a, b in zip(found, want):
        assert torch.equal(a, b)
    for t in found[1:]:
        assert not t[:, :first].any() and not t[:, end:].any()


@needs_kernels
@pytest.mark.parametrize("Dv", [16, 24])
def test_packed_and_padded_windows_are_separate_calls(Dv, nan_empty):
    q, k, v = (t.to(DEVICE) for t in random_heads((2, 2, 50, 16), (2, 1, 50, 16), (2, 1, 50, Dv), dtype=f32))
    knobs = dict(window=(9, 0), enable_gqa=True, backend="triton")
    cu = torch.tensor([0, 20, 20, 50], dtype=torch.int32)
    packed = flash_lla(q, k, v, cu_seqlens_q=cu, **knobs)
    for a, b in ((0, 20), (20, 50)):
        alone = flash_lla(*(t[..., a:b, :] for t in (q, k, v)), **knobs)
        assert torch.equal(packed[..., a:b, :], alone)
    padded = flash_lla(q, k, v, key_lengths=torch.tensor([50, 31]), **knobs)
    assert torch.equal(padded[1, :, :31], flash_lla(*(t[1, :, :31] for t in (q, k, v)), **knobs))
    assert not padded[1, :, 31:].any()


@needs_kernels
def test_windows_and_longer_values_compile_and_map():
    q, k, v = (t.to(DEVICE) for t in random_heads((2, 1, 20, 16), (2, 1, 20, 16), (2, 1, 20, 20), dtype=f32))
    f = lambda q, k, v: flash_lla(q, k, v, window=(7, 0), backend="triton")
    want = f(q, k, v)
    assert want.shape == v.shape and torch.equal(torch.vmap(f)(q, k, v), want)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(f, fullgraph=True, backend="aot_eager")(q, k, v), want)


@needs_kernels
def test_a_probe_under_a_window():
    q, k, v, u = (t.to(DEVICE) for t in random_heads(*[(1, 40, 16)] * 4, dtype=f32))
    knobs = dict(window=(12, 0), probe=0.1 * u, max_steps=0)
    found, want = (flash_lla(q, k, v, backend=name, **knobs) for name in ("triton", "dense"))
    assert relative_rms(found, want) < 1e-5


def test_a_window_that_shows_few_keys_makes_no_shared_matrix():
    whole = lla_matrices(4096, 64, bf16)
    assert whole[0] == 7 and lla_matrices(4096, 64, bf16, (254, 0)) == (0, 64, 64)
    for window in ((255, 0), (-1, 5), (5, -1), (200, 100)):
        assert lla_matrices(4096, 64, bf16, window) == whole


@pytest.mark.gpu
@pytest.mark.parametrize("D, Dv, dtype", [(64, 64, bf16), (64, 128, bf16), (128, 128, f16), (48, 20, bf16)])
@pytest.mark.parametrize(
    "window, causal", [((255, 0), True), ((300, 0), True), ((100, 70), False), ((9, 0), True)]
)
def test_windows_on_a_gpu(D, Dv, dtype, window, causal):
    """Long enough for shared matrices, also in the solver for Hopper GPUs: as exact as tiles that round
    alike. Narrow windows leave fewer keys than dimensions, where 16 bits lose most."""
    case = (2, 1, 1100, 1300, D, Dv, dtype, window, causal)
    mine, truth, twin = both(case, "triton", dtype), rounded_tiles(case, f64), rounded_tiles(case, dtype)
    for name, a, b, c in zip(("o", "dq", "dk", "dv", "dridge"), mine, truth, twin):
        assert a.isfinite().all() and relative_rms(b, c) < 0.2, name
        assert relative_rms(a, b) <= 1.2 * relative_rms(c, b) + FLOOR[dtype], name


# ---- who computes


@needs_kernels
def test_the_larger_size_decides_whether_kernels_can_run():
    q, k, v = (t.to(DEVICE) for t in random_heads((1, 5, 16), (1, 5, 16), (1, 5, 130), dtype=f32))
    assert choose_backend("triton", q) == "triton" and choose_backend("auto", q, v=v) == "tiled"
    with pytest.raises(ValueError, match="^backend='triton'.*D=130"):
        flash_lla(q, k, v, backend="triton")
    assert flash_lla(q, k, v).shape == v.shape
