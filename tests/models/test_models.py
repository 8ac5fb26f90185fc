"The decoder: causality, caches, hooks, weights, and any mixer in its slot."

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers import default_dtype
from lla_course import LocalLinearAttention
from lla_course.models import (
    Decoder,
    DecoderConfig,
    SoftmaxAttention,
    as_tokens,
    cross_entropy,
    evaluating,
    generate,
    replaced_heads,
    rotary,
    run_with_cache,
    sample_token,
)

CFG = DecoderConfig(vocab=11, layers=2, heads=2, width=16, length=40)
tokens = lambda *shape, seed=0: torch.randint(11, shape, generator=torch.Generator().manual_seed(seed))


class Mean(nn.Module):
    def forward(self, x):
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]


def loud(cfg, mixer=SoftmaxAttention):
    "A decoder whose predictions differ from token to token."
    model = Decoder(replace(cfg, init=0.5), mixer, seed=3)
    return model.eval()


MIXERS = dict(
    softmax=SoftmaxAttention,
    mean=lambda cfg: Mean(),
    lla=lambda cfg: LocalLinearAttention(cfg.width, cfg.heads, backend="dense"),
)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_the_future_changes_nothing(mixer, positions):
    model, t = loud(replace(CFG, positions=positions), MIXERS[mixer]), tokens(2, 9)
    changed = t.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 11
    with torch.no_grad():
        a, b = model(t), model(changed)
    torch.testing.assert_close(a[:, :6], b[:, :6], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(a[:, 6:], b[:, 6:])


@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
@pytest.mark.parametrize("mlp_ratio", [0, 4])
def test_the_cache_changes_no_token(positions, mlp_ratio):
    model = loud(replace(CFG, positions=positions, mlp_ratio=mlp_ratio))
    t, lengths = tokens(6, 9), torch.tensor([1, 3, 9, 5, 9, 2])
    for l in (None, lengths):
        assert (model.generate(t, 12, lengths=l) == model.generate(t, 12, lengths=l, cache=False)).all()
    assert (model.generate(t, 1, temperature=1.0, generator=torch.Generator().manual_seed(1)) < 11).all()


def test_a_ragged_prompt_is_continued_as_if_it_were_alone():
    model, t = loud(CFG), tokens(3, 8)
    together = model.generate(t, 7, lengths=torch.tensor([2, 8, 5]))
    for i, l in enumerate((2, 8, 5)):
        assert (together[i] == model.generate(t[i : i + 1, :l], 7)[0]).all()


@pytest.mark.parametrize("mixer", ["mean", "lla"])
def test_a_mixer_without_a_state_writes_too(mixer):
    model, t = loud(CFG, MIXERS[mixer]), tokens(2, 5)
    with torch.no_grad():
        first = model(t)[:, -1].argmax(-1)
    out = model.generate(t, 3)
    assert out.shape == (2, 3) and (out[:, 0] == first).all()


def test_sampling_follows_the_softmax():
    model, t = loud(CFG), tokens(1, 4).expand(4000, 4)
    drawn = model.generate(t, 1, temperature=2.0, generator=torch.Generator().manual_seed(0))[:, 0]
    with torch.no_grad():
        p = (model(t[:1])[0, -1] / 2).softmax(-1)
    freq = torch.bincount(drawn, minlength=11) / 4000
    assert ((freq - p).abs() <= 5 * (p * (1 - p) / 4000).sqrt() + 1e-3).all()


def test_look_gives_what_the_model_computes():
    model, t = loud(CFG), tokens(2, 7)
    seen = run_with_cache(model, t)
    with torch.no_grad():
        torch.testing.assert_close(seen.logits, model(t))
    for w, heads in zip(seen.weights, seen.heads):
        assert w.shape == (2, 2, 7, 7) and heads.shape == (2, 2, 7, 8)
        torch.testing.assert_close(w.sum(-1), torch.ones(2, 2, 7))
        assert (w.triu(1) == 0).all()
    x = model.embed(t, torch.arange(7))
    mixer = model.blocks[0].mixer
    v = mixer.project(model.blocks[0].norm_mix(x), torch.arange(7))[2]
    torch.testing.assert_close(seen.weights[0] @ v, seen.heads[0])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_replacing_heads():
    model, t = loud(CFG), tokens(2, 7)
    seen = run_with_cache(model, t)
    with torch.no_grad():
        with replaced_heads(model, {(0, 1): seen.heads[0][:, 1], (1, 0): seen.heads[1][:, 0]}):
            same = model(t)
        with replaced_heads(model, {(0, 1): torch.zeros(8)}):
            other = model(t)
        torch.testing.assert_close(same, seen.logits)
        assert not torch.allclose(other, seen.logits) and torch.equal(model(t), seen.logits)
    for bad in ((2, 0), (0, 2), (-1, 0)):
        with pytest.raises(ValueError, match="^heads="):
            with replaced_heads(model, {bad: torch.zeros(8)}):
                pass
    with pytest.raises(ValueError, match="^mixer="):
        run_with_cache(Decoder(CFG, lambda cfg: Mean()), t)


class Silent(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def test_only_the_mixer_moves_anything_between_tokens():
    model, t = loud(CFG, lambda cfg: Silent()), tokens(2, 9)
    changed = t.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 11
    with torch.no_grad():
        moved = (model(t) != model(changed)).any(-1)
    assert moved[:, 4].all() and moved.sum() == 2


def test_a_block_adds_what_it_mixes_and_then_what_its_mlp_says():
    block = loud(CFG).blocks[0]
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mixed = x + block.mixer(block.norm_mix(x))
        torch.testing.assert_close(block(x), mixed + block.mlp(block.norm_mlp(mixed)))


def test_the_index_of_a_head_means_nothing():
    model, t, other = loud(CFG), tokens(2, 9), torch.arange(16).roll(8)
    with torch.no_grad():
        want = model(t)
        for mixer in (block.mixer for block in model.blocks):
            rows = torch.cat([other, other + 16, other + 32])
            mixer.to_qkv.weight.copy_(mixer.to_qkv.weight[rows].clone())
            mixer.to_qkv.bias.copy_(mixer.to_qkv.bias[rows].clone())
            mixer.to_out.weight.copy_(mixer.to_out.weight[:, other].clone())
        torch.testing.assert_close(model(t), want, rtol=1e-4, atol=1e-5)


def test_first_weights():
    model = Decoder(replace(CFG, width=64, layers=4, vocab=500))
    assert (
        abs(model.tok_embed.weight.std() / 0.02 - 1) < 0.03 and model.unembed.weight is model.tok_embed.weight
    )
    assert abs(model.blocks[1].mixer.to_out.weight.std() / (0.02 / math.sqrt(8)) - 1) < 0.1
    assert (
        abs(model.blocks[1].mlp[2].weight.std() / (0.02 / math.sqrt(8)) - 1) < 0.1
        and (model.blocks[0].mlp[0].bias == 0).all()
    )
    assert torch.equal(
        Decoder(CFG, seed=1).tok_embed.weight, Decoder(CFG, seed=1).tok_embed.weight
    ) and not torch.equal(Decoder(CFG, seed=1).tok_embed.weight, Decoder(CFG, seed=2).tok_embed.weight)
    before = torch.get_rng_state()
    Decoder(CFG)
    assert torch.equal(before, torch.get_rng_state())


def test_options_count_parameters():
    count = lambda **k: sum(p.numel() for p in Decoder(replace(CFG, **k)).parameters())
    assert count(tied=False) - count() == 11 * 16 and count() - count(positions="rotary") == 40 * 16
    assert count() - count(mlp_ratio=0) == 2 * (2 * 16 * 64 + 64 + 16 + 2 * 16)


@given(st.integers(0, 30), st.integers(0, 30))
def test_rotary_products_depend_on_the_distance(i, j):
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    dot = lambda a, b: (rotary(q, torch.tensor([a])) * rotary(k, torch.tensor([b]))).sum()
    torch.testing.assert_close(dot(i, j), dot(i + 7, j + 7), rtol=1e-4, atol=1e-4)


def test_cross_entropy_is_the_mean_over_masked_targets():
    logits, t = torch.randn(2, 5, 11, dtype=torch.float64), tokens(2, 5)
    mask = torch.tensor([[1, 0, 1, 0, 1], [0, 1, 0, 0, 0]], dtype=torch.bool)
    by_hand = [
        -logits[b, i - 1].log_softmax(-1)[t[b, i]] for b in range(2) for i in range(1, 5) if mask[b, i]
    ]
    torch.testing.assert_close(
        cross_entropy(logits, t, mask).double(), torch.stack(by_hand).mean(), rtol=1e-5, atol=1e-5
    )
    assert cross_entropy(logits, t, torch.zeros(2, 5)) == 0


@pytest.mark.parametrize(
    "bad",
    [
        dict(vocab=0),
        dict(width=15),
        dict(heads=0),
        dict(layers=-1),
        dict(positions="alibi"),
        dict(dropout=1.0),
        dict(positions="rotary", width=6, heads=2),
        dict(init=0),
        dict(mlp_ratio=0.5),
        dict(length=True),
    ],
)
def test_sizes_that_make_no_model(bad):
    with pytest.raises(ValueError, match="expected"):
        Decoder(replace(CFG, **bad))


def test_texts_that_do_not_fit():
    model = Decoder(CFG)
    with pytest.raises(ValueError, match="length=40"):
        model(tokens(1, 41))
    with pytest.raises(ValueError, match="^n=20"):
        generate(model, tokens(1, 30), 20)
    for lengths in (torch.tensor([0]), torch.tensor([31]), torch.tensor([1, 2])):
        with pytest.raises(ValueError, match="^lengths="):
            generate(model, tokens(1, 30), 2, lengths=lengths)


def test_dropout_only_in_training():
    model, t = Decoder(replace(CFG, dropout=0.5, init=0.5)), tokens(1, 5)
    assert not torch.allclose(model.train()(t), model(t))
    model.eval()
    assert torch.equal(model(t), model(t))


# ---- what measures or writes leaves a model as it was


def modes(model):
    return [part.training for part in model.modules()]


def mixed(model):
    "A model in training, of which one block and one dropout are frozen."
    model.train()
    model.blocks[0].eval()
    model.blocks[1].drop.eval()
    return model


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("broken")


@pytest.mark.parametrize(
    "work",
    [
        lambda m: generate(m, tokens(2, 5), 3),
        lambda m: m.generate(tokens(2, 5), 3, cache=False),
        lambda m: run_with_cache(m, tokens(2, 5)),
        lambda m: generate(m, tokens(2, 5), 3, temperature=1.0, generator=torch.Generator().manual_seed(0)),
    ],
)
def test_modes_come_back_part_by_part_also_after_an_error(work):
    model = mixed(Decoder(replace(CFG, dropout=0.5, init=0.5)))
    before = modes(model)
    state = torch.get_rng_state()
    work(model)
    assert modes(model) == before and torch.equal(state, torch.get_rng_state())
    model.blocks[1].mlp = Broken()
    before = modes(model)
    with pytest.raises(RuntimeError, match="broken"):
        work(model)
    assert modes(model) == before and not any(
        m._forward_hooks or m._forward_pre_hooks for m in model.modules()
    )


def test_measuring_is_without_dropout():
    model, t = Decoder(replace(CFG, dropout=0.5, init=0.5)).train(), tokens(2, 7)
    with evaluating(model, print), torch.no_grad():
        want = model(t)  # what is no module is left alone
    assert (
        torch.equal(run_with_cache(model, t).logits, want)
        and (generate(model, t, 4) == generate(model, t, 4)).all()
    )


def test_hooks_are_removed_where_a_head_or_a_mixer_does_not_exist():
    mixers = iter([SoftmaxAttention(CFG), Mean()])
    model = Decoder(CFG, lambda cfg: next(mixers))
    with pytest.raises(ValueError, match="^mixer="):
        run_with_cache(model, tokens(1, 3))
    with pytest.raises(ValueError, match="^mixer="):
        with replaced_heads(model, {(0, 0): torch.zeros(8), (1, 0): torch.zeros(8)}):
            pass
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_first_weights_seed_no_other_device(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", asked.append)
    Decoder(CFG, seed=5)
    assert asked == []


# ---- nothing in, nothing out


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_no_row_or_no_token_has_no_logits_and_zero_gradients(shape):
    model = Decoder(CFG)
    out = model(tokens(*shape))
    out.sum().backward()
    assert out.shape == (*shape, 11) and all((p.grad == 0).all() for p in model.parameters())
    assert run_with_cache(model, tokens(*shape)).weights[0].shape == (shape[0], 2, shape[1], shape[1])


@pytest.mark.parametrize("cache", [True, False])
def test_no_prompt_and_nothing_to_write(cache):
    model = loud(CFG)
    for t, n, lengths in (
        (tokens(0, 5), 3, None),
        (tokens(0, 5), 3, torch.zeros(0).long()),
        (tokens(0, 0), 3, None),
        (tokens(2, 5), 0, None),
        (tokens(2, 5), 0, [5, 2]),
    ):
        out = generate(model, t, n, lengths=lengths, cache=cache)
        assert out.shape == (len(t), n) and out.dtype == torch.int64


def test_a_loss_over_nothing_is_refused_and_over_no_target_is_zero():
    for shape in ((2, 1), (0, 5), (0, 0)):
        with pytest.raises(ValueError, match="^tokens.shape="):
            cross_entropy(torch.zeros(*shape, 11), tokens(*shape))
    logits = torch.zeros(2, 5, 11, requires_grad=True)
    cross_entropy(logits, tokens(2, 5), torch.zeros(2, 5)).backward()
    assert (logits.grad == 0).all()


# ---- prompts


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_any_whole_numbers_are_tokens(dtype):
    model, t = loud(CFG), tokens(3, 6)
    assert torch.equal(model.generate(t.to(dtype), 4), model.generate(t, 4)) and torch.equal(
        model(t.to(dtype)), model(t)
    )
    assert as_tokens(t.to(dtype), 11).dtype == torch.int64


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("mixer", MIXERS)
def test_what_stands_behind_a_length_is_not_looked_at(mixer, cache):
    model, t, lengths = loud(CFG, MIXERS[mixer]), tokens(4, 8), torch.tensor([2, 8, 5, 1])
    want = model.generate(t, 5, lengths=lengths, cache=cache)
    padding = torch.arange(8) >= lengths[:, None]
    for pad in (-1, -100, 11, 10**6):
        assert torch.equal(
            model.generate(t.masked_fill(padding, pad), 5, lengths=lengths.int(), cache=cache), want
        )
    with pytest.raises(ValueError, match="^tokens=-100"):
        model.generate(t.masked_fill(padding, -100), 5)


@given(st.floats(0, 1e308, exclude_min=True), st.integers(0, 99))
def test_every_temperature_draws_from_its_softmax(temperature, seed):
    logits = 30 * torch.randn(4, 11, generator=torch.Generator().manual_seed(seed))
    drawn = sample_token(logits, temperature, torch.Generator().manual_seed(seed))
    assert ((drawn >= 0) & (drawn < 11)).all()
    if temperature < 1e-6:
        assert (drawn == logits.argmax(-1)).all()


def test_a_vanishing_temperature_takes_the_most_likely_token_and_a_huge_one_any():
    model, t = loud(CFG), tokens(3, 5)
    for tau in (5e-324, 1e-300, 1e-40):
        assert torch.equal(model.generate(t, 6, temperature=tau), model.generate(t, 6))
    drawn = model.generate(
        t[:1].expand(3000, -1), 1, temperature=1e308, generator=torch.Generator().manual_seed(0)
    )
    assert (torch.bincount(drawn[:, 0], minlength=11) > 3000 / 11 - 90).all()


# ---- other dtypes and transforms


@pytest.mark.parametrize("usual", [torch.bfloat16, torch.float16, torch.float64])
def test_rotary_angles_do_not_depend_on_the_usual_dtype(usual):
    x = {
        d: torch.randn(2, 1, 2000, 16, generator=torch.Generator().manual_seed(0)).to(d)
        for d in (torch.float64, torch.float32, torch.bfloat16)
    }
    at = torch.arange(2000)
    want = {d: rotary(t, at) for d, t in x.items()}
    angle = at.double()[:, None] * 10_000.0 ** (-torch.arange(8).double() / 8)
    a, b = x[torch.float64].chunk(2, -1)
    exact = torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)
    assert (want[torch.float64] - exact).abs().max() < 1e-11 and (
        want[torch.float32] - exact
    ).abs().max() < 2e-3
    assert (want[torch.bfloat16] - exact).abs().max() < 0.03
    with default_dtype(usual):
        for d, t in x.items():
            assert torch.equal(rotary(t, at), want[d])
        assert torch.equal(rotary(x[torch.float32], at.expand(2, -1)), want[torch.float32])


def test_checks_stand_in_no_ones_way():
    model, t = Decoder(replace(CFG, tied=False)), tokens(3, 6)
    quick = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    torch.testing.assert_close(quick(t), model(t))
    params = {name: p.detach() for name, p in model.named_parameters()}

    def loss(p, row):
        return cross_entropy(torch.func.functional_call(model, p, (row[None],)), row[None])

    each = torch.vmap(torch.func.grad(loss), (None, 0))(params, t)["unembed.weight"]
    cross_entropy(model(t), t).backward()
    torch.testing.assert_close(each.mean(0), model.unembed.weight.grad, rtol=1e-4, atol=1e-6)
    assert model.to("meta")(t.to("meta")).shape == (3, 6, 11)
