"The backward kernels: beside their twin in the interpreter, and for real where there is a GPU."

import inspect
import re

import pytest
import torch

from helpers import (
    DEVICE,
    FLOOR,
    counted_products,
    interpreted,
    needs_kernels,
    on_gpus,
    random_heads,
    relative_rms,
)
from lla_course.attention import backward
from lla_course.attention.backward import lla_tiled_backward
from lla_course.attention.conjugate_gradient import make_heads
from lla_course.attention.dense import as_heads
from lla_course.attention.tiled import lla_tiled, solve_rows, solver_settings
from lla_course.kernels import flash_lla_backward, flash_lla_forward
from lla_course.kernels.flash_lla_backward import lla_backward, lla_gain
from lla_course.kernels.flash_lla_forward import lla_forward
from lla_course.kernels.runtime import tl, triton

GRADIENT_FLOOR = FLOOR | {torch.float32: 3e-6}
TOL = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-3}
DEFAULT = {dtype: solver_settings(dtype, 64, None, None)[0] for dtype in TOL}  # forward; a tenth backward


def problem(N, Nkv, T, S, D, dtype):
    return random_heads((N, T, D), (Nkv, S, D), (Nkv, S, D), (N, T, D), dtype=dtype)


def kernel(q, k, v, g, ridge=0.1, is_causal=True, tols=None, scale=None, max_steps=None):
    "Both passes; tols: forward and backward."
    knobs = dict(
        scale=q.shape[-1] ** -0.5 if scale is None else scale,
        is_causal=is_causal,
        max_steps=max_steps or 2 * q.shape[-1],
    )
    forward, backward = tols or (TOL[q.dtype],) * 2
    q, k, v, g = (t.to(DEVICE) for t in (q, k, v, g))
    rows = torch.as_tensor(ridge, dtype=torch.float32).expand(q.shape[:2]).to(DEVICE)
    return lla_backward(q, k, v, lla_forward(q, k, v, rows, **knobs, tol=forward), g, **knobs, tol=backward)


def twin(q, k, v, g, dtype, ridge=0.1, is_causal=True, tols=None, round_to=None):
    "The tiles in PyTorch, in any dtype."
    q, k, v, g = (t.to(dtype).cpu() for t in (q, k, v, g))
    forward, backward = tols or (TOL.get(dtype, 1e-12),) * 2
    heads = as_heads(
        q[None],
        k[None],
        v[None],
        ridge=ridge if isinstance(ridge, float) else ridge.to(torch.promote_types(dtype, torch.float32)),
        is_causal=is_causal,
        enable_gqa=True,
    )
    saved = lla_tiled(heads, tol=forward, round_to=round_to)
    return lla_tiled_backward(heads, saved, g, tol=backward, round_to=round_to)


def compare(q, k, v, g, ridge, is_causal, tols=None):
    "The error of each gradient beside that of the twin, both against float64."
    truth = twin(q, k, v, g, torch.float64, ridge, is_causal)
    rounding = None if q.dtype == torch.float32 else q.dtype
    same = twin(q, k, v, g, q.dtype, ridge, is_causal, tols, round_to=rounding)
    ours = kernel(q, k, v, g, ridge, is_causal, tols)
    for name, mine, other, want in zip(("dq", "dk", "dv", "dridge"), ours, same, truth):
        assert torch.isfinite(mine).all(), name
        # one product of two solutions, which may cancel
        floor = GRADIENT_FLOOR[q.dtype] * (10 if name == "dridge" and q.shape[1] == 1 else 1)
        off, twins = relative_rms(mine, want), relative_rms(other, want)
        assert off <= 3 * twins + floor, (name, off, twins)


CASES = [  # N, Nkv, T, S, D, dtype, causal
    (2, 1, 63, 63, 16, torch.float32, True),
    (1, 1, 40, 90, 32, torch.float32, False),
    (1, 1, 40, 90, 16, torch.float32, True),
    (2, 2, 17, 17, 40, torch.float32, True),
    (1, 1, 1, 5, 16, torch.float32, False),
    (2, 1, 70, 70, 64, torch.bfloat16, True),
    (1, 1, 33, 65, 64, torch.float16, True),
    (1, 1, 40, 50, 128, torch.bfloat16, False),
]


@needs_kernels
@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
def test_gradients_are_as_good_as_those_of_the_twin(case, nan_empty):
    *shape, dtype, causal = case
    compare(*problem(*shape, dtype), ridge=0.1, is_causal=causal)


@needs_kernels
@pytest.mark.parametrize(
    "case", [c for c in CASES if c[-2] != torch.float32], ids=lambda c: "-".join(map(str, c))
)
def test_and_at_the_tolerances_that_users_run(case, nan_empty):
    *shape, dtype, causal = case
    tols = DEFAULT[dtype], DEFAULT[dtype] / 10
    compare(*problem(*shape, dtype), ridge=0.1, is_causal=causal, tols=tols)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_keys_with_a_large_common_mean_do_no_harm(dtype):
    """What is subtracted from u.k belongs to u as it is multiplied: in two halves, not exact.

    Weights that are rounded to 16 bits cost dq and dk more than that; dv is beside tiles of 32 bits."""
    q, k, v, g = problem(1, 1, 200, 200, 64, torch.float32)
    k = k + 10 * random_heads((1, 1, 64), dtype=torch.float32, seed=5)[0]
    q, k, v, g = (t.to(dtype) for t in (q, k, v, g))
    tols = DEFAULT[dtype], DEFAULT[dtype] / 10
    compare(q, k, v, g, 0.01, True, tols)
    truth, same = twin(q, k, v, g, torch.float64, 0.01), twin(q, k, v, g, torch.float32, 0.01, tols=tols)
    ours = kernel(q, k, v, g, 0.01, tols=tols)
    off, others = (relative_rms(found[2], truth[2]) for found in (ours, same))
    assert off < 2 * others + FLOOR[dtype], (off, others)


@needs_kernels
def test_a_ridge_for_each_token(nan_empty):
    q, k, v, g = problem(2, 1, 30, 30, 16, torch.float32)
    compare(q, k, v, g, ridge=torch.rand(2, 30) + 0.05, is_causal=True)


@needs_kernels
def test_the_gradient_is_linear_in_what_comes_in():
    "Also for float16 gradients as small as unscaled losses make them."
    q, k, v, g = problem(1, 1, 40, 40, 16, torch.float16)
    one, tiny = kernel(q, k, v, g), kernel(q, k, v, (g.float() * 2**-12).half())
    for name, a, b in zip(("dq", "dk", "dv", "dridge"), one, tiny):
        assert relative_rms(b.double() * 2**12, a.double()) < 3e-2, name


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_of_the_past_sends_nothing_to_the_future_bit_for_bit(dtype):
    q, k, v, g = problem(1, 1, 70, 70, 16, dtype)
    g[:, 37:] = 0
    dq, dk, dv, dridge = kernel(q, k, v, g)
    for t in (dq, dk, dv):
        assert (t[:, 37:] == 0).all()
    moved = [t.clone() for t in (q, k, v)]
    for t in moved:
        t[:, 37:] += 3
    for a, b in zip((dq, dk, dv), kernel(*moved, g)):
        assert torch.equal(a[:, :37], b[:, :37])


@needs_kernels
def test_the_same_result_on_every_run():
    q, k, v, g = problem(2, 1, 50, 50, 32, torch.bfloat16)
    for a, b in zip(kernel(q, k, v, g), kernel(q, k, v, g)):
        assert torch.equal(a, b)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_no_finite_input_gives_nan(dtype):
    q, k, v, g = problem(1, 1, 20, 20, 16, dtype)
    for ridge in (0.0, 1e-6, 1e3):
        for a, b, c in ((q, k, v), (q, k[:, :1].expand_as(k), v), (30 * q, k, v)):
            assert all(torch.isfinite(t).all() for t in kernel(a, b, c, g, ridge)), ridge
        assert all(
            torch.isfinite(t).all() for t in kernel(q, k[:, :1], v[:, :1], g, ridge, is_causal=False)
        ), "one key"


@needs_kernels
def test_one_key_has_no_gradient_but_that_of_its_value():
    q, k, v, g = problem(1, 1, 1, 1, 16, torch.float32)
    dq, dk, dv, dridge = kernel(q, k, v, g)
    assert (
        (dq == 0).all() and (dk == 0).all() and (dridge == 0).all() and torch.allclose(dv.cpu(), g, atol=1e-6)
    )


@needs_kernels
def test_no_weight_is_above_one_where_the_sum_was_rounded_down(nan_empty):
    """Logits of 1e9 are whole multiples of 128, and products of keys with queries may be rounded otherwise
    than those of queries with keys: a weight of 2^120."""
    q, k, v, g = (t.to(DEVICE) for t in problem(1, 1, 20, 20, 16, torch.bfloat16))
    knobs = dict(scale=0.25, is_causal=True, tol=1e-3, max_steps=32)
    saved = lla_forward(q, k, v, torch.full((1, 20), 0.1, device=DEVICE), **knobs)
    right = lla_backward(q, k, v, saved, g, **knobs)[2]
    saved.lse2.sub_(120.0)
    dv = lla_backward(q, k, v, saved, g, **knobs)[2]
    assert dv.isfinite().all() and dv.norm() < 100 * right.norm()



@needs_kernels
def test_nothing_to_do():
    q, k, v, g = problem(1, 1, 5, 5, 16, torch.float32)
    dq, dk, dv, dridge = kernel(q[:, :0], k, v, g[:, :0])
    assert dq.shape == (1, 0, 16) and (dk == 0).all() and (dv == 0).all() and dridge.shape == (1, 0)


@interpreted
def test_tile_products_are_three_a_step_and_nineteen_more():
    "Without those with sixteen columns of ones and those of the shared matrix, which is 32 by 32 here."
    q, k, v, g = (t.to(DEVICE) for t in problem(1, 1, 128, 128, 32, torch.bfloat16))
    knobs = dict(scale=32**-0.5, is_causal=False)
    saved = lla_forward(q, k, v, torch.full((1, 128), 1.0), **knobs, tol=1e-2, max_steps=64)
    for steps in (1, 4):
        with counted_products() as counts:
            lla_backward(q, k, v, saved, g, **knobs, tol=1e-30, max_steps=steps)
        ours = sum(counts[shapes] for shapes in (((64, 32), (32, 64)), ((64, 64), (64, 32))))
        assert ours == 2 * 2 * (19 + 3 * steps)


def test_nothing_is_added_from_two_sides():
    "No kernel of the backward pass adds to memory; the solver's only atomic is the counter of its tiles."
    for module, atomics in ((flash_lla_backward, 0), (flash_lla_forward, 2)):
        calls = re.findall(r"tl\.atomic_\w+\((\w+)", inspect.getsource(module))
        assert calls == ["counter"] * atomics


@pytest.mark.parametrize("kind, least, most", [("isotropic", 1, 6), ("anisotropic", 1, 6), ("sharp", -1, 3)])
def test_the_second_solve_takes_a_few_steps_more(kind, least, most, monkeypatch):
    "Mean over tiles of the steps of their slowest rows, at the tolerances that users run."
    taken = []

    def noted(*args, **knobs):
        found = solve_rows(*args, **knobs)
        taken.append(found[1])
        return found

    monkeypatch.setattr(backward, "solve_rows", noted)
    dtype = torch.bfloat16
    q, k, v = (t[None].to(dtype) for t in make_heads(kind, 512, 64, torch.Generator().manual_seed(1)))
    heads, g = as_heads(q, k, v), random_heads((1, 512, 64), dtype=dtype)[0]
    saved = lla_tiled(heads, round_to=dtype)
    lla_tiled_backward(heads, saved, g, round_to=dtype)
    slowest = [steps.view(-1, 64).amax(1).double().mean() for steps in (saved.steps, torch.cat(taken, 1))]
    assert least < slowest[1] - slowest[0] < most


@on_gpus
def test_on_the_gpu(D, dtype, causal, nan_empty):
    q, k, v, g = problem(4, 2, 300, 300 if causal else 500, D, dtype)
    for ridge in (0.1, 1.0):
        for tols in (None, (DEFAULT[dtype], DEFAULT[dtype] / 10)):
            compare(q, k, v, g, ridge, causal, tols)


@needs_kernels
def test_addresses_have_64_bits():
    q, k, v, g = problem(1, 1, 20, 20, 16, torch.float16)

    def apart(t):
        return (
            torch.empty(19 * 2**27 + 16, dtype=torch.float16).as_strided((1, 20, 16), (16, 2**27, 1)).copy_(t)
        )

    want = kernel(q, k, v, g)
    if DEVICE == "cuda":
        pytest.skip("15 GB of a view each; the forward test does it there")
    for a, b in zip(kernel(apart(q), apart(k), apart(v), g), want):
        assert torch.equal(a, b)


@needs_kernels
def test_a_ridge_below_its_floor_has_no_gradient():
    q, k, v, g = (t.to(DEVICE) for t in problem(2, 1, 40, 40, 16, torch.float32))
    ridge = torch.logspace(-6, 0, 40, device=DEVICE).expand(2, 40).contiguous()
    knobs = dict(scale=0.25, is_causal=True, tol=1e-6, max_steps=32)
    saved = lla_forward(q, k, v, ridge, **knobs)
    raised = saved.ridge > ridge
    whole, given = (lla_backward(q, k, v, saved, g, **knobs, ridge=r) for r in (None, ridge))
    assert raised.any() and not raised.all() and whole[3][raised].any()
    assert torch.equal(given[3], torch.where(raised, 0, whole[3]))
    assert all(map(torch.equal, given[:3], whole[:3]))


@triton.jit
def gain_kernel(p_top, p_out):
    tl.store(p_out, lla_gain(p_top))


@needs_kernels
def test_a_gradient_in_float16_is_scaled_by_a_power_of_two():
    tops = torch.tensor([2.0**n for n in range(-24, 16)] + [0.0, 3e-7, 0.3, 0.9995, 1.001, 65504.0])
    for top in tops.half().float():
        out = torch.zeros(1, device=DEVICE)
        gain_kernel[(1,)](top[None].to(DEVICE), out)
        assert out.item() == torch.exp2(-top.clamp_min(1e-30).log2().ceil()).item()
