"""Bad input to the public functions of core, regression, auctions.mechanisms and two_items.

A case is a label, a call, and a text. The call must raise a `ValueError` whose message begins with the text,
as a
rule the name of the argument, and contains the word "expected"."""

import tempfile
from collections.abc import Callable

import numpy as np
import torch

from lla_course import core, records
from lla_course.auctions import mechanisms as auction
from lla_course.auctions import two_items as items
from lla_course.regression import bias_variance as errors
from lla_course.regression import kernel, lab
from lla_course.regression import local_linear as line

NAN, INF = float("nan"), float("inf")
CASES: list[tuple[str, Callable[[], object], str]] = []


def refused(door: Callable, good: dict, wrong: dict) -> None:
    "One case for each bad value of each argument; the text is the argument's name unless a `Named` gives it."
    for argument, values in wrong.items():
        for value in values:
            value, text = value if isinstance(value, Named) else (value, argument)
            call = lambda argument=argument, value=value: door(**good | {argument: value})
            CASES.append((f"{door.__name__}-{argument}-{len(CASES)}", call, text))


class Named(tuple):
    "A bad value, and what the message should name in the place of the argument."


def named(value: object, text: str) -> Named:
    return Named((value, text))


NOT_NUMBERS = [None, "a", ["a", "b"], [1j, 2.0], object(), {1.0, 2.0}, np.array(["2026-01-01"], "M8[D]")]
MASKED = np.ma.array([0.0, 1.0, 2.0], mask=[0, 1, 0])

# ---- core

refused(core.by_preset, dict(preset="fast", fast=1, full=2), dict(preset=[None, "Fast", 1, ["fast"]]))
refused(
    core.require_positive,
    dict(name="h", value=1.0),
    dict(value=[named(v, "h=") for v in (None, "1", True, NAN, -1, [1, 2])]),
)
refused(
    core.require_whole,
    dict(name="n", value=1, least=0),
    dict(value=[named(v, "n=") for v in (None, "1", True, 1.0, -1)]),
)
refused(
    core.require_flag, dict(name="on", value=True), dict(value=[named(v, "on=") for v in (None, "no", 1)])
)
refused(
    core.require_choice,
    dict(name="k", value="a", choices=["a"]),
    dict(value=[named(v, "k=") for v in (None, "b", ["a"])]),
)
refused(
    core.require_finite,
    dict(name="y", value=torch.ones(1)),
    dict(value=[named(torch.tensor([NAN]), "y[0]=nan"), named([1.0], "y='list'")]),
)
refused(core.seed_everything, dict(seed=0), dict(seed=[None, "0", -1, 1.5, True, 2**32]))
refused(
    core.pick_device,
    dict(name="cpu"),
    dict(name=[named(v, "device=") for v in (None, 3, "mps", "cpu:7", "meta", "xpu", "cuda:256", "gpu", "")]),
)
refused(core.device_name, dict(device="cpu"), dict(device=[None, "mps", "meta"]))
refused(
    core.as_tensors,
    dict(x=[1.0]),
    dict(
        y=[
            *NOT_NUMBERS,
            named(MASKED, "y[1]=masked"),
            named([[1.0], MASKED[1:2]], "y[1, 0]=masked"),
            torch.eye(2).to_sparse(),
            torch.ones(2, device="meta"),
            [[1], [1, 2]],
        ]
    ),
)
refused(records.content_hash, dict(content=1), dict(content=[{1, 2}, NAN, object(), {1: 2, "1": 3}]))
refused(core.write_atomic, dict(path="x", content="x"), dict(path=[None, 3], content=[None, 5, ["a"]]))
refused(records.checkpointed, dict(name="a", make=dict), dict(name=[None, "../a", "a/b", ""], make=[None, 5]))

RECORD = dict(
    name="chapter/cell", result={"v": 1}, config={}, seed=0, seconds=1.0, folder=tempfile.gettempdir()
)
refused(
    records.save,
    RECORD,
    dict(
        name=[None, "", "../a", "/a", "a//b", "a\\b", ".a"],
        result=[None, [1], {"a": NAN}, {"a": {1, 2}}, named({1: 2, "1": 3}, "keys=")],
        config=[None, 5, "x"],
        seed=[None, "0", 1.5],
        seconds=[None, "1", -1, NAN],
        preset=[None, "none", "Full"],
        folder=[5],
        replace=["yes", 1],
    ),
)
refused(
    lambda **parts: records.save(**RECORD | dict(result=records.Run({"v": 1}, **parts))),
    {},
    dict(
        device=["mps", 3],
        arrays=[
            [1],
            {"w": ["a"]},
            {"w": np.array([None])},
            {"w": [complex(0, NAN)]},
            {"w": MASKED},
            named({"../w": [1.0]}, "name="),
            {"w": np.array(["2026"], "M8[D]")},
        ],
    ),
)
refused(
    records.load,
    dict(name="chapter/cell", folder=RECORD["folder"]),
    dict(name=["../a", None, ""], config=[5, "x", [1]], folder=[5]),
)
refused(
    records.check_replacement,
    dict(name="chapter/cell", preset="fast", folder=RECORD["folder"]),
    dict(name=["../a"], preset=["none"], device=["mps"], folder=[5]),
)

# ---- smoothers

DESIGN = dict(x0=[0.1, 0.5], x=[0.0, 1.0, 2.0], y=[1.0, 2.0, 3.0])
BAD_DESIGN = dict(
    x0=[
        *NOT_NUMBERS,
        [0.0, NAN],
        [[0.0, 1.0]],
        np.ones((2, 1, 1)),
        0.5,
        np.ma.array([0.0, 1.0], mask=[1, 0]),
    ],
    x=[None, "a", [], [0.0, 1.0, INF], MASKED, [0.0, 1e308, 0.0], np.ones((3, 1, 1))],
    y=[None, "a", [1.0, 2.0], [NAN, 1.0, 2.0], MASKED],
)
BAD_KNOBS = dict(
    bandwidth=[None, 0, -1.0, NAN, INF, "wide", [], [0.1, 0.2], True, [[0.1]]],
    kernel=[None, "gausian", 1, ["gaussian"]],
)
BAD_RIDGE = dict(ridge=[None, -1, NAN, INF, "0.1", [0.1, 0.2], True])

refused(kernel.nadaraya_watson, DESIGN | dict(bandwidth=0.5), BAD_DESIGN | BAD_KNOBS)
refused(line.local_linear, DESIGN | dict(bandwidth=0.5), BAD_DESIGN | BAD_KNOBS | BAD_RIDGE)
refused(line.local_slope, DESIGN | dict(bandwidth=0.5), BAD_DESIGN | BAD_RIDGE | dict(y=[np.ones((3, 2))]))
refused(line.global_linear, DESIGN, BAD_DESIGN | BAD_RIDGE)
WEIGHTS = {k: v for k, v in BAD_DESIGN.items() if k != "y"}
refused(kernel.kernel_weights, dict(x0=[0.1], x=[0.0, 1.0], bandwidth=0.5), WEIGHTS | BAD_KNOBS)
refused(line.equivalent_kernel, dict(x0=[0.1], x=[0.0, 1.0], bandwidth=0.5), WEIGHTS | BAD_RIDGE)
refused(kernel.nadaraya_watson, DESIGN | dict(bandwidth=0.5, kernel="boxcar"), dict(x0=[[9.0]]))
refused(
    kernel.smoother_matrix, dict(x=[0.0, 1.0], bandwidth=0.5), dict(weights=["w"], x=[MASKED], bandwidth=[0])
)
refused(
    kernel.degrees_of_freedom,
    dict(smoother=np.eye(2)),
    dict(smoother=[None, "S", np.ones((2, 3)), np.ones(2), np.zeros((0, 0)), np.full((2, 2), NAN)]),
)
refused(
    kernel.leave_one_out,
    dict(smoother=np.eye(2), y=[1.0, 2.0]),
    dict(smoother=["S", np.eye(3), np.ones(2)], y=[None, [NAN, 1.0], named([1.0], "smoother.shape=")]),
)
refused(kernel.leave_one_out, dict(smoother=np.zeros((0, 0)), y=[]), dict(y=[[]]))
refused(
    kernel.cross_validate,
    dict(x=[0.0, 1.0], y=[0.0, 1.0], bandwidths=[0.5]),
    dict(
        bandwidths=[0.5, None, named([0], "bandwidth="), named("ab", "bandwidth=")],
        weights=[3],
        x=[[NAN, 1.0]],
    ),
)
refused(kernel.as_design, DESIGN, dict(x0=["a"], x=[[]], y=[[1.0]]))
refused(
    kernel.as_bandwidth,
    dict(bandwidth=0.1, x=torch.zeros(3, 1)),
    dict(bandwidth=[0, "a"], x=[[0.0], torch.zeros(3)]),
)
refused(
    kernel.in_blocks,
    dict(answer=len, x0=torch.ones(3), row_size=1, budget=9),
    dict(answer=[5], x0=[[1.0]], row_size=[-1, 1.5, "1"], budget=[0, None, True]),
)
BLOCK = dict(x0=torch.zeros(2, 1), x=torch.zeros(3, 1), bandwidth=torch.ones(1), kernel="gaussian")
refused(
    kernel.block_weights,
    BLOCK,
    dict(x0=[[0.0], torch.zeros(2)], x=[None, torch.zeros(0, 1)], bandwidth=[0.1], kernel=["flat"]),
)
MOMENTS = dict(p=torch.full((2, 3), 1 / 3), x0=torch.zeros(2, 1), x=torch.zeros(3, 1), ridge=0.0)
for function in (line.centred_moments, line.first_order_weights):
    refused(
        function,
        MOMENTS,
        dict(
            p=[None, torch.ones(3)], x0=[[0.0], torch.zeros(5, 1)], x=[np.zeros((3, 1))], ridge=[-1, "a", NAN]
        ),
    )
refused(line.Config, {}, dict(n=[0, "9"], m=[-1], d=[1.5], seed=[-1]))
refused(line.run, {}, dict(cfg=["full", None]))
refused(line.cells, {}, dict(preset=[None, "medium"]))

# ---- bias and variance

AXIS = (torch.arange(9, dtype=torch.float64) + 0.5) / 9
EXACT = dict(
    weights=lambda q, x: line.equivalent_kernel(q, x, bandwidth=0.2),
    x0=AXIS[:2],
    x=AXIS,
    f=torch.sin,
    noise=1.0,
)
BAD_EXACT = dict(
    weights=["w", lambda q, x: torch.ones(2, 2)],
    x0=[[0.0], None],
    x=[np.zeros(9)],
    noise=[-1, NAN, "a", True],
    f=[3, named(lambda t: 1.0, "f(x)=")],
)
refused(errors.bias_variance, EXACT, BAD_EXACT)
refused(
    errors.monte_carlo,
    EXACT | dict(draws=3, generator=torch.Generator()),
    BAD_EXACT | dict(draws=[1, 2.5, "3", True, None], generator=[None, 0]),
)
refused(
    errors.axis_weights,
    dict(x0=AXIS, x=AXIS, bandwidth=0.1, linear=True),
    dict(x0=[[0.0]], x=[AXIS[:, None]], bandwidth=[0, "a"], linear=[1, "no"]),
)
refused(
    errors.along,
    dict(values=AXIS, matrices=[torch.ones(2, 9)]),
    dict(values=[[1.0]], matrices=[[], [torch.ones(2, 3)]]),
)
refused(errors.outer, {}, dict(factors=[[], 5, [torch.ones(2, 2)]]))
refused(
    errors.grid_bias_variance,
    dict(x0=AXIS[:2], x=AXIS, values=AXIS, truth=AXIS[:2], bandwidth=0.2, linear=True, noise=1.0),
    dict(noise=[-1, "a"], truth=[AXIS], bandwidth=[0], linear=["no"], values=[named(AXIS[:3], "matrices=")]),
)
refused(errors.graded_nodes, {}, dict(order=[0, 1.5, "4"], smallest=[0, 0.5, NAN], pieces=[1, "a"]))
CURVE = errors.Config("local_linear", 1, (9,))
refused(
    errors.integrated_error,
    dict(bandwidth=0.1, side=9, cfg=CURVE),
    dict(bandwidth=[0, "a", NAN], side=[0, 1.5], cfg=["line"], device=["mps"]),
)
refused(errors.oracle, dict(side=9, cfg=CURVE), dict(side=[0, "9"], cfg=[None]))
refused(
    errors.Config,
    dict(estimator="local_linear", d=1, sides=(9,)),
    dict(estimator=["line", None], d=[0, 1.5], sides=[(), (0,), 9], noise=[-1]),
)
refused(errors.run, {}, dict(cfg=["d1"]))
refused(
    errors.decade_slopes,
    dict(n=[10, 100], error=[1.0, 0.1]),
    dict(n=[[], [100, 10], 5, [0, 1]], error=[[1.0], [1.0, 0.0], [1.0, NAN], None]),
)

# ---- the bench

refused(
    lab.sample,
    dict(data="wave", n=9, noise=0.1, seed=0),
    dict(data=[None, "tides"], n=[1, 2.5, "9"], noise=[-1, NAN], seed=[-1, 0.5]),
)
refused(
    lab.bench_figure, {}, dict(query=[2.0, "x", NAN], bandwidth=[0, "a"], ridge=[-1], kernel=["flat"], n=[1])
)
refused(
    lab.bias_variance_figure,
    {},
    dict(truth=["tides"], design=["random"], n=[0, 2.5], noise=[-1], bandwidth=[-1], ridge=["r"]),
)

# ---- auctions of one item

BIDS = [
    None,
    "a",
    [["a"]],
    [[NAN, 1.0]],
    [[-1.0, 1.0]],
    [1.0, 2.0],
    np.zeros((0, 2)),
    np.ma.array([[1.0, 2.0]], mask=[[0, 1]]),
]
for function in (auction.first_price, auction.second_price):
    refused(function, {}, dict(bids=BIDS))
refused(auction.highest_wins, {}, dict(bids=[None, "a", [[NAN, 1.0]], [1.0], np.zeros((0, 2))]))
refused(items.vcg, {}, dict(bids=[*BIDS, [[1.0, 2.0]]]))
EVEN = auction.uniform(0, 1)
refused(
    auction.myerson,
    dict(values=[[0.5, 0.1]], distributions=EVEN),
    dict(
        values=[*BIDS, [[0.5, 1.5]]],
        distributions=[None, 3, [EVEN], ["even"] * 2, auction.uniform(0, torch.ones(3))],
    ),
)
refused(
    items.itemwise_myerson,
    dict(values=[[[0.5]]], distributions=[EVEN]),
    dict(values=BIDS, distributions=[None, 3, EVEN, [EVEN] * 2, ["a"]]),
)
ONE = torch.ones(1, 2)
refused(
    auction.utility,
    dict(values=ONE, allocation=ONE, payment=ONE),
    dict(values=[[[1.0]], torch.ones(2)], allocation=[None, torch.ones(2)], payment=[None, torch.ones(1)]),
)
refused(
    auction.grid_regret,
    dict(mechanism=auction.first_price, values=[[0.5, 0.1]], reports=[0.1]),
    dict(mechanism=["vcg", None], values=BIDS, reports=[None, [], 0.1, [NAN], [[0.1]]]),
)
refused(
    auction.uniform,
    dict(low=0, high=1),
    dict(
        low=["a", None, named(-1, "low, high="), named(1, "low, high="), named(NAN, "low, high="), MASKED],
        high=["b", named(INF, "low, high=")],
    ),
)
refused(auction.exponential, {}, dict(mean=[None, "a", 0, -1, NAN, INF, True]))
refused(
    auction.truncated_normal,
    dict(mean=0.5, sd=0.1),
    dict(
        mean=[None, "a", NAN, INF, MASKED, named(1e12, "sd=")],
        sd=[None, "a", 0, -1, NAN, 1e-13],
        low=["a", -1, NAN],
        high=["a", INF, named(0, "low, high=")],
    ),
)
for name in ("cdf", "pdf", "virtual", "inverse", "survival"):
    refused(getattr(EVEN, name), {}, dict(v=[None, "a", MASKED]))
refused(lambda u: EVEN.quantile(u), {}, dict(u=[-0.1, 1.1, NAN, named("a", "v=")]))
refused(
    auction.piecewise_uniform,
    dict(edges=[0, 1, 2], probabilities=[0.5, 0.5]),
    dict(
        edges=[None, "a", [0], [0, 1, 1], [0, NAN, 2], [-1, 0, 1], MASKED],
        probabilities=[None, [0.5], [0.5, 0.6], [1.0, 0.0], [NAN, 0.5]],
        points=[0, 1.5, "9"],
    ),
)
refused(
    auction.myerson_revenue,
    dict(distributions=[EVEN]),
    dict(distributions=[None, [], EVEN, ["a"], [auction.uniform(0, ONE[0])]], panels=[0, 1.5, "9", True]),
)
refused(auction.raw_virtual, dict(d=EVEN, v=0.5), dict(d=[None, "even"], v=[2.0, "a"]))

# ---- menus and programs

refused(
    items.menu,
    dict(values=[[1.0]], bundles=[[1.0]], prices=[1.0]),
    dict(
        values=[None, "a", [[NAN]], named([1.0], "shapes=")],
        bundles=[None, named([[1.0, 0.0]], "shapes=")],
        prices=[[INF], named([1.0, 2.0], "shapes=")],
    ),
)
refused(items.straight_jacket, dict(m=1), dict(m=[0, 7, 2.0, "2", True, None], log2_points=[0, 40, "9"]))
refused(items.by_size, {}, dict(prices=[None, "a", [], [[1.0]], [NAN], np.ones(17)]))
TYPES = dict(types=[[1.0], [2.0]], weights=[0.5, 0.5])
BAD_TYPES = dict(
    types=[
        None,
        "a",
        [],
        [1.0, 2.0],
        [[NAN], [1.0]],
        [[-1.0], [1.0]],
        np.ma.array([[1.0], [2.0]], mask=[[0], [1]]),
    ],
    weights=[None, "a", [1.0], [0.5, 0.6], [1.5, -0.5], [NAN, 0.5]],
)
refused(auction.as_types, TYPES, BAD_TYPES)
refused(auction.optimal_lp, TYPES, BAD_TYPES | dict(unit_demand=["no", 1, None]))
refused(auction.optimal_pair_lp, TYPES, BAD_TYPES | dict(truthful=[None, "yes", True]))
refused(
    auction.type_grid,
    dict(low=[0], high=[1], size=2),
    dict(
        low=[
            "a",
            None,
            named([1], "low, high="),
            named([NAN], "low, high="),
            named(0, "low, high="),
            named([0, 0], "low, high="),
        ],
        size=[0, 2.5, "2", True, 10**8],
        where=[None, "top"],
    ),
)
refused(items.richardson, dict(coarse=1.0, fine=2.0), dict(coarse=[None, "a", NAN, [1.0]], fine=[INF]))
TABLE = auction.LPResult(1.0, np.ones((2, 1)), np.ones(2), 0)
refused(
    auction.read_menu,
    dict(result=TABLE, weights=[0.5, 0.5]),
    dict(result=[None, "a"], weights=[[1.0], "a", [NAN, 1.0]], digits=[-1, 1.5]),
)
refused(
    auction.incentive_rows,
    dict(types=[[1.0]], pairs=[[0, 0, 0]]),
    dict(types=[[1.0], None], pairs=[[[0, 0]], [[0, 1, 0]], [[0.0, 0.0, 0.0]]], opponents=[0, "a"]),
)
refused(
    auction.neighbours, dict(types=[[1.0]], count=1), dict(types=[[[NAN]]], count=[0, 1.5], opponents=[0])
)
refused(
    auction.best_misreport_pairs,
    dict(types=[[1.0]], u=[[1.0]], x=[[[1.0]]]),
    dict(types=["a"], u=[[1.0]], x=[[[1.0]]]),
)
refused(
    auction.solve_lazily,
    dict(types=[[1.0]], objective=[1.0, 1.0], pairs=np.zeros((0, 3), int), opponents=1),
    dict(types=[[1.0]], objective=[[1.0]], pairs=[[[0, 0]]], opponents=[0]),
)
refused(
    auction.run,
    {},
    dict(
        cfg=[
            "square",
            named(auction.Config("circle", 4, "low"), "problem="),
            named(auction.Config("unit", 0, "low"), "size=0"),
        ]
    ),
)
refused(auction.cells, {}, dict(preset=[None, "both"]))
