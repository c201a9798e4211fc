"""Loads the C library, which registers its operations with PyTorch, and turns its errors into
Python's."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

import torch

_NAMES = {
    "darwin": ("libcausal_conv1d.dylib", "libtorch_cpu.dylib"),
    "win32": ("causal_conv1d.dll", "torch_cpu.dll"),
}
_LIBRARY, _LIBTORCH = _NAMES.get(sys.platform, ("libcausal_conv1d.so", "libtorch_cpu.so"))


def _load() -> ctypes.CDLL:
    # An editable install has the library in another folder of the package's path.
    places = [Path(place) / _LIBRARY for place in sys.modules[__package__].__path__]
    if "CAUSAL_CONV1D_LIBRARY" in os.environ:  # another build, for tests
        places = [Path(os.environ["CAUSAL_CONV1D_LIBRARY"])]
    path = next((place for place in places if place.exists()), None)
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
        raise ImportError(f"{path} cannot be used: {error}") from None
    libtorch = Path(torch.__file__).parent / "lib" / _LIBTORCH
    error = library.causal_conv1d_torch_register(str(libtorch).encode())
    if error is not None:
        raise ImportError(error.decode())
    return library


library = _load()
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


def translated(error: RuntimeError) -> Exception:
    """The exception that stands for an error of the C library, or ``error`` itself."""
    if isinstance(error, NotImplementedError):
        return ValueError(f"Expected tensors on a device that has kernels: {error}")
    match = re.match(r"causal_conv1d_mps \[(.*?)\] (.*)", str(error), re.DOTALL)
    return _ERRORS[match[1]](match[2]) if match else error
