"""A probe: the direction of the correction, given instead of solved for, or where the solver begins.

The ladder of truth: equation, dense formula, tiles, kernels."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from helpers import DEVICE, needs_kernels, random_heads, relative_rms
from lla_course import KVCache, LocalLinearAttention, flash_lla, lla_decode
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


# ---- decoding


@pytest.mark.parametrize("backend", ["auto", "dense"])
@pytest.mark.parametrize("window", [None, (4, 0)])
@pytest.mark.parametrize("Hkv", [4, 2])
def test_decoding_with_a_direction_is_the_last_rows_of_a_whole_call(Hkv, window, backend):
    (q, k, v, u), knobs = problem(T=3, S=21, Hkv=Hkv, window=window)
    whole = flash_lla(q, k, v, probe=u, max_steps=0, **knobs)
    assert relative_rms(lla_decode(q, k, v, probe=u, window=window, backend=backend), whole) < 1e-13
    assert relative_rms(whole, lla_decode(q, k, v, window=window)) > 0.1


def test_decoding_with_a_direction_reads_filled_lengths_and_pages():
    (q, k, v, u), _ = problem(T=2, S=64, Hkv=2)
    lengths = torch.tensor([30, 47])
    k_left, v_left = k.clone(), v.clone()
    for b, n in enumerate(lengths):  # what is not filled has no say
        k_left[b, :, n:], v_left[b, :, n:] = torch.nan, torch.inf
    found = lla_decode(q, k_left, v_left, cache_seqlens=lengths, probe=u)
    for b, n in enumerate(lengths):
        alone = flash_lla(q[b], k[b, :, :n], v[b, :, :n], probe=u[b], max_steps=0, enable_gqa=True)
        assert relative_rms(found[b], alone) < 1e-13
    table = torch.tensor([[5, 0, 3, 7], [1, 6, 2, 4]])
    pages = [torch.empty(8, 16, 2, 16, dtype=q.dtype) for _ in range(2)]
    for page, t in zip(pages, (k_left, v_left)):
        page[table.flatten()] = t.unflatten(2, (4, 16)).permute(0, 2, 3, 1, 4).flatten(0, 1)
    paged = lla_decode(q, *pages, cache_seqlens=lengths, block_table=table, probe=u)
    assert relative_rms(paged, found) < 1e-13
    nothing = lla_decode(q, k, v, cache_seqlens=torch.tensor([1, 47]).to(torch.int32) + 1, probe=u)
    assert nothing.isfinite().all()


def test_decoding_with_a_direction_has_its_gradient():
    (q, k, v, u), _ = problem(T=2, S=5, D=3, H=2)
    leaves = [t.requires_grad_() for t in (q, k, v, u)]
    assert torch.autograd.gradcheck(lambda q, k, v, u: lla_decode(q, k, v, probe=u), leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decoding_with_a_direction_rounds_as_the_tiles_do(dtype):
    (q, k, v, u), _ = problem(T=4, S=100, Hkv=2, dtype=dtype)
    truth = lla_decode(*(t.double() for t in (q, k, v)), probe=u.double())
    ours, tiles = lla_decode(q, k, v, probe=u), flash_lla(q, k, v, probe=u, max_steps=0, enable_gqa=True)
    assert ours.dtype == dtype and relative_rms(ours, truth) < 2 * relative_rms(tiles, truth) + 1e-6


@pytest.mark.parametrize(
    "wrong, named",
    [
        (dict(probe=torch.zeros(2, 4, 1, 16)), "probe.shape"),
        (dict(probe=torch.zeros(2, 4, 3, 16, dtype=torch.int64)), "probe.dtype"),
        (dict(probe=0.0), "probe"),
        (dict(probe=torch.zeros(2, 4, 3, 16), backend="triton"), "probe.*whose kernels solve"),
    ],
)
def test_what_is_no_direction_is_refused_by_decoding(wrong, named):
    (q, k, v, _), _ = problem(T=3, S=21, dtype=torch.float32)
    with pytest.raises(ValueError, match=f"^{named}"):
        lla_decode(q, k, v, **wrong)


# ---- the layer


def direction_layer(**knobs):
    torch.manual_seed(0)
    layer = LocalLinearAttention(24, 4, num_kv_heads=2, rope_base=100.0, probe=True, **knobs).double()
    return layer, torch.randn(2, 13, 24, dtype=torch.float64)


def test_a_layer_with_a_direction_begins_as_softmax_attention():
    layer, x = direction_layer()
    torch.manual_seed(0)
    softmax = LocalLinearAttention(24, 4, num_kv_heads=2, rope_base=100.0, max_steps=0).double()
    softmax.load_state_dict({n: p for n, p in layer.state_dict().items() if n != "to_probe.weight"})
    assert relative_rms(layer(x), softmax(x)) < 1e-13
    layer(x).square().sum().backward()
    grads = {n: p.grad for n, p in layer.named_parameters() if p.requires_grad}
    assert all(g is not None and g.abs().sum() > 0 for g in grads.values()) and "raw_ridge" not in grads
    torch.optim.SGD(layer.parameters(), 0.1).step()
    assert relative_rms(layer(x), softmax(x)) > 1e-3


def test_a_layer_with_a_direction_is_the_mixer_of_its_name():
    from lla_course.models import DecoderConfig
    from lla_course.tasks.mixers import mixer

    other = mixer("parallax")(DecoderConfig(8, width=24, heads=4)).double()
    layer = LocalLinearAttention(24, 4, probe=True).double()
    x = torch.randn(2, 13, 24, dtype=torch.float64)
    torch.nn.init.normal_(other.to_probe.weight)
    for p in other.parameters():  # the layer has no biases
        if p.dim() < 2 and p.shape != (6,):
            torch.nn.init.zeros_(p)
    weights = [*other.to_qkv.weight.chunk(3), other.to_out.weight, other.to_probe.weight]
    for name, w in zip(("to_q", "to_k", "to_v", "to_out", "to_probe"), weights):
        getattr(layer, name).weight.data.copy_(w)
    assert relative_rms(layer(x), other(x)) < 1e-12


def test_a_layer_with_a_direction_decodes_packs_and_pads():
    layer, x = direction_layer()
    torch.nn.init.normal_(layer.to_probe.weight)
    whole = layer(x)
    with torch.no_grad():
        cache = KVCache()
        parts = [layer(x[:, a:b], cache=cache) for a, b in ((0, 5), (5, 6), (6, 7), (7, 13))]
        assert relative_rms(torch.cat(parts, 1), whole) < 1e-12
        packed = layer(x.flatten(0, 1), cu_seqlens=torch.tensor([0, 13, 26]))
        assert relative_rms(packed.view_as(x), whole) < 1e-12
        padded = layer(x, key_lengths=torch.tensor([4, 13]))
        assert relative_rms(padded[0, :4], whole[0, :4]) < 1e-12 and (padded[0, 4:] == 0).all()
    again, _ = direction_layer()
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x), whole)


def test_a_layer_with_a_direction_has_no_solver_to_set():
    with pytest.raises(ValueError, match="^max_steps=3.*nothing is solved"):
        direction_layer(max_steps=3)
    with pytest.raises(ValueError, match="^probe="):
        LocalLinearAttention(24, 4, probe="yes")
    layer, x = direction_layer(max_steps=0)
    assert layer(x).shape == x.shape
