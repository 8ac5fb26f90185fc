"""Exercises: every one that a chapter names can be checked; right answers pass, wrong ones get a hint of
their own."""

import json
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import lla_course.course.exercises as exercises
from lla_course.course.exercises import GRADERS, PARTS, check, close, exercise

ROOT = Path(__file__).resolve().parents[1]


def named_in_chapters():
    "Numbers of the exercises that the chapters pose."
    text = [
        "".join(c["source"])
        for p in sorted((ROOT / "nbs").glob("[1-8]?*_*.ipynb"))
        for c in json.loads(p.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "markdown"
    ]
    return sorted({n for t in text for n in re.findall(r"^\*\*(\d\d[a-z]?\.\d+)\*\* ", t, re.M)})


# ---- answers; the wrong ones are mistakes that readers make


def nearest(x0, x, k, distance=lambda a: np.abs(a), value=lambda k: 1 / k, shape=lambda w: w):
    order = distance(np.subtract.outer(x0, x)).argsort(axis=1, kind="stable")[:, :k]
    weights = np.zeros((len(x0), len(x)))
    np.put_along_axis(weights, order, value(k), axis=1)
    return shape(weights)


def line(x0, x, y, h, slope=1.0, kernel=lambda u: np.exp(-0.5 * u**2), guard=True):
    out = []
    for q in x0:
        k = kernel((x - q) / h)
        p = k / k.sum()
        xc, C = x - p @ x, p @ (x - p @ x) ** 2
        with np.errstate(invalid="ignore"):
            w = (p * xc) @ y / C if C > 1e-12 or not guard else 0.0
        out.append(p @ y + slope * w * (q - p @ x))
    return np.array(out)


def mse(s, x, x0, f, sigma, bias=lambda b: b**2, noise=lambda s, sigma: sigma**2 * s @ s):
    return bias(s @ f(x) - f(x0)) + noise(s, sigma)


def fails(*_):
    raise KeyError("lost")


def third(v, others, honest=True, price=1, floor=True):
    ranked = sorted(others, reverse=True)
    return (max(0.0, v - ranked[price]) if floor else v - ranked[price]) - (
        max(0.0, v - ranked[price]) if v > ranked[0] and honest else 0.0
    )


def soft(q, beta, inside=1.0, outside=1.0, stable=True, policy=lambda p: p):
    q = np.asarray(q, float)
    b = beta if inside else 1.0
    top = q.max() * stable
    s = np.exp((q - top) / b)
    return top + (beta if outside else 1.0) * np.log(s.sum()), policy(s / s.sum())


def coin(theta, share, factor=1.0):
    m = factor * share * np.tanh(theta)
    return np.log((m + np.sqrt(m**2 + 4 * (1 - m**2))) / (2 * (1 - m)))


def in_batch(v, x, p, axis=1, paid=1.0, honest=True, sign=1):
    table = v @ x.T - paid * p
    return sign * (table.max(axis) - honest * table.diagonal())


def read_off(x, values):
    return [2 * x * v - v**2 for v in values]


def forgetting(x, half=0.5, past=True, sums=True):
    t = torch.arange(x.shape[1], dtype=x.dtype)
    w = half ** (t[:, None] - t).abs()
    w = torch.tril(w) if past else w
    return (w / w.sum(1, keepdim=True) if sums else w) @ x


def gated(q, k, v, decay, beta, know=1.0, late=False, step=True):
    W, out = torch.zeros(v.shape[1], k.shape[1]).to(v), []
    for i in range(len(k)):
        W = W if late else decay[i] * W
        W = W + (beta[i] if step else 1) * torch.outer(v[i] - know * W @ k[i], k[i])
        W = decay[i] * W if late else W
        out.append(W @ q[i])
    return torch.stack(out)


def price(logits, tokens, shift=1, base=2.0, mean=True, sign=-1):
    l, t = (
        (logits[:, :-1], tokens[:, 1:])
        if shift == 1
        else (logits, tokens)
        if shift == 0
        else (logits[:, 1:], tokens[:, :-1])
    )
    bits = sign * l.log_softmax(-1).gather(-1, t[..., None]) / np.log(base)
    return bits.mean() if mean else bits.sum()


def latest(x, ahead=1, first=False, none=-1):
    hits = [[s for s in range(t) if x[s] == x[t] and s + ahead <= t] for t in range(len(x))]
    return torch.tensor([int(x[h[0 if first else -1] + ahead]) if h else none for h in hits])


def along_chain(first, ops, sign=1, begin=True, same=False):
    out = [first + sign * (op if same else sum(ops[: i + 1])) for i, op in enumerate(ops)]
    return [first] * begin + out


def in_segment(x, y, S, ridge, peek=0, part=lambda t, S: t - t % S, shape=lambda o: o):
    solve = lambda a, b, q: (
        b.mT @ a @ torch.linalg.solve(a.mT @ a + ridge * torch.eye(x.shape[1], dtype=x.dtype), q)
    )
    return shape(
        torch.stack([solve(x[part(t, S) : t + peek], y[part(t, S) : t + peek], x[t]) for t in range(len(x))])
    )


def chained(wanted, written):
    rest = iter(written)
    return all(pair in rest for pair in wanted)


def sums(h, axis):
    return h.sum(axis, keepdims=True)


def means(
    h, a, b, c, d, axes=(0, 1), whole=1.0, itself=1.0, mean=lambda h, axis: h.mean(axis, keepdims=True)
):
    return itself * a * h + b * mean(h, axes[0]) + c * mean(h, axes[1]) + whole * d * mean(h, (0, 1))


def preferred(good, bad, good_ref, bad_ref, beta, own=1.0, sign=1, mean=np.mean, stable=True):
    m = sign * beta * ((good - own * good_ref) - (bad - own * bad_ref))
    return mean(np.logaddexp(0, -m) if stable else np.log(1 + np.exp(-m)))


def mirrored(W, i, j, value=-1, beta=2, length=1, sign=-1):
    k = torch.zeros(len(W), dtype=W.dtype)
    k[i], k[j] = length * 0.5**0.5, sign * length * 0.5**0.5
    return W + beta * torch.outer(value * k - W @ k, k)


ANSWERS = {  # number -> (right answers, wrong answers with different hints)
    "10.1": ([1, 1.0, np.float32(1), np.array([1.0])[0]], [50, 0, 1 / 50, 2, -1, "one"]),
    "10.2": (
        [nearest],
        [
            1,
            lambda *a: nearest(*a).T,
            lambda *a: nearest(*a, value=lambda k: 1.0),
            lambda x0, x, k: nearest(x0, x, 3),
            lambda *a: nearest(*a, distance=lambda a: a),
            lambda *a: nearest(*a, distance=lambda a: -np.abs(a)),
            fails,
        ],
    ),
    "10.3": ([-0.2, np.float64(-0.2)], [0, 0.2, 1.8, -0.1, -0.4, -1]),
    "11.1": (
        [[-1 / 6, 1 / 3, 5 / 6], np.array([-1 / 6, 1 / 3, 5 / 6]), (-0.1667, 0.3333, 0.8333)],
        [[1 / 3] * 3, [5 / 6, 1 / 3, -1 / 6], [0, 0, 0], [0, 0, 1], [1], "a"],
    ),
    "11.2": ([1 / 3, 0.3333], [0, 2 / 3, 1, -1 / 3, 0.2, 0.5]),
    "11.3": (
        [line],
        [
            2,
            lambda *a: line(*a, slope=0.0),
            lambda *a: line(*a)[:1],
            lambda *a: line(*a, kernel=lambda u: 1 / (1 + u**2)),
            lambda x0, x, y, h: line(x0, x, y, h * 2**0.5),
            lambda *a: line(*a, guard=False),
            fails,
        ],
    ),
    "12.1": (
        [(-3 / 8, -4 / 9), [-0.375, -0.4444], np.array([-3 / 8, -4 / 9])],
        [(-0.5, -4 / 7), (-4 / 9, -3 / 8), (3 / 8, 4 / 9), (-1, -1), -3 / 8, "ab"],
    ),
    "12.2": ([2 ** (4 / 3), 2.52], [2, 2**1.25, 2**0.75, -(2 ** (4 / 3)), 4, 1.5]),
    "12.3": (
        [mse],
        [
            0.3,
            lambda *a: mse(*a, bias=abs),
            lambda *a: mse(*a, noise=lambda s, sigma: 0),
            lambda *a: mse(*a, noise=lambda s, sigma: sigma**2 * s.sum()),
            lambda *a: mse(*a, noise=lambda s, sigma: sigma * s @ s),
            fails,
        ],
    ),
    "30.1": ([114_688, 114688.0], [121_088, 106_496, 114_560, 64_704, 6400, 113_152, 1e6]),
    "30.2": ([131_072, 2**17], [65_536, 32_768, 262_144, 128, 8192, 1]),
    "30.3": (
        [forgetting],
        [
            1,
            lambda x: forgetting(x, sums=False),
            lambda x: forgetting(x, half=1.0),
            lambda x: forgetting(x, past=False),
            lambda x: forgetting(x)[0],
            lambda x: forgetting(x, half=0.3),
            fails,
        ],
    ),
    "31.1": (
        [(2048, 8), [2048.0, 8.0]],
        [(1024, 8), (8192, 8), (512, 8), (4096, 8), (2048, 16), (2048, 4), (2048, 32), 2048],
    ),
    "31.2": ([2.2, np.float64(2.2)], [2.25, 2.15, 2.4, 1.8, 4, 0.4, 3]),
    "31.3": (
        [gated],
        [
            1,
            lambda *a: gated(*a, know=0.0),
            lambda *a: gated(*a, late=True),
            lambda *a: gated(*a, step=False),
            lambda q, k, v, d, b: gated(q, k, v, 0 * d + 1, b),
            lambda *a: gated(*a)[0],
            lambda *a: 2 * gated(*a),
            fails,
        ],
    ),
    "32.1": ([(16, 17), [16.0, 17.0]], [(16, 16), (256, 272), (17, 16), (8, 9), 16]),
    "32.2": ([50, 50.0], [49, 0.02, 34.31, 0.98, 100, 7]),
    "32.3": (
        [lambda e, S: e[:, S - 1 :].reshape(-1, S).mean(0)],
        [
            1,
            lambda e, S: e[:, S - 1 :].reshape(-1, S).mean(0).roll(1),
            lambda e, S: torch.cat([e[:, :1], e], 1).reshape(-1, S).mean(0),
            lambda e, S: S * e[:, S - 1 :].reshape(-1, S).mean(0),
            lambda e, S: e[:, S - 1 :].mean().expand(S),
            lambda e, S: e[:, S - 1 :].mean(0),
            lambda e, S: e[0, :S],
            fails,
        ],
    ),
    "33.1": (
        [(0.75, 0.515625), [0.75, 0.5156]],
        [(0.25, 0.5), (0, 0.5), (0.5, 0.5), (0.75, 0.5), (0.75, 0.484375), (0.75, 0.25), 0.75],
    ),
    "33.2": ([2**1.75, 3.364], [1.75, 1.213, 4, 32 / 11, 5.755, 2, 3, -3.364]),
    "33.3": (
        [in_segment],
        [
            1,
            lambda *a: in_segment(*a, part=lambda t, S: 0),
            lambda *a: in_segment(*a, peek=1),
            lambda x, y, S, r: in_segment(x, y, S, 1e-9),
            lambda x, y, S, r: in_segment(x, y, S, 2 * r),
            lambda *a: in_segment(*a)[1:],
            lambda *a: 2 * in_segment(*a),
            fails,
        ],
    ),
    "35.1": ([(10, 4), [10.0, 4.0]], [(1000, 4), (9, 4), (500, 4), (12, 4), (10, 2), (10, 3), (10, 5), 10]),
    "35.2": (
        [(0.4, 0.2), [0.4, 0.2]],
        [(0.36, 0.2), (0.6, 0.2), (0.64, 0.2), (0.16, 0.2), (0.5, 0.2), (0.4, 0), (0.4, 0.25), 0.4],
    ),
    "35.3": ([0.9**10, 0.349], [-(0.9**10), 0.9, -0.9, 0.1**10, 1.9**10, 1, 0.5]),
    "35.4": (
        [mirrored],
        [
            1,
            lambda *a: mirrored(*a, value=0),
            lambda *a: mirrored(*a, beta=1),
            lambda *a: mirrored(*a, value=1),
            lambda *a: mirrored(*a, length=2**0.5),
            lambda W, i, j: mirrored(W.T, i, j).T,
            lambda *a: mirrored(*a, sign=1),
            lambda *a: mirrored(*a)[:2],
            lambda *a: 2 * mirrored(*a),
            fails,
        ],
    ),
    "36.1": (
        [(2, 250), [2.0, 250.0]],
        [(6, 250), (64, 250), (3, 250), (1.386, 250), (2, 2000), (2, 500), (2, 100), 2],
    ),
    "36.2": ([0.66, 0.6600], [0.75, 0.6, 0.825, 0.84, 0.525, 0.3, 0.5]),
    "36.3": (
        [price],
        [
            1,
            lambda l, t: price(l, t, base=np.e),
            lambda l, t: price(l, t, mean=False),
            lambda l, t: price(l, t, shift=0),
            lambda l, t: price(l, t, shift=-1),
            lambda l, t: price(l, t, sign=1),
            lambda l, t: l,
            lambda l, t: 8.0,
            lambda l, t: 5.0,
            fails,
        ],
    ),
    "34.1": (
        [(1 / 8, np.log(8)), [0.125, 2.0794]],
        [
            (1 / 64, np.log(8)),
            (1 / 128, np.log(8)),
            (8, np.log(8)),
            (0.5, np.log(8)),
            (1 / 8, 8),
            (1 / 8, 3),
            (1 / 8, -np.log(8)),
            (1 / 8, 1),
            0.125,
        ],
    ),
    "34.2": (
        [1 / sum(x**-0.99 for x in range(1, 7)), 0.404],
        [1 / sum(x**-0.99 for x in range(1, 13)), 1 / sum(x**-0.99 for x in range(1, 9)), 1 / 6, 1, 0.5],
    ),
    "34.3": (
        [latest],
        [
            1,
            lambda x: latest(x, first=True),
            lambda x: latest(x, ahead=0),
            lambda x: latest(x, none=0),
            lambda x: latest(x)[1:],
            lambda x: x,
            fails,
        ],
    ),
    "40.1": (
        [(0.5, np.log(0.18)), [0.5, -1.715], np.array([0.5, -1.7148])],
        [(0.9, -1.715), (0.1, -1.715), (0.09, -1.715), (0.2, -1), (0.5, 0.18), (0.5, -0.745), (0.5, -2), 0.5],
    ),
    "40.2": ([0.368, 0.3681], [0.5108, -2.083, -1.7148, 0.5311, -0.368, 1, 0]),
    "40.3": (
        [soft],
        [
            1.0,
            lambda q, b: soft(q, b, inside=0, outside=0),
            lambda q, b: soft(q, b, outside=0),
            lambda q, b: soft(q, b, stable=False),
            lambda q, b: soft(q, b, policy=lambda p: p[:1]),
            lambda q, b: (max(q), soft(q, b)[1]),
            fails,
        ],
    ),
    "40.4": ([4, 4.0], [2, 2**0.5, 1, 0.36, -4, 8, 3]),
    "41.1": (
        [(8.9014, 1.0981), [8.901, 1.098]],
        [(10, 1.0981), (-8.9014, 1.0981), (1, 1), (8.9014, 8.9014), (8.9014, 0.5), 8.9],
    ),
    "41.2": ([299, 299.0], [298, 95, 100, 5, 300, 30]),
    "41.3": (
        [coin],
        [
            0.3,
            lambda t, s: coin(t, s) + 1,
            lambda t, s: coin(t, 1.0),
            lambda t, s: np.arctanh(s * np.tanh(t)),
            lambda t, s: s * np.tanh(t),
            lambda t, s: t,
            lambda t, s: coin(t, s, 0.5),
            fails,
        ],
    ),
    "41.4": (
        [(0.01 / 0.51, 0.2603), [0.0196, 0.26]],
        [(0.02, 0.26), (0.5, 0.26), (0.3, 0.26), (0.0196, 0.3), (0.0196, 0.7397), (0.0196, 0.5), 0.02],
    ),
    "42.1": (
        [(28 / 3, -4, -4, -4 / 3), [9.333, -4, -4, -1.333]],
        [
            (7, -3, -3, -1),
            (-28 / 3, 4, 4, 4 / 3),
            (10, 0, 0, 2),
            (2 / 3, 4, 4, 10 / 3),
            (7, -2.5, -2.5, -0.5),
            (1, 2, 3, 4),
            (3, -1, -1, -1),
            7,
        ],
    ),
    "42.2": (
        [(0.598, 0.937), [0.5982, 0.9371]],
        [
            (0.1296, 0.937),
            (0.4018, 0.06),
            (0.5645, 0.9),
            (0.2166, 0.14),
            (0.6, 0.937),
            (0.4574, 0.9),
            (0.3, 0.9),
            (0.598, 0.98),
            0.6,
        ],
    ),
    "42.3": (
        [preferred],
        [
            0.7,
            lambda *a: preferred(*a, own=0.0),
            lambda *a: preferred(*a, sign=-1),
            lambda *a: preferred(*a[:4], 1.0),
            lambda *a: preferred(*a, stable=False),
            lambda *a: preferred(*a) + 0.1 * (a[4] != 0.5),
            fails,
        ],
    ),
    "42.4": (
        [(5.5, 1.9748), [5.5, 1.975]],
        [
            (9.5, 2),
            (13.5, 2),
            (6, 1.5),
            (5.95, 1.5),
            (5, 2),
            (5.5, 7.4748),
            (5.5, -1.9748),
            (5.5, 4),
            (5.5, 4.5),
            (5.5, 1),
            5.5,
        ],
    ),
    "50.1": ([36, 36.0], [18, 10, 14, 22, 26, 33, 100]),
    "50.2": ([(3, 10), [3.0, 10.0]], [(2, 10), (3, 9), (4, 10), (3, 8), 3, "ab"]),
    "50.3": (
        [along_chain],
        [
            100,
            lambda *a: along_chain(*a, begin=False),
            lambda *a: along_chain(*a, same=True),
            lambda *a: along_chain(*a, sign=-1),
            lambda *a: [0],
            lambda f, o: along_chain(f, o) if o else [],
            fails,
        ],
    ),
    "51.1": ([(1, 0), [True, False]], [(0, 1), (1, 1), (0, 0), 1, (2, 3)]),
    "51.2": ([13, 13.0], [16, 3, 15, 14, 12]),
    "51.3": (
        [chained],
        [
            1,
            lambda w, t: False,
            lambda w, t: w == t,
            lambda w, t: w[0] in t,
            lambda w, t: set(w) <= set(t),
            lambda w, t: chained([a for a, _ in w], [a for a, _ in t]),
            fails,
        ],
    ),
    "52.1": ([1 - 0.95**80, 0.983], [0.05, 1.0, 0.95**80, 1 - 0.98**80, 0.9, 0.99]),
    "52.2": ([(110, 104), [110.0, 104.0]], [(104, 110), (104, 98), (113, 104), (110, 98), (1, 2), 3, "ab"]),
    "52.3": (
        [read_off, lambda x, v: np.array(read_off(x, v))],
        [
            1,
            lambda x, v: [-((x - a) ** 2) for a in v],
            lambda x, v: [2 * x * a for a in v],
            lambda x, v: [a**2 - 2 * x * a for a in v],
            lambda x, v: [0],
            lambda x, v: [a for a in v],
            lambda x, v: [x == a for a in v],
            fails,
        ],
    ),
    "60.1": ([(2, 2), [2.0, 2.0], np.array([2, 2])], [(1.5, 1.5), (2.5, 1.25), (2, 1), (2.2, 1.76), 2, "ab"]),
    "60.2": (
        [(1, 0.7), [1, 0.7], np.array([1, 0.7])],
        [(2, 0.8), (1, 0.8), (1, 1.2), (1, 0.5), (1, 0.4), (1, 0.6), (0, 0.7), (1, 0.65), 0.7],
    ),
    "60.3": (
        [third],
        [
            0.1,
            lambda v, o: third(v, o, honest=False),
            lambda v, o: 0.0,
            lambda v, o: third(v, o, floor=False),
            lambda v, o: third(v, o) if len(o) > 2 else 0.0,
            fails,
        ],
    ),
    "60.4": ([3**-0.5, 0.5774], [(2 / 3) ** 0.5, 0.5, 2 / 27**0.5, -(3**-0.5), 1, 0.3]),
    "61.1": (
        [(0.05, 0.5776), [0.05, 0.5776], np.array([0.05, 0.5776])],
        [(0.0025, 0.6384), (0.04, 0.5776), (0.1, 0.56), (0.05, 0.6384), (0.05, 0.608), (0.05, 0.7), 2],
    ),
    "61.2": (
        [in_batch],
        [
            0.1,
            lambda *a: in_batch(*a, honest=False),
            lambda *a: in_batch(*a, axis=0),
            lambda *a: in_batch(*a, paid=0.0),
            lambda *a: in_batch(*a, sign=-1),
            lambda *a: in_batch(*a)[:3],
            lambda *a: in_batch(*a) * 2,
            fails,
        ],
    ),
    "61.3": (
        [(0.2, 1 / 180, 0.6 / 4.32), [0.2, 0.00556, 0.1389]],
        [
            (0.3, 1 / 180, 0.1389),
            (0.2, 1 / 60, 0.1389),
            (0.2, 0.01, 0.1389),
            (0.2, 1 / 180, 0.2 - 1 / 180),
            (0.2, 1 / 180, 0.1667),
            (0.2, 0.1),
            "abc",
        ],
    ),
    "62.1": (
        [(0.125, 0.375, 0.05, 0.1125), np.array([0.125, 0.375, 0.05, 0.1125])],
        [
            (0.25, 0.75, 0.2, 0.3),
            (0.5, 0.5, 0.4, 0.2),
            (0.1, 0.4, 0.05, 0.1),
            (0.125, 0.375, 0.1, 0.15),
            (0.125, 0.375, 0.0625, 0.28125),
            (0.125, 0.375, 0.8, 0.4),
            2,
        ],
    ),
    "62.2": (
        [means],
        [
            0.1,
            lambda *a: means(*a, axes=(1, 0)),
            lambda *a: means(*a, whole=0.0),
            lambda *a: means(*a, mean=sums),
            lambda *a: means(*a, itself=0.0),
            lambda *a: means(*a)[:2],
            lambda *a: 2 * means(*a),
            fails,
        ],
    ),
    "62.3": (
        [(576, 8640), np.array([576.0, 8640.0])],
        [
            (192, 2880),
            (49152, 8640),
            (8640, 576),
            (36, 540),
            (576, 9216),
            (576, 576),
            (576, 4320),
            (576, 10),
            576,
        ],
    ),
}


def hint(number, answer, capsys):
    capsys.readouterr()
    right = check(number, answer)
    printed = capsys.readouterr().out.strip()
    assert printed.startswith(f"{number}: ") and (printed == f"{number}: right.") == right is not None
    return right, printed


def test_every_exercise_of_a_chapter_has_answers_here_and_a_grader():
    posed = named_in_chapters()
    assert len(posed) >= 20 and {n for n in posed if not n.startswith("2")} == set(ANSWERS)
    for part in PARTS.values():
        import_module(f"lla_course.solutions.{part}")
    assert set(posed) <= set(GRADERS)


PART_2 = [n for n in named_in_chapters() if "20" <= n < "30"]


def test_the_solutions_of_part_2_are_right(executed):
    from lla_course.course.runner import select_chapters

    notebook = json.loads(executed(select_chapters(["92"])[0]).output.read_text())
    said = "".join(
        "".join(o.get("text", ""))
        for c in notebook["cells"]
        if c["cell_type"] == "code"
        for o in c["outputs"]
    )
    assert re.findall(r"^(\d\d[a-z]?\.\d+): right\.$", said, re.M) == PART_2


@pytest.mark.parametrize("number", PART_2)
def test_wrong_answers_to_part_2_are_refused_with_a_hint(number, capsys):
    hints = {hint(number, wrong, capsys) for wrong in (12345.0, "one", fails)}
    assert (
        not any(right for right, _ in hints) and len(hints) > 1 and all(len(text) > 20 for _, text in hints)
    )


@pytest.mark.parametrize("number", ANSWERS)
def test_right_answers_pass(number, capsys):
    for answer in ANSWERS[number][0]:
        assert hint(number, answer, capsys) == (True, f"{number}: right.")


@pytest.mark.parametrize("number", ANSWERS)
def test_wrong_answers_get_hints_of_their_own(number, capsys):
    wrong = ANSWERS[number][1]
    hints = [hint(number, answer, capsys) for answer in wrong]
    assert not any(right for right, _ in hints)
    texts = [text.removeprefix(f"{number}: not yet. ") for _, text in hints]
    assert all(len(t) > 10 for t in texts) and len(set(texts)) >= max(2, len(texts) - 1), texts


@pytest.mark.parametrize("number", ANSWERS)
@pytest.mark.parametrize(
    "answer",
    [
        None,
        "",
        [],
        {},
        float("nan"),
        np.full((2, 2), np.nan),
        fails,
        lambda: 0,
        lambda *a: None,
        lambda *a: "text",
    ],
)
def test_strange_answers_become_hints(number, answer, capsys):
    with np.errstate(all="ignore"):
        right, printed = hint(number, answer, capsys)
    assert not right and "not yet." in printed


def test_errors_of_an_answer_are_told_as_a_hint(capsys):
    assert "KeyError: 'lost'" in hint("10.2", fails, capsys)[1]


@pytest.mark.parametrize("number", ["10.9", "99.1", "", "1", 10.1, ["11.1"], None, "11.1 "])
def test_an_exercise_that_does_not_exist(number):
    with pytest.raises(ValueError, match="^number=.*expected one of .*10.1"):
        check(number, 0)


def test_parts_are_loaded_by_the_first_digit_of_the_chapter():
    assert {n[0] for n in named_in_chapters()} <= set(PARTS)
    for part in PARTS.values():
        import_module(f"lla_course.solutions.{part}")


def test_close():
    assert close(4, 4) is None and close(np.float32(4.0005), 4) is None and close(5, 4, tolerance=1) is None
    assert "large" in close(4.1, 4) and "small" in close(3.9, 4) and "sign" in close(-4, 4)
    assert close(22, 4, hints={22: "beside"}) == "beside" and close(4, 4, hints={4: "never"}) is None
    assert close(-4, 4, hints={-4: "own hint"}) == "own hint" and "small" in close(-1, 0)


def test_a_new_exercise(monkeypatch, capsys):
    monkeypatch.setattr(exercises, "GRADERS", {})

    @exercise("0.7")
    def grader(answer):
        return None if answer == 7 else f"{answer} is not seven."

    assert check("0.7", 7) is True and check("0.7", 8) is False
    assert capsys.readouterr().out == "0.7: right.\n0.7: not yet. 8 is not seven.\n"
    with pytest.raises(ValueError):
        check("0.8", 7)


def test_an_answer_that_is_no_number_is_not_too_small():
    from lla_course.course.exercises import close

    assert "not a finite number" in close(float("nan"), 2.0) and "not a finite number" in close(
        float("inf"), 2.0
    )


def test_two_gradients_may_come_as_a_list(capsys):
    def solve_gradient(A, b, g):
        y = np.linalg.solve(A.T, g)
        return [-np.outer(y, np.linalg.solve(A, b)), y]

    assert hint("24.2", solve_gradient, capsys) == (True, "24.2: right.")
