"""Loads the C library, which registers its operations with PyTorch, and turns its errors into
Python's."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from ._check import not_a_tensor

_NAMES = {
    "darwin": ("libcausal_conv1d.dylib", "libtorch_cpu.dylib"),
    "win32": ("causal_conv1d.dll", "torch_cpu.dll"),
}
_LIBRARY, _LIBTORCH = _NAMES.get(sys.platform, ("libcausal_conv1d.so", "libtorch_cpu.so"))


def _load() -> ctypes.CDLL:
    named = os.environ.get("CAUSAL_CONV1D_LIBRARY")  # another build, for tests
    # An editable install has the library in another folder of the package's path.
    places = [Path(place) / _LIBRARY for place in sys.modules[__package__ or ""].__path__]
    path = named or next((place for place in places if place.exists()), None)
    if path is None:
        raise ImportError(
            f"{_LIBRARY} is in none of {[str(place.parent) for place in places]}: "
            "build it with `pip install .`"
        )
    try:
        library = ctypes.CDLL(str(path))
        library.causal_conv1d_version.restype = ctypes.c_char_p
        library.causal_conv1d_isa.restype = ctypes.c_char_p
        library.causal_conv1d_cpu_feature.argtypes = [ctypes.c_int32]
        library.causal_conv1d_cpu_feature.restype = ctypes.c_char_p
        library.causal_conv1d_torch_register.argtypes = [ctypes.c_char_p]
        library.causal_conv1d_torch_register.restype = ctypes.c_char_p
    except (OSError, AttributeError) as error:  # cut short, of another platform or version
        of = "CAUSAL_CONV1D_LIBRARY: " if named else ""
        raise ImportError(f"{of}{path} cannot be used: {error}") from None
    libtorch = Path(torch.__file__).parent / "lib" / _LIBTORCH
    refusal: bytes | None = library.causal_conv1d_torch_register(str(libtorch).encode())
    if refusal is not None:
        text = refusal.decode()
        raise (ValueError if text.startswith("CAUSAL_CONV1D_") else ImportError)(text)
    return library


def _warn_of_a_useless_cache() -> None:
    """The C library says nothing of it: without a cache it is slower, not wrong."""
    folder = os.environ.get("CAUSAL_CONV1D_CACHE")
    if not folder or folder == "0":
        return
    path = Path(folder)
    there = next(p for p in (path, *path.parents) if os.path.exists(p))
    # One that is full and read-only serves.
    if not there.is_dir() or not (there == path or os.access(there, os.W_OK)):
        warnings.warn(
            f"CAUSAL_CONV1D_CACHE: {folder} is no folder and cannot be made: nothing is cached",
            RuntimeWarning,
            stacklevel=2,
        )


library = _load()
_warn_of_a_useless_cache()
__version__: str = library.causal_conv1d_version().decode()

# The status of include/causal_conv1d.h that src/torch/ops.c writes in brackets.
_ERRORS = {
    "shape": ValueError,
    "dtype": ValueError,
    "device": ValueError,
    "memory": ValueError,
    "value": ValueError,
    "combination": AssertionError,
    "out of memory": MemoryError,
    "failed": RuntimeError,
}


# What a call may raise that is to be translated.
FAILURES = (RuntimeError, TypeError, AttributeError, AssertionError)


def translated(error: Exception, **tensors: Any) -> Exception:
    """The exception that stands for what a call with these arguments raised: for one that is no
    tensor, for an error of the C library, or ``error`` itself."""
    if (wrong := not_a_tensor(**tensors)) is not None:
        return wrong
    text = str(error)
    if isinstance(error, NotImplementedError) and "Could not run 'causal_conv1d_mps::" in text:
        return ValueError(f"Expected tensors on a device that has kernels: {text}")
    match = re.match(r"causal_conv1d_mps \[(.*?)\] (.*)", text, re.DOTALL)
    return _ERRORS[match[1]](match[2]) if match else error
