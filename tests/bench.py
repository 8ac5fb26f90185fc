"""Ratios to what others offer, measured side by side on this machine: `make bench`. Nothing is stored.

Regression beside statsmodels' KernelReg (equal answers) and lowess (another estimator: a fixed number of
neighbours, at the design points only), leave-one-out, memory; short sequences of `flash_lla` beside softmax
attention."""

import resource
import time

import numpy as np
import torch
from statsmodels.nonparametric.api import KernelReg, lowess
from torch.nn.functional import scaled_dot_product_attention

from lla_course import flash_lla
from lla_course.regression.kernel import cross_validate, nadaraya_watson
from lla_course.regression.local_linear import equivalent_kernel, local_linear

RNG = np.random.default_rng(0)
MOST_MB = 500  # that an estimator may add to the process


def best(call, *args, times=3, **knobs):
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        answer = call(*args, **knobs)
        seconds.append(time.perf_counter() - start)
    return answer, min(seconds)


def sample(n, m, d=1):
    x, x0 = RNG.random((n, d)), RNG.random((m, d))
    return x0, x, np.sin(6 * x).sum(1) + 0.1 * RNG.normal(size=n)


def beside_statsmodels():
    x0, x, y = sample(20_000, 1000)
    for h in (0.01, 0.05):
        for name, kind, call in (("average", "lc", nadaraya_watson), ("line", "ll", local_linear)):
            theirs, slow = best(KernelReg(y, x, "c", reg_type=kind, bw=[h]).fit, x0, times=1)
            ours, fast = best(call, x0, x, y, bandwidth=h)
            gap = np.abs(theirs[0] - ours).max()
            assert gap < 1e-10
            what = f"{name}, h = {h}, 20,000 points, 1000 queries"
            yield what, fast, f"{slow / fast:.1f} x KernelReg (apart by {gap:.0e})"
    _, quick = best(lowess, y, x[:, 0], frac=0.02)
    _, ours = best(local_linear, x, x, y, bandwidth=0.01)
    yield "line at its own 20,000 points", ours, f"{quick / ours:.1f} x lowess"


def leave_one_out():
    _, x, y = sample(20_000, 1)
    bandwidths = np.geomspace(1e-3, 0.3, 20)
    for name, knobs in (("average", {}), ("line", dict(weights=equivalent_kernel))):
        _, seconds = best(cross_validate, x, y, bandwidths, times=1, **knobs)
        yield f"leave-one-out, {name}, 20 bandwidths, 20,000 points", seconds, ""


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def many_points():
    before = peak()
    for d, h in ((1, 0.02), (3, 0.1)):
        x0, x, y = sample(100_000, 10_000, d)
        for name, call in (("average", nadaraya_watson), ("line", local_linear)):
            _, seconds = best(call, x0, x, y, bandwidth=h, times=1)
            assert peak() - before < MOST_MB
            yield (
                f"{name}, d = {d}, 100,000 points, 10,000 queries",
                seconds,
                f"{peak() - before:.0f} MB more",
            )


def short_sequences():
    for N, T, D in ((128, 32, 32), (4, 256, 16)):
        tensors = [torch.randn(N, T, D, requires_grad=True) for _ in range(3)]
        lla = lambda t=tensors: flash_lla(*t).sum().backward()
        softmax = lambda t=tensors: scaled_dot_product_attention(*t, is_causal=True).sum().backward()
        (_, ours), (_, theirs) = best(lla), best(softmax)
        yield f"flash_lla there and back, {N} x {T}, D = {D}", ours, f"{ours / theirs:.0f} softmax attentions"


if __name__ == "__main__":
    for part in (beside_statsmodels, leave_one_out, many_points, short_sequences):
        for what, seconds, note in part():
            print(f"{what:62} {seconds:8.3f} s   {note}", flush=True)
