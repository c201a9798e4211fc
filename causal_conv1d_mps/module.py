"""The convolution as a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .functional import causal_conv1d


class CausalConv1d(nn.Module):
    """A causal depthwise convolution with its weights, :func:`causal_conv1d_mps.causal_conv1d`.

    Args:
        dim: number of channels.
        width: taps of the filter, >= 1.
        bias: whether to add a bias.
        activation: None, "silu" or "swish".
        device, dtype: of the parameters.

    Input and output are (batch, dim, seqlen). Parameters are ``weight`` (dim, width) and ``bias``
    (dim,) or None, initialised as ``nn.Conv1d(dim, dim, width, groups=dim)`` would.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        bias: bool = True,
        activation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dim < 0 or width < 1:
            raise ValueError(f"Expected dim >= 0 and width >= 1, got {dim} and {width}")
        if activation not in (None, "silu", "swish"):
            raise NotImplementedError("activation must be None, silu, or swish")
        self.dim, self.width, self.activation = dim, width, activation
        self.weight = nn.Parameter(torch.empty(dim, width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(dim, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in +-1/sqrt(width), as ``nn.Conv1d`` has it for one input channel per group."""
        bound = self.width**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """``causal_conv1d(x, weight, bias, activation)``."""
        return causal_conv1d(x, self.weight, self.bias, self.activation)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return (
            f"{self.dim}, {self.width}, bias={self.bias is not None}, "
            f"activation={self.activation!r}"
        )
