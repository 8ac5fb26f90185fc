"Chapter 61: mechanisms that learn, honest by construction or nearly, and the searches that say which."

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import same_with_usual_dtype
from lla_course.auctions.mechanisms import first_price, grid_regret, myerson, second_price, uniform, utility
from lla_course.auctions.regretnet import (
    AugmentedLagrangian,
    Config,
    LearnedMenu,
    LogRatio,
    RegretNet,
    as_box,
    as_menu,
    best_misreports,
    box_revenue,
    cells,
    guarantee,
    in_batch_regret,
    measure,
    posted,
    projected_ascent,
    report_utility,
    run,
    train_menu,
    train_net,
    true_regret,
)
from lla_course.auctions.two_items import vcg
from lla_course.records import content_hash

random = lambda *shape, seed=0: torch.rand(
    *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
)
single = lambda *shape, seed=0: random(*shape, seed=seed).float()
sizes = dict(n=st.integers(1, 4), m=st.integers(1, 4), seed=st.integers(0, 99))


def one_item(rule):
    "An auction of chapter 60 for bids [B, n], as a mechanism for [B, n, 1]."

    def mechanism(bids):
        share, paid = rule(bids[..., 0])
        return share[..., None], paid

    return mechanism


def smooth_first(bids):
    "Shares grow smoothly with the bid, payment is what is bid: far from honest, with gradients."
    share = torch.softmax(8 * bids, 1)
    return share, (share * bids).sum(2)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    "These matrices are too small to share."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net(one_thread):
    return train_net(Config(steps=150, size=128, rate=1e-2, seed=1))[0]


@pytest.fixture(scope="module")
def pair(one_thread):
    return train_net(Config(n=2, groups=4, size=24, steps=60, rate=1e-2))[0]


# ---- menus


@pytest.mark.parametrize("seed", [0, 1])
def test_a_learned_menu_reaches_the_optima(seed):
    """Five seeds gave .5490 to .5493 and 9.7736 to 9.7761; the optima are .549201 and 9.777778, and the sum
    over types is good to .0001 and .002."""
    square, box = train_menu([0, 0], [1, 1], seed=seed), train_menu([4, 4], [16, 7], seed=seed)
    assert 0.547 < box_revenue(square, 0, 1) < 0.5494 and 9.75 < box_revenue(box, [4, 4], [16, 7]) < 9.781
    assert (
        float(
            true_regret(
                box,
                torch.tensor([4.0, 4.0]) + torch.tensor([12.0, 3.0]) * single(20, 1, 2),
                low=[4.0, 4.0],
                high=[16.0, 7.0],
                grid=41,
            ).max()
        )
        < 1e-5
    )


@given(seed=st.integers(0, 99), m=st.integers(1, 3), size=st.integers(1, 9))
def test_a_menu_is_truthful_and_rational(seed, m, size):
    shares, prices = random(size, m, seed=seed), 1.5 * random(size, seed=seed + 1)
    v, mechanism = random(12, 1, m, seed=seed + 2), posted(shares, prices)
    assert float(true_regret(mechanism, v, grid=8).max()) < 1e-9
    assert (utility(v, *mechanism(v)) >= 0).all()


def test_an_untrained_menu_is_honest_too():
    assert float(true_regret(LearnedMenu([0, 0], [1, 1]), single(40, 1, 2), grid=31).max()) < 1e-6


def test_soft_revenue_approaches_the_hard_one_and_has_a_gradient():
    net, v = LearnedMenu([0, 0], [1, 1], seed=3), single(4000, 2)
    hard = net(v[:, None])[1].mean()
    errors = [abs(float((net.soft_revenue(v, b) - hard).detach())) for b in (10.0, 100.0, 10_000.0)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-3
    net.soft_revenue(v, 100.0).backward()
    assert net.prices.grad.abs().sum() > 0 and net.logits.grad.abs().sum() > 0


def test_entries_are_copies():
    "A snapshot taken during the training must not follow the training."
    kept = {}
    net = train_menu(
        [0, 0], [1, 1], size=4, steps=3, watch=lambda step, net: kept.update({step: net.entries()})
    )
    assert (
        sorted(kept) == [0, 1, 2, 3]
        and not torch.equal(kept[0][1], kept[3][1])
        and not torch.equal(kept[0][0], kept[3][0])
    )
    kept[3][1].add_(1.0)
    assert not torch.equal(kept[3][1], net.entries()[1])


def test_training_is_deterministic():
    a, b = (train_menu([0, 0], [1, 1], size=4, steps=20, seed=5) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    a, b = (train_net(Config(steps=5, size=16, seed=5))[0] for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    state = torch.get_rng_state()
    RegretNet(2, 2, seed=9)
    assert torch.equal(state, torch.get_rng_state())


def test_a_steep_start_multiplies_the_first_layer_and_nothing_else():
    first = []

    def keep(step, net):
        if step == 0:
            first.append({name: p.detach().clone() for name, p in net.named_parameters()})

    for steep in (1.0, 4.0):
        train_net(Config(steps=1, size=8, steep=steep, seed=3), watch=keep)
    plain, steep = first
    for name, p in RegretNet(1, 2, seed=3).named_parameters():
        assert torch.equal(plain[name], p)
        assert torch.equal(steep[name], p * 4 if name.startswith("body.0.") else p)


def test_box_revenue_of_known_prices():
    both = posted(torch.ones(1, 2), torch.tensor([(2 / 3) ** 0.5]))
    assert abs(box_revenue(both, 0, 1) - (2 / 3) ** 1.5) < 2e-4
    daskalakis = posted(torch.tensor([[0.5, 1.0], [1.0, 1.0]]), torch.tensor([8.0, 12.0]))
    assert abs(box_revenue(daskalakis, [4, 4], [16, 7]) - 88 / 9) < 2e-3
    assert abs(box_revenue(posted(torch.ones(1, 1), torch.tensor([0.5])), 0, 1, m=1) - 0.25) < 1e-4


# ---- RegretNet


@given(**sizes)
def test_regretnet_is_feasible_and_rational(n, m, seed):
    net, bids = RegretNet(n, m, low=1.0, high=3.0, hidden=8, seed=seed), 1 + 2 * single(20, n, m, seed=seed)
    with torch.no_grad():
        # far from the small first weights
        for p in net.parameters():
            p.mul_(4)
    allocation, payment = net(bids)
    assert (allocation >= 0).all() and (allocation.sum(1) <= 1 + 1e-5).all() and (payment >= 0).all()
    assert (utility(bids, allocation, payment) >= -1e-5).all()


def test_regretnet_is_not_equivariant_but_the_exact_mechanisms_are():
    "A dense network treats bidders by their number; chapter 62 cures that. VCG and menus do not."
    b, swap = single(10, 2, 2), [1, 0]
    moved = lambda f: float((f(b[:, swap])[1] - f(b)[1][:, swap]).detach().abs().max())
    assert moved(vcg) < 1e-6 and moved(RegretNet(2, 2)) > 1e-3
    shares, prices = torch.tensor([[1.0, 0], [0, 1], [1, 1]]), torch.tensor([2 / 3, 2 / 3, 0.862])
    items = b[:, :1]
    assert torch.allclose(posted(shares, prices)(items[..., swap])[1], posted(shares, prices)(items)[1])


def test_greed_takes_everything():
    greedy, _ = train_net(Config(rule="none", steps=120, size=128, rate=1e-2))
    assert (
        box_revenue(greedy, 0, 1, log2_points=12) > 0.9
        and float(true_regret(greedy, single(20, 1, 2), grid=21).mean()) > 0.5
    )


@pytest.mark.parametrize(
    "rule, search",
    [("log_ratio", "batch"), ("lagrangian", "batch"), ("log_ratio", "gradient"), ("lagrangian", "gradient")],
)
def test_every_rule_and_search_trains(rule, search):
    net, seen = train_net(Config(n=2, rule=rule, search=search, groups=2, size=8, steps=6, inner_steps=2))
    assert all(len(y) == 6 and np.isfinite(y).all() for y in seen.values()) and min(seen["regret"]) >= 0


def test_regret_below_the_optimum_after_a_short_training(net):
    P, R = box_revenue(net, 0, 1, log2_points=14), float(true_regret(net, single(60, 1, 2), grid=51).mean())
    assert 0.45 < P < 0.65 and R < 0.02
    # nothing honest beats the optimum
    assert guarantee(P, R)[1] < (12 + 8**0.5) / 27


# ---- searches


@pytest.mark.parametrize("rule", [first_price, second_price, lambda b: myerson(b, uniform(0, 1))])
def test_the_grid_agrees_with_chapter_60_on_one_item(rule):
    v = random(40, 3)
    mine = true_regret(one_item(rule), v[..., None], grid=41)
    assert torch.allclose(
        mine, grid_regret(rule, v, torch.linspace(0, 1, 41, dtype=torch.float64)), atol=1e-12
    )


@given(
    n=st.integers(1, 3), m=st.integers(1, 2), seed=st.integers(0, 99), block=st.sampled_from([5, 60, 10_000])
)
def test_the_grid_agrees_with_chapter_60_whatever_the_block(n, m, seed, block):
    v = random(3, n, m, seed=seed)
    axis = torch.linspace(0, 1, 6, dtype=torch.float64)
    misreports = torch.cartesian_prod(*[axis] * m).view(-1, m)
    assert torch.allclose(
        true_regret(smooth_first, v, grid=6, block=block),
        grid_regret(smooth_first, v, misreports),
        atol=1e-12,
    )


def test_honest_mechanisms_have_none():
    assert float(true_regret(vcg, random(10, 3, 2), grid=15).max()) < 1e-12


def test_grid_and_gradient_meet(net):
    """A grid misses at most what the utility can change within half a step; a climb misses what it does not
    reach.

    Long climbs and a fine grid agree."""
    v = single(20, 1, 2, seed=4)
    grid, climbs, few = (
        true_regret(net, v),
        true_regret(net, v, method="gradient", starts=40, steps=120),
        true_regret(net, v, method="gradient", starts=1, steps=25, step=1e-3),
    )
    assert (grid >= climbs - 2e-4).all() and (climbs >= grid - 2e-4).all() and grid.mean() > 2 * few.mean()
    assert (few <= grid + 2e-4).all()


def test_near_starts_are_near_and_a_share_of_none_changes_nothing(net):
    v, search = single(30, 1, 2, seed=1), dict(method="gradient", starts=20, steps=0)
    reach = {
        share: (best_misreports(net, v, near_share=share, **search)[1] - v).abs().amax((1, 2))
        for share in (0.0, 0.5, 1.0)
    }
    assert float(reach[1.0].max()) <= 0.15 + 1e-6 < float(reach[0.0].max()) and torch.equal(
        reach[0.0], (best_misreports(net, v, **search)[1] - v).abs().amax((1, 2))
    )
    some, none, both = (true_regret(net, v, near_share=share, **search) for share in (1.0, 0.0, 0.5))
    assert (
        float(some.mean()) > 0 < float(none.mean())
        and (both <= torch.maximum(true_regret(net, v, grid=201), none) + 2e-4).all()
    )
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="near"):
            true_regret(net, v, method="gradient", near_share=share)


def test_more_starts_and_finer_nested_grids_never_find_less(net):
    v = single(10, 1, 2)
    found = [true_regret(net, v, grid=g) for g in (2, 3, 5, 9, 17)]
    assert all((b >= a - 1e-7).all() for a, b in zip(found, found[1:]))


def test_the_best_lie_is_the_one_that_gains(pair):
    v = single(15, 2, 2, seed=2)
    gains, misreports = best_misreports(pair, v, grid=21)
    with torch.no_grad():
        honest = utility(v, *pair(v))
    for i in range(2):
        with torch.no_grad():
            got = report_utility(pair, v, i, misreports[:, i, None])[:, 0] - honest[:, i]
        assert torch.allclose(got, gains[:, i], atol=1e-6)
    assert (gains >= 0).all()
    gains, misreports = best_misreports(vcg, v.double(), grid=5)
    assert torch.equal(misreports[gains == 0], v.double()[gains == 0])  # no lie pays: the truth itself


def test_in_batch_is_a_search_over_its_own_values():
    """Each entry is the best of G given lies: exactly what trying them one by one finds, so never more than
    any search that includes them."""
    others, own = random(3, 2, 2, seed=1), random(2, 3, 5, 2, seed=2)
    paid, regret = in_batch_regret(smooth_first, others, own)
    assert paid.shape == regret.shape == (2, 3, 5) and (regret >= 0).all()
    for i in range(2):
        for c in range(3):
            for g in range(5):
                v = others[c : c + 1].clone()
                v[0, i] = own[i, c, g]
                slow = grid_regret(smooth_first, v, own[i, c])[0, i]
                assert (
                    abs(float(slow - regret[i, c, g])) < 1e-12
                    and abs(float(smooth_first(v)[1].sum() - paid[i, c, g])) < 1e-12
                )


def test_in_batch_never_beats_the_grid_by_more_than_its_step(net):
    own = single(1, 1, 200, 2, seed=6)
    with torch.no_grad():
        batch = in_batch_regret(net, torch.zeros(1, 1, 2), own)[1][0, 0]
    grid = true_regret(net, own[0, 0][:, None], grid=101)[:, 0]
    assert (batch <= grid + 2e-4).all() and 0.5 * grid.mean() < batch.mean() < grid.mean() + 2e-5


def test_gradients_reach_the_network_through_the_batch(pair):
    paid, regret = in_batch_regret(pair, single(2, 2, 2), single(2, 2, 6, 2))
    grads = torch.autograd.grad(paid.mean() + regret.mean(), list(pair.parameters()))
    assert all(torch.isfinite(g).all() for g in grads) and sum(float(g.abs().sum()) for g in grads) > 0


def test_a_search_leaves_the_network_alone(net):
    before = [p.clone() for p in net.parameters()]
    true_regret(net, single(5, 1, 2), method="gradient", starts=2, steps=3)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters()))


def test_contexts_reach_the_mechanism_and_bound_the_reports():
    "Price c/2 for values up to c: honest. A mechanism that reads the context of another row would not be."
    c = random(30, 1, 1, seed=3) + 0.1
    v = c * random(30, 1, 1, seed=4)

    def mechanism(bids, c):
        assert (bids <= c + 1e-9).all()
        share = (bids >= c / 2).double()
        return share, (share * c / 2)[..., 0]

    assert float(true_regret(mechanism, v, contexts=c, high=c, grid=51, block=64).max()) < 1e-12
    first = lambda bids, c: (
        torch.sigmoid(9 * (bids - c / 2)),
        (bids * torch.sigmoid(9 * (bids - c / 2)))[..., 0],
    )
    a, b = (
        true_regret(first, v, contexts=[c], high=c, method=method, grid=401, starts=5)
        for method in ("grid", "gradient")
    )
    assert torch.allclose(a, b, atol=1e-4) and a.mean() > 0.01


def test_small_steps_cannot_cross_the_support():
    """The best report is 1 and gains .25, the starts are random: a climb of 25 steps of .001 gets .025
    nearer, one of .1 arrives."""
    mechanism = lambda bids: (bids, 0 * bids[..., 0])
    v = torch.full((50, 1, 1), 0.5)
    near = [true_regret(mechanism, v, method="gradient", starts=1, steps=25, step=s) for s in (1e-3, 0.1)]
    assert float(near[1].min()) > 0.2499 and float(near[0].mean()) < 0.12


def test_climb_keeps_the_best_report_on_the_way():
    best, misreport = projected_ascent(
        lambda z: -(z - 0.3).square().sum(2),
        torch.full((1, 1, 1), 0.29),
        torch.zeros(1, 1, 1),
        torch.ones(1, 1, 1),
        steps=3,
        step=0.5,
    )
    assert float(best) >= -1e-4 - 1e-9 and abs(float(misreport) - 0.29) < 1e-6


def test_lies_shared_in_a_batch_do_not_suffice_for_eight_items():
    """Fourteen times in the chapter after 800 steps; a margin of three after 400.

    The climb as search leaves a factor of two or three."""
    v, long = single(20, 1, 8, seed=3), dict(method="gradient", starts=20, steps=150)
    net, seen = train_net(Config(m=8, steps=400, size=256, rate=5e-3))
    assert float(true_regret(net, v, **long).mean()) > 3 * np.mean(seen["regret"][-40:])
    assert float(true_regret(net, v, **long | dict(starts=1, steps=25, step=1e-3)).mean()) < 0.1 * float(
        true_regret(net, v, **long).mean()
    )


# ---- honest revenue


def test_a_net_as_a_menu_is_truthful_and_keeps_the_guarantee(net):
    P, R = box_revenue(net, 0, 1, log2_points=14), float(true_regret(net, single(300, 1, 2)).mean())
    eta, floor = guarantee(P, R)
    mechanism = posted(*as_menu(net, discount=eta))
    assert float(true_regret(mechanism, single(20, 1, 2), grid=41).max()) < 1e-6
    # less than one price for the bundle
    assert floor - 0.005 < box_revenue(mechanism, 0, 1, log2_points=13) < (2 / 3) ** 1.5 - 0.004


@given(st.floats(0.1, 5), st.floats(0, 0.99))
def test_the_guarantee_is_the_best_discount(P, part):
    R = part * P
    eta, floor = guarantee(P, R)
    e = np.linspace(1e-4, 1, 2000)
    assert floor >= ((1 - e) * (P - R / e)).max() - 1e-9 and 0 <= eta <= 1
    if R > 1e-6:
        assert math.isclose((1 - eta) * (P - R / eta), floor, rel_tol=1e-6, abs_tol=1e-9)


# ---- dual rules


def test_the_multipliers_of_the_lagrangian():
    rule, R = AugmentedLagrangian(2, weight=5.0, rho=2.0, every=3, growth=1.0), torch.tensor([0.1, 0.3])
    assert math.isclose(float(rule.loss(torch.tensor(1.0), R)), -1 + 5 * 0.4 + (0.01 + 0.09), rel_tol=1e-6)
    for _ in range(3):
        rule.update(1.0, R)
    assert torch.allclose(rule.weights, torch.tensor([5.2, 5.6])) and rule.rho == 3


def test_the_log_ratio_rule_steers():
    rule = LogRatio(100, target=1e-3, budget_start=1e-3)
    up = [rule.update(1.0, torch.tensor([0.01])) for _ in range(3)]
    down = [rule.update(1.0, torch.tensor([0.0001])) for _ in range(20)]
    assert up == sorted(up) and math.isclose(up[0], 1 + 0.5 * math.log(10), rel_tol=1e-6) and down[-1] == 0
    assert math.isclose(float(rule.loss(torch.tensor(1.0), torch.tensor([0.1, 0.2]))), -1, rel_tol=1e-6)
    falling = LogRatio(90, target=1e-4)
    falling.step = 60
    falling.price = 7.0
    assert math.isclose(falling.update(1.0, torch.tensor([1e-4])), 7, abs_tol=1e-5)


# ---- recorded runs


def test_cells_and_run(monkeypatch):
    import lla_course.auctions.regretnet as module

    monkeypatch.setattr(module, "measure", partial(measure, starts=2))
    monkeypatch.setattr(module, "pick_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(
        module,
        "true_regret",
        lambda net, v, **k: true_regret(
            net, v[:4], **k | ({"grid": 5} if "grid" in k else {}) | ({"steps": 2} if "steps" in k else {})
        ),
    )
    table = cells("fast")
    assert list(table) == list(cells("full")) and {c.n for c in table.values()} == {1, 2}
    for name in ("square_0.001", "pair_0.001", "eight_gradient"):
        out = run(replace(table[name], steps=4))
        found, arrays = out.result, out.arrays
        content_hash(found)
        assert (
            0.05 < found["revenue"] < 2
            and found["regret"] >= 0
            and ("honest" in found) == name.startswith("square")
            and len(found["seen"]["price"]) == 4
        )
        again = RegretNet(table[name].n, table[name].m, hidden=32)
        again.load_state_dict(arrays)
        assert sum(t.numel() for t in arrays.values()) < 60_000


def test_only_some_bidders_may_misreport():
    net, v = RegretNet(2, 2, seed=4), single(5, 2, 2)
    whole, one = best_misreports(net, v, grid=9), best_misreports(net, v, grid=9, bidders=[1])
    assert torch.equal(one[0][:, 1], whole[0][:, 1]) and torch.equal(one[1][:, 1], whole[1][:, 1])
    assert not one[0][:, 0].any() and torch.equal(one[1][:, 0], v[:, 0])
    with pytest.raises(ValueError, match="^bidders=2"):
        best_misreports(net, v, bidders=[2])


# ---- what is refused

good = single(4, 2, 2)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: true_regret(vcg, good[0]), "values.shape"),
        (lambda: true_regret(vcg, good * math.nan), "values"),
        (lambda: true_regret(vcg, 2 * good), "values"),
        (lambda: true_regret(vcg, good, high=0.0), "low, high"),
        (lambda: true_regret(vcg, good, high=torch.ones(3)), "low, high"),
        (lambda: true_regret(vcg, good, low="a"), "low, high"),
        (lambda: true_regret(vcg, good, method="guess"), "method"),
        (lambda: true_regret(vcg, good, grid=1), "grid"),
        (lambda: true_regret(vcg, single(1, 1, 6), grid=101), "grid"),
        (lambda: true_regret(vcg, good, starts=0), "starts"),
        (lambda: true_regret(vcg, good, steps=2.5), "steps"),
        (lambda: true_regret(vcg, good, step=0), "step"),
        (lambda: true_regret(vcg, good, block=0), "block"),
        (lambda: true_regret(vcg, good, contexts=[torch.ones(3, 1)]), "contexts"),
        (lambda: true_regret(vcg, good, contexts=["x"]), "contexts"),
        (lambda: true_regret(lambda b: (b[:, 0], b), good), "mechanism"),
        (lambda: true_regret(lambda b: (b * math.nan, b[..., 0]), good), "allocation"),
        (
            lambda: true_regret(
                lambda b: (torch.zeros_like(b), torch.zeros(b.shape[:2])), good, method="gradient"
            ),
            "method",
        ),
        (lambda: posted(torch.ones(1, 2), torch.ones(1))(good), "bids.shape"),
        (lambda: posted(torch.ones(1, 3), torch.ones(1))(good[:, :1]), "shapes"),
        (lambda: RegretNet(0, 2), "n"),
        (lambda: RegretNet(2, 2.0), "m"),
        (lambda: RegretNet(1, 2, low=1.0, high=1.0), "low, high"),
        (lambda: RegretNet(1, 2, high=[1.0, 2.0, 3.0]), "low, high"),
        (lambda: RegretNet(2, 3)(good), "bids.shape"),
        (lambda: RegretNet(2, 2)(2 * good), "bids"),
        (lambda: RegretNet(2, 2)(good * math.nan), "bids"),
        (lambda: LearnedMenu([0, 1], [1, 1]), "low, high"),
        (lambda: as_box(0, math.inf, 2), "low, high"),
        (lambda: as_menu(vcg, discount=2), "discount"),
        (lambda: guarantee(0, 0), "revenue"),
        (lambda: guarantee(1, 1), "regret"),
        (lambda: guarantee(1, -0.1), "regret"),
        (lambda: LogRatio(10, target=0), "target"),
        (lambda: train_net(Config(rule="fear", steps=1)), "rule"),
        (lambda: train_net(Config(search="luck", steps=1)), "search"),
        (lambda: Config(steep=0.0), "steep"),
    ],
)
def test_bad_input(call, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()


# ---- dtypes


def test_a_net_answers_in_the_dtype_it_is_asked_in(net):
    v = single(5, 1, 2)
    x, p = net(v)
    x2, p2 = net(v.double())
    assert x2.dtype == p2.dtype == torch.float64
    assert torch.allclose(x2.float(), x) and torch.allclose(p2.float(), p)
    a, b = (true_regret(net, values, grid=5) for values in (v, v.double().numpy()))
    assert a.dtype == torch.float32 and torch.allclose(a.double(), b, atol=1e-6)


@pytest.mark.parametrize("usual", [torch.bfloat16, torch.float16, torch.float64])
def test_menus_and_types_do_not_depend_on_the_usual_dtype(usual):
    sell = posted(torch.tensor([[1.0, 1.0]], dtype=torch.float32), torch.tensor([0.8], dtype=torch.float32))

    def make():
        menus = LearnedMenu([0.0, 0.0], [1.0, 1.0], seed=3), train_menu([0.0, 0.0], [1.0, 1.0], steps=3)
        revenue = torch.tensor([box_revenue(sell, 0, 1, log2_points=9)], dtype=torch.float64)
        return [*menus[0].entries(), *menus[1].entries(), *as_menu(sell, points=5), revenue]

    assert same_with_usual_dtype(make, usual)


def test_no_bids_no_allocation():
    x, p = RegretNet(2, 3)(torch.zeros(0, 2, 3))
    assert x.shape == (0, 2, 3) and p.shape == (0, 2)
