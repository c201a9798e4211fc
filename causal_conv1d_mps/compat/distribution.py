"""What ``importlib.metadata`` says of the distribution ``causal-conv1d`` after :func:`install`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path

from . import __version__

_FILES = {
    "METADATA": "Metadata-Version: 2.1\n"
    "Name: causal-conv1d\n"
    f"Version: {__version__}\n"
    "Summary: The interface of causal-conv1d, by causal-conv1d-mps\n",
    "top_level.txt": "causal_conv1d\ncausal_conv1d_cuda\n",
}


class _CausalConv1d(Distribution):
    """A distribution without files: nothing can uninstall it."""

    def read_text(self, filename: str) -> str | None:
        return _FILES.get(filename)

    def locate_file(self, path: object) -> Path:
        return Path(__file__).parents[2] / str(path)


class _Finder(DistributionFinder):
    """Finds that distribution in the running process, and no modules."""

    def find_spec(self, *_: object) -> None:
        return None

    def find_distributions(
        self, context: DistributionFinder.Context | None = None
    ) -> Iterator[Distribution]:
        context = context or DistributionFinder.Context()
        name = re.sub(r"[-_.]+", "-", context.name or "causal-conv1d").lower()
        if name == "causal-conv1d" and context.path == sys.path:
            yield _CausalConv1d()


def answer() -> None:
    """Lets ``importlib.metadata`` find the distribution, before any other of that name."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
