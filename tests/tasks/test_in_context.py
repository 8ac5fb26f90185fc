"""In-context regression: the world, what a token holds, the finishing line, no look ahead, what is measured,
and the verdicts."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from helpers import default_dtype
from lla_course.tasks import in_context
from lla_course.tasks.in_context import (
    Config,
    Regressor,
    by_place,
    cells,
    errors,
    held_out,
    inspect_heads,
    known_segment_ridge,
    make_tokens,
    own_pairs,
    run,
    sample_sequences,
    seeds_p,
    train,
    untrained_baselines,
    verdicts,
    with_further_rates,
)
from lla_course.tasks.mixers import MIXERS

gen = lambda s=0: torch.Generator().manual_seed(s)
SMALL = Config(
    "softmax",
    8,
    d=4,
    length=24,
    width=16,
    steps=4,
    batch=2,
    test=6,
    seeds=(0, 1),
    rates=(1e-3, 1e-2),
    precision="float32",
)


@pytest.fixture(autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


# ---- the world


@settings(max_examples=15, deadline=None)
@given(
    S=st.integers(1, 12),
    d=st.integers(3, 6),
    L=st.integers(12, 30),
    n=st.integers(1, 3),
    part=st.floats(0, 0.99),
)
def test_a_segment_is_one_linear_map_wherever_it_ends(S, d, L, n, part):
    cfg, shift = Config("lla", S, d=d, length=L, noise=0.0), int(part * S)
    x, y = sample_sequences(cfg, n, gen(S), shift=shift)
    assert x.shape == y.shape == (n, L, d)
    torch.testing.assert_close(x.square().sum(-1), torch.full((n, L), float(d)), rtol=1e-3, atol=1e-3)
    piece = (torch.arange(L) + shift) // S
    for i in piece.unique():
        a, b = x[0, piece == i].double(), y[0, piece == i].double()
        torch.testing.assert_close(
            a @ torch.linalg.lstsq(a, b, driver="gelsd").solution, b, rtol=1e-3, atol=1e-3
        )


def test_maps_change_and_a_shift_moves_the_same_sequence():
    cfg = replace(SMALL, noise=0.0)
    x, y = (a[0].double() for a in sample_sequences(cfg, 1, gen()))
    maps = [torch.linalg.lstsq(x[a : a + 8], y[a : a + 8]).solution for a in (0, 8, 16)]
    assert (maps[0] - maps[1]).norm() > 0.5 and (maps[1] - maps[2]).norm() > 0.5
    # both draw four segments
    whole = sample_sequences(replace(cfg, length=32), 1, gen())
    moved = sample_sequences(cfg, 1, gen(), shift=5)
    for a, b in zip(whole, moved):
        torch.testing.assert_close(a[:, 5:29], b)


def test_values_have_variance_one_and_inputs_of_one_segment_lie_together():
    x, y = sample_sequences(Config("lla", 16, d=32, length=64), 200, gen(1))
    assert y.square().mean().item() == pytest.approx(1, abs=0.03)
    near = (x[:, :16] @ x[:, :16].mT / 32).mean().item()
    far = (x[:, :16] @ x[:, 16:32].mT / 32).mean().item()
    assert near > 0.45 and abs(far) < 0.05


def test_the_same_seed_gives_the_same_questions():
    a, b, c = held_out(SMALL, 3), held_out(SMALL, 3), held_out(SMALL, 4)
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and not torch.equal(a[0], c[0])


# ---- tokens and models


def test_a_token_holds_a_question_and_the_answer_to_the_last_one():
    x, y = sample_sequences(SMALL, 2, gen())
    two, three = make_tokens(x, y, False), make_tokens(x, y, True)
    assert two.shape[-1] == 8 and three.shape[-1] == 12
    for t in (two, three):
        assert torch.equal(t[..., :4], x) and torch.equal(t[:, 1:, -4:], y[:, :-1]) and not t[:, 0, 4:].any()
    assert torch.equal(three[:, 1:, 4:8], x[:, :-1])


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("told", [True, False])
def test_nobody_sees_an_answer_before_it_was_given(name, told):
    model = Regressor(replace(SMALL, mixer=name, told=told), seed=1)
    x, y = sample_sequences(SMALL, 2, gen())
    torch.nn.init.normal_(model.unembed.weight)
    other = y.clone()
    other[:, 11:] += 3
    with torch.no_grad():
        a, b = model(x, y), model(x, other)
    torch.testing.assert_close(a[:, :12], b[:, :12], rtol=1e-4, atol=1e-4)
    assert (a[:, 12:] - b[:, 12:]).abs().max() > 1e-3


def test_an_untrained_model_says_zero_and_all_have_equal_numbers_of_parameters():
    x, y = sample_sequences(SMALL, 2, gen())
    torch.testing.assert_close(errors(Regressor(SMALL), x, y), y.square().mean(-1))
    counts = [
        sum(p.numel() for p in Regressor(c).parameters())
        for n, c in cells("full").items()
        if n.startswith("S64") and c.told and c.mixer not in ("lines", "parallax")
    ]
    assert max(counts) / min(counts) < 1.04


def test_training_repeats_itself_and_learns():
    cfg = replace(SMALL, steps=60, batch=16)
    (a, r), (b, s) = train(cfg, 1e-2, 0), train(cfg, 1e-2, 0)
    assert r["loss"] == s["loss"] and all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))
    assert r["loss"][-1] < 0.9 and train(cfg, 1e-2, 1)[1]["loss"] != r["loss"]


# ---- lines


def test_the_finishing_line_is_ridge_regression_on_the_own_segment():
    x, y = sample_sequences(SMALL, 2, gen(2), shift=3)
    got, ridge = known_segment_ridge(SMALL, x, y, shift=3), 4 * 0.05**2
    for t in range(24):
        begin = max(0, (t + 3) // 8 * 8 - 3)
        a, b = x[1, begin:t].double(), y[1, begin:t].double()
        want = b.mT @ a @ torch.linalg.solve(a.mT @ a + ridge * torch.eye(4, dtype=a.dtype), x[1, t].double())
        torch.testing.assert_close(got[1, t], want)
    assert not got[:, 5].any() and own_pairs(SMALL, shift=3).sum() == 10 + 28 + 28 + 3


def test_nobody_else_is_below_the_finishing_line():
    r = untrained_baselines(replace(SMALL, test=64, length=48, segment=16))
    mean = {n: sum(map(sum, one["errors"])) / 128 for n, one in r.items()}
    assert mean["known"] < 0.8 * min(v for n, v in mean.items() if n != "known") and mean[
        "zero"
    ] == pytest.approx(1, abs=0.12)
    for one in r.values():
        assert len(one["errors"]) == 2 and len(one["errors"][0]) == 64 and len(one["curve"]) == 48


# ---- measuring


def test_a_run_repeats_itself_can_be_stored_and_hands_out_its_models():
    cfg, kept = replace(SMALL, mixer="lla"), {}
    a, b = run(cfg, kept).result, run(cfg).result
    for r in (a, b):
        for one in r["runs"]:
            one.pop("seconds")
    assert a == b and len(json.dumps(a, allow_nan=False)) < 20_000
    assert set(kept) == {(r, s) for r in cfg.rates for s in cfg.seeds if s == 0 or r == a["rate"]}
    assert (
        len(a["errors"]) == 2
        and len(a["errors"][0]) == 6
        and len(a["curve"]) == len(a["shifted"]) == 24
        and [r for r, _ in a["grid"]] == list(cfg.rates)
    )
    e = errors(kept[a["rate"], 1], *held_out(cfg, 10_001))
    assert a["errors"][1] == pytest.approx(e[:, 8:].mean(1).tolist(), abs=1e-4)
    assert a["runs"][0]["inside"]["before"][0]["ridge"] == [0.1, 0.1] and a["runs"][0]["solver_steps"][-1] > 1


def test_questions_for_choosing_testing_and_training_are_different():
    assert not {10_000 + s for s in range(100)} & ({20_000 + s for s in range(100)} | set(range(100)))


def test_a_model_that_blows_up_counts_as_a_thousand():
    note = in_context._note(SMALL, torch.full((2, 24), math.nan))
    assert note == dict(errors=[1000.0, 1000.0], curve=[1000.0] * 24)


def test_equal_weights_are_spread_over_all_tokens():
    model, (x, y) = Regressor(SMALL), sample_sequences(SMALL, 2, gen())
    for block in model.blocks:
        torch.nn.init.zeros_(block.mixer.to_qkv.weight)
    found, t = inspect_heads(SMALL, model, x, y), torch.arange(8, 24.0)
    assert len(found) == 2 and found[0]["tokens"] == pytest.approx([(t + 1).mean().item()] * 2, abs=1e-3)
    assert (
        found[0]["own"] == pytest.approx([((t % 8) / (t + 1)).mean().item()] * 2, abs=1e-3)
        and inspect_heads(SMALL, Regressor(replace(SMALL, mixer="deltanet")), x, y) == []
    )


def test_a_curve_is_folded_into_one_segment():
    assert by_place([9.0] * 8 + [float(i % 8) for i in range(8, 24)], 8) == list(map(float, range(8)))
    assert by_place([9.0] * 5 + [float((i + 3) % 8) for i in range(5, 24)], 8, shift=3) == list(
        map(float, range(8))
    )


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: sample_sequences(replace(SMALL, segment=25), 1, gen()), "segment"),
        (lambda: sample_sequences(SMALL, 1, gen(), shift=8), "shift"),
        (lambda: Regressor(replace(SMALL, width=15)), "width"),
        (lambda: run(replace(SMALL, mixer="hyena")), "mixer"),
        (lambda: cells("slow"), "preset"),
        (lambda: Regressor(replace(SMALL, positions="sine")), "positions"),
    ],
)
def test_bad_arguments(call, name):
    with pytest.raises(ValueError, match=f"^{name}="):
        call()


def test_the_table_of_cells():
    full = cells("full")
    large = {n: c for n, c in full.items() if not n.startswith("small")}
    main = {n: c for n, c in large.items() if "_rate0.03" not in n and "_lower" not in n}
    assert (
        len(main) <= 56
        and {"S64_softmax", "S64_lla", "S256_softmax", "S256_lla"} <= set(list(full)[:12])
        and all(len(c.seeds) == 3 for c in main.values())
    )
    assert all(c.length % c.segment == 0 and c.length >= 2 * c.segment for c in full.values())
    for S in (32, 64, 128, 256):  # Parallax is tuned as the others are, the fourth rate at once
        ninth, softmax = full[f"S{S}_parallax"], full[f"S{S}_softmax_normed"]
        assert replace(ninth, mixer="softmax_normed", rates=softmax.rates) == softmax
        assert ninth.rates == (*softmax.rates, *full[f"S{S}_softmax_normed_rate0.03"].rates)


# ---- verdicts


def made_up(level):  # level: (S, mixer) -> mean error
    noise = [[0.01 * math.sin(7 * i + s) for i in range(32)] for s in range(3)]
    return {
        f"S{S}_{m}": dict(errors=[[v * (1 + n) for n in row] for row in noise]) for (S, m), v in level.items()
    }


def test_verdicts():
    r = verdicts(
        made_up(
            {
                (32, "lla"): 0.5,
                (32, "softmax"): 0.9,
                (256, "lla"): 0.2,
                (256, "softmax"): 0.25,
                (32, "gla"): 0.4,
                (256, "gla"): 0.3,
            }
        )
    )
    assert r["LLA is better than softmax"] == [True, True] and r[
        "its advantage over softmax is larger for short segments"
    ] == [True]
    assert (
        r["LLA is better than gla"] == [False, True]
        and r["its advantage over gla is larger for short segments"] == [False]
        and r["LLA is better than mamba2"] == []
    )


def test_p_is_that_of_students_test_on_logarithms_and_one_seed_decides_nothing():
    a, b = [[1.0, 3.0], [2.0, 2.5], [4.0, 6.0]], [[1.0, 2.0], [2.0, 2.0], [5.0, 4.0]]
    ratios = np.log([4 / 3, 4.5 / 4, 10 / 9])
    assert seeds_p(a, b) == pytest.approx(ttest_1samp(ratios, 0).pvalue)
    assert (
        seeds_p(a[:1], b[:1]) == 1
        and seeds_p(a, a) == 1
        and seeds_p(a, [[0.5 * e for e in x] for x in a]) == 0
    )
    with pytest.raises(ValueError):
        seeds_p(a, b[:2])


def test_further_rates_enter_the_race_where_the_first_seed_chooses_them():
    def cell(rate, score, *levels):
        curves = dict(curve=[levels[0]] * 2, shifted=[levels[0]] * 2)
        return curves | dict(rate=rate, grid=[[rate, score]], errors=[[v] for v in levels], runs=list(levels))

    results = dict(
        S32_lla=cell(0.01, 0.5, 5, 5, 5),
        S32_gla=cell(0.01, 0.5, 5, 5, 5),
        S32_mesanet=cell(0.01, 0.5, 5, 5, 5),
        S64_gla=cell(0.001, 0.5, 5, 5, 5),
    ) | {
        "S32_lla_rate0.03": cell(0.03, 0.4, 2),
        "S32_lla_rate0.03_more": cell(0.03, 0.9, 3, 5),
        "S32_gla_rate0.03": cell(0.03, 0.6, 2),
        "S32_mesanet_rate0.03": cell(0.03, 0.4, 2),
        "S64_gla_lower": cell(0.0005, 0.4, 1, 1, 1),
    }
    found = with_further_rates(results)
    assert set(found) == {"S32_lla", "S32_gla", "S32_mesanet", "S64_gla"}
    assert [r["rate"] for r in found.values()] == [0.03, 0.01, 0.01, 0.0005]  # one seed is not the race
    assert found["S32_lla"]["errors"] == [[2], [3], [5]] and found["S32_lla"]["runs"] == [2, 3, 5]
    assert found["S32_lla"]["curve"] == pytest.approx([8 / 3] * 2, abs=1e-5)
    assert found["S32_lla"]["grid"] == [[0.01, 0.5], [0.03, 0.4]] and found["S64_gla"]["grid"][0] == [
        0.0005,
        0.4,
    ]
    assert results["S32_lla"]["errors"] == [[5], [5], [5]]


def test_one_seed_against_it_spoils_a_verdict():
    r = made_up({(32, "lla"): 0.5, (32, "softmax"): 0.9})
    r["S32_softmax"]["errors"][2] = [0.45] * 32
    assert verdicts(r)["LLA is better than softmax"] == [False]


# ---- modes, dtypes, nothing


def test_measuring_gives_the_mode_back_and_removes_its_hooks():
    model = Regressor(SMALL).train()
    model.blocks[0].eval()
    before = [m.training for m in model.modules()]
    x, y = sample_sequences(SMALL, 3, gen())
    errors(model, x, y)
    inspect_heads(SMALL, model, x, y)
    assert [m.training for m in model.modules()] == before
    model.unembed = torch.nn.Linear(3, 3)  # does not fit
    for work in (lambda: errors(model, x, y), lambda: inspect_heads(SMALL, model, x, y)):
        with pytest.raises(RuntimeError):
            work()
        assert [m.training for m in model.modules()] == [*before]
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_no_sequence_and_no_token():
    x, y = sample_sequences(SMALL, 0, gen())
    assert x.shape == y.shape == (0, 24, 4) and errors(Regressor(SMALL), x, y).shape == (0, 24)
    assert known_segment_ridge(SMALL, x, y).shape == (0, 24, 4)
    none = torch.zeros(3, 0, 4)
    assert make_tokens(none, none, True).shape == (3, 0, 12)
    assert Regressor(SMALL)(none, none).shape == (3, 0, 4)


@pytest.mark.parametrize("usual", [torch.bfloat16, torch.float64])
def test_the_data_do_not_depend_on_the_usual_dtype(usual):
    want = sample_sequences(SMALL, 3, gen(), shift=2)
    with default_dtype(usual):
        assert all(torch.equal(a, b) for a, b in zip(sample_sequences(SMALL, 3, gen(), shift=2), want))
        assert Regressor(SMALL)(*want).dtype == usual
