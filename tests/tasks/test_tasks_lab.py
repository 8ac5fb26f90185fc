"The memory lab, driven by setting widget values: every number on its benches is that of the library."

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import parts
from lla_course.attention.baselines import softmax_attention
from lla_course.attention.dense import lla_dense
from lla_course.core import seed_everything
from lla_course.tasks.lab import (
    ASKED,
    CONTEST,
    KNOBS,
    LAYOUTS,
    LENGTH,
    MEMORY,
    PAIRS,
    RULES,
    STAY,
    active_piece,
    answers,
    capacity_figure,
    capacity_lab,
    changing_sequences,
    circle_figure,
    circle_lab,
    line_keys,
    line_weights,
    prediction,
    read_out,
    recall_accuracy,
    recall_figure,
    recall_keys,
    recall_lab,
    recall_prompt,
    recovery,
    recovery_figure,
    recovery_lab,
    tuning,
    two_pieces,
    weights_figure,
    weights_lab,
)
from lla_course.tasks.mixers import recurrence
from lla_course.tasks.online_regression import GRIDS, Config, make_sequences, predict


def numbers(values):
    return np.asarray(values, float)


def heights(figure):
    return [numbers(t.y) for t in figure.data]


def trace(figure, name):
    return next(t for t in figure.data if t.name and t.name.startswith(name))


def same_as_fresh(figure, fresh):
    for shown, new in zip(figure.data, fresh.data, strict=True):
        assert shown.name == new.name
        np.testing.assert_array_equal(numbers(shown.y), numbers(new.y))


def moves(lab, draw, control, value, **names):
    "Set one control, and compare the whole figure with one drawn from all controls' values."
    controls, message, figure = parts(lab)
    before = heights(figure)
    controls[control].value = value
    assert message.value == ""
    after = heights(figure)
    assert any(a.shape != b.shape or not np.array_equal(a, b, equal_nan=True) for a, b in zip(before, after))
    same_as_fresh(figure, draw(**{name: controls[label].value for name, label in names.items()}))


# ---- one function that asks


@pytest.mark.parametrize("rule", RULES)
def test_an_answer_is_that_of_the_rule_after_its_last_token(rule):
    g = torch.Generator().manual_seed(1)
    k, v, q = (torch.randn(*s, 5, generator=g, dtype=torch.float64) for s in ((2, 20), (2, 20), (2, 3)))
    knobs = dict(scale=1.5, ridge=0.2, step=0.1, decay=0.9)
    found = answers(rule, q, k, v, **knobs)
    if rule == "softmax":
        expected = softmax_attention(q, k, v, scale=1.5)
    elif rule == "lla":
        expected = lla_dense(q, k, v, scale=1.5, ridge=0.2, is_causal=False)
    else:
        kind = "mesa" if "mesa" in rule else "delta" if "delta" in rule else "sum"
        fade = math.log(0.9) if rule in ("mamba2", "gated_deltanet", "mesanet_fading") else 0.0
        one = torch.ones(2, 20, 1, dtype=torch.float64)
        each = []
        for i in range(3):  # put the question in the place of the last one
            asks = torch.cat([k[:, :-1], q[:, i : i + 1]], 1)
            each.append(
                recurrence(
                    kind,
                    asks,
                    k,
                    v,
                    fade * one,
                    one if kind == "mesa" else 0.1 * one,
                    torch.full((5,), 0.2, dtype=torch.float64),
                )[0][:, -1]
            )
        expected = torch.stack(each, 1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "knobs, complaint",
    [
        (dict(rule="memory"), "rule='memory'"),
        (dict(ridge=0.0), "ridge=0"),
        (dict(scale=-1.0), "scale=-1"),
        (dict(step=0.0), "step=0"),
        (dict(decay=0.0), "decay=0"),
        (dict(decay=1.1), "decay=1.1"),
    ],
)
def test_bad_settings_of_an_answer(knobs, complaint):
    x = torch.eye(2).double()
    knobs = dict(rule="softmax", scale=1.0, ridge=1.0) | knobs
    with pytest.raises(ValueError, match=complaint):
        answers(knobs.pop("rule"), x, x, x, **knobs)


# ---- the first bench


def test_at_spread_one_the_pieces_are_the_segments_of_chapter_32():
    k, v, W = two_pieces(6, 1.0, 3, 4)
    k2, v2 = make_sequences(Config(6, LENGTH, length=2 * LENGTH), 3, seed_everything(4))
    torch.testing.assert_close(k.flatten(1, 2), k2)
    torch.testing.assert_close(v.flatten(1, 2), v2)
    assert torch.allclose(k.norm(dim=-1), torch.tensor(6.0).double().sqrt())
    assert ((v - k @ W.mT).std() - 0.05).abs() < 0.005


@settings(max_examples=20, deadline=None)
@given(change=st.integers(1, LENGTH - 1), back=st.booleans())
def test_only_the_moment_of_change_moves(change, back):
    which = active_piece(change, back)
    assert (which[:change] == 0).all() and which[change:].sum() == (
        min(STAY, LENGTH - change) if back else LENGTH - change
    )
    k, v = changing_sequences(2, 0.5, 1, 0, change, back)
    every, values, _ = two_pieces(2, 0.5, 1, 0)
    for t in (0, change - 1, change, LENGTH - 1):
        assert torch.equal(k[0, t], every[0, which[t], t]) and torch.equal(v[0, t], values[0, which[t], t])


def test_a_smaller_spread_takes_the_pieces_apart():
    def apart(spread):
        k = two_pieces(8, spread, 20, 0)[0]
        inside = (k[:, :, :-1] * k[:, :, 1:]).sum(-1).mean() / 8
        return float(inside)

    assert apart(0.2) > 0.9 > apart(1.0) > 0.3


@pytest.mark.parametrize("rule", CONTEST)
def test_an_opinion_is_the_prediction_of_chapter_32(rule):
    k, v = changing_sequences(4, 1.0, 1, 2, 30, False)
    setting = tuning(rule, **KNOBS)
    o = next(predict(rule, [setting], k[:, :60], v[:, :60]))[1][0]
    for t in (1, 20, 59):
        torch.testing.assert_close(
            prediction(rule, setting, k[0, t : t + 1], k[0, :t], v[0, :t])[0], o[t - 1], rtol=1e-7, atol=1e-9
        )
    assert len(setting) == len(GRIDS[rule][0])


def test_the_curves_of_the_circle_are_opinions_and_matrices_make_sine_waves():
    figure = circle_figure(130)
    k, v = changing_sequences(2, 0.5, 1, 7, 96, False)
    angle = numbers(trace(figure, "LLA").x) * np.pi / 180
    q = 2**0.5 * torch.tensor(np.c_[np.cos(angle), np.sin(angle)])
    wave = np.c_[np.cos(angle), np.sin(angle)]
    for rule in CONTEST:
        shown = numbers(next(t for t in figure.data if t.name == RULES[rule][1]).y)
        np.testing.assert_allclose(
            shown, prediction(rule, tuning(rule, **KNOBS), q, k[0, :130], v[0, :130])[:, 0], atol=1e-12
        )
        rest = shown - wave @ np.linalg.lstsq(wave, shown, rcond=None)[0]
        assert (np.abs(rest).max() < 1e-9) == (rule not in ("softmax", "lla")), rule
    dots = [t for t in figure.data if t.mode == "markers"]
    assert [len(t.x) for t in dots] == [96, 34]


def test_place_remembers_and_the_clock_forgets():
    "The claims of the prose: after two tokens of B the delta rules have left A; A is known when it returns."

    def error(rule, now, piece, back=False):
        k, v = changing_sequences(2, 0.5, 1, 7, 96, back)
        q, _, W = two_pieces(2, 0.5, 1, 7)
        q = q[0, piece]
        return float(
            (prediction(rule, tuning(rule, **KNOBS), q, k[0, :now], v[0, :now]) - q @ W[0, piece].mT)
            .square()
            .mean()
        )

    assert (
        error("deltanet", 98, 0) > 0.3
        and error("gated_deltanet", 98, 0) > 0.3
        and error("lla", 98, 0) < 0.05
        and error("softmax", 98, 0) < 0.1
    )
    assert error("lla", 160, 0, True) < 0.05 and error("mesanet_fading", 164, 0, True) > 0.3
    assert (
        error("lla", 240, 0) < 0.05
        and error("lla", 240, 1) < 0.05
        and error("mesanet_fading", 240, 1) < 0.005
    )


def test_recovery_is_the_error_of_the_contest():
    setting = tuning("lla", **KNOBS)
    k, v = changing_sequences(4, 1.0, 4, 0, 96, True)
    e = (next(predict("lla", [setting], k, v))[1] - v[:, 1:]).square().mean((0, 2))
    np.testing.assert_allclose(recovery("lla", setting, 4, 1.0, 0, 96, True, n=4), e)


def test_the_curve_of_errors_averages_within_a_piece():
    figure = recovery_figure(d=4, back=True)
    t = trace(figure, "MesaNet")
    e = recovery("mesanet", tuning("mesanet", **KNOBS), 4, 1.0, 0, 96, True)
    y = numbers(t.y)
    assert (
        list(t.x) == list(range(1, LENGTH))
        and y[0] == e[0]
        and y[94] == pytest.approx(e[87:95].mean())
        and y[95] == e[95]
        and y[96] == pytest.approx(e[95:97].mean())
    )
    assert (
        y[159] == e[159]
        and y[-1] == pytest.approx(e[-8:].mean())
        and t.name == f"MesaNet {e[95:].mean():.2f}"
    )
    assert [a.text for a in figure.layout.annotations] == ["<b>A</b>", "<b>B</b>", "<b>A</b>"] and [
        s.x0 for s in figure.layout.shapes
    ] == [96, 160]


def test_who_recovers_and_who_had_never_left():
    e = {rule: recovery(rule, tuning(rule, **KNOBS), 16, 1.0, 0, 96, True)[95:] for rule in CONTEST}
    part = lambda rule, a, b: e[rule][a:b].mean()
    assert part("mesanet_fading", 48, 64) < 0.25 * part("lla", 48, 64) and part(
        "mesanet_fading", 64, 80
    ) > 5 * part("lla", 64, 80)
    assert part("lla", 64, 80) < part("lla", 48, 64) and part("lla", 48, 64) < 0.6 * part("softmax", 48, 64)
    flat = recovery("deltanet", tuning("deltanet", **KNOBS), 2, 1.0, 0, 96, True)[95:]
    assert (
        flat[48:64].mean()
        < 0.1 * recovery("lla", tuning("lla", **KNOBS), 2, 1.0, 0, 96, True)[95:][48:64].mean()
    )


WORLD = dict(
    change="change at",
    back="the world comes back",
    spread="spread",
    scale="scale·√d",
    ridge="LLA ridge",
    mesa_ridge="Mesa ridge",
    step="step · d",
    fading="Mesa fading",
    delta_fading="delta fading",
    seed="seed",
)
TURNS = [
    ("change at", 64),
    ("the world comes back", True),
    ("spread", 0.3),
    ("scale·√d", 2.0),
    ("LLA ridge", 10.0),
    ("Mesa ridge", 10.0),
    ("step · d", 0.5),
    ("Mesa fading", 0.98),
    ("delta fading", 0.9),
    ("seed", 3),
]


@pytest.mark.parametrize("control, value", [("tokens read", 200), *TURNS])
def test_every_control_of_the_circle_moves_it(control, value):
    lab = circle_lab()
    parts(lab)[0]["tokens read"].value = 170
    moves(lab, circle_figure, control, value, now="tokens read", **WORLD)


@pytest.mark.parametrize("control, value", [("dimension d", 4), *TURNS])
def test_every_control_of_the_errors_moves_them(control, value):
    moves(recovery_lab(), recovery_figure, control, value, d="dimension d", **WORLD)


def test_a_knob_moves_the_rules_that_listen_to_it():
    before, after = heights(circle_figure(130)), heights(circle_figure(130, scale=2.0))
    moved = {t.name for t, a, b in zip(circle_figure(130).data, before, after) if not np.array_equal(a, b)}
    assert moved == {"softmax", "LLA"}
    listens = lambda **knob: {
        rule for rule in CONTEST if tuning(rule, **KNOBS) != tuning(rule, **KNOBS | knob)
    }
    assert (
        listens(ridge=1.0) == {"lla"}
        and listens(mesa_ridge=1.0) == {"mesanet", "mesanet_fading"}
        and listens(step=0.2) == {"deltanet", "gated_deltanet"}
    )
    assert listens(fading=0.5) == {"mesanet_fading"} and listens(delta_fading=0.5) == {"gated_deltanet"}


@pytest.mark.parametrize(
    "draw, knobs, complaint",
    [
        (circle_figure, dict(now=0), "now=0"),
        (circle_figure, dict(change=0), "change=0"),
        (circle_figure, dict(ridge=0.0), "ridge=0"),
        (circle_figure, dict(fading=1.2), "fading="),
        (circle_figure, dict(spread=0.0), "spread=0"),
        (recovery_figure, dict(d=1), "d=1"),
        (recovery_figure, dict(change=LENGTH), "change=256"),
        (recovery_figure, dict(step=-1.0), "step=-1"),
    ],
)
def test_bad_settings_of_the_first_bench(draw, knobs, complaint):
    with pytest.raises(ValueError, match=complaint):
        draw(**knobs)


def test_an_unknown_rule_has_no_tuning():
    with pytest.raises(ValueError, match="rule='mamba2'"):
        tuning("mamba2", **KNOBS)


# ---- the second bench


@settings(max_examples=30, deadline=None)
@given(
    pairs=st.integers(1, 25),
    D=st.integers(1, 64),
    asked=st.sampled_from(ASKED),
    twice=st.booleans(),
    seed=st.integers(0, 20),
)
def test_a_prompt_has_one_right_answer(pairs, D, asked, twice, seed):
    k, letters, which, right, old = recall_prompt(pairs, D, "random directions", asked, twice, seed)
    assert k.shape == (pairs + twice, D) and len(set(letters.tolist())) == pairs + twice == len(letters)
    torch.testing.assert_close(k.norm(dim=-1), torch.ones(len(k)).double())
    assert (
        int(letters[which + twice]) == right
        and which == {ASKED[0]: 0, ASKED[1]: pairs // 2, ASKED[2]: pairs - 1}[asked]
    )
    if twice:
        assert torch.equal(k[0], k[which + 1]) and int(letters[0]) == old != right
    else:
        assert old == -1
    again = recall_prompt(pairs, D, "random directions", asked, twice, seed)
    assert torch.equal(k, again[0]) and torch.equal(letters, again[1])


def test_right_angles_and_their_end():
    torch.testing.assert_close(
        recall_keys("right angles", 5, 8, 0) @ recall_keys("right angles", 5, 8, 0).T, torch.eye(5).double()
    )
    with pytest.raises(ValueError, match="pairs=9.*right angles in 8"):
        recall_keys("right angles", 9, 8, 0)
    controls, message, figure = parts(recall_lab())
    controls["keys"].value = "right angles"
    before = heights(figure)
    controls["pairs"].value = 9
    assert "right angles" in message.value and all(
        np.array_equal(a, b) for a, b in zip(before, heights(figure))
    )
    controls["dimension D"].value = 9
    assert message.value == ""


def test_what_is_read_out():
    x = np.zeros(26)
    assert read_out(x) == "–"
    x[3] = 0.4
    assert read_out(x) == "D"
    x[7] = 0.4
    assert read_out(x) == "D/H"
    assert read_out(-np.ones(26)) == "–"


def test_only_the_delta_rules_drop_the_old_value():
    k, letters, which, right, old = recall_prompt(8, 8, "right angles", ASKED[1], True, 0)
    figure = recall_figure(kind="right angles")
    for bar, rule in zip(figure.data, RULES):
        heard = answers(rule, k[which + 1][None], k, F.one_hot(letters, 26).double(), **MEMORY)[0]
        np.testing.assert_allclose(numbers(bar.y), heard)
        assert (abs(float(heard[old])) < 1e-9) == ("delta" in rule), rule
        if rule in ("softmax", "lla", "linear", "mesanet"):
            assert heard[old] == pytest.approx(heard[right])
        else:
            assert heard[right] > 1.5 * heard[old]
        assert bar.marker.color[right] == "rgba(0,114,178,1)" and bar.marker.color[old] == "rgba(213,94,0,1)"
    assert "says" in figure.layout.annotations[0].text and "e?" in figure.layout.annotations[-1].text


def test_a_value_of_its_own_is_always_the_loudest_for_linear_attention():
    for pairs in (4, 16, 25):
        k, letters, which, right, _ = recall_prompt(pairs, 3, "random directions", ASKED[1], False, 1)
        assert (
            int(answers("linear", k[which][None], k, F.one_hot(letters, 26).double(), **MEMORY)[0].argmax())
            == right
        )


def test_capacity_of_matrices_and_caches():
    share = lambda rule, pairs, D=16, twice=False, **knobs: recall_accuracy(
        rule, pairs, D, twice, **MEMORY | knobs, seed=0
    )
    assert (
        share("mesanet", 16) > 0.97
        and share("mesanet", 64) < 0.6
        and share("softmax", 64) > 0.97
        and share("lla", 64) > 0.97
    )
    assert share("deltanet", 32) < share("linear", 32) < share("mesanet", 32)
    assert share("lla", 64, D=4) < 0.5 < share("lla", 64, D=4, scale=16.0)
    assert share("lla", 64, scale=0.0) < 0.5 and share("softmax", 64, scale=0.0) < 0.05
    for rule in ("softmax", "lla", "linear", "mesanet"):
        assert 0.2 < share(rule, 8, twice=True) < 0.75, "old and new are equally loud"
    assert share("deltanet", 4, twice=True) > 0.85 and share("mesanet_fading", 8, twice=True) > 0.95


def test_without_fading_the_dashed_curves_are_the_full_ones():
    figure = capacity_figure(D=8, decay=1.0)
    y = {t.name: list(t.y) for t in figure.data}
    assert (
        y["linear, fading"] == y["linear attention"]
        and y["Gated DeltaNet"] == y["DeltaNet"]
        and y["MesaNet, fading"] == y["MesaNet"]
    )
    assert list(figure.data[0].x) == list(PAIRS) and {s.x0 for s in figure.layout.shapes} == {8}


# arguments of the figures of the memory, and what their controls are called
CONTROLS = dict(D="dimension D", twice="written twice", scale="scale", ridge="ridge λ", decay="fading")
CONTROLS |= dict(seed="seed")


@pytest.mark.parametrize(
    "control, value",
    [
        ("pairs", 12),
        ("dimension D", 5),
        ("written twice", False),
        ("keys", "right angles"),
        ("asked", ASKED[0]),
        ("scale", 16.0),
        ("ridge λ", 1.0),
        ("fading", 0.5),
        ("seed", 4),
    ],
)
def test_every_control_of_the_prompt_moves_it(control, value):
    moves(recall_lab(), recall_figure, control, value, pairs="pairs", kind="keys", asked="asked", **CONTROLS)


@pytest.mark.parametrize(
    "control, value",
    [
        ("dimension D", 4),
        ("written twice", True),
        ("scale", 0.0),
        ("ridge λ", 100.0),
        ("fading", 0.5),
        ("seed", 4),
    ],
)
def test_every_control_of_the_capacity_moves_it(control, value):
    moves(capacity_lab(), capacity_figure, control, value, **CONTROLS)


@pytest.mark.parametrize(
    "knobs, complaint",
    [
        (dict(pairs=26), "pairs=26"),
        (dict(pairs=0), "pairs=0"),
        (dict(D=0), "D=0"),
        (dict(D=65), "D=65"),
        (dict(kind="names"), "kind='names'"),
        (dict(asked="nobody"), "asked='nobody'"),
        (dict(ridge=0.0), "ridge=0"),
        (dict(decay=2.0), "decay=2"),
    ],
)
def test_bad_settings_of_the_second_bench(knobs, complaint):
    with pytest.raises(ValueError, match=complaint):
        recall_figure(**knobs)


# ---- the third bench


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keys_stand_on_the_line_in_order(layout):
    places = line_keys(layout, 30, 2)
    assert (
        places.shape == (30,)
        and (places.abs() <= 1).all()
        and (places.diff() >= 0).all()
        and torch.equal(places, line_keys(layout, 30, 2))
    )
    if layout == "with a gap":
        assert not ((places > -0.29) & (places < 0.29)).any()


@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(-1.4, 1.4),
    scale=st.sampled_from([0.0, 1.0, 10.0, 50.0]),
    layout=st.sampled_from(list(LAYOUTS)),
    seed=st.integers(0, 9),
)
def test_weights_sum_to_one_and_the_mean_key_lands_on_the_query(x, scale, layout, seed):
    places = line_keys(layout, 21, seed)
    p, w = line_weights([x], places, scale=scale, ridge=1e-8)
    assert float(p.sum()) == pytest.approx(1) and float(w.sum()) == pytest.approx(1) and (p >= 0).all()
    if scale <= 10:
        assert float(w[0] @ places) == pytest.approx(x, abs=0.01)
    p, w = line_weights([x], places, scale=scale, ridge=1e7)
    torch.testing.assert_close(p, w, atol=1e-5, rtol=0)


def test_softmax_scores_on_the_circle_are_a_gaussian_kernel():
    places = line_keys("by chance", 15, 3)
    p, _ = line_weights([0.4], places, scale=20.0, ridge=0.1)
    bend = lambda t: torch.stack([t, (100 - t**2).sqrt()], -1)
    at = torch.tensor([0.4]).double()
    torch.testing.assert_close(p[0], torch.softmax(-10 * (bend(at) - bend(places)).square().sum(-1), 0))


def test_the_rows_of_the_weights_figure():
    figure = weights_figure()
    places = line_keys("evenly", 21, 0)
    p, w = line_weights([1.2], places, scale=10.0, ridge=0.001)
    stems = lambda t: numbers(t.y).reshape(-1, 3)[:, 1]
    lines = [t for t in figure.data if t.mode == "lines" and t.line.width == 5]
    np.testing.assert_allclose(stems(lines[0]), p[0])
    np.testing.assert_allclose(stems(lines[2]) + stems(lines[3]), w[0])
    assert (stems(lines[1]) == 0).all() and (stems(lines[3]) <= 0).all() and stems(lines[3]).min() < -0.05
    diamonds = [t for t in figure.data if t.marker.symbol == "diamond"]
    assert [t.x[0] for t in diamonds] == pytest.approx([float(p[0] @ places), float(w[0] @ places)])
    assert abs(diamonds[1].x[0] - 1.2) < 0.02 and diamonds[0].x[0] < 0.9
    assert trace(figure, "negative").name == f"negative: {float(w.clamp_max(0).sum()):.2f}".replace("-", "−")


@pytest.mark.parametrize(
    "control, value",
    [("query", 0.3), ("scale", 50.0), ("ridge λ", 0.3), ("keys", "one-sided"), ("keys n", 9), ("seed", 2)],
)
def test_every_control_of_the_third_bench_moves_it(control, value):
    lab = weights_lab()
    if control == "seed":
        parts(lab)[0]["keys"].value = "by chance"
    moves(
        lab,
        weights_figure,
        control,
        value,
        x="query",
        scale="scale",
        ridge="ridge λ",
        layout="keys",
        n="keys n",
        seed="seed",
    )


def test_no_corner_of_the_third_bench_is_refused():
    controls, message, _ = parts(weights_lab())
    controls["query"].value = controls["query"].max
    for name, values in {
        "keys n": (1, 2, 80),
        "ridge λ": controls["ridge λ"].options,
        "scale": controls["scale"].options,
        "keys": tuple(LAYOUTS),
    }.items():
        for value in values:
            controls[name].value = value[1] if isinstance(value, tuple) else value
            assert message.value == "", f"{name} {value}"


@pytest.mark.parametrize(
    "knobs, complaint",
    [
        (dict(layout="ring"), "layout='ring'"),
        (dict(n=0), "n=0"),
        (dict(ridge=0.0), "ridge=0"),
        (dict(scale=-1.0), "scale=-1"),
    ],
)
def test_bad_settings_of_the_third_bench(knobs, complaint):
    with pytest.raises(ValueError, match=complaint):
        weights_figure(**knobs)


# ---- random numbers


def test_the_labs_seed_nobody_elses_random_numbers():
    import random

    from lla_course.tasks.lab import line_keys, recall_accuracy, recall_keys, recall_prompt, two_pieces

    state = lambda: (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())
    before = state()
    two_pieces(2, 1.5, 2, 11)
    recall_keys("random directions", 3, 4, 11)
    recall_prompt(3, 4, "random directions", "the last pair", True, 11)
    recall_accuracy("lla", 3, 4, False, 4.0, 0.1, 0.9, 11)
    line_keys("by chance", 5, 11)
    assert state() == before
