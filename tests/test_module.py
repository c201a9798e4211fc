"""The layer's own ways: its arguments, its state when it is moved, x without a batch."""

import pytest
import torch
from numerics import DEVICE, make

from causal_conv1d_mps import CausalConv1d, causal_conv1d

DEVICES = {"device": DEVICE.name}


def test_arguments_after_width_are_keywords():
    with pytest.raises(TypeError):
        CausalConv1d(4, 4, "silu")
    with pytest.raises(TypeError):
        CausalConv1d(4, 4, False)


@pytest.mark.parametrize("bias", ["silu", None, 1, torch.zeros(4)])
def test_a_bias_that_is_no_bool(bias):
    with pytest.raises(TypeError, match=f"^Expected bias to be a bool, got {type(bias).__name__}$"):
        CausalConv1d(4, 4, bias=bias)


def test_x_without_a_batch():
    layer, x = CausalConv1d(6, 4, activation="silu", **DEVICES), make(1, 6, 9).to(DEVICE.name)
    expected = causal_conv1d(x, layer.weight, layer.bias, "silu")
    out = layer(x[0])
    assert out.shape == (6, 9) and torch.equal(out, expected[0])
    out.sum().backward()
    assert layer.weight.grad.shape == (6, 4)
    with pytest.raises(ValueError, match="3D input tensor x"):
        layer(x[0, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_state_goes_along(dtype):
    layer, x = CausalConv1d(6, 4, **DEVICES), make(2, 6, 9).to(DEVICE.name)
    with torch.no_grad():
        layer.step(x[:, :, :5])
        kept = layer.state.clone()
        assert layer.to(dtype) is layer
        assert layer.state.dtype == dtype and torch.equal(layer.state, kept.to(dtype))
        out = layer.step(x[:, :, 5:].to(dtype))
    assert out.dtype == dtype and out.shape == (2, 6, 4)
    assert list(layer.state_dict()) == ["weight", "bias"]
    layer.reset_state()
    assert layer.float().state is None


def test_a_stream_that_is_another():
    layer, x = CausalConv1d(6, 4, **DEVICES), make(2, 6, 9).to(DEVICE.name)
    with torch.no_grad():
        layer.step(x[:, :, 0])
        before = layer.state.clone()
        for other in (x[:1, :, 1], x[:1, :, 1:3], x[:, :, 1].half(), x[:, :, 1:3].half()):
            with pytest.raises(ValueError, match=r"^Expected x with batch 2 of torch.float32 on "):
                layer.step(other)
            assert torch.equal(layer.state, before)
        with pytest.raises(ValueError, match=r"reset_state\(\) begins another stream$"):
            layer.step(x[:1, :, 1])
        layer.reset_state()
        assert layer.step(x[:1, :, 1]).shape == (1, 6)


def test_a_stream_compiled():
    layer, x = CausalConv1d(6, 4, activation="silu", **DEVICES), make(2, 6, 9).to(DEVICE.name)
    torch.compiler.reset()
    step = torch.compile(layer.step, backend="eager")
    with torch.no_grad():
        expected = layer(x)
        layer.reset_state()
        out = torch.stack([step(x[:, :, t]) for t in range(9)], dim=2)
    torch.testing.assert_close(out, expected)
