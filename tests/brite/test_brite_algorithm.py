"""Chapter 41: the two updates, the theorems on sixty random problems, where they fail, rejection sampling as
the E-step, and what is refused."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lla_course.brite.algorithm import (
    Problem,
    brite,
    coverage,
    divergence,
    gradient,
    missing_information,
    objective,
    psi_update,
    random_problem,
    rejection_update,
    theta_update,
    trace,
)
from lla_course.brite.model import LatentModel, observed

near = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
seeds = st.integers(0, 10**6)
small = lambda seed, **k: random_problem(seed, **dict(prompts=2, rationales=3, answers=3, features=3) | k)


def means(q, f, w):
    return w @ np.einsum("xzy,xzyd->xd", q, f)


@given(seeds, st.sampled_from([0.3, 1.0, 2.0]))
def test_the_m_step_matches_the_mean_features_and_is_the_best(seed, coupling):
    p = small(seed, coupling=coupling)
    q = psi_update(p.start, p.signal)
    new = theta_update(p.start, q, weights=p.weights)
    assert (
        np.abs(
            means(q, new.features, p.weights) - means(np.exp(new.log_joint), new.features, p.weights)
        ).max()
        < 1e-10
    )
    worth = lambda m: float(p.weights @ np.einsum("xzy,xzy->x", q, m.log_joint))
    for shift in np.random.default_rng(seed).normal(size=(5, 3)) * 0.1:
        assert worth(LatentModel.log_linear(new.features, new.theta + shift)) <= worth(new) + 1e-10


@given(seeds)
def test_with_a_ridge_the_gradient_is_the_ridge(seed):
    p = small(seed)
    q = psi_update(p.start, p.signal)
    new = theta_update(p.start, q, weights=p.weights, ridge=0.3)
    near(
        means(q, new.features, p.weights) - means(np.exp(new.log_joint), new.features, p.weights),
        0.3 * new.theta,
        atol=1e-10,
    )


@given(seeds)
def test_the_gradient_is_the_slope(seed):
    p = small(seed)
    g, h = gradient(p.start, p.signal, weights=p.weights), 1e-5
    for d in range(3):
        up, down = (
            objective(
                LatentModel.log_linear(p.start.features, p.start.theta + s * h * np.eye(3)[d]),
                p.signal,
                weights=p.weights,
            )
            for s in (1, -1)
        )
        assert abs((up - down) / (2 * h) - g[d]) < 1e-7
    near(gradient(p.best, p.signal, weights=p.weights), 0, atol=1e-12)


@given(seeds, st.sampled_from([0.3, 1.0, 2.0]))
@settings(max_examples=15)
def test_small_problems_obey_the_theorems(seed, coupling):
    p = small(seed, coupling=coupling)
    check_theorems(trace(brite(p.start, p.signal, rounds=12, weights=p.weights), p))


def check_theorems(k):
    T = np.arange(1, len(k.gap))
    assert np.diff(k.objective).min() >= -1e-10 and k.gap.min() >= -1e-10
    # Theorem D.3
    assert (np.minimum.accumulate(k.moved) <= (k.objective[1:] - k.objective[0]) / T + 1e-10).all()
    # and why it is true
    assert (np.diff(k.objective) >= k.moved - 1e-10).all()
    # one step, up to what star-concavity lacks
    assert (k.one_step >= np.minimum(k.star[:-1], 0) - 1e-9).all()
    if k.star[:-1].min() >= 0:
        assert (k.gap[1:] <= k.bound + 1e-10).all()
    return k.star[:-1].min() > -1e-9, (k.gap[1:] <= k.bound + 1e-10).all()


def test_sixty_problems():
    """Monotone and Theorem D.3 in all; the bound in all that are star-concave; and neither property is the
    rule without exception."""
    seen = []
    for i in range(60):
        p = random_problem(i, coupling=(0.5, 1.0, 2.0)[i % 3])
        seen.append(check_theorems(trace(brite(p.start, p.signal, rounds=80, weights=p.weights), p)))
    star, bound = np.array(seen).T
    assert bound[star].all() and 20 <= star.sum() < 60 and 45 <= bound.sum() < 60


@pytest.mark.parametrize("coupling", [0.5, 1.0])
def test_the_pace_is_the_fraction_of_missing_information(coupling):
    p = random_problem(0, coupling=coupling)
    lam = missing_information(p.best, p.signal, weights=p.weights)
    gap = trace(brite(p.start, p.signal, rounds=110, weights=p.weights), p).gap
    late = int((gap < 1e-9).argmax()) or len(gap) - 1
    assert 0 < lam < 1 and abs(gap[late] / gap[late - 1] - lam**2) < 0.01


def test_every_path_that_arrives_is_geometric_in_the_end():
    arrived = 0
    for i in range(9):
        p = random_problem(i, coupling=(0.5, 1.0, 2.0)[i % 3])
        gap = trace(brite(p.start, p.signal, rounds=210, weights=p.weights), p).gap
        if gap[-1] < 1e-9:
            arrived += 1
            late = int((gap < 1e-9).argmax())
            lam = missing_information(p.best, p.signal, weights=p.weights)
            assert abs(gap[late] / gap[late - 1] - lam**2) < 0.01
    assert arrived >= 6


# ---- the coin and the arms


def coin(start, best):
    f = np.repeat((np.array([-1.0, 1.0])[:, None] * np.array([-1.0, 0, 1]))[None, :, :, None], 3, 0)
    target = LatentModel.log_linear(f, [best])
    return Problem(
        LatentModel.log_linear(f, [start]),
        observed([0, 1, 2], (3, 2, 3)),
        np.exp(target.log_joint[0]).sum(0),
        target,
    )


def walk(p, rounds):
    return trace(brite(p.start, p.signal, rounds=rounds, weights=p.weights), p)


def test_a_saddle_holds_the_writer_and_breaks_the_bound():
    k = walk(coin(0.0, 1.5), 20)
    near(k.gap, k.gap[0])
    assert abs(k.gap[0] - 0.0628) < 1e-4 and abs(k.to_best[0] - 0.643) < 1e-3
    assert k.gap[9] < k.bound[8] and k.gap[12] > k.bound[11] and k.star.min() < -0.05
    assert walk(coin(1e-3, 1.5), 60).gap[-1] < 1e-3


def test_power_laws():
    k = walk(coin(1.0, 0.0), 800)
    assert abs(np.log(k.gap[800] / k.gap[400]) / np.log(2) + 2) < 0.03 and (k.gap[1:] <= k.bound).all()
    R = np.linspace(-1, 0, 1000)[None, None]
    gap = np.array(
        [-objective(m, np.exp(R)) for m in brite(LatentModel.tabular(np.ones_like(R)), np.exp(R), rounds=100)]
    )
    assert abs(np.log(gap[100] / gap[30]) / np.log(100 / 30) + 1) < 0.05


def test_the_printed_index_is_off_by_one():
    f = np.array([1.0, -1, 0])[None, None, :, None]
    c = np.array([0.0, 0, 1])[None, None]
    first, best = LatentModel.log_linear(f, [10.0]), LatentModel.log_linear(f, [0.0])
    assert objective(best, c) - objective(first, c) > 8 * divergence(first, best)
    later = brite(first, c, rounds=3)
    for T in (1, 2, 3):
        assert objective(best, c) - objective(later[T], c) <= divergence(first, best) / T + 1e-12


def test_a_table_learns_its_prompts_by_heart():
    model = LatentModel.tabular(np.random.default_rng(0).random((3, 4, 5)))
    y = observed([1, 4, 0], (3, 4, 5))
    one = brite(model, y, rounds=2)
    near(objective(one[1], y), 0)
    near(np.exp(one[1].log_joint), psi_update(model, y))
    kept = theta_update(model, psi_update(model, y), weights=[1, 0, 1])
    near(kept.log_joint[1], model.log_joint[1])


# ---- sampling


def test_survivors_are_samples_of_the_posterior():
    p = random_problem(3)
    g = np.clip(p.signal * 0.7 + 0.1, 0, 1)
    n = 20_000
    q, w = rejection_update(p.start, g, draws=n, generator=np.random.default_rng(0), keep="all")
    exact, evidence = psi_update(p.start, g), np.exp(p.start.log_evidence(g))
    error = np.sqrt(exact * (1 - exact) / (n * evidence)[:, None, None])
    assert (np.abs(q - exact) <= 5.5 * error + 1e-9).all()
    near(w, evidence / evidence.sum(), atol=0.01)


def test_one_survivor_each_and_none_for_the_uncovered():
    model = LatentModel.tabular(np.array([[[0.5, 0.5]], [[1.0, 1e-9]]]))
    right = observed([1, 1], (2, 1, 2))
    q, w = rejection_update(model, right, draws=20, generator=np.random.default_rng(0))
    assert w.tolist() == [1, 0] and q[0].tolist() == [[0, 1]] and q.sum((1, 2)) == pytest.approx(1)
    after = theta_update(model, q, weights=w)
    near(after.log_joint[1], model.log_joint[1])
    with pytest.raises(ValueError, match="draws=20.*no prompt was ever right"):
        rejection_update(
            LatentModel.tabular([[[1.0, 0.0]]]), right[:1], draws=20, generator=np.random.default_rng(0)
        )


@given(seeds)
def test_weights_by_success_climb_the_mean_probability(seed):
    p = small(seed)
    m, accuracy = p.start, []
    for _ in range(6):
        success = np.exp(m.log_evidence(p.signal))
        accuracy.append(success.mean())
        m = theta_update(m, psi_update(m, p.signal), weights=success, ridge=1e-9)
    assert np.diff(accuracy).min() > -1e-6


@given(st.floats(0, 1), st.integers(0, 1000))
def test_coverage(p, N):
    assert abs(coverage(p, N) - (1 - (1 - p) ** N)) < 1e-12
    assert [round(float(c), 2) for c in coverage([0.1, 0.03, 0.01, 0.003, 0.001], 30)] == [
        0.96,
        0.6,
        0.26,
        0.09,
        0.03,
    ]


# ---- refusals

P = random_problem(0)
TABLE = LatentModel.tabular(np.ones((1, 2, 2)))
Q = psi_update(P.start, P.signal)


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: psi_update(LatentModel.tabular([[[1.0, 0.0]]]), observed([1], (1, 1, 2))), "unreachable"),
        (lambda: theta_update(P.start, Q[:1]), "q.shape"),
        (lambda: theta_update(P.start, 2 * Q), "q=.*sum to one"),
        (lambda: theta_update(P.start, Q, weights=[1.0]), r"weights.shape=\(1,\)"),
        (lambda: theta_update(P.start, Q, weights=-P.weights), "weights=.*>= 0"),
        (lambda: theta_update(P.start, Q, weights=0 * P.weights), "not all zero"),
        (lambda: theta_update(P.start, Q, ridge=-1), "ridge=-1"),
        (lambda: theta_update(P.start, Q, max_steps=1), "max_steps=1: expected enough"),
        (lambda: gradient(TABLE, np.ones((1, 2, 2))), "a log-linear model"),
        (lambda: missing_information(TABLE, np.ones((1, 2, 2))), "a log-linear model"),
        (
            lambda: missing_information(
                LatentModel.log_linear(np.repeat(P.start.features, 2, -1), np.zeros(12)), P.signal
            ),
            "redundant",
        ),
        (lambda: random_problem(0, coupling=0), "coupling=0"),
        (lambda: rejection_update(P.start, P.signal, draws=0, generator=None), "draws=0"),
        (lambda: rejection_update(P.start, P.signal, draws=2.5, generator=None), "draws=2.5"),
        (lambda: rejection_update(P.start, P.signal, draws=3, generator=None, keep="best"), "keep='best'"),
        (lambda: rejection_update(P.start, 2 * P.signal, draws=3, generator=None), "signal=2.0"),
        (lambda: coverage(1.5, 3), "p=1.5"),
        (lambda: coverage(0.5, -1), "draws=-1"),
        (lambda: coverage(float("nan"), 3), "p=nan"),
    ],
)
def test_bad_updates_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


# ---- counts


def test_no_round_is_the_start_and_less_is_refused():
    problem = random_problem(0)
    assert brite(problem.start, problem.signal, rounds=0) == [problem.start]
    for rounds in (-1, 1.5, True):
        with pytest.raises(ValueError, match="^rounds="):
            brite(problem.start, problem.signal, rounds=rounds)
    for steps in (0, -1):
        with pytest.raises(ValueError, match="^max_steps="):
            theta_update(problem.start, problem.start.posterior(problem.signal), max_steps=steps)


def test_coverage_of_nothing_and_of_endless_draws():
    assert coverage([], 3).shape == (0,)
    assert coverage(0.0, 10**6) == 0 and coverage(1.0, 1) == 1 and coverage(0.5, 0) == 0
    with pytest.raises(ValueError, match="^draws="):
        coverage(0.0, np.inf)
