"""One sequence over several processes, each of which holds a part, with the answers of one device."""

import argparse
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lla_course import flash_lla
from lla_course.attention.distributed import context_parallel_lla, gather_sequence, shard


def work(rank: int, args: argparse.Namespace, meeting: str) -> None:
    gpu = torch.cuda.device_count() >= args.processes
    device = torch.device("cuda", rank) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    group = dict(init_method=f"file://{meeting}", rank=rank, world_size=args.processes)
    dist.init_process_group("nccl" if gpu else "gloo", **group)

    torch.manual_seed(0)  # the same sequence everywhere, only to have something to compare with
    sizes = (args.heads, args.tokens, args.head_size)
    whole = [torch.randn(sizes).to(device).requires_grad_() for _ in range(3)]
    mine = [shard(t.detach(), rank, args.processes).requires_grad_() for t in whole]

    o = context_parallel_lla(*mine, ridge=0.1, tokens=args.tokens)
    o.square().sum().backward()
    print(f"rank {rank} on {device}: {mine[0].shape[1]} of {args.tokens} tokens", flush=True)

    right = flash_lla(*whole, ridge=0.1)
    right.square().sum().backward()
    pairs = [
        ("answers", o, right),
        *(("gradient of " + n, a.grad, b.grad) for n, a, b in zip("qkv", mine, whole)),
    ]
    for name, part, b in pairs:
        a = gather_sequence(part.detach(), tokens=args.tokens)
        if rank == 0:
            print(f"{name:14} relative difference {((a - b).norm() / b.norm()).item():.1e}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=200, help="of the whole sequence; need not divide")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-size", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (args, str(Path(folder, "meeting"))), nprocs=args.processes)


if __name__ == "__main__":
    main()
