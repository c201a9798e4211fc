"""The import name ``causal_conv1d`` for ``causal_conv1d_mps.compat``."""

from causal_conv1d_mps.compat import __version__, causal_conv1d_fn, causal_conv1d_update

__all__ = ["__version__", "causal_conv1d_fn", "causal_conv1d_update"]
