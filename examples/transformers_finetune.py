"""Fine-tunes an LFM2 of transformers on packed text on the CPU.

The functions of Python's standard library, as bytes, are the documents.
`DataCollatorWithFlattening` puts them end to end with a `seq_idx` that keeps them apart in the
convolution; without a package for it transformers refuses packed sequences, and documents have to
be padded to the longest. Both are trained here, from the same weights, on the same documents. It
needs `pip install transformers`:

    python examples/transformers_finetune.py --plot finetune.png
"""

from __future__ import annotations

import argparse
import ast
import math
import random
import sysconfig
from pathlib import Path
from sys import modules
from time import perf_counter

import torch

import causal_conv1d_mps

causal_conv1d_mps.install()  # from here on models find it

PACKED, PADDED = "packed, causal_conv1d_mps", "padded, transformers' own"
END, VOCABULARY = 256, 257


def documents(longest: int, seed: int) -> list[list[int]]:
    """The functions of some modules, shuffled: bytes and an end."""
    texts = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:60]:
        text = path.read_bytes()
        lines = text.splitlines(keepends=True)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                texts.append(b"".join(lines[node.lineno - 1 : node.end_lineno]))
    random.Random(seed).shuffle(texts)
    return [[*text, END] for text in texts if len(text) < longest]


def build(args: argparse.Namespace) -> torch.nn.Module:
    from transformers import Lfm2Config, Lfm2ForCausalLM

    torch.manual_seed(args.seed)
    kinds = ["conv", "conv", "full_attention", "conv"]
    config = Lfm2Config(
        vocab_size=VOCABULARY, hidden_size=args.hidden, num_hidden_layers=args.layers,
        num_attention_heads=16, num_key_value_heads=8, intermediate_size=4 * args.hidden,
        layer_types=[kinds[i % 4] for i in range(args.layers)],
    )  # fmt: skip
    return Lfm2ForCausalLM(config)


def packed(batch: list[list[int]]) -> dict[str, torch.Tensor]:
    """(1, total), documents end to end, and which is which."""
    from transformers import DataCollatorWithFlattening

    collator = DataCollatorWithFlattening(return_seq_idx=True, return_tensors="pt")
    return dict(collator([{"input_ids": ids} for ids in batch]))


def padded(batch: list[list[int]]) -> dict[str, torch.Tensor]:
    """(batch, longest): a document per row."""
    longest = max(map(len, batch))
    ids = torch.tensor([ids + [END] * (longest - len(ids)) for ids in batch])
    mask = torch.arange(longest) < torch.tensor([[len(ids)] for ids in batch])
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": ids.where(mask, -100)}


def train(way: str, args: argparse.Namespace) -> tuple[list[float], float]:
    """The loss of every step, in nats per byte, and bytes per second."""
    model = build(args).train()
    if way == PADDED:  # transformers' own functions
        code = modules[type(model).__module__]
        for name in ("causal_conv1d_fn", "causal_conv1d_update"):
            setattr(code, name, getattr(code, name).__wrapped__)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    texts, losses, count, start = documents(args.longest, args.seed), [], 0, perf_counter()
    for step in range(args.steps):
        batch = [texts[i % len(texts)] for i in range(step * args.batch, (step + 1) * args.batch)]
        tensors = packed(batch) if way == PACKED else padded(batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = model(**tensors, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        count += sum(map(len, batch))
        if step % 10 == 0 or step == args.steps - 1:
            print(f"{way}: step {step}, {losses[-1]:.3f} nats/byte", flush=True)
    return losses, count / (perf_counter() - start)


def plot(path: Path, curves: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (way, losses), style in zip(curves.items(), ("-", "--"), strict=True):
        axes.plot(losses, style, label=way)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats/byte")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8, metavar="DOCUMENTS")
    parser.add_argument("--longest", type=int, default=500, metavar="BYTES")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--bf16", action="store_true", help="autocast")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--plot", type=Path, metavar="F.png")
    args = parser.parse_args()
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    curves = {}
    for way in (PACKED, PADDED):
        curves[way], speed = train(way, args)
        last = math.fsum(curves[way][-10:]) / len(curves[way][-10:])
        print(f"{way}: first loss {curves[way][0]:.3f}, last 10 {last:.3f}, {speed:.0f} bytes/s")
    if args.plot:
        plot(args.plot, curves)


if __name__ == "__main__":
    main()
