"""Chapter 40: posterior and bound, soft value iteration against the posterior and against brute force,
special cases, and what is refused."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lla_course.brite.model import (
    LatentModel,
    TokenTree,
    observed,
    rewarded,
    shaped_rewards,
    soft_value_iteration,
    tree_log_probs,
    tree_policy,
)

near = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
NAN = float("nan")


@st.composite
def problems(draw):
    """A model, table or log-linear, and a signal under which every prompt has a good outcome; zeros are
    frequent in both."""
    X, Z, Y = (draw(st.integers(1, 4)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    hole = (rng.random((X, Z, Y)) < 0.3) & (np.arange(Z * Y).reshape(Z, Y) > 0)
    if draw(st.booleans()):
        model = LatentModel.log_linear(
            draw(st.sampled_from([0.1, 1, 30])) * rng.normal(size=(X, Z, Y, 3)), rng.normal(size=3)
        )
    else:
        model = LatentModel.tabular(np.where(hole, 0, rng.random((X, Z, Y)) + 0.01))
    signal = np.where(
        (rng.random((X, Z, Y)) < 0.4) & (np.arange(Z * Y).reshape(Z, Y) > 0),
        0,
        1 - 0.9 * rng.random((X, Z, Y)),
    )
    return model, signal, rng


def somewhere(model, signal, rng):
    "A distribution that is positive only where the posterior is."
    q = rng.random(signal.shape) * (model.posterior(signal) > 0)
    return q / q.sum((1, 2), keepdims=True)


@given(problems())
def test_the_posterior_sums_to_one_and_is_bayes_rule(problem):
    model, signal, _ = problem
    near(np.exp(model.log_joint).sum((1, 2)), 1)
    post = model.posterior(signal)
    near(post.sum((1, 2)), 1)
    assert (post >= 0).all()
    by_hand = np.exp(model.log_joint) * signal
    near(np.log(by_hand.sum((1, 2))), model.log_evidence(signal))
    near(post, by_hand / by_hand.sum((1, 2), keepdims=True), rtol=1e-8)


@given(problems())
def test_the_bound_holds_and_is_tight_at_the_posterior_only(problem):
    model, signal, rng = problem
    log_p, post, q = model.log_evidence(signal), model.posterior(signal), somewhere(*problem)
    near(model.elbo(post, signal), log_p, atol=1e-9)
    assert (model.elbo(q, signal) <= log_p + 1e-9).all()
    ratio = np.where(q > 0, q, 1) / np.where(q > 0, post, 1)
    near(log_p - model.elbo(q, signal), (q * np.log(ratio)).sum((1, 2)), rtol=1e-7, atol=1e-9)


@given(problems())
def test_a_distribution_that_leaves_the_good_set_has_no_finite_bound(problem):
    model, signal, _ = problem
    post = model.posterior(signal)
    for x, z, y in np.argwhere(post == 0)[:3]:
        q = 0.5 * post
        q[x, z, y] += 0.5
        q /= q.sum((1, 2), keepdims=True)
        if signal[x, z, y] == 0:
            assert model.elbo(q, signal)[x] == -np.inf


@given(problems(), st.floats(0.05, 5))
def test_a_reward_is_regularised_by_the_reference(problem, beta):
    model, _, rng = problem
    R = rng.normal(size=model.logits.shape)
    R -= R.max((1, 2), keepdims=True)
    q = somewhere(model, np.ones_like(R), rng)
    kl = (q * (np.log(np.where(q > 0, q, 1)) - np.where(q > 0, model.log_joint, 0))).sum((1, 2))
    near(model.elbo(q, rewarded(R, beta=beta)), (q * R).sum((1, 2)) / beta - kl, rtol=1e-8, atol=1e-9)
    near(rewarded(R + 7, beta=beta), rewarded(R, beta=beta))


# ---- the token tree


@st.composite
def trees(draw):
    "A tree, a random writer and a random bonus for each rationale."
    V, depth = draw(st.integers(1, 3)), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    tree = TokenTree(tuple("abc"[:V]), depth)
    return (
        tree,
        tree_policy(tree, lambda z: rng.dirichlet(np.ones(V + 1))),
        rng.normal(size=len(tree.rationales)) * draw(st.sampled_from([0.1, 1, 20])),
    )


@given(trees())
def test_the_soft_optimum_is_the_posterior(problem):
    tree, policy, bonus = problem
    bonus = bonus - bonus.max()
    values, best = soft_value_iteration(shaped_rewards(policy, bonus), beta=1.0)
    model = LatentModel.tabular(np.exp(tree_log_probs(policy))[None, :, None])
    signal = np.exp(bonus)[None, :, None]
    near(np.exp(tree_log_probs(best)), model.posterior(signal)[0, :, 0], atol=1e-12)
    near(values[0][0], model.log_evidence(signal)[0], atol=1e-12)


@given(trees(), st.floats(0.1, 4))
def test_every_temperature_is_a_power_and_no_policy_does_better(problem, beta):
    tree, policy, bonus = problem
    total = tree_log_probs(policy) + bonus
    values, best = soft_value_iteration(shaped_rewards(policy, bonus), beta=beta)
    log_q = tree_log_probs(best)
    power = np.exp((total - total.max()) / beta)
    near(np.exp(log_q), power / power.sum(), rtol=1e-7, atol=1e-12)
    worth = lambda log_q: float(np.exp(log_q) @ np.where(np.exp(log_q) > 0, total - beta * log_q, 0))
    near(worth(log_q), values[0][0], rtol=1e-8, atol=1e-9)
    assert worth(tree_log_probs(policy)) <= values[0][0] + 1e-9
    for level in best:
        near(np.exp(level).sum(1), 1)


@given(trees())
def test_rationales_are_listed_as_their_probabilities_are(problem):
    tree, policy, _ = problem
    near(np.exp(tree_log_probs(policy)).sum(), 1)
    order = {z: i for h in range(tree.depth + 1) for i, z in enumerate(tree.beginnings(h))}
    for z, log_p in zip(tree.rationales, tree_log_probs(policy)):
        near(sum(policy[h][order[z[:h]]][a] for h, a in enumerate(z)) + policy[len(z)][order[z]][-1], log_p)
    assert [len(z) for z in tree.rationales] == tree.lengths.tolist()


def test_forbidden_branches_are_avoided_and_stay_finite():
    tree = TokenTree(("a", "b"), 3)
    policy = tree_policy(tree, lambda z: [0.4, 0.4, 0.2])
    bonus = np.array([0.0 if "b" not in tree.text(z) else -np.inf for z in tree.rationales])
    values, best = soft_value_iteration(shaped_rewards(policy, bonus), beta=1.0)
    q = np.exp(tree_log_probs(best))
    assert np.isfinite(q).all() and q.sum() == pytest.approx(1) and q[np.isinf(bonus)].sum() == 0
    assert all(not np.isnan(level).any() for level in best) and values[0][0] == pytest.approx(
        np.log(np.exp(tree_log_probs(policy))[np.isfinite(bonus)].sum())
    )


def test_a_low_temperature_finds_the_mode_and_a_high_one_forgets():
    tree = TokenTree(("a", "b"), 3)
    policy = tree_policy(tree, lambda z: [0.5, 0.2, 0.3])
    cold, hot = (np.exp(tree_log_probs(soft_value_iteration(policy, beta=b)[1])) for b in (0.01, 1e6))
    assert cold.max() > 0.999 and cold.argmax() == tree_log_probs(policy).argmax()
    near(hot, 1 / len(hot), rtol=1e-4)


def test_text_of_a_rationale():
    tree = TokenTree(("+1", "×2"), 2)
    assert [tree.text(z) for z in tree.rationales[:4]] == ["(nothing)", "+1", "×2", "+1 +1"]


# ---- refusals

MODEL = LatentModel.tabular(np.full((2, 2, 3), 1 / 6))
TREE = TokenTree(("a",), 2)
HABIT = tree_policy(TREE, lambda z: [0.5, 0.5])


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: LatentModel.tabular(np.ones((2, 3))), r"probabilities.shape=\(2, 3\): expected \[X, Z, Y\]"),
        (lambda: LatentModel.tabular(-np.ones((1, 1, 1))), "probabilities=-1.0"),
        (lambda: LatentModel.tabular(np.zeros((1, 2, 2))), "not all zero"),
        (lambda: LatentModel.tabular(np.full((1, 2, 2), NAN)), "probabilities"),
        (lambda: LatentModel.log_linear(np.ones((1, 2, 3)), [1.0]), "features.shape"),
        (lambda: LatentModel.log_linear(np.ones((1, 2, 3, 2)), [1.0]), r"theta.shape=\(1,\): expected \[2\]"),
        (lambda: LatentModel.log_linear(np.ones((1, 2, 3, 1)), [NAN]), "finite"),
        (lambda: LatentModel.log_linear(np.ones((1, 0, 3, 1)), [1.0]), "nothing empty"),
        (lambda: MODEL.posterior(np.zeros((2, 2, 3))), "prompt 0 has P.good. = 0.*unreachable"),
        (lambda: MODEL.posterior(np.array([1.0, 0.0])[:, None, None]), "prompt 1 has"),
        (lambda: MODEL.posterior(np.full((2, 2, 3), 2.0)), "signal=2.0: expected probabilities"),
        (lambda: MODEL.posterior(np.full((2, 2, 3), NAN)), "signal=nan"),
        (lambda: MODEL.log_evidence(np.ones(4)), r"signal.shape=\(4,\)"),
        (lambda: MODEL.elbo(np.ones((2, 2, 3)), 1.0), "q=.*sum to one"),
        (lambda: MODEL.elbo(np.ones(3), 1.0), "q.shape"),
        (lambda: MODEL.elbo(np.full((2, 2, 3), NAN), 1.0), "q="),
        (lambda: observed([0, 3], (2, 2, 3)), "answers=.*from 0 to 2"),
        (lambda: observed([0], (2, 2, 3)), "2 whole numbers"),
        (lambda: observed([0.0, 1.0], (2, 2, 3)), "whole numbers"),
        (lambda: observed([-1, 0], (2, 2, 3)), "from 0"),
        (lambda: rewarded(np.zeros((1, 1, 1)), beta=0), "beta=0"),
        (lambda: rewarded(np.zeros((1, 1, 1)), beta=-1.0), "beta=-1.0"),
        (lambda: rewarded([1.0], beta=1.0), "reward"),
        (lambda: rewarded(np.full((1, 1, 1), NAN), beta=1.0), "reward"),
        (lambda: soft_value_iteration(HABIT, beta=0.0), "beta=0.0"),
        (lambda: soft_value_iteration(HABIT, beta=NAN), "beta=nan"),
        (lambda: soft_value_iteration(shaped_rewards(HABIT, [-np.inf] * 3), beta=1.0), "unreachable"),
        (lambda: shaped_rewards(HABIT, [0.0]), r"bonus.shape=\(1,\): expected \[3\]"),
        (lambda: shaped_rewards(HABIT, [NAN] * 3), "bonus"),
        (lambda: tree_policy(TREE, lambda z: [0.5, 0.6]), "next_token, level 0=.*sum to one"),
        (lambda: tree_policy(TREE, lambda z: [0.5, 0.2, 0.3]), "2 probabilities"),
        (lambda: tree_policy(TREE, lambda z: [1.5, -0.5]), "next_token"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
