"""Nadaraya-Watson: against its formula written naively, against statsmodels, its laws, its limits, and what
it refuses."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from statsmodels.nonparametric.kernel_regression import KernelReg

import lla_course.regression.kernel as kernel_module
from lla_course.regression.kernel import (
    LOG_KERNELS,
    as_bandwidth,
    as_design,
    cross_validate,
    degrees_of_freedom,
    in_blocks,
    kernel_weights,
    leave_one_out,
    nadaraya_watson,
    smoother_matrix,
)

KERNELS = {  # the four as textbooks write them, as functions of u
    "gaussian": lambda u: np.exp(-(u**2) / 2),
    "epanechnikov": lambda u: np.maximum(1 - u**2, 0),
    "boxcar": lambda u: (u**2 <= 1) * 1.0,
    "tricube": lambda u: np.maximum(1 - u**3, 0) ** 3,
}
near = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)


@st.composite
def designs(draw, kernel=None, dims=(1, 2, 3)):
    """x0 [M, d], x [N, d], y [N, p] and a bandwidth for which every query has a neighbour under a compact
    kernel; points may coincide."""
    d, n, m, p = (
        draw(st.sampled_from(dims)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 2)),
    )
    value = st.integers(-300, 300).map(lambda i: i / 100)
    x, y, x0 = (draw(arrays(float, shape, elements=value)) for shape in ((n, d), (n, p), (m, d)))
    h = draw(st.sampled_from([0.3, 1.0, 2.5]))
    if kernel not in (None, "gaussian"):
        x0 = x[np.arange(m) % n] + 0.2 * h * x0 / 3 / d**0.5
    return x0, x, y, h


def naive(x0, x, y, h, kernel):
    u = np.sqrt((((x0[:, None] - x) / h) ** 2).sum(-1))
    k = KERNELS[kernel](u)
    return k @ y / k.sum(1, keepdims=True)


every_kernel = pytest.mark.parametrize("kernel", KERNELS)

# ---- the formula, twice


@every_kernel
def test_the_four_kernels_are_what_textbooks_say(kernel):
    u = np.linspace(0, 1.5, 31)
    near(LOG_KERNELS[kernel](torch.tensor(u) ** 2).exp().numpy(), KERNELS[kernel](u))
    assert set(KERNELS) == set(LOG_KERNELS)


@every_kernel
@given(st.data())
def test_it_is_the_formula(kernel, data):
    x0, x, y, h = data.draw(designs(kernel))
    near(nadaraya_watson(x0, x, y, bandwidth=h, kernel=kernel), naive(x0, x, y, h, kernel))
    weights = kernel_weights(x0, x, bandwidth=h, kernel=kernel)
    near(weights, naive(x0, x, np.eye(len(x)), h, kernel))
    near(weights.sum(1), 1)
    assert (weights >= 0).all() and weights.shape == (len(x0), len(x))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_it_agrees_with_statsmodels(d):
    rng = np.random.default_rng(d)
    x, x0 = rng.random((60, d)), rng.random((7, d))
    y = np.sin(5 * x).sum(1) + rng.normal(size=60)
    h = [0.2, 0.4, 0.3][:d]
    near(nadaraya_watson(x0, x, y, bandwidth=h), KernelReg(y, x, "c" * d, reg_type="lc", bw=h).fit(x0)[0])


def test_the_lag_at_an_edge_is_that_of_half_a_gaussian():
    "Chapter 10: with slope b the estimate at the last point lags by b h sqrt(2/pi)."
    x = np.linspace(-8, 0, 80_001)
    assert nadaraya_watson([0.0], x, 3 * x, bandwidth=0.5)[0] == pytest.approx(
        -3 * 0.5 * (2 / np.pi) ** 0.5, rel=1e-3
    )
    x = np.linspace(0, 1, 10_001)
    # exercise 10.3
    assert nadaraya_watson([1.0], x, 2 * x, bandwidth=0.2, kernel="boxcar")[0] - 2 == pytest.approx(
        -0.2, rel=1e-3
    )


def test_a_bandwidth_keeps_waves_that_are_longer_and_averages_shorter_ones_away():
    "Inside, a Gaussian average multiplies a wave of length L by exp(-2 (pi h / L)^2)."
    x, x0 = np.linspace(-2, 3, 5001), np.linspace(0, 1, 401)
    wave = lambda t, length: np.sin(2 * np.pi * t / length)
    kept = lambda h, length: np.ptp(nadaraya_watson(x0, x, wave(x, length), bandwidth=h)) / 2
    for h, length in [(0.02, 1.0), (0.02, 0.05), (0.2, 1.0), (0.2, 0.05)]:
        assert kept(h, length) == pytest.approx(np.exp(-2 * (np.pi * h / length) ** 2), abs=0.01)
    assert kept(0.02, 1.0) > 0.99 and kept(0.02, 0.05) < 0.1 and kept(0.002, 0.05) > 0.95


def test_the_lag_at_an_edge_is_proportional_to_the_bandwidth_and_more_data_do_not_remove_it():
    def error(n, h):
        x = (np.arange(n) + 0.5) / n
        return nadaraya_watson([1.0], x, 3 * x, bandwidth=h)[0] - 3

    for n in (1000, 10_000, 100_000):
        for h in (0.02, 0.04, 0.08):
            assert error(n, h) / error(n, 2 * h) == pytest.approx(0.5, abs=0.02)
            assert error(n, h) == pytest.approx(-3 * h * (2 / np.pi) ** 0.5, rel=0.05)


# ---- laws


@every_kernel
@given(st.data())
def test_a_mean_reproduces_constants_and_stays_between_its_responses(kernel, data):
    x0, x, y, h = data.draw(designs(kernel))
    fit = partial(nadaraya_watson, x0, x, bandwidth=h, kernel=kernel)
    near(fit(np.full(len(x), 7.0)), 7)
    out = fit(y)
    assert (out >= y.min(0) - 1e-9).all() and (out <= y.max(0) + 1e-9).all()
    near(fit(2 * y - 3), 2 * out - 3)


@every_kernel
@given(st.data())
def test_order_origin_and_units_do_not_matter(kernel, data):
    x0, x, y, h = data.draw(designs(kernel))
    out, order = (
        nadaraya_watson(x0, x, y, bandwidth=h, kernel=kernel),
        data.draw(st.permutations(range(len(x)))),
    )
    u2 = (((x0[:, None] - x) / h) ** 2).sum(-1)
    # a point on the rim may fall to either side by rounding
    if kernel == "boxcar":
        assume((np.abs(u2 - 1) > 1e-6).all())
    near(nadaraya_watson(x0, x[order], y[order], bandwidth=h, kernel=kernel), out)
    near(nadaraya_watson(x0[::-1], x, y, bandwidth=h, kernel=kernel), out[::-1])
    near(nadaraya_watson(x0 + 5, x + 5, y, bandwidth=h, kernel=kernel), out, rtol=1e-6, atol=1e-6)
    near(nadaraya_watson(x0 * 1e3, x * 1e3, y, bandwidth=h * 1e3, kernel=kernel), out, rtol=1e-6, atol=1e-6)
    scale = np.array([1.0, 10, 0.1])[: x.shape[1]]
    near(
        nadaraya_watson(x0 * scale, x * scale, y, bandwidth=h * scale, kernel=kernel),
        out,
        rtol=1e-6,
        atol=1e-6,
    )
    near(nadaraya_watson(x0, x, y, bandwidth=[h] * x.shape[1], kernel=kernel), out)


def test_a_bandwidth_for_each_coordinate():
    x, y = np.array([[0.0, 0], [1, 0], [0, 1]]), np.array([0.0, 1, 2])
    # near in the first coordinate: points 0 and 2
    near(nadaraya_watson([[0.0, 0]], x, y, bandwidth=[1e-3, 1e6]), [1])
    near(nadaraya_watson([[0.0, 0]], x, y, bandwidth=[1e6, 1e-3]), [0.5])
    near(
        nadaraya_watson([[0.5, 0.2]], x, y, bandwidth=[0.7, 0.3]),
        naive(np.array([[0.5, 0.2]]), x, y[:, None], np.array([0.7, 0.3]), "gaussian")[:, 0],
    )


@given(designs())
def test_wide_is_the_grand_mean_and_narrow_the_nearest_point(design):
    x0, x, y, _ = design
    near(nadaraya_watson(x0, x, y, bandwidth=1e9), np.tile(y.mean(0), (len(x0), 1)), rtol=1e-6, atol=1e-6)
    x, first = np.unique(x, axis=0, return_index=True)
    y = y[first]
    near(nadaraya_watson(x, x, y, bandwidth=1e-4), y)


@given(designs())
def test_columns_of_responses_are_answered_one_by_one(design):
    x0, x, y, h = design
    out = nadaraya_watson(x0, x, y, bandwidth=h)
    assert out.shape == (len(x0), y.shape[1])
    for j in range(y.shape[1]):
        column = nadaraya_watson(x0, x, y[:, j], bandwidth=h)
        assert column.shape == (len(x0),)
        near(column, out[:, j])
    if x.shape[1] == 1:
        near(nadaraya_watson(x0[:, 0], x[:, 0], y, bandwidth=h), out)


@every_kernel
@given(st.data())
def test_single_precision_is_near_double(kernel, data):
    x0, x, y, h = data.draw(designs(kernel))
    u2 = (((x0[:, None] - x) / h) ** 2).sum(-1)
    assume((np.abs(u2 - 1) > 1e-3).all() or kernel == "gaussian")
    assume(kernel == "gaussian" or (u2.min(1) < 0.9).all())
    single = nadaraya_watson(*(a.astype(np.float32) for a in (x0, x, y)), bandwidth=h, kernel=kernel)
    assert single.dtype == np.float32
    near(single, nadaraya_watson(x0, x, y, bandwidth=h, kernel=kernel), rtol=1e-3, atol=1e-3)


def test_the_library_and_the_precision_of_the_input_come_back():
    x0, x, y = [0.2], np.array([0.0, 1]), np.array([1.0, 2])
    truth = nadaraya_watson(x0, x, y, bandwidth=0.5)
    assert isinstance(truth, np.ndarray) and truth.dtype == np.float64
    assert isinstance(nadaraya_watson([0.2], [0, 1], [1, 2], bandwidth=0.5), np.ndarray)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        out = nadaraya_watson(x0, torch.tensor(x, dtype=dtype), torch.tensor(y, dtype=dtype), bandwidth=0.5)
        assert isinstance(out, torch.Tensor) and out.dtype == dtype
        assert abs(out.item() - truth[0]) <= 2 * torch.finfo(dtype).eps
    out = nadaraya_watson(np.float32(x0), torch.tensor(x), y, bandwidth=torch.tensor(0.5))
    assert isinstance(out, torch.Tensor) and out.dtype == torch.float64
    assert kernel_weights(np.float16(x0), np.float16(x), bandwidth=0.5).dtype == np.float16


# ---- blocks


@given(st.integers(0, 9), st.integers(0, 30), st.integers(1, 60))
def test_blocks_answer_every_query_once_and_stay_within_the_budget(m, row, budget):
    seen, x0 = [], torch.arange(3.0 * m).reshape(m, 3)
    out = in_blocks(lambda block: (seen.append(len(block)), block * 2)[1], x0, row, budget)
    assert torch.equal(out, 2 * x0) and sum(seen) == m
    assert max(seen, default=0) * row <= max(budget, row)


def test_the_block_size_does_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    x0, x, y = rng.random((23, 2)), rng.random((40, 2)), rng.random((40, 2))
    ask = lambda: [nadaraya_watson(x0, x, y, bandwidth=0.2), kernel_weights(x0, x, bandwidth=0.2)]
    whole, sizes = ask(), []
    for budget in (1, 400, 10**9):

        def counted(answer, queries, row, budget=budget):
            return in_blocks(lambda b: (sizes.append(len(b)), answer(b))[1], queries, row, budget)

        monkeypatch.setattr(kernel_module, "in_blocks", counted)
        for a, b in zip(ask(), whole):
            near(a, b)
    assert sizes == [1] * 46 + [5, 5, 5, 5, 3] * 2 + [23] * 2


# ---- the smoother


def test_smoother_and_degrees_of_freedom():
    rng = np.random.default_rng(1)
    x, y = rng.random(20), rng.random(20)
    S = smoother_matrix(x, bandwidth=0.1)
    near(S @ y, nadaraya_watson(x, x, y, bandwidth=0.1))
    near(S, kernel_weights(x, x, bandwidth=0.1))
    assert smoother_matrix(x, weights=lambda x0, x, a: a * np.eye(len(x)), a=3)[0, 0] == 3
    spans = [degrees_of_freedom(smoother_matrix(x, bandwidth=h)) for h in (1e-6, 0.02, 0.05, 0.2, 1, 1e6)]
    assert (
        spans == sorted(spans, reverse=True)
        and spans[0] == pytest.approx(20)
        and spans[-1] == pytest.approx(1)
    )
    assert degrees_of_freedom(torch.eye(3)) == 3 and type(degrees_of_freedom(np.eye(2))) is float
    # exercise 10.1
    assert degrees_of_freedom(
        smoother_matrix(np.linspace(0, 1, 50), bandwidth=9.0, kernel="boxcar")
    ) == pytest.approx(1)


@pytest.mark.parametrize("wrong", [np.ones((2, 3)), np.ones(3), np.full((2, 2), np.nan), "S", [["a"]]])
def test_degrees_of_freedom_of_no_smoother(wrong):
    with pytest.raises(ValueError, match="^smoother"):
        degrees_of_freedom(wrong)


def test_degrees_of_freedom_of_a_list():
    assert degrees_of_freedom([[1.0, 0], [0, 0.5]]) == 1.5


def long_way(fit, x, y):
    "Leave each point out, predict it from the rest."
    keep = lambda i: np.arange(len(x)) != i
    return np.mean([(y[i] - fit(x[[i]], x[keep(i)], y[keep(i)])[0]) ** 2 for i in range(len(x))])


@every_kernel
@pytest.mark.parametrize("d, p", [(1, 0), (2, 0), (1, 2)])
def test_the_shortcut_is_the_long_way(kernel, d, p):
    rng = np.random.default_rng(d)
    x = rng.random((15, d))
    y = rng.random((15, p) if p else 15)
    for h in [0.6 * d, 0.05, 0.1][: 3 if kernel == "gaussian" else 1]:
        near(
            leave_one_out(smoother_matrix(x, bandwidth=h, kernel=kernel), y),
            long_way(partial(nadaraya_watson, bandwidth=h, kernel=kernel), x, y),
            rtol=1e-6,
        )


def test_cross_validation_scores_each_candidate():
    x, y = np.linspace(0, 1, 12), np.linspace(0, 1, 12) ** 2
    scores = cross_validate(x, y, [0.05, 0.2, 9.0], kernel="boxcar")
    # every point its own only neighbour
    assert [type(s) for s in scores] == [float] * 3 and scores[0] == float("inf")
    near(scores[1:], [leave_one_out(smoother_matrix(x, bandwidth=h, kernel="boxcar"), y) for h in (0.2, 9.0)])
    near(scores[2], long_way(lambda q, a, b: [b.mean()], x, y))
    assert cross_validate(x, y, []) == [] and leave_one_out([[1.0]], [3.0]) == float("inf")
    assert cross_validate(torch.tensor(x), torch.tensor(y), [0.2], kernel="boxcar") == pytest.approx(
        scores[1:2]
    )


@pytest.mark.parametrize(
    "S, y",
    [
        (np.eye(3), np.ones(2)),
        (np.ones((2, 3)), np.ones(2)),
        (np.ones(3), np.ones(3)),
        (np.ones((2, 2, 2)), np.ones(2)),
        ("S", [1.0]),
        ([[1j]], [1.0]),
        (np.full((2, 2), 0.5), ["a", "b"]),
        (np.full((2, 2), 0.5), 3.0),
        (np.full((3, 3), 0.3), np.ones((3, 2, 2))),
    ],
)
def test_a_smoother_that_does_not_fit(S, y):
    with pytest.raises(ValueError, match="^(smoother|y)"):
        leave_one_out(S, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_of_what_is_not_finite(bad):
    x, y = np.linspace(0, 1, 4), np.array([1.0, bad, 2, 3])
    with pytest.raises(ValueError, match=r"^y\[1\]="):
        cross_validate(x, y, [0.5])
    with pytest.raises(ValueError, match=r"^x\d?\[1\]="):
        cross_validate(y, x, [0.5])
    with pytest.raises(ValueError, match=r"^smoother\[0, 1\]="):
        leave_one_out([[0.5, bad], [0.5, 0.5]], [1.0, 2])


# ---- at the limits: numbers come out, or a reason


@every_kernel
def test_one_point_no_query_and_coinciding_points(kernel):
    fit = partial(nadaraya_watson, bandwidth=0.5, kernel=kernel)
    assert fit([0.1, 0.3], [0.2], [7.0]).tolist() == [7, 7] and fit(
        [0.2], [0.2] * 3, [1.0, 2, 6]
    ).tolist() == pytest.approx([3])
    none = fit([], [0.0, 1], [1.0, 2])
    assert (
        none.shape == (0,)
        and none.dtype == np.float64
        and fit(np.zeros((0, 2)), np.zeros((3, 2)), np.zeros((3, 4))).shape == (0, 4)
    )
    assert kernel_weights([], [0.0, 1, 2], bandwidth=0.5, kernel=kernel).shape == (0, 3)


def test_a_query_far_away_listens_to_the_nearest():
    x, y = np.array([0.0, 1, 2]), np.array([5.0, 6, 9])
    for far, answer in ((50.0, 9), (1e6, 9), (-1e9, 5)):
        assert nadaraya_watson([far], x, y, bandwidth=0.1).tolist() == [answer]
    assert (
        nadaraya_watson(torch.tensor([1e6]), torch.tensor([0.0, 1]), torch.tensor([5.0, 6]), bandwidth=0.1)
        .isfinite()
        .all()
    )


@pytest.mark.parametrize("dtype, far", [(torch.float32, 1e20), (torch.float64, 1e200)])
def test_a_gaussian_has_no_end_even_where_squares_overflow(dtype, far):
    "The Gaussian never refuses a query for want of neighbours."
    out = nadaraya_watson(
        torch.tensor([far], dtype=dtype),
        torch.tensor([0.0, 1], dtype=dtype),
        torch.tensor([5.0, 6], dtype=dtype),
        bandwidth=0.1,
    )
    assert 5 <= out.item() <= 6


@pytest.mark.parametrize("h", [1e-50, 1e-320])
def test_a_bandwidth_too_small_for_the_precision_gives_no_nan(h):
    x = torch.tensor([0.0, 1.0])
    try:
        out = nadaraya_watson(torch.zeros(1), x, torch.tensor([3.0, 4]), bandwidth=h)
    except ValueError as error:
        assert str(error).startswith("bandwidth")
    else:
        assert out.tolist() == [3]


@pytest.mark.parametrize("kernel", ["epanechnikov", "boxcar", "tricube"])
def test_a_compact_kernel_without_a_neighbour_names_the_query(kernel):
    for door in (
        lambda q, x: nadaraya_watson(q, x, np.ones(len(x)), bandwidth=0.5, kernel=kernel),
        lambda q, x: kernel_weights(q, x, bandwidth=0.5, kernel=kernel),
    ):
        with pytest.raises(
            ValueError, match=re.escape("x0=3.25: expected a design point within bandwidth=0.5")
        ):
            door([0.0, 3.25, 9.0], [0.0, 1.0])
        with pytest.raises(ValueError, match=re.escape("x0=[3.0, 0.0]: expected a design point")):
            door([[3.0, 0.0]], [[0.0, 0.0]])


def test_the_right_query_is_named_whatever_the_block(monkeypatch):
    monkeypatch.setattr(kernel_module, "in_blocks", partial(in_blocks, budget=4))
    with pytest.raises(ValueError, match=re.escape("x0=3.25")):
        nadaraya_watson([0.0, 1, 0, 1, 0, 3.25], [0.0, 1], [1.0, 2], bandwidth=0.5, kernel="boxcar")


# ---- derivatives


def leaf(*shape):
    return torch.rand(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape) + shape[0])
    ).requires_grad_()


def test_derivatives_of_the_gaussian():
    inputs = (
        leaf(3, 2),
        leaf(6, 2),
        leaf(6),
        torch.tensor([0.4, 0.7], dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(lambda q, x, y, h: nadaraya_watson(q, x, y, bandwidth=h), inputs)
    assert torch.autograd.gradcheck(
        lambda q, x, h: kernel_weights(q, x, bandwidth=h), (inputs[0], inputs[1], inputs[3])
    )


@pytest.mark.parametrize("kernel", ["epanechnikov", "tricube"])
def test_derivatives_of_compact_kernels_with_points_outside_and_on_the_query(kernel):
    x = torch.tensor([0.0, 0.3, 0.6, 2.0], dtype=torch.float64, requires_grad=True)
    x0 = torch.tensor([0.3, 0.4], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.0, 1, 3, 2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda q, x, y: nadaraya_watson(q, x, y, bandwidth=0.8, kernel=kernel), (x0, x, y)
    )


# ---- what is refused

GOOD = dict(x0=[0.1, 0.5], x=[0.0, 1, 2], y=[1.0, 2, 3])
NOT_ARRAYS = [None, "a", ["a", "b", "c"], [1j, 0, 0], object(), [[1.0], [1.0, 2]], np.ones((3, 1, 1)), 0.5]


def refused(door, name, value, message=None, **more):
    with pytest.raises(ValueError, match=message or f"^{name}[.\\[=]"):
        door(**GOOD | {name: value} | more)


DOORS = {
    "nadaraya_watson": partial(nadaraya_watson, bandwidth=0.5),
    "kernel_weights": lambda x0, x, y=None, bandwidth=0.5, **k: kernel_weights(
        x0, x, bandwidth=bandwidth, **k
    ),
}
every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


@every_door
@pytest.mark.parametrize("name", ["x0", "x", "y"])
@pytest.mark.parametrize("wrong", NOT_ARRAYS, ids=lambda w: type(w).__name__)
def test_what_is_no_array_is_refused(door, name, wrong):
    if name != "y" or door is DOORS["nadaraya_watson"]:
        refused(door, name, wrong)


@every_door
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_place(door, bad):
    refused(door, "x0", [0.0, bad], rf"^x0\[1\]={bad}: expected finite")
    refused(door, "x", [0.0, 1, bad], rf"^x\[2\]={bad}: expected finite")
    with pytest.raises(ValueError, match=rf"^x\[2, 1\]={bad}"):
        door(x0=[[0.0, 0]], x=[[0.0, 0], [1, 1], [1, bad]], y=[1.0, 2, 3])
    if door is DOORS["nadaraya_watson"]:
        refused(door, "y", [bad, 1, 2], rf"^y\[0\]={bad}: expected finite")
        refused(door, "y", [[0, 0], [0, bad], [0, 0]], rf"^y\[1, 1\]={bad}")


@every_door
@pytest.mark.parametrize(
    "wrong", [0, -0.1, np.nan, np.inf, [], [0.1, 0.2], [[0.1]], [0.1, -1], "wide", None, 1j, [0]]
)
def test_bad_bandwidths(door, wrong):
    refused(door, "bandwidth", wrong)


@every_door
@pytest.mark.parametrize("wrong", ["gausian", "", None, 1, ["gaussian"], "Gaussian"])
def test_unknown_kernels(door, wrong):
    refused(door, "kernel", wrong, "^kernel=.*'gaussian', 'epanechnikov', 'boxcar', 'tricube'")


def test_shapes_that_do_not_fit():
    fit = DOORS["nadaraya_watson"]
    refused(fit, "y", [1.0, 2], r"^y.shape=\(2,\): expected one response for each of the 3 design points")
    refused(fit, "x0", [[1.0, 2]], r"^x0.shape=\(1, 2\): expected 1 coordinates a query")
    refused(fit, "x0", 0.5, r"^x0.shape=\(\)")
    refused(fit, "x", [], r"^x.shape=\(0, 1\): expected at least one design point", y=[])
    with pytest.raises(ValueError, match="^bandwidth=.*one number, or 2 numbers"):
        fit(x0=[[0.0, 0]], x=[[0.0, 0]], y=[1.0], bandwidth=[1.0, 2, 3])


def test_the_doors_themselves():
    q, k, v, back = as_design([0.1], np.float32([0, 1]), [[1, 2], [3, 4]])
    assert (
        (q.shape, k.shape, v.shape) == ((1, 1), (2, 1), (2, 2))
        and {t.dtype for t in (q, k, v)} == {torch.float32}
        and back(v).dtype == np.float32
    )
    assert as_design([0.1], [0.0])[2] is None and as_design([0.1], [0.0], [3.0])[3](
        torch.ones(1, 1)
    ).shape == (1,)
    assert (
        as_bandwidth(0.5, torch.ones(2, 3)).shape == (1,)
        and as_bandwidth([1, 2, 3], torch.ones(2, 3, dtype=torch.float32)).dtype == torch.float32
    )


# ---- far away and very narrow


@given(
    st.data(), st.sampled_from([1e-3, 1e-8, 1e-16, 1e-100, 1e-155, 1e-200, 1e-308, 1e-320]), st.integers(1, 3)
)
def test_with_a_tiny_bandwidth_the_answer_is_the_mean_of_the_nearest(data, h, d):
    grid = st.integers(-9, 9).map(float)
    x0, x, y = (data.draw(arrays(float, shape, elements=grid)) for shape in ((3, d), (6, d), (6,)))
    gaps = ((x0[:, None] - x) ** 2).sum(-1)
    nearest = gaps == gaps.min(1, keepdims=True)
    near(nadaraya_watson(x0, x, y, bandwidth=h), nearest @ y / nearest.sum(1))
    near(nadaraya_watson(x0, x, y, bandwidth=[h] * d), nearest @ y / nearest.sum(1))
    near(kernel_weights(x0, x, bandwidth=h), nearest / nearest.sum(1, keepdims=True))


@given(st.data(), st.sampled_from([1e-3, 1e-8, 1e-20, 1e-30, 1e-44]))
def test_with_a_tiny_bandwidth_in_single_precision(data, h):
    x0, x, y = (data.draw(arrays(np.float32, n, elements=st.integers(-9, 9).map(float))) for n in (3, 6, 6))
    gaps = np.abs(x0[:, None] - x)
    nearest = gaps == gaps.min(1, keepdims=True)
    near(nadaraya_watson(x0, x, y, bandwidth=h), nearest @ y / nearest.sum(1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("far", [1e5, 1e9, 1e17, 1e100, 1e200, 1e300])
def test_a_query_far_away_weighs_its_points_exactly(far):
    "Log weights differ by step times way; the squares alone would round the differences away, or overflow."
    near(nadaraya_watson([far, -far], [0.0, 1, 2], [5.0, 6, 9], bandwidth=0.1), [9, 5])
    near(
        nadaraya_watson([[far, 0.0]], [[0.0, 0.0], [0.0, 3.0]], [5.0, 6.0], bandwidth=1.0),
        [(5 + 6 * np.exp(-4.5)) / (1 + np.exp(-4.5))],
    )
    if far < 1e150:
        near(
            kernel_weights([far], [0.0, 1.0], bandwidth=far**0.5),
            [[1 / (1 + np.e), np.e / (1 + np.e)]],
            rtol=1e-5,
        )


def test_each_bandwidth_decides_who_is_nearest():
    x, y = [[3.0, 0.0], [0.0, 1.0]], [5.0, 6.0]
    for tiny in (1e-100, 1e-200, 1e-300):
        assert nadaraya_watson([[0.0, 0.0]], x, y, bandwidth=[4 * tiny, tiny]).tolist() == [5]
        assert nadaraya_watson([[0.0, 0.0]], x, y, bandwidth=[2 * tiny, tiny]).tolist() == [6]
        assert nadaraya_watson([[0.0, 0.0]], x, y, bandwidth=[1e300, tiny]).tolist() == [5]


def test_derivatives_of_a_query_far_away():
    x, y, h = leaf(6, 2), leaf(6), torch.tensor([0.3, 0.4], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([[6e3, 0.0], [6e3, 6e3]], dtype=torch.float64, requires_grad=True)
    wide = torch.tensor([300.0], dtype=torch.float64, requires_grad=True)
    assert kernel_module.block_weights(q, x, wide, "gaussian").amax() < 0.9
    assert torch.autograd.gradcheck(lambda q, x, h: kernel_weights(q, x, bandwidth=h), (q, x, wide))
    nearby = torch.autograd.grad(nadaraya_watson(q, x, y, bandwidth=h).sum(), (q, x, y, h))
    assert all(g.isfinite().all() for g in nearby)


@pytest.mark.parametrize("kernel", ["epanechnikov", "boxcar", "tricube"])
def test_compact_kernels_have_no_nearest_point(kernel):
    for h in (1e-9, 1e-160, 1e-320):
        with pytest.raises(ValueError, match="^x0=.*expected a design point within"):
            nadaraya_watson([0.5], [0.0, 1.0], [1.0, 2.0], bandwidth=h, kernel=kernel)
        assert nadaraya_watson([1.0], [0.0, 1.0], [1.0, 2.0], bandwidth=h, kernel=kernel).tolist() == [2]


# ---- more that is refused

BLOCK = dict(x0=torch.zeros(2, 1), x=torch.zeros(3, 1), bandwidth=torch.ones(1), kernel="gaussian")


@pytest.mark.parametrize(
    "wrong, named",
    [
        (dict(x0=[[0.0]]), "x0='list'"),
        (dict(x=np.zeros((3, 1))), "x='ndarray'"),
        (dict(bandwidth=0.1), "bandwidth='float'"),
        (dict(x0=torch.zeros(2)), "x0.shape"),
        (dict(x=torch.zeros(0, 1)), "x.shape"),
        (dict(x0=torch.zeros(2, 2)), "x0.shape"),
        (dict(bandwidth=torch.ones(2)), "bandwidth.shape"),
        (dict(kernel="flat"), "kernel='flat'"),
        (dict(x=torch.zeros(3, 1).long()), "x='Tensor'"),
    ],
)
def test_what_is_no_block_is_refused(wrong, named):
    with pytest.raises(ValueError, match=f"^{named}.*: expected"):
        kernel_module.block_weights(**BLOCK | wrong)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: in_blocks(5, torch.ones(3), 1), "answer=5"),
        (lambda: in_blocks(len, [1.0], 1), "x0='list'"),
        (lambda: in_blocks(len, torch.tensor(1.0), 1), "x0='Tensor'"),
        (lambda: in_blocks(len, torch.ones(3), -1), "row_size=-1"),
        (lambda: in_blocks(len, torch.ones(3), 1.5), "row_size=1.5"),
        (lambda: in_blocks(len, torch.ones(3), 1, 0), "budget=0"),
        (lambda: in_blocks(len, torch.ones(3), 1, "many"), "budget='many'"),
        (lambda: smoother_matrix([0.0, 1.0], weights="kernel"), "weights='kernel'"),
        (lambda: degrees_of_freedom(np.zeros((0, 0))), "smoother.shape"),
        (lambda: leave_one_out(np.zeros((0, 0)), []), "y.shape"),
        (lambda: leave_one_out(np.eye(2), np.zeros((2, 0))), "y.shape"),
        (lambda: cross_validate([0.0, 1.0], [0.0, 1.0], 0.5), "bandwidths=0.5"),
        (lambda: cross_validate([0.0, 1.0], [0.0, 1.0], "ab"), "bandwidth='str'"),
        (lambda: cross_validate([0.0, 1.0], [0.0, 1.0], [0.5], weights=3), "weights=3"),
        (lambda: as_bandwidth(0.1, [0.0]), "x='list'"),
        (lambda: as_bandwidth(0.1, torch.ones(3)), "x='Tensor'"),
        (lambda: nadaraya_watson(np.zeros((2, 0)), np.zeros((3, 0)), [0.0] * 3, bandwidth=1.0), "x.shape"),
        (lambda: nadaraya_watson([0.0], [0.0, 1], [0.0, 1], bandwidth=True), "bandwidth|x"),
    ],
)
def test_more_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=f"^({named}).*: expected"):
        call()
