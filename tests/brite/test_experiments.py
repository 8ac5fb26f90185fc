"The experiments of chapter 42 and their parts: layout, probabilities, masks, advantages, methods, records."

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import same_with_usual_dtype
from lla_course.brite import experiments as E
from lla_course.brite import task as T
from lla_course.brite import updates as U
from lla_course.brite import writer as W

TASKS = [E.Config(n_max=4), E.Config(values=100, n_max=3), E.Config(task="carry", values=20, n_max=3)]
tiny = dict(width=16, heads=2, layers=1, prompts=40, batch=16, base_steps=3, sft_steps=3, rl_steps=2)
tiny |= dict(group=4, samples=4, draws=30, round_draws=5, test=8)
on = dict(ids=lambda c: f"{c.task}{c.values}" if isinstance(c, E.Config) else str(c))


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def writer(cfg, seed=3):
    return W.new_writer(replace(cfg, width=16, heads=2, layers=2, seed=seed)).eval()


@pytest.mark.parametrize("cfg", TASKS, **on)
def test_gold_texts_are_right_by_a_plain_sum_and_judged_so(cfg):
    p = T.sample_prompts(cfg, 50, gen())
    text = T.encode(cfg, p.gold, p.steps, p.y)
    right, faithful = T.grade(cfg, p, text)
    assert right.all() and faithful.all()
    for i in range(50):
        x, n = p.x[i].tolist(), int(p.n[i])
        if cfg.task == "chain":
            assert p.y[i].tolist() == [sum(x[:n]) % cfg.values]
        else:
            a, b = (sum(x[2 * k + j] * 10**k for k in range(n)) for j in (0, 1))
            assert sum(d * 10**k for k, d in enumerate(p.y[i].tolist())) == a + b
        assert p.x[i, -1] == cfg.values + 1 and 2 <= n <= cfg.n_max


@pytest.mark.parametrize("cfg", TASKS, **on)
def test_lucky_and_wrong_texts_are_told_apart(cfg):
    p = T.sample_prompts(cfg, 30, gen())
    z = p.gold.clone()
    z[:, 0] = (z[:, 0] + 1) % cfg.values
    right, faithful = T.grade(cfg, p, T.encode(cfg, z, p.steps, p.y))
    assert right.all() and not faithful.any()
    right, faithful = T.grade(cfg, p, T.encode(cfg, p.gold, p.steps, (p.y + 1) % cfg.values))
    assert not right.any() and faithful.all()
    longer = T.encode(cfg, p.gold, (p.steps + 1).clamp_max(cfg.n_max), p.y)
    assert T.grade(cfg, p, longer)[1].tolist() == (p.steps == cfg.n_max).tolist()


@pytest.mark.parametrize("cfg", TASKS, **on)
def test_the_author_takes_right_steps_as_often_as_told(cfg):
    p = T.sample_prompts(cfg, 20_000, gen())
    z = T.noisy_rationales(cfg, p.x, 0.35, 0.4, gen(1))
    before = p.x[:, 0] if cfg.task == "chain" else torch.zeros_like(p.x[:, 0])
    right = T.next_step(cfg, p.x, 0, before)
    assert abs(float((z[:, 0] == right).float().mean()) - (0.35 + 0.25 / cfg.values)) < 0.015
    assert (
        abs(float((z[:, 0] == (right + 3) % cfg.values).float().mean()) - (0.4 + 0.25 / cfg.values)) < 0.015
    )


@pytest.mark.parametrize("cfg", TASKS, **on)
def test_log_probs_equal_a_plain_loop(cfg):
    model, p = writer(cfg), T.sample_prompts(cfg, 12, gen())
    text = W.write(model, cfg, p.x, gen(1))
    got = W.log_probs(model, cfg, p.x, text)
    for i in range(12):
        seen, phase, total = p.x[i].tolist(), 0, []
        for k, token in enumerate(text[i].tolist()):
            if phase > cfg.answer_len:
                assert token == cfg.pad
                total.append(0.0)
                continue
            may = (
                list(range(cfg.values))
                if phase
                else [cfg.stop]
                if k == cfg.n_max
                else [*range(cfg.values), cfg.stop]
            )
            assert token in may
            logits = model(torch.tensor([seen]))[0, -1].detach().double()
            total.append(float(logits[token] - logits[may].logsumexp(0)))
            seen.append(token)
            phase += phase > 0 or token == cfg.stop
        assert torch.allclose(got[i].double(), torch.tensor(total, dtype=torch.double), atol=1e-5)


@pytest.mark.parametrize("cfg", TASKS, **on)
def test_what_is_written_has_one_stop_an_answer_and_padding(cfg):
    p = T.sample_prompts(cfg, 200, gen())
    text = W.write(writer(cfg), cfg, p.x, gen(1))
    stop = text == cfg.stop
    assert (stop.sum(1) == 1).all() and (stop.long().argmax(1) <= cfg.n_max).all()
    after = torch.arange(cfg.text_len) - stop.long().argmax(1)[:, None]
    assert (text[(after > 0) & (after <= cfg.answer_len)] < cfg.values).all() and (
        text[after > cfg.answer_len] == cfg.pad
    ).all()


def test_forced_stops_cost_nothing_and_the_answer_after_them_counts():
    cfg = E.Config(n_max=3)
    model = writer(cfg)
    with torch.no_grad():
        model.tok_embed.weight[cfg.stop] -= 100 * model.norm.weight
    x = T.sample_prompts(cfg, 20, gen()).x
    z = torch.randint(10, (20, 3), generator=gen(1))
    lp = W.log_probs(model, cfg, x, T.encode(cfg, z, torch.full((20,), 3), torch.full((20, 1), 4)))
    assert (lp[:, 3] == 0).all() and (lp[:, 4] < 0).all()


def test_draws_follow_the_probabilities():
    cfg = E.Config(n_max=2)
    model = writer(cfg)
    x = T.sample_prompts(cfg, 1, gen()).x.expand(40_000, -1)
    text = W.write(model, cfg, x, gen(1))
    found, counts = text.unique(dim=0, return_counts=True)
    with torch.no_grad():
        p = W.log_probs(model, cfg, x[: len(found)], found).sum(1).exp()
    top = p.topk(20).indices
    assert ((counts[top] / 40_000 - p[top]).abs() < 5 * (p[top] / 40_000).sqrt()).all()
    greedy = W.write(model, cfg, x[:1], gen(), greedy=True)
    assert (greedy == W.write(model, cfg, x[:1], gen(9), greedy=True)).all()


def test_texts_do_not_depend_on_the_rest_of_the_batch():
    cfg = TASKS[0]
    model, p = writer(cfg), T.sample_prompts(cfg, 9, gen())
    text = W.write(model, cfg, p.x, gen(1))
    whole = W.log_probs(model, cfg, p.x, text)
    assert torch.allclose(whole[3:4], W.log_probs(model, cfg, p.x[3:4], text[3:4]), atol=1e-6)


@given(st.integers(1, 5), st.integers(2, 6), st.integers(0, 1000))
def test_advantages_have_mean_zero_and_leave_one_out(G, K, seed):
    r = 10 * torch.randn(G, K, generator=gen(seed), dtype=torch.double)
    a = U.advantages(r)
    assert a.sum(1).abs().max() < 1e-9
    k = seed % K
    others = torch.cat([r[:, :k], r[:, k + 1 :]], 1).mean(1)
    assert torch.allclose(a[:, k], r[:, k] - others) and torch.allclose(U.advantages(r + 7), a)


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(3, 1)])
def test_one_text_has_no_others(bad):
    with pytest.raises(ValueError, match="returns.shape"):
        U.advantages(bad)


def test_the_return_is_the_elbo_integrand_and_is_constant_for_the_posterior():
    cfg = replace(E.Config(n_max=3), beta=1.0)
    model, p = writer(cfg), T.sample_prompts(cfg, 16, gen())
    text = W.write(model, cfg, p.x, gen(1))
    logq, returns, more = U.returns_of(model, model, cfg, p, text)
    assert (
        torch.allclose(returns, 10.0 * T.grade(cfg, p, text)[0], atol=1e-4)
        and logq.requires_grad
        and not returns.requires_grad
        and not more.any()
    )
    logq, returns, _ = U.returns_of(model, model, cfg, p, text, "answer")
    assert ((returns <= 1e-5) & (returns >= cfg.floor - 1e-5)).all()
    assert U.returns_of(model, model, cfg, p, text, "tied")[2].requires_grad


def test_a_hint_is_silent_at_first_and_heard_later():
    cfg = TASKS[0]
    base, p = writer(cfg), T.sample_prompts(cfg, 6, gen())
    hinted = E._copy(base, W.Hinted)
    text = W.write(base, cfg, p.x, gen(1))
    plain = W.log_probs(base, cfg, p.x, text, p.y)
    assert torch.equal(plain, W.log_probs(hinted, cfg, p.x, text, p.y))
    with torch.no_grad():
        hinted.hint.weight.normal_()
    assert torch.equal(plain, W.log_probs(hinted, cfg, p.x, text))
    assert not torch.allclose(plain, W.log_probs(hinted, cfg, p.x, text, p.y))
    told = W.write(hinted, cfg, p.x, gen(1), answer=p.y)
    assert torch.equal(text, W.write(hinted, cfg, p.x, gen(1))) and not torch.equal(text, told)


def test_accepting_keeps_one_right_text_of_each_covered_prompt():
    cfg = TASKS[0]
    p = T.sample_prompts(cfg, 30, gen())
    z = torch.stack([T.noisy_rationales(cfg, p.x, 0.5, 0.2, gen(i)) for i in range(5)])
    texts = torch.stack([T.encode(cfg, t, p.steps, T.final_answer(cfg, t, p.steps)) for t in z])
    kept = U.accept(cfg, p, texts, gen(9))
    right = torch.stack([T.grade(cfg, p, t)[0] for t in texts])
    assert kept.rows.tolist() == right.any(0).nonzero()[:, 0].tolist() and torch.allclose(
        kept.success, right.float().mean(0)
    )
    assert T.grade(cfg, p[kept.rows], kept.text)[0].all() and torch.equal(
        T.grade(cfg, p[kept.rows], kept.text)[1], kept.faithful
    )
    assert U.accept(cfg, p, texts, gen(9), checked=True).faithful.all()
    with pytest.raises(ValueError, match="no prompt was ever right"):
        U.accept(cfg, p, T.encode(cfg, z[0], p.steps, (p.y + 1) % 10)[None], gen())


@pytest.mark.parametrize("method", E.METHODS)
def test_every_method_trains_and_is_the_same_again(method):
    cfg = E.Config(n_max=3, **tiny | dict(draws=300 if method == "rs_checked" else 5))
    a, b = E.train(method, cfg), E.train(method, cfg)
    assert a.method == method and a.passes >= a.samples >= 0
    assert all(
        torch.equal(u, v) for u, v in zip(a.model.state_dict().values(), b.model.state_dict().values())
    )
    assert E.evaluate(a.model, cfg, gen(), E.train("base", cfg).model).keys() == {
        "right",
        "exact",
        "greedy",
        "kl",
        "redone",
    }


def test_results_do_not_depend_on_what_was_trained_before():
    cfg = E.Config(n_max=3, **tiny)
    past = {}
    for name in ("gold", "rs", "psi"):
        E.train(name, cfg, past=past)
    alone = E.train("psi", cfg)
    assert all(
        torch.equal(u, v)
        for u, v in zip(past["psi"].model.state_dict().values(), alone.model.state_dict().values())
    )
    assert (
        E.train("psi", replace(cfg, seed=1))
        .model.tok_embed.weight.sub(alone.model.tok_embed.weight)
        .abs()
        .max()
        > 1e-3
    )


def test_samples_and_passes_are_matched():
    cfg = E.cells("full")["n8_0"]
    psi = cfg.rl_steps * cfg.group * cfg.samples
    assert abs(cfg.rounds * cfg.prompts * cfg.round_draws / psi - 1) < 0.2


def test_a_clock_stops_a_run():
    out = E.run(E.Config(n_max=3, limit=1e-9, methods=("psi",), **tiny)).result
    assert out["skipped"] == ["base", "psi"] and out["methods"] == {}


@pytest.mark.parametrize(
    "change",
    [
        dict(task="poem"),
        dict(n_max=1),
        dict(values=9),
        dict(samples=1),
        dict(beta=0.0),
        dict(p_correct=0.9, p_slip=0.2),
        dict(task="carry"),
        dict(limit=-1),
        dict(rl_rate=float("nan")),
    ],
)
def test_settings_that_make_no_experiment(change):
    with pytest.raises(ValueError):
        E.train("base", replace(E.Config(n_max=3, **tiny), **change))


def test_an_unknown_method():
    with pytest.raises(ValueError, match="method='luck'"):
        E.train("luck", E.Config())


def test_cells_are_valid_and_small_ones_are_those_of_the_chapter():
    for preset in ("fast", "full"):
        for name, cfg in E.cells(preset).items():
            assert isinstance(cfg, E.Config) and set(cfg.methods) <= set(E.METHODS)
            assert cfg.limit <= 480 or name.startswith("small")
    for s in range(3):
        assert replace(E.cells("full")[f"small_{s}"], methods=(), limit=270.0) == E.Config(seed=s)


def test_a_run_is_json_and_says_what_failed():
    import json

    out = E.run(E.cells("fast")["carry_0"]).result
    assert len(json.dumps(out, allow_nan=False)) < 200_000 and set(out["methods"]) | set(out["skipped"]) == {
        "base",
        *E.cells("fast")["carry_0"].methods,
    }


# ---- modes, dtypes, nothing


def modes(model):
    return [m.training for m in model.modules()]


def test_writing_and_grading_leave_modes_as_they_were():
    cfg = replace(E.Config(n_max=3), **tiny)
    model, base = W.new_writer(cfg, kind=W.Hinted).train(), W.new_writer(cfg).train()
    p = T.sample_prompts(cfg, 5, gen())
    model.blocks[0].eval()
    before = modes(model)
    W.write(model, cfg, p.x, gen(), answer=p.y)
    U.sample(model, cfg, p, 2, gen())
    E.evaluate(model, cfg, gen(), base)
    U.psi_update(model, base, cfg, p, gen())
    U.imitate(model, cfg, p.x, T.encode(cfg, p.gold, p.steps, p.y), gen(), 2, told=p.y)
    assert modes(model) == before and base.training
    model.blocks[0].mlp = None
    for work in (lambda: W.write(model, cfg, p.x, gen()), lambda: E.evaluate(model, cfg, gen(), base)):
        with pytest.raises(TypeError):
            work()
        assert model.training and not model.blocks[0].training


def test_writing_is_without_dropout_and_works_with_any_memory():
    cfg = E.Config(n_max=3)
    from lla_course.models import Decoder
    from lla_course.tasks.mixers import mixer

    x = T.sample_prompts(cfg, 20, gen()).x
    for name in ("softmax", "gated_deltanet", "lla"):
        model = Decoder(replace(cfg.sizes(), dropout=0.5), mixer(name), seed=3).train()
        text = W.write(model, cfg, x, gen(), greedy=True)
        model.eval()
        for row, prompt in zip(text[:3], x[:3]):  # every token is the best of those allowed, read anew
            rule, counts = W.grammar(cfg, row[None])
            logits = (
                model(torch.cat([prompt, row])[None])[0, cfg.prompt_len - 1 : -1] + W.allowed(cfg)[rule[0]]
            )
            assert (logits.argmax(-1) == row)[counts[0]].all()


def test_nobody_is_asked_and_a_length_of_zero_is_none():
    for task in TASKS:
        p = T.sample_prompts(task, 0, gen())
        assert len(p.x) == len(p.gold) == len(W.write(writer(task), task, p.x, gen())) == 0
        assert U.sample(writer(task), task, p, 3, gen()).shape == (3, 0, task.text_len)
        assert T.by_length(p, torch.zeros(0)) == []
        with pytest.raises(ValueError, match="^n=0"):
            T.sample_prompts(task, 4, gen(), 0)


@pytest.mark.parametrize("usual", [torch.bfloat16, torch.float64])
def test_prompts_and_rules_do_not_depend_on_the_usual_dtype(usual):
    def make():
        x = T.sample_prompts(TASKS[0], 30, gen()).x
        return x, T.noisy_rationales(TASKS[0], x, 0.3, 0.4, gen(1)), W.allowed(TASKS[0])

    assert same_with_usual_dtype(make, usual)
