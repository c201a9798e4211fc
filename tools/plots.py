"""Draws what the benchmark measured: python tools/plots.py docs/results/*.json [--out FOLDER]

The files are of one machine, by ``bench.py --json``, and may differ in dtype, pass, device and
number of threads.  The speedups go to docs/figures/speedup.svg, which the README shows.  The other
figures are only drawn for the site, by tools/docs.py, or into the folder that is named: each of
them twice, for a light and for a dark page.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parent.parent
RESULTS, SPEEDUP = ROOT / "docs/results", ROOT / "docs/figures/speedup.svg"
ITEM_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
DECODE = "Decoding one token"
THEMES = {
    "light": {"style": "default", "ink": "#222222", "floor": "#888888"},
    "dark": {"style": "dark_background", "ink": "#dddddd", "floor": "#888888"},
}
# Legible on both pages, and apart for the colour-blind (Okabe and Ito 2008).
COLORS = {"ours": "#0072b2", "PyTorch": "#d55e00", "torch.compile": "#cc79a7"}
SHADES = ("#0072b2", "#56b4e9")  # of ours, where several of its runs are shown

Runs = list[dict[str, Any]]


def label(run: dict[str, Any], *names: str) -> str:
    """What tells a run from the others."""
    threads = run["environment"]["threads"]
    words = {"threads": f"{threads} thread{'s' * (threads > 1)}"}
    return ", ".join(words.get(name, str(run["environment"][name])) for name in names)


def short(number: float) -> str:
    """Three digits of it, without an exponent."""
    return f"{float(f'{number:.3g}'):,.10g}"


def machine(runs: Runs) -> str:
    """Where the first of them ran."""
    first = runs[0]["environment"]
    chip = first["gpu"] or first["cpu"]
    return f"{chip}, PyTorch {first['torch']}, causal_conv1d_mps {first['package']}"


def read(paths: Iterable[Path]) -> Runs:
    """The runs in the files of that name."""
    return [json.loads(path.read_text()) for path in paths]


def forward(runs: Runs) -> Runs:
    """Those of the forward pass."""
    return [run for run in runs if run["environment"]["pass"] == "forward"]


def minimum(row: dict[str, Any], name: str) -> float:
    """Milliseconds per call of a contender."""
    return row["stats"][name]["minimum"]


def single(runs: Runs) -> Runs:
    """Those of one thread, or all if there are none."""
    return [run for run in runs if run["environment"]["threads"] == 1] or runs


def speedup(runs: Runs) -> str:
    """Times as fast as PyTorch, of every size: an SVG for light and dark pages, small enough to be
    kept beside the page, and legible on a telephone.  A run's bars are one path."""
    runs = single(forward(runs))
    names = list(dict.fromkeys(row["name"] for run in runs for row in run["rows"]))
    thick, left, top, width, most = 11, 176, 40, 200, 50
    step = thick * len(runs) + 7
    bottom = top + step * len(names)

    def at(ratio: float) -> int:
        return round(left + width * math.log(ratio) / math.log(most))

    def text(x: int, y: int, words: str, anchor: str = "start") -> str:
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="600" viewBox="0 0 420 {bottom + 44}">',
        "<style>text{font:11px sans-serif;fill:#222}path{stroke:#888;stroke-width:.5}",
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>",
        text(8, 14, "times as fast as F.conv1d (+ F.silu), by batch x dim x seqlen x width"),
        text(8, 29, machine(runs)),
    ]
    ticks = (1, 2, 5, 10, 20, 50)
    lines.append(f'<path d="{"".join(f"M{at(tick)} {top}V{bottom}" for tick in ticks)}"/>')
    lines.append("".join(text(at(tick), bottom + 14, str(tick), "middle") for tick in ticks))
    labels = dict.fromkeys(names, "")
    for i, name in enumerate(names):
        labels[name] = text(left - 6, top + i * step + step // 2 + 3, name, "end")
    for i, (run, color) in enumerate(zip(runs, SHADES, strict=False)):
        bars = ""
        for row in run["rows"]:
            ratio = minimum(row, "PyTorch") / minimum(row, "ours")
            y = top + names.index(row["name"]) * step + i * thick + 3
            bars += f"M{left} {y}H{at(ratio)}v{thick}H{left}z"
            labels[row["name"]] += text(at(ratio) + 4, y + 9, short(ratio))
        lines.append(f'<path fill="{color}" d="{bars}"/>')
        x = left + 120 * i
        lines.append(f'<path fill="{color}" d="M{x} {bottom + 24}h{thick}v{thick}h-{thick}z"/>'
                     + text(x + 16, bottom + 34, label(run, "dtype", "threads")))  # fmt: skip
    return "\n".join([*lines, *labels.values(), "</svg>"]) + "\n"


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
    runs = single([run for run in runs if DECODE in run])
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
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


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
    "memory": (memory, (5, 4)),
    "decode": (decode, (5, 4)),
    "scaling": (scaling, (5, 4)),
}


def draw(runs: Runs, out: Path) -> Iterator[Path]:
    """Writes every figure but the speedups in every theme, narrow enough for a telephone."""
    out.mkdir(parents=True, exist_ok=True)
    # The same bytes for the same numbers.
    settings = {"svg.hashsalt": "causal_conv1d", "font.size": 9}
    for name, (figure_of, size) in FIGURES.items():
        for theme, colors in THEMES.items():
            with plt.style.context(colors["style"]), plt.rc_context(settings):
                figure, axes = plt.subplots(figsize=size, layout="constrained")
                figure_of(axes, runs, colors)
                axes.spines[["top", "right"]].set_visible(False)
                axes.set_title(machine(runs), fontsize=8)
                path = out / f"{name}-{theme}.svg"
                figure.savefig(path, transparent=True, metadata={"Date": None})
                plt.close(figure)
            yield path


def main() -> None:
    """Reads the files that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="draw the others, into this folder")
    args = parser.parse_args()
    runs = read(args.results)
    if args.out:
        print(*draw(runs, args.out), sep="\n")
    else:
        SPEEDUP.write_text(speedup(runs))


if __name__ == "__main__":
    main()
