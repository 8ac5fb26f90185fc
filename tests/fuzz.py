"""Random comparison of `flash_lla` and `lla_decode` with a float64 solve of every row: python tests/fuzz.py N

Every case is drawn from its seed and number alone. The oracle shares no code with the library. For a row with
visible keys k_j, weights p_j and z_j = k_j - kbar it knows, from the eigenvectors of C,

    lam = max(ridge, floor tr(C) / D + noise |kbar|^2),  A = C + lam I,  u = A^-1 (q - kbar),  a_j = u.z_j,
    o = sum p_j (1 + a_j) v_j,  Y = A^-1 sum p_j z_j v_j',  r_j = v_j - vbar - Y'z_j,
    e = sum p_j (1 + a_j) r_j

The bounds are first order in what floating arithmetic may do to such a row. g is eps (4 + sqrt(D) / 2)
in products of vectors and for eps (4 + S / 4) in sums over keys, whose terms may be equal.

- Logits are off by eta_j = g |scale| sum_d |q_d k_jd| + 2 eps (|s_j| + 1), so weights by
  dp_j <= p_j (exp(eta) - 1), and the output by at most sum_j dp_j |(1 + a_j) r_j - e|, because
  do / ds_j = p_j ((1 + a_j) r_j - e).
  The kernels of `flash_lla` make weights anew in each pass over the keys, relative to the sums of the first:
  also the weight of a key that has all of it is off by p_j (1 - exp(-eta)).
- What is left of the linear system, b - A u, reaches the output through Y alone: at most |Y| R, with
  R = residual |b| (as the call reports it) + g (|q| + sum p |k|) + E |u|, where E, the rounding of C, is
  g (K sqrt(tr) + tr) + eps max|s| tr + g lam, and K^2 = sum p |k|^2.
- The ridge that is used is off by dlam: g of itself, floor / D g K^2 by the trace, and what dp does to trace
  and mean. That moves the output by |Y u| dlam.
- a_j is off by da_j = g sum_d |u_d| (|k_jd| + |kbar_d|) + 2 sqrt(D) eps K |u|, which moves the output by the
  product of the root mean squares of da and v - o, for the weights sum to one. (So a slope that is all
  rounding may be left out.)
- Sums of values are off by g sum p |1 + a| |v|, and the output is rounded to its dtype.
- The kernel of `lla_decode` sums p k k' and p v k' before it knows kbar: E is g K^2 more, and the output is
  off by g |v| K |u|. In 16 bits it rounds keys, less a centre, and values to float16, each once and alike in
  all sums: other keys k + dk and values v (1 + h), with |dk| <= h (|k| + |centre|) and h = 2^-11. So a_j is
  off by da_j = sum_d |u_d| |dk_jd|, and the system by sum p (|dk| (1 + |a|) + |z| da).
  Where its sums cannot tell, as its docstring says, it answers with softmax attention; within half of the
  edge of that rule either answer is right.

Second order is taken in by the factor 1 / (1 - |A^-1| E) / (1 - mean da). Gradients: the same quantities
carried on, with |A^-1| = 1 / min eig(A), see `gradients`. Where a first-order term is not small (the sum of
dp, mean da or |A^-1| E of order one, or a bound half as large as the values) a row is "loose": it must be
finite, and is not compared. The number of such rows is printed.

The residual is believed only as far as it is allowed. It is never above 1. Where conjugate gradient must meet
the tolerance within max_steps by its own bound, 2 sqrt(kappa) ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))^steps,
and the tolerance is above what rounding leaves, the row must be finished. Where rows miss ten times the
tolerance (twice, if it is above 2e-3), and 64 eps as often, there must be a warning.
"""

import argparse
import inspect
import math
import os
import random
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
DEVICE = os.environ.get("LLA_FUZZ_DEVICE", "")  # "cuda": cases of kernels run there, compiled
if __name__ == "__main__":
    if not DEVICE:
        os.environ["TRITON_INTERPRET"] = "1"
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import torch

HALF = (torch.float16, torch.bfloat16)
FLOOR = {torch.float64: 1e-8}  # 1e-3 for all others
TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 1e-2, torch.float32: 1e-5, torch.float64: 1e-10}
FAMILIES = ("forward", "gradient", "decode", "decode gradient", "law", "refused")


# ---- a problem: one call of one of the two doors


@dataclass(frozen=True)
class Problem:
    "The arguments of one call."

    door: str  # "flash" or "decode"
    q: torch.Tensor  # [..., Hq, T, D]
    k: torch.Tensor  # [..., Hkv, S, D]
    v: torch.Tensor  # [..., Hkv, S, Dv]
    ridge: Any  # number or tensor
    backend: str
    scale: float | None = None
    is_causal: bool = True
    enable_gqa: bool = False
    tol: float | None = None
    max_steps: int | None = None
    lengths: torch.Tensor | None = None  # of the caches, for "decode"
    window: tuple[int, int] | None = None  # keys before and after its own that a query sees; -1: all

    def call(self, doors: dict[str, Callable], info: bool = False) -> Any:
        "Ask the library."
        if DEVICE and self.backend == "triton" and self.q.device.type == "cpu":
            o = self.there().call(doors, info)
            if not isinstance(o, tuple):
                return o.cpu()
            return o[0].cpu(), {name: t.cpu() for name, t in o[1].items()}
        if self.door == "decode":
            return doors["decode"](
                self.q,
                self.k,
                self.v,
                ridge=self.ridge,
                scale=self.scale,
                cache_seqlens=self.lengths,
                backend=self.backend,
            )
        more = dict(return_info=True) if info else {}
        more |= dict(window=self.window) if self.window else {}
        return doors["flash"](
            self.q,
            self.k,
            self.v,
            ridge=self.ridge,
            is_causal=self.is_causal,
            scale=self.scale,
            enable_gqa=self.enable_gqa,
            tol=self.tol,
            max_steps=self.max_steps,
            backend=self.backend,
            **more,
        )

    def there(self) -> "Problem":
        "The same on the device; answers and gradients come back to the CPU where they are compared."
        moved = {n: t.to(DEVICE) for n, t in vars(self).items() if isinstance(t, torch.Tensor)}
        return replace(self, **moved)

    @property
    def arithmetic(self) -> torch.dtype:
        "The dtype of the arithmetic."
        return torch.promote_types(self.q.dtype, torch.float32)

    @property
    def eps(self) -> float:
        "Its rounding. The interpreter widens tiles of 16 bits, a GPU multiplies them as they are."
        narrow = DEVICE and self.backend == "triton"
        return torch.finfo(self.q.dtype if narrow else self.arithmetic).eps

    @property
    def rounds_keys(self) -> bool:
        "Whether keys and values are rounded to float16, each times the root of its weight."
        return self.door == "decode" and self.backend == "triton" and self.q.dtype.itemsize == 2

    @property
    def floor(self) -> tuple[float, float]:
        "Shares of tr(C) / D and of |kbar|^2 below which no ridge is taken."
        noise = 1e-6 if self.backend == "triton" else 8 * self.eps
        return FLOOR.get(self.q.dtype, 1e-3), noise

    @property
    def settings(self) -> tuple[float, int]:
        "Tolerance and most steps, as documented."
        tol = TOLERANCE[self.q.dtype] if self.tol is None else self.tol
        return tol, 2 * self.q.shape[-1] if self.max_steps is None else self.max_steps

    def rows(self) -> tuple[torch.Tensor, ...]:
        "q [N, T, D], k and v [N, S, ...] with heads repeated, ridge [N, T], seen [N, T, S], in float64."
        *lead, T, D = self.q.shape
        S, N = self.k.shape[-2], math.prod(lead)
        group = lead[-1] // self.k.shape[-3] if lead and self.k.shape[-3] else 1
        seen = torch.ones(N, T, S, dtype=torch.bool)
        k, v = self.k.double(), self.v.double()
        if self.door == "decode":
            length = torch.full(lead[:1], S) if self.lengths is None else self.lengths
            filled = torch.arange(S) < length[:, None]
            k, v = (torch.where(filled[:, None, :, None], t, 0) for t in (k, v))
            last = (length[:, None, None] - T + torch.arange(T)[:, None] + 1).repeat_interleave(lead[1], 0)
            seen = torch.arange(S) < last
        elif self.is_causal:
            seen = seen & (torch.arange(S) <= torch.arange(T)[:, None] + S - T)
        if self.window:
            far, (left, right) = torch.arange(S) - torch.arange(T)[:, None] - S + T, self.window
            seen = seen & ((far >= -left) | (left < 0)) & ((far <= right) | (right < 0))
        ridge = torch.as_tensor(self.ridge, dtype=torch.float64).expand(*lead, T).reshape(N, T)
        heads = lambda t: t.repeat_interleave(group, -3).reshape(N, S, t.shape[-1]) if lead else t[None]
        return self.q.double().reshape(N, T, D), heads(k), heads(v), ridge, seen

    @property
    def factor(self) -> float:
        "The factor on q.k."
        return self.q.shape[-1] ** -0.5 if self.scale is None else self.scale


# ---- the oracle


def formula(q, k, v, ridge, seen, scale, floor, noise):
    "The answer [N, T, D], straight from the definition, for autograd: the floor is held constant."
    p = (scale * (q @ k.mT)).masked_fill(~seen, -torch.inf).softmax(-1)
    kbar = p @ k
    z = k[:, None] - kbar[:, :, None]
    z = z - p[..., None, :] @ z  # zero but for the rounding of the mean
    C = (p[..., None] * z).mT @ z
    D, trace = q.shape[-1], C.diagonal(dim1=-2, dim2=-1).sum(-1)
    lam = torch.maximum(ridge, (floor * trace / D + noise * kbar.square().sum(-1)).detach())
    solved = (seen.sum(-1) > 1) & (lam > 0)
    A = torch.where(
        solved[..., None, None],
        C + lam[..., None, None] * torch.eye(D, dtype=q.dtype),
        torch.eye(D, dtype=q.dtype),
    )
    u = torch.linalg.solve(A, q - kbar) * solved[..., None]
    vbar = p @ v
    a = (z @ u[..., None])[..., 0]
    return vbar + ((p * a)[..., None, :] @ (v[:, None] - vbar[:, :, None]))[..., 0, :]


@dataclass
class Exact:
    "What the oracle knows of all rows, each [N, T, ...]."

    q: torch.Tensor
    k: torch.Tensor  # [N, S, D]
    v: torch.Tensor  # [N, S, D]
    ridge: torch.Tensor  # as given
    seen: torch.Tensor
    scale: float
    logits: torch.Tensor  # -inf where not seen
    logp: torch.Tensor
    p: torch.Tensor
    kbar: torch.Tensor
    z: torch.Tensor  # [N, T, S, D]
    trace: torch.Tensor
    least: torch.Tensor  # the floor
    lam: torch.Tensor  # the ridge that is used
    sigma: torch.Tensor  # eigenvalues of A
    invert: Callable  # x [N, T, D, m] -> A^-1 x
    solved: torch.Tensor  # rows with a u
    u: torch.Tensor
    a: torch.Tensor  # [N, T, S]
    o: torch.Tensor


def exact(q, k, v, ridge, seen, scale, floor, noise) -> Exact:
    "Solve every row, with eigenvectors."
    logits = (scale * (q @ k.mT)).masked_fill(~seen, -torch.inf)
    logp = logits.log_softmax(-1)
    p = logp.exp()
    p = p / p.sum(-1, keepdim=True)
    kbar = p @ k
    for _ in range(2):  # a second time to take the rounding of the mean away
        z = k[:, None] - kbar[:, :, None]
        kbar = kbar + (p[..., None, :] @ z)[..., 0, :]
    C = (p[..., None] * z).mT @ z
    trace = (p * z.square().sum(-1)).sum(-1)
    least = floor * trace / q.shape[-1] + noise * kbar.square().sum(-1)
    lam = torch.maximum(ridge, least)
    sigma, Q = torch.linalg.eigh(C)
    sigma = sigma.clamp_min(0) + lam[..., None]
    solved = (seen.sum(-1) > 1) & (lam > 0)
    inverse = torch.where(solved[..., None], 1 / sigma, 0)
    invert = lambda x: Q @ (inverse[..., None] * (Q.mT @ x))
    b = q - kbar
    u = invert(b[..., None])
    u = u + invert(b[..., None] - C @ u - lam[..., None, None] * u)
    a = (z @ u)[..., 0]
    vbar = p @ v
    o = vbar + ((p * a)[..., None, :] @ (v[:, None] - vbar[:, :, None]))[..., 0, :]
    return Exact(
        q,
        k,
        v,
        ridge,
        seen,
        scale,
        logits,
        logp,
        p,
        kbar,
        z,
        trace,
        least,
        lam,
        sigma,
        invert,
        solved,
        u[..., 0],
        a,
        o,
    )


# ---- bounds


@dataclass
class Rounding:
    "What both bounds need, each [N, T, ...]."

    g: float  # rounding of a sum
    dp: torch.Tensor  # of the weights, [N, T, S]
    dlam: torch.Tensor  # of the ridge
    dmean: torch.Tensor  # |.| of the mean key
    E: torch.Tensor  # of the matrix
    Ainv: torch.Tensor  # |A^-1|
    grow: torch.Tensor  # 1 / (1 - |A^-1| E), and the like for a
    R: torch.Tensor  # what is left of the system of u
    da: torch.Tensor  # of a_j, by rounding alone, [N, T, S]
    moments: torch.Tensor  # of u in sum p v k', where that is summed before kbar is known
    half: float  # of keys and values in float16
    loose: torch.Tensor  # first order says nothing here


def size(t):
    return t.norm(dim=-1)


def rounding(x: Exact, problem: Problem, rho: torch.Tensor, eps: float) -> Rounding:
    "The errors of an arithmetic of precision eps, with a solver that left the relative residual rho [N, T]."
    S, D = x.k.shape[1], max(x.k.shape[2], x.v.shape[2])
    floor, noise = problem.floor
    g, gs = eps * (4 + D**0.5 / 2), eps * (4 + S / 4)
    logits = x.logits.masked_fill(~x.seen, 0)
    eta = g * abs(x.scale) * (x.q.abs() @ x.k.abs().mT) + 2 * eps * (logits.abs() + 1)
    eta_mean = (x.p * eta).sum(-1, keepdim=True)
    dp = (x.logp + eta + eta_mean).clamp_max(0).exp() - x.p + eps * x.p
    dp = dp + torch.finfo(problem.arithmetic).tiny * (x.p > 0)  # weights that small may be lost
    if problem.backend == "triton" and problem.door == "flash":  # not divided by a sum of its own
        dp = torch.maximum(dp, x.p * -torch.expm1(-eta - eta_mean))
    norm_k, norm_z, norm_u, b = size(x.k)[:, None], size(x.z), size(x.u), size(x.q - x.kbar)
    K2 = (x.p * norm_k.square()).sum(-1)
    K = K2.sqrt()
    dmean = gs * (x.p * norm_k).sum(-1) + (dp * norm_z).sum(-1)
    dfloor = (
        floor / x.k.shape[2] * (gs * K2 + (dp * (norm_z.square() - x.trace[..., None]).abs()).sum(-1))
        + 2 * noise * size(x.kbar) * dmean
        + 4 * eps * x.least
    )
    dlam = torch.where(x.ridge > x.least + dfloor, 0, dfloor) + 2 * eps * x.ridge
    top = (x.p * logits.abs()).sum(-1)
    E = gs * (K * x.trace.sqrt() + x.trace) + eps * top * x.trace + g * x.lam
    moments = gs * K if problem.door == "decode" and problem.backend == "triton" else 0 * K
    E = E + moments * K
    Ainv = torch.where(x.solved, 1 / x.sigma[..., 0], 0)
    share = Ainv * (E + (dp * norm_z.square()).sum(-1))
    grow = 1 / (1 - share.clamp_max(0.5))
    R = rho * b + g * (size(x.q) + (x.p * norm_k).sum(-1)) + E * norm_u
    da = g * (x.u.abs() @ x.k.abs().mT + (x.u.abs() * x.kbar.abs()).sum(-1, keepdim=True))
    da = da + (2 * D**0.5 * eps * K * norm_u)[..., None]
    half = 2.0**-11 if problem.rounds_keys else 0.0
    if half:
        most = torch.where(x.seen[..., None], x.k[:, None].abs(), 0).amax(-2)  # no centre is farther out
        dk = half * (x.k[:, None].abs() + most[..., None, :])  # [N, T, S, D]
        dka = (x.u.abs()[..., None, :] * dk).sum(-1)
        da = da + dka
        R = R + (x.p * (size(dk) * (1 + x.a.abs()) + norm_z * dka)).sum(-1)
    wrong = (x.p * da).sum(-1) + (dp * (1 + x.a.abs())).sum(-1) / (x.p * (1 + x.a).abs()).sum(-1).clamp_min(1)
    loose = x.solved & ((share > 0.5) | (wrong > 0.5)) | (dp.sum(-1) > 0.2)
    grow = grow / (1 - wrong.clamp_max(0.5))
    return Rounding(
        g + gs, dp, dlam, dmean, E, Ainv, grow, R * grow, da * grow[..., None], moments * norm_u, half, loose
    )


def forward_bound(x: Exact, e: Rounding, out: torch.dtype) -> torch.Tensor:
    "How far the answer may be off, [N, T, D]."
    vbar = x.p @ x.v
    Y = x.invert((x.p[..., None] * x.z).mT @ (x.v[:, None] - vbar[:, :, None]))  # [N, T, D, Dv]
    r = x.v[:, None] - vbar[:, :, None] - x.z @ Y
    w = (1 + x.a)[..., None] * r
    mean = (x.p[..., None] * w).sum(-2, keepdim=True)
    by = lambda weight, t: (weight[..., None] * t.abs()).sum(-2)
    bound = by(e.dp, w - mean)
    bound = bound + Y.norm(dim=-2) * e.R[..., None]
    bound = bound + (Y * x.u[..., None]).sum(-2).abs() * e.dlam[..., None]
    spread = (x.p[..., None] * (x.v[:, None] - x.o[:, :, None]).square()).sum(-2)
    bound = bound + ((x.p * e.da.square()).sum(-1, keepdim=True) * spread).sqrt()
    bound = bound + (e.g + e.half) * by(x.p * (1 + x.a).abs(), x.v[:, None].expand_as(w))
    bound = bound + e.moments[..., None] * (x.p @ x.v.square()).sqrt()
    info = torch.finfo(out)
    return bound + info.eps * x.o.abs() + info.tiny * info.eps


@dataclass
class Gradients:
    "Gradients of all rows, and how far each may be off, by the norm over D."

    dq: torch.Tensor  # [N, T, D]
    dk: torch.Tensor  # [N, S, D], for each query head
    dv: torch.Tensor  # [N, S, D]
    dridge: torch.Tensor  # [N, T]
    off_q: torch.Tensor  # [N, T]
    off_k: torch.Tensor  # [N, S]
    off_v: torch.Tensor  # [N, S]
    off_ridge: torch.Tensor  # [N, T]


def gradients(x: Exact, e: Rounding, G: torch.Tensor, back: float) -> Gradients:
    """The gradients for the gradient G of the loss by the answer, and the errors e carried through them.

    With gamma_j = G.v_j, m its mean, y = A^-1 sum p (gamma - m) z and r_j = gamma_j - m - y.z_j:
    dv_j = p_j (1 + a_j) G, dlogit_j = p_j ((1 + a_j) r_j - e), dq = y + scale sum dlogit_j z_j,
    dk_j = p_j (r_j u - (1 + a_j) y) + scale dlogit_j q, dridge = -y.u, or 0 at the floor. The backward solver
    leaves `back` of its right-hand side, which may have been summed relative to G.o: far from m where the
    answer is far from vbar."""

    def total(t):
        return t.sum(-1)

    def row(t):
        return t[..., None]

    g, dp, p, a, scale = e.g, e.dp, x.p, x.a, x.scale
    gamma = G @ x.v.mT
    m = row(total(p * gamma))
    centred = gamma - m
    c = ((p * centred)[..., None, :] @ x.z)[..., 0, :]
    y = x.invert(row(c))[..., 0]
    r = centred - (x.z @ row(y))[..., 0]
    w = (1 + a) * r
    mean = row(total(p * w))
    dlogit = p * (w - mean)
    dq = y + scale * (dlogit[..., None, :] @ x.z)[..., 0, :]
    dk = (p * r).mT @ x.u - (p * (1 + a)).mT @ y + scale * dlogit.mT @ x.q
    dv = (p * (1 + a)).mT @ G
    dridge = torch.where(x.ridge >= x.least, -total(y * x.u), 0)

    nk, nz, nu, ny, nq = size(x.k)[:, None], size(x.z), size(x.u), size(y), size(x.q)
    absv, shift = G.abs() @ x.v.abs().mT, total(G * x.o).abs() + m[..., 0].abs()
    du = e.Ainv * (e.R + total(dp * nz * (1 + a.abs())) * e.grow + e.dlam * nu)
    dm = total(dp * centred.abs()) + g * (total(p * absv) + shift)
    rest = (
        back * size(c)
        + g * total(p * (centred.abs() + row(shift)) * nk)
        + g * total(p * absv * nz)
        + total(dp * nz * (r.abs() + centred.abs()))
        + dm * e.dmean
        + (e.E + e.dlam) * ny
    )
    dy = e.Ainv * e.grow * rest + g * ny
    da = row(du) * nz + e.da + row(nu * e.dmean)
    dr = row(dy) * nz + row(ny * e.dmean) + g * (row(ny) * (nk + row(size(x.kbar))) + absv) + row(dm)
    one = (1 + a).abs()
    dw = da * r.abs() + one * dr
    de = row(total(dp * w.abs() + p * dw))
    off = dp * (w - mean).abs() + p * (dw + de) + g * p * (w.abs() + row(total(p * w.abs())))
    off_k = (
        abs(scale) * row(nq) * off
        + (dp + g * p) * (r.abs() * row(nu) + one * row(ny))
        + p * (dr * row(nu) + r.abs() * row(du) + da * row(ny) + one * row(dy))
    )
    off_v = (dp * one + p * da + g * p * one) * row(size(G))
    off_q = (
        dy
        + g * ny
        + abs(scale) * (total(off * nz) + g * total(p * one * (r.abs() + absv) * nk) + total(off) * e.dmean)
    )
    off_ridge = dy * (nu + du) + ny * du + g * ny * nu
    off_ridge = off_ridge + torch.where((x.ridge - x.least).abs() <= e.dlam, ny * nu, 0)
    return Gradients(dq, dk, dv, dridge, off_q, off_k.sum(1), off_v.sum(1), off_ridge)


def steps_needed(kappa: torch.Tensor, tol: float) -> torch.Tensor:
    "Steps after which conjugate gradient has met the tolerance, by its own bound."
    root = kappa.sqrt()
    return (2 * root / tol).log() / ((root + 1) / (root - 1).clamp_min(1e-16)).log() + 1


# ---- drawing


@dataclass(frozen=True)
class Case:
    "The description of a case; `build` makes its tensors."

    seed: int
    number: int
    family: str
    backend: str
    dtype: torch.dtype
    lead: tuple[int, ...]
    group: int
    T: int
    S: int
    D: int
    is_causal: bool
    keys: str
    values: str
    queries: str
    views: tuple[str, str, str]
    scale: str
    ridge: str
    ridge_size: float
    tol: str
    power: int = 0
    law: str = ""
    Dv: int = 0  # size of a value; 0: D
    window: tuple[int, int] | None = None
    data: int = 0  # which numbers are drawn

    @property
    def door(self) -> str:
        "Which function is called."
        return "decode" if "decode" in self.family else "flash"


KEYS = (
    "normal",
    "wide",
    "narrow",
    "duplicated",
    "equal",
    "near",
    "near3",
    "near6",
    "few",
    "zero",
    "lowrank",
    "sink",
    "far",
)
VIEWS = ("plain", "plain", "transposed", "expanded", "sliced", "offset", "columns")


def draw(seed: int, number: int, triton: float) -> Case:
    "Case `number` of a seed; `triton`: share of the cases that run in Triton's interpreter."
    rng = random.Random(f"{seed} {number}")
    on_kernel = random.Random(f"kernel {seed} {number}").random() < triton
    family = rng.choices(FAMILIES, (42, 21, 13, 6, 15, 3))[0]
    dtype = rng.choices((torch.float16, torch.bfloat16, torch.float32, torch.float64), (10, 12, 50, 28))[0]
    if "gradient" in family and rng.random() < 0.5:
        dtype = torch.float64
    small, large = [1, 2, 3, 4, 5, 8, 16], [7, 12, 24, 32, 33, 48, 64, 65, 96, 128, 130]
    D = rng.choice(small if rng.random() < 0.7 else large)
    S = rng.randint(1, 20) if rng.random() < 0.6 else rng.randint(21, 70)
    is_causal = rng.random() < 0.6
    if "decode" in family:
        T = min(rng.choice([1, 1, 1, 2, 3, 5, 8]), S)
        lead, is_causal = (rng.randint(1, 3), rng.randint(1, 2)), True
    else:
        T = S if rng.random() < 0.45 else rng.randint(1, S) if is_causal else rng.randint(1, 70)
        lead = tuple(rng.randint(1, 3) for _ in range(rng.choice([0, 1, 1, 2, 3])))
        if rng.random() < 0.01:
            T = 0
            S = rng.choice([0, S])
        if rng.random() < 0.005 and lead:
            lead = (0, *lead[1:])
    group = rng.choice([1, 1, 2, 3]) if lead and lead[-1] else 1
    keys = rng.choice(KEYS)
    power = rng.choice([-30, -20, -10, 10, 20, 30]) if rng.random() < 0.15 else 0
    law = rng.choice(["later", "later", "unseen", "scale", "last"]) if family == "law" else ""
    if on_kernel:
        dtype = rng.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16])
        D, S = rng.choice([1, 3, 8, 16, 20]), min(S, rng.choice([8, 20, 40]))
        if DEVICE:  # where it is as quick
            D, S = rng.choice([1, 8, 16, 20, 32, 48, 64, 96, 128]), S * rng.choice([1, 1, 3, 8])
        T, lead = min(T, S), lead[:2] if "decode" in family else lead[:1]
        lead, group = tuple(min(n, 2) for n in lead), min(group, 2)
    if law in ("later", "last"):
        is_causal, S = True, max(S, 2)
        T = max(2, min(T, S)) if law == "later" else max(1, min(T, S - 1))
    if law == "unseen":
        keys, S = "sink", max(S, 3)
        T = T if not is_causal else min(T, S)
        dtype = torch.bfloat16 if dtype == torch.float16 else dtype
    if law == "scale":
        power = rng.choice([-30, -23, -8, 8, 23, 30])
    if dtype == torch.float16 or keys == "sink":
        power = 0
    if law == "scale" and not power:
        keys, dtype, power = "normal", torch.float32, rng.choice([-30, 30])
    if family == "refused":
        T, is_causal = S + rng.randint(1, 5), True
    if keys == "few":
        D = max(D, min(S, 24) + 1)
        S = min(S, D - 1)
        T = min(T, S) if is_causal and family != "refused" else T
    if law == "later" and T < 2 or law == "last" and S < 2:
        law = "scale"
        power = power or 8
    cost = math.prod(lead) * group * T * max(S * D, D * D * 2)
    if cost > 1.5e6 and family != "refused":  # keep a case to a fraction of a second
        lead = tuple(1 for _ in lead)
        group = 1
        if T * D * D > 8e5 and "decode" not in family:
            T = max(2, int(8e5 / D / D))
            S = max(S, T)
    if family in ("gradient", "decode") and law == "" and keys == "sink" and rng.random() < 0.3:
        keys = "normal"
    backend = (
        "triton"
        if on_kernel and family != "decode gradient"
        else "torch"
        if "decode" in family
        else rng.choices(["auto", "tiled", "dense"], (5, 2, 3))[0]
    )
    ridge_size = 10 ** (rng.uniform(-6, 6) if rng.random() < 0.3 else rng.uniform(-3, 1)) * (
        rng.random() > 0.2
    )
    more, window, Dv = random.Random(f"window {seed} {number}"), None, 0  # which leaves all else as it was
    if family in ("forward", "gradient") and T <= S and more.random() < 0.3:
        window = tuple(more.choice([-1, 0, 1, 2, 5, 20, 31, 32, 33, 100]) for _ in range(2))
    if family in ("forward", "gradient") and more.random() < 0.3:
        Dv = more.choice([1, 3, 8, 16, 24, 40])
    return Case(
        seed,
        number,
        family,
        backend,
        dtype,
        lead,
        group,
        T,
        S,
        D,
        is_causal,
        keys,
        rng.choice(["normal", "normal", "normal", "constant", "keys", "large"]),
        rng.choice(["normal", "normal", "normal", "sharp", "zero", "key", "long"]),
        tuple(rng.choice(VIEWS) for _ in range(3)),
        rng.choices(["none", "given", "zero", "negative"], (5, 3, 1, 1))[0],
        rng.choice(["number", "number", "scalar", "head", "row"]),
        ridge_size,
        rng.choice(["none", "none", "tight"]),
        power,
        law,
        Dv,
        window,
    )


def with_data(case: Case, data: int) -> Case:
    "The same call with other numbers: a GPU takes seconds to compile a call, and no time to make it again."
    if not data:
        return case
    rng = random.Random(f"data {case.seed} {case.number} {data}")
    free = [kind for kind in KEYS if kind not in ("few", "sink")]
    return replace(
        case,
        data=data,
        keys=case.keys if case.keys in ("few", "sink") or case.law else rng.choice(free),
        values=rng.choice(["normal", "constant", "keys", "large"]),
        queries=rng.choice(["normal", "sharp", "zero", "key", "long"]),
        ridge_size=case.ridge_size * 10 ** rng.uniform(-2, 2),
    )


def viewed(t: torch.Tensor, kind: str) -> torch.Tensor:
    "The same numbers behind other strides."
    *lead, n, D = t.shape
    nan = float("nan")
    if kind == "transposed" and lead:
        return t.transpose(-3, -2).contiguous().transpose(-3, -2)
    if kind == "sliced":
        base = t.new_full((*lead, 2 * n, D), nan)
        base[..., ::2, :] = t
        return base[..., ::2, :]
    if kind == "offset":
        base = t.new_full((*lead, n + 3, D), nan)
        base[..., 3:, :] = t
        return base[..., -n:, :] if n else base[..., :0, :]
    if kind == "columns":
        base = t.new_full((*lead, n, 2 * D + 1), nan)
        base[..., 1::2] = t
        return base[..., 1::2]
    return t


@dataclass(frozen=True)
class Built:
    "The tensors of a case."

    problem: Problem
    generator: torch.Generator
    sink: int | None = None  # index of a huge key that nobody attends to


def build(case: Case) -> Built:
    "Make the tensors of a case."
    more = (case.data,) if case.data else ()
    g = torch.Generator().manual_seed(hash((case.seed, case.number, *more)) % 2**62)
    rng = random.Random(" ".join(map(str, ("tensors", case.seed, case.number, *more))))
    normal = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64)
    lead, T, S, D, dtype = case.lead, case.T, case.S, case.D, case.dtype
    q_lead = (*lead[:-1], lead[-1] * case.group) if lead else ()
    q, k, v = normal(*q_lead, T, D), normal(*lead, S, D), normal(*lead, S, case.Dv or D)
    some, less = rng.choice([0.1, 0.5, 1.0, 2.0]), -rng.choice([0.2, 1.0])
    scale = {"none": None, "given": some, "zero": 0.0, "negative": less}[case.scale]
    sink, kind = None, case.keys
    if kind == "wide":
        k = 8 * k
    if kind == "narrow":
        k = k * rng.choice([0.01, 0.1])
    if kind == "duplicated" and S:
        k = k[..., torch.randint(max(1, S // 3), (S,), generator=g), :]
    if kind == "equal" and S:
        k = k[..., :1, :].expand_as(k).clone()
    if kind in ("near", "near3", "near6") and S:
        k = k[..., :1, :] * (1 + {"near3": 1e-3, "near6": 1e-6, "near": 10 ** -rng.uniform(1, 6)}[kind] * k)
    if kind == "zero":
        k = 0 * k
    if kind == "lowrank":
        rank = max(1, D // 3)
        k = k[..., :rank] @ normal(rank, D)
    if kind == "far":
        offset = normal(D)
        offset = offset / offset.norm() * 10 ** rng.uniform(1, 4)
        k = k + offset
        q = q + offset if rng.random() < 0.6 else q
    if case.queries == "sharp":
        q = q * 10 ** rng.uniform(1, 3)
    if case.queries == "zero":
        q = 0 * q
    if case.queries == "key" and T and S:
        q = (
            k.repeat_interleave(case.group, -3)[..., torch.randint(S, (T,), generator=g), :]
            if lead
            else k[torch.randint(S, (T,), generator=g)]
        )
    if case.queries == "long":
        q = 3 * q
    if kind == "sink" and S > 1:
        scale = rng.choice([0.3, -0.3]) if scale == 0 else scale
        sign = math.copysign(1, 1 if scale is None else scale)
        sink = rng.choice([0, S // 2, S - 1])
        exponent = rng.uniform(3.6, 4.6) if dtype == torch.float16 else rng.uniform(3.6, 30)
        if case.law == "unseen":
            exponent = rng.uniform(6, 29)
        q[..., 0] = sign * (q[..., 0].abs() + 0.5)
        k[..., sink, :] = 0
        k[..., sink, 0] = -(10**exponent)
    s = 2.0**case.power
    q, k = q * s, k * s
    scale = scale if not case.power else (D**-0.5 if scale is None else scale) / s**2
    if case.values == "constant":
        v = v[..., :1, :].expand_as(v).clone() if S else v
    if case.values == "large":
        v = 100 * v + 50
    if case.values == "keys" and kind != "sink":
        v = k[..., torch.arange(v.shape[-1]) % D].clone()
    top = torch.finfo(dtype).max / 2
    q, k, v = (t.clamp(-top, top).to(dtype) for t in (q, k, v))
    views = list(case.views)
    if "expanded" in views[1:] and lead and lead[0] > 1 and case.group == 1:
        k, v = (t[:1].expand_as(t) if how == "expanded" else t for t, how in zip((k, v), views[1:]))
    q, k, v = (viewed(t, how) for t, how in zip((q, k, v), views))
    shape = {"number": (), "scalar": (), "head": (*q_lead[-1:], 1), "row": (*q_lead, T)}[case.ridge]
    f = torch.promote_types(dtype, torch.float32)
    ridge = case.ridge_size * s**2
    if case.ridge != "number":
        spread = torch.rand(shape, generator=g, dtype=torch.float64) if case.ridge in ("head", "row") else 1
        ridge = (ridge * spread * torch.ones(shape, dtype=torch.float64)).to(f)
    tol = None if case.tol == "none" else {torch.float64: 1e-12, torch.float32: 1e-6}.get(dtype, 1e-4)
    common = dict(q=q, k=k, v=v, ridge=ridge, backend=case.backend, scale=scale)
    if case.door == "decode":
        lengths = None
        if rng.random() < 0.6 and S:
            kind = rng.choice([torch.int32, torch.int64])
            lengths = torch.randint(T, S + 1, lead[:1], generator=g, dtype=kind)
            if sink is not None:
                lengths = lengths.clamp_min(sink + 1)
            garbage = torch.arange(S) >= lengths[:, None]
            trash = rng.choice([float("nan"), float("inf")])
            k, v = (torch.where(garbage[:, None, :, None], trash, t) for t in (k, v))
            common.update(k=k, v=v)
        return Built(Problem("decode", lengths=lengths, **common), g, sink)
    steps = rng.choice([None, 20 * D + 20]) if case.family == "gradient" else None
    if case.family == "forward" and rng.random() < 0.1:
        steps = rng.choice([0, 1, 3])
    common.update(is_causal=case.is_causal, enable_gqa=case.group > 1, tol=tol, max_steps=steps)
    common.update(window=case.window)
    return Built(Problem("flash", **common), g, sink)


# ---- the judge


@dataclass
class Verdict:
    "What became of a case."

    number: int
    family: str
    faults: list[str] = field(default_factory=list)
    nan: int = 0
    rows: int = 0
    loose: int = 0
    unfinished: int = 0
    worst: float = 0.0  # largest error over its bound
    about: str = ""


def believed(problem: Problem, x: Exact, info: dict, verdict: Verdict) -> tuple[torch.Tensor, torch.Tensor]:
    "Check the reported steps and residuals and return them, [N, T]."
    shape = problem.q.shape[:-1]
    steps, residual = info["steps"], info["residual"]
    if steps.shape != shape or residual.shape != shape:
        verdict.faults.append(f"info: shapes {tuple(steps.shape)}, {tuple(residual.shape)}")
        return torch.zeros_like(x.lam), torch.ones_like(x.lam)
    steps, rho = steps.reshape(x.lam.shape), residual.double().reshape(x.lam.shape)
    tol, most = problem.settings
    if not (rho <= 1 + 1e-5).all():
        verdict.faults.append(f"residual {rho.max().item():.3g} above 1")
    if problem.backend == "dense":
        return steps, rho
    if (steps > most).any() or (steps < 0).any():
        verdict.faults.append(f"{steps.max().item()} steps, allowed {most}")
    unfinished = rho > tol
    verdict.unfinished += int(unfinished.sum())
    e = rounding(x, problem, rho, problem.eps)
    b = size(x.q - x.kbar)
    attainable = (e.E + x.sigma[..., -1] * problem.eps * 4) * size(x.u) / b
    kappa = torch.where(x.solved, x.sigma[..., -1] / x.sigma[..., 0], 1)
    must = (steps_needed(kappa, tol) <= most) & (20 * attainable <= tol) & (b > 0) & ~e.loose & x.solved
    if (bad := must & (rho > tol * 1.01)).any():
        told = f"residual {rho[bad].max().item():.3g}, condition {kappa[bad].min().item():.3g}"
        told += f", steps {steps[bad].max()} of {most}"
        verdict.faults.append(f"unfinished although well conditioned: {told}")
    return steps, rho


def compare(
    verdict: Verdict,
    what: str,
    got: torch.Tensor,
    want: torch.Tensor,
    bound: torch.Tensor,
    loose: Any,
    fits=True,
) -> None:
    "got and want [..., D], bound [..., D] or, by the norm, [...]; loose rows that fit must only be finite."
    info, got = torch.finfo(got.dtype), got.double()
    fits = fits & (want.abs() < info.max / 2).all(-1)
    if (bad := fits & ~got.isfinite().all(-1)).any():
        verdict.nan += 1
        verdict.faults.append(f"{what}: {int(bad.sum())} of {bad.numel()} rows not finite")
    keep = fits & got.isfinite().all(-1)
    keep = keep & ~torch.as_tensor(loose)
    error = (got - want).abs()
    ratio = error / bound if bound.shape == want.shape else (error.square().sum(-1).sqrt() / bound)[..., None]
    ratio = torch.where(keep[..., None] & (error.amax(-1, keepdim=True) > 0), ratio, 0)
    if not ratio.numel():
        return
    verdict.worst = max(verdict.worst, float(ratio.max()))
    if (bad := (ratio > 1).any(-1)).any():
        i = int(ratio.amax(-1).flatten().argmax())
        off, true = error.flatten(0, -2)[i].max().item(), want.flatten(0, -2)[i].norm().item()
        verdict.faults.append(
            f"{what}: {int(bad.sum())} of {int(keep.sum())} rows off, worst row {i}: "
            f"error {off:.3g} of {true:.3g}, {ratio.max().item():.3g} times the bound"
        )


def checked_shape(verdict: Verdict, what: str, got: Any, like: torch.Tensor) -> bool:
    "Whether shape and dtype are right."
    right = isinstance(got, torch.Tensor) and got.shape == like.shape and got.dtype == like.dtype
    if not right:
        given = f"{getattr(got, 'dtype', type(got))} {tuple(getattr(got, 'shape', ()))}"
        verdict.faults.append(f"{what}: {given}, expected {like.dtype} {tuple(like.shape)}")
    return right


def wanted(problem: Problem, x: Exact, got: torch.Tensor) -> torch.Tensor:
    "The right answers, [N, T, Dv]: softmax attention where the kernel of `lla_decode` may give it, and does."
    if problem.door != "decode" or problem.backend != "triton":
        return x.o
    noise, vbar = problem.floor[1] * x.kbar.square().sum(-1), x.p @ x.v
    may = (x.trace <= 1.5 * noise) & (x.lam <= 150 * noise)
    does = size(got - vbar) < size(got - x.o)
    return torch.where((may & does)[..., None], vbar, x.o)


def judged(problem: Problem, doors: dict, verdict: Verdict, what: str = "o") -> tuple | None:
    "Ask and judge: (answer [N, T, Dv], Exact, Rounding, bound, steps, residuals); None if there is nothing."
    info = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = [t._version for t in (problem.q, problem.k, problem.v)]
        o = problem.call(doors, info=problem.door == "flash")
    if before != [t._version for t in (problem.q, problem.k, problem.v)]:
        verdict.faults.append("the call wrote to its inputs")
    if problem.door == "flash":
        o, info = o
    if not checked_shape(verdict, what, o, problem.q.new_empty((*problem.q.shape[:-1], problem.v.shape[-1]))):
        return None
    x = exact(*(t.detach() for t in problem.rows()), problem.factor, *problem.floor)
    if not x.o.numel():
        return None
    zero = torch.zeros_like(x.lam)
    steps, rho = (zero, zero) if info is None else believed(problem, x, info, verdict)
    e = rounding(x, problem, rho, problem.eps)
    bound = forward_bound(x, e, problem.q.dtype)
    large = bound > 0.5 * (x.v.abs().amax() + x.o.abs().amax(-1, keepdim=True))
    loose = e.loose | large.any(-1) & (rho < 0.1)
    verdict.rows += loose.numel()
    verdict.loose += int(loose.sum())
    got = o.detach().reshape(x.o.shape)
    compare(verdict, what, got, wanted(problem, x, got), bound, loose)
    return got, x, replace(e, loose=loose), bound, steps, rho


def judge_warning(
    problem: Problem, doors: dict, answer: torch.Tensor, rho: torch.Tensor, verdict: Verdict
) -> None:
    "Without return_info the answer is the same; unfinished rows warn, finished ones do not."
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        again = problem.call(doors)
    if not torch.equal(again.reshape(answer.shape).nan_to_num(), answer.nan_to_num()):
        verdict.faults.append("return_info changes the answer")
    told = [w for w in seen if issubclass(w.category, UserWarning) and "residual" in str(w.message)]
    tol, most = problem.settings
    goal = max(tol, 64 * problem.eps)  # what rounding leaves is no reason to warn
    late = rho > goal * (10 if goal < 2e-3 else 2)
    if most and late.any() and not told:  # max_steps=0 asks for softmax attention
        rows = int(late.sum())
        verdict.faults.append(f"{rows} rows unfinished, worst residual {rho.max().item():.3g}, no warning")
    if (rho <= tol).all() and told:
        verdict.faults.append(f"all rows finished, but: {told[0].message}")


def judge_forward(case: Case, built: Built, doors: dict, verdict: Verdict) -> None:
    "Forward, and the warning on every second call."
    found = judged(built.problem, doors, verdict)
    if found and case.door == "flash" and case.backend != "triton" and case.number % 2:
        judge_warning(built.problem, doors, found[0], found[-1], verdict)


def judge_gradient(case: Case, built: Built, doors: dict, verdict: Verdict) -> None:
    "Gradients against autograd through the formula."
    problem = built.problem
    tensors = [t.detach().requires_grad_() for t in (problem.q, problem.k, problem.v)]
    if isinstance(problem.ridge, torch.Tensor):
        tensors.append(problem.ridge.detach().requires_grad_())
    found = judged(problem, doors, verdict)
    if not found:
        return
    problem = replace(problem, **dict(zip(("q", "k", "v", "ridge"), tensors)))
    _, x, e, _, steps, rho = found
    o = quiet(problem, doors)
    G = torch.randn(o.shape, generator=built.generator, dtype=torch.float64).to(o.dtype)
    tol, most = problem.settings
    direct = case.door == "decode" or case.backend == "dense"
    back = 0.0 if direct else tol / 10
    e = rounding(x, problem, rho, max(torch.finfo(problem.q.dtype).eps, problem.eps))
    if case.backend != "triton":  # any gradient is finite
        compare_gradients(
            verdict,
            problem,
            tensors,
            torch.autograd.grad(o, tensors, G, retain_graph=True),
            gradients(x, e, G.double().reshape(x.o.shape), back),
            x.k.abs().amax(),
            finite=True,
        )
    # compared: that of the rows whose solvers finish. The backward solver does not report. It is believed to
    # meet its tolerance where conjugate gradient must, or where the forward solver did in half of its steps
    keep = ~e.loose
    if not direct:
        kappa = torch.where(x.solved, x.sigma[..., -1] / x.sigma[..., 0], 1)
        keep = keep & (rho <= tol) & ((steps_needed(kappa, back) <= most) | (2 * steps <= most))
    G = torch.where(keep.reshape(o.shape[:-1])[..., None], G, 0)
    verdict.loose += int((~keep).sum() - found[2].loose.sum())
    compare_gradients(
        verdict,
        problem,
        tensors,
        torch.autograd.grad(o, tensors, G),
        gradients(x, e, G.double().reshape(x.o.shape), back),
        x.k.abs().amax(),
    )


def compare_gradients(
    verdict: Verdict,
    problem: Problem,
    tensors: list,
    got: tuple,
    want: Gradients,
    unit: torch.Tensor,
    finite=False,
) -> None:
    "Compare the gradients, or ask only that they are finite where the exact ones are no giants."
    group = want.dq.shape[0] // max(1, math.prod(problem.k.shape[:-2]))

    def like_k(t):
        return t.unflatten(0, (-1, group)).sum(1).reshape(*problem.k.shape[:-1], -1)

    def like_ridge(t):
        return t.reshape(problem.q.shape[:-1]).sum_to_size(tensors[-1].shape).reshape(-1, 1)

    pairs = [(want.dq.reshape(problem.q.shape), want.off_q.reshape(problem.q.shape[:-1]))]
    for t, off in ((want.dk, want.off_k), (want.dv, want.off_v)):
        pairs.append((like_k(t), like_k(off[..., None])[..., 0]))
    if tensors[3:]:
        pairs.append((like_ridge(want.dridge), like_ridge(want.off_ridge)[..., 0]))
    for name, t, a, (b, bound) in zip(("q", "k", "v", "ridge"), tensors, got, pairs):
        if not checked_shape(verdict, f"d{name}", a, t):
            continue
        info = torch.finfo(t.dtype)
        bound = 8 * bound  # of first order: solvers and autograd round more than once
        bound = bound + 2 * info.eps * size(b) + info.tiny * (1 + 64 * info.eps * unit)  # underflow
        small = b.abs().amax(-1) + bound < info.max / 1e4
        compare(verdict, f"d{name}", a.reshape(b.shape), b, bound, finite | ~small, small)


def judge_law(case: Case, built: Built, doors: dict, verdict: Verdict) -> None:
    "Two calls whose answers are tied to each other."
    problem, g = built.problem, built.generator
    rng = random.Random(f"law {case.seed} {case.number}")
    solid = {name: getattr(problem, name).clone(memory_format=torch.contiguous_format) for name in "qkv"}
    problem = replace(problem, **solid)  # other strides may be multiplied in another order
    found = judged(problem, doors, verdict)
    if not found:
        return
    got, x, e, bound, *_ = found
    (N, T, D), S = x.q.shape, x.k.shape[1]
    if case.law == "later":
        cut = rng.randint(1, T - 1)
        huge = 10 ** (rng.uniform(0, 4.7) if case.dtype == torch.float16 else rng.uniform(0, 30))
        other = lambda t, n: torch.cat(
            [
                t[..., :n, :],
                (torch.randn(t[..., n:, :].shape, generator=g) * huge).clamp(-huge, huge).to(t.dtype),
            ],
            -2,
        )
        q = torch.cat([problem.q[..., :cut, :], problem.q[..., cut:, :].flip(-2)], -2)
        changed = replace(problem, q=q, k=other(problem.k, S - T + cut), v=other(problem.v, S - T + cut))
        again = quiet(changed, doors).reshape(N, T, D)
        told = f"later keys of size {huge:.1g} change"
        tell_bits(verdict, f"{told} rows before {cut}", got[:, :cut], again[:, :cut])
        if huge < 1e3:
            for name, a, b in zip("qkv", *(early_gradients(p, doors, cut) for p in (problem, changed))):
                tell_bits(verdict, f"{told} d{name} of rows before {cut}", a, b)
    if case.law == "unseen":
        k, v = problem.k.clone(), problem.v.clone()
        k[..., built.sink, :] *= 2.0 ** rng.randint(-2, 2)
        v[..., built.sink, :] = torch.randn(v[..., built.sink, :].shape, generator=g).to(v) * 1e3
        again = quiet(replace(problem, k=k, v=v), doors).reshape(N, T, D)
        asked = (x.p[..., built.sink] == 0) & (x.seen.sum(-1) > 1)
        tell_bits(verdict, "a key of weight 0 changes rows", got[asked], again[asked])
    if case.law == "scale":
        s = 2.0**-case.power
        ridge = problem.ridge * s**2
        scaled = replace(problem, q=problem.q * s, k=problem.k * s, ridge=ridge, scale=problem.scale / s**2)
        again = quiet(scaled, doors).reshape(N, T, D)
        near = 1e-5 if problem.eps > 1e-10 else 1e-12
        near = max(near, 2 * torch.finfo(problem.q.dtype).eps)
        room = near * (x.o.abs().amax(-1, keepdim=True) + x.v.abs().amax()).expand_as(bound)
        compare(verdict, f"scaled by 2^{case.power}", again, got.double(), room + bound, e.loose)
    if case.law == "last":
        fill = torch.randn(*problem.q.shape[:-2], S - T, D, generator=g).to(problem.q.dtype)
        ridge = problem.ridge
        if isinstance(ridge, torch.Tensor) and ridge.dim() and ridge.shape[-1] > 1:
            ridge = torch.cat([ridge.new_full((*ridge.shape[:-1], S - T), 0.1), ridge], -1)
        elif isinstance(ridge, torch.Tensor) and ridge.dim():
            ridge = ridge.expand(*ridge.shape[:-1], S) if ridge.dim() > 1 or not case.lead else ridge
        whole = quiet(replace(problem, q=torch.cat([fill, problem.q], -2), ridge=ridge), doors)
        last = whole[..., S - T :, :].reshape(N, T, D)
        compare(verdict, "the last rows of T = S", last, got.double(), 2 * bound, e.loose)


def early_gradients(problem: Problem, doors: dict, cut: int) -> list[torch.Tensor]:
    "Gradients of the first `cut` answers by what they see."
    tensors = [t.detach().requires_grad_() for t in (problem.q, problem.k, problem.v)]
    o = quiet(replace(problem, **dict(zip("qkv", tensors))), doors)
    G = torch.where(torch.arange(o.shape[-2])[:, None] < cut, o.detach().cos(), 0)
    seen = problem.k.shape[-2] - problem.q.shape[-2] + cut
    return [t[..., :n, :] for t, n in zip(torch.autograd.grad(o, tensors, G), (cut, seen, seen))]


def quiet(problem: Problem, doors: dict) -> torch.Tensor:
    "The answer, without warnings."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return problem.call(doors)


def tell_bits(verdict: Verdict, what: str, a: torch.Tensor, b: torch.Tensor) -> None:
    "Bit for bit."
    if torch.equal(a, b):
        return
    off = (a.double() - b.double()).abs()
    rows = int((~(a == b)).any(-1).sum())
    verdict.nan += int(not b.isfinite().all())
    verdict.faults.append(f"{what}: {rows} rows, by up to {off.max().item():.3g}")


def judge_refused(case: Case, built: Built, doors: dict, verdict: Verdict) -> None:
    "More queries than keys under is_causal."
    try:
        built.problem.call(doors)
    except ValueError as error:
        if not any(name in str(error) for name in ("q.shape", "T=", "k.shape" if not case.S else "q.shape")):
            verdict.faults.append(f"refused without naming q.shape: {error}")
        return
    verdict.faults.append(f"T={case.T} > S={case.S} was answered")


def library() -> dict[str, Callable]:
    "The two doors of the library."
    from lla_course.attention.decode import lla_decode
    from lla_course.attention.flash import flash_lla

    return dict(flash=flash_lla, decode=lla_decode)


def judge(
    number: int, seed: int = 0, triton: float = 0.0, doors: dict | None = None, data: int = 0
) -> Verdict:
    "Draw, build, call and judge one case."
    case = with_data(draw(seed, number, triton), data)
    verdict = Verdict(number, case.family, about=describe(case))
    work = {
        "forward": judge_forward,
        "decode": judge_forward,
        "gradient": judge_gradient,
        "law": judge_law,
        "decode gradient": judge_gradient,
        "refused": judge_refused,
    }[case.family]
    try:
        work(case, build(case), doors or library(), verdict)
    except Exception as error:
        place = inspect.trace()[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}"
        verdict.faults.append(f"{type(error).__name__}: {str(error)[:200]} ({where})")
    return verdict


def describe(case: Case) -> str:
    "One line."
    names = "lead group T S D Dv window is_causal keys values queries scale tol power law".split()
    told = " ".join(f"{name}={getattr(case, name)}" for name in names if getattr(case, name) != "")
    return (
        f"{str(case.dtype)[6:]} {case.backend} {told} ridge={case.ridge}:{case.ridge_size:.3g} "
        f"views={'/'.join(case.views)} data={case.data}"
    )


# ---- many cases


def _work(numbers: list[int], seed: int, triton: float, data: int) -> list[Verdict]:
    torch.set_num_threads(1)
    return [judge(n, seed, triton, data=i) for n in numbers for i in range(data)]


def run(
    count: int, *, seed: int = 0, triton: float = 0.0, jobs: int = 1, doors: dict | None = None, data: int = 1
) -> list[Verdict]:
    "Judge cases 0 to count - 1, each with `data` sets of numbers; in `jobs` processes, of the library only."
    if jobs == 1:
        return [judge(n, seed, triton, doors, i) for n in range(count) for i in range(data)]
    chunks = [list(range(i, min(i + 20, count))) for i in range(0, count, 20)]
    work = partial(_work, seed=seed, triton=triton, data=data)
    with ProcessPoolExecutor(jobs) as pool:
        return [v for part in pool.map(work, chunks) for v in part]


def summary(
    verdicts: list[Verdict], seed: int = 0, triton: float = 0.0, shown: int = 10, data: int = 1
) -> str:
    "Mismatches with what reruns them, then one line a family, then the total."
    lines = []
    wrong = [v for v in verdicts if v.faults]
    for v in wrong[:shown]:
        more = f" --triton {triton:g}" + (f" --data {data}" if data > 1 else "")
        lines += [
            f"case {v.number}: {v.family}: {v.about}",
            *(f"    {fault}" for fault in v.faults),
            f"    python tests/fuzz.py --seed {seed}{more} --only {v.number}",
        ]
    if len(wrong) > shown:
        rest = " ".join(str(v.number) for v in wrong[shown : shown + 200])
        lines.append(f"... and {len(wrong) - shown} more: {rest}")
    heads = dict(cases=7, mismatches=11, NaN=5, rows=9, loose=8, unfinished=11, worst=10)
    lines.append(" " * 16 + "".join(f"{name:>{width}}" for name, width in heads.items()))
    for name in (*FAMILIES, "total"):
        part = [v for v in verdicts if name in (v.family, "total")]
        counts = [sum(getattr(v, field) for v in part) for field in ("nan", "rows", "loose", "unfinished")]
        values = [len(part), sum(bool(v.faults) for v in part), *counts]
        line = "".join(f"{value:{width}}" for value, width in zip(values, heads.values()))
        lines.append(f"{name:16}{line}{max((v.worst for v in part), default=0.0):10.3g}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    "The command line; 1 if anything did not match."
    parser = argparse.ArgumentParser(description="Compare flash_lla and lla_decode with float64, row by row.")
    parser.add_argument("count", type=int, nargs="?", default=1000, help="cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--triton", type=float, default=0.08, help="share of cases in Triton's interpreter")
    parser.add_argument("--only", type=int, help="one case")
    parser.add_argument("--data", type=int, default=1, help="sets of numbers for each case")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    start = time.time()
    if given.only is None:
        verdicts = run(given.count, seed=given.seed, triton=given.triton, jobs=given.jobs, data=given.data)
    else:
        verdicts = _work([given.only], given.seed, given.triton, given.data)
        print(describe(draw(given.seed, given.only, given.triton)))
    print(summary(verdicts, given.seed, given.triton, data=given.data))
    print(f"{time.time() - start:.0f} s")
    return int(any(v.faults for v in verdicts))


if __name__ == "__main__":
    sys.exit(main())
