"""The convolution as a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from . import _check
from ._functions import causal_conv1d, causal_conv1d_fn, causal_conv1d_update
from .reference import Activation, is_silu

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on


def _squeeze_weight(_: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
    """Makes (dim, width) of the (dim, 1, width) that nn.Conv1d saves, also under parametrizations.

    Not a method, nor a closure: hooks are copied and pickled with their module.
    """
    names = (f"{prefix}weight", f"{prefix}parametrizations.weight.")
    for name, value in state_dict.items():
        if name.startswith(names) and value.dim() == 3 and value.shape[1] == 1:
            state_dict[name] = value.squeeze(1)


class CausalConv1d(nn.Module):
    """A causal depthwise convolution with its weights, :func:`causal_conv1d_mps.causal_conv1d`.

    Args:
        dim: number of channels.
        width: taps of the filter, >= 1.
        bias: whether to add a bias.
        activation: None, "silu" or "swish".
        device, dtype: of the parameters.

    All but dim and width are given by keyword.

    Input and output are (batch, dim, seqlen), or (dim, seqlen) as for ``nn.Conv1d``. ``step`` takes
    the same input in pieces; between them ``state`` (batch, dim, width) holds the last columns, or
    None before the first: save it, restore it, move it like any tensor. It is no parameter or
    buffer and in no state_dict; ``to``, ``half`` and their kin take it along.

    Parameters are ``weight`` (dim, width) and ``bias``
    (dim,) or None, initialised as ``nn.Conv1d(dim, dim, width, groups=dim)`` would. What that layer
    saves, a weight (dim, 1, width), loads here; the way back is
    ``conv.load_state_dict({**layer.state_dict(), "weight": layer.weight[:, None]})``.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        bias: bool = True,
        activation: Activation = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dim < 0 or width < 1:
            raise ValueError(f"Expected dim >= 0 and width >= 1, got {dim} and {width}")
        if not isinstance(bias, bool):
            raise TypeError(f"Expected bias to be a bool, got {type(bias).__name__}")
        is_silu(activation)
        self.dim: int = dim
        self.width: int = width
        self.activation: Activation = activation
        self.weight: nn.Parameter = nn.Parameter(
            torch.empty(dim, width, device=device, dtype=dtype)
        )
        self.bias: nn.Parameter | None = (
            nn.Parameter(torch.empty(dim, device=device, dtype=dtype)) if bias else None
        )
        self.state: Tensor | None = None
        self.register_load_state_dict_pre_hook(_squeeze_weight)  # type: ignore[no-untyped-call]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in +-1/sqrt(width), as ``nn.Conv1d`` has it for one input channel per group."""
        bound = self.width**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """``causal_conv1d(x, weight, bias, activation)``; x may be (dim, seqlen)."""
        _check.tensors(x=x)
        if x.dim() == 2:
            return causal_conv1d(x[None], self.weight, self.bias, self.activation)[0]
        return causal_conv1d(x, self.weight, self.bias, self.activation)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What ``to``, ``half``, ``cuda`` and their kin call: the state goes along."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.state is not None:
            with torch.no_grad():
                self.state = fn(self.state)
        return self

    def reset_state(self) -> None:
        """Forgets what ``step`` has seen."""
        self.state = None

    def step(self, x: Tensor) -> Tensor:
        """The output for x, the next columns of a stream, (batch, dim) or (batch, dim, seqlen).

        The outputs of any chunks of a stream, one after the other, are the output for the whole:
        without SiLU and in float32 to the bit. History counts as a constant in gradients.

        Raises:
            ValueError: x has another batch, dtype or device than the stream so far.
        """
        _check.tensors(x=x)
        state = self.state
        if state is None:
            state = x.new_zeros(x.shape[0], self.dim, self.width)
        elif (state.shape[0], state.dtype, state.device) != (x.shape[0], x.dtype, x.device):
            raise ValueError(
                f"Expected x with batch {state.shape[0]} of {state.dtype} on {state.device}, as "
                f"the stream so far, got batch {x.shape[0]} of {x.dtype} on {x.device}: "
                "reset_state() begins another stream"
            )
        elif not torch.compiler.is_compiling() and (
            state.is_inference() and not torch.is_inference_mode_enabled()
        ):
            state = state.clone()  # one of inference mode cannot be changed outside of it
        if x.dim() == 2 or x.shape[2] == 1:
            out = causal_conv1d_update(x, state, self.weight, self.bias, self.activation)
        else:
            history = state[:, :, 1:].clone()  # the state moves on in place
            out = causal_conv1d_fn(
                x, self.weight, self.bias, initial_states=history, activation=self.activation
            )
            state.copy_(torch.cat([state, x.detach()], dim=2)[:, :, x.shape[2] :])
        self.state = state
        return out

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return (
            f"{self.dim}, {self.width}, bias={self.bias is not None}, "
            f"activation={self.activation!r}"
        )
