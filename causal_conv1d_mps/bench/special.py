"""Tables of their own: the overhead of a call, the instruction sets, the number of threads."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich import box
from rich.table import Table
from torch import Tensor

from .._functions import causal_conv1d, causal_conv1d_update
from .._library import library
from .cases import DTYPES, OURS, Case, bound, pytorch
from .show import digits
from .timing import Call, measure


class Empty(torch.autograd.Function):
    """What a gradient in Python costs at the least."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Saves its inputs as ours does."""
        ctx.save_for_backward(x, weight, bias)
        return x.detach()

    @staticmethod
    def backward(ctx: Any, *douts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Anything of the right shapes."""
        _, weight, bias = ctx.saved_tensors
        return douts[0], weight, bias


def overhead(args: argparse.Namespace) -> Table:
    """Where the time of a call goes that computes next to nothing: 1x4x8, SiLU."""
    x, weight, bias, dout = Case(1, 4, 8).tensors(DTYPES[args.dtype], args.device)
    column, state = x[:, :, :1].clone(), torch.zeros(1, 4, 4, dtype=x.dtype, device=args.device)
    operations = torch.ops.causal_conv1d_mps
    stages: dict[str, Call] = {
        "torch.empty_like(x)": partial(torch.empty_like, x),
        "F.silu(x)": partial(F.silu, x),
        "the operation of the forward": partial(
            operations.forward_plain.default._op, x, weight, bias, True
        ),
        "causal_conv1d": partial(causal_conv1d, x, weight, bias, "silu"),
        "the operation of the update": partial(
            operations.update_plain.default._op, column, state, weight, bias, True
        ),
        "causal_conv1d_update": partial(causal_conv1d_update, column, state, weight, bias, "silu"),
        "the operation of the backward": partial(
            operations.backward_plain.default._op, dout, x, weight, bias, True
        ),
    }
    with torch.no_grad():
        samples = measure(stages, args)
    inputs = tuple(t.clone().requires_grad_() for t in (x, weight, bias))

    def both(function: Callable[..., Tensor], *inputs: Tensor) -> Any:
        return torch.autograd.grad(function(*inputs), inputs, dout)

    conv = partial(causal_conv1d, activation="silu")
    samples |= measure(
        {
            "causal_conv1d, with gradients": partial(conv, *inputs),
            "causal_conv1d + backward": partial(both, conv, *inputs),
            "an empty autograd.Function + backward": partial(both, Empty.apply, *inputs),
            "F.silu + backward": partial(both, F.silu, inputs[0]),
            "F.conv1d + F.silu + backward": partial(
                both, partial(pytorch, activation="silu"), *inputs
            ),
        },
        args,
    )
    result = Table("us", "Stage", title="Overhead of a call", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, seconds in samples.items():
        result.add_row(digits(1e6 * min(seconds)), name)
    return result


PACKAGE = Path(__file__).resolve().parents[1]
# What to hide, from the best ISA down.
LADDER = ("", "avx512f,bf16", "avx512f,avx2,bf16,neon")


def ladder_rung(args: argparse.Namespace) -> None:
    """Prints the milliseconds of this process's ISA; `ladder` runs it."""
    times: dict[str, Any] = {}
    for size in ((2, 128, 256), (1, 2048, 2048)):
        for channels_last in (False, True):
            case = Case(*size, activation="silu", channels_last=channels_last)
            for dtype in DTYPES:
                tensors = case.tensors(DTYPES[dtype], "cpu")
                calls = {"forward": bound(causal_conv1d, tensors, case)}
                for tensor in tensors[:-1]:
                    tensor.requires_grad_()
                calls["backward"] = bound(causal_conv1d, tensors, case)
                with torch.no_grad():
                    samples = measure(calls, args)
                times |= {f"{case.name} {dtype} {n}": 1e3 * min(s) for n, s in samples.items()}
    print(json.dumps([library.causal_conv1d_isa().decode(), times]))


def ladder(args: argparse.Namespace) -> Table:
    """Forward and backward with each ISA of this machine, in processes that take turns."""
    turns = 3
    best: dict[Any, Any] = {}
    args.rounds = max(1, args.rounds // turns)
    for _ in range(turns):
        for hidden in LADDER:
            command = [sys.executable, "-m", PACKAGE.name, "bench", "--isa-rung"]
            command += ["--rounds", str(args.rounds), "--threads", str(torch.get_num_threads())]
            environment = os.environ | {"CAUSAL_CONV1D_HIDE": hidden}
            environment |= {"PYTHONPATH": str(PACKAGE.parent)}
            out = subprocess.check_output(command, env=environment, text=True)
            isa, times = json.loads(out.splitlines()[-1])
            seen = best.setdefault(isa, times)
            best[isa] = {name: min(seen[name], times[name]) for name in times}
    result = Table("Config", title="ISA ladder (ms)", box=box.SIMPLE_HEAD, pad_edge=False)
    for isa in best:
        result.add_column(isa, justify="right")
    first = next(iter(best.values()))
    for name in first:
        cells = [
            digits(times[name])
            + ("" if times is first else f" ({digits(times[name] / first[name])}x)")
            for times in best.values()
        ]
        result.add_row(name, *cells)
    return result


def scaling(args: argparse.Namespace) -> Table:
    """GB/s read and written by the forward of 8x4096x2048, beside copy_, per number of threads."""
    case = Case(8, 4096, 2048, activation="silu")
    x, weight, bias, out = case.tensors(DTYPES[args.dtype], "cpu")
    result = Table(
        "Threads", "ours (GB/s)", "x.clone()", "out.copy_(x)", "ours / clone",
        title=f"{case.name}, {args.dtype}", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    most, threads = os.cpu_count() or 1, 1
    while threads <= most:
        torch.set_num_threads(threads)
        calls: dict[str, Call] = {
            OURS: partial(causal_conv1d, x, weight, bias, case.activation),
            "clone": x.clone,
            "copy": partial(out.copy_, x),
        }
        with torch.no_grad():
            seconds = {name: min(s) for name, s in measure(calls, args).items()}
        rates = [2e-9 * x.nbytes / s for s in seconds.values()]
        result.add_row(str(threads), *(digits(r) for r in rates), f"{digits(rates[0] / rates[1])}x")
        threads *= 2
    return result
