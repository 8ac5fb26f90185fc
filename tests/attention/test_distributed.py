"""One sequence over several processes: the answers and gradients of one device, on gloo and the CPU.

Four processes are started once for the whole file. Each case runs on the first `world` of them, and the
tests read what every process had to say about it."""

import datetime
import json
import multiprocessing
import traceback

import pytest
import torch
import torch.distributed as dist

from helpers import relative_rms
from lla_course import LocalLinearAttention, flash_lla
from lla_course.attention.dense import lla_dense
from lla_course.attention.distributed import (
    context_parallel_lla,
    gather_sequence,
    rank_positions,
    shard,
    unshard,
)
from lla_course.attention.flash import rotary
from lla_course.kernels.runtime import INTERPRET

WORLD = 4
CASES = {}


def case(*worlds, **settings):
    "A case for all these numbers of processes: function(rank, world, group, **settings)."

    def add(function):
        words = "".join(f", {k}={v}" for k, v in settings.items())
        for world in worlds:
            CASES[f"{function.__name__[5:]}{words}, world={world}"] = (function, world, settings)
        return function

    return add


def tensors(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, dtype=torch.float64, generator=generator).to(dtype) for s in shapes]


def problem(tokens, dtype=torch.float64):
    "q, k, v and g of two sequences; two key heads for four query heads, values narrower than keys."
    return tensors((2, 4, tokens, 6), (2, 2, tokens, 6), (2, 2, tokens, 4), (2, 4, tokens, 4), dtype=dtype)


def on_one(q, k, v, g, ridge, attend=flash_lla, **settings):
    "Output and gradients of a single call."
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    ridge = ridge.clone().requires_grad_()
    o = attend(*leaves, ridge=ridge, enable_gqa=True, **settings)
    o.backward(g)
    return [o.detach(), *(t.grad for t in leaves), ridge.grad]


def on_all(q, k, v, g, ridge, rank, world, group, zigzag, **settings):
    "The same over several processes, put together again."
    cut = dict(zigzag=zigzag)
    leaves = [shard(t, rank, world, **cut).requires_grad_() for t in (q, k, v)]
    own = ridge if ridge.shape[-1] == 1 else shard(ridge[..., None], rank, world, **cut)[..., 0]
    own = own.clone().requires_grad_()
    tokens = q.shape[-2]
    more = dict(group=group, tokens=tokens, **cut)
    o = context_parallel_lla(*leaves, ridge=own, enable_gqa=True, **more, **settings)
    o.backward(shard(g, rank, world, **cut))
    together = lambda t: gather_sequence(t.detach(), **more)
    dridge = own.grad
    if ridge.shape[-1] == 1:
        dist.all_reduce(dridge, group=group)
    else:
        dridge = together(dridge[..., None])[..., 0]
    return [together(o), *(together(t.grad) for t in leaves), dridge]


@case(1, 3, tokens=24)
@case(2, 4, tokens=19)
@case(4, tokens=3)
@case(2, tokens=24, is_causal=False)
@case(4, tokens=19, is_causal=False)
@case(2, tokens=24, zigzag=False)
@case(3, tokens=19, zigzag=False)
@case(3, tokens=19, zigzag=False, is_causal=False)
@case(2, tokens=19, window=(5, 0))
@case(2, tokens=19, backend="dense", tol=None)
def case_double(rank, world, group, tokens, zigzag=True, tol=1e-13, **settings):
    whole = problem(tokens)
    for ridge in (
        torch.tensor([[0.1], [0.4], [1.0], [3.0]]).double(),
        tensors((2, 4, tokens))[0].abs() + 0.1,
    ):
        ours = on_all(*whole, ridge, rank, world, group, zigzag, tol=tol, **settings)
        for a, b in zip(ours, on_one(*whole, ridge, tol=tol, **settings)):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@case(4, dtype="float32")
@case(2, dtype="bfloat16")
def case_single(rank, world, group, dtype):
    dtype = getattr(torch, dtype)
    ridge = torch.tensor([[0.1], [0.4], [1.0], [3.0]])
    whole = problem(40, dtype)
    truth = on_one(*(t.double() for t in whole), ridge.double(), attend=lla_dense)
    floor, times = (1e-6, 2) if dtype == torch.float32 else (4e-3, 3)
    ours, one = on_all(*whole, ridge, rank, world, group, True), on_one(*whole, ridge)
    for a, b, right in zip(ours, one, truth):
        assert relative_rms(a, right) <= times * relative_rms(b, right) + floor


@case(2, tokens=19)
@case(4, tokens=3)
@case(3, tokens=19, window=(5, 0))
@case(2, tokens=19, is_causal=False, max_steps=None, tol=1e-13)
def case_direction(rank, world, group, tokens, max_steps=0, **settings):
    "A probe goes with its queries, and so does its gradient; with steps it is a start, and has none."
    (q, k, v, g), (u,) = problem(tokens), tensors((2, 4, tokens, 6))
    settings |= dict(max_steps=max_steps, enable_gqa=True)
    whole = [t.clone().requires_grad_() for t in (q, k, v, u)]
    truth = flash_lla(*whole[:3], probe=whole[3], **settings)
    truth.backward(g)
    mine = [shard(t, rank, world).requires_grad_() for t in (q, k, v, u)]
    o = context_parallel_lla(*mine[:3], probe=mine[3], group=group, tokens=tokens, **settings)
    o.backward(shard(g, rank, world))
    for a, b in zip((o, *(t.grad for t in mine)), (truth, *(t.grad for t in whole))):
        together = gather_sequence(a.detach(), group=group, tokens=tokens)
        torch.testing.assert_close(together, b, rtol=1e-10, atol=1e-10)
    started = gather_sequence(mine[3].grad, group=group, tokens=tokens).abs().sum() > 0
    assert started == (max_steps == 0)
    wrong = mine[3][..., :-1] if rank == 1 else mine[3]
    with pytest.raises(ValueError, match="probe.shape"):
        context_parallel_lla(*mine[:3], probe=wrong, group=group, tokens=tokens, **settings)


@case(2)
def case_triton(rank, world, group):
    "The kernels, here interpreted: no change to them is needed."
    if not INTERPRET:
        return
    q, k, v = tensors((2, 20, 16), (1, 20, 16), (1, 20, 16), dtype=torch.float32)
    mine = [shard(t, rank, world) for t in (q, k, v)]
    settings = dict(backend="triton", enable_gqa=True)
    o = context_parallel_lla(*mine, group=group, tokens=20, **settings)
    whole = flash_lla(q, k, v, backend="tiled", enable_gqa=True)
    torch.testing.assert_close(o, shard(whole, rank, world), rtol=1e-3, atol=1e-3)


@case(2)
def case_rotary(rank, world, group):
    q, k, v, _ = problem(19)
    whole = flash_lla(rotary(q, 100.0), rotary(k, 100.0), v, enable_gqa=True)
    at = rank_positions(19, rank, world)
    mine = [shard(t, rank, world) for t in (q, k, v)]
    turned = [rotary(t, 100.0, at) for t in mine[:2]]
    o = context_parallel_lla(*turned, mine[2], group=group, tokens=19, enable_gqa=True)
    torch.testing.assert_close(o, shard(whole, rank, world), rtol=1e-8, atol=1e-8)


BAD = dict(  # what rank 1 does differently -> how the complaint begins, on rank 1 and elsewhere
    shape=("k.shape=", "rank 1 was called with k.shape="),
    ridge_sign=("ridge=-1.0", "rank 1 was called with ridge=-1.0"),
    ridge=("ridge of rank 1=0.5", "ridge of rank 1=0.5"),
    causal=("is_causal of rank 1=False", "is_causal of rank 1=False"),
    frozen=("k.requires_grad of rank 1=False", "k.requires_grad of rank 1=False"),
    batch=("q.shape of rank 1=", "q.shape of rank 1="),
    odd=("tokens of a rank=3", "rank 1 was called with tokens of a rank=3"),
    word=("argument='dropout'", "rank 1 was called with argument='dropout'"),
    words=("scale of rank 1=2.0", "scale of rank 1=2.0"),
    device=("k.device='meta'", "rank 1 was called with k.device='meta'"),
    backend=("backend='triton'", "rank 1 was called with backend='triton'"),
    tokens=("tokens=99", "rank 1 was called with tokens=99"),
)


@case(3)
def case_bad_input(rank, world, group):
    "One rank is wrong, all of them raise, and the next call works."
    for kind, (own, others) in BAD.items():
        q, k, v = (shard(t, rank, world).requires_grad_() for t in tensors(*[(2, 24, 4)] * 3))
        more = dict(group=group)
        if rank == 1:
            match kind:
                case "shape":
                    k = k[:, :, :3]
                case "ridge_sign":
                    more["ridge"] = -1.0
                case "ridge":
                    more["ridge"] = 0.5
                case "causal":
                    more["is_causal"] = False
                case "frozen":
                    k = k.detach()
                case "batch":
                    q, k, v = (t[:1] for t in (q, k, v))
                case "odd":
                    q, k, v = (t[:, :3] for t in (q, k, v))
                case "word":
                    more["dropout"] = 0.1
                case "words":
                    more["scale"] = 2.0
                case "device":
                    k = k.to("meta")
                case "backend":
                    more["backend"] = "triton"
                case "tokens":
                    more["tokens"] = 99
        with pytest.raises(ValueError) as refused:
            context_parallel_lla(q, k, v, **more)
        wanted = own if rank == 1 else others
        assert str(refused.value).startswith(wanted), (kind, str(refused.value))
    q, k, v = (shard(t, rank, world) for t in tensors(*[(2, 24, 4)] * 3))
    assert context_parallel_lla(q, k, v, group=group).isfinite().all()
    assert context_parallel_lla(q, k, v, group=group, agree=False).isfinite().all()


@case(2)
def case_mesh(rank, world, group):
    q, k, v, _ = problem(24)
    mesh = dist.DeviceMesh.from_group(group, "cpu")
    mine = [shard(t, rank, world) for t in (q, k, v)]
    a, b = (context_parallel_lla(*mine, group=g, enable_gqa=True) for g in (group, mesh))
    assert torch.equal(a, b)
    with pytest.raises(ValueError, match="^group='str'"):
        context_parallel_lla(*mine, group="ranks")


@case(2)
def case_dtensor(rank, world, group):
    "DTensors are refused by name; their local parts, cut over heads, are a call of their own."
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor
    from torch.distributed.tensor.experimental import local_map

    q, k, v = (t[0] for t in tensors(*[(1, 4, 12, 6)] * 3))
    mesh = dist.DeviceMesh.from_group(group, "cpu")
    cut = [distribute_tensor(t, mesh, [Shard(0)]) for t in (q, k, v)]
    with pytest.raises(ValueError, match=r"^q='DTensor': expected a plain tensor.*to_local\(\)"):
        flash_lla(*cut)
    over_heads = local_map(flash_lla, out_placements=[Shard(0)], in_placements=([Shard(0)],) * 3)
    o = over_heads(*cut)
    assert isinstance(o, DTensor)
    assert torch.equal(o.full_tensor(), flash_lla(q, k, v))


def layers(**more):
    torch.manual_seed(0)
    layer = LocalLinearAttention(16, 4, num_kv_heads=2, rope_base=100.0, tol=1e-13, **more).double()
    with torch.no_grad():
        layer.raw_ridge += torch.arange(4.0)[:, None]
    return layer, torch.randn(2, 12, 16, dtype=torch.float64)


@case(2)
def case_tensor_parallel(rank, world, group):
    "The heads of a layer over two processes, by the tools of PyTorch: two numbers and the ridge are sliced."
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    one, x = layers()
    one(x).square().sum().backward()
    layer, _ = layers()
    plan = dict(
        to_q=ColwiseParallel(), to_k=ColwiseParallel(), to_v=ColwiseParallel(), to_out=RowwiseParallel()
    )
    parallelize_module(layer, dist.DeviceMesh.from_group(group, "cpu"), plan)
    with pytest.raises(RuntimeError, match="multiply up"):  # without the two numbers nothing silent happens
        layer(x)
    layer.num_heads //= world
    layer.num_kv_heads //= world
    layer.raw_ridge = torch.nn.Parameter(layer.raw_ridge.detach().chunk(world)[rank].clone())
    o = layer(x)
    torch.testing.assert_close(o, one(x), rtol=1e-9, atol=1e-9)
    o.square().sum().backward()
    for name in ("to_q", "to_k", "to_v", "to_out"):
        a, b = (m.get_submodule(name).weight.grad for m in (layer, one))
        torch.testing.assert_close(a.full_tensor(), b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(layer.raw_ridge.grad, one.raw_ridge.grad.chunk(world)[rank])
    for name in ("q_norm", "k_norm"):  # every rank has them, and found its part of their gradient
        dist.all_reduce(grad := layer.get_submodule(name).weight.grad, group=group)
        torch.testing.assert_close(grad, one.get_submodule(name).weight.grad)


@case(2)
def case_fully_sharded(rank, world, group):
    "FSDP2: parameters cut over the processes, each of which reads one sequence of the batch."
    from torch.distributed.fsdp import fully_shard

    one, x = layers()
    one(x).square().mean().backward()
    layer, _ = layers()
    fully_shard(layer, mesh=dist.DeviceMesh.from_group(group, "cpu"))
    layer(x[rank : rank + 1]).square().mean().backward()
    for (name, a), b in zip(layer.named_parameters(), one.parameters()):
        torch.testing.assert_close(a.grad.full_tensor(), b.grad, rtol=1e-9, atol=1e-9, msg=name)


# ---- the processes


def serve(rank, folder):
    "One process: all cases in order, and what went wrong in each."
    torch.set_num_threads(1)
    limit = datetime.timedelta(seconds=180)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD, timeout=limit)
    groups = {world: dist.new_group(list(range(world))) for world in range(1, WORLD + 1)}
    said = {}
    for name, (function, world, settings) in CASES.items():
        if rank < world:
            try:
                function(rank, world, groups[world], **settings)
            except BaseException:
                said[name] = traceback.format_exc()
    (folder / f"{rank}.json").write_text(json.dumps(said))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    "Rank -> case -> its error."
    folder = tmp_path_factory.mktemp("ranks")
    start = multiprocessing.get_context("spawn")
    ranks = [start.Process(target=serve, args=(rank, folder), daemon=True) for rank in range(WORLD)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(480)
    late = [process for process in ranks if process.is_alive()]
    for process in late:
        process.kill()
    assert not late, "a process has not come to an end"
    return {rank: json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)}


@pytest.mark.parametrize("name", CASES)
def test_every_rank_agrees_with_one_device(outcomes, name):
    errors = {rank: said[name] for rank, said in outcomes.items() if name in said}
    assert not errors, "\n".join(f"rank {rank}: {error}" for rank, error in errors.items())


# ---- one process


@pytest.mark.parametrize("zigzag", [True, False])
@pytest.mark.parametrize("tokens, world", [(8, 2), (7, 2), (1, 1), (5, 4), (24, 3), (3, 4)])
def test_shards_are_of_one_size_and_make_the_sequence_again(tokens, world, zigzag):
    x = torch.arange(1.0, 1 + 3 * tokens).view(3, tokens)
    parts = [shard(x, rank, world, dim=1, zigzag=zigzag) for rank in range(world)]
    assert len({part.shape for part in parts}) == 1
    assert torch.equal(unshard(parts, dim=1, tokens=tokens, zigzag=zigzag), x)
    at = torch.cat([rank_positions(tokens, rank, world, zigzag=zigzag) for rank in range(world)])
    assert at.sort().values.tolist() == list(range(len(at)))
    assert torch.cat(parts, 1)[:, at >= tokens].abs().sum() == 0


def test_a_zigzag_is_even_and_an_order_is_not():
    for world in (2, 3, 8):
        pairs = lambda zigzag: [
            int((rank_positions(48, r, world, zigzag=zigzag) + 1).sum()) for r in range(world)
        ]
        assert len(set(pairs(True))) == 1
        assert pairs(False)[-1] / sum(pairs(False)) == pytest.approx(2 / world, rel=0.3)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda x: shard(x, 2, 2), "rank=2"),
        (lambda x: shard(x, 0, 0), "world_size=0"),
        (lambda x: shard(x, 0, 2, zigzag=1), "zigzag=1"),
        (lambda x: rank_positions(0, 0, 2), "tokens=0"),
        (lambda x: unshard([x, x], tokens=9), "tokens=9"),
        (lambda x: unshard([x[:3], x[:3]]), "tokens of a rank=3"),
        (lambda x: context_parallel_lla(x, x, x), "group=None: expected torch.distributed.init"),
        (lambda x: gather_sequence(x), "group=None: expected torch.distributed.init"),
        (lambda x: context_parallel_lla(x, x, x, agree=1), "agree=1"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError) as refused:
        call(torch.ones(4, 2))
    assert str(refused.value).startswith(named)
