"""See ``causal_conv1d_mps.compat.causal_conv1d_varlen``."""

from causal_conv1d_mps.compat.causal_conv1d_varlen import *  # noqa: F403
