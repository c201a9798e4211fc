"""The functions of the package: the way from their arguments to the operations in C, and the
gradients and fake kernels that make those operations known to PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._library import translated

_ops = torch.ops.causal_conv1d_mps
_forward = _ops.forward.default
_backward = _ops.backward.default
# The overload's own callable: one Python frame less, and no gradient registered.
_forward_no_grad = _ops.forward_no_grad.default._op


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    # Mixed devices reach this kernel when one of them is "meta".
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.device != x.device:
            raise ValueError(
                f"Expected {name} on the device of x, {x.device}, got one on {tensor.device}"
            )
    return torch.empty_like(x)


def _fake_backward(
    dout: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dweight = weight.new_empty(weight.shape)
    dbias = weight.new_empty(0) if bias is None else bias.new_empty(bias.shape)
    return torch.empty_like(x), dweight, dbias


def _setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
    x, weight, bias, ctx.silu = inputs
    ctx.save_for_backward(x, weight, bias)


def _gradients(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    x, weight, bias = ctx.saved_tensors
    dx, dweight, dbias = _backward(dout, x, weight, bias, ctx.silu)
    return dx, dweight, None if bias is None else dbias


def _refuse_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError("second derivatives of causal_conv1d are not implemented")


torch.library.register_fake("causal_conv1d_mps::forward", _fake_forward)
torch.library.register_fake("causal_conv1d_mps::forward_no_grad", _fake_forward)
torch.library.register_fake("causal_conv1d_mps::backward", _fake_backward)
torch.library.register_autograd(
    "causal_conv1d_mps::forward",
    lambda ctx, dout: (*_gradients(ctx, dout), None),
    setup_context=_setup_context,
)
torch.library.register_autograd("causal_conv1d_mps::backward", _refuse_second_derivative)


class CausalConv1dMPSFunction(torch.autograd.Function):
    """``apply(x, weight, bias, seq_idx, initial_states, return_final_states, final_states_out,
    silu)``: :func:`causal_conv1d_fn` as an autograd function, ``silu`` being a bool."""

    # Saving in forward, not in setup_context, spares every call 40 us of inspect.signature.
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        seq_idx: Tensor | None,
        initial_states: Tensor | None,
        return_final_states: bool,
        final_states_out: Tensor | None,
        silu: bool,
    ) -> Tensor:
        """See the class."""
        _refuse_states(seq_idx, initial_states, return_final_states, final_states_out)
        _setup_context(ctx, (x, weight, bias, silu), None)
        return _forward_no_grad(x, weight, bias, silu)

    @staticmethod
    def backward(ctx: Any, dout: Tensor):  # type: ignore[override]
        """Gradients of x, weight and bias."""
        return (*_gradients(ctx, dout), None, None, None, None, None)


def _is_silu(activation: str | None) -> bool:
    if activation not in (None, "silu", "swish"):
        raise NotImplementedError(f"activation must be None, silu, or swish, got {activation!r}")
    return activation is not None


def _refuse_states(
    seq_idx: Any, initial_states: Any, return_final_states: bool, final_states_out: Any
) -> None:
    given = {
        "seq_idx": seq_idx is not None,
        "initial_states": initial_states is not None,
        "return_final_states": return_final_states,
        "final_states_out": final_states_out is not None,
    }
    for name, is_given in given.items():
        if is_given:
            raise NotImplementedError(f"{name} is not implemented yet")


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """Causal depthwise convolution along time, with an optional SiLU.

    ``out[b,d,t] = act(bias[d] + sum_k weight[d,k] * x[b,d,t-(W-1)+k])``, x before t = 0 being 0
    (Gu and Dao, 2023, arXiv:2312.00752, section 3.4).

    Args:
        x: (batch, dim, seqlen), float32, float16, bfloat16 or float64, any strides.
        weight: (dim, width), width >= 1, any of those dtypes, whatever x's.
        bias: (dim,), any of those dtypes, or None.
        activation: None, "silu" or "swish" (the same).

    Returns:
        out: (batch, dim, seqlen), dtype of x, strides as ``torch.empty_like(x)`` has them.
        Accumulated in float32 (float64 for float64) and rounded once.

    Raises:
        ValueError: a shape, dtype or device does not fit.
        NotImplementedError: another activation.

    Differentiable in x, weight and bias. The same input gives the same bits, whatever the
    number of threads.
    """
    silu = _is_silu(activation)
    if torch.compiler.is_compiling():
        return _forward(x, weight, bias, silu)
    try:
        if torch.is_grad_enabled() and (
            x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
        ):
            return CausalConv1dMPSFunction.apply(x, weight, bias, None, None, False, None, silu)
        return _forward_no_grad(x, weight, bias, silu)
    except RuntimeError as error:
        raise translated(error) from None


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """:func:`causal_conv1d` with the signature of the ``causal-conv1d`` package.

    ``seq_idx``, ``initial_states``, ``return_final_states`` and ``final_states_out`` are not
    implemented yet and raise NotImplementedError.
    """
    _refuse_states(seq_idx, initial_states, return_final_states, final_states_out)
    return causal_conv1d(x, weight, bias, activation)


@torch.no_grad()
def causal_conv1d_fwd(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, silu_activation: bool = False
) -> Tensor:
    """:func:`causal_conv1d` without gradient, and with weight and bias rounded to x's dtype first.

    Shapes, dtypes, result and errors as there; ``silu_activation`` turns SiLU on.
    """
    weight = weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    return causal_conv1d(x, weight, bias, "silu" if silu_activation else None)
