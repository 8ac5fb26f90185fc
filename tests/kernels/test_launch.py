"""What a launch is remembered by: calls that Triton would compile apart must have keys apart. No kernel runs
here, so no GPU is needed."""

import inspect
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import DEVICE, needs_kernels
from lla_course.kernels import flash_lla_backward, flash_lla_forward, hopper_solve, runtime
from lla_course.kernels.flash_lla_backward import lla_backward, lla_given_backward
from lla_course.kernels.flash_lla_forward import lla_forward, lla_given_forward
from lla_course.kernels.op import lla
from lla_course.kernels.runtime import HAS_GLUON, HAS_TRITON, Gpu, _asked, addressable, together

pytestmark = pytest.mark.skipif(not HAS_TRITON, reason="needs Triton")


def compiled_for(value):
    "What Triton makes of an argument: the type, and of a whole number whether it is 1, of 16, of 64 bits."
    if isinstance(value, torch.Tensor):
        return value.dtype, value.data_ptr() % 16 == 0
    if isinstance(value, tuple):
        return tuple(map(compiled_for, value))
    if isinstance(value, (bool, float)):
        return type(value), isinstance(value, bool) and value
    if isinstance(value, int):
        return int, value == 1, value % 16 == 0, abs(value) >= 2**31
    return value.base.dtype, *value.block_shape


@pytest.fixture
def launches(monkeypatch):
    "Key -> all that Triton would have compiled for it."
    seen = {}

    def noted(kernel, programs, *args, META, same=None, **options):
        looked = tuple(map(_asked, args)) if same is None else same
        key = kernel.fn.__name__, META, *options.values(), looked
        seen.setdefault(key, set()).add(tuple(map(compiled_for, args)))

    for module in (flash_lla_forward, flash_lla_backward, hopper_solve):
        monkeypatch.setattr(module, "launch", noted)
        monkeypatch.setattr(module, "processors", lambda device: 1, raising=False)
    # where kernels are not interpreted, tensors on the CPU would be refused
    monkeypatch.setattr(flash_lla_forward, "can_run", lambda device: True)
    monkeypatch.setattr(flash_lla_forward, "describe_gpu", lambda device: Gpu((9, 0), 227 * 1024))
    return seen


def both_passes(q, k, v, **settings):
    saved = lla_forward(q, k, v, torch.full(q.shape[:2], 0.1), **settings)
    lla_backward(q, k, v, saved, torch.zeros_like(saved.o), **settings)


def both_walks(q, k, v, u, **settings):
    saved = lla_given_forward(q, k, v, u, **settings)
    lla_given_backward(q, k, v, u, saved, torch.zeros_like(saved.o), **settings)


def heads(N, n, D, layout, dtype):
    "The same numbers of tokens in several layouts: rows together, apart, or on an address of its own."
    room = torch.zeros(N * n * (D + 16) + 8, dtype=dtype)
    if layout == "apart":
        return room[: N * n * (D + 16)].view(N, n, D + 16)[..., :D]
    start = 4 if layout == "shifted" else 0
    return room[start : start + N * n * D].view(N, n, D)


WINDOWS = (None, (0, 0), (1, 0), (0, 1), (16, 1), (16, 16), (-1, 1), (3, -1), (500, 0), (2**40, 2**40))


def test_nothing_that_triton_compiles_for_is_missing_in_a_key(launches):
    for D, T, more, group in product((16, 20), (1, 16, 33), (0, 1, 16), (1, 2)):
        q = torch.zeros(2 * group, T, D)
        k, v = torch.zeros(2, 2, T + more, D)
        for window, is_causal in product(WINDOWS, (False, True)):
            sees = dict(scale=0.5, is_causal=is_causal, window=window)
            both_passes(q, k, v, **sees, tol=0.1, max_steps=8)
            both_walks(q, k, v, q, **sees)
    assert launches and all(len(kinds) == 1 for kinds in launches.values())


def test_settings_and_layouts_are_in_a_key(launches):
    plain = dict(scale=0.5, is_causal=True, tol=0.1, max_steps=8)
    changes = [{}, dict(scale=1), dict(scale=2), dict(tol=0), dict(tol=1), dict(tol=1e-3)]
    changes += [dict(max_steps=n) for n in (0, 1, 16)]
    for layout, dtype, Dv in product(("plain", "apart", "shifted"), (torch.float32, torch.bfloat16), (16, 1)):
        q, k, v = (heads(2, 600, D, layout, dtype) for D in (16, 16, Dv))
        for change in changes:
            both_passes(q, k, v, **plain | change)
        for of in (torch.float32, dtype):
            for scale in (0.5, 1):
                both_walks(q, k, v, heads(2, 600, 16, layout, of), scale=scale, is_causal=True)
    assert launches and all(len(kinds) == 1 for kinds in launches.values())


@pytest.mark.skipif(not HAS_GLUON, reason="needs a Triton with Gluon")
def test_the_same_of_the_solver_for_hopper(launches):
    for T, more, D in product((16, 33, 64), (0, 31), (16, 20)):
        q, k = torch.zeros(2, T, D).bfloat16(), torch.zeros(2, T + more, D).bfloat16()
        saved = {name: torch.zeros(2, T) for name in ("lse2", "row_max", "n_eff", "ridge")}
        saved |= dict(kbar=torch.zeros(2, T, D), inverse=torch.zeros(2, 0, 32, 32))
        for window, is_causal, tol, steps in product(WINDOWS, (False, True), (0, 0.1), (1, 16)):
            settings = dict(scale=1, is_causal=is_causal, window=window, tol=tol, max_steps=steps)
            hopper_solve.hopper_solve(q, k, saved, torch.zeros(2, T, D), **settings)
    assert launches and all(len(kinds) == 1 for kinds in launches.values())


def test_true_is_not_one():
    assert _asked(True) != _asked(1) and _asked((False,)) != _asked((0,))


def test_numbers_are_as_they_lie_in_memory():
    x = torch.randn(3, 4)
    assert addressable(x) is x
    found = addressable(torch._neg_view(-x))
    assert torch.equal(found, x) and not found.is_neg()
    assert addressable(torch._efficientzerotensor((3, 4))).data_ptr()


EMPTY = [(0, 2, 1, 3, 3), (1, 0, 0, 3, 3), (1, 2, 1, 0, 0), (1, 2, 2, 0, 4)]


@pytest.mark.parametrize("B, H, Hkv, T, S", EMPTY)
def test_no_query_gets_an_empty_answer_of_the_kernels_alone(B, H, Hkv, T, S):
    shapes = ((B, h, n, 8) for h, n in ((H, T), (Hkv, S), (Hkv, S)))
    q, k, v = (torch.randn(shape, device=DEVICE).requires_grad_() for shape in shapes)
    o = lla(q, k, v)
    o.sum().backward()
    assert o.shape == q.shape and not any(t.grad.any() for t in (q, k, v))


def test_no_key_is_refused_by_the_kernels_alone():
    q, k = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 0, 8)
    with pytest.raises(ValueError, match="at least one key"):
        lla(q, k, k, is_causal=False)
    with pytest.raises(ValueError, match="multiple of the 0 heads"):
        lla(q, q[:, :0], q[:, :0])


@needs_kernels
def test_settings_beyond_32_bits_mean_what_they_say():
    q, k, v = (torch.randn(1, 2, 5, 8, device=DEVICE).requires_grad_() for _ in range(3))

    def both(**settings):
        o = lla(q, k, v, **settings)
        return o, *torch.autograd.grad(o.sum(), (q, k, v))

    for beyond, within in ((dict(max_steps=2**31), {}), (dict(tol=1e200), dict(tol=100))):
        assert all(map(torch.equal, both(**beyond), both(**within)))
    for scale in (1e39, -1e39, float("nan")):
        with pytest.raises(ValueError, match="scale="):
            lla(q, k, v, scale=scale)


NEVER = [("max_steps", -1), ("max_steps", 2.5), ("tol", -1), ("tol", torch.nan)]


@pytest.mark.parametrize("name, bad", NEVER)
def test_when_the_solver_stops_is_checked_by_the_kernels_alone(name, bad):
    with pytest.raises(ValueError, match=f"{name}="):
        lla(*torch.randn(3, 1, 2, 3, 8), **{name: bad})


class Operations(TorchDispatchMode):
    "The names of the operators of PyTorch that were called, but for those that ask for memory or views."

    def __init__(self):
        super().__init__()
        self.called = []

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        name = f.__name__.split(".")[0]
        if not name.startswith(("empty", "new_empty", "unbind", "as_strided", "view", "detach")):
            self.called.append(name)
        return f(*args, **kwargs or {})


@pytest.mark.parametrize("dtype, extra", [(torch.float32, []), (torch.float16, ["linalg_vector_norm"])])
@pytest.mark.parametrize("T, more", [(16, []), (1100, [])])
def test_a_pass_starts_its_kernels_and_little_else(launches, dtype, extra, T, more):
    q, k, v = torch.randn(3, 2, T, 16).to(dtype)
    ridge, settings = torch.full((2, T), 0.1), dict(scale=0.25, is_causal=True, tol=0.1, max_steps=8)
    with Operations() as forward:
        saved = lla_forward(q, k, v, ridge, **settings)
    with Operations() as backward:
        lla_backward(q, k, v, saved, q, ridge=ridge, **settings)
    assert forward.called == more and backward.called == extra
    matrix = ["lla_matrix_kernel"] if saved.inverse.shape[1] else []
    longest = ["lla_longest_kernel"] if T > flash_lla_forward.FEW_KEYS else []
    names = [*longest, "lla_mean_kernel", *matrix, "lla_solve_kernel", "lla_output_kernel"]
    names += ["lla_bwd_rhs_kernel", "lla_bwd_dq_kernel", "lla_bwd_dkv_kernel"]
    assert list(dict.fromkeys(key[0] for key in launches)) == names


@pytest.mark.parametrize("shape", [(), (3,), (2, 5, 7), (2, 0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_of_one_allocation_lie_apart_and_on_whole_addresses(shape, dtype):
    made = together(3, shape, dtype=dtype)
    for i, t in enumerate(made):
        t.fill_(i)
    assert all(t.shape == shape and t.dtype == dtype and t.is_contiguous() for t in made)
    assert all(bool((t == i).all()) for i, t in enumerate(made))
    assert not made[0].numel() or all(t.data_ptr() % 16 == 0 for t in made)


class Compiled:
    "What Triton returns of a first launch, with a list of the launches after it."

    def __init__(self):
        self.function, self.packed_metadata, self.told, self.long = "function", "metadata", [], []

    def run(self, *given):
        self.told.append(given)

    def __getitem__(self, grid):
        return lambda *args: self.long.append((grid, *args))


def test_a_known_launch_is_started_as_triton_starts_it(monkeypatch):
    found, hooks = Compiled(), [SimpleNamespace(calls=[]), SimpleNamespace(calls=[])]
    kernel = {(3,): lambda *args, **options: found}
    monkeypatch.setattr(runtime, "INTERPRET", False)
    monkeypatch.setattr(runtime, "_compiled", {})
    told = SimpleNamespace(launch_enter_hook=hooks[0], launch_exit_hook=hooks[1])
    monkeypatch.setattr(runtime.triton.knobs, "runtime", told)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: 10 + device, raising=False)
    for _ in range(2):
        runtime.launch(kernel, 3, 1.0, META=None, num_warps=4)
    assert found.told == [(3, 1, 1, 11, "function", "metadata", None, None, None, 1.0, None)]
    for hook in hooks:  # a profiler of Triton's is told of every launch
        hook.calls.append(print)
        runtime.launch(kernel, 3, 1.0, META=None, num_warps=4)
        hook.calls.clear()
    assert found.long == [((3, 1, 1), 1.0, None)] * 2 and len(found.told) == 1


class Kernel:
    "A kernel of which each launch is counted."

    def __init__(self):
        self.compiled, self.looked = Compiled(), 0

    def __getitem__(self, grid):
        def start(*args, **options):
            self.looked += 1
            return self.compiled

        return start


@pytest.fixture
def no_gpu(monkeypatch):
    "Launches reach a kernel that is no kernel of Triton's."
    monkeypatch.setattr(runtime, "INTERPRET", False)
    monkeypatch.setattr(runtime, "_compiled", {})
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: 0, raising=False)


def test_a_kernel_that_is_defined_again_is_not_taken_for_an_old_one(no_gpu):
    for _ in range(100):  # each is forgotten before the next is made, which may get its id
        kernel = Kernel()
        runtime.launch(kernel, 3, 1.0, META=None)
        assert kernel.looked == 1
        del kernel


def test_on_an_amd_gpu_triton_looks_at_each_launch(no_gpu, monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(runtime, "HIP", True)
    for _ in range(2):
        runtime.launch(kernel, 3, 1.0, META=None)
    assert kernel.looked == 2 and not kernel.compiled.told


def test_triton_is_started_as_this_version_says():
    "`launch` gives `run` what `CompiledKernel.__getitem__` gives it, and None where profilers are served."
    source = inspect.getsource(runtime.triton.compiler.CompiledKernel.__getitem__)
    order = "grid[2], stream, self.function, self.packed_metadata, launch_metadata"
    assert order in " ".join(source.split())
