"""Lines in the heads of a Llama of transformers: what each setting computes, what is chosen, what is kept."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("transformers")

from lla_course.attention.dense import lla_dense
from lla_course.attention.flash import flash_lla
from lla_course.integrations import lines as L
from lla_course.integrations import pretrained_lines as P
from lla_course.pretrained import tiny_llama

IDS = torch.randint(3, 259, (4, 41), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    return L.with_lines(tiny_llama(seed=1, layers=2)[0].double())


def heads(seed=0, T=12, D=8):
    rng = torch.Generator().manual_seed(seed)
    q = torch.randn(2, 3, T, D, generator=rng, dtype=torch.float64)
    k, v = torch.randn(2, 2, 1, T, D, generator=rng, dtype=torch.float64)
    own = L.Heads(3, D, 24)
    return own, q, k, v


def parts(q, k, scale):
    "Weights, mean keys and centred keys of each query, causal."
    k = k.expand(-1, q.shape[1], -1, -1)
    future = torch.ones(q.shape[-2], q.shape[-2]).triu(1) > 0
    p = (scale * q @ k.mT).masked_fill(future, -torch.inf).softmax(-1)
    kbar = p @ k
    return p, kbar, k[..., None, :, :] - kbar[..., None, :]


def test_without_lines_it_is_the_model_that_it_was(model):
    plain, _ = tiny_llama(seed=1, layers=2)
    with torch.no_grad():
        expected = plain.double()(IDS[:, :-1]).logits
        assert torch.allclose(model(IDS[:, :-1], use_cache=False).logits, expected, atol=1e-10)
        for mode in ("ridge", "relative", "random"):
            L.set_lines(model, mode, L.OFF)
            assert torch.allclose(model(IDS[:, :-1], use_cache=False).logits, expected, atol=1e-10)


def test_a_ridge_is_local_linear_attention_and_off_leaves_a_head_alone():
    own, q, k, v = heads()
    own.set("ridge", [0.5, L.OFF, 20.0])
    o = own(q, k, v, 0.3)
    for h, ridge in ((0, 0.5), (2, 20.0)):
        right = lla_dense(q[:, h], k[:, 0], v[:, 0], ridge=ridge, scale=0.3)
        assert torch.allclose(o[:, h], right, atol=1e-6)
    soft = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    assert torch.equal(o[:, 1], soft[:, 1])


def test_a_relative_ridge_is_in_units_of_the_spread():
    own, q, k, v = heads(1)
    p, _, z = parts(q, k, 0.3)
    trace = (p * z.square().sum(-1)).sum(-1)
    assert torch.allclose(L.spread(q, k, 0.3).double(), trace / 8, atol=1e-5)
    own.set("relative", 2.0)
    right = lla_dense(q, k.expand_as(q), v.expand_as(q), ridge=2 * trace / 8, scale=0.3)
    assert torch.allclose(own(q, k, v, 0.3)[:, :, 1:], right[:, :, 1:], atol=1e-4)


def test_a_relative_ridge_is_solved_with_in_float32():
    own, q, k, v = heads(6)
    q, k, v = (t.bfloat16() for t in (100 * q, k, v))  # sharp: many queries see one key only
    own.set("relative", 1e4)
    found = own(q, k, v, 0.3)
    assert found.dtype == torch.bfloat16
    wide = own(*(t.float() for t in (q, k, v)), 0.3)
    assert torch.equal(found, wide.bfloat16())
    own.narrow = True
    rounded = flash_lla(q, k, v, ridge=1e4 * L.spread(q, k, 0.3), scale=0.3, enable_gqa=True)
    assert torch.equal(own(q, k, v, 0.3), rounded)


def test_the_spread_has_the_gradient_of_the_formula_and_keeps_queries_and_keys_only():
    q, k = (t.requires_grad_() for t in heads(4)[1:3])
    p, _, z = parts(q, k, 0.3)
    right = (p * z.square().sum(-1)).sum(-1) / 8
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        found = L.spread(q, k, 0.3)
    assert sum(t.numel() for t in kept) <= q.numel() + k.numel() + 2 * found.numel()
    g = torch.randn(found.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g[..., 0] = 0  # at a lone key the spread is zero, where it is clamped
    for a, b in zip(torch.autograd.grad(found, (q, k), g), torch.autograd.grad(right, (q, k), g)):
        assert torch.allclose(a, b, atol=1e-9)


def test_the_spread_is_not_rounded_to_16_bits_under_autocast():
    q, k = (t.float() for t in heads(5)[1:3])
    with torch.autocast("cpu", torch.bfloat16):
        found = L.spread(q, k, 0.3)
    assert torch.equal(found, L.spread(q, k, 0.3))


def test_what_stands_in_the_place_of_the_solution():
    own, q, k, v = heads(2)
    p, kbar, z = parts(q, k, 0.3)
    C = (p[..., None, None] * z[..., :, None] * z[..., None, :]).sum(-3)
    u = torch.linalg.solve(C + 3 * torch.eye(8), (q - kbar)[..., None])[..., 0]
    directions = dict(unsolved=(q - kbar) / 3, query=q / 3, mean=-kbar / 3, opposite=-u)
    directions["neighbour"] = u.roll(1, -2)
    for mode in L.INSTEAD:
        own.set(mode, 3.0)
        found = L._direction(own, q, k, v, 0.3).double()
        if mode == "random":
            assert torch.allclose(found.norm(dim=-1)[..., 1:], u.norm(dim=-1)[..., 1:], rtol=1e-4)
            assert (F.cosine_similarity(found, u, dim=-1).abs() < 0.99).all()
        else:
            # the first query sees one key, which no direction changes
            assert torch.allclose(found[..., 2:, :], directions[mode][..., 2:, :], atol=1e-5)
            s = p * (1 + (directions[mode][..., None, :] * z).sum(-1))
            assert torch.allclose(own(q, k, v, 0.3)[..., 2:, :], (s @ v.expand_as(q))[..., 2:, :], atol=1e-5)


def test_a_probe_is_a_projection_of_the_token_turned_as_its_query(model):
    L.set_lines(model, "probe")
    own = L.lines(model)[0]
    own.some = None
    with torch.no_grad():
        before = model(IDS[:, :-1], use_cache=False).logits
        own.probe.normal_(generator=torch.Generator().manual_seed(0))
        after = model(IDS[:, :-1], use_cache=False).logits
    assert not torch.allclose(before, after)
    assert own.token.shape == (4, 40, 48)
    changed = IDS.clone()
    changed[:, 30] = 5
    with torch.no_grad():
        other = model(changed[:, :-1], use_cache=False).logits
    assert torch.allclose(after[:, :30], other[:, :30], atol=1e-10)


def test_temperature_and_gain_are_those_of_a_head(model):
    own, q, k, v = heads(3)
    with torch.no_grad():
        own.log_temperature[1], own.log_gain[2] = 0.5, -1.0
    o = own(q, k, v, 0.3)
    soft = partial_softmax(q, k, v)
    assert torch.allclose(o[:, 0], soft(1.0)[:, 0])
    assert torch.allclose(o[:, 1], soft(float(np.exp(0.5)))[:, 1], atol=1e-6)
    assert torch.allclose(o[:, 2], soft(1.0)[:, 2] / float(np.e), atol=1e-6)


def partial_softmax(q, k, v):
    return lambda t: F.scaled_dot_product_attention(t * q, k, v, is_causal=True, scale=0.3, enable_gqa=True)


def test_padding_and_caches_are_refused(model):
    with pytest.raises(ValueError, match="attention_mask=.*chapter 37"):
        module = model.model.layers[0].self_attn
        q = torch.zeros(1, 3, 1, 16)
        L._attention(module, q, torch.zeros(1, 1, 4, 16), torch.zeros(1, 1, 4, 16), None)
    with pytest.raises(ValueError, match="ridge=.*one entry for each of 2 layers"):
        L.set_lines(model, "ridge", [1.0])
    with pytest.raises(ValueError, match="ridge=.*positive"):
        L.set_lines(model, "ridge", 0.0)
    with pytest.raises(ValueError, match="mode='lines'"):
        L.set_lines(model, "lines")


def test_losses_are_those_of_the_model(model):
    with torch.no_grad():
        logits = model(IDS[:, :-1], use_cache=False).logits
    right = F.cross_entropy(logits.flatten(0, 1), IDS[:, 1:].flatten(), reduction="none").view(4, 40)
    for tokens in (40, 100, 10_000):
        assert torch.allclose(L.losses(model, IDS, tokens=tokens).double(), right, atol=1e-5)
    assert torch.allclose(L.text_loss(model, IDS).double(), right.mean(), atol=1e-5)


def test_a_search_finds_the_layer_that_was_made_to_want_a_line(model):
    "Texts are drawn from the model with a line in its second layer only."
    L.set_lines(model, "ridge", [L.OFF, 1.0])
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 259, (24, 1), generator=rng)
    with torch.no_grad():
        for _ in range(24):
            p = model(ids, use_cache=False).logits[:, -1].softmax(-1)
            ids = torch.cat([ids, torch.multinomial(p, 1, generator=rng)], 1)
    L.set_lines(model, "softmax")
    chosen, table = L.search(model, ids, (100.0, 1.0))
    assert chosen[1] == 1.0 and table[1, 1] == table.min() and table.shape == (2, 2)
    assert L.ridges_of(model)[1] == pytest.approx([1.0] * 3)
    L.set_lines(model, "softmax")
    changes = L.alone(model, ids, (1.0,))
    assert changes.shape == (2, 3, 1, 24)
    base = L.losses(model, ids).mean(1).numpy()
    L.set_lines(model, "ridge", [L.OFF, [L.OFF, 1.0, L.OFF]])
    assert np.allclose(L.losses(model, ids).mean(1).numpy() - base, changes[1, 1, 0], atol=1e-5)


def test_learned_ridges_go_the_right_way(model):
    "From nearly softmax towards the line that wrote the texts, with all else frozen."
    before = copy.deepcopy(model.state_dict())
    cfg = P.Config("fitted", "ridge", tiny=True, length=32, documents=40, steps=4, rows=2, start=30.0)
    groups = P._start(model.float(), "ridge", cfg)
    assert [g["lr"] for g in groups] == [0.1] and L.ridges_of(model)[0] == pytest.approx([30.0] * 3)
    history = P.learn(model, groups, cfg)
    assert history["steps"] == 4 and np.isfinite(history["loss"]).all()
    after = model.state_dict()
    moved = [n for n in after if not torch.equal(after[n].double(), before[n].double())]
    assert moved and all("log_ridge" in name for name in moved)


def test_paired_differences():
    rng = np.random.default_rng(0)
    tokens = rng.integers(100, 1000, 400)
    base = tokens * (2 + rng.normal(size=400))
    a = base + tokens * (0.01 + 0.05 * rng.normal(size=400))
    mean, error = L.paired(a, base, tokens)
    assert abs(mean - 0.01) < 4 * error and 0.0015 < error < 0.005
    copies = [L.paired(np.tile(x, 4), np.tile(base, 4), np.tile(tokens, 4)) for x in (a,)]
    assert copies[0][0] == pytest.approx(mean) and copies[0][1] == pytest.approx(error / 2, rel=0.01)
    with pytest.raises(ValueError, match="a=.*at least two"):
        L.paired(a[:1], base[:1], tokens[:1])


def test_texts_are_cut_kept_and_read_back(tmp_path):
    texts = {"library": ["x" * 300, "y" * 9000, "z" * 20], "book": ["q" * 400]}
    _, tokenizer = tiny_llama(layers=1)
    made = L.tokenise(tokenizer, texts)
    share = L.share_of("x" * 300)
    assert len(made.found["library", share][0]) == 300 and len(made.found["book", "test"]) == 1
    assert made.bytes[3:].max() == 1 and made.bytes[:3].max() == 0
    assert L.pack_texts(tmp_path / "t.npz", made) == made.hash
    again = L.unpack_texts(tmp_path / "t.npz")
    assert again.hash == made.hash and again.found.keys() == made.found.keys()
    long = made.found["library", L.share_of("y" * 9000)][-1]
    ids, whose = L.windows([long[:205]], 100, most=8)
    assert ids.shape == (2, 101) and list(whose) == [0, 0] and ids[0, -1] == ids[1, 0]
    with pytest.raises(ValueError, match="documents=1.*more than 1000 tokens"):
        L.windows([long[:205]], 1000)


def test_shares_are_by_hash_and_of_their_sizes():
    drawn = [L.share_of(f"document {i}") for i in range(2000)]
    assert [round(drawn.count(s) / 2000, 1) for s in ("test", "tune", "train")] == [0.4, 0.2, 0.4]


def test_lookup_prompts_hold_their_answer_once():
    for prompt, answer in P.lookup_prompts(20, 5):
        name = prompt.rpartition("The code of ")[2].removesuffix(" is")
        assert f"The code of {name} is{answer}.\n" in prompt and prompt.count(name) == 2


def test_padding_after_an_answer_changes_nothing(model):
    _, tokenizer = tiny_llama()
    prompts = P.lookup_prompts(3, 2) + P.lookup_prompts(2, 4)
    together = P._answered(model, tokenizer, prompts)
    single = [P._answered(model, tokenizer, [p]) for p in prompts]
    assert together["loss"] == pytest.approx([s["loss"][0] for s in single], abs=2e-3)


NAMES = ["common", "fit_ridge_temperature", "train_parallax_s0", "heads", "relative_exact", "fit_relative"]


@pytest.mark.parametrize("name", NAMES)
def test_a_small_cell_is_recorded(name):
    run = P.run(P.cells("fast")[name])
    assert run.result["documents"]["book"] > 0 and run.arrays["tokens"].shape[1] == 4
    measured = [
        a
        for n, a in run.arrays.items()
        if a.shape == run.arrays["tokens"].shape and n not in ("tokens", "bytes")
    ]
    assert measured and all(np.isfinite(a).all() for a in measured)


def test_stretches_that_were_learned_from_are_counted():
    texts = torch.randint(3, 200, (5, 60), generator=torch.Generator().manual_seed(0))
    numbers = P._stretches(texts)
    assert numbers.shape == (5, 48) and len(np.unique(numbers)) == numbers.size
    moved = torch.cat([texts[:, 20:], texts[:, :20]], 1)  # the last 40 tokens of each, and then others
    again = np.isin(P._stretches(moved), numbers)
    assert again[:, :28].all() and not again[:, 28:40].any() and again[:, 40:].all()


def test_what_a_test_is_like_is_recorded():
    cfg = P.cells("fast")["sample"]
    run = P.run(cfg)
    assert run.arrays["spread"].shape == (3, 3) and (run.arrays["spread"] > 0).all()
    learned = run.arrays["learned"]
    assert learned.shape == run.arrays["kind"].shape and 0 <= learned.min() and learned.max() <= 1
    model, _ = P.fresh_model(cfg, torch.float32)
    ids = P._spread_windows(P.TestTexts(cfg), cfg.search)
    seen = []
    L.lines(model)[0].register_forward_pre_hook(lambda own, args: seen.append(args))
    L.losses(model, ids)
    q, k, _, scale = seen[0]
    p, _, z = parts(q.double(), k.double(), scale)
    right = ((p * z.square().sum(-1)).sum(-1) / q.shape[-1])[..., 1:].mean((0, 2))
    assert np.allclose(run.arrays["spread"][0], right, rtol=1e-3)


def test_repetition_with_temperatures_and_gains_is_recorded():
    cfg = P.cells("fast")["repetition"]
    found = P.run(cfg).result
    model, _ = P.fresh_model(cfg, torch.float32)
    assert found["softmax"] == pytest.approx(P._repeated(model, cfg, cfg.length // 4), abs=1e-4)
    for what in ("temperature", "gain"):  # without a record, each logarithm is 1
        for own in L.lines(model):
            getattr(own, f"log_{what}").data.fill_(1.0)
        assert found[what] == pytest.approx(P._repeated(model, cfg, cfg.length // 4), abs=1e-4)
        assert found[what] != found["softmax"]
        for own in L.lines(model):
            getattr(own, f"log_{what}").data.zero_()
