"""Sums over many points: wherever they say that they are sure, they are the long way's to rounding."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad

from lla_course.regression import kernel as kernel_module
from lla_course.regression import sums
from lla_course.regression.kernel import (
    LOG_KERNELS,
    block_weights,
    cross_validate,
    kernel_weights,
    leave_one_out,
    nadaraya_watson,
    smoother_matrix,
)
from lla_course.regression.local_linear import (
    equivalent_kernel,
    first_order_weights,
    local_linear,
    local_slope,
)
from lla_course.regression.sums import KERNELS, Sums, kernel_sums, line_from, reach

DOUBLE = torch.float64


def number(value):
    return torch.tensor([value], dtype=DOUBLE)


def sample(n, m, d, seed=0, scatter=0.1):
    g = torch.Generator().manual_seed(seed)
    x, x0 = (torch.rand(k, d, generator=g, dtype=DOUBLE) for k in (n, m))
    y = torch.sin(6 * x).sum(1, keepdim=True) + scatter * torch.randn(n, 1, generator=g, dtype=DOUBLE)
    return x0 * 1.1 - 0.05, x, torch.cat([y, x[:, :1] ** 2 + 100], 1)


def long_way(x0, x, y, h, kernel, ridge):
    p = block_weights(x0, x, h, kernel)
    return p @ y, first_order_weights(p, x0, x, ridge) @ y


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernels_are_those_of_chapter_10(kernel):
    r2 = torch.linspace(0, 1.5, 100, dtype=DOUBLE)
    wanted = LOG_KERNELS[kernel](r2).exp()
    torch.testing.assert_close(KERNELS[kernel](r2.clone()).to(DOUBLE), wanted, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("d", "h"), [(1, 0.004), (1, 0.3), (2, 0.1), (3, 0.3)])
def test_they_are_the_long_way(d, h, kernel, ridge):
    x0, x, y = sample(2000, 150, d)
    found = kernel_sums(x0, x, y, number(h), kernel)
    height, _, own = line_from(found, ridge, number(h))
    q = x0[found.sure]
    assert found.sure.double().mean() > 0.7
    average, line = long_way(q, x, y, number(h), kernel, ridge)
    torch.testing.assert_close(found.mean[found.sure], average, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(height[found.sure], line, rtol=1e-11, atol=1e-11)
    assert (own[found.sure] > 0).all()


def test_many_queries_are_read_off_a_few_nodes(monkeypatch):
    x0, x, y = sample(500, 4000, 1)
    asked = []
    add_up = sums._add_up
    monkeypatch.setattr(sums, "_add_up", lambda q, *rest: (asked.append(len(q)), add_up(q, *rest))[1])
    found = kernel_sums(x0, x, y, number(0.2), "gaussian")
    assert sum(asked) <= sums.NODES * 7 and found.sure.all()
    average, line = long_way(x0, x, y, number(0.2), "gaussian", 0.0)
    torch.testing.assert_close(found.mean, average, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(line_from(found, 0.0, number(0.2))[0], line, rtol=1e-12, atol=1e-12)


def test_a_window_leaves_most_points_out(monkeypatch):
    x0, x, y = sample(5000, 2000, 2)
    asked = []
    add_up = sums._add_up
    monkeypatch.setattr(
        sums, "_add_up", lambda q, x, *rest: (asked.append(len(q) * len(x)), add_up(q, x, *rest))[1]
    )
    kernel_sums(x0, x, y, number(0.01), "gaussian")
    assert sum(asked) < len(x0) * len(x) / 4


@pytest.mark.parametrize("loud", [1e3, 1e12, 1e40, 1e250])
@pytest.mark.parametrize("away", [8, 12, 17, 30])
def test_a_loud_response_is_heard_from_far_away(loud, away):
    x0, x, y = sample(3000, 100, 1)
    x0 = x0.clamp(0.0, 0.01)
    y[(x[:, 0] - 0.01 * away).abs().argmin()] = loud
    found = kernel_sums(x0, x, y, number(0.01), "gaussian")
    average, line = long_way(x0, x, y, number(0.01), "gaussian", 0.0)
    size = average.abs() + 1
    assert found.sure.all()
    assert ((found.mean - average).abs() / size).max() < 1e-11
    assert ((line_from(found, 0.0, number(0.01))[0] - line).abs() / (line.abs() + size)).max() < 1e-9


def test_a_response_that_drowns_all_others_needs_every_point():
    y = torch.zeros(9, 1, dtype=DOUBLE)
    y[3] = 1
    assert reach("gaussian", y) == math.inf
    assert reach("gaussian", torch.zeros(9, 1, dtype=DOUBLE)) < 12
    assert reach("boxcar", y) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2, 3]),
    st.sampled_from(sorted(KERNELS)),
    st.floats(-5, 1),
    st.sampled_from(["even", "clusters", "ties", "one", "plane", "far origin"]),
)
def test_wherever_they_are_sure_they_are_right(seed, d, kernel, log_h, design):
    x0, x, y = sample(120, 80, d, seed)
    if design == "clusters":
        x = x / 50 + torch.arange(120, dtype=DOUBLE)[:, None] % 3 / 2
    elif design == "ties":
        x = (x * 5).round() / 5
    elif design == "one":
        x, y = x[:1], y[:1]
    elif design == "plane":
        x = x[:, :1].expand(-1, d).clone()
    elif design == "far origin":
        x0, x = x0 + 2**20, x + 2**20
    h = number(10.0**log_h)
    found = kernel_sums(x0, x, y, h, kernel)
    q = x0[found.sure]
    if len(q):
        average, line = long_way(q, x, y, h, kernel, 0.0)
        torch.testing.assert_close(found.mean[found.sure], average, rtol=1e-9, atol=1e-9)
        height = line_from(found, 0.0, h)[0][found.sure]
        torch.testing.assert_close(height, line, rtol=1e-8, atol=1e-8)
    with_mean_only = kernel_sums(x0, x, y, h, kernel, line=False)
    q = x0[with_mean_only.sure]
    if len(q):
        average = block_weights(q, x, h, kernel) @ y
        torch.testing.assert_close(with_mean_only.mean[with_mean_only.sure], average, rtol=1e-9, atol=1e-9)


def test_what_they_are_not_sure_of():
    x = torch.tensor([[0.0], [0.0], [1.0]], dtype=DOUBLE)
    y = torch.ones(3, 1, dtype=DOUBLE)
    line = kernel_sums(number(0.0)[:, None], x, y, number(0.01), "gaussian")
    average = kernel_sums(number(0.0)[:, None], x, y, number(0.01), "gaussian", line=False)
    assert not line.sure.any() and average.sure.all(), "two points at one place: a mean, and no slope"
    for kernel in KERNELS:
        assert not kernel_sums(number(5.0)[:, None], x, y, number(0.1), kernel, line=False).sure.any()


def test_no_query_and_a_bandwidth_for_each_coordinate():
    x0, x, y = sample(3000, 100, 2)
    assert isinstance(kernel_sums(x0[:0], x, y, number(0.1), "gaussian"), Sums)
    h = torch.tensor([0.05, 0.4], dtype=DOUBLE)
    found = kernel_sums(x0, x, y, h, "gaussian")
    average, line = long_way(x0, x, y, h, "gaussian", 0.0)
    torch.testing.assert_close(found.mean, average, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(line_from(found, 0.0, h)[0], line, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (dict(kernel="cosine"), "kernel='cosine'"),
        (dict(x0=torch.ones(3)), "x0"),
        (dict(x=torch.ones(4, 2)), "x.shape"),
        (dict(x=torch.ones(0, 1)), "x.shape"),
        (dict(y=torch.ones(3, 1)), "y.shape"),
        (dict(y=[1.0]), "y"),
        (dict(bandwidth=torch.ones(2)), "bandwidth.shape"),
    ],
)
def test_bad_input_is_named(arguments, named):
    plain = dict(x0=torch.ones(3, 1), x=torch.ones(4, 1), y=torch.ones(4, 1), bandwidth=torch.ones(1))
    with pytest.raises(ValueError, match=named):
        kernel_sums(**(plain | dict(kernel="gaussian") | arguments))


# ---- what they are for: the functions of chapters 10 and 11, when there are many pairs


def test_a_function_of_many_points_is_the_function_of_few():
    "The same queries, all at once by sums and a few at a time by weights, hard ones among them."
    x0, x, y = sample(4000, 300, 1)
    x0[:3] = torch.tensor([[40.0], [-3.0], [1.04]], dtype=DOUBLE)
    for answer in (
        lambda q: nadaraya_watson(q, x, y, bandwidth=0.03),
        lambda q: local_linear(q, x, y, bandwidth=0.03),
        lambda q: local_linear(q, x, y, bandwidth=0.03, ridge=1e-3),
        lambda q: local_slope(q, x, y[:, 0], bandwidth=0.03),
    ):
        few = torch.cat([answer(q) for q in x0.split(30)])
        assert (answer(x0) - few).abs().max() < 1e-9 * (1 + few.abs().max())


def test_a_compact_kernel_without_a_neighbour_is_refused_among_many():
    x0, x, y = sample(4000, 300, 1)
    x0 = x0.clamp(0, 1)
    x0[7] = 3.0
    for call in (nadaraya_watson, local_linear):
        with pytest.raises(ValueError, match="x0=3.0: expected a design point within"):
            call(x0, x, y, bandwidth=0.03, kernel="boxcar")


def test_derivatives_come_from_weights(monkeypatch):
    x0, x, y = sample(2000, 200, 1)
    monkeypatch.setattr(sums, "_add_up", lambda *_: pytest.fail("sums have no derivatives"))
    y.requires_grad_()
    for call in (nadaraya_watson, local_linear):
        call(x0, x, y, bandwidth=0.05).sum().backward()
    with forward_ad.dual_level():
        twice = forward_ad.make_dual(x0, torch.ones_like(x0))
        out = nadaraya_watson(twice, x, y.detach(), bandwidth=0.05)
        assert forward_ad.unpack_dual(out).tangent is not None
    moved = torch.func.jvp(lambda q: nadaraya_watson(q, x, y.detach(), bandwidth=0.05), (x0,), (x0 * 0 + 1,))
    assert moved[1].abs().sum() > 0


@pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov"])
@pytest.mark.parametrize("weights", [kernel_weights, equivalent_kernel])
def test_cross_validation_needs_no_matrix(weights, kernel, monkeypatch):
    _, x, y = sample(600, 1, 1)
    bandwidths = [0.05, 0.2, 5.0]
    wanted = [
        leave_one_out(smoother_matrix(x, weights=weights, bandwidth=h, kernel=kernel), y) for h in bandwidths
    ]
    monkeypatch.setattr(kernel_module, "smoother_matrix", lambda *_, **__: pytest.fail("a matrix was made"))
    scores = cross_validate(x, y, bandwidths, weights=weights, kernel=kernel)
    assert scores == pytest.approx(wanted, rel=1e-10)


def test_cross_validation_falls_back_on_the_matrix():
    _, x, y = sample(600, 1, 1)
    x[5] = 30.0  # alone: its own only neighbour
    assert cross_validate(x, y, [0.01], kernel="boxcar") == [math.inf]
    x[5] = x[6] = 3.0  # a pair at one place: a line through it has no slope
    (score,) = cross_validate(x, y, [0.1], weights=equivalent_kernel)
    wanted = leave_one_out(smoother_matrix(x, weights=equivalent_kernel, bandwidth=0.1), y)
    assert score == pytest.approx(wanted, rel=1e-12)


def test_memory_does_not_grow_with_the_number_of_pairs():
    "A hundred thousand points and two thousand queries would be 1.6 GB of weights."
    script = """if True:
        import resource, torch
        from lla_course.regression.kernel import nadaraya_watson
        from lla_course.regression.local_linear import local_linear
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for d in (1, 3):
            x, x0 = torch.rand(100_000, d).double(), torch.rand(2000, d).double()
            local_linear(x0[:600], x[:600], x[:600, 0], bandwidth=0.2)
            before = peak()
            for call in (nadaraya_watson, local_linear):
                call(x0, x, x[:, 0], bandwidth=0.02 * d)
            print((peak() - before) / 1024)
        """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(float(mb) < 200 for mb in done.stdout.split()), done.stdout


@pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov"])
def test_the_usual_device_has_no_say(kernel):
    g = torch.Generator().manual_seed(0)
    x, x0 = torch.rand(3000, generator=g), torch.linspace(0.1, 0.9, 500)
    few = [0.2, 0.5], [0.0, 0.3, 0.7, 1.0], [0.0, 1.0, 1.0, 2.0]

    def answers():
        many = [f(x0, x, x.sin(), bandwidth=0.1, kernel=kernel) for f in (local_linear, nadaraya_watson)]
        return many + [f(*few, bandwidth=0.5, kernel=kernel) for f in (local_linear, nadaraya_watson)]

    want = answers()
    with torch.device("meta"):
        assert all((a == b).all() for a, b in zip(answers(), want))
