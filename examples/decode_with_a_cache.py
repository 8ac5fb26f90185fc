"""Write token by token, by a layer with a KVCache and by lla_decode over pages; compare with one call."""

import argparse
import time

import torch
from torch.nn import functional as F

from lla_course import KVCache, LocalLinearAttention, flash_lla, lla_decode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt", type=int, default=256, help="tokens that are read at once")
    parser.add_argument("--new", type=int, default=32, help="tokens that are written one by one")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    torch.manual_seed(0)
    layer = LocalLinearAttention(args.width, 4, num_kv_heads=2, rope_base=1e4).to(args.device)
    text = torch.randn(2, args.prompt + args.new, args.width, device=args.device)

    with torch.no_grad():
        layer(text)  # the first call loads what the others need
        start = time.perf_counter()
        whole = layer(text)
        print(f"the whole text in one call:       {time.perf_counter() - start:7.3f} s")

        cache, start = KVCache(), time.perf_counter()
        answers = [layer(text[:, : args.prompt], cache=cache)]
        print(f"the prompt, into a cache:         {time.perf_counter() - start:7.3f} s")
        start = time.perf_counter()
        for t in range(args.prompt, args.prompt + args.new):
            answers.append(layer(text[:, t : t + 1], cache=cache))
        print(f"{args.new} new tokens, one at a time:    {time.perf_counter() - start:7.3f} s")
        apart = (torch.cat(answers, 1) - whole).abs().max()
        print(f"largest difference {apart:.1e} in answers of {whole.std():.2f}; {cache.length} tokens kept")

        # as a server does: two texts of two lengths in pages of 16 tokens, wherever a page was free
        q, k, v = F.normalize(torch.randn(3, 2, 4, args.prompt, 16, device=args.device), dim=-1)
        filled = torch.tensor([args.prompt, args.prompt // 2], device=args.device)
        pages = -(-args.prompt // 16)
        table = torch.randperm(2 * pages, device=args.device).view(2, pages).int()
        k_pages, v_pages = torch.zeros(2, 2 * pages, 16, 4, 16, device=args.device)
        for b, n in enumerate(filled.tolist()):
            t = torch.arange(n, device=args.device)
            k_pages[table[b, t // 16], t % 16] = k[b, :, :n].transpose(0, 1)
            v_pages[table[b, t // 16], t % 16] = v[b, :, :n].transpose(0, 1)
        table[1, -(-int(filled[1]) // 16) :] = -1  # entries behind the last token are not read
        o = lla_decode(q[:, :, -1:], k_pages, v_pages, block_table=table, cache_seqlens=filled)
        short = int(filled[1])
        alone = flash_lla(q[1:, :, -1:], k[1:, :, :short], v[1:, :, :short])
        print(f"the shorter text differs from its own call by {(o[1:] - alone).abs().max():.1e}")


if __name__ == "__main__":
    main()
