"""The import name ``causal_conv1d_cuda``. See ``causal_conv1d_mps.compat.causal_conv1d_cuda``."""

from causal_conv1d_mps.compat.causal_conv1d_cuda import *  # noqa: F403
