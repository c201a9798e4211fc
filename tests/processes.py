"""Code in a process of its own, which sees packages of a test's choice."""

import os
import subprocess
import sys
from pathlib import Path

import torch

# The imports of mamba-ssm 2.3 and fla 0.6, each block of which falls back as a whole.
IMPORTS = """
from causal_conv1d import causal_conv1d_fn, causal_conv1d_update, __version__
from causal_conv1d import causal_conv1d_fn as causal_conv1d_fn_cuda
from causal_conv1d.causal_conv1d_varlen import causal_conv1d_varlen_states
from causal_conv1d.causal_conv1d_varlen import causal_conv1d_varlen_states_ref
from causal_conv1d.cpp_functions import causal_conv1d_fwd_function, causal_conv1d_bwd_function, \\
    causal_conv1d_update_function
from causal_conv1d.causal_conv1d_interface import CausalConv1dFn, causal_conv1d_fn, \\
    causal_conv1d_ref, causal_conv1d_update, causal_conv1d_update_ref
import causal_conv1d.causal_conv1d_interface as interface
assert interface.causal_conv1d_fn is causal_conv1d_fn_cuda
assert __version__ == "1.7.0"
# Older ones: mamba-ssm up to 2.2, Vision Mamba, and what takes names from modules that had them.
import causal_conv1d_cuda, causal_conv1d
assert interface.causal_conv1d_bwd_function is causal_conv1d_bwd_function
assert interface.causal_conv1d_fwd_function is causal_conv1d_fwd_function
assert interface.causal_conv1d_update_function is causal_conv1d_update_function
for name in "fwd", "bwd", "update":
    name = f"causal_conv1d_{name}"
    assert getattr(causal_conv1d_cuda, name) is getattr(interface.causal_conv1d_cuda, name)
"""
# The modules as attributes, in a process that has imported the package alone.


def python(code, *path, check=True, **environment):
    """Runs code in a process of its own; the packages of ``path`` come first."""
    # -S keeps editable installs out, whose import hooks would come first.
    site = str(Path(torch.__file__).parent.parent)
    arguments = ["-S", "-c", f"import sys; sys.path[:0] = {[*map(str, path), site]!r}\n{code}"]
    environment = {**os.environ, **environment}
    result = subprocess.run(
        [sys.executable, *arguments], env=environment, text=True, capture_output=True
    )
    assert result.returncode == 0 or not check, result.stderr[-4000:]
    return result
