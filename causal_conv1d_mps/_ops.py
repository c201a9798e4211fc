"""The operations of src/torch/ops.c, made known to PyTorch: fake kernels, gradients, batching.

The gradients stand here once, for the operation under ``torch.compile`` (register_autograd) and
for the two autograd functions that eager mode and ``torch.func`` need.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _library  # noqa: F401  (registers the operations)
from .reference import causal_conv1d_ref, causal_conv1d_varlen_ref

_ops = torch.ops.causal_conv1d_mps
forward = _ops.forward.default
backward = _ops.backward.default
update = _ops.update.default
varlen_states = _ops.varlen_states.default
forward_no_grad = _ops.forward_no_grad.default
backward_no_grad = _ops.backward_no_grad.default
# The overloads' own callables: one Python frame less.
forward_plain_fast = _ops.forward_plain.default._op
backward_plain_fast = _ops.backward_plain.default._op
update_fast = _ops.update.default._op
update_plain_fast = _ops.update_plain.default._op


def _check_devices(x: Tensor, **others: Tensor | None) -> None:
    """Mixed devices reach the fake kernels when one of them is "meta"."""
    for name, tensor in others.items():
        if tensor is not None and tensor.device != x.device:
            raise ValueError(
                f"Expected {name} on the device of x, {x.device}, got one on {tensor.device}"
            )


def _channels_last(x: Tensor, batch: Any, length: Any) -> Tensor:
    return x.new_empty(batch, length, x.shape[1]).transpose(1, 2)


def _fake_plain(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    _check_devices(x, weight=weight, bias=bias)
    return torch.empty_like(x)


def _fake_forward(
    x, weight, bias, seq_idx, cu_seqlens, initial_states, silu, return_final_states
) -> tuple[Tensor, Tensor]:
    _check_devices(
        x,
        weight=weight,
        bias=bias,
        seq_idx=seq_idx,
        cu_seqlens=cu_seqlens,
        initial_states=initial_states,
    )
    if not return_final_states:
        return torch.empty_like(x), x.new_empty(0)
    batch = x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    length = weight.shape[1] - 1
    if x.stride(1) == 1:
        return torch.empty_like(x), _channels_last(x, batch, length)
    return torch.empty_like(x), x.new_empty(batch, x.shape[1], length)


def _fake_backward(
    dout, dfinal_states, x, weight, bias, seq_idx, cu_seqlens, initial_states, silu
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(x),
        weight.new_empty(weight.shape),
        weight.new_empty(0) if bias is None else bias.new_empty(bias.shape),
        x.new_empty(0) if initial_states is None else torch.empty_like(initial_states),
    )


def _fake_backward_plain(dout, x, weight, bias, silu) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_backward(dout, None, x, weight, bias, None, None, None, silu)[:3]


def _fake_update(
    x, conv_state, weight, bias, silu, cache_seqlens=None, conv_state_indices=None
) -> Tensor:
    _check_devices(
        x,
        conv_state=conv_state,
        weight=weight,
        bias=bias,
        cache_seqlens=cache_seqlens,
        conv_state_indices=conv_state_indices,
    )
    return torch.empty_like(x)


def _fake_varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    return x.new_empty(cu_seqlens.shape[0] - 1, state_len, x.shape[1]).transpose(1, 2)


def _save(ctx: Any, inputs: tuple, output: Any) -> None:
    *tensors, ctx.silu, ctx.return_final_states = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _call_backward(*inputs: Any) -> tuple[Tensor, ...]:
    """The operation ``backward`` by the way that suits the moment."""
    if torch._C._are_functorch_transforms_active():
        return TransformedBackward.apply(*inputs)
    return (backward if torch.is_grad_enabled() else backward_no_grad)(*inputs)


def _gradients(ctx: Any, dout: Tensor | None, dfinal: Tensor | None) -> tuple:
    """Of x, weight, bias, seq_idx, cu_seqlens, initial_states, silu, return_final_states."""
    saved = ctx.saved_tensors  # once: under checkpointing a second look is an error
    x, _, bias, *_, initial_states = saved
    if dout is None:
        dout = torch.zeros_like(x)
    if not ctx.return_final_states:
        dfinal = None
    dx, dweight, dbias, dinitial = _call_backward(dout, dfinal, *saved, ctx.silu)
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


def _save_backward(ctx: Any, inputs: tuple, output: Any) -> None:
    *tensors, ctx.silu = inputs
    ctx.save_for_backward(*tensors)


def _second_gradients(ctx: Any, *grads: Tensor) -> tuple:
    """The gradient of the backward operation, by differentiating the reference twice."""
    names = ("dout", "dfinal", "x", "weight", "bias", "seq_idx", "cu_seqlens", "initial_states")
    saved = dict(zip(names, ctx.saved_tensors, strict=True))
    seq_idx, cu_seqlens = saved["seq_idx"], saved["cu_seqlens"]
    activation = "silu" if ctx.silu else None
    variables = [n for n in ("x", "weight", "bias", "initial_states") if saved[n] is not None]
    results = [n for n in ("dout", "dfinal") if saved[n] is not None]

    def reference(*values: Tensor) -> tuple[Tensor, ...]:
        t = dict.fromkeys(names) | dict(zip(variables, values, strict=True))
        arguments = (t["x"], t["weight"], t["bias"])
        if cu_seqlens is not None:
            both = causal_conv1d_varlen_ref(*arguments, cu_seqlens, t["initial_states"], activation)
        else:
            final = seq_idx is None
            both = causal_conv1d_ref(
                *arguments, t["initial_states"], final, activation=activation, seq_idx=seq_idx
            )
            both = both if final else (both,)
        return tuple(both[: len(results)])

    def first_gradients(*values: Tensor) -> tuple[Tensor, ...]:
        _, pull = torch.func.vjp(reference, *values[: len(variables)])
        return pull(tuple(values[len(variables) :]))

    inputs = [saved[n] for n in (*variables, *results)]
    _, pull = torch.func.vjp(first_gradients, *inputs)
    of_variables = dict(zip(("x", "weight", "bias", "initial_states"), grads, strict=True))
    second = pull(tuple(of_variables[n] for n in variables))
    found = dict(zip((*variables, *results), second, strict=True))
    return (*(found.get(n) for n in names), None)


def _in_front(tensor: Any, dim: int | None, size: int) -> Any:
    """An argument with its vmapped dimension first, or repeated along a new one."""
    if not isinstance(tensor, Tensor):
        return tensor
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _batched(op: Any, per_batch: set[int]) -> Any:
    """A vmap rule for op: arguments of positions per_batch have a batch dimension first, with which
    the mapped one is merged if nothing else is mapped; otherwise the calls are made one by one."""

    def rule(info: Any, in_dims: tuple, *args: Any) -> tuple:
        size = info.batch_size
        # Beside cu_seqlens x has a batch of 1.
        mergeable = per_batch and args[4] is None
        if mergeable and all(dim is None or i in per_batch for i, dim in enumerate(in_dims)):
            merged = [
                _in_front(a, d, size).flatten(0, 1) if i in per_batch and a is not None else a
                for i, (a, d) in enumerate(zip(args, in_dims, strict=True))
            ]
            results = op(*merged)
            if isinstance(results, Tensor):
                return results.unflatten(0, (size, -1)), 0
            return tuple(
                r.unflatten(0, (size, r.shape[0] // size)) if r.dim() == 3
                else r.expand(size, *r.shape)
                for r in results
            ), (0,) * len(results)  # fmt: skip
        moved = [
            a if d is None or not isinstance(a, Tensor) else a.movedim(d, 0)
            for a, d in zip(args, in_dims, strict=True)
        ]
        calls = [
            op(*(a if d is None else a[i] for a, d in zip(moved, in_dims, strict=True)))
            for i in range(size)
        ]
        if isinstance(calls[0], Tensor):
            return torch.stack(calls), 0
        return tuple(map(torch.stack, zip(*calls, strict=True))), (0,) * len(calls[0])

    return rule


def _one_by_one(op: Any) -> Any:
    return _batched(op, set())


_FAKES = {
    "forward": _fake_forward,
    "forward_no_grad": _fake_forward,
    "forward_plain": _fake_plain,
    "backward": _fake_backward,
    "backward_no_grad": _fake_backward,
    "backward_plain": _fake_backward_plain,
    "update": _fake_update,
    "update_plain": _fake_update,
    "varlen_states": _fake_varlen_states,
}
for _name, _fake in _FAKES.items():
    torch.library.register_fake(f"causal_conv1d_mps::{_name}", _fake)
torch.library.register_autograd("causal_conv1d_mps::forward", _gradients, setup_context=_save)
torch.library.register_autograd(
    "causal_conv1d_mps::backward", _second_gradients, setup_context=_save_backward
)
torch.library.register_vmap(
    "causal_conv1d_mps::forward_no_grad", _batched(forward_no_grad, {0, 3, 5})
)
# dweight and dbias are sums over the batch: each mapped call has its own.
torch.library.register_vmap("causal_conv1d_mps::backward_no_grad", _one_by_one(backward_no_grad))
torch.library.register_vmap("causal_conv1d_mps::varlen_states", _one_by_one(varlen_states))


class Eager(torch.autograd.Function):
    """``forward`` with its gradient, for eager mode."""

    # Saving in forward, not in setup_context, spares every call 40 us of inspect.signature.
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Inputs and results of the operation ``forward``."""
        _save(ctx, inputs, None)
        return forward_no_grad(*inputs)

    backward = staticmethod(_gradients)  # type: ignore[assignment]


class Plain(torch.autograd.Function):
    """``forward_plain`` with its gradient, for eager mode."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool
    ) -> Tensor:
        """Inputs and result of the operation ``forward_plain``."""
        ctx.save_for_backward(x, weight, bias)
        ctx.silu = silu
        return forward_plain_fast(x, weight, bias, silu)

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple:  # type: ignore[override]
        """Of x, weight, bias, silu."""
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            dx, dweight, dbias, _ = _call_backward(
                dout, None, x, weight, bias, None, None, None, ctx.silu
            )
        else:
            dx, dweight, dbias = backward_plain_fast(dout, x, weight, bias, ctx.silu)
        return dx, dweight, None if bias is None else dbias, None


# Function.apply does no more outside of torch.func's transforms, in half the time.
apply_plain = super(torch.autograd.Function, Plain).apply


class Transformed(torch.autograd.Function):
    """``forward`` with its gradient, for the transforms of ``torch.func``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Inputs and results of the operation ``forward``."""
        return forward_no_grad(*inputs)

    setup_context = staticmethod(_save)  # type: ignore[assignment]
    backward = staticmethod(_gradients)  # type: ignore[assignment]


class TransformedBackward(torch.autograd.Function):
    """``backward`` with its gradient, for the transforms of ``torch.func``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Inputs and results of the operation ``backward``."""
        return backward_no_grad(*inputs)

    setup_context = staticmethod(_save_backward)  # type: ignore[assignment]
    backward = staticmethod(_second_gradients)  # type: ignore[assignment]
