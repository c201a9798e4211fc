"""``causal_conv1d.causal_conv1d_interface``."""

from .. import (
    causal_conv1d_fn,
    causal_conv1d_ref,
    causal_conv1d_update,
    causal_conv1d_update_ref,
)

__all__ = [
    "CausalConv1dFn",
    "causal_conv1d_fn",
    "causal_conv1d_ref",
    "causal_conv1d_update",
    "causal_conv1d_update_ref",
]


class CausalConv1dFn:
    """``apply`` is :func:`causal_conv1d_fn`, by position; here not a ``torch.autograd.Function``,
    which would cost every call its overhead."""

    apply = staticmethod(causal_conv1d_fn)
