"""Prefill and decoding for servers with continuous batching: see ``compat/serving.py``."""

from .compat.serving import causal_conv1d_decode, causal_conv1d_prefill

__all__ = ["causal_conv1d_decode", "causal_conv1d_prefill"]
