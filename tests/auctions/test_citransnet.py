"""CITransNet: promises by construction, symmetry, the searches against those of chapter 61, training,
recorded runs, and what is refused."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from helpers import same_with_usual_dtype
from lla_course.auctions import citransnet, networks
from lla_course.auctions.citransnet import MODELS, Config, build, cells, measure, run, train
from lla_course.auctions.markets import SETTINGS, sample_market, yardsticks
from lla_course.auctions.mechanisms import utility
from lla_course.auctions.networks import BRANCHES, CITransNet, Encoder, Interaction, element_attention
from lla_course.auctions.regretnet import true_regret
from lla_course.auctions.search import (
    BatchSearch,
    batch_regret,
    draw_batch,
    misreport_utility,
    near_misreports,
    original_step,
    twin,
)
from lla_course.records import content_hash

TINY = dict(d_model=8, n_layers=1, n_heads=2, steps=4, groups=2, size=4, n_wide=2)
TINY |= dict(profiles=50, n_regret=3, starts=2, eval_steps=2)
sizes = dict(n=st.integers(1, 4), m=st.integers(1, 4), seed=st.integers(0, 99))
kinds = st.sampled_from(["A", "G", "U"])


def make(letter, maker="citransnet", n=2, m=2, seed=0, factor=4.0, **more):
    "An untrained network whose weights are far from small, for a setting."
    net = build(Config(**TINY | dict(setting=letter, model=maker, sizes=((n, m),), seed=seed) | more))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(factor)
    return net


def called(net, letter, n, m, seed, B=20):
    values, contexts = sample_market(SETTINGS[letter], B, n=n, m=m, seed=seed)
    with torch.no_grad():
        return values, contexts, *net(values, *contexts)


# ---- attention


@given(N=st.integers(1, 40), L=st.integers(1, 16), heads=st.sampled_from([1, 2, 4]))
def test_attention_by_elements_is_attention(N, L, heads):
    q, k, v = torch.randn(3, N, heads, L, 8, dtype=torch.float64, requires_grad=True)
    plain, weight = torch.softmax(q @ k.mT / 8**0.5, -1) @ v, torch.randn(N, heads, L, 8, dtype=torch.float64)
    by_elements = element_attention(q, k, v)
    slopes = [torch.autograd.grad((out * weight).sum(), (q, k, v)) for out in (by_elements, plain)]
    assert torch.allclose(by_elements, plain, atol=1e-12) and all(
        torch.allclose(*pair, atol=1e-12) for pair in zip(*slopes)
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


# ---- by construction


@given(letter=kinds, maker=st.sampled_from(MODELS), **sizes)
def test_every_network_is_feasible_and_rational(letter, maker, n, m, seed):
    values, _, allocation, payment = called(make(letter, maker, n, m, seed), letter, n, m, seed)
    assert allocation.shape == values.shape and payment.shape == values.shape[:2]
    assert (allocation >= 0).all() and (allocation.sum(1) <= 1 + 1e-6).all() and (payment >= 0).all()
    assert (utility(values, allocation, payment) >= -1e-5).all()


@given(letter=kinds, maker=st.sampled_from(["citransnet", "ciequivariantnet", "equivariantnet"]), **sizes)
def test_shuffled_tables_give_shuffled_results(letter, maker, n, m, seed):
    net = make(letter, maker, n, m, seed, factor=2.0)
    values, contexts, allocation, payment = called(net, letter, n, m, seed)
    rng = torch.Generator().manual_seed(seed)
    P, Q = torch.randperm(n, generator=rng), torch.randperm(m, generator=rng)
    with torch.no_grad():
        g, p = net(values[:, P][:, :, Q], *(c[:, k] for c, k in zip(contexts, (P, Q))))
    assert torch.allclose(g, allocation[:, P][:, :, Q], atol=1e-5) and torch.allclose(
        p, payment[:, P], atol=1e-5
    )


def test_dense_networks_know_who_is_first():
    values, contexts, _, payment = called(net := make("G", "ciregretnet"), "G", 2, 2, 1)
    assert (net(values.flip(1), contexts[0].flip(1), contexts[1])[1] - payment.flip(1)).abs().max() > 1e-3


def test_contexts_break_the_tie_between_equal_bids():
    net, b = make("G", m=1), torch.full((1, 2, 1), 0.5)
    x, y = 2 * torch.rand(1, 2, 10) - 1, 2 * torch.rand(1, 1, 10) - 1
    alike, apart = net(b, x[:, :1].expand(1, 2, 10), y)[0], net(b, x, y)[0]
    assert (
        torch.allclose(alike[:, 0], alike[:, 1], atol=1e-6) and (apart[:, 0] - apart[:, 1]).abs().max() > 1e-3
    )


@pytest.mark.parametrize("branches", [("row",), ("column",), ("global",), ("row", "global"), BRANCHES])
def test_a_branch_carries_what_it_should(branches):
    "Change one bid: the tokens of its row, of its column, or all of them hear of it after one layer."
    h = torch.randn(1, 3, 4, 8)
    changed = h.clone()
    changed[0, 1, 2] += 1
    layer = Interaction(8, 2, 8, branches)
    heard = ((layer(h) - layer(changed)).abs().amax(-1) > 1e-7)[0]
    wanted = torch.zeros(3, 4, dtype=bool)
    if "row" in branches:
        wanted[1] = True
    if "column" in branches:
        wanted[:, 2] = True
    if "global" in branches:
        wanted[:] = True
    assert torch.equal(heard, wanted)


def test_the_encoder_is_torchs():
    "The same weights in torch.nn.TransformerEncoderLayer give the same numbers."
    mine, theirs = Encoder(8, 2), torch.nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
    pairs = [
        (theirs.self_attn.in_proj_weight, mine.qkv.weight),
        (theirs.self_attn.in_proj_bias, mine.qkv.bias),
        (theirs.self_attn.out_proj.weight, mine.out.weight),
        (theirs.self_attn.out_proj.bias, mine.out.bias),
    ]
    pairs += [
        (getattr(a, k), getattr(b, k))
        for a, b in (
            (theirs.linear1, mine.dense[0]),
            (theirs.linear2, mine.dense[2]),
            (theirs.norm1, mine.first),
            (theirs.norm2, mine.second),
        )
        for k in ("weight", "bias")
    ]
    with torch.no_grad():
        for a, b in pairs:
            a.copy_(b.normal_())
    for L in (1, 3, 10):
        h = torch.randn(5, L, 8)
        assert torch.allclose(mine(h), theirs(h), atol=1e-5)


def test_the_networks_have_as_many_numbers_as_the_authors():
    count = lambda net: sum(p.numel() for p in net.parameters())
    assert count(CITransNet(10, 10)) == 202_370 and count(CITransNet(16, 16, types=10)) == 203_458


def test_the_random_state_is_left_alone_and_seeds_decide():
    state = torch.get_rng_state()
    a, b, c = (CITransNet(2, 2, d_model=8, seed=s) for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(a.tokens[0].weight, b.tokens[0].weight) and not torch.equal(
        a.tokens[0].weight, c.tokens[0].weight
    )


def test_large_batches_go_through_in_pieces(monkeypatch):
    values, contexts, allocation, payment = called(net := make("G", n=3, m=2), "G", 3, 2, 5, B=50)
    sizes, plain = [], net.unchecked
    monkeypatch.setattr(networks, "SEQUENCES", 21)
    monkeypatch.setattr(net, "unchecked", lambda b, *c: sizes.append(len(b)) or plain(b, *c))
    g, p = net(values, *contexts)
    assert (
        max(sizes) == 7
        and sum(sizes) == 50
        and torch.allclose(g, allocation, atol=1e-6)
        and torch.allclose(p, payment, atol=1e-6)
    )


def test_more_sequences_than_cuda_attention_takes():
    net = CITransNet(0, 0, d_model=2, n_layers=1, n_heads=1)
    with torch.no_grad():
        g, p = net(torch.rand(70_000, 1, 2))
    assert g.shape == (70_000, 1, 2) and torch.isfinite(p).all()


# ---- markets


@given(letter=st.sampled_from(list(SETTINGS)), seed=st.integers(0, 99))
def test_values_stand_where_the_contexts_put_them(letter, seed):
    s = SETTINGS[letter]
    values, contexts = sample_market(s, 30, seed=seed)
    centre = s.centre(*contexts).expand(values.shape)
    assert (
        values.shape == (30, s.n, s.m)
        and values.dtype == torch.float32
        and (values >= 0).all()
        and (values <= 1).all()
    )
    if s.kind == "types":
        assert ((values - centre).abs() < 6 * s.sd).all() and all(
            c.dtype == torch.int64 and (c < s.size).all() for c in contexts
        )
    if s.kind == "vectors":
        assert (values <= centre + 1e-6).all()


@pytest.mark.parametrize(
    "letter, myerson, vcg, margin",
    [
        ("A", 0.5955, 0.4995, 0.008),
        ("D", 2.832, 1.736, 0.015),
        ("E", 6.504, 5.0, 0.02),
        ("F", 7.379, 6.517, 0.02),
        ("G", 1.069, 0.7216, 0.015),
        ("H", 2.7947, 2.2933, 0.02),
        ("I", 3.6885, 3.3175, 0.02),
    ],
)
def test_yardsticks(letter, myerson, vcg, margin):
    "Against 200,000 profiles computed elsewhere; the margin is three standard errors of 4000."
    known = yardsticks(SETTINGS[letter], *sample_market(SETTINGS[letter], 4000, seed=3))
    assert abs(known["myerson"] - myerson) < 1.5 * margin and abs(known["vcg"] - vcg) < 1.5 * margin


def test_yardsticks_of_even_values():
    known = yardsticks(SETTINGS["U"], *sample_market(SETTINGS["U"], 20_000, seed=3))
    assert abs(known["myerson"] - 5 / 6) < 0.01 and abs(known["vcg"] - 2 / 3) < 0.01


# ---- searches


def test_lie_utility_is_what_one_bidder_gets():
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


def test_near_lies_climb():
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


# ---- training


@pytest.mark.parametrize(
    "more",
    [
        dict(),
        dict(inner_steps=2),
        dict(setting="A"),
        dict(setting="U"),
        dict(setting="D", inner_steps=1),
        dict(sizes=((2, 1), (3, 2))),
        dict(branches=("row",)),
        *(dict(model=m) for m in ("ciregretnet", "ciequivariantnet", "equivariantnet", "regretnet")),
    ],
)
def test_everything_trains(more):
    net, seen = train(Config(**TINY | more))
    assert all(len(y) == 4 and np.isfinite(y).all() for y in seen.values()) and min(seen["regret"]) >= 0
    again, _ = train(Config(**TINY | more))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters()))


def test_training_ends_with_its_minutes():
    _, seen = train(Config(**TINY | dict(steps=10**6, minutes=0.01)))
    assert 1 <= len(seen["price"]) < 10**5


def test_one_bidder_and_one_item_learns_a_price():
    "A single price earns a quarter; a short training comes near, with little true regret."
    small = dict(d_model=16, n_layers=1, n_heads=2, steps=400, groups=1, size=256, n_wide=0, rate=1e-2)
    cfg = Config(setting="U", sizes=((1, 1),), target=3e-3, n_regret=200, **small)
    r = measure(train(cfg)[0], cfg, 1, 1)
    assert (
        0.2 < r["revenue"] < 0.28 and r["regret"] < 4e-3 and r["vcg"] == 0 and abs(r["myerson"] - 0.25) < 0.01
    )


def test_a_price_that_rises_too_fast_sells_nothing():
    cfg = Config(
        model="equivariantnet", sizes=((3, 1),), d_model=32, groups=16, size=16, target=3e-3, steps=120
    )
    slow, hasty = (
        np.mean(train(c)[1]["revenue"][-20:]) for c in (cfg, replace(cfg, budget_start=1e-2, dual_rate=0.5))
    )
    assert hasty < 1e-3 and slow > 0.1


# ---- recorded runs


@pytest.mark.parametrize(
    "name",
    [
        "citransnet_A_0",
        "citransnet_D_0",
        "regretnet_G_0",
        "equivariantnet_A_0",
        "ciregretnet_D_0",
        "without_row_G_0",
        "sizes_several_0",
    ],
)
def test_run(name, monkeypatch):
    monkeypatch.setattr(citransnet, "pick_device", lambda name: torch.device("cpu"))
    out = run(cells("fast")[name])
    found, arrays = out.result, out.arrays
    content_hash(found)
    assert (
        (arrays is not None) == (name in ("citransnet_A_0", "citransnet_D_0", "sizes_several_0"))
        and found["steps"] == 20
        and len(json.dumps(found)) < 50_000
    )
    assert all(
        t["regret"] >= 0 and 0 <= t["revenue"] < 10 and t["myerson"] >= t["vcg"] for t in found["tests"]
    )


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


def test_cells():
    fast, full = cells("fast"), cells("full")
    assert list(fast) == list(full) and len(full) == 14 + 2 + 1 + 2 + 6 + 12 + 4 + 2
    assert all(
        c.d_model == 64
        and c.n_layers == 3
        and c.n_heads == 4
        and c.minutes <= 6
        and c.starts >= 100
        and c.eval_steps >= 200
        and c.profiles == 5000
        for n, c in full.items()
        if not n.startswith("small")
    )
    assert full["citransnet_A_0"].n_regret == full["citransnet_G_0"].n_regret == 5000 and all(
        c.n_regret >= 256 for n, c in full.items() if not n.startswith("small")
    )


def test_no_unconfirmed_number_is_printed_as_the_papers():
    "These we only remember; nobody may read them here as the paper's."
    folder = Path(citransnet.__file__).parents[2] / "nbs"
    books = [*sorted(folder.glob("61[c-e]_*.ipynb")), folder / "62_citransnet.ipynb"]
    read = [json.loads(book.read_text(encoding="utf-8"))["cells"] for book in books]
    text = "\n".join("".join(c["source"]) for cells in read for c in cells)
    assert len(books) == 4
    remembered = "2.821 2.916 7.376 7.778 2.793 2.918 3.684 3.899 .554 9.734 .878 5.541 6.778".split()
    assert [
        r for r in remembered if re.search(rf"(?<!\d){re.escape(r)}(?!\d)|0{re.escape(r)}(?!\d)", text)
    ] == []


# ---- what is refused

ok, ctx = torch.rand(4, 2, 3), (torch.rand(4, 2, 5), torch.rand(4, 3, 5))
net, typed = CITransNet(5, 5, d_model=8), CITransNet(4, 4, d_model=8, types=6)
ids = torch.zeros(4, 2, dtype=torch.long), torch.zeros(4, 3, dtype=torch.long)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: net(ok[0], *ctx), "bids.shape"),
        (lambda: net(ok.numpy(), *ctx), "bids.shape"),
        (lambda: net(ok[:0], *ctx), "bids.shape"),
        (lambda: net(ok * math.nan, *ctx), r"bids\[0, 0, 0\]"),
        (lambda: net(ok + 1, *ctx), r"bids\[0, 0, 0\]"),
        (lambda: net(ok - 2, *ctx), "bids"),
        (lambda: net(ok), "bidder_context.shape"),
        (lambda: net(ok, ctx[0]), "item_context.shape"),
        (lambda: net(ok, ctx[1], ctx[0]), "bidder_context.shape"),
        (lambda: net(ok, ctx[0], ctx[1] * math.inf), "item_context"),
        (lambda: net(ok, ctx[0][:3], ctx[1]), "bidder_context.shape"),
        (lambda: typed(ok, *ctx), "bidder_context.shape"),
        (lambda: typed(ok, ids[0].float(), ids[1]), "bidder_context"),
        (lambda: typed(ok, ids[0], ids[1] + 6), "item_context"),
        (lambda: typed(ok, ids[0] - 1, ids[1]), "bidder_context"),
        (lambda: CITransNet(-1, 2), "d_bidder"),
        (lambda: CITransNet(2, 2.0), "d_item"),
        (lambda: CITransNet(2, 2, d_model=1, n_heads=1), "d_model"),
        (lambda: CITransNet(2, 2, d_model=10), "d_model"),
        (lambda: CITransNet(2, 2, n_layers=0), "n_layers"),
        (lambda: CITransNet(2, 2, n_heads=True), "n_heads"),
        (lambda: CITransNet(2, 2, branches=()), "branches"),
        (lambda: CITransNet(2, 2, branches=("diagonal",)), "branches"),
        (lambda: CITransNet(2, 2, types=0), "types"),
        (lambda: build(Config(setting="Z")), "setting"),
        (lambda: build(Config(model="oracle")), "model"),
        (lambda: train(Config(minutes=0)), "minutes"),
    ],
)
def test_bad_input(call, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()


# ---- what is left behind, dtypes


def test_measuring_gives_gradients_modes_and_precision_back(monkeypatch):
    cfg = Config(**TINY | dict(setting="D"))
    net = build(cfg).train()
    net.tokens[0].weight.requires_grad_(False)
    before = [p.requires_grad for p in net.parameters()], [m.training for m in net.modules()]
    precision = torch.get_float32_matmul_precision()
    state = lambda: ([p.requires_grad for p in net.parameters()], [m.training for m in net.modules()])
    measure(net, cfg, 2, 5)
    assert state() == before and torch.get_float32_matmul_precision() == precision

    def broken(*given, **more):
        raise RuntimeError("broken")

    monkeypatch.setattr(citransnet, "best_misreports", broken)
    with pytest.raises(RuntimeError, match="broken"):
        measure(net, replace(cfg, tf32=True), 2, 5)
    assert state() == before and torch.get_float32_matmul_precision() == precision


@pytest.mark.parametrize("usual", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("letter", ["A", "D", "G", "U"])
def test_markets_do_not_depend_on_the_usual_dtype(letter, usual):
    s, cfg = SETTINGS[letter], Config(**TINY | dict(setting=letter, inner_steps=1, drop_item=True))

    def make():
        values, contexts = sample_market(s, 6, seed=1)
        batch = draw_batch(s, cfg, s.n, s.m, torch.Generator().manual_seed(2))
        return [values, *contexts, s.centre(*contexts), *batch]

    assert same_with_usual_dtype(make, usual)


def test_large_steps_are_not_asked_for_twice():
    assert BatchSearch(inner_steps=1, drop_item=True).far and not BatchSearch(inner_steps=1).far
    with pytest.raises(ValueError, match="^large_steps=True"):
        BatchSearch(inner_steps=1, drop_item=True, large_steps=True)


def test_a_market_of_no_bidder_is_not_the_usual_one():
    for name in ("n", "m"):
        with pytest.raises(ValueError, match=f"^{name}=0"):
            sample_market(SETTINGS["D"], 3, **{name: 0})
