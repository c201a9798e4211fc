"""Every operation on an NVIDIA GPU, beside its peers: python tools/bench_cuda.py [--only forward]

Peers, where they can be imported, are the package causal_conv1d, whose kernels are CUDA, and FLA
(fla-core), whose kernels are Triton's and which tunes each for every dim and dtype, some seconds
long; PyTorch's own operations always are.  The floor that memory sets is copy_, of x or, for the
update, of the states.

Times are microseconds that the GPU takes in a replayed CUDA graph, the shortest of some rounds in
which the contenders take turns, and in brackets how many times ours; "host" is how long a call
keeps the CPU.  Our results are held to float64; a peer whose result is far from ours is not timed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import import_module
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from causal_conv1d_mps import __version__, causal_conv1d, causal_conv1d_fn
from causal_conv1d_mps.bench import timing
from causal_conv1d_mps.bench.cases import (
    DTYPES,
    OURS,
    PYTORCH,
    Case,
    bound,
    decoding,
    pytorch,
    token,
)
from causal_conv1d_mps.bench.correct import is_correct, sample
from causal_conv1d_mps.bench.show import TABLE_WIDTH, as_lines, digits
from causal_conv1d_mps.bench.timing import Call
from causal_conv1d_mps.selftest import chip, lack

REFERENCE, FLA, PLAIN, COPY = "causal_conv1d", "FLA", "ours, plain", "copy_"
ORDER = (OURS, PLAIN, REFERENCE, FLA, PYTORCH, COPY)  # of columns
MODULES = {REFERENCE: "causal_conv1d", FLA: "fla.modules.causal_conv1d"}
PEERS: dict[str, Any] = {}  # those of MODULES that could be imported
SIZES = (
    *((2, 128, 256), (2, 2048, 512), (2, 2048, 2048), (8, 4096, 1024)),
    *((8, 4096, 2048), (8, 4096, 8192), (1, 4096, 65536)),
)
SEQUENCE_SIZES = ((2, 2048, 2048), (8, 4096, 2048), (1, 4096, 65536))
WIDE_SIZE, WIDE_WIDTHS = (8, 2048, 4096), (9, 16, 32, 64, 128, 256)
SEQUENCES = 8  # in a row of seq_idx
UPDATE_BATCHES, UPDATE_DIM = (1, 64, 512), 4096
MIN_SAMPLE, GRAPH, LONG = 5e-3, 2e-3, 2e-2  # seconds of a sample, a graph, a call without one
FAR = 0.05  # of the norm: PyTorch rounds to bf16 before SiLU


@dataclass(frozen=True)
class Row:
    """Microseconds of each contender, whether ours was right, and why others have no time."""

    name: str
    times: dict[str, float]
    correct: bool
    notes: dict[str, str]


def first_line(error: Exception) -> str:
    """What a note says of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def load_peers() -> dict[str, str]:
    """Imports the peers that are here; returns their versions, or why there is none."""
    versions = {}
    for name, module in MODULES.items():
        try:
            peer = import_module(module)
        except Exception as error:
            versions[name] = f"none: {first_line(error)}"
            continue
        if getattr(peer, "causal_conv1d_fn", None) is causal_conv1d_fn:
            versions[name] = "none: ours stands in for it"
            continue
        versions[name] = import_module(module.partition(".")[0]).__version__
        PEERS[name] = peer
    return versions


def reference(x: Tensor, weight: Tensor, bias: Tensor, activation: str, **sequences: Any) -> Any:
    """By the package causal_conv1d."""
    function = PEERS[REFERENCE].causal_conv1d_fn
    return function(x, weight, bias, activation=activation, **sequences)


def fla(x: Tensor, weight: Tensor, bias: Tensor, activation: str, **states: Any) -> Any:
    """By FLA, which has (batch, seqlen, dim), and states of width columns: the first is unused."""
    function, x = PEERS[FLA].causal_conv1d, x.transpose(1, 2)
    out, final = function(x, weight, bias, activation=activation, backend="triton", **states)
    out = out.transpose(1, 2)
    return out if final is None else (out, final[..., 1:])


# ---- how a row is measured


def near(result: list[Tensor], expected: list[Tensor]) -> bool:
    """Whether both come from the same computation, however they round."""
    pairs = zip(result, expected, strict=True)
    return all(one.shape == two.shape and (one - two).double().norm() <= FAR * two.double().norm()
               for one, two in pairs)  # fmt: skip


def contest(
    name: str,
    case: Case,
    calls: dict[str, Call],
    args: argparse.Namespace,
    right: Callable[[list[Tensor]], bool],
    host: bool = False,
) -> Row:
    """Lets every contender try, ours first, then times by turns those that could: the GPU, or the
    host."""
    synchronize = torch.get_device_module(args.device).synchronize
    correct, expected = False, []
    times, notes, timed, counts = {}, {}, {}, {}
    for contender, call in calls.items():
        if contender in MODULES and contender not in PEERS:
            continue
        try:
            result = call()
            if contender not in (PLAIN, COPY):
                few = sample(case, (result,) if isinstance(result, Tensor) else result)
                if contender == OURS:
                    correct, expected = right(few), few
                elif expected and not near(few, expected):
                    raise ArithmeticError("its result is far from ours")
            del result
            synchronize()
            start = perf_counter()
            call()
            synchronize()
            seconds = perf_counter() - start
            if host:
                timed[contender] = call
            elif seconds > LONG:  # so long that nothing else counts
                times[contender] = 1e6 * seconds
            else:
                counts[contender] = min(50, max(2, round(GRAPH / seconds)))
                timed[contender] = timing.captured(call, counts[contender]).replay
        except Exception as error:
            notes[contender] = first_line(error)
            correct = correct and contender != OURS
    if host:
        times = {c: 1e3 * time for c, time in timing.host_times(timed, args).items()}
    else:
        samples = timing.measure(timed, args)
        times |= {c: 1e6 * min(seconds) / counts[c] for c, seconds in samples.items()}
    return Row(name, times, correct, notes)


# ---- the rows of each operation


def late(make: Callable[[], Call]) -> Call:
    """A call that is made when it is first called: that may fail too."""
    made = cache(torch.enable_grad()(make))
    return lambda: made()()


def plain(case: Case, dtype: str, backward: bool, args: argparse.Namespace) -> Row:
    """One whole forward, or the backward pass alone: dx, dweight, dbias."""
    tensors = case.tensors(DTYPES[dtype], args.device)
    for tensor in tensors[:-1]:
        tensor.requires_grad_(backward)
    functions = {OURS: causal_conv1d, REFERENCE: reference, PYTORCH: pytorch}
    functions |= {FLA: fla} if case.channels_last else {}
    calls = {c: late(partial(bound, f, tensors, case)) for c, f in functions.items()}
    calls[COPY] = partial(tensors[-1].clone().copy_, tensors[-1])
    right = partial(is_correct, case, tensors)
    return contest(f"{case.name} {dtype}", case, calls, args, right)


def passes(backward: bool, args: argparse.Namespace) -> Iterator[Row]:
    """Every size in both layouts."""
    for dtype, size, channels_last in product(args.dtype, SIZES, (False, True)):
        yield plain(Case(*size, 4, "silu", channels_last), dtype, backward, args)


def wide(args: argparse.Namespace) -> Iterator[Row]:
    """The forward of widths above 8, where arithmetic and not memory is the bound."""
    for dtype, channels_last, width in product(args.dtype, (False, True), WIDE_WIDTHS):
        yield plain(Case(*WIDE_SIZE, width, "silu", channels_last), dtype, False, args)


def sequence(case: Case, dtype: str, with_states: bool, args: argparse.Namespace) -> Row:
    """Sequences with random ends by seq_idx, or from initial states to out and final states."""
    tensors = case.tensors(DTYPES[dtype], args.device)
    x, *parameters, _ = tensors
    calls: dict[str, Call] = {}
    if with_states:
        before = torch.randn_like(x[..., : case.width - 1].mT.contiguous()).mT  # channels-last
        given: dict[str, Any] = {"initial_states": before, "return_final_states": True}
        padded = F.pad(before, (1, 0)).contiguous()
        states = {"initial_state": padded, "output_final_state": True}
        calls[FLA] = partial(fla, x, *parameters, "silu", **states)
    else:  # which FLA does not have
        ends = torch.rand(case.batch, case.seqlen, device=args.device).topk(SEQUENCES - 1).indices
        marks = torch.zeros(case.batch, case.seqlen, dtype=torch.int32, device=args.device)
        given = {"seq_idx": marks.scatter_(1, ends, 1).cumsum(1, dtype=torch.int32)}
    calls = {
        OURS: partial(causal_conv1d_fn, x, *parameters, activation="silu", **given),
        REFERENCE: partial(reference, x, *parameters, "silu", **given),
        PLAIN: partial(causal_conv1d, x, *parameters, "silu"),
        COPY: partial(torch.empty_like(x).copy_, x),
        **calls,
    }
    right = partial(is_correct, case, tensors, **given)
    return contest(f"{case.name} {dtype}", case, calls, args, right)


def sequences(with_states: bool, args: argparse.Namespace) -> Iterator[Row]:
    """Some sizes, channels-last: the package causal_conv1d takes no other layout there."""
    for dtype, size in product(args.dtype, SEQUENCE_SIZES):
        yield sequence(Case(*size, 4, "silu", True), dtype, with_states, args)


def updating(batch: int, args: argparse.Namespace) -> tuple[dict[str, Call], bool]:
    """One token per row, and whether ours is right."""
    x, state, weight, bias = token(batch, UPDATE_DIM, args.dtype[-1], args.device)
    calls, correct = decoding(x, state, weight, bias)

    def by_reference(state: Tensor) -> Tensor:
        return PEERS[REFERENCE].causal_conv1d_update(x, state, weight, bias, "silu")

    def by_fla(state: Tensor) -> Tensor:
        update = PEERS[FLA].causal_conv1d_update
        return update(x.mT, state, weight=weight, bias=bias, activation="silu")[0].mT

    functions = dict(zip((OURS, PYTORCH), calls.values(), strict=True))
    functions |= {REFERENCE: by_reference, FLA: by_fla}
    calls = {c: partial(f, state.clone()) for c, f in functions.items()}
    return calls | {COPY: partial(torch.empty_like(state).copy_, state)}, correct


def update(args: argparse.Namespace) -> Iterator[Row]:
    """Decoding, in the last dtype."""
    for batch in UPDATE_BATCHES:
        calls, correct = updating(batch, args)
        case = Case(batch, UPDATE_DIM, 1)
        name = f"{batch}x{UPDATE_DIM}x1 {args.dtype[-1]}"
        yield contest(name, case, calls, args, lambda _, correct=correct: correct)


def host(args: argparse.Namespace) -> Iterator[Row]:
    """Calls so small that the GPU waits for them, in the last dtype."""
    case = Case(2, 128, 256, activation="silu", channels_last=True)
    dtype = args.dtype[-1]
    tensors = case.tensors(DTYPES[dtype], args.device)
    *inputs, _ = tensors
    right = partial(is_correct, case, tensors)
    theirs = {REFERENCE: reference, FLA: fla, PYTORCH: pytorch}
    peers: dict[str, Call] = {c: partial(f, *inputs, "silu") for c, f in theirs.items()}
    ours = partial(causal_conv1d, *inputs, "silu")
    yield contest(f"causal_conv1d {dtype}", case, {OURS: ours} | peers, args, right, host=True)
    ours = partial(causal_conv1d_fn, *inputs, activation="silu")
    yield contest(f"causal_conv1d_fn {dtype}", case, {OURS: ours} | peers, args, right, host=True)
    calls, correct = updating(1, args)
    del calls[COPY]
    case, name = Case(1, UPDATE_DIM, 1), f"causal_conv1d_update {dtype}"
    yield contest(name, case, calls, args, lambda _: correct, host=True)


SECTIONS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "forward": partial(passes, False),
    "wide": wide,
    "backward": partial(passes, True),
    "seq_idx": partial(sequences, False),
    "states": partial(sequences, True),
    "update": update,
    "host": host,
}


# ---- how it is shown


def table(title: str, rows: list[Row]) -> Table:
    """Microseconds of every contender, and how many times ours."""
    result = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    result.add_column("Config", no_wrap=True)
    contenders = sorted({c for row in rows for c in (*row.times, *row.notes)}, key=ORDER.index)
    for header in (*(f"{contender}\n(us)" for contender in contenders), "Correct"):
        result.add_column(header, justify="right", no_wrap=True)

    def cell(row: Row, contender: str) -> str:
        if contender not in row.times:
            return "n/a"
        time, ours = row.times[contender], row.times.get(OURS)
        ratio = f" ({digits(time / ours)}x)" if ours and contender != OURS else ""
        return digits(time) + ratio

    for row in rows:
        right = "[green]yes[/]" if row.correct else "[bold red]NO[/]"
        result.add_row(row.name, *(cell(row, contender) for contender in contenders), right)
    notes = dict.fromkeys(f"{c}: {note}" for row in rows for c, note in row.notes.items())
    result.caption = escape("\n".join(notes)) or None
    return result


def main() -> int:
    """0: all was right; 1: something of ours was wrong; 2: no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="F", help="write everything measured")
    args = parser.parse_args()
    args.device = "cuda"
    if reason := lack(args.device):
        parser.exit(2, f"Cannot measure on {args.device}: {reason}\n")
    torch.cuda.set_stream(torch.cuda.Stream())  # no graph is captured on the default one
    timing.MIN_SAMPLE[args.device] = MIN_SAMPLE
    torch.manual_seed(0)
    random.seed(0)
    environment = {
        "gpu": chip(args.device),
        "torch": torch.__version__,
        "package": __version__,
        "rounds": args.rounds,
        "peers": load_peers(),
    }
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)
    peers = ", ".join(f"{name} {version}" for name, version in environment["peers"].items())
    header = "{gpu}, torch {torch}, causal_conv1d_mps {package}, {rounds} rounds"
    console.print(escape(f"{header.format_map(environment)}\n{peers}"))
    measured: dict[str, list[Row]] = {}
    for section in args.only:
        with torch.no_grad():
            measured[section] = list(SECTIONS[section](args))
        console.print(table(f"{section} (us)", measured[section]))
        if args.json:  # each time: what was measured outlives what comes next
            rows = {name: [asdict(row) for row in rows] for name, rows in measured.items()}
            args.json.write_text(as_lines({"environment": environment} | rows))
    return 0 if all(row.correct for rows in measured.values() for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
