"""The search for misreports inside a training step, against those of chapter 61."""

import pytest
import torch
from small_nets import make

from lla_course.auctions.citransnet import Config, build
from lla_course.auctions.markets import SETTINGS, sample_market
from lla_course.auctions.regretnet import true_regret
from lla_course.auctions.search import (
    BatchSearch,
    batch_loss,
    batch_regret,
    draw_batch,
    misreport_utility,
    near_misreports,
    original_step,
    twin,
)


def test_a_twin_follows_and_has_no_gradients_of_weights():
    for maker in ("citransnet", "equivariantnet", "regretnet"):
        net = make("G", maker)
        other = twin(net)
        values, contexts = sample_market(SETTINGS["G"], 5, n=2, m=2)
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1.5)
        assert all(
            torch.allclose(a, b, atol=1e-5) for a, b in zip(net(values, *contexts), other(values, *contexts))
        )
        assert not any(p.requires_grad for p in other.parameters()) and all(
            p.requires_grad for p in net.parameters()
        )


def test_misreport_utility_is_what_one_bidder_gets():
    net, (values, contexts) = make("G", n=3, m=2), sample_market(SETTINGS["G"], 4, n=3, m=2)
    own, misreports = torch.rand(3, 4, 5, 2), torch.rand(3, 4, 5, 2)
    got = misreport_utility(net, values, own, misreports, contexts)
    for i in range(3):
        for g in range(5):
            b = values.clone()
            b[:, i] = misreports[i, :, g]
            allocation, payment = net(b, *contexts)
            assert torch.allclose(
                got[i, :, g], (own[i, :, g] * allocation[:, i]).sum(1) - payment[:, i], atol=1e-6
            )


def test_the_batch_finds_no_more_than_the_grid_and_more_lies_find_more():
    net, s, cfg = make("G", n=2, m=1), SETTINGS["G"], BatchSearch(groups=4, size=6, n_wide=40)
    draws = draw_batch(s, cfg, 2, 1, torch.Generator().manual_seed(0))
    others, own, wide, part, *contexts = draws
    few = batch_regret(net, (others, own, wide[:, :, :0], part, *contexts))[1]
    more, most = batch_regret(net, draws)[1], batch_regret(net, draws, inner_steps=3)[1]
    assert (few <= more + 1e-7).all() and (more <= most + 1e-7).all()
    for i in range(2):
        v = others[:, None].repeat(1, 6, 1, 1)
        v[:, :, i] = own[i]
        grid = true_regret(
            net, v.flatten(0, 1), contexts=[c.repeat_interleave(6, 0) for c in contexts], grid=2001
        )[:, i].mean()
        assert most[i] <= grid + 1e-4 and grid > 0


def test_near_misreports_climb():
    others, own, part = torch.rand(3, 2, 4), torch.rand(2, 3, 8, 4), torch.rand(2, 3, 8, 1) / 2
    net = make("U", n=2, m=4, factor=2.0)
    found = [
        misreport_utility(net, others, own, near_misreports(net, others, own, part, steps=k), ()).mean()
        for k in (0, 1, 4)
    ]
    assert found[0] < found[1] < found[2] and (near_misreports(net, others, own, part) <= 1).all()
    assert all(p.grad is None for p in net.parameters())


def test_the_original_search_climbs_and_leaves_gradients_of_the_loss_only():
    net = make("G", n=2, m=2, factor=2.0)
    values, contexts = sample_market(SETTINGS["G"], 10, n=2, m=2)
    misreports = torch.rand_like(values)
    before = misreports.clone()
    revenue, regret = original_step(net, values, misreports, contexts, steps=3, step=0.01)
    assert 0 < (misreports - before).abs().max() < 0.031 and regret.shape == (2,) and (regret >= 0).all()
    assert all(p.grad is None for p in net.parameters())
    (regret.sum() - revenue).backward()
    assert sum(float(p.grad.abs().sum()) for p in net.parameters() if p.grad is not None) > 0


def test_lies_that_leave_out_an_item():
    s, cfg = SETTINGS["D"], BatchSearch(groups=8, size=32, inner_steps=3, drop_item=True)
    others, own, wide, start, *contexts = draw_batch(s, cfg, 2, 5, torch.Generator().manual_seed(0))
    left_out = (start < 0).sum(-1)
    assert (
        start.shape == own.shape
        and set(left_out.unique().tolist()) == {0, 1}
        and 0.35 < left_out.float().mean() < 0.65
    )
    misreports = near_misreports(None, others, own, start, steps=0)
    assert ((misreports == 0) == (start < 0)).all() and torch.equal(
        misreports[(start == 0)], own[(start == 0)]
    )
    net = build(Config(setting="D", d_model=8, n_layers=1, n_heads=2))
    value = lambda l: misreport_utility(net, others, own, l, contexts).mean()
    near, far = (
        near_misreports(net, others, own, start, contexts, steps=3, large_steps=far) for far in (False, True)
    )
    assert (
        value(misreports) < value(near)
        and (far - own).abs().mean() > (near - own).abs().mean()
        and 0 <= far.min()
        and far.max() <= 1
    )


def test_large_steps_are_not_asked_for_twice():
    assert BatchSearch(inner_steps=1, drop_item=True).far and not BatchSearch(inner_steps=1).far
    with pytest.raises(ValueError, match="^large_steps=True"):
        BatchSearch(inner_steps=1, drop_item=True, large_steps=True)


def test_a_step_is_one_function_of_a_price_and_of_what_a_seed_drew():
    net, search = make("G", "citransnet"), BatchSearch(groups=3, size=4, n_wide=2, inner_steps=2)
    loss, price = batch_loss(net, search), torch.tensor(3.0)
    first, again, other = (
        loss(net, price, *draw_batch(SETTINGS["G"], search, 2, 3, torch.Generator().manual_seed(s)))
        for s in (0, 0, 1)
    )
    assert first["loss"] == again["loss"] != other["loss"]
    assert torch.allclose(first["loss"], price * first["regret"].sum() - first["revenue"])
