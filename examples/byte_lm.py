"""A byte-level language model on real text, with the convolution of this package in its blocks.

It reads the sources of Python's own standard library as bytes and learns to continue them. A
block is LFM2's short convolution (a causal depthwise conv between two gates) and a gated MLP.
Some minutes of training on a laptop's CPU end in lines that look like Python:

    python examples/byte_lm.py

--compare trains the same model beside it with torch's F.conv1d in place of the convolution, and
fails if the two loss curves part; --short is over in half a minute:

    python examples/byte_lm.py --short --compare --plot curves.png
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from time import perf_counter

import torch
from torch import Tensor, nn

from causal_conv1d_mps import CausalConv1d

MAX_BYTES = 4 << 20
PROMPT = b"\n\tdef __init__(self, "
# One thread: several that wait for each other are slowest where others share the cores.
DEFAULTS = {
    "steps": 1500, "dim": 128, "layers": 8, "seqlen": 128, "batch": 8, "width": 4, "seed": 0,
    "threads": 1,
}  # fmt: skip
SHORT = {"steps": 200, "dim": 64, "layers": 4, "batch": 4}
# The runs differ in rounding alone, which training spreads: filters that start one ulp off make a
# difference of 5e-7 nats by step 100 and 2e-4 by step 1000; a lost bias gradient, 6e-5 by step 2.
TOLERANCE, TOLERANCE_PER_STEP = 1e-5, 2e-6
LN2 = math.log(2)
Series = dict[str, list[float]]


class TorchConv1d(CausalConv1d):
    """The same parameters and result by F.conv1d: padded on both sides, the end cut off."""

    def forward(self, x: Tensor) -> Tensor:
        pad = self.width - 1
        out = nn.functional.conv1d(x, self.weight[:, None], self.bias, padding=pad, groups=self.dim)
        return out[..., : x.shape[-1]]


CONVS = {"causal_conv1d": CausalConv1d, "F.conv1d": TorchConv1d}


class Block(nn.Module):
    def __init__(self, dim: int, conv: CausalConv1d) -> None:
        super().__init__()
        self.conv = conv
        self.conv_norm, self.mlp_norm = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.in_proj = nn.Linear(dim, 3 * dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)
        self.up = nn.Linear(dim, 4 * dim, bias=False)
        self.down = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        b, c, x = self.in_proj(self.conv_norm(h)).chunk(3, dim=-1)
        # (batch, time, dim) seen as (batch, dim, time): a view, nothing is copied.
        y = self.conv((b * x).transpose(1, 2)).transpose(1, 2)
        h = h + self.out_proj(c * y)
        gate, value = self.up(self.mlp_norm(h)).chunk(2, dim=-1)
        return h + self.down(nn.functional.silu(gate) * value)


def build(conv: type[CausalConv1d], args: argparse.Namespace) -> nn.Sequential:
    torch.manual_seed(args.seed)
    blocks = [Block(args.dim, conv(args.dim, args.width)) for _ in range(args.layers)]
    head = nn.Linear(args.dim, 256)
    return nn.Sequential(nn.Embedding(256, args.dim), *blocks, nn.RMSNorm(args.dim), head)


def bytes_of(files: list[Path]) -> Tensor:
    text = bytearray().join(file.read_bytes() for file in files)
    # Short filters lose count of a long indent: four spaces become one tab.
    text = text.replace(b"    ", b"\t")[:MAX_BYTES]
    return torch.frombuffer(text, dtype=torch.uint8).long()


def read_text() -> tuple[Tensor, Tensor]:
    """The bytes to train on and those held out, every 20th file."""
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    held_out = files[::20]
    return bytes_of([file for file in files if file not in held_out]), bytes_of(held_out)


def loss_of(model: nn.Module, windows: Tensor) -> Tensor:
    """Mean loss in nats per byte; windows: (batch, seqlen + 1)."""
    logits = model(windows[:, :-1]).flatten(0, 1)
    return nn.functional.cross_entropy(logits, windows[:, 1:].flatten())


def shown(loss: float) -> str:
    return f"{loss:.4f} ({loss / LN2:.3f} bits)"


def stepper(model: nn.Module, args: argparse.Namespace) -> Callable[[Tensor], float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20) * (1 - step / args.steps)
    )

    def step(windows: Tensor) -> float:
        loss = loss_of(model, windows)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        return loss.item()

    return step


def train(
    models: dict[str, nn.Sequential], text: Tensor, args: argparse.Namespace
) -> tuple[Series, Series]:
    """The loss and the seconds of every step, by model."""
    steppers = {name: stepper(model, args) for name, model in models.items()}
    losses: Series = {name: [] for name in models}
    seconds: Series = {name: [] for name in models}
    generator = torch.Generator().manual_seed(args.seed)
    every = max(1, args.steps // 20)
    for i in range(1, args.steps + 1):
        starts = torch.randint(len(text) - args.seqlen, (args.batch, 1), generator=generator)
        windows = text[starts + torch.arange(args.seqlen + 1)]
        # The models step in turn: a slow moment of the machine meets them alike.
        for name, step in steppers.items():
            start = perf_counter()
            losses[name].append(step(windows))
            seconds[name].append(perf_counter() - start)
        if i == 1 or i % every == 0:
            means = (f"{name} {shown(fmean(losses[name][-every:]))}" for name in models)
            print(f"step {i:5}   {'   '.join(means)}", flush=True)
    return losses, seconds


@torch.no_grad()
def held_out_loss(model: nn.Module, text: Tensor, args: argparse.Namespace) -> float:
    """Over 256 windows, evenly spread."""
    windows = text.unfold(0, args.seqlen + 1, len(text) // 256)[:256]
    return fmean(loss_of(model, window[None]).item() for window in windows)


def conv_seconds(models: dict[str, nn.Sequential], args: argparse.Namespace) -> dict[str, float]:
    """Shortest time of one convolution alone, forward and backward, on the shape of training."""
    x = torch.randn(args.batch, args.seqlen, args.dim).transpose(1, 2).requires_grad_()
    dout = torch.randn_like(x)
    seconds: Series = {name: [] for name in models}
    for _ in range(50):
        for name, model in models.items():
            conv = model[1].conv
            start = perf_counter()
            torch.autograd.grad(conv(x), [x, *conv.parameters()], dout)
            seconds[name].append(perf_counter() - start)
    return {name: min(times) for name, times in seconds.items()}


@torch.no_grad()
def generate(model: nn.Module, args: argparse.Namespace) -> str:
    generator = torch.Generator().manual_seed(args.seed)
    # What a stack of convolutions sees: cropping the context there changes nothing.
    reach = 1 + args.layers * (args.width - 1)
    text = list(PROMPT)
    for _ in range(400):
        logits = model(torch.tensor([text[-reach:]]))[0, -1]
        probabilities = (logits / 0.6).softmax(0)
        text.append(int(torch.multinomial(probabilities, 1, generator=generator)))
    return bytes(text).decode("ascii", "backslashreplace").expandtabs(4)


def plot(losses: Series, path: str) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    # The curves coincide: a thin one on a thick one shows both.
    styles = {"linewidth": 1, "zorder": 3}, {"linewidth": 4, "alpha": 0.5}
    for (name, values), style in zip(losses.items(), styles, strict=False):
        axes.plot([loss / LN2 for loss in values], label=name, **style)
    axes.set(xlabel="step", ylabel="training loss, bits per byte")
    axes.legend()
    figure.savefig(path, dpi=150)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="default: %(default)s")
    parser.add_argument("--compare", action="store_true", help="train with F.conv1d as well")
    parser.add_argument("--plot", metavar="FILE", help="draw the loss curves into FILE")
    parser.add_argument("--short", action="store_true", help=f"defaults become {SHORT}")
    if parser.parse_known_args()[0].short:
        parser.set_defaults(**SHORT)
    return parser.parse_args()


def main() -> int:
    args = parse()
    torch.set_num_threads(args.threads)
    text, held_out = read_text()
    names = list(CONVS) if args.compare else ["causal_conv1d"]
    models = {name: build(CONVS[name], args) for name in names}
    size = sum(p.numel() for p in models["causal_conv1d"].parameters())
    print(f"{size:,} parameters, {len(text):,} bytes to train on, threads: {args.threads}")

    losses, seconds = train(models, text, args)
    conv = conv_seconds(models, args)
    print("\nconvolution    held-out loss         training  shortest step  convolutions in it")
    for name, model in models.items():
        step, convs = min(seconds[name]), args.layers * conv[name]
        loss = shown(held_out_loss(model, held_out, args))
        print(
            f"{name:13}  {loss:19}  {sum(seconds[name]):6.1f} s"
            f"  {step * 1e3:10.1f} ms  {convs * 1e3:6.2f} ms, {convs / step:.1%}"
        )
    print(generate(models["causal_conv1d"], args))
    if args.plot:
        plot(losses, args.plot)
    if not args.compare:
        return 0
    ours, theirs = (torch.tensor(losses[name], dtype=torch.float64) for name in CONVS)
    gap = (ours - theirs).abs()
    agree = bool((gap <= TOLERANCE + TOLERANCE_PER_STEP * torch.arange(len(gap))).all())
    print(
        f"The loss curves {'agree' if agree else 'DO NOT AGREE'}: max abs difference "
        f"{gap.max():.1e} nats, tolerance {TOLERANCE:.0e} + {TOLERANCE_PER_STEP:.0e} per step"
    )
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
