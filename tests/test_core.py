"Core: presets, seeds, devices, argument checks, arrays and files."

import os
import re
import time
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lla_course import core
from lla_course.core import (
    as_tensors,
    bad_argument,
    by_preset,
    device_name,
    inverse_softplus,
    milliseconds,
    pick_device,
    repo_root,
    require_choice,
    require_finite,
    require_flag,
    require_positive,
    require_whole,
    seed_everything,
    write_atomic,
)

# ---- arguments


def test_fail_names_the_argument_its_value_and_what_was_expected():
    with pytest.raises(ValueError, match=re.escape("kernel='gausian': expected a kernel")):
        bad_argument("kernel", "gausian", "a kernel")


def test_an_error_is_one_short_line():
    for value in (np.zeros((50, 50)), torch.zeros(99, 99), "x" * 999, ["a\nb"] * 300):
        with pytest.raises(ValueError) as error:
            bad_argument("x", value, "less")
        assert (
            len(str(error.value)) < 260
            and "\n" not in str(error.value)
            and str(error.value).endswith("...: expected less")
        )
    with pytest.raises(ValueError, match=r"^x='a  b': expected"):
        bad_argument("x", "a  b", "less")


def test_pick():
    fast, full = object(), object()
    assert by_preset("fast", fast=fast, full=full) is fast and by_preset("full", fast=fast, full=full) is full
    for wrong in ("Fast", "", None, 0, "medium", ["fast"], {}):
        with pytest.raises(ValueError, match="preset=.*'fast' or 'full'"):
            by_preset(wrong, fast=1, full=2)


@pytest.mark.parametrize(
    "value, zero",
    [(1, False), (1e-300, False), (np.float32(2), False), (torch.tensor(0.5), False), (0, True), (7.5, True)],
)
def test_require_positive_gives_a_float(value, zero):
    number = require_positive("h", value, zero=zero)
    assert type(number) is float and number == float(value)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -1e-300,
        float("nan"),
        float("inf"),
        -float("inf"),
        None,
        "wide",
        [1.0, 2.0],
        1j,
        np.ones(3),
        torch.ones(2),
        {},
    ],
)
@pytest.mark.parametrize("zero", [False, True])
def test_require_positive_refuses(value, zero):
    with pytest.raises(ValueError, match="^h=.*expected a finite number >" + ("= 0" if zero else " 0")):
        require_positive("h", value, zero=zero)


def test_zero_only_where_allowed():
    with pytest.raises(ValueError, match="h=0: expected a finite number > 0"):
        require_positive("h", 0)


def test_true_is_not_a_number():
    with pytest.raises(ValueError, match="h=True: expected a finite number > 0"):
        require_positive("h", True)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_require_whole_gives_an_int(value):
    assert type(require_whole("n", value)) is int and require_whole("n", value, least=3, most=3) == 3


@pytest.mark.parametrize("value", [True, 2.0, np.float64(2), "2", None, [2], torch.tensor(2.0), float("nan")])
def test_require_whole_refuses_what_is_not_one(value):
    with pytest.raises(ValueError, match="^n=.*expected a whole number >= 1$"):
        require_whole("n", value, least=1)


def test_require_whole_keeps_limits():
    with pytest.raises(ValueError, match="^n=0: expected a whole number >= 1$"):
        require_whole("n", 0, least=1)
    with pytest.raises(ValueError, match="^n=9: expected a whole number from 1 to 8$"):
        require_whole("n", 9, least=1, most=8)
    with pytest.raises(ValueError, match="^n=9: expected a whole number <= 8$"):
        require_whole("n", 9, most=8)


def test_require_flag():
    assert require_flag("x", True) is True and require_flag("x", False) is False
    for wrong in (1, 0, "no", None, np.bool_(True)):
        with pytest.raises(ValueError, match="^x=.*expected True or False$"):
            require_flag("x", wrong)


def test_text_is_not_a_number():
    with pytest.raises(ValueError, match="^h='0.5'"):
        require_positive("h", "0.5")


def test_require_choice():
    assert (
        require_choice("kernel", "b", ["a", "b"]) == "b"
        and require_choice("kernel", "b", {"a": 1, "b": 2}) == "b"
    )
    for wrong in ("c", "", None, 1, ["a"], "a, b"):
        with pytest.raises(ValueError, match="^kernel=.*expected one of 'a', 'b'$"):
            require_choice("kernel", wrong, ["a", "b"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", [(0,), (4,), (1, 2), (0, 1, 1)])
def test_require_finite_names_the_first_bad_entry(bad, where):
    t = torch.zeros(5, 3, 2)[(slice(None),) * len(where) + (0,) * (3 - len(where))].clone()
    assert require_finite("y", t) is t
    t[where] = bad
    t[-1] = bad
    with pytest.raises(
        ValueError, match=re.escape(f"y[{', '.join(map(str, where))}]={bad}: expected finite")
    ):
        require_finite("y", t)


def test_require_finite_takes_nothing_and_whole_numbers():
    for t in (torch.zeros(0), torch.zeros(0, 3), torch.arange(3)):
        assert require_finite("y", t) is t


def test_the_timer_tells_long_from_short():
    a = torch.randn(4, 4)
    short, long = (milliseconds(lambda n=n: [a @ a for _ in range(n)], least=20) for n in (1, 200))
    assert 0 < short < long / 20


@pytest.mark.gpu
def test_the_timer_reads_the_clock_of_the_gpu():
    a = torch.randn(2048, 2048, device="cuda")
    assert 0.01 < milliseconds(lambda: a @ a, "cuda") < 20


def test_milliseconds_are_the_median_of_many_runs_and_of_one_at_least():
    runs = []
    work = lambda: (runs.append(1), time.sleep(0.005))
    assert 5 <= milliseconds(work, least=50) < 50 and len(runs) >= 2
    assert 5 <= milliseconds(work, "cpu", least=0.1) < 50
    for wrong in (dict(device="gpu"), dict(least=0)):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}="):
            milliseconds(work, **wrong)


@pytest.mark.parametrize("x", [1e-300, 1e-9, 0.1, 1.0, 40.0, 1000.0, 1e300])
def test_softplus_undoes_its_inverse(x):
    y = torch.tensor(inverse_softplus(x), dtype=torch.float64)
    assert torch.nn.functional.softplus(y).item() == pytest.approx(x, rel=1e-12)


@pytest.mark.parametrize("x", [0.0, -1.0, float("nan"), True])
def test_only_a_positive_number_has_an_inverse_softplus(x):
    with pytest.raises(ValueError, match="^x="):
        inverse_softplus(x)


# ---- chance and devices


def test_a_seed_fixes_all_streams():
    import random

    draw = lambda g: (
        torch.rand(3, generator=g).tolist(),
        torch.rand(3).tolist(),
        np.random.rand(3).tolist(),
        random.random(),
    )
    first, second, other = (
        draw(seed_everything(3)),
        draw(seed_everything(np.int64(3))),
        draw(seed_everything(4)),
    )
    assert first == second and not any(a == b for a, b in zip(first, other))
    assert (
        torch.rand(3, generator=seed_everything(3)).tolist()
        == torch.rand(3, generator=torch.Generator().manual_seed(3)).tolist()
    )


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "0", None, True, [1]])
def test_bad_seeds(seed):
    with pytest.raises(ValueError, match="^seed=.*whole number"):
        seed_everything(seed)


def test_devices(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu") and device_name("cpu").startswith("CPU (")
    for wrong in (
        "gpu",
        "",
        None,
        3,
        True,
        "cuda:x",
        "mps",
        "mps:0",
        "meta",
        "xpu",
        "xpu:1",
        "cpu:7",
        "cpu:-1",
        "cuda:-1",
        "cuda:999",
        "cuda:256",
        "CPU",
        ["cpu"],
        torch.device("meta"),
        torch.device("mps"),
        torch.device("cpu", 7),
    ):
        for door in (pick_device, device_name):
            with pytest.raises(ValueError, match="^device=.*: expected"):
                door(wrong)
    assert pick_device(torch.device("cpu")) == torch.device("cpu") and pick_device("cpu:0").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert pick_device() == pick_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="device='cuda'.*0 CUDA devices"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device() == torch.device("cuda") and pick_device("cuda:1") == torch.device("cuda:1")
    for wrong in ("cuda:2", "cuda:256", torch.device("cuda:2")):
        with pytest.raises(ValueError, match="device='cuda:2.*2 CUDA devices"):
            pick_device(wrong)


@pytest.mark.gpu
def test_a_real_gpu():
    assert pick_device().type == "cuda" and device_name("cuda")
    with pytest.raises(ValueError, match="one device"):
        as_tensors(x=torch.ones(2, device="cuda"), y=torch.ones(2))
    (x, y), back = as_tensors(x=torch.ones(2, device="cuda"), y=[1, 2])
    assert y.device.type == "cuda" and back(x).device.type == "cuda"


# ---- numpy in, numpy out

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", FLOATS)
def test_sixteen_bits_are_computed_in_thirty_two_and_returned_in_sixteen(dtype):
    (x,), back = as_tensors(x=torch.ones(3, dtype=dtype))
    assert x.dtype == (torch.float32 if dtype in FLOATS[:2] else dtype) and back(x).dtype == dtype
    if dtype != torch.bfloat16:
        (x,), back = as_tensors(x=torch.ones(3, dtype=dtype).numpy())
        assert (
            x.dtype == (torch.float32 if dtype in FLOATS[:2] else dtype)
            and back(x).dtype == torch.ones(3, dtype=dtype).numpy().dtype
        )


@pytest.mark.parametrize(
    "given, kept",
    [
        (dict(x=np.float32([1]), y=np.float64([1])), torch.float64),
        (dict(x=np.float32([1]), y=[1.0]), torch.float32),
        (dict(x=np.arange(2), y=np.float16([1])), torch.float16),
        (dict(x=[1, 2], y=(3,)), torch.float64),
        (dict(x=np.arange(2), y=True), torch.float64),
        (dict(x=torch.ones(1, dtype=torch.float16), y=np.float32([1])), torch.float32),
        (dict(x=torch.ones(1, dtype=torch.float16), y=torch.ones(1, dtype=torch.bfloat16)), torch.float32),
        (dict(x=torch.arange(2), y=torch.ones(1)), torch.float32),
    ],
)
def test_the_widest_floating_dtype_is_kept(given, kept):
    tensors, back = as_tensors(**given)
    assert len({t.dtype for t in tensors}) == 1
    assert torch.as_tensor(back(tensors[0])).dtype == kept
    assert isinstance(back(tensors[0]), torch.Tensor) == any(
        isinstance(v, torch.Tensor) for v in given.values()
    )


@given(
    st.lists(st.floats(allow_nan=False), max_size=5), st.sampled_from([np.float16, np.float32, np.float64])
)
def test_a_round_trip_changes_no_bit(values, dtype):
    with np.errstate(over="ignore"):
        x = np.array(values, dtype)
    for kind in (x, torch.tensor(x)):
        (t,), back = as_tensors(x=kind)
        assert (
            type(back(t)) is type(kind)
            and np.array_equal(np.asarray(back(t)), x)
            and np.asarray(back(t)).dtype == dtype
        )


def test_inputs_are_not_shared_and_graphs_are_kept():
    x = np.ones(3)
    as_tensors(x=x)[0][0].add_(1)
    assert (x == 1).all()
    x = torch.ones(3, requires_grad=True)
    (t,), back = as_tensors(x=x)
    assert torch.autograd.grad(back(2 * t).sum(), x)[0].tolist() == [2, 2, 2]
    assert as_tensors(x=np.ones((2, 3))[::-1, ::2])[0][0].shape == (2, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        ["a"],
        "a",
        None,
        [1j],
        np.complex64([1]),
        torch.ones(2, dtype=torch.cfloat),
        [[1], [1, 2]],
        object(),
        {"a": 1},
        np.array(["2026-01-01"], "M8[D]"),
    ],
)
def test_what_is_not_real_numbers_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match="^y="):
        as_tensors(x=[1.0], y=wrong)


@given(st.data(), arrays(float, array_shapes(max_dims=3, max_side=4), elements=st.floats(-9, 9)))
def test_a_masked_entry_is_refused_with_its_place_and_a_mask_that_hides_nothing_is_none(data, x):
    mask = data.draw(arrays(bool, x.shape))
    masked = np.ma.array(x, mask=mask)
    if not mask.any():
        assert np.array_equal(as_tensors(y=masked)[0][0].numpy(), x)
        return
    place = ", ".join(map(str, np.argwhere(mask)[0]))
    for array in (masked, masked.astype(">f4"), np.ma.array(x.astype(int), mask=mask)):
        with pytest.raises(ValueError, match=re.escape(f"y[{place}]=masked: expected")):
            as_tensors(x=[1.0], y=array)
    with pytest.raises(ValueError, match=re.escape(f"y[1, {place}]=masked")):
        as_tensors(y=[x, masked])
    with pytest.raises(ValueError, match=r"^y\[2\]=masked"):
        as_tensors(y=[1.0, 2.0, np.ma.masked])


def test_a_masked_tensor_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hidden = torch.masked.masked_tensor(torch.ones(2), torch.tensor([True, False]))
        with pytest.raises(ValueError, match="^y=.*without a mask"):
            as_tensors(y=hidden)


@given(
    arrays(
        st.sampled_from(["f2", "f4", "f8", "i2", "i4", "i8", "u1", "u2"]),
        array_shapes(max_dims=2, max_side=4),
    )
)
def test_the_byte_order_does_not_matter(x):
    (here,), back = as_tensors(x=x)
    for order in "<>":
        (t,), there = as_tensors(x=x.astype(x.dtype.newbyteorder(order)))
        assert t.dtype == here.dtype and np.array_equal(t.numpy(), here.numpy(), equal_nan=True)
        assert there(t).dtype == back(here).dtype == there(t).dtype.newbyteorder("=")


@pytest.mark.parametrize(
    "x, numbers",
    [
        ([Fraction(1, 3), Decimal("0.5")], [1 / 3, 0.5]),
        (np.array([Fraction(1, 3), 2, True], object), [1 / 3, 2, 1]),
        ([True, False], [1, 0]),
        (np.array([10**30, 1.5], object), [1e30, 1.5]),
        (np.array([1, 2.5], np.longdouble), [1, 2.5]),
        (torch.tensor([True, False]), [1, 0]),
        (np.array([2**63 + 2048], np.uint64), [2**63 + 2048]),
        (range(3), [0, 1, 2]),
        (np.ma.array([1.0, 2.0]), [1, 2]),
    ],
)
def test_what_is_a_number_is_taken_as_one(x, numbers):
    (t,), _ = as_tensors(x=x)
    assert t.dtype == torch.float64 and t.tolist() == numbers


@pytest.mark.parametrize(
    "wrong",
    [
        np.array(["1"], object),
        np.array([None, 1.0], object),
        [10**400],
        {1, 2},
        iter([1.0]),
        [Fraction(1, 2), "a"],
        np.array([1j], object),
        np.array([np.ones(2), 3], object),
        torch.eye(2).to_sparse(),
        torch.ones(2, device="meta"),
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_what_only_looks_like_numbers_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match="^y[.=]"):
        as_tensors(y=wrong)


def test_two_devices_are_refused():
    with pytest.raises(ValueError, match="device=.*'cpu', 'meta'.*one device"):
        as_tensors(x=torch.ones(2), y=torch.ones(2, device="meta"))


# ---- files


@pytest.mark.parametrize(
    "path, content, named",
    [
        (3, "x", "^path=3"),
        (None, "x", "^path="),
        ("x", 5, "^content='int'"),
        ("x", None, "^content="),
        ("x", ["a"], "^content="),
    ],
)
def test_what_is_no_file_is_not_written(tmp_path, monkeypatch, path, content, named):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=named + ".*: expected"):
        write_atomic(path, content)
    assert os.listdir() == []


def test_write_atomic(tmp_path):
    path = write_atomic(tmp_path / "a" / "b" / "c.txt", "hällo\n")
    assert path.read_bytes() == "hällo\n".encode() and path.stat().st_mode & 0o777 == 0o644
    assert write_atomic(str(path), b"\0\1").read_bytes() == b"\0\1" and os.listdir(path.parent) == ["c.txt"]


@pytest.mark.parametrize("call", ["replace", "fsync", "chmod"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_killed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call, error):
    path = write_atomic(tmp_path / "c.txt", "old")

    def killed(*_):
        raise error("killed")

    monkeypatch.setattr(os, call, killed)
    with pytest.raises(error):
        write_atomic(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["c.txt"]


def test_repo_root_is_found_from_below_and_from_elsewhere(tmp_path, monkeypatch):
    root = repo_root()
    assert (root / "settings.ini").is_file()
    monkeypatch.chdir(tmp_path)
    assert repo_root() == root  # by the file of the module
    (tmp_path / "nbs").mkdir()
    (tmp_path / "nbs" / "00_core.ipynb").touch()
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = another\n")
    assert repo_root() == root  # another project has notebooks, too
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = lla_course\n")
    assert repo_root() == tmp_path.resolve()  # the working directory comes first
    import lla_course.core

    monkeypatch.chdir("/")
    monkeypatch.setattr(lla_course.core, "__file__", "/nowhere/core.py")
    with pytest.raises(FileNotFoundError, match="clone of the repository"):
        repo_root()


# ---- signatures that `help` can read


def described(
    x,  # one line
    # two
    # lines
    *rest: int,
    late: str = "a",  # has a default
    bare=1,
) -> float:  # what comes
    "Say it."


def test_parameters_are_written_into_the_docstring_once():
    for _ in range(2):
        assert core.add_parameters(described) is described
    assert described.__doc__.splitlines() == [
        *("Say it.", "", "Parameters", "----------", "x : ", "    one line", "rest : int", "    two lines"),
        *("late : str, default 'a'", "    has a default", "bare : , default 1", "    "),
        *("", "Returns", "-------", "float", "    what comes"),
    ]


def test_what_has_no_source_is_left_alone():
    assert core.add_parameters(len) is len and core.add_parameters(dict) is dict
