"""Causal depthwise 1-D convolution for PyTorch, in C: on CPUs, Apple GPUs and NVIDIA GPUs.

``out[b,d,t] = act(bias[d] + sum_k weight[d,k] * x[b,d,t-(W-1)+k])``, x before t = 0 being 0: the
convolution in front of the scan of Mamba (Gu and Dao, 2023, arXiv:2312.00752) and its kin.
"""

import os
import warnings

from ._install import install
from .reference import (
    causal_conv1d_ref,
    causal_conv1d_update_ref,
    causal_conv1d_varlen_states_ref,
)

try:
    from . import functional
    from ._library import __version__
except ImportError as error:
    if os.environ.get("CAUSAL_CONV1D_LIBRARY"):  # nothing else serves in place of what a user names
        raise
    from . import fallback as functional  # type: ignore[no-redef]
    from .fallback import __version__

    native_error: str | None = str(error)
    warnings.warn(f"plain PyTorch serves, slower: {error}", RuntimeWarning, stacklevel=2)
else:
    native_error = None

CausalConv1dMPSFunction = functional.CausalConv1dMPSFunction
causal_conv1d = functional.causal_conv1d
causal_conv1d_fn = functional.causal_conv1d_fn
causal_conv1d_fwd = functional.causal_conv1d_fwd
causal_conv1d_update = functional.causal_conv1d_update
causal_conv1d_varlen_fn = functional.causal_conv1d_varlen_fn
causal_conv1d_varlen_states = functional.causal_conv1d_varlen_states

from .module import CausalConv1d  # noqa: E402  (of the functions above)

__all__ = [
    "CausalConv1d",
    "CausalConv1dMPSFunction",
    "__version__",
    "causal_conv1d",
    "causal_conv1d_fn",
    "causal_conv1d_fwd",
    "causal_conv1d_ref",
    "causal_conv1d_update",
    "causal_conv1d_update_ref",
    "causal_conv1d_varlen_fn",
    "causal_conv1d_varlen_states",
    "causal_conv1d_varlen_states_ref",
    "install",
]
