"Chapter 12: exact bias and variance against simulation, the product grid against the long way, and the rates."
import math

import numpy as np, pytest, torch

from lla_course.regression.bias_variance import (Config, axis_weights, bias_variance, cells, decade_slopes, graded_nodes, grid_bias_variance,
                                                 integrated_error, monte_carlo, oracle, run)
from lla_course.regression.kernel import kernel_weights
from lla_course.regression.local_linear import equivalent_kernel, global_linear

wave = lambda x: torch.sin(2 * math.pi * x)
even = lambda n: (torch.arange(n, dtype=torch.float64) + .5) / n
ESTIMATORS = {"local_constant": lambda q, x: kernel_weights(q, x, bandwidth=.1),
              "local_linear": lambda q, x: equivalent_kernel(q, x, bandwidth=.1),
              "ridge": lambda q, x: equivalent_kernel(q, x, bandwidth=.1, ridge=.005, kernel="tricube")}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_exact_is_monte_carlo_within_four_standard_errors(name):
    x, x0, knobs = even(40) ** 1.5, torch.linspace(0, 1, 21, dtype=torch.float64), dict(noise=.4)
    bias, variance = bias_variance(ESTIMATORS[name], x0, x, wave, **knobs)
    b, b_se, v, v_se = monte_carlo(ESTIMATORS[name], x0, x, wave, draws=4000, generator=torch.Generator().manual_seed(3), **knobs)
    assert ((b - bias).abs() <= 4 * b_se).all() and ((v - variance).abs() <= 4 * v_se).all()
    wrong_bias, wrong_variance = bias_variance(ESTIMATORS[name], x0, x, lambda t: 1.1 * wave(t), noise=.44)
    assert ((b - wrong_bias).abs() > 4 * b_se).any() and ((v - wrong_variance).abs() > 4 * v_se).any()   # the test has the power to fail


def test_the_line_has_no_bias_on_affine_truths_wherever_the_design_is():
    x, x0 = even(50) ** 2, torch.linspace(0, 1, 11, dtype=torch.float64)
    affine = lambda t: 3 - 2 * t
    assert bias_variance(ESTIMATORS["local_linear"], x0, x, affine, noise=1)[0].abs().max() < 1e-12
    assert bias_variance(ESTIMATORS["local_constant"], x0, x, affine, noise=1)[0].abs().max() > .05


def test_noise_scales_the_variance_only():
    x, x0 = even(30), even(7)
    b1, v1 = bias_variance(ESTIMATORS["local_linear"], x0, x, wave, noise=.5)
    b2, v2 = bias_variance(ESTIMATORS["local_linear"], x0, x, wave, noise=1.5)
    torch.testing.assert_close(b1, b2); torch.testing.assert_close(9 * v1, v2)
    assert bias_variance(ESTIMATORS["local_linear"], x0, x, wave, noise=0)[1].max() == 0


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("linear", [False, True])
def test_product_grid_equals_the_long_way(d, linear):
    axis, ask = even(7), torch.tensor([0., .31, 1.], dtype=torch.float64)
    points = lambda a: torch.cartesian_prod(*[a] * d).view(-1, d)
    f = lambda p: torch.sin(3 * p).sum(-1) + p.prod(-1)
    weights = (equivalent_kernel if linear else kernel_weights)
    slow = bias_variance(lambda q, x: weights(q, x, bandwidth=.2), points(ask), points(axis), f, noise=.7)
    quick = grid_bias_variance(ask, axis, f(points(axis)).view([7] * d), f(points(ask)).view([3] * d), bandwidth=.2, linear=linear, noise=.7)
    for a, b in zip(quick, slow): torch.testing.assert_close(a.flatten(), b, rtol=1e-9, atol=1e-12)


def test_graded_nodes_integrate_polynomials_and_boundary_layers():
    nodes, w = graded_nodes()
    for k in range(8): assert abs(float((nodes**k * w).sum()) - 1 / (k + 1)) < 1e-12
    for h in (.1, .01, .001): assert abs(float((torch.exp(-nodes / h) * w).sum()) / (h * (1 - math.exp(-1 / h))) - 1) < 1e-4
    assert (nodes > 0).all() and (nodes < 1).all() and (w > 0).all()


def test_oracle_beats_its_neighbours_and_the_global_line_is_the_limit():
    c = Config("local_linear", 1, (200,)); h, *parts = oracle(200, c)
    assert all(sum(integrated_error(h * factor, 200, c)) > sum(parts) for factor in (.8, 1.25))
    x, q = even(50), torch.tensor([0., .2, .9], dtype=torch.float64)
    p, tilt = axis_weights(q, x, 1e6, True)
    torch.testing.assert_close((p * (1 + tilt)) @ wave(x), global_linear(q, x, wave(x)), rtol=1e-6, atol=1e-8)


def test_decade_slopes_of_a_power_law():
    n = [10 ** (k / 4) for k in range(8, 21)]
    found = decade_slopes(n, [5 * v ** -.8 for v in n])
    assert len(found) == 3 and all(abs(s + .8) < 1e-12 for _, s in found) and [round(math.log10(v)) for v, _ in found] == [3, 4, 5]
    assert decade_slopes([100], [1.]) == []


@pytest.mark.parametrize("d, tolerance", [(1, .03), (2, .05)])
def test_measured_rates(d, tolerance):
    "The chapter's own claim: over the last decade within the tolerance of theory, the line steeper by at least half the theoretical gap."
    last = {}
    for name in ("local_constant", "local_linear", "global_linear"):
        r = run(cells("fast")[f"d{d}_{name}"])
        last[name] = decade_slopes(r["n"], np.add(r["squared_bias"], r["variance"]))[-1][1]
    average, line = -3 / (d + 3), -4 / (d + 4)
    assert abs(last["local_constant"] - average) <= tolerance and abs(last["local_linear"] - line) <= tolerance
    assert last["local_constant"] - last["local_linear"] >= (average - line) / 2
    assert abs(last["global_linear"]) < .001


def test_variance_at_the_edge():
    x, ends = even(4000), torch.tensor([0., .5], dtype=torch.float64)
    ratio = lambda w: (lambda v: float(v[0] / v[1]))(bias_variance(w, ends, x, wave, noise=1)[1])
    assert abs(ratio(lambda q, x: kernel_weights(q, x, bandwidth=.08)) - 2) < .01
    assert 6 < ratio(lambda q, x: equivalent_kernel(q, x, bandwidth=.08)) < 6.6


def test_bad_input():
    with pytest.raises(ValueError, match="noise=-1"): bias_variance(ESTIMATORS["local_linear"], even(3), even(9), wave, noise=-1)
    with pytest.raises(ValueError, match="draws=1"):
        monte_carlo(ESTIMATORS["local_linear"], even(3), even(9), wave, noise=1, draws=1, generator=torch.Generator())
