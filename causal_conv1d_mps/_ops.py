"""The operations of src/torch/ops.c, by name, and what PyTorch is asked before one is called."""

from __future__ import annotations

import contextlib
import operator
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _library  # noqa: F401  (registers the operations)

missing: list[str] = []  # private names that this PyTorch lacks


def _private(path: str, otherwise: Any) -> Any:
    """A name of PyTorch that may move from one version to the next."""
    try:
        return operator.attrgetter(path)(torch)
    except AttributeError:
        missing.append(f"torch.{path}")
        return otherwise


# The public name looks its argument over first, for 0.3 us.
increment_version: Any = _private("_C._increment_version", torch.autograd.graph.increment_version)
# Without one of these, all calls go the way of transforms.
transforms_active: Any = _private("_C._are_functorch_transforms_active", lambda: True)
if _private("autograd.forward_ad._current_level", None) is None:
    levels: Any = types.SimpleNamespace(_current_level=0)
else:
    levels = forward_ad
_assumed = len(missing)
below_autograd: Any = _private("_C._AutoDispatchBelowAutograd", contextlib.nullcontext)
after_autograd: Any = _private("_C._after_autograd_keyset", None)
Function: Any = _private("autograd.function._SingleLevelFunction", torch.autograd.Function)
single_level_allowed: Any = _private(
    "_C._functorch.get_single_level_autograd_function_allowed", None
)
allow_single_level: Any = _private("_C._functorch.set_single_level_autograd_function_allowed", None)
is_forward_mode_enabled: Any = _private("_C._is_fwd_grad_enabled", None)
set_forward_mode: Any = _private("_C._set_fwd_grad_enabled", None)
# Without one of these, ``transforms`` are left to plain PyTorch.
has_transforms = len(missing) == _assumed

operations = torch.ops.causal_conv1d_mps
forward: Callable[..., tuple[Tensor, Tensor]] = operations.forward.default
backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]] = operations.backward.default
update: Callable[..., Tensor] = operations.update.default
update_functional: Callable[..., tuple[Tensor, Tensor]] = operations.update_functional.default
varlen_states: Callable[..., Tensor] = operations.varlen_states.default
# The overloads' own callables: one Python frame less.
forward_plain_fast: Callable[..., Tensor] = operations.forward_plain.default._op
backward_plain_fast: Callable[..., tuple[Tensor, Tensor, Tensor]]
backward_plain_fast = operations.backward_plain.default._op
update_fast: Callable[..., Tensor] = operations.update.default._op
update_plain_fast: Callable[..., Tensor] = operations.update_plain.default._op


def needs_grad(*tensors: Tensor | None) -> bool:
    """Whether a gradient is wanted of one of them."""
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def is_transformed() -> bool:
    """Whether forward mode or a transform of ``torch.func`` may be wanted of a call."""
    return bool(transforms_active() or levels._current_level >= 0)


def is_eager(tensor: Tensor) -> bool:
    """Whether no more than reverse mode can be wanted. A tracer's tensors, which are of a subclass,
    may be dual though no level is seen here."""
    return bool(type(tensor) is Tensor and levels._current_level < 0 and not transforms_active())
