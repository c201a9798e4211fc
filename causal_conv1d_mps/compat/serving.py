"""Prefill and decoding for servers with continuous batching: requests of many lengths packed into
one tensor, their states in a pool of slots, speculation.

The arguments are those of vLLM's ``causal_conv1d_fn`` and ``causal_conv1d_update``, Triton and CPU,
of which SGLang's CPU operations take a part. A request's history is in the *first* columns of its
slot: there a longer slot has room for drafts, where :func:`causal_conv1d_mps.causal_conv1d_update`
has the newest column last. No gradients flow through these functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _check
from .._functions import causal_conv1d_fn, causal_conv1d_update, causal_conv1d_varlen_fn
from ..reference import Activation

__all__ = ["causal_conv1d_decode", "causal_conv1d_prefill"]


@torch.no_grad()
def causal_conv1d_prefill(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    conv_states: Tensor,
    query_start_loc: Tensor | None = None,
    cache_indices: Tensor | None = None,
    has_initial_state: Tensor | None = None,
    activation: Activation | bool = "silu",
    pad_slot_id: int = -1,
) -> Tensor:
    """The convolution of new or continued requests, and the states after them.

    Args:
        x: (dim, total), requests end to end; or (batch, dim, seqlen) without query_start_loc.
        weight, bias: (dim, width), (dim,), as for :func:`causal_conv1d_mps.causal_conv1d`.
        conv_states: (slots, dim, state_len >= width - 1), any strides: columns 0 to width - 2 hold
            the last inputs of a request, oldest first. Updated in place.
        query_start_loc: (batch + 1,), int32 or int64: request n is columns query_start_loc[n] to
            query_start_loc[n+1]. What follows the last is padding.
        cache_indices: (batch,), the slot of each request; None: slot n. No two may share one.
        has_initial_state: (batch,), bool: whether the slot's history counts, else 0 does.
        activation: None or False, "silu", "swish" or True.
        pad_slot_id: requests of this slot, and of any negative one, are padding: out is 0, no state
            is touched. So it is for a request of no columns.

    Returns:
        out, of x's shape and dtype.

    Raises:
        ValueError, IndexError: a shape, dtype, device or slot does not fit.
        NotImplementedError: another activation.
    """
    _check.tensors(
        x=x, weight=weight, bias=bias, conv_states=conv_states, query_start_loc=query_start_loc,
        cache_indices=cache_indices, has_initial_state=has_initial_state,
    )  # fmt: skip
    width = weight.shape[1]
    batch = x.shape[0] if query_start_loc is None else query_start_loc.shape[0] - 1
    slots, live = _slots(cache_indices, batch, pad_slot_id, conv_states)
    history = conv_states[slots, :, : width - 1].to(x.dtype)
    if has_initial_state is None:
        history.zero_()
    else:
        history[~has_initial_state.bool()] = 0
    out, final_states, live = _convolve(
        x, weight, bias, query_start_loc, history, live, _named(activation)
    )
    conv_states[slots[live], :, : width - 1] = final_states[live].to(conv_states.dtype)
    return out


@torch.no_grad()
def causal_conv1d_decode(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation | bool = None,
    conv_state_indices: Tensor | None = None,
    num_accepted_tokens: Tensor | None = None,
    query_start_loc: Tensor | None = None,
    max_query_len: int = -1,
    pad_slot_id: int = -1,
) -> Tensor:
    """One step of running requests, of one token or of several drafted ones.

    Args:
        x: (batch, dim) or (batch, dim, seqlen); (total, dim) with query_start_loc.
        conv_state: (slots, dim, state_len), as for :func:`causal_conv1d_prefill`.
        weight, bias, activation, query_start_loc, pad_slot_id: as there.
        conv_state_indices: (batch,), the slot of each request; None: slot n.
        num_accepted_tokens: (batch,), int, >= 1: how many tokens of the request's last step count.
            With it the history begins num_accepted_tokens - 1 columns into the slot, and the slot
            becomes that history without its oldest column, followed by all columns of x: the next
            step says how many of those counted. Needs state_len >= width - 2 + the columns of x.
            Without it all of x counts.
        max_query_len: not needed here.

    Returns:
        out, of x's shape and dtype.

    Raises:
        ValueError, IndexError: a shape, dtype, device or slot does not fit.
        NotImplementedError: another activation.
    """
    _check.tensors(
        x=x, conv_state=conv_state, weight=weight, bias=bias,
        conv_state_indices=conv_state_indices, num_accepted_tokens=num_accepted_tokens,
        query_start_loc=query_start_loc,
    )  # fmt: skip
    width = weight.shape[1]
    if num_accepted_tokens is not None and width < 2:
        raise ValueError("Expected weight (dim, width) with width >= 2 for drafts, got 1")
    if query_start_loc is not None and x.dim() != 2:
        raise ValueError(f"Expected 2D tensor x (total, dim) for query_start_loc, got {x.dim()}D")
    activation = _named(activation)
    batch = x.shape[0] if query_start_loc is None else query_start_loc.shape[0] - 1
    if query_start_loc is None and num_accepted_tokens is None:
        indices = conv_state_indices
        if indices is not None and pad_slot_id >= 0:
            indices = indices.masked_fill(indices == pad_slot_id, -1)
        elif indices is None:
            conv_state = conv_state[:batch]
        return causal_conv1d_update(
            x, conv_state[:, :, : width - 1], weight, bias, activation, conv_state_indices=indices
        )
    slots, live = _slots(conv_state_indices, batch, pad_slot_id, conv_state)
    columns = torch.arange(width - 1, device=x.device).expand(batch, -1)
    if num_accepted_tokens is not None:
        accepted = num_accepted_tokens.clamp(min=1)[:, None]
        columns = columns + (accepted - 1).masked_fill(~live[:, None], 0)
    history = conv_state[slots[:, None], :, columns].movedim(1, 2).to(x.dtype)
    if query_start_loc is not None:
        tokens = x.T
    else:  # request by request, so that one way of writing the state serves
        seqlen = 1 if x.dim() == 2 else x.shape[2]
        tokens = x.reshape(batch, x.shape[1], seqlen).transpose(1, 2).flatten(0, 1).T
        query_start_loc = seqlen * torch.arange(batch + 1, device=x.device)
    request, position = _positions(query_start_loc)
    needed = width - 1 + int(position.max()) if position.shape[0] else 0
    if num_accepted_tokens is not None and needed > conv_state.shape[2]:
        raise ValueError(
            f"Expected conv_state of at least {needed} columns for drafts, "
            f"got {conv_state.shape[2]}"
        )
    out, final_states, live = _convolve(
        tokens, weight, bias, query_start_loc, history, live, activation
    )
    if num_accepted_tokens is None:
        conv_state[slots[live], :, : width - 1] = final_states[live].to(conv_state.dtype)
    else:
        conv_state[slots[live], :, : width - 2] = history[live, :, 1:].to(conv_state.dtype)
        kept = live[request]
        columns = position[kept] + width - 2
        drafts = tokens.T[: request.shape[0]][kept].to(conv_state.dtype)
        conv_state[slots[request[kept]], :, columns] = drafts
    if x.dim() == 3:
        rows: Tensor = out.T.unflatten(0, (batch, x.shape[2]))
        return rows.transpose(1, 2)
    return out.T


def _named(activation: Activation | bool) -> Activation:
    if isinstance(activation, bool):
        return "silu" if activation else None
    return activation


def _slots(
    indices: Tensor | None, batch: int, pad_slot_id: int, conv_states: Tensor
) -> tuple[Tensor, Tensor]:
    """The slot of each request, and which are no padding; the slot of padding is 0."""
    if indices is None:
        indices = torch.arange(batch, device=conv_states.device)
    live = (indices != pad_slot_id) & (indices >= 0)
    return indices.masked_fill(~live, 0).long(), live


def _positions(query_start_loc: Tensor) -> tuple[Tensor, Tensor]:
    """For every packed column its request, and its position in it."""
    lengths = query_start_loc.diff()
    request = torch.repeat_interleave(lengths)
    return request, torch.arange(request.shape[0], device=request.device) - query_start_loc[request]


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    query_start_loc: Tensor | None,
    history: Tensor,
    live: Tensor,
    activation: Activation,
) -> tuple[Tensor, Tensor, Tensor]:
    """out with 0 where there is padding, final states, and the requests whose state changes."""
    if query_start_loc is None:
        out, final_states = causal_conv1d_fn(
            x, weight, bias, None, history, True, activation=activation
        )
        out[~live] = 0
        return out, final_states, live & (x.shape[2] > 0)
    request, _ = _positions(query_start_loc)
    packed = x[None, :, : request.shape[0]]
    result, final_states = causal_conv1d_varlen_fn(
        packed, weight, bias, query_start_loc, history, True, activation
    )
    if request.shape[0] == x.shape[1]:
        out = result[0]
    else:
        out = torch.zeros_like(x)
        out[:, : request.shape[0]] = result[0]
    if not bool(live.all()):
        out[:, : request.shape[0]].masked_fill_(~live[request], 0)
    return out, final_states, live & (query_start_loc.diff() > 0)
