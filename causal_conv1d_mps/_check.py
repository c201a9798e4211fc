"""The rules of src/check/check.c in its words, for where no C sees the arguments: plain PyTorch
(fallback.py), and tensors without data, whose shapes torch.compile knows before anything runs.

Sizes may be symbolic: a rule then is a guard or, where nothing is known yet, a check at run time.
Rules on values and memory are for tensors that have them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# Arguments that may not be None.
_REQUIRED = ("x", "weight", "conv_state", "conv_states", "cu_seqlens", "dout")


def not_a_tensor(**arguments: Any) -> TypeError | None:
    """The error for the first of the arguments that should be a tensor and is none."""
    for name, value in arguments.items():
        if isinstance(value, Tensor) or (value is None and name not in _REQUIRED):
            continue
        kind = type(value)
        came = kind.__qualname__
        if value is None:
            came = "None"
        elif kind.__module__ != "builtins":
            came = f"{kind.__module__}.{came}"
        return TypeError(f"{name}: expected a tensor, got {came}")
    return None


def tensors(**arguments: Any) -> None:
    """Raises what :func:`not_a_tensor` finds."""
    if (error := not_a_tensor(**arguments)) is not None:
        raise error


def _text(message: str, values: tuple[Any, ...]) -> str:
    """The message with its values, those of symbolic sizes as they are while it is traced."""

    def shown(value: Any) -> Any:
        try:
            return value if isinstance(value, (str, int)) else str(int(value))
        except RuntimeError:  # not known before run time
            return str(value)

    return message.format(*map(shown, values))


def _require(holds: Any, message: str, *values: Any) -> None:
    if isinstance(holds, torch.SymBool):
        torch._check_value(holds, lambda: _text(message, values))
    elif not holds:
        raise ValueError(_text(message, values))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _reach(t: Tensor) -> int:
    """Elements from the first to the last, in memory."""
    return 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))


def _memory(name: str, t: Tensor) -> None:
    if torch.compiler.is_compiling() or not all(
        isinstance(n, int) for n in (*t.shape, *t.stride())
    ):
        return
    _require(
        0 in t.shape or max(16 * math.prod(t.shape), _reach(t) * t.element_size()) < 2**63,
        "Expected sizes and strides of {} that fit 63 bits, got an overflow",
        name,
    )


def _floating(name: str, t: Tensor) -> None:
    _require(
        t.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64),
        "Expected {} of dtype float32, float16, bfloat16 or float64, got {}",
        name, _name(t.dtype),
    )  # fmt: skip
    _memory(name, t)


def _same_device(name: str, t: Tensor, x: Tensor) -> None:
    _require(
        t.device == x.device,
        "Expected {} on the device of x, {}, got one on {}",
        name, str(x.device), str(t.device),
    )  # fmt: skip


def has_kernels(x: Tensor) -> None:
    """x must be where the C library has kernels of its dtype; "meta" stands for any device."""
    _require(
        x.device.type in ("cpu", "mps", "cuda", "meta"),
        "Expected x on a CPU, Apple GPU (mps) or NVIDIA GPU (cuda), got one on {}",
        str(x.device),
    )
    _require(
        x.device.type in ("cpu", "meta") or x.dtype != torch.float64,
        "Expected x of dtype float32, float16 or bfloat16 on a GPU, got float64, which the CPU "
        "takes",
    )


def _shape(name: str, t: Tensor, size: Sequence[Any], what: str) -> None:
    _require(
        t.dim() == len(size),
        "Expected {}D tensor {} {}, got {}D, which does not match",
        len(size), name, what, t.dim(),
    )  # fmt: skip
    for i, (came, expected) in enumerate(zip(t.shape, size, strict=True)):
        _require(
            came == expected,
            "Size {} of {} in dimension {} does not match: expected {}, as {} has it",
            came, name, i, expected, what,
        )  # fmt: skip


def _inputs(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    tensors(x=x, weight=weight)
    _require(x.dim() == 3, "Expected 3D input tensor x (batch, dim, seqlen), got {}D", x.dim())
    _require(
        weight.dim() != 3 or weight.shape[1] != 1,
        "Expected 2D tensor weight (dim, width), got 3D ({}, 1, {}), as nn.Conv1d has it: "
        "weight.squeeze(1) is 2D",
        *weight.shape[::2],
    )  # fmt: skip
    _require(weight.dim() == 2, "Expected 2D tensor weight (dim, width), got {}D", weight.dim())
    _floating("x", x)
    _floating("weight", weight)
    _require(
        weight.shape[0] == x.shape[1],
        "weight (dim, width) with dim {} does not match x (batch, dim, seqlen) with dim {}",
        weight.shape[0], x.shape[1],
    )  # fmt: skip
    _require(
        weight.shape[1] >= 1,
        "Expected weight (dim, width) with width >= 1, got {}",
        weight.shape[1],
    )
    _same_device("weight", weight, x)
    if bias is None:
        return
    _require(bias.dim() == 1, "Expected 1D tensor bias (dim), got {}D", bias.dim())
    _floating("bias", bias)
    _require(
        bias.shape[0] == x.shape[1],
        "bias (dim) with dim {} does not match x (batch, dim, seqlen) with dim {}",
        bias.shape[0], x.shape[1],
    )  # fmt: skip
    _same_device("bias", bias, x)


def _beside(name: str, t: Tensor | None, size: Sequence[Any], what: str, x: Tensor) -> None:
    """An optional tensor of the given shape, on x's device and of its dtype."""
    if t is None:
        return
    _shape(name, t, size, what)
    _floating(name, t)
    _same_device(name, t, x)
    _require(
        t.dtype == x.dtype,
        "Expected {} of x's dtype, {}, got {}, which does not match",
        name, _name(x.dtype), _name(t.dtype),
    )  # fmt: skip


def _indices(name: str, t: Tensor | None, size: Sequence[Any], what: str, x: Tensor) -> None:
    """An optional tensor of indices."""
    if t is None:
        return
    _shape(name, t, size, what)
    _require(
        t.dtype in (torch.int32, torch.int64),
        "Expected {} of dtype int32 or int64, got {}",
        name, _name(t.dtype),
    )  # fmt: skip
    _memory(name, t)
    _same_device(name, t, x)


def _packed(x: Tensor, cu_seqlens: Tensor) -> None:
    _require(
        x.dim() == 3 and x.shape[0] == 1,
        "Expected x (1, dim, total) beside cu_seqlens, got {}D with batch {}",
        x.dim(), *x.shape[:1],
    )  # fmt: skip
    _require(
        cu_seqlens.dim() == 1 and cu_seqlens.shape[0] >= 1,
        "Expected 1D tensor cu_seqlens of sequences + 1 elements, got {}D with {}",
        cu_seqlens.dim(), *(cu_seqlens.shape[:1] or (0,)),
    )  # fmt: skip
    _floating("x", x)
    _indices("cu_seqlens", cu_seqlens, cu_seqlens.shape, "", x)


def _states(
    name: str, t: Tensor | None, x: Tensor, weight: Tensor, cu_seqlens: Tensor | None
) -> None:
    batch = x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    size = (batch, x.shape[1], weight.shape[1] - 1)
    _beside(name, t, size, "(batch, dim, width - 1)", x)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None,
) -> None:
    """The inputs of a forward."""
    _inputs(x, weight, bias)
    if seq_idx is not None and cu_seqlens is not None:
        raise AssertionError("Expected seq_idx or cu_seqlens, got both")
    if cu_seqlens is not None:
        _packed(x, cu_seqlens)
    _indices("seq_idx", seq_idx, (x.shape[0], x.shape[2]), "(batch, seqlen)", x)
    _states("initial_states", initial_states, x, weight, cu_seqlens)


def backward(
    dout: Tensor,
    dfinal_states: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None,
) -> None:
    """The inputs of a backward."""
    forward(x, weight, bias, seq_idx, cu_seqlens, initial_states)
    _beside("dout", dout, x.shape, "x (batch, dim, seqlen)", x)
    _states("dfinal_states", dfinal_states, x, weight, cu_seqlens)


def final_states(
    x: Tensor,
    weight: Tensor,
    seq_idx: Tensor | None,
    return_final_states: bool,
    final_states_out: Tensor | None,
) -> None:
    """Whether they can be had, and written where they are wanted."""
    if not return_final_states:
        return
    if seq_idx is not None:
        raise AssertionError(
            "seq_idx excludes return_final_states: causal_conv1d_varlen_fn returns them"
        )
    if final_states_out is None or not (x.dim() == weight.dim() + 1 == 3):
        return
    _states("final_states_out", final_states_out, x, weight, None)
    written("final_states_out", final_states_out)


def update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> None:
    """The inputs of an update."""
    x = x[..., None] if x.dim() == 2 else x
    _inputs(x, weight, bias)
    _indices("cache_seqlens", cache_seqlens, x.shape[:1], "(batch)", x)
    _indices("conv_state_indices", conv_state_indices, x.shape[:1], "(batch)", x)
    columns = conv_state.shape[2] if conv_state.dim() == 3 else 0
    _require(
        conv_state.dim() == 3 and columns >= weight.shape[1] - 1,
        "Expected conv_state (batch, dim, state_len) with state_len >= width - 1 = {}, got {}D "
        "with {}",
        weight.shape[1] - 1, conv_state.dim(), columns,
    )  # fmt: skip
    pool = x.shape[0] if conv_state_indices is None else conv_state.shape[0]
    size = (pool, x.shape[1], columns)
    _beside("conv_state", conv_state, size, "(batch, dim, state_len)", x)


def varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> None:
    """The inputs of the states of packed sequences."""
    _require(x.dim() == 2, "Expected 2D tensor x (total, dim), got {}D", x.dim())
    _require(state_len >= 0, "Expected state_len >= 0, got {}", state_len)
    _packed(x.T[None], cu_seqlens)
    sizes = (cu_seqlens.shape[0] - 1, x.shape[1], state_len)
    _require(
        not all(isinstance(n, int) for n in sizes)
        or 16 * math.prod(max(n, 1) for n in sizes) < 2**63,
        "Expected a state_len whose states fit 63 bits, got {}",
        state_len,
    )


def tangents(**tensors: Tensor | None) -> None:
    """None may be differentiated in forward mode."""
    for name, tensor in tensors.items():
        tangent = None
        with contextlib.suppress(RuntimeError):  # under vmap, which the update refuses itself
            if tensor is not None:
                tangent = forward_ad.unpack_dual(tensor, level=0).tangent
        if tangent is not None:
            raise NotImplementedError(
                f"Expected {name} without a tangent: causal_conv1d_update changes conv_state in "
                "place and has no forward mode; causal_conv1d_fn with initial_states has it"
            )


def state_with_grad(
    conv_state: Tensor, cache_seqlens: Tensor | None, conv_state_indices: Tensor | None
) -> None:
    """A state that requires a gradient moves by PyTorch's own operations, which autograd sees."""
    # The compiler knows no _base; copy_ refuses a view of a leaf as well.
    base = None if torch.compiler.is_compiling() else conv_state._base
    if (conv_state if base is None else base).is_leaf:
        raise ValueError(
            "Expected conv_state that can be changed in place, got a leaf that requires grad, or a "
            "view of one: use torch.no_grad() or conv_state.detach()"
        )
    if cache_seqlens is not None or conv_state_indices is not None:
        raise ValueError(
            "Expected conv_state without gradient beside cache_seqlens or conv_state_indices, "
            "got one that requires grad: use conv_state.detach()"
        )


def _values(indices: Tensor | None) -> list[int]:
    """The elements; none of them if they cannot be read, or not without waiting for a GPU."""
    if indices is None or torch.compiler.is_compiling() or indices.device.type != "cpu":
        return []
    try:
        return indices.tolist()
    except RuntimeError:  # mapped by vmap
        return []


def cuts(cu_seqlens: Tensor, total: int) -> None:
    """The values of cu_seqlens for an x of so many columns."""
    values = _values(cu_seqlens)
    for i, value in enumerate(values):
        _require(
            value >= values[i - 1] if i else value == 0,
            "Expected cu_seqlens that begin with 0 and never fall, got {} at {}",
            value, i,
        )  # fmt: skip
    _require(
        not values or values[-1] <= total,
        "The last element of cu_seqlens, {}, does not match the total of x, {}: it is larger",
        *values[-1:], total,
    )  # fmt: skip


def rows(conv_state_indices: Tensor | None, conv_state: Tensor) -> None:
    """The values of conv_state_indices."""
    seen: set[int] = set()
    for b, index in enumerate(_values(conv_state_indices)):
        _require(
            index < conv_state.shape[0],
            "Expected conv_state_indices below {}, the size of conv_state, got {} at {}",
            conv_state.shape[0], index, b,
        )  # fmt: skip
        _require(
            index < 0 or index not in seen or conv_state.numel() == 0,
            "Expected conv_state_indices without one state twice, got a second {} at {}",
            index, b,
        )  # fmt: skip
        seen.add(index)


def _bytes(t: Tensor) -> Tensor:
    """Where its elements lie in its storage, byte by byte."""
    places = torch.tensor(t.storage_offset(), device="cpu")
    for n, stride in zip(t.shape, t.stride(), strict=True):
        places = places[..., None] + stride * torch.arange(n, device="cpu")
    size = t.element_size()
    return (places[..., None] * size + torch.arange(size, device="cpu")).flatten()


def _steps_over_itself(t: Tensor) -> bool:
    """Whether each stride steps over all that the shorter ones reach: then no elements meet."""
    reach = 1
    for stride, n in sorted(zip(t.stride(), t.shape, strict=True)):
        if n > 1 and stride < reach:
            return False
        reach += (n - 1) * stride
    return True


def _span(t: Tensor) -> tuple[int, int]:
    """The first byte in its storage, and the one past the last."""
    begin = t.storage_offset() * t.element_size()
    return int(begin), int(begin + _reach(t) * t.element_size())


def _meet(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors share a byte."""
    try:
        same = a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    except NotImplementedError:  # those of the transforms of torch.func
        return False
    if not same or 0 in (*a.shape, *b.shape):
        return False
    (a_begin, a_end), (b_begin, b_end) = _span(a), _span(b)
    return a_begin < b_end and b_begin < a_end and bool(torch.isin(_bytes(a), _bytes(b)).any())


def written(name: str, t: Tensor, **others: Tensor | None) -> None:
    """t, which is written, must overlap neither itself nor another tensor."""
    if torch.compiler.is_compiling() or 0 in t.shape:
        return
    _require(
        _steps_over_itself(t) or _bytes(t).unique().numel() == t.numel() * t.element_size(),
        "Expected {} without elements that share memory, got such strides",
        name,
    )
    for other, tensor in others.items():
        _require(
            tensor is None or not _meet(t, tensor),
            "Expected {} in memory of its own, got an overlap with {}",
            name, other,
        )  # fmt: skip
