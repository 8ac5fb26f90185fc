"The solver of chapter 22: its products against the matrix, its steps, and when it may stop."

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from helpers import relative_rms
from lla_course.attention.conjugate_gradient import (
    KINDS,
    centred_dot,
    conjugate_gradient,
    covariance_times,
    lla_systems,
    make_heads,
)

near = dict(rtol=1e-9, atol=1e-9)
FIRST, ROWS, D = 448, 64, 32


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(kind, seed=1):
    return make_heads(kind, FIRST + ROWS, D, torch.Generator().manual_seed(seed))


def tile(q, k, **knobs):
    return lla_systems(q[FIRST:], k, first=FIRST, **knobs)


def solved(systems, **knobs):
    return conjugate_gradient(systems.product, systems.rhs, **dict(dict(tol=1e-3, max_steps=200), **knobs))


def directly(systems, ridge=0.1):
    "The solutions by elimination, with the matrices written down."
    A = systems.covariance() + ridge * torch.eye(systems.k.shape[-1], dtype=torch.float64)
    return torch.linalg.solve(A, systems.rhs)


# ---- the product


@pytest.mark.parametrize("kind", KINDS)
def test_the_product_without_a_matrix_is_the_one_with_it(kind):
    q, k, _ = heads(kind)
    s, x = tile(q, k, ridge=0.3), normal(ROWS, D)
    cov = torch.stack([torch.cov(s.k.T, correction=0, aweights=p) for p in s.p])
    torch.testing.assert_close(s.covariance(), cov, **near)
    torch.testing.assert_close(s.product(x), (cov @ x[..., None])[..., 0] + 0.3 * x, **near)


def test_a_product_is_two_products_of_tiles_and_makes_no_matrix():
    q, k, _ = heads("isotropic")
    s = tile(q, k)
    with FlopCounterMode(display=False) as counter:
        covariance_times(s.p, s.k, s.kbar, s.rhs)
    assert counter.get_total_flops() == 2 * 2 * ROWS * len(s.k) * D


# ---- how many steps


@pytest.mark.parametrize("rank", [1, 2, 4, 8])
def test_steps_are_the_directions_in_which_keys_differ_and_one_more(rank):
    k, q = normal(40, rank) @ normal(rank, D, seed=1), normal(3, D, seed=2)
    s = lla_systems(q, k, first=None, scale=0.05)
    found = solved(s, tol=1e-9)
    assert found.steps.tolist() == [rank + 1] * 3
    assert relative_rms(found.x, directly(s)) < 1e-7
    assert solved(s, tol=0.0, max_steps=rank).residuals[-1].min() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_steps_grow_as_the_ridge_shrinks(kind):
    q, k, _ = heads(kind)
    steps = [solved(tile(q, k, ridge=ridge)).steps.double().mean() for ridge in (10.0, 1.0, 0.1, 0.01)]
    assert all(b > a + 0.3 for a, b in zip(steps, steps[1:])) and steps[-1] > 2 * steps[0]


def test_a_row_stops_for_itself():
    q, k, _ = heads("sharp")
    s = tile(q, k)
    together = solved(s)
    assert together.steps.unique().numel() > 4
    residual = (s.rhs - s.product(together.x)).norm(dim=-1) / s.rhs.norm(dim=-1)
    assert (residual <= 1.01e-3).all()
    for i in (0, 20, ROWS - 1):
        alone = solved(lla_systems(q[FIRST + i : FIRST + i + 1], k, first=FIRST + i))
        assert alone.steps.item() == together.steps[i]
        torch.testing.assert_close(alone.x[0], together.x[i], rtol=1e-6, atol=1e-9)


def test_nothing_to_solve_takes_no_step():
    found = conjugate_gradient(lambda x: 2 * x, torch.zeros(3, 4), tol=1e-3, max_steps=9)
    assert found.steps.tolist() == [0, 0, 0] and not found.x.any()


# ---- when it may stop


@pytest.mark.parametrize("kind", KINDS)
def test_zero_steps_are_softmax_attention_and_weights_sum_to_one_for_any_solution(kind):
    q, k, v = heads(kind)
    s = tile(q, k)
    none = solved(s, max_steps=0)
    assert not none.x.any() and not none.steps.any()
    softmax = F.scaled_dot_product_attention(q, k, v, is_causal=True)[FIRST:]
    torch.testing.assert_close(s.output(none.x, v), softmax, **near)
    torch.testing.assert_close(
        s.output(normal(ROWS, D), torch.ones_like(k)), torch.ones(ROWS, D).double(), **near
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_residual_of_a_hundredth_leaves_the_error_of_rounding_to_16_bits(kind):
    q, k, v = heads(kind)
    s, low = tile(q, k), lambda t: t.bfloat16().double()
    exact = directly(s)
    truth = s.output(exact, v)
    weights = s.p * (1 + centred_dot(exact, s.k, s.kbar))
    rounding = relative_rms(low(low(weights) @ low(v)), truth)
    error = {tol: relative_rms(s.output(solved(s, tol=tol).x, v), truth) for tol in (0.1, 0.01, 0.001)}
    assert error[0.1] > 8 * rounding and 0.5 * rounding < error[0.01] < 3 * rounding
    assert error[0.001] < rounding / 3
    assert all(0.2 < error[tol] / tol < 1.5 for tol in error), "proportional to the residual"


# ---- what it refuses


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: conjugate_gradient(lambda x: x, torch.ones(2).half(), tol=0.1, max_steps=3), "rhs"),
        (lambda: conjugate_gradient(lambda x: x, torch.ones(()), tol=0.1, max_steps=3), "rhs.shape"),
        (lambda: conjugate_gradient(lambda x: x, torch.ones(2), tol=-1, max_steps=3), "tol=-1"),
        (lambda: conjugate_gradient(lambda x: x, torch.ones(2), tol=0.1, max_steps=-3), "max_steps=-3"),
        (lambda: conjugate_gradient("A", torch.ones(2), tol=0.1, max_steps=3), "product='str'"),
        (lambda: make_heads("round", 4, 4, torch.Generator()), "kind='round'"),
        (lambda: lla_systems(normal(3, 2), normal(3, 2), first=1), "first=1"),
        (lambda: lla_systems(normal(3, 2), normal(3, 4)), "k.shape"),
    ],
)
def test_bad_settings_are_named(call, named):
    with pytest.raises(ValueError, match=f"^{named}.*: expected"):
        call()
