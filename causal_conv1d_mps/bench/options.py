"""The benchmark's command line, which can be read without the packages that the rest needs."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..selftest import lack
from .cases import DTYPES


def arguments() -> argparse.Namespace:
    """What the command line asks for; exits if it cannot be measured here."""

    def positive(text: str) -> int:
        if (value := int(text)) < 1:
            raise ValueError
        return value

    parser = argparse.ArgumentParser(
        description="How fast causal_conv1d_mps is, beside PyTorch, torch.compile and what memory "
        "allows at all. Needs the packages of the extra 'bench': pip install rich matplotlib."
    )
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
