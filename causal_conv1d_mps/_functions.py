"""The functions that serve here: over the C library, or plain PyTorch where it cannot be loaded."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

native_error: str | None = None
if TYPE_CHECKING:  # the two have the same signatures
    from ._library import __version__, translated
    from ._ops import backward
    from .functional import (
        CausalConv1dMPSFunction,
        causal_conv1d,
        causal_conv1d_fn,
        causal_conv1d_fwd,
        causal_conv1d_update,
        causal_conv1d_varlen_fn,
        causal_conv1d_varlen_states,
    )
else:
    try:
        from . import functional
        from ._library import __version__, translated
        from ._ops import backward
    except ImportError as error:
        # Nothing else serves in place of a library that a user names.
        if os.environ.get("CAUSAL_CONV1D_LIBRARY"):
            raise
        from . import fallback as functional
        from .fallback import __version__, backward, translated

        native_error = str(error)
        text = f"plain PyTorch serves, slower: {native_error}"
        warnings.warn(text, RuntimeWarning, stacklevel=3)

    CausalConv1dMPSFunction = functional.CausalConv1dMPSFunction
    causal_conv1d = functional.causal_conv1d
    causal_conv1d_fn = functional.causal_conv1d_fn
    causal_conv1d_fwd = functional.causal_conv1d_fwd
    causal_conv1d_update = functional.causal_conv1d_update
    causal_conv1d_varlen_fn = functional.causal_conv1d_varlen_fn
    causal_conv1d_varlen_states = functional.causal_conv1d_varlen_states

__all__ = [
    "CausalConv1dMPSFunction",
    "__version__",
    "backward",
    "causal_conv1d",
    "causal_conv1d_fn",
    "causal_conv1d_fwd",
    "causal_conv1d_update",
    "causal_conv1d_varlen_fn",
    "causal_conv1d_varlen_states",
    "native_error",
    "translated",
]
