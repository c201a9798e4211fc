"""What ``kernels`` loads from this repository."""

from causal_conv1d_mps.compat.hub import layers

__all__ = ["layers"]
