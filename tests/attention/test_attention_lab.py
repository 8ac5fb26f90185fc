"The attention lab, driven by setting widget values: every number on its benches is that of the library."

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import parts
from lla_course.attention.conjugate_gradient import KINDS, lla_systems, make_heads
from lla_course.attention.dense import as_heads, lla_dense, lla_weights
from lla_course.attention.lab import (
    RIDGES,
    TRUTHS,
    Moment,
    ask,
    bytes_alive,
    cloud,
    lift,
    plane_figure,
    plane_lab,
    solver_figure,
    solver_lab,
    tile_walk,
    tiles_figure,
    tiles_lab,
)
from lla_course.attention.tiled import lla_tiled
from lla_course.core import seed_everything
from lla_course.regression.local_linear import global_linear


def traces(figure, name, kind="scatter"):
    return [t for t in figure.data if t.name == name and t.type == kind]


def said(figure):
    return figure.layout.annotations[0].text.replace("−", "-")


def numbers(values):
    return np.asarray(values, float)


@pytest.fixture
def keys():
    return cloud("hillside", 40, 0.1, 3)


# ---- the first bench: keys, answers, plane


@pytest.mark.parametrize("truth", TRUTHS)
def test_keys_lie_in_the_disc_and_are_repeatable(truth):
    places, values = cloud(truth, 200, 0.2, 4)
    assert (
        places.shape == (200, 2)
        and (places.norm(dim=-1) <= 1).all()
        and values.isfinite().all()
        and places.dtype == values.dtype == torch.float64
    )
    assert all(torch.equal(a, b) for a, b in zip((places, values), cloud(truth, 200, 0.2, 4)))
    assert torch.equal(cloud(truth, 200, 0.0, 4)[1], TRUTHS[truth](*places.T))
    torch.testing.assert_close(lift(places).norm(dim=-1), torch.full((200,), 10.0).double())


def test_scores_on_the_sphere_are_a_gaussian_kernel(keys):
    a = ask((0.5, -0.2), *keys, scale=7.0, ridge=0.1, steps=0)
    gaussian = torch.softmax(-3.5 * (lift(torch.tensor([0.5, -0.2]).double()) - a.k).square().sum(-1), 0)
    torch.testing.assert_close(a.systems.p[0], gaussian)


@pytest.mark.parametrize("ridge", [0.001, 0.1, 1000.0])
@pytest.mark.parametrize("scale", [0.0, 10.0, 100.0])
def test_an_answer_is_the_librarys(keys, scale, ridge):
    at = torch.tensor([1.1, -0.3]).double()
    a = ask(at, *keys, scale=scale, ridge=ridge, steps=6)
    q, k, knobs = lift(at)[None], lift(keys[0]), dict(scale=scale, ridge=ridge, is_causal=False)
    assert a.exact == pytest.approx(float(lla_dense(q, k, a.v, **knobs)[0, 0]), abs=1e-12)
    assert a.stopped == pytest.approx(a.exact, abs=1e-6) and float(a.plane(at[None])[0]) == pytest.approx(
        a.exact, abs=1e-6
    )
    torch.testing.assert_close(a.weights, lla_weights(q, k, **knobs)[0], atol=1e-6, rtol=0)
    assert a.softmax == pytest.approx(float(F.scaled_dot_product_attention(q, k, a.v, scale=scale)[0, 0]))
    assert float(a.weights @ keys[1]) == pytest.approx(a.stopped) and float(a.weights.sum()) == pytest.approx(
        1
    )


@pytest.mark.parametrize("steps", range(4))
def test_a_stopped_solver_is_that_of_the_tiled_twin(keys, steps):
    at = torch.tensor([0.7, 0.6]).double()
    a = ask(at, *keys, scale=10.0, ridge=0.01, steps=steps)
    heads = as_heads(lift(at)[None], a.k, a.v, scale=10.0, ridge=0.01, is_causal=False)
    assert (
        a.stopped == pytest.approx(float(lla_tiled(heads, tol=0.0, max_steps=steps).o[0, 0, 0]), abs=1e-9)
        and a.step == steps
    )
    if steps == 0:
        assert a.stopped == a.softmax and (a.weights >= 0).all()


def test_the_ends_of_the_knobs(keys):
    at = torch.tensor([1.2, 0.2]).double()
    assert ask(at, *keys, scale=10.0, ridge=1e6, steps=3).exact == pytest.approx(
        ask(at, *keys, scale=10.0, ridge=0.01, steps=0).softmax, abs=1e-5
    )
    plane = global_linear(lift(at)[None], lift(keys[0]), keys[1], ridge=0.01)
    assert ask(at, *keys, scale=0.0, ridge=0.01, steps=3).exact == pytest.approx(float(plane[0]), abs=1e-6)
    a = ask(at, *cloud("ramp", 60, 0.0, 0), scale=1.0, ridge=1e-6, steps=3)
    assert a.exact == pytest.approx(float(TRUTHS["ramp"](*at)), abs=2e-3)


def test_the_plane_is_flat_where_it_is_drawn(keys):
    a = ask((0.9, 0.1), *keys, scale=10.0, ridge=0.01, steps=3)
    x = torch.linspace(0.3, 1.2, 4).double()
    heights = a.plane(torch.stack([x, 0 * x], -1))
    assert float(heights.diff().diff().abs().max()) < 0.02 * float(heights.diff().abs().max())


def test_the_planes_of_the_figure_meet_at_the_mean_key():
    figure = plane_figure(x=1.1)
    flat, tilted = (traces(figure, name, "surface")[0] for name in ("softmax", "LLA"))
    assert np.ptp(flat.z) == 0 and np.ptp(tilted.z) > 0.3
    lever = next(t for t in figure.data if t.type == "scatter3d" and t.mode == "lines+markers")
    a = ask((1.1, 0.2), *cloud("hillside", 60, 0.15, 0), scale=10.0, ridge=0.01, steps=3)
    assert list(lever.x) == pytest.approx([float(a.systems.kbar[0, 0]), 1.1]) and list(
        lever.z
    ) == pytest.approx([a.softmax, a.stopped])
    assert float(a.plane(torch.tensor([[lever.x[0], lever.y[0]]]).double())[0]) == pytest.approx(
        a.softmax, abs=0.01
    )
    assert (
        f"softmax {a.softmax:.2f}" in said(figure)
        and f"LLA {a.exact:.2f}" in said(figure)
        and f"negative weight {a.weights.clamp_max(0).sum():.2f}" in said(figure)
    )


def test_the_lever_is_short_in_the_middle_and_long_at_the_edge():
    "The way from the mean key to the query, and what the slope adds to softmax attention, all round."
    keys, turns = cloud("hillside", 200, 0.0, 0), torch.arange(12) * torch.pi / 6
    means = {}
    for radius in (0.1, 1.1):
        places = radius * torch.stack([torch.cos(turns), torch.sin(turns)], -1).double()
        answers = [ask(at, *keys, scale=10.0, ridge=0.01, steps=3) for at in places]
        lever = np.mean([float(a.systems.rhs.norm()) for a in answers])
        means[radius] = lever, np.mean([abs(a.exact - a.softmax) for a in answers])
    assert means[1.1][0] > 4 * means[0.1][0] and means[1.1][1] > 8 * means[0.1][1]


def test_areas_are_weights():
    figure = plane_figure(x=1.2)
    a = ask((1.2, 0.2), *cloud("hillside", 60, 0.15, 0), scale=10.0, ridge=0.01, steps=3)
    plus, minus = (
        numbers(t.marker.size) for t in figure.data if t.type == "scatter" and t.marker.opacity == 0.65
    )
    large = a.weights.abs().numpy() > 0.01
    assert not ((plus > 0) & (minus > 0)).any() and (minus > 0).any()
    np.testing.assert_allclose(
        ((plus + minus) ** 2)[large], 70**2 * a.weights.abs().numpy()[large], rtol=1e-6
    )
    assert (
        numbers(next(t for t in plane_figure(x=1.2, steps=0).data if t.name == "negative weight").marker.size)
        == 0
    ).all(), "softmax has none"


@pytest.mark.parametrize(
    "control, value",
    [
        ("query, first", -0.4),
        ("query, second", 1.0),
        ("scale", 30.0),
        ("ridge λ", 1000.0),
        ("solver steps", 0),
        ("truth", "waves"),
        ("keys n", 25),
        ("noise", 0.9),
        ("seed", 5),
    ],
)
def test_every_slider_of_the_first_bench_redraws_it_whole(control, value):
    controls, message, figure = parts(plane_lab())
    before = figure.layout.annotations[0].text
    controls[control].value = value
    assert message.value == "" and figure.layout.annotations[0].text != before
    knobs = dict(
        zip(
            ("x", "y", "scale", "ridge", "steps", "truth", "n", "noise", "seed"),
            (c.value for c in controls.values()),
        )
    )
    for shown, fresh in zip(figure.data, plane_figure(**knobs).data, strict=True):
        for what in ("x", "y", "z"):
            if what in fresh and fresh[what] is not None:
                np.testing.assert_array_equal(numbers(shown[what]), numbers(fresh[what]))
        if "marker" in fresh:
            assert np.array_equal(shown.marker.size, fresh.marker.size)


def test_no_corner_of_the_first_bench_is_refused():
    controls, message, _ = parts(plane_lab())
    for name in ("query, first", "query, second"):
        controls[name].value = controls[name].max
    for name, values in {
        "keys n": (1, 2, 200),
        "ridge λ": RIDGES,
        "scale": controls["scale"].options,
    }.items():
        for value in values:
            controls[name].value = value
            assert message.value == "", f"{name} {value}"


@pytest.mark.parametrize(
    "knobs, complaint",
    [
        (dict(truth="tides"), "truth='tides'"),
        (dict(n=0), "n=0"),
        (dict(noise=-1.0), "noise=-1"),
        (dict(ridge=0.0), "ridge=0"),
        (dict(ridge=-1.0), "ridge=-1"),
        (dict(scale=-1.0), "scale=-1"),
        (dict(steps=-1), "max_steps=-1"),
    ],
)
def test_bad_settings_of_the_first_bench(knobs, complaint):
    with pytest.raises(ValueError, match=complaint):
        plane_figure(**knobs)


# ---- the second bench: the solver


@pytest.mark.parametrize("kind", KINDS)
def test_errors_and_weights_lead_from_softmax_to_lla(kind):
    q, k, v = make_heads(kind, 96, 8, seed_everything(2))
    exact = lla_dense(q, k, v)[-16:]
    softmax = F.scaled_dot_product_attention(q, k, v, is_causal=True)[-16:]
    first, last = (solver_figure(kind, 8, 0.1, steps, n=96, seed=2) for steps in (0, 30))
    error = numbers(traces(first, "error of the output")[0].y)
    assert (
        error[0] == pytest.approx(float((softmax - exact).norm() / exact.norm()))
        and error[-1] < 1e-6
        and len(error) == 31
    )
    stems = lambda figure, name: numbers(traces(figure, name)[0].y).reshape(-1, 3)[:, 1]
    np.testing.assert_allclose(stems(first, "weights after the steps"), stems(first, "softmax"), atol=1e-12)
    np.testing.assert_allclose(
        stems(last, "weights after the steps"), numbers(traces(last, "LLA")[0].y), atol=1e-6
    )
    assert (np.diff(stems(first, "softmax")) <= 0).all(), "in the order of their softmax weights"
    rhs = lla_systems(q[-16:], k, first=80).rhs
    assert sum(t.line.width == 0.8 for t in first.data if t.line.width) == len(rhs), "one thin line a query"


def test_two_dimensions_need_two_steps_and_sharp_first_steps_hurt():
    error = lambda *knobs: numbers(traces(solver_figure(*knobs), "error of the output")[0].y)
    for kind in KINDS:
        assert error(kind, 2, 0.01)[2] < 1e-6
    assert error("sharp", 64, 0.01)[1] > 5 * error("sharp", 64, 0.01)[0]
    assert error("anisotropic", 32, 0.1)[1] < error("anisotropic", 32, 0.1)[0]


@pytest.mark.parametrize(
    "control, value",
    [
        ("solver steps", 12),
        ("data", "sharp"),
        ("dimension d", 8),
        ("ridge λ", 1.0),
        ("tokens n", 20),
        ("seed", 3),
    ],
)
def test_every_slider_of_the_second_bench_moves_it(control, value):
    controls, message, figure = parts(solver_lab())
    before = numbers(traces(figure, "weights after the steps")[0].y)
    error = numbers(traces(figure, "error of the output")[0].y)
    controls[control].value = value
    assert message.value == "" and not np.array_equal(
        before, numbers(traces(figure, "weights after the steps")[0].y), equal_nan=True
    )
    assert np.array_equal(error, numbers(traces(figure, "error of the output")[0].y)) == (
        control == "solver steps"
    )
    if control == "solver steps":
        assert {s.x0 for s in figure.layout.shapes} == {12}


@pytest.mark.parametrize(
    "knobs, complaint",
    [
        (dict(kind="round"), "kind='round'"),
        (dict(ridge=0.0), "ridge=0"),
        (dict(steps=31), "steps=31"),
        (dict(n=15), "n=15"),
    ],
)
def test_bad_settings_of_the_second_bench(knobs, complaint):
    with pytest.raises(ValueError, match=complaint):
        solver_figure(**knobs)


# ---- the third bench: the walk


@pytest.mark.parametrize(
    "T, BT, BS, steps", [(256, 64, 32, 2), (100, 32, 48, 0), (64, 128, 32, 1), (17, 16, 64, 3), (1, 8, 8, 1)]
)
def test_the_walk_visits_what_some_query_sees(T, BT, BS, steps):
    walk = tile_walk(T, BT, BS, steps)
    seen = {(i // BT, j // BS) for i in range(T) for j in range(i + 1)}
    # a partial last tile of queries is walked as a whole one
    last = {(p, min((T - 1) // BS, ((p + 1) * BT - 1) // BS)) for p, _ in seen}
    assert {(m.program, m.tile) for m in walk} == seen | last and len(walk) == (steps + 2) * len(seen | last)
    assert walk == sorted(walk, key=lambda m: (m.program, m.sweep, m.tile)) and {
        m.sweep for m in walk
    } == set(range(steps + 2))
    assert walk[0] == Moment(0, 0, 0)


def test_memory_is_the_table_of_chapter_23():
    kB = lambda *knobs: bytes_alive(*knobs) // 1024
    assert [kB(64, 64, 64, sweep) for sweep in ("mean key", "step", "output")] == [56, 120, 96]
    assert [kB(128, 64, 64, sweep) for sweep in ("mean key", "step", "output")] == [96, 224, 176]
    with pytest.raises(ValueError, match="sweep='4'"):
        bytes_alive(64, 64, 64, "4")


@pytest.mark.parametrize("percent", [0.0, 37.0, 100.0])
def test_the_picture_and_the_bars_of_the_walk(percent):
    figure = tiles_figure(percent, T=256, BT=64, BS=32, steps=3)
    walk = tile_walk(256, 64, 32, 3)
    state, at = numbers(figure.data[0].z), round(percent / 100 * (len(walk) - 1))
    now = walk[at]
    assert (state == 3).sum() == 1 and state[now.program, now.tile] == 3 and (state == 0).sum() == 4 * 8 - 20
    assert (state[: now.program][state[: now.program] > 0] == 2).all() and not (
        state[now.program + 1 :] == 2
    ).any()
    memory, products = (dict(zip(t.y, t.x)) for t in figure.data[1:])
    assert memory["T × S logits"] == 256 and memory["keys, values"] == 64
    assert (
        products["softmax"] == 40
        and products["LLA in all"] == 20 * (5 + 3 * 3)
        and 2 <= products["LLA so far"] <= products["LLA in all"]
    )
    if percent == 100:
        assert products["LLA so far"] == products["LLA in all"] and "output" in said(figure)
    if percent == 0:
        assert products["LLA so far"] == 2 and "mean key" in said(figure)


@pytest.mark.parametrize(
    "control, value",
    [
        ("walked (%)", 90.0),
        ("tokens T", 512),
        ("queries BT", 128),
        ("keys BS", 64),
        ("solver steps", 7),
        ("dimension D", 128),
    ],
)
def test_every_slider_of_the_third_bench_moves_it(control, value):
    controls, message, figure = parts(tiles_lab())
    state, bars = numbers(figure.data[0].z), [tuple(t.x) for t in figure.data[1:]]
    controls[control].value = value
    assert message.value == "" and [tuple(t.x) for t in figure.data[1:]] != bars
    assert np.array_equal(state, numbers(figure.data[0].z)) == (control == "dimension D")


@pytest.mark.parametrize(
    "knobs, complaint",
    [
        (dict(percent=101.0), "percent=101"),
        (dict(T=0), "T=0"),
        (dict(BT=0), "BT=0"),
        (dict(BS=-1), "BS=-1"),
        (dict(steps=-1), "steps=-1"),
    ],
)
def test_bad_settings_of_the_third_bench(knobs, complaint):
    with pytest.raises(ValueError, match=complaint):
        tiles_figure(**knobs)
