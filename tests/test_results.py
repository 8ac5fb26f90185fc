"What the chapters claim of recorded runs is asserted here."
import pytest

from lla_course.attention.flash import cells
from lla_course.core import load_result
from lla_course.ftct import training

CELLS = cells("full")

def recorded(name):
    record = load_result(f"flash/{name}", CELLS[name])
    if record is None: pytest.skip(f"flash/{name} is not recorded")
    return record.result


@pytest.mark.parametrize("name, limit", [("isotropic_d64", 4), ("anisotropic_d64", 8), ("isotropic_d128", 10), ("anisotropic_d128", 31)])
def test_forward_times_and_errors(name, limit):
    r = recorded(name)
    assert r["lla_ms"] <= limit and r["error"] <= .0105 and r["worst_row"] <= .3


def test_small_ridges_take_more_steps_and_large_ones_few():
    for kind in ("isotropic", "anisotropic"):
        steps = [recorded(f"{kind}_d64{r}")["steps_mean"] for r in ("_ridge0.01", "", "_ridge1", "_ridge10")]
        assert steps == sorted(steps, reverse=True) and steps[-1] <= 3


@pytest.mark.parametrize("name", ["train_isotropic_d64", "train_anisotropic_d64", "train_isotropic_d128", "train_anisotropic_d128"])
def test_gradients_are_as_good_as_those_of_tiles_in_the_same_precision(name):
    r = recorded(name)
    for g in ("dq", "dk", "dv", "dridge"): assert r[f"kernel_{g}"] <= 3 * r[f"twin_{g}"]


def test_a_training_step_at_d64_takes_less_than_twenty_milliseconds():
    assert recorded("train_anisotropic_d64")["lla_ms"] <= 20


def test_memory_is_linear_and_three_times_that_of_softmax():
    runs = {n: recorded(f"memory_n{n}") for n in (4096, 16384, 65536)}
    for n, r in runs.items(): assert r["triton"] <= 3.05 * r["softmax"]
    assert abs(runs[65536]["triton"] / runs[4096]["triton"] / 16 - 1) < .05 and runs[65536]["dense"] is None


def test_the_toy_trains_to_the_same_curve_on_both_machines():
    r = recorded("toy")
    assert len(r["auto"]) == 200 and max(abs(a - b) / b for a, b in zip(r["auto"], r["tiled"])) < .02


def fragments(names, preset="fast"):
    found = [load_result(f"training/{name}", training.cells(preset)[name]) for name in names]
    if None in found: pytest.skip(f"not all of {names} are recorded")
    return [record.result for record in found]

def middle(values): return sorted(values)[len(values) // 2]

def test_fragments_are_chained_with_one_example_and_not_without():
    small = fragments([f"small_s{s}" for s in range(3)])
    assert middle([r["whole_strict"][1] for r in small]) >= .85 and middle([r["whole_strict"][0] for r in small]) <= .25
    assert min(r["values"][0] for r in small) >= .95 and all(r["history"]["steps"] == 3400 for r in small)

def test_short_fragments_are_not_chained():
    two, = fragments(["small_M2"])
    assert max(two["whole"]) <= .15
