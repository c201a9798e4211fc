"""Runs what the command line asks for."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from torch import Tensor
from torch._functorch import config as functorch_config

from .._functions import __version__
from .._library import library
from ..selftest import chip
from .cases import CLASSIC, DECODE, DTYPES, LARGE, MODEL, OURS, PACKED, Case, contenders
from .correct import is_correct, sample
from .show import TABLE_WIDTH, Row, as_json, extra_table, plot, summary, table
from .special import ladder, ladder_rung, overhead, scaling
from .timing import Stats, graph_times, host_times, measure


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
        result = calls[OURS]()
    few = sample(case, (result,) if isinstance(result, Tensor) else result)
    correct = is_correct(case, tensors, few)
    return Row(case, stats, host, graph, correct, note)


def run(args: argparse.Namespace) -> int:
    """0: all was right; 1: something was wrong."""
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
        tables: tuple[tuple[str, dict[str, Any], Callable[[str], int]], ...] = (
            ("Decoding one token", DECODE, lambda name: int(name.split("x")[0])),
            ("Packed sequences", PACKED, lambda name: 64 * 32),
        )
        for title, calls, tokens in tables:
            shown, extras[title] = extra_table(title, calls, args, tokens)
            console.print(shown)
    if args.json:
        args.json.write_text(as_json(environment, rows, extras))
    if args.plot:
        plot(args.plot, header, rows, floor)
    right = [row.correct for row in rows]
    right += [row["correct"] for measured in extras.values() for row in measured]
    return 0 if all(right) else 1
