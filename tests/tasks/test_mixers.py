"""The mixers: recurrences against independent float64 definitions, pieces against the loop, causality,
states, gradients, the slot of the decoder."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lla_course import training
from lla_course.attention.baselines import delta_attention, linear_attention, mesa_attention
from lla_course.attention.dense import lla_dense
from lla_course.core import inverse_softplus
from lla_course.models import Decoder, DecoderConfig, cross_entropy
from lla_course.tasks import mixers
from lla_course.tasks.mixers import (
    MIXERS,
    RULES,
    LocalLinear,
    MatrixMemory,
    chunk_parallel,
    chunked,
    effective_weights,
    empty_state,
    mixer,
    recurrence,
)
from lla_course.training import Schedule, adamw, fit, fresh_batches

CFG = DecoderConfig(vocab=11, layers=2, heads=2, width=32, length=40, init=0.3)


def tokens(T=23, D=5, Dv=3, lead=(2, 3), seed=0, channels=False, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    normal = lambda *s: torch.randn(*lead, T, *s, generator=rng, dtype=dtype)
    return [
        normal(D),
        F.normalize(normal(D), dim=-1),
        normal(Dv),
        F.logsigmoid(normal(D if channels else 1)),
        torch.sigmoid(normal(1)),
        torch.rand(D, generator=rng, dtype=dtype) + 0.1,
    ]


# ---- each rule against a definition of its own


# what is left at t of a pair written at s
def faded(log_decay, t, s):
    return log_decay[..., s + 1 : t + 1, :].sum(-2).exp()


@pytest.mark.parametrize("channels", [False, True])
def test_the_sum_is_an_explicitly_weighted_sum(channels):
    q, k, v, g, beta, _ = tokens(channels=channels)
    out = recurrence("sum", q, k, v, g, beta)[0]
    for t in (0, 1, 7, 22):
        want = sum(
            (q[..., t, :] * faded(g, t, s) * k[..., s, :]).sum(-1, keepdim=True)
            * beta[..., s, :]
            * v[..., s, :]
            for s in range(t + 1)
        )
        torch.testing.assert_close(out[..., t, :], want)


def test_the_delta_rule_is_a_gradient_step_on_a_faded_memory():
    q, k, v, g, beta, _ = tokens(lead=())
    out, W = recurrence("delta", q, k, v, g, beta)[0], torch.zeros(3, 5, dtype=torch.float64)
    for t in range(len(k)):
        W = g[t].exp() * W
        error = lambda W, t=t: 0.5 * (v[t] - W @ k[t]).square().sum()
        W = W - beta[t] * torch.func.grad(error)(W)
        torch.testing.assert_close(out[t], W @ q[t])


def test_mesa_is_a_ridge_regression_with_fading_weights():
    q, k, v, g, beta, ridge = tokens(lead=())
    out = recurrence("mesa", q, k, v, g, beta, ridge)[0]
    for t in (0, 3, 22):
        root = torch.stack([(faded(g, t, s) * beta[s]).sqrt() for s in range(t + 1)])
        rows = torch.cat([root * k[: t + 1], ridge.sqrt().diag()])
        targets = torch.cat([root * v[: t + 1], v.new_zeros(5, 3)])
        torch.testing.assert_close(out[t], q[t] @ torch.linalg.lstsq(rows, targets).solution)


def test_without_gates_they_are_the_layers_of_chapter_20():
    q, k, v, g, beta, _ = tokens()
    none, one = 0 * g, torch.ones_like(beta)
    torch.testing.assert_close(
        recurrence("sum", q, k, v, none, one)[0], linear_attention(q, k, v, is_causal=True)
    )
    torch.testing.assert_close(
        recurrence("delta", q, k, v, none, beta)[0], delta_attention(q, k, v, beta=beta[..., 0])
    )
    torch.testing.assert_close(
        recurrence("mesa", q, k, v, none, one, torch.full((5,), 0.3, dtype=torch.float64))[0],
        mesa_attention(q, k, v, ridge=0.3, is_causal=True),
    )


# ---- pieces


@given(st.sampled_from(RULES), st.integers(0, 40), st.integers(1, 20), st.booleans(), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_pieces_are_the_loop(rule, T, chunk, channels, seed):
    *t, ridge = tokens(T, seed=seed, channels=channels and rule == "sum")
    state = tuple(
        torch.randn(m.shape, generator=torch.Generator().manual_seed(seed), dtype=m.dtype)
        for m in empty_state(rule, t[1], t[2])
    )
    if rule == "mesa":
        state = (state[0], state[1] @ state[1].mT)
    a = recurrence(rule, *t, ridge, state)
    for f in (chunked, chunk_parallel):
        b = f(rule, *t, ridge, state, chunk=chunk)
        torch.testing.assert_close(a[0], b[0], rtol=1e-7, atol=1e-8)
        for x, y in zip(a[1], b[1]):
            torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_a_long_text_can_be_read_in_two_parts(rule):
    *t, ridge = tokens(40)
    whole, end = chunked(rule, *t, ridge)
    first, state = chunked(rule, *(x[..., :13, :] for x in t), ridge)
    second, state = chunked(rule, *(x[..., 13:, :] for x in t), ridge, state)
    torch.testing.assert_close(torch.cat([first, second], -2), whole)
    for x, y in zip(state, end):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("pieces", [chunked, chunk_parallel])
@pytest.mark.parametrize("channels", [False, True])
def test_strong_fading_overflows_nowhere(channels, pieces):
    q, k, v, g, beta, _ = tokens(33, channels=channels, dtype=torch.float32)
    out = pieces("sum", q, k, v, 300 * g, beta)[0]
    assert out.isfinite().all() and torch.allclose(
        out, recurrence("sum", q, k, v, 300 * g, beta)[0], atol=1e-5
    )


@pytest.mark.parametrize("rule", RULES)
def test_gradients_of_pieces_are_those_of_the_loop(rule):
    inputs = [x.requires_grad_() for x in tokens(11, lead=(1,))]
    used = inputs if rule == "mesa" else inputs[:5]
    grads = [
        torch.autograd.grad(f(rule, *inputs, **knobs)[0].square().sum(), used)
        for f, knobs in ((recurrence, {}), (chunked, dict(chunk=4)), (chunk_parallel, dict(chunk=4)))
    ]
    for other in grads[1:]:
        for a, b in zip(grads[0], other):
            torch.testing.assert_close(a, b)
            assert a.abs().max() > 0


def test_thirty_steps_are_enough_for_mesanet_in_single_precision():
    q, k, v, g, beta, ridge = tokens(150, 64, 64, dtype=torch.float32)
    k = torch.nn.functional.normalize(k, dim=-1)
    want = chunked("mesa", *(x.double() for x in (q, k, v, g, beta, ridge)))[0]
    assert (chunk_parallel("mesa", q, k, v, g, beta, ridge)[0] - want).norm() < 1e-4 * want.norm()


def test_weights_read_off_one_hot_values():
    q, k, v, g, beta, ridge = tokens(9)
    for rule in RULES:
        layer = lambda q, k, v, rule=rule: recurrence(rule, q, k, v, g, beta, ridge)[0]
        A = effective_weights(layer, q, k)
        torch.testing.assert_close(A @ v, layer(q, k, v))
        assert (A.triu(1) == 0).all()


# ---- modules

x = lambda T=19, seed=0: torch.randn(3, T, 32, generator=torch.Generator().manual_seed(seed))


def build(name, cfg=CFG, **knobs):
    torch.manual_seed(1)
    return mixer(name, **knobs)(cfg)


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("positions", ["none", "rotary"])
def test_the_future_changes_nothing(name, positions):
    module, a = build(name, replace(CFG, positions=positions)), x()
    b = a.clone()
    b[:, 12:] = 5 * x(seed=1)[:, 12:]
    with torch.no_grad():
        out, changed = module(a), module(b)
    torch.testing.assert_close(out[:, :12], changed[:, :12], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(out[:, 12:], changed[:, 12:])


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("positions", ["none", "rotary"])
def test_stepping_is_the_full_pass(name, positions):
    module, a = build(name, replace(CFG, positions=positions)), x()
    with torch.no_grad():
        whole, state, parts = module(a), module.start(3, 25), []
        for lo, hi in ((0, 7), (7, 8), (8, 9), (9, 19)):
            out, state = module.step(a[:, lo:hi], state, torch.arange(lo, hi).expand(3, -1))
            parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("name", MIXERS)
def test_every_parameter_learns(name):
    module = build(name, replace(CFG, heads=4))
    module(x()).square().sum().backward()
    dead = {n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert not dead


@pytest.mark.parametrize("name", MIXERS)
def test_any_mixer_fits_the_decoder_in_one_line(name):
    model = Decoder(replace(CFG, init=0.02), mixer(name), seed=0)
    # the same letter again and again
    t = torch.randint(11, (16, 1), generator=torch.Generator().manual_seed(0)).repeat(1, 12)
    optimizer = adamw(model, rate=1e-2)
    losses = []
    for _ in range(30):
        loss = cross_entropy(model(t), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert (model.generate(t[:, :5], 4) == model.generate(t[:, :5], 4, cache=False)).all()
    assert (
        model.generate(t[:, :5], 4, lengths=torch.arange(16) % 5 + 1)
        == model.generate(t[:, :5], 4, lengths=torch.arange(16) % 5 + 1, cache=False)
    ).all()


def test_parameters_are_equal_to_within_four_in_a_hundred():
    for width, heads in ((64, 2), (128, 2), (256, 4)):
        counts = {
            n: sum(p.numel() for p in r(DecoderConfig(vocab=1, width=width, heads=heads)).parameters())
            for n, r in MIXERS.items()
        }
        more = counts.pop("parallax") - counts["softmax_normed"]
        assert more == width * (width + 1)  # a fourth projection
        assert max(counts.values()) / counts["softmax"] < 1.04 and min(counts.values()) == counts["softmax"]


def test_parallax_is_attention_with_a_projection_for_a_direction():
    "It begins as softmax attention, and with other weights its matrix is that of the formula."
    module, a = build("parallax", replace(CFG, positions="rotary")).double(), x().double()
    softmax = build("softmax_normed", replace(CFG, positions="rotary")).double()
    softmax.load_state_dict({n: p for n, p in module.state_dict().items() if "probe" not in n})
    torch.testing.assert_close(module(a), softmax(a))
    torch.nn.init.normal_(module.to_probe.weight, std=0.3)
    q, k, v = module.project(a, torch.arange(19))
    u = module.probe(a, torch.arange(19))
    weights = module.weights(a)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    torch.testing.assert_close(module.finish(weights @ v), module(a))
    dense = mixers.flash_lla(q, k, v, probe=u, max_steps=0, backend="dense")
    torch.testing.assert_close(module(a), module.finish(dense))
    assert not torch.allclose(module(a), softmax(a), atol=1e-2)


def test_a_mixer_may_stop_its_solver_early():
    few, whole = build("lla", max_steps=2), build("lla")
    few(x()), whole(x())
    assert few.info["steps"] <= 2 < whole.info["steps"] and few.info["residual"] > whole.info["residual"]
    none = build("lla", max_steps=0)
    torch.testing.assert_close(none(x()), build("softmax_normed")(x()))


def test_lla_is_the_oracle_and_reports_its_solver():
    module, a = build("lla").double(), x().double()
    q, k, v = module.project(a, torch.arange(19))
    ridge = F.softplus(module.raw_ridge)[:, None]
    torch.testing.assert_close(
        module(a), module.finish(lla_dense(q, k, v, ridge=ridge)), rtol=1e-6, atol=1e-8
    )
    torch.testing.assert_close(module.weights(a) @ v, lla_dense(q, k, v, ridge=ridge))
    loose = build("lla").double()
    loose.tol = 0.01
    loose(a)
    assert 0 < loose.info["steps"] < module.info["steps"] and 1e-9 < loose.info["residual"] <= 0.01
    assert module.info["residual"] < 1e-9 and torch.allclose(
        ridge, torch.full((2, 1), 0.1, dtype=torch.float64)
    )


def test_sixteen_bits_under_autocast():
    for name in MIXERS:
        module = build(name)
        with torch.no_grad():
            want = module(x())
            with torch.autocast("cpu", torch.bfloat16):
                got = module(x())
        assert (got - want).norm() < 0.1 * want.norm(), name


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: mixer("hyena"), "name"),
        (lambda: MatrixMemory(CFG, rule="newton"), "rule"),
        (lambda: MatrixMemory(CFG, gate="door"), "gate"),
        (lambda: MatrixMemory(CFG, write="twice"), "write"),
        (lambda: chunked("sum", *tokens()[:5], chunk=0), "chunk"),
        (lambda: chunk_parallel("sum", *tokens()[:5], chunk=0), "chunk"),
        (lambda: recurrence("max", *tokens()[:5]), "rule"),
        (lambda: mixers.run_rule("sum", *tokens()[:5], backend="cudnn"), "backend"),
        (lambda: LocalLinear(CFG, backend="best")(x()), "backend"),
        (lambda: LocalLinear(CFG, max_steps=-1), "max_steps"),
        (lambda: mixer("parallax", backend="best")(CFG), "backend"),
    ],
)
def test_bad_arguments(call, name):
    with pytest.raises(ValueError, match=f"^{name}="):
        call()


# ---- nothing, anything, and everything in pieces


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_no_row_or_no_token_has_no_answer_and_zero_gradients(name, shape):
    model = Decoder(CFG, mixer(name))
    out = model(torch.zeros(shape, dtype=torch.long))
    out.sum().backward()
    assert out.shape == (*shape, 11) and all((p.grad == 0).all() for p in model.parameters())
    (B, T), module, nothing = shape, model.blocks[0].mixer, torch.zeros(*shape, 32)
    assert module.step(nothing, module.start(B, 9), torch.zeros(B, T).long())[0].shape == (B, T, 32)
    if hasattr(module, "weights"):
        assert module.weights(nothing).shape == (B, 2, T, T)
    if name == "lla":
        assert module.info["steps"] == module.info["residual"] == 0


@pytest.mark.parametrize("name", MIXERS)
def test_nothing_is_written_for_no_prompt(name):
    model = Decoder(CFG, mixer(name)).train()
    for cache in (True, False):
        assert model.generate(torch.zeros(0, 5).long(), 3, cache=cache).shape == (0, 3)
        assert model.generate(torch.zeros(2, 5).long(), 0, cache=cache).shape == (2, 0) and model.training


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("size", [1, 3, 8, 9, 20])
def test_a_text_over_a_cache_in_pieces_of_any_size_is_the_text(name, size):
    model = Decoder(replace(CFG, positions="rotary", length=64), mixer(name)).double().eval()
    t = torch.randint(11, (2, 50), generator=torch.Generator().manual_seed(0))
    states, parts = [b.mixer.start(2, 50) for b in model.blocks], []
    edges = [0, 13, *range(13 + size, 50, size), 50]
    with torch.no_grad():
        for lo, hi in zip(edges, edges[1:]):
            at = torch.arange(lo, hi).expand(2, -1)
            h = model.embed(t[:, lo:hi], at)
            for i, block in enumerate(model.blocks):
                h, states[i] = block.step(h, states[i], at)
            parts.append(model.unembed(model.norm(h)))
        torch.testing.assert_close(torch.cat(parts, 1), model(t), rtol=1e-7, atol=1e-7)


def test_a_cache_has_an_end():
    for name in ("softmax", "lla"):
        module = build(name)
        for place in (-1, 4):
            with pytest.raises(ValueError, match=f"^positions={place}"):
                module.step(x(1), module.start(3, 4), torch.full((3, 1), place))


@given(st.floats(1e-37, 3e38))
def test_a_raw_ridge_is_the_inverse_of_the_softplus_whatever_the_size(ridge):
    got = F.softplus(torch.tensor(inverse_softplus(ridge)))
    assert got.item() == pytest.approx(ridge, rel=1e-5)


@pytest.mark.parametrize(
    "ridge", [1e-44, 1e-30, 1e-8, 0.1, 1.0, 20.0, 88.0, 709.0, 710.0, 1000.0, 1e10, 3e38]
)
def test_every_ridge_that_single_precision_holds_can_be_asked_for(ridge):
    module = LocalLinear(CFG, ridge=ridge)
    held = torch.tensor(ridge).item()
    assert F.softplus(module.raw_ridge).tolist() == pytest.approx([held] * 2, rel=1e-5, abs=2e-45)
    assert module(x()).isfinite().all()


def test_a_large_ridge_is_softmax_attention():
    lla, softmax = build("lla", ridge=1e6), build("softmax_normed")
    softmax.load_state_dict(lla.state_dict(), strict=False)
    torch.testing.assert_close(lla(x()), softmax(x()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("usual", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", MIXERS)
def test_a_model_of_another_dtype_learns_and_writes(name, usual):
    model = Decoder(replace(CFG, positions="rotary"), mixer(name)).to(usual)
    t = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(0))
    cross_entropy(model(t), t).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters()) and model.generate(t, 3).shape == (2, 3)


def test_rules_and_gates_that_do_not_go_together():
    for rule in ("delta", "mesa"):
        with pytest.raises(ValueError, match="^gate="):
            MatrixMemory(CFG, rule=rule, gate="channel")
    for gate in ("none", "channel"):
        with pytest.raises(ValueError, match="^write="):
            MatrixMemory(CFG, gate=gate, write="step")


# ---- training


def train_a_little(name, device, steps=24, precision="float32"):
    "Two lengths of text in turn of eight, dropout, a rate that rises and falls."

    def draw(step, generator):
        return (torch.randint(11, (4, 16 if step % 16 < 8 else 24), generator=generator, device=device),)

    torch.manual_seed(0)
    model = Decoder(replace(CFG, dropout=0.1, positions="rotary"), mixer(name)).to(device)
    found = fit(
        model,
        lambda model, text: cross_entropy(model(text), text),
        fresh_batches(draw, device=device),
        adamw(model, rate=3e-3),
        Schedule(steps, warmup=5),
        precision=precision,
        every=4,
    )
    return found, [p.detach().double().cpu() for p in model.parameters()]


def test_training_lowers_the_loss_and_notes_the_solver():
    found, _ = train_a_little("lla", "cpu")
    assert (
        found["at"] == [4, 8, 12, 16, 20, 24]
        and found["loss"][-1] < found["loss"][0]
        and found["steps"] == 24
        and min(found["solver_steps"]) > 1
        and max(found["residual"]) <= 1e-5
        and not found["unconverged"]
    )


def test_what_the_compiler_cannot_do_is_computed_without_it(monkeypatch):
    calls = []
    parts = lambda: (
        "sum",
        *(t.requires_grad_() for t in (torch.randn(2, 3, 4, 5) for _ in range(3))),
        torch.zeros(2, 3, 4, 1),
        torch.ones(2, 3, 4, 1),
        None,
        (torch.zeros(2, 5, 5),),
    )

    def quick(*given):
        calls.append("compiled")
        return mixers._chunk_parallel_forward(*given)

    def broken(*given):
        o, state = quick(*given)
        o.register_hook(lambda g: 1 / 0)
        return o, state

    # a trial and two calls; a trial that fails going back
    for compiled, expected in ((quick, ["compiled"] * 3), (broken, ["compiled"])):
        monkeypatch.setattr(mixers, "_compiled", lambda compiled=compiled: compiled)
        monkeypatch.setattr(mixers, "_compiles", {})
        calls.clear()
        given = parts()
        want = mixers._chunk_parallel_forward(*given)[0]
        if compiled is broken:
            with pytest.warns(UserWarning, match="not compiled"):
                got = mixers._compiled_chunks(*given)[0]
        else:
            got = mixers._compiled_chunks(*given)[0]
        torch.testing.assert_close(mixers._compiled_chunks(*given)[0], want)
        torch.testing.assert_close(got, want)
        got.sum().backward()
        assert given[1].grad.isfinite().all() and calls == expected


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(MIXERS))
def test_a_compiled_and_replayed_step_is_the_step(name, monkeypatch):
    quick, weights = train_a_little(name, "cuda")
    monkeypatch.setattr(training, "replayed", lambda step: step)
    monkeypatch.setattr(mixers, "_compiled_chunks", mixers._chunk_parallel_forward)
    slow, same = train_a_little(name, "cuda")
    assert quick["loss"] == pytest.approx(slow["loss"], rel=2e-3) and quick["solver_steps"] == (
        slow["solver_steps"] if name != "lla" else pytest.approx(slow["solver_steps"], abs=0.3)
    )
    for a, b in zip(weights, same):
        assert (a - b).norm() <= 0.02 * b.norm() + 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(MIXERS))
def test_a_step_can_be_compiled_and_replayed_in_16_bits(name):
    loss = train_a_little(name, "cuda", precision="bfloat16")[0]["loss"]
    assert loss[-1] < loss[0] - 0.4


# ---- against flash-linear-attention


@pytest.mark.gpu
@pytest.mark.parametrize("rule, channels", [("sum", False), ("sum", True), ("delta", False), ("mesa", False)])
def test_the_fast_kernels_compute_the_same(rule, channels):
    pytest.importorskip("fla")
    *t, ridge = (a.cuda() for a in tokens(100, 32, 32, lead=(2, 2), channels=channels, dtype=torch.float32))
    state = tuple(torch.randn_like(m) for m in empty_state(rule, t[1], t[2]))
    if rule == "mesa":
        state = (state[0], state[1] @ state[1].mT / 32)
    want, end = chunked(rule, *t, ridge, state)
    got, new = mixers.fla_kernels(rule, *t, ridge, state)
    for a, b in ((got, want), *zip(new, end)):
        assert (a - b).norm() < 0.02 * b.norm()
