"""``causal_conv1d.causal_conv1d_varlen``."""

from .._functions import causal_conv1d_varlen_states
from ..reference import causal_conv1d_varlen_states_ref

__all__ = ["causal_conv1d_varlen_states", "causal_conv1d_varlen_states_ref"]
