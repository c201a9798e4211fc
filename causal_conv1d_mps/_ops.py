"""The operations of src/torch/ops.c, made known to PyTorch: fake kernels, derivatives, batching.

The formulas stand here once, for eager mode, ``torch.compile``, ``torch.func`` and forward mode.
"""

from __future__ import annotations

import contextlib
import operator
import types
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import (
    _check,
    _library,  # noqa: F401  (registers the operations)
)
from .reference import written_slots

missing: list[str] = []  # private names that this PyTorch lacks


def _private(path: str, otherwise: Any) -> Any:
    """A name of PyTorch that may move from one version to the next."""
    try:
        return operator.attrgetter(path)(torch)
    except AttributeError:
        missing.append(f"torch.{path}")
        return otherwise


# The public name looks its argument over first, for 0.3 us.
increment_version = _private("_C._increment_version", torch.autograd.graph.increment_version)
# Without one of these, all calls go the way of transforms.
transforms_active = _private("_C._are_functorch_transforms_active", lambda: True)
if _private("autograd.forward_ad._current_level", None) is None:
    levels: Any = types.SimpleNamespace(_current_level=0)
else:
    levels = forward_ad
_assumed = len(missing)
below_autograd = _private("_C._AutoDispatchBelowAutograd", contextlib.nullcontext)
_after_autograd = _private("_C._after_autograd_keyset", None)
_Function = _private("autograd.function._SingleLevelFunction", torch.autograd.Function)
_single_level_allowed = _private("_C._functorch.get_single_level_autograd_function_allowed", None)
_allow_single_level = _private("_C._functorch.set_single_level_autograd_function_allowed", None)
_is_forward_mode_enabled = _private("_C._is_fwd_grad_enabled", None)
_set_forward_mode = _private("_C._set_fwd_grad_enabled", None)
# Without one of these, ``transforms`` are left to plain PyTorch.
has_transforms = len(missing) == _assumed

_ops = torch.ops.causal_conv1d_mps
forward = _ops.forward.default
backward = _ops.backward.default
update = _ops.update.default
update_functional = _ops.update_functional.default
varlen_states = _ops.varlen_states.default
# The overloads' own callables: one Python frame less.
forward_plain_fast = _ops.forward_plain.default._op
backward_plain_fast = _ops.backward_plain.default._op
update_fast = _ops.update.default._op
update_plain_fast = _ops.update_plain.default._op


def _channels_last(x: Tensor, batch: Any, length: Any) -> Tensor:
    return x.new_empty(batch, length, x.shape[1]).transpose(1, 2)


def _fake_plain(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    _check.forward(x, weight, bias)
    _check.has_kernels(x)
    return torch.empty_like(x)


def _fake_forward(
    x, weight, bias, seq_idx, cu_seqlens, initial_states, silu, return_final_states
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
    dout, dfinal_states, x, weight, bias, seq_idx, cu_seqlens, initial_states, silu
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check.backward(dout, dfinal_states, x, weight, bias, seq_idx, cu_seqlens, initial_states)
    _check.has_kernels(x)
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
    _check.update(x, conv_state, weight, bias, cache_seqlens, conv_state_indices)
    _check.has_kernels(x)
    return torch.empty_like(x)


def _fake_update_functional(
    x, conv_state, weight, bias, silu, cache_seqlens, conv_state_indices, rows, row_indices
) -> tuple[Tensor, Tensor]:
    out = _fake_update(x, conv_state, weight, bias, silu, cache_seqlens, conv_state_indices)
    return out, x.new_empty((conv_state if rows is None else rows).shape)


def _fake_varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    _check.varlen_states(x, cu_seqlens, state_len)
    _check.has_kernels(x)
    return x.new_empty(cu_seqlens.shape[0] - 1, state_len, x.shape[1]).transpose(1, 2)


def _wide(like: Tensor, *tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors in the dtype that sums accumulate in, so that results round once."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return [None if t is None else t.to(dtype) for t in tensors]


def _rounded(result: Tensor | None, like: Tensor | None) -> Tensor | None:
    return None if result is None or like is None else result.to(like.dtype)


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _or_zeros(tensor: Tensor | None, like: Tensor | None) -> Tensor | None:
    return torch.zeros_like(like) if tensor is None and like is not None else tensor


def _silu_derivatives(sums: Tensor) -> tuple[Tensor, Tensor]:
    """The first and second derivative of SiLU, 0 or 1 at infinity."""
    v = sums.clamp(-1000, 1000)
    s = torch.sigmoid(v)
    return s * (1 + v * (1 - s)), s * (1 - s) * (2 + v * (1 - 2 * s))


def _sums_along(
    x, weight, seq_idx, cu_seqlens, initial_states, directions: tuple, final_states: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The derivative of the sums under SiLU, and of the final states, along directions of x,
    weight, bias and initial_states (None: 0)."""
    of_x, of_weight, of_bias, of_initial = directions
    sums = final = None
    if final_states or not (of_x is None and of_bias is None and of_initial is None):
        of_x = _or_zeros(of_x, x)
        sums, final = forward(
            of_x, weight, of_bias, seq_idx, cu_seqlens, of_initial, False, final_states
        )
    if of_weight is not None:
        taps = forward(x, of_weight, None, seq_idx, cu_seqlens, initial_states, False, False)[0]
        sums = _plus(sums, taps)
    return sums, final if final_states else None


def _tangents(inputs: tuple, directions: tuple) -> tuple[Tensor | None, Tensor | None]:
    """Of the results of ``forward``."""
    *tensors, silu, final_states = inputs
    x, weight, bias, seq_idx, cu_seqlens, initial_states = tensors
    dtype = x.dtype
    directions = tuple(_wide(x, *directions))
    x, weight, bias, initial_states = _wide(x, x, weight, bias, initial_states)
    sequences = (seq_idx, cu_seqlens, initial_states)
    out, final = _sums_along(x, weight, *sequences, directions, final_states)
    if silu and out is not None:
        sums = forward(x, weight, bias, *sequences, False, False)[0]
        out = out * _silu_derivatives(sums)[0]
    return tuple(None if t is None else t.to(dtype) for t in (out, final))


def _backward(dout: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    """The operation ``backward`` by the way that suits the moment."""
    if not torch.is_grad_enabled() and is_eager(dout):
        with below_autograd():
            return backward(dout, *inputs)
    if not has_transforms and is_transformed():
        raise NotImplementedError(f"Expected {', '.join(missing)}, which this PyTorch lacks")
    return backward(dout, *inputs)


def _gradients(
    inputs: tuple, dout: Tensor | None, dfinal: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Of x, weight, bias, seq_idx, cu_seqlens, initial_states, silu, return_final_states."""
    *tensors, silu, final_states = inputs
    x, _, bias, *_, initial_states = tensors
    dout = _or_zeros(dout, x)
    dfinal = dfinal if final_states else None
    dx, dweight, dbias, dinitial = _backward(dout, dfinal, *tensors, silu)
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


def _second_derivatives(
    inputs: tuple, along_dout: Tensor | None, along_dfinal: Tensor | None, directions: tuple
) -> tuple[tuple, tuple]:
    """The derivatives of the results of ``backward`` along directions of dout, dfinal, x, weight,
    bias and initial_states, and the gradients of dout and dfinal where the last four directions are
    gradients of the results: as second derivatives are symmetric, those of x, weight, bias and
    initial_states are the derivatives with no direction of dout and dfinal."""
    dout, dfinal, *primals, seq_idx, cu_seqlens, initial_states, silu = inputs
    like = (*primals, initial_states)
    x, weight, bias, initial_states, dout, along_dout, along_dfinal = _wide(
        like[0], *like, dout, along_dout, along_dfinal
    )
    directions = tuple(_wide(like[0], *directions))
    sequences = (seq_idx, cu_seqlens, initial_states)
    of_dout, of_dfinal = _sums_along(x, weight, *sequences, directions, dfinal is not None)
    along = along_dout
    if silu:  # dout and its derivative as they arrive at the sums
        sums = forward(x, weight, bias, *sequences, False, False)[0]
        slope, curvature = _silu_derivatives(sums)
        bend = None if of_dout is None else dout * curvature * of_dout
        along = _plus(None if along is None else along * slope, bend)
        of_dout = None if of_dout is None else of_dout * slope
        dout = dout * slope
    found: list[Tensor | None] = [None] * 4
    if along is not None or along_dfinal is not None:
        along = _or_zeros(along, x)
        first = backward(along, along_dfinal, x, weight, bias, *sequences, False)
        found = list(first)
    of_x, of_weight, _, of_initial = directions
    if not (of_x is None and of_weight is None and of_initial is None):
        of_x, of_weight = _or_zeros(of_x, x), _or_zeros(of_weight, weight)
        of_initial = _or_zeros(of_initial, initial_states)
        dx, dweight, _, dinitial = backward(
            dout, None, of_x, of_weight, None, seq_idx, cu_seqlens, of_initial, False
        )
        found = [_plus(a, b) for a, b in zip(found, (dx, dweight, None, dinitial), strict=True)]
    of_results = tuple(_rounded(a, b) for a, b in zip(found, like, strict=True))
    return of_results, (_rounded(of_dout, inputs[0]), _rounded(of_dfinal, dfinal))


def _merged(tensor: Any, mapped: int | None, size: int, dim: int) -> Any:
    """An argument with its mapped dimension, or one that it is repeated along, merged into dim."""
    if not isinstance(tensor, Tensor):
        return tensor
    tensor = tensor.expand(size, *tensor.shape) if mapped is None else tensor.movedim(mapped, 0)
    return tensor.movedim(0, dim).flatten(dim, dim + 1)


def _batched(op: Any, fake: Any, *ways: tuple[dict[int, int], tuple[int, ...]]) -> Any:
    """A vmap rule for op. A way says into which dimension of which argument the mapped one merges,
    and in which dimension of each result it then is; the first way that has all mapped arguments
    serves. Else the calls are made one by one."""

    def rule(info: Any, in_dims: tuple, *args: Any) -> tuple:
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
                dims = tuple(
                    None if r.shape == (0,) else d for r, d in zip(results, dims, strict=True)
                )
                return tuple(
                    r if d is None else r.unflatten(d, (size, -1))
                    for r, d in zip(results, dims, strict=True)
                ), dims
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


_FAKES = {
    "forward": _fake_forward,
    "forward_plain": _fake_plain,
    "backward": _fake_backward,
    "backward_plain": _fake_backward_plain,
    "update": _fake_update,
    "update_functional": _fake_update_functional,
    "update_plain": _fake_update,
    "varlen_states": _fake_varlen_states,
}
for _name, _fake in _FAKES.items():
    torch.library.register_fake(f"causal_conv1d_mps::{_name}", _fake)
_WAYS: dict = {
    # Into the batch, or into the channels, where each mapped call has its own dweight and dbias.
    forward: [({0: 0, 3: 0, 5: 0}, (0, 0)), ({0: 1, 1: 0, 2: 0, 5: 1}, (1, 1))],
    backward: [({0: 1, 1: 1, 2: 1, 3: 0, 4: 0, 7: 1}, (1, 0, 0, 1))],
    varlen_states: [({0: 1}, (1,))],
}
for _op, _ways in _WAYS.items():
    _rule = _batched(_op, _FAKES[_op._opname], *_ways)
    torch.library.register_vmap(f"causal_conv1d_mps::{_op._opname}", _rule)


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
        out = op(*plain)
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
    _fragment.impl(_name, _of_negated(getattr(_ops, _name).default), "Negative")
# Composite: it is taken apart where the graph is made functional, and Dynamo shows no offsets.
_fragment.impl("update_traced", _update_traced, "CompositeImplicitAutograd")
update_traced = _ops.update_traced.default


def needs_grad(*tensors: Tensor | None) -> bool:
    """Whether a gradient is wanted of one of them."""
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def is_transformed() -> bool:
    """Whether forward mode or a transform of ``torch.func`` may be wanted of a call."""
    return transforms_active() or levels._current_level >= 0


def is_eager(tensor: Tensor) -> bool:
    """Whether no more than reverse mode can be wanted. A tracer's tensors, which are of a subclass,
    may be dual though no level is seen here."""
    return type(tensor) is Tensor and levels._current_level < 0 and not transforms_active()


def _save(ctx: Any, inputs: tuple, options: int) -> None:
    """The tensors, and the options that follow them."""
    tensors, ctx.options = inputs[:-options], inputs[-options:]
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    ctx.set_materialize_grads(False)


def _redispatched(op: Any, modes: tuple | None, inputs: tuple) -> Any:
    """op below autograd: in eager mode, or, with a keyset and the modes of the call, which
    ``apply`` has turned off, for the next transform."""
    if modes is None:
        with below_autograd():
            return op(*inputs)
    keyset, gradients, forward_mode = modes
    with below_autograd(), torch.set_grad_enabled(gradients), _forward_mode(forward_mode):
        return op.redispatch(keyset & _after_autograd, *inputs)


@contextlib.contextmanager
def _forward_mode(enabled: bool) -> Any:
    before = _is_forward_mode_enabled()
    _set_forward_mode(enabled)
    try:
        yield
    finally:
        _set_forward_mode(before)


def _primals(ctx: Any) -> tuple:
    """The inputs that ``_save`` kept, without the tangents of this level."""
    return (
        *(t if t is None else forward_ad.unpack_dual(t, level=0).primal for t in ctx.saved_tensors),
        *ctx.options,
    )


class CausalConv1d(_Function):
    """``forward`` with its derivatives."""

    option_count = 2

    # Saving in forward, not in setup_context, spares every call 40 us of inspect.signature.
    @staticmethod
    def forward(ctx: Any, modes: tuple | None, *inputs: Any) -> tuple[Tensor, Tensor]:
        _save(ctx, inputs, CausalConv1d.option_count)
        ctx.modes = modes
        return _redispatched(forward, modes, inputs)

    @staticmethod
    def backward(ctx: Any, dout: Tensor | None, dfinal: Tensor | None) -> tuple:
        """Of the arguments of ``forward``."""
        return None, *_gradients((*ctx.saved_tensors, *ctx.options), dout, dfinal)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Any) -> tuple:
        """Of the results."""
        x, weight, bias, _, _, initial_states, *_ = tangents
        with _forward_mode(ctx.modes[2]):
            out, final = _tangents(_primals(ctx), (x, weight, bias, initial_states))
            return out, out.new_zeros(0) if final is None else final


class CausalConv1dBackward(_Function):
    """``backward`` with its derivatives."""

    option_count = 1

    @staticmethod
    def forward(ctx: Any, modes: tuple, *inputs: Any) -> tuple[Tensor, ...]:
        _save(ctx, inputs, CausalConv1dBackward.option_count)
        ctx.modes = modes
        return _redispatched(backward, modes, inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple:
        """Of the arguments of ``forward``."""
        inputs = (*ctx.saved_tensors, *ctx.options)
        of = (*inputs[2:5], inputs[7])  # an absent one has an empty result, with a gradient maybe
        grads = tuple(None if t is None else g for g, t in zip(grads, of, strict=True))
        (x, weight, bias, initial_states), of_douts = _second_derivatives(inputs, None, None, grads)
        return None, *of_douts, x, weight, bias, None, None, initial_states, None

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Any) -> tuple:
        """Of the results."""
        dout, dfinal, x, weight, bias, _, _, initial_states, _ = tangents
        with _forward_mode(ctx.modes[2]):
            inputs, directions = _primals(ctx), (x, weight, bias, initial_states)
            found, _ = _second_derivatives(inputs, dout, dfinal, directions)
            _, _, x, weight, bias, _, _, initial_states, _ = inputs
            return tuple(
                x.new_zeros(0) if like is None else _or_zeros(tangent, like)
                for tangent, like in zip(found, (x, weight, bias, initial_states), strict=True)
            )


class Plain(_Function):
    """``forward_plain`` with its gradient, for eager mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.silu = silu
        return forward_plain_fast(x, weight, bias, silu)

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple:
        """Of x, weight, bias, silu."""
        x, weight, bias = ctx.saved_tensors
        if not torch.is_grad_enabled() and is_eager(dout):
            dx, dweight, dbias = backward_plain_fast(dout, x, weight, bias, ctx.silu)
        else:
            inputs = (dout, None, x, weight, bias, None, None, None, ctx.silu)
            dx, dweight, dbias, _ = _backward(*inputs)
        return dx, dweight, None if bias is None else dbias, None


def _autograd_kernel(op: Any, function: Any) -> Any:
    def kernel(keyset: Any, *inputs: Any) -> Any:
        if is_eager(inputs[0]) and not needs_grad(*inputs[: -function.option_count]):
            with below_autograd():
                return op._op(*inputs)
        modes = (keyset, torch.is_grad_enabled(), _is_forward_mode_enabled())
        allowed = _single_level_allowed()
        _allow_single_level(True)
        try:
            return function.apply(modes, *inputs)
        finally:
            _allow_single_level(allowed)

    return kernel


_derivatives = ((forward, CausalConv1d), (backward, CausalConv1dBackward))
if has_transforms:
    _implementations = torch.library.Library("causal_conv1d_mps", "IMPL")
    for _op, _class in _derivatives:
        _implementations.impl(_op, _autograd_kernel(_op, _class), "Autograd", with_keyset=True)
else:  # reverse mode alone
    for _op, _class in _derivatives:
        torch.library.register_autograd(
            f"causal_conv1d_mps::{_op._opname}",
            lambda ctx, *grads, _class=_class: _class.backward(ctx, *grads)[1:],
            setup_context=lambda ctx, inputs, output, _class=_class: _save(
                ctx, inputs, _class.option_count
            ),
        )
if missing:
    _loss = "calls are slower" if has_transforms else "torch.func is served slower"
    warnings.warn(
        f"PyTorch {torch.__version__} lacks {', '.join(missing)}: {_loss}",
        RuntimeWarning,
        stacklevel=2,
    )
