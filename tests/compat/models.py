"""The models of transformers that have a causal convolution, small and random."""

from __future__ import annotations

import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM

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
HYBRID = {"num_hidden_layers": 3, "layer_types": ["linear_attention", "linear_attention", "full_attention"]}

# The name in prose, transformers' model_type, configuration.
MODELS = {
    "Mamba": ("mamba", {"num_hidden_layers": 2, "state_size": 8}),
    "Mamba-2": (
        "mamba2",
        {"num_hidden_layers": 2, "state_size": 16, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8},
    ),
    "Falcon-Mamba": ("falcon_mamba", {"num_hidden_layers": 2, "state_size": 8}),
    "Jamba": (
        "jamba",
        {**ATTENTION, "num_hidden_layers": 3, "num_experts": 2, "attn_layer_period": 3, "attn_layer_offset": 2,
         "mamba_d_state": 8, "mamba_dt_rank": 4},
    ),
    "Bamba": ("bamba", {**ATTENTION, **MAMBA2, "num_hidden_layers": 3, "attn_layer_indices": [2]}),
    "Falcon-H1": ("falcon_h1", {**ATTENTION, **MAMBA2, "num_hidden_layers": 2, "mamba_d_ssm": 64, "head_dim": 8}),
    "Granite-MoE-hybrid": (
        "granitemoehybrid",
        {**ATTENTION, **MAMBA2, **HYBRID, "num_local_experts": 4, "shared_intermediate_size": 16},
    ),
    "Nemotron-H": (
        "nemotron_h",
        {**ATTENTION, "layers_block_type": ["linear_attention", "full_attention", "linear_attention", "mlp"],
         "head_dim": 8, "ssm_state_size": 16, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 2,
         "chunk_size": 8},
    ),
    "Zamba": (
        "zamba",
        {**ATTENTION, "num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2,
         "attention_hidden_size": 64, "attention_head_dim": 16, "num_key_value_heads": 4,
         "mamba_d_state": 8, "mamba_dt_rank": 4},
    ),
    "Zamba2": (
        "zamba2",
        {**ATTENTION, "num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2,
         "num_key_value_heads": 4, "mamba_d_state": 16, "n_mamba_heads": 8, "chunk_size": 8},
    ),
    "Qwen3-Next": ("qwen3_next", {**ATTENTION, **DELTA, **EXPERTS, **HYBRID, "head_dim": 8}),
    "Qwen3.5": ("qwen3_5_text", {**ATTENTION, **DELTA, **HYBRID, "head_dim": 8}),
    "Kimi-Linear": (
        "kimi_linear",
        {**ATTENTION, **HYBRID, "num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 16,
         "mlp_layer_types": ["dense", "sparse", "sparse"], "linear_head_dim": 8, "linear_num_heads": 4,
         "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
         "num_key_value_heads": 4},
    ),
    "OLMo-hybrid": (
        "olmo_hybrid",
        {**ATTENTION, **DELTA, **HYBRID, "linear_num_value_heads": 2, "linear_value_head_dim": 16},
    ),
    "LFM2": ("lfm2", {**ATTENTION, "num_hidden_layers": 3, "layer_types": ["conv", "conv", "full_attention"]}),
    "LFM2-MoE": (
        "lfm2_moe",
        {**ATTENTION, "num_hidden_layers": 3, "layer_types": ["conv", "conv", "full_attention"],
         "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_dense_layers": 1},
    ),
    "LFM3": (
        "lfm3",
        {**ATTENTION, "num_hidden_layers": 3, "layer_types": ["conv", "conv", "full_attention"], "head_dim": 8},
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
