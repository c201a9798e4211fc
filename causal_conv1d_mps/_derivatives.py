"""Derivatives of the operations, in both modes and of any order.

The formulas stand here once, for eager mode, ``torch.compile``, ``torch.func`` and forward mode.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _ops

_Directions = tuple[Tensor | None, ...]
_Results = tuple[Tensor | None, Tensor | None]


def _wide(like: Tensor, tensor: Tensor) -> Tensor:
    """A tensor in the dtype that sums of like accumulate in, so that results round once."""
    return tensor.to(torch.promote_types(like.dtype, torch.float32))


def _all_wide(like: Tensor, tensors: _Directions) -> _Directions:
    """The same of several, some of which may be absent."""
    return tuple(None if t is None else _wide(like, t) for t in tensors)


def _rounded(result: Tensor | None, like: Tensor | None) -> Tensor | None:
    return None if result is None or like is None else result.to(like.dtype)


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _or_zeros(tensor: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if tensor is None else tensor


def _silu_derivatives(sums: Tensor) -> tuple[Tensor, Tensor]:
    """The first and second derivative of SiLU, 0 or 1 at infinity."""
    v = sums.clamp(-1000, 1000)
    s = torch.sigmoid(v)
    return s * (1 + v * (1 - s)), s * (1 - s) * (2 + v * (1 - 2 * s))


def _sums_along(
    x: Tensor,
    weight: Tensor,
    seq_idx: Tensor | None,
    cu_seqlens: Tensor | None,
    initial_states: Tensor | None,
    directions: _Directions,
    final_states: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """The derivative of the sums under SiLU, and of the final states, along directions of x,
    weight, bias and initial_states (None: 0)."""
    of_x, of_weight, of_bias, of_initial = directions
    sums = final = None
    if final_states or not (of_x is None and of_bias is None and of_initial is None):
        of_x = _or_zeros(of_x, x)
        sums, final = _ops.forward(
            of_x, weight, of_bias, seq_idx, cu_seqlens, of_initial, False, final_states
        )
    if of_weight is not None:
        taps = _ops.forward(x, of_weight, None, seq_idx, cu_seqlens, initial_states, False, False)[
            0
        ]
        sums = _plus(sums, taps)
    return sums, final if final_states else None


def _tangents(
    inputs: tuple[Any, ...], directions: _Directions
) -> tuple[Tensor | None, Tensor | None]:
    """Of the results of ``forward``."""
    *tensors, silu, final_states = inputs
    x, weight, bias, seq_idx, cu_seqlens, initial_states = tensors
    like, directions = x, _all_wide(x, directions)
    bias, initial_states = _all_wide(like, (bias, initial_states))
    x, weight = _wide(like, x), _wide(like, weight)
    sequences = (seq_idx, cu_seqlens, initial_states)
    out, final = _sums_along(x, weight, *sequences, directions, final_states)
    if silu and out is not None:
        sums = _ops.forward(x, weight, bias, *sequences, False, False)[0]
        out = out * _silu_derivatives(sums)[0]
    return _rounded(out, like), _rounded(final, like)


def _backward(dout: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    """The operation ``backward`` by the way that suits the moment."""
    if not torch.is_grad_enabled() and _ops.is_eager(dout):
        with _ops.below_autograd():
            return _ops.backward(dout, *inputs)
    if not _ops.has_transforms and _ops.is_transformed():
        raise NotImplementedError(f"Expected {', '.join(_ops.missing)}, which this PyTorch lacks")
    return _ops.backward(dout, *inputs)


def _gradients(
    inputs: tuple[Any, ...], dout: Tensor | None, dfinal: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Of x, weight, bias, seq_idx, cu_seqlens, initial_states, silu, return_final_states."""
    *tensors, silu, final_states = inputs
    x, _, bias, *_, initial_states = tensors
    dout = _or_zeros(dout, x)
    dfinal = dfinal if final_states else None
    dx, dweight, dbias, dinitial = _backward(dout, dfinal, *tensors, silu)
    return (
        dx,
        dweight,
        None if bias is None else dbias,
        None,
        None,
        None if initial_states is None else dinitial,
        None,
        None,
    )


def _second_derivatives(
    inputs: tuple[Any, ...],
    along_dout: Tensor | None,
    along_dfinal: Tensor | None,
    directions: _Directions,
) -> tuple[_Directions, _Results]:
    """The derivatives of the results of ``backward`` along directions of dout, dfinal, x, weight,
    bias and initial_states, and the gradients of dout and dfinal where the last four directions are
    gradients of the results: as second derivatives are symmetric, those of x, weight, bias and
    initial_states are the derivatives with no direction of dout and dfinal."""
    dout, dfinal, *primals, seq_idx, cu_seqlens, initial_states, silu = inputs
    like = (*primals, initial_states)
    x, weight, dout = (_wide(like[0], t) for t in (*primals[:2], dout))
    bias, initial_states, along_dout, along_dfinal = _all_wide(
        like[0], (primals[2], initial_states, along_dout, along_dfinal)
    )
    directions = _all_wide(like[0], directions)
    sequences = (seq_idx, cu_seqlens, initial_states)
    of_dout, of_dfinal = _sums_along(x, weight, *sequences, directions, dfinal is not None)
    along = along_dout
    if silu:  # dout and its derivative as they arrive at the sums
        sums = _ops.forward(x, weight, bias, *sequences, False, False)[0]
        slope, curvature = _silu_derivatives(sums)
        bend = None if of_dout is None else dout * curvature * of_dout
        along = _plus(None if along is None else along * slope, bend)
        of_dout = None if of_dout is None else of_dout * slope
        dout = dout * slope
    found: list[Tensor | None] = [None] * 4
    if along is not None or along_dfinal is not None:
        along = _or_zeros(along, x)
        first = _ops.backward(along, along_dfinal, x, weight, bias, *sequences, False)
        found = list(first)
    of_x, of_weight, _, of_initial = directions
    if not (of_x is None and of_weight is None and of_initial is None):
        of_x, of_weight = _or_zeros(of_x, x), _or_zeros(of_weight, weight)
        if initial_states is not None:
            of_initial = _or_zeros(of_initial, initial_states)
        dx, dweight, _, dinitial = _ops.backward(
            dout, None, of_x, of_weight, None, seq_idx, cu_seqlens, of_initial, False
        )
        found = [_plus(a, b) for a, b in zip(found, (dx, dweight, None, dinitial), strict=True)]
    of_results = tuple(_rounded(a, b) for a, b in zip(found, like, strict=True))
    return of_results, (_rounded(of_dout, inputs[0]), _rounded(of_dfinal, dfinal))


def _save(ctx: Any, inputs: tuple[Any, ...], options: int) -> None:
    """The tensors, and the options that follow them."""
    tensors, ctx.options = inputs[:-options], inputs[-options:]
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    ctx.set_materialize_grads(False)


def _redispatched(op: Any, modes: tuple[Any, ...] | None, inputs: tuple[Any, ...]) -> Any:
    """op below autograd: in eager mode, or, with a keyset and the modes of the call, which
    ``apply`` has turned off, for the next transform."""
    if modes is None:
        with _ops.below_autograd():
            return op(*inputs)
    keyset, gradients, forward_mode = modes
    with _ops.below_autograd(), torch.set_grad_enabled(gradients), _forward_mode(forward_mode):
        return op.redispatch(keyset & _ops.after_autograd, *inputs)


@contextlib.contextmanager
def _forward_mode(enabled: bool) -> Iterator[None]:
    before = _ops.is_forward_mode_enabled()
    _ops.set_forward_mode(enabled)
    try:
        yield
    finally:
        _ops.set_forward_mode(before)


def _primals(ctx: Any) -> tuple[Any, ...]:
    """The inputs that ``_save`` kept, without the tangents of this level."""
    return (
        *(t if t is None else forward_ad.unpack_dual(t, level=0).primal for t in ctx.saved_tensors),
        *ctx.options,
    )


class CausalConv1d(_ops.Function):  # type: ignore[misc]
    """``forward`` with its derivatives."""

    option_count = 2

    # Saving in forward, not in setup_context, spares every call 40 us of inspect.signature.
    @staticmethod
    def forward(ctx: Any, modes: tuple[Any, ...] | None, *inputs: Any) -> tuple[Tensor, Tensor]:
        _save(ctx, inputs, CausalConv1d.option_count)
        ctx.modes = modes
        results: tuple[Tensor, Tensor] = _redispatched(_ops.forward, modes, inputs)
        return results

    @staticmethod
    def backward(ctx: Any, dout: Tensor | None, dfinal: Tensor | None) -> tuple[Any, ...]:
        """Of the arguments of ``forward``."""
        return None, *_gradients((*ctx.saved_tensors, *ctx.options), dout, dfinal)

    @staticmethod
    def jvp(ctx: Any, _modes: None, *tangents: Any) -> tuple[Any, ...]:
        """Of the results."""
        x, weight, bias, _, _, initial_states, *_ = tangents
        with _forward_mode(ctx.modes[2]):
            inputs = _primals(ctx)
            out, final = _tangents(inputs, (x, weight, bias, initial_states))
            return out, inputs[0].new_zeros(0) if final is None else final


class CausalConv1dBackward(_ops.Function):  # type: ignore[misc]
    """``backward`` with its derivatives."""

    option_count = 1

    @staticmethod
    def forward(ctx: Any, modes: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, ...]:
        _save(ctx, inputs, CausalConv1dBackward.option_count)
        ctx.modes = modes
        results: tuple[Tensor, ...] = _redispatched(_ops.backward, modes, inputs)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        """Of the arguments of ``forward``."""
        inputs = (*ctx.saved_tensors, *ctx.options)
        of = (*inputs[2:5], inputs[7])  # an absent one has an empty result, with a gradient maybe
        grads = tuple(None if t is None else g for g, t in zip(grads, of, strict=True))
        (x, weight, bias, initial_states), of_douts = _second_derivatives(inputs, None, None, grads)
        return None, *of_douts, x, weight, bias, None, None, initial_states, None

    @staticmethod
    def jvp(ctx: Any, _modes: None, *tangents: Any) -> tuple[Any, ...]:
        """Of the results."""
        dout, dfinal, x, weight, bias, _, _, initial_states, _ = tangents
        with _forward_mode(ctx.modes[2]):
            inputs, directions = _primals(ctx), (x, weight, bias, initial_states)
            found, _ = _second_derivatives(inputs, dout, dfinal, directions)
            _, _, x, weight, bias, _, _, initial_states, _ = inputs
            return tuple(
                x.new_zeros(0) if like is None else _or_zeros(tangent, like)
                for tangent, like in zip(found, (x, weight, bias, initial_states), strict=True)
            )


class Plain(_ops.Function):  # type: ignore[misc]
    """``forward_plain`` with its gradient, for eager mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.silu = silu
        return _ops.forward_plain_fast(x, weight, bias, silu)

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Any, ...]:
        """Of x, weight, bias, silu."""
        x, weight, bias = ctx.saved_tensors
        if not torch.is_grad_enabled() and _ops.is_eager(dout):
            dx, dweight, dbias = _ops.backward_plain_fast(dout, x, weight, bias, ctx.silu)
        else:
            inputs = (dout, None, x, weight, bias, None, None, None, ctx.silu)
            dx, dweight, dbias, _ = _backward(*inputs)
        return dx, dweight, None if bias is None else dbias, None


def _autograd_kernel(op: Any, function: Any) -> Any:
    def kernel(keyset: Any, *inputs: Any) -> Any:
        if _ops.is_eager(inputs[0]) and not _ops.needs_grad(*inputs[: -function.option_count]):
            with _ops.below_autograd():
                return op._op(*inputs)
        modes = (keyset, torch.is_grad_enabled(), _ops.is_forward_mode_enabled())
        allowed = _ops.single_level_allowed()
        _ops.allow_single_level(True)
        try:
            return function.apply(modes, *inputs)
        finally:
            _ops.allow_single_level(allowed)

    return kernel


_derivatives: tuple[tuple[Any, Any], ...] = (
    (_ops.forward, CausalConv1d),
    (_ops.backward, CausalConv1dBackward),
)
if _ops.has_transforms:
    _implementations = torch.library.Library("causal_conv1d_mps", "IMPL")
    for _op, _class in _derivatives:
        _implementations.impl(_op, _autograd_kernel(_op, _class), "Autograd", with_keyset=True)
else:  # reverse mode alone
    for _name, _class in (("forward", CausalConv1d), ("backward", CausalConv1dBackward)):
        torch.library.register_autograd(
            f"causal_conv1d_mps::{_name}",
            lambda ctx, *grads, _class=_class: _class.backward(ctx, *grads)[1:],
            setup_context=lambda ctx, inputs, output, _class=_class: _save(
                ctx, inputs, _class.option_count
            ),
        )
if _ops.missing:
    _loss = "calls are slower" if _ops.has_transforms else "torch.func is served slower"
    warnings.warn(
        f"PyTorch {torch.__version__} lacks {', '.join(_ops.missing)}: {_loss}",
        RuntimeWarning,
        stacklevel=2,
    )
