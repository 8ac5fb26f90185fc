"""Markets with contexts: values, yardsticks, dtypes."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from small_nets import TINY

from helpers import same_with_usual_dtype
from lla_course.auctions.citransnet import Config
from lla_course.auctions.markets import SETTINGS, sample_market, yardsticks
from lla_course.auctions.search import draw_batch


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


@pytest.mark.parametrize("usual", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("letter", ["A", "D", "G", "U"])
def test_markets_do_not_depend_on_the_usual_dtype(letter, usual):
    s, cfg = SETTINGS[letter], Config(**TINY | dict(setting=letter, inner_steps=1, drop_item=True))

    def make():
        values, contexts = sample_market(s, 6, seed=1)
        batch = draw_batch(s, cfg, s.n, s.m, torch.Generator().manual_seed(2))
        return [values, *contexts, s.centre(*contexts), *batch]

    assert same_with_usual_dtype(make, usual)


def test_a_market_of_no_bidder_is_not_the_usual_one():
    for name in ("n", "m"):
        with pytest.raises(ValueError, match=f"^{name}=0"):
            sample_market(SETTINGS["D"], 3, **{name: 0})
