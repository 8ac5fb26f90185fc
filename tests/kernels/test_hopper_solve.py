"""The solver in Gluon beside its twin in Triton: same steps, same solutions but for rounding.

Where there is no Hopper GPU it is only compiled (test_aot); what prepares its launch is tested anywhere."""

import pytest
import torch

from helpers import DEVICE, needs_kernels
from lla_course import flash_lla
from lla_course.attention.benchmark import portable_kernels
from lla_course.kernels import flash_lla_forward as forward
from lla_course.kernels import hopper_solve as hopper
from lla_course.kernels.runtime import describe_gpu, gluon_refusal, same_launch

HERE = torch.cuda.is_available() and not gluon_refusal(describe_gpu("cuda"), torch.bfloat16)
on_hopper = pytest.mark.skipif(not HERE, reason="needs a Hopper GPU")


@needs_kernels
@pytest.mark.parametrize("S, D", [(128, 64), (100, 64), (128, 48), (1, 5)])
def test_keys_are_padded_to_whole_tiles_of_each_head(S, D):
    k, BD = torch.randn(3, S, D, device=DEVICE), 64
    rows, per_head = hopper.hopper_keys(k, 64, BD)
    assert per_head % 64 == 0 and rows.shape == (3 * per_head, BD) and rows.is_contiguous()
    padded = rows.view(3, per_head, BD)
    assert torch.equal(padded[:, :S, :D], k)
    assert not padded[:, S:].any() and not padded[..., D:].any()
    assert (rows.data_ptr() == k.data_ptr()) == (S % 64 == 0 and D == BD)


@needs_kernels
def test_keys_of_interleaved_heads_are_copied():
    k = torch.randn(128, 3, 64, device=DEVICE).transpose(0, 1)
    rows, per_head = hopper.hopper_keys(k, 64, 64)
    assert per_head == 128 and torch.equal(rows.view(3, 128, 64), k)


@needs_kernels
def test_rows_that_overlap_are_copied():
    series = torch.randn(8 * 127 + 64, device=DEVICE)
    for k in (series.unfold(0, 64, 8)[None], series[:64].expand(3, 128, 64)):
        rows, per_head = hopper.hopper_keys(k, 64, 64)
        assert rows.is_contiguous() and torch.equal(rows.view(len(k), 128, 64), k)


def case(B, Hq, Hkv, T, S, D, dtype, offset=0.0, zoom=1.0):
    g = torch.Generator("cuda").manual_seed(T + S + D)
    q, k, v = (
        torch.randn(B, h, n, D, generator=g, device="cuda") for h, n in ((Hq, T), (Hkv, S), (Hkv, S))
    )
    return [(zoom * (q + offset)).to(dtype), (zoom * (k + offset)).to(dtype), v.to(dtype)]


CASES = {
    "whole tiles": (1, 4, 4, 640, 640, 64, torch.bfloat16),
    "grouped, far from the origin": (2, 4, 2, 333, 333, 64, torch.bfloat16, 4.0),
    "a cache before": (1, 4, 4, 100, 777, 64, torch.float16),
    "one query": (1, 2, 2, 1, 50, 64, torch.bfloat16),
    "wide": (1, 2, 1, 257, 300, 128, torch.bfloat16),
    "padded": (1, 2, 2, 200, 260, 100, torch.float16),
    "narrow": (1, 2, 2, 130, 130, 5, torch.bfloat16),
    "small units": (1, 2, 2, 300, 300, 64, torch.bfloat16, 0.0, 2.0**-20),
    "large units": (1, 2, 2, 300, 300, 128, torch.bfloat16, 0.0, 2.0**20),
}


@pytest.mark.gpu
@on_hopper
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_both_solvers_agree(name, causal):
    sizes = CASES[name]
    q, k, v = (t.requires_grad_() for t in case(*sizes))
    zoom = sizes[8] if len(sizes) > 8 else 1.0
    knobs = dict(ridge=0.1 * zoom**2, scale=sizes[5] ** -0.5 / zoom**2, is_causal=causal)

    def pass_():
        o, info = flash_lla(q, k, v, enable_gqa=True, return_info=True, **knobs)
        return o, *torch.autograd.grad(o, [q, k, v], torch.ones_like(o)), info["steps"]

    assert hopper.solver_for(q) is hopper.hopper_solve
    *mine, steps = pass_()
    with portable_kernels():
        assert hopper.solver_for(q) is forward.lla_solve
        *twin, twin_steps = pass_()
    assert abs(steps.float().mean() - twin_steps.float().mean()) < 0.2
    for a, b in zip(mine, twin):
        assert (a.double() - b.double()).norm() <= 1e-2 * b.double().norm()


@pytest.mark.gpu
@on_hopper
@pytest.mark.parametrize("D, dtype", [(64, torch.bfloat16), (128, torch.float16)])
@pytest.mark.parametrize("late", [6e4, float("nan")])
def test_later_keys_change_no_bit(D, dtype, late):
    q, k, v = case(1, 2, 2, 256, 256, D, dtype)
    before, at = flash_lla(q, k, v), 130 if late == late else 192
    k[:, :, at:] = late
    assert torch.equal(before[:, :, :at], flash_lla(q, k, v)[:, :, :at])


@pytest.mark.gpu
@on_hopper
def test_a_head_cannot_see_the_next():
    q, k, v = case(1, 2, 2, 100, 100, 64, torch.bfloat16)
    alone = flash_lla(q[:, :1], k[:, :1], v[:, :1])
    k[:, 1] = float("nan")
    assert torch.equal(alone, flash_lla(q, k, v)[:, :1])


@pytest.mark.gpu
@on_hopper
def test_a_cuda_graph_replays_it():
    q, k, v = case(1, 4, 4, 200, 200, 64, torch.bfloat16)
    with torch.no_grad():
        expected = flash_lla(q, k, v)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = flash_lla(q, k, v)
    graph.replay()
    assert torch.equal(found, expected)


@pytest.mark.gpu
@on_hopper
def test_the_same_launch_again_takes_what_was_compiled():
    from lla_course.kernels import runtime

    q, k, v = case(1, 2, 2, 96, 96, 64, torch.bfloat16)
    first, known = flash_lla(q, k, v), len(runtime._compiled)
    assert torch.equal(first, flash_lla(q, k, v)) and len(runtime._compiled) == known
    # another alignment is another launch
    k = torch.cat([k.flatten().new_zeros(1), k.flatten()])[1:].view(k.shape)
    assert torch.equal(first, flash_lla(q, k, v)) and len(runtime._compiled) > known


def test_launches_are_the_same_where_sizes_strides_dtypes_and_alignments_are():
    a, b = torch.zeros(4, 8), torch.zeros(4, 8)
    assert same_launch(a, 3) == same_launch(b, 3)
    others = (same_launch(a, 4), same_launch(a.half(), 3), same_launch(a[:2], 3), same_launch(a.mT, 3))
    assert len({same_launch(a, 3), *others}) == 5
    assert same_launch(a.flatten()[1:]) is None and same_launch(a, others=(b.flatten()[1:],)) is None
