"""The import name ``causal_conv1d`` for ``causal_conv1d_mps.compat``."""

from causal_conv1d_mps.compat import __version__, causal_conv1d_fn, causal_conv1d_update

from . import causal_conv1d_interface, causal_conv1d_varlen, cpp_functions  # noqa: F401

__all__ = ["__version__", "causal_conv1d_fn", "causal_conv1d_update"]
