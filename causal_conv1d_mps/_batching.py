"""How ``vmap`` serves the operations: the mapped dimension becomes a part of one that they have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _ops
from ._fakes import FAKES

_Ways = list[tuple[dict[int, int], tuple[int, ...]]]


def _merged(tensor: Any, mapped: int | None, size: int, dim: int) -> Any:
    """An argument with its mapped dimension, or one that it is repeated along, merged into dim."""
    if not isinstance(tensor, Tensor):
        return tensor
    tensor = tensor.expand(size, *tensor.shape) if mapped is None else tensor.movedim(mapped, 0)
    return tensor.movedim(0, dim).flatten(dim, dim + 1)


def _batched(op: Any, fake: Any, ways: _Ways) -> Any:
    """A vmap rule for op. A way says into which dimension of which argument the mapped one merges,
    and in which dimension of each result it then is; the first way that has all mapped arguments
    serves. Else the calls are made one by one."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        mapped = {i for i, dim in enumerate(in_dims) if dim is not None}
        for merged, dims in ways:
            # Beside cu_seqlens x has a batch of 1.
            if size and mapped <= merged.keys() and (merged[0] or args[4] is None):
                results = op(
                    *(
                        _merged(a, in_dims[i], size, merged[i]) if i in merged else a
                        for i, a in enumerate(args)
                    )
                )
                if isinstance(results, Tensor):
                    return results.unflatten(dims[0], (size, -1)), dims[0]
                # What was not asked for is empty, and one for all.
                places = tuple(
                    None if r.shape == (0,) else d for r, d in zip(results, dims, strict=True)
                )
                return tuple(
                    r if d is None else r.unflatten(d, (size, -1))
                    for r, d in zip(results, places, strict=True)
                ), places
        front = [a.movedim(in_dims[i], 0) if i in mapped else a for i, a in enumerate(args)]
        calls = [
            op(*(a[n] if i in mapped else a for i, a in enumerate(front))) for n in range(size)
        ]
        if not calls:  # the shapes are those of a call's results all the same
            one = fake(
                *(a.new_empty(a.shape[1:]) if i in mapped else a for i, a in enumerate(front))
            )
            if isinstance(one, Tensor):
                return one.new_empty(0, *one.shape), 0
            return tuple(r.new_empty(0, *r.shape) for r in one), (0,) * len(one)
        if isinstance(calls[0], Tensor):
            return torch.stack(calls), 0
        return tuple(map(torch.stack, zip(*calls, strict=True))), (0,) * len(calls[0])

    return rule


_WAYS: dict[str, _Ways] = {
    # Into the batch, or into the channels, where each mapped call has its own dweight and dbias.
    "forward": [({0: 0, 3: 0, 5: 0}, (0, 0)), ({0: 1, 1: 0, 2: 0, 5: 1}, (1, 1))],
    "backward": [({0: 1, 1: 1, 2: 1, 3: 0, 4: 0, 7: 1}, (1, 0, 0, 1))],
    "varlen_states": [({0: 1}, (1,))],
}
for _name, _ways in _WAYS.items():
    _rule = _batched(getattr(_ops, _name), FAKES[_name], _ways)
    torch.library.register_vmap(f"causal_conv1d_mps::{_name}", _rule)
