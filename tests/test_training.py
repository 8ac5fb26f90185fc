"""The one training loop: its schedule, its clock, its historyand the search for a rate."""

import itertools
import math

import pytest
import torch
from torch import nn

from lla_course import training
from lla_course.training import (
    Schedule,
    adamw,
    at_edge,
    count_parameters,
    fit,
    fresh_batches,
    replayed,
    require_training,
    search_rate,
    thinned,
)


def linear():
    torch.manual_seed(0)
    return nn.Linear(2, 1)


def draw(step, generator):
    return (torch.randn(3, 2, generator=generator),)


def squared(model, x):
    return model(x).square().sum()


def trained(schedule=None, *, loss=squared, draw=draw, rate=1e-2, **knobs):
    model = linear()
    found = fit(
        model, loss, fresh_batches(draw), adamw(model, rate=rate), schedule or Schedule(12, warmup=0), **knobs
    )
    return model, found


# ---- the schedule


def test_the_rate_rises_stays_and_falls():
    schedule = Schedule(100, warmup=10, decay=0.5)
    rates = [schedule.factor(k) for k in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[10:50] == [1.0] * 40
    assert rates[75] == pytest.approx(0.5) and rates[99] == pytest.approx(0.02)
    assert {
        Schedule(9, warmup=0, decay=0.0, fall=f).factor(k) for k in range(9) for f in ("linear", "cosine")
    } == {1}


def test_a_cosine_is_that_of_torch():
    optimizer = torch.optim.SGD(linear().parameters(), lr=0.3)
    torchs, ours = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50),
        Schedule(50, warmup=0, fall="cosine"),
    )
    for k in range(50):
        assert 0.3 * ours.factor(k) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        torchs.step()
    late = Schedule(50, warmup=0, decay=0.4, fall="cosine")
    assert late.factor(30) == 1 and late.factor(40) == pytest.approx(0.5) and late.factor(29) == 1


def test_the_clock_pushes_a_stretched_schedule_and_no_other():
    plain, stretched = (Schedule(100, minutes=1.0, stretch=s) for s in (False, True))
    assert plain.position(7, 59.0) == 7 and not plain.over(7, 59.0) and plain.over(7, 60.0)
    assert stretched.position(7, 1.0) == 7 and stretched.position(7, 30.0) == pytest.approx(45)
    assert stretched.over(7, 60.0) and not stretched.over(7, 59.9) and stretched.over(100, 0.0)


@pytest.mark.parametrize(
    "name, value",
    [
        *[("steps", v) for v in (0, -1, 2.5, True, "9")],
        *[("minutes", v) for v in (0, -1.0, math.nan, math.inf, "x")],
        *[("warmup", v) for v in (-1, 0.5)],
        *[("decay", v) for v in (-0.1, 1.1, math.nan)],
        ("fall", "exponential"),
        ("stretch", 1),
        ("stretch", True),
    ],
)
def test_a_schedule_that_is_none(name, value):
    with pytest.raises(ValueError, match=f"^{name}="):
        Schedule(**dict(steps=5) | {name: value})


# ---- the loop


def test_it_is_the_loop_that_one_writes_by_hand():
    schedule = Schedule(30, warmup=5, decay=0.5)
    ours, found = trained(schedule, every=10)
    model, losses = linear(), []
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-2, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    generator = torch.Generator().manual_seed(0)
    for k in range(30):
        optimizer.param_groups[0]["lr"] = 1e-2 * schedule.factor(k)
        loss = squared(model, *draw(k, generator))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), model.parameters()))
    assert found["loss"] == pytest.approx([sum(losses[k : k + 10]) / 10 for k in (0, 10, 20)], abs=1e-5)
    assert found["at"] == [10, 20, 30] and found["steps"] == 30 and found["memory"] is None
    assert found["solver_steps"] == found["residual"] == [None] * 3 and not found["unconverged"]


def test_it_ends_with_its_batches_and_leaves_no_gradient():
    model = linear().eval()
    batches = [draw(0, None) for _ in range(7)]
    found = fit(model, squared, batches, adamw(model, rate=1e-2), Schedule(100), every=3)
    assert found["at"] == [3, 6, 7] and found["steps"] == 7 and model.training
    assert all(p.grad is None for p in model.parameters())
    nothing = fit(model, squared, [], adamw(model, rate=1e-2), Schedule(100))
    assert nothing["steps"] == 0 and nothing["at"] == nothing["loss"] == []


def test_only_as_many_batches_are_drawn_as_are_used():
    drawn = []
    batches = ((drawn.append(k), torch.ones(1, 2))[1:] for k in itertools.count())
    model = linear()
    fit(model, squared, batches, adamw(model, rate=1e-2), Schedule(5))
    assert drawn == [0, 1, 2, 3, 4]


def test_a_loss_that_is_not_finite_ends_the_training():
    _, found = trained(
        Schedule(50), draw=lambda step, _: (torch.full((3, 2), 1.0 if step < 4 else math.inf),), every=2
    )
    assert found["steps"] == 6 and found["loss"][-1] == math.inf and math.isfinite(found["loss"][1])


def test_further_numbers_are_watched():
    points = []

    def numbers(model, x):
        y = model(x)[:, 0]
        return dict(loss=y.square().mean(), height=y.mean(), each=y)

    model, found = trained(Schedule(5, warmup=0), loss=numbers, every=2, watch=points.append)
    assert [p.step for p in points] == found["at"] == [2, 4, 5]
    assert [p.progress for p in points] == pytest.approx([0.2, 0.6, 0.8])
    for k, point in enumerate(points):
        assert set(point.numbers) == {"loss", "height", "each"} and point.numbers["each"].shape == (3,)
        assert point.numbers["height"].item() == pytest.approx(point.numbers["each"].mean().item(), abs=1e-6)
        assert found["height"][k] == round(float(point.numbers["height"]), 5) and len(found["each"][k]) == 3
        assert not any(n.requires_grad for n in point.numbers.values())


def test_whoever_watches_may_change_the_mode():
    modes = []
    model = linear()
    watch = lambda point: (modes.append(model.training), model.eval())
    fit(model, squared, fresh_batches(draw), adamw(model, rate=1e-2), Schedule(3), every=1, watch=watch)
    assert modes == [True] * 3 and model.training


def test_a_module_with_an_info_is_asked():
    class Solver(nn.Linear):
        info = {}

        def forward(self, x):
            self.info = dict(steps=torch.tensor(3.0), residual=torch.tensor(0.25))
            return super().forward(x)

    model = nn.Sequential(nn.Linear(2, 2), Solver(2, 2), Solver(2, 1))
    found = fit(model, squared, fresh_batches(draw), adamw(model, rate=1e-2), Schedule(4), every=2)
    assert found["solver_steps"] == [3.0, 3.0] and found["residual"] == [0.25, 0.25] and found["unconverged"]
    assert set(found) >= {"at", "loss", "steps", "seconds"}


def test_groups_keep_the_ratio_of_their_rates_and_clip_none_clips_nothing():
    model = linear()
    groups = [dict(params=[model.weight], lr=0.2), dict(params=[model.bias], lr=0.1)]
    optimizer, seen = torch.optim.SGD(groups), []
    watch = lambda point: seen.append([g["lr"] for g in optimizer.param_groups])
    fit(
        model,
        squared,
        fresh_batches(draw),
        optimizer,
        Schedule(4, warmup=2),
        every=1,
        watch=watch,
        replay=False,
    )
    assert seen == [pytest.approx([0.2 * f, 0.1 * f]) for f in (0.5, 0.75, 0.5, 0.25)]
    for clip, moved in ((None, 100.0), (1.0, 1.0)):
        model = nn.Linear(1, 1, bias=False)
        before = model.weight.item()
        sgd = torch.optim.SGD(model.parameters(), lr=1.0)
        fit(
            model,
            lambda m, x: 100 * m(x).sum(),
            [(torch.ones(1, 1),)],
            sgd,
            Schedule(1, warmup=0, decay=0.0),
            clip=clip,
        )
        assert before - model.weight.item() == pytest.approx(moved, rel=1e-4)


def test_bfloat16_is_for_the_products():
    kinds = []

    def loss(model, x):
        kinds.append(model(x).dtype)
        return model(x).float().square().sum()

    for precision in ("float32", "bfloat16"):
        trained(Schedule(1), loss=loss, precision=precision)
    assert kinds == [torch.float32, torch.bfloat16]


@pytest.fixture
def clock(monkeypatch):
    "Seconds that pass only when a test says so."
    now = [0.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])
    return now


def test_the_clock_stands_still_where_a_new_shape_compiles(clock):
    seen = set()

    def loss(model, x):
        clock[0] += 1.0 if x.shape in seen else 1000.0
        seen.add(x.shape)
        return squared(model, x)

    longer = lambda step, _: (torch.ones(3 + step // 20, 2),)
    _, found = trained(Schedule(60, minutes=2.0), loss=loss, draw=longer, every=10)
    assert found["steps"] == 60 and found["seconds"] == 57
    _, found = trained(Schedule(400, minutes=2.0), loss=loss, draw=lambda *_: (torch.ones(3, 2),), every=50)
    assert found["steps"] == 121 and found["at"] == [50, 100, 121]


def test_a_stretched_schedule_ends_in_time_with_a_rate_near_zero(clock):
    model = linear()
    optimizer, rates, progress = adamw(model, rate=1.0), [], []

    def loss(model, x):
        clock[0] += 1.0
        return squared(model, x)

    def watch(point):
        rates.append(optimizer.param_groups[0]["lr"])
        progress.append(point.progress)

    schedule = Schedule(10**6, minutes=1.0, warmup=0, fall="cosine", stretch=True)
    found = fit(model, loss, fresh_batches(draw), optimizer, schedule, every=1, watch=watch)
    assert found["steps"] == 61 and rates == sorted(rates, reverse=True)
    assert rates[0] == 1 and rates[-1] < 0.01 and progress[-1] == pytest.approx(1.1 * 59 / 60 - 0.1)


def test_a_refused_training_leaves_the_mode_alone():
    model = linear().eval()
    for name, value in dict(precision="int8", clip=0.0, every=0, replay=1, optimizer=None).items():
        given = dict(optimizer=adamw(model, rate=1e-3)) | {name: value}
        with pytest.raises(ValueError, match=f"^{name}="):
            fit(model, squared, [], schedule=Schedule(2), **given)
        assert not model.training


def test_batches_are_those_of_their_seed():
    take = lambda seed: torch.cat(
        [next(batch)[0] for batch in [fresh_batches(draw, seed=seed)] for _ in range(3)]
    )
    assert torch.equal(take(1), take(1)) and not torch.equal(take(1), take(2))
    with pytest.raises(ValueError, match="^seed=-1"):
        fresh_batches(draw, seed=-1)


@pytest.mark.parametrize(
    "name, value",
    [
        *[("rate", v) for v in (0, -1.0, math.nan, "x", True)],
        *[("weight_decay", v) for v in (-1.0, "x")],
        *[("betas", v) for v in ((0.9,), "xy", (0.9, 1.0))],
        ("model", nn.ReLU()),
    ],
)
def test_an_optimiser_that_is_none(name, value):
    with pytest.raises(ValueError, match=f"^{name}="):
        adamw(**dict(model=linear(), rate=0.1) | {name: value})


def test_weight_decay_is_for_matrices():
    groups = adamw(linear(), rate=0.1, weight_decay=0.3).param_groups
    assert [(g["weight_decay"], g["params"][0].dim()) for g in groups] == [(0.3, 2), (0.0, 1)]


# ---- the search


def test_the_best_rate_runs_with_the_other_seeds():
    tried, seen = [], []

    def trial(rate, seed):
        tried.append((rate, seed))
        return dict(score=math.inf if rate > 1 else abs(rate - 0.1) + seed)

    found = search_rate(trial, (0.01, 0.1, 10.0), (0, 1, 2), seen=lambda *given: seen.append(given[:2]))
    assert found["rate"] == 0.1 and [r["score"] for r in found["runs"]] == [0, 1, 2]
    assert found["grid"] == [[0.01, pytest.approx(0.09)], [0.1, 0], [10.0, math.inf]]
    assert tried == seen == [(0.01, 0), (0.1, 0), (10.0, 0), (0.1, 1), (0.1, 2)]
    assert not at_edge(found) and at_edge(found | dict(rate=0.01)) and at_edge(found | dict(rate=10.0))
    assert not at_edge(dict(rate=0.1, grid=[[0.1, 0.0]]))


@pytest.mark.parametrize(
    "rates, seeds, name",
    [((), (0,), "rates"), (0.1, (0,), "rates"), ("x", (0,), "rates"), ((0.0,), (0,), "rates")]
    + [((0.1,), (), "seeds"), ((0.1,), 1, "seeds"), ((0.1,), (0.5,), "seeds")],
)
def test_a_search_for_nothing(rates, seeds, name):
    with pytest.raises(ValueError, match=f"^{name}="):
        search_rate(lambda rate, seed: dict(score=0.0), rates, seeds)


def test_a_search_in_which_everything_blows_up():
    with pytest.raises(ValueError, match="does not blow up"):
        search_rate(lambda rate, seed: dict(score=math.nan), (0.1, 1.0), (0,))


@pytest.mark.parametrize(
    "change, name",
    [
        (dict(steps=0), "steps"),
        (dict(rates=[0.1]), "rates"),
        (dict(seeds=(-1,)), "seeds"),
        (dict(precision="float8"), "precision"),
        (dict(minutes=0.0), "minutes"),
        (dict(extra=1), "extra"),
    ],
)
def test_settings_that_make_no_training(change, name):
    from types import SimpleNamespace

    good = dict(steps=1, rates=(0.1,), seeds=(0,), precision="float32", minutes=1.0, extra=2)
    require_training(SimpleNamespace(**good), extra=2)
    with pytest.raises(ValueError, match=f"^{name}="):
        require_training(SimpleNamespace(**good | change), extra=2)


# ---- small things


def test_a_thinned_curve_keeps_its_mean():
    y = torch.rand(1000).tolist()
    thin = thinned(y)
    assert len(thin) == 200 and sum(thin) / 200 == pytest.approx(sum(y) / 1000, abs=1e-6)
    assert (
        thinned([1.0, 2.0], 200) == [1.0, 2.0] and thinned([], 3) == [] and len(thinned(y[:399], 200)) == 399
    )
    assert thinned([1, 2, 3, 4, 6], 2, digits=1) == [1.5, 3.5, 6.0]
    with pytest.raises(ValueError, match="^points=0"):
        thinned(y, 0)


def test_shared_weights_count_once():
    model = nn.ModuleDict(dict(a=nn.Linear(3, 4), b=nn.Linear(3, 4, bias=False)))
    model["b"].weight = model["a"].weight
    assert count_parameters(model) == 16


def test_on_a_cpu_nothing_is_replayed():
    calls = []
    step = replayed(lambda x: calls.append(x) or x + 1)
    assert [step(torch.tensor(k)).item() for k in range(6)] == [1, 2, 3, 4, 5, 6] and len(calls) == 6
    with pytest.raises(ValueError, match="^first="):
        replayed(step, first=0)


@pytest.mark.gpu
def test_on_a_gpu_each_shape_is_recorded_once():
    calls = []

    def step(x):
        calls.append(x.shape)
        return dict(y=2 * x, s=x.sum())

    run = replayed(step)
    with training.own_stream(torch.device("cuda")):
        for k in range(8):
            for n in (2, 3):
                out = run(torch.full((n,), float(k), device="cuda"))
                assert out["y"].tolist() == [2.0 * k] * n and out["s"].item() == n * k
    assert len(calls) == 8  # three ordinary calls and one recording for each shape


@pytest.mark.gpu
def test_a_replayed_training_is_the_training():
    found = []
    for replay in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).cuda()
        varied = lambda step, g: (torch.randn(3 + step % 2, 2, generator=g, device="cuda"),)
        batches = fresh_batches(varied, device="cuda")
        schedule = Schedule(40, warmup=5)
        found.append(fit(model, squared, batches, adamw(model, rate=1e-2), schedule, every=5, replay=replay))
    a, b = found
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-4) and a["memory"] > 0
    with pytest.raises(ValueError, match="^optimizer="):
        fit(model, squared, [], torch.optim.Adam(model.parameters()), Schedule(2))
