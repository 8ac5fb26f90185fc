"The preconditioners of chapter 22b: what may help the solver, and what lets the future into the past."

import pytest
import torch
from test_conjugate_gradient import FIRST, ROWS, directly, heads, solved, tile

from helpers import relative_rms
from lla_course.attention.conjugate_gradient import KINDS
from lla_course.attention.preconditioners import TOLS, cells, mean_covariance, preconditioners, run


def test_the_mean_covariance_is_the_mean_of_the_covariances():
    q, k, _ = heads("anisotropic")
    s = tile(q, k)
    torch.testing.assert_close(mean_covariance(s), s.covariance().mean(0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_preconditioner_changes_the_way_and_not_the_solution(kind):
    q, k, _ = heads(kind)
    s = tile(q, k)
    exact = directly(s)
    for name, precondition in preconditioners(q, k, first=FIRST, rows=ROWS).items():
        found = solved(s, tol=1e-10, precondition=precondition)
        assert relative_rms(found.x, exact) < 1e-6, name


def test_one_shared_matrix_lets_the_future_into_the_past_and_the_others_do_not():
    q, k, _ = heads("anisotropic")
    later = [t.clone() for t in (q, k)]
    for t in later:
        t[-1] *= -2

    def earlier_rows(q, k, name):
        precondition = preconditioners(q, k, first=FIRST, rows=ROWS)[name]
        return solved(tile(q, k), precondition=precondition).x[:-1]

    for name in preconditioners(q, k, first=FIRST, rows=ROWS):
        same = torch.equal(earlier_rows(q, k, name), earlier_rows(*later, name))
        assert same == (name != "own tile"), name


def test_a_shared_matrix_saves_steps_where_many_keys_count_and_costs_some_where_few_do():
    at, all_cells = TOLS.index(1e-3), cells("fast")
    steps = {}
    for kind in ("anisotropic", "sharp"):
        tiles = run(all_cells[f"d32_{kind}"])["0.1"].values()
        for name in ("none", "tile before", "before, own part added"):
            steps[kind, name] = sum(t[name]["median"][at] for t in tiles)
    assert steps["anisotropic", "tile before"] < 0.85 * steps["anisotropic", "none"]
    assert steps["sharp", "tile before"] > 1.3 * steps["sharp", "none"]
    assert steps["anisotropic", "before, own part added"] < 0.85 * steps["anisotropic", "none"]
    assert steps["sharp", "before, own part added"] < 1.2 * steps["sharp", "none"]


def test_there_must_be_a_tile_before():
    q = torch.ones(9, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="^first=2.*: expected"):
        preconditioners(q, q, first=2, rows=3)
