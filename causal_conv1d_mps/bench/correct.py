"""Whether what a timed call returned is right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..bounds import backward_errors, forward_error
from .cases import Case

CHECKED_ELEMENTS = 1 << 20  # of x, at the most: float64 references are slow and large


def sample(case: Case, tensors: Iterable[Tensor]) -> list[Tensor]:
    """The same few channels of each tensor, whose channels are dimension 0 or, if 3-D, 1."""
    few = max(1, CHECKED_ELEMENTS // (case.batch * case.seqlen))
    channels = torch.linspace(0, case.dim - 1, min(case.dim, few)).long()
    return [t.detach().index_select(int(t.ndim == 3), channels.to(t.device)) for t in tensors]


def is_correct(
    case: Case, tensors: tuple[Tensor, ...], result: Iterable[Tensor], **given: Any
) -> bool:
    """Whether a sample of a call's results is within the bounds of docs/numerics.md.

    The result is (out,), (out, final states) if initial_states are given, or the gradients of x,
    weight and bias if x requires one.
    """
    x, weight, bias, dout = sample(case, tensors)
    if tensors[0].requires_grad:
        with torch.enable_grad():
            return max(backward_errors(tuple(result), dout, x, weight, bias, case.activation)) <= 1
    out, *final = result
    if "initial_states" in given:
        given = {"initial_states": sample(case, [given["initial_states"]])[0]}
        if not final[0].equal(x[..., 1 - case.width :]):
            return False
    return forward_error(out, x, weight, bias, case.activation, **given) <= 1
