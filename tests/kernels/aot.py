"""Compile a kernel for a GPU that is not there: `python tests/kernels/aot.py MODULE KERNEL ARCH JSON` prints 'wgmma' or 'mma' and the shared memory.

JSON holds `types` (argument -> Triton type) and `constants` (constexpr -> value); a subprocess without TRITON_INTERPRET runs it."""
import importlib, json, sys

if __name__ == "__main__":
    module, name, arch, spec = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    kernel = getattr(importlib.import_module(module), name)
    constants = {a: v for a, v in spec["constants"].items() if a in kernel.arg_names}
    signature = {a: "constexpr" if a in constants else spec["types"].get(a, "i32") for a in kernel.arg_names}
    even = [a for a, kind in signature.items() if kind.startswith("*") or a in ("S", "T", "D") or (kind == "i32" and a[2:3] == "_")]   # as a launch on ordinary tensors finds them
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(a),): v for a, v in constants.items()},
                       attrs={(kernel.arg_names.index(a),): [["tt.divisibility", 16]] for a in even})
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=spec.get("options", {}))
    print("wgmma" if "wgmma" in compiled.asm["ptx"] else "mma", compiled.metadata.shared)
