"""The definitions in plain PyTorch, what the operations are tested against. All compute in the
widest of the dtypes, float32 at the least, and round to x's dtype at the end."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _check

Activation = Literal["silu", "swish"] | None


def is_silu(activation: Activation) -> bool:
    """Whether an ``activation`` is SiLU and not None; anything else is refused."""
    if activation not in (None, "silu", "swish"):
        raise NotImplementedError(f"activation must be None, silu, or swish, got {activation!r}")
    return activation is not None


def moved_activation(given: Any, activation: Activation) -> tuple[Any, Activation]:
    """An argument and ``activation``, where versions 1.0 and 1.1 of the ``causal-conv1d`` package
    had ``activation`` in that argument's place, and their clients give it by position."""
    if not isinstance(given, str):
        return given, activation
    if activation is not None:
        raise TypeError(f"activation is given twice: {given!r} by position, and {activation!r}")
    return None, given  # type: ignore[return-value]  # is_silu looks at it


def _silu(out: Tensor) -> Tensor:
    """SiLU, differentiable in every mode and without NaN at infinity, unlike PyTorch's."""
    most = torch.finfo(out.dtype).max
    finite = out.clamp(-most, most)
    return torch.where(out > most, out, finite * finite.sigmoid())


def _wide(x: Tensor, weight: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)


# fmt: off
@overload
def causal_conv1d_ref(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, initial_states: Tensor | None = None,
    return_final_states: Literal[False] = False, final_states_out: Tensor | None = None,
    activation: Activation = None, seq_idx: Tensor | None = None,
) -> Tensor: ...
@overload
def causal_conv1d_ref(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, initial_states: Tensor | None = None,
    *, return_final_states: Literal[True], final_states_out: Tensor | None = None,
    activation: Activation = None, seq_idx: Tensor | None = None,
) -> tuple[Tensor, Tensor]: ...
@overload
def causal_conv1d_ref(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, initial_states: Tensor | None = None,
    *, return_final_states: bool, final_states_out: Tensor | None = None,
    activation: Activation = None, seq_idx: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]: ...
@overload
def causal_conv1d_ref(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial_states: Tensor | None,
    return_final_states: bool, final_states_out: Tensor | None = None,
    activation: Activation = None, seq_idx: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]: ...
# fmt: on
def causal_conv1d_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: Activation = None,
    seq_idx: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`causal_conv1d_mps.causal_conv1d_fn` as a sum of shifted products, differentiable.

    Shapes, dtypes and result as there; the order of the parameters is that of the
    ``causal-conv1d`` package's function of this name.
    """
    initial_states, activation = moved_activation(initial_states, activation)
    seq_idx, activation = moved_activation(seq_idx, activation)
    silu = is_silu(activation)
    _check.tensors(
        x=x, weight=weight, bias=bias, initial_states=initial_states,
        final_states_out=final_states_out, seq_idx=seq_idx,
    )  # fmt: skip
    if seq_idx is not None and return_final_states:
        raise AssertionError("seq_idx excludes return_final_states")
    (batch, dim, seqlen), width, dtype = x.shape, weight.shape[1], _wide(x, weight)
    if initial_states is None:
        initial_states = x.new_zeros(batch, dim, width - 1)
    columns = torch.cat([initial_states.to(x.dtype), x], dim=2).to(dtype)
    ids = seq_idx
    if seq_idx is not None and seqlen > 0:
        ids = torch.cat([seq_idx[:, :1].expand(-1, width - 1), seq_idx], dim=1)
    out = torch.zeros_like(x, dtype=dtype)
    for k in range(width):
        tap = columns[:, :, k : k + seqlen]
        if ids is not None and seq_idx is not None and seqlen > 0:
            # Nothing of padding may reach a gradient, not even NaN times 0.
            counts = (ids[:, k : k + seqlen] == seq_idx) & (seq_idx >= 0)
            tap = torch.where(counts[:, None], tap, 0)
        out = out + weight[:, k, None].to(dtype) * tap
    if bias is not None:
        out = out + bias[:, None].to(dtype)
    if silu:
        out = _silu(out)
    if seq_idx is not None:
        out = torch.where((seq_idx < 0)[:, None], 0, out)
    out = out.to(x.dtype)
    if not return_final_states:
        return out
    final_states = columns[:, :, seqlen:].to(x.dtype)
    if final_states_out is not None:
        final_states = final_states_out.copy_(final_states)
    return out, final_states


def causal_conv1d_varlen_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    cu_seqlens: Tensor,
    initial_states: Tensor | None = None,
    activation: Activation = None,
) -> tuple[Tensor, Tensor]:
    """Out and final states of packed sequences x (1, dim, total), by picking every tap by index.

    The padding after the last sequence counts as one more, whose out is 0.
    """
    silu = is_silu(activation)
    total, width, dtype = x.shape[2], weight.shape[1], _wide(x, weight)
    begins, sequences = cu_seqlens.long(), cu_seqlens.shape[0] - 1
    if initial_states is None:
        initial_states = x.new_zeros(sequences, x.shape[1], width - 1)
    # One zero column keeps the indices valid where x or the states are empty.
    columns = F.pad(x[0].to(dtype), (0, 1))
    states = initial_states.to(x.dtype).to(dtype)
    states = F.pad(states, (0, 1, 0, 0, 0, 1)).movedim(1, 0)

    def column(n: Tensor, u: Tensor) -> Tensor:
        """Column u of sequence n, from its initial state if u < 0; (dim, *u.shape)."""
        inside = columns[:, (begins[n] + u).clamp(0, total)]
        before = states[:, n, (width - 1 + u).clamp(0, width - 1)]
        return torch.where(u >= 0, inside, before)

    times = torch.arange(total, device=x.device)
    n = torch.searchsorted(begins[1:], times, right=True)
    out = x.new_zeros(x.shape[1], total, dtype=dtype)
    for k in range(width):
        tap = column(n, times - begins[n] - (width - 1) + k)
        tap = torch.where(n < sequences, tap, 0)  # nothing of padding may reach a gradient
        out = out + weight[:, k, None].to(dtype) * tap
    if bias is not None:
        out = out + bias[:, None].to(dtype)
    if silu:
        out = _silu(out)
    out = torch.where(n < sequences, out, 0)
    last = begins.diff()[:, None] - (width - 1) + torch.arange(width - 1, device=x.device)
    rows = torch.arange(sequences, device=x.device)[:, None]
    return out[None].to(x.dtype), column(rows, last).movedim(0, 1).to(x.dtype)


def causal_conv1d_update_ref(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """:func:`causal_conv1d_mps.causal_conv1d_update`, row by row."""
    _check.tensors(
        x=x, conv_state=conv_state, weight=weight, bias=bias, cache_seqlens=cache_seqlens,
        conv_state_indices=conv_state_indices,
    )  # fmt: skip
    columns = x[..., None] if x.dim() == 2 else x
    (batch, _, seqlen), width, state_len = columns.shape, weight.shape[1], conv_state.shape[2]
    outs = []
    for b in range(batch):
        row = b if conv_state_indices is None else int(conv_state_indices[b])
        if row < 0:
            padding = torch.full((1, seqlen), -1, device=x.device)
            out = causal_conv1d_ref(columns[b, None], weight, bias, None, seq_idx=padding)
            outs.append(out[0])
            continue
        state = conv_state[row]
        position = state_len if cache_seqlens is None else int(cache_seqlens[b])
        history = [(position - (width - 1) + j) % state_len for j in range(width - 1)]
        before = state[:, history].clone()
        out = causal_conv1d_ref(columns[b, None], weight, bias, before[None], activation=activation)
        outs.append(out[0])
        with torch.no_grad():
            if cache_seqlens is None:
                state.copy_(torch.cat([state, columns[b]], dim=1)[:, seqlen:])
            else:
                for t in range(max(0, seqlen - state_len), seqlen):
                    state[:, (position + t) % state_len] = columns[b, :, t]
    out = torch.stack(outs) if outs else torch.empty_like(columns)
    return out[..., 0] if x.dim() == 2 else out


def has_slot(indices: Tensor, slots: int) -> Tensor:
    """Whether each row of the batch has a state in the pool, or is padding."""
    return (indices >= 0) & (indices < slots)


def written_slots(indices: Tensor, slots: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row of the batch: whether it has a state, the row whose new state it writes, and
    into which slot.

    A row of padding writes what the first row with a state does, or, if there is none, what its
    slot holds.
    """
    own = torch.arange(indices.shape[0], device=indices.device)
    live = has_slot(indices, slots)
    row = torch.where(live, own, live.int().argmax())
    return live, row, indices[row].clamp(0, slots - 1)


def history(
    conv_state: Tensor,
    width: int,
    cache_seqlens: Tensor | None,
    conv_state_indices: Tensor | None,
) -> Tensor | None:
    """The width - 1 columns that come before x in every row of an update, or None if the arguments
    are bad: the update itself says how."""
    indices = [i for i in (cache_seqlens, conv_state_indices) if i is not None]
    if conv_state.dim() != 3 or conv_state.shape[2] < width - 1:
        return None
    if any(i.dim() != 1 or i.is_floating_point() or i.shape != indices[0].shape for i in indices):
        return None
    pool, dim, state_len = conv_state.shape
    if pool == 0 and conv_state_indices is not None:  # padding only
        return conv_state.new_zeros(conv_state_indices.shape[0], dim, width - 1)
    columns = torch.arange(state_len - (width - 1), state_len, device=conv_state.device)
    if cache_seqlens is not None:
        columns = (cache_seqlens[:, None] + columns - state_len) % max(state_len, 1)
    rows = torch.arange(pool, device=conv_state.device)
    if conv_state_indices is not None:
        rows = conv_state_indices.clamp(0, pool - 1)
    if cache_seqlens is not None and cache_seqlens.shape != rows.shape:
        return None
    if cache_seqlens is None:
        return conv_state[:, :, state_len - (width - 1) :][rows]
    return conv_state[rows[:, None], :, columns].movedim(1, 2)


def causal_conv1d_varlen_states_ref(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    """:func:`causal_conv1d_mps.causal_conv1d_varlen_states`, sequence by sequence."""
    _check.tensors(x=x, cu_seqlens=cu_seqlens)
    states = x.new_zeros(len(cu_seqlens) - 1, x.shape[1], state_len)
    for n, (begin, end) in enumerate(pairwise(cu_seqlens.tolist())):
        last = x[max(begin, end - state_len) : end]
        states[n, :, state_len - len(last) :] = last.T
    return states
