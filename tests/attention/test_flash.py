"The door `flash_lla` and the layer behind it: backends, transformations of PyTorch, bad input."

import shutil
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from functorch.compile import aot_function, nop
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import lla_course
from helpers import relative_rms
from lla_course import LocalLinearAttention, SolverWarning, flash_lla
from lla_course.attention.dense import lla_dense
from lla_course.attention.flash import BACKENDS, choose_backend, rotary
from lla_course.kernels import runtime
from lla_course.kernels.runtime import INTERPRET, Gpu


def inputs(*lead, T=20, S=20, D=16, Hkv=None, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    make = lambda shape, n: torch.randn(*shape, n, D, generator=g).to(dtype)
    kv = lead if Hkv is None else (*lead[:-1], Hkv)
    return make(lead, T), make(kv, S), make(kv, S)


loss = lambda q, k, v, ridge: flash_lla(q, k, v, ridge=ridge).square().mean()


def test_the_public_names():
    for name in ("flash_lla", "LocalLinearAttention", "lla_decode", "SolverWarning"):
        assert callable(getattr(lla_course, name)) and name in dir(lla_course)


@pytest.mark.parametrize(
    "lead, knobs",
    [
        ((), {}),
        ((3,), {}),
        ((2, 4), dict(Hkv=2)),
        ((2, 1, 4), dict(Hkv=1)),
        ((2,), dict(T=7, S=31)),
        ((2,), dict(T=1, S=31)),
        ((2,), dict(T=31, S=7)),
    ],
)
@pytest.mark.parametrize("is_causal", [True, False])
def test_backends_agree_on_every_shape(lead, knobs, is_causal):
    q, k, v = inputs(*lead, **knobs)
    settings = dict(is_causal=is_causal and q.shape[-2] <= k.shape[-2], enable_gqa="Hkv" in knobs)
    sees = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
    if settings["is_causal"]:
        sees = sees.tril(k.shape[-2] - q.shape[-2])
    for backend in ("tiled", "auto"):
        o = flash_lla(q, k, v, backend=backend, **settings)
        assert o.shape == q.shape and relative_rms(o, flash_lla(q, k, v, backend="dense", **settings)) < 1e-4
    softmax = F.scaled_dot_product_attention(q, k, v, attn_mask=sees, enable_gqa=settings["enable_gqa"])
    assert relative_rms(flash_lla(q, k, v, max_steps=0, **settings), softmax) < 1e-5


@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_can_be_computed_anew_in_the_backward_pass(reentrant):
    q, k, v = (t.requires_grad_() for t in inputs(2))
    plain = torch.autograd.grad(flash_lla(q, k, v).square().sum(), (q, k, v))
    again = checkpoint(flash_lla, q, k, v, use_reentrant=reentrant).square().sum()
    again.backward()
    assert all((a == b.grad).all() for a, b in zip(plain, (q, k, v)))


@pytest.mark.skipif(not INTERPRET, reason="needs the interpreter")
def test_triton_through_the_door_with_its_gradients():
    q, k, v = (t.requires_grad_() for t in inputs(2, 2, Hkv=1, T=33, S=33))
    ridge = torch.rand(2, 1).add(0.1).requires_grad_()

    def grads(backend):
        return torch.autograd.grad(
            flash_lla(q, k, v, ridge=ridge, enable_gqa=True, backend=backend, tol=1e-6).square().sum(),
            (q, k, v, ridge),
        )

    for ours, tiles in zip(grads("triton"), grads("tiled")):
        assert relative_rms(ours, tiles) < 1e-4


def test_gradcheck_through_the_operator():
    q, k, v = (t.double().requires_grad_() for t in inputs(2, Hkv=1, T=6, S=6, D=3))
    ridge = torch.rand(2, 6, dtype=torch.float64).add(0.1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *x: flash_lla(*x[:3], ridge=x[3], enable_gqa=True, tol=1e-12), (q, k, v, ridge)
    )


def test_steps_and_residuals_are_told():
    q, k, v = inputs(2, 3)
    o, info = flash_lla(q, k, v, return_info=True)
    assert (
        info["steps"].shape == info["residual"].shape == (2, 3, 20)
        and (info["residual"] <= 1e-5).all()
        and info["steps"].max() > 3
    )
    assert torch.equal(o, flash_lla(q, k, v)) and set(
        flash_lla(q, k, v, backend="dense", return_info=True)[1]
    ) == set(info)


def test_a_second_derivative_is_refused_in_words():
    q, k, v = inputs(2)
    q.requires_grad_()
    (g,) = torch.autograd.grad(flash_lla(q, k, v).sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="lla_dense"):
        g.sum().backward()


# ---- torch.compile and other ways to look at a function without running it

RIDGES = dict(default=None, float=0.3, int=1, scalar=torch.tensor(0.3), rows=torch.tensor([[0.1], [1.0]]))
interpreted = pytest.param("triton", marks=pytest.mark.skipif(not INTERPRET, reason="needs the interpreter"))
inductor = pytest.param(
    "inductor",
    marks=[pytest.mark.slow, pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")],
)


def value_and_gradients(f, tensors, ridge=None, **knobs):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    if isinstance(ridge, torch.Tensor):
        ridge = ridge.detach().clone().requires_grad_()
        leaves.append(ridge)
    if ridge is not None:
        knobs["ridge"] = ridge
    out = f(*leaves[:3], **knobs)
    return out.detach(), *torch.autograd.grad(out.square().sum(), leaves)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", RIDGES)
@pytest.mark.parametrize("backend", ["aot_eager", inductor])
def test_it_compiles_with_any_ridge(backend, kind, dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(flash_lla, fullgraph=True, backend=backend, dynamic=dynamic)
    for T in (5, 9):
        tensors = inputs(2, T=T, S=9, D=4)
        for a, b in zip(*(value_and_gradients(f, tensors, RIDGES[kind]) for f in (compiled, flash_lla))):
            assert relative_rms(a, b) < (1e-12 if backend == "aot_eager" else 1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "knobs",
    [
        dict(scale=0.3, tol=1e-4, max_steps=5),
        dict(scale=1, tol=0, max_steps=0),
        dict(is_causal=False),
        dict(enable_gqa=True),
        dict(return_info=True),
        dict(check=True),
        dict(check=False),
    ],
)
def test_it_compiles_with_all_settings(knobs, dynamic):
    torch._dynamo.reset()
    q, k, v = inputs(2, Hkv=1 if "enable_gqa" in knobs else None, T=7, S=7, D=4)
    compiled = torch.compile(flash_lla, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got, wanted = compiled(q, k, v, **knobs), flash_lla(q, k, v, **knobs)
    for a, b in zip(*(([x[0], *x[1].values()] if "return_info" in knobs else [x]) for x in (got, wanted))):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("backend", ["aot_eager", inductor])
def test_a_layer_compiles(backend, dynamic):
    torch._dynamo.reset()
    layer = LocalLinearAttention(16, 4, num_kv_heads=2, rope_base=1e4)
    compiled = torch.compile(layer, fullgraph=True, backend=backend, dynamic=dynamic)
    for T in (5, 9):
        x, found = torch.randn(2, T, 16), []
        for f in (compiled, layer):
            layer.zero_grad()
            f(x).square().mean().backward()
            found.append([p.grad.clone() for p in layer.parameters()])
        for a, b in zip(*found):
            assert relative_rms(a, b) < (1e-12 if backend == "aot_eager" else 1e-4)


def test_compiled_under_autocast():
    torch._dynamo.reset()
    q, k, v = inputs(2, T=5, S=5)

    def f(q, k, v):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return flash_lla(q, k, v)

    got = torch.compile(f, fullgraph=True, backend="aot_eager")(q, k, v)
    assert got.dtype == torch.bfloat16 and torch.equal(got, f(q, k, v))


@pytest.mark.parametrize("strict", [False, True])
def test_a_layer_can_be_exported(strict, tmp_path):
    layer, x = LocalLinearAttention(16, 4, rope_base=1e4), torch.randn(2, 5, 16)
    any_size = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    torch.export.save(
        torch.export.export(layer, (x,), strict=strict, dynamic_shapes=(any_size,)), tmp_path / "layer.pt2"
    )
    again, y = torch.export.load(tmp_path / "layer.pt2").module(), torch.randn(3, 8, 16)
    assert torch.equal(again(y), layer(y))
    again(y).sum().backward()
    assert all(p.grad is not None for p in again.parameters())


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_a_layer_can_be_traced_and_saved(tmp_path):
    layer, x, y = LocalLinearAttention(16, 4, rope_base=1e4), torch.randn(2, 5, 16), torch.randn(3, 8, 16)
    torch.jit.save(torch.jit.trace(layer, x), tmp_path / "layer.pt")
    again = torch.jit.load(tmp_path / "layer.pt")
    assert torch.equal(again(x), layer(x)) and torch.equal(again(y), layer(y))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_and_functionalize(mode):
    q, k, v = inputs(2, T=5, S=5, D=4)

    def forward(q, k, v):
        return (flash_lla(q, k, v),)

    def backward(q, k, v):
        return torch.func.grad(lambda *x: flash_lla(*x).square().sum(), argnums=(0, 1, 2))(q, k, v)

    for f in (forward, backward):
        got, wanted = make_fx(f, tracing_mode=mode)(q, k, v)(q, k, v), f(q, k, v)
        for a, b in zip(got, wanted):
            assert torch.equal(a, b)
    assert torch.equal(torch.func.functionalize(lambda *x: flash_lla(*x))(q, k, v), flash_lla(q, k, v))


@pytest.mark.parametrize("backend", ["auto", "tiled", "dense"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_meta_and_fake_tensors_have_a_shape(backend, dtype):
    q, k, v = inputs(2, 4, Hkv=2, T=5, S=9, D=4, dtype=dtype)
    for ridge in (0.1, torch.full((4, 1), 0.1)):
        moved = [t.to("meta") if isinstance(t, torch.Tensor) else t for t in (q, k, v, ridge)]
        if backend != "dense":
            o, info = flash_lla(
                *moved[:3], ridge=moved[3], enable_gqa=True, backend=backend, return_info=True
            )
            assert (o.shape, o.dtype, o.device.type) == (q.shape, dtype, "meta")
            assert info["steps"].shape == info["residual"].shape == (2, 4, 5)
        with FakeTensorMode() as mode:
            q_, k_, v_, r_ = (
                mode.from_tensor(t) if isinstance(t, torch.Tensor) else t for t in (q, k, v, ridge)
            )
            o = flash_lla(q_, k_, v_, ridge=r_, enable_gqa=True, backend=backend)
            assert (o.shape, o.dtype, o.device.type) == (q.shape, dtype, "cpu")


def test_a_layer_has_a_shape_on_meta_and_with_fake_tensors():
    for where in (FakeTensorMode(), torch.device("meta")):
        with where:
            layer, x = LocalLinearAttention(16, 4, num_kv_heads=2, rope_base=1e4), torch.randn(2, 5, 16)
            out = layer(x)
            out.sum().backward()
        assert out.shape == (2, 5, 16) and layer.raw_ridge.grad.shape == (4, 1)
    with torch.device("meta"):
        empty = LocalLinearAttention(16, 4)
    full = LocalLinearAttention(16, 4)
    empty.load_state_dict(full.state_dict(), assign=True)
    x = torch.randn(2, 5, 16)
    assert torch.equal(empty(x), full(x))


def test_operations_are_counted():
    def count(T, S, device="cpu", is_causal=True, grad=False, max_steps=None):
        q, k, v = (t.to(device).requires_grad_(grad) for t in inputs(3, T=T, S=S, D=8))
        with FlopCounterMode(display=False) as counter:
            o, info = flash_lla(q, k, v, is_causal=is_causal, max_steps=max_steps, return_info=True)
            if grad:
                o.sum().backward()
        return counter.get_total_flops(), info

    assert count(20, 20, max_steps=0)[0] == 6 * 2 * 8 * 3 * 210
    assert count(5, 9, "meta", max_steps=2)[0] == 12 * 2 * 8 * 3 * 35
    assert count(20, 30, is_causal=False, max_steps=0)[0] == 6 * 2 * 8 * 3 * 600
    total, info = count(20, 20)
    steps = float(info["steps"].float().mean())
    assert 0 < steps < 16 and total == round((6 + 3 * steps) * 2 * 8 * 3 * 210)
    both, _ = count(20, 20, grad=True)
    assert both - total == round((16 + 3 * steps) * 2 * 8 * 3 * 210)


def test_the_fake_results_are_like_the_real_ones():
    for T, D, max_steps in ((1, 0, 32), (70, 0, 32), (70, 16, 0)):
        probe = torch.ones(2, T, D)  # of no length: none
        args = [t for t in inputs(2, T=T, S=T)] + [torch.full((2, T), 0.1), probe]
        args += [0.25, -1, 0, 1e-5, max_steps]
        for backend in ("tiled", "triton") if INTERPRET else ("tiled",):
            real = torch.ops.lla_course.flash_forward(*args, backend)
            with FakeTensorMode() as mode:
                fake = torch.ops.lla_course.flash_forward(
                    *(mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in args), backend
                )
            assert [(t.shape, t.dtype) for t in fake] == [(t.shape, t.dtype) for t in real]


def test_vmap_folds_the_mapped_dimension():
    q, k, v = inputs(3, 2)
    ridges = torch.logspace(-2, 1, 4).requires_grad_()
    mapped = torch.vmap(loss, in_dims=(None, None, None, 0))(q, k, v, ridges)
    assert torch.allclose(mapped, torch.stack([loss(q, k, v, r) for r in ridges]))
    mapped.sum().backward()
    assert torch.allclose(
        ridges.grad,
        torch.stack(
            [torch.autograd.grad(loss(q, k, v, r), r)[0] for r in ridges.detach().requires_grad_().unbind()]
        ),
    )
    assert torch.equal(torch.vmap(flash_lla, in_dims=1, out_dims=1)(q, k, v), flash_lla(q, k, v))


# ---- torch.func


def by_backward(q, k, v, ridge, **knobs):
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v, ridge)]
    return torch.autograd.grad(flash_lla(*leaves[:3], ridge=leaves[3], **knobs).square().sum(), leaves)


def squares(q, k, v, ridge, **knobs):
    return flash_lla(q, k, v, ridge=ridge, **knobs).square().sum()


def close(found, wanted):
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-11) for a, b in zip(found, wanted))


def test_functional_gradients_are_those_of_backward():
    q, k, v = inputs(2, T=5, S=7, D=4, dtype=torch.float64)
    ridge = torch.tensor([[0.2], [0.4]], dtype=torch.float64)
    wanted, all_four = by_backward(q, k, v, ridge), (0, 1, 2, 3)
    assert close(torch.func.grad(squares, argnums=all_four)(q, k, v, ridge), wanted)
    assert close(torch.func.vjp(squares, q, k, v, ridge)[1](torch.ones((), dtype=torch.float64)), wanted)
    assert close(torch.func.grad_and_value(squares, argnums=all_four)(q, k, v, ridge)[0], wanted)
    q.requires_grad_()
    assert close(torch.func.grad(squares, argnums=all_four)(q, k, v, ridge), wanted)


def test_jacobians_are_those_of_the_dense_formula():
    q, k, v = inputs(2, T=3, S=4, D=3, dtype=torch.float64)
    ridge = torch.tensor([[0.2], [0.4]], dtype=torch.float64)

    def f(*x):
        return flash_lla(*x[:3], ridge=x[3], tol=1e-13)

    def g(*x):
        return lla_dense(*x[:3], ridge=x[3])

    wanted = torch.func.jacrev(g, argnums=(0, 1, 2, 3))(q, k, v, ridge)
    for found in (
        torch.func.jacrev(f, argnums=(0, 1, 2, 3))(q, k, v, ridge),
        torch.func.jacrev(f, argnums=(0, 1, 2, 3), chunk_size=2)(q, k, v, ridge),
        torch.autograd.functional.jacobian(f, (q, k, v, ridge), vectorize=True),
        torch.autograd.functional.jacobian(f, (q, k, v, ridge)),
    ):
        assert all((a - b).abs().max() < 1e-9 for a, b in zip(found, wanted))
    q.requires_grad_()
    many = torch.autograd.grad(
        f(q, k, v, ridge), q, torch.eye(18, dtype=torch.float64).reshape(18, 2, 3, 3), is_grads_batched=True
    )[0]
    assert (many.reshape(2, 3, 3, 2, 3, 3) - wanted[0]).abs().max() < 1e-9


@given(
    T=st.integers(0, 4),
    more=st.integers(0, 3),
    B=st.integers(0, 3),
    dims=st.tuples(*[st.sampled_from((None, 0, 1, -1))] * 3),
    ridge_mapped=st.booleans(),
    group=st.integers(1, 2),
    inner=st.booleans(),
)
def test_per_sample_gradients_are_those_of_a_loop(T, more, B, dims, ridge_mapped, group, inner):
    g = torch.Generator().manual_seed(0)
    new = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    shapes = ((2 * group, T, 3), (2, T + more, 3), (2, T + more, 3))
    stacks = [new(*shape) if d is None else new(B, *shape).movedim(0, d) for shape, d in zip(shapes, dims)]
    if ridge_mapped or all(d is None for d in dims):
        ridge, in_dims = new(B, 1, 1).exp(), (*dims, 0)
    else:
        ridge, in_dims = new(1, 1).exp(), (*dims, None)
    knobs = dict(enable_gqa=group > 1)
    f = torch.func.grad(lambda *x: squares(*x, **knobs), argnums=(0, 1, 2, 3))
    if inner:
        f = lambda *x: torch.func.vjp(lambda *y: squares(*y, **knobs), *x)[1](
            torch.ones((), dtype=torch.float64)
        )
    found = torch.vmap(f, in_dims=in_dims)(*stacks, ridge)
    one = lambda t, d, i: t if d is None else t.select(d, i)
    for i in range(B):
        assert close(
            [t[i] for t in found],
            by_backward(*(one(t, d, i) for t, d in zip((*stacks, ridge), in_dims)), **knobs),
        )
    assert all(len(t) == B for t in found)


def test_per_sample_gradients_of_a_layer():
    layer = LocalLinearAttention(16, 4, num_kv_heads=2, rope_base=1e4).double()
    x = torch.randn(3, 5, 16, dtype=torch.float64)
    weights = {n: p.detach() for n, p in layer.named_parameters()}

    def loss(weights, x):
        return torch.func.functional_call(layer, weights, (x,)).square().sum()

    found = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    for i in range(3):
        layer.zero_grad()
        layer(x[i]).square().sum().backward()
        assert all(
            torch.allclose(found[n][i], p.grad, rtol=1e-7, atol=1e-9) for n, p in layer.named_parameters()
        )
    stacked = {n: torch.stack([t, 1.1 * t]) for n, t in weights.items()}
    ensemble = torch.vmap(loss, in_dims=(0, None))(stacked, x)
    assert torch.allclose(
        ensemble, torch.stack([loss({n: t[i] for n, t in stacked.items()}, x) for i in range(2)])
    )


def test_maps_of_maps_and_of_nothing():
    q, k, v = inputs(3, 2, 4, T=5, S=5, D=4)
    assert torch.equal(torch.vmap(torch.vmap(flash_lla))(q, k, v), flash_lla(q, k, v))
    assert torch.equal(
        torch.vmap(flash_lla, in_dims=(0, None, None))(q, k[0], v[0]),
        torch.stack([flash_lla(a, k[0], v[0]) for a in q]),
    )
    assert torch.vmap(flash_lla)(q[:0], k[:0], v[:0]).shape == (0, 2, 4, 5, 4)
    each = torch.vmap(torch.func.grad(loss, argnums=1))
    assert each(q[:0], k[:0], v[:0], torch.ones(0)).shape == (0, 2, 4, 5, 4)


def test_a_ridge_is_checked_within_transformations():
    q, k, v = inputs(2)
    for f, ridge in (
        (torch.vmap(lambda r: loss(q, k, v, r)), torch.tensor([0.1, -1.0])),
        (torch.func.grad(lambda r: loss(q, k, v, r)), torch.tensor([[0.1], [-1.0]])),
    ):
        with pytest.raises(ValueError, match="ridge=-1.0"):
            f(ridge)


def test_compiled_functional_gradients():
    q, k, v = inputs(2, T=5, S=5, D=4, dtype=torch.float64)

    def total(q):
        return squares(q, k, v, 0.1)

    for f in (
        torch.func.grad(total),
        torch.func.jacrev(lambda q: flash_lla(q, k, v)),
        torch.vmap(lambda q: flash_lla(q[None], k[:1], v[:1])),
    ):
        torch._dynamo.reset()
        assert torch.allclose(torch.compile(f, fullgraph=True, backend="aot_eager")(q), f(q))
    torch._dynamo.reset()  # nested ones fall back
    f = torch.vmap(torch.func.grad(total))
    assert torch.allclose(torch.compile(f, backend="aot_eager")(q[None]), f(q[None]))
    torch._dynamo.reset()
    whole = torch.compile(f, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="fullgraph=True"):
        whole(q[None])


# ---- derivatives that do not exist


def jvp(f, x):
    return torch.func.jvp(f, (x,), (x,))


def dual(f, x):
    with forward_ad.dual_level():
        return f(forward_ad.make_dual(x, x))


FORWARD = dict(
    jvp=jvp,
    dual=dual,
    linearize=torch.func.linearize,
    jacfwd=lambda f, x: torch.func.jacfwd(f)(x),
    hessian=lambda f, x: torch.func.hessian(lambda x: f(x).sum())(x),
    vmapped=lambda f, x: jvp(torch.vmap(f), x[None]),
    within=lambda f, x: torch.vmap(lambda x: jvp(f, x))(x[None]),
    reverse=lambda f, x: jvp(torch.func.grad(lambda x: f(x).sum()), x),
    functional=lambda f, x: torch.autograd.functional.jacobian(f, x, vectorize=True, strategy="forward-mode"),
    gradcheck=lambda f, x: torch.autograd.gradcheck(f, x.clone().requires_grad_(), check_forward_ad=True),
)


@pytest.mark.parametrize("way", FORWARD)
@pytest.mark.parametrize("name", ["q", "k", "v", "ridge"])
def test_forward_mode_is_refused_in_words(way, name):
    q, k, v = inputs(2, T=3, S=3, D=2, dtype=torch.float64)
    x = dict(q=q, k=k, v=v, ridge=torch.rand(2, 1, dtype=torch.float64) + 0.1)

    def f(t):
        q, k, v, ridge = (x | {name: t}).values()
        return flash_lla(q, k, v, ridge=ridge, tol=1e-12)

    with pytest.raises(NotImplementedError, match="forward-mode.*lla_dense"):
        FORWARD[way](f, x[name])


@pytest.mark.parametrize("way", ["jvp", "jacfwd", "dual", "reverse"])
def test_forward_mode_is_refused_by_the_layer_and_when_compiled(way):
    layer, x = LocalLinearAttention(4, 2).double(), torch.randn(3, 4, dtype=torch.float64)
    with pytest.raises(NotImplementedError, match="forward-mode.*lla_dense"):
        FORWARD[way](layer, x)
    q, k, v = inputs(2, T=3, S=3, D=2, dtype=torch.float64)
    for fullgraph in (False, True):
        torch._dynamo.reset()
        if way == "dual":
            f = torch.compile(lambda q: flash_lla(q, k, v), fullgraph=fullgraph, backend="aot_eager")
            f(q)  # compiled before, without tangents
            work = lambda: dual(f, q)
        else:
            work = lambda: torch.compile(
                lambda q: FORWARD[way](lambda q: flash_lla(q, k, v), q),
                fullgraph=fullgraph,
                backend="aot_eager",
            )(q)
        with pytest.raises(Exception, match="lla_dense"):
            work()


def test_where_nothing_is_differentiated_forward_mode_is_no_obstacle():
    q, k, v = inputs(2)
    with forward_ad.dual_level():
        assert torch.equal(flash_lla(q, k, v), lla_course.flash_lla(q, k, v))
    value, tangent = torch.func.jvp(
        lambda s: s * flash_lla(q, k, v), (torch.tensor(2.0),), (torch.tensor(1.0),)
    )
    assert torch.equal(tangent, flash_lla(q, k, v)) and torch.equal(value, 2 * tangent)


def test_second_derivatives_of_functions_are_refused_in_words():
    q, k, v = inputs(2, T=3, S=3, D=2)
    first = torch.func.grad(lambda q: flash_lla(q, k, v).sum())
    for f in (torch.func.grad(lambda q: first(q).sum()), torch.func.jacrev(first)):
        with pytest.raises(RuntimeError, match="lla_dense"):
            f(q)
        torch._dynamo.reset()
        for fullgraph in (False, True):
            compiled = torch.compile(f, fullgraph=fullgraph, backend="aot_eager")
            with pytest.raises(Exception, match="lla_dense|one reverse-mode derivative"):
                compiled(q)


# ---- autocast


def test_autocast_casts_what_pytorch_casts():
    q, k, v = inputs(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert flash_lla(q, k, v).dtype == flash_lla(q, k.bfloat16(), v.half()).dtype == torch.bfloat16
        assert LocalLinearAttention(32, 2)(torch.randn(2, 5, 32)).isfinite().all()
    q, k, v = (t.double() for t in (q, k, v))
    layer, x = LocalLinearAttention(32, 2).double(), torch.randn(2, 5, 32, dtype=torch.float64)
    plain, through = flash_lla(q, k, v), layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(flash_lla(q, k, v), plain) and torch.equal(layer(x), through)


@pytest.mark.parametrize("backend", ["tiled", "dense", interpreted])
def test_autocast_changes_the_inputs_and_nothing_inside(backend):
    tensors = [t.bfloat16() for t in inputs(2, T=5, S=5)]
    plain = value_and_gradients(flash_lla, tensors, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = value_and_gradients(flash_lla, tensors, backend=backend)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast))


def test_autocast_comes_after_the_checks():
    q, k, v = inputs(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for bad, name in (
            ((q, k.numpy(), v), "k="),
            ((q.numpy(), k, v), "q="),
            ((q, k, None), "v="),
            ((q, k.int(), v), "k.dtype"),
            ((q, k.double(), v), "k.dtype"),
            ((q, k, v.to(torch.complex64)), "v.dtype"),
        ):
            with pytest.raises(ValueError, match=name):
                flash_lla(*bad)
        with pytest.raises(ValueError, match="x.dtype"):
            LocalLinearAttention(8, 2)(torch.randn(3, 8).double())
        assert LocalLinearAttention(8, 2)(torch.randn(3, 8).half()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "knobs, name",
    [
        (dict(ridge=-1.0), "ridge"),
        (dict(ridge=torch.tensor([float("nan")] * 20)), "ridge"),
        (dict(backend="cuda"), "backend"),
        (dict(tol=-1.0), "tol"),
        (dict(max_steps=-1), "max_steps"),
        (dict(max_steps=1.5), "max_steps"),
        (dict(scale=float("inf")), "scale"),
        (dict(is_causal=1), "is_causal"),
        (dict(ridge=1e39), "ridge"),
        (dict(ridge=torch.tensor(1e39, dtype=torch.float64)), "ridge"),
        (dict(check=1), "check"),
        (dict(return_info="yes"), "return_info"),
    ],
)
def test_bad_settings_are_named(knobs, name):
    with pytest.raises(ValueError, match=name):
        flash_lla(*inputs(2), **knobs)


def test_triton_is_refused_where_it_cannot_run(monkeypatch):
    with pytest.raises(ValueError, match="backend='triton'.*(float64|TRITON_INTERPRET)"):
        flash_lla(*(t.double() for t in inputs(2)), backend="triton")
    assert choose_backend("auto", torch.zeros(1, 1, 8)) == "tiled" and set(BACKENDS) == {
        "auto",
        "triton",
        "tiled",
        "dense",
    }


@pytest.mark.skipif(not runtime.HAS_TRITON, reason="needs Triton")
@pytest.mark.parametrize(
    "gpu, dtype, D, grad, chosen",
    [
        (Gpu((9, 0), 227 * 1024), torch.float32, 128, True, "triton"),
        (Gpu((8, 9), 99 * 1024), torch.bfloat16, 128, True, "triton"),
        (Gpu((8, 9), 99 * 1024), torch.float32, 128, True, "tiled"),
        (Gpu((8, 9), 99 * 1024), torch.float32, 128, False, "triton"),
        (Gpu((7, 5), 64 * 1024), torch.float16, 64, False, "tiled"),
        (Gpu((9, 0), 227 * 1024), torch.float64, 64, False, "tiled"),
        (Gpu((9, 0), 227 * 1024), torch.float16, 192, False, "tiled"),
        (Gpu((9, 4), 64 * 1024, True), torch.float16, 64, False, "tiled"),
    ],
)
def test_auto_never_picks_a_kernel_that_cannot_run(gpu, dtype, D, grad, chosen, monkeypatch):
    monkeypatch.setattr(runtime, "INTERPRET", False)
    monkeypatch.setattr(runtime, "HIP", gpu.hip)
    monkeypatch.setattr(runtime, "describe_gpu", lambda device: gpu)

    class q:
        pass

    q.device, q.dtype, q.shape = torch.device("cuda"), dtype, (1, 1, D)
    assert choose_backend("auto", q, grad) == chosen
    if chosen == "triton" or gpu.hip:
        assert choose_backend("triton", q, grad) == "triton"
    else:
        with pytest.raises(ValueError, match="backend='triton'"):
            choose_backend("triton", q, grad)
    monkeypatch.setattr(runtime, "HAS_TRITON", False)
    assert choose_backend("auto", q, grad) == "tiled"
    with pytest.raises(ValueError, match="not installed"):
        choose_backend("triton", q, grad)


@pytest.mark.slow
@pytest.mark.skipif(not INTERPRET, reason="needs the interpreter")
@pytest.mark.parametrize(
    "dtype, D, kB", [(torch.bfloat16, 128, 99), (torch.float32, 64, 99), (torch.float32, 128, 163)]
)
def test_a_gpu_with_little_memory_gives_the_same_answers(dtype, D, kB, monkeypatch):
    from lla_course.kernels import flash_lla_forward as kernels

    tensors, ridge = inputs(1, T=40, S=45, D=D, dtype=dtype), torch.tensor(0.5)

    def answer():
        return value_and_gradients(flash_lla, tensors, ridge, backend="triton", tol=1e-4)

    usual = answer()
    monkeypatch.setattr(kernels, "describe_gpu", lambda device: Gpu((8, 6), kB * 1024))
    for a, b in zip(answer(), usual):
        assert relative_rms(a, b) < (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.slow
@pytest.mark.skipif(not INTERPRET, reason="needs the interpreter")
def test_the_output_kernel_of_a_gpu_with_little_memory(monkeypatch):
    from lla_course.kernels import flash_lla_forward as kernels

    tensors = inputs(1, T=40, S=45, D=128)
    usual = flash_lla(*tensors, backend="triton")
    monkeypatch.setattr(kernels, "describe_gpu", lambda device: Gpu((8, 6), 99 * 1024))
    # other tiles, other order of sums: equal to the solver's tolerance
    assert relative_rms(flash_lla(*tensors, backend="triton"), usual) < 1e-5
    leaves = [t.requires_grad_() for t in tensors]
    with pytest.raises(ValueError, match="shared memory"):
        flash_lla(*leaves, backend="triton").sum().backward()


# ---- nothing to do


@pytest.mark.parametrize("backend", ["tiled", "dense", interpreted])
@pytest.mark.parametrize(
    "shape, S",
    [
        ((2, 0, 16), 20),
        ((2, 0, 16), 0),
        ((0, 20, 16), 20),
        ((0, 0, 16), 0),
        ((3, 0, 2, 5, 16), 5),
        ((0, 16), 0),
        ((0, 16), 3),
    ],
)
def test_no_query_gets_an_empty_answer_and_no_gradient(shape, S, backend):
    q = torch.randn(shape).requires_grad_()
    k, v = (torch.randn(*shape[:-2], S, 16).requires_grad_() for _ in range(2))
    ridge = torch.tensor(0.1, requires_grad=True)
    for is_causal in (True, False):
        o, info = flash_lla(q, k, v, ridge=ridge, is_causal=is_causal, backend=backend, return_info=True)
        assert o.shape == shape and info["steps"].shape == info["residual"].shape == shape[:-1]
        grads = torch.autograd.grad(o.sum(), (q, k, v, ridge), materialize_grads=True)
        for t, g in zip((q, k, v, ridge), grads):
            assert g.shape == t.shape and not g.any()


@pytest.mark.parametrize("shape", [(2, 0, 16), (0, 5, 16), (0, 0, 16), (0, 16), (3, 0, 5, 16)])
def test_a_layer_gives_an_empty_answer(shape):
    layer, x = LocalLinearAttention(16, 4, num_kv_heads=2, rope_base=1e4), torch.randn(shape).requires_grad_()
    layer(x).sum().backward()
    assert layer(x).shape == x.grad.shape == shape and not any(p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize(
    "knobs, name",
    [
        (dict(embed_dim=30, num_heads=4), "embed_dim"),
        (dict(num_kv_heads=3), "num_kv_heads"),
        (dict(ridge=0.0), "ridge"),
        (dict(embed_dim=12, rope_base=1e4), "embed_dim"),
        (dict(backend="no"), "backend"),
        (dict(tol=-1.0), "tol"),
    ],
)
def test_a_layer_refuses_what_does_not_fit(knobs, name):
    with pytest.raises(ValueError, match=name):
        LocalLinearAttention(**dict(embed_dim=32, num_heads=4) | knobs)


@given(exponent=st.floats(-44.8, 38.5), integer=st.booleans())
def test_a_layer_holds_any_ridge_that_float32_holds(exponent, integer):
    ridge = 10**exponent if not integer or exponent < 0 else int(10**exponent)
    raw = LocalLinearAttention(4, 2, ridge=ridge).raw_ridge
    held = F.softplus(raw.detach().double())
    assert raw.dtype == torch.float32 and ((held - float(ridge)).abs() <= 1e-5 * float(ridge)).all()


def test_numbers_of_numpy_are_numbers():
    q, k, v = inputs(2)
    got = flash_lla(
        q,
        k,
        v,
        ridge=np.float32(0.5),
        scale=np.float64(0.25),
        tol=np.float64(1e-4),
        max_steps=np.int64(4),
        check=False,
    )
    assert torch.equal(got, flash_lla(q, k, v, ridge=0.5, scale=0.25, tol=1e-4, max_steps=4, check=False))
    assert torch.isfinite(flash_lla(q, k, v, scale=np.float32(0.3), ridge=np.int64(1))).all()
    layer = LocalLinearAttention(
        np.int64(8), np.int32(2), ridge=np.float32(0.5), max_steps=np.int64(3), tol=np.float32(0.1)
    )
    assert layer(torch.randn(3, 8)).shape == (3, 8)


@pytest.mark.parametrize("lead", [(), (2,), (3, 2), (2, 1, 3)])
def test_a_layer_takes_any_leading_dimensions(lead):
    layer, x = LocalLinearAttention(16, 4, num_kv_heads=2, rope_base=1e4), torch.randn(*lead, 7, 16)
    assert torch.allclose(layer(x), layer(x.reshape(-1, 7, 16)).reshape(x.shape), atol=1e-5)


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(16),
        torch.randn(2, 5, 15),
        torch.tensor(1.0),
        torch.randn(5, 16).double(),
        torch.randn(5, 16).half(),
        torch.ones(5, 16).long(),
        torch.randn(5, 16).to(torch.complex64),
        torch.eye(16).to_sparse(),
        torch.eye(16).to_sparse_csr(),
        torch.nested.nested_tensor([torch.ones(3, 16), torch.ones(2, 16)]),
        [[0.0] * 16],
        np.zeros((5, 16)),
        None,
    ],
)
def test_a_layer_names_x(x):
    with pytest.raises(ValueError, match="^x[.=].*expected"):
        LocalLinearAttention(16, 4)(x)


@pytest.mark.parametrize(
    "bad, name",
    [
        ((-4, 2), "embed_dim"),
        ((8, "2"), "num_heads"),
        ((4, 2.0), "num_heads"),
        ((0, 1), "embed_dim"),
        ((8, 0), "num_heads"),
        ((True, 1), "embed_dim"),
        ((8.0, 2), "embed_dim"),
        ((8, None), "num_heads"),
    ],
)
def test_a_layer_has_whole_sizes(bad, name):
    with pytest.raises(ValueError, match=name):
        LocalLinearAttention(*bad)


# ---- rotary positions


def exact_rotary(x, base):
    "In numpy, float64."
    x = x.double().numpy()
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[-2])[:, None] * float(base) ** (-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.from_numpy(
        np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], -1)
    )


@pytest.mark.parametrize("default", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_rotary_angles_are_exact_whatever_the_default_dtype(default):
    x, before = torch.randn(65537, 4, dtype=torch.float64), torch.get_default_dtype()
    try:
        torch.set_default_dtype(default)
        assert (rotary(x, 1e4) - exact_rotary(x, 1e4)).abs().max() < 1e-10
        short = x[:2000]
        for dtype, most in ((torch.float32, 5e-4), (torch.bfloat16, 0.02), (torch.float16, 3e-3)):
            got, wanted = rotary(short.to(dtype), 1e4), exact_rotary(short.to(dtype), 1e4)
            assert got.dtype == dtype and (got.double() - wanted).abs().max() < most
    finally:
        torch.set_default_dtype(before)


# ---- a solver that does not finish


def hard(dtype=torch.float32):
    q, k, v = inputs(2, T=70, S=70, dtype=dtype)
    return q, 8 * k, v


def count(*actions, times=3):
    "How many warnings a line of code shows that calls `flash_lla` several times."
    q, k, v = hard()
    with warnings.catch_warnings(record=True) as told:
        for action in actions:
            warnings.simplefilter(action, SolverWarning)
        for steps in range(2, 2 + times):
            flash_lla(q, k, v, ridge=1e-6, max_steps=steps)
    return [w for w in told if w.category is SolverWarning]


def line_of(warning):
    return Path(warning.filename).read_text().splitlines()[warning.lineno - 1]


def test_an_unfinished_solver_warns_once_a_call_site():
    (one,) = count("default")
    q, k, v = hard()
    residual = flash_lla(q, k, v, ridge=1e-6, max_steps=2, return_info=True)[1]["residual"]
    text = str(one.message)
    assert issubclass(SolverWarning, UserWarning) and one.filename == __file__
    assert "ridge=1e-6, max_steps=steps)" in line_of(one)
    assert f"{int((residual > 1e-4).sum())} of 140 rows" in text and f"{residual.max():.1e}" in text
    assert "max_steps" in text and "ridge" in text
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(2):
            flash_lla(q, k, v, max_steps=1)
        flash_lla(q, k, v, max_steps=2)
    assert len(told) == 2


def test_filters_decide_what_a_warning_does():
    assert len(count("always")) == 3 and count("ignore") == [] and len(count("default", "always")) == 3
    with pytest.raises(SolverWarning, match="rows of flash_lla"):
        count("error")


def test_what_silences_the_warning():
    q, k, v = hard()
    compiled = torch.compile(
        lambda q, k, v: flash_lla(q, k, v, max_steps=2), fullgraph=True, backend="aot_eager"
    )
    compiled(q, k, v)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(q, k, v)
        flash_lla(q, k, v, max_steps=2, return_info=True)
        flash_lla(q, k, v, max_steps=2, check=False)
        flash_lla(q, k, v, max_steps=0)  # softmax attention, on purpose
        flash_lla(q, k, v, max_steps=2, backend="dense")  # no iteration
        LocalLinearAttention(32, 2, max_steps=1, check=False)(torch.randn(2, 9, 32))
        for dtype in (torch.bfloat16, torch.float32, torch.float64):
            flash_lla(*inputs(4, T=128, S=128, dtype=dtype))


def test_transformations_warn_too():
    q, k, v = hard()
    for f in (
        torch.vmap(lambda q, k, v: flash_lla(q, k, v, max_steps=2)),
        torch.func.grad(lambda q, k, v: flash_lla(q, k, v, max_steps=2).sum()),
    ):
        with pytest.warns(SolverWarning, match="rows of flash_lla"):
            f(q, k, v)


def test_a_layer_warns_at_its_caller():
    layer = torch.nn.Sequential(LocalLinearAttention(32, 2, max_steps=1))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            layer(torch.randn(2, 9, 32))
    (one,) = told
    assert (one.category, one.filename) == (SolverWarning, __file__) and "layer(torch" in line_of(one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_floored_ridge_has_no_gradient_and_dense_has_the_same_floor(dtype):
    q, k, v = inputs(2, dtype=dtype)
    for backend in ("tiled", "dense", *(["triton"] if INTERPRET and dtype == torch.float32 else [])):
        ridge = torch.tensor([[1e-12], [0.5]], dtype=dtype, requires_grad=True)
        o = flash_lla(q, k, v, ridge=ridge, backend=backend)
        (g,) = torch.autograd.grad(o.square().sum(), ridge)
        assert g[0] == 0 and g[1] != 0
        if backend == "tiled":
            reference = o
        assert relative_rms(o, reference) < (1e-3 if dtype == torch.float32 else 1e-6)


def test_a_layer_is_causal_and_learns_its_ridge():
    torch.manual_seed(0)
    layer = LocalLinearAttention(32, 4, num_kv_heads=2, rope_base=1e4)
    x = torch.randn(2, 12, 32)
    before = layer(x)
    x2 = x.clone()
    x2[:, 7:] += 1
    assert torch.equal(layer(x2)[:, :7], before[:, :7]) and not torch.equal(layer(x2)[:, 7:], before[:, 7:])
    with torch.no_grad():
        loose = LocalLinearAttention(32, 4, num_kv_heads=2, rope_base=1e4, tol=0.01)
        loose.load_state_dict(layer.state_dict())
        off = (loose(x) - before).norm() / before.norm()
    assert 1e-6 < off < 0.01
    before.square().mean().backward()
    assert (
        layer.raw_ridge.grad.abs().min() > 0
        and not LocalLinearAttention(32, 4, learn_ridge=False).raw_ridge.requires_grad
    )


def test_a_layer_is_attention_of_normalised_rotated_grouped_heads_with_a_ridge_a_head():
    torch.manual_seed(0)
    layer, x = (
        LocalLinearAttention(24, 4, num_kv_heads=2, rope_base=100.0, tol=1e-12).double(),
        torch.randn(9, 24),
    )
    x = x.double()
    with torch.no_grad():
        layer.raw_ridge.copy_(torch.tensor([[-20.0], [-1.0], [0.0], [3.0]]))
    heads = lambda t: t.unflatten(-1, (-1, 6)).transpose(0, 1)
    q, k, v = heads(layer.to_q(x)), heads(layer.to_k(x)), heads(layer.to_v(x))
    q, k = (rotary(F.rms_norm(t, (6,), eps=torch.finfo(t.dtype).eps), 100.0) for t in (q, k))
    ridge = F.softplus(layer.raw_ridge)
    assert ridge.shape == (4, 1) and (ridge > 0).all()
    o = lla_dense(q, k, v, ridge=ridge, enable_gqa=True, floor=1e-8)
    want = layer.to_out(o.transpose(0, 1).flatten(1))
    assert relative_rms(layer(x), want) < 1e-6


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize("name", ["q", "k", "v", "ridge", "probe", "key_lengths", "cu_seqlens_q"])
def test_a_mask_is_refused_by_name(name):
    q, k, v = inputs(2)
    numbers = dict(q=q, k=k, v=v, ridge=q[..., 0].abs(), probe=q, key_lengths=torch.tensor([4, 9]))
    plain = numbers[name] if name in numbers else torch.tensor([0, 20])
    given = dict(q=q, k=k, v=v) | {name: torch.masked.masked_tensor(plain, plain > 0)}
    if name == "key_lengths":
        given |= {n: t[:, None] for n, t in dict(q=q, k=k, v=v).items()}
    with pytest.raises(ValueError, match=f"^{name}='MaskedTensor': expected"):
        flash_lla(**given)


@pytest.mark.parametrize("mode", ["none", "probe"])
def test_unwatched_calls_do_what_the_operator_does(mode):
    q, k, v = (torch.randn(2, 3, 20, 8, requires_grad=True) for _ in range(3))
    ridge = torch.rand(3, 1).requires_grad_()
    given = dict(probe=torch.randn(2, 3, 20, 8).requires_grad_(), max_steps=0) if mode == "probe" else {}
    tensors = [q, k, v, ridge, *given.values()][: 5 if mode == "probe" else 4]

    def both():
        o = flash_lla(q, k, v, ridge=ridge, **given)
        return o, *torch.autograd.grad(o.square().sum(), tensors)

    alone = both()
    with FlopCounterMode(display=False) as counter:
        watched = both()
    assert {str(op) for op in counter.flop_counts["Global"]} == {
        "lla_course.flash_forward",
        "lla_course.flash_backward",
    }
    assert all(map(torch.equal, alone, watched))


@pytest.mark.parametrize("mode", ["solver", "probe"])
@pytest.mark.parametrize("first", [True, False])
def test_what_is_computed_anew_may_be_watched_where_the_first_pass_was_not(mode, first):
    q, k, v = (t.requires_grad_() for t in inputs(2, T=6, S=6, D=8))
    given = dict(probe=q.detach().flip(0), max_steps=0) if mode == "probe" else {}
    # whoever counts operations sees one pass of the two
    watch = [FlopCounterMode(display=False), nullcontext()][:: 1 if first else -1]
    with watch[0]:
        o = checkpoint(partial(flash_lla, **given), q, k, v, use_reentrant=False)
    with watch[1]:
        again = torch.autograd.grad(o.square().sum(), (q, k, v))
    want = torch.autograd.grad(flash_lla(q, k, v, **given).square().sum(), (q, k, v))
    assert all(map(torch.equal, again, want))


ON_CPU = ["tiled", pytest.param("triton", marks=pytest.mark.skipif(not INTERPRET, reason="on the CPU"))]


@pytest.mark.parametrize("backend", ON_CPU)
def test_what_is_told_of_the_solver_may_be_changed_in_place(backend):
    q, k, v = (t.requires_grad_() for t in inputs(2, T=6, S=6, D=8))
    o, info = flash_lla(q, k, v, backend=backend, return_info=True)
    for told in info.values():
        told.zero_()
    want = torch.autograd.grad(flash_lla(q, k, v, backend=backend).sum(), q)[0]
    assert torch.equal(torch.autograd.grad(o.sum(), q)[0], want)


@pytest.mark.parametrize("backend", ON_CPU)
def test_settings_beyond_32_bits_mean_what_they_say(backend):
    q, k, v = (t.requires_grad_() for t in inputs(2, T=6, S=6, D=8))

    def both(**settings):
        o = flash_lla(q, k, v, backend=backend, **settings)
        return o, *torch.autograd.grad(o.sum(), (q, k, v))

    for beyond, within in (
        ({"max_steps": 2**31}, {}),
        ({"max_steps": 2**70}, {}),
        ({"tol": 1e200}, {"tol": 100}),
    ):
        want = both(**within)
        assert all(map(torch.equal, both(**beyond), want))
        with FlopCounterMode(display=False):  # through the operator
            assert all(map(torch.equal, both(**beyond), want))


@pytest.mark.parametrize("backend", ["dense", *ON_CPU])
def test_the_usual_device_has_no_say(backend):
    q, k, v = (t.requires_grad_() for t in inputs(2, T=6, S=6, D=8))
    lengths, calls = torch.tensor([3, 6]), [{}, dict(window=(2, 0)), dict(probe=q.detach(), max_steps=0)]
    calls += [dict(key_lengths=lengths), dict(query_lengths=lengths)]

    def answers():
        found = []
        for knobs in calls:
            ragged = (
                [t[:, None] for t in (q, k, v)]
                if knobs.keys() & {"key_lengths", "query_lengths"}
                else (q, k, v)
            )
            o = flash_lla(*ragged, backend=backend, **knobs)
            found += [o, *torch.autograd.grad(o.sum(), (q, k, v))]
        return found

    want = answers()
    with torch.device("meta"):
        assert all(map(torch.equal, answers(), want))


def minus(t):
    "The same numbers in a view that promises a sign, and memory of the opposite sign."
    return torch._neg_view(-t)


@pytest.mark.parametrize("backend", ON_CPU)
def test_a_promised_sign_is_read(backend):
    q, k, v = inputs(2, T=6, S=6, D=8)
    u, ridge, g = q.flip(0), torch.full((2, 6), 0.1), v.flip(1)

    def answers(sign, **knobs):
        tensors = [t.clone().requires_grad_() for t in (q, k, v, ridge)]
        *qkv, r = (sign(t) for t in tensors)
        o = flash_lla(*qkv, ridge=r, backend=backend, **knobs)
        return o, *torch.autograd.grad(o, tensors, sign(g), allow_unused=True)

    for a, b in zip(answers(lambda t: t), answers(minus), strict=True):
        assert torch.equal(a, b)
    taken = [flash_lla(q, k, v, probe=p, max_steps=0, backend=backend) for p in (u, minus(u))]
    assert torch.equal(*taken)


@pytest.mark.parametrize("backend", ON_CPU)
def test_zeros_without_memory_are_zeros(backend):
    q, k, v = inputs(2, T=6, S=6, D=8)
    q.requires_grad_()
    o = flash_lla(q, k, v, backend=backend)
    assert not torch.autograd.grad(o, q, torch._efficientzerotensor(o.shape))[0].any()
    zeros = [make((2, 6, 8)) for make in (torch._efficientzerotensor, torch.zeros)]
    assert torch.equal(*(flash_lla(z, k, v, backend=backend) for z in zeros))


def spread(t):
    "The same numbers, not side by side in memory."
    return t.new_zeros(*t.shape, 2).index_copy(-1, torch.tensor([0]), t[..., None])[..., 0]


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("change", [spread, lambda t: minus(t) if t.is_floating_point() else t])
def test_what_was_saved_may_come_back_in_another_order_of_memory(backend, change):
    tensors = [t.requires_grad_() for t in inputs(2, T=6, S=6, D=8)]
    before = torch.autograd.grad(flash_lla(*tensors, backend=backend).sin().sum(), tensors)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, change):
        o = flash_lla(*tensors, backend=backend)
        after = torch.autograd.grad(o.sin().sum(), tensors)
    for a, b in zip(before, after):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", ON_CPU)
def test_a_graph_before_dispatch_has_the_operator(backend):
    q, k, v = inputs(2, T=6, S=6, D=8)
    call = lambda *qkv: flash_lla(*qkv, ridge=torch.tensor(0.2), backend=backend)
    graph = make_fx(call, pre_dispatch=True)(q, k, v)
    assert "lla_course.flash_forward" in graph.code
    assert torch.equal(graph(k, q, v), call(k, q, v))
    with pytest.raises(ValueError, match="cu_seqlens_q='unknown numbers'"):
        make_fx(lambda *qkv: flash_lla(*qkv, cu_seqlens_q=torch.tensor([0, 6])), pre_dispatch=True)(q, k, v)


@pytest.mark.parametrize("backend", ON_CPU)
def test_compiled_autograd_reads_the_gradient(backend):
    from torch._dynamo import compiled_autograd

    tensors = [t.requires_grad_() for t in inputs(2, T=6, S=6, D=8)]
    before = torch.autograd.grad(flash_lla(*tensors, backend=backend).sum(), tensors)
    loss = flash_lla(*tensors, backend=backend).sum()
    whole = lambda graph: torch.compile(graph, backend="eager", fullgraph=True)
    with compiled_autograd._enable(whole):
        loss.backward()
    assert all(torch.equal(a, t.grad) for a, t in zip(before, tensors))


def test_a_nested_tensor_is_called_nested():
    with pytest.raises(ValueError, match="q.layout='nested'"):
        flash_lla(torch.nested.nested_tensor([torch.ones(3, 8)] * 2), *torch.ones(2, 2, 3, 8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_function_before_autograd_can_be_traced():
    def gradients(f, q, k, v):
        return torch.autograd.grad(f(q, k, v).square().sum(), (q, k, v))

    tensors = [t.requires_grad_() for t in inputs(2, T=6, S=6, D=8)]
    assert all(
        map(torch.equal, gradients(aot_function(flash_lla, nop), *tensors), gradients(flash_lla, *tensors))
    )
    ragged = [t.detach() for t in tensors] + [torch.tensor([3, 6])]
    with pytest.raises(ValueError, match="key_lengths='unknown numbers'"):
        aot_function(lambda q, k, v, n: flash_lla(q[:, None], k[:, None], v[:, None], key_lengths=n), nop)(
            *ragged
        )
