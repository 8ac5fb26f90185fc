"""A probe: the direction of the correction, given instead of solved for, or where the solver begins.

The ladder of truth: equation, dense formula, tiles, kernels."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from helpers import DEVICE, needs_kernels, random_heads, relative_rms
from lla_course import flash_lla
from lla_course.attention.dense import as_heads, dense_attention
from lla_course.attention.tiled import lla_tiled

SHAPES = {
    "causal": dict(),
    "full": dict(is_causal=False),
    "grouped": dict(Hkv=2),
    "last queries": dict(T=7, S=31),
    "more queries": dict(T=31, S=7, is_causal=False),
    "many tiles": dict(T=70, S=150),
    "window": dict(window=(5, 0)),
    "long values": dict(Dv=24),
}


def problem(T=20, S=20, D=16, Dv=None, H=4, Hkv=None, dtype=torch.float64, **knobs):
    kv = (2, Hkv or H, S)
    shapes = (2, H, T, D), (*kv, D), (*kv, Dv or D), (2, H, T, D)
    return random_heads(*shapes, dtype=dtype), knobs | dict(enable_gqa=Hkv is not None)


def by_equation(q, k, v, u, is_causal=True, enable_gqa=False, window=None):
    "o = vbar + sum of p_j (v_j - vbar) ((k_j - kbar).u), one query after the other."
    o, (T, D), S = torch.empty(*q.shape[:-1], v.shape[-1], dtype=q.dtype), q.shape[-2:], k.shape[-2]
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            own = h // (q.shape[1] // k.shape[1])
            for i in range(T):
                end = S - T + i + 1 if is_causal else S
                begin = max(0, end - 1 - window[0]) if window else 0
                keys, values = k[b, own, begin:end], v[b, own, begin:end]
                p = (keys @ q[b, h, i] / D**0.5).softmax(0)
                kbar, vbar = p @ keys, p @ values
                o[b, h, i] = vbar + (p * ((keys - kbar) @ u[b, h, i])) @ (values - vbar)
    return o


@pytest.mark.parametrize("backend", ["dense", "tiled"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_step_is_the_equation(shape, backend):
    (q, k, v, u), knobs = problem(**shape)
    o, info = flash_lla(q, k, v, probe=u, max_steps=0, backend=backend, return_info=True, **knobs)
    assert relative_rms(o, by_equation(q, k, v, u, **knobs)) < 1e-13
    assert (info["steps"] == 0).all() and info["residual"].isnan().all()


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_with_our_solution_it_is_our_answer_and_with_zero_it_is_softmax(backend):
    (q, k, v, u), knobs = problem(Hkv=2, T=33, S=40)
    solution = dense_attention(as_heads(q, k, v, ridge=0.1, **knobs)).u.reshape(q.shape)
    answer = flash_lla(q, k, v, backend="dense", **knobs)
    found = flash_lla(q, k, v, probe=solution, max_steps=0, backend=backend, **knobs)
    assert relative_rms(found, answer) < 1e-12
    mask = torch.ones(33, 40, dtype=torch.bool).tril(7)
    softmax = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    nothing = flash_lla(q, k, v, probe=0 * u, max_steps=0, backend=backend, **knobs)
    assert relative_rms(nothing, softmax) < 1e-13
    # the answer is affine in u: nowhere else does it stand
    double = flash_lla(q, k, v, probe=2 * solution, max_steps=0, backend=backend, **knobs)
    assert relative_rms(double - answer, answer - softmax) < 1e-11


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("backend", ["tiled", "dense", pytest.param("triton", marks=needs_kernels)])
def test_rounding_grows_with_a_long_probe_and_not_in_the_dense_formula(size, backend):
    (q, k, v, u), _ = problem(T=40, S=40, dtype=torch.float32)
    wide = [t.double() for t in (q, k, v, size * u)]
    largest = (wide[3] @ wide[1].mT).abs().max()
    given = [t.to(DEVICE) if backend == "triton" else t for t in (q, k, v, size * u)]
    off = relative_rms(
        flash_lla(*given[:3], probe=given[3], max_steps=0, backend=backend), by_equation(*wide)
    )
    assert off < (1e-7 if backend == "dense" else 4 * torch.finfo(torch.float32).eps * largest)


def test_the_sign_is_that_of_parallax_with_r_minus_u():
    (q, k, v, r), _ = problem()
    s1, s2 = q @ k.mT / 4, r @ k.mT  # the published form: (1 + d2 / d1) o1 / d1 - o2 / d1
    p = s1.masked_fill(torch.ones(20, 20).triu(1) > 0, -torch.inf).softmax(-1)
    published = (1 + (p * s2).sum(-1, keepdim=True)) * (p @ v) - (p * s2) @ v
    assert relative_rms(flash_lla(q, k, v, probe=-r, max_steps=0), published) < 1e-13
    assert relative_rms(flash_lla(q, k, v, probe=r, max_steps=0), published) > 0.1


@pytest.mark.parametrize("backend", ["dense", "tiled"])
@pytest.mark.parametrize("shape", [dict(), dict(Hkv=1, T=3, S=6), dict(is_causal=False), dict(window=(2, 0))])
def test_no_step_has_the_whole_gradient(shape, backend):
    (q, k, v, u), knobs = problem(**(dict(T=6, S=6, D=3, H=2) | shape))
    leaves = [t.requires_grad_() for t in (q, k, v, u)]
    f = lambda q, k, v, u: flash_lla(q, k, v, probe=u, max_steps=0, backend=backend, **knobs)
    assert torch.autograd.gradcheck(f, leaves)
    ridge = torch.full((2, 1), 0.3, dtype=q.dtype, requires_grad=True)
    flash_lla(q, k, v, ridge=ridge, probe=u, max_steps=0, **knobs).sum().backward()
    assert (ridge.grad == 0).all()


def test_tiles_have_the_gradient_of_the_formula_over_many_tiles():
    (q, k, v, u), knobs = problem(T=100, S=150, Hkv=2)
    leaves = [t.requires_grad_() for t in (q, k, v, u)]
    grads = [
        torch.autograd.grad(
            flash_lla(q, k, v, probe=u, max_steps=0, backend=backend, **knobs).square().sum(), leaves
        )
        for backend in ("tiled", "dense")
    ]
    for ours, truth in zip(*grads):
        assert relative_rms(ours, truth) < 1e-12


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [dict(), dict(Hkv=1), dict(T=20, S=41), dict(is_causal=False), dict(Dv=8)])
def test_kernels_take_a_probe_as_it_is(shape, dtype):
    (q, k, v, u), knobs = problem(**(dict(T=40, S=40, H=2, dtype=dtype) | shape))
    (g,) = random_heads((2, 2, q.shape[2], v.shape[-1]), dtype=dtype, seed=1)

    def value_and_gradients(backend, cast):
        leaves = [t.to(DEVICE).to(cast).requires_grad_() for t in (q, k, v, u)]
        o = flash_lla(*leaves[:3], probe=leaves[3], max_steps=0, backend=backend, **knobs)
        return o, *torch.autograd.grad(o, leaves, g.to(o))

    ours, truth = value_and_gradients("triton", dtype), value_and_gradients("dense", torch.float64)
    same = value_and_gradients("tiled", dtype)
    least = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 2e-3}[dtype]
    for name, a, b, t in zip(("o", "dq", "dk", "dv", "du"), ours, same, truth):
        off, beside = relative_rms(a, t), relative_rms(b, t)
        assert off < max(3 * beside, least), (name, off, beside)


@needs_kernels
def test_kernels_leave_a_start_to_the_tiles():
    (q, k, v, u), _ = problem(dtype=torch.float32)
    q, k, v, u = (t.to(DEVICE) for t in (q, k, v, u))
    with pytest.raises(ValueError, match="probe.*max_steps=0.*'tiled'"):
        flash_lla(q, k, v, probe=u, backend="triton")
    auto = flash_lla(q, k, v, probe=u)
    assert torch.equal(auto, flash_lla(q, k, v, probe=u, backend="tiled"))


def test_a_start_saves_steps_and_does_not_change_the_answer():
    (q, k, v, noise), knobs = problem(T=60, S=90)
    heads = as_heads(q, k, v, ridge=0.03)
    solution = dense_attention(heads, floor=1e-8).u.reshape(q.shape)
    ask = lambda **more: flash_lla(q, k, v, ridge=0.03, return_info=True, **more)
    nearby = solution + 1e-3 * noise * solution.norm(dim=-1, keepdim=True) / 4
    cold, near = ask(), ask(probe=nearby)
    exact, far = ask(probe=solution), ask(probe=1e3 * noise)
    for o, info in (cold, near, exact, far):
        assert relative_rms(o, ask(backend="dense")[0]) < 1e-9 and (info["residual"] <= 1e-10).all()
    assert (exact[1]["steps"] == 0).all()
    coarse = [ask(probe=p, tol=1e-4)[1]["steps"].double().mean() for p in (None, nearby)]
    assert coarse[1] < coarse[0] - 3
    # a row that a probe does not help begins at zero: the same iterates, and so the same steps
    assert torch.equal(far[1]["steps"], cold[1]["steps"]) and torch.equal(far[0], cold[0])


def test_a_few_steps_from_a_start_are_nearer_than_without():
    (q, k, v, noise), _ = problem(T=60, S=90)
    solution = lla_tiled(as_heads(q, k, v, ridge=0.03), tol=1e-13).u.reshape(q.shape)
    answer = flash_lla(q, k, v, ridge=0.03, backend="dense")
    start = solution + 0.1 * noise * solution.norm(dim=-1, keepdim=True) / 4
    for n in (1, 2, 4):
        told = dict(ridge=0.03, max_steps=n, tol=0.0, check=False)
        off = [relative_rms(flash_lla(q, k, v, probe=p, **told), answer) for p in (None, start)]
        assert off[1] < off[0] / 3


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_a_start_has_the_gradient_zero_and_the_others_are_implicit(backend):
    (q, k, v, u), _ = problem(T=12, S=12, D=4)
    leaves = [t.requires_grad_() for t in (q, k, v, u)]
    own = flash_lla(q, k, v, probe=u, backend=backend, tol=1e-13).square().sum()
    *others, du = torch.autograd.grad(own, leaves)
    assert (du == 0).all()
    plain = flash_lla(q, k, v, backend=backend, tol=1e-13).square().sum()
    for a, b in zip(others, torch.autograd.grad(plain, leaves[:3])):
        assert relative_rms(a, b) < 1e-10


def test_ragged_calls_give_each_sequence_its_own_probes():
    (q, k, v, u), _ = problem(T=20, S=20, H=2)
    q, k, v, u = (t[0] for t in (q, k, v, u))
    cut = torch.tensor([0, 3, 11, 20])
    for n in (0, 50):
        packed = flash_lla(q, k, v, probe=u, max_steps=n, cu_seqlens_q=cut)
        for a, b in zip(cut, cut[1:]):
            alone = flash_lla(*(t[:, a:b] for t in (q, k, v)), probe=u[:, a:b], max_steps=n)
            assert relative_rms(packed[:, a:b], alone) < 1e-12
        padded = flash_lla(q, k, v, probe=u, max_steps=n, key_lengths=torch.tensor(7).reshape(()))
        alone = flash_lla(*(t[:, :7] for t in (q, k, v)), probe=u[:, :7], max_steps=n)
        assert relative_rms(padded[:, :7], alone) < 1e-12 and (padded[:, 7:] == 0).all()


def test_it_compiles_maps_and_differentiates_as_a_function():
    (q, k, v, u), _ = problem(dtype=torch.float32)
    loss = lambda q, k, v, u: flash_lla(q, k, v, probe=u, max_steps=0).square().mean()
    leaves = [t.requires_grad_() for t in (q, k, v, u)]
    plain = torch.autograd.grad(loss(*leaves), leaves)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for a, b in zip(torch.autograd.grad(compiled(*leaves), leaves), plain):
        assert relative_rms(a, b) < 1e-6
    given = [t.detach() for t in leaves]
    for a, b in zip(torch.func.grad(loss, argnums=(0, 1, 2, 3))(*given), plain):
        assert relative_rms(a, b) < 1e-6
    each = torch.vmap(torch.func.grad(loss, argnums=3))(*given)
    assert relative_rms(each / 2, plain[3]) < 1e-6  # a mean over half as many
    many = torch.vmap(lambda u: flash_lla(*given[:3], probe=u, max_steps=0))(torch.stack([given[3]] * 3))
    assert relative_rms(many[2], flash_lla(*given[:3], probe=given[3], max_steps=0)) < 1e-6


def test_a_probe_may_be_wider_than_the_queries_and_answers_of_16_bits_stay_near():
    (q, k, v, u), _ = problem(dtype=torch.bfloat16)
    o = flash_lla(q, k, v, probe=u.float(), max_steps=0)
    assert o.dtype == torch.bfloat16
    truth = flash_lla(*(t.double() for t in (q, k, v)), probe=u.double(), max_steps=0)
    assert relative_rms(o, truth) < 4e-3


@pytest.mark.parametrize("lead, T", [((), 5), ((0,), 5), ((2, 0), 5), ((3,), 0)])
def test_nothing_and_plain_matrices(lead, T):
    q, k, v, u = random_heads((*lead, T, 4), (*lead, 5, 4), (*lead, 5, 4), (*lead, T, 4))
    for n in (0, 9):
        u.requires_grad_()
        o = flash_lla(q, k, v, probe=u, max_steps=n)
        o.sum().backward()
        assert o.shape == u.grad.shape == q.shape


@pytest.mark.parametrize(
    "wrong, name",
    [
        (lambda u: u[..., :3], "probe.shape"),
        (lambda u: u[:, :1], "probe.shape"),
        (lambda u: u.tolist(), "probe"),
        (lambda u: u.int(), "probe.dtype"),
        (lambda u: u.to("meta"), "probe.device"),
        (lambda u: u.to_sparse(), "probe.layout"),
    ],
)
def test_a_probe_that_is_none_is_named(wrong, name):
    (q, k, v, u), _ = problem()
    with pytest.raises(ValueError, match=f"^{name}"):
        flash_lla(q, k, v, probe=wrong(u), max_steps=0)


def test_a_second_derivative_is_refused_in_words():
    (q, k, v, u), _ = problem(T=5, S=5)
    u.requires_grad_()
    (g,) = torch.autograd.grad(flash_lla(q, k, v, probe=u, max_steps=0).sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="lla_dense"):
        g.sum().backward()


def test_operations_are_counted():
    (q, k, v, u), _ = problem(T=20, D=8, dtype=torch.float32)
    pairs = 2 * 8 * 8 * 210
    with FlopCounterMode(display=False) as counter:
        o = flash_lla(q, k, v, probe=u.requires_grad_(), max_steps=0)
    assert counter.get_total_flops() == 6 * pairs
    with FlopCounterMode(display=False) as counter:
        o.sum().backward()
    assert counter.get_total_flops() == 19 * pairs
    with FlopCounterMode(display=False) as counter:
        _, info = flash_lla(q, k, v, probe=u.detach(), return_info=True)
    assert counter.get_total_flops() == round((9 + 3 * float(info["steps"].float().mean())) * pairs)
