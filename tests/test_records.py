"""Records: a result comes back whole or is refused by name; a file has a line a list; code that has changed
is shown; parts of a long run are read back."""

import hashlib
import io
import json
import os
import re
import warnings
import zipfile
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lla_course import records
from lla_course.core import device_name
from lla_course.records import (
    Record,
    Run,
    StaleRecord,
    check_replacement,
    checkpoint_folder,
    checkpointed,
    code_hash,
    content_hash,
    load,
    origins,
    records_of,
    results_name,
    stored_records,
)

# ---- records

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_the_hash_belongs_to_the_content(a, b):
    text = json.dumps(a, sort_keys=True, separators=(",", ":"))
    assert (
        content_hash(a)
        == hashlib.sha256(text.encode()).hexdigest()
        == content_hash(json.loads(json.dumps(a)))
    )
    assert (content_hash(a) == content_hash(b)) == (
        text == json.dumps(b, sort_keys=True, separators=(",", ":"))
    )


def deep(depth):
    inner = {}
    for _ in range(depth):
        inner = {"a": inner}
    return inner


@pytest.mark.parametrize(
    "wrong",
    [{1, 2}, object(), float("nan"), [float("inf")], {1: 2, "1": 3}, {(1, 2): 3}, b"ab", 1j, deep(100_000)],
    ids=lambda w: type(w).__name__,
)
def test_what_json_cannot_hold_has_no_hash(wrong):
    with pytest.raises(ValueError, match="^content=.*: expected"):
        content_hash(wrong)


@dataclass(frozen=True)
class Settings:
    n: int = 3
    widths: tuple = (1, 0.5)


ERROR = {"error": 0.25}


@pytest.fixture
def save(tmp_path):
    def save(name="chapter/cell", result=ERROR, config=Settings(), arrays=None, device="cpu", **more):
        return records.save(
            name,
            Run(result, arrays, device) if isinstance(result, dict) else result,
            **dict(config=config, seed=1, seconds=2.0, folder=tmp_path) | more,
        )

    return save


def test_a_record_comes_back_whole(save, tmp_path):
    arrays = dict(w=np.float32([[1, 2]]), b=torch.ones(2, dtype=torch.float64, requires_grad=True))
    result = {
        "t": torch.arange(2),
        "a": np.float32([0.5]),
        "n": np.int64(3),
        "in": {"x": (1, 2)},
        "dtype": torch.float32,
        "none": None,
    }
    path = save(result=result, arrays=arrays, preset="fast")
    assert path == tmp_path / "chapter" / "cell.json"
    record = load("chapter/cell", Settings(), folder=str(tmp_path))
    assert isinstance(record, Record) and record.result == {
        "t": [0, 1],
        "a": [0.5],
        "n": 3,
        "in": {"x": [1, 2]},
        "dtype": "torch.float32",
        "none": None,
    }
    assert record.config == {"n": 3, "widths": [1, 0.5]} and record.name == "chapter/cell"
    p = record.provenance
    assert (p["preset"], p["seed"], p["seconds"], p["device"]) == ("fast", 1, 2.0, device_name("cpu")) and {
        "python",
        "torch",
        "numpy",
    } <= set(p["versions"])
    assert (
        re.fullmatch(r"\d{4}-\d\d-\d\d", p["date"])
        and p["device"] in record.label
        and p["date"] in record.label
    )
    assert (
        record.arrays["w"].dtype == np.float32
        and record.arrays["w"].tolist() == [[1, 2]]
        and record.arrays["b"].tolist() == [1, 1]
    )


def test_nothing_stored_is_none(tmp_path, save):
    assert (
        load("chapter/cell", folder=tmp_path) is None
        and load("chapter/cell", Settings(), folder=tmp_path / "no") is None
    )
    save()
    assert load("chapter/other", folder=tmp_path) is None


def test_the_default_folder_is_that_of_the_checkout(tmp_path, monkeypatch):
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = lla_course\n")
    (tmp_path / "nbs").mkdir()
    (tmp_path / "nbs" / "00_core.ipynb").touch()
    monkeypatch.chdir(tmp_path)
    assert (
        records.save("a/b", {}, config={}, seed=0, seconds=0)
        == tmp_path.resolve() / "nbs" / "results" / "a" / "b.json"
    )
    assert load("a/b", {}).result == {}


def test_a_file_has_a_line_for_each_list_and_each_entry(save, tmp_path):
    curve = {"x": list(range(1000)), "rows": [[1.5, 2], [3]], "points": [{"b": 1, "a": None}], "none": {}}
    text = save(result={"curve": curve, "letters": "λ\n"}).read_text(encoding="ascii")
    assert json.loads(text)["result"] == {"curve": curve, "letters": "λ\n"}
    assert text == text.strip() + "\n" and "  \"rows\": [[1.5,2],[3]],\n" in text
    assert '  "points": [{"a":null,"b":1}],\n' in text and '  "none": {},\n' in text
    assert [line[:12] for line in text.splitlines() if len(line) > 100] == ['   "x": [0,1']


@dataclass(frozen=True)
class Later(Settings):
    depth: int = 2


def test_a_setting_that_came_later_stood_at_its_default(save, tmp_path):
    save()
    assert load("chapter/cell", Later(), folder=tmp_path).result == {"error": 0.25}
    with pytest.raises(StaleRecord, match=r"other settings \(depth\)"):
        load("chapter/cell", Later(depth=3), folder=tmp_path)
    save(config=Later(depth=3))
    with pytest.raises(StaleRecord, match=r"other settings \(depth\)"):
        load("chapter/cell", Later(), folder=tmp_path)
    with pytest.raises(StaleRecord, match=r"other settings \(depth\)"):
        load("chapter/cell", Settings(), folder=tmp_path)


@pytest.mark.parametrize(
    "other", [Settings(n=4), dict(n=4, widths=[1, 0.5]), dict(n=3), dict(n=3, widths=[1, 0.5], extra=1), {}]
)
def test_other_settings_are_refused_by_name(save, tmp_path, other):
    save()
    name = (
        "n"
        if getattr(other, "n", 0) == 4 or dict == type(other) and other.get("n") != 3
        else "extra"
        if "extra" in other
        else "widths"
    )
    with pytest.raises(
        StaleRecord,
        match=rf"other settings \([^)]*\b{name}\b.*lla-course record chapter --preset full --cells cell",
    ):
        load("chapter/cell", other, folder=tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        ("0.25", "0.24"),
        ('"seed": 1', '"seed": 2'),
        ('"seconds": 2.0', '"seconds": 1.0'),
        ('"n": 3', '"n": 4'),
        ('"chapter/cell"', '"chapter/sell"'),
        ('"error"', '"terror"'),
        ("CPU (", "H200 ("),
        ("full", "fast"),
    ],
)
def test_an_altered_record_is_refused(save, tmp_path, edit):
    path = save()
    assert edit[0] in path.read_text()
    path.write_text(path.read_text().replace(*edit))
    with pytest.raises(StaleRecord, match="cell.json was altered.*lla-course record chapter"):
        load("chapter/cell", folder=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "5",
        "{}",
        '{"result": 1}',
        "[]",
        '{"hash": "x", "arrays": 5}',
        '{"hash": "x", "result": NaN}',
        b"\xff\xfe",
    ],
)
def test_an_unreadable_record_is_stale_and_says_how_to_record_it_anew(save, tmp_path, content):
    path = save()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StaleRecord, match="lla-course record chapter --preset full --cells cell"):
        load("chapter/cell", folder=tmp_path)


def test_a_record_under_another_name_is_refused(save, tmp_path):
    path = save()
    path.rename(path.with_name("twin.json"))
    with pytest.raises(StaleRecord):
        load("chapter/twin", folder=tmp_path)


def test_altered_and_missing_arrays_are_refused(save, tmp_path):
    path = save(arrays={"w": np.arange(5)})
    npz = path.parent / json.loads(path.read_text())["arrays"]
    content = bytearray(npz.read_bytes())
    for wrong in (content[:-1], bytes([content[0] ^ 1]) + content[1:], b""):
        npz.write_bytes(wrong)
        with pytest.raises(StaleRecord, match="lla-course record chapter"):
            load("chapter/cell", folder=tmp_path)
    npz.write_bytes(content)
    assert load("chapter/cell", folder=tmp_path).arrays["w"].tolist() == [0, 1, 2, 3, 4]
    npz.unlink()
    with pytest.raises(StaleRecord):
        load("chapter/cell", folder=tmp_path)


def files(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_new_arrays_replace_old_ones(save, tmp_path):
    for n in (2, 3):
        save(arrays={"w": np.arange(n)})
        assert len(files(tmp_path)) == 2
    assert len(load("chapter/cell", folder=tmp_path).arrays["w"]) == 3
    save()
    assert len(files(tmp_path)) == 1


def test_arrays_of_a_neighbour_stay(save, tmp_path):
    "The names of cells may hold dots: h0 and h0.1 are two records."
    save("c/h0.1", arrays={"w": np.ones(2)})
    save("c/h0", arrays={"w": np.ones(3)})
    save("c/h0", arrays={"w": np.ones(4)})
    assert (
        len(load("c/h0.1", folder=tmp_path).arrays["w"]) == 2
        and len(load("c/h0", folder=tmp_path).arrays["w"]) == 4
    )


@pytest.mark.parametrize(
    "wrong",
    [
        dict(result={"v": float("nan")}),
        dict(result={"v": np.array([1, np.inf])}),
        dict(config={"h": float("inf")}),
        dict(arrays={"w": np.array([None])}),
        dict(arrays={"w": [[1], [1, 2]]}),
        dict(arrays={"w": np.array([np.nan])}),
        dict(seconds=float("nan")),
    ],
)
@pytest.mark.parametrize("with_arrays", [False, True])
def test_what_cannot_be_stored_changes_no_file(save, tmp_path, wrong, with_arrays):
    save(arrays={"w": np.ones(2)})
    before = files(tmp_path)
    if with_arrays:
        wrong = {"arrays": {"w": np.ones(3)}} | wrong
    with pytest.raises(ValueError):
        save(**wrong)
    assert files(tmp_path) == before


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_killed_save_leaves_the_old_record_readable(save, tmp_path, monkeypatch, killed_at):
    """Two files are renamed: the arrays, then the record that names them.

    Killed at either, the old pair still stands."""
    save(result={"v": "old"}, arrays={"w": np.ones(2)})
    replace, calls = os.replace, []

    def killed(*args):
        calls.append(args)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        replace(*args)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(result={"v": "new"}, arrays={"w": np.ones(3)})
    record = load("chapter/cell", Settings(), folder=tmp_path)
    assert record.result == {"v": "old"} and len(record.arrays["w"]) == 2
    assert not [name for name in files(tmp_path) if "/." in name]


# ---- records: names, bodies, parts

BAD_NAMES = [
    "../x",
    "..",
    ".",
    "",
    "/etc/x",
    "a/../b",
    "a//b",
    "a/",
    "/a",
    "a/./b",
    "a\\b",
    "C:/x",
    "a/b\0",
    "a\nb",
    ".hidden",
    "a/ /b",
    None,
    5,
    ["a"],
    b"a",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_a_name_cannot_leave_the_folder(save, tmp_path, name):
    inside = tmp_path / "deep" / "inside"
    with checkpoint_folder(inside):
        for door in (
            lambda: save(name, folder=inside),
            lambda: load(name, folder=inside),
            lambda: check_replacement(name, preset="fast", folder=inside),
            lambda: checkpointed(name, dict),
        ):
            with pytest.raises(ValueError, match="^name=.*: expected") as error:
                door()
            assert not isinstance(error.value, StaleRecord)
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    "wrong, named",
    [
        (dict(result=[1]), "result='list'"),
        (dict(result=None), "result="),
        (dict(result={1: 2, "1": 3}), r"keys=\[1, '1'\]: expected keys that differ as texts"),
        (dict(result={"a": {None: 1, "None": 2}}), "keys="),
        (dict(result={"a": {1, 2}}), "result="),
        (dict(result={"a": b"x"}), "result="),
        (dict(result={"a": 1j}), "result="),
        (dict(result=deep(100_000)), "result=.*nested"),
        (dict(result={"a": np.ma.array([1, 2], mask=[0, 1])}), r"array\[1\]=masked"),
        (dict(config=None), "config="),
        (dict(config=Settings), "config="),
        (dict(config=[1]), "config="),
        (dict(preset="none"), "preset='none'"),
        (dict(preset=None), "preset="),
        (dict(preset="Full"), "preset="),
        (dict(seed=1.5), "seed=1.5"),
        (dict(seed="1"), "seed="),
        (dict(seed=True), "seed="),
        (dict(seconds="2"), "seconds='2'"),
        (dict(seconds=-1), "seconds=-1"),
        (dict(seconds=float("inf")), "seconds="),
        (dict(device="mps"), "device='mps'"),
        (dict(device=3), "device=3"),
        (dict(replace="yes"), "replace='yes'"),
        (dict(folder=5), "folder=5"),
        (dict(arrays=[1]), "arrays='list'"),
        (dict(arrays={"w": ["a"]}), r"arrays\[w\].dtype"),
        (dict(arrays={"w": np.array(["2026"], "M8[D]")}), r"arrays\[w\].dtype"),
        (dict(arrays={"w": np.array([complex(0, float("nan"))])}), r"arrays\[w\]="),
        (dict(arrays={"file": [1.0]}), "name='file'"),
        (dict(arrays={5: [1.0]}), "name=5"),
        (dict(arrays={"../w": [1.0]}), "name="),
        (dict(arrays={"w": np.ma.array([1.0, 2.0], mask=[0, 1])}), r"arrays\[w\]\[1\]=masked"),
        (dict(arrays={"w": torch.eye(2).to_sparse()}), r"arrays\[w\]="),
        (dict(arrays={"w": np.zeros(2**23 + 1)}), "arrays=.*at most"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(save, tmp_path, wrong, named):
    save(arrays={"w": np.ones(2)})
    before = files(tmp_path)
    with pytest.raises(ValueError, match=f"^({named})") as error:
        save(**wrong)
    assert ": expected" in str(error.value) and files(tmp_path) == before


def test_numbers_of_many_kinds_come_back(save, tmp_path):
    arrays = dict(
        half=torch.ones(2, dtype=torch.bfloat16),
        c=np.array([1 + 2j]),
        i=np.array([3], ">i4"),
        b=[True, False],
        n=7,
    )
    save(arrays=arrays, result={"a": {1: 2, 2: 3}, "b": np.bool_(True)})
    record = load("chapter/cell", folder=tmp_path)
    assert {n: a.tolist() for n, a in record.arrays.items()} == dict(
        half=[1, 1], c=[1 + 2j], i=[3], b=[True, False], n=7
    )
    assert record.result == {"a": {"1": 2, "2": 3}, "b": True}


def signed(body):
    return json.dumps(body | {"hash": content_hash(body)})


def spoiled(path, **changes):
    "The record with changes and a hash that fits; None removes an entry; provenance_x is in the provenance."
    body = {k: v for k, v in json.loads(path.read_text()).items() if k != "hash"}
    for key, value in changes.items():
        place = body["provenance"] if key.startswith("provenance_") else body
        place[key.removeprefix("provenance_")] = value
        if value is None:
            del place[key.removeprefix("provenance_")]
    path.write_text(signed(body))


@pytest.mark.parametrize(
    "changes",
    [
        dict(result=None),
        dict(config=None),
        dict(provenance=None),
        dict(name=None),
        dict(result=[1]),
        dict(result="x"),
        dict(config=[]),
        dict(config=5),
        dict(provenance=[]),
        dict(provenance="x"),
        dict(name=5),
        dict(name="other/cell"),
        *(
            {f"provenance_{key}": value}
            for key, value in (
                ("preset", None),
                ("preset", 1),
                ("device", None),
                ("device", 5),
                ("date", None),
                ("date", 2026),
                ("seconds", None),
                ("seconds", "1"),
                ("seconds", -1),
                ("seed", None),
                ("seed", 1.5),
                ("versions", None),
                ("versions", "1"),
            )
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("config", [None, Settings(), {}])
def test_a_record_whose_hash_fits_and_whose_body_is_wrong_is_stale(save, tmp_path, changes, config):
    path = save(arrays={"w": np.ones(2)})
    spoiled(path, **changes)
    with pytest.raises(StaleRecord) as error:
        load("chapter/cell", config, folder=tmp_path)
    assert (
        str(path) in str(error.value)
        and "\n" not in str(error.value)
        and "lla-course record chapter" in str(error.value)
    )


def packed(**members):
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(f"{name}.npy", content)
        return file.getvalue()


def header(shape, dtype="<f8", magic=b"\x93NUMPY\x01\x00"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return magic + len(text).to_bytes(2, "little") + text.encode()


NPZ = {
    "no zip": b"hello",
    "empty": b"",
    "an npy": header((1,)) + bytes(8),
    "claims 10^13": packed(w=header((10**13,)) + bytes(8)),
    "claims 10^10": packed(w=header((10**10,)) + bytes(8)),
    "bomb": packed(w=header((9 * 2**20,)) + bytes(72 * 2**20)),
    "pickle": packed(w=header((1,), "|O") + b"cos\nsystem\n(S'true'\ntR."),
    "text": packed(w=header((1,), "<U1") + bytes(4)),
    "no array": packed(w=b"abc"),
    "cut": packed(w=header((5,)) + bytes(8)),
}


@pytest.mark.parametrize("content", NPZ.values(), ids=NPZ)
def test_arrays_whose_hash_fits_and_whose_content_is_wrong_are_stale(save, tmp_path, content):
    path = save()
    name = f"cell.{hashlib.sha256(content).hexdigest()[:12]}.npz"
    (path.parent / name).write_bytes(content)
    spoiled(path, arrays=name)
    with pytest.raises(StaleRecord, match=re.escape(str(path))) as error:
        load("chapter/cell", Settings(), folder=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "../other/a.{}.npz",
        "{}.npz",
        "cell.{}.npy",
        "/cell.{}.npz",
        "sell.{}.npz",
        5,
        ["cell"],
        "",
        "cell.{}.npz\n",
    ],
)
def test_the_arrays_of_a_record_stand_beside_it(save, tmp_path, name):
    path = save()
    content = packed(w=header((1,)) + bytes(8))
    digest = hashlib.sha256(content).hexdigest()[:12]
    named = name.format(digest) if isinstance(name, str) else name
    for place in (path.parent, tmp_path / "other", tmp_path):
        place.mkdir(exist_ok=True)
        for stem in ("a", "cell", "sell"):
            (place / f"{stem}.{digest}.npz").write_bytes(content)
    spoiled(path, arrays=named)
    with pytest.raises(StaleRecord):
        load("chapter/cell", folder=tmp_path)
    spoiled(path, arrays=f"cell.{digest}.npz")
    assert load("chapter/cell", folder=tmp_path).arrays["w"].tolist() == [0]


@pytest.mark.parametrize(
    "content",
    ["[" * 200_000, '{"a":' * 200_000, '{"hash": "x", "a": ' + "9" * 5000 + "}", "\ud800"],
    ids=["lists", "dictionaries", "digits", "surrogate"],
)
def test_json_that_is_too_deep_is_stale(save, tmp_path, content):
    path = save()
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(StaleRecord, match=re.escape(str(path))):
        load("chapter/cell", Settings(), folder=tmp_path)


@pytest.mark.parametrize("config", [5, "x", [1], Settings])
def test_settings_that_are_none_are_refused(save, tmp_path, config):
    save()
    with pytest.raises(ValueError, match="^config=.*: expected"):
        load("chapter/cell", config, folder=tmp_path)


# ---- the code of a record


def library(folder, monkeypatch, **sources):
    "A library of a few modules in the place of ours."
    for name, source in sources.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# AUTOGENERATED! DO NOT EDIT! File to edit: ../nbs/{name}.ipynb.\n{source}\n")
    monkeypatch.setattr(records, "package_folder", lambda: folder / "lla_course")
    records._makers.cache_clear()


@pytest.fixture
def toy_library(tmp_path, monkeypatch):
    folder = tmp_path / "library"
    library(
        folder,
        monkeypatch,
        lla_course__records="stores = 1",
        lla_course__core="x = 1",
        lla_course__room__first="from lla_course.core import x\nfrom lla_course.records import stores",
        lla_course__room__second="def f():\n    from . import first\n    import json",
        lla_course__room__third="import lla_course.kernels.fast as fast",
        kernels__fast="y = 2",
    )
    yield folder
    records._makers.cache_clear()


def toy_module(folder, name):
    module = ModuleType(f"lla_course.room.{name}")
    module.__file__ = str(folder / "lla_course" / "room" / f"{name}.py")
    return module


def edit(folder, name, *pairs, newline=None):
    path = folder / f"{name}.py"
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    before = path.stat().st_mtime_ns
    path.write_text(text, newline=newline)
    os.utime(path, ns=(before + 1, before + 1))


@pytest.mark.parametrize(
    "module, file, touched",
    [
        ("first", "lla_course/room/first", True),
        ("first", "lla_course/core", True),
        ("second", "lla_course/core", True),  # by way of the first, which a function imports
        ("third", "kernels/fast", True),  # behind no link
        ("first", "lla_course/room/second", False),
        ("third", "lla_course/core", False),
        ("first", "lla_course/records", False),  # it stores numbers and makes none
    ],
)
def test_the_hash_of_the_code_covers_what_a_module_imports(toy_library, module, file, touched):
    before = code_hash(toy_module(toy_library, module))
    edit(toy_library, file, ("\n", "\n\n  # a comment\n"))
    edit(toy_library, file, ("\n", "\n"), newline="\r\n")
    assert code_hash(toy_module(toy_library, module)) == before and re.fullmatch("[0-9a-f]{64}", before)
    with open(toy_library / f"{file}.py", "a") as end:
        end.write("more = 1\n")
    assert (code_hash(toy_module(toy_library, module)) != before) == touched


def test_a_record_of_other_code_is_shown_and_not_refused(save, toy_library, tmp_path):
    name = "lla_course__room__first/a"
    assert results_name(toy_module(toy_library, "first")) == name.partition("/")[0]
    save(name)
    read = lambda: load(name, Settings(), folder=tmp_path)
    assert read().code_state == "unknown" and "changed" not in read().label
    save(name, module=toy_module(toy_library, "first"))
    assert read().code_state == "current" and "changed" not in read().label
    edit(toy_library, "lla_course/core", ("x = 1", "x = 2"))
    assert read().code_state == "changed" and read().label.endswith(", by code that has changed since")
    edit(toy_library, "lla_course/core", ("x = 2", "x ="))
    assert read().code_state == "unknown"  # it cannot be read
    save("nobody/a", module=toy_module(toy_library, "third"))
    assert load("nobody/a", folder=tmp_path).code_state == "unknown"
    save("nobody/b", module=ModuleType("without_a_file"))
    assert "code" not in load("nobody/b", folder=tmp_path).provenance
    with pytest.raises(ValueError, match="^module='str': expected a module"):
        save("nobody/c", module="regression.kernel")


def test_todays_code_has_a_hash():
    "That of flash_lla covers the kernels, that of the records' own room nothing but core."
    import lla_course.attention.flash as flash

    files = records.library_files()
    assert files["lla_course.kernels.runtime"].is_file() and "lla_course.attention.flash" in files
    assert code_hash(flash) == code_hash(flash) != code_hash(records)
    assert "28_flash_lla" in records._makers()


def test_all_that_is_stored_is_found(save, tmp_path):
    assert stored_records(folder=tmp_path) == {} == stored_records("none", folder=tmp_path)
    for name in "b/x", "b/h0.1", "a/y":
        save(name, arrays={"w": [1.0]})
    damaged = save("a/z")
    damaged.write_text("{")
    found = stored_records(folder=tmp_path)
    assert list(found) == ["a/y", "a/z", "b/h0.1", "b/x"] and isinstance(found["a/z"], StaleRecord)
    assert found["b/h0.1"].arrays["w"].tolist() == [1]
    assert list(stored_records("b", folder=tmp_path)) == ["b/h0.1", "b/x"]
    with pytest.raises(ValueError, match="^name='../b'"):
        stored_records("../b", folder=tmp_path)


def test_the_records_of_a_chapter_and_where_they_were_made(save, tmp_path):
    assert records_of("22b", folder=tmp_path) == {} == records_of("none", folder=tmp_path)
    for name in "22b_steps/x", "22b_steps/h0.1", "22_solver/y":
        save(name)
    found = records_of("22b", folder=tmp_path)
    assert list(found) == ["h0.1", "x"] and list(records_of("22", folder=tmp_path)) == ["y"]
    made = found["x"].provenance
    (row,) = origins("22b", found, by=("device", "torch", "no such package"))
    assert row["cells"] == 2 and row["device"] == made["device"] and row["no such package"] == ""
    assert row["torch"] == made["versions"]["torch"] and origins("22b", {}) == []
    found["x"].provenance["device"] = "another"
    assert [r["cells"] for r in origins("22b", found)] == [1, 1]
    save("22_solver/z").write_text("{")
    with pytest.raises(StaleRecord):
        records_of("22", folder=tmp_path)


def on(monkeypatch, device):
    monkeypatch.setattr(records, "device_name", lambda _="cpu": device)


def test_a_record_is_replaced_by_its_like_only(save, tmp_path, monkeypatch):
    kinds = ["CPU (x86_64, 2 threads)", "CPU (arm64, 8 threads)", "NVIDIA H200", "NVIDIA A100"]
    for before in ("fast", "full"):
        for after in ("fast", "full"):
            for here in kinds:
                for there in kinds:
                    on(monkeypatch, here)
                    save(preset=before, result={"v": 1}, replace=True)
                    on(monkeypatch, there)
                    kept = files(tmp_path)
                    alike = before == after and (
                        before == "fast" or here == there or {here, there} == set(kinds[:2])
                    )
                    if alike:
                        save(preset=after, result={"v": 2})
                    else:
                        with pytest.raises(
                            FileExistsError,
                            match=rf"chapter/cell\.json.*{before}.*{re.escape(here)}.*--replace",
                        ):
                            save(preset=after, arrays={"w": [1.0]})
                        assert files(tmp_path) == kept
                        save(preset=after, result={"v": 2}, replace=True)
                    assert load("chapter/cell", folder=tmp_path).result == {"v": 2}


def test_it_can_be_asked_before_anything_is_computed(save, tmp_path, monkeypatch):
    check_replacement("chapter/cell", preset="fast", folder=tmp_path)  # nothing there
    on(monkeypatch, "NVIDIA H200")
    path = save()
    check_replacement("chapter/cell", preset="full", folder=tmp_path)  # the device is not known yet
    check_replacement("chapter/cell", preset="full", device="cuda", folder=tmp_path)
    on(monkeypatch, "CPU (x86_64, 2 threads)")
    for more in (dict(preset="fast"), dict(preset="full", device="cpu")):
        with pytest.raises(FileExistsError):
            check_replacement("chapter/cell", **more, folder=tmp_path)
    path.write_text(path.read_text().replace("0.25", "0.26"))  # altered, and still what it says it is
    with pytest.raises(FileExistsError):
        save(preset="fast")
    for content in (
        "",
        "{",
        "null",
        "{}",
        '{"provenance": 5}',
        '{"provenance": {"preset": "none", "device": 5}}',
        "[" * 100_000,
    ):
        path.write_text(content)
        save(preset="fast")  # no record at all


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"5",
        b"[]",
        b"{}",
        b'{"part": 5, "seconds": 1}',
        b'{"part": {}}',
        b'{"part": {}, "seconds": "1"}',
        b'{"part": {}, "seconds": -1}',
        b'{"part": {}, "seconds": NaN}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_damaged_part_is_told_and_computed_anew(tmp_path, content):
    (tmp_path / "one.json").write_bytes(content)
    with checkpoint_folder(tmp_path) as kept:
        with pytest.warns(UserWarning, match=re.escape(str(tmp_path / "one.json"))):
            assert checkpointed("one", lambda: {"v": (1, 2)}) == {"v": [1, 2]}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert checkpointed("one", lambda: 1 / 0) == {"v": [1, 2]}
        assert kept["seconds"] >= 0 and os.listdir(tmp_path) == ["one.json"]


def test_parts_are_read_back_and_outside_a_recording_just_computed(tmp_path):
    assert checkpointed("one", lambda: {"v": 1}) == {"v": 1}
    with checkpoint_folder(tmp_path / "parts"):
        assert checkpointed("one", lambda: {"v": float("inf")}) == {"v": float("inf")}
    with checkpoint_folder(str(tmp_path / "parts")) as kept:
        assert checkpointed("one", lambda: 1 / 0) == {"v": float("inf")} and kept["seconds"] > 0
    with checkpoint_folder(tmp_path / "parts"):
        for wrong, named in (
            (dict(name="two", make=5), "make=5"),
            (dict(name="two", make=lambda: [1]), "part two='list'"),
            (dict(name="a/b", make=dict), "name='a/b'"),
        ):
            with pytest.raises(ValueError, match=named):
                checkpointed(**wrong)
    with pytest.raises(ValueError, match="^folder=None"), checkpoint_folder(None):
        pass
