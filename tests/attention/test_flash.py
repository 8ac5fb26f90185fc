"The door `flash_lla` and the layer behind it: backends, transformations of PyTorch, bad input."
import pytest, torch
from torch.nn import functional as F

import lla_course
from lla_course import LocalLinearAttention, flash_lla
from lla_course.attention.dense import lla_dense
from lla_course.attention.flash import BACKENDS, choose_backend, toy_losses
from lla_course.kernels.setup import INTERPRET


def inputs(*lead, T=20, S=20, D=16, Hkv=None, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed); make = lambda shape, n: torch.randn(*shape, n, D, generator=g).to(dtype)
    kv = lead if Hkv is None else (*lead[:-1], Hkv)
    return make(lead, T), make(kv, S), make(kv, S)


rms = lambda a, b: float((a.double() - b.double()).norm() / b.double().norm())
loss = lambda q, k, v, ridge: flash_lla(q, k, v, ridge=ridge).square().mean()


def test_the_public_names():
    for name in ("flash_lla", "LocalLinearAttention", "lla_decode"): assert callable(getattr(lla_course, name)) and name in dir(lla_course)


@pytest.mark.parametrize("lead, knobs", [((), {}), ((3,), {}), ((2, 4), dict(Hkv=2)), ((2, 1, 4), dict(Hkv=1)), ((2,), dict(T=7, S=31)), ((2,), dict(T=31, S=7))])
@pytest.mark.parametrize("is_causal", [True, False])
def test_backends_agree_on_every_shape(lead, knobs, is_causal):
    q, k, v = inputs(*lead, **knobs); settings = dict(is_causal=is_causal, enable_gqa="Hkv" in knobs)
    for backend in ("tiled", "auto"):
        o = flash_lla(q, k, v, backend=backend, **settings)
        assert o.shape == q.shape and rms(o, flash_lla(q, k, v, backend="dense", **settings)) < 1e-4
    assert rms(flash_lla(q, k, v, max_steps=0, **settings), F.scaled_dot_product_attention(q, k, v, **settings)) < 1e-5


@pytest.mark.skipif(not INTERPRET, reason="needs the interpreter")
def test_triton_through_the_door_with_its_gradients():
    q, k, v = (t.requires_grad_() for t in inputs(2, 2, Hkv=1, T=33, S=33)); ridge = torch.rand(2, 1).add(.1).requires_grad_()
    def grads(backend): return torch.autograd.grad(flash_lla(q, k, v, ridge=ridge, enable_gqa=True, backend=backend, tol=1e-6).square().sum(), (q, k, v, ridge))
    for ours, tiles in zip(grads("triton"), grads("tiled")): assert rms(ours, tiles) < 1e-4


def test_gradcheck_through_the_operator():
    q, k, v = (t.double().requires_grad_() for t in inputs(2, Hkv=1, T=6, S=6, D=3)); ridge = torch.rand(2, 6, dtype=torch.float64).add(.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: flash_lla(*x[:3], ridge=x[3], enable_gqa=True, tol=1e-12), (q, k, v, ridge))


def test_steps_and_residuals_are_told():
    q, k, v = inputs(2, 3)
    o, info = flash_lla(q, k, v, return_info=True)
    assert info["steps"].shape == info["residual"].shape == (2, 3, 20) and (info["residual"] <= 1e-5).all() and info["steps"].max() > 3
    assert torch.equal(o, flash_lla(q, k, v)) and set(flash_lla(q, k, v, backend="dense", return_info=True)[1]) == set(info)


def test_a_second_derivative_is_refused_in_words():
    q, k, v = inputs(2); q.requires_grad_()
    g, = torch.autograd.grad(flash_lla(q, k, v).sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="lla_dense"): g.sum().backward()


def test_compiled_it_gives_the_same_value_and_gradients():
    q, k, v = inputs(2, 2); compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    leaves = [t.requires_grad_() for t in (q, k, v, torch.tensor(.3))]
    for a, b in zip(torch.autograd.grad(compiled(*leaves), leaves), torch.autograd.grad(loss(*leaves), leaves)): assert torch.equal(a, b)


def test_the_fake_results_are_like_the_real_ones():
    from torch._subclasses.fake_tensor import FakeTensorMode
    for T in (1, 70):
        args = [t for t in inputs(2, T=T, S=T)] + [torch.full((2, T), .1), .25, True, 1e-5, 32]
        for backend in ("tiled", "triton") if INTERPRET else ("tiled",):
            real = torch.ops.lla_course.flash_forward(*args, backend)
            with FakeTensorMode() as mode: fake = torch.ops.lla_course.flash_forward(*(mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in args), backend)
            assert [(t.shape, t.dtype) for t in fake] == [(t.shape, t.dtype) for t in real]


def test_vmap_folds_the_mapped_dimension():
    q, k, v = inputs(3, 2); ridges = torch.logspace(-2, 1, 4).requires_grad_()
    mapped = torch.vmap(loss, in_dims=(None, None, None, 0))(q, k, v, ridges)
    assert torch.allclose(mapped, torch.stack([loss(q, k, v, r) for r in ridges]))
    mapped.sum().backward()
    assert torch.allclose(ridges.grad, torch.stack([torch.autograd.grad(loss(q, k, v, r), r)[0] for r in ridges.detach().requires_grad_().unbind()]))
    assert torch.equal(torch.vmap(flash_lla, in_dims=1, out_dims=1)(q, k, v), flash_lla(q, k, v))


def test_autocast_casts():
    q, k, v = inputs(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert flash_lla(q, k, v).dtype == torch.bfloat16 and LocalLinearAttention(32, 2)(torch.randn(2, 5, 32)).isfinite().all()


@pytest.mark.parametrize("knobs, name", [(dict(ridge=-1.), "ridge"), (dict(ridge=torch.tensor([float("nan")] * 20)), "ridge"), (dict(backend="cuda"), "backend"), (dict(tol=-1.), "tol"),
                                         (dict(max_steps=-1), "max_steps"), (dict(max_steps=1.5), "max_steps"), (dict(scale=float("inf")), "scale"), (dict(is_causal=1), "is_causal")])
def test_bad_settings_are_named(knobs, name):
    with pytest.raises(ValueError, match=name): flash_lla(*inputs(2), **knobs)


def test_triton_is_refused_where_it_cannot_run(monkeypatch):
    with pytest.raises(ValueError, match="backend='triton'.*float64"): flash_lla(*(t.double() for t in inputs(2)), backend="triton")
    assert choose_backend("auto", torch.zeros(1, 1, 8)) == "tiled" and set(BACKENDS) == {"auto", "triton", "tiled", "dense"}


def test_nothing_to_do():
    q, k, v = inputs(2)
    assert flash_lla(q[:, :0], k, v).shape == (2, 0, 16) and flash_lla(q[:0], k[:0], v[:0]).shape == (0, 20, 16)


@pytest.mark.parametrize("knobs, name", [(dict(embed_dim=30, num_heads=4), "embed_dim"), (dict(num_kv_heads=3), "num_kv_heads"), (dict(ridge=0.), "ridge"),
                                         (dict(embed_dim=12, rope_base=1e4), "embed_dim"), (dict(backend="no"), "backend"), (dict(tol=-1.), "tol")])
def test_a_layer_refuses_what_does_not_fit(knobs, name):
    with pytest.raises(ValueError, match=name): LocalLinearAttention(**dict(embed_dim=32, num_heads=4) | knobs)


def test_a_layer_is_causal_and_learns_its_ridge():
    torch.manual_seed(0); layer = LocalLinearAttention(32, 4, num_kv_heads=2, rope_base=1e4); x = torch.randn(2, 12, 32)
    before = layer(x); x2 = x.clone(); x2[:, 7:] += 1
    assert torch.equal(layer(x2)[:, :7], before[:, :7]) and not torch.equal(layer(x2)[:, 7:], before[:, 7:])
    with torch.no_grad(): loose = LocalLinearAttention(32, 4, num_kv_heads=2, rope_base=1e4, tol=.01); loose.load_state_dict(layer.state_dict()); off = (loose(x) - before).norm() / before.norm()
    assert 1e-6 < off < .01
    before.square().mean().backward()
    assert layer.raw_ridge.grad.abs().min() > 0 and not LocalLinearAttention(32, 4, learn_ridge=False).raw_ridge.requires_grad


def test_the_toy_learns():
    "Over forty steps the loss falls by more than four standard errors of its mean."
    losses = torch.tensor(toy_losses("tiled", torch.device("cpu"), 60, 0)); first, last = losses[:20], losses[-20:]
    assert (first.mean() - last.mean()) / (first.var() / 20 + last.var() / 20).sqrt() > 4
