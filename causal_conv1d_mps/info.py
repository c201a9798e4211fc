"""What a bug report needs: versions, CPU features, devices, the library, the shader, compat."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from itertools import count, takewhile
from typing import Any

import torch

from ._functions import __version__, native_error
from .compat.install import state


def info() -> dict[str, Any]:
    """By name. ``devices`` gives each "usable" or the reason why not; what is only known of a
    library that could be loaded is absent if it was not."""
    result: dict[str, Any] = {
        "causal_conv1d_mps": __version__,
        "torch": torch.__version__,
        "transformers": _version("transformers"),
        "Python": platform.python_version(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "causal_conv1d": state(),
        "environment": {k: v for k, v in os.environ.items() if k.startswith("CAUSAL_CONV1D_")},
    }
    if native_error is not None:
        return result | {"not loaded": native_error}
    from ._library import library
    from .selftest import DEVICES, chip, lack

    names = takewhile(bool, map(library.causal_conv1d_cpu_feature, count()))
    return result | {
        "chip": chip("cpu"),
        "CPU features": [name.decode() for name in names],
        "CPU kernels": library.causal_conv1d_isa().decode(),
        "devices": {device: lack(device) or "usable" for device in DEVICES},
        "library": library._name,
        "shader": os.environ.get("CAUSAL_CONV1D_METAL_PATH", "the one in the library"),
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
