"""Gradients against float64 autograd, gradcheck, and their determinism."""

import itertools

import pytest
import torch
from numerics import DEVICE, LAYOUTS, assert_backward, assert_forward, make, parameters

from causal_conv1d_mps import CausalConv1dMPSFunction, causal_conv1d


def gradients(x, weight, bias, activation, dout):
    inputs = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
    out = causal_conv1d(*inputs, *[None] * (3 - len(inputs)), activation)
    return torch.autograd.grad(out, inputs, dout)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DEVICE.dtypes, ids=str)
def test_against_float64(dtype, layout, bias, activation):
    for width, seqlen in itertools.product((1, 2, 3, 4, 5), (0, 1, 2, 3, 7, 8, 16, 17, 33, 65)):
        x, dout = (make(2, 19, seqlen, dtype, layout) for _ in "xd")
        weight, b = parameters(19, width, dtype, bias)
        grads = gradients(x, weight, b, activation, dout)
        assert_backward(grads, dout, x, weight, b, activation)


@pytest.mark.parametrize(
    "shape", DEVICE.affordable((1, 300, 300), (2, 2, 9000), (300, 20, 7), (1, 3, 8193))
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DEVICE.dtypes, ids=str)
def test_several_tiles(dtype, layout, shape):
    x, dout = (make(*shape, dtype, layout) for _ in "xd")
    weight, bias = parameters(shape[1], 4, dtype)
    grads = gradients(x, weight, bias, "silu", dout)
    assert_backward(grads, dout, x, weight, bias, "silu")


@pytest.mark.parametrize("shape", DEVICE.affordable((1, 1030, 4100)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_wide_tiles(dtype, shape):
    """The CPU cuts large channels-last tensors otherwise than small ones."""
    x, dout = (make(*shape, dtype, "channels-last") for _ in "xd")
    weight, bias = parameters(shape[1], 4, dtype)
    assert_forward(causal_conv1d(x, weight, bias, "silu"), x, weight, bias, "silu")
    assert_backward(gradients(x, weight, bias, "silu", dout), dout, x, weight, bias, "silu")


@pytest.mark.parametrize("of_x", LAYOUTS)
@pytest.mark.parametrize("of_dout", [*LAYOUTS, "expanded"])
def test_dout_in_another_layout(of_x, of_dout):
    x = make(2, 19, 40, layout=of_x)
    dout = (
        torch.randn(1).expand(2, 19, 40)
        if of_dout == "expanded"
        else make(2, 19, 40, layout=of_dout)
    )
    weight, bias = parameters(19, 4)
    assert_backward(gradients(x, weight, bias, "silu", dout), dout, x, weight, bias, "silu")


def test_mixed_dtypes():
    of_parameters = DEVICE.parameter_dtypes
    for dtype, weight_dtype, bias_dtype in itertools.product(
        DEVICE.dtypes, of_parameters, of_parameters
    ):
        x, dout = make(2, 19, 33, dtype), make(2, 19, 33, dtype)
        weight, bias = parameters(19, 4, weight_dtype, bias_dtype=bias_dtype)
        grads = gradients(x, weight, bias, None, dout)
        assert_backward(grads, dout, x, weight, bias, None)


@pytest.mark.cpu_only
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_gradcheck(width, activation, layout):
    x = make(2, 3, 6, torch.float64, layout).requires_grad_()
    weight, bias = (t.requires_grad_() for t in parameters(3, width, torch.float64))
    torch.autograd.gradcheck(lambda *a: causal_conv1d(*a, activation), (x, weight, bias))


@pytest.mark.parametrize("wanted", list(itertools.product([True, False], repeat=3)))
def test_only_the_gradients_asked_for(wanted):
    inputs = [make(2, 5, 9), *parameters(5, 4)]
    for tensor, want in zip(inputs, wanted, strict=True):
        tensor.requires_grad_(want)
    out = causal_conv1d(*inputs, "silu")
    assert out.requires_grad == any(wanted)
    if any(wanted):
        out.sum().backward()
    assert [t.grad is not None for t in inputs] == list(wanted)


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5), (2, 3, 0)])
def test_empty(shape):
    x = torch.randn(shape, requires_grad=True)
    weight, bias = (t.requires_grad_() for t in parameters(shape[1], 4))
    out = causal_conv1d(x, weight, bias, "silu")
    out.sum().backward()
    assert out.shape == x.grad.shape == shape
    assert torch.equal(weight.grad, torch.zeros_like(weight))
    assert torch.equal(bias.grad, torch.zeros_like(bias))


@pytest.mark.native_only
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape", DEVICE.affordable((2, 40, 3000), (1, 1000, 300), (2, 5, 20000), (300, 8, 40))
)
def test_same_bits_whatever_the_threads(shape, layout):
    x, dout = (make(*shape, layout=layout) for _ in "xd")
    weight, bias = parameters(shape[1], 4)
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        results.append(gradients(x, weight, bias, "silu", dout))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_autograd_function_of_the_original():
    x, (weight, bias) = make(2, 5, 9).requires_grad_(), parameters(5, 4)
    out = CausalConv1dMPSFunction.apply(x, weight, bias, None, None, False, None, True)
    assert torch.equal(out, causal_conv1d(x, weight, bias, "silu"))
    out.sum().backward()
    assert x.grad is not None
