"Bad input to attention: (label, a call that must raise ValueError, text that its message must contain)."

import math

import numpy as np
import torch

from lla_course import LocalLinearAttention, flash_lla, lla_decode
from lla_course.attention.backward import lla_attention
from lla_course.attention.conjugate_gradient import conjugate_gradient, lla_systems, make_heads
from lla_course.attention.dense import lla_dense, lla_paper, lla_weights
from lla_course.attention.flash import choose_backend, rotary
from lla_course.attention.tiled import lla_tiled, solver_settings

q, k, v = (torch.randn(2, 4, 8) for _ in range(3))
CASES = []


def add(label, text, call, *args, **knobs):
    CASES.append((f"{label} {len(CASES)}", lambda: call(*args, **knobs), text))


def swapped(good, i, bad):
    "The good arguments, with a bad one in place i."
    return *good[:i], bad, *good[i + 1 :]


def nested():
    return torch.nested.nested_tensor([torch.ones(3, 8), torch.ones(2, 8)])


def jagged():
    return torch.nested.nested_tensor([torch.ones(3, 8), torch.ones(2, 8)], layout=torch.jagged)


def quantised():
    return torch.quantize_per_tensor(torch.ones(2, 4, 8), 0.1, 0, torch.quint8)


NOT_TENSORS = [None, 3, "q", [[1.0, 2.0]], np.zeros((2, 4, 8))]
WRONG_TENSORS = [
    ("layout", lambda: torch.eye(8).to_sparse()),
    ("layout", lambda: torch.eye(8).to_sparse_csr()),
    ("layout", nested),
    ("layout", jagged),
    ("dtype", quantised),
    ("dtype", lambda: torch.ones(2, 4, 8, dtype=torch.complex64)),
    ("dtype", lambda: torch.ones(2, 4, 8, dtype=torch.int64)),
    ("dtype", lambda: torch.ones(2, 4, 8, dtype=torch.bool)),
    ("shape", lambda: torch.ones(8)),
    ("shape", lambda: torch.tensor(1.0)),
]
DOORS = [("flash_lla", flash_lla), ("lla_attention", lla_attention), ("lla_dense", lla_dense)]

# what stands in the place of a tensor, at every door and in every place
for name, door in DOORS:
    for i, place in enumerate("qkv"):
        for bad in NOT_TENSORS if door is flash_lla else NOT_TENSORS[:1]:
            add(f"{name} {place} no tensor", f"{place}=", door, *swapped((q, k, v), i, bad))
        for text, make in WRONG_TENSORS:

            def call(door=door, i=i, make=make):
                return door(*swapped((q, k, v), i, make()))

            add(f"{name} {place} wrong tensor", f"{place}.{text}", call)

# shapes that do not go together
for name, door in DOORS:
    add(f"{name} head size", "k.shape", door, q, k[..., :4], v)
    add(f"{name} values", "v.shape", door, q, k, v[:, :3])
    add(f"{name} batch", "k.shape", door, q, k[:1], v[:1])
    add(
        f"{name} heads",
        "k.shape",
        door,
        torch.ones(5, 4, 8),
        torch.ones(2, 4, 8),
        torch.ones(2, 4, 8),
        enable_gqa=True,
    )
    add(f"{name} no key", "k.shape", door, q, k[:, :0], v[:, :0], is_causal=False)
    add(f"{name} no dimension", "q.shape", door, q[..., :0], k[..., :0], v[..., :0])
    add(f"{name} more queries than keys", "q.shape", door, q, k[:, :3], v[:, :3])
    add(f"{name} dtypes", "k.dtype", door, q, k.double(), v)
    add(f"{name} device", "v.device", door, q, k, v.to("meta"))

# settings
SETTINGS = [
    ("ridge", bad)
    for bad in (
        -1.0,
        math.nan,
        math.inf,
        -math.inf,
        True,
        "0.1",
        None,
        [0.1, 0.2],
        1e39,
        10**400,
        1j,
        torch.tensor(-1.0),
        torch.tensor(1),
        torch.full((4,), math.nan),
        torch.tensor(math.inf),
        torch.ones(3),
        torch.ones(2, 4, 1),
        torch.tensor(1e39, dtype=torch.float64),
        torch.ones(4).to_sparse(),
        torch.tensor(1j),
        torch.tensor(True),
    )
]
SETTINGS += [
    ("scale", bad) for bad in (math.inf, math.nan, -math.inf, True, "1", [1.0], 1j, 2e38, -(10**400))
]
SETTINGS += [
    (flag, bad) for flag in ("is_causal", "enable_gqa") for bad in (1, 0, "no", None, torch.tensor(True))
]
for name, door in DOORS:
    for setting, bad in SETTINGS:
        add(f"{name} {setting}", setting, door, q, k, v, **{setting: bad})
for name, door in DOORS[:2]:
    for bad in (-1.0, math.nan, math.inf, True, "0.1"):
        add(f"{name} tol", "tol", door, q, k, v, tol=bad)
    for bad in (-1, 1.5, 2.0, True, "4", torch.tensor(4)):
        add(f"{name} max_steps", "max_steps", door, q, k, v, max_steps=bad)
for bad in ("cuda", "", None, 1, ["tiled"]):
    add("flash_lla backend", "backend", flash_lla, q, k, v, backend=bad)
for bad in ("yes", 1, 0, None):
    add("flash_lla return_info", "return_info", flash_lla, q, k, v, return_info=bad)
for bad in ("yes", 1, 0):
    add("flash_lla check", "check", flash_lla, q, k, v, check=bad)
add(
    "flash_lla triton in float64",
    "backend='triton'",
    flash_lla,
    q.double(),
    k.double(),
    v.double(),
    backend="triton",
)
add("choose_backend", "backend", choose_backend, "Tiled", q)
add("lla_dense floor", "floor", lla_dense, q, k, v, floor=-1.0)
add("lla_dense return_info", "return_info", lla_dense, q, k, v, return_info="no")
add("lla_paper ridge 0", "ridge", lla_paper, q, k, v, ridge=0.0)
add("lla_weights k", "k.shape", lla_weights, q, k[..., :4])
add("lla_weights ridge", "ridge", lla_weights, q, k, ridge=-0.1)
add("solver_settings tol", "tol", solver_settings, torch.float32, 8, -1.0, None)
for size in (0, -1, 1.5, True):
    add("lla_tiled BT", "BT", lambda size=size: lla_tiled(heads(), BT=size))
for size in (0, "64"):
    add("lla_tiled BS", "BS", lambda size=size: lla_tiled(heads(), BS=size))


def heads():
    from lla_course.attention.dense import as_heads

    return as_heads(q, k, v)


# the layer
for bad, text in [
    ((-4, 2), "embed_dim"),
    ((8, "2"), "num_heads"),
    ((4, 2.0), "num_heads"),
    ((0, 1), "embed_dim"),
    ((8, 0), "num_heads"),
    ((8, 3), "embed_dim"),
    ((True, 1), "embed_dim"),
    ((8.0, 2), "embed_dim"),
    ((None, 2), "embed_dim"),
    ((8, -2), "num_heads"),
]:
    add("layer sizes", text, LocalLinearAttention, *bad)
for name, bads in dict(
    num_kv_heads=(3, 0, -1, 2.0, "1", True),
    qk_norm=(1, "no", None),
    learn_ridge=(0, "yes"),
    is_causal=("no", 1, None),
    ridge=(0.0, -1.0, math.nan, math.inf, 1e39, 1e-50, True, "1", None, torch.ones(2)),
    rope_base=(0.0, -1.0, math.inf, "1e4", True),
    tol=(-1.0, math.nan, True, "1e-3"),
    max_steps=(-1, 2.0, True, "3"),
    backend=("no", None, 1),
    check=(1, "yes"),
).items():
    for bad in bads:
        add(f"layer {name}", name, LocalLinearAttention, 8, 4, **{name: bad})
add("layer odd head", "embed_dim", LocalLinearAttention, 12, 4, rope_base=1e4)
for text, bad in [
    ("x.shape", torch.ones(8)),
    ("x.shape", torch.ones(3, 7)),
    ("x.shape", torch.tensor(1.0)),
    ("x.dtype", torch.ones(3, 8).double()),
    ("x.dtype", torch.ones(3, 8).half()),
    ("x.dtype", torch.ones(3, 8).long()),
    ("x.dtype", torch.ones(3, 8).bool()),
    ("x.dtype", torch.ones(3, 8).to(torch.complex64)),
    ("x.layout", torch.eye(8).to_sparse()),
    ("x=", [[1.0] * 8]),
    ("x=", np.ones((3, 8), np.float32)),
    ("x=", None),
    ("x=", "x"),
]:
    add("layer x", text, lambda bad=bad: LocalLinearAttention(8, 4)(bad))
add("layer nested x", "x.layout", lambda: LocalLinearAttention(8, 4)(nested()))

for text, bad, base in [
    ("x.shape", torch.ones(3, 5), 1e4),
    ("base", q, -1.0),
    ("base", q, 0),
    ("base", q, "1e4"),
]:
    add("rotary", text, rotary, bad, base)

# decoding
Q, K, V = torch.randn(2, 4, 1, 8), torch.randn(2, 2, 6, 8), torch.randn(2, 2, 6, 8)
for i, place in enumerate(("q", "k_cache", "v_cache")):
    for text, make in [
        ("=", lambda: None),
        ("=", lambda: np.zeros((2, 2, 6, 8))),
        (".shape", lambda: torch.ones(2, 6, 8)),
        (".dtype", lambda: torch.ones(2, 2, 6, 8).long()),
        (".dtype", lambda: torch.ones(2, 2, 6, 8, dtype=torch.complex64)),
    ]:

        def call(i=i, make=make):
            return lla_decode(*swapped((Q, K, V), i, make()))

        add(f"lla_decode {place}", place + text, call)
for setting, bad in [
    ("ridge", -1.0),
    ("ridge", True),
    ("ridge", math.nan),
    ("ridge", "1"),
    ("ridge", torch.tensor(-1.0)),
    ("ridge", torch.ones(3)),
    ("ridge", torch.tensor(1)),
    ("scale", math.inf),
    ("scale", True),
    ("scale", "1"),
    ("backend", "cuda"),
    ("backend", None),
    ("cache_seqlens", torch.tensor([7, 6])),
    ("cache_seqlens", torch.tensor([0, 6])),
    ("cache_seqlens", [6, 6]),
    ("cache_seqlens", torch.tensor([6.0, 6.0])),
    ("cache_seqlens", torch.tensor([6])),
]:
    add(f"lla_decode {setting}", setting, lla_decode, Q, K, V, **{setting: bad})
add(
    "lla_decode queries",
    "q.shape",
    lla_decode,
    torch.ones(2, 4, 9, 8),
    torch.ones(2, 2, 9, 8),
    torch.ones(2, 2, 9, 8),
)
add("lla_decode heads", "k_cache.shape", lla_decode, Q, torch.ones(2, 3, 6, 8), torch.ones(2, 3, 6, 8))
add("lla_decode keys", "k_cache.shape", lla_decode, Q, K[:, :, :0], V[:, :, :0])
add("lla_decode values", "v_cache.shape", lla_decode, Q, K, V[:, :, :5])

# the solver of chapter 22
b = torch.ones(3, 4)
for text, knobs in [
    ("tol", dict(tol=-1.0, max_steps=3)),
    ("tol", dict(tol=math.nan, max_steps=3)),
    ("max_steps", dict(tol=0.1, max_steps=-1)),
    ("max_steps", dict(tol=0.1, max_steps=1.5)),
    ("max_steps", dict(tol=0.1, max_steps=True)),
]:
    add("conjugate_gradient", text, conjugate_gradient, lambda x: x, b, **knobs)
for bad in (b.half(), b.long(), [1.0, 2.0], None):
    add("conjugate_gradient rhs", "rhs", conjugate_gradient, lambda x: x, bad, tol=0.1, max_steps=3)
add("conjugate_gradient rhs", "rhs.shape", conjugate_gradient, lambda x: x, b[:, :0], tol=0.1, max_steps=3)
for bad in (-1, 1.5, "0", True):
    add("lla_systems first", "first", lla_systems, q, k, first=bad)
add("lla_systems k", "k.shape", lla_systems, q, k[..., :4])
add("lla_systems q", "q", lla_systems, None, k)
add("make_heads kind", "kind", make_heads, "round", 4, 2, torch.Generator())
