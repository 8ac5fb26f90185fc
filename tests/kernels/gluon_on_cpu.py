"""Kernels in Gluon run as Python on the CPU: Gluon has no interpreter, and most machines have no Hopper GPU.

Each function of a module is built anew from its code, with stand-ins for `gl` and `hopper`. A tile is a
tensor, a product is one of float32, and memory is strict: what was not written is nan, an address outside of
its tensor is an error, a copy arrives only where its barrier is waited for, a product that nobody waited for
long enough has no value, and nothing is copied over what a running product reads. Layouts and barriers
between threads are not looked at."""

import random
import threading
from functools import partial
from types import FunctionType, SimpleNamespace

import torch

from lla_course.kernels import hopper_solve

DTYPES = {n: getattr(torch, n) for n in ("float16", "bfloat16", "float32", "int32", "int64")} | {
    "int1": torch.bool
}


class Tile(torch.Tensor):
    "Numbers of a program: never changed in place, and whole ones are divided as in C."

    def __iadd__(self, other):
        return self + other

    def __isub__(self, other):
        return self - other

    def __floordiv__(self, other):
        return torch.div(self, other, rounding_mode="trunc")

    def __mod__(self, other):
        return torch.fmod(self, other)

    def to(self, dtype, bitcast=False):
        if not bitcast:
            return super().to(dtype)
        return (self.int() if dtype == torch.float32 else self).view(dtype)


def tile(value, dtype=None):
    "A number, or numbers, as a tile."
    return torch.as_tensor(value, dtype=dtype).as_subclass(Tile)


class Pointer:
    "Places in a tensor, counted in its memory from its first entry."

    def __init__(self, tensor, places=0):
        self.tensor, self.places = tensor, places
        self.dtype = SimpleNamespace(element_ty=tensor.dtype)

    def __add__(self, more):
        return Pointer(self.tensor, self.places + more)

    def at(self, mask):
        "All of its memory, and the places in it; the first one where there is nothing to read."
        room = self.tensor.untyped_storage().nbytes() // self.tensor.itemsize - self.tensor.storage_offset()
        places = torch.where(torch.as_tensor(mask), torch.as_tensor(self.places), 0)
        assert 0 <= int(places.min()) and int(places.max()) < room, "an address outside of its tensor"
        return self.tensor.as_strided((room,), (1,)), places


class Shared:
    "Shared memory, or a part of it."

    def __init__(self, numbers):
        self.numbers, self.dtype = numbers, numbers.dtype

    def index(self, i):
        return Shared(self.numbers[int(i)])

    def slice(self, start, length):
        return Shared(self.numbers[start : start + length])

    def permute(self, order):
        return Shared(self.numbers.permute(order))

    def reshape(self, shape):
        return Shared(self.numbers.view(shape))

    def meets(self, other):
        "Whether two parts of memory have a number in common; a part is one piece, perhaps permuted."
        mine, its = self.numbers, other.numbers
        begin, end = (t.data_ptr() for t in (mine, its)), (t.numel() * t.itemsize for t in (mine, its))
        (a, b), (m, n) = begin, end
        return a < b + n and b < a + m

    def load(self, layout):
        return tile(self.numbers.clone())

    def store(self, value):
        assert (value.shape, value.dtype) == (self.numbers.shape, self.dtype), (value.shape, value.dtype)
        self.numbers.copy_(value)


class Running:
    "A product that was started, the number-th; `Products.wait` has its value."

    def __init__(self, value, number=0):
        self.value, self.number = value, number


def allocate_shared_memory(dtype, shape, layout):
    "Shared memory with nothing in it that a program may rely on."
    return Shared(torch.full(shape, torch.nan if dtype.is_floating_point else -(10**9), dtype=dtype))


def load(pointer, mask=True, other=0):
    "What stands at the places of a pointer; `other` where the mask is false."
    memory, places = pointer.at(mask)
    other = torch.as_tensor(other, dtype=memory.dtype)
    return tile(torch.where(torch.as_tensor(mask), memory[places], other))


def store(pointer, value, mask=True):
    "Write to the places of a pointer where the mask is true."
    memory, places = pointer.at(mask)
    value, mask = torch.broadcast_tensors(torch.as_tensor(value).to(memory.dtype), torch.as_tensor(mask))
    memory[places.expand(mask.shape)[mask]] = value[mask]


class Products:
    "The unit that multiplies: products end in the order in which they began."

    def __init__(self):
        self.begun, self.reads = 0, []  # how many were started; (number, what it reads) of those that run

    def mma(self, a, b, acc, use_acc=True, is_async=False):
        "A product of 16-bit tiles, the second from shared memory, added up in float32."
        acc = acc.value if isinstance(acc, Running) else acc
        read = [t for t in (a, b) if isinstance(t, Shared)]
        left = a.numbers if isinstance(a, Shared) else a
        assert isinstance(b, Shared) and left.dtype == b.dtype and left.itemsize == 2
        value = tile(left.float() @ b.numbers.float()) + (acc if use_acc else 0)
        assert value.shape == acc.shape and acc.dtype == torch.float32
        if not is_async:
            return value
        self.begun += 1
        self.reads += [(self.begun, t) for t in read]
        return Running(value, self.begun)

    def wait(self, left, deps):
        "The values of products, when at most so many of all are still at work."
        done = self.begun - left
        assert all(not isinstance(d, Running) or d.number <= done for d in deps), "a wait that is too short"
        self.reads = [(number, t) for number, t in self.reads if number > done]
        values = tuple(d.value if isinstance(d, Running) else d for d in deps)
        return values if len(values) > 1 else values[0]


class Copies:
    "The unit that copies, and its barriers: each has a phase, bytes that it waits for, copies on their way."

    def __init__(self, products):
        self.bars, self.products = {}, products

    def init(self, bar, count):
        self.bars[bar.numbers.data_ptr()] = dict(phase=0, expected=None, copies=[])

    def expect(self, bar, bytes, pred=True):
        if pred:
            known = self.bars[bar.numbers.data_ptr()]
            assert known["expected"] is None, "a barrier is used again before it was waited for"
            known["expected"] = bytes

    def copy(self, desc, at, bar, place, pred=True):
        if not pred:
            return
        assert not any(t.meets(place) for _, t in self.products.reads), "a copy over what a product reads"
        at, block = [*map(int, at)], tuple(desc.block_shape)
        assert min(at) >= 0 and place.numbers.shape == block
        found = torch.zeros(block, dtype=place.dtype)
        there = desc.base[tuple(slice(i, i + n) for i, n in zip(at, block))]
        found[tuple(map(slice, there.shape))] = there
        place.numbers.fill_(torch.nan)
        self.bars[bar.numbers.data_ptr()]["copies"].append((place, found))

    def wait(self, bar, phase):
        known = self.bars[bar.numbers.data_ptr()]
        if known["phase"] % 2 != int(phase):
            return  # a phase that is over: what was to be copied is still nan
        came = sum(found.numel() * found.itemsize for _, found in known["copies"])
        assert known["expected"] == came, "a program that waits for ever"
        for place, found in known["copies"]:
            place.store(found)
        known.update(phase=known["phase"] + 1, expected=None, copies=[])


class Turns:
    "Programs take turns: at an atomic addition another one may go on."

    def __init__(self):
        self.lock, self.random = threading.Lock(), random.Random(0)

    def atomic_add(self, pointer, value):
        memory, places = pointer.at(True)
        found = memory[places].clone()
        memory[places] += value
        if self.random.random() < 0.5:
            self.lock.release()
            threading.Event().wait(1e-4)
            self.lock.acquire()
        return tile(found)


def language(turns, copies):
    "Stand-ins for `gl` and `hopper`."

    def numbers(function):
        return lambda *values: tile(function(*(torch.as_tensor(v) for v in values)))

    def over(function):
        return lambda b, axis: tile(function(b, dim=axis).to(b.dtype))

    layouts = dict.fromkeys(
        "NVMMADistributedLayout NVMMASharedLayout SwizzledSharedLayout BlockedLayout SliceLayout "
        "DotOperandLayout".split(),
        lambda *a, **k: None,
    )
    gl = SimpleNamespace(
        **DTYPES,
        **layouts,
        **{n: numbers(getattr(torch, n)) for n in "exp2 log2 sqrt rsqrt abs maximum minimum where".split()},
        **{n: over(f) for n, f in dict(sum=torch.sum, max=torch.amax, min=torch.amin).items()},
        num_warps=lambda: 4,
        static_range=range,
        convert_layout=lambda b, layout: b,
        arange=lambda a, b, layout: tile(torch.arange(a, b, dtype=torch.int32)),
        zeros=lambda shape, dtype, layout: tile(torch.zeros(shape, dtype=dtype)),
        full=lambda shape, value, dtype, layout: tile(torch.full(shape, value, dtype=dtype)),
        allocate_shared_memory=allocate_shared_memory,
        atomic_add=turns.atomic_add,
        load=load,
        store=store,
    )
    bars = SimpleNamespace(
        MBarrierLayout=lambda: None, init=copies.init, expect=copies.expect, wait=copies.wait
    )
    hopper = SimpleNamespace(
        warpgroup_mma=copies.products.mma,
        warpgroup_mma_init=lambda b: Running(b),
        warpgroup_mma_wait=copies.products.wait,
        fence_async_shared=lambda: None,
        mbarrier=bars,
        tma=SimpleNamespace(async_copy_global_to_shared=copies.copy),
    )
    return gl, hopper


def on_cpu(module, **replaced):
    "The names of a module, its functions built anew; some of them replaced."
    known = dict(vars(module))
    for name, value in vars(module).items():
        value = getattr(value, "fn", value)  # of a kernel
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            known[name] = FunctionType(value.__code__, known, name, value.__defaults__, value.__closure__)
            known[name].__kwdefaults__ = value.__kwdefaults__
        elif type(value).__name__ == "constexpr":
            known[name] = value.value
    known.update(replaced)
    return known


def cast_saturating(b, dtype):
    "`hopper_cast`."
    return (b.clamp(-65504, 65504) if dtype == torch.float16 else b).to(dtype)


def pointers(value):
    "Tensors as pointers, in tuples too, and constants as numbers."
    if isinstance(value, torch.Tensor):
        return Pointer(value)
    if isinstance(value, tuple):
        found = map(pointers, value)
        return type(value)(*found) if hasattr(value, "_fields") else tuple(found)
    return getattr(value, "value", value)


def run(module, kernel, programs, *args):
    "All programs of a kernel of a module, in turns."
    turns, failed = Turns(), []
    # of other modules, which are not built anew
    helpers = {} if module is hopper_solve else dict(hopper_cast=cast_saturating)

    def program(i):
        gl, hopper = language(turns, Copies(Products()))
        gl.program_id, gl.num_programs = (lambda axis: tile(i)), (lambda axis: tile(programs))
        tools = dict(gl=gl, hopper=hopper, hopper_barrier=lambda: None)
        tools |= {name: f for name, f in helpers.items() if hasattr(module, name)}
        own = on_cpu(module, **tools)
        with turns.lock, torch.no_grad():  # each thread has a mode of its own
            try:
                own[kernel](*pointers(args))
            except BaseException as error:
                failed.append(error)

    threads = [threading.Thread(target=program, args=(i,)) for i in range(programs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


DESCRIPTOR = SimpleNamespace(
    from_tensor=lambda base, block_shape, layout: SimpleNamespace(base=base, block_shape=block_shape)
)


def solver_on_cpu(module, multiprocessors=1, **replaced):
    "`hopper_solve` of a module, two programs on each multiprocessor; its kernel in Triton is interpreted."

    def launch(kernel, programs, *args, META, same=None, **options):
        name = kernel.__name__
        if name == "hopper_solve_kernel":
            run(module, name, programs, *args, META)
        else:
            module.launch(getattr(module, name), programs, *args, META=META, same=same, **options)

    replaced = dict(launch=launch, processors=lambda device: multiprocessors) | replaced
    replaced |= dict(TensorDescriptor=DESCRIPTOR, hopper_layout=lambda BD: None)
    return on_cpu(module, **replaced)["hopper_solve"]


def walks_on_cpu(module, **replaced):
    "What `walks_for` of a module returns on a Hopper GPU, its kernels run here."

    def launch(kernel, programs, *args, META, same=None, **options):
        run(module, kernel.__name__, programs, *args, META)

    replaced |= dict(launch=launch, TensorDescriptor=DESCRIPTOR, walk_layout=lambda rank: None)
    own = on_cpu(module, **replaced)
    walks = {name: partial(own["hopper_walk"], name) for name in module.WALKS}
    return walks | dict(dkv=own["hopper_dkv"])
