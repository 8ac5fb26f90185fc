"""One walk for a direction that is given.

The ladder of truth: its equations in float64 beside autograd of the formula, the same equations with rounded
factors, the kernels."""

import pytest
import torch

from helpers import DEVICE, counted_products, interpreted, needs_kernels, on_gpus, random_heads, relative_rms
from lla_course import flash_lla
from lla_course.kernels.flash_lla_backward import lla_given_backward
from lla_course.kernels.flash_lla_forward import lla_given_forward

f32, f16, bf16, f64 = torch.float32, torch.float16, torch.bfloat16, torch.float64
NAMES = ("o", "dq", "dk", "dv", "du")


def sight(T, S, is_causal, window):
    "Who sees whom, [T, S]."
    i, j = torch.arange(T)[:, None] + S - T, torch.arange(S)
    seen = (j <= i) | torch.tensor(not is_causal)
    if window is not None:
        left, right = (T + S if n < 0 else n for n in window)
        seen = seen & (j >= i - left) & (j <= i + (0 if is_causal else right))
    return seen


def by_formula(q, k, v, u, g, seen, scale):
    "Answer and gradients of one head in float64, by autograd."
    leaves = [t.to(f64).requires_grad_() for t in (q, k, v, u)]
    q, k, v, u = leaves
    p, c = (scale * q @ k.mT).masked_fill(~seen, -torch.inf).softmax(-1), u @ k.mT
    o = (p * (1 + c - (p * c).sum(-1, keepdim=True))) @ v
    return o.detach(), *torch.autograd.grad(o, leaves, g.to(f64))


def one_walk(q, k, v, u, g, seen, scale, BS=16, dtype=None):
    "The same by the equations of the kernels; factors of products with weights are rounded to `dtype`."
    short = (lambda t: t) if dtype is None else lambda t: t.to(dtype).to(t.dtype)
    total = lambda t: t.sum(-1, keepdim=True)
    A = B = l = b = c = torch.zeros(len(q), 1, dtype=q.dtype)
    top = torch.full_like(l, -torch.inf)
    for kj, vj, see in zip(k.split(BS), v.split(BS), seen.split(BS, 1)):
        x = (scale * q @ kj.mT).masked_fill(~see, -torch.inf)
        new = torch.maximum(top, x.amax(-1, keepdim=True))
        old, w = (torch.exp(t - new).nan_to_num(0) for t in (top, x))
        a, w16, top = u @ kj.mT - c, short(w), new
        A, B, l, b = (old * t for t in (A, B, l, b))
        move = total(w * a) / (l + total(w16)).clamp_min(1e-30)
        c, B, b = c + move, B - move * A, b - move * l
        w = short(w * (1 + a - move))
        A, B, l, b = A + w16 @ vj, B + w @ vj, l + total(w16), b + total(w)
    vbar = A / l
    o = vbar + (B - b * vbar) / l
    w = torch.exp((scale * q @ k.mT).masked_fill(~seen, -torch.inf) - top)
    r, a = g @ v.mT - total(g * vbar), 1 + u @ k.mT - c
    w16, wr, wra = short(w), short(w * r), short(w * r * a)
    kbar, e = w16 @ k / total(w16), total(wra) / l
    du, dq = (wr @ k - total(wr) * kbar) / l, scale * (wra @ k / l - e * kbar)
    p = w / l
    dv = short(256 * p * a).mT @ g / 256
    dk = (short(256 * scale * p * (r * a - e)).mT @ q + short(256 * p * r).mT @ u) / 256
    return o, dq, dk, dv, du


CASES = [  # T, S, D, Dv, causal, window
    (70, 70, 16, 16, True, None),
    (40, 90, 16, 24, True, None),
    (33, 20, 24, 8, False, None),
    (70, 100, 16, 16, True, (20, 0)),
    (40, 60, 16, 16, False, (5, 7)),
    (1, 1, 16, 16, True, None),
]


def drawn(T, S, D, Dv, *lead, dtype=f64, seed=0):
    "q, k, v, u and a gradient by the answer."
    shapes = (*lead, T, D), (*lead, S, D), (*lead, S, Dv), (*lead, T, D), (*lead, T, Dv)
    return random_heads(*shapes, dtype=dtype, seed=seed)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_equations_of_one_walk_have_the_gradient_of_the_formula(case):
    T, S, D, Dv, is_causal, window = case
    given = drawn(T, S, D, Dv)
    seen = sight(T, S, is_causal, window)
    for name, ours, truth in zip(NAMES, one_walk(*given, seen, 0.3), by_formula(*given, seen, 0.3)):
        assert (ours - truth).abs().max() < 1e-12 * (1 + truth.abs().max()), name


HARD = {
    "plain": dict(),
    "keys far from the origin": dict(keys=10.0),
    "values far from the origin": dict(values=5.0),
    "long directions": dict(u=3.0, keys=10.0),
    "one key apart from all": dict(first=8.0, u=1.0, keys=5.0, values=5.0),
    "no direction": dict(u=0.0, keys=3.0),
}


def hard(T, D, *lead, u=0.1, keys=0.0, values=0.0, first=1.0):
    "A problem in bfloat16."
    q, k, v, d, g = drawn(T, T, D, D, *lead, dtype=f32)
    k, v = k + keys, v + values
    k[..., 0, :] *= first
    q = q + (first > 1) * 0.6 * torch.nn.functional.normalize(k[..., :1, :], dim=-1)
    return [t.to(bf16) for t in (q, k, v, u * d, g)]


@pytest.mark.parametrize("of", HARD.values(), ids=HARD)
def test_rounded_weights_cost_three_digits_wherever_keys_and_values_lie(of):
    given, seen = hard(256, 64, **of), sight(256, 256, True, None)
    truth = by_formula(*given, seen, 0.125)
    found = one_walk(*(t.float() for t in given), seen, 0.125, BS=64, dtype=bf16)
    for name, ours, want in zip(NAMES, found, truth):
        assert relative_rms(ours, want) < 6e-3, name


def both(given, backend, dtype=None, **knobs):
    "Answer and gradients of `flash_lla`."
    q, k, v, u, g = (t.to(DEVICE) for t in given)
    leaves = [t.detach().to(dtype or t.dtype).requires_grad_() for t in (q, k, v, u)]
    o = flash_lla(*leaves[:3], probe=leaves[3], max_steps=0, backend=backend, enable_gqa=True, **knobs)
    return o.detach(), *torch.autograd.grad(o, leaves, g.to(o.dtype))


def off_by(given, **knobs):
    "Errors of the kernels beside the formula in float64."
    found, truth = both(given, "triton", **knobs), both(given, "dense", f64, **knobs)
    assert [t.dtype for t in found[1:]] == [t.dtype for t in given[:4]]
    # of a single key nothing is left but what rounding makes
    size = lambda b: b.norm().clamp_min(1e-2 * b.numel() ** 0.5)
    return {name: float((a - b).norm() / size(b)) for name, a, b in zip(NAMES, found, truth)}


@needs_kernels
@pytest.mark.parametrize("seed", range(12))
def test_random_problems(seed, nan_empty):
    draw = torch.Generator().manual_seed(seed)
    pick = lambda *of: of[int(torch.randint(len(of), (), generator=draw))]
    group, D, Dv, T = pick(1, 2, 3), pick(8, 16, 24, 40), pick(8, 16, 24, 70), pick(1, 15, 33, 64, 90)
    dtype, is_causal = pick(f32, f16, bf16), pick(True, False)
    window = pick(None, (0, 0), (17, 3), (-1, 5), (40, 0))
    S = T + pick(0, 1, 31) if is_causal or window else pick(1, 20, T)
    q, k, v, u, g = drawn(T, S, D, Dv, 2 * group, dtype=dtype, seed=seed)
    k, v, u = k[::group], v[::group], u.to(pick(dtype, f32))
    least = {f32: 2e-6, f16: 2e-3, bf16: 1.2e-2}[dtype]
    for name, off in off_by((q, k, v, u, g), is_causal=is_causal, window=window).items():
        assert off < least, (name, off)


@needs_kernels
def test_no_direction_is_softmax_attention_and_a_single_key_its_value():
    q, k, v, u, _ = (t.to(DEVICE) for t in drawn(40, 60, 16, 16, 2, dtype=f32))
    knobs = dict(scale=0.25, is_causal=True)
    plain = lla_given_forward(q, k, v, 0 * u, **knobs)
    softmax = torch.nn.functional.scaled_dot_product_attention
    seen = sight(40, 60, True, None).to(DEVICE)
    for found in (plain.o, plain.vbar):
        assert relative_rms(found, softmax(q, k, v, seen).double()) < 1e-6
    alone = lla_given_forward(q, k, v, 100 * u, **knobs, window=(0, 0))
    assert relative_rms(alone.o, v[:, 20:]) < 1e-6  # on a GPU, products of three parts of 11 bits
    saved = lla_given_forward(q, k, v, u, **knobs, window=(0, 0))
    *_, du = lla_given_backward(q, k, v, u, saved, torch.ones_like(q), **knobs, window=(0, 0))
    assert (du == 0).all()


@needs_kernels
@pytest.mark.parametrize("window", [None, (20, 0)])
def test_the_past_does_not_see_the_future_bit_for_bit(window):
    q, k, v, u, g = (t.to(DEVICE) for t in drawn(90, 90, 16, 16, 2, dtype=f32))
    before = both((q, k, v, u, g), "triton", window=window)
    for t in (q, k, v, u, g):
        t[:, 50:] += 100
    after = both((q, k, v, u, g), "triton", window=window)
    for name in ("o", "dq", "du"):
        a, b = before[NAMES.index(name)], after[NAMES.index(name)]
        assert torch.equal(a[:, :50], b[:, :50]) and not torch.equal(a, b), name


@interpreted
@pytest.mark.parametrize("wide", [False, True])
def test_tile_products_are_four_and_twelve(wide):
    "One more in each walk where directions have two halves."
    q, k, v, u, g = drawn(128, 128, 32, 32, 1, dtype=bf16)
    u, knobs = u.float() if wide else u, dict(scale=32**-0.5, is_causal=False)
    with counted_products() as counts:
        saved = lla_given_forward(q, k, v, u, **knobs)
    assert sum(counts.values()) == 2 * 2 * (4 + wide)
    with counted_products() as counts:
        lla_given_backward(q, k, v, u, saved, g, **knobs)
    assert sum(counts.values()) == 2 * 2 * (12 + 2 * wide)


@needs_kernels
def test_no_query_gets_an_empty_answer():
    q, k, v, u, g = (t.to(DEVICE) for t in drawn(5, 5, 16, 16, 2, dtype=f32))
    knobs = dict(scale=1, is_causal=True)
    saved = lla_given_forward(q[:, :0], k, v, u[:, :0], **knobs)
    dq, dk, dv, du = lla_given_backward(q[:, :0], k, v, u[:, :0], saved, g[:, :0], **knobs)
    assert saved.o.shape == dq.shape == du.shape == (2, 0, 16) and not dk.any() and not dv.any()


@on_gpus
def test_on_the_gpu(D, dtype, causal, nan_empty):
    q, k, v, u, g = drawn(300, 300 if causal else 500, D, D, 4, dtype=dtype)
    least = {f32: 5e-6, f16: 1e-3, bf16: 6e-3}[dtype]
    for direction in {u, u.float()}:
        for name, off in off_by((q, k[::2], v[::2], direction, g), is_causal=causal).items():
            assert off < least, (name, off)


@pytest.mark.gpu
@pytest.mark.parametrize("of", HARD.values(), ids=HARD)
@pytest.mark.parametrize("D", [64, 128])
def test_on_the_gpu_wherever_keys_and_values_lie(D, of):
    for name, off in off_by(hard(700, D, 2, **of)).items():
        assert off < 6e-3, (name, off)
