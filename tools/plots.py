"""Draws what bench.py measured: python tools/plots.py docs/results/*.json [--out docs/figures]

The files are of one machine, by ``bench.py --json``, and may differ in dtype, pass, device and
number of threads.  Every figure is written twice, for a light and for a dark page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

ROOT = Path(__file__).resolve().parent.parent
ITEM_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
DECODE = "Decoding one token"
THEMES = {
    "light": {"style": "default", "ink": "#222222", "floor": "#888888"},
    "dark": {"style": "dark_background", "ink": "#dddddd", "floor": "#888888"},
}
# Legible on both pages, and apart for the colour-blind (Okabe and Ito 2008).
COLORS = {"ours": "#0072b2", "PyTorch": "#d55e00", "torch.compile": "#cc79a7"}

Runs = list[dict[str, Any]]


def label(run: dict[str, Any], *names: str) -> str:
    """What tells a run from the others."""
    threads = run["environment"]["threads"]
    words = {"threads": f"{threads} thread{'s' * (threads > 1)}"}
    return ", ".join(words.get(name, str(run["environment"][name])) for name in names)


def short(number: float) -> str:
    """Three digits of it, without an exponent."""
    return f"{float(f'{number:.3g}'):,.10g}"


def forward(runs: Runs) -> Runs:
    """Those of the forward pass."""
    return [run for run in runs if run["environment"]["pass"] == "forward"]


def minimum(row: dict[str, Any], name: str) -> float:
    """Milliseconds per call of a contender."""
    return row["stats"][name]["minimum"]


def speedup(axes: Axes, runs: Runs, theme: dict[str, str]) -> None:
    """Times as fast as PyTorch, of every size."""
    runs = [run for run in forward(runs) if run["environment"]["threads"] == 1] or forward(runs)
    names = list(dict.fromkeys(row["name"] for run in runs for row in run["rows"]))
    height = 0.8 / len(runs)
    for i, run in enumerate(runs):
        at = [names.index(row["name"]) + (i - (len(runs) - 1) / 2) * height for row in run["rows"]]
        ratios = [minimum(row, "PyTorch") / minimum(row, "ours") for row in run["rows"]]
        bars = axes.barh(at, [r - 1 for r in ratios], height, left=1,
                         label=label(run, "dtype", "threads"))  # fmt: skip
        axes.bar_label(bars, [short(r) for r in ratios], padding=2, fontsize=7)
    axes.axvline(1, color=theme["ink"], linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.1, y=0.02)
    axes.set_xlabel("times as fast as F.conv1d (+ F.silu)")
    axes.figure.legend(loc="outside lower center", ncols=len(runs))


def memory(axes: Axes, runs: Runs, theme: dict[str, str]) -> None:
    """Time against the bytes of x and out, with the floor that memory sets."""
    run = next((r for r in forward(runs) if r["environment"]["dtype"] == "fp32"), forward(runs)[0])
    size = ITEM_BYTES[run["environment"]["dtype"]]

    def points(name: str) -> tuple[list[float], list[float]]:
        pairs = sorted(
            (2 * size * row["case"]["batch"] * row["case"]["dim"] * row["case"]["seqlen"] / 1e6,
             minimum(row, name))
            for row in run["rows"] if name in row["stats"]
        )  # fmt: skip
        return [p[0] for p in pairs], [p[1] for p in pairs]

    for name, color in COLORS.items():
        axes.plot(*points(name), "o", color=color, label=name, markersize=5)
    floor = run["environment"]["floor"]
    axes.plot(*points("floor"), "_", color=theme["floor"], label=f"{floor}: the memory floor",
              markersize=14, markeredgewidth=2)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"MB read and written ({label(run, 'dtype', 'threads')})")
    axes.set_ylabel("ms per call")
    axes.legend()


def decode(axes: Axes, runs: Runs, theme: dict[str, str]) -> None:
    """Microseconds of one decoding step."""
    runs = [run for run in runs if DECODE in run and run["environment"]["threads"] == 1] or [
        run for run in runs if DECODE in run
    ]
    groups = [(f"{row['name']}\n{run['environment']['dtype']}", row) for run in runs
              for row in run[DECODE]]  # fmt: skip
    contenders = list(groups[0][1]["stats"])
    width = 0.8 / len(contenders)
    for i, (name, color) in enumerate(zip(contenders, COLORS.values(), strict=False)):
        at = [g + (i - (len(contenders) - 1) / 2) * width for g in range(len(groups))]
        times = [1e3 * minimum(row, name) for _, row in groups]
        bars = axes.bar(at, times, width, color=color, label=name)
        axes.bar_label(bars, [short(t) for t in times], padding=2, fontsize=7)
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.set_xticks(range(len(groups)), [name for name, _ in groups], fontsize=8)
    axes.set_ylabel("us per step")
    axes.legend()


def scaling(axes: Axes, runs: Runs, theme: dict[str, str]) -> None:
    """How many times as fast several threads are as one."""
    by_dtype: dict[str, Runs] = {}
    for run in forward(runs):
        by_dtype.setdefault(run["environment"]["dtype"], []).append(run)
    most = max(run["environment"]["threads"] for run in forward(runs))
    for dtype, style in zip(by_dtype, ("-", "--", ":"), strict=False):
        group = sorted(by_dtype[dtype], key=lambda run: run["environment"]["threads"])
        if len(group) < 2:
            continue
        threads = [run["environment"]["threads"] for run in group]
        rows = [{row["name"]: row for row in run["rows"]} for run in group]
        common = [
            n for n in rows[0] if all(n in r for r in rows) and rows[0][n]["case"]["dim"] >= 2048
        ]
        for i, name in enumerate(common):
            times = [minimum(r[name], "ours") for r in rows]
            axes.plot(threads, [times[0] / t for t in times], style, marker="o", color=f"C{i}",
                      label=f"{name}, {dtype}")  # fmt: skip
    axes.plot([1, most], [1, most], color=theme["floor"], linewidth=1, label="ideal")
    axes.set_xticks(range(1, most + 1))
    axes.set_xlabel("threads")
    axes.set_ylabel("times as fast as one thread")
    axes.legend(fontsize=7)


FIGURES: dict[str, tuple[Callable[[Axes, Runs, dict[str, str]], None], tuple[float, float]]] = {
    "speedup": (speedup, (8, 5.5)),
    "memory": (memory, (8, 4.5)),
    "decode": (decode, (8, 4)),
    "scaling": (scaling, (8, 4)),
}


def draw(runs: Runs, out: Path) -> Iterator[Path]:
    """Writes every figure in every theme."""
    first = runs[0]["environment"]
    chip, package = first["gpu"] or first["cpu"], f"causal_conv1d_mps {first['package']}"
    title = f"{chip}, PyTorch {first['torch']}, {package}"
    # The same bytes for the same numbers.
    settings = {"svg.hashsalt": "causal_conv1d", "font.size": 9}
    for name, (figure_of, size) in FIGURES.items():
        for theme, colors in THEMES.items():
            with plt.style.context(colors["style"]), plt.rc_context(settings):
                figure, axes = plt.subplots(figsize=size, layout="constrained")
                figure_of(axes, runs, colors)
                axes.spines[["top", "right"]].set_visible(False)
                axes.set_title(title, fontsize=9)
                path = out / f"{name}-{theme}.svg"
                figure.savefig(path, transparent=True, metadata={"Date": None})
                plt.close(figure)
            yield path


def main() -> None:
    """Reads the files that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/figures")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for path in draw([json.loads(path.read_text()) for path in args.results], args.out):
        print(path)


if __name__ == "__main__":
    main()
