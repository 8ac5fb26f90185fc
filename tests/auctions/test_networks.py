"""CITransNet and its rivals: promises by construction, symmetry, attention, and what is refused."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from small_nets import called, kinds, make, sizes

from lla_course.auctions import networks
from lla_course.auctions.citransnet import MODELS, Config, build
from lla_course.auctions.markets import SETTINGS, sample_market
from lla_course.auctions.mechanisms import utility
from lla_course.auctions.networks import BRANCHES, CITransNet, Encoder, Interaction, element_attention
from lla_course.auctions.regretnet import true_regret


@given(N=st.integers(1, 40), L=st.integers(1, 16), heads=st.sampled_from([1, 2, 4]))
def test_attention_by_elements_is_attention(N, L, heads):
    q, k, v = torch.randn(3, N, heads, L, 8, dtype=torch.float64, requires_grad=True)
    plain, weight = torch.softmax(q @ k.mT / 8**0.5, -1) @ v, torch.randn(N, heads, L, 8, dtype=torch.float64)
    by_elements = element_attention(q, k, v)
    slopes = [torch.autograd.grad((out * weight).sum(), (q, k, v)) for out in (by_elements, plain)]
    assert torch.allclose(by_elements, plain, atol=1e-12) and all(
        torch.allclose(*pair, atol=1e-12) for pair in zip(*slopes)
    )


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
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()


def test_a_network_with_random_weights_is_not_honest():
    values, contexts = sample_market(SETTINGS["G"], 40, n=2, m=1)
    for maker in MODELS:
        net = build(Config(model=maker, sizes=((2, 1),), d_model=16, n_layers=1, n_heads=2))
        assert true_regret(net, values, contexts=contexts, grid=41).mean() > 0.02
