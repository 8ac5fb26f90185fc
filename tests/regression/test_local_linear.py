"""Local linear regression: against least squares point by point, against statsmodels, its laws, its limits,
and what it refuses."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from statsmodels.nonparametric.kernel_regression import KernelReg

import lla_course.regression.local_linear as module
from helpers import default_dtype
from lla_course.regression.kernel import (
    LOG_KERNELS,
    cross_validate,
    degrees_of_freedom,
    in_blocks,
    kernel_weights,
    leave_one_out,
    nadaraya_watson,
    smoother_matrix,
)
from lla_course.regression.local_linear import (
    Config,
    cells,
    centred_moments,
    equivalent_kernel,
    first_order_weights,
    global_linear,
    local_linear,
    local_slope,
    run,
)

near = partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-7)
every_kernel = pytest.mark.parametrize("kernel", LOG_KERNELS)


@st.composite
def general(draw, wide=False):
    """Queries, at least d + 2 points in general position, responses [N, p] and a bandwidth that reaches many
    of them."""
    d, seed = draw(st.integers(1, 3)), draw(st.integers(0, 10**6))
    n, m, p = draw(st.integers(3 * d + 3, 20)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    rng = np.random.default_rng(seed)
    return (
        rng.random((m, d)),
        rng.random((n, d)),
        rng.normal(size=(n, p)),
        3.0 if wide else draw(st.sampled_from([0.4, 0.7, 1.5])),
    )


@st.composite
def awkward(draw):
    "Points on a coarse grid: coinciding, collinear, fewer than d + 1."
    d, n, m = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    value = st.integers(-6, 6).map(lambda i: i / 3)
    return tuple(draw(arrays(float, shape, elements=value)) for shape in ((m, d), (n, d), (n,))) + (
        draw(st.sampled_from([0.2, 1.0, 4.0])),
    )


def lstsq(x0, x, y, h, kernel="gaussian", ridge=0.0):
    """Heights [M, p] and slopes [M, d, p] by numpy's least squares, one query at a time; the ridge is d more
    rows that ask for slope 0."""
    out = []
    for q, p in zip(x0, kernel_weights(x0, x, bandwidth=h, kernel=kernel)):
        rows = np.c_[np.ones(len(x)), x - q] * np.sqrt(p)[:, None]
        penalty = np.c_[np.zeros(x.shape[1]), ridge**0.5 * np.eye(x.shape[1])]
        out.append(
            np.linalg.lstsq(
                np.r_[rows, penalty], np.r_[y * np.sqrt(p)[:, None], np.zeros((x.shape[1], y.shape[1]))]
            )[0]
        )
    out = np.array(out)
    return out[:, 0], out[:, 1:]


# ---- the definition, and another library


@every_kernel
@pytest.mark.parametrize("ridge", [0.0, 0.01, 2.0])
@given(design=general(wide=True))
def test_it_is_least_squares_at_every_query(kernel, ridge, design):
    x0, x, y, h = design
    heights, slopes = lstsq(x0, x, y, h, kernel, ridge)
    near(local_linear(x0, x, y, bandwidth=h, ridge=ridge, kernel=kernel), heights)
    near(local_slope(x0, x, y[:, 0], bandwidth=h, ridge=ridge, kernel=kernel), slopes[..., 0])
    near(equivalent_kernel(x0, x, bandwidth=h, ridge=ridge, kernel=kernel) @ y, heights)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_it_agrees_with_statsmodels(d):
    rng = np.random.default_rng(d)
    x, x0 = rng.random((60, d)), rng.random((7, d))
    y = np.sin(5 * x).sum(1) + rng.normal(size=60)
    h = [0.3, 0.4, 0.5][:d]
    height, slope = KernelReg(y, x, "c" * d, reg_type="ll", bw=h).fit(x0)
    near(local_linear(x0, x, y, bandwidth=h), height, rtol=1e-5)
    near(local_slope(x0, x, y, bandwidth=h), slope.reshape(7, d), rtol=1e-5)


def test_one_line_for_everything_is_least_squares():
    rng = np.random.default_rng(0)
    x, x0, y = rng.random((30, 2)), rng.random((4, 2)), rng.random((30, 2))
    beta = np.linalg.lstsq(np.c_[np.ones(30), x], y)[0]
    near(global_linear(x0, x, y), np.c_[np.ones(4), x0] @ beta)
    near(global_linear(x0[:, 0], x[:, 0], y[:, 0]), np.polyval(np.polyfit(x[:, 0], y[:, 0], 1), x0[:, 0]))
    xc, yc = x - x.mean(0), y - y.mean(0)
    ridged = np.linalg.solve(xc.T @ xc / 30 + 0.1 * np.eye(2), xc.T @ yc / 30)
    near(global_linear(x0, x, y, ridge=0.1), y.mean(0) + (x0 - x.mean(0)) @ ridged)


def test_equal_weights_are_equal_to_the_last_digit():
    "One seventh in single precision is not one seventh."
    x = np.arange(7.0) / 3
    np.testing.assert_allclose(global_linear([-5.0, 9.0], x, np.full(7, 3.0)), 3, rtol=1e-13)
    np.testing.assert_allclose(global_linear([-5.0, 9.0], x, 3 - x), [8, -6], rtol=1e-13)
    np.testing.assert_allclose(global_linear([5.0], x, x**2, ridge=1e9), (x**2).mean(), rtol=1e-8)


def test_the_three_quantities_of_the_centred_form():
    rng = np.random.default_rng(0)
    x, x0 = rng.random((6, 2)), rng.random((3, 2))
    p = rng.random((3, 6))
    p /= p.sum(1, keepdims=True)
    centred, mean, inverse = centred_moments(*map(torch.tensor, (p, x0, x)), 0.3)
    xbar = p @ x
    near(mean, xbar - x0)
    near(centred, x - xbar[:, None])
    C = np.einsum("mn,mni,mnj->mij", p, x - xbar[:, None], x - xbar[:, None])
    near(inverse, np.linalg.inv(C + 0.3 * np.eye(2)))
    u = np.einsum("mij,mj->mi", np.linalg.inv(C + 0.3 * np.eye(2)), x0 - xbar)
    near(
        first_order_weights(*map(torch.tensor, (p, x0, x)), 0.3),
        p * (1 + np.einsum("mni,mi->mn", x - xbar[:, None], u)),
    )


def test_the_exercises_of_chapter_11():
    s = lambda ridge: equivalent_kernel([2.0], [0.0, 1, 2], bandwidth=1e9, ridge=ridge)[0]
    near(s(0), [-1 / 6, 1 / 3, 5 / 6])
    near(s(1 / 3)[0], 0)


# ---- laws


@every_kernel
@given(design=general(wide=True), a=arrays(float, 3, elements=st.floats(-3, 3)), b=st.floats(-5, 5))
def test_affine_functions_are_reproduced(kernel, design, a, b):
    x0, x, _, h = design
    f = lambda t: b + t @ a[: t.shape[1]]
    outside = np.r_[x0, x0 + 0.5]
    near(local_linear(outside, x, f(x), bandwidth=h, kernel=kernel), f(outside))
    near(
        local_slope(outside, x, f(x), bandwidth=h, kernel=kernel),
        np.tile(a[: x.shape[1]], (len(outside), 1)),
        atol=1e-6,
    )
    near(global_linear(outside, x, f(x)), f(outside))
    s = equivalent_kernel(outside, x, bandwidth=h, kernel=kernel)
    near(s.sum(1), 1)
    near(s @ x, outside)


@given(general(), st.sampled_from([0.0, 1e-3, 0.1, 10.0]))
def test_constants_are_reproduced_at_every_ridge(design, ridge):
    x0, x, y, h = design
    near(local_linear(x0, x, np.full(len(x), 7.0), bandwidth=h, ridge=ridge), 7)
    near(equivalent_kernel(x0, x, bandwidth=h, ridge=ridge).sum(1), 1)
    near(
        local_linear(x0, x, 2 * y - 3, bandwidth=h, ridge=ridge),
        2 * local_linear(x0, x, y, bandwidth=h, ridge=ridge) - 3,
    )


@given(general())
def test_it_leads_from_the_line_to_the_average_and_from_local_to_global(design):
    x0, x, y, h = design
    average, line = nadaraya_watson(x0, x, y, bandwidth=h), local_linear(x0, x, y, bandwidth=h)
    near(local_linear(x0, x, y, bandwidth=h, ridge=1e12), average, atol=1e-6)
    near(local_linear(x0, x, y, bandwidth=h, ridge=1e-12), line, rtol=1e-5, atol=1e-5)
    near(local_slope(x0, x, y[:, 0], bandwidth=h, ridge=1e12), 0)
    near(local_linear(x0, x, y, bandwidth=1e6), global_linear(x0, x, y), rtol=1e-6, atol=1e-6)
    near(
        local_linear(x0, x, y, bandwidth=1e6, ridge=0.1),
        global_linear(x0, x, y, ridge=0.1),
        rtol=1e-6,
        atol=1e-6,
    )
    near(global_linear(x0, x, y, ridge=1e12), np.tile(y.mean(0), (len(x0), 1)), atol=1e-6)


def test_a_ridge_of_the_size_of_the_covariance_is_half_way():
    x = np.linspace(-6, 6, 4001)
    truth = local_linear([0.4], x, x, bandwidth=0.5)[0] - nadaraya_watson([0.4], x, x, bandwidth=0.5)[0]
    edge = np.array([6.0])
    C = kernel_weights(edge, x, bandwidth=0.5)[0]
    C = C @ (x - C @ x) ** 2
    average, line, half = (
        nadaraya_watson(edge, x, x, bandwidth=0.5),
        local_linear(edge, x, x, bandwidth=0.5),
        local_linear(edge, x, x, bandwidth=0.5, ridge=C),
    )
    near(half, (average + line) / 2)
    assert abs(truth) < 1e-9 and line - average > 0.3


@given(general(), st.sampled_from([0.0, 0.02]), st.data())
def test_order_origin_and_units_do_not_matter(design, ridge, data):
    x0, x, y, h = design
    fit = partial(local_linear, bandwidth=h, ridge=ridge)
    out = fit(x0, x, y)
    loose = partial(near, rtol=1e-5, atol=1e-5)
    order = data.draw(st.permutations(range(len(x))))
    near(fit(x0, x[order], y[order]), out)
    near(fit(x0[::-1], x, y), out[::-1])
    loose(fit(x0 + 100, x + 100, y), out)
    near(fit(x0, x, y + 5), out + 5)
    for c in (1e-3, 1e4):
        loose(local_linear(x0 * c, x * c, y, bandwidth=h * c, ridge=ridge * c**2), out)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(x.shape[1],) * 2))[0]
    loose(fit(x0 @ turn, x @ turn, y), out)
    loose(
        local_slope(x0 @ turn, x @ turn, y[:, 0], bandwidth=h, ridge=ridge),
        local_slope(x0, x, y[:, 0], bandwidth=h, ridge=ridge) @ turn,
    )
    near(local_linear(x0, x, y, bandwidth=[h] * x.shape[1], ridge=ridge), out)
    scale = np.array([1.0, 10, 0.1])[: x.shape[1]]
    loose(local_linear(x0 * scale, x * scale, y, bandwidth=h * scale), local_linear(x0, x, y, bandwidth=h))


@given(general())
def test_columns_of_responses_are_answered_one_by_one(design):
    x0, x, y, h = design
    out = local_linear(x0, x, y, bandwidth=h)
    assert out.shape == (len(x0), y.shape[1]) == global_linear(x0, x, y).shape
    for j in range(y.shape[1]):
        column = local_linear(x0, x, y[:, j], bandwidth=h)
        assert column.shape == (len(x0),)
        near(column, out[:, j])
    assert local_slope(x0, x, y[:, :1], bandwidth=h).shape == x0.shape


@given(general(wide=True), st.sampled_from([0.1, 1.0]))
def test_single_precision_is_near_double(design, ridge):
    x0, x, y, h = design
    f32 = lambda *a: [v.astype(np.float32) for v in a]
    single = local_linear(*f32(x0, x, y), bandwidth=h, ridge=ridge)
    assert single.dtype == np.float32
    near(single, local_linear(x0, x, y, bandwidth=h, ridge=ridge), rtol=1e-3, atol=1e-3)


def test_single_precision_does_not_mind_a_far_origin():
    "Years since Christ, as chapter 11 has them: positions are measured from the query."
    x = torch.arange(1990, 2000, 0.25)
    y = 3 * (x - 1995)
    near(local_linear(torch.tensor([1999.75]), x, y, bandwidth=1.0), [3 * 4.75], rtol=1e-5)


def test_the_library_and_the_precision_of_the_input_come_back():
    x0, x, y = np.array([0.2, 1.2]), np.array([0.0, 0.5, 1]), np.array([1.0, 2, 4])
    doors = dict(
        fit=lambda q, x, y: local_linear(q, x, y, bandwidth=0.5, ridge=0.01),
        slope=lambda q, x, y: local_slope(q, x, y, bandwidth=0.5, ridge=0.01),
        weights=lambda q, x, y: equivalent_kernel(q, x, bandwidth=0.5, ridge=0.01),
        line=lambda q, x, y: global_linear(q, x, y),
    )
    for door in doors.values():
        truth = door(x0, x, y)
        assert (
            isinstance(truth, np.ndarray)
            and truth.dtype == np.float64
            and isinstance(door([0.2], [0, 1, 2], [1, 2, 3]), np.ndarray)
        )
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            out = door(*(torch.tensor(a, dtype=dtype) for a in (x0, x, y)))
            assert isinstance(out, torch.Tensor) and out.dtype == dtype
            np.testing.assert_allclose(out.double(), truth, atol=30 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    "y",
    [
        torch.tensor([1.0, 2, 4], dtype=torch.float64),
        np.float32([1, 2, 4]),
        torch.tensor([1.0, 2, 4], dtype=torch.float64, requires_grad=True),
    ],
)
def test_the_way_back_of_a_slope_looks_at_the_responses_too(y):
    x0, x = [0.2], [0.0, 0.5, 1.0]
    height, slope = local_linear(x0, x, y, bandwidth=0.5), local_slope(x0, x, y, bandwidth=0.5)
    assert (
        type(slope) is type(height)
        and slope.dtype == height.dtype
        and getattr(slope, "requires_grad", 0) == getattr(height, "requires_grad", 0)
    )


def test_inside_an_even_design_the_weights_are_those_of_the_average_and_at_an_edge_some_are_negative():
    even = np.linspace(0, 1, 41)
    near(equivalent_kernel([0.5], even, bandwidth=0.12), kernel_weights([0.5], even, bandwidth=0.12))
    s, p = (w([0.0], even, bandwidth=0.12)[0] for w in (equivalent_kernel, kernel_weights))
    assert s.min() < -1e-3 and s[0] > p[0] and p @ even == pytest.approx(0.09, abs=0.01)


# ---- the shortcut, and the smoother


@every_kernel
@pytest.mark.parametrize("d", [1, 2])
def test_the_shortcut_is_the_long_way(kernel, d):
    rng = np.random.default_rng(d)
    x, y, h = rng.random((15, d)), rng.random(15), 1.2
    keep = lambda i: np.arange(15) != i
    slow = np.mean(
        [
            (y[i] - local_linear(x[[i]], x[keep(i)], y[keep(i)], bandwidth=h, kernel=kernel)[0]) ** 2
            for i in range(15)
        ]
    )
    near(leave_one_out(smoother_matrix(x, weights=equivalent_kernel, bandwidth=h, kernel=kernel), y), slow)
    near(cross_validate(x, y, [h], weights=equivalent_kernel, kernel=kernel), slow)


def test_a_line_has_between_two_and_n_degrees_of_freedom():
    x = np.random.default_rng(0).random(20)
    spans = [
        degrees_of_freedom(smoother_matrix(x, weights=equivalent_kernel, bandwidth=h))
        for h in (1e-6, 0.05, 0.2, 1e6)
    ]
    assert (
        spans == sorted(spans, reverse=True)
        and spans[0] == pytest.approx(20)
        and spans[-1] == pytest.approx(2)
    )


def test_the_block_size_does_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    x0, x, y = rng.random((23, 2)), rng.random((40, 2)), rng.random((40, 2))
    ask = lambda: [
        local_linear(x0, x, y, bandwidth=0.3),
        equivalent_kernel(x0, x, bandwidth=0.3),
        local_slope(x0, x, y[:, 0], bandwidth=0.3),
        global_linear(x0, x, y),
    ]
    whole = ask()
    for budget in (1, 400, 10**9):
        monkeypatch.setattr(module, "in_blocks", partial(in_blocks, budget=budget))
        for a, b in zip(ask(), whole):
            near(a, b)


# ---- where no slope can be had


def test_one_point_gives_its_own_response():
    for ridge in (0.0, 1e-9, 0.1):
        near(local_linear([0.1, 0.3, 50.0], [0.2], [7.0], bandwidth=0.5, ridge=ridge), 7)
        near(local_slope([0.1, 0.3], [0.2], [7.0], bandwidth=0.5, ridge=ridge), 0)
        # identical points: their mean
        near(local_linear([[0.1, 2]], [[0.2, 3]] * 3, [1.0, 2, 6], bandwidth=0.5, ridge=ridge), 3)
    near(global_linear([0.1, 9.0], [0.2], [7.0]), 7)
    # one neighbour in the window
    near(local_linear([1.05], [0.0, 1, 2], [5.0, 6, 9], bandwidth=0.5, kernel="boxcar"), 6)


LINES = {"diagonal": (1.0, 1.0), "oblique": (3.0, 1.0), "axis": (0.0, 2.0), "thirds": (1 / 3, -0.7)}


@pytest.mark.parametrize("direction", LINES.values(), ids=LINES)
@pytest.mark.parametrize("h", [0.5, 2.0])
def test_collinear_points_give_the_limit_of_a_vanishing_ridge(direction, h):
    "A slope along the line of the points, none across it."
    t = np.array([0.0, 0.3, 1, 2, 2.2])
    x = np.outer(t, direction) + 0.1
    y = np.sin(t) + t
    x0 = np.array([[0.5, 0.4], [1.0, 3.0]])
    out = local_linear(x0, x, y, bandwidth=h)
    scale = float(np.sum(np.square(direction)))
    assert np.isfinite(out).all()
    near(out, local_linear(x0, x, y, bandwidth=h, ridge=1e-9 * scale), rtol=1e-5, atol=1e-5)
    slope = local_slope(x0, x, y, bandwidth=h)
    across = np.array([-direction[1], direction[0]])
    near(slope @ across, 0, atol=1e-9)
    near(
        local_linear(x0, x, 2 + x @ direction, bandwidth=h) - 2,
        (x0 - x[0]) @ direction + x[0] @ direction,
        atol=1e-8,
    )
    near(equivalent_kernel(x0, x, bandwidth=h).sum(1), 1)


@given(awkward(), st.sampled_from([0.0, 1e-6, 0.1]))
def test_whatever_the_points_a_number_comes_out(design, ridge):
    x0, x, y, h = design
    out = local_linear(x0, x, y, bandwidth=h, ridge=ridge)
    assert (
        np.isfinite(out).all()
        and np.isfinite(local_slope(x0, x, y, bandwidth=h, ridge=ridge)).all()
        and np.isfinite(global_linear(x0, x, y, ridge=ridge)).all()
    )
    near(local_linear(x0, x, np.full(len(x), 3.0), bandwidth=h, ridge=ridge), 3)


@pytest.mark.parametrize("ridge", [1e-12, 1e-14, 1e-15, 1e-16, 1e-18, 1e-310])
def test_a_ridge_below_rounding_is_no_ridge(ridge):
    "Between ridge 0 and a ridge that counts there is no gap in which rounding decides, nor an exception."
    t = np.array([0.0, 0.3, 1, 2])
    y = np.array([0.0, 2, 1, 5])
    x0 = np.array([[0.5, 0.4], [1.0, 3.0]])
    for direction in LINES.values():
        x = np.outer(t, direction) + 0.1
        near(
            local_linear(x0, x, y, bandwidth=1.0, ridge=ridge),
            local_linear(x0, x, y, bandwidth=1.0),
            rtol=1e-2,
            atol=1e-2,
        )
    near(local_linear([0.5], [0.1], [7.0], bandwidth=1.0, ridge=ridge), 7)


@pytest.mark.parametrize("ridge", [1e-8, 1e-30, 1e-50])
def test_a_tiny_ridge_in_single_precision(ridge):
    one, x = torch.tensor([0.5]), torch.tensor([[0.0, 0], [1, 1], [2, 2]])
    near(local_linear(one, torch.tensor([0.1]), torch.tensor([7.0]), bandwidth=1.0, ridge=ridge), 7)
    near(local_linear(torch.tensor([[0.5, 0.5]]), x, x[:, 0], bandwidth=1.0, ridge=ridge), 0.5, rtol=1e-3)


def test_a_query_far_away_gives_a_number():
    x, y = np.array([0.0, 1, 2]), np.array([5.0, 6, 9])
    for far in (20.0, 1e3, 1e8, -1e12):
        for ridge in (0.0, 1e-3):
            assert np.isfinite(local_linear([far], x, y, bandwidth=0.1, ridge=ridge)).all()
        assert np.isfinite(local_slope([far], x, y, bandwidth=0.1)).all()
    # one neighbour has all the weight: its response
    near(local_linear([1e6], x, y, bandwidth=0.1), 9)
    assert local_linear(
        torch.tensor([1e6]), torch.tensor([0.0, 1]), torch.tensor([5.0, 6]), bandwidth=0.1
    ).tolist() == [6]


def test_no_query_no_answer():
    assert local_linear([], [0.0, 1], [1.0, 2], bandwidth=0.5).shape == (0,) and local_slope(
        [], [0.0, 1], [1.0, 2], bandwidth=0.5
    ).shape == (0, 1)
    assert equivalent_kernel([], [0.0, 1], bandwidth=0.5).shape == (0, 2) and global_linear(
        [], [0.0, 1], [1.0, 2]
    ).shape == (0,)
    assert local_linear(np.zeros((0, 3)), np.ones((4, 3)), np.ones((4, 2)), bandwidth=0.5).shape == (0, 2)


# ---- derivatives


def leaf(seed, *shape):
    return torch.rand(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).requires_grad_()


def test_derivatives():
    q, x, y, h = (
        leaf(0, 3, 2),
        leaf(1, 7, 2),
        leaf(2, 7),
        torch.tensor([0.4, 0.7], dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(
        lambda q, x, y, h: local_linear(q, x, y, bandwidth=h, ridge=0.05), (q, x, y, h)
    )
    assert torch.autograd.gradcheck(
        lambda q, x, h: equivalent_kernel(q, x, bandwidth=h, ridge=0.05), (q, x, h)
    )
    assert torch.autograd.gradcheck(lambda q, x, y: global_linear(q, x, y, ridge=0.05), (q, x, y))
    assert torch.autograd.gradcheck(
        lambda q, x, y: local_slope(q, x, y, bandwidth=0.5, ridge=0.05), (q, x, y)
    )


def test_derivatives_without_ridge():
    q, x, y = leaf(0, 3, 2), leaf(1, 7, 2), leaf(2, 7)
    assert torch.autograd.gradcheck(lambda y: local_linear(q.detach(), x.detach(), y, bandwidth=0.5), (y,))
    assert torch.autograd.gradcheck(lambda q, x, y: local_linear(q, x, y, bandwidth=0.5), (q, x, y))


def test_the_slope_is_the_derivative_of_the_estimate_where_that_is_linear():
    x = torch.linspace(0, 1, 9, dtype=torch.float64)
    q = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(global_linear(q, x, 2 - 3 * x, ridge=1e-12).sum(), q)
    assert g.item() == pytest.approx(-3) and local_slope(
        q.detach(), x, 2 - 3 * x, bandwidth=0.2
    ).item() == pytest.approx(-3)


# ---- what is refused

GOOD = dict(x0=[0.1, 0.5], x=[0.0, 1, 2], y=[1.0, 2, 3])
DOORS = {
    "local_linear": partial(local_linear, bandwidth=0.5),
    "local_slope": partial(local_slope, bandwidth=0.5),
    "global_linear": global_linear,
    "equivalent_kernel": lambda x0, x, y=None, bandwidth=0.5, **k: equivalent_kernel(
        x0, x, bandwidth=bandwidth, **k
    ),
}
every_door = pytest.mark.parametrize("name", DOORS)


def refused(door, message, **changed):
    with pytest.raises(ValueError, match=message):
        DOORS[door](**GOOD | changed)


@every_door
@pytest.mark.parametrize(
    "wrong",
    [None, "a", ["a", "b", "c"], [1j, 0, 0], object(), [[1.0], [1.0, 2]], np.ones((3, 1, 1)), 0.5],
    ids=lambda w: type(w).__name__,
)
def test_what_is_no_array_is_refused(name, wrong):
    for argument in ("x0", "x", "y")[: 2 if name == "equivalent_kernel" else 3]:
        refused(name, f"^{argument}[.=\\[]", **{argument: wrong})


@every_door
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_place(name, bad):
    refused(name, rf"^x0\[1\]={bad}: expected finite", x0=[0.0, bad])
    refused(name, rf"^x\[2\]={bad}: expected finite", x=[0.0, 1, bad])
    refused(name, rf"^x\[1, 0\]={bad}", x=[[0.0, 0], [bad, 1], [1, 0]], x0=[[0.0, 0]])
    if name != "equivalent_kernel":
        refused(name, rf"^y\[0\]={bad}: expected finite", y=[bad, 1, 2])


@every_door
@pytest.mark.parametrize(
    "wrong", [-1e-9, -1, np.nan, np.inf, None, "a little", "0.1", [0.1, 0.2], 1j, torch.ones(2)], ids=str
)
def test_bad_ridges(name, wrong):
    refused(name, "^ridge=.*a finite number >= 0", ridge=wrong)


@pytest.mark.parametrize("name", [n for n in DOORS if n != "global_linear"])
def test_bad_bandwidths_and_kernels(name):
    for wrong in (0, -0.1, np.nan, np.inf, [], [0.1, 0.2], [[0.1]], [0.1, -1], "wide", None, 1j):
        refused(name, "^bandwidth[.=]", bandwidth=wrong)
    for wrong in ("gausian", "", None, 1, ["gaussian"]):
        refused(name, "^kernel=.*'gaussian', 'epanechnikov', 'boxcar', 'tricube'", kernel=wrong)
    for kernel in ("epanechnikov", "boxcar", "tricube"):
        refused(
            name,
            re.escape("x0=9.5: expected a design point within bandwidth=0.5"),
            x0=[0.0, 9.5],
            kernel=kernel,
        )


@every_door
def test_shapes_that_do_not_fit(name):
    refused(name, r"^x0.shape=\(1, 2\): expected 1 coordinates a query", x0=[[1.0, 2]])
    refused(name, r"^x.shape=\(0, 1\): expected at least one design point", x=[], y=[])
    if name != "equivalent_kernel":
        refused(name, r"^y.shape=\(2,\): expected one response for each of the 3", y=[1.0, 2])
    if name == "local_slope":
        refused(name, r"^y.shape=\(3, 2\): expected one response", y=np.ones((3, 2)))


# ---- the benchmark


def test_the_benchmark_runs_small():
    out = run(Config(n=400, m=20, d=1))
    assert out["seconds"] > 0 and out["peak_gb"] > 0 and out["error"] < 0.2
    assert run(Config(400, 20))["error"] == out["error"] != run(Config(400, 20, seed=1))["error"]
    assert set(cells("fast")) and [(c.n, c.m) for c in cells("full").values()] == [(100_000, 10_000)] * 2
    for wrong in ("Full", "", None):
        with pytest.raises(ValueError, match="preset"):
            cells(wrong)


# ---- units, and what is degenerate in them


def affine(seed, d, n=40):
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 1.5, (5, d)), rng.random((n, d)), rng.normal(size=d)


def all_doors(x0, x, y, **knobs):
    "Heights by three doors and slopes, of local lines and of the one for all."
    return dict(
        height=local_linear(x0, x, y, **knobs),
        weights=equivalent_kernel(x0, x, **knobs) @ y,
        slope=local_slope(x0, x, y, **knobs),
        wide=local_linear(x0, x, y, bandwidth=np.asarray(knobs["bandwidth"]) * 1e4),
        everywhere=global_linear(x0, x, y),
    )


@given(st.integers(0, 10**6), st.lists(st.integers(-150, 150), min_size=1, max_size=4))
def test_affine_functions_are_reproduced_in_any_units(seed, powers):
    x0, x, a = affine(seed, len(powers))
    unit = 10.0 ** np.array(powers)
    found = all_doors(x0 * unit, x * unit, x @ a, bandwidth=0.5 * unit)
    near(found.pop("slope") * unit, np.tile(a, (5, 1)), rtol=1e-9, atol=1e-9)
    for out in found.values():
        near(out, x0 @ a, rtol=1e-9, atol=1e-9)


@given(
    st.integers(0, 10**6),
    st.lists(st.floats(-3, 3), min_size=1, max_size=3),
    st.sampled_from([-15, -3, 0, 15]),
)
def test_affine_functions_are_reproduced_in_any_units_in_single_precision(seed, powers, base):
    "Ratios of a million, at sizes of 1e-18 to 1e18."
    x0, x, a = affine(seed, len(powers))
    unit = 10.0 ** (base + np.array(powers))
    found = all_doors(np.float32(x0 * unit), np.float32(x * unit), np.float32(x @ a), bandwidth=0.5 * unit)
    assert {out.dtype for out in found.values()} == {np.dtype("f4")}
    near(found.pop("slope") * unit, np.tile(a, (5, 1)), rtol=1e-3, atol=1e-3)
    for out in found.values():
        near(out, x0 @ a, rtol=1e-3, atol=1e-3)


def test_seconds_since_1970_beside_a_small_number():
    rng = np.random.default_rng(0)
    U = rng.uniform(0, 1, (400, 2))
    y = 3 * U[:, 0] + 5 * U[:, 1]
    Q = np.array([[0.5, 0.95], [0.2, 0.0]])
    for s in (1.0, 1e7, 1e9, 1e12):
        near(
            local_linear(Q * [s, 1], U * [s, 1], y, bandwidth=[0.3 * s, 0.3]),
            3 * Q[:, 0] + 5 * Q[:, 1],
            rtol=1e-12,
        )
    t, u = np.linspace(1.6e9, 1.63e9, 400), rng.uniform(-1, 1, 400)
    y = 2 * u + (t - t[0]) / 3e7
    near(global_linear(np.c_[t, u][:3], np.c_[t, u], y), y[:3], rtol=1e-12, atol=1e-12)
    single = np.float32(np.c_[t - t[0], u])
    near(global_linear(single[:3], single, np.float32(y)), y[:3], rtol=1e-5, atol=1e-5)


def test_local_linear_attention_without_ridge_does_not_mind_units_either():
    from lla_course.attention.dense import lla_dense, lla_weights

    for unit in ([1e9, 1, 1e-9, 1], [1e-18] * 4, [1e18] * 4, [1e6, 1, 1, 1]):
        q, k, A = (torch.from_numpy(np.random.default_rng(i).normal(size=(20, 4))) for i in range(3))
        unit = torch.tensor(unit, dtype=torch.float64)
        knobs = dict(ridge=0.0, scale=0.0, is_causal=False)
        for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            o = lla_dense((q * unit).to(dtype), (k * unit).to(dtype), (k @ A[:4]).to(dtype), **knobs)
            near(o.double(), q @ A[:4], rtol=tolerance, atol=tolerance)
        near(lla_weights(q * unit, k * unit, **knobs), lla_weights(q, k, **knobs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("s", [1.0, 1e4, 1e9, 1e-9])
def test_a_coordinate_that_is_given_twice_or_never_changes_takes_no_slope_from_the_others(s):
    "Queries where the two copies agree: the answer is that of the coordinates that say something."
    x0, x, _ = affine(3, 2)
    y = np.sin(4 * x[:, 0]) + x[:, 1] ** 2
    plain, knobs = (
        local_linear(x0, x, y, bandwidth=0.4),
        lambda d: dict(bandwidth=[0.4 * s * 2**0.5] * 2 + [0.4] + [1.0] * (d - 3)),
    )
    for repeat in (
        lambda z: np.c_[s * z[:, 0], s * z[:, 0], z[:, 1]],
        lambda z: np.c_[s * z[:, 0], s * z[:, 0], z[:, 1], np.full(len(z), 7.0)],
    ):
        X0, X = repeat(x0), repeat(x)
        near(local_linear(X0, X, y, **knobs(X.shape[1])), plain, rtol=1e-8, atol=1e-8)
    near(
        global_linear(np.c_[s * x0, x0, 0 * x0 + 5], np.c_[s * x, x, 0 * x + 5], y),
        global_linear(x0, x, y),
        rtol=1e-7,
        atol=1e-7,
    )


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 6))
def test_too_few_points_give_the_limit_of_a_vanishing_ridge(seed, n, d):
    rng = np.random.default_rng(seed)
    x, x0, y = rng.normal(size=(n, d)), rng.normal(size=(3, d)), rng.normal(size=n)
    near(
        local_linear(x0, x, y, bandwidth=3.0),
        local_linear(x0, x, y, bandwidth=3.0, ridge=1e-10),
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_query_far_from_all_data_is_on_the_line():
    for far in (1e6, 1e9, 1e17, 1e200, -1e300):
        near(global_linear([far], [0.0, 1, 2], [1.0, 3, 5]), 1 + 2 * far, rtol=1e-12)
    for far in (1e6, 1e17, 1e30):
        near(
            global_linear(np.float32([far]), np.float32([0, 1, 2]), np.float32([1, 3, 5])),
            1 + 2 * far,
            rtol=1e-5,
        )


def test_points_that_differ_by_rounding_are_one_point():
    for twins in ([0.3, 0.1 + 0.2], [0.7, 0.1 * 7], [1e9 / 3, np.nextafter(1e9 / 3, 0)]):
        at = twins[0]
        near(local_linear([at + 0.01, at + 1.0], twins, [1.0, 5.0], bandwidth=3.0), 3)
        near(local_slope([at + 1.0], twins, [1.0, 5.0], bandwidth=3.0), 0)
        near(
            local_linear([at + 0.01], [*twins, at + 1.0], [1.0, 5.0, 9.0], bandwidth=0.02), 3, rtol=1e-5
        )  # the third is there, and weighs nothing


def test_very_small_weights_still_fit_the_line_through_the_nearest_two():
    near(local_linear([0.3], [0.0, 1, 5], [2.0, 4.0, 1.0], bandwidth=0.03), 2.6)  # the second weighs e^-222
    near(
        local_linear(np.float32([0.3]), np.float32([0, 1, 5]), np.float32([2, 4, 1]), bandwidth=0.06),
        2.6,
        rtol=1e-5,
    )


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_the_queries_that_see_them(ridge, bad):
    rng = np.random.default_rng(0)
    p = rng.random((4, 6))
    p[:2, 3] = 0
    p /= p.sum(1, keepdims=True)
    p, x0, x = (torch.from_numpy(a) for a in (p, rng.random((4, 2)), rng.random((6, 2))))
    wrong = x.clone()
    wrong[3, 1] = bad
    for here, there in zip(
        (*centred_moments(p, x0, wrong, ridge)[1:], first_order_weights(p, x0, wrong, ridge)),
        (*centred_moments(p, x0, x, ridge)[1:], first_order_weights(p, x0, x, ridge)),
    ):
        near(here[:2], there[:2])
        assert not here[2:].isfinite().flatten(1).all(1).any()
    q = p.clone()
    q[1] = bad
    s = first_order_weights(q, x0, x, ridge)
    assert s[1].isnan().all() and torch.equal(s[[0, 2, 3]], first_order_weights(p, x0, x, ridge)[[0, 2, 3]])


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_attention_with_nan_and_infinity_answers_the_other_rows(ridge):
    from lla_course.attention.dense import lla_dense

    q, k, v = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 6, 4)))
    here = lla_dense(q, k, v, ridge=ridge)
    for bad in (np.nan, np.inf, -np.inf):
        wrong = q.clone()
        wrong[2, 1] = bad
        out = lla_dense(wrong, k, v, ridge=ridge)
        assert out[2].isnan().all() and torch.equal(out[[0, 1, 3, 4, 5]], here[[0, 1, 3, 4, 5]])
        wrong = k.clone()
        wrong[3, 1] = bad
        out = lla_dense(q, wrong, v, ridge=ridge)  # rows that give such a key no weight are right too
        assert torch.equal(out[:3], here[:3]) and not out.isinf().any()
        assert not np.isnan(bad) or out[3:].isnan().all()


def test_positions_whose_differences_overflow_are_refused():
    for x in ([-1e308, 0, 1e308], [0.0, 1e308]):
        with pytest.raises(ValueError, match="^x=1e.308: expected numbers up to 4.5e.307"):
            local_linear([0.0], x, [0.0] * len(x), bandwidth=1e307)
    with pytest.raises(ValueError, match="^x0=.*expected numbers up to 8.5e.37"):
        global_linear(np.float32([3e38]), np.float32([0, 1]), np.float32([0, 1]))


def test_derivatives_where_points_are_few_and_where_they_coincide():
    q, few, y = leaf(0, 3, 4), leaf(1, 3, 4), leaf(2, 3)
    assert torch.autograd.gradcheck(lambda q, x, y: local_linear(q, x, y, bandwidth=0.7), (q, few, y))
    assert torch.autograd.gradgradcheck(lambda q, x, y: local_linear(q, x, y, bandwidth=0.7), (q, few, y))
    equal, y = leaf(3, 1, 2).detach().expand(4, 2).clone().requires_grad_(), leaf(4, 4)
    ridge = torch.tensor([[[0.3]]], dtype=torch.float64, requires_grad=True)
    logits = leaf(5, 3, 4)

    def weights(l, q, x, r):
        return first_order_weights(l.softmax(-1), q, x, r)

    assert torch.autograd.gradcheck(
        weights, (logits, leaf(6, 3, 2), equal, ridge)
    ) and torch.autograd.gradgradcheck(weights, (logits, leaf(6, 3, 2), equal, ridge))
    assert torch.autograd.gradcheck(
        lambda q, x, y: local_linear(q, x, y, bandwidth=0.5, ridge=0.3), (leaf(6, 3, 2), equal, y)
    )


def test_points_of_each_query_and_transforms():
    rng = np.random.default_rng(0)
    p, x0, x = (torch.from_numpy(rng.random(s)) for s in ((3, 5), (3, 2), (3, 5, 2)))
    p = p / p.sum(1, keepdim=True)
    ridges = torch.tensor([0.0, 0.1, 2.0], dtype=torch.float64)
    all_at_once = centred_moments(p, x0, x, ridges[:, None, None])
    for i, ridge in enumerate(ridges.tolist()):
        for whole, one in zip(all_at_once, centred_moments(p[[i]], x0[[i]], x[i], ridge)):
            near(whole[[i]], one)
    mapped = torch.vmap(lambda p, q: first_order_weights(p[None], q[None], x[0], 0.1)[0])(p, x0)
    near(mapped, first_order_weights(p, x0, x[0], 0.1))
    f = lambda q: first_order_weights(p, q, x[0], 0.1)
    (g,) = torch.autograd.grad((f(x0.requires_grad_()) * p).sum(), x0)
    near((torch.func.jvp(f, (x0.detach(),), (g,))[1] * p).sum(), (g * g).sum())


# ---- numbers that come as others keep them


@pytest.mark.parametrize("name", DOORS)
def test_masked_and_foreign_arrays(name):
    x, y, x0 = np.linspace(0, 1, 11), np.linspace(0, 2, 11), np.array([0.5, 0.52])
    door = DOORS[name]
    hidden = np.ma.array(2 * x)
    hidden[5] = np.ma.masked
    hidden.data[5] = 1e6
    for argument in ("x", "y")[: 1 if name == "equivalent_kernel" else 2]:
        with pytest.raises(ValueError, match=rf"^{argument}\[5\]=masked: expected"):
            door(**dict(x0=x0, x=x, y=y) | {argument: hidden})
    with pytest.raises(ValueError, match=r"^x0\[1\]=masked"):
        door(x0=np.ma.array(x0, mask=[0, 1]), x=x, y=y)
    if name != "global_linear":
        with pytest.raises(ValueError, match=r"^bandwidth\[0\]=masked"):
            door(x0=x0, x=x, y=y, bandwidth=np.ma.array([0.1], mask=[1]))
    here = door(x0=x0, x=x, y=y)
    for order in ("<f8", ">f8"):
        near(door(x0=x0.astype(order), x=x.astype(order), y=y.astype(order)), here, rtol=0, atol=0)
    near(door(x0=np.ma.array(x0), x=np.ma.array(x), y=np.ma.array(y)), here, rtol=0, atol=0)


@pytest.mark.parametrize("default", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("given", [torch.float32, torch.float64, torch.float16], ids=str)
def test_the_default_dtype_changes_nothing(default, given):
    rng = np.random.default_rng(0)
    x, x0, y = (torch.from_numpy(rng.random(s)).to(given) for s in ((30, 2), (4, 2), (30,)))

    def answers():
        out = [
            fit(x0, x, y, **knobs)
            for knobs in (dict(bandwidth=0.3), dict(bandwidth=[0.3, 2.0]))
            for fit in (local_linear, local_slope, nadaraya_watson)
        ]
        out += [
            local_linear(x0, x, y, bandwidth=3.0, kernel=kernel, ridge=0.01) for kernel in LOG_KERNELS
        ] + [nadaraya_watson(x0, x, y, bandwidth=1e-9)]
        return out + [
            equivalent_kernel(x0, x, bandwidth=0.3),
            global_linear(x0, x, y),
            global_linear(x0, x, y, ridge=0.1),
            torch.tensor(cross_validate(x, y, [0.3]), dtype=torch.float64),
        ]

    before = answers()
    with default_dtype(default):
        after = answers()
    for a, b in zip(before, after):
        assert a.dtype == b.dtype and torch.equal(a, b)


# ---- more that is refused


def test_what_is_no_moment_is_refused():
    p, x0, x = torch.full((2, 3), 1 / 3), torch.zeros(2, 1), torch.zeros(3, 1)
    for door in (centred_moments, first_order_weights):
        for wrong, named in (
            (dict(p=None), "p='NoneType'"),
            (dict(p=p.long()), "p='Tensor'"),
            (dict(x0=[[0.0]]), "x0='list'"),
            (dict(x=np.zeros((3, 1))), "x='ndarray'"),
            (dict(p=p[0]), "(p|x0|x).shape="),
            (dict(x0=x0[:1]), "(p|x0|x).shape="),
            (dict(x=x[:2]), "(p|x0|x).shape="),
            (dict(x=x[:, :0], x0=x0[:, :0]), "(p|x0|x).shape="),
            (dict(x=x.expand(4, 3, 1)), "(p|x0|x).shape="),
            (dict(ridge=-1.0), "ridge=-1"),
            (dict(ridge="a"), "ridge='a'"),
            (dict(ridge=float("nan")), "ridge=nan"),
        ):
            with pytest.raises(ValueError, match=f"^{named}.*: expected"):
                door(**dict(p=p, x0=x0, x=x, ridge=0.0) | wrong)


def test_a_benchmark_of_nothing_is_refused():
    for settings, named in (
        (dict(n=0), "n=0"),
        (dict(m=-1), "m=-1"),
        (dict(d=1.5), "d=1.5"),
        (dict(n="9"), "n='9'"),
        (dict(n=9, m=9, seed=-1), "seed=-1"),
    ):
        with pytest.raises(ValueError, match=f"^{named}"):
            Config(**settings)
    for cfg, named in (("full", "cfg='str'"), (None, "cfg=")):
        with pytest.raises(ValueError, match=f"^{named}"):
            run(cfg)
