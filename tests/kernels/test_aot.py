"""Every kernel is compiled for GPUs that are not there: what the interpreter lets pass, a compiler may not.

`LLA_AOT=all pytest -s tests/kernels/test_aot.py` compiles all combinations and prints their memory."""

import inspect
import json
import os
import subprocess
import sys
from itertools import product

import pytest
import torch

from lla_course.core import repo_root
from lla_course.kernels import flash_lla_backward as backward
from lla_course.kernels import flash_lla_forward as forward
from lla_course.kernels import hopper_solve as hopper
from lla_course.kernels import hopper_walks as walks
from lla_course.kernels import lla_decode as decode
from lla_course.kernels.runtime import HAS_GLUON, HAS_TRITON, SMALLER, Gpu, fitting, gluon_refusal, refusal

DTYPES = dict(bf16=torch.bfloat16, fp16=torch.float16, fp32=torch.float32)
GPUS = {
    "80": Gpu((8, 0), 163 * 1024),
    "86": Gpu((8, 6), 99 * 1024),
    "89": Gpu((8, 9), 99 * 1024),
    "90": Gpu((9, 0), 227 * 1024),
    "gfx942": Gpu((9, 4), 64 * 1024, hip=True),
}
SWITCHES = (GPUS, (True, False), (True, False))  # GPU, causal, a head size that fills its tile


def rows(name):
    "The tables of a kernel without one of its own, in 16 bits and in 32."
    own = {BD: tile for (kernel, BD), tile in forward.OWN_TILES.items() if kernel == name}
    return forward.TILES | own, forward.TILES_FP32


TABLES = {
    forward: {f"lla_{name}_kernel": rows(name) for name in ("mean", "matrix", "solve", "output")}
    | {"lla_given_kernel": (forward.TILES_GIVEN, forward.TILES_GIVEN_FP32)},
    backward: {
        "lla_bwd_rhs_kernel": rows("rhs"),
        "lla_bwd_dq_kernel": rows("dq"),
        "lla_bwd_dkv_kernel": (backward.TILES_DKV, backward.TILES_DKV_FP32),
        "lla_given_dq_kernel": (backward.TILES_GIVEN_DQ, backward.TILES_GIVEN_DQ_FP32),
        "lla_given_dkv_kernel": (backward.TILES_GIVEN_DKV, backward.TILES_DKV_FP32),
    },
    decode: {
        "lla_decode_split_kernel": (decode.DECODE_TILES, decode.DECODE_TILES_FP32),
        "lla_decode_merge_kernel": (decode.MERGE_TILES, decode.MERGE_TILES),
    },
}
PAGES = {"lla_decode_split_kernel": (0, 16, 48)}  # tokens of a page of the cache
GIVEN = ("lla_given_kernel", "lla_given_dq_kernel", "lla_given_dkv_kernel")
VALUES = ("lla_output_kernel", "lla_bwd_rhs_kernel", "lla_bwd_dq_kernel", "lla_bwd_dkv_kernel", *GIVEN)
WIDE = {16: 40, 32: 8, 64: 128, 128: 100}  # head size of keys, padded -> of values
# AMD's compiler knows no tf32x3; a kernel that asks for it by name, and not for EXACT, is left out there
NAMED = {"lla_matrix_kernel", "lla_solve_kernel"} if '"tf32x3"' in inspect.getsource(forward) else set()


def job(kernel, table, BD, dtype, arch, causal, even, page=0, window=False, DV=0):
    "What `aot.py` is asked to compile; None where the kernel does not run."
    BV = max(16, 1 << (DV - 1).bit_length()) if DV else BD
    larger = max(BD, BV)
    tile = fitting(short(kernel), table[dtype == "fp32"][larger], larger, DTYPES[dtype], GPUS[arch])
    if tile is None or arch == "gfx942" and kernel in NAMED:
        return None
    constants = dict(
        CAUSAL=causal,
        WINDOW=window,
        EVEN_D=even,
        BD=BD,
        BV=BV,
        DV=DV,
        SHARED=BD <= 64,
        NEWTON_STEPS=forward.NEWTON_STEPS,
        LENGTHS=causal,
        RIDGE=causal,
        WIDE=not causal and not page,
        PAGE=page,
        HALF=dtype != "fp32",
        PIECES=16,
        GIVEN=(kernel in GIVEN) * (1 + (even or dtype == "fp32")),
        WHOLE=kernel in GIVEN and (even or dtype == "fp32"),
    )
    if kernel == "lla_decode_merge_kernel":
        (warps, constants["STAGES"]), stages = tile, 3
    elif kernel == "lla_decode_split_kernel":
        constants["BS"], warps, stages, _ = tile
        stages = 2 * stages - 1 if page else stages  # as `lla_decode_triton` does
    else:
        constants["BT"], constants["BS"], warps, stages = tile
    return dict(
        kernel=kernel.replace("given_dkv", "bwd_dkv"),  # one kernel, with and without a solution
        arch=arch,
        dtype=dtype,
        aligned=even,
        constants=constants,
        options=dict(num_warps=warps, num_stages=stages),
    )


def short(kernel):
    "The name in the table of smaller tiles: a kernel for given directions takes what its sister would."
    name = kernel.removeprefix("lla_").removeprefix("bwd_").removesuffix("_kernel")
    return "output" if name == "given" else name.removeprefix("given_")


def entries(module):
    "Every entry of every table: kernel, table, BD, bits."
    for kernel, table in TABLES[module].items():
        for BD, bits in product((16, 32, 64, 128), (16, 32)):
            if not (kernel == "lla_matrix_kernel" and BD > 64):
                yield kernel, table, BD, bits


def all_jobs(module):
    "Every entry on every GPU, causal and not, with head sizes that fill a tile and others."
    for kernel, table, BD, bits in entries(module):
        for dtype, arch, causal, even in product(("bf16", "fp16") if bits == 16 else ("fp32",), *SWITCHES):
            for page in PAGES.get(kernel, (0,)):
                yield job(kernel, table, BD, dtype, arch, causal, even, page)
            if module is not decode:
                for DV in (0, WIDE[BD]) if kernel in VALUES else (0,):
                    yield job(kernel, table, BD, dtype, arch, causal, even, window=True, DV=DV)


def some_jobs(module):
    """A covering choice: every entry once, with the switches in turn; where memory decides, on an A100 and a
    card with less; at BD = 64 in 16 bits, on an H100, decoding at BD = 128 too."""
    turns = list(product(*SWITCHES))
    for i, (kernel, table, BD, bits) in enumerate(entries(module)):
        dtype = "fp32" if bits == 32 else ("bf16", "fp16")[i % 2]
        yield job(kernel, table, BD, dtype, *turns[7 * i % len(turns)])
        for arch in ("80", "86") if (short(kernel), bits, BD) in SMALLER else ():
            yield job(kernel, table, BD, dtype, arch, True, True)
        if bits == 16 and BD in ((64, 128) if module is decode else (64,)):
            for page in PAGES.get(kernel, (0,)):
                yield job(kernel, table, BD, "bf16", "90", True, True, page)
        for arch in ("80", "86", "gfx942") if kernel in PAGES else ():
            yield job(kernel, table, BD, dtype, arch, True, i % 2 == 0, 16)
        if module is not decode:  # windows, and values of another size where the kernel reads values
            DV = WIDE[BD] if kernel in VALUES else 0
            yield job(kernel, table, BD, dtype, ("90", "86", "gfx942")[i % 3], True, i % 2 == 0, 0, True, DV)


def compiled(module, jobs):
    "Compile jobs in one process, those for AMD last; Triton keeps what it compiled in build/aot."
    here = repo_root()
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": str(here), "TRITON_CACHE_DIR": str(here / "build" / "aot")}
    done = subprocess.run(
        [sys.executable, str(here / "tests" / "kernels" / "aot.py"), module.__name__],
        input=json.dumps(jobs),
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton")
@pytest.mark.parametrize("module", TABLES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_every_tile_compiles_and_fits(module):
    chosen = (all_jobs if os.environ.get("LLA_AOT") == "all" else some_jobs)(module)
    jobs = sorted(filter(None, chosen), key=lambda j: GPUS[j["arch"]].hip)
    done, wrong = compiled(module, jobs), []
    assert len(done) == len(jobs)
    for j, found in zip(jobs, done):
        name = f"{j['kernel']} {j['arch']} {j['dtype']} {j['constants']} {j['options']}"
        limit = GPUS[j["arch"]].shared
        if os.environ.get("LLA_AOT"):
            print(name, found)
        large = j["constants"]["BD"] >= 64 and j["dtype"] != "fp32" and "merge" not in j["kernel"]
        if "error" in found:
            wrong.append(f"{name}: {found['error']}")
        elif found["shared"] > limit:
            wrong.append(f"{name}: {found['shared']} bytes of shared memory")
        elif j["arch"] == "90" and large and found["kind"] != "wgmma":
            wrong.append(f"{name}: no wgmma")
    assert wrong == []


@pytest.mark.slow
@pytest.mark.skipif(not HAS_GLUON, reason="needs a Triton with Gluon")
def test_the_solver_in_gluon_compiles_twice_to_a_multiprocessor():
    jobs = []
    for (BD, tile), causal, window in product(hopper.HOPPER_TILES.items(), (True, False), (False, True)):
        sizes = dict(zip(("BS", "SUB", "STAGES", "KEEP"), tile))
        sizes |= dict(BT=64, BD=BD, CAUSAL=causal, WINDOW=window, SHARED=BD <= 64 and causal)
        whole = dict(kernel="hopper_solve_kernel", arch="90", dtype="bf16" if causal else "fp16")
        jobs.append(whole | dict(aligned=causal, constants=sizes, options=dict(num_warps=4)))
    for made, found in zip(jobs, compiled(hopper, jobs), strict=True):
        assert found.get("kind") == "wgmma", (made, found)
        # two programs share 228 kB, and each takes one more for itself
        assert 2 * (found["shared"] + 1024) <= 228 * 1024, (made, found)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_GLUON, reason="needs a Triton with Gluon")
def test_the_walks_in_gluon_compile_twice_to_a_multiprocessor_or_more_often():
    jobs, names = [], [(*at, dtype) for at in walks.WALK_TILES for dtype in ("bf16", "fp16")]
    for name, BD, dtype in names:
        causal = dtype == "bf16"
        *_, told = walks._walk_plan(name, BD, DTYPES[dtype], causal, name == "mean" and BD == 64)
        told = dict(told)  # what is remembered stays as it is
        constants = {n: getattr(value, "value", value) for n, value in told.pop("META")._asdict().items()}
        whole = dict(kernel=f"hopper_{name}_kernel", arch="90", dtype=dtype, constants=constants)
        jobs.append(whole | dict(aligned=causal, options=told))
    for job, found in zip(jobs, compiled(walks, jobs), strict=True):
        assert found.get("kind") == "wgmma", (job, found)
        # of 65,536 registers; 128 threads a program
        programs = 65536 // (128 * job["options"].get("maxnreg", 255))
        assert programs >= 2 and programs * (found["shared"] + 1024) <= 228 * 1024, (job, found)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton")
def test_the_copy_of_keys_compiles():
    whole = dict(kernel="hopper_pad_kernel", arch="90", options=dict(num_warps=4))
    shapes = product(hopper.HOPPER_TILES.items(), ("bf16", "fp16"))
    jobs = [whole | dict(dtype=d, constants=dict(BS=t[0], BD=BD), aligned=BD > 16) for (BD, t), d in shapes]
    assert all("error" not in found for found in compiled(hopper, jobs))


@pytest.mark.parametrize(
    "gpu, dtype, reason",
    [
        ("90", "bf16", ""),
        ("90", "fp16", ""),
        ("90", "fp32", "16 bits"),
        ("80", "bf16", "Hopper"),
        ("gfx942", "bf16", "Hopper"),
    ],
)
def test_who_can_run_gluon(gpu, dtype, reason, monkeypatch):
    if HAS_GLUON:
        found = gluon_refusal(GPUS[gpu], DTYPES[dtype])
        assert reason in found and bool(found) == bool(reason)
        monkeypatch.setenv("LLA_COURSE_GLUON", "0")
    assert gluon_refusal(GPUS[gpu], DTYPES[dtype])
    assert hopper.solver_for(torch.zeros(1, 1, 16, dtype=DTYPES[dtype])) is forward.lla_solve


@pytest.mark.skipif(not HAS_GLUON, reason="this Triton has no Gluon")
@pytest.mark.parametrize("value", ["false", "off", "2", " 0"])
def test_a_switch_that_nobody_knows_is_named(value, monkeypatch):
    monkeypatch.setenv("LLA_COURSE_GLUON", value)
    with pytest.raises(ValueError, match=f"^LLA_COURSE_GLUON='{value}': expected 0"):
        gluon_refusal(GPUS["90"], DTYPES["bf16"])
    for known in ("1", ""):
        monkeypatch.setenv("LLA_COURSE_GLUON", known)
        assert not gluon_refusal(GPUS["90"], DTYPES["bf16"])


@pytest.mark.parametrize(
    "gpu, dtype, D, needs_grad, reason",
    [
        ("90", "bf16", 128, True, ""),
        ("90", "fp32", 128, True, ""),
        ("80", "bf16", 128, True, ""),
        ("80", "fp32", 128, True, ""),
        ("86", "bf16", 128, True, ""),
        ("89", "fp16", 65, True, ""),
        ("86", "fp32", 64, True, ""),
        ("89", "fp32", 65, False, ""),
        ("89", "fp32", 65, True, "shared memory"),
        ("86", "fp32", 128, True, "shared memory"),
        ("90", "bf16", 129, False, "D=129"),
        ("gfx942", "fp32", 128, True, ""),
        ("gfx942", "bf16", 256, False, "D=256"),
    ],
)
def test_who_can_run_what(gpu, dtype, D, needs_grad, reason):
    found = refusal(GPUS[gpu], DTYPES[dtype], D, needs_grad)
    assert reason in found and bool(found) == bool(reason)


def test_old_and_small_and_missing_gpus_are_refused():
    assert "7.5" in refusal(Gpu((7, 5), 64 * 1024), torch.float16, 64)
    assert "capability 0.0" in refusal(Gpu((0, 0), 0), torch.float16, 64)
    assert "98 kB" in refusal(Gpu((8, 6), 98 * 1024), torch.float16, 16)
    for gpu in (None, *GPUS.values()):
        for dtype in (torch.float64, torch.int32):
            assert str(dtype) in refusal(gpu, dtype, 16)
    assert refusal(None, torch.float32, 128, True) == ""  # the interpreter has no limits


def test_a_smaller_tile_replaces_one_that_does_not_fit():
    usual = (64, 32, 4, 3)
    for (kernel, bits, BD), (kB, small, least) in SMALLER.items():
        dtype = torch.float32 if bits == 32 else torch.bfloat16
        gpus = [Gpu((9, 0), 1024 * size) for size in (kB, kB - 1, least, least - 1)]
        found = [fitting(kernel, usual, BD, dtype, gpu) for gpu in gpus]
        assert found == [usual, small, small, None] and least >= 99
    assert fitting("dq", usual, 128, torch.bfloat16, None) == usual  # the interpreter
    assert fitting("mean", usual, 128, torch.float32, GPUS["86"]) == usual  # needs no more than all have
