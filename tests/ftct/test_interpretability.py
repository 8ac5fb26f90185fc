"What the recorded models do inside, with margins over seeds, and the hand-built machine."

import pytest
import torch
from scipy.stats import ttest_1samp

from helpers import default_dtype
from lla_course.ftct.byhand import (
    decoys,
    expectation,
    handmade_model,
    linear_probe,
    perfect_probe,
    probe_table,
)
from lla_course.ftct.graph import PAD, CausalGraph, DataConfig, few_shot_prompts, sample_batch, vocabulary
from lla_course.ftct.interpretability import (
    KINDS,
    LOOKS,
    SURGERIES,
    ablate_heads,
    attention_scores,
    cells,
    damaged_prompts,
    find_heads,
    letter_of_token,
    mean_head_outputs,
    next_token_accuracy,
    other_root,
    patched,
    probability_shares,
    recorded_model,
    script,
    token_kinds,
    written_order,
)
from lla_course.ftct.training import Config, evaluate
from lla_course.ftct.training import cells as training_cells
from lla_course.records import load

SEEDS = range(3)


def rng(i=0):
    return torch.Generator().manual_seed(i)


@pytest.fixture(scope="module")
def models():
    kept = {f"51_ftct_training/small_s{s}": training_cells("fast")[f"small_s{s}"] for s in SEEDS}
    kept |= {f"52_ftct_mechanism/{name}": cfg for name, cfg in cells("fast").items() if cfg.keep}
    missing = [where for where, cfg in kept.items() if load(where, cfg) is None]
    assert not missing, f"not recorded: {missing}"
    return {where.split("/")[1]: recorded_model(where.split("/")[1]) for where in kept}


@pytest.fixture(scope="module")
def small(models):
    return [models[f"small_s{s}"] for s in SEEDS]


@pytest.fixture(scope="module")
def texts(small):
    return [script(c.data, few_shot_prompts(c.data, rng(11), 200, 1).full) for c, _ in small]


# ---- tools


def test_a_script_finds_letters_and_values():
    data = DataConfig()
    words = vocabulary(data)
    p = few_shot_prompts(data, rng(), 20, 2)
    s = script(data, p.full)
    assert s.letter.shape == s.value.shape == (20, 3, 8)
    assert (letter_of_token(data)[s.tokens.gather(1, s.letter[:, -1, 1:])] + words.letter == p.letters).all()
    assert (s.tokens.gather(1, s.value[:, -1, 1:]) == p.values).all()
    with pytest.raises(ValueError, match="tokens"):
        script(data, sample_batch(data, rng(), 20)[0])


def test_every_token_has_one_kind():
    data = DataConfig()
    tokens, _, _ = sample_batch(data, rng(), 50)
    kind = token_kinds(data, tokens)
    words = vocabulary(data)
    assert ((kind == -1) == (tokens == PAD)).all() and (kind[:, :2] == KINDS.index("mark")).all()
    assert ((kind == 1) == ((tokens >= words.value) & (tokens < words.context))).all() and (
        (kind == 2) == (tokens >= words.context)
    ).all()


@pytest.mark.parametrize("kind", SURGERIES)
def test_surgery_changes_the_example_and_nothing_else(kind):
    data = DataConfig()
    words, world = vocabulary(data), CausalGraph(data)
    case = damaged_prompts(data, rng(), 40, kind)
    rows = [words.decode(row[:n]).split(" ") for row, n in zip(case["tokens"], case["lengths"])]
    for row, letters, values, shown in zip(
        rows, case["letters"].tolist(), case["values"].tolist(), case["example"].tolist()
    ):
        first, second = (" ".join(row)).split(" \n ")
        name = lambda l: words.names[words.letter + l]
        assert second.split(" ")[0] == name(letters[-1]) and second.split(" ")[-2:] == [
            name(letters[0]),
            words.names[values[0]],
        ]
        assert [t for t in first.split(" ")[2:] if "~" not in t][::2] == [name(l) for l in shown]
        gold = world.values(int(words.names[values[0]]))
        assert [int(words.names[v]) for v in values] == [gold[name(l)] for l in letters]
        if kind == "two swapped":
            assert sum(a != b for a, b in zip(shown, letters)) == 2
        if kind == "shuffled":
            assert sorted(shown) == sorted(letters) and (shown[0], shown[-1]) == (letters[0], letters[-1])
        if kind == "one missing":
            assert len(shown) == 7 and set(shown) < set(letters)
        if kind == "other branch":
            assert set(shown) & set(letters) == {letters[0]}
        if kind in ("clean", "wrong values", "noise values"):
            assert shown == letters


def test_bad_arguments_are_named():
    data = DataConfig()
    with pytest.raises(ValueError, match="kind"):
        damaged_prompts(data, rng(), 3, "upside down")
    with pytest.raises(ValueError, match="parent"):
        handmade_model(data, parent="oldest")
    with pytest.raises(ValueError, match="equals"):
        handmade_model(DataConfig(equals=True))
    with pytest.raises(ValueError, match="name"):
        recorded_model("large_s0")


def test_a_probe_reads_what_is_there_and_nothing_else():
    y = torch.randint(10, (1200,), generator=rng())
    x = torch.nn.functional.one_hot(y, 16).float() @ torch.randn(16, 16, generator=rng(1))
    assert linear_probe(x, y, learn=900) > 0.99
    assert linear_probe(torch.randn(1200, 16, generator=rng(2)), y, learn=900) < 0.1 + 4 * (0.09 / 300) ** 0.5
    assert perfect_probe(80, 50) == pytest.approx(0.801, abs=1e-3) and perfect_probe(1, 4) == 0.25


# ---- the machine that was built by hand


@pytest.mark.parametrize("seed", SEEDS)
def test_two_layers_by_hand_write_every_chain(seed):
    cfg = Config(DataConfig(graph_seed=seed), seed=seed)
    model = handmade_model(cfg.data)
    assert (
        evaluate(model, cfg, 1, n=500)["whole_strict"] >= 0.99 and evaluate(model, cfg, 0, n=50)["whole"] == 0
    )
    for kind in ("two swapped", "shuffled"):
        assert written_order(model, cfg.data, damaged_prompts(cfg.data, rng(1), 40, kind))["example"] == 1


def test_by_hand_the_parent_is_the_last_number_or_the_one_of_its_name():
    data = DataConfig(overlap=True, noise_values=20)
    assert expectation(handmade_model(data), decoys(data, rng(), 100)) == (0, 1)
    assert expectation(handmade_model(data, parent="named"), decoys(data, rng(), 100)) == (1, 0)
    cfg = Config(data)
    assert evaluate(handmade_model(data, parent="named"), cfg, 1, n=100)["whole_strict"] == 1


# ---- the trained ones


def test_no_head_looks_at_the_successor_and_the_first_layer_reads_a_list(models, small, texts):
    looks = [attention_scores(m, c.data, t) for (c, m), t in zip(small, texts)]
    looks += [
        attention_scores(m, c.data, script(c.data, few_shot_prompts(c.data, rng(11), 200, 1).full))
        for c, m in (models["long_s0"], models["copying_s0"])
    ]
    column = lambda g, name, layer: [w[LOOKS.index(name)] for (l, _), w in g.items() if l == layer]
    for g in looks:
        assert max(column(g, "successor", 1)) < 0.25 and max(column(g, "successor", 0)) < 0.25
        assert (
            max(column(g, "list", 0)) > 0.6
            and max(column(g, "path", 1)) > 0.5
            and max(column(g, "parent", 0)) > 0.4
        )


def test_order_and_values_are_lost_separately(small, texts):
    for (c, m), t in zip(small, texts):
        names = find_heads(attention_scores(m, c.data, t))
        assert names["parent"][0] == 0 and names["path"][0] == 1
        usual = mean_head_outputs(m, c.data, sample_batch(c.data, rng(12), 400)[0])
        off = {
            (who, at): ablate_heads(m, c.data, t, usual=usual, heads=[(names[who],)], at=(at,))[names[who],]
            for who, at in (("parent", "letter"), ("path", "value"))
        }
        vertex, value = next_token_accuracy(m, c.data, t)
        assert off["parent", "letter"][1] < value - 0.4 and off["parent", "letter"][0] > vertex - 0.3
        assert off["path", "value"][0] < vertex - 0.4 and off["path", "value"][1] > value - 0.05
        everywhere = ablate_heads(m, c.data, t, usual=usual, heads=[(names["path"],)])[names["path"],]
        assert everywhere[0] < vertex - 0.4 and everywhere[1] > value - 0.07


def test_the_parent_reader_carries_the_value_of_another_text(small, texts):
    moved = []
    for (c, m), t in zip(small, texts):
        donor, kind, reader = other_root(c.data, t), token_kinds(c.data, t.tokens), {}
        named, wanted = t.tokens.gather(1, t.letter[:, -1]), donor.gather(1, t.value[:, -1, 1:])
        assert (donor.gather(1, t.letter[:, -1]) == named).all() and len(donor) == len(t.tokens)
        root = [
            [vocabulary(c.data).values[v - vocabulary(c.data).value] for v in x.gather(1, t.value[:, -1, :1])]
            for x in (t.tokens, donor)
        ]
        assert all(abs(a - b) == 10 for a, b in zip(*root))
        for head in ((0, 0), (0, 1), (1, 0), (1, 1)):
            for at in ("letter", "value"):
                said = patched(m, t.tokens, donor, head, kind == KINDS.index(at))
                reader[head, at] = (said.gather(1, t.letter[:, -1, 1:]) == wanted).double().mean().item()
        parent = find_heads(attention_scores(m, c.data, t))["parent"]
        moved.append(reader[parent, "letter"])
        assert max(share for (head, at), share in reader.items() if head[0] == 1 or at == "value") < 0.05
    assert min(moved) > 0.5 and sorted(moved)[1] > 0.95


def test_switching_nothing_off_changes_nothing(small, texts):
    (c, m), t = small[0], texts[0]
    usual = mean_head_outputs(m, c.data, t.tokens)
    assert ablate_heads(m, c.data, t, usual=usual, heads=[(), ((0, 0), (1, 1))], at=())[
        (0, 0), (1, 1)
    ] == next_token_accuracy(m, c.data, t)
    with pytest.raises(ValueError, match="at="):
        ablate_heads(m, c.data, t, usual=usual, at=("letters",))
    whole = ablate_heads(m, c.data, t, usual=usual, heads=[((0, 0), (0, 1), (1, 0), (1, 1))])
    assert all(max(pair) < 0.5 for pair in whole.values())


def test_a_swapped_example_is_not_followed_and_values_come_from_the_weights(small):
    good = [small[0], small[2]]
    for c, m in small:
        swapped = written_order(m, c.data, damaged_prompts(c.data, rng(13), 150, "two swapped"))
        assert swapped["example"] < 0.1 < swapped["graph"]
        clean, wrong = (
            written_order(m, c.data, damaged_prompts(c.data, rng(13), 150, kind))["whole"]
            for kind in ("clean", "wrong values")
        )
        assert abs(clean - wrong) < 4 * (2 * 0.25 / 150) ** 0.5
    for c, m in good:
        assert written_order(m, c.data, damaged_prompts(c.data, rng(13), 150, "two swapped"))["graph"] > 0.4


def test_noise_for_values_leaves_hardly_a_chain(small):
    for c, m in small:
        found = written_order(m, c.data, damaged_prompts(c.data, rng(13), 150, "noise values"))
        assert found["whole"] < 0.25 and found["graph"] < 0.4


def test_an_example_takes_the_probability_from_the_noise(small, texts):
    for (c, m), t in zip(small, texts):
        without = probability_shares(
            m, c.data, script(c.data, few_shot_prompts(c.data, rng(11), 200, 0).full)
        )
        assert (
            probability_shares(m, c.data, t)[:, 3].max() < 0.05 < 0.3 < without[:, 3].mean()
            and without[:, :].sum(1).max() <= 1 + 1e-5
        )


def test_only_the_parent_can_be_read(small):
    c, m = small[1]
    table = probe_table(m, c.data, rng(14), n=600)
    assert (
        table.diagonal().min() > 0.8
        and table[torch.ones(7, 7).tril(-1).bool()].mean() < 0.2
        and table[0, 1:].isnan().all()
    )


def test_noise_that_looks_like_a_parent_is_believed_less_where_ranges_overlap(models):
    for s in SEEDS:
        (parent, noise), (named, fooled) = (
            expectation(models[f"{kind}_s{s}"][1], decoys(models[f"{kind}_s{s}"][0].data, rng(15), 300))
            for kind in ("small", "overlap")
        )
        assert noise > 0.7 and parent < 0.25 and named > parent + 0.2 and fooled < noise - 0.2


def test_overlapping_ranges_cost_chains():
    more = [
        f"51_ftct_training/{name}_s{s}"
        for name, seeds in (("small", (0, 1, 2)), ("more_L2", (3, 4, 5)))
        for s in seeds
    ]
    apart, overlap = (
        [load(name) for name in names]
        for names in (more, [f"52_ftct_mechanism/overlap_s{s}" for s in range(6)])
    )
    assert None not in apart + overlap
    chains = [[r.result["whole_strict"][1] for r in found] for found in (apart, overlap)]
    lost = [a - o for a, o in zip(*chains)]
    assert min(lost) > 0 and ttest_1samp(lost, 0).pvalue < 0.05


# ---- modes, dtypes, nothing


def test_examining_a_model_gives_its_modes_back():
    cfg = Config(DataConfig(N=4, M=3, letters=20, root_values=4, extra=2, examples=2), width=16)
    from lla_course.ftct.byhand import last_hidden
    from lla_course.ftct.training import build_model

    model, s = build_model(cfg).train(), script(cfg.data, few_shot_prompts(cfg.data, rng(), 20, 1).full)
    model.blocks[0].eval()
    before = [m.training for m in model.modules()]
    usual = mean_head_outputs(model, cfg.data, s.tokens)
    damaged, noisy = damaged_prompts(cfg.data, rng(), 5, "clean"), decoys(cfg.data, rng(), 20)
    for work in (
        lambda: next_token_accuracy(model, cfg.data, s),
        lambda: attention_scores(model, cfg.data, s),
        lambda: probability_shares(model, cfg.data, s),
        lambda: written_order(model, cfg.data, damaged),
        lambda: last_hidden(model, s.tokens),
        lambda: expectation(model, noisy),
        lambda: ablate_heads(model, cfg.data, s, usual=usual),
    ):
        work()
        assert [m.training for m in model.modules()] == before


@pytest.mark.parametrize("usual", [torch.bfloat16, torch.float16, torch.float64])
def test_the_machine_is_right_whatever_the_usual_dtype(usual):
    cfg = Config(DataConfig())
    with default_dtype(usual):
        for parent in ("recent", "named"):
            assert evaluate(handmade_model(cfg.data, parent=parent), cfg, 1, n=40)["whole_strict"] == 1


def test_a_kind_of_token_that_was_never_averaged_over_is_not_ablated():
    data = DataConfig(N=4, M=3, letters=20, root_values=4, extra=2, examples=2, context=(0, 0))
    told = DataConfig(N=4, M=3, letters=20, root_values=4, extra=2, examples=2, context=(1, 1))
    from lla_course.ftct.training import build_model

    model = build_model(Config(told, width=16))
    bare = few_shot_prompts(data, rng(), 20, 1).full  # without context words
    full = script(told, few_shot_prompts(told, rng(), 20, 1).full)
    usual = mean_head_outputs(model, told, bare)
    with pytest.raises(ValueError, match="^usual=.*context"):
        ablate_heads(model, told, full, usual=usual)
    assert ablate_heads(model, told, full, usual=usual, at=("letter", "value"))
