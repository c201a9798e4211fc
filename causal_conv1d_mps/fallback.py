"""The functions of functional.py in plain PyTorch, for where the C library cannot be loaded.

Same names, parameters, errors and results on every device that PyTorch has, slower, and rounded to
other bits.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _check
from .reference import (
    Activation,
    causal_conv1d_ref,
    causal_conv1d_varlen_ref,
    causal_conv1d_varlen_states_ref,
    has_slot,
    history,
    is_silu,
    moved_activation,
    written_slots,
)

try:
    __version__ = version("causal-conv1d-mps")
except PackageNotFoundError:  # copied, not installed
    __version__ = "unknown"


def translated(error: Exception, **_: object) -> Exception:
    """Plain PyTorch's errors stay what they are."""
    return error


def _laid_out(out: Tensor, x: Tensor) -> Tensor:
    """out with the strides of ``torch.empty_like(x)``, where tracing does not choose them."""
    like = torch.empty_like(x)
    if torch.compiler.is_compiling() or out.stride() == like.stride():
        return out
    try:
        return like.copy_(out)
    except RuntimeError:  # by vmap over the parameters alone
        return out


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = None
) -> Tensor:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d`."""
    is_silu(activation)
    _check.tensors(x=x, weight=weight, bias=bias)
    _check.forward(x, weight, bias)
    out = causal_conv1d_ref(x, weight, bias, activation=activation)
    return _laid_out(out, x)


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
    """See :func:`causal_conv1d_mps.functional.causal_conv1d_fn`."""
    seq_idx, activation = moved_activation(seq_idx, activation)
    initial_states, activation = moved_activation(initial_states, activation)
    is_silu(activation)
    _check.tensors(
        x=x, weight=weight, bias=bias, seq_idx=seq_idx, initial_states=initial_states,
        final_states_out=final_states_out,
    )  # fmt: skip
    _check.final_states(x, weight, seq_idx, return_final_states, final_states_out)
    _check.forward(x, weight, bias, seq_idx, None, initial_states)
    result = causal_conv1d_ref(
        x, weight, bias, initial_states, return_final_states, final_states_out, activation, seq_idx
    )
    if return_final_states:
        return _laid_out(result[0], x), result[1]
    return _laid_out(result, x)  # type: ignore[arg-type]


@torch.no_grad()
def causal_conv1d_fwd(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, silu_activation: bool = False
) -> Tensor:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d_fwd`."""
    _check.tensors(x=x, weight=weight, bias=bias)
    bias = None if bias is None else bias.to(x.dtype)
    return causal_conv1d(x, weight.to(x.dtype), bias, "silu" if silu_activation else None)


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d_update`."""
    is_silu(activation)
    inputs = {
        "x": x, "weight": weight, "bias": bias, "cache_seqlens": cache_seqlens,
        "conv_state_indices": conv_state_indices,
    }  # fmt: skip
    _check.tensors(conv_state=conv_state, **inputs)
    if getattr(forward_ad, "_current_level", 0) >= 0:
        _check.tangents(x=x, conv_state=conv_state, weight=weight, bias=bias)
    _check.update(x, conv_state, weight, bias, cache_seqlens, conv_state_indices)
    _check.rows(conv_state_indices, conv_state)
    _check.written("conv_state", conv_state, **inputs)
    if torch.is_grad_enabled() and conv_state.requires_grad:
        _check.state_with_grad(conv_state, cache_seqlens, conv_state_indices)
    columns = x[..., None] if x.dim() == 2 else x
    before = history(conv_state, weight.shape[1], cache_seqlens, conv_state_indices)
    seq_idx = None
    if conv_state_indices is not None:  # a row without a state has negative ids
        live = has_slot(conv_state_indices, conv_state.shape[0])
        seq_idx = (live.int() - 1)[:, None].expand(-1, columns.shape[2])
    through_state = torch.is_grad_enabled() and conv_state.requires_grad
    if before is not None and not through_state:
        before = before.detach().clone()  # the state moves on
    out = causal_conv1d_ref(columns, weight, bias, before, activation=activation, seq_idx=seq_idx)
    with torch.set_grad_enabled(through_state):
        _move(conv_state, columns, cache_seqlens, conv_state_indices)
    return out[..., 0] if x.dim() == 2 else out


def _move(
    conv_state: Tensor,
    columns: Tensor,
    cache_seqlens: Tensor | None,
    conv_state_indices: Tensor | None,
) -> None:
    """Takes the columns into the states of their rows."""
    state_len, seqlen = conv_state.shape[2], columns.shape[2]
    if cache_seqlens is None and conv_state_indices is None:
        conv_state.copy_(torch.cat([conv_state, columns], dim=2)[:, :, seqlen:])
        return
    row = torch.arange(columns.shape[0], device=columns.device)
    slot, live = row, torch.ones_like(row, dtype=torch.bool)
    if row.numel() == 0 or conv_state.shape[0] == 0:
        return
    if conv_state_indices is not None:
        live, row, slot = written_slots(conv_state_indices, conv_state.shape[0])
    before, columns = conv_state[slot], columns[row]
    if cache_seqlens is None:
        after = torch.cat([before, columns], dim=2)[:, :, seqlen:]
    else:
        kept = torch.arange(max(0, seqlen - state_len), seqlen, device=columns.device)
        places = (cache_seqlens[row, None] + kept).remainder(max(state_len, 1)).long()
        after = before.scatter(
            2, places[:, None].expand(-1, before.shape[1], -1), columns[:, :, kept]
        )
    conv_state[slot] = torch.where(live[row, None, None], after, before)


def causal_conv1d_varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d_varlen_states`."""
    _check.tensors(x=x, cu_seqlens=cu_seqlens)
    _check.varlen_states(x, cu_seqlens, state_len)
    _check.cuts(cu_seqlens, x.shape[0])
    return causal_conv1d_varlen_states_ref(x, cu_seqlens, state_len)


def causal_conv1d_varlen_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    activation: Activation = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """See :func:`causal_conv1d_mps.functional.causal_conv1d_varlen_fn`."""
    is_silu(activation)
    if cu_seqlens is None:
        raise ValueError("Expected cu_seqlens, a 1D tensor of sequences + 1 elements, got None")
    _check.tensors(
        x=x, weight=weight, bias=bias, cu_seqlens=cu_seqlens, initial_states=initial_states
    )
    packed = x.T[None] if x.dim() == 2 else x
    _check.forward(packed, weight, bias, None, cu_seqlens, initial_states)
    _check.cuts(cu_seqlens, packed.shape[2])
    out, final_states = causal_conv1d_varlen_ref(
        packed, weight, bias, cu_seqlens, initial_states, activation
    )
    out = _laid_out(out, packed)
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


def backward(
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
    _check.backward(dout, dfinal_states, x, weight, bias, seq_idx, None, initial_states)
    inputs = (x, weight, bias, initial_states)
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    bias, initial_states = (
        t if t is None else t.detach().requires_grad_() for t in (bias, initial_states)
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
