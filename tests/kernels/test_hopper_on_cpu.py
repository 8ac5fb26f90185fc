"""The solver in Gluon, run as Python on the CPU (gluon_on_cpu.py), beside the portable one and float64."""

from itertools import product
from types import SimpleNamespace

import gluon_on_cpu
import pytest
import torch

from helpers import interpreted, random_heads, relative_rms
from lla_course.kernels import flash_lla_forward as forward
from lla_course.kernels import hopper_solve as hopper

pytestmark = interpreted

# heads, key heads, T, S, D, dtype, causal, window
CASES = {
    "grouped, odd sizes": (2, 1, 150, 173, 20, torch.bfloat16, True, None),
    "shared matrices": (1, 1, 700, 700, 16, torch.float16, True, None),
    "all keys": (2, 1, 100, 75, 48, torch.float16, False, None),
    "wide": (1, 1, 70, 130, 128, torch.bfloat16, True, None),
    "one query": (1, 1, 1, 50, 5, torch.bfloat16, True, None),
    "a window": (1, 1, 200, 200, 16, torch.bfloat16, True, (40, 0)),
    "rows without keys": (2, 1, 200, 90, 16, torch.bfloat16, False, (10, 20)),
}


def case(heads, kv_heads, T, S, D, dtype, is_causal, window, max_steps=None, tol=1e-2, seed=0):
    "What a solver is given: its arguments, and a function that makes its settings."
    q, k = random_heads((heads, T, D), (kv_heads, S, D), dtype=dtype, seed=seed)
    return prepared(q, k, is_causal=is_causal, window=window, max_steps=max_steps or 2 * D, tol=tol)


def prepared(q, k, **knobs):
    "The same for given queries and keys."
    given = {}

    def catch(q, k, saved, x, **settings):
        given.update(args=(q, k, saved), x=x.clone(), settings=settings)
        return torch.zeros(x.shape[:2], dtype=torch.int32), torch.zeros(x.shape[:2])

    ridge = torch.full(q.shape[:2], 0.1)
    forward.lla_forward(q, k, k, ridge, scale=q.shape[-1] ** -0.5, solve=catch, **knobs)
    return given


def solved(solve, given):
    "Solutions, steps and residuals."
    x, settings = given["x"].clone(), given["settings"] | dict(counter=None)
    return x, *solve(*given["args"], x, **settings)


def on_cpu(multiprocessors=1):
    "The solver in Gluon."
    return gluon_on_cpu.solver_on_cpu(hopper, multiprocessors)


def exact(given, is_causal, window):
    "Solutions in float64."
    q, k, _ = given["args"]
    T, S = q.shape[1], k.shape[1]
    k = k.repeat_interleave(q.shape[0] // k.shape[0], 0).double()
    p, j = S - T + torch.arange(T)[:, None], torch.arange(S)
    seen = (j <= p) if is_causal else torch.ones(T, S, dtype=torch.bool)
    if window:
        seen &= (j >= p - window[0]) & (is_causal | (j <= p + window[1]))
    logits = (q.double() @ k.mT * q.shape[-1] ** -0.5).masked_fill(~seen, -torch.inf)
    weights = logits.softmax(-1).nan_to_num(0)
    mean = weights @ k
    covariance = torch.einsum("nij,njd,nje->nide", weights, k, k) - mean[..., None] * mean[..., None, :]
    # a row without keys has no ridge, and a right-hand side of zero
    system = covariance + given["args"][2]["ridge"].double().nan_to_num(1.0)[..., None, None] * torch.eye(
        q.shape[-1]
    )
    return torch.linalg.solve(system, given["x"].double()), system


@pytest.mark.parametrize("name", CASES)
def test_it_is_as_good_as_the_portable_solver(name):
    given = case(*CASES[name])
    x, steps, residual = solved(on_cpu(), given)
    twin, twin_steps, _ = solved(forward.lla_solve, given)
    truth = exact(given, *CASES[name][-2:])[0]
    assert relative_rms(x, truth) <= 1.2 * relative_rms(twin, truth) + 2e-3
    assert (residual <= 1e-2).all() and (steps >= 0).all()
    # the interpreter does not round directions
    assert abs(steps.float().mean() - twin_steps.float().mean()) <= 3


def test_no_bit_depends_on_which_program_solves_a_tile():
    given = case(*CASES["grouped, odd sizes"])
    alone = solved(on_cpu(), given)
    assert all(torch.equal(a, b) for a, b in zip(solved(on_cpu(3), given), alone))


@pytest.mark.parametrize("late", [6e4, torch.nan])
def test_later_keys_change_no_bit(late):
    # nan: from the next tile of queries on
    at = 70 if late == late else 128
    q, k = random_heads((1, 200, 16), (1, 200, 16), dtype=torch.bfloat16)
    knobs = dict(is_causal=True, max_steps=32, tol=1e-2)
    before = solved(on_cpu(), prepared(q, k, **knobs))
    k[:, at:] = late
    after = solved(on_cpu(), prepared(q, k, **knobs))
    assert all(torch.equal(a[:, :at], b[:, :at]) for a, b in zip(before, after))


def test_a_row_that_was_better_off_before_its_last_step_goes_back_there():
    sizes, most = (1, 1, 200, 200, 32, torch.bfloat16, True, None), 24
    given = case(*sizes, max_steps=most, tol=0.0)
    x, steps, residual = solved(on_cpu(), given)
    left = given["x"].double() - torch.einsum("nide,nie->nid", exact(given, True, None)[1], x.double())
    # what it says of each row is true, up to the rounding of the products
    true = left.norm(dim=-1) / given["x"].double().norm(dim=-1).clamp_min(1e-300)
    assert (residual[0, 1:] < 1e-2).all() and (true <= residual + 2e-2).all()
    # a row whose best step was the last but one has the solution of a solver that stops there
    ends, at, _ = solved(on_cpu(), case(*sizes, max_steps=most - 1, tol=0.0))
    there = (steps == most - 1) & (at == most - 1)
    assert there.sum() > 3 and torch.equal(x[there], ends[there])


def test_no_steps_leave_zero():
    given = case(*CASES["grouped, odd sizes"])
    given["settings"]["max_steps"] = 0
    x, steps, residual = solved(on_cpu(), given)
    assert not x.any() and not steps.any() and (residual[given["x"].norm(dim=-1) > 0] == 1).all()


# the stand-ins themselves


def test_a_copy_is_there_only_when_it_was_waited_for(monkeypatch):
    given, language = case(*CASES["one query"]), gluon_on_cpu.language
    assert solved(on_cpu(), given)[0].any()

    def hasty(turns, copies):
        gl, stand_in = language(turns, copies)
        stand_in.mbarrier.wait = lambda bar, phase: None
        return gl, stand_in

    monkeypatch.setattr(gluon_on_cpu, "language", hasty)
    with pytest.raises(AssertionError, match="used again before it was waited for"):
        solved(on_cpu(), given)


def test_an_address_outside_of_a_tensor_is_an_error():
    given = case(*CASES["one query"])
    given["args"][2]["kbar"] = given["args"][2]["kbar"][..., :2].clone()
    with pytest.raises(AssertionError, match="outside of its tensor"):
        solved(on_cpu(), given)


def test_a_product_that_nobody_waited_for_has_no_value():
    unit = gluon_on_cpu.Products()
    ones, zeros = torch.ones(4, 4).half(), gluon_on_cpu.tile(torch.zeros(4, 4))
    started, later = (
        unit.mma(gluon_on_cpu.tile(ones), gluon_on_cpu.Shared(ones), zeros, is_async=True) for _ in range(2)
    )
    with pytest.raises(TypeError):
        started + 1
    assert (unit.wait(1, deps=[started]) == 4).all()
    with pytest.raises(AssertionError, match="too short"):
        unit.wait(1, deps=[later])


def test_nothing_is_copied_over_what_a_running_product_reads():
    unit, desc = gluon_on_cpu.Products(), SimpleNamespace(base=torch.ones(8, 4).half(), block_shape=[4, 4])
    engine, place = gluon_on_cpu.Copies(unit), gluon_on_cpu.Shared(torch.ones(4, 4).half())
    bar, zeros = gluon_on_cpu.Shared(torch.zeros(1)), gluon_on_cpu.tile(torch.zeros(4, 4))
    engine.init(bar, 1)
    left = gluon_on_cpu.tile(torch.ones(4, 4).half())
    started = unit.mma(left, place.permute((1, 0)), zeros, is_async=True)
    with pytest.raises(AssertionError, match="what a product reads"):
        engine.copy(desc, [4, 0], bar, place)
    unit.wait(0, deps=[started])
    engine.copy(desc, [4, 0], bar, place)


@pytest.mark.parametrize("BD", hopper.HOPPER_TILES)
def test_no_two_numbers_of_a_pass_lie_in_one_bank(BD):
    "Half a warp reads pairs of four rows; the layout is the one that the kernel asks for."
    gl = SimpleNamespace(
        float32=torch.float32,
        SwizzledSharedLayout=lambda **layout: layout,
        allocate_shared_memory=lambda dtype, shape, layout: layout,
    )
    meta = SimpleNamespace(BD=BD, BT=64, KEEP=True, SHARED=False)
    (layout, *_) = gluon_on_cpu.on_cpu(hopper, gl=gl)["hopper_vectors"](meta)
    vec, lane = layout["vec"], torch.arange(16)
    for first, block in product(range(0, 64, 4), range(BD // 8)):
        row, pair = first + lane // 4, 8 * block + 2 * (lane % 4)
        column = torch.stack([pair, pair + 1])
        phase = row // layout["per_phase"] % layout["max_phase"]
        place = row * BD + ((column // vec) ^ phase) * vec + column % vec
        assert ((place >= row * BD) & (place < row * BD + BD)).all()
        assert len((place % 32).unique()) == 32
