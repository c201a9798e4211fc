"""See ``causal_conv1d_mps.compat.causal_conv1d_interface``."""

from causal_conv1d_mps.compat.causal_conv1d_interface import *  # noqa: F403
