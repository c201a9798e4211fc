"""``causal_conv1d.cpp_functions``: what autograd functions of others call in their own forward and
backward (mamba-ssm, fla). No gradient flows through these."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _check
from .._functions import backward, causal_conv1d_fn, causal_conv1d_update, translated
from ..reference import Activation

__all__ = [
    "causal_conv1d_bwd_function",
    "causal_conv1d_fwd_function",
    "causal_conv1d_update_function",
]


def _activation(silu_activation: bool) -> Activation:
    if not isinstance(silu_activation, (bool, int)):  # any string would count as true
        kind = type(silu_activation).__name__
        raise TypeError(f"Expected silu_activation, a bool, got {kind}")
    return "silu" if silu_activation else None


@torch.no_grad()
def causal_conv1d_fwd_function(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    final_states_out: Tensor | None,
    silu_activation: bool,
) -> Tensor:
    """out of :func:`causal_conv1d_mps.causal_conv1d_fn`; ``final_states_out`` is written if given.

    Shapes, dtypes and errors as there.
    """
    results = causal_conv1d_fn(
        x, weight, bias, seq_idx, initial_states, final_states_out is not None, final_states_out,
        _activation(silu_activation),
    )  # fmt: skip
    return results[0] if isinstance(results, tuple) else results


@torch.no_grad()
def causal_conv1d_bwd_function(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dout: Tensor,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    dfinal_states: Tensor | None,
    dx: Tensor | None,
    return_dinitial_states: bool,
    silu_activation: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The gradients of :func:`causal_conv1d_fwd_function`: dx, dweight, dbias, dinitial_states.

    Args:
        dout: (batch, dim, seqlen), dtype of x, any strides, as everything else here.
        dfinal_states: (batch, dim, width - 1), or None.
        dx: (batch, dim, seqlen): is written and returned; may be a slice of a larger tensor.
        return_dinitial_states: else dinitial_states is None. Without ``initial_states`` it is the
            gradient at states of 0.

    dbias is None without a bias. Other arguments, dtypes and errors as for the forward.
    """
    _check.tensors(
        x=x, weight=weight, bias=bias, dout=dout, seq_idx=seq_idx, initial_states=initial_states,
        dfinal_states=dfinal_states, dx=dx,
    )  # fmt: skip
    if dx is not None and (dx.shape, dx.dtype, dx.device) != (x.shape, x.dtype, x.device):
        raise ValueError(
            f"Expected dx {tuple(x.shape)} of {x.dtype} on {x.device}, as x, got {tuple(dx.shape)} "
            f"of {dx.dtype} on {dx.device}, which does not match"
        )
    if return_dinitial_states and initial_states is None:
        initial_states = x.new_zeros(x.shape[0], x.shape[1], weight.shape[1] - 1)
    try:
        found, dweight, dbias, dinitial_states = backward(
            dout, dfinal_states, x, weight, bias, seq_idx, None, initial_states,
            _activation(silu_activation) is not None,
        )  # fmt: skip
    except RuntimeError as error:
        raise translated(error) from None
    return (
        found if dx is None else dx.copy_(found),
        dweight,
        None if bias is None else dbias,
        dinitial_states if return_dinitial_states else None,
    )


@torch.no_grad()
def causal_conv1d_update_function(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu_activation: bool,
    cache_seqlens: Tensor | None,
    conv_state_indices: Tensor | None,
) -> Tensor:
    """:func:`causal_conv1d_mps.causal_conv1d_update`, x (batch, dim, seqlen) or (batch, dim)."""
    return causal_conv1d_update(
        x, conv_state, weight, bias, _activation(silu_activation), cache_seqlens, conv_state_indices
    )
