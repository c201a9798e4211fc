"""``causal_conv1d.causal_conv1d_interface``, with what its versions from 1.0 on imported: others
take the low-level functions from here."""

from .._functions import causal_conv1d_fn, causal_conv1d_update
from ..reference import causal_conv1d_ref, causal_conv1d_update_ref
from . import causal_conv1d_cuda
from .cpp_functions import (
    causal_conv1d_bwd_function,
    causal_conv1d_fwd_function,
    causal_conv1d_update_function,
)

__all__ = [
    "CausalConv1dFn",
    "causal_conv1d_bwd_function",
    "causal_conv1d_cuda",
    "causal_conv1d_fn",
    "causal_conv1d_fwd_function",
    "causal_conv1d_ref",
    "causal_conv1d_update",
    "causal_conv1d_update_function",
    "causal_conv1d_update_ref",
]


class CausalConv1dFn:
    """``apply`` is :func:`causal_conv1d_fn`, by position; here not a ``torch.autograd.Function``,
    which would cost every call its overhead."""

    apply = staticmethod(causal_conv1d_fn)
