"""Models that the package ``kernels`` of Hugging Face converts call our layers.

transformers accepts few versions of ``kernels``: the newest on PyPI is that of transformers 5.20 to
5.22. Runs in a process of its own, in which the models find no ``causal_conv1d``.
"""

import sys

import pytest
import torch

from causal_conv1d_mps import install
from causal_conv1d_mps.compat import hub

kernels = pytest.importorskip("kernels", minversion="0.17")
pytest.importorskip("transformers")
from transformers.utils import is_kernels_available  # noqa: E402

if not is_kernels_available():
    pytest.skip("this transformers wants another version of kernels", allow_module_level=True)
if any(name.startswith("transformers.models.lfm2") for name in sys.modules):
    pytest.skip("models have been imported with causal_conv1d", allow_module_level=True)
sys.modules["causal_conv1d"] = None
from kernels import Mode, kernelize, use_kernel_mapping  # noqa: E402
from models import (  # noqa: E402
    NAMES,
    NEW,
    Calls,
    assert_close,
    assert_same_gradients,
    build,
    code_of,
    conv_layers,
    generate,
    tokens,
    train,
)


@pytest.fixture(autouse=True)
def _own_mapping():
    with use_kernel_mapping({}, inherit_mapping=False):
        yield


@pytest.mark.parametrize("name", ["LFM2", "Mamba-2", "Qwen3.5"])
@pytest.mark.parametrize("way", ["kernelize", "use_kernels"])
def test_converted_model(name, way):
    model, ids = build(name), tokens()
    layers = len(conv_layers(model))
    with torch.no_grad(), Calls() as calls:
        expected, sequence = model(ids).logits, generate(model, ids)
    assert not calls.count
    _, gradients = train(model, ids)
    hub.register()
    model.eval()
    if way == "kernelize":
        kernelize(model, mode=Mode.INFERENCE, device="cpu")
    else:
        model.set_use_kernels(True)  # what from_pretrained(use_kernels=True) calls
    code = code_of(model)
    try:
        for function in NAMES:
            forward = getattr(code, function).forward.__func__
            assert forward is getattr(hub.layers, function).forward
        with torch.no_grad(), Calls() as calls:
            assert_close(model(ids).logits, expected, 1e-4)
            assert torch.equal(generate(model, ids), sequence)
        assert calls.count == {"forward": 2 * layers, "update": layers * (NEW - 1)}
        kernelize(model, mode=Mode.TRAINING | Mode.TORCH_COMPILE, device="cpu")
        with Calls() as calls:
            assert_same_gradients(train(model, ids)[1], gradients)
        assert calls.count["backward"] == layers
    finally:
        for function in NAMES:  # one for all models of the class
            del getattr(code, function).forward


def test_packed_sequences_reach_the_kernel():
    """seq_idx among a model's many keywords; without the layer transformers refuses it."""
    model = build("LFM2")
    seq_idx = torch.tensor([[0] * 4 + [1] * 5], dtype=torch.int32)
    ids = tokens(batch=1)
    arguments = {"seq_idx": seq_idx, "use_cache": False, "output_attentions": False}
    with pytest.raises(ValueError, match="packed sequences"):
        model(ids, **arguments)
    hub.register()
    kernelize(model, mode=Mode.INFERENCE, device="cpu")
    code = code_of(model)
    try:
        with torch.no_grad():
            packed = model(ids, **arguments).logits
            apart = model(ids[:, :4], use_cache=False).logits
        assert_close(packed[:, :4], apart, 1e-4)
    finally:
        for function in NAMES:
            del getattr(code, function).forward


def test_other_devices_keep_theirs():
    hub.register(devices=["mps"])
    model, ids = build("LFM2"), tokens()
    kernelize(model, mode=Mode.INFERENCE, device="cpu")
    with torch.no_grad(), Calls() as calls:
        model(ids)
    assert not calls.count


def test_repository_layout():
    """What `kernels` says about the repository, without a model."""
    kernel = kernels.get_local_kernel(hub.REPOSITORY)
    for name in NAMES:
        layer = getattr(kernel.layers, name)
        assert layer.can_torch_compile and layer.has_backward
        assert layer.__init__ is torch.nn.Module.__init__


def test_install_rebinds_kernel_functions():
    """With ``kernels`` a model's functions are layers: install() changes their class."""
    model, ids = build("LFM2-MoE"), tokens()
    code = code_of(model)
    before = {name: type(getattr(code, name)).forward for name in NAMES}
    with torch.no_grad():
        expected = model(ids).logits
    bound = install(force=True)
    try:
        assert {f"{code.__name__}.{name}" for name in NAMES} <= set(bound)
        with torch.no_grad(), Calls() as calls:
            assert_close(model(ids).logits, expected, 1e-4)
        assert calls.count == {"forward": 2}
        assert install() == []
    finally:
        for name, forward in before.items():
            type(getattr(code, name)).forward = forward
