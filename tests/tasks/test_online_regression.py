"""Test-time regression: the worlds, the methods against their definitions, no look ahead, and the claim of
the chapter with its margin."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lla_course.attention.baselines import mesa_attention
from lla_course.attention.dense import lla_dense
from lla_course.tasks import online_regression
from lla_course.tasks.online_regression import (
    GRIDS,
    LADDERS,
    Config,
    cells,
    climb,
    later,
    lla_predictions,
    make_sequences,
    paired_ratio,
    predict,
    quarters,
    run,
    sample_segments,
    verdicts,
)

gen = lambda s=0: torch.Generator().manual_seed(s)
SMALL = Config(4, 16, length=64, tune=2, test=3, seeds=(0, 1))


def test_a_segment_is_one_linear_map_and_keys_have_one_length():
    k, v = make_sequences(replace(SMALL, noise=0.0), 2, gen())
    torch.testing.assert_close(k.square().sum(-1), torch.full((2, 64), 4.0, dtype=torch.float64))
    maps = [torch.linalg.lstsq(k[0, a : a + 8], v[0, a : a + 8]).solution for a in (0, 8, 16, 24)]
    torch.testing.assert_close(maps[0], maps[1])
    torch.testing.assert_close(maps[2], maps[3])
    assert (maps[0] - maps[2]).norm() > 0.5
    for a, W in zip((0, 8, 16, 24), maps):
        torch.testing.assert_close(k[0, a : a + 8] @ W, v[0, a : a + 8])


def test_pieces_come_again():
    k, v = make_sequences(Config(3, 8, length=160, pieces=2, noise=0.0), 1, gen())
    maps = torch.stack(
        [torch.linalg.lstsq(k[0, a : a + 8], v[0, a : a + 8]).solution for a in range(0, 160, 8)]
    )
    assert len({tuple(m.flatten().round(decimals=6).tolist()) for m in maps}) == 2


@pytest.mark.parametrize("scale, ridge", [(0.5, 0.1), (2.0, 0.003)])
def test_shared_moments_give_the_oracles_answers(scale, ridge):
    k, v = (x[0] for x in make_sequences(SMALL, 1, gen()))
    torch.testing.assert_close(
        lla_predictions(k[1:], k[:-1], v[:-1], scale=scale, ridges=(7.0, ridge))[1],
        lla_dense(k[1:], k[:-1], v[:-1], scale=scale, ridge=ridge),
        rtol=1e-7,
        atol=1e-9,
    )


def test_methods_are_the_formulas():
    k, v = make_sequences(SMALL, 2, gen())
    q, past, told = k[:, 1:], k[:, :-1], v[:, :-1]
    one = lambda m, s: next(predict(m, [s], k, v))[1]
    torch.testing.assert_close(
        one("softmax", (2.0,)), F.scaled_dot_product_attention(q, past, told, is_causal=True, scale=1.0)
    )
    torch.testing.assert_close(
        one("mesanet", (0.1, 1.0)), mesa_attention(q, past, told, ridge=0.1, is_causal=True)
    )
    torch.testing.assert_close(one("mesanet_fading", (0.1, 1.0)), one("mesanet", (0.1, 1.0)))
    torch.testing.assert_close(one("gated_deltanet", (0.5, 1.0)), one("deltanet", (0.5, 1.0)))
    assert [s for s, _ in predict("lla", GRIDS["lla"], k, v)] == GRIDS["lla"]


@pytest.mark.parametrize("method", GRIDS)
def test_nobody_sees_a_value_before_it_was_predicted(method):
    k, v = make_sequences(SMALL, 2, gen())
    other = v.clone()
    other[:, 30:] += 5
    a, b = (next(predict(method, GRIDS[method][-1:], k, x))[1] for x in (v, other))
    torch.testing.assert_close(a[:, :30], b[:, :30])
    assert not torch.allclose(a[:, 30:], b[:, 30:])


def test_a_run_repeats_itself_and_counts_its_sequences():
    a, b = run(SMALL).result, run(SMALL).result
    assert a == b and set(a) == set(GRIDS)
    for r in a.values():
        assert len(r["curve"]) == 63 and len(r["first"]) == len(r["later"]) == 6 and len(r["chosen"]) == 2
    assert later(SMALL).sum() == 48 and later(replace(SMALL, pieces=2)).sum() == 32


def test_a_climb_ends_where_no_neighbour_is_better_and_never_asks_twice():
    ladders, asked = ((1, 2, 3, 4, 5), (10, 20, 30)), []

    def error(settings):
        asked.extend(settings)
        return {(a, b): math.nan if a == 5 else (a - 4) ** 2 + (b - 30) ** 2 for a, b in settings}

    assert climb(error, error([(1, 10), (2, 10)]), ladders) == (4, 30)
    assert len(asked) == len(set(asked)) and (5, 30) in asked and (1, 30) not in asked
    assert all(
        set(column) <= set(ladder) for m in GRIDS for column, ladder in zip(zip(*GRIDS[m]), LADDERS[m])
    )


def test_a_wide_run_chooses_no_worse_than_the_grid():
    rng = gen()
    k, v = make_sequences(SMALL, SMALL.tune, rng)
    error = lambda m, s: (next(predict(m, [s], k, v))[1] - v[:, 1:]).square().mean().item()
    near, far = (run(replace(SMALL, seeds=(0,), wide=wide)).result for wide in (False, True))
    for m in GRIDS:
        assert error(m, far[m]["chosen"][0]) <= error(m, near[m]["chosen"][0]) * (1 + 1e-9)


def test_segments_are_maps_of_keys_on_a_sphere():
    k, v, W = sample_segments((3, 4, 50, 6), gen(), noise=0.0)
    assert k.shape == v.shape == (3, 4, 50, 6) and W.shape == (3, 4, 6, 6)
    torch.testing.assert_close(v, k @ W.mT)
    torch.testing.assert_close(k.square().mean(-1), torch.ones(3, 4, 50, dtype=torch.float64))
    near, far = (
        sample_segments((3, 4, 50, 6), gen(), noise=0.0, spread=s)[0].var(2).mean() for s in (0.1, 3.0)
    )
    assert near < 0.1 < 0.5 < far
    again, _, maps = sample_segments((2, 30, 5, 6), gen(), noise=0.0, pieces=2, dtype=torch.float32)
    assert again.dtype == torch.float32 and all(len(m.flatten(1).unique(dim=0)) == 2 for m in maps)


def test_quarters_and_the_paired_ratio():
    curve = [0.0] * 15 + [float(i % 16) for i in range(16, 64)]
    assert quarters(curve, 16) == [1.5, 5.5, 9.5, 13.5]
    a = torch.rand(4000, generator=gen(), dtype=torch.float64) + 1
    b = a / 2
    r, se = paired_ratio(a, b)
    assert abs(r - 2) < 1e-12 and se < 1e-12
    b = torch.rand(4000, generator=gen(1), dtype=torch.float64) + 1
    means = torch.stack(
        [a[i].mean() / b[i].mean() for i in torch.randint(4000, (400, 4000), generator=gen(2))]
    )
    assert paired_ratio(a, b)[1] == pytest.approx(means.std().item(), rel=0.15)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: make_sequences(Config(4, 65, length=64), 1, gen()), "segment"),
        (lambda: next(predict("hyena", [], torch.ones(1, 4, 2), torch.ones(1, 4, 2))), "method"),
        (lambda: paired_ratio([1.0], [1.0]), "a"),
        (lambda: cells("slow"), "preset"),
    ],
)
def test_bad_arguments(call, name):
    with pytest.raises(ValueError, match=f"^{name}="):
        call()


# ---- what the chapter claims, with margins


@pytest.fixture(scope="module")
def live():
    worlds = {n: c for n, c in cells("fast").items() if n in ("d16_S128", "d16_S32_again")}
    return worlds, {n: run(c).result for n, c in worlds.items()}


def low(r, a, b, when="later"):
    ratio, se = paired_ratio(r[a][when], r[b][when])
    return ratio - 2.04 * se  # lower 95 % bound of a ratio over 32 sequences


def test_lla_beats_softmax_after_the_first_segment(live):
    r = live[1]["d16_S128"]
    assert len(r["lla"]["later"]) >= 20 and low(r, "softmax", "lla") > 1.1 and low(r, "mesanet", "lla") > 1.5


def test_mesanet_wins_the_first_segment_and_forgetting_wins_the_rest(live):
    r = live[1]["d16_S128"]
    assert low(r, "lla", "mesanet", "first") > 1.2 and low(r, "lla", "mesanet_fading") > 1.3


def test_where_pieces_come_back_lla_beats_all(live):
    r = live[1]["d16_S32_again"]
    for rival in GRIDS:
        if rival != "lla":
            assert low(r, rival, "lla") > 1.3, rival


def test_lla_falls_within_segments_by_more_than_softmax(live):
    fall = {m: (q := quarters(live[1]["d16_S128"][m]["curve"], 128))[3] / q[1] for m in ("softmax", "lla")}
    assert fall["lla"] < 0.6 < fall["softmax"]
    found = verdicts({"d16_S128": live[1]["d16_S128"]}, live[0])
    assert (
        len(found) == 7
        and found["LLA is best later, of those that never forget"] == [True]
        and found["LLA is best later, of all"] == [False]
    )


# ---- lengths, dtypes, nothing


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1.0, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 2, 8])
def test_a_key_has_one_length_however_short_it_was(d, dtype, size):
    x = size * torch.randn(500, d, generator=gen(), dtype=dtype)
    k = online_regression.rms_normalized(x)
    torch.testing.assert_close(k.norm(dim=-1), torch.full((500,), d**0.5, dtype=dtype))
    torch.testing.assert_close(k, x / x.norm(dim=-1, keepdim=True) * d**0.5)


def test_keys_in_one_dimension_are_plus_or_minus_one():
    k, _ = make_sequences(Config(1, 4, length=4000), 5, gen())
    assert ((k.abs() - 1).abs() < 1e-12).all()


@pytest.mark.parametrize("method", GRIDS)
def test_no_sequence_has_no_answers(method):
    k, v = make_sequences(SMALL, 0, gen())
    assert k.shape == v.shape == (0, 64, 4)
    assert [o.shape for _, o in predict(method, GRIDS[method], k, v)] == [(0, 63, 4)] * len(GRIDS[method])
    k, v = make_sequences(SMALL, 2, gen())
    assert all(o.shape == (2, 0, 4) for _, o in predict(method, GRIDS[method], k[:, :1], v[:, :1]))


def test_a_bad_call_is_refused_before_anything_is_asked():
    with pytest.raises(ValueError, match="^method="):
        predict("oracle", [], *make_sequences(SMALL, 1, gen()))
