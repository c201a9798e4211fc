"""Checkpoints: those of ``nn.Conv1d`` load, and the way back."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from causal_conv1d_mps import CausalConv1d

X = torch.randn(2, 6, 9)


def pair(bias=True, dtype=None):
    """nn.Conv1d with random weights, and our layer with others."""
    return (
        nn.Conv1d(6, 6, 4, groups=6, padding=3, bias=bias, dtype=dtype),
        CausalConv1d(6, 4, bias=bias, dtype=dtype),
    )


def assert_same(layer, conv):
    torch.testing.assert_close(layer(X), conv(X)[..., :9])


WAYS = {
    "as it is": lambda layer: layer,
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "meta": lambda layer: layer.to("meta").to_empty(device=X.device),
}


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_load_what_conv1d_saves(way, bias, assign):
    conv, layer = pair(bias)
    layer, checkpoint = WAYS[way](layer), conv.state_dict()
    layer.load_state_dict(checkpoint, assign=assign)
    assert checkpoint["weight"].shape == (6, 1, 4) and layer.weight.shape == (6, 4)
    assert layer.weight.is_leaf and layer.weight.requires_grad
    shared = layer.weight.data_ptr() == conv.weight.data_ptr()
    assert shared == assign
    assert_same(layer, conv)
    layer.load_state_dict(layer.state_dict())
    assert_same(layer, conv)


def test_load_onto_meta_by_assignment():
    conv, _ = pair()
    layer = CausalConv1d(6, 4, device="meta")
    layer.load_state_dict(conv.state_dict(), assign=True)
    assert_same(layer, conv)


def test_what_we_save_loads_into_conv1d():
    conv, layer = pair()
    assert layer.state_dict()["weight"].shape == (6, 4)
    conv.load_state_dict({**layer.state_dict(), "weight": layer.weight[:, None]})
    assert_same(layer, conv)


def test_a_model_that_had_conv1d():
    convs, layers = zip(*(pair() for _ in range(2)), strict=True)
    model, old = nn.Sequential(layers[0], nn.Identity(), layers[1]), nn.Sequential(
        convs[0], nn.Identity(), convs[1]
    )  # fmt: skip
    model.load_state_dict(old.state_dict())
    assert_same(model[0], old[0])
    assert_same(model[2], old[2])


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrizations(wrap):
    conv, layer = map(wrap, pair())
    conv.eval(), layer.eval()
    layer.load_state_dict(conv.state_dict())
    assert_same(layer, conv)
    copy.deepcopy(layer).load_state_dict(conv.state_dict())


@pytest.mark.parametrize("shape", [(6, 2, 4), (6, 1, 3), (5, 1, 4), (6, 1, 4, 1), (6,)])
def test_other_shapes_are_refused(shape):
    layer = CausalConv1d(6, 4, bias=False)
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        layer.load_state_dict({"weight": torch.zeros(shape)})
