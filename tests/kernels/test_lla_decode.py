"Decoding: the twin against the dense formula, the merge law, the kernels interpreted, compiled for GPUs that are not there, and for real where there is one."
import json, os, subprocess, sys
from functools import reduce

import pytest, torch
from hypothesis import given, strategies as st

from lla_course.attention.dense import lla_dense
from lla_course.core import repo_root
from lla_course.kernels.lla_decode import (DECODE_TILES, DECODE_TILES_FP32, MERGE_TILES, cells, choose_splits, decode_solve, decode_statistics, lla_decode, lla_decode_torch,
                                           lla_decode_triton, merge_statistics, run, sweep_solve)
from lla_course.kernels.setup import HAS_TRITON, can_run

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FLOOR = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 4e-3}
runs = pytest.mark.skipif(not can_run(DEVICE), reason="needs Triton, and a GPU or TRITON_INTERPRET=1")


def cache(B, H, Hkv, T, S, D, dtype=torch.float64, seed=0, mean=0.):
    g = torch.Generator().manual_seed(seed)
    make = lambda h, n: torch.randn(B, h, n, D, generator=g, dtype=torch.float64)
    return (make(H, T) + mean).to(dtype), (make(Hkv, S) + mean).to(dtype), make(Hkv, S).to(dtype)


def dense(q, k, v, lengths=None, ridge=.1, scale=None):
    "The oracle: each query of each sequence on the keys that it sees."
    B, H, T, _ = q.shape; ridge = torch.as_tensor(ridge, dtype=torch.float64).expand(B, H, T)
    lengths = [k.shape[2]] * B if lengths is None else lengths.tolist()
    answer = lambda b, t, n: lla_dense(q[b, :, t:t+1].double(), k[b, :, :n].double(), v[b, :, :n].double(), ridge=ridge[b, :, t:t+1], scale=scale, is_causal=False, enable_gqa=True)
    return torch.stack([torch.cat([answer(b, t, n - T + t + 1) for t in range(T)], 1) for b, n in enumerate(lengths)])


def decode(q, k, v, lengths=None, **knobs):
    move = lambda t: t.to(DEVICE) if isinstance(t, torch.Tensor) else t
    return lla_decode(move(q), move(k), move(v), cache_seqlens=move(lengths), **{n: move(t) for n, t in knobs.items()}).cpu()


rms = lambda a, b: float((a.double() - b).norm() / b.norm())

# ---- the twin and its laws

@given(B=st.integers(1, 2), Hkv=st.integers(1, 2), group=st.integers(1, 3), T=st.integers(1, 8), S=st.integers(8, 40), D=st.integers(1, 12),
       ridge=st.sampled_from([1e-3, .1, 3.]), scale=st.sampled_from([None, .5, 2.]), splits=st.integers(1, 5), seed=st.integers(0, 99), data=st.data())
def test_the_twin_is_the_dense_formula(B, Hkv, group, T, S, D, ridge, scale, splits, seed, data):
    q, k, v = cache(B, Hkv * group, Hkv, T, S, D, seed=seed)
    lengths = torch.tensor(data.draw(st.lists(st.integers(T, S), min_size=B, max_size=B))) if data.draw(st.booleans()) else None
    truth = dense(q, k, v, lengths, ridge, scale)
    torch.testing.assert_close(lla_decode(q, k, v, ridge=ridge, scale=scale, cache_seqlens=lengths), truth, rtol=1e-7, atol=1e-7)
    rows = torch.full(q.shape[:3], ridge, dtype=torch.float64)
    torch.testing.assert_close(lla_decode_torch(q, k, v, rows, lengths, scale=D**-.5 if scale is None else scale, splits=splits), truth, rtol=1e-7, atol=1e-7)


@given(S=st.integers(1, 30), cuts=st.lists(st.integers(0, 30), max_size=6), seed=st.integers(0, 99), spread=st.sampled_from([.1, 1., 300.]))
def test_any_cut_gives_the_same(S, cuts, seed, spread):
    q, k, v = (t[0, 0] for t in cache(1, 1, 1, 1, S, 5, seed=seed)); q = q[0] * spread
    seen = torch.ones(S, dtype=torch.bool)
    piece = lambda lo, hi: decode_statistics(q, k[lo:hi], v[lo:hi], seen[lo:hi], scale=.4)
    bounds = [0, *sorted(min(c, S) for c in cuts), S]
    pieces = [piece(lo, hi) for lo, hi in zip(bounds, bounds[1:])]
    whole = piece(0, S)
    filled = [s for s in pieces if s.lse.isfinite()]
    for merged in (merge_statistics(pieces), merge_statistics(pieces[::-1]), reduce(lambda a, b: merge_statistics([a, b]), filled)):
        for name, value in vars(whole).items(): torch.testing.assert_close(getattr(merged, name), value, rtol=1e-9, atol=1e-9, msg=name)


@given(D=st.integers(1, 12), seed=st.integers(0, 99), ridge=st.sampled_from([1e-6, .1, 10.]))
def test_the_sweep_solves(D, seed, ridge):
    g = torch.Generator().manual_seed(seed)
    X, b = torch.randn(2, D, D, generator=g, dtype=torch.float64), torch.randn(2, D, generator=g, dtype=torch.float64)
    A = X @ X.mT / D + ridge * torch.eye(D, dtype=torch.float64); x = sweep_solve(A, b)
    torch.testing.assert_close((A @ x[..., None])[..., 0], b, rtol=1e-6, atol=1e-6)
    for j in range(D + 1):   # after j sweeps: the system of the first j coordinates
        torch.testing.assert_close(sweep_solve(A, b, j)[:, :j], torch.linalg.solve(A[:, :j, :j], b[:, :j]), rtol=1e-5, atol=1e-5)


def test_gradients_flow_through_the_twin():
    q, k, v = (t.requires_grad_() for t in cache(1, 2, 1, 2, 7, 3)); ridge = torch.full((1, 2, 2), .3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q, k, v, r: lla_decode(q, k, v, ridge=r), (q, k, v, ridge))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_two_parts_survive_a_sharp_softmax_and_one_does_not(dtype):
    q, k, v = cache(1, 1, 1, 1, 500, 64, dtype); q = 6 * q; truth = dense(q, k, v)
    error = {parts: rms(lla_decode_torch(*(t.float() for t in (q, k, v)), torch.full((1, 1, 1), .1), None, scale=.125, round_to=dtype, parts=parts), truth) for parts in (1, 2)}
    assert error[2] < FLOOR[dtype] / 2 and error[1] > 4 * error[2]


def test_splits_fill_the_gpu_and_stay_long():
    assert choose_splits(32, 32768, 64, 264) == 8 and choose_splits(32, 32768, 128, 132) == 4 and choose_splits(512, 131072, 128, 132) == 1
    assert choose_splits(1, 300, 64, 264) == 1 and 8 < choose_splits(1, 32768, 128, 132) < 32 and choose_splits(1, 10**6, 64, 264) == 64

# ---- the kernels

CASES = [  # B, H, Hkv, T, S, D, dtype, lengths, ridge
    (1, 1, 1, 1, 1, 16, torch.float32, None, .1), (2, 2, 1, 1, 17, 16, torch.float32, [17, 5], .3), (1, 2, 2, 3, 100, 40, torch.float32, None, .1),
    (2, 1, 1, 8, 100, 24, torch.float32, [8, 99], 1e-2), (1, 1, 1, 1, 100, 64, torch.float32, None, .1), (1, 4, 2, 1, 63, 16, torch.float16, None, .1),
    (1, 1, 1, 2, 100, 64, torch.float16, [70], .1), (1, 1, 1, 1, 100, 64, torch.bfloat16, None, .1), (1, 1, 1, 1, 17, 40, torch.bfloat16, None, 1e-2),
    (1, 1, 1, 1, 130, 128, torch.bfloat16, None, .1), (1, 1, 1, 1, 70, 128, torch.float32, [33], 1.)]


@runs
@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
@pytest.mark.parametrize("splits", [1, 3])
def test_the_kernels_are_as_good_as_their_twin(case, splits, nan_empty):
    *shape, dtype, lengths, ridge = case
    q, k, v = cache(*shape, dtype); lengths = None if lengths is None else torch.tensor(lengths, dtype=torch.int32)
    truth, rows = dense(q, k, v, lengths, ridge), torch.full(q.shape[:3], ridge)
    if lengths is not None:
        for b, n in enumerate(lengths): k[b, :, n:], v[b, :, n:] = torch.nan, torch.inf     # beyond what is filled
    rounding = {} if dtype == torch.float32 else dict(round_to=dtype, parts=2)
    twin = lla_decode_torch(q, k, v, rows, lengths, scale=q.shape[3]**-.5, splits=splits, **rounding)
    move = lambda t: None if t is None else t.to(DEVICE)
    out = lla_decode_triton(*map(move, (q, k, v, rows, lengths)), scale=q.shape[3]**-.5, splits=splits).cpu()
    assert out.isfinite().all() and out.dtype == dtype and out.shape == q.shape
    assert rms(out, truth) <= 2 * rms(twin, truth) + FLOOR[dtype]


@runs
def test_strides_and_ridges_of_every_form():
    q, k, v = cache(2, 4, 2, 2, 50, 16, torch.float32); ridge = torch.rand(2, 4, 1) + .05
    out = decode(q, k, v, ridge=ridge, backend="triton")
    twisted = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)]
    wide = torch.zeros(2, 2, 50, 32); wide[..., ::2] = k
    assert torch.equal(out, decode(*twisted, ridge=ridge, backend="triton")) and torch.equal(out, decode(q, wide[..., ::2], v, ridge=ridge, backend="triton"))
    assert rms(out, dense(q, k, v, ridge=ridge)) < 1e-4
    for backend in ("triton", "torch"): assert torch.equal(decode(q, k, v, ridge=.2, backend=backend), decode(q, k, v, ridge=torch.tensor(.2), backend=backend))


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_no_finite_input_gives_nan(dtype):
    q, k, v = cache(1, 1, 1, 1, 40, 16, dtype)
    for ridge in (0., 1e-6, 1e3):
        assert decode(q, k, v, ridge=ridge, backend="triton").isfinite().all(), ridge
        equal = decode(q, k[:, :, :1].expand_as(k), v, ridge=ridge, backend="triton")
        assert rms(equal, v.double().mean(2, keepdim=True)) < max(1e-5, 3 * FLOOR[dtype]), ("equal keys", ridge)
        assert decode(30 * q, k, v, ridge=ridge, backend="triton").isfinite().all(), ("huge logits", ridge)
        torch.testing.assert_close(decode(q, k[:, :, :1], v[:, :, :1], ridge=ridge, backend="triton"), v[:, :, :1], rtol=1e-2, atol=1e-2)


@runs
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("first", [-300., 300.])
def test_a_wrong_guess_is_done_again(dtype, first):
    "The first tile promises other logits than the rest of the cache holds, by hundreds of doublings."
    q, k, v = cache(1, 1, 1, 1, 150, 16, dtype); q[..., 0] = 40; k[..., 0] = 0; k[:, :, :64, 0] = first / 10
    truth, out, twin = dense(q, k, v, scale=1.), decode(q, k, v, scale=1., backend="triton"), decode(q, k, v, scale=1., backend="torch")
    assert out.isfinite().all() and rms(out, truth) < 3 * rms(twin, truth) + 4 * max(FLOOR[dtype], 1e-4)


@runs
@pytest.mark.parametrize("spread, ridge", [(1., 1e-3), (2., 1e-3), (2., .1), (3., 1e-2)])
def test_the_solver_reaches_what_float32_can(spread, ridge):
    "Coordinates whose scales differ by powers of ten, and a softmax that listens to few keys: as exact as the elimination of the twin, to a factor."
    q, k, v = cache(1, 2, 2, 1, 80, 32, torch.float32); scales = torch.logspace(0, -spread, 32); q, k = 3 * q * scales, 3 * k * scales
    truth, out, twin = dense(q, k, v, ridge=ridge), decode(q, k, v, ridge=ridge, backend="triton"), decode(q, k, v, ridge=ridge, backend="torch")
    assert out.isfinite().all() and rms(out, truth) < 3 * rms(twin, truth) + 1e-5


@runs
def test_the_past_does_not_see_the_future_bit_for_bit():
    q, k, v = cache(1, 1, 1, 4, 90, 16, torch.float32); before = decode(q, k, v, backend="triton")
    for t in (k, v): t[:, :, 88:] += 3
    after = decode(q, k, v, backend="triton")
    assert torch.equal(before[:, :, :2], after[:, :, :2]) and not torch.equal(before[:, :, 2:], after[:, :, 2:])


@runs
def test_constant_values_are_reproduced():
    q, k, v = cache(1, 1, 1, 1, 100, 64, torch.float32)
    torch.testing.assert_close(decode(q, k, torch.full_like(v, 3.), backend="triton"), torch.full_like(q, 3.), rtol=1e-4, atol=1e-4)


def test_nothing_to_do():
    q, k, v = cache(1, 2, 1, 1, 5, 16, torch.float32)
    for backend in ["torch", "triton"][:1 + can_run(DEVICE)]: assert decode(q[:0], k[:0], v[:0], backend=backend).shape == (0, 2, 1, 16)

# ---- the door

q, k, v = cache(2, 4, 2, 2, 9, 16, torch.float32)
BAD = [(dict(q=q[0]), "q.shape"), (dict(q=[1.]), "q='list'"), (dict(q=q.int()), "q.dtype"), (dict(k_cache=k.double()), "k_cache.dtype"), (dict(k_cache=k[:1]), "k_cache.shape"),
       (dict(k_cache=k[:, :1, :, :8]), "k_cache.shape"), (dict(k_cache=k[:, :, :1]), "at least 2 keys"), (dict(v_cache=v[:, :, :8]), "v_cache.shape"), (dict(q=q[:, :3]), "divides the 3"),
       (dict(q=q.repeat(1, 1, 5, 1)), "1 to 8 queries"), (dict(q=q[:, :, :0]), "1 to 8 queries"), (dict(ridge=-1.), "ridge=-1.0"), (dict(ridge=float("nan")), "ridge=nan"), (dict(ridge="a"), "ridge='a'"),
       (dict(ridge=True), "ridge=True"), (dict(ridge=torch.ones(3)), "ridge.shape"), (dict(ridge=torch.tensor([.1, -2.])), "ridge=-2"), (dict(ridge=torch.ones(2, dtype=torch.int64)), "ridge.dtype"),
       (dict(scale=float("inf")), "scale=inf"), (dict(scale="x"), "scale='x'"), (dict(cache_seqlens=[9, 9]), "cache_seqlens='list'"), (dict(cache_seqlens=torch.tensor([9., 9.])), "cache_seqlens=torch.float32"),
       (dict(cache_seqlens=torch.tensor([9])), "cache_seqlens.shape"), (dict(cache_seqlens=torch.tensor([9, 10])), "cache_seqlens=10"), (dict(cache_seqlens=torch.tensor([1, 9])), "cache_seqlens=1"),
       (dict(backend="dense"), "backend='dense'"), (dict(backend="triton", q=q.double(), k_cache=k.double(), v_cache=v.double()), "backend='triton'"),
       (dict(backend="triton", q=q.clone().requires_grad_()), "backend='triton'")]


@pytest.mark.parametrize("change, message", BAD, ids=[m for _, m in BAD])
def test_refusals(change, message):
    given = dict(q=q, k_cache=k, v_cache=v) | change
    with pytest.raises(ValueError) as told: lla_decode(**given)
    assert message in str(told.value) and "expected" in str(told.value)


def test_a_measurement_runs_on_the_cpu():
    names = cells("full")
    assert len(names) == 12 and names.keys() == cells("fast").keys()
    result = run(cells("fast")["d64_32x4k"])
    assert result["error"] < 4e-3 and result["lla_ms"] > 0 and result["softmax_ms"] > 0
    with pytest.raises(ValueError, match="preset='slow'"): cells("slow")

# ---- GPUs that are not here

def compiled(kernel, arch, types, constants, warps, stages):
    spec = json.dumps(dict(types=types, constants=constants, options=dict(num_warps=warps, num_stages=stages)))
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(repo_root())}
    done = subprocess.run([sys.executable, str(repo_root()/"tests"/"kernels"/"aot.py"), "lla_course.kernels.lla_decode", kernel, str(arch), spec],
                          env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    kind, shared = done.stdout.split()
    assert int(shared) <= (163 if arch == 80 else 227) * 1024
    return kind


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton")
@pytest.mark.parametrize("arch, dtype, D", [(80, "bf16", 64), (80, "bf16", 128), (90, "bf16", 64), (90, "fp16", 128), (90, "bf16", 16), (90, "fp32", 64)])
def test_the_split_kernel_compiles(arch, dtype, D):
    BS, warps, stages, _ = (DECODE_TILES_FP32 if dtype == "fp32" else DECODE_TILES)[D]
    types = {n: f"*{dtype}" for n in "qkv"} | {n: "*fp32" for n in ("lse", "means", "moments")} | {"lengths": "*i32", "scale2": "fp32"}
    constants = dict(LENGTHS=True, PARTS=1 if dtype == "fp32" else 2, EVEN_D=True, UP=False, PREC="tf32x3" if dtype == "fp32" else "tf32", BS=BS, BD=D)
    kind = compiled("lla_decode_split_kernel", arch, types, constants, warps, stages)
    if arch == 90 and dtype != "fp32" and D >= 64: assert kind == "wgmma"


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton")
@pytest.mark.parametrize("arch, D", [(80, 64), (90, 64), (90, 128)])
def test_the_merge_kernel_compiles(arch, D):
    types = {n: "*bf16" for n in "qo"} | {n: "*fp32" for n in ("ridge", "lse", "means", "moments")} | {"floor": "fp32", "flat": "fp32"}
    compiled("lla_decode_merge_kernel", arch, types, dict(RIDGE=True, PIECES=16, STAGES=MERGE_TILES[D][1], BD=D), MERGE_TILES[D][0], 3)

# ---- for real

@pytest.mark.gpu
@pytest.mark.parametrize("D", [16, 40, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sharp", [1., 5.])
def test_on_the_gpu(D, dtype, sharp, nan_empty):
    for B, H, Hkv, T, S, lengths in ((2, 4, 2, 1, 5000, [5000, 37]), (1, 2, 1, 8, 300, None), (3, 1, 1, 2, 1100, [2, 1100, 700])):
        q, k, v = cache(B, H, Hkv, T, S, D, dtype); q = sharp * q; lengths = None if lengths is None else torch.tensor(lengths)
        for ridge in (.01, .1, 1.):
            truth = dense(q, k, v, lengths, ridge)
            twin = lla_decode_torch(q, k, v, torch.full(q.shape[:3], ridge), lengths, scale=D**-.5, **({} if dtype == torch.float32 else dict(round_to=dtype, parts=2)))
            out = decode(q, k, v, lengths, ridge=ridge, backend="triton")
            times = 8 if dtype == torch.float32 else 2        # three tf32 products keep 21 of the 24 bits of the twin
            assert out.isfinite().all() and rms(out, truth) <= times * rms(twin, truth) + FLOOR[dtype], (B, H, T, S, ridge)


@pytest.mark.gpu
def test_it_can_be_captured_in_a_graph():
    q, k, v = (t.cuda() for t in cache(2, 4, 2, 1, 3000, 64, torch.bfloat16)); expected = lla_decode(q, k, v)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph): out = lla_decode(q, k, v)
    out.zero_(); graph.replay(); torch.cuda.synchronize()
    assert torch.equal(out, expected)
