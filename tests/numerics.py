"""What results are compared with: float64 references, and the bounds of docs/numerics.md."""

import torch.nn.functional as F

import torch
from causal_conv1d_mps import causal_conv1d_ref
from causal_conv1d_mps.reference import causal_conv1d_varlen_ref

LAYOUTS = ("channel-first", "channels-last", "padded", "strided")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def make(batch, dim, seqlen, dtype=torch.float32, layout="channel-first"):
    """A random (batch, dim, seqlen) tensor in one of LAYOUTS."""
    if layout == "channel-first":
        return torch.randn(batch, dim, seqlen, dtype=dtype)
    if layout == "channels-last":
        return torch.randn(batch, seqlen, dim, dtype=dtype).transpose(1, 2)
    if layout == "padded":  # a slice of a wider projection, as in Mamba-2
        return torch.randn(batch, seqlen, 2 * dim + 3, dtype=dtype)[:, :, 3 : dim + 3].mT
    return torch.randn(batch, dim, 2 * seqlen, 2, dtype=dtype)[:, :, ::2, 1]


def parameters(dim, width, dtype=torch.float32, bias=True, bias_dtype=None):
    """Random weight (dim, width) and bias (dim,) or None."""
    weight = torch.randn(dim, width, dtype=dtype)
    return weight, torch.randn(dim, dtype=bias_dtype or dtype) if bias else None


def reference(x, weight, bias, activation=None, seq_idx=None, cu_seqlens=None, initial_states=None):
    """(out, final states), in the dtype of the arguments; no final states beside seq_idx."""
    if cu_seqlens is not None:
        return causal_conv1d_varlen_ref(x, weight, bias, cu_seqlens, initial_states, activation)
    if seq_idx is not None:
        return causal_conv1d_ref(
            x, weight, bias, initial_states, activation=activation, seq_idx=seq_idx
        ), None
    return causal_conv1d_ref(
        x, weight, bias, initial_states, return_final_states=True, activation=activation
    )


def unit(dtype):
    """Half an ulp, relative, of the type that dtype accumulates in."""
    return 2.0**-53 if dtype == torch.float64 else 2.0**-24


def rounded(t, dtype):
    """A float64 tensor rounded once: PyTorch goes to 16 bits by way of float32, so that must be
    rounded to odd (Boldo and Melquiond 2008)."""
    if dtype not in (torch.float16, torch.bfloat16):
        return t.to(dtype)
    single = t.float()
    beyond = (single.double().abs() > t.abs()).int()
    odd = ((single.view(torch.int32) - beyond) | 1).view(torch.float32)
    return torch.where((single.double() == t) | t.isnan(), single, odd).to(dtype)


def assert_between(out, expected, tolerance):
    """out is the rounding to its dtype of a value within tolerance of the float64 expected."""
    low, high = rounded(expected - tolerance, out.dtype), rounded(expected + tolerance, out.dtype)
    ok = (out >= low) & (out <= high)
    worst = ((out.double() - expected).abs() / tolerance).nan_to_num(float("inf"))
    assert ok.all(), f"{(~ok).sum()} of {ok.numel()} wrong, worst {worst.max():.3g} tolerances"


def _map(function, tensors):
    return [None if t is None else function(t.detach().double()) for t in tensors]


def assert_forward(
    out, x, weight, bias, activation, seq_idx=None, cu_seqlens=None, initial_states=None
):
    """Checks a forward result against float64."""
    assert out.shape == x.shape and out.dtype == x.dtype
    tensors = (x, weight, bias, initial_states)

    def of(function):
        x64, w64, b64, states = _map(function, tensors)
        return reference(x64, w64, b64, None, seq_idx, cu_seqlens, states)[0]

    v, size = of(lambda t: t), of(torch.abs)
    # W fma of unit roundoff each; fp64 parameters of a smaller x are rounded first.
    u = unit(x.dtype)
    tolerance = (weight.shape[1] + 3) * u * size
    if activation is not None:  # |silu'| <= 1.1, and 8 units of its own
        tolerance, v = 1.1 * tolerance, F.silu(v)
        tolerance = tolerance + 8 * u * v.abs() + 2e-36 * (v != 0)
    assert_between(out, v, tolerance + 1e-300 * (v != 0))


def assert_backward(
    grads, dout, x, weight, bias, activation,
    seq_idx=None, cu_seqlens=None, initial_states=None, dfinal=None,
):  # fmt: skip
    """Checks the gradients of those of (x, weight, bias, initial_states) that are not None against
    float64 autograd of the reference."""
    tensors = (x, weight, bias, initial_states)

    def sequences(states):
        return {"seq_idx": seq_idx, "cu_seqlens": cu_seqlens, "initial_states": states}

    def gradients(function, douts, activation=None, without_bias=False):
        leaves = [t if t is None else t.requires_grad_() for t in _map(function, tensors)]
        if without_bias:
            leaves[2] = None
        results = reference(*leaves[:3], activation, **sequences(leaves[3]))
        pairs = [(r, d) for r, d in zip(results, douts, strict=True) if d is not None]
        wanted = [leaf for leaf in leaves if leaf is not None]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in pairs], wanted, [d for _, d in pairs],
                allow_unused=True, materialize_grads=True,
            )
        )  # fmt: skip
        return [None if leaf is None else next(found) for leaf in leaves]

    douts = dout.double(), None if dfinal is None else dfinal.double()
    expected = gradients(lambda t: t, douts, activation)

    # The same sums over absolute values bound the rounding errors of each gradient.
    width, u = weight.shape[1], unit(x.dtype)
    x64, w64, b64, states = _map(lambda t: t, tensors)
    v = reference(x64, w64, b64, **sequences(states))[0]
    x64, w64, b64, states = _map(torch.abs, tensors)
    size = reference(x64, w64, b64, **sequences(states))[0]
    g, g_error = douts[0].abs(), torch.zeros_like(v)
    if activation is not None:  # |silu''| <= 0.5; 32 units for silu' itself, which is <= 1.1
        g_error = g * u * (0.5 * (width + 3) * size + 32)
        s = torch.sigmoid(v)
        g = g * (s * (1 + v * (1 - s))).abs()
    scale = gradients(torch.abs, (g, None if dfinal is None else douts[1].abs()), without_bias=True)
    error = gradients(torch.abs, (g_error, None), without_bias=True)
    alive = 1.0 if seq_idx is None else (seq_idx >= 0)[:, None].double()
    steps = x.shape[0] * x.shape[2] + 8  # a sum of n terms errs by at most n units of its size
    tolerances = [
        (width + 5) * u * scale[0] + error[0],
        steps * u * scale[1] + error[1],
        steps * u * (g * alive).sum((0, 2)) + (g_error * alive).sum((0, 2)),
        None if states is None else (width + 5) * u * scale[3] + error[3],
    ]
    checks = [(expected[i], tolerances[i], tensors[i]) for i in range(4) if tensors[i] is not None]
    for grad, (value, tolerance, tensor) in zip(grads, checks, strict=True):
        assert grad.shape == tensor.shape and grad.dtype == tensor.dtype
        assert_between(grad, value, tolerance + 1e-300)
