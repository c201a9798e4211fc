"""The package that others import as ``causal_conv1d``, with the names of its version 1.7.0.

:func:`causal_conv1d_mps.install` registers it under that name in a running process; the
distribution ``causal-conv1d-mps-compat`` (compat/ of the sources) does so for a whole environment.
"""

from . import causal_conv1d_interface, causal_conv1d_varlen, cpp_functions  # noqa: F401
from .causal_conv1d_interface import causal_conv1d_fn, causal_conv1d_update

# Of the interface, since callers compare it: what serves says causal_conv1d_mps.__version__.
__version__ = "1.7.0"

__all__ = ["__version__", "causal_conv1d_fn", "causal_conv1d_update"]
