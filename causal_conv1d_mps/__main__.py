"""The command line: what is here, whether it is right and how fast, and scripts that import
causal_conv1d."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os.path
import runpy
import sys
from importlib.metadata import version

import torch

from ._functions import __version__, native_error
from ._table import show
from .compat.install import install, serves, state
from .info import info


def install_command(arguments: argparse.Namespace) -> int:
    """Runs a script in which ``import causal_conv1d`` gives this package, or says what would be."""
    if arguments.check:
        return _check()
    if not arguments.script:
        print(
            "Expected a script to run with this package as causal_conv1d, got none. "
            "For every script: pip install ./compat (in the sources)",
            file=sys.stderr,
        )
        return 2
    if not os.path.isfile(arguments.script[0]):
        print(f"Expected a script, got {arguments.script[0]}, which is no file", file=sys.stderr)
        return 2
    try:
        install(arguments.force)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    sys.argv = arguments.script
    sys.path[0] = os.path.dirname(os.path.abspath(arguments.script[0]))
    runpy.run_path(arguments.script[0], run_name="__main__")
    return 0


def _check() -> int:
    """Exit status 0 if a plain script gets native code by ``import causal_conv1d``."""
    print(f"causal_conv1d_mps {__version__}, PyTorch {torch.__version__}")
    print("library: " + ("loaded" if native_error is None else f"not loaded: {native_error}"))
    print(f"causal_conv1d: {state()}")
    if importlib.util.find_spec("transformers") is not None:
        print(f"transformers {version('transformers')}: models look for it from 5.15 on")
    return 0 if serves() and native_error is None else 1


def info_command(arguments: argparse.Namespace) -> int:
    """Prints what a bug report needs; exit status 1 if the C library could not be loaded."""
    found = info()
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 1 if native_error else 0
    rows = []
    for name, value in found.items():
        if isinstance(value, dict):
            rows += [[f"{name}: {key}", str(text)] for key, text in value.items()]
        else:
            rows.append([name, ", ".join(value) if isinstance(value, list) else str(value)])
    show("For a bug report", ["what", "here"], rows)
    return 1 if native_error else 0


def pass_on(arguments: argparse.Namespace) -> int:
    """Runs the module that parses the rest of the command line itself."""
    if native_error is not None:
        print(f"nothing to run: {native_error}", file=sys.stderr)
        return 2
    sys.argv = [f"python -m causal_conv1d_mps {arguments.module}", *arguments.rest]
    try:
        return int(importlib.import_module(f".{arguments.module}", __package__).main())
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("rich", "matplotlib"):
            raise
        print(f"{error}, of the extra 'bench': pip install rich matplotlib", file=sys.stderr)
        return 2


def main() -> int:
    """Parses the command line and runs the command."""
    parser = argparse.ArgumentParser("python -m causal_conv1d_mps", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="command")
    text = "run a script with this package in place of causal_conv1d"
    command = commands.add_parser("install", help=text, description=text)
    command.add_argument("--check", action="store_true", help="only say what is there")
    command.add_argument("--force", action="store_true", help="shadow another package of that name")
    command.add_argument("script", nargs=argparse.REMAINDER, help="a script and its arguments")
    command.set_defaults(run=install_command)
    text = "what is here: for a bug report"
    command = commands.add_parser("info", help=text, description=text)
    command.add_argument("--json", action="store_true", help="print it as JSON")
    command.set_defaults(run=info_command)
    for module, help in (
        ("selftest", "is every operation right on every device here, and how fast"),
        ("bench", "the benchmark, beside PyTorch and torch.compile"),
    ):
        command = commands.add_parser(module, help=help, add_help=False)
        command.set_defaults(run=pass_on, module=module)
    arguments, rest = parser.parse_known_args()
    arguments.rest = rest
    if "run" not in arguments:
        parser.print_help(sys.stderr)
        return 2
    if arguments.rest and arguments.run != pass_on:
        parser.error(f"unknown: {' '.join(arguments.rest)}")
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
