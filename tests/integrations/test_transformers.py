"""Local Linear Attention in models of transformers: what a user of that library tries first."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

from lla_course.attention.dense import lla_dense  # noqa: E402
from lla_course.integrations.transformers import (  # noqa: E402
    DEFAULT_RIDGE,
    Ridge,
    add_ridges,
    masked_lla,
    register,
    runs,
    sequences,
)

register()
SIZES = dict(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    initializer_range=0.2,  # keys long enough for the ridge to matter
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=None,
    lla_ridge=0.3,
)
WINDOW = 6
KINDS = dict(
    llama=("Llama", {}),
    qwen3=("Qwen3", dict(head_dim=16)),
    mistral=("Mistral", dict(sliding_window=WINDOW)),
    gemma=("Gemma", dict(head_dim=16)),
    gemma3=(
        "Gemma3",
        dict(head_dim=16, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"]),
    ),
)


def make(kind="llama", attention="lla", dtype=torch.float64, **more):
    "A small random model; in float64 the solver leaves little, so that a wrong mask cannot hide."
    name, own = KINDS[kind]
    config = getattr(transformers, f"{name}Config" if name != "Gemma3" else "Gemma3TextConfig")
    torch.manual_seed(0)
    config = config(**(SIZES | own | more), attn_implementation=attention)
    return getattr(transformers, f"{name}ForCausalLM")(config).to(dtype).eval()


def text(B=2, T=17, seed=1):
    return torch.randint(3, 96, (B, T), generator=torch.Generator().manual_seed(seed))


def far(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_attention_is_the_formula_and_is_not_softmax(kind):
    ids = text()
    with torch.no_grad():
        lla, eager, softmax = (make(kind, name)(ids).logits for name in ("lla", "eager_lla", "sdpa"))
    assert far(lla, eager) < 1e-5
    assert far(lla, softmax) > 1e-2 * float(softmax.std())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 5, 16])
def test_cached_logits_are_those_without_a_cache(kind, cut):
    "A prompt, then token by token; and a prompt in two pieces."
    model, ids = make(kind), text()
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
        first = model(ids[:, :cut], use_cache=True)
        rest = model(ids[:, cut:], cache=first.cache).logits
        assert far(torch.cat([first.logits, rest], 1), whole) < 1e-5
        state, found = model(ids[:, :cut], use_cache=True), []
        cache, found = state.cache, [state.logits]
        for t in range(cut, ids.shape[1]):
            found.append(model(ids[:, t : t + 1], cache=cache).logits)
        assert far(torch.cat(found, 1), whole) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_are_equal_to_unpadded_ones(kind, side):
    model, ids, pad = make(kind), text(3, 14), [0, 3, 9]
    rows, mask = ids.clone(), torch.ones_like(ids)
    for b, n in enumerate(pad):
        real = ids[b, : ids.shape[1] - n]
        empty = real.new_zeros(n)
        rows[b] = torch.cat([empty, real] if side == "left" else [real, empty])
        mask[b] = torch.cat(
            [empty, torch.ones_like(real)] if side == "left" else [torch.ones_like(real), empty]
        )
    with torch.no_grad():
        logits = model(rows, attention_mask=mask).logits
        for b, n in enumerate(pad):
            alone = model(ids[b : b + 1, : ids.shape[1] - n]).logits[0]
            assert far(logits[b][mask[b].bool()], alone) < 1e-5


def generate(model, ids, **more):
    return model.generate(ids, max_new_tokens=10, min_new_tokens=10, do_sample=False, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_generation_is_the_same_with_every_cache_and_without(kind):
    model, ids = make(kind), text(2, 7)
    whole = generate(model, ids, use_cache=False)
    assert whole.shape == (2, 17)
    for cache in (None, "static"):
        assert (generate(model, ids, cache_implementation=cache) == whole).all(), cache
    assert (generate(model, ids, prefill_chunk_size=3) == whole).all()
    beams = [generate(model, ids, num_beams=3, use_cache=use) for use in (True, False)]
    assert (beams[0] == beams[1]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache", [None, "static"])
def test_a_padded_batch_generates_what_each_prompt_does_alone(kind, cache):
    model, ids, pad = make(kind), text(3, 9), (0, 2, 6)
    rows, mask = ids.clone(), torch.ones_like(ids)
    for b, n in enumerate(pad):
        rows[b, :n], mask[b, :n] = 0, 0
    together = generate(model, rows, attention_mask=mask, cache_implementation=cache)
    for b, n in enumerate(pad):
        assert (together[b, 9:] == generate(model, ids[b : b + 1, n:])[0, 9 - n :]).all()


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3"])
def test_a_static_cache_gives_the_logits_of_none(kind):
    "Prefill, a chunk, single tokens; the cache is longer than the text."
    model, ids = make(kind), text()
    cache = transformers.StaticCache(config=model.config, max_cache_len=32)
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
        parts = [model(part, cache=cache).logits for part in ids.split([1, 6, 8, 1, 1], 1)]
    assert far(torch.cat(parts, 1), whole) < 1e-5


def test_packed_texts_do_not_see_each_other():
    model, ids = make(), text(1, 12)
    places = torch.cat([torch.arange(5), torch.arange(7)])[None]
    with torch.no_grad():
        packed = model(ids, position_ids=places, use_cache=False).logits
        alone = torch.cat([model(part).logits for part in ids.split([5, 7], 1)], 1)
    assert far(packed, alone) < 1e-5


@pytest.mark.parametrize("attention", ["lla", "eager_lla"])
def test_a_boolean_mask_of_any_shape_is_obeyed(attention):
    "What a query does not see has no influence, gaps and all."
    model, ids = make(attention=attention), text(2, 8)
    seen = torch.ones(8, 8, dtype=torch.bool).tril()
    seen[:, 3] = False
    seen[3, 3] = True
    seen[7, 5] = False
    other = ids.clone()
    other[:, 3] = 5
    with torch.no_grad():
        a, b = (model(x, attention_mask=seen.expand(2, 1, 8, 8)).logits for x in (ids, other))
    keep = torch.arange(8) != 3
    assert far(a[:, keep], b[:, keep]) < 1e-9 and far(a[:, 3], b[:, 3]) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_lower_precision(dtype):
    "float32: a cache changes the logits by rounding only. bfloat16: a few per cent, as softmax attention."
    model, ids = make(dtype=dtype, initializer_range=0.05), text()
    with torch.no_grad():
        whole, true = model(ids, use_cache=False).logits, make(initializer_range=0.05)(ids).logits
        state = model(ids[:, :9], use_cache=True)
        rest = model(ids[:, 9:], cache=state.cache).logits
    assert whole.dtype == dtype and torch.isfinite(whole).all()
    if dtype == torch.float32:
        assert far(rest, whole[:, 9:]) < 1e-5 and far(whole, true) < 1e-5
    assert (whole - true).norm() < 0.05 * true.norm()
    assert (rest - true[:, 9:]).norm() < 0.05 * true.norm()


def loss_and_gradients(model, ids, **more):
    model.zero_grad()
    loss = model(ids, labels=ids, **more).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_training_with_checkpointing_is_training(kind):
    model, ids = make(kind).train(), text()
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    for more in ({}, dict(attention_mask=mask)):
        loss, plain = loss_and_gradients(model, ids, **more)
        model.activation_checkpointing_enable()
        again, saved = loss_and_gradients(model, ids, **more)
        model.activation_checkpointing_disable()
        assert abs(loss - again) < 1e-9
        assert all(far(plain[name], saved[name]) < 1e-8 for name in plain)
    eager = make(kind, "eager_lla").train()
    assert loss_and_gradients(eager, ids, attention_mask=mask)[0] == pytest.approx(loss, abs=1e-6)
    true = {name: p.grad for name, p in eager.named_parameters()}
    assert all(far(plain[name], true[name]) < 1e-4 * (1 + float(true[name].abs().max())) for name in true)


# ---- the ridge


def test_there_is_one_ridge_a_layer_and_head_and_it_learns():
    model, ids = make(lla_ridge=[0.5, [1.0, 2.0, 3.0, 4.0]]), text()
    found = [layer.self_attn.lla_ridge().flatten().tolist() for layer in model.model.layers]
    assert found[0] == pytest.approx([0.5] * 4) and found[1] == pytest.approx([1, 2, 3, 4])
    gradients = loss_and_gradients(model.train(), ids)[1]
    names = [name for name in gradients if "ridge" in name]
    assert len(names) == 2 and all(gradients[name].abs().min() > 0 for name in names)


def test_a_large_ridge_is_softmax_attention():
    ids = text()
    with torch.no_grad():
        assert far(make(lla_ridge=1e8)(ids).logits, make(attention="sdpa")(ids).logits) < 1e-5


def test_a_model_that_says_nothing_starts_close_to_softmax():
    config = transformers.LlamaConfig(**{n: x for n, x in SIZES.items() if n != "lla_ridge"})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="lla")
    assert model.config.lla_ridge == DEFAULT_RIDGE
    assert model.model.layers[1].self_attn.lla_ridge().mean().item() == pytest.approx(DEFAULT_RIDGE)


@pytest.mark.parametrize("bad", [0.0, -1.0, [1.0], [1.0, [1.0, 2.0]], float("nan")])
def test_a_bad_ridge_is_refused_by_name(bad):
    with pytest.raises(ValueError, match="lla_ridge"):
        make(lla_ridge=bad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_comes_back_with_its_attention_and_its_ridges(tmp_path, dtype):
    model, ids = make(dtype=torch.float32), text()
    with torch.no_grad():
        model.model.layers[0].self_attn.lla_ridge.log_ridge += torch.tensor([0.1, 0.2, 0.3, 0.4])
        whole = model(ids).logits
        model.save_pretrained(tmp_path)
        again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
        assert again.config._attn_implementation == "lla" and again.config.lla_ridge == 0.3
        assert again.model.layers[0].self_attn.lla_ridge.log_ridge.dtype == torch.float32
        assert far(again(ids).logits, whole) < (1e-6 if dtype == torch.float32 else 1.0)
        again.save_pretrained(tmp_path / "twice")
        twice, report = transformers.LlamaForCausalLM.from_pretrained(
            tmp_path / "twice", output_loading_info=True
        )
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for a, b in zip(again.model.layers, twice.model.layers):
        assert (a.self_attn.lla_ridge() == b.self_attn.lla_ridge()).all()


def test_a_softmax_checkpoint_is_loaded_with_local_lines(tmp_path):
    "The ridges are new, and start where the config says; all other weights are those of the file."
    model, ids = make(attention="sdpa", dtype=torch.float32, lla_ridge=1e7), text()
    model.save_pretrained(tmp_path)
    lla = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="lla")
    assert lla.model.layers[1].self_attn.lla_ridge().tolist() == [[pytest.approx(1e7)]] * 4
    with torch.no_grad():
        assert far(lla(ids).logits, model(ids).logits) < 1e-4
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert back.config._attn_implementation == "sdpa" and not any("ridge" in n for n in back.state_dict())


def test_a_living_model_changes_its_attention_and_changes_back(tmp_path):
    model, ids = make(attention="sdpa"), text()
    with torch.no_grad():
        softmax = model(ids).logits
        model.set_attn_implementation("lla")
        assert far(model(ids).logits, make()(ids).logits) < 1e-5
        assert sum(isinstance(m, Ridge) for m in model.modules()) == 2
        assert add_ridges(model) is model and sum(isinstance(m, Ridge) for m in model.modules()) == 2
        model.set_attn_implementation("sdpa")
        assert far(model(ids).logits, softmax) < 1e-12
    assert "attn_implementation" not in model.config.to_dict()


# ---- what is refused


def test_what_is_not_supported_is_refused_by_name():
    ids = text()
    with pytest.raises(ValueError, match="dropout"):
        make(attention_dropout=0.1).train()(ids)
    assert torch.isfinite(make(attention_dropout=0.1)(ids).logits).all()
    with pytest.raises(ValueError, match="output_attentions"):
        make()(ids, output_attentions=True)
    bias = torch.zeros(2, 1, 17, 17)
    with pytest.raises(ValueError, match="attention_mask.dtype"):
        make()(ids, attention_mask=bias)
    config = transformers.Gemma2Config(**SIZES | dict(head_dim=16), attn_implementation="lla")
    with pytest.raises(ValueError, match="softcap"):
        transformers.Gemma2ForCausalLM(config)(ids)


def test_the_reference_returns_its_weights():
    "They sum to one; some are negative, which no softmax has."
    weights = make(attention="eager_lla")(text(), output_attentions=True).attentions
    assert len(weights) == 2 and weights[0].shape == (2, 4, 17, 17)
    assert far(weights[0].sum(-1), torch.ones(2, 4, 17)) < 1e-9 and (weights[0] < -1e-3).any()
    assert (weights[0].triu(1) == 0).all()


# ---- compiled


@pytest.mark.parametrize(
    "backend, padded",
    [("aot_eager", False)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in (("aot_eager", True), ("inductor", False))],
)
def test_it_compiles_with_its_gradient(backend, padded):
    model, ids = make(dtype=torch.float32, num_hidden_layers=1), text()
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    more = dict(attention_mask=mask) if padded else {}
    found = torch.compile(model, backend=backend, fullgraph=True)(ids, labels=ids, **more)
    assert far(found.logits[mask == 1], model(ids, **more).logits[mask == 1]) < 1e-3
    found.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# ---- the parts


def test_the_formula_with_a_mask_is_the_dense_formula():
    q, k, v = (torch.randn(2, h, 9, 8, dtype=torch.float64) for h in (4, 2, 2))
    seen = torch.ones(9, 9, dtype=torch.bool).tril()
    o, s = masked_lla(q, k, v, seen, torch.full((4, 1), 0.2, dtype=torch.float64), 0.4)
    true = lla_dense(q, k, v, ridge=0.2, scale=0.4, enable_gqa=True, floor=1e-8)
    assert far(o, true) < 1e-9 and far(s.sum(-1), torch.ones(2, 4, 9)) < 1e-12
    empty = seen.clone()
    empty[4] = False
    assert (masked_lla(q, k, v, empty, torch.tensor(0.2), 0.4)[0][:, :, 4] == 0).all()


def test_runs_are_cut_where_one_call_ends():
    assert runs([0, 0, 0], [1, 2, 3]) == [(0, 3, 0, 3, (0, 1))]
    assert runs([0, 0, 0, 1, 2], [1, 2, 3, 4, 5]) == [(0, 3, 0, 3, (0, 1)), (3, 5, 1, 5, (1, 1))]
    assert runs([0, 0, 0, 0], [0, 0, 1, 2]) == [(0, 2, 0, 0, (0, 0)), (2, 4, 0, 2, (0, 1))]
    assert runs([0, 0, 3], [2, 2, 4]) == [(0, 2, 0, 2, (0, 0)), (2, 3, 3, 4, (0, 0))]
    assert runs([0], [1]) == [(0, 1, 0, 1, (0, 0))]


def test_rows_that_are_alike_are_answered_together():
    mask = torch.ones(3, 4, 4, dtype=torch.bool).tril()
    mask[1, :, 0] = False
    found = sequences(mask)
    assert [(rows, keys) for rows, keys, _ in found] == [([0, 2], [0, 1, 2, 3]), ([1], [1, 2, 3])]
    mask[0, 3, 1] = False
    assert sequences(mask) is None


def test_without_transformers_there_is_one_clear_error():
    code = (
        "import sys\nsys.modules['transformers'] = None\n"
        "from lla_course.integrations.transformers import register\n"
        "try:\n    register()\nexcept ImportError as error:\n    print(error)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert "pip install lla-course[transformers]" in done.stdout, done.stderr


def test_a_sliding_window_is_a_call_with_a_window(monkeypatch):
    "The first queries are causal, all others share their keys, which are copied for nobody."
    from lla_course.integrations import transformers as hook

    calls, real = [], hook.flash_lla

    def spy(q, k, v, **more):
        calls.append((q.shape[2], k.shape[2], more["is_causal"], more["window"]))
        return real(q, k, v, **more)

    monkeypatch.setattr(hook, "flash_lla", spy)
    with torch.no_grad():
        make("mistral")(text(1, 17), use_cache=False)
    assert calls == [(6, 6, True, None), (11, 16, True, (5, 0))] * make("mistral").config.num_hidden_layers


MASKS = dict(
    none=None,
    causal=lambda i, j: j <= i,
    sliding=lambda i, j: (j <= i) & (j > i - 4),
    own=lambda i, j: j == i,
    both_sides=lambda i, j: (j - i).abs() <= 2,
    gaps=lambda i, j: (j <= i) & (j % 2 == 0),
    nothing=lambda i, j: j < 0,
)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("T", [9, 3, 1])
@pytest.mark.parametrize("Dv", [4, 12])
def test_values_may_have_a_head_size_of_their_own(Dv, T, kind):
    from lla_course.integrations import transformers as hook

    S, sees = 9, MASKS[kind]
    mask = sees and sees(torch.arange(S - T, S)[:, None], torch.arange(S)).expand(2, 1, T, S).clone()
    if mask is not None:
        mask[1, ..., :2] = False  # padding on the left
    module = make().model.layers[0].self_attn
    drawn = [torch.randn(2, h, n, D).double() for h, n, D in ((4, T, 8), (2, S, 8), (2, S, Dv))]
    for learns in (False, True):
        tensors = [t.clone().requires_grad_(learns) for t in drawn]
        fast, true = (f(module, *tensors, mask)[0] for f in (hook.lla_attention, hook.eager_lla_attention))
        assert fast.shape == (2, T, 4, Dv) and far(fast, true) < 1e-8
        if learns and kind != "nothing":
            grads = (torch.autograd.grad(o.sin().sum(), tensors) for o in (fast, true))
            assert max(map(far, *grads)) < 1e-7
