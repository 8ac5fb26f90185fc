"""Compile kernels for GPUs that are not there, in a process without TRITON_INTERPRET.

`python aot.py MODULE` reads a JSON list of jobs from stdin and prints one JSON line for each: the kind of
matrix instruction and the shared memory, or an error. A job has kernel, arch ("90", "gfx942"), dtype,
constants (constexpr -> value), options, and aligned: whether sizes and strides divide by 16.
`python aot.py MODULE KERNEL ARCH JSON` does one job and prints 'wgmma' or 'mma' and the shared memory."""
import importlib, json, sys

HALF = "q k v g o dq dk dv ul yl".split()                            # pointers in the dtype of the inputs
FLOAT = ("top ridge kbar lse peak many used rhs inverse x residual u y mean e dridge cu ct un yn "
         "means moments").split()
NUMBER = "scale scale2 tol2 floor flat".split()


def types_of(names, dtype):
    "The Triton type of each argument, by its name; what is not known is a whole number."
    known = {n: f"*{dtype}" for n in HALF} | {n: "*fp32" for n in FLOAT} | {n: "fp32" for n in NUMBER}
    if "ul" in names: known |= {"u": f"*{dtype}", "y": f"*{dtype}"}  # the key sweep takes u and y in halves
    known |= {n: "*i32" for n in ("counter", "steps", "lengths")}
    return {n: known.get(n, "i32") for n in names}


def build(module, job):
    "Compile one job."
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    kernel, arch = getattr(module, job["kernel"]), str(job["arch"])
    switches = {p.name: False for p in kernel.params if p.is_constexpr}     # one that no job knows is off
    constants = switches | {a: v for a, v in job["constants"].items() if a in kernel.arg_names}
    signature = {a: "constexpr" if a in constants else kind for a, kind in job["types"].items()}
    aligned = job.get("aligned", True)
    def divides(a, kind): return kind.startswith("*") or aligned and (a in ("S", "T", "D") or a[2:3] == "_")
    at = kernel.arg_names.index
    attrs = {(at(a),): [["tt.divisibility", 16]] for a, kind in signature.items() if kind != "constexpr"
             and divides(a, kind)}
    source = ASTSource(kernel, signature, {(at(a),): v for a, v in constants.items()}, attrs=attrs)
    target = GPUTarget("hip", arch, 64) if arch.startswith("gfx") else GPUTarget("cuda", int(arch), 32)
    done = triton.compile(source, target=target, options=job.get("options", {}))
    return "wgmma" if "wgmma" in done.asm.get("ptx", "") else "mma", done.metadata.shared


def main(name, jobs):
    import torch
    if any(str(job["arch"]).startswith("gfx") for job in jobs): torch.version.hip = "as on an AMD machine"
    module = importlib.import_module(name)
    precision = importlib.import_module("lla_course.kernels.runtime").tile_precision
    for job in jobs:
        names, dtype = getattr(module, job["kernel"]).arg_names, job.get("dtype")
        if dtype:
            job["types"] = types_of(names, dtype)
            job["constants"] |= precision(dict(fp16=torch.float16, bf16=torch.bfloat16,
                                               fp32=torch.float32)[dtype])
        job["types"] = {n: job["types"].get(n, "i32") for n in names}
        try: kind, shared = build(module, job)
        except Exception as error: print(json.dumps(dict(error=f"{type(error).__name__}: {error}"[-1500:])),
                                         flush=True)
        else: print(json.dumps(dict(kind=kind, shared=shared)), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2: main(sys.argv[1], json.load(sys.stdin))
    else:
        name, kernel, arch, spec = sys.argv[1:]
        module = importlib.import_module(name)
        job = json.loads(spec) | dict(kernel=kernel, arch=arch)
        job["types"] = {n: job["types"].get(n, "i32") for n in getattr(module, kernel).arg_names}
        print(*build(module, job))
