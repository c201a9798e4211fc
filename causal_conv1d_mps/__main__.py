"""``python -m causal_conv1d_mps``: the command line."""

from __future__ import annotations

import argparse
import importlib.util
import os.path
import runpy
import sys
from importlib.metadata import version

import torch

from . import __version__, native_error
from ._install import install, obstacle


def install_command(arguments: argparse.Namespace) -> int:
    """Runs a script in which ``import causal_conv1d`` gives this package, or says what would be."""
    if arguments.check:
        return _check()
    try:
        install(arguments.force)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    if not arguments.script:
        print("installed for this process alone; name a script to run, or for good:\n"
              "pip install causal-conv1d-mps-compat")  # fmt: skip
        return 0
    sys.argv = arguments.script
    sys.path[0] = os.path.dirname(os.path.abspath(arguments.script[0]))
    runpy.run_path(arguments.script[0], run_name="__main__")
    return 0


def _check() -> int:
    """Exit status 0 if models get native code by ``import causal_conv1d``, now or after install."""
    reason = obstacle()
    found = importlib.util.find_spec("causal_conv1d")
    print(f"causal_conv1d_mps {__version__}, PyTorch {torch.__version__}")
    print("library: " + ("loaded" if native_error is None else f"not loaded: {native_error}"))
    if reason is not None:
        print(f"causal_conv1d: {reason}")
    elif found is None:
        print("causal_conv1d: free; causal_conv1d_mps.install() takes the name in a process")
    else:
        print(f"causal_conv1d: this package, by {found.origin}")
    if importlib.util.find_spec("transformers") is not None:
        print(f"transformers {version('transformers')}: models look for it from 5.15 on")
    return 0 if reason is None and native_error is None else 1


def main() -> int:
    """Parses the command line and runs the command."""
    parser = argparse.ArgumentParser("python -m causal_conv1d_mps", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser(
        "install", help="run a script with this package in place of causal_conv1d"
    )
    command.add_argument("--check", action="store_true", help="only say what is there")
    command.add_argument("--force", action="store_true", help="shadow another package of that name")
    command.add_argument("script", nargs=argparse.REMAINDER, help="a script and its arguments")
    command.set_defaults(run=install_command)
    arguments = parser.parse_args()
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
