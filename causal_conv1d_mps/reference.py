"""The definitions in plain PyTorch: what the operations are tested against, and what their second
derivatives come from. All compute in the widest of the dtypes, float32 at the least, and round to
x's dtype at the end."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def is_silu(activation: str | None) -> bool:
    """Whether an ``activation`` is SiLU and not None; anything else is refused."""
    if activation not in (None, "silu", "swish"):
        raise NotImplementedError(f"activation must be None, silu, or swish, got {activation!r}")
    return activation is not None


def _wide(x: Tensor, weight: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)


def causal_conv1d_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
    seq_idx: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`causal_conv1d_mps.causal_conv1d_fn` as a sum of shifted products, differentiable.

    Shapes, dtypes and result as there; the order of the parameters is that of the
    ``causal-conv1d`` package's function of this name.
    """
    silu = is_silu(activation)
    if seq_idx is not None and return_final_states:
        raise AssertionError("seq_idx excludes return_final_states")
    (batch, dim, seqlen), width, dtype = x.shape, weight.shape[1], _wide(x, weight)
    if initial_states is None:
        initial_states = x.new_zeros(batch, dim, width - 1)
    columns = torch.cat([initial_states.to(x.dtype), x], dim=2)
    wide = columns.to(dtype)
    if seq_idx is not None and seqlen > 0:
        ids = torch.cat([seq_idx[:, :1].expand(-1, width - 1), seq_idx], dim=1)
    out = torch.zeros_like(x, dtype=dtype)
    for k in range(width):
        tap = wide[:, :, k : k + seqlen]
        if seq_idx is not None and seqlen > 0:
            tap = torch.where((ids[:, k : k + seqlen] == seq_idx)[:, None], tap, 0)
        out = out + weight[:, k, None].to(dtype) * tap
    if bias is not None:
        out = out + bias[:, None].to(dtype)
    if silu:
        out = F.silu(out)
    if seq_idx is not None:
        out = torch.where((seq_idx < 0)[:, None], 0, out)
    out = out.to(x.dtype)
    if not return_final_states:
        return out
    final_states = columns[:, :, seqlen:]
    if final_states_out is not None:
        final_states = final_states_out.copy_(final_states)
    return out, final_states


def causal_conv1d_varlen_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    cu_seqlens: Tensor,
    initial_states: Tensor | None = None,
    activation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Out and final states of packed sequences x (1, dim, total), by picking every tap by index."""
    total, width, dtype = x.shape[2], weight.shape[1], _wide(x, weight)
    begins, ends = cu_seqlens[:-1].long(), cu_seqlens[1:].long()
    if initial_states is None:
        initial_states = x.new_zeros(begins.shape[0], x.shape[1], width - 1)
    # One zero column keeps the indices valid where x or the states are empty.
    columns = torch.nn.functional.pad(x[0], (0, 1))
    states = torch.nn.functional.pad(initial_states.to(x.dtype), (0, 1)).movedim(1, 0)

    def column(n: Tensor, u: Tensor) -> Tensor:
        """Column u of sequence n, from its initial state if u < 0; (dim, *u.shape)."""
        inside = columns[:, (begins[n] + u).clamp(0, total)]
        before = states[:, n, (width - 1 + u).clamp(0, width - 1)]
        return torch.where(u >= 0, inside, before)

    times = torch.arange(total, device=x.device)
    n = torch.searchsorted(ends, times, right=True)
    out = x.new_zeros(x.shape[1], total, dtype=dtype)
    for k in range(width if begins.shape[0] else 0):
        tap = column(n, times - begins[n] - (width - 1) + k)
        out = out + weight[:, k, None].to(dtype) * tap.to(dtype)
    if bias is not None:
        out = out + bias[:, None].to(dtype)
    if activation is not None:
        out = F.silu(out)
    sequences = torch.arange(begins.shape[0], device=x.device)[:, None]
    last = (ends - begins)[:, None] - (width - 1) + torch.arange(width - 1, device=x.device)
    return out[None].to(x.dtype), column(sequences, last).movedim(0, 1)


def causal_conv1d_update_ref(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """:func:`causal_conv1d_mps.causal_conv1d_update`, row by row."""
    columns = x[..., None] if x.dim() == 2 else x
    (batch, _, seqlen), width, state_len = columns.shape, weight.shape[1], conv_state.shape[2]
    outs = []
    for b in range(batch):
        row = b if conv_state_indices is None else int(conv_state_indices[b])
        if row < 0:
            outs.append(torch.zeros_like(columns[b]))
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


def causal_conv1d_varlen_states_ref(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    """:func:`causal_conv1d_mps.causal_conv1d_varlen_states`, sequence by sequence."""
    states = x.new_zeros(len(cu_seqlens) - 1, x.shape[1], state_len)
    for state, begin, end in zip(states, cu_seqlens[:-1], cu_seqlens[1:], strict=True):
        last = x[max(int(begin), int(end) - state_len) : int(end)]
        state[:, state_len - len(last) :] = last.T
    return states
