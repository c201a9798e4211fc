"""Whether a user who leaves the fast path would do better with PyTorch's own functions.

The rows are what callers meet beside the usual widths, contiguous rows and 16 or 32 bits: other
strides, other widths, float64, and decoding after either prefill.  Every figure is a whole Python
call on the CPU, against ``F.conv1d`` (and ``F.silu``): the minimum of interleaved rounds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._library import library
from ._table import show
from .functional import causal_conv1d, causal_conv1d_fn, causal_conv1d_update
from .selftest import chip

BATCH, DIM, SEQLEN = 4, 256, 512
WIDTHS = (1, 9, 12, 16, 32, 64, 128)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2, "fp64": 1e-13}
SAMPLE = 1e-3  # seconds, at the least: reading the clock must not count

Call = Callable[[], Any]

# How x of (BATCH, DIM, SEQLEN), or as many elements, is made of a contiguous tensor.
FIRST, LAST = "channel-first", "channels-last"
LAYOUTS: dict[str, Callable[..., Tensor]] = {
    FIRST: lambda make: make(BATCH, DIM, SEQLEN),
    LAST: lambda make: make(BATCH, SEQLEN, DIM).mT,
}
STRIDES: dict[str, Callable[..., Tensor]] = {
    "every 2nd time": lambda make: make(BATCH, DIM, 2 * SEQLEN)[:, :, ::2],
    "one of 3 interleaved": lambda make: make(BATCH, DIM, SEQLEN, 3)[..., 1],
    "every 2nd channel and time": lambda make: make(BATCH, 2 * DIM, 2 * SEQLEN)[:, ::2, ::2],
    "channels-last, every 2nd channel": lambda make: make(BATCH, SEQLEN, 2 * DIM)[..., ::2].mT,
    "(dim, seqlen, batch)": lambda make: make(DIM, SEQLEN // 4, 4 * BATCH).permute(2, 0, 1),
    "(seqlen, dim, batch)": lambda make: make(SEQLEN // 4, DIM, 4 * BATCH).permute(2, 1, 0),
}


@dataclass(frozen=True)
class Row:
    """A call, what a user would write for it, and by kind what their ratio is to be."""

    kind: str
    name: str
    dtype: str
    ours: Call
    peer: Call

    def differs(self) -> bool:
        """Whether the two results are not the same but for rounding."""
        ours, peer = self.ours(), self.peer()
        tolerance = TOLERANCE[self.dtype]
        pairs = zip(ours, peer, strict=True) if isinstance(ours, tuple) else [(ours, peer)]
        return any(
            (a.double() - b.double()).abs().max() > tolerance * (1 + 4 * b.double().abs().max())
            for a, b in pairs
        )


def by_hand(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What a user writes without this package."""
    dim, width = weight.shape
    out = F.conv1d(x, weight[:, None], bias, padding=width - 1, groups=dim)
    return F.silu(out[..., : x.shape[-1]])


def update_by_hand(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A decoding step without this package: (batch, dim, 1) and states of width - 1 columns."""
    window = torch.cat((state, x), dim=-1)
    state.copy_(window[:, :, 1:])
    return F.silu(F.conv1d(window, weight[:, None], bias, groups=len(weight)))


def forward_and_backward(
    kind: str, name: str, dtype: str, layout: Callable[..., Tensor], width: int
) -> Iterator[Row]:
    """The rows of both passes."""
    normal = partial(torch.randn, dtype=DTYPES[dtype])
    x, name = layout(normal), f"{name}, width {width}"
    weight, bias = normal(x.shape[1], width) / width**0.5, normal(x.shape[1])
    ours, peer = partial(causal_conv1d, x, weight, bias, "silu"), partial(by_hand, x, weight, bias)
    yield Row(kind, f"forward, {name}", dtype, torch.no_grad()(ours), torch.no_grad()(peer))
    inputs = x, weight, bias = [t.detach().requires_grad_() for t in (x, weight, bias)]
    outs = causal_conv1d(x, weight, bias, "silu"), by_hand(x, weight, bias)
    dout = torch.randn_like(outs[0])
    grad = partial(torch.autograd.grad, inputs=inputs, grad_outputs=dout, retain_graph=True)
    yield Row(kind, f"backward, {name}", dtype, *(partial(grad, out) for out in outs))


def decoding(prefill: str, dtype: str, width: int) -> Row:
    """A step after a prefill in that layout, each on states of its own."""
    normal = partial(torch.randn, dtype=DTYPES[dtype])
    x = LAYOUTS[prefill](normal)
    weight, bias, token = normal(DIM, width) / width**0.5, normal(DIM), normal(BATCH, DIM, 1)
    _, state = causal_conv1d_fn(x, weight, bias, return_final_states=True, activation="silu")
    assert isinstance(state, Tensor)
    ours = partial(causal_conv1d_update, token, state.clone(), weight, bias, "silu")
    peer = partial(update_by_hand, token, state.clone(), weight, bias)
    name = f"update after {prefill} prefill, width {width}"
    return Row("update", name, dtype, torch.no_grad()(ours), torch.no_grad()(peer))


def rows() -> Iterator[Row]:
    """Every row, made when it is wanted."""
    for name, layout in STRIDES.items():
        for dtype in ("fp32", "bf16"):
            yield from forward_and_backward("strides", name, dtype, layout, 4)
    for width in WIDTHS:
        kind = "width 1" if width == 1 else "widths above 8"
        for name, layout in LAYOUTS.items():
            for dtype in ("fp32", "bf16"):
                yield from forward_and_backward(kind, name, dtype, layout, width)
    for width in (1, 4, 16):
        for name, layout in LAYOUTS.items():
            yield from forward_and_backward("float64", name, "fp64", layout, width)
    for width in (4, 16, 64):
        for prefill in LAYOUTS:
            for dtype in ("fp32", "bf16", "fp64"):
                yield decoding(prefill, dtype, width)


def seconds(call: Call, repeats: int) -> float:
    """Per call, of that many in a row."""
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats


def minima(row: Row, rounds: int) -> tuple[float, float]:
    """Seconds of ours and of the peer."""
    calls = row.ours, row.peer
    repeats = [max(1, round(SAMPLE / min(seconds(call, 1), seconds(call, 1)))) for call in calls]
    samples = [
        [seconds(call, count) for call, count in zip(calls, repeats, strict=True)]
        for _ in range(rounds)
    ]
    ours, peer = (min(column) for column in zip(*samples, strict=True))
    return ours, peer


def cliffs(rounds: int = 10) -> int:
    """Prints the table and the smallest ratio of each kind; 1 if any is below 1, else 0."""
    title = (
        f"{chip('cpu')}, torch {torch.__version__}, {library.causal_conv1d_isa().decode()}, "
        f"{torch.get_num_threads()} thread(s), {rounds} rounds, with SiLU"
    )
    table: list[list[str]] = []
    least: dict[str, tuple[float, str]] = {}
    wrong: list[str] = []
    for row in rows():
        if row.differs():
            wrong.append(f"{row.name}, {row.dtype}")
        ours, peer = minima(row, rounds)
        ratio = peer / ours
        table.append(
            [row.name, row.dtype, f"{1e6 * ours:.1f}", f"{1e6 * peer:.1f}", f"{ratio:.2f}"]
        )
        kind = row.kind + (", backward" if row.name.startswith("backward") else "")
        least[kind] = min(least.get(kind, (ratio, "")), (ratio, f"{row.name}, {row.dtype}"))
    show(title, ["call", "dtype", "ours us", "by hand us", "ratio"], table)
    smallest = [[kind, f"{ratio:.2f}", name] for kind, (ratio, name) in least.items()]
    show(f"Of {len(table)} rows, the smallest ratios", ["kind", "ratio", "call"], smallest)
    for name in wrong:
        print(f"WRONG: {name}")
    return int(bool(wrong) or min(least.values())[0] < 1)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    return cliffs(args.rounds)


if __name__ == "__main__":
    sys.exit(main())
