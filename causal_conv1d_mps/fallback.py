"""The functions of functional.py in plain PyTorch, for where the C library cannot be loaded.

Same names, parameters and results on every device that PyTorch has, slower, and without the checks
of the arguments.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from .reference import (
    causal_conv1d_ref,
    causal_conv1d_update_ref,
    causal_conv1d_varlen_ref,
    causal_conv1d_varlen_states_ref,
    is_silu,  # noqa: F401  (as functional.py has it)
)

try:
    __version__ = version("causal-conv1d-mps")
except PackageNotFoundError:  # copied, not installed
    __version__ = "unknown"


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d`."""
    return causal_conv1d_ref(x, weight, bias, activation=activation)  # type: ignore[return-value]


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d_fn`."""
    return causal_conv1d_ref(
        x, weight, bias, initial_states, return_final_states, final_states_out, activation, seq_idx
    )


@torch.no_grad()
def causal_conv1d_fwd(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, silu_activation: bool = False
) -> Tensor:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d_fwd`."""
    bias = None if bias is None else bias.to(x.dtype)
    return causal_conv1d(x, weight.to(x.dtype), bias, "silu" if silu_activation else None)


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d_update`."""
    if cache_seqlens is not None or conv_state_indices is not None:
        return causal_conv1d_update_ref(
            x, conv_state, weight, bias, activation, cache_seqlens, conv_state_indices
        )
    # All rows at once: this is every decoding step of a model.
    columns = x[..., None] if x.dim() == 2 else x
    history = conv_state[:, :, conv_state.shape[2] - (weight.shape[1] - 1) :].clone()
    out = causal_conv1d_ref(columns, weight, bias, history, activation=activation)
    with torch.no_grad():
        conv_state.copy_(torch.cat([conv_state, columns], dim=2)[:, :, columns.shape[2] :])
    return out[..., 0] if x.dim() == 2 else out  # type: ignore[index]


def causal_conv1d_varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d_varlen_states`."""
    return causal_conv1d_varlen_states_ref(x, cu_seqlens, state_len)


def causal_conv1d_varlen_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d_varlen_fn`."""
    if cu_seqlens is None:
        raise ValueError("Expected cu_seqlens, a 1D tensor of sequences + 1 elements, got None")
    packed = x.T[None] if x.dim() == 2 else x
    out, final_states = causal_conv1d_varlen_ref(
        packed, weight, bias, cu_seqlens, initial_states, activation
    )
    if x.dim() == 2:
        out = out[0].T
    return (out, final_states) if return_final_states else out


class CausalConv1dMPSFunction:
    """See :class:`causal_conv1d_mps.functional.CausalConv1dMPSFunction`."""

    @staticmethod
    def apply(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        seq_idx: Tensor | None = None,
        initial_states: Tensor | None = None,
        return_final_states: bool = False,
        final_states_out: Tensor | None = None,
        silu: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """See the class."""
        return causal_conv1d_fn(
            x, weight, bias, seq_idx, initial_states, return_final_states, final_states_out,
            "silu" if silu else None,
        )  # fmt: skip


def backward_no_grad(
    dout: Tensor,
    dfinal_states: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    cu_seqlens: None,
    initial_states: Tensor | None,
    silu: bool,
) -> list[Tensor]:
    """The operation of this name for one sequence per row: dx, dweight, dbias, dinitial_states."""
    inputs = (x, weight, bias, initial_states)
    x, weight, bias, initial_states = (
        t if t is None else t.detach().requires_grad_() for t in inputs
    )
    wanted = [t for t in (x, weight, bias, initial_states) if t is not None]
    with torch.enable_grad():
        results = causal_conv1d_ref(
            x, weight, bias, initial_states, dfinal_states is not None,
            activation="silu" if silu else None, seq_idx=seq_idx,
        )  # fmt: skip
    if dfinal_states is None:
        found = torch.autograd.grad(results, wanted, dout)
    else:
        found = torch.autograd.grad(results, wanted, (dout, dfinal_states))
    gradients = iter(found)
    return [x.new_empty(0) if t is None else next(gradients) for t in inputs]
