"""The forward kernel: beside its twin in the interpreter, compiled for GPUs that are not there, and for real
where there is one."""

import math

import pytest
import torch

from helpers import (
    DEVICE,
    FLOOR,
    Largest,
    counted_products,
    interpreted,
    needs_kernels,
    on_gpus,
    random_heads,
    relative_rms,
)
from lla_course.attention.conjugate_gradient import make_heads
from lla_course.attention.dense import as_heads, lla_dense
from lla_course.attention.tiled import lla_tiled, solver_settings
from lla_course.core import seed_everything
from lla_course.kernels import flash_lla_forward
from lla_course.kernels.flash_lla_forward import (
    TILES,
    Forward,
    lla_forward,
    lla_matrices,
)
from lla_course.kernels.runtime import can_run, tile_precision

TOL = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 3e-3}
DEFAULT = {dtype: solver_settings(dtype, 64, None, None)[0] for dtype in TOL}  # what users run


def heads(B, H, Hkv, T, S, D, dtype):
    return random_heads((B, H, T, D), (B, Hkv, S, D), (B, Hkv, S, D), dtype=dtype)


def launch(q, k, v, ridge=0.1, is_causal=True, scale=None, tol=None, max_steps=None):
    ridge = (
        torch.as_tensor(ridge, dtype=torch.float32).expand(q.shape[:3])
        if not isinstance(ridge, torch.Tensor)
        else ridge
    )
    flat = [t.to(DEVICE).flatten(0, 1) for t in (q, k, v, ridge)]
    out = lla_forward(
        *flat,
        scale=scale or q.shape[-1] ** -0.5,
        is_causal=is_causal,
        tol=tol or TOL[q.dtype],
        max_steps=2 * q.shape[-1] if max_steps is None else max_steps,
    )
    return Forward(
        **{n: t if n == "inverse" else t.view(*q.shape[:2], *t.shape[1:]) for n, t in vars(out).items()}
    )


def dense(q, k, v, **knobs):
    return lla_dense(q.double(), k.double(), v.double(), enable_gqa=q.shape[1] != k.shape[1], **knobs)


CASES = [  # B, H, Hkv, T, S, D, dtype, causal, ridge
    (1, 2, 1, 63, 63, 16, torch.float32, True, 0.1),
    (2, 1, 1, 17, 17, 40, torch.float32, True, 0.3),
    (1, 1, 1, 70, 100, 64, torch.float32, True, 0.1),
    (1, 1, 1, 33, 90, 32, torch.float32, False, 1e-2),
    (1, 1, 1, 1, 1, 16, torch.float32, True, 0.1),
    (1, 1, 1, 1, 100, 24, torch.float32, False, 1.0),
    (1, 2, 2, 65, 65, 64, torch.float16, True, 0.1),
    (1, 1, 1, 70, 70, 64, torch.bfloat16, True, 0.1),
    (1, 2, 1, 40, 50, 128, torch.bfloat16, False, 0.1),
]


def rounding(dtype):
    "What the twin does to 16-bit tiles."
    return {} if dtype == torch.float32 else dict(round_to=dtype)


def is_as_good_as_its_twin(q, k, v, ridge, causal, tol):
    "Launch, compare with float64, and return what was launched."
    truth, out = dense(q, k, v, ridge=ridge, is_causal=causal), launch(q, k, v, ridge, causal, tol=tol)
    grouped = q.shape[1] != k.shape[1]
    twin = lla_tiled(
        as_heads(q, k, v, ridge=ridge, is_causal=causal, enable_gqa=grouped), tol=tol, **rounding(q.dtype)
    ).o.view_as(q)
    assert relative_rms(out.o, truth) <= 2 * relative_rms(twin, truth) + FLOOR[q.dtype]
    return out


@needs_kernels
@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
@pytest.mark.parametrize("tols", [TOL, DEFAULT], ids=["tight", "default"])
def test_it_is_as_good_as_its_twin(case, tols, nan_empty):
    *shape, dtype, causal, ridge = case
    if tols is DEFAULT and TOL[dtype] == DEFAULT[dtype]:
        pytest.skip("the default is the tight one")
    out = is_as_good_as_its_twin(*heads(*shape, dtype), ridge, causal, tols[dtype])
    assert all(torch.isfinite(t).all() for t in (out.o, out.u, out.kbar, out.lse2, out.ridge, out.residual))
    assert (out.residual <= tols[dtype] * 1.0001).all() and (out.steps <= 2 * shape[-1]).all()
    assert out.o.dtype == dtype


@needs_kernels
def test_saved_quantities_are_those_of_the_twin():
    q, k, v = heads(1, 2, 2, 40, 40, 32, torch.float32)
    out, twin = launch(q, k, v, tol=1e-6), lla_tiled(as_heads(q, k, v), tol=1e-6)
    ours = vars(out) | dict(lse=out.lse2 * math.log(2))
    for name in ("kbar", "lse", "ridge", "u"):  # row 0 has a single key, and nothing to solve
        torch.testing.assert_close(
            ours[name].cpu().flatten(0, 1)[:, 1:], getattr(twin, name)[:, 1:], rtol=2e-4, atol=2e-4, msg=name
        )


@needs_kernels
def test_zero_steps_are_softmax_attention_and_row_zero_is_the_first_value():
    q, k, v = heads(1, 1, 1, 40, 40, 16, torch.float32)
    zero = launch(q, k, v, max_steps=0)
    torch.testing.assert_close(
        zero.o.cpu(),
        torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        rtol=1e-5,
        atol=1e-5,
    )
    assert (zero.steps == 0).all() and (zero.u == 0).all()
    torch.testing.assert_close(launch(q, k, v).o.cpu()[:, :, 0], v[:, :, 0], rtol=1e-5, atol=1e-6)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_past_does_not_see_the_future_bit_for_bit(dtype):
    q, k, v = heads(1, 1, 1, 70, 70, 16, dtype)
    before = launch(q, k, v)
    for t in (q, k, v):
        t[:, :, 37:] += 3
    after = launch(q, k, v)
    for name in ("o", "u", "kbar", "lse2", "steps"):
        assert torch.equal(getattr(before, name)[:, :, :37], getattr(after, name)[:, :, :37]), name
    assert not torch.equal(before.o[:, :, 37:], after.o[:, :, 37:])


@needs_kernels
def test_strides_and_ridges_of_every_form():
    q, k, v = heads(1, 2, 2, 33, 33, 16, torch.float32)
    ridge = torch.rand(1, 2, 33) + 0.05
    out = launch(q, k, v, ridge)
    twisted = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)] + [ridge.mT.contiguous().mT]
    wide = torch.zeros(1, 2, 33, 32)
    wide[..., ::2] = q
    assert torch.equal(out.o, launch(*twisted).o) and torch.equal(
        out.o, launch(wide[..., ::2], *twisted[1:]).o
    )
    # a view that nobody has made contiguous
    rows = torch.zeros(2, 33, 40)
    rows[..., 8:24] = q[0]
    knobs = dict(scale=0.25, is_causal=True, tol=1e-5, max_steps=32)
    keys = [t[0].to(DEVICE) for t in (k, v, ridge)]
    assert torch.equal(
        lla_forward(rows[..., 8:24].to(DEVICE), *keys, **knobs).o,
        lla_forward(q[0].to(DEVICE), *keys, **knobs).o,
    )
    assert relative_rms(out.o, dense(q, k, v, ridge=ridge)) < 1e-4


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_no_finite_input_gives_nan(dtype):
    q, k, v = heads(1, 1, 1, 20, 20, 16, dtype)
    for ridge in (0.0, 1e-6, 1e3):
        assert torch.isfinite(launch(q, k, v, ridge).o).all(), ridge
        assert torch.isfinite(launch(q, k[:, :, :1].expand_as(k), v, ridge).o).all(), ("equal keys", ridge)
        assert torch.isfinite(launch(30 * q, k, v, ridge).o).all(), ("huge logits", ridge)
        assert torch.isfinite(launch(q, k[:, :, :1], v[:, :, :1], ridge, is_causal=False).o).all(), (
            "one key",
            ridge,
        )


@needs_kernels
def test_nothing_to_do():
    q, k, v = heads(1, 1, 1, 5, 5, 16, torch.float32)
    assert launch(q[:, :, :0], k, v, 0.1).o.shape == (1, 1, 0, 16) and launch(
        q[:0], k[:0], v[:0], 0.1
    ).o.shape == (0, 1, 5, 16)


def test_refusals():
    q, k, v = heads(1, 1, 1, 5, 5, 144, torch.float32)
    with pytest.raises(ValueError, match="D=144|device="):
        launch(q, k, v)
    if can_run(DEVICE):
        q, k, v = heads(1, 1, 1, 5, 5, 16, torch.float64)
        with pytest.raises(ValueError, match="dtype=torch.float64"):
            launch(q, k, v, tol=1e-3)


@needs_kernels
def test_shared_matrices_save_steps_and_change_nothing_else(monkeypatch):
    """Long enough that later tiles use the matrix of an earlier one; with and without it the answer is the
    same."""
    import lla_course.kernels.flash_lla_forward as module

    monkeypatch.setattr(module, "PRECOND_STRIDE", 2)
    q, k, v = heads(1, 1, 1, 256, 256, 16, torch.float32)
    spread = torch.logspace(0, -1, 16)
    q, k = q * spread, k * spread
    with_matrix = launch(q, k, v, 0.001)
    monkeypatch.setattr(module, "PRECOND_STRIDE", 10**6)
    without = launch(q, k, v, 0.001)
    late = slice(160, None)
    assert with_matrix.steps[..., late].float().mean() < 0.8 * without.steps[..., late].float().mean()
    assert relative_rms(with_matrix.o, without.o.double().cpu()) < 1e-4
    monkeypatch.setattr(module, "PRECOND_STRIDE", 2)
    # and the past still does not see the future
    for t in (q, k, v):
        t[:, :, 200:] += 1
    again = launch(q, k, v, 0.001)
    for name in ("o", "u", "steps"):
        assert torch.equal(getattr(with_matrix, name)[:, :, :200], getattr(again, name)[:, :, :200]), name


@needs_kernels
def test_rows_with_few_keys_hardly_mind_a_matrix_made_for_others(monkeypatch):
    "On sharp queries, where it would cost them most, the shared matrix costs a tenth of the steps at most."
    import lla_course.kernels.flash_lla_forward as module

    monkeypatch.setattr(module, "PRECOND_STRIDE", 2)
    q, k, v = (t.float()[None, None] for t in make_heads("sharp", 256, 16, seed_everything(0)))
    q = 2 * q
    with_matrix = launch(q, k, v, tol=1e-2)
    monkeypatch.setattr(module, "PRECOND_STRIDE", 10**6)
    without = launch(q, k, v, tol=1e-2)
    assert with_matrix.inverse.shape[1] > 0 == without.inverse.shape[1]
    late = slice(160, None)
    assert not torch.equal(with_matrix.steps[..., late], without.steps[..., late])
    assert with_matrix.steps[..., late].float().mean() <= 1.1 * without.steps[..., late].float().mean()


@needs_kernels
def test_a_common_part_of_the_keys_does_not_enter_the_shared_matrix(monkeypatch):
    "With tiles that are rounded, in the interpreter too: centred before they are."
    import lla_course.kernels.flash_lla_forward as module

    monkeypatch.setattr(module, "PRECOND_STRIDE", 2)
    monkeypatch.setattr(module, "tile_precision", lambda dtype: tile_precision(dtype) | dict(UP=False))
    module._plan.cache_clear()
    q, k, v = heads(1, 1, 1, 256, 256, 16, torch.float16)
    k = (2 * k).round() / 2  # so that nothing of it is lost far from the origin
    near, far = (launch(q, k + shift, v, 2.0).inverse.cpu() for shift in (0, 128))
    module._plan.cache_clear()
    assert near.shape[1:] == (1, 16, 16) and (torch.linalg.eigvalsh(near) > 0.1).all()
    assert relative_rms(far, near.double()) < 0.02


@pytest.mark.parametrize(
    "D, T, made", [(64, 639, 1), (64, 577, 1), (64, 576, 0), (32, 4096, 7), (128, 4096, 0)]
)
def test_a_matrix_is_made_where_a_tile_reads_it(D, T, made):
    "Of tile 8, which tile 9 reads first, to tile 56, which the last of 64 tiles reads."
    assert lla_matrices(T, D, torch.bfloat16)[0] == made


@needs_kernels
def test_the_kernels_make_no_array_larger_than_the_sequence():
    "Neither T x S nor T x D x D: the largest is a vector in float32 for each token."
    T, D = 320, 16
    qkv = heads(1, 1, 1, T, T, D, torch.bfloat16)
    with Largest() as largest:
        launch(*qkv, max_steps=2)
    assert largest.bytes <= 4 * T * D


@interpreted
def test_tile_products_are_three_a_step_and_six_more():
    "Without those with sixteen columns of ones; so few tokens have no shared matrix."
    q, k, v = heads(1, 1, 1, 128, 128, 32, torch.bfloat16)
    assert TILES[32][:2] == (64, 64)
    for steps in (0, 1, 3):
        with counted_products() as counts:
            out = launch(q, k, v, 1.0, is_causal=False, tol=1e-30, max_steps=steps)
        assert (out.steps == steps).all()
        ours = sum(counts[shapes] for shapes in (((64, 32), (32, 64)), ((64, 64), (64, 32))))
        assert ours == 2 * 2 * (6 + 3 * steps)


@on_gpus
def test_on_the_gpu(D, dtype, causal, nan_empty):
    q, k, v = heads(2, 4, 2, 300, 300 if causal else 500, D, dtype)
    for ridge in (0.01, 0.1, 1.0):
        for tol in {TOL[dtype], DEFAULT[dtype]}:
            is_as_good_as_its_twin(q, k, v, ridge, causal, tol)


@needs_kernels
@pytest.mark.parametrize("which", ["q", "k", "v"])
@pytest.mark.parametrize("power", [26, 27])
def test_addresses_have_64_bits(which, power):
    """Tokens 2^27 numbers apart, as in a long packed cache: the last offset does not fit into 32 bits (at
    2^26 tokens 32 and later do not)."""
    q, k, v = (t[0].half() for t in heads(1, 1, 1, 40, 40, 16, torch.float32))
    # untouched but for 40 rows
    apart = torch.empty(39 * 2**power + 16, dtype=torch.float16, device=DEVICE).as_strided(
        (1, 40, 16), (16, 2**power, 1)
    )
    given = {n: t.to(DEVICE) for n, t in dict(q=q, k=k, v=v).items()}
    ridge, knobs = (
        torch.full((1, 40), 0.1, device=DEVICE),
        dict(scale=0.25, is_causal=True, tol=1e-2, max_steps=8),
    )
    want = lla_forward(given["q"], given["k"], given["v"], ridge, **knobs).o
    given[which] = apart.copy_(given[which])
    assert torch.equal(lla_forward(given["q"], given["k"], given["v"], ridge, **knobs).o, want)


@needs_kernels
@pytest.mark.parametrize("is_causal, window", [(True, None), (False, None), (False, (9, 3))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_longest_key_of_a_walk_and_of_a_head_floor_the_same_ridges(is_causal, window, dtype, monkeypatch):
    q, k, v = random_heads((4, 70, 16), (2, 90, 16), (2, 90, 16), dtype=dtype)
    k[0, 80] *= 100  # seen by the last queries only, if causal
    k[1, 85, 3] = torch.inf
    ridge = torch.logspace(-6, 1, 70).expand(4, 70).contiguous()
    q, k, v, ridge = (t.to(DEVICE) for t in (q, k, v, ridge))
    knobs = dict(scale=0.25, is_causal=is_causal, window=window, tol=1e-3, max_steps=16)
    found = []
    for few in (0, 90):
        monkeypatch.setattr(flash_lla_forward, "FEW_KEYS", few)
        found.append(lla_forward(q, k, v, ridge, **knobs))
    for a, b in zip(*(vars(f).values() for f in found)):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())
    raised = found[0].ridge[:2] > ridge[:2]
    assert raised.any() and not raised.all()
