"""How far results are from the float64 ones, in units of the bounds of docs/numerics.md.

For the tests, the self test and the benchmark. All is computed on the CPU, as not every device has
float64.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference import Activation, causal_conv1d_ref, causal_conv1d_varlen_ref

# Of silu on a CPU before it is rounded to 16 bits, relative.
SILU_ERRORS = {torch.bfloat16: 6.2e-5, torch.float16: 4e-6}


def reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: Activation = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """(out, final states) of the plain definitions; no final states beside seq_idx."""
    if cu_seqlens is not None:
        return causal_conv1d_varlen_ref(x, weight, bias, cu_seqlens, initial_states, activation)
    if seq_idx is not None:
        return causal_conv1d_ref(
            x, weight, bias, initial_states, activation=activation, seq_idx=seq_idx
        ), None
    return causal_conv1d_ref(
        x, weight, bias, initial_states, return_final_states=True, activation=activation
    )


def unit(dtype: torch.dtype) -> float:
    """Half an ulp, relative, of the type that dtype accumulates in."""
    return 2.0**-53 if dtype == torch.float64 else 2.0**-24


def underflow(dtype: torch.dtype, flushes: bool) -> float:
    """What an operation may err by, absolutely, where a number is subnormal in the type that dtype
    accumulates in: all of that number where subnormals are flushed to zero, as on Apple GPUs."""
    limits = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32)
    return limits.smallest_normal if flushes else limits.smallest_normal * limits.eps


def sum_units(n: int) -> float:
    """What a sum of n products may err by, in units of the sum of their magnitudes.

    It never errs by more than n + 8, and with random values not by more than 2 sqrt(n) + 8, as
    docs/numerics.md derives; 8 are for the products and for adding up partial sums.
    """
    return min(n, 2 * math.sqrt(n)) + 8


def rounded(t: Tensor, dtype: torch.dtype) -> Tensor:
    """A float64 tensor rounded once: PyTorch goes to 16 bits by way of float32, so that must be
    rounded to odd (Boldo and Melquiond 2008)."""
    if dtype not in (torch.float16, torch.bfloat16):
        return t.to(dtype)
    single = t.float()
    beyond = (single.double().abs() > t.abs()).int()
    odd = ((single.view(torch.int32) - beyond) | 1).view(torch.float32)
    return torch.where((single.double() == t) | t.isnan(), single, odd).to(dtype)


def worst(out: Tensor, expected: Tensor, tolerance: Tensor) -> float:
    """The largest error of out in units of tolerance, beyond the rounding to 16 bits.

    At most 1 if, and only if, all of out is the rounding to its dtype of a value within tolerance
    of the float64 expected.
    """
    out = out.detach().cpu()
    low, high = rounded(expected - tolerance, out.dtype), rounded(expected + tolerance, out.dtype)
    right = (out >= low) & (out <= high)
    error = (out.double() - expected).abs()
    if out.dtype in (torch.float16, torch.bfloat16):
        limits = torch.finfo(out.dtype)
        normal = out.double().abs().clamp(min=limits.smallest_normal)
        power = torch.ldexp(torch.ones_like(error), torch.frexp(normal).exponent - 1)
        error = (error - power * limits.eps / 2).clamp(min=0)
    units = torch.where(error == 0, 0, error / tolerance).nan_to_num(float("inf"))
    units = torch.where(right, units.clamp(max=1), units.clamp(min=1 + 2**-20))
    return float(units.max()) if units.numel() else 0.0


def _map(function: Any, tensors: tuple[Tensor | None, ...]) -> list[Any]:
    return [None if t is None else function(t.detach().cpu().double()) for t in tensors]


def _subnormal(t: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """1 where t would be subnormal in the type that dtype accumulates in, else 0."""
    return None if t is None else ((t != 0) & (t.abs() < underflow(dtype, True))).double()


def _underflows(
    size: Tensor,
    tensors: tuple[Any, ...],
    dtype: torch.dtype,
    sequences: dict[str, Any],
) -> Tensor:
    """How many times ``underflow`` the sum before the activation may err by, of which size is that
    of the magnitudes: once a rounding, and for a subnormal factor as often as the other says."""
    times: Tensor = (tensors[1].shape[1] + 1) * (size != 0)
    small: list[Any] = [_subnormal(t, dtype) for t in tensors]
    if not any(t is not None and bool(t.any()) for t in small):
        return times
    x, weight, _, states = _map(torch.abs, tensors)
    for inputs, w, b, initial in (
        (x, small[1], small[2], states),
        (small[0], weight, None, small[3]),
    ):
        times = times + reference(inputs, w, b, initial_states=initial, **sequences)[0]
    return times


def _on_cpu(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.cpu() for t in tensors]


def forward_error(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: Activation = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None,
    flushes: bool | None = None,
) -> float:
    """:func:`worst` of a forward result; flushes says whether its device flushes subnormals of
    float32 to zero, by default as Apple GPUs do."""
    smallest = underflow(x.dtype, out.is_mps if flushes is None else flushes)
    seq_idx, cu_seqlens = _on_cpu(seq_idx, cu_seqlens)

    def of(function: Any) -> Tensor:
        x64, w64, b64, states = _map(function, (x, weight, bias, initial_states))
        return reference(x64, w64, b64, None, seq_idx, cu_seqlens, states)[0]

    v, size = of(lambda t: t), of(torch.abs)
    tensors = tuple(_map(lambda t: t, (x, weight, bias, initial_states)))
    sequences = {"seq_idx": seq_idx, "cu_seqlens": cu_seqlens}
    lost = smallest * _underflows(size, tensors, x.dtype, sequences)
    # W fma of unit roundoff each; fp64 parameters of a smaller x are rounded first.
    u = unit(x.dtype)
    tolerance = (weight.shape[1] + 3) * u * size + lost
    if activation is not None:  # |silu'| <= 1.1, and the error of silu itself
        held, v = v < -87, F.silu(v)
        relative = 8 * u if out.is_cuda or out.is_mps else SILU_ERRORS.get(out.dtype, 8 * u)
        tolerance = 1.1 * tolerance + relative * v.abs() + smallest * (v != 0)
        tolerance = tolerance + 2e-36 * (held & (v != 0))
    return worst(out, v, tolerance + 1e-300 * (v != 0))


def backward_errors(
    grads: tuple[Tensor, ...],
    dout: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: Activation = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None,
    dfinal: Tensor | None = None,
    flushes: bool | None = None,
) -> list[float]:
    """:func:`worst` of the gradients of those of (x, weight, bias, initial_states) that are not
    None; dfinal is the gradient that came through the final states, if any, and flushes as of
    :func:`forward_error`."""
    smallest = underflow(x.dtype, dout.is_mps if flushes is None else flushes)
    tensors = (x, weight, bias, initial_states)
    seq_idx, cu_seqlens = _on_cpu(seq_idx, cu_seqlens)

    def sequences(states: Tensor | None) -> dict[str, Any]:
        return {"seq_idx": seq_idx, "cu_seqlens": cu_seqlens, "initial_states": states}

    def gradients(
        function: Any,
        douts: tuple[Tensor | None, Tensor | None],
        activation: Activation = None,
        without_bias: bool = False,
    ) -> list[Any]:
        leaves: list[Any] = [
            t if t is None else t.requires_grad_() for t in _map(function, tensors)
        ]
        if without_bias:
            leaves[2] = None
        x, weight, bias, states = leaves
        results = reference(x, weight, bias, activation, **sequences(states))
        pairs = [(r, d) for r, d in zip(results, douts, strict=True) if d is not None]
        wanted = [leaf for leaf in leaves if leaf is not None]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in pairs if r is not None], wanted, [d for _, d in pairs],
                allow_unused=True, materialize_grads=True,
            )
        )  # fmt: skip
        return [None if leaf is None else next(found) for leaf in leaves]

    douts: Any = tuple(_map(lambda t: t, (dout, dfinal)))
    expected = gradients(lambda t: t, douts, activation)

    # The same sums over absolute values bound the rounding errors of each gradient.
    width, u = weight.shape[1], unit(x.dtype)
    x64, w64, b64, states = _map(lambda t: t, tensors)
    v = reference(x64, w64, b64, **sequences(states))[0]
    x64, w64, b64, states = _map(torch.abs, tensors)
    size = reference(x64, w64, b64, **sequences(states))[0]
    without_states = {"seq_idx": seq_idx, "cu_seqlens": cu_seqlens}
    lost = smallest * _underflows(size, (x64, w64, b64, states), x.dtype, without_states)
    g, g_error = douts[0].abs(), smallest * _map(lambda t: _subnormal(t, x.dtype), (dout,))[0]
    if activation is not None:  # |silu''| <= 0.5, and 10 units of silu' itself
        g_error = g * (0.5 * ((width + 3) * u * size + lost) + 10 * u) + 2.1 * smallest * (g != 0)
        s = torch.sigmoid(v)
        g = g * (s * (1 + v * (1 - s))).abs()
    scale = gradients(torch.abs, (g, None if dfinal is None else douts[1].abs()), without_bias=True)
    error = gradients(torch.abs, (g_error, None), without_bias=True)
    # A subnormal weight or x costs as much of each sum as the gradients that it is multiplied by.
    factors = gradients(lambda t: _subnormal(t, x.dtype), (g, None), without_bias=True)
    alive = 1.0 if seq_idx is None else (seq_idx >= 0)[:, None].double()
    terms = x.shape[0] * x.shape[2]
    steps = sum_units(terms)
    tolerances = [
        (width + 5) * u * scale[0] + error[0],
        steps * u * scale[1] + error[1],
        steps * u * (g * alive).sum((0, 2)) + (g_error * alive).sum((0, 2)),
        None if states is None else (width + 5) * u * scale[3] + error[3],
    ]
    roundings = (width + 3, terms + 8, terms + 8, width + 3)
    given = [i for i in range(4) if tensors[i] is not None]
    for i in given:  # but a sum of nothing but zeros is 0
        subnormal = roundings[i] + (0 if i == 2 else factors[i])
        tolerances[i] = tolerances[i] + smallest * subnormal * (tolerances[i] != 0)
    return [
        worst(grad, expected[i], tolerances[i] + 1e-300)
        for grad, i in zip(grads, given, strict=True)
    ]
