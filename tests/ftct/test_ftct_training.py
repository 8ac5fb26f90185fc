"Training on fragments: batches, scoring, evaluation, both kinds of model, the table of cells."

from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import default_dtype
from lla_course.ftct.graph import NEWLINE, PAD, DataConfig, few_shot_prompts, sample_batch, vocabulary
from lla_course.ftct.training import (
    PUBLISHED,
    SWEEP,
    Config,
    WindowMLP,
    as_published,
    batches,
    build_model,
    cells,
    evaluate,
    is_subsequence,
    max_length,
    pairs,
    run,
    score,
    train,
)
from lla_course.records import content_hash

DATA = DataConfig(N=4, M=3, letters=20, root_values=4, extra=2, examples=2)
TINY = Config(DATA, width=16, steps=6, batch=8, warmup=2, prompts=6)
rng = lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("data", [DATA, replace(DATA, equals=True, context_pool=3, context=(1, 2))])
def test_the_right_answer_scores_one_and_a_cut_one_does_not(data):
    p = few_shot_prompts(data, rng(), 10, 1)
    answers = [row[n:][row[n:] != PAD] for row, n in zip(p.full, p.lengths)]
    pad = lambda rows: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    assert all(v == 1 for v in score(data, pad(answers), p).values())
    noise = torch.tensor(vocabulary(data).encode(f"{vocabulary(data).names[5]} {'= ' * data.equals}5"))
    begun = score(data, pad([torch.cat([noise, a]) for a in answers]), p)
    assert begun["whole"] == begun["vertices"] == 1 and begun["whole_strict"] == begun["vertices_strict"] == 0
    later = score(data, pad([torch.cat([a, torch.tensor([NEWLINE]), noise]) for a in answers]), p)
    assert later["whole_strict"] == later["vertices_strict"] == 1
    cut = score(data, pad([a[:-1] for a in answers]), p)
    assert cut["whole"] == cut["final"] == cut["whole_strict"] == 0
    early = score(data, pad([torch.cat([torch.tensor([NEWLINE]), a]) for a in answers]), p)
    assert early["whole"] == 1 and early["whole_strict"] == 0


@given(st.lists(st.integers(0, 5), max_size=6), st.lists(st.integers(0, 5), max_size=12))
def test_in_order_is_the_subsequence_relation(wanted, given):
    i = 0
    for g in given:
        i += i < len(wanted) and g == wanted[i]
    assert is_subsequence(wanted, given) == (i == len(wanted))


def test_pairs_reads_only_letters_with_values():
    w = vocabulary(DATA)
    assert pairs(DATA, w.encode("A B 5 6 C~0 C 7 \n D ? E")) == [
        tuple(w.encode("B 5")),
        tuple(w.encode("C 7")),
    ]
    long = replace(DATA, equals=True)
    w = vocabulary(long)
    assert pairs(long, w.encode("A = 5 , B 6 , C~1 C = 7 =")) == [
        tuple(w.encode("A 5")),
        tuple(w.encode("C 7")),
    ]


def test_batches_hold_what_was_drawn():
    made = batches(TINY, rng(3))
    got = [next(made) for _ in range(8)]
    tokens, counts, _ = sample_batch(DATA, rng(3), 64)
    key = lambda t: sorted(tuple(r[r != PAD].tolist()) for r in t)
    assert sorted(sum((key(t) for t, _ in got), [])) == key(tokens)
    assert sum(int(c.sum()) for _, c in got) == int(counts.sum()) and all(
        (t[:, -1] != PAD).any() for t, _ in got
    )
    with_ends = next(batches(replace(TINY, newline=True), rng(3)))
    assert (with_ends[1] & (with_ends[0] == NEWLINE)).sum() == 8 and not (
        got[0][1] & (got[0][0] == NEWLINE)
    ).any()


def test_every_text_fits():
    for cfg in (TINY, *list(cells("full").values())[:16], *cells("fast").values()):
        most, writes = max_length(cfg.data)
        assert (
            max(
                sample_batch(cfg.data, rng(), 40)[0].shape[1],
                few_shot_prompts(cfg.data, rng(), 20, cfg.data.examples - 1).tokens.shape[1] + writes,
            )
            <= most
        )


@pytest.mark.parametrize(
    "cfg",
    [
        TINY,
        replace(TINY, precision="bfloat16"),
        replace(TINY, kind="mlp", layers=3, width=8),
        replace(TINY, data=replace(DATA, equals=True, context_pool=3, context=(1, 3)), dropout=0.1),
    ],
)
def test_run(cfg):
    found = run(cfg).result
    assert found["history"]["steps"] == 6 and all(
        len(found[m]) == 2
        for m in ("whole", "vertices", "final", "whole_strict", "vertices_strict", "values")
    )
    assert (
        all(0 <= v <= 1 for m in ("whole", "values") for v in found[m])
        and found["whole"][0] >= found["whole_strict"][0]
    )
    content_hash(found)


def test_a_training_is_reproducible_and_keeps_its_weights_on_request():
    done, again = (run(replace(TINY, keep=True)) for _ in range(2))
    a, b = done.result, again.result
    assert a["history"]["loss"] == b["history"]["loss"] and run(TINY).arrays is None
    model = build_model(TINY)
    model.load_state_dict({k: torch.as_tensor(v) for k, v in done.arrays.items()})
    assert evaluate(model, TINY, 1)["values"] == pytest.approx(a["values"][1], abs=1e-4)


def test_the_clock_stops_a_training():
    history = train(replace(TINY, steps=10_000, minutes=1e-6), device="cpu")[1]
    assert history["steps"] == history["step"][-1] < 10


def test_the_loss_falls():
    loss = train(replace(TINY, steps=60, warmup=5), device="cpu", every=20)[1]["loss"]
    assert loss[-1] < loss[0] - 0.3


def test_windows_see_the_past_only():
    mlp, t = WindowMLP(9, window=4, hidden=8).eval(), torch.randint(9, (2, 7), generator=rng())
    other = t.clone()
    other[:, 5:] = 0
    with torch.no_grad():
        assert torch.equal(mlp(t)[:, :5], mlp(other)[:, :5]) and torch.allclose(
            mlp(t)[:, -1], mlp(t[:, 3:])[:, -1]
        )
    written = mlp.generate(t, 3, lengths=torch.tensor([7, 2]))
    with torch.no_grad():
        assert written[0, 0] == mlp(t)[0, 6].argmax() and written[1, 0] == mlp(t)[1, 1].argmax()


def test_the_table_of_cells():
    full, fast = cells("full"), cells("fast")
    assert len({content_hash(asdict(c)) for c in full.values()}) == len(full) and set(PUBLISHED) == set(SWEEP)
    assert (
        all(c.data.context == (1, 6) and c.data.examples == 5 for c in full.values())
        and full["N13_M4_g2"].data.graph_seed == 2
    )
    assert {c.data.graph_seed for n, c in fast.items() if n.startswith("small_s")} == {0, 1, 2}
    assert len(as_published(PUBLISHED)) == 13 and as_published({c: c for c in PUBLISHED})[0.4] == (15, 6)


def test_unknown_kinds():
    with pytest.raises(ValueError, match="^kind="):
        build_model(replace(TINY, kind="rnn"))
    with pytest.raises(ValueError, match="^preset="):
        cells("slow")
    with pytest.raises(ValueError, match="^M="):
        train(replace(TINY, data=replace(DATA, M=5)), device="cpu")


# ---- modes, dtypes, nothing


def both_kinds():
    return [build_model(TINY), build_model(replace(TINY, kind="mlp", layers=3))]


def test_evaluation_gives_modes_back_and_moves_no_statistics():
    for model in both_kinds():
        model.train()
        next(model.children()).eval()
        before, kept = [m.training for m in model.modules()], {n: b.clone() for n, b in model.named_buffers()}
        assert evaluate(model, TINY, 1) == evaluate(model, TINY, 1)
        p = few_shot_prompts(DATA, rng(), 3, 1)
        model.generate(p.tokens, 4, lengths=p.lengths)
        assert [m.training for m in model.modules()] == before
        assert all(torch.equal(b, kept[n]) for n, b in model.named_buffers())
        with pytest.raises(ValueError, match="^tokens="):
            model.generate(p.tokens + 999, 4, lengths=p.lengths)
        assert [m.training for m in model.modules()] == before


def test_an_evaluation_asks_for_as_many_prompts_as_it_is_told():
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"^n={n}"):
            evaluate(build_model(TINY), TINY, 1, n=n)
    assert evaluate(build_model(TINY), TINY, 1, n=1)["whole"] in (0, 1)


def test_nothing_to_read_or_to_write():
    for model in both_kinds():
        V = len(vocabulary(DATA).names)
        for shape in ((0, 5), (2, 0), (0, 0)):
            assert model(torch.zeros(shape).long()).shape == (*shape, V)
        assert model.generate(torch.zeros(0, 5).long(), 3).shape == (0, 3)
        assert model.generate(torch.zeros(2, 5).long(), 0, lengths=torch.tensor([5, 3])).shape == (2, 0)
        t = torch.randint(V, (2, 5), generator=rng())
        assert torch.equal(model.generate(t.int(), 3), model.generate(t, 3, lengths=torch.tensor([5, 5])))


def test_a_token_that_does_not_exist_is_not_another_one_further_back():
    mlp = WindowMLP(9, window=4, hidden=8).eval()
    for token in (-1, 9):
        with pytest.raises(ValueError, match=f"^tokens={token}"):
            mlp(torch.full((1, 5), token))


def test_a_pool_that_is_too_small_is_refused_before_the_first_batch():
    with pytest.raises(ValueError, match="^pool="):
        batches(replace(TINY, pool=9), rng())


@pytest.mark.parametrize("usual", [torch.bfloat16, torch.float16, torch.float64])
def test_sentences_do_not_depend_on_the_usual_dtype(usual):
    make = lambda: (*sample_batch(DATA, rng(), 200), few_shot_prompts(DATA, rng(), 50, 1).full)
    want = make()
    with default_dtype(usual):
        assert all(torch.equal(a, b) for a, b in zip(make(), want))
