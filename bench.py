"""How fast causal_conv1d_mps is, against PyTorch, torch.compile and what memory allows at all.

Every figure is a whole Python call.  In each round every contender is timed once, in random
order: a slow spell of the machine hits all of them, and none always finds the caches and the heap
as the same other one left them.  Tables show the minima.

On a GPU calls are timed in batches, at the end of which the host waits.  "host" is the time until
a call returns, the GPU still at work: where the call takes no longer, the GPU waits for the host.
"GPU" is the time of a call in a replayed CUDA graph.

The floor that memory sets is ``x.clone()``, as whatever returns a new tensor allocates and writes
as much; for a backward pass, which reads x and dout and writes dx, it is ``x + dout``.  Linux sets
a lower one to us, from 32 MiB on: we ask it for huge pages, and PyTorch does not.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch._functorch import config as functorch_config

from causal_conv1d_mps import (
    __version__,
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_update,
    causal_conv1d_varlen_fn,
)
from causal_conv1d_mps._library import library
from causal_conv1d_mps.selftest import chip, lack

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OURS, PYTORCH, COMPILED, FLOOR = "ours", "PyTorch", "torch.compile", "floor"
# Seconds: reading the clock must not count, nor a timer interrupt, nor waiting for a GPU.
MIN_SAMPLE = {"cpu": 2e-3, "cuda": 1e-2, "mps": 5e-2}
BURST = 20  # calls in a row for the host's time: no device's queue is full by then
GRAPH_CALLS = 20  # in a CUDA graph, whose start counts once
CHECKED_ELEMENTS = 1 << 20  # of x, at the most: float64 references are slow and large
TABLE_WIDTH = 150  # columns, whatever the terminal: wrapped lines still tell more than "..."

Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A configuration, always with a bias; channels-last is a transposed (B,T,D) tensor."""

    batch: int
    dim: int
    seqlen: int
    width: int = 4
    activation: str | None = None
    channels_last: bool = False

    @property
    def name(self) -> str:
        """What tables and plot call it."""
        size = f"{self.batch}x{self.dim}x{self.seqlen}x{self.width}"
        return size + " SiLU" * bool(self.activation) + " ch-last" * self.channels_last

    def tensors(self, dtype: torch.dtype, device: str) -> tuple[Tensor, ...]:
        """Random x, weight, bias and dout."""
        normal = partial(torch.randn, dtype=dtype, device=device)
        if self.channels_last:
            x = normal(self.batch, self.seqlen, self.dim).transpose(1, 2)
        else:
            x = normal(self.batch, self.dim, self.seqlen)
        return x, normal(self.dim, self.width), normal(self.dim), torch.randn_like(x)


CLASSIC = [
    Case(1, 64, 128),
    Case(2, 128, 256),
    Case(4, 256, 512),
    Case(1, 512, 1024),
    Case(8, 64, 128),
    Case(2, 128, 256, activation="silu"),
]
MODEL = [
    Case(*size, activation="silu", channels_last=channels_last)
    for size in ((1, 2048, 2048), (4, 2048, 2048), (1, 8192, 1024))
    for channels_last in (False, True)
]
LARGE = [  # a GPU's memory is not its cache
    Case(*size, activation="silu", channels_last=channels_last)
    for size in ((8, 4096, 2048), (1, 4096, 65536))
    for channels_last in (False, True)
]


@dataclass(frozen=True)
class Stats:
    """Milliseconds per call over the rounds; stddev in percent of the mean."""

    minimum: float
    median: float
    stddev: float

    @classmethod
    def of(cls, seconds: list[float]) -> Stats:
        """The statistics of one contender's samples."""
        spread = statistics.pstdev(seconds) / statistics.mean(seconds)
        return cls(1e3 * min(seconds), 1e3 * statistics.median(seconds), 100 * spread)


@dataclass(frozen=True)
class Row:
    """What was measured of a case; note says why torch.compile is missing, if it is.

    host (on a GPU) and graph (CUDA) are their shortest times of a call, in milliseconds.
    """

    case: Case
    stats: dict[str, Stats]
    host: dict[str, float]
    graph: dict[str, float]
    correct: bool
    note: str

    def ratio(self, one: str, other: str, of: str = "minimum") -> float:
        """Time of one contender over that of another."""
        return getattr(self.stats[one], of) / getattr(self.stats[other], of)


# ---- what is measured


def pytorch(x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
    """The same out of PyTorch's own operations."""
    dim, width = weight.shape
    out = F.conv1d(x, weight[:, None], bias, padding=width - 1, groups=dim)[..., : x.shape[2]]
    return F.silu(out) if activation else out


def shifted(x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
    """The same as a sum of shifted products, which torch.compile makes one loop of."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    width, seqlen = weight.shape[1], x.shape[2]
    padded = F.pad(x, (width - 1, 0)).to(dtype)
    out = torch.zeros_like(x, dtype=dtype) + bias[:, None]  # zeros_like keeps x's layout
    for k in range(width):
        out = out + weight[:, k, None] * padded[:, :, k : k + seqlen]
    return (F.silu(out) if activation else out).to(x.dtype)


def bound(function: Callable[..., Tensor], tensors: tuple[Tensor, ...], case: Case) -> Call:
    """The call to time: forward, or if the tensors require gradients the backward pass alone."""
    *inputs, dout = tensors
    forward = partial(function, *inputs, case.activation)
    if not inputs[0].requires_grad:
        return forward
    return partial(torch.autograd.grad, forward(), inputs, dout, retain_graph=True)


def contenders(case: Case, tensors: tuple[Tensor, ...]) -> tuple[dict[str, Call], str]:
    """The calls to compare, and why torch.compile is not among them, if so."""
    calls = {OURS: bound(causal_conv1d, tensors, case), PYTORCH: bound(pytorch, tensors, case)}
    x, dout = tensors[0].detach(), tensors[-1]
    calls[FLOOR] = partial(torch.add, x, dout) if tensors[0].requires_grad else x.clone
    torch.compiler.reset()  # past some shapes of a function it would quietly stay eager
    # Spelt out, the number of threads is sure to be in the key of the cache of compiled code.
    options = {"cpp.threads": torch.get_num_threads()}
    compiled = torch.compile(shifted, dynamic=False, options=options)
    try:
        call = bound(compiled, tensors, case)
        call()
    except RuntimeError as error:
        return calls, str(error).strip().splitlines()[0]
    return {**calls, COMPILED: call}, ""


def measure(calls: dict[str, Call], args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds per call of every contender, a sample of each per round."""
    synchronize = torch.get_device_module(args.device).synchronize

    def batch(call: Call, repeats: int) -> float:
        synchronize()
        start = perf_counter()
        for _ in range(repeats):
            call()
        synchronize()
        return perf_counter() - start

    repeats = dict.fromkeys(calls, 1)
    for name, call in calls.items():
        # The fastest of three: one interrupt must not pass for a long call.
        while min(batch(call, repeats[name]) for _ in range(3)) < MIN_SAMPLE[args.device]:
            repeats[name] *= 2
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.rounds):
        for name in random.sample(list(calls), len(calls)):
            samples[name].append(batch(calls[name], repeats[name]) / repeats[name])
    return samples


def host_times(calls: dict[str, Call], args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds that a call keeps the host of a GPU: of a burst, before any waiting."""
    synchronize = torch.get_device_module(args.device).synchronize

    def burst(call: Call) -> float:
        synchronize()
        start = perf_counter()
        for _ in range(BURST):
            call()
        return perf_counter() - start

    if args.device == "cpu":
        return {}
    return {name: 1e3 / BURST * min(burst(call) for _ in range(5)) for name, call in calls.items()}


def captured(call: Call, count: int = GRAPH_CALLS) -> torch.cuda.CUDAGraph:
    """A CUDA graph of so many calls."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        for _ in range(count):
            call()
    return graph


def graph_times(calls: dict[str, Call], args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of a call in a CUDA graph: the GPU's alone."""
    if args.device != "cuda":
        return {}
    graphs = {name: captured(call) for name, call in calls.items()}
    samples = measure({name: graph.replay for name, graph in graphs.items()}, args)
    return {name: 1e3 / GRAPH_CALLS * min(seconds) for name, seconds in samples.items()}


def token(batch: int, dim: int, dtype: str, device: str) -> tuple[Tensor, ...]:
    """Random x of one token per row, state, weight of width 4, bias."""
    normal = partial(torch.randn, dtype=DTYPES[dtype], device=device)
    return normal(batch, dim, 1), normal(batch, dim, 4), normal(dim, 4), normal(dim)


def decoding(
    x: Tensor, state: Tensor, weight: Tensor, bias: Tensor
) -> tuple[dict[str, Call], bool]:
    """Ours, and what transformers does without a package; whether ours is right."""

    def ours(state: Tensor = state) -> Tensor:
        return causal_conv1d_update(x, state, weight, bias, "silu")

    def fallback(state: Tensor = state) -> Tensor:
        columns = torch.cat([state, x], dim=-1)
        state.copy_(columns[:, :, -4:])
        return F.silu(F.conv1d(columns, weight[:, None], bias, groups=x.shape[1])[:, :, -1:])

    exact = shifted(torch.cat([state, x], -1), weight, bias, "silu")[:, :, -1:]
    right = torch.allclose(ours(state.clone()).float(), exact.float(), rtol=2**-6, atol=1e-5)
    return {OURS: ours, "cat, copy_, conv1d, silu": fallback}, right


def packed(dim: int, args: argparse.Namespace) -> tuple[dict[str, Call], bool]:
    """64 sequences of 32 tokens, channels-last: one packed call, and what it could replace."""
    length, count, device = 32, 64, args.device
    normal = partial(torch.randn, dtype=DTYPES[args.dtype], device=device)
    x = normal(1, count * length, dim).transpose(1, 2)
    weight, bias, states = normal(dim, 4), normal(dim), normal(count, dim, 3)
    cu_seqlens = torch.arange(count + 1, device=device) * length
    ids = torch.arange(count, dtype=torch.int32, device=device).repeat_interleave(length)[None]

    def calls() -> list[Tensor]:
        return [causal_conv1d(part, weight, bias, "silu") for part in x.split(length, dim=2)]

    contenders: dict[str, Call] = {
        OURS: partial(causal_conv1d_varlen_fn, x, weight, bias, cu_seqlens, None, False, "silu"),
        f"{count} calls": calls,
        "with states": partial(
            causal_conv1d_varlen_fn, x, weight, bias, cu_seqlens, states, True, "silu"
        ),
        "by seq_idx": partial(causal_conv1d_fn, x, weight, bias, ids, activation="silu"),
        "as one sequence": partial(causal_conv1d, x, weight, bias, "silu"),
    }
    one_by_one = torch.cat(calls(), dim=2)
    right = all(torch.equal(contenders[name](), one_by_one) for name in (OURS, "by seq_idx"))
    return contenders, right


def extra_table(
    title: str,
    cases: dict[str, Callable[[argparse.Namespace], tuple[dict[str, Call], bool]]],
    args: argparse.Namespace,
    tokens: Callable[[str], int],
) -> tuple[Table, list[dict[str, Any]]]:
    """Microseconds per call of every contender, their ratio to ours, and our tokens per second."""
    result, measured = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False), []
    for name, case in cases.items():
        with torch.no_grad():
            calls, right = case(args)
            stats = {contender: Stats.of(s) for contender, s in measure(calls, args).items()}
            gpu = {"host": host_times(calls, args), "GPU": graph_times(calls, args)}
            gpu = {kind: times for kind, times in gpu.items() if times}
        ours = stats[OURS].minimum
        if not measured:
            result.add_column("Config", no_wrap=True)
            for contender in calls:
                result.add_column(f"{contender}\n(us)", justify="right")
            for header in (*(f"{OURS},\n{kind} (us)" for kind in gpu), "tokens/s", "Correct"):
                result.add_column(header, justify="right")
        cells = [
            digits(1e3 * s.minimum) + ("" if c == OURS else f" ({digits(s.minimum / ours)}x)")
            for c, s in stats.items()
        ]
        cells += [digits(1e3 * times[OURS]) for times in gpu.values()]
        rate = f"{tokens(name) / ours * 1e3:,.0f}"
        result.add_row(name, *cells, rate, "[green]yes[/]" if right else "[bold red]NO[/]")
        measured.append({"name": name, "stats": {c: asdict(s) for c, s in stats.items()},
                         "correct": right} | gpu)  # fmt: skip
    return result, measured


DECODE = {
    f"{batch}x{dim}x1": lambda args, size=(batch, dim): decoding(
        *token(*size, args.dtype, args.device)
    )
    for batch, dim in ((1, 2048), (1, 6144), (64, 2048))
}
PACKED = {f"64 x 32 tokens, dim {dim}": partial(packed, dim) for dim in (64, 512, 2048)}


# ---- whether it is right


def within(result: Tensor, exact: Tensor, tolerance: Tensor) -> bool:
    """Whether result is, or for 16 bits rounds, a value that close to the exact one."""
    low, high = exact - tolerance, exact + tolerance
    if result.dtype != torch.float32:
        low, high = (limit.to(result.dtype).double() for limit in (low, high))
    result = result.double()
    return bool(((low <= result) & (result <= high)).all())


def is_correct(case: Case, tensors: tuple[Tensor, ...], result: Any) -> bool:
    """Compares what the timed call returned, on some channels, with float64.

    Sums are allowed 1e-6 of the sum of their terms' magnitudes: 4 fma err by 4 * 2^-24 of it.
    """
    few = max(1, CHECKED_ELEMENTS // (case.batch * case.seqlen))
    channels = torch.linspace(0, case.dim - 1, min(case.dim, few)).long()

    def some(tensor: Tensor) -> Tensor:
        return tensor.detach().cpu().index_select(1 if tensor.ndim == 3 else 0, channels)

    x, weight, bias, dout = (some(tensor).double() for tensor in tensors)
    terms = pytorch(x.abs(), weight.abs(), bias.abs(), None)
    if not tensors[0].requires_grad:
        exact, tolerance = pytorch(x, weight, bias, case.activation), 1e-6 * terms
        if case.activation:  # |silu'| < 1.1; SiLU itself errs by 4 ulp, and below -87 absolutely
            tolerance = 1.1 * tolerance + 4 * 2**-23 * exact.abs() + 2e-36
        return within(some(result), exact, tolerance)

    def gradients(x: Tensor, weight: Tensor, bias: Tensor, dout: Tensor, activation: str | None):
        inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
        return torch.autograd.grad(pytorch(*inputs, activation), inputs, dout)

    exact = gradients(x, weight, bias, dout, case.activation)
    # |silu''| <= 0.5 carries the error of the preactivation into dout * silu'.  The sums over
    # time are of n fp32 terms, whose roundings add up like sqrt(n) (Higham and Mary 2019).
    scale = dout.abs() * (1 + terms) if case.activation else dout.abs()
    magnitudes = gradients(*(t.detach().abs() for t in (x, weight, bias)), scale, None)
    over_time = 1e-6 + 2**-23 * math.sqrt(case.batch * case.seqlen)
    return all(
        within(some(result[i]), exact[i], share * magnitudes[i])
        for i, share in enumerate((1e-6, over_time, over_time))
    )


def benchmark(case: Case, args: argparse.Namespace) -> Row:
    """Measures and checks one configuration."""
    tensors = case.tensors(DTYPES[args.dtype], args.device)
    for tensor in tensors[:-1]:
        tensor.requires_grad_(args.backward)
    with torch.set_grad_enabled(args.backward):
        calls, note = contenders(case, tensors)
    with torch.no_grad():
        stats = {name: Stats.of(seconds) for name, seconds in measure(calls, args).items()}
        host, graph = host_times(calls, args), graph_times(calls, args)
    correct = is_correct(case, tensors, calls[OURS]())
    return Row(case, stats, host, graph, correct, note)


# ---- how it is shown


def digits(value: float) -> str:
    """Three significant digits without an exponent."""
    decimals = 2 - math.floor(math.log10(value)) if value else 0
    return f"{value:.{max(0, decimals)}f}"


def table(sections: list[list[Row]], floor: str) -> Table:
    """The minima, as milliseconds and ratios."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    result.add_column("Config", no_wrap=True)
    for header in (
        *("ours\n(ms)", "PyTorch\n(ms)", "Speedup", "StdDev\n(%)", "Correct"),
        *("compile\n(ms)", "compile\n/ ours", f"{floor}\n(ms)", f"ours /\n{floor}"),
    ):
        result.add_column(header, justify="right", no_wrap=True)
    first = sections[0][0]
    if first.host:
        result.add_column("host\n(us)", justify="right", no_wrap=True)
        result.add_column("PyTorch\nhost", justify="right", no_wrap=True)
    if first.graph:
        result.add_column("GPU\n(ms)", justify="right", no_wrap=True)
        result.add_column(f"GPU /\n{floor}", justify="right", no_wrap=True)
    for rows in sections:
        for row in rows:
            compiled = row.stats.get(COMPILED)
            result.add_row(
                row.case.name,
                digits(row.stats[OURS].minimum),
                digits(row.stats[PYTORCH].minimum),
                f"[bold]{digits(row.ratio(PYTORCH, OURS))}x[/]",
                digits(row.stats[OURS].stddev),
                "[green]yes[/]" if row.correct else "[bold red]NO[/]",
                digits(compiled.minimum) if compiled else "n/a",
                f"{digits(row.ratio(COMPILED, OURS))}x" if compiled else "n/a",
                digits(row.stats[FLOOR].minimum),
                f"{digits(row.ratio(OURS, FLOOR))}x",
                *(digits(1e3 * row.host[name]) for name in (OURS, PYTORCH) if row.host),
                *([digits(row.graph[OURS])] if row.graph else []),
                *([f"{digits(row.graph[OURS] / row.graph[FLOOR])}x"] if row.graph else []),
            )
        result.add_section()
    return result


def summary(rows: list[Row], floor: str) -> str:
    """The lines below the tables."""
    slowest = min(rows, key=lambda row: row.ratio(PYTORCH, OURS))
    wrong = [row.case.name for row in rows if not row.correct]
    note = next((row.note for row in rows if row.note), None)
    over_floor = (
        f"{row.case.name} {digits(row.ratio(OURS, FLOOR))}x"
        for row in rows
        if row.case in MODEL + LARGE
    )
    lines = [
        f"Smallest speedup over PyTorch: {digits(slowest.ratio(PYTORCH, OURS))}x"
        f" ({slowest.case.name}).",
        f"ours / {floor} at the size of models: {', '.join(over_floor)}.",
    ]
    if note:
        lines.append(f"[yellow]n/a: torch.compile failed: {escape(note)}[/]")
    if wrong:
        lines.append(f"[bold red]WRONG beyond tolerance: {', '.join(wrong)}[/]")
    return "\n".join(lines)


def as_json(environment: dict[str, Any], rows: list[Row], extras: dict[str, Any]) -> str:
    """Everything measured; times in milliseconds, stddev in percent."""

    def ratios(row: Row, of: str) -> dict[str, float]:
        peers = {
            f"{peer} / {OURS}": (peer, OURS) for peer in row.stats if peer not in (OURS, FLOOR)
        }
        pairs = {**peers, f"{OURS} / {FLOOR}": (OURS, FLOOR)}
        return {name: row.ratio(*pair, of) for name, pair in pairs.items()}

    measured = [
        {"name": row.case.name, **asdict(row)}
        | {f"ratio_of_{of}s": ratios(row, of) for of in ("minimum", "median")}
        for row in rows
    ]
    return json.dumps({"environment": environment, "rows": measured} | extras, indent=2)


def plot(path: Path, title: str, rows: list[Row], floor: str) -> None:
    """A bar chart of how many times as fast as PyTorch everything is."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    labels = {OURS: OURS, COMPILED: COMPILED, FLOOR: f"{floor} (memory floor)"}
    figure, axes = plt.subplots(figsize=(10, 1.5 + 0.6 * len(rows)), layout="constrained")
    thickness = 0.8 / len(labels)
    for i, (name, label) in enumerate(labels.items()):
        ratios = {at: row.ratio(PYTORCH, name) for at, row in enumerate(rows) if name in row.stats}
        bars = axes.barh(
            [at + (i - 1) * thickness for at in ratios],
            [ratio - 1 for ratio in ratios.values()],
            thickness,
            left=1,
            color="lightgrey" if name == FLOOR else None,
            label=label,
        )
        axes.bar_label(bars, [f"{digits(r)}x" for r in ratios.values()], padding=3, fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.margins(x=0.1, y=0.02)  # room for the labels
    axes.set_yticks(range(len(rows)), [row.case.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("times as fast as PyTorch (log scale)")
    axes.set_title(title, fontsize=9)
    figure.legend(loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=150)


# ---- tables of their own


class Empty(torch.autograd.Function):
    """What a gradient in Python costs at the least."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Saves its inputs as ours does."""
        ctx.save_for_backward(x, weight, bias)
        return x.detach()

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Anything of the right shapes."""
        _, weight, bias = ctx.saved_tensors
        return dout, weight, bias


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


# What to hide, from the best ISA down.
LADDER = ("", "avx512f,bf16", "avx512f,avx2,bf16,neon")


def ladder_rung(args: argparse.Namespace) -> None:
    """Prints the milliseconds of this process's ISA; `ladder` runs it."""
    times = {}
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
    turns, best = 3, {}
    args.rounds = max(1, args.rounds // turns)
    for _ in range(turns):
        for hidden in LADDER:
            command = [sys.executable, __file__, "--isa-rung", "--rounds", str(args.rounds)]
            command += ["--threads", str(torch.get_num_threads())]
            environment = os.environ | {"CAUSAL_CONV1D_HIDE": hidden}
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


# ---- where it runs


def arguments() -> argparse.Namespace:
    def positive(text: str) -> int:
        if (value := int(text)) < 1:
            raise ValueError
        return value

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "mps", "cuda"),
        default="auto",
        help="auto: a GPU if it can",
    )
    parser.add_argument("--threads", type=positive, help="of PyTorch, by default its own choice")
    parser.add_argument("--backward", action="store_true", help="the backward pass alone")
    parser.add_argument("--rounds", type=positive, default=20)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="of the model-sized rows only 1x2048x2048, for less than a minute in all",
    )
    for name, text in (
        ("overhead", "instead: what each stage of a tiny call costs"),
        ("isa", "instead: every ISA of this CPU"),
        ("scaling", "instead: 1, 2, 4, .. threads"),
        ("isa-rung", argparse.SUPPRESS),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument("--json", type=Path, metavar="F", help="write everything measured")
    parser.add_argument("--plot", type=Path, metavar="F.png", help="draw the speedups")
    args = parser.parse_args()
    if args.device == "auto":
        args.device = next((name for name in ("mps", "cuda") if not lack(name)), "cpu")
    elif reason := lack(args.device):
        parser.exit(2, f"Cannot measure on {args.device}: {reason}\n")
    return args


def main() -> int:
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device == "cuda":  # a graph is captured on another stream than the default one
        torch.cuda.set_stream(torch.cuda.Stream())
    torch.manual_seed(0)
    random.seed(0)
    if args.isa_rung:
        ladder_rung(args)
        return 0
    for wanted, show in ((args.overhead, overhead), (args.isa, ladder), (args.scaling, scaling)):
        if wanted:
            Console(highlight=False).print(show(args))
            return 0
    # Compiled code may else free what a second backward pass over it needs.
    functorch_config.donated_buffer = False
    environment = {
        "cpu": chip("cpu"),
        "gpu": chip(args.device) if args.device == "cuda" else None,
        "torch": torch.__version__,
        "package": __version__,
        "isa": library.causal_conv1d_isa().decode(),
        "device": args.device,
        "threads": torch.get_num_threads(),
        "dtype": args.dtype,
        "pass": "backward" if args.backward else "forward",
        "rounds": args.rounds,
        "floor": "x + dout" if args.backward else "x.clone()",
    }
    header = (f"{environment['gpu']}, host " if environment["gpu"] else "") + (
        "{cpu}, torch {torch}, causal_conv1d_mps {package} ({isa})\n"
        "{device}, {threads} thread(s), {dtype}, {pass}, {rounds} rounds"
    ).format_map(environment)
    floor = environment["floor"]

    cases = CLASSIC + (MODEL[:2] if args.quick else MODEL + LARGE * (args.device == "cuda"))
    # Without automatic refresh: its thread would draw in the middle of samples.
    steps = track(
        cases, "Measuring", console=Console(stderr=True), transient=True, auto_refresh=False
    )
    rows = [benchmark(case, args) for case in steps]
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)
    console.print(escape(header))
    console.print(table([rows[: len(CLASSIC)], rows[len(CLASSIC) :]], floor))
    console.print(summary(rows, floor))
    extras = {}
    if not args.backward:
        for title, cases, tokens in (
            ("Decoding one token", DECODE, lambda name: int(name.split("x")[0])),
            ("Packed sequences", PACKED, lambda name: 64 * 32),
        ):
            shown, extras[title] = extra_table(title, cases, args, tokens)
            console.print(shown)
    if args.json:
        args.json.write_text(as_json(environment, rows, extras) + "\n")
    if args.plot:
        plot(args.plot, header, rows, floor)
    right = [row.correct for row in rows]
    right += [row["correct"] for measured in extras.values() for row in measured]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
