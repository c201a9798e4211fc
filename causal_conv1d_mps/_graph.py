"""The decoding step in a graph, where the operation must not write into some views of a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._ops import operations, update, update_functional
from .reference import written_slots


def _may_be_mutated(state: Tensor) -> bool:
    """Whether Inductor hands an operation that writes into this tensor the right memory: it passes
    a view on as sizes, strides and an offset, and takes an offset that depends on symbols for 0."""
    # Here, as it takes long to import.
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return has_static_value(state.storage_offset())


def _update_traced(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    cache_seqlens: Tensor | None,
    conv_state_indices: Tensor | None,
) -> Tensor:
    """``update`` in a graph: where it must not write, the new state is copied into the old one."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    inputs = (x, conv_state, weight, bias, silu, cache_seqlens, conv_state_indices)
    if _may_be_mutated(conv_state):
        return update(*inputs)
    indices, slots = conv_state_indices, conv_state.shape[0]
    if (
        indices is None
        or indices.dim() != 1
        or indices.is_floating_point()
        or any(statically_known_true(n == 0) for n in (slots, indices.shape[0]))
    ):
        out, state = update_functional(*inputs, None, None)
        conv_state.copy_(state)
        return out
    # Only the slots in use are read and written.
    live, row, slot = written_slots(indices, slots)
    own = torch.arange(indices.shape[0], device=indices.device)
    out, state = update_functional(*inputs, conv_state[slot], torch.where(live, own, -1))
    conv_state[slot] = state[row]
    return out


def _of_negated(op: Any) -> Any:
    """op, which writes into its second argument, where some tensor has the negative bit: PyTorch's
    own way of resolving it takes a written argument for the result."""

    def resolved(*inputs: Any) -> Tensor:
        plain = [a.resolve_neg() if isinstance(a, Tensor) else a for a in inputs]
        out: Tensor = op(*plain)
        if inputs[1].is_neg():
            inputs[1].copy_(plain[1])
        return out

    return resolved


_fragment = torch.library.Library("causal_conv1d_mps", "FRAGMENT")
_fragment.define(
    "update_traced(Tensor x, Tensor(a!) conv_state, Tensor weight, Tensor? bias, bool silu,"
    " Tensor? cache_seqlens, Tensor? conv_state_indices) -> Tensor"
)
for _name in ("update", "update_plain"):
    _fragment.impl(_name, _of_negated(getattr(operations, _name).default), "Negative")
# Composite: it is taken apart where the graph is made functional, and Dynamo shows no offsets.
_fragment.impl("update_traced", _update_traced, "CompositeImplicitAutograd")
update_traced: Callable[..., Tensor] = operations.update_traced.default
