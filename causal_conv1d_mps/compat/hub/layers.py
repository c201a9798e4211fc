"""The layers: no state, no constructor, and the parameters of the functions of transformers that
they take the place of, as the ``kernels`` package demands."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..._functions import causal_conv1d_fn as _fn
from ..._functions import causal_conv1d_update as _update
from ...reference import Activation

__all__ = ["causal_conv1d_fn", "causal_conv1d_update"]


class causal_conv1d_fn(nn.Module):
    """:func:`causal_conv1d_mps.causal_conv1d_fn` of hidden_states (batch, dim, seqlen).

    Of the other keywords, those of a model, only ``seq_idx`` counts.
    """

    can_torch_compile = True
    has_backward = True

    def forward(
        self,
        hidden_states: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: Activation = None,
        **kwargs: Any,
    ) -> Tensor:
        """Shapes, dtypes and errors as of the function."""
        seq_idx: Tensor | None = kwargs.get("seq_idx")
        return _fn(hidden_states, weight, bias, seq_idx=seq_idx, activation=activation)


class causal_conv1d_update(nn.Module):
    """:func:`causal_conv1d_mps.causal_conv1d_update` of hidden_states (batch, dim, seqlen)."""

    can_torch_compile = True
    has_backward = True

    def forward(
        self,
        hidden_states: Tensor,
        conv_state: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: Activation = None,
    ) -> Tensor:
        """Shapes, dtypes and errors as of the function."""
        return _update(hidden_states, conv_state, weight, bias, activation)
