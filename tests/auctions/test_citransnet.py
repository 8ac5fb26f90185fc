"""CITransNet in training: what is trained, measured and recorded, and what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_nets import TINY

from lla_course.auctions import citransnet
from lla_course.auctions.citransnet import Config, build, cells, measure, run, train
from lla_course.records import content_hash


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
    books = [*sorted(folder.glob("61[c-e]_*.ipynb")), *sorted(folder.glob("62*.ipynb"))]
    read = [json.loads(book.read_text(encoding="utf-8"))["cells"] for book in books]
    text = "\n".join("".join(c["source"]) for cells in read for c in cells)
    assert len(books) == 5
    remembered = "2.821 2.916 7.376 7.778 2.793 2.918 3.684 3.899 .554 9.734 .878 5.541 6.778".split()
    assert [
        r for r in remembered if re.search(rf"(?<!\d){re.escape(r)}(?!\d)|0{re.escape(r)}(?!\d)", text)
    ] == []


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


@pytest.mark.parametrize(
    "wrong, name",
    [(dict(setting="Z"), "setting"), (dict(model="oracle"), "model"), (dict(minutes=0), "minutes")],
)
def test_settings_that_make_no_training(wrong, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        Config(**wrong)
