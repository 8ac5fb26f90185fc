"""Exercises: every one that a chapter names can be checked; right answers pass, wrong ones get a hint of
their own."""

import collections
import functools
import json
import math
import re
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp, ttest_ind, ttest_rel

import lla_course.course.exercises as exercises
from lla_course import flash_lla
from lla_course.attention.baselines import mesa_attention
from lla_course.attention.conjugate_gradient import lla_systems
from lla_course.attention.decode import lla_decode
from lla_course.attention.dense import lla_dense, lla_weights
from lla_course.attention.preconditioners import mean_covariance
from lla_course.course.exercises import GRADERS, PARTS, check, close, exercise
from lla_course.models import DecoderConfig
from lla_course.tasks.language import PACKAGES, count_bits, count_contexts, read_corpus
from lla_course.tasks.online_regression import Config

ROOT = Path(__file__).resolve().parents[1]


def named_in_chapters():
    "Numbers of the exercises that the chapters pose."
    text = [
        "".join(c["source"])
        for p in sorted((ROOT / "nbs").glob("[0-8]?*_*.ipynb"))
        for c in json.loads(p.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "markdown"
    ]
    return sorted({n for t in text for n in re.findall(r"^\*\*(\d\d[a-z]?\.\d+)\*\* ", t, re.M)})


# ---- answers; the wrong ones are mistakes that readers make


def group_out(x, y, groups, bandwidths, own=None, safe=True, miss=np.square, whole=np.mean, sums=True):
    own = np.equal.outer(groups, groups) if own is None else own(x)
    scores = []
    for h in bandwidths:
        logs = -0.5 * (np.subtract.outer(x, x) / h) ** 2
        logs = np.where(own, -np.inf, logs)
        with np.errstate(invalid="ignore"):
            p = np.exp(logs - (logs.max(1, keepdims=True) if safe else 0))
            p = p / p.sum(1, keepdims=True) if sums else p
        scores.append(whole(miss(y - p @ y)))
    return scores


def in_row(groups):  # who stands beside whom, and not who belongs to whom
    at = np.arange(len(groups))
    return np.abs(np.subtract.outer(at, at)) < (1 if len(set(groups)) == len(groups) else 2)


def choose(x, y, bandwidths, mean=np.mean, missing=np.inf, pick=np.argmin):
    scores = []
    for h in bandwidths:
        near = np.abs(np.subtract.outer(x, x)) <= h
        np.fill_diagonal(near, False)
        count = near.sum(1)
        scores.append(mean(np.where(count > 0, y - near @ y / np.maximum(count, 1), missing) ** 2))
    return bandwidths[pick(scores)]


def near_three(x0, x, y, count=3):
    return y[np.abs(x - x0).argsort()[:count]].mean()


def line_of(x0, x, y, p, last=None):
    centred = x - p @ x
    slope = (p * centred) @ y / ((p * centred) @ centred)
    return p @ y + slope * (x0 - (p @ x if last is None else last))


def lla_weights_of(q, k, ridge, scale, sign=1, about=1):
    p = (scale * k @ q).softmax(0)
    centred = k - about * (p @ k)
    C = (p[:, None] * centred).T @ centred
    u = torch.linalg.solve(C + ridge * torch.eye(len(q), dtype=q.dtype), q - p @ k)
    return p * (1 + sign * (centred @ u))


def fading(q, k, v, gate, ridge, late=False, ridge_fades=False, early=False, both=True, invert=True):
    "A fading memory; each keyword is a mistake."
    eye = torch.eye(k.shape[1]).to(k)
    H, G, answers = ridge_fades * ridge * eye, torch.zeros_like(k.T @ v), []
    for query, key, value, a in zip(q, k, v, gate):
        pairs = torch.outer(key, key), torch.outer(key, value)
        if late:  # asks before it writes
            answers.append(query @ torch.linalg.solve(H + ridge * eye, G))
        H, G = (m + early * n for m, n in zip((H, G), pairs))  # the new pair fades too
        H, G = (a if both else 1) * H, a * G
        H, G = (m + (not early) * n for m, n in zip((H, G), pairs))
        if not late:
            A = H + (not ridge_fades) * ridge * eye
            answers.append(query @ (torch.linalg.solve(A, G) if invert else G))
    return torch.stack(answers)


def lla_sequence(q, k, v, ridge, scale, causal=True, sign=1, about=1):
    T, D = q.shape[-2:]
    future = torch.ones(T, T, dtype=torch.bool).triu(1) & causal
    p = (scale * q @ k.mT).masked_fill(future, -torch.inf).softmax(-1)
    kbar = p @ k
    z = k[..., None, :, :] - about * kbar[..., None, :]
    A = z.mT @ (p[..., None] * z) + ridge[..., None, None] * torch.eye(D).to(q)
    u = torch.linalg.solve(A, (q - kbar)[..., None])
    return p * (1 + sign * (z @ u)[..., 0]) @ v


def lla_raw(q, k, ridge, scale, mean=True, ridge_too=False):
    w = (scale * k @ q).exp()
    omega = w.sum()
    z = k - w @ k / omega
    C = z.T @ (w[:, None] * z) / (omega if mean else 1)
    factor = omega if ridge_too else 1
    A = C + factor * ridge * torch.eye(len(q)).to(q)
    return w / omega * (1 + z @ torch.linalg.solve(A, factor * (q - w @ k / omega)))


def held_out(k, v, group, ridge, scale, leave=True, single=False, by_group=None):
    total, each = 0, []
    for g in torch.arange(len(k)) if single else group.unique():
        out = torch.arange(len(k)) == g if single else group == g
        kept = ~out if leave else torch.ones_like(out)
        off = lla_weights(k[out], k[kept], ridge=ridge, scale=scale, is_causal=False) @ v[kept] - v[out]
        total, each = total + off.square().sum(), [*each, off.square().mean()]
    return by_group(torch.stack(each)).mean().item() if by_group else (total / len(v)).sqrt().item()


def tuned(error, scales, draws, choose=slice(0, 3), score=slice(3, None), pick=min):
    mean = lambda s, some: sum(error(s, draw) for draw in some) / len(some)
    best = pick(scales, key=lambda s: mean(s, draws[choose]))
    return best, mean(best, draws[score])


def krylov(A, b, steps, keep=True):
    x, r, d = torch.zeros_like(b), b, b
    for _ in range(steps):
        if r @ r == 0:
            break
        alpha = (r @ r) / (d @ A @ d)
        x, new = x + alpha * d, r - alpha * (A @ d)
        d, r = new + (new @ new) / (r @ r) * (d if keep else r), new
    return x


def rows_solved(product, b, tol, max_steps, mask=True, zero=True, conjugate=True, count=True):
    dot = lambda a, b: (a * b).sum(-1, keepdim=True)
    x, r, d = torch.zeros_like(b), b, b
    rr, bb = dot(r, r), dot(b, b)
    live, steps = rr > tol**2 * bb, torch.zeros(len(b), 1, dtype=torch.int64)
    for _ in range(max_steps):
        if not live.any():
            break
        Ad = product(d)
        alpha = rr / dot(d, Ad)
        alpha = torch.where(live, alpha, 0) if mask else (alpha.nan_to_num() if zero else alpha)
        x, r = x + alpha * d, r - alpha * Ad
        new = dot(r, r)
        steps = steps + (live if count else 1)
        d = torch.where(live, r + (new / rr * d if conjugate else 0), d) if mask else r + new / rr * d
        rr, live = new, live & (new > tol**2 * bb)
    return x, steps[:, 0]


def tile_preconditioner(q, k, first, ridge, start=None, choose=True, noise=0.0):
    rows, D = len(q) - first, q.shape[1]
    own = lla_systems(q[first:], k, first=first, ridge=ridge)
    start = first - rows if start is None else start
    M = mean_covariance(lla_systems(q[start : start + rows], k, first=start, ridge=ridge))
    turn = noise * torch.arange(D * D).reshape(D, D).to(q).triu(1)
    inverse = torch.linalg.inv(M + ridge * torch.eye(D).to(q)) + turn
    many = 1 / own.p.square().sum(-1, keepdim=True) > (D / 4 if choose else 0)
    return lambda r: torch.where(many, r @ inverse, r)


def inverse_of(q, k, first, rows, ridge, at=None, invert=torch.linalg.inv, times=1.0):
    s = lla_systems(q[first - rows : first], k, first=first - rows if at is None else at, ridge=ridge)
    return invert(times * mean_covariance(s) + ridge * torch.eye(q.shape[1]).to(q))


def merged(m, l, a, fade=True, sums=True):
    w = np.exp(m - m.max()) if fade else np.ones(len(m))
    return (w[:, None] * a).sum(0) / ((w if sums else 1) * l).sum()


def walked(x, v, BS, rescale=True):
    m, total, a = x.new_tensor(float("-inf")), x.new_zeros(()), v.new_zeros(v.shape[1])
    for j in range(0, len(x), BS):
        new = torch.maximum(m, x[j : j + BS].max())
        old, w = (m - new).exp() if rescale else 1.0, (x[j : j + BS] - new).exp()
        m, total, a = new, old * total + w.sum(), old * a + w @ v[j : j + BS]
    return a / total


def merged_reports(a, b, between=1.0, top=False, raw=False, heavy=False):
    "Two reports of pieces of a cache, with the mistakes of exercise 27.2."
    (La, ka, va, Ca, Na), (Lb, kb, vb, Cb, Nb) = a, b
    L = (La.exp() + Lb.exp()).log() if raw else torch.logaddexp(La, Lb)
    wa, wb = ((La - L).exp(), (Lb - L).exp()) if not heavy else (0.5, 0.5)
    k, v, dk, dv = wa * ka + wb * kb, wa * va + wb * vb, kb - ka, vb - va
    C = wa * Ca + wb * Cb + between * wa * wb * torch.outer(dk, dk)
    N = wa * Na + wb * Nb + between * wa * wb * torch.outer(dv, dk)
    return torch.maximum(La, Lb) if top else L, k, v, C, N


def merged_moments(a, b):
    "The same by second moments, which cancel far from the origin."
    L = torch.logaddexp(a[0], b[0])
    wa, wb = (a[0] - L).exp(), (b[0] - L).exp()
    k, v = (wa * a[i] + wb * b[i] for i in (1, 2))
    K = wa * (a[3] + torch.outer(a[1], a[1])) + wb * (b[3] + torch.outer(b[1], b[1]))
    M = wa * (a[4] + torch.outer(a[2], a[1])) + wb * (b[4] + torch.outer(b[2], b[1]))
    return L, k, v, K - torch.outer(k, k), M - torch.outer(v, k)


def added(a, b, L=torch.logaddexp, late=lambda t: t):
    w = torch.sigmoid(b[0] - a[0])
    return L(a[0], b[0]), late(a[1] + w * (b[1] - a[1]))


def split_report(x, splits, extra=0, empty=float("-inf"), relative=True):
    chunk = -(-len(x) // splits)
    pieces = [x[i * chunk : (i + 1) * chunk + extra] for i in range(splits)]
    top = torch.stack([p.max() if len(p) else x.new_tensor(empty) for p in pieces])
    rest = [
        (p - (t if relative else 0)).exp().sum() if len(p) else x.new_zeros(()) for p, t in zip(pieces, top)
    ]
    return top, torch.stack(rest)


def block_class(positive=torch.nn.functional.softplus, unit=True, ridges=4, is_causal=True, heads_first=True):
    "The block of exercise 28.3, with the mistakes that readers make."

    class Block(torch.nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads, self.norm = heads, torch.nn.RMSNorm(width)
            self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
            self.ridge = torch.nn.Parameter(torch.full((ridges, 1), 0.3))

        def forward(self, x):
            parts = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
            q, k, v = (t.transpose(1, 2) if heads_first else t for t in parts)
            if unit:
                q, k = (torch.nn.functional.rms_norm(t, t.shape[-1:]) for t in (q, k))
            ridge = positive(self.ridge) if ridges > 1 else 0.1
            o = flash_lla(q, k, v, ridge=ridge, is_causal=is_causal and heads_first)
            return x + self.out((o.transpose(1, 2) if heads_first else o).flatten(-2))

    return Block


def zigzag_gradient(found, rank):
    pieces = found.sum(0).chunk(2 * len(found))
    return torch.cat([pieces[rank], pieces[-1 - rank]])


def halo(tokens, world, rank, left):
    n = tokens // world
    return max(0, rank * n - left), (rank + 1) * n


class SoftmaxBlock(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv = heads, torch.nn.Linear(width, 3 * width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + o.transpose(1, 2).flatten(-2)


class Idle(SoftmaxBlock):
    def forward(self, x):
        return x


def past_max(x, empty=float("-inf")):
    return x.masked_fill(torch.ones_like(x).tril() == 0, empty).amax(1)


def implicit(turn=True, sign=-1.0, swap=False, ask=True):
    class Solve(torch.autograd.Function):
        @staticmethod
        def forward(ctx, A, b, solver):
            x = solver(A, b)
            ctx.solver = solver
            ctx.save_for_backward(A, x)
            return x

        @staticmethod
        def backward(ctx, g):
            A, x = ctx.saved_tensors
            M = A.T if turn else A
            y = ctx.solver(M, g) if ask else torch.linalg.solve(M, g)
            return sign * torch.outer(*((x, y) if swap else (y, x))), y, None

    return Solve.apply


def causal_weights(q, k, lse, scale, past=True, multiply=False):
    q, k, lse = q.double(), k.double(), lse.double()
    s = scale * q @ k.T - lse[:, None]
    if not past:
        return s.exp()
    return s.exp() * torch.ones_like(s).tril() if multiply else past_only(s)


def past_only(s):
    return s.masked_fill(torch.ones_like(s).tril() == 0, float("-inf")).exp()


def product_of(q, k, kbar, lse, x, scale, centre=1.0, **knobs):
    p = causal_weights(q, k, lse, scale, **knobs)
    z = k.double() - centre * kbar.double()[:, None]
    return torch.einsum("ij,ijd,ije,ie->id", p, z, z, x.double())


def gradient_of_values(q, k, g, lse, scale, **knobs):
    return causal_weights(q, k, lse, scale, **knobs).T @ g.double()


def mean_of_past(k):
    return k.cumsum(0) / torch.arange(1, len(k) + 1)[:, None].to(k)


def heard(q, k, lse):
    return (q @ k.T - lse[:, None]).exp().sum(0)


def parabola(x0, x, y, h, power=2, kernel=lambda r: -0.5 * r**2, centre=True, solve=None):
    out = []
    for q in x0:
        r = (x - q) / h
        p = np.exp(kernel(r) - kernel(r).max())
        p = p / p.sum()
        powers = np.stack([r**k for k in range(1, power + 1)], 1)
        middle, mean = (p @ powers, p @ y) if centre else (np.zeros(power), 0.0)
        rows = powers - middle if centre else np.c_[powers, np.ones(len(x))]
        w = (solve or by_least_squares)(np.sqrt(p)[:, None] * rows, np.sqrt(p) * (y - mean))
        out.append(mean - middle @ w if centre else w[-1])
    return np.array(out)


def by_least_squares(rows, y):
    return np.linalg.lstsq(rows, y, rcond=None)[0]


def by_normal_equations(rows, y):
    with np.errstate(all="ignore"):
        A, b = rows.T @ rows, rows.T @ y
        det = A[0, 0] * A[1, 1] - A[0, 1] ** 2
        w = np.array([A[1, 1] * b[0] - A[0, 1] * b[1], A[0, 0] * b[1] - A[0, 1] * b[0]]) / det
    return w if abs(det) > 1e-12 else np.zeros(2) if not A.any() else np.full(2, np.nan)


def shared(x0, x, f, h, sigma, rho, line, truth=1, scale=2, lag=None, kernel=-0.5, always=False, pairs=True):
    r2 = (np.subtract.outer(x0, x) / h) ** 2
    s = np.exp(kernel * (r2 - r2.min(1, keepdims=True)))
    s = s / s.sum(1, keepdims=True)
    if line or always:
        centred = x - (s @ x)[:, None]
        s = s * (1 + ((x0 - s @ x) / (s * centred**2).sum(1))[:, None] * centred)
    at = np.arange(len(x)) if lag is None else x / lag
    C = rho ** np.abs(np.subtract.outer(at, at)) if pairs else np.eye(len(x))
    return s @ f(x) - truth * f(x0), sigma**scale * ((s @ C) * s).sum(1)


def in_window(q, k, v, window, ridge, more=0):
    parts = [slice(max(t + 1 - window - more, 0), t + 1) for t in range(len(q))]
    return torch.cat([lla_dense(q[[t]], k[s], v[s], ridge=ridge) for t, s in enumerate(parts)])


def new_tokens(q, k, v, real, holes=True):
    "Without `holes` it takes the real keys for neighbours."
    ends = [r.nonzero()[:, 0] for r in real]
    kept = [e if holes else torch.arange(e[0], e[-1] + 1) for e in ends]
    return torch.cat([lla_dense(q[[b]], k[[b]][:, :, e], v[[b]][:, :, e]) for b, e in enumerate(kept)])


def spread_of_keys(q, k, causal=True, mean=True, over=4, moved=True):
    p = q @ k.mT / 2
    p = (p.masked_fill(torch.ones_like(p).triu(1) > 0, -torch.inf) if causal else p).softmax(-1)
    z = k - k.mean(0) * moved
    return (p @ z.square().sum(-1) - (p @ z).square().sum(-1) * mean) / over


def paired_error(a, b, apart=False, mean=True):
    d = np.asarray(a) - np.asarray(b)
    error = np.sqrt(np.var(a, ddof=1) + np.var(b, ddof=1)) if apart else d.std(ddof=1)
    return d.mean(), error / (len(d) ** 0.5 if mean else 1)


def fails(*_):
    raise KeyError("lost")


def third(v, others, honest=True, price=1, floor=True):
    ranked = sorted(others, reverse=True)
    return (max(0.0, v - ranked[price]) if floor else v - ranked[price]) - (
        max(0.0, v - ranked[price]) if v > ranked[0] and honest else 0.0
    )


def pooled(p, w, back=True):
    "Pool adjacent violators; without `back` it looks at one neighbour only."
    pools = []
    for mean, weight in zip(p, w):
        pools.append((mean, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (m, a, k), (n, b, j) = pools.pop(-2), pools.pop()
            pools.append(((a * m + b * n) / (a + b), a + b, k + j))
            if not back:
                break
    return np.concatenate([np.full(k, m) for m, _, k in pools])


def reserved(bids, reserve, least=True, losers=False, sold=True, second=True):
    "A second price with a reserve; each keyword is a mistake."
    top, next_ = np.sort(bids, 1)[:, ::-1][:, :2].T[:, :, None]
    clears = (top >= reserve) | (not sold)
    share = (bids == top) * clears * 1.0
    price = np.maximum(next_ if second else reserve, reserve if least else 0)
    return share, (np.ones_like(share) * clears if losers else share) * price


def three_prices(values):
    "The best of many prices for two items alike."
    tries = [np.unique(values[:, 0]), np.unique(values.sum(1))]
    best = (-1.0, None)
    for p in [9.0, *tries[0]]:
        alone = np.maximum(values - p, 0).max(1)
        for q in tries[1]:
            both = values.sum(1) - q
            paid = np.where(both >= np.maximum(alone, 0) - 1e-9, q, p * (values.max(1) >= p - 1e-9))
            best = max(best, (paid.mean(), (p, p, q)))
    return np.array(best[1])


def external(values, own=None):
    own = values * (values == values.max(0)) if own is None else own
    pays = []
    for i in range(len(values)):
        pays.append(np.delete(values, i, 0).max(0).sum() - values.max(0).sum() + own[i].sum())
    return np.array(pays)


def soft(q, beta, inside=1.0, outside=1.0, stable=True, policy=lambda p: p):
    q = np.asarray(q, float)
    b = beta if inside else 1.0
    top = q.max() * stable
    s = np.exp((q - top) / b)
    return top + (beta if outside else 1.0) * np.log(s.sum()), policy(s / s.sum())


def coin(theta, share, factor=1.0):
    m = factor * share * np.tanh(theta)
    return np.log((m + np.sqrt(m**2 + 4 * (1 - m**2))) / (2 * (1 - m)))


def two_prices(values):
    return torch.eye(2), torch.full((2,), 3**-0.5)


def three_ways(values):  # a better entry that is hardly bought, with a gradient left on it
    return torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5]], requires_grad=True), torch.tensor([0.58, 0.57, 0.6])


def lying(mechanism, values, i, lies, own=True, floor=0.0, over=torch.mean, copy=True):
    bids = values.clone()
    x, p = mechanism(values)
    (bids if copy else values)[:, i] = lies
    y, q = mechanism(bids if copy else values)
    worth = values if own else bids
    gain = (worth[:, i] * y[:, i]).sum(1) - q[:, i] - (values[:, i] * x[:, i]).sum(1) + p[:, i]
    return over(gain.clamp_min(floor))


def finer(utility, coarse=31, keep=10, rounds=7, clip=True, lib=np):
    ask = lambda r: np.asarray(utility(torch.from_numpy(r) if lib is torch else r))
    square = lambda axis: np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    reports, reach = square(np.linspace(0, 1, coarse)), 1 / (coarse - 1)
    brought = ask(reports)
    for _ in range(rounds):
        places = reports[np.argsort(-brought)[:keep]]
        reports = (places[:, None] + reach * square(np.linspace(-1, 1, 5))).reshape(-1, 2)
        reports = reports.clip(0, 1) if clip else reports
        brought, reach = ask(reports), reach / 2
    return brought.max(), reports[brought.argmax()]


def others_of(h, none=0.0, ties=True):
    def along(t):
        k = t.shape[-1]
        near = t[..., None, :].expand(*t.shape, k)
        near = near.masked_fill(torch.eye(k, dtype=bool) if ties else near == t[..., None], -torch.inf)
        return near.amax(-1).nan_to_num(neginf=none)

    return torch.stack([h, along(h), along(h.T).T], -1)


def wider(mechanism, values, wide, wide_first=False, group=True):
    (x, p), (y, q) = mechanism(torch.cat([values, wide] if group else [wide])), mechanism(values)
    table = values @ x.T - p
    if wide_first:
        shares, payments = mechanism(torch.cat([wide, values]))
        swapped = values @ shares.T - payments
        return (swapped.amax(1) - swapped.diagonal()).clamp_min(0)
    return table.amax(1) - (values * y).sum(1) + q


def on_sale(shares, prices, values, discount, seen=True, charged=True):
    reduced = (1 - discount) * prices
    chosen = (values @ shares.T - (reduced if seen else prices)).argmax(1)
    return (reduced if charged else prices)[chosen].mean()


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


def named_facts(n, rng, length, names=10, values=3, count=lambda known: known):
    value = torch.randint(names, names + values, (n, names), generator=rng)
    if values == names:
        value = torch.rand(n, names, generator=rng).argsort(1) + names
    name = torch.randint(0, names, (n, length // 2), generator=rng)
    again = (name[:, :, None] == name[:, None]).tril(-1).any(2)
    pairs = (name, value.gather(1, name)), (torch.zeros_like(again), again)
    text, known = (torch.stack(pair, 2).flatten(1) for pair in pairs)
    return text, count(known)


def mean_in_steps(x, total, seen, own=True, divide=True, first=1, keep=True):
    x = torch.as_tensor(x)
    sums, T = total[:, None] + x.cumsum(1), x.shape[1]
    counts = seen + (torch.arange(T)[:, None] + first if own else T)
    return sums / counts if divide else sums, (sums[:, -1], seen + T if keep else T)


class Convolved(torch.nn.Module):
    def __init__(self, cfg, taps=4, late=0, room=False, forget=False, half=False, idle=False):
        super().__init__()
        self.taps, self.late, self.room, self.forget, self.half = taps, late, room, forget, half
        self.weight = torch.nn.Parameter(torch.randn(4, cfg.width))
        self.to_out = torch.nn.Linear(cfg.width, cfg.width)
        self.idle = torch.nn.Parameter(torch.ones(1)) if idle else None

    def start(self, batch, capacity):
        return (torch.zeros(batch, capacity if self.room else 3, self.weight.shape[1]),)

    def step(self, x, state, positions):
        x = torch.cat([0 * state[0][:, -3:] if self.forget else state[0][:, -3:], x], 1)
        T = x.shape[1] - 3
        y = sum(self.weight[i] * x[:, i : i + T] for i in range(4 - self.taps, 4))
        y = torch.nn.functional.pad(y, (0, 0, -self.late, self.late))
        y = self.to_out(y)
        return y[..., : 4 if self.half else None], (x[:, -3:],)

    def forward(self, x):
        return self.step(x, self.start(len(x), 3), None)[0]


def direction_by_hand(q, k, v, g, centred=True, causal=True, weighted=True):
    logits = q @ k.mT / q.shape[-1] ** 0.5
    p = (logits.masked_fill(torch.ones(9, 9).triu(1) > 0, -torch.inf) if causal else logits).softmax(-1)
    if not weighted:
        return (g @ v.mT) @ (k - k.mean(0))
    w = p * (g @ v.mT)
    return w @ k - (w.sum(-1, keepdim=True) * (p @ k) if centred else 0)


def parallax_with(q, k, v, r, mean=False, sign=-1):
    p = (q @ k.mT / 2).masked_fill(torch.ones(9, 9).triu(1) > 0, -torch.inf).softmax(-1)
    a = r @ k.mT
    a = a - (a.mean(-1, keepdim=True) if mean else (p * a).sum(-1, keepdim=True))
    return (p * (1 + sign * a)) @ v


def corrected(q, k, v, g, beta, W, correct=True, look=True, before=True, own=0.0, quotient=False):
    below = torch.ones(len(k), len(k), dtype=torch.bool).tril()
    left = (g - g.T).masked_fill(~below, -torch.inf).exp() if not quotient else g.exp() / g.exp().T * below
    u = beta * (v - (g.exp() * (k @ W.T) if look and correct and before else 0))
    system = torch.eye(len(k)) * (1 + own) + (beta * left * (k @ k.T)).tril(-1) * correct
    u = torch.linalg.solve(system.to(u), u)
    o = (left * (q @ k.T)) @ u + g.exp() * (q @ W.T) * before
    return o, g[-1].exp() * W + u.T @ ((g[-1] - g).exp() * k)


def masked(q, k, u, g, W, fill=-torch.inf, detach=False):
    later = torch.ones(len(k), len(k), dtype=torch.bool).triu(1)
    gap = g - g.T
    left = gap.exp().tril() if fill is None else gap.masked_fill(later, fill).exp()
    left = left.detach() if detach else left
    o = (left * (q @ k.T)) @ u + g.exp() * (q @ W.T)
    return o, g[-1].exp() * W + u.T @ ((g[-1] - g).exp() * k)


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


def few_shot(
    chain, op, k, rng, low=100, high=119, sign=1, same=False, cut=1, begin=1, more=1, own=None, line=list
):
    lines, root = [], rng.randint(low, high)
    for _ in range(k + more):
        root = root if same else rng.randint(low, high)
        values = [root + sign * sum(op[a] for a in chain[1 : i + 1]) for i in range(len(chain))]
        lines.append(line(zip(own or chain, values)))
    return lines[:-1] + [lines[-1][:cut]], lines[-1][begin:]


def placed(fragment, T, noise, rng, spots=lambda rng, T, m: sorted(rng.sample(range(T), m)), other=None):
    line = (other or rng.sample)(noise, k=T)
    for spot, letter in zip(spots(rng, T, len(fragment)), fragment):
        line[spot] = letter
    return line


def constrained(next_logits, prompt, n, forbidden, low=-np.inf, feed=True, whole=False, count=0):
    text, new = list(prompt), []
    for _ in range(n + count):
        logits = np.array(next_logits(text), float)
        logits[list(forbidden)] = low
        new.append(int(logits.argmax()))
        text += new[-1:] if feed else []
    return text if whole else new


def appending(next_logits, prompt, n, forbidden):
    prompt += constrained(next_logits, prompt, n, forbidden)
    return prompt[-n:]


def values_known(logits, tokens, asked, back=1, of=torch.mean, right=True):
    same = logits.argmax(-1).gather(1, asked - back) == tokens.gather(1, asked)
    return of((same == right).float())


def exchanged(values, i, other=1, keep=True, both=True):
    new, rows = values.clone() if keep else values, torch.arange(len(values))
    first, second = values[rows, i].clone(), values[rows, i + other].clone()
    new[rows, i] = second
    if both:
        new[rows, i + other] = first
    return new


def silenced(said, usual, kind, which, swap=False, what=None, row=None):
    says = usual[kind] if row is None else usual[row].expand_as(said)
    says = says if what is None else torch.full_like(said, what)
    off = (kind == which)[..., None]
    return torch.where(off, said, says) if swap else torch.where(off, says, said)


def preceded(token, before, causal=np.tril, norm=True, turn=False, empty=1.0):
    match = causal(before @ token.T if turn else token @ before.T)
    with np.errstate(invalid="ignore"):
        return match / np.maximum(match.sum(1, keepdims=True), empty) if norm else match


def half_of_pairs(D, V, g, level=0.5):
    def share(pairs):
        unit = lambda n: torch.nn.functional.normalize(torch.randn(40, n, D, generator=g), dim=-1)
        k, values = unit(pairs), unit(V)
        similar = k @ (values[:, :pairs].mT @ k).mT @ values.mT
        return (similar.argmax(-1) == torch.arange(pairs)).double().mean()

    low, high = 1, min(D * D, V)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if share(middle) > level else (low, middle)
    return high


def graded(said, values, which):
    return ((said @ values.T).argmax(1) == which).double().mean().item()


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


def softened(k, v, scale, above=0, ask=1):
    n = len(k)
    seen = torch.ones(n - 1, n, dtype=torch.bool).tril(above)
    seen[:, 0] = True
    logits = scale * k[ask : n - 1 + ask] @ k.T
    return logits.masked_fill(~seen, -torch.inf).softmax(-1) @ v


def by_seed(a, b):
    return ttest_1samp(np.log(np.mean(a, 1)) - np.log(np.mean(b, 1)), 0).pvalue


def chained(wanted, written):
    rest = iter(written)
    return all(pair in rest for pair in wanted)


def gap_of(mechanism, bids, x, y, P, Q, back=True, contexts=True, share=1, paid=1, size=None):
    "Whether a mechanism is equivariant; each keyword is a mistake."
    size = size or (lambda d: d.abs().max())
    a, p = mechanism(bids, x, y)
    a2, p2 = mechanism(bids[P][:, Q], *((x[P], y[Q]) if contexts else (x, y)))
    off = (a2 - a[P][:, Q], p2 - p[P]) if back else (a2 - a, p2 - p)
    return max(share * size(off[0]).item(), paid * size(off[1]).item())


def sums(h, axis):
    return h.sum(axis, keepdims=True)


def attended(h, W):
    return torch.softmax((h @ W[0]) @ (h @ W[1]).mT / h.shape[-1] ** 0.5, -1) @ (h @ W[2])


def columns(h, W, there=lambda h: h.transpose(0, 1), back=lambda h: h.transpose(0, 1)):
    return back(attended(there(h), W))


def column_by_column(h, W):
    return torch.stack([attended(h[:, j], W) for j in range(h.shape[1])], 1)


def crossing(mechanism, values, told=False, floor=0.0, lies=lambda m: torch.eye(m, dtype=torch.bool)):
    "The gain by bidding zero for one item; each keyword is a mistake."
    (_, n, m), (share, paid) = values.shape, mechanism(values)
    honest, best = (values * share).sum(2) - paid, torch.full(values.shape[:2], floor, dtype=values.dtype)
    for i in range(n):
        for lie in lies(m):
            bids = values.clone()
            bids[:, i, lie] = 0
            share, paid = mechanism(bids)
            gained = ((bids if told else values) * share).sum(2) - paid - honest
            best[:, i] = best[:, i].maximum(gained[:, i])
    return best


def lies_tried(mechanism, values, lies, told=False, floor=0.0, pick=lambda tried: tried.amax(0)):
    def utility(bids):
        share, paid = mechanism(bids)
        return (bids if told else values)[:, 0] * share[:, 0] - paid[:, 0]

    bids = [torch.cat([torch.full_like(values[:, :1], lie), values[:, 1:]], 1) for lie in lies]
    return pick(torch.stack([utility(b) - utility(values) for b in bids])).clamp_min(floor)


def preferred(good, bad, good_ref, bad_ref, beta, own=1.0, sign=1, mean=np.mean, stable=True):
    m = sign * beta * ((good - own * good_ref) - (bad - own * bad_ref))
    return mean(np.logaddexp(0, -m) if stable else np.log(1 + np.exp(-m)))


def mirrored(W, i, j, value=-1, beta=2, length=1, sign=-1):
    k = torch.zeros(len(W), dtype=W.dtype)
    k[i], k[j] = length * 0.5**0.5, sign * length * 0.5**0.5
    return W + beta * torch.outer(value * k - W @ k, k)


TURNS = (lambda v: (v + 1) % 10, lambda v: 2 * v % 10, lambda v: (v - 3) % 10)


def looks_ahead(habits, answer, depth, own=False, late=False):
    "40.3 by recursion; `own` returns the writer's habits, `late` looks one step less far ahead."
    habits = np.asarray(habits, float)
    said = lambda v: 0.9 if v == answer else 0.1 / 9
    known = {}

    def value(left, last, v):
        if left == 0:
            return said(v)
        if (left, last, v) not in known:
            steps = [habits[last, a] * value(left - 1, a + 1, TURNS[a](v)) for a in range(3)]
            known[left, last, v] = sum(steps) + habits[last, 3] * said(v)
        return known[left, last, v]

    policy = np.zeros((depth + 1, 4, 10, 4))
    policy[0, ..., 3] = 1
    for left, last, v in product(range(1, depth + 1), range(4), range(10)):
        after = [value(max(left - 1 - late, 0), a + 1, TURNS[a](v)) for a in range(3)] + [said(v)]
        row = habits[last] * (1 if own else np.array(after))
        policy[left, last, v] = row / row.sum()
    return np.log(value(depth, 0, 2)), policy


def bounded(p, g, q, mask=lambda p, g, q: q > 0):
    some = mask(p, g, q)
    return (q[some] * (np.log((p * g)[some]) - np.log(q[some]))).sum()


def drawn(logits, generator, change=torch.log):
    return (logits - change(torch.empty_like(logits).exponential_(generator=generator))).argmax(-1)


def clipped_loss(log_q, log_old, advantages, width, both=False):
    ratio = (log_q - log_old).exp()
    held = ratio.clamp(1 - width, 1 + width) * advantages
    return -(held if both else torch.minimum(ratio * advantages, held)).mean()


def valued(f, author, steps, bonus, beta):
    right = np.fft.ifft(np.fft.fft(f) ** steps).real[0]
    entropy = sum(x * np.log(x) for x in f if x > 0)
    return f, bonus * right - steps * (beta * entropy - f @ np.log(author))


def blind_best(author, steps, bonus, beta, starts=("never", "author")):
    "42.3 by ascent from two starts: who never errs, and the author."
    found = []
    for f in (np.eye(10)[0] if start == "never" else author for start in starts):
        for _ in range(200):
            others = np.fft.ifft(np.fft.fft(f) ** (steps - 1)).real[-np.arange(10) % 10]
            tilt = (author * np.exp(bonus * others)) ** (1 / beta)
            f = (f + tilt / tilt.sum()) / 2
        found.append(valued(f, author, steps, bonus, beta))
    return max(found, key=lambda pair: pair[1])


def cancelling(p, k, ways=(10,)):
    "43.1, 43.2: probability that k errors sum to zero, by going through all of them."
    errors = {0: p} | {s * w: (1 - p) / 2 / len(ways) for w in ways for s in (1, -1)}
    return sum(np.prod([errors[e] for e in es]) for es in product(errors, repeat=k) if sum(es) == 0)


def lucky(p, k):
    return 1 - p**k / cancelling(p, k)


def pass_of(right, draws, k):
    "43.3 by the ratio of binomial coefficients."
    return np.array([1 - math.comb(draws - r, k) / math.comb(draws, k) for r in right])


def evidence_of(right, bonus):
    return np.log(np.exp(bonus * right).mean(1)).mean()


def doubled(moves, word, back=False, rounds=99):
    known, step = moves[word], 1
    while step < word.shape[-1] and step < 2**rounds:
        late, early = known[..., step:, :], known[..., :-step, :]
        joined = early.gather(-1, late) if back else late.gather(-1, early)
        known, step = torch.cat([known[..., :step, :], joined], -2), 2 * step
    return known


def mirrors_of(move):
    ball, found = list(range(len(move))), []
    for place in range(len(move)):
        wanted = list(move).index(place)
        if ball[place] != wanted:
            other = ball.index(wanted)
            ball[place], ball[other] = ball[other], ball[place]
            found.append(torch.zeros(len(move)))
            found[-1][place], found[-1][other] = 0.5**0.5, -(0.5**0.5)
    return torch.stack(found) if found else torch.zeros(0, len(move))


@functools.cache
def held_out_package(held="email"):
    files = {n: t for part in read_corpus(PACKAGES).parts.values() for n, t in part.items()}
    mine, others = (
        b"".join(b"\0" + t for n, t in files.items() if (n.split("/")[0] == held) == own)
        for own in (True, False)
    )
    bits = count_bits(count_contexts(others, 6), mine).mean(1)[1:]
    return float(bits[4]), int(bits.argmin())


class HeldOut:
    "The answer to 36.4, read and counted when it is looked at."

    def __init__(self, best=None, kind=list):
        self.best, self.kind = best, kind

    def __iter__(self):
        bits, best = held_out_package()
        return iter(self.kind([bits, self.best or best]))


def learning(text, n, early=False):
    seen, bits = collections.defaultdict(collections.Counter), []
    for t in range(n, len(text)):
        after = seen[text[t - n : t]]
        after[text[t]] += early
        N, u = sum(after.values()), len(+after)
        bits.append(-np.log2((after[text[t]] + u / 256) / (N + u) if N else 1 / 256))
        after[text[t]] += not early
    return float(sum(bits) / len(bits))


def fitting(keys, tiles, most=2, own=1024, ones=8, vector=8 * 64 * 128):
    "Programs of a multiprocessor, exercise 26b.1; other settings forget something."
    bytes_ = tiles * keys * 128 * 2 + vector + ones * keys * 2 + 144 + own
    return min(most, 228 * 1024 // bytes_)


def idle_share(steps, rows, whole=False, one=False):
    "Exercise 28c.2: empty places that work, or one tile for all."
    tiles = [steps] if one else [steps[i : i + rows] for i in range(0, len(steps), rows)]
    return 1 - sum(steps) / sum(max(t) * (rows if whole else len(t)) for t in tiles)


def timed(call, wait, clock, calls=20, first=True, last=True, each=False):
    "Exercise 28c.3: a clock that does not wait before, after, or waits in every call."
    call()
    first and wait()
    begin = clock()
    for _ in range(calls):
        call()
        each and wait()
    last and wait()
    return (clock() - begin) / calls


def ring_walk(fetch, use, n, stages, first=False, beyond=False):
    "Exercise 26b.3: fetching before the place was read, or chunks that do not exist."
    for i in range(stages if beyond else min(n, stages)):
        fetch(i)
    for i in range(n):
        first or use(i)
        if i + stages < n:
            fetch(i + stages)
        if first:
            use(i)


def tile_round(order):
    "Exercise 26c.2, the calls in an order of the letters of add, start, wait, fetch."

    def one_round(add, start, wait, fetch):
        calls = dict(a=add, s=start, w=wait, f=fetch)
        [calls[letter]() for letter in order]

    return one_round


def file_error(a, b, sizes, draws, generator, together=True, ratio=True, replace=True):
    draw = lambda: np.stack([generator.choice(len(sizes), len(sizes), replace=replace) for _ in range(draws)])
    first = draw()
    second = first if together else draw()
    if not ratio:
        return ((a - b) / sizes)[first].mean(1).std()
    return round(
        float((a[first].sum(1) / sizes[first].sum(1) - b[second].sum(1) / sizes[second].sum(1)).std()), 12
    )


def seeds_differ(a, b, ddof=1, freedom=None):
    parts = [(np.var(x, ddof=ddof) / len(x), len(x) - 1) for x in (a, b)]
    total = sum(v for v, _ in parts)
    freedom = freedom or total**2 / sum(v**2 / n for v, n in parts)
    return float(2 * student_t.sf(abs(np.mean(a) - np.mean(b)) / total**0.5, freedom))


def priced(c, clamp=True, price=None):
    prices = torch.linspace(0, float(c.max()), 20_001).double() if price is None else price.reshape(1)
    sold = 1 - prices[:, None] / c
    return float((c / 4).mean() / (prices * (sold.clamp_min(0) if clamp else sold).mean(1)).max())


def kinds_of_lies(utilities, sizes, tie=False, truth=True):
    kinds = np.array(["shared"] * len(utilities) + [name for name, n in sizes.items() for _ in range(n)])
    u, own = utilities.numpy(), utilities.diagonal().numpy()
    others = np.where(np.eye(*u.shape) > 0, -np.inf, u)
    honest = own > others.max(1) if tie else own >= others.max(1)
    best = np.where(honest & truth, "truth", kinds[others.argmax(1)])
    return {name: float((best == name).mean()) for name in ("truth", "shared", *sizes)}


def even_cuts(tokens, world, power=0.5):
    return [round(tokens * (r / world) ** power) for r in range(world + 1)]


def legal_texts(task, shortest=0, longest=None, stop=None):
    longest, stop = task.n_max if longest is None else longest, task.stop if stop is None else stop
    rows = [
        [*z[:k], stop, z[k]] + [task.pad] * (task.n_max - k)
        for k in range(shortest, longest + 1)
        for z in product(range(task.values), repeat=k + 1)
    ]
    return torch.tensor(rows)


ANSWERS = {  # number -> (right answers, wrong answers with different hints)
    "08.1": (
        [lambda x0, x, y: near_three(x0, x, y), lambda x0, x, y: torch.tensor(near_three(x0, x, y))],
        [
            1,
            lambda x0, x, y: y[:3].mean(),
            lambda x0, x, y: near_three(x0, x, y, count=1),
            lambda x0, x, y: 3 * near_three(x0, x, y),
            lambda x0, x, y: y[(x - x0).argsort()[:3]].mean(),
            fails,
        ],
    ),
    "08.2": (["one line for all data", " One line for all data "], ["the constant", "the curve", 1]),
    "10.1": (
        [1, 1.0, np.float32(1), np.array([1.0]), [1], "1", torch.ones(1)],
        [50, 0, 1 / 50, 2, -1, "one"],
    ),
    "10.2": (
        [group_out, lambda *a: np.array(group_out(*a))],
        [
            1,
            lambda x, y, groups, h: group_out(x, y, groups, h)[:1],
            lambda *a: group_out(*a, safe=False),
            lambda *a: group_out(*a, miss=np.abs),
            lambda *a: group_out(*a, whole=np.sum),
            lambda *a: group_out(*a, sums=False),
            lambda *a: group_out(*a, own=lambda x: np.zeros((len(x), len(x)), bool)),
            lambda *a: group_out(*a, own=lambda x: np.eye(len(x), dtype=bool)),
            lambda *a: group_out(*a, own=lambda x: np.equal.outer(x, x)),
            lambda x, y, groups, h: group_out(x, y, groups, h, own=lambda x: in_row(groups)),
            fails,
        ],
    ),
    "10.3": ([-0.2, np.float64(-0.2)], [0, 0.2, 1.8, -0.1, -0.4, -1]),
    "10.4": (["the smallest", " The smallest "], ["the same", "the largest", "one", 1]),
    "10.5": (
        [choose, lambda *a: choose(*a, missing=np.nan, pick=np.nanargmin)],
        [
            1,
            lambda *a: choose(*a, missing=np.nan),
            lambda *a: choose(*a, missing=np.nan, mean=np.nanmean),
            lambda x, y, h: h[0],
            lambda x, y, h: min(h),
            lambda x, y, h: choose(x, y, h) if len(x) == 30 else max(h),
            lambda x, y, h: choose(x, y, h) if len(x) == 30 else h[0],
            lambda x, y, h: choose(x, y, h) if len(x) == 30 else 0.5,
            fails,
        ],
    ),
    "11.1": (
        [[-1 / 6, 1 / 3, 5 / 6], np.array([-1 / 6, 1 / 3, 5 / 6]), (-0.1667, 0.3333, 0.8333)],
        [[1 / 3] * 3, [5 / 6, 1 / 3, -1 / 6], [0, 0, 0], [0, 0, 1], [1], (-0.17, 0.33, 0.83), "a"],
    ),
    "11.2": ([1 / 3, 0.3333, "1/3", " 1 / 3 "], ["half", 0, 2 / 3, 1, -1 / 3, 0.2, 0.5]),
    "11.3": (
        [parabola, lambda *a: list(parabola(*a))],
        [
            2,
            lambda *a: parabola(*a)[:1],
            lambda *a: 0.9 * parabola(*a),
            lambda *a: parabola(*a, power=1),
            lambda *a: parabola(*a, kernel=lambda r: 0 * r),
            lambda *a: parabola(*a, kernel=lambda r: -(r**2)),
            lambda *a: parabola(*a, centre=False),
            lambda *a: parabola(*a, solve=by_normal_equations),
            fails,
        ],
    ),
    "11.4": ([1 / 3, 0.333, 0.34, "1/3"], [0, 0.5, 2 / 3, 0.25, 33.3]),
    "11.5": (
        [line_of],
        [
            1,
            lambda x0, x, y, p: line_of(x0, x, y, p, last=x.mean()),
            lambda x0, x, y, p: line_of(x0, x, y, np.full(len(x), 0.25)) + 0 * p[0],
            fails,
        ],
    ),
    "12.1": (
        [(-3 / 8, -4 / 9), [-0.375, -0.4444], np.array([-3 / 8, -4 / 9])],
        [(-0.5, -4 / 7), (-4 / 9, -3 / 8), (3 / 8, 4 / 9), (-1, -1), -3 / 8, "ab"],
    ),
    "12.2": ([2 ** (4 / 3), 2.52], [2, 2**1.25, 2**0.75, -(2 ** (4 / 3)), 4, 1.5]),
    "12.3": (
        [shared, lambda *a: [list(part) for part in shared(*a)]],
        [
            0.3,
            lambda *a: [part[:1] for part in shared(*a)],
            lambda *a: shared(*a, truth=0),
            lambda *a: shared(*a, always=True),
            lambda *a: shared(*a, scale=1),
            lambda *a: shared(*a, pairs=False),
            lambda *a: shared(*a, lag=0.2),
            lambda *a: shared(*a, kernel=-1),
            fails,
        ],
    ),
    "12.4": ([4**0.2, 1.32, 1.3195], [2**0.2, 2, 4**0.25, 4 ** (1 / 3), 1]),
    "12.5": (
        [lambda fits, truth: (fits.mean() - truth) ** 2],
        [
            1,
            lambda fits, truth: ((fits - truth) ** 2).mean(),
            lambda fits, truth: fits.mean() - truth,
            lambda fits, truth: fits.var(),
            lambda fits, truth: (np.median(fits) - truth) ** 2,
            fails,
        ],
    ),
    "20.3": (
        [fading],
        [
            1,
            lambda q, k, v, gate, ridge: fading(q, k, v, gate, ridge)[:-1],
            lambda q, k, v, gate, ridge: mesa_attention(q, k, v, ridge=ridge),
            lambda q, k, v, gate, ridge: mesa_attention(q, k, v, ridge=ridge, is_causal=True),
            lambda *a: fading(*a, late=True),
            lambda *a: fading(*a, ridge_fades=True),
            lambda *a: fading(*a, early=True),
            lambda *a: fading(*a, both=False),
            lambda *a: fading(*a, invert=False),
            fails,
        ],
    ),
    "20.4": (["delta", ["delta"], ("delta",)], ["softmax", ["delta", "mesa"], ["x"], 3]),
    "20.5": (
        [lambda q, k, v: (q @ k.T).tril() @ v, lambda q, k, v: ((q @ k.T).tril() @ v).double()],
        [
            1,
            lambda q, k, v: q @ (k.T @ v),
            lambda q, k, v: (q @ k.T).tril(-1) @ v,
            lambda q, k, v: (q @ k.T).triu() @ v,
            lambda q, k, v: v[0],
            lambda q, k, v: v,
            fails,
        ],
    ),
    "21.1": (
        [[-0.3125, 1.3125]],
        [[1.3125, -0.3125], [0.25, 0.75], [-0.5, 1.5], [0.5, 0.6], [0.4, 0.6], [1, 2, 3]],
    ),
    "21.3": (
        [lla_sequence],
        [
            1,
            lambda q, *a: lla_sequence(q, *a)[..., :-1],
            lambda *a: lla_sequence(*a, causal=False),
            lambda *a: lla_sequence(*a, sign=0),
            lambda *a: lla_sequence(*a, sign=-1),
            lambda *a: lla_sequence(*a, about=0),
            lambda q, k, v, ridge, scale: lla_sequence(q, k, v, 0 * ridge + ridge.flatten()[0], scale),
            lambda q, k, v, ridge, scale: lla_sequence(q, k, v, ridge, 2 * scale),
            lambda q, k, v, ridge, scale: lla_sequence(*(x.reshape(-1, 3) for x in (q, k, v)), ridge, scale),
            fails,
        ],
    ),
    "21.4": ([0.5, 1 / 2], [0, 1, 2, 0.25]),
    "21.5": (
        [lla_weights_of, lla_raw, lambda *a: lla_raw(*a, ridge_too=True, mean=False)],
        [
            1,
            lambda *a: lla_raw(*a, mean=False),
            lambda *a: lla_weights_of(*a, sign=-1),
            lambda *a: lla_weights_of(*a, sign=0),
            lambda *a: lla_weights_of(*a, about=0),
            lambda q, k, ridge, scale: lla_weights_of(q, k, 3 * ridge, scale),
            lambda *a: lla_weights_of(*a)[:3],
            fails,
        ],
    ),
    "22.3": (
        [rows_solved, lambda *a: [t.float().double() if t.dim() == 1 else t for t in rows_solved(*a)]],
        [
            1,
            lambda *a: rows_solved(*a)[0],
            lambda *a: rows_solved(*a, mask=False, zero=False),
            lambda *a: rows_solved(*a, conjugate=False),
            lambda *a: (rows_solved(*a, mask=False)[0], rows_solved(*a)[1]),
            lambda p, b, tol, n: rows_solved(p, b, 1e3 * tol, n),
            lambda p, b, tol, n: (rows_solved(p, b, tol, n)[0], rows_solved(p, b, tol, n)[1] + 1),
            fails,
        ],
    ),
    "21b.1": ([2.9125, 2.91], [1.8203, 1.7066, 1.625, 0.3433, 1, 7]),
    "21b.2": ([4, 3.994], [1, 2, 3, 13, -4]),
    "21b.3": (
        [held_out],
        [
            1,
            lambda *a: held_out(*a, leave=False),
            lambda *a: held_out(*a, single=True),
            lambda *a: held_out(*a) ** 2,
            lambda *a: held_out(*a, by_group=torch.sqrt),
            lambda *a: held_out(*a, by_group=lambda e: e) ** 0.5,
            lambda k, v, group, ridge, scale: held_out(k, v, group, 1e9, scale),
            lambda k, v, group, ridge, scale: held_out(k, v, group, 7 * ridge, scale),
            fails,
        ],
    ),
    "21b.4": (
        [tuned, lambda *a: list(tuned(*a))],
        [
            1,
            lambda *a: tuned(*a, choose=slice(None)),
            lambda *a: tuned(*a, choose=slice(3, None)),
            lambda *a: tuned(*a, score=slice(None)),
            lambda *a: tuned(*a, score=slice(0, 3)),
            lambda *a: tuned(*a, pick=max),
            lambda *a: tuned(*a)[0],
            fails,
        ],
    ),
    "22.4": ([3, 3.0], [61, 2, 1000, 6]),
    "22.5": (
        [lambda A, b, t: krylov(A, b, t)],
        [
            1,
            lambda A, b, t: krylov(A, b, t, keep=False),
            lambda A, b, t: torch.linalg.solve(A, b),
            lambda A, b, t: torch.linalg.solve(A, b) * (t > 0),
            fails,
        ],
    ),
    "22b.1": (
        [tile_preconditioner],
        [
            1,
            lambda *a: 1,
            lambda q, k, first, ridge: lambda r: r,
            lambda q, k, first, ridge: tile_preconditioner(q, k, first, ridge, start=first),
            lambda *a: tile_preconditioner(*a, choose=False),
            lambda *a: tile_preconditioner(*a, noise=3.0),
            fails,
        ],
    ),
    "22b.2": ([(4, 1), [4.0, 1.0], np.array([4, 1])], [(16, 1), (1, 4), (4, 4), (4, 0), 4, "ab"]),
    "22b.3": ([8.625, 69 / 8], [6, 9, 3, 45.375, 8]),
    "22b.4": (
        [inverse_of],
        [
            1,
            lambda q, k, first, rows, ridge: inverse_of(q, k, first, rows, ridge, at=first),
            lambda *a: inverse_of(*a, invert=lambda M: M),
            lambda *a: inverse_of(*a, times=2.0),
            lambda *a: inverse_of(*a)[:2],
            fails,
        ],
    ),
    "23.2": (
        [merged],
        [
            1,
            lambda m, l, a: merged(m, l, a, sums=False),
            lambda m, l, a: merged(m, l, a, fade=False),
            lambda m, l, a: (np.exp(m)[:, None] * a).sum(0) / (np.exp(m) * l).sum(),
            lambda m, l, a: merged(m, l, a)[:1],
            lambda m, l, a: merged(m, l, a) + np.isinf(m).any(),
            fails,
        ],
    ),
    "23.4": (
        [walked],
        [
            1,
            lambda x, v, BS: v.mean(0),
            lambda x, v, BS: walked(x, v, BS, rescale=False),
            lambda x, v, BS: x.exp() @ v / x.exp().sum(),
            lambda x, v, BS: walked(x.clamp(min=-1e9), v, BS) * (0 if x.isinf().any() else 1),
            lambda x, v, BS: walked(x[: len(x) // BS * BS] if BS < 16 else x, v, BS),
            lambda x, v, BS: x.softmax(0) @ v,
            fails,
        ],
    ),
    "23.5": ([63], [64, 4095, 1, 60]),
    "24.2": (
        [implicit()],
        [
            1,
            lambda A, b, solver: torch.linalg.solve(A, b),
            lambda A, b, solver: solver(A, b),
            lambda A, b, solver: 2 * solver(A, b),
            implicit(ask=False),
            implicit(turn=False),
            implicit(sign=1.0),
            implicit(swap=True),
            implicit(sign=-2.0),
            fails,
        ],
    ),
    "24.4": (["down", "Down"], ["up", "left", 1]),
    "24.5": (
        [lambda s, p, g: s.T @ g],
        [1, lambda s, p, g: p.T @ g, lambda s, p, g: s @ s.T @ g, lambda s, p, g: -s.T @ g, fails],
    ),
    "25.1": (
        [(136, 1.114), [136, 1.114112], np.array([136.0, 1.114])],
        [(256, 2.097), (120, 0.983), (16, 0.131), (136, 2.228), (136, 136), (136, 1_114_112), (17, 3), 136],
    ),
    "25.2": (
        [product_of],
        [
            1,
            lambda *a: product_of(*a, past=False),
            lambda *a: product_of(*a, centre=0.0),
            lambda *a: product_of(*a, multiply=True),
            lambda *a: product_of(*a) * (float("nan") if len(a[0]) % 16 else 1),
            lambda *a: product_of(*a) + len(a[0]) % 16,
            lambda *a: product_of(*a)[:-1],
            fails,
        ],
    ),
    "25.5": (
        [mean_of_past, lambda k: mean_of_past(k.double())],
        [
            1,
            lambda k: k.mean(0).expand_as(k),
            lambda k: k.cumsum(0),
            lambda k: mean_of_past(k) * (float("nan") if len(k) % 16 else 1),
            lambda k: mean_of_past(k)[:3],
            fails,
        ],
    ),
    "26b.1": (
        [fitting, lambda keys, tiles: float(fitting(keys, tiles))],
        [
            1,
            lambda keys, tiles: fitting(keys, tiles, most=99),
            lambda keys, tiles: fitting(keys, tiles, own=0),
            lambda keys, tiles: fitting(keys, tiles, ones=0),
            lambda keys, tiles: fitting(keys, tiles, vector=4 * 64 * 128),
            lambda keys, tiles: 2,
            fails,
        ],
    ),
    "26b.2": ([0.7054, 0.705], [0.573, 0.1411, 1.102, 1.389, 5, "x"]),
    "26b.3": (
        [ring_walk],
        [
            1,
            lambda fetch, use, n, stages: ring_walk(fetch, use, n, stages, first=True),
            lambda fetch, use, n, stages: ring_walk(fetch, use, n, stages, beyond=True),
            lambda fetch, use, n, stages: [(fetch(i), use(i)) for i in range(n)],
            lambda fetch, use, n, stages: ring_walk(fetch, use, n - 1, stages),
            fails,
        ],
    ),
    "26c.1": ([(2, 1), [2, 1]], [(4, 3), (2, 2), (1, 1), 2, "x"]),
    "26c.2": ([tile_round("aswf")], [1, *map(tile_round, ("afsw", "awsf", "sawf", "asw")), fails]),
    "26.1": ([(32, 2), [32.0, 2.0]], [(2, 32), (32, 32), (32, 1), (16, 1), (32, 0), (1, 1), 32]),
    "26.3": (
        [heard, lambda q, k, lse: heard(q.double(), k.double(), lse.double())],
        [
            1,
            lambda q, k, lse: heard(q, k, lse) + len(q) % 32,
            lambda q, k, lse: heard(q, k, lse) * (float("inf") if len(q) % 16 else 1),
            lambda q, k, lse: (q @ k.T).softmax(0).sum(0),
            lambda q, k, lse: heard(q, k, lse)[:3],
            fails,
        ],
    ),
    "26.5": (
        [gradient_of_values],
        [
            1,
            lambda *a: gradient_of_values(*a, past=False),
            lambda q, k, g, lse, scale: causal_weights(q, k, lse, scale) @ g.double(),
            lambda *a: gradient_of_values(*a) * (float("nan") if len(a[0]) % 16 else 1),
            lambda *a: gradient_of_values(*a).roll(1, 0),
            lambda *a: gradient_of_values(*a)[:-1],
            lambda *a: gradient_of_values(*a) + 1e-9 * torch.rand(()),
            fails,
        ],
    ),
    "25.4": (
        [lambda x: past_max(x), lambda x: past_max(x).double()],
        [
            1,
            lambda x: x.amax(1),
            lambda x: x.max(),
            lambda x: torch.cat([past_max(x)[:16], x[16:, :16].amax(1)]),
            lambda x: past_max(x, empty=0.0),
            lambda x: past_max(x).clamp(min=0) if len(x) % 16 else past_max(x),
            fails,
        ],
    ),
    "26.4": (
        [lambda x: x.sum(0), lambda x: x.double().sum(0)],
        [
            1,
            lambda x: x[:16].sum(0),
            lambda x: x.sum(1),
            lambda x: x.flatten()[: x.shape[1]] * 3,
            lambda x: x.sum(0) + (x.shape[0] % 16 > 0),
            fails,
        ],
    ),
    "24b.1": ([0.2369, np.exp(-1) / (np.exp(-1) + np.exp(-2) + np.exp(-3) + 1)], [0.665, 0.3679, 0.25, "x"]),
    "24b.2": (
        [lambda x: x.sum(1), lambda x: x.sum(1, keepdim=True).double()],
        [
            1,
            lambda x: torch.zeros(len(x)),
            lambda x: x.mean(1),
            lambda x: x.sum(),
            lambda x: x.sum(1) + (x.shape[1] % 16 > 0),
            lambda x: torch.as_strided(x, x.shape, (x.shape[1], 1)).sum(1),
            fails,
        ],
    ),
    "24b.3": ([("other", 0), ["other", 0.0]], [("mask", 0), ("other", 1), ("other", "0"), "other", ("n", 1)]),
    "24b.4": ([(256, 64), np.array([256.0, 64])], [(16, 64), (64, 256), (4096, 4096), 256, (1, 1)]),
    "24b.5": (
        [lambda x, v: x.softmax(1) @ v, lambda x, v: (x.double().softmax(1) @ v.double())[:, None]],
        [
            1,
            lambda x, v: x @ v,
            lambda x, v: x.exp() @ v / x.exp().sum(1),
            lambda x, v: torch.stack([t.softmax(1) @ w for t, w in zip(x.split(16, 1), v.split(16))]).mean(0),
            lambda x, v: x.softmax(1) @ v * (1 - 0.1 * (x.shape[1] % 16 > 0)),
            lambda x, v: x.clamp(-50, 50).softmax(1) @ v,
            fails,
        ],
    ),
    "27.2": (
        [merged_reports],
        [
            1,
            lambda a, b: merged_reports(a, b)[:3],
            lambda a, b: merged_reports(a, b, between=0.0),
            lambda a, b: merged_reports(a, b, between=2.0),
            lambda a, b: merged_reports(a, b, top=True),
            lambda a, b: merged_reports(a, b, raw=True),
            lambda a, b: merged_reports(a, b, heavy=True),
            merged_moments,
            fails,
        ],
    ),
    "27.3": (
        [added],
        [
            1,
            lambda a, b: added(a, b, L=torch.maximum),
            lambda a, b: added(a, b, L=lambda s, t: (s.exp() + t.exp()).log()),
            lambda a, b: added(a, b, late=lambda t: 2 * t),
            fails,
        ],
    ),
    "27.4": (
        [split_report, lambda x, n: tuple(t.double() for t in split_report(x, n))],
        [
            1,
            lambda x, n: (x.max(), x.exp().sum()),
            lambda x, n: split_report(x.flip(0), n),
            lambda x, n: (split_report(x, n)[0], split_report(x, n, relative=False)[1]),
            lambda x, n: split_report(x, n, extra=3 if len(x) % 16 else 0),
            lambda x, n: split_report(x, n, empty=0.0),
            fails,
        ],
    ),
    "27.5": ([8, 8.0], [1, 2, 132, 3, 64]),
    "27.6": ([130, 130.02], [260, 65, 66, 512]),
    "28.3": (
        [block_class(), block_class(positive=torch.exp)],
        [
            1,
            SoftmaxBlock,
            Idle,
            torch.nn.Linear,
            block_class(is_causal=False),
            block_class(ridges=1),
            block_class(positive=lambda t: t),
            block_class(unit=False),
        ],
    ),
    "28.4": (
        [[16.95, 14.44, 8.34, 4.53], (17.0, 14.4, 8.3, 4.5)],
        [[4.53, 8.34, 14.44, 16.95], [8.47, 7.22, 4.17, 2.27], [32, 32, 32, 32], [np.nan, 1, 1, 1], 17],
    ),
    "28.5": (
        [
            lambda q, k, v, r: flash_lla(q, k, v, ridge=r[:, None]),
            lambda q, k, v, r: flash_lla(q, k, v, ridge=r.view(1, 4, 1)),
        ],
        [
            1,
            lambda q, k, v, r: flash_lla(q, k, v, ridge=r),
            lambda q, k, v, r: flash_lla(q, k, v, ridge=float(r.mean())),
            lambda q, k, v, r: flash_lla(q, k, v, ridge=r[:, None])[:, :2],
            fails,
        ],
    ),
    "28c.1": ([163.3, 163, "163"], [196, 81.6, 367.4, 184, 1]),
    "28c.2": (
        [idle_share, lambda steps, rows: np.float64(idle_share(steps, rows))],
        [
            1,
            lambda *a: 1 - idle_share(*a),
            lambda *a: idle_share(*a, whole=True),
            lambda *a: idle_share(*a, one=True),
            lambda *a: 1 / (1 - idle_share(*a)),
            lambda *a: 0.5,
            fails,
        ],
    ),
    "28c.3": (
        [timed, lambda *a: timed(*a, calls=100)],
        [
            1,
            lambda *a: timed(*a, first=False, last=False),
            lambda *a: timed(*a, first=False),
            lambda *a: timed(*a, each=True),
            lambda *a: timed(*a, calls=1),
            lambda *a: 2.0,
            fails,
        ],
    ),
    "28d.1": (
        [even_cuts, lambda *a: np.array(even_cuts(*a)), lambda *a: torch.tensor(even_cuts(*a))],
        [
            1,
            lambda tokens, world: 7,
            lambda tokens, world: [tokens * r // world for r in range(world + 1)],
            lambda *a: even_cuts(*a)[:-1],
            lambda *a: even_cuts(*a, power=0.7),
            lambda *a: even_cuts(*a, power=0.3),
            lambda tokens, world: [0, *[5] * (world - 1), tokens],
            fails,
        ],
    ),
    "28d.2": ([7.751, 7.75, np.float64(7.7507)], [8, 64 / 15, 1.032, 0.129, 5, -7.75]),
    "28d.3": (
        [zigzag_gradient, lambda f, r: zigzag_gradient(f, r).numpy()],
        [
            1,
            lambda f, r: f.mean(0).chunk(len(f))[r],
            lambda f, r: f.sum(0).chunk(len(f))[r],
            lambda f, r: zigzag_gradient(f, r) / len(f),
            lambda f, r: zigzag_gradient(f, r).roll(2, 0),
            lambda f, r: f.sum(0),
            lambda f, r: f[r],
            lambda f, r: zigzag_gradient(f, 0),
            fails,
        ],
    ),
    "28d.4": (
        [halo, lambda *a: list(halo(*a))],
        [
            1,
            lambda *a: 3,
            lambda tokens, world, rank, left: (rank * tokens // world - left, (rank + 1) * tokens // world),
            lambda *a: (halo(*a)[0], halo(*a)[1] - 1),
            lambda tokens, world, rank, left: halo(tokens, world, rank, 0),
            lambda tokens, world, rank, left: halo(tokens, world, rank, left + 1),
            lambda *a: (0, halo(*a)[1]),
            lambda tokens, world, rank, left: halo(tokens, world, rank, max(left - 2, 1)),
            fails,
        ],
    ),
    "30.1": ([114_688, 114688.0], [121_088, 106_496, 114_560, 64_704, 6400, 113_152, 1e6]),
    "30.2": ([0.189, "0.2", np.float32(0.17)], [0.94, 0.05, 0.5, 19, -1, np.inf]),
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
    "30.4": (
        [named_facts, lambda *a: named_facts(*a, names=11)],
        [
            1,
            lambda n, rng, length: fails(n),
            lambda *a: named_facts(*a, names=8, values=8),
            lambda *a: named_facts(*a, values=1),
            lambda *a: named_facts(*a, count=lambda known: known & False),
            lambda *a: named_facts(*a, count=lambda known: known | True),
            lambda *a: named_facts(*a, count=lambda known: known[:, 1:]),
            lambda n, rng, length: named_facts(n, torch.Generator().manual_seed(0), length),
            lambda *a: [x + 10 * (i == 0) for i, x in enumerate(named_facts(*a))],
        ],
    ),
    "30.5": (
        [mean_in_steps, lambda x, s, n: mean_in_steps(x.numpy(), s, n)],
        [
            1,
            lambda *a: mean_in_steps(*a, own=False),
            lambda *a: mean_in_steps(*a, divide=False),
            lambda *a: mean_in_steps(*a, first=0),
            lambda *a: mean_in_steps(*a, keep=False),
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
    "31.4": (
        [Convolved, lambda cfg: Convolved(cfg, late=0)],
        [
            1,
            Convolved(DecoderConfig(vocab=1, width=8)),
            lambda cfg: 1,
            torch.nn.Identity,
            lambda cfg: Convolved(cfg, taps=3),
            lambda cfg: Convolved(cfg, late=1),
            lambda cfg: Convolved(cfg, room=True),
            lambda cfg: Convolved(cfg, forget=True),
            lambda cfg: Convolved(cfg, half=True),
            lambda cfg: Convolved(cfg, idle=True),
            lambda cfg: torch.nn.Linear(8, 8),
        ],
    ),
    "31.5": (
        [("linear attention", "Mamba2"), ["Linear attention ", "mamba2"], ("linear", "Mamba2")],
        [
            "linear attention",
            ("Mamba2", "linear attention"),
            ("linear attention", "GLA"),
            ("MesaNet", "MesaNet"),
            ("DeltaNet", "Gated DeltaNet"),
            ("LLA", "LLA"),
        ],
    ),
    "31b.1": (
        [direction_by_hand],
        [
            1,
            lambda *a: -direction_by_hand(*a),
            lambda *a: direction_by_hand(*a, centred=False),
            lambda *a: direction_by_hand(*a, causal=False),
            lambda *a: direction_by_hand(*a, weighted=False),
            lambda *a: direction_by_hand(*a)[1:],
            lambda *a: 2 * direction_by_hand(*a),
            fails,
        ],
    ),
    "31b.2": ([0.099, "0.095", np.float64(0.085)], [0.54, 0.65, 0.007, 0.3, -1, np.nan]),
    "31b.3": (
        [lambda *a: parallax_with(*a), lambda q, k, v, r: flash_lla(q, k, v, probe=-r, max_steps=0)],
        [
            1,
            lambda *a: parallax_with(*a, mean=True),
            lambda *a: parallax_with(*a, sign=1),
            lambda *a: parallax_with(*a, sign=0),
            lambda *a: parallax_with(*a, sign=-2),
            lambda *a: parallax_with(*a)[1:],
        ],
    ),
    "31c.1": (
        [corrected],
        [
            1,
            lambda *a: corrected(*a, correct=False),
            lambda *a: corrected(*a, look=False),
            lambda *a: corrected(*a, before=False),
            lambda *a: corrected(*a, own=1.0),
            lambda *a: corrected(*a)[0][1:],
            lambda *a: (corrected(*a)[0], a[-1]),
            lambda *a: corrected(*a, quotient=True),
            fails,
        ],
    ),
    "31c.2": ([5, "5", [5]], [4, 16, 17, 64, 30, 6]),
    "31c.3": (
        [masked, lambda *a: masked(*a, fill=-1e4)],
        [
            1,
            lambda *a: masked(*a, fill=None),
            lambda *a: masked(*a, detach=True),
            lambda *a: masked(*a, fill=0.0),
            lambda q, k, u, g, W: masked(q, k, u, g.clamp_min(-5), W),
        ],
    ),
    "31c.4": (
        [lambda f, s: (f[0] @ s[0], f[1] @ s[0] + s[1]), lambda f, s: [f[0] @ s[0], s[1] + f[1] @ s[0]]],
        [
            1,
            lambda f, s: (s[0] @ f[0], f[1] @ s[0] + s[1]),
            lambda f, s: (f[0] @ s[0], f[1] + s[1]),
            lambda f, s: (f[0] @ s[0], s[1] @ f[0] + f[1]),
            lambda f, s: (f[0] @ s[0], f[1] @ s[0]),
            lambda f, s: (f[0] @ s[0], f[1] @ f[0] + s[1]),
            lambda f, s: f[0] @ s[0],
            lambda f, s: (f[0] @ s[0], f[1].T),
            fails,
        ],
    ),
    "32.1": ([(16, 17), [16.0, 17.0]], [(16, 16), (256, 272), (17, 16), (8, 9), 16]),
    "32.2": (
        [(0.58, 6.8), ["0.6", "7"], np.array([0.55, 9.0])],
        [(6.8, 0.58), (1.7, 0.15), (0.6, 1.0), (1.0, 7.0), (np.nan, 1.0), 2],
    ),
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
    "32.4": (
        [Config(16, 32, length=512, pieces=12), Config(16, 32, length=512, pieces=16)],
        [
            1,
            Config(8, 32, length=512, pieces=12),
            Config(16, 32, length=512, pieces=4),
            Config(16, 128, length=512),
            Config(16, 300, length=512),
            Config(16, 4, length=512, pieces=100),
        ],
    ),
    "32.5": (
        [softened, lambda k, v, s: softened(k, v, s).numpy()],
        [
            1,
            lambda *a: softened(*a, above=1),
            lambda *a: softened(*a, above=9),
            lambda *a: softened(*a, above=-1),
            lambda *a: softened(*a, ask=0),
            lambda *a: softened(*a)[1:],
            lambda *a: 2 * softened(*a),
            fails,
        ],
    ),
    "33.1": (
        [(0.75, 0.515625), [0.75, 0.5156]],
        [(0.25, 0.5), (0, 0.5), (0.5, 0.5), (0.75, 0.5), (0.75, 0.484375), (0.75, 0.25), 0.75],
    ),
    "33.2": (
        [(0.7, 0.94), ["0.65", "1"]],
        [(0.94, 0.7), (1.4, 1.0), (0.98, 0.97), (0.7, 0.5), ("x", 1), 0.7],
    ),
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
    "35.1": (
        [doubled, lambda *a: doubled(*a).tolist()],
        [
            1,
            lambda *a: doubled(*a, back=True),
            lambda m, w: m[w],
            lambda *a: doubled(*a)[..., 1:, :],
            lambda *a: doubled(*a, rounds=2),
            fails,
        ],
    ),
    "33.4": (
        [
            lambda a, b: by_seed(a, b) < 0.05,
            lambda a, b: ttest_rel(np.mean(a, 1), np.mean(b, 1)).pvalue < 0.05,
        ],
        [
            1,
            lambda a, b: ttest_rel(np.ravel(a), np.ravel(b)).pvalue < 0.05,
            lambda a, b: False,
            lambda a, b: np.mean(a) > 1.1 * np.mean(b),
            lambda a, b: by_seed(a[:1] * 3, b) < 0.05,
            fails,
        ],
    ),
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
    "35.5": (
        [mirrors_of, lambda m: mirrors_of(m).double(), lambda m: mirrors_of(m).tolist() or np.zeros((0, 5))],
        [
            1,
            lambda m: mirrors_of(m).flip(0),
            lambda m: 2**0.5 * mirrors_of(m),
            lambda m: mirrors_of(m)[:1],
            lambda m: torch.cat([mirrors_of(m), torch.eye(5)[:1], torch.eye(5)[:1]]),
            lambda m: mirrors_of(m)[:, :4],
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
    "36.4": (
        [HeldOut(), HeldOut(kind=np.array), HeldOut(kind=torch.tensor)],
        [(1.81, 4), (1.2, 4), HeldOut(best=5), HeldOut(best=6), (3.1, 4), 2.35],
    ),
    "36.5": (
        [learning, lambda *a: torch.tensor(learning(*a))],
        [
            1,
            lambda *a: learning(*a, early=True),
            lambda t, n: learning(t, n) * (len(t) - n),
            lambda *a: 8.0,
            lambda t, n: learning(t, n + 1),
            lambda *a: 7.5 if a[1] == 1 else learning(*a) * np.log(2),
            fails,
        ],
    ),
    "36.7": (
        [file_error, lambda *a: np.float64(file_error(*a)), lambda *a: torch.tensor(file_error(*a))],
        [
            0.0016,
            lambda *a: file_error(*a, together=False),
            lambda *a: file_error(*a, ratio=False),
            lambda *a: file_error(*a) / 40**0.5,
            lambda *a: file_error(*a) ** 2,
            lambda *a: file_error(*a, replace=False),
            lambda a, b, sizes, n, _: file_error(a, b, sizes, n, np.random.default_rng()),
            lambda *a: 3 * file_error(*a),
            fails,
        ],
    ),
    "36.8": (
        [lambda a, b: float(ttest_ind(a, b, equal_var=False).pvalue), seeds_differ],
        [
            0.05,
            lambda a, b: seeds_differ(a, b, ddof=0, freedom=1000),
            lambda a, b: seeds_differ(a, b, freedom=1000),
            lambda a, b: seeds_differ(a, b, ddof=0),
            lambda a, b: seeds_differ(a, b, freedom=len(a) + len(b) - 2),
            lambda a, b: seeds_differ(a, b) / 2,
            lambda a, b: 1.0,
            fails,
        ],
    ),
    "36.6": ([0.1161, 0.117, 0.113], [0.05, 0.178, 0.058, 11.6, 0.2, 0.5]),
    "37.1": (
        [in_window],
        [
            1,
            lambda *a: in_window(*a, more=99),
            lambda *a: in_window(*a, more=1),
            lambda *a: in_window(*a, more=-1),
            lambda q, *a: q,
            lambda q, *a: q[:1],
            lambda q, k, v, window, ridge: in_window(q, k, v, min(window, 3), ridge),
            fails,
        ],
    ),
    "37.2": ([(2, 4), [2, 4]], [(3, 3), (1, 2), (2, 2), (2, 6), (2, 3), 2]),
    "37.3": (
        [new_tokens],
        [
            1,
            lambda q, k, v, real: lla_decode(q, k, v, cache_seqlens=real.sum(1)),
            lambda q, k, v, real: lla_decode(q, k, v),
            lambda *a: new_tokens(*a, holes=False),
            lambda q, *a: q,
            lambda q, *a: q[:1],
            fails,
        ],
    ),
    "37b.1": (
        [spread_of_keys, lambda q, k: spread_of_keys(q.double(), k.double())],
        [
            1,
            lambda *a: spread_of_keys(*a, over=1),
            lambda *a: spread_of_keys(*a, mean=False, moved=False),
            lambda *a: spread_of_keys(*a, causal=False),
            lambda *a: spread_of_keys(*a, moved=False),
            lambda *a: spread_of_keys(*a)[1:],
            lambda *a: spread_of_keys(*a, over=2),
            fails,
        ],
    ),
    "37b.2": ([100, 99.1, "100.4"], [0.01, 10, 1000, -1, np.nan]),
    "37b.3": (
        [paired_error],
        [
            1,
            lambda a, b: paired_error(a, b, apart=True),
            lambda a, b: paired_error(b, a),
            lambda a, b: paired_error(a, b, mean=False),
            lambda a, b: (paired_error(a, b)[0], 0.0),
            lambda a, b: (None, None),
        ],
    ),
    "34.1": (
        [(0.83, 1.0), [0.84, 0.99], torch.tensor([0.82, 1.0])],
        [(0.98, 1.0), (0.6, 1.0), (0.83, 0.83), (0.83, 0.5), (83, 100), 0.83],
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
    "34.4": (
        [lambda *a: half_of_pairs(*a), lambda *a: torch.tensor(half_of_pairs(*a))],
        [
            1,
            lambda D, V, g: D * D / (2 * np.log(V)),
            lambda D, V, g: D,
            lambda D, V, g: D * D / 10,
            lambda *a: 2 * half_of_pairs(*a),
            lambda *a: half_of_pairs(*a, level=0.9),
            fails,
        ],
    ),
    "34.5": (
        [graded, lambda *a: torch.tensor(graded(*a))],
        [
            1,
            lambda s, v, w: graded(s, v[w], torch.arange(len(w))),
            lambda *a: 10 * graded(*a),
            lambda *a: 1 - graded(*a),
            lambda s, v, w: graded(s, v, torch.arange(len(w))),
            lambda *a: 2.5,
            fails,
        ],
    ),
    "40.1": (
        [(0.5, np.log(0.18)), [0.5, -1.715], np.array([0.5, -1.7148])],
        [(0.9, -1.715), (0.1, -1.715), (0.09, -1.715), (0.2, -1), (0.5, 0.18), (0.5, -0.745), (0.5, -2), 0.5],
    ),
    "40.2": ([0.368, 0.3681], [0.5108, -2.083, -1.7148, 0.5311, -0.368, 1, 0]),
    "40.3": (
        [looks_ahead],
        [
            0.5,
            lambda *a: (looks_ahead(*a)[0], looks_ahead(*a)[1][0]),
            lambda *a: (looks_ahead(*a)[0] + 1, looks_ahead(*a)[1]),
            lambda *a: (np.exp(looks_ahead(*a)[0]) if a[2] else looks_ahead(*a)[0], looks_ahead(*a)[1]),
            lambda *a: (looks_ahead(*a)[0] + (a[2] == 3), looks_ahead(*a)[1]),
            lambda *a: (looks_ahead(*a)[0], 0.9 * looks_ahead(*a)[1]),
            lambda *a: (looks_ahead(*a)[0], np.full(looks_ahead(*a)[1].shape, 0.25)),
            lambda *a: looks_ahead(*a, own=True),
            lambda *a: looks_ahead(*a, late=True),
            lambda *a: (looks_ahead(*a)[0] + (a[2] == 12), looks_ahead(*a)[1]),
            fails,
        ],
    ),
    "40.4": ([4.16, 4.1632, "4.16"], [3.84, 2.7, 4.21, 3.0, 6, -4.16]),
    "40.5": (
        [bounded, lambda *a: torch.tensor(bounded(*a))],
        [
            1.0,
            lambda *a: bounded(*a, mask=lambda p, g, q: (q > 0) & (p * g > 0)),
            lambda *a: bounded(*a, mask=lambda p, g, q: q > -1),
            lambda *a: bounded(*a) + 0.5,
            lambda p, g, q: bounded(p, g, q) - np.log((p * g).sum()),
            lambda *a: max(bounded(*a), -99.0),
            lambda *a: a[0],
            fails,
        ],
    ),
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
    "41.5": ([25.28, 25.3], [9.99, 10.46, 60.56, 26.28, 0.962, 0.04, 12]),
    "41.6": (
        [drawn, lambda *a: drawn(*a).numpy()],
        [
            1,
            lambda *a: drawn(*a, change=lambda e: e),
            lambda *a: drawn(*a, change=lambda e: 3 * e.log()),
            lambda *a: drawn(*a, change=lambda e: 0 * e),
            lambda x, g: drawn(x, None),
            lambda x, g: drawn(x.nan_to_num(neginf=0.0), g),
            lambda x, g: drawn(x, g)[:3],
            fails,
        ],
    ),
    "41.7": (
        [legal_texts, lambda task: legal_texts(task).numpy(), lambda task: legal_texts(task).tolist()],
        [
            1110,
            lambda task: legal_texts(task, shortest=1),
            lambda task: legal_texts(task, longest=task.n_max - 1),
            lambda task: legal_texts(task, stop=task.pad),
            lambda task: legal_texts(task).repeat(2, 1),
            lambda task: legal_texts(task)[:, :-1],
            lambda task: legal_texts(task)[5:],
            fails,
        ],
    ),
    "41.8": ([(10 / 11) ** 6, 0.56], [0.4355, 0.1429, 0.0909, 0.5314, 0.6209, 56.45, 0.9]),
    "41.9": (
        [clipped_loss, lambda q, o, a, w: clipped_loss(q, o, a, w) * 1.0],
        [
            0.2,
            lambda *a: -clipped_loss(*a),
            lambda *a: clipped_loss(*a) * len(a[0]),
            lambda *a: clipped_loss(*a) + 1,
            lambda *a: clipped_loss(*a).detach(),
            lambda *a: clipped_loss(*a[:3], 100.0),
            lambda *a: clipped_loss(*a, both=True),
            lambda *a: clipped_loss(*a[:3], 0.2),
            lambda *a: clipped_loss(*a).item(),
            fails,
        ],
    ),
    "41.10": (
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
        [(0.0452, 3.096), [0.04522, 3.0963], np.array([0.0452, 3.1])],
        [
            (0.01528, 3.096),
            (0.9548, 3.096),
            (0.09097, 2.4),
            (0.01554, 3.1),
            (0.04584, 3.1),
            (0.04736, 3.1),
            (0.3, 3.1),
            (0.0452, 2.398),
            (0.0452, 8.915),
            (0.0452, 5.819),
            (0.0452, -3.096),
            (0.0452, 1),
            0.0452,
        ],
    ),
    "42.3": (
        [blind_best, lambda *a: [list(blind_best(*a)[0]), blind_best(*a)[1]]],
        [
            1.0,
            lambda *a: (blind_best(*a)[0][:9], 0.0),
            lambda *a: (blind_best(*a)[0], 0.0),
            lambda *a: valued(np.eye(10)[0], *a),
            lambda *a: valued(a[0], *a),
            lambda *a: blind_best(*a, starts=("author",)),
            lambda *a: blind_best(*a, starts=("never",)),
            lambda *a: blind_best(*a[:3], 1.0) if a[3] == 1 else valued(blind_best(*a[:3], 1.0)[0], *a),
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
    "42.5": (
        [evidence_of, lambda r, b: torch.tensor(evidence_of(r, b))],
        [
            9.3,
            lambda r, b: np.log(np.exp(b * r).mean()),
            lambda r, b: evidence_of(r.T, b),
            lambda r, b: b * r.mean(),
            lambda r, b: 3 * evidence_of(r, b),
            lambda r, b: evidence_of(r, b) + np.log(4),
            lambda r, b: evidence_of(r, b) + (b == 3),
            lambda r, b: np.log(np.exp(b * r).mean(1)),
            fails,
        ],
    ),
    "43.1": (
        [lucky, lambda p, k: np.float64(lucky(p, k)), lambda p, k: torch.tensor(lucky(p, k))],
        [
            0.842,
            lambda p, k: 1 - lucky(p, k),
            lambda p, k: cancelling(p, k) - p**k,
            cancelling,
            lambda p, k: 1 - p**k,
            lambda p, k: 0.5,
            lambda p, k: (lucky(p, k), 1),
            fails,
        ],
    ),
    "43.2": (
        [(0.1458, 0.7188), [0.1458, 0.719], np.array([0.1458, 0.7188])],
        [
            (0.2594, 0.7188),
            (0.041, 0.7188),
            (0.1048, 0.7188),
            (0.1329, 0.69),
            (0.3, 0.7),
            (0.1458, 0.2812),
            (0.1458, 0.8419),
            (0.1458, 0.1048),
            (0.1458, 0.5),
            7,
        ],
    ),
    "43.3": (
        [pass_of, lambda r, n, k: pass_of(r, n, k).tolist(), lambda r, n, k: torch.tensor(pass_of(r, n, k))],
        [
            0.5,
            lambda r, n, k: 1 - (1 - r / n) ** k,
            lambda r, n, k: 1 - pass_of(r, n, k),
            lambda r, n, k: r / n,
            lambda r, n, k: pass_of(r, n, k).mean(),
            fails,
        ],
    ),
    "50.1": ([36, 36.0], [18, 10, 14, 22, 26, 33, 100]),
    "50.2": ([(3, 10), [3.0, 10.0]], [(2, 10), (3, 9), (4, 10), (3, 8), 3, "ab"]),
    "50.3": (
        [few_shot, lambda *a: [*few_shot(*a, line=tuple)]],
        [
            100,
            lambda *a: few_shot(*a)[0],
            lambda *a: few_shot(*a, more=0),
            lambda *a: few_shot(*a, cut=9),
            lambda *a: few_shot(*a, begin=0),
            lambda chain, *a: few_shot(chain, *a, own=chain[::-1]),
            lambda *a: few_shot(*a, sign=-1),
            lambda *a: few_shot(*a, same=True),
            lambda *a: few_shot(*a, high=110),
            lambda c, *a: (few_shot(list(c), *a), c.pop())[0],
            fails,
        ],
    ),
    "50.4": ([0.33, 0.325, "1/3"], [0.67, 0.494, 0.237, 1.0, 0.4, 0.2]),
    "50.5": (
        [placed, lambda *a: tuple(placed(*a))],
        [
            1,
            lambda *a: placed(*a)[1:],
            lambda f, T, noise, rng: rng.sample(noise, T),
            lambda *a: placed(*a, spots=lambda rng, T, m: rng.sample(range(T), m)),
            lambda *a: placed(*a, spots=lambda rng, T, m: range(m)),
            lambda f, T, noise, rng: placed(f, T, noise, rng, other=rng.choices),
            fails,
        ],
    ),
    "51.1": (
        [(1, 0, 1), [True, False, True], np.array([1, 0, 1])],
        [(0, 0, 1), (1, 1, 1), (1, 0, 0), (1, 0), (2, 0, 1)],
    ),
    "51.2": ([13, 13.0], [16, 3, 15, 14, 12]),
    "51.3": (
        [constrained, lambda *a: torch.tensor(constrained(*a)), lambda *a: tuple(constrained(*a))],
        [
            1,
            lambda f, p, n, x: constrained(f, p, n, []),
            lambda *a: constrained(*a, low=0),
            lambda *a: constrained(*a, feed=False),
            lambda *a: constrained(*a, whole=True),
            lambda *a: constrained(*a, count=1),
            lambda f, p, n, x: constrained(f, p, n, [*x, 4]),
            appending,
            fails,
        ],
    ),
    "51.4": ([0.02, 0.0, 0.05], [0.95, 0.85, 0.25, 0.5]),
    "51.5": (
        [values_known, lambda *a: values_known(*a).item()],
        [
            1,
            lambda *a: values_known(*a, back=0),
            lambda *a: values_known(*a, back=-1),
            lambda *a: values_known(*a, back=9),
            lambda *a: values_known(*a, of=torch.sum),
            lambda *a: values_known(*a, right=False),
            fails,
        ],
    ),
    "52.1": (
        [exchanged, lambda v, i: exchanged(v, i).numpy()],
        [
            1,
            lambda v, i: exchanged(v, i, keep=False),
            lambda v, i: exchanged(v, i, both=False),
            lambda v, i: v.clone(),
            lambda v, i: exchanged(v, i[:1].expand(3)),
            lambda v, i: v[0],
            fails,
        ],
    ),
    "52.2": ([0.92, 0.945, 0.9], [0.0, 1.0, 0.5, 0.3]),
    "52.3": (
        [["value", "context", "mark"], {"mark", "context", "value"}, "mark, value, context"],
        [["value"], ["letter"], ["value", "context"], ["letter", "value", "context", "mark"], 3, ["head"]],
    ),
    "52.4": (
        [silenced, lambda *a: silenced(*a).numpy()],
        [
            1,
            lambda *a: silenced(*a, swap=True),
            lambda *a: silenced(*a, what=0.0),
            lambda *a: silenced(*a, row=2),
            lambda said, *a: said,
            lambda said, *a: said[0],
            fails,
        ],
    ),
    "52.5": ([(110, 104), [110.0, 104.0]], [(104, 110), (104, 98), (113, 104), (110, 98), (1, 2), 3, "ab"]),
    "52.6": ([1 - 0.95**80, 0.983], [0.05, 1.0, 0.95**80, 1 - 0.98**80, 0.9, 0.99]),
    "52.7": (
        [preceded, lambda *a: torch.tensor(preceded(*a)), lambda t, b: preceded(t, b).tolist()],
        [
            1,
            lambda t, b: preceded(t, b, causal=np.array),
            lambda t, b: preceded(t, b, norm=False),
            lambda t, b: preceded(t, b, turn=True),
            lambda t, b: preceded(t, b, empty=0.0),
            lambda t, b: np.tril(np.exp(9 * t @ b.T)) / np.tril(np.exp(9 * t @ b.T)).sum(1, keepdims=True),
            lambda t, b: t,
            fails,
        ],
    ),
    "60.1": (
        [(0.668, 0.8333), [0.6681, 5 / 6], np.array([0.67, 0.83])],
        [(5 / 6, 0.668), (0.668, 0.5), (0.668, 11 / 6), (0.5, 5 / 6), (0.368, 5 / 6), (0.6, 5 / 6), 0.668],
    ),
    "60.2": (
        [pooled, lambda p, w: list(pooled(p, w)), lambda p, w: torch.as_tensor(pooled(p, w))],
        [
            0.1,
            lambda p, w: pooled(p, np.ones_like(w)),
            lambda p, w: np.maximum.accumulate(p),
            lambda p, w: np.sort(p),
            lambda p, w: p,
            lambda p, w: pooled(p, w, back=False),
            lambda p, w: (
                pooled(p, w) if (np.diff(p) >= 0).all() or len(p) < 3 else np.full(len(p), w @ p / w.sum())
            ),
            lambda p, w: pooled(p, w)[:-1],
            lambda p, w: pooled(p, w) + 1,
            fails,
        ],
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
    "60.4": (
        [
            lambda v, x: np.cumsum(v * np.diff(x, prepend=0)),
            lambda v, x: [
                sum(v[j] * (x[j] - (x[j - 1] if j else 0)) for j in range(k + 1)) for k in range(len(v))
            ],
            lambda v, x: torch.as_tensor(v * x - np.cumsum(np.diff(v, prepend=0) * np.r_[0, x[:-1]])),
        ],
        [
            0.1,
            lambda v, x: v * x,
            lambda v, x: np.cumsum(np.r_[0, v[:-1]] * np.diff(x, prepend=0)),
            lambda v, x: np.cumsum((v + np.r_[0, v[:-1]]) / 2 * np.diff(x, prepend=0)),
            lambda v, x: np.cumsum(v * np.diff(x, prepend=0)) + 0.1,
            lambda v, x: np.cumsum(v * np.diff(x, prepend=0))[1:],
            lambda v, x: 0.5 * np.cumsum(v * np.diff(x, prepend=0)),
            fails,
        ],
    ),
    "60.5": (
        [reserved, lambda b, r: tuple(torch.as_tensor(t) for t in reserved(b, r))],
        [
            0.1,
            lambda b, r: reserved(b, r, least=False),
            lambda b, r: reserved(b, r, losers=True),
            lambda b, r: reserved(b, r, sold=False),
            lambda b, r: reserved(b, r, second=False),
            lambda b, r: [t[:, :1] for t in reserved(b, r)],
            lambda b, r: (np.ones_like(b) / 3 * (b.max(1, keepdims=True) >= r), reserved(b, r)[1]),
            fails,
        ],
    ),
    "60b.1": ([3**-0.5, 0.5774], [(2 / 3) ** 0.5, 0.5, 2 / 27**0.5, -(3**-0.5), 1, 0.3]),
    "60b.2": (
        [(0.125, 0.5), [1 / 8, 1 / 2], np.array([0.125, 0.5])],
        [(0, 0.5), (9, 0.5), (5 / 72, 0.5), (0.125, 1 / 3), (0.1, 0.5), 0.125],
    ),
    "60b.3": ([0.8646, 0.86, "0.87"], [0.5, 0.5443, 0.69, 0.89, 43.2, 1, 0.8]),
    "60b.4": (
        [
            lambda v: three_prices(v),
            lambda v: torch.as_tensor(three_prices(v)),
            lambda v: [1, 1, 1.6] if len(v) < 100 else (9, np.inf, 1.0),
        ],
        [
            0.1,
            lambda v: (0.5, 0.5, 1.0),
            lambda v: (9, 9, 1.0),
            lambda v: (0.8, 0.8, 1.6) if len(v) < 100 else (9, 9, 1.0),
            lambda v: (0.9, 0.9, 1.6) if len(v) < 100 else (9, 9, 1.0),
            lambda v: (9, 9, 1.0 if np.allclose(v.sum(1), 1) else 1.6),
            lambda v: (0.5, 1.0),
            lambda v: (-1, 1, 1),
            fails,
        ],
    ),
    "60b.5": (
        [external, lambda v: list(external(v)), lambda v: torch.as_tensor(external(v))],
        [
            0.1,
            lambda v: external(v, own=v),
            lambda v: (v * (v == v.max(0))).sum(1),
            lambda v: -external(v),
            lambda v: external(v)[:2],
            lambda v: external(v) + 0.1,
            lambda v: external(v) - 0.1 * (external(v) < 0.1),
            lambda v: 2 * external(v),
            fails,
        ],
    ),
    "61.1": (
        [(0, 4.23), [0.0, 4.235], np.array([0.001, 4.23])],
        [(0, 4.862), (0, 0.862), (0, 4.0), (0.5, 5.0), (0, 4.5), (0.3, 4.23), (40, 4.23), 2],
    ),
    "61.2": (
        [two_prices, lambda v: [np.asarray(t) for t in two_prices(v)], three_ways],
        [
            0.1,
            lambda v: ([[1.0, 1.0], [0.0, 0.5]], [0.8, 0.2]),
            lambda v: ([[1.0, 0.0]], [0.5]),
            lambda v: ([[1.0, 0.0], [0.0, 1.0]], [0.02, 0.02]),
            lambda v: ([[1.0, 0.0], [0.0, 1.0]], [0.8, 0.8]),
            lambda v: ([[1.0, 0.0]], [0.5, 0.5]),
            lambda v: ([[1.0, -0.2]], [0.5]),
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
    "61.4": (
        [lying, lambda *a: float(lying(*a))],
        [
            0.1,
            lambda *a: lying(*a, own=False),
            lambda *a: lying(*a, floor=-10.0),
            lambda *a: lying(*a, over=torch.sum),
            lambda *a: lying(*a, over=torch.max),
            lambda f, v, i, r: lying(f, v, 0, r),
            lambda *a: lying(*a, copy=False),
            lambda *a: 2 * lying(*a),
            fails,
        ],
    ),
    "61b.1": (
        [(0.375, 0.1875), [3 / 8, 3 / 16], np.array([0.375, 0.1875])],
        [(0, 0.1389), (1 / 6, 1 / 6), (37.5, 0.1875), (0.625, 0.1875), (0.2, 0.17), (0.375, 0.2), 2],
    ),
    "61b.2": (
        [
            finer,
            lambda u: finer(u, lib=torch),
            lambda u: list(map(np.ndarray.tolist, map(np.asarray, finer(u)))),
        ],
        [
            0.1,
            lambda u: finer(u, rounds=0),
            lambda u: finer(u, coarse=101),
            lambda u: finer(u, keep=1, coarse=5),
            lambda u: finer(u, clip=False),
            lambda u: (finer(u)[0] + 1, finer(u, rounds=1, coarse=5)[1]),
            lambda u: (finer(u)[0], [0.5]),
            fails,
        ],
    ),
    "61b.3": (
        [on_sale, lambda *a: float(on_sale(*a))],
        [
            0.1,
            lambda *a: on_sale(*a, seen=False),
            lambda *a: on_sale(*a, charged=False),
            lambda *a: on_sale(*a, seen=False, charged=False),
            lambda *a: 2 * on_sale(*a),
            lambda *a: on_sale(*a) + 0.1 * a[3],
            fails,
        ],
    ),
    "61d.1": (
        [others_of, lambda h: others_of(h).numpy(), lambda h: others_of(h).tolist()],
        [
            0.1,
            lambda h: others_of(h)[..., [0, 2, 1]],
            lambda h: others_of(h)[..., [1, 0, 2]],
            lambda h: torch.stack([h, h.amax(1, keepdim=True).expand_as(h), h.amax(0).expand_as(h)], -1),
            lambda h: others_of(h).clamp_min(-0.9),
            lambda h: others_of(h, none=-1.0),
            lambda h: others_of(h, ties=False),
            lambda h: others_of(h)[..., :2],
            fails,
        ],
    ),
    "61c.1": (
        [priced, lambda c: torch.tensor(priced(c))],
        [
            1.1,
            lambda c: 1 / priced(c),
            lambda c: priced(c, clamp=False),
            lambda c: priced(c, price=c.mean() / 2),
            lambda c: priced(c) * 1.1,
            lambda c: float((c / 4).mean()),
            fails,
        ],
    ),
    "61d.2": ([(6, 12), np.array([6, 12])], [(7, 12), (5, 12), (12, 12), (3, 12), (6, 9), (6, 20), 6]),
    "61d.3": (
        [
            lambda f: torch.minimum(f[..., 0].softmax(0), f[..., 1].softmax(1)),
            lambda f: f[..., 0].softmax(0) * f[..., 1].softmax(1),
        ],
        [
            0.5,
            lambda f: (f[..., 0].softmax(0) + f[..., 1].softmax(1)) / 2,
            lambda f: f[..., 0].softmax(0),
            lambda f: f[..., 1].softmax(1),
            lambda f: 0 * f[..., 0],
            lambda f: f[..., 0].flatten().softmax(0).view(f.shape[:2]),
            lambda f: torch.minimum(f[..., 0].softmax(0), f[..., 1].softmax(1)).T,
            lambda f: (
                torch.minimum(f[..., 0].softmax(0), f[..., 1].softmax(1))
                * (1 - 0.05 * torch.arange(len(f))[:, None])
            ),
            fails,
        ],
    ),
    "61e.2": (
        [kinds_of_lies, lambda u, s: {k: torch.tensor(x) for k, x in kinds_of_lies(u, s).items()}],
        [
            1,
            lambda u, s: kinds_of_lies(u, s, tie=True),
            lambda u, s: kinds_of_lies(u, s, truth=False),
            lambda u, s: {k: 8 * x for k, x in kinds_of_lies(u, s).items()},
            lambda u, s: list(kinds_of_lies(u, s).values()),
            lambda u, s: kinds_of_lies(u, dict(reversed(s.items()))),
            fails,
        ],
    ),
    "61e.3": ([1.41, 1.5, 1.35], [16, 4, 1.0, 0.71, 0.48, 7]),
    "61e.1": (
        [wider, lambda *a: wider(*a).numpy(), lambda *a: wider(*a).tolist()],
        [
            0.1,
            lambda *a: wider(*a, wide_first=True),
            lambda f, v, w: wider(f, v, w[:0]),
            lambda *a: wider(*a, group=False),
            lambda *a: -wider(*a),
            lambda *a: 2 * wider(*a),
            lambda *a: wider(*a).mean(),
            fails,
        ],
    ),
    "61b.4": ([1.1e-5, 1.099e-5], [0.0049, 0.0033, 1, -1, "small", 3e-5, 1e-6]),
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
        [gap_of, lambda *a: np.float64(gap_of(*a))],
        [
            0.1,
            lambda *a: gap_of(*a, back=False),
            lambda *a: gap_of(*a, contexts=False),
            lambda *a: gap_of(*a, paid=0),
            lambda *a: gap_of(*a, share=0),
            lambda *a: gap_of(*a, size=lambda d: d.abs().mean()),
            lambda *a: gap_of(*a, size=lambda d: d.max()),
            lambda *a: 2 * gap_of(*a),
            fails,
        ],
    ),
    "62.3": (
        [(2560, 59_520), np.array([2560.0, 59520.0])],
        [
            (1920, 59_520),
            (640, 2880),
            (59_520, 2560),
            (36, 540),
            (2560, 61_440),
            (2560, 44_160),
            (2560, 79_360),
            (2560, 29_760),
            (2560, 10),
            2560,
        ],
    ),
    "62.4": (
        [columns, lambda h, W: columns(h, W).numpy(), column_by_column],
        [
            0.1,
            lambda h, W: columns(h, W, there=lambda h: h.reshape(3, 4, 6), back=lambda h: h.reshape(4, 3, 6)),
            lambda h, W: columns(h, W, back=lambda h: h.reshape(4, 3, 6)),
            lambda h, W: columns(h, W, back=lambda h: h),
            lambda h, W: columns(h, W, there=lambda h: h, back=lambda h: h),
            lambda h, W: columns(h, W) + 0.1,
            lambda h, W: columns(h, W)[0],
            fails,
        ],
    ),
    "62.5": (
        [(0.938, 0.934), [0.9377, 0.9335], np.array([0.94, 0.93])],
        [(0.26, 0.2585), (0.89, 0.934), (0.7, 0.934), (0.938, 1.0), (0.938, 0.7), 0.9],
    ),
    "62.6": (
        [crossing, lambda *a: crossing(*a).numpy()],
        [
            0.1,
            lambda *a: crossing(*a, told=True),
            lambda *a: crossing(*a, floor=-1.0),
            lambda *a: crossing(*a, lies=lambda m: torch.ones(1, m, dtype=torch.bool)),
            lambda *a: crossing(*a, lies=lambda m: ~torch.eye(m, dtype=torch.bool)),
            lambda *a: crossing(*a).flip(1),
            lambda *a: crossing(*a).amax(1, keepdim=True).expand(7, 2),
            lambda *a: crossing(*a).T,
            lambda f, v: crossing(f, v.zero_()),
            lambda *a: 2 * crossing(*a),
            fails,
        ],
    ),
    "62.7": (
        [(0.08, 0.36), [0.0796, 0.3593], np.array([0.05, 0.3])],
        [(8, 36), (0.36, 0.08), (0.3, 0.4), (0.08, 0.9), (0.08, 0.1), 0.08],
    ),
    "62.8": (
        [lies_tried, lambda *a: lies_tried(*a).numpy()],
        [
            0.1,
            lambda *a: lies_tried(*a, told=True),
            lambda *a: lies_tried(*a, floor=-1.0),
            lambda *a: lies_tried(*a, pick=lambda t: t.mean(0)),
            lambda *a: lies_tried(*a, pick=lambda t: t[-1]),
            lambda *a: lies_tried(*a)[:3],
            lambda *a: lies_tried(*a) * 2,
            fails,
        ],
    ),
    "62.9": ([(1.1**0.5 - 1) ** 2 / 2, 0.00119], [0.00238, 0.0488, 0.0244, 0.05, 0.1, 0.01]),
}


def hint(number, answer, capsys):
    capsys.readouterr()
    right = check(number, answer)
    printed = capsys.readouterr().out.strip()
    assert printed.startswith(f"{number}: ") and (printed == f"{number}: right.") == right is not None
    return right, printed


def test_every_exercise_of_a_chapter_has_answers_here_and_a_grader():
    posed = named_in_chapters()
    assert len(posed) >= 20 and {n for n in posed if not n.startswith("2")} <= set(ANSWERS) <= set(posed)
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


@pytest.mark.parametrize(
    "answer", [0.5, "1/2", " 1 / 2 ", "0.5", [0.5], (0.5,), np.array([[0.5]]), torch.tensor(0.5)]
)
def test_a_number_may_be_written_in_many_ways(answer):
    assert exercises.as_number(answer) == 0.5 and close(answer, 0.5) is None


@pytest.mark.parametrize("answer", [None, "", "half", "1/0", "nan?", [], [1, 2], {}, 1j, len, np.zeros(2)])
def test_what_is_no_number_is_asked_for_one(answer):
    assert exercises.as_number(answer) is None and "answer with a number" in close(answer, 0.5)


def test_a_hint_begins_with_a_capital_letter_unless_it_begins_with_code(capsys):
    check("10.1", "half")
    assert capsys.readouterr().out.startswith("10.1: not yet. Answer with a number")
    for code in ("u = 1", "2 is wrong", "s_j is", "x0 is"):
        assert exercises._as_sentence(code) == code


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
