"""Results where x, weight, products, bias, dout or SiLU's tails are subnormal in float32.

On a device that flushes them to zero the same cases run, within the wider bound of
docs/numerics.md; CAUSAL_CONV1D_EMULATOR_FLUSH=1 makes the emulator such a device.
"""

import pytest
import torch
from numerics import DEVICE, assert_backward, assert_forward, make, parameters

from causal_conv1d_mps import causal_conv1d, causal_conv1d_fn, causal_conv1d_update
from causal_conv1d_mps.bounds import backward_errors, forward_error

pytestmark = pytest.mark.native_only

SMALLEST = torch.finfo(torch.float32).smallest_normal
# Powers of ten of x, weight, bias and dout, and what of them is subnormal.
CASES = {
    "x": (-39, 0, -38, 0),
    "x beside large weights": (-39, 30, 0, 0),
    "weight": (0, -39, -38, 0),
    "weight beside large x": (30, -39, 0, 0),
    "products": (-20, -19, -39, 0),
    "the last bits": (-23, -22, -45, 0),
    "bias": (-38, 0, -39, 0),
    "dout": (0, 0, 0, -39),
    "dout beside large weights": (-3, 10, 0, -39),
    "gradients": (-20, -19, 0, -19),
}
HALF = torch.float16


def drawn(powers, dtype, layout, seqlen=37, width=4):
    """x, weight, bias and dout, float16 as near to these magnitudes as it comes."""
    given = make(2, 21, seqlen, layout=layout), *parameters(21, width), make(2, 21, seqlen)
    least = -8 if dtype == HALF else -45
    largest = 3 if dtype == HALF else 30
    scales = [10.0 ** min(max(power, least), largest) for power in powers]
    return [(t.double() * scale).to(dtype) for t, scale in zip(given, scales, strict=True)]


def reaches(*tensors):
    """Whether one of them, in float64, has a value that float32 holds as a subnormal or not at
    all."""
    return any(bool(((t != 0) & (t.abs() < SMALLEST)).any()) for t in tensors)


def products(x, weight, bias, dout):
    """What is multiplied, and what comes of it."""
    x, weight, bias, dout = (t.detach().cpu().double() for t in (x, weight, bias, dout))
    return x, weight, bias, dout, x[:, :, 4:] * weight[:, :1], dout[:, :, 4:] * weight[:, :1]


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("layout", ["channel-first", "channels-last", "strided"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, HALF], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_forward_and_gradients(case, dtype, layout, activation):
    for width in (2, 4, 11):
        x, weight, bias, dout = drawn(CASES[case], dtype, layout, width=width)
        assert reaches(*products(x, weight, bias, dout)) or dtype == HALF
        inputs = [t.requires_grad_() for t in (x, weight, bias)]
        out = causal_conv1d(*inputs, activation)
        assert_forward(out, *inputs, activation)
        grads = torch.autograd.grad(out, inputs, dout)
        assert_backward(grads, dout, *inputs, activation)
        if dtype == HALF:  # no float32 of its sums is subnormal, so that nothing is lost anywhere
            assert forward_error(out, *inputs, activation, flushes=False) <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, HALF], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_states_and_a_step(case, dtype):
    x, weight, bias, dout = drawn(CASES[case], dtype, "channels-last")
    initial = (make(2, 21, 3).double() * x.detach().abs().double().max()).to(dtype)
    inputs = [t.requires_grad_() for t in (x, weight, bias, initial)]
    out, final = causal_conv1d_fn(
        *inputs[:3], initial_states=initial, return_final_states=True, activation="silu"
    )
    assert_forward(out, *inputs[:3], "silu", initial_states=initial)
    dfinal = (make(2, 21, 3).double() * dout.abs().double().max()).to(dtype)
    grads = torch.autograd.grad([out, final], inputs, [dout, dfinal])
    assert_backward(grads, dout, *inputs[:3], "silu", initial_states=initial, dfinal=dfinal)
    with torch.no_grad():
        state, step = initial.detach().clone(), x.detach()[:, :, :1]
        out = causal_conv1d_update(step, state, weight, bias, "silu")
        assert_forward(out, step, weight, bias, "silu", initial_states=initial)


@pytest.mark.parametrize("dtype", DEVICE.dtypes, ids=str)
def test_tails_of_silu(dtype):
    """From where v silu(v) is subnormal to v far below -87, and around 0."""
    v = torch.cat([torch.linspace(-120, -60, 600), torch.logspace(-45, -30, 600)])
    x = torch.cat([v, -v[600:]]).to(dtype).expand(2, 1, -1)
    one = torch.ones(1, 2, dtype=dtype) * torch.tensor([0.0, 1.0], dtype=dtype)
    x, weight, bias = x.clone().requires_grad_(), one.requires_grad_(), None
    out, dout = causal_conv1d(x, weight, bias, "silu"), torch.ones_like(x)
    assert_forward(out, x, weight, bias, "silu")
    grads = torch.autograd.grad(out, [x, weight], dout)
    assert_backward(grads, dout, x, weight, bias, "silu")


def test_what_is_lost_is_noticed():
    """A device that flushes breaks the bound of one that does not, and no other does."""
    errors = []
    for powers in CASES.values():
        x, weight, bias, dout = drawn(powers, torch.float32, "channel-first")
        inputs = [t.requires_grad_() for t in (x, weight, bias)]
        out = causal_conv1d(*inputs)
        errors += [forward_error(out, *inputs, flushes=False)]
        grads = torch.autograd.grad(out, inputs, dout)
        errors += backward_errors(grads, dout, *inputs, flushes=False)
    if DEVICE.flushes:
        assert sum(error > 100 for error in errors) >= 10
    else:
        assert max(errors) <= 1


@pytest.mark.cpu_only
@pytest.mark.parametrize("name", ["x", "weight", "products", "bias"])
def test_a_flushed_result_is_noticed_on_a_device_that_keeps_subnormals(name):
    x, weight, bias, _ = drawn(CASES[name], torch.float32, "channel-first")
    out = causal_conv1d(x, weight, bias)
    lost = torch.where(out.abs() < SMALLEST, 0, out)
    assert not torch.equal(lost, out)
    assert forward_error(lost, x, weight, bias, flushes=False) > 1
    assert forward_error(lost, x, weight, bias, flushes=True) <= 1
