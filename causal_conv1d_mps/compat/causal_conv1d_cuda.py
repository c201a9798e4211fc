"""The extension module ``causal_conv1d_cuda``, which older clients call themselves: mamba-ssm up to
2.2.4, Vision Mamba, U-Mamba and their forks.

All arguments go by position. They grew with the versions 1.0, 1.1 and 1.2 of the ``causal-conv1d``
package; how many are given says which are meant. Shapes, dtypes and errors are those of
:mod:`.cpp_functions`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .cpp_functions import (
    causal_conv1d_bwd_function,
    causal_conv1d_fwd_function,
    causal_conv1d_update_function,
)

__all__ = ["causal_conv1d_bwd", "causal_conv1d_fwd", "causal_conv1d_update"]


def causal_conv1d_fwd(x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    """out of the convolution.

    Args:
        *arguments: (silu), (seq_idx, silu) or (seq_idx, initial_states, final_states_out, silu).

    Raises:
        TypeError: another number of arguments.
    """
    if len(arguments) not in (1, 2, 4):
        raise TypeError(f"Expected 4, 5 or 7 arguments, got {3 + len(arguments)}")
    *given, silu = arguments
    seq_idx, initial_states, final_states_out = [*given, None, None, None][:3]
    return causal_conv1d_fwd_function(
        x, weight, bias, seq_idx, initial_states, final_states_out, silu
    )


def causal_conv1d_bwd(
    x: Tensor, weight: Tensor, bias: Tensor | None, dout: Tensor, *arguments: Any
) -> tuple[Tensor | None, ...]:
    """The gradients of :func:`causal_conv1d_fwd`.

    Args:
        *arguments: (dx, silu), (seq_idx, dx, silu), or (seq_idx, initial_states, dfinal_states,
            dx, return_dinitial_states, silu).

    Returns:
        (dx, dweight, dbias), to the longest form (dx, dweight, dbias, dinitial_states).

    Raises:
        TypeError: another number of arguments.
    """
    if len(arguments) not in (2, 3, 6):
        raise TypeError(f"Expected 6, 7 or 10 arguments, got {4 + len(arguments)}")
    if len(arguments) == 6:
        return causal_conv1d_bwd_function(x, weight, bias, dout, *arguments)
    *given, dx, silu = arguments
    seq_idx = given[0] if given else None
    return causal_conv1d_bwd_function(
        x, weight, bias, dout, seq_idx, None, None, dx, False, silu
    )[:3]  # fmt: skip


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu_activation: bool,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """One step of decoding: :func:`.cpp_functions.causal_conv1d_update_function`."""
    return causal_conv1d_update_function(
        x, conv_state, weight, bias, silu_activation, cache_seqlens, conv_state_indices
    )
