"""What the operations return where there are only shapes: under ``torch.compile`` and its kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import (
    _check,
    _ops,  # noqa: F401  (the operations must be there)
)


def _channels_last(x: Tensor, batch: Any, length: Any) -> Tensor:
    return x.new_empty(batch, length, x.shape[1]).transpose(1, 2)


def _fake_plain(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    _check.forward(x, weight, bias)
    _check.has_kernels(x)
    return torch.empty_like(x)


def _fake_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    cu_seqlens: Tensor | None,
    initial_states: Tensor | None,
    silu: bool,
    return_final_states: bool,
) -> tuple[Tensor, Tensor]:
    _check.forward(x, weight, bias, seq_idx, cu_seqlens, initial_states)
    _check.has_kernels(x)
    if not return_final_states:
        return torch.empty_like(x), x.new_empty(0)
    batch = x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    length = weight.shape[1] - 1
    if x.stride(1) == 1:
        return torch.empty_like(x), _channels_last(x, batch, length)
    return torch.empty_like(x), x.new_empty(batch, x.shape[1], length)


def _fake_backward(
    dout: Tensor,
    dfinal_states: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    cu_seqlens: Tensor | None,
    initial_states: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check.backward(dout, dfinal_states, x, weight, bias, seq_idx, cu_seqlens, initial_states)
    _check.has_kernels(x)
    return (
        torch.empty_like(x),
        weight.new_empty(weight.shape),
        weight.new_empty(0) if bias is None else bias.new_empty(bias.shape),
        x.new_empty(0) if initial_states is None else torch.empty_like(initial_states),
    )


def _fake_backward_plain(
    dout: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_backward(dout, None, x, weight, bias, None, None, None, silu)[:3]


def _fake_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    _check.update(x, conv_state, weight, bias, cache_seqlens, conv_state_indices)
    _check.has_kernels(x)
    return torch.empty_like(x)


def _fake_update_functional(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    cache_seqlens: Tensor | None,
    conv_state_indices: Tensor | None,
    rows: Tensor | None,
    row_indices: Tensor | None,
) -> tuple[Tensor, Tensor]:
    out = _fake_update(x, conv_state, weight, bias, silu, cache_seqlens, conv_state_indices)
    return out, x.new_empty((conv_state if rows is None else rows).shape)


def _fake_varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    _check.varlen_states(x, cu_seqlens, state_len)
    _check.has_kernels(x)
    return x.new_empty(cu_seqlens.shape[0] - 1, state_len, x.shape[1]).transpose(1, 2)


FAKES: dict[str, Callable[..., Any]] = {
    "forward": _fake_forward,
    "forward_plain": _fake_plain,
    "backward": _fake_backward,
    "backward_plain": _fake_backward_plain,
    "update": _fake_update,
    "update_functional": _fake_update_functional,
    "update_plain": _fake_update,
    "varlen_states": _fake_varlen_states,
}
for _name, _fake in FAKES.items():
    torch.library.register_fake(f"causal_conv1d_mps::{_name}", _fake)
