"""Exchange softmax attention for local lines in a Llama, see what changes, and train the ridges alone."""

import argparse
import copy

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lla_course.integrations.transformers import register


def texts(n: int, half: int) -> torch.Tensor:
    "Random letters, and the same letters again: the second half can be predicted by looking back."
    first = torch.randint(32, (n, half))
    return torch.cat([first, first], 1)


def train(model, parameters, steps: int, rate: float, half: int) -> None:
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for _ in range(steps):
        x = texts(16, half)
        optimizer.zero_grad()
        model(x, labels=x).loss.backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=64, help="hidden size of the model")
    parser.add_argument("--steps", type=int, default=300, help="training steps of the softmax model")
    parser.add_argument("--ridge-steps", type=int, default=30, help="training steps of the ridges")
    parser.add_argument("--half", type=int, default=12, help="letters before they are repeated")
    args = parser.parse_args()

    register()  # from here on attn_implementation="lla" is a name like "sdpa"
    torch.manual_seed(0)
    sizes = dict(vocab_size=32, hidden_size=args.width, intermediate_size=2 * args.width, eos_token_id=None)
    sizes |= dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    model = LlamaForCausalLM(LlamaConfig(**sizes, attn_implementation="sdpa"))
    train(model, model.parameters(), args.steps, 3e-3, args.half)

    new = texts(64, args.half)
    loss = lambda model: model(new, labels=new).loss.item()
    print(f"softmax attention, trained:      loss {loss(model):.3f} on new texts")
    for ridge in (1.0, 10.0, 1000.0):  # with the last one a model goes on saying what it said
        lines = copy.deepcopy(model)
        lines.config.lla_ridge = ridge
        lines.set_attn_implementation("lla")
        print(f"the same weights, ridge {ridge:6.0f}:  loss {loss(lines):.3f}")

    own = [p for name, p in lines.named_parameters() if "lla_ridge" in name]
    train(lines, own, args.ridge_steps, 0.2, args.half)
    print(f"a ridge for each head, trained:  loss {loss(lines):.3f}")
    found = lines.model.layers[0].self_attn.lla_ridge().flatten().tolist()
    print("ridges of the first layer:", ", ".join(f"{ridge:.0f}" for ridge in found))


if __name__ == "__main__":
    main()
