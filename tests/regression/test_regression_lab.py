"The regression lab, driven by setting widget values, and its data."

import numpy as np
import pytest
import torch

from helpers import parts
from lla_course.regression.bias_variance import bias_variance
from lla_course.regression.kernel import kernel_weights, nadaraya_watson
from lla_course.regression.lab import (
    DESIGNS,
    RECORDS,
    TRUTHS,
    bench_figure,
    bias_variance_figure,
    bias_variance_lab,
    regression_lab,
    sample,
)
from lla_course.regression.local_linear import equivalent_kernel, local_linear


def curve(figure, name):
    return np.array(next(t.y for t in figure.data if t.name == name), float)


@pytest.mark.parametrize("data", [*TRUTHS, *RECORDS])
def test_samples_are_sorted_scaled_and_repeatable(data):
    x, y = sample(data, 60, 0.2, 4)
    assert (
        len(x) == len(y) == 60
        and (np.diff(x) >= 0).all()
        and x.min() >= 0
        and x.max() <= 1
        and np.isfinite(y).all()
    )
    assert (sample(data, 60, 0.2, 4)[1] == y).all()
    if data in RECORDS:
        assert x[0] == 0 and x[-1] == 1


def test_bad_samples():
    with pytest.raises(ValueError, match="data='tides'"):
        sample("tides", 10, 0.0, 0)
    with pytest.raises(ValueError, match="n=1"):
        sample("wave", 1, 0.0, 0)
    for wrong, named in (
        (("wave", 2.5, 0.0, 0), "n=2.5"),
        (("wave", "9", 0.0, 0), "n='9'"),
        (("wave", 9, -1.0, 0), "noise=-1"),
        (("wave", 9, float("nan"), 0), "noise=nan"),
        (("wave", 9, 0.0, -1), "seed=-1"),
        (("wave", 9, 0.0, 1.5), "seed=1.5"),
        ((None, 9, 0.0, 0), "data=None"),
    ):
        with pytest.raises(ValueError, match=f"^{named}.*: expected"):
            sample(*wrong)


@pytest.mark.parametrize(
    "wrong, named",
    [
        (dict(query=2.0), "query=2.0"),
        (dict(query="x"), "query='x'"),
        (dict(query=float("nan")), "query=nan"),
        (dict(bandwidth=0), "bandwidth=0"),
        (dict(bandwidth="wide"), "bandwidth='wide'"),
        (dict(ridge=-1), "ridge=-1"),
        (dict(kernel="flat"), "kernel='flat'"),
        (dict(data="tides"), "data='tides'"),
        (dict(n=1), "n=1"),
        (dict(noise="loud"), "noise='loud'"),
        (dict(seed=None), "seed=None"),
    ],
)
def test_a_bench_of_bad_settings_is_refused(wrong, named):
    with pytest.raises(ValueError, match=f"^{named}.*: expected"):
        bench_figure(**wrong)


@pytest.mark.parametrize(
    "wrong, named",
    [
        (dict(truth="tides"), "truth='tides'"),
        (dict(truth=None), "truth=None"),
        (dict(n=0), "n=0"),
        (dict(n=2.5), "n=2.5"),
        (dict(noise=-1), "noise=-1"),
        (dict(bandwidth=-1), "bandwidth=-1"),
        (dict(ridge="r"), "ridge='r'"),
        (dict(kernel=3), "kernel=3"),
    ],
)
def test_a_bias_variance_bench_of_bad_settings_is_refused(wrong, named):
    with pytest.raises(ValueError, match=f"^{named}.*: expected"):
        bias_variance_figure(**wrong)


@pytest.mark.parametrize(
    "control, value, changes, keeps",
    [
        ("bandwidth", 0.3, ("average", "line"), ("one global line",)),
        ("ridge / h²", 10.0, ("line",), ("average", "one global line")),
        ("kernel", "boxcar", ("average", "line"), ("one global line",)),
        ("query", 0.97, ("the line at the query", "three answers"), ("average", "line")),
        ("data", "wave", ("truth", "average", "line", "one global line"), ()),
        ("n", 200, ("average", "line"), ("truth",)),
        ("noise", 0.9, ("average", "line"), ("truth",)),
        ("seed", 5, ("average", "line"), ("truth",)),
    ],
)
def test_every_slider_of_the_bench_moves_what_it_should(control, value, changes, keeps):
    controls, message, figure = parts(regression_lab())
    before = {n: curve(figure, n) for n in changes + keeps}
    next(
        c for name, c in controls.items() if name.startswith(control) or name.endswith(f" {control}")
    ).value = value
    assert message.value == ""
    for n in changes:
        assert not np.array_equal(before[n], curve(figure, n), equal_nan=True), n
    for n in keeps:
        assert np.array_equal(before[n], curve(figure, n), equal_nan=True), n


def test_the_query_moves_line_weights_and_marker_together():
    controls, _, figure = parts(regression_lab())
    controls["query"].value = 0.25
    line = next(t for t in figure.data if t.name == "the line at the query")
    assert np.mean(line.x) == pytest.approx(0.25)
    assert figure.layout.shapes[0].x0 == pytest.approx(0.25)
    fresh = bench_figure(query=0.25)
    for shown, expected in zip(figure.data, fresh.data):
        np.testing.assert_array_equal(np.asarray(shown.y, float), np.asarray(expected.y, float))


def test_a_refused_setting_leaves_the_figure_and_says_why():
    controls, message, figure = parts(regression_lab())
    controls["kernel"].value = "boxcar"
    before = curve(figure, "average")
    controls["bandwidth"].value = 0.005
    assert "expected a design point within" in message.value and np.array_equal(
        before, curve(figure, "average")
    )
    controls["bandwidth"].value = 0.2
    assert message.value == "" and not np.array_equal(before, curve(figure, "average"))


def test_bias_variance_bench():
    controls, message, figure = parts(bias_variance_lab())
    names = [t.name for t in figure.data]
    controls["bandwidth"].value = 0.2
    assert message.value == "" and [t.name for t in figure.data] != names  # the printed error moves along
    for design in DESIGNS:
        fig = bias_variance_figure(design=design, bandwidth=0.15)
        squared, variance, total = (np.asarray(fig.data[i].y, float) for i in range(3))
        np.testing.assert_allclose(squared + variance, total)
    with pytest.raises(ValueError, match="design='random'"):
        bias_variance_figure(design="random")


def test_average_and_line_differ_where_neighbours_are_unbalanced_and_nowhere_else():
    "How far the two are apart on the straight truth y = x, at a bandwidth of 0.05."

    def apart(design, *places):
        x = DESIGNS[design](400).numpy()
        both = [f(np.array(places), x, x, bandwidth=0.05) for f in (nadaraya_watson, local_linear)]
        return np.abs(both[0] - both[1])

    assert apart("even", 0.2, 0.3, 0.5, 0.7, 0.8).max() < 1e-4
    assert apart("even", 0.0, 1.0).min() > 0.03
    assert apart("gap in the middle", 0.35, 0.65).min() > 0.03
    assert apart("gap in the middle", 0.15, 0.85).max() < 1e-3
    assert apart("crowded left", 0.1, 0.2, 0.3, 0.4).min() > 0.003


def test_no_bandwidth_makes_both_bias_and_variance_small_everywhere():
    "The settings of the bench; the largest squared bias and the largest variance along the axis."
    grid, wave = torch.linspace(0, 1, 41, dtype=torch.float64), lambda t: torch.sin(2 * np.pi * t)
    for design, place in DESIGNS.items():
        for weights in (kernel_weights, equivalent_kernel):
            worst = []
            for h in np.geomspace(0.01, 0.6, 25):
                smoother = lambda q, x, h=h: weights(q, x, bandwidth=h)
                bias, variance = bias_variance(smoother, grid, place(80), wave, noise=0.3)
                worst.append((float(bias.square().max()), float(variance.max())))
            squared_bias, variance = np.array(worst).T
            assert np.maximum(squared_bias, variance).min() > 0.012, design
            assert variance.min() < 0.008
            if design != "gap in the middle":  # across a gap there is a bias at any bandwidth
                assert squared_bias.min() < 0.008
