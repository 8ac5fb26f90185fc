"""Compile kernels for GPUs that are not there, in a process without TRITON_INTERPRET.

`python aot.py MODULE` reads a JSON list of jobs from stdin and prints one JSON line for each: the kind of
matrix instruction and the shared memory, or an error. A job has kernel, arch ("90", "gfx942"), dtype,
constants (name -> value), options, and aligned: whether sizes and strides divide by 16."""

import importlib
import inspect
import json
import re
import sys

# in the dtype of the inputs
HALF = "q k v g o dq dk dv u_lo y_lo hi_u lo_u hi_y lo_y g_unit padded".split()  # u and du too, if whole
FLOAT = (
    "lengths2 ridge kbar lse lse2 row_max n_eff ridge_eff rhs inverse x residual u y mean e dridge "
    "cu ct un yn means moments vbar cbar du top gain"
).split()
NUMBER = "scale scale2 tol2 floor flat".split()


def layout(kernel):
    "Argument -> the names of its entries, as the comment beside it lists them: `keys,  # (k, sk_n, sk_s)`."
    source = inspect.getsource(getattr(kernel, "fn", kernel))
    listed = dict(re.findall(r"^    (\w+),  # \(([\w, ]+)\)", source, re.M))
    return {name: listed[name].split(", ") if name in listed else None for name in kernel.arg_names}


def meta_of(module):
    "The class of META in the kernels of a module."
    for name in ("DecodeMeta", "HopperMeta", "WalkMeta"):
        if hasattr(module, name):
            return getattr(module, name)
    return importlib.import_module("lla_course.kernels.flash_lla_forward").Meta


def types_of(names, dtype, whole=False):
    "The Triton type of each name; what is not known is a whole number. A whole u has the dtype of the keys."
    known = {n: f"*{dtype}" for n in HALF} | {n: "*fp32" for n in FLOAT} | {n: "fp32" for n in NUMBER}
    if whole:
        known |= {"u": f"*{dtype}", "du": f"*{dtype}"}
    if "u_lo" in names:
        known |= {"u": f"*{dtype}", "y": f"*{dtype}"}  # the key sweep takes u and y in two parts
    known |= {n: "*i32" for n in ("counter", "steps", "lengths", "table")}
    return {n: known.get(n, "i32") for n in names}


def leaves(module, kernel):
    "Path -> name of everything that a kernel takes, tuples taken apart; META by the fields of its class."
    found = {}
    for i, (argument, names) in enumerate(layout(kernel).items()):
        if argument == "META":
            names = meta_of(module)._fields
        if names is None:
            found[(i,)] = argument
        else:
            found |= {(i, j): name for j, name in enumerate(names)}
    return found


def signature_of(module, kernel, kinds):
    "The signature as Triton wants it: argument -> type, or a tuple of types."
    signature = {}
    for i, argument in enumerate(kernel.arg_names):
        parts = [kind for path, kind in kinds.items() if path[0] == i]
        if (i,) in kinds:
            signature[argument] = parts[0]
        elif argument == "META":
            signature[argument] = meta_of(module)(*parts)
        else:
            signature[argument] = tuple(parts)
    return signature


def descriptors(module, dtype, constants):
    "The types of what the copy engine is told of tensors."
    BS, BD = constants["BS"], constants["BD"]
    if "SUB" in constants:  # of the solver: a copy takes a chunk of tiles, under a window one
        BS *= 1 if constants["WINDOW"] else constants["SUB"]
        return dict(desc=f"tensordesc<{dtype}[{BS}, {BD}],{module.hopper_layout(BD)!r}>")
    tiles = dict.fromkeys(("desc_k", "desc_v"), [1, BS, BD])
    tiles |= dict.fromkeys(("desc_q", "desc_g"), [1, constants["BT"], BD])
    tiles["desc_parts"] = [4, 1, constants["BT"], BD]
    return {n: f"tensordesc<{dtype}{t},{module.walk_layout(len(t))!r}>" for n, t in tiles.items()}


def build(module, job):
    "Compile one job: what Triton made of it."
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    kernel, arch, dtype = getattr(module, job["kernel"]), str(job["arch"]), job["dtype"]
    names, aligned = leaves(module, kernel), job.get("aligned", True)
    switches = {p.name for p in kernel.params if p.is_constexpr}
    switches |= {n for path, n in names.items() if kernel.arg_names[path[0]] == "META"}
    # a switch that no job knows is off
    constants = {p: job["constants"].get(n, False) for p, n in names.items() if n in switches}
    known = types_of(names.values(), dtype, job["constants"].get("WHOLE", False))
    if kernel.is_gluon():
        known |= descriptors(module, dtype, job["constants"])
    kinds = {path: "constexpr" if path in constants else known[name] for path, name in names.items()}

    def divides(name, kind):
        return kind.startswith("*") or aligned and (name in ("S", "T", "D") or name[2:3] == "_")

    attrs = {
        path: [["tt.divisibility", 16]]
        for path, kind in kinds.items()
        if kind != "constexpr" and divides(names[path], kind)
    }
    kind = GluonASTSource if kernel.is_gluon() else ASTSource
    source = kind(kernel, signature_of(module, kernel, kinds), constants, attrs=attrs)
    target = GPUTarget("hip", arch, 64) if arch.startswith("gfx") else GPUTarget("cuda", int(arch), 32)
    return triton.compile(source, target=target, options=job.get("options", {}))


def imported(name, hip):
    "A kernel module and its precision, as they are on an NVIDIA or on an AMD machine."
    import torch

    torch.version.hip = "as on an AMD machine" if hip else None
    for known in [m for m in sys.modules if m.startswith("lla_course.kernels.")]:
        del sys.modules[known]
    return importlib.import_module(name), importlib.import_module("lla_course.kernels.runtime").tile_precision


def main(name, jobs):
    import torch

    dtypes, hip = dict(fp16=torch.float16, bf16=torch.bfloat16, fp32=torch.float32), None
    for job in jobs:
        amd = str(job["arch"]).startswith("gfx")
        if amd is not hip:
            (module, precision), hip = imported(name, amd), amd
        job["constants"] |= precision(dtypes[job["dtype"]])
        try:
            done = build(module, job)
        except Exception as error:
            found = dict(error=f"{type(error).__name__}: {error}"[-1500:])
        else:
            kind = "wgmma" if "wgmma" in done.asm.get("ptx", "") else "mma"
            found = dict(kind=kind, shared=done.metadata.shared)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
