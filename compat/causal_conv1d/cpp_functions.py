"""See ``causal_conv1d_mps.compat.cpp_functions``."""

from causal_conv1d_mps.compat.cpp_functions import *  # noqa: F403
