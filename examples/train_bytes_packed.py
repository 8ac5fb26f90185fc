"""Train a small model on bytes. Lines of different lengths are packed into one row; none sees another."""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from lla_course import LocalLinearAttention


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.attention = LocalLinearAttention(width, 4, rope_base=1e4)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(F.rms_norm(x, x.shape[-1:]), cu_seqlens=cu_seqlens)
        return x + self.mlp(F.rms_norm(x, x.shape[-1:]))


def logits(model: nn.ModuleDict, tokens: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    x = model["embed"](tokens)
    for block in model["blocks"]:
        x = block(x, cu_seqlens)
    return model["out"](x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", default=argparse.__file__, help="any text; default: a file of Python's")
    for name, number in dict(width=64, steps=100, lines=8).items():  # lines: packed into a row
        parser.add_argument(f"--{name}", type=int, default=number, help=f"default: {number}")
    args = parser.parse_args()

    torch.manual_seed(0)
    texts = [line for line in Path(args.file).read_bytes().splitlines() if len(line) > 1]
    blocks = nn.ModuleList(Block(args.width) for _ in range(2))
    ends = dict(embed=nn.Embedding(256, args.width), out=nn.Linear(args.width, 256))
    model = nn.ModuleDict(ends | dict(blocks=blocks))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(args.steps):
        row = [texts[i] for i in torch.randint(len(texts), (args.lines,))]
        cu_seqlens = torch.tensor([0, *(len(line) - 1 for line in row)]).cumsum(0)  # offsets of the inputs
        tokens = torch.tensor(list(b"".join(line[:-1] for line in row)))
        target = torch.tensor(list(b"".join(line[1:] for line in row)))
        loss = F.cross_entropy(logits(model, tokens, cu_seqlens), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, args.steps // 10) == 0 or step == args.steps - 1:
            bits = loss.item() / 0.6931
            print(f"step {step:4}  {len(tokens):4} bytes in {len(row)} lines  {bits:.2f} bits a byte")


if __name__ == "__main__":
    main()
