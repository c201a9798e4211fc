"""How the benchmark shows what it measured: tables, JSON, a plot."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.markup import escape
from rich.table import Table

from .cases import COMPILED, FLOOR, LARGE, MODEL, OURS, PYTORCH, Case
from .timing import Call, Stats, graph_times, host_times, measure

TABLE_WIDTH = 150  # columns, whatever the terminal: wrapped lines still tell more than "..."


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
        return float(getattr(self.stats[one], of) / getattr(self.stats[other], of))


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


def extra_table(
    title: str,
    cases: dict[str, Callable[[argparse.Namespace], tuple[dict[str, Call], bool]]],
    args: argparse.Namespace,
    tokens: Callable[[str], int],
) -> tuple[Table, list[dict[str, Any]]]:
    """Microseconds per call of every contender, their ratio to ours, and our tokens per second."""
    result = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    measured: list[dict[str, Any]] = []
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


def as_lines(document: dict[str, Any]) -> str:
    """JSON with a line for each row of each list."""

    def lines(value: Any) -> str:
        if not isinstance(value, list):
            return json.dumps(value)
        return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"

    pairs = (f"{json.dumps(name)}: {lines(value)}" for name, value in document.items())
    return "{\n" + ",\n".join(pairs) + "\n}\n"


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
    return as_lines({"environment": environment, "rows": measured} | extras)


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
