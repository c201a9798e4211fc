"""The functions of the package: from their arguments to the operations in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor

from . import (
    _batching,  # noqa: F401  (registers itself)
    _check,
    _derivatives,
    _graph,
    _ops,
)
from ._library import FAILURES, translated
from .reference import (
    Activation,
    causal_conv1d_ref,
    causal_conv1d_varlen_ref,
    history,
    is_silu,
    moved_activation,
)

_transforms_active, _levels = _ops.transforms_active, _ops.levels
_needs_grad = _ops.needs_grad
_is_compiling = torch.compiler.is_compiling
_is_grad_enabled = torch.is_grad_enabled
_increment_version = _ops.increment_version
_apply: Callable[..., tuple[Tensor, Tensor]] = _derivatives.CausalConv1d.apply
_apply_plain: Callable[..., Tensor] = _derivatives.Plain.apply


def _forward(*inputs: Any) -> tuple[Tensor, Tensor]:
    """The operation ``forward`` by the way that suits the moment; callers translate its errors."""
    if not _ops.has_transforms and _ops.is_transformed():
        return _reference(*inputs)
    if _is_compiling() or _ops.is_transformed():
        return _ops.forward(*inputs)
    if _needs_grad(*inputs[:3], inputs[5]):
        return _apply(None, *inputs)
    with _ops.below_autograd():
        return _ops.forward(*inputs)


def _reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    cu_seqlens: Tensor | None,
    initial_states: Tensor | None,
    silu: bool,
    final_states: bool,
) -> tuple[Tensor, Tensor]:
    """The operation ``forward`` in plain PyTorch."""
    activation: Activation = "silu" if silu else None
    if cu_seqlens is not None:
        return causal_conv1d_varlen_ref(x, weight, bias, cu_seqlens, initial_states, activation)
    if final_states:
        return causal_conv1d_ref(
            x, weight, bias, initial_states, return_final_states=True, activation=activation
        )
    out = causal_conv1d_ref(x, weight, bias, initial_states, activation=activation, seq_idx=seq_idx)
    return out, x.new_empty(0)


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = None
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

    Differentiable in x, weight and bias any number of times, in reverse and in forward mode. The
    same input gives the same bits, whatever the number of threads.
    """
    silu = is_silu(activation)
    try:
        if _is_compiling() or _transforms_active() or _levels._current_level >= 0:
            return _forward(x, weight, bias, None, None, None, silu, False)[0]
        if torch.is_grad_enabled() and _needs_grad(x, weight, bias):
            return _apply_plain(x, weight, bias, silu)
        return _ops.forward_plain_fast(x, weight, bias, silu)
    except FAILURES as error:
        raise translated(error, x=x, weight=weight, bias=bias) from None


# fmt: off
@overload
def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None, return_final_states: Literal[False] = False,
    final_states_out: Tensor | None = None, activation: Activation = None,
) -> Tensor: ...
@overload
def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None, *, return_final_states: Literal[True],
    final_states_out: Tensor | None = None, activation: Activation = None,
) -> tuple[Tensor, Tensor]: ...
@overload
def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None, *, return_final_states: bool,
    final_states_out: Tensor | None = None, activation: Activation = None,
) -> Tensor | tuple[Tensor, Tensor]: ...
@overload
def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, seq_idx: Tensor | None,
    initial_states: Tensor | None, return_final_states: bool,
    final_states_out: Tensor | None = None, activation: Activation = None,
) -> Tensor | tuple[Tensor, Tensor]: ...
# fmt: on
def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: Activation = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`causal_conv1d` with packed sequences and carried states.

    Args:
        x, weight, bias, activation: as for :func:`causal_conv1d`.
        seq_idx: (batch, seqlen), int32 or int64: a tap counts only where its id equals the id at
            t. Where the id is negative (padding) out is 0 and nothing flows back.
        initial_states: (batch, dim, width - 1), dtype of x, oldest first: the columns before
            t = 0. With ``seq_idx`` they carry the id ``seq_idx[:, 0]``.
        return_final_states: also return the last width - 1 columns of initial_states (or 0)
            followed by x. Not with ``seq_idx``: use :func:`causal_conv1d_varlen_fn`.
        final_states_out: (batch, dim, width - 1): is written with them and returned; may be
            ``initial_states``. Ignored without ``return_final_states``.

    A string as the fourth or fifth argument is ``activation``, which had these places in versions
    1.0 and 1.1 of the ``causal-conv1d`` package.

    Returns:
        out as of :func:`causal_conv1d`, or (out, final_states).

    Raises:
        AssertionError: ``seq_idx`` with ``return_final_states``.
        ValueError, NotImplementedError: as :func:`causal_conv1d`.

    Differentiable in x, weight, bias and initial_states, through both results, in both modes.
    """
    if seq_idx is None and initial_states is None and not return_final_states:
        return causal_conv1d(x, weight, bias, activation)
    seq_idx, activation = moved_activation(seq_idx, activation)
    initial_states, activation = moved_activation(initial_states, activation)
    silu = is_silu(activation)
    try:
        _check.final_states(x, weight, seq_idx, return_final_states, final_states_out)
        return _convolve(
            x, weight, bias, seq_idx, initial_states, return_final_states, final_states_out, silu
        )
    except FAILURES as error:
        raise translated(
            error, x=x, weight=weight, bias=bias, seq_idx=seq_idx, initial_states=initial_states,
            final_states_out=final_states_out,
        ) from None  # fmt: skip


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    return_final_states: bool,
    final_states_out: Tensor | None,
    silu: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    if return_final_states and final_states_out is not None and initial_states is not None:
        if _needs_grad(x, weight, bias, initial_states):
            initial_states = initial_states.clone()  # the backward needs it, out may overwrite it
    out, final_states = _forward(
        x, weight, bias, seq_idx, None, initial_states, silu, return_final_states
    )
    if not return_final_states:
        return out
    if final_states_out is not None:
        final_states = final_states_out.copy_(final_states)
    return out, final_states


class CausalConv1dMPSFunction:
    """``apply(x, weight, bias, seq_idx, initial_states, return_final_states, final_states_out,
    silu)``: :func:`causal_conv1d_fn` under the name of the original's autograd function; ``silu``
    is a bool."""

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


@torch.no_grad()
def causal_conv1d_fwd(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, silu_activation: bool = False
) -> Tensor:
    """:func:`causal_conv1d` without gradient, and with weight and bias rounded to x's dtype first.

    Shapes, dtypes, result and errors as there; ``silu_activation`` turns SiLU on.
    """
    try:
        weight = weight.to(x.dtype)
        bias = None if bias is None else bias.to(x.dtype)
    except FAILURES as error:
        raise translated(error, x=x, weight=weight, bias=bias) from None
    return causal_conv1d(x, weight, bias, "silu" if silu_activation else None)


# fmt: off
@overload
def causal_conv1d_varlen_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None, return_final_states: Literal[False] = False,
    activation: Activation = None,
) -> Tensor: ...
@overload
def causal_conv1d_varlen_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None, *, return_final_states: Literal[True],
    activation: Activation = None,
) -> tuple[Tensor, Tensor]: ...
@overload
def causal_conv1d_varlen_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None, *, return_final_states: bool,
    activation: Activation = None,
) -> Tensor | tuple[Tensor, Tensor]: ...
@overload
def causal_conv1d_varlen_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor | None,
    initial_states: Tensor | None, return_final_states: bool, activation: Activation = None,
) -> Tensor | tuple[Tensor, Tensor]: ...
# fmt: on
def causal_conv1d_varlen_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    activation: Activation = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`causal_conv1d` over N sequences that lie end to end, with a state for each.

    Args:
        x: (1, dim, total) or (total, dim).
        weight, bias, activation: as for :func:`causal_conv1d`.
        cu_seqlens: (N + 1,), int32 or int64: sequence n is [cu_seqlens[n], cu_seqlens[n+1]).
            Begins with 0, never falls, ends with total or less; a sequence may be empty. What comes
            after the last sequence is padding: out is 0 there and nothing flows back.
        initial_states: (N, dim, width - 1), dtype of x, oldest first: the columns before each.
        return_final_states: also return the last width - 1 columns of each sequence, counted on
            into its initial state (or 0) where it is shorter.

    Returns:
        out, of x's shape, or (out, final_states (N, dim, width - 1)).

    Raises:
        ValueError: a shape, dtype, device or element of cu_seqlens does not fit.
        NotImplementedError: another activation.

    Differentiable in x, weight, bias and initial_states, through both results, in both modes.
    """
    silu = is_silu(activation)
    if cu_seqlens is None:
        raise ValueError("Expected cu_seqlens, a 1D tensor of sequences + 1 elements, got None")
    try:
        packed = x.T[None] if x.dim() == 2 else x
        out, final_states = _forward(
            packed, weight, bias, None, cu_seqlens, initial_states, silu, return_final_states
        )
    except FAILURES as error:
        raise translated(
            error, x=x, weight=weight, bias=bias, cu_seqlens=cu_seqlens,
            initial_states=initial_states,
        ) from None  # fmt: skip
    if x.dim() == 2:
        out = out[0].T
    return (out, final_states) if return_final_states else out


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """One step of decoding: the convolution of the state followed by x; the state takes x in.

    Args:
        x: (batch, dim) or (batch, dim, seqlen).
        conv_state: (batch, dim, state_len), dtype of x, state_len >= width - 1, newest last, any
            strides, also a view of a larger cache: is updated in place, to the last state_len
            columns of itself followed by x.
        weight, bias, activation: as for :func:`causal_conv1d`.
        cache_seqlens: (batch,), int32 or int64: the state is a ring; x goes to positions
            cache_seqlens and on, modulo state_len, and its history lies before them.
            cache_seqlens itself is not advanced.
        conv_state_indices: (batch,), int32 or int64: row b uses
            ``conv_state[conv_state_indices[b]]``. A negative index means padding: out is 0 and no
            state is touched. No two rows may share one.

    Returns:
        out, of x's shape and dtype.

    Raises:
        ValueError: a shape, dtype, device or index does not fit; where gradients are enabled, a
            conv_state that is a leaf and requires one, or requires one as a ring or pool.
        NotImplementedError: another activation; a tensor with a forward-mode tangent.

    Differentiable in x, weight and bias. The stored history counts as a constant, unless conv_state
    requires a gradient: then the new state depends on x and the old one, as after ``copy_``.
    """
    silu = is_silu(activation)
    try:
        if _levels._current_level >= 0:
            _check.tangents(x=x, conv_state=conv_state, weight=weight, bias=bias)
        if _is_grad_enabled() and _needs_grad(x, conv_state, weight, bias):
            return _update_with_grad(
                x, conv_state, weight, bias, silu, cache_seqlens, conv_state_indices
            )
        if _is_compiling():
            return _graph.update_traced(
                x, conv_state, weight, bias, silu, cache_seqlens, conv_state_indices
            )
        if cache_seqlens is None and conv_state_indices is None:
            out = _ops.update_plain_fast(x, conv_state, weight, bias, silu)
        else:
            out = _ops.update_fast(
                x, conv_state, weight, bias, silu, cache_seqlens, conv_state_indices
            )
    except FAILURES as error:
        raise translated(
            error, x=x, conv_state=conv_state, weight=weight, bias=bias,
            cache_seqlens=cache_seqlens, conv_state_indices=conv_state_indices,
        ) from None  # fmt: skip
    try:
        _increment_version((conv_state,))  # a backward that saved the old state then says so
    except RuntimeError:
        if not conv_state.is_inference():  # which has no version
            raise
    return out


def _update_with_grad(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    cache_seqlens: Tensor | None,
    conv_state_indices: Tensor | None,
) -> Tensor:
    """The update moves the state; out comes from the forward, over the history as it was."""
    through_state = conv_state.requires_grad
    if through_state:
        _check.state_with_grad(conv_state, cache_seqlens, conv_state_indices)
    before = history(conv_state, weight.shape[-1], cache_seqlens, conv_state_indices)
    moved = conv_state.detach()
    with torch.no_grad():
        causal_conv1d_update(
            x.detach(), moved.clone() if through_state else moved, weight.detach(),
            None if bias is None else bias.detach(), "silu" if silu else None,
            cache_seqlens, conv_state_indices,
        )  # fmt: skip
    columns = x[..., None] if x.dim() == 2 else x
    seq_idx = None
    if (
        conv_state_indices is not None
    ):  # a row without a state has negative ids; on a GPU so has one
        # beyond the pool, which the CPU refuses
        live = (conv_state_indices >= 0) & (conv_state_indices < conv_state.shape[0])
        seq_idx = (live.int() - 1)[:, None].expand(-1, columns.shape[2])
    out, _ = _forward(columns, weight, bias, seq_idx, None, before, silu, False)
    if through_state:
        both = torch.cat([conv_state, columns], dim=2)
        conv_state.copy_(both.narrow(2, columns.shape[2], conv_state.shape[2]))
    return out[..., 0] if x.dim() == 2 else out


def causal_conv1d_varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    """The last inputs of every packed sequence, as states for :func:`causal_conv1d_update`.

    Args:
        x: (total, dim), float32, float16, bfloat16 or float64, any strides.
        cu_seqlens: (N + 1,), as for :func:`causal_conv1d_varlen_fn`; padding is in no state.
        state_len: columns of a state.

    Returns:
        states: (N, dim, state_len), newest last, 0 where a sequence is shorter.

    Raises:
        ValueError: a shape, dtype, device or element of cu_seqlens does not fit.
    """
    if torch.compiler.is_compiling():
        return _ops.varlen_states(x, cu_seqlens, state_len)
    try:
        return _ops.varlen_states(x, cu_seqlens, state_len)
    except FAILURES as error:
        raise translated(error, x=x, cu_seqlens=cu_seqlens) from None
