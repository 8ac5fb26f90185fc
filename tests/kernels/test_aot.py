"Every kernel is compiled for GPUs that are not there: what the interpreter lets pass, a compiler may not."
import json, os, subprocess, sys

import pytest

from lla_course.core import repo_root
from lla_course.kernels import flash_lla_backward as backward, flash_lla_forward as forward
from lla_course.kernels.setup import HAS_TRITON

FLOATS = "top ridge kbar lse peak many used rhs inverse x residual u y mean e dridge cu ct un yn".split()
KERNELS = {"lla_mean_kernel": forward, "lla_matrix_kernel": forward, "lla_solve_kernel": forward, "lla_output_kernel": forward,
           "lla_bwd_rhs_kernel": backward, "lla_bwd_dq_kernel": backward, "lla_bwd_dkv_kernel": backward}
CASES = [(name, arch, dtype, D) for name in KERNELS for arch, dtype, D in ((80, "bf16", 64), (90, "bf16", 64), (90, "fp16", 128), (90, "fp32", 64))
         if not (name == "lla_matrix_kernel" and D > 64)]


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton")
@pytest.mark.parametrize("name, arch, dtype, D", CASES)
def test_it_compiles(name, arch, dtype, D):
    table = (backward.TILES_DKV if dtype != "fp32" else backward.TILES_DKV_FP32) if "dkv" in name else (forward.TILES if dtype != "fp32" else forward.TILES_FP32)
    BT, BS, warps, stages = table[D]
    types = {n: f"*{dtype}" for n in ("q", "k", "v", "g", "o", "dq", "dk", "dv", "ul", "yl")} | {n: "*fp32" for n in FLOATS}
    if "dkv" in name: types |= {n: f"*{dtype}" for n in ("u", "y")}
    types |= {n: "*i32" for n in ("counter", "steps")} | {n: "fp32" for n in ("scale", "scale2", "tol2", "floor")}
    constants = dict(CAUSAL=True, EVEN_D=True, UP=False, PREC="tf32x3" if dtype == "fp32" else "tf32", BT=BT, BS=BS, BD=D, SHARED=D <= 64, ROUNDS=forward.ROUNDS)
    spec = json.dumps(dict(types=types, constants=constants, options=dict(num_warps=warps, num_stages=stages)))
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(repo_root())}
    done = subprocess.run([sys.executable, str(repo_root()/"tests"/"kernels"/"aot.py"), KERNELS[name].__name__, name, str(arch), spec],
                          env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    kind, shared = done.stdout.split()
    assert int(shared) <= (163 if arch == 80 else 227) * 1024
    if arch == 90 and dtype != "fp32": assert kind == "wgmma"
