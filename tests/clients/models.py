"""The models of transformers that have a causal convolution, small and random, and what the tests
do with them."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

NAMES = ("causal_conv1d_fn", "causal_conv1d_update")
PROMPT, NEW = 9, 6

COMMON = {"vocab_size": 64, "hidden_size": 32, "pad_token_id": 0, "bos_token_id": 1}
ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
MAMBA2 = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 16,
    "mamba_chunk_size": 8,
}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
HYBRID = {
    "num_hidden_layers": 3,
    "layer_types": ["linear_attention", "linear_attention", "full_attention"],
}

# The name in prose, transformers' model_type, configuration.
MODELS = {
    "Mamba": ("mamba", {"num_hidden_layers": 2, "state_size": 8}),
    "Mamba-2": (
        "mamba2",
        {
            "num_hidden_layers": 2,
            "state_size": 16,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 2,
            "chunk_size": 8,
        },
    ),
    "Falcon-Mamba": ("falcon_mamba", {"num_hidden_layers": 2, "state_size": 8}),
    "Jamba": (
        "jamba",
        {
            **ATTENTION,
            "num_hidden_layers": 3,
            "num_experts": 2,
            "attn_layer_period": 3,
            "attn_layer_offset": 2,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
        },
    ),
    "Bamba": ("bamba", {**ATTENTION, **MAMBA2, "num_hidden_layers": 3, "attn_layer_indices": [2]}),
    "Falcon-H1": (
        "falcon_h1",
        {**ATTENTION, **MAMBA2, "num_hidden_layers": 2, "mamba_d_ssm": 64, "head_dim": 8},
    ),
    "Granite-MoE-hybrid": (
        "granitemoehybrid",
        {**ATTENTION, **MAMBA2, **HYBRID, "num_local_experts": 4, "shared_intermediate_size": 16},
    ),
    "Nemotron-H": (
        "nemotron_h",
        {
            **ATTENTION,
            "layers_block_type": ["linear_attention", "full_attention", "linear_attention", "mlp"],
            "head_dim": 8,
            "ssm_state_size": 16,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "n_groups": 2,
            "chunk_size": 8,
        },
    ),
    "Zamba": (
        "zamba",
        {
            **ATTENTION,
            "num_hidden_layers": 4,
            "layers_block_type": ["linear_attention", "hybrid"] * 2,
            "attention_hidden_size": 64,
            "attention_head_dim": 16,
            "num_key_value_heads": 4,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
        },
    ),
    "Zamba2": (
        "zamba2",
        {
            **ATTENTION,
            "num_hidden_layers": 4,
            "layers_block_type": ["linear_attention", "hybrid"] * 2,
            "num_key_value_heads": 4,
            "mamba_d_state": 16,
            "n_mamba_heads": 8,
            "chunk_size": 8,
        },
    ),
    "Qwen3-Next": ("qwen3_next", {**ATTENTION, **DELTA, **EXPERTS, **HYBRID, "head_dim": 8}),
    "Qwen3.5": ("qwen3_5_text", {**ATTENTION, **DELTA, **HYBRID, "head_dim": 8}),
    "Kimi-Linear": (
        "kimi_linear",
        {
            **ATTENTION,
            **HYBRID,
            "num_experts": 4,
            "num_experts_per_token": 2,
            "moe_intermediate_size": 16,
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "linear_head_dim": 8,
            "linear_num_heads": 4,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "num_key_value_heads": 4,
        },
    ),
    "OLMo-hybrid": (
        "olmo_hybrid",
        {**ATTENTION, **DELTA, **HYBRID, "linear_num_value_heads": 2, "linear_value_head_dim": 16},
    ),
    "LFM2": (
        "lfm2",
        {**ATTENTION, "num_hidden_layers": 3, "layer_types": ["conv", "conv", "full_attention"]},
    ),
    "LFM2-MoE": (
        "lfm2_moe",
        {
            **ATTENTION,
            "num_hidden_layers": 3,
            "layer_types": ["conv", "conv", "full_attention"],
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "num_dense_layers": 1,
        },
    ),
    "LFM3": (
        "lfm3",
        {
            **ATTENTION,
            "num_hidden_layers": 3,
            "layer_types": ["conv", "conv", "full_attention"],
            "head_dim": 8,
        },
    ),
}


def build(name: str, gain: float = 4):
    """A random model in eval mode, the same for the same arguments.

    The usual initialisation (a gain of 1) is so small that all tokens look alike.
    """
    model_type, values = MODELS[name]
    config = AutoConfig.for_model(model_type, **{**COMMON, "eos_token_id": None, **values})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "A_log" not in parameter_name:
                parameter.mul_(gain)
    return model


def code_of(model):
    """The module that holds the model's functions."""
    return sys.modules[type(model).__module__]


class Calls(TorchDispatchMode):
    """Counts our operations, and the dtypes of x and weight that they met."""

    def __init__(self):
        super().__init__()
        self.count, self.dtypes = Counter(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "causal_conv1d_mps":
            kind = func._opname.split("_")[0]
            self.count[kind] += 1
            if kind != "backward":
                weight = args[2] if kind == "update" else args[1]
                self.dtypes.add((args[0].dtype, weight.dtype))
        return func(*args, **(kwargs or {}))


@contextmanager
def plain(model):
    """The model with transformers' own functions."""
    code = code_of(model)
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            patch.setattr(code, name, getattr(code, name).__wrapped__)
        yield


def conv_layers(model):
    return [m for m in model.modules() if hasattr(m, "conv1d") or hasattr(m, "conv_kernel_size")]


def tokens(batch=2, length=PROMPT):
    return torch.randint(3, 64, (batch, length), generator=torch.Generator().manual_seed(1))


def generate(model, ids, **arguments):
    return model.generate(ids, max_new_tokens=NEW, do_sample=False, **arguments)


def train(model, ids):
    """Loss and gradients of one step."""
    model.train().zero_grad()
    loss = model(ids, labels=ids, use_cache=False).loss
    loss.backward()
    return loss.detach(), {
        n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
    }


def assert_close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients.values()])


def assert_same_gradients(actual, expected, tolerance=1e-3):
    """Parameter by parameter, however small its gradient is beside the others'."""
    assert actual.keys() == expected.keys()
    floor = 1e-6 * flat(expected).norm()  # of those that are 0 but for rounding
    for name, gradient in expected.items():
        error = (actual[name] - gradient).norm()
        assert error <= tolerance * gradient.norm() + floor, f"{name}: {error / gradient.norm()}"
