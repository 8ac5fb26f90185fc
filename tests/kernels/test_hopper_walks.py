"""The walks in Gluon on a Hopper GPU: beside their twins in Triton, and both beside float64."""

import pytest
import torch

from helpers import relative_rms
from lla_course import flash_lla
from lla_course.attention.benchmark import portable_kernels
from lla_course.attention.dense import lla_dense
from lla_course.kernels import hopper_walks as walks
from lla_course.kernels.runtime import describe_gpu, gluon_refusal

HERE = torch.cuda.is_available() and not gluon_refusal(describe_gpu("cuda"), torch.bfloat16)
on_hopper = pytest.mark.skipif(not HERE, reason="needs a Hopper GPU")

# query heads, key heads, T, S, D, dtype, causal, ridge, how tensors lie
CASES = {
    "whole tiles": (2, 2, 2048, 2048, 64, torch.bfloat16, True, 0.1, "whole"),
    "grouped, odd sizes": (4, 2, 1100, 1333, 64, torch.float16, True, 0.1, "interleaved"),
    "all keys": (2, 1, 700, 1500, 64, torch.bfloat16, False, 0.1, "odd rows"),
    "wide": (2, 1, 1100, 1333, 128, torch.bfloat16, True, 0.1, "whole"),
    "wide, float16, all keys": (2, 2, 600, 1100, 128, torch.float16, False, 0.1, "interleaved"),
    "one query": (2, 1, 1, 1500, 64, torch.bfloat16, True, 0.1, "whole"),
    "below the floor": (1, 1, 1200, 1200, 64, torch.bfloat16, True, 1e-5, "whole"),
}


def drawn(heads, kv_heads, T, S, D, dtype, lies):
    g = torch.Generator("cuda").manual_seed(T + S + D)

    def make(h, n):
        t = torch.randn(1, h, n, D, generator=g, device="cuda").to(dtype)
        if lies == "interleaved":
            return t.transpose(1, 2).contiguous().transpose(1, 2)
        return torch.cat([t, t[..., :3]], -1)[..., :D] if lies == "odd rows" else t

    return make(heads, T), make(kv_heads, S), make(kv_heads, S), make(heads, T)


def passes(q, k, v, g, ridge, is_causal, attend):
    "The output and all gradients."
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    rows = torch.full(q.shape[:-1], ridge, device="cuda", requires_grad=True)
    o = attend(*leaves, ridge=rows, is_causal=is_causal, enable_gqa=q.shape[1] != k.shape[1])
    return (o.detach(), *torch.autograd.grad(o, [*leaves, rows], g))


def exact(q, k, v, g, ridge, is_causal):
    "The same in float64."
    group = q.shape[1] // k.shape[1]
    leaves = [t.detach().double().requires_grad_() for t in (q, k, v)]
    rows = torch.full(q.shape[:-1], ridge, device="cuda", dtype=torch.float64, requires_grad=True)
    k64, v64 = (t.repeat_interleave(group, 1) for t in leaves[1:])
    o = lla_dense(leaves[0], k64, v64, ridge=rows, is_causal=is_causal)
    return (o.detach(), *torch.autograd.grad(o, [*leaves, rows], g.double()))


@on_hopper
@pytest.mark.parametrize("name", CASES)
def test_they_are_as_good_as_the_portable_kernels_and_always_the_same(name):
    *sizes, is_causal, ridge, lies = CASES[name]
    given = *drawn(*sizes, lies), ridge, is_causal
    assert walks.walks_for(*given[:3])
    ours = passes(*given, flash_lla)
    assert all(torch.equal(a, b) for _ in range(2) for a, b in zip(passes(*given, flash_lla), ours))
    with portable_kernels():
        theirs = passes(*given, flash_lla)
    truth = theirs if name == "below the floor" else exact(*given)
    for a, b, c in zip(ours, theirs, truth):
        if name == "below the floor":
            assert torch.equal(a.any(-1), b.any(-1)) and relative_rms(a, b) < 0.2
        else:
            assert relative_rms(a, c) <= 1.1 * relative_rms(b, c) + 1e-4


@on_hopper
@pytest.mark.parametrize("late", [3e4, torch.nan])
def test_later_keys_change_no_bit(late):
    at = 1400 if late == late else 1408
    q, k, v, _ = drawn(1, 1, 1600, 1600, 64, torch.bfloat16, "whole")
    before = flash_lla(q, k, v)
    k[..., at:, :], v[..., at:, :] = late, late
    assert torch.equal(flash_lla(q, k, v)[..., :at, :], before[..., :at, :])


@on_hopper
def test_a_captured_training_step_is_replayed_with_the_same_bits():
    q, k, v, g = drawn(2, 2, 1100, 1100, 64, torch.bfloat16, "whole")
    leaves = [t.requires_grad_() for t in (q, k, v)]
    step = lambda: torch.autograd.grad(flash_lla(*leaves), leaves, g)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        want = step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, want))
