"Random cases against a float64 solve of every row, and whether the judge of these cases sees what is wrong."

import fuzz
import pytest
import torch

from lla_course.kernels.runtime import can_run

TRITON = 0.01 if can_run("cpu") else 0.0  # a handful


def door(name, solve=fuzz.formula, error=0.0):
    "An implementation that answers by a formula in float64, `solve`, and is off by a share of `error`."

    def answer(
        q,
        k,
        v,
        *,
        ridge,
        is_causal=True,
        scale=None,
        enable_gqa=False,
        tol=None,
        max_steps=None,
        backend="auto",
        return_info=False,
        cache_seqlens=None,
        window=None,
    ):
        if name == "flash" and is_causal and q.shape[-2] > k.shape[-2]:
            raise ValueError(f"q.shape={tuple(q.shape)}: expected at most {k.shape[-2]} queries")
        problem = fuzz.Problem(
            name, q, k, v, ridge, backend, scale, is_causal, enable_gqa, tol, max_steps, cache_seqlens, window
        )
        o = solve(*problem.rows(), problem.factor, *problem.floor)
        o = (o * (1 + error)).reshape(*q.shape[:-1], v.shape[-1]).to(q.dtype)
        rest = torch.zeros(q.shape[:-1])
        return (o, dict(steps=rest.int(), residual=rest)) if return_info else o

    return answer


def doors(solve=fuzz.formula, error=0.0):
    return dict(flash=door("flash", solve, error), decode=door("decode", solve, error))


def caught(count, **wrong):
    "Families in which the judge sees mismatches."
    return {v.family for v in fuzz.run(count, doors=doors(**wrong)) if v.faults}


def test_500_random_cases_agree_with_a_float64_solve_of_every_row():
    verdicts = fuzz.run(500, triton=TRITON)
    assert not any(v.faults or v.nan for v in verdicts), fuzz.summary(verdicts, triton=TRITON)
    rows, loose = (sum(getattr(v, name) for v in verdicts) for name in ("rows", "loose"))
    assert loose < 0.3 * rows, "too many rows are too ill conditioned to be compared"


def test_the_judge_accepts_what_is_right():
    verdicts = fuzz.run(150, doors=doors())
    assert not any(v.faults for v in verdicts), fuzz.summary(verdicts)


def top_left(q, k, v, ridge, seen, *rest):
    T, S = seen.shape[1:]
    if not seen.all() and S > T and seen.any(-1).all():
        seen = seen & (torch.arange(S) <= torch.arange(T)[:, None])
    return fuzz.formula(q, k, v, ridge, seen, *rest)


def window_too_short(q, k, v, ridge, seen, *rest):
    first, several = seen.int().argmax(-1, keepdim=True), seen.sum(-1, keepdim=True) > 1
    drop = (torch.arange(seen.shape[-1]) == first) & (first > 0) & several
    return fuzz.formula(q, k, v, ridge, seen & ~drop, *rest)


def softmax(q, k, v, ridge, seen, scale, floor, noise):
    return (scale * (q @ k.mT)).masked_fill(~seen, -torch.inf).softmax(-1) @ v


def flat_where_keys_are_equal(q, k, v, ridge, seen, *rest):
    "The right answers, but a guard for the value cuts the gradient of the slope where all keys are equal."
    o = fuzz.formula(q, k, v, ridge, seen, *rest)
    equal = (k == k[:, :1]).all(-1).all(-1)[:, None, None]
    return torch.where(equal, softmax(q, k, v, ridge, seen, *rest), o)


def ridge_gradient_below_the_floor(q, k, v, ridge, seen, scale, floor, noise):
    o = fuzz.formula(q, k, v, ridge, seen, scale, floor, noise)
    return o + (ridge - ridge.detach())[..., None]


def other_floor(q, k, v, ridge, seen, scale, floor, noise):
    return fuzz.formula(q, k, v, ridge, seen, scale, 2 * floor, noise)


@pytest.mark.parametrize(
    "wrong, families",
    [
        (dict(solve=top_left), {"forward", "gradient", "decode", "decode gradient", "law"}),
        (dict(solve=window_too_short), {"forward", "gradient"}),
        (dict(solve=softmax), {"forward", "gradient", "decode", "decode gradient", "law"}),
        (dict(error=1e-2), {"forward", "gradient", "decode", "decode gradient", "law"}),
        (dict(error=1e-4), {"forward", "gradient", "decode", "decode gradient", "law"}),
        (dict(solve=flat_where_keys_are_equal), {"gradient"}),
        (dict(solve=ridge_gradient_below_the_floor), {"gradient"}),
        (dict(solve=other_floor), {"forward"}),
    ],
)
def test_the_judge_sees_what_is_wrong(wrong, families):
    assert families <= caught(150, **wrong)


def test_a_residual_is_not_believed_and_silence_about_it_is_a_fault():
    def lazy(*args, return_info=False, **rest):
        o = door("flash", softmax)(*args, **rest)
        ones = torch.ones(o.shape[:-1])
        return (o, dict(steps=ones.int(), residual=ones)) if return_info else o

    verdicts = fuzz.run(100, doors=doors() | dict(flash=lazy))
    told = " ".join(fault for v in verdicts for fault in v.faults)
    assert "unfinished although well conditioned" in told
    assert "no warning" in told


def test_a_key_that_is_not_seen_or_has_no_weight_changes_nothing():
    def nosy(q, k, v, ridge, *rest):
        return fuzz.formula(q, k, v, ridge + 1e-9 * k.abs().amax(), *rest)

    verdicts = fuzz.run(300, doors=doors(solve=nosy))
    told = " ".join(fault for v in verdicts if v.family == "law" for fault in v.faults)
    assert "later keys" in told
    assert "weight 0" in told


def test_a_case_is_the_same_whenever_it_is_drawn():
    for number in range(40):
        a, b = (fuzz.build(fuzz.draw(3, number, 0.1)).problem for _ in range(2))
        for x, y in ((a.q, b.q), (a.k, b.k), (a.v, b.v)):
            assert torch.equal(x.nan_to_num(), y.nan_to_num())
        assert fuzz.draw(3, number, 0.1) == fuzz.draw(3, number, 0.1)


def test_the_command_reruns_one_case_and_fails_on_a_mismatch(monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "library", doors)
    assert fuzz.main(["20", "--jobs", "1", "--triton", "0"]) == 0
    monkeypatch.setattr(fuzz, "library", lambda: doors(error=0.1))
    assert fuzz.main(["20", "--jobs", "1", "--triton", "0"]) == 1
    said = capsys.readouterr().out
    number = said.split("--only ")[1].split()[0]
    assert fuzz.main(["--only", number, "--triton", "0"]) == 1


def test_data_sets_of_a_case_differ_in_numbers_and_not_in_the_call():
    for number in range(20):
        case = fuzz.draw(0, number, 0.0)
        others = [fuzz.with_data(case, i) for i in range(3)]
        assert others[0] == case
        for other in others[1:]:
            call = ("family", "backend", "dtype", "lead", "group", "T", "S", "D", "window", "views", "Dv")
            assert all(getattr(case, name) == getattr(other, name) for name in call)
        first, second = (fuzz.build(other).problem.k for other in others[1:])
        assert first.shape == second.shape
        assert not first.numel() or case.keys == "zero" or not torch.equal(first, second)
