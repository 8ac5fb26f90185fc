"""BRiTE on a language model: its problems, the decoder and its sampler, the updates, and the pipeline."""

import json
import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from draw_problems import FILE, SIZES, draw, entries
from scipy.stats import chisquare
from scipy.stats import t as student

from lla_course.brite import pretrained as P
from lla_course.brite import speaker as S
from lla_course.brite.updates import advantages, choose, preference_loss, rloo_loss
from lla_course.core import repo_root
from lla_course.pretrained import tiny_llama
from lla_course.records import checkpoint_folder

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def gym():
    return pytest.importorskip("reasoning_gym", reason="pip install --no-deps reasoning-gym==0.1.25")


@pytest.fixture(scope="module")
def tiny():
    "The tiny Llama of transformers, and ours with the same weights."
    return tiny_llama(layers=2, groups=2, width=16)[0], S.from_state(
        S.speaker("tiny").shape, S.speaker("tiny").state
    )


@pytest.fixture
def prompts():
    "Three prompts of different lengths, padded on the left, and where they begin."
    x = torch.randint(3, 250, (3, 12))
    start = torch.tensor([0, 3, 7])
    return x.masked_fill(torch.arange(12) < start[:, None], 0), start


# ---- problems


def test_the_splits_share_no_problem():
    for family in S.FAMILIES:
        cores = {split: S.problems(family, split)[1] for split in S.SPLITS}
        assert {split: len(c) for split, c in cores.items()} == SIZES
        assert len({core for c in cores.values() for core in c}) == sum(SIZES.values())


def test_the_file_is_what_the_package_draws(gym):
    assert json.loads(FILE.read_text()) == json.loads(json.dumps(draw()))


def test_questions_answers_and_scores_are_those_of_the_package(gym):
    for family in S.FAMILIES:
        data, found = entries(family, 60)
        ours = S.problems(family, "lesson")[0][:60]
        for problem, entry in zip(ours, found.values()):
            assert (problem.question, problem.answer) == (entry["question"], entry["answer"])
            word, more = problem.answer, []
            if word.lstrip("-").isdigit():
                more = [f"{int(word) + 1}", f"{word}.0", f"+{word}" if word[0] != "-" else word, f"0{word}"]
                more += [f"{word} legs", "1,000", "about " + word, "--1"]
            for said in [word, word.upper(), word[::-1], word + "x", "", "none", *more]:
                right = data.score_answer(said, entry) == 1.0
                assert S.is_right(said, problem) == right, (family, said, word)


@pytest.mark.parametrize("family", S.FAMILIES)
def test_a_careful_author_writes_the_gold_rationale(family):
    for problem, core in zip(*S.problems(family, "tune")):
        steps, answer = S.careless(family, core, np.random.default_rng(0), 1.0)
        text = S.written(steps, answer)
        assert tuple(steps) == problem.steps and S.is_right(S.said_answer(text), problem)
        assert S.is_faithful(text, problem)


def test_a_careless_author_is_right_by_reason_or_by_luck_as_often_as_calculated():
    "Chain sums with k steps: faithful with p^k, right with the probability that the errors cancel."
    p, rng = 0.45, np.random.default_rng(0)
    by_steps = {k: [] for k in (2, 3, 4)}
    found, cores = S.problems("chain_sum", "train")
    for problem, core in zip(found, cores):
        text = S.written(*S.careless("chain_sum", core, rng, p))
        right = S.is_right(S.said_answer(text), problem)
        by_steps[problem.size - 1].append([right, right and S.is_faithful(text, problem)])
    for k, flags in by_steps.items():
        cancel = np.zeros(2 * k + 1)
        cancel[k] = 1  # of the sum of the errors, in tens
        for _ in range(k):
            cancel = p * cancel + (1 - p) / 2 * (np.roll(cancel, 1) + np.roll(cancel, -1))
        for seen, true in zip(np.mean(flags, 0), (cancel[k], p**k)):
            assert abs(seen - true) < 4 * math.sqrt(true * (1 - true) / len(flags))


@pytest.mark.parametrize(
    "text, said",
    [
        ("3 + 4 = 7\n#### 7", "7"),
        ("3 + 4 = 7\n####  -7 \n#### 8", "-7"),
        ("so it is 12, or 13.5", "13.5"),
        ("#### about 5", "about 5"),
        ("no number", ""),
        ("", ""),
    ],
)
def test_the_answer_stands_behind_the_mark_or_is_the_last_number(text, said):
    assert S.said_answer(text) == said


def test_a_right_answer_behind_wrong_steps_is_not_faithful():
    problem = S.Problem("chain_sum", "", "8", ("1 + 2 = 3", "3 + 5 = 8"), 3)
    assert S.is_faithful("1 + 2 = 3\n 3  + 5 = 8\n#### 8", problem)
    for text in (
        "1 + 2 = 13\n13 + 5 = 8\n#### 8",
        "1 + 2 = 3\n#### 8",
        "#### 8",
        "1 + 2 = 3\n3 + 5 = 8\n8\n#### 8",
    ):
        assert not S.is_faithful(text, problem) and S.is_right(S.said_answer(text), problem)


# ---- the decoder


def test_logits_are_those_of_transformers(tiny, prompts):
    theirs, ours = tiny
    x, start = prompts
    mask = torch.arange(12) >= start[:, None]
    places = (torch.arange(12) - start[:, None]).clamp_min(0)
    with torch.no_grad():
        wanted = theirs(x, attention_mask=mask.long(), position_ids=places).logits
        got = ours(x, start)
    assert (got[..., 0] == -math.inf).all()
    torch.testing.assert_close(got[mask][:, 1:], wanted[mask][:, 1:], rtol=1e-4, atol=1e-4)


def test_greedy_texts_are_those_of_generate(tiny, prompts):
    theirs, ours = tiny
    x, start = prompts
    mask = (torch.arange(12) >= start[:, None]).long()
    about = dict(do_sample=False, suppress_tokens=[0], eos_token_id=2, pad_token_id=0, max_new_tokens=9)
    wanted = theirs.generate(x, attention_mask=mask, **about)[:, 12:]
    sampler = S.Sampler(ours, 12, 9, 2, 2)  # two at a time, so that the last batch is not full
    got = S.write(sampler, x, start, greedy=True)
    assert (got[:, : wanted.shape[1]] == wanted).all()


def test_texts_end_with_the_stop_and_padding(tiny):
    ours = S.from_state(S.speaker("tiny").shape, S.speaker("tiny").state, temperature=3.0)
    sampler = S.Sampler(ours, 4, 12, 2, 64)
    x = torch.full((200, 4), 7)
    text = S.write(sampler, x, torch.zeros(200, dtype=torch.long))
    ended = (text == 2).any(1)
    assert 5 < ended.sum() < 195
    for row in text[ended].tolist():
        assert 0 not in row[: row.index(2)] and not any(row[row.index(2) + 1 :])
    assert (text[~ended] > 0).all()


def test_a_text_is_drawn_as_often_as_it_is_probable(tiny):
    "The two tokens of 8,000 texts, against the probabilities that `log_probs` gives them."
    ours = S.from_state(S.speaker("tiny").shape, S.speaker("tiny").state, temperature=0.5)
    x, start = torch.full((8000, 4), 9), torch.zeros(8000, dtype=torch.long)
    x[:, 0], start = 0, start + 1
    text = S.write(S.Sampler(ours, 4, 2, 2, 2000), x, start)
    pairs, counts = text.unique(dim=0, return_counts=True)
    with torch.no_grad():
        p = S.log_probs(ours, x[: len(pairs)], start[: len(pairs)], pairs).sum(1).exp()
    often = p > 0.003
    seen = torch.cat([counts[often], counts[~often].sum()[None]]).double()
    wanted = torch.cat([8000 * p[often], (8000 * (1 - p[often].sum()))[None]]).double()
    assert often.sum() >= 5
    assert chisquare(seen, wanted * seen.sum() / wanted.sum()).pvalue > 1e-4


def test_log_probs_are_sums_over_softmax_and_the_pad_counts_nothing(tiny, prompts):
    ours, (x, start) = tiny[1], prompts
    text = torch.tensor([[5, 6, 2, 0], [7, 2, 0, 0], [8, 9, 10, 11]])
    with torch.no_grad():
        got = S.log_probs(ours, x, start, text)
        logits = ours(torch.cat([x, text], 1), start)[:, 11:-1]
    for b, row in enumerate(text.tolist()):
        for k, token in enumerate(row):
            p = logits[b, k, 1:].double().softmax(-1)[token - 1].log() if token else 0.0
            assert abs(float(got[b, k]) - float(p)) < 1e-4


def test_padding_on_the_left_changes_nothing(tiny):
    ours = tiny[1]
    x, text = torch.randint(3, 250, (2, 6)), torch.randint(3, 250, (2, 5))
    wide = torch.cat([torch.zeros(2, 4, dtype=torch.long), x], 1)
    with torch.no_grad():
        a = S.log_probs(ours, x, torch.zeros(2, dtype=torch.long), text)
        b = S.log_probs(ours, wide, torch.full((2,), 4), text)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_texts_behind_one_prompt_are_scored_as_if_each_had_its_own(tiny, prompts):
    "Log-probabilities and gradients, against autograd through a softmax over all logits."
    ours, (x, start) = S.from_state(S.speaker("tiny").shape, S.speaker("tiny").state, 1.5), prompts
    text = torch.randint(1, 250, (12, 7))
    text = text.masked_fill(torch.arange(7) >= torch.randint(1, 8, (12, 1)), 0)
    each = start.repeat_interleave(4)
    weights, found = torch.randn(12, 7), []

    def by_softmax():
        logits = ours(torch.cat([x.repeat_interleave(4, 0), text], 1), each)[:, 11:-1]
        return logits.log_softmax(-1).gather(2, text.clamp_min(1)[..., None])[..., 0] * (text > 0)

    for way in (
        by_softmax,
        lambda: S.log_probs(ours, x.repeat_interleave(4, 0), each, text),
        lambda: S.log_probs(ours, x, start, text),
    ):
        ours.zero_grad()
        log_p = way()
        (log_p * weights).sum().backward()
        found.append([log_p.detach(), *(p.grad.clone() for p in ours.parameters())])
    for other in found[1:]:
        for a, b in zip(found[0], other):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max()))


def test_prompts_are_read_again_only_where_they_or_the_model_changed(tiny, prompts, monkeypatch):
    ours, (x, start) = deepcopy(tiny[1]), prompts
    sampler, count = S.Sampler(ours, 12, 5, 2, 3), []
    read = sampler._read
    monkeypatch.setattr(sampler, "_read", lambda: count.append(1) or read())
    first = S.write(sampler, x, start, greedy=True)
    S.write(sampler, x.repeat(4, 1), start.repeat(4))
    assert (S.write(sampler, x, start, greedy=True) == first).all() and len(count) == 1
    other = S.write(sampler, x.flip(0), start.flip(0), greedy=True)
    assert (other == first.flip(0)).all() and len(count) == 2
    with torch.no_grad():
        ours.blocks[0].down.mul_(-20)
    sampler.refresh(ours)
    changed = S.write(sampler, x.flip(0), start.flip(0), greedy=True)
    assert (
        len(count) == 3
        and (changed == S.write(S.Sampler(ours, 12, 5, 2, 3), *prompts, greedy=True).flip(0)).all()
    )


# ---- updates


def test_rejection_sampling_is_the_exact_e_step(tiny):
    "What is kept of right texts is distributed as the posterior: P of the text, given that it is right."
    ours = S.from_state(S.speaker("tiny").shape, S.speaker("tiny").state, temperature=2.0)
    x, start = torch.full((3000, 4), 9), torch.zeros(3000, dtype=torch.long)
    with torch.no_grad():
        p = ours(x[:1], start[:1])[0, -1].softmax(-1)
    good = p.argsort(descending=True)[:40:4]  # ten tokens that are right
    draws = torch.stack([S.write(S.Sampler(ours, 4, 1, 2, 3000, seed=s), x, start)[:, 0] for s in range(3)])
    rows, which = choose(torch.isin(draws, good), torch.Generator().manual_seed(0))
    kept = draws[which, rows]
    seen = np.array([(kept == token).sum() for token in good])
    wanted = (p[good] / p[good].sum()).double().numpy() * len(kept)
    assert len(kept) > 300 and chisquare(seen, wanted * seen.sum() / wanted.sum()).pvalue > 1e-4
    covered = 1 - (1 - float(p[good].sum())) ** 3
    assert abs(len(kept) / 3000 - covered) < 4 * math.sqrt(covered * (1 - covered) / 3000)


def test_the_loss_of_rloo_is_that_by_hand():
    log_q, returns = torch.randn(6, requires_grad=True), torch.randn(6)
    r = returns.view(2, 3)
    a = torch.stack([r[:, k] - r[:, [j for j in range(3) if j != k]].mean(1) for k in range(3)], 1).flatten()
    torch.testing.assert_close(a, advantages(r).flatten())
    loss = rloo_loss(log_q, returns, 3)
    torch.testing.assert_close(loss, -(a / (a.std() + 1e-6) * log_q).mean())
    torch.testing.assert_close(torch.autograd.grad(loss, log_q)[0], -a / (a.std() + 1e-6) / 6)


def test_the_loss_of_dpo_is_that_by_hand():
    margin = torch.tensor([-1.0, 0.0, 2.0])
    wanted = sum(math.log(1 + math.exp(-0.3 * m)) for m in (-1.0, 0.0, 2.0)) / 3
    assert abs(float(preference_loss(margin, 0.3)) - wanted) < 1e-6


@pytest.fixture(scope="module")
def trainer():
    return P.Trainer(P.cells("fast")["chain_0"])


def test_what_a_text_is_worth(trainer):
    "The frozen model's log-probability and the bonus; with reward (i) the answer is put in by force."
    lab, data = trainer.lab, trainer.train[torch.arange(4)]
    texts = [S.written(p.steps, p.answer) for p in data.problems]
    wrong = [S.written(p.steps, p.answer + "1") for p in data.problems]
    lab.cfg = replace(lab.cfg, text_len=96, floor=-1e6)
    try:
        right, off = lab.tokens(texts), lab.tokens(wrong)
        log_p = P.scored(lab, lab.raw, data, off)
        gain, trained = P.gains(lab, lab.raw, data, off, lab.grade(data, off)[0])
        torch.testing.assert_close(gain, log_p.sum(1))
        assert (trained == (off > 0)).all()
        gain, _ = P.gains(lab, lab.raw, data, right, lab.grade(data, right)[0])
        torch.testing.assert_close(gain, P.scored(lab, lab.raw, data, right).sum(1) + 10)
        told, thinking = P.forced(lab, data, off)
        assert lab.words(told) == texts  # the answer is mended, the thoughts stay
        gain, trained = P.gains(lab, lab.raw, data, off, torch.zeros(4), "answer")
        torch.testing.assert_close(gain, P.scored(lab, lab.raw, data, right).sum(1), rtol=1e-4, atol=1e-3)
        assert (trained == thinking).all()
        assert lab.words(off.where(trained, 2))[0].endswith("####")
    finally:
        lab.cfg = trainer.cfg


def test_a_text_without_a_mark_is_all_rationale(trainer):
    lab, data = trainer.lab, trainer.train[torch.arange(1)]
    lab.cfg = replace(lab.cfg, text_len=40)
    try:
        told, thinking = P.forced(lab, data, lab.tokens(["3 + 4"]))
        assert lab.words(told) == [f"3 + 4\n#### {data.problems[0].answer}"] and int(thinking.sum()) == 5
    finally:
        lab.cfg = trainer.cfg


def test_what_did_not_end_is_wrong(trainer):
    lab, data = trainer.lab, trainer.train[torch.arange(2)]
    text = lab.tokens([f"#### {p.answer}" for p in data.problems])
    assert lab.grade(data, text)[0].tolist() == [True, True]
    assert lab.grade(data, text.masked_fill(text == lab.speaker.stop, 0))[0].tolist() == [False, False]
    assert lab.grade(data, text.repeat(3, 1))[0].tolist() == [True] * 6


def test_imitation_learns_a_text(trainer):
    lab, data = trainer.lab, trainer.train[torch.arange(4)]
    model = deepcopy(lab.raw)
    text = lab.tokens(["#### 5"] * 4)
    before = P.scored(lab, model, data, text).sum(1)
    P.imitate(lab, model, data, text, 30, 1e-3)
    after = P.scored(lab, model, data, text).sum(1)
    assert (after > before + 5).all() and (P.scored(lab, lab.raw, data, text).sum(1) == before).all()


def test_reinforcement_makes_right_texts_likelier():
    "A model that writes two letters, right if the first is a digit: the share of right ones rises."
    cfg = replace(P.cells("fast")["chain_0"], family="spell_backward", prompt_len=128, temperature=2.0)
    t = P.Trainer(replace(cfg, text_len=2, group=4, samples=8, rl_steps=30, rl_rate=5e-3))
    lab = t.lab
    digits = torch.tensor([lab.speaker.encode(d)[0] for d in "0123456789"])

    def grade(data, text):  # any digit is right
        right = torch.isin(text[:, 0], digits)
        return right, right

    lab.grade = grade
    model = deepcopy(lab.raw)
    seen = P.psi_update(lab, model, lab.raw, t.train)
    assert np.mean(seen["right"][-5:]) > np.mean(seen["right"][:5]) + 0.3
    assert P.scored(lab, lab.raw, t.train, lab.tokens(["1"] * 8)).isfinite().all()


def test_pass_at_k_is_the_share_of_subsets_with_a_right_one():
    from itertools import combinations

    for right in range(6):
        flags = [True] * right + [False] * (5 - right)
        for k in range(1, 6):
            sets = [any(some) for some in combinations(flags, k)]
            assert abs(P.pass_at(np.array([right]), 5, k)[0] - np.mean(sets)) < 1e-12


# ---- the pipeline


def test_every_cell_runs_at_tiny_size_and_says_what_failed():
    for name in (
        "probe",
        "chain_1",
        "chain_psi_1",
        "told_0",
        "answer_0",
        "second_0",
        "more_0",
        "backward_0",
        "legs_0",
    ):
        run = P.run(P.cells("fast")[name])
        json.dumps(run.result, allow_nan=False)
        if name == "probe":
            assert run.result["speed"]["tokens_many"] > 0
            continue
        found, cfg = run.result["methods"], P.cells("fast")[name]
        assert not run.result["skipped"] and set(found) == {"base", *cfg.methods}
        assert found["base"]["grades"]["kl"] == 0
        for method, about in found.items():
            assert "failed" in about or set(about["grades"]) >= {"right", "faithful", "lucky", "kl"}, method
            if method != "few_shot" and "failed" not in about:
                assert run.arrays[f"{method}.right"].shape == (cfg.test,)


def test_a_method_does_not_depend_on_those_before_it_and_a_cut_run_goes_on(tmp_path, monkeypatch):
    cfg = replace(P.cells("fast")["chain_1"], methods=("gold", "psi", "theta"))
    whole = P.run(cfg)
    alone = P.run(replace(cfg, methods=("theta",)))
    train = P.Trainer.__call__

    def dies(self, method):
        if method == "theta":
            raise KeyboardInterrupt
        return train(self, method)

    with checkpoint_folder(tmp_path):
        with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
            m.setattr(P.Trainer, "__call__", dies)
            P.run(cfg)
        assert {path.stem for path in tmp_path.glob("*.json")} == {"base", "gold", "psi"}
        rest = P.run(cfg)
    for other, names in ((alone, ("base", "theta")), (rest, ("base", "gold", "psi", "theta"))):
        for name in names:
            a, b = (run.result["methods"][name] for run in (whole, other))
            assert (a["grades"], a["texts"], a["loss"]) == (b["grades"], b["texts"], b["loss"]), name
            assert (whole.arrays[f"{name}.right"] == other.arrays[f"{name}.right"]).all()


def test_theta_imitates_right_answers_or_only_right_thoughts(trainer, monkeypatch):
    "What is imitated: every problem with its right answer behind the thought, or only the right texts."
    lab, seen = trainer.lab, []
    texts = [
        S.written(("1 + 1 = 2",), p.answer if k % 2 else "x") for k, p in enumerate(trainer.train.problems)
    ]
    monkeypatch.setattr(lab, "cfg", replace(lab.cfg, text_len=64))
    monkeypatch.setattr(P, "write", lambda *a: lab.tokens(texts))
    monkeypatch.setattr(trainer, "imitate", lambda model, rows, text: seen.append((rows, text)) or [])
    base = P.Trained(lab.raw)
    for only in (False, True):
        P._theta(trainer, base, base, right_only=only)
    (rows, text), (some, right) = seen
    answers = [S.said_answer(word) for word in lab.words(text)]
    assert rows.tolist() == [*range(8)] and answers == [p.answer for p in trainer.train.problems]
    assert some.tolist() == [1, 3, 5, 7] and lab.words(right) == texts[1::2]


@pytest.mark.parametrize(
    "base, seed", [*((b, s) for b in ("chain", "sound", "backward") for s in range(3)), ("legs", 0)]
)
def test_a_recorded_contest_holds_the_methods_of_all_its_cells(base, seed):
    found = P.recorded(base, seed)
    if not found:
        pytest.skip("43_brite_pretrained is not recorded")
    missing = {"rs_iterated"} if (base, seed) == ("sound", 2) else set()
    assert set(found) >= {"base", "gold", "rs", "rs_iterated", "psi", "theta"} - missing
    assert [*found] == [m for m in ("few_shot", *P.METHODS) if m in found]
    for method, graded in found.items():
        for key in ("right", "faithful"):
            values = getattr(graded, key)
            assert values.shape == (512,) and (values >= 0).all() and (values <= 1).all()
        assert abs(graded.right.mean() - graded.about["grades"]["right"]) < 1e-4, method
        assert (graded.faithful <= graded.right).all()


def test_an_interval_over_problems_and_seeds_holds_the_truth():
    "`estimate` of the chapter, where seeds differ by nothing, by a point and by four; problems alone do not."
    cells = json.loads((repo_root() / "nbs" / "43_brite_pretrained.ipynb").read_text())["cells"]
    source = next("".join(c["source"]) for c in cells if "def estimate(" in "".join(c["source"]))
    scope = dict(np=np, student=student)
    exec(source, scope)
    estimate, rng = scope["estimate"], np.random.default_rng(0)
    for spread in (0, 0.01, 0.04):
        held = []
        for _ in range(1000):
            values = rng.normal(0, spread, (3, 1)) + rng.normal(0, 0.12, 512) + rng.normal(0, 0.22, (3, 512))
            (mean, half), (_, lone) = estimate(values), estimate(values.mean(0)[None])
            held.append([abs(mean) < half, abs(mean) < lone])
        both, problems = np.mean(held, 0)
        assert 0.91 < both < 0.99 and (spread < 0.04 or problems < 0.6)
    low, high = student.interval(0.95, 511, values[0].mean(), values[0].std(ddof=1) / 512**0.5)
    assert np.allclose(estimate(values[:1]), [(low + high) / 2, (high - low) / 2])


def test_methods_write_as_many_texts_and_learn_from_as_many():
    cfg = P.cells("full")["chain_0"]
    psi = cfg.rl_steps * cfg.group * cfg.samples
    assert cfg.prompts * cfg.draws == psi == cfg.rounds * cfg.prompts * (cfg.draws // cfg.rounds)
    iterated = cfg.rounds * P._round_steps(cfg) * cfg.batch
    assert abs(iterated / (psi + cfg.sft_steps * cfg.batch) - 1) < 0.01


@pytest.mark.parametrize(
    "what, message",
    [
        (lambda: P.Config(family="x"), "family='x'"),
        (lambda: P.Config(model="x"), "model='x'"),
        (lambda: P.Config(samples=1), "samples=1"),
        (lambda: P.Config(p_correct=1.5), "p_correct=1.5"),
        (lambda: P.Config(rl_rate=0), "rl_rate=0"),
        (lambda: P.Config(rows=0), "rows=0"),
        (lambda: S.problems("chain_sum", "x"), "split='x'"),
        (lambda: S.speaker("x"), "name='x'"),
        (lambda: P.pass_at(np.array([1]), 3, 4), "k=4"),
        (lambda: S.padded([[1, 2, 3]], 2, "cpu", left=True), "rows=3"),
        (lambda: P.run(P.Config(model="tiny", methods=("x",))), "methods='x'"),
        (lambda: P.recorded("x"), "base='x'"),
        (lambda: P.recorded("chain", 3), "seed=3"),
        (lambda: choose(torch.zeros(2, 3).bool(), torch.Generator()), "draws=2"),
    ],
)
def test_bad_input_is_named(what, message):
    with pytest.raises(ValueError, match=message):
        what()


def test_other_weights_and_prompts_are_refused(tiny, prompts):
    shape = S.speaker("tiny").shape
    with pytest.raises(ValueError, match="state"):
        S.from_state(replace(shape, intermediate_size=64), S.speaker("tiny").state)
    with pytest.raises(ValueError, match="x.shape"):
        S.write(S.Sampler(tiny[1], 8, 4, 2, 2), *prompts)
