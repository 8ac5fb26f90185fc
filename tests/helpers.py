"What several test files need: errors, tolerances, heads, and the parts of a lab."

from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lla_course.kernels.runtime import can_run

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_kernels = pytest.mark.skipif(
    not can_run(DEVICE), reason="needs Triton, and a GPU or TRITON_INTERPRET=1"
)
FLOOR = {
    torch.float32: 1e-6,
    torch.float16: 1e-3,
    torch.bfloat16: 4e-3,
}  # error of a kernel beside its twin's


def relative_rms(a, b):
    "Norm of the difference over the norm of b, in float64 on the CPU."
    a, b = (torch.as_tensor(x).detach().double().cpu() for x in (a, b))
    return float((a - b).norm() / b.norm().clamp_min(1e-300))


def random_heads(*shapes, dtype=torch.float64, device="cpu", seed=0, scale=1.0):
    "One standard normal tensor a shape, drawn in float64 from one generator and rounded to the dtype."
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return [(scale * x).to(device, dtype) for x in drawn]


@contextmanager
def default_dtype(dtype):
    "Within, PyTorch makes numbers of another dtype when nobody says which."
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def parts(lab):
    "Controls by their label, the line of text, and the figure of a lab."
    return {c.description: c for c in lab.controls.values()}, lab.message, lab.figure


def same_with_usual_dtype(make, usual):
    "Whether a function gives the same tensors, in the same dtypes, when torch's usual dtype is another one."
    want = make()
    with default_dtype(usual):
        return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(make(), want, strict=True))


interpreted = pytest.mark.skipif(
    DEVICE == "cuda" or not can_run(DEVICE), reason="counts what the interpreter does"
)


class Largest(TorchDispatchMode):
    "Remembers the largest storage that any operation returned, in bytes."

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor):
                self.bytes = max(self.bytes, t.untyped_storage().nbytes())
        return out


@contextmanager
def counted_products():
    "The matrix products of interpreted kernels: how many of which shapes."
    from triton.runtime.interpreter import InterpreterBuilder

    counts, multiply = Counter(), InterpreterBuilder.create_dot

    def count(self, a, b, *rest):
        counts[a.data.shape, b.data.shape] += 1
        return multiply(self, a, b, *rest)

    InterpreterBuilder.create_dot = count
    try:
        yield counts
    finally:
        InterpreterBuilder.create_dot = multiply


def on_gpus(test):
    "Run a test of a kernel on a GPU: head sizes, dtypes, causal and not."
    f32, f16, bf16 = torch.float32, torch.float16, torch.bfloat16
    cases = [(16, f32, True), (64, f32, True), (128, f32, False), (32, f16, False), (64, f16, True)]
    cases += [(128, f16, False), (40, bf16, True), (64, bf16, True), (64, bf16, False), (128, bf16, True)]
    return pytest.mark.gpu(pytest.mark.parametrize("D, dtype, causal", cases)(test))
