"""Small networks and markets for the tests of chapters 61c to 62."""

import hypothesis.strategies as st
import torch

from lla_course.auctions.citransnet import Config, build
from lla_course.auctions.markets import SETTINGS, sample_market

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
