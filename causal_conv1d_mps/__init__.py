"""Causal depthwise 1-D convolution for PyTorch, in C: on CPUs, Apple GPUs and NVIDIA GPUs.

``out[b,d,t] = act(bias[d] + sum_k weight[d,k] * x[b,d,t-(W-1)+k])``, x before t = 0 being 0: the
convolution in front of the scan of Mamba (Gu and Dao, 2023, arXiv:2312.00752) and its kin.
"""

from ._functions import (
    CausalConv1dMPSFunction,
    __version__,
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_fwd,
    causal_conv1d_update,
    causal_conv1d_varlen_fn,
    causal_conv1d_varlen_states,
    native_error,  # noqa: F401  (why plain PyTorch serves, or None)
)
from .compat.install import install
from .module import CausalConv1d
from .reference import (
    causal_conv1d_ref,
    causal_conv1d_update_ref,
    causal_conv1d_varlen_states_ref,
)

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
