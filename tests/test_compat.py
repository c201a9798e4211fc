"""The import name ``causal_conv1d``: its modules, the call sites of mamba-ssm and fla, installing,
and plain PyTorch where the C library is missing."""

import base64
import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import causal_conv1d_mps
from causal_conv1d_mps import _library, fallback, functional
from causal_conv1d_mps.compat import causal_conv1d_cuda, causal_conv1d_varlen, cpp_functions
from causal_conv1d_mps.compat import causal_conv1d_interface as interface

pytestmark = pytest.mark.cpu_only
ROOT = Path(__file__).parent.parent
PACKAGE = Path(causal_conv1d_mps.__file__).parent


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


@pytest.fixture
def installed(tmp_path):
    """A copy of the package, and of its library."""
    # Other processes may write to __pycache__ meanwhile.
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "causal_conv1d_mps", ignore=ignored)
    shutil.copy(_library.library._name, tmp_path / "causal_conv1d_mps")
    return tmp_path


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
ATTRIBUTES = """
import causal_conv1d
causal_conv1d.causal_conv1d_interface.causal_conv1d_cuda.causal_conv1d_bwd
causal_conv1d.causal_conv1d_varlen.causal_conv1d_varlen_states
causal_conv1d.cpp_functions.causal_conv1d_update_function
"""


@pytest.mark.parametrize("way", ["install", "distribution"])
def test_imports_of_others(installed, way):
    for code in (IMPORTS, ATTRIBUTES):
        if way == "install":
            python("import causal_conv1d_mps; causal_conv1d_mps.install()" + code, installed)
        else:
            python(code, installed, ROOT / "compat")


def test_signatures_are_those_of_1_7_0():
    expected = {
        cpp_functions.causal_conv1d_fwd_function: "x weight bias seq_idx initial_states "
        "final_states_out silu_activation",
        cpp_functions.causal_conv1d_bwd_function: "x weight bias dout seq_idx initial_states "
        "dfinal_states dx return_dinitial_states silu_activation",
        cpp_functions.causal_conv1d_update_function: "x conv_state weight bias silu_activation "
        "cache_seqlens conv_state_indices",
        interface.CausalConv1dFn.apply: "x weight bias seq_idx initial_states "
        "return_final_states final_states_out activation",
        interface.causal_conv1d_ref: "x weight bias initial_states return_final_states "
        "final_states_out activation seq_idx",
        causal_conv1d_varlen.causal_conv1d_varlen_states: "x cu_seqlens state_len",
    }
    for function, names in expected.items():
        assert " ".join(inspect.signature(function).parameters) == names


def test_distribution_has_the_version_of_the_interface():
    version = re.search(r'version = "(.*)"', (ROOT / "compat/pyproject.toml").read_text())[1]
    assert version == causal_conv1d_mps.compat.__version__


# --- Call sites -------------------------------------------------------------------------------


def reference(x, weight, bias, activation="silu", **arguments):
    return causal_conv1d_mps.causal_conv1d_ref(x, weight, bias, activation=activation, **arguments)


def leaves(*tensors):
    return [t.detach().clone().requires_grad_() for t in tensors]


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_mamba_inner_function():
    """mamba-ssm's selective_scan_interface: x and dx are halves of xz and dxz, all by position."""
    xz, dxz = torch.randn(2, 24, 17), torch.full((2, 24, 17), 7.0)
    weight, bias, dout = torch.randn(12, 1, 4)[:, 0], torch.randn(12), torch.randn(2, 12, 17)
    x, _ = xz.chunk(2, dim=1)
    dx, dz = dxz.chunk(2, dim=1)
    out = cpp_functions.causal_conv1d_fwd_function(x, weight, bias, None, None, None, True)
    variables = leaves(x, weight, bias)
    expected = reference(*variables)
    close(out, expected.detach())
    found, dweight, dbias, *rest = cpp_functions.causal_conv1d_bwd_function(
        x, weight, bias, dout, None, None, None, dx, False, True
    )
    assert found.data_ptr() == dxz.data_ptr() and rest == [None]
    close([dx, dweight, dbias], list(torch.autograd.grad(expected, variables, dout)), 1e-4)
    assert (dz == 7).all()


def test_mamba_split_conv1d_scan():
    """mamba-ssm's ssd_combined: channels-last slices of zxbcdt and of its gradient, seq_idx."""
    zxbcdt, dzxbcdt = torch.randn(2, 17, 40), torch.full((2, 17, 40), 7.0)
    seq_idx = torch.tensor([0] * 5 + [1] * 12, dtype=torch.int32).expand(2, -1).contiguous()
    _, xbc, _ = torch.split(zxbcdt, [8, 24, 8], dim=-1)
    _, dxbc_given, _ = torch.split(dzxbcdt, [8, 24, 8], dim=-1)
    weight, bias, dout = torch.randn(24, 4), torch.randn(24), torch.randn(2, 17, 24)
    out = cpp_functions.causal_conv1d_fwd_function(
        xbc.transpose(1, 2), weight, bias, seq_idx, None, None, True
    )
    assert out.transpose(1, 2).is_contiguous()
    variables = leaves(xbc.transpose(1, 2), weight, bias)
    expected = reference(*variables, seq_idx=seq_idx)
    close(out, expected.detach())
    dx, dweight, dbias, *_ = cpp_functions.causal_conv1d_bwd_function(
        xbc.transpose(1, 2), weight, bias, dout.transpose(1, 2), seq_idx, None, None,
        dxbc_given.transpose(1, 2), False, True,
    )  # fmt: skip
    assert dx.transpose(1, 2).stride() == dxbc_given.stride()
    gradients = torch.autograd.grad(expected, variables, dout.transpose(1, 2))
    close([dx, dweight, dbias], list(gradients), 1e-4)
    close(dxbc_given.transpose(1, 2), gradients[0], 1e-4)
    assert (dzxbcdt[..., :8] == 7).all() and (dzxbcdt[..., 32:] == 7).all()


@pytest.mark.parametrize("initial", [False, True])
def test_backward_through_states(initial):
    """fla's autograd function, by keyword; and the gradient of states, given or zero."""
    x, weight, dout = torch.randn(2, 9, 6), torch.randn(6, 3), torch.randn(2, 9, 6)
    states, dfinal = torch.randn(2, 6, 2), torch.randn(2, 6, 2)
    given = states if initial else torch.zeros_like(states)
    variables = leaves(x.transpose(1, 2), weight, given)
    results = causal_conv1d_mps.causal_conv1d_ref(
        variables[0], variables[1], None, variables[2], True
    )
    expected = torch.autograd.grad(results, variables, (dout.transpose(1, 2), dfinal))
    expected_out, expected_final = (result.detach() for result in results)
    dx, dweight, dbias, dinitial = cpp_functions.causal_conv1d_bwd_function(
        x=x.transpose(1, 2), weight=weight, bias=None, dout=dout.transpose(1, 2), seq_idx=None,
        initial_states=states if initial else None, dfinal_states=dfinal, dx=None,
        return_dinitial_states=True, silu_activation=False,
    )  # fmt: skip
    assert dbias is None
    close((dx, dweight, dinitial), expected, 1e-4)
    final_out = torch.empty(2, 6, 2)
    out = cpp_functions.causal_conv1d_fwd_function(
        x.transpose(1, 2), weight, None, None, given, final_out, False
    )
    close((out, final_out), (expected_out, expected_final))


def test_errors_of_the_low_level_functions():
    x, weight = torch.randn(2, 6, 9), torch.randn(6, 3)
    with pytest.raises(ValueError, match="does not match"):
        cpp_functions.causal_conv1d_bwd_function(
            x, weight, None, x[:, :5], None, None, None, None, False, False
        )
    with pytest.raises(ValueError, match="does not match"):
        cpp_functions.causal_conv1d_fwd_function(x, weight[:5], None, None, None, None, False)


def test_mamba2_layer():
    """mamba-ssm's Mamba2: prefill with bias by keyword, 2-D steps on a state of W columns."""
    conv = torch.nn.Conv1d(24, 24, 4, groups=24, padding=3)
    weight = conv.weight[:, 0]
    xbc = torch.randn(2, 9, 24)
    state = torch.zeros(2, 24, 4)
    state.copy_(F.pad(xbc.transpose(1, 2), (4 - 9, 0)))
    out = interface.causal_conv1d_fn(
        xbc.transpose(1, 2), weight, bias=conv.bias, activation="silu", seq_idx=None
    ).transpose(1, 2)
    close(out, F.silu(conv(xbc.transpose(1, 2))[..., :9]).transpose(1, 2))
    with torch.no_grad():
        steps = torch.randn(3, 2, 24)
        for x in steps:
            y = interface.causal_conv1d_update(x, state, weight, conv.bias, "silu")
            assert y.shape == (2, 24)
        everything = torch.cat([xbc, steps.transpose(0, 1)], dim=1).transpose(1, 2)
        close(y, F.silu(conv(everything)[..., 11]))
        close(state, everything[..., -4:])


def test_mamba_update_function():
    x, state = torch.randn(2, 6, 1), torch.randn(2, 6, 4)
    weight, expected = torch.randn(6, 4), state.clone()
    out = cpp_functions.causal_conv1d_update_function(x, state, weight, None, True, None, None)
    close(out, causal_conv1d_mps.causal_conv1d_update_ref(x, expected, weight, None, "silu"))
    close(state, expected)


def test_mamba2_varlen_states():
    """mamba-ssm's variable-length prefill: state_len by keyword, copied into the cache."""
    xbc = torch.randn(1, 11, 24)
    cu_seqlens = torch.tensor([0, 2, 2, 11], dtype=torch.int32)
    states = causal_conv1d_varlen.causal_conv1d_varlen_states(
        xbc.squeeze(0), cu_seqlens, state_len=4
    )
    expected = torch.zeros(3, 24, 4)
    expected[0, :, 2:] = xbc[0, :2].T
    expected[2] = xbc[0, 7:].T
    assert torch.equal(states, expected)


def test_attention_with_convolution():
    """mamba-ssm's MHA: three positional arguments, no activation."""
    conv = torch.nn.Conv1d(24, 24, 3, groups=24, padding=2)
    qkv = torch.randn(2, 9, 24)
    out = interface.causal_conv1d_fn(qkv.transpose(1, 2), conv.weight[:, 0], conv.bias)
    close(out, conv(qkv.transpose(1, 2))[..., :9])
    state = qkv.transpose(1, 2)[..., -3:].clone()
    x = torch.randn(2, 24)
    with torch.no_grad():
        y = interface.causal_conv1d_update(x, state, conv.weight[:, 0], conv.bias)
    close(y, conv(torch.cat([qkv, x[:, None]], dim=1).transpose(1, 2))[..., 9])


def test_short_convolution_of_fla():
    """fla's ShortConvolution: all by keyword; a residual is added to the result in place."""
    x, residual = torch.randn(1, 11, 24, requires_grad=True), torch.randn(1, 11, 24)
    weight, seq_idx = torch.randn(24, 4), torch.tensor([[0] * 4 + [1] * 7], dtype=torch.int32)
    y = interface.causal_conv1d_fn(
        x=x.transpose(1, 2), weight=weight, bias=None, seq_idx=seq_idx, initial_states=None,
        return_final_states=False, activation="swish",
    ).transpose(1, 2)  # fmt: skip
    y.add_(residual)
    y.sum().backward()
    pieces = [reference(p.transpose(1, 2), weight, None) for p in x.detach().split([4, 7], 1)]
    close(y, torch.cat(pieces, dim=2).transpose(1, 2) + residual)
    assert x.grad is not None
    # Its step: (N, D) of packed tokens, then a view of the input's shape and an in-place sum.
    packed, cache = torch.randn(1, 3, 24), torch.randn(3, 24, 4)
    before = cache.clone()
    y = interface.causal_conv1d_update(
        x=packed.squeeze(0), conv_state=cache, weight=weight, bias=None, activation="swish"
    )
    expected = F.silu((torch.cat([before, packed[0, :, :, None]], 2)[..., 1:] * weight).sum(2))
    close(y.view(1, 3, 24).add_(0), expected[None])


def test_context_parallel_convolution_of_fla():
    """fla's CUDA context parallelism: seq_idx beside transposed initial states."""
    x, heads = torch.randn(1, 11, 24), torch.randn(1, 3, 24)
    weight, seq_idx = torch.randn(24, 4), torch.tensor([[0] * 2 + [1] * 9], dtype=torch.int32)
    y = interface.causal_conv1d_fn(
        x=x.transpose(1, 2), weight=weight, bias=None, seq_idx=seq_idx,
        initial_states=heads.transpose(1, 2), activation=None,
    )  # fmt: skip
    first = reference(torch.cat([heads, x[:, :2]], 1).transpose(1, 2), weight, None, None)
    second = reference(x[:, 2:].transpose(1, 2), weight, None, None)
    close(y, torch.cat([first[..., 3:], second], dim=2))


# --- Older clients ----------------------------------------------------------------------------

# What causal_conv1d_cuda took after (x, weight, bias) and (x, weight, bias, dout), by version.
GENERATIONS = {
    "1.0": (lambda seq_idx: [True], lambda seq_idx, dx: [dx, True]),
    "1.1": (lambda seq_idx: [seq_idx, True], lambda seq_idx, dx: [seq_idx, dx, True]),
    "1.2": (
        lambda seq_idx: [seq_idx, None, None, True],
        lambda seq_idx, dx: [seq_idx, None, None, dx, False, True],
    ),
}


def inner_function(generation):
    """mamba-ssm's MambaInnerFn as it calls the convolution: x and dx are halves of xz and dxz, the
    output is computed anew in the backward, whose gradient lies with the time second."""
    forward_arguments, backward_arguments = GENERATIONS[generation]

    class Inner(torch.autograd.Function):
        @staticmethod
        def forward(ctx, xz, weight, bias, seq_idx):
            x, z = xz.chunk(2, dim=1)
            ctx.save_for_backward(xz, weight, bias, seq_idx)
            arguments = forward_arguments(seq_idx)
            return z * causal_conv1d_cuda.causal_conv1d_fwd(x, weight, bias, *arguments)

        @staticmethod
        def backward(ctx, dout):
            xz, weight, bias, seq_idx = ctx.saved_tensors
            x, z = xz.chunk(2, dim=1)
            out = causal_conv1d_cuda.causal_conv1d_fwd(x, weight, bias, *forward_arguments(seq_idx))
            dxz = torch.empty_like(xz)
            dx, dz = dxz.chunk(2, dim=1)
            dz.copy_(out * dout)
            dconv = torch.empty(x.shape[1], x.shape[0], x.shape[2]).transpose(0, 1)
            dconv.copy_(z * dout)
            results = causal_conv1d_cuda.causal_conv1d_bwd(
                x, weight, bias, dconv, *backward_arguments(seq_idx, dx)
            )
            assert len(results) == (4 if generation == "1.2" else 3)
            assert results[0].data_ptr() == dxz.data_ptr()
            return dxz, results[1], results[2], None

    return Inner.apply


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    ("generation", "has_seq_idx"),
    [("1.0", False), ("1.1", False), ("1.1", True), ("1.2", False), ("1.2", True)],
)
def test_inner_function_of_each_generation(generation, has_seq_idx, has_bias):
    seq_idx = None
    if has_seq_idx:
        seq_idx = torch.tensor([[0] * 5 + [1] * 12] * 2, dtype=torch.int32)
    variables = leaves(torch.randn(2, 24, 17), torch.randn(12, 4), torch.randn(12))
    xz, weight, bias = variables
    bias = bias if has_bias else None
    variables = variables[: 2 + has_bias]
    out = inner_function(generation)(xz, weight, bias, seq_idx)
    x, z = xz.chunk(2, dim=1)
    expected = z * reference(x, weight, bias, seq_idx=seq_idx)
    close(out, expected)
    dout = torch.randn_like(out)
    actual = torch.autograd.grad(out, variables, dout)
    close(actual, torch.autograd.grad(expected, variables, dout), 1e-4)


def test_states_of_the_last_generation():
    """1.2 to 1.5.0: initial states, final states written, and their gradients."""
    x, weight, bias = torch.randn(2, 6, 9), torch.randn(6, 3), torch.randn(6)
    states, final_out = torch.randn(2, 6, 2), torch.empty(2, 6, 2)
    variables = leaves(x, weight, bias, states)
    results = causal_conv1d_mps.causal_conv1d_ref(*variables, True)
    out = causal_conv1d_cuda.causal_conv1d_fwd(x, weight, bias, None, states, final_out, False)
    close((out, final_out), tuple(r.detach() for r in results))
    dout, dfinal = torch.randn_like(out), torch.randn_like(final_out)
    found = causal_conv1d_cuda.causal_conv1d_bwd(
        x, weight, bias, dout, None, states, dfinal, None, True, False
    )
    close(found, torch.autograd.grad(results, variables, (dout, dfinal)), 1e-4)


@pytest.mark.parametrize("others", [0, 1, 2])
def test_update_of_each_generation(others):
    """cache_seqlens came with 1.4, conv_state_indices with 1.5."""
    x, weight, bias = torch.randn(2, 6, 1), torch.randn(6, 4), torch.randn(6)
    state, cache_seqlens = torch.randn(3, 6, 4), torch.tensor([3, 8], dtype=torch.int32)
    indices = torch.tensor([2, 0], dtype=torch.int32)
    if others < 2:
        state = state[:2].clone()
    given, expected = [cache_seqlens, indices][:others], state.clone()
    out = causal_conv1d_cuda.causal_conv1d_update(x, state, weight, bias, True, *given)
    close(
        out,
        causal_conv1d_mps.causal_conv1d_update_ref(x, expected, weight, bias, "silu", *given),
    )
    close(state, expected)


def test_errors_of_the_extension_module():
    x, weight = torch.randn(2, 6, 9), torch.randn(6, 3)
    fwd, bwd = causal_conv1d_cuda.causal_conv1d_fwd, causal_conv1d_cuda.causal_conv1d_bwd
    for count in (0, 3, 5):
        with pytest.raises(TypeError, match=f"Expected 4, 5 or 7 arguments, got {3 + count}"):
            fwd(x, weight, None, *[None] * count)
    for count in (0, 1, 4, 5, 7):
        with pytest.raises(TypeError, match=f"Expected 6, 7 or 10 arguments, got {4 + count}"):
            bwd(x, weight, None, x, *[None] * count)
    state = torch.zeros(2, 6, 3)
    for silu in ("relu", None, x):  # never taken for True
        message = f"Expected silu_activation, a bool, got {type(silu).__name__}"
        with pytest.raises(TypeError, match=message):
            fwd(x, weight, None, silu)
        with pytest.raises(TypeError, match=message):
            bwd(x, weight, None, x, None, silu)
        with pytest.raises(TypeError, match=message):
            causal_conv1d_cuda.causal_conv1d_update(x, state, weight, None, silu)
    assert (state == 0).all()
    dx = torch.full((2, 6, 8), 7.0)
    with pytest.raises(ValueError, match=r"dx .* does not match"):
        bwd(x, weight, None, x, dx, True)
    assert (dx == 7).all()


@pytest.mark.parametrize("activation", ["silu", "swish"])
@pytest.mark.parametrize(
    "function",
    [
        causal_conv1d_mps.causal_conv1d_fn,
        interface.CausalConv1dFn.apply,
        fallback.causal_conv1d_fn,
        torch.compile(causal_conv1d_mps.causal_conv1d_fn, fullgraph=True, backend="aot_eager"),
    ],
    ids=["function", "apply", "fallback", "compiled"],
)
def test_activation_by_position(function, activation):
    """(x, weight, bias, activation) of 1.0, (x, weight, bias, seq_idx, activation) of 1.1."""
    variables = leaves(torch.randn(2, 6, 9), torch.randn(6, 3), torch.randn(6))
    seq_idx = torch.tensor([[0] * 4 + [1] * 5] * 2, dtype=torch.int32)
    for given in ([activation], [None, activation], [seq_idx, activation]):
        out = function(*variables, *given)
        ids = given[0] if len(given) == 2 else None
        expected = reference(*variables, seq_idx=ids)
        close(out, expected)
        dout = torch.randn_like(out)
        actual = torch.autograd.grad(out, variables, dout)
        close(actual, torch.autograd.grad(expected, variables, dout), 1e-4)
    close(function(*variables, None), reference(*variables, activation=None))


@pytest.mark.parametrize(
    "function",
    [
        causal_conv1d_mps.causal_conv1d_fn,
        fallback.causal_conv1d_fn,
        causal_conv1d_mps.causal_conv1d_ref,
    ],
)
def test_wrong_activation_by_position(function):
    x, weight, bias = torch.randn(2, 6, 9), torch.randn(6, 3), torch.randn(6)
    close(function(x, weight, bias, "silu"), reference(x, weight, bias))
    with pytest.raises(NotImplementedError, match="activation must be None, silu, or swish"):
        function(x, weight, bias, "relu")
    with pytest.raises(TypeError, match="activation is given twice: 'silu' by position, and"):
        function(x, weight, bias, "silu", activation="silu")


# --- Installing -------------------------------------------------------------------------------

OTHER = """
__version__ = "1.6.1"
def causal_conv1d_fn(): ...
"""


@pytest.fixture
def other(tmp_path):
    """Another package of the name."""
    (tmp_path / "other/causal_conv1d").mkdir(parents=True)
    (tmp_path / "other/causal_conv1d/__init__.py").write_text(OTHER)
    return tmp_path / "other"


def test_refuses_to_shadow(installed, other):
    code = (
        "import causal_conv1d_mps as c\nc.install({})\nimport causal_conv1d as m\nprint(m.__name__)"
    )
    refused = python(code.format(""), installed, other, check=False)
    assert refused.returncode == 1
    assert re.search(
        r"RuntimeError: causal_conv1d 1\.6\.1 of .*other.* is another package\. "
        r"install\(force=True\) puts causal-conv1d-mps in its place",
        refused.stderr,
    )
    forced = python(code.format("force=True"), installed, other)
    assert forced.stdout.split() == ["causal_conv1d_mps.compat"]


def test_refuses_where_the_other_is_broken(installed, other):
    (other / "causal_conv1d/__init__.py").write_text("raise OSError('libcudart.so.12: missing')")
    code = "import causal_conv1d_mps; print(causal_conv1d_mps.compat.install.obstacle())"
    assert (
        "fails to import (OSError('libcudart.so.12: missing'))"
        in python(code, installed, other).stdout
    )


def test_refuses_to_shadow_the_extension_module(installed, other):
    shutil.rmtree(other / "causal_conv1d")
    (other / "causal_conv1d_cuda.py").write_text("def causal_conv1d_fwd(): ...\n")
    (other / "client.py").write_text("import causal_conv1d_cuda\n")
    code = (
        "import client, causal_conv1d_mps as c\nc.install({})\n"
        "import causal_conv1d_cuda as m\nprint(m.__name__, client.causal_conv1d_cuda is m)"
    )
    refused = python(code.format(""), installed, other, check=False)
    assert refused.returncode == 1
    assert re.search(r"causal_conv1d_cuda .*other.* is another package", refused.stderr)
    forced = python(code.format("force=True"), installed, other)
    assert forced.stdout.split() == ["causal_conv1d_mps.compat.causal_conv1d_cuda", "True"]


# --- The version of causal-conv1d -------------------------------------------------------------

ANSWERS = """
import importlib.metadata as metadata, sys
import causal_conv1d_mps as c
names = "causal-conv1d", "causal_conv1d", "Causal.Conv1D"
def versions():
    found = []
    for name in names:
        try:
            found.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            found.append(None)
    return found
before, finders = versions(), len(sys.meta_path)
c.install(force=FORCE)
c.install(force=FORCE)
assert len(sys.meta_path) == finders + 1
assert versions() == ["1.7.0"] * 3
assert metadata.requires("causal-conv1d") is None and not metadata.files("causal-conv1d")
assert metadata.metadata("causal-conv1d")["Name"] == "causal-conv1d"
found = metadata.packages_distributions()
assert "causal-conv1d" in found["causal_conv1d"] and "causal-conv1d" in found["causal_conv1d_cuda"]
assert not list(metadata.distributions(path=["/nowhere"]))
try:
    metadata.version("causal-conv1d-other")
except metadata.PackageNotFoundError:
    print(before)
"""


def test_version_after_install(installed, other):
    assert python("FORCE = False" + ANSWERS, installed).stdout.strip() == "[None, None, None]"
    # install(force=True) takes the place of another package's metadata as well.
    (other / "causal_conv1d-1.6.1.dist-info").mkdir()
    (other / "causal_conv1d-1.6.1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: causal-conv1d\nVersion: 1.6.1\n"
    )
    forced = python("FORCE = True" + ANSWERS, installed, other)
    assert forced.stdout.strip() == str(["1.6.1"] * 3)


def test_version_of_the_distribution(installed, tmp_path):
    """The wheel of compat/ holds metadata of causal-conv1d that no installer removes alone."""
    pytest.importorskip("scikit_build_core")
    shutil.copytree(ROOT / "compat", tmp_path / "sources")
    build = "import build_backend, sys; print(build_backend.build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=tmp_path / "sources", check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert not list(tmp_path.glob("*.tmp"))
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        (record,) = (name for name in archive.namelist() if name.endswith("/RECORD"))
        rows = [line.split(",") for line in archive.read(record).decode().splitlines()]
        assert sorted(row[0] for row in rows) == sorted(archive.namelist())
        for name, digest, size in rows:
            if name != record:
                content = archive.read(name)
                found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
                assert (digest, size) == ("sha256=" + found.rstrip("="), str(len(content)))
    target = tmp_path / "target"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--target", str(target), str(wheel)], check=True,
    )  # fmt: skip
    code = (
        "import importlib.metadata as m\n"
        "own, ours = m.distribution('causal-conv1d'), m.distribution('causal-conv1d-mps-compat')\n"
        "print(own.version, own.read_text('INSTALLER'), own.read_text('RECORD'), ours.version)\n"
        "print(any('causal_conv1d-1.7.0.dist-info/METADATA' in str(f) for f in ours.files))"
    )
    expected = "1.7.0 causal-conv1d-mps-compat None 1.7.0 True"
    assert python(code, installed, target).stdout.split() == expected.split()
    python(IMPORTS, installed, target)


def test_rebinds_what_found_nothing(installed, tmp_path):
    """mamba-ssm's and fla's modules that were imported first and hold None."""
    (tmp_path / "layer.py").write_text(
        "try:\n"
        "    from causal_conv1d import causal_conv1d_fn, causal_conv1d_update\n"
        "    from causal_conv1d.cpp_functions import causal_conv1d_bwd_function\n"
        "except ImportError:\n"
        "    causal_conv1d_fn = causal_conv1d_update = causal_conv1d_bwd_function = None\n"
        "causal_conv1d_fn_cuda = causal_conv1d_cuda = None\n"
        "causal_conv1d_varlen_states = 'its own'\n"
    )
    code = (
        "import layer, causal_conv1d_mps as c\n"
        "assert layer.causal_conv1d_fn is None\n"
        "print(sorted(c.install()), c.install())\n"
        "assert layer.causal_conv1d_fn is layer.causal_conv1d_fn_cuda is c.causal_conv1d_fn\n"
        "assert layer.causal_conv1d_cuda is sys.modules['causal_conv1d_cuda']\n"
        "assert layer.causal_conv1d_varlen_states == 'its own'\n"
    )
    names = ["bwd_function", "cuda", "fn", "fn_cuda", "update"]
    expected = [f"layer.causal_conv1d_{name}" for name in names]
    assert python(code, installed, tmp_path).stdout.strip() == f"{expected} []"


RUN_MODULE = (
    "import runpy\nsys.argv = ['causal_conv1d_mps', *{!r}]\n"
    "runpy.run_module('causal_conv1d_mps', run_name='__main__', alter_sys=True)"
)


def test_command_line(installed, other, tmp_path):
    check = RUN_MODULE.format(["install", "--check"])
    free = python(check, installed, check=False)  # a plain script would find nothing
    assert free.returncode == 1 and "library: loaded" in free.stdout
    assert "causal_conv1d: no package has this name" in free.stdout
    for words, error in (([], "got none"), (["nofile.py"], "nofile.py, which is no file")):
        bad = python(RUN_MODULE.format(["install", *words]), installed, check=False)
        assert bad.returncode == 2 and error in bad.stderr and not bad.stdout
    compat = python(check, installed, ROOT / "compat")
    assert re.search(r"causal_conv1d: this package, by .*compat", compat.stdout)
    taken = python(check, installed, other, check=False)
    assert taken.returncode == 1 and "is another package" in taken.stdout

    (tmp_path / "beside.py").write_text("value = 3\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, beside, causal_conv1d\nprint(causal_conv1d.__name__, sys.argv[1:], __name__)\n"
    )
    run = ["install", str(script), "--lr", "1"]
    assert python(RUN_MODULE.format(run), installed).stdout.strip() == (
        "causal_conv1d_mps.compat ['--lr', '1'] __main__"
    )
    refused = python(RUN_MODULE.format(run), installed, other, check=False)
    assert refused.returncode == 1 and "is another package" in refused.stderr
    run.insert(1, "--force")
    assert "causal_conv1d_mps.compat" in python(RUN_MODULE.format(run), installed, other).stdout


# --- Without the library ----------------------------------------------------------------------

USE = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import causal_conv1d, causal_conv1d.cpp_functions, causal_conv1d.causal_conv1d_varlen
    import causal_conv1d_mps
    causal_conv1d_mps.install()
print([str(w.message) for w in caught if "plain PyTorch" in str(w.message)])
import torch
x, weight = torch.ones(1, 2, 3, requires_grad=True), torch.ones(2, 2)
out = causal_conv1d.causal_conv1d_fn(x, weight)
out.sum().backward()
state = torch.ones(1, 2, 2)
y = causal_conv1d.causal_conv1d_update(2 * torch.ones(1, 2), state, weight)
dx, *_ = causal_conv1d.cpp_functions.causal_conv1d_bwd_function(
    x, weight, None, out, None, None, None, None, False, False)
layer = causal_conv1d_mps.CausalConv1d(2, 3)
layer.step(y.detach())
print(out[0, 0].tolist(), x.grad[0, 0].tolist(), y[0].tolist(), state[0, 0].tolist(),
      dx[0, 0].tolist(), causal_conv1d_mps.native_error is None)
import sys
from causal_conv1d_mps.__main__ import main
sys.argv[1:] = ["install", "--check"]
print("exit status", main())
"""
RESULTS = "[1.0, 2.0, 2.0] [2.0, 2.0, 1.0] [3.0, 3.0] [1.0, 2.0] [3.0, 4.0, 2.0] {}"


@pytest.mark.parametrize("harm", [None, "deleted", "cut", "text", "other library"])
def test_without_the_library(installed, tmp_path, harm):
    library = installed / "causal_conv1d_mps" / _library._LIBRARY
    if harm == "deleted":
        library.unlink()
    elif harm == "cut":
        library.write_bytes(library.read_bytes()[:50])
    elif harm == "text":
        library.write_text("not a library")
    elif harm == "other library":  # loads, but has none of the functions
        (tmp_path / "empty.c").write_text("int nothing;\n")
        subprocess.run(
            ["cc", "-shared", "-fPIC", str(tmp_path / "empty.c"), "-o", str(library)], check=True
        )
    warned, results, *check = python(USE, installed, ROOT / "compat").stdout.splitlines()
    assert results == RESULTS.format(harm is None)
    messages = eval(warned)
    assert len(messages) == (harm is not None), "one warning"
    assert all(_library._LIBRARY in message for message in messages)
    assert check[-1] == f"exit status {int(harm is not None)}"
    assert any("library: not loaded" in line for line in check) == (harm is not None)


@pytest.mark.parametrize("name", [n for n in vars(functional) if n.lower().startswith("causal")])
def test_plain_functions_have_the_same_parameters(name):
    ours, plain = getattr(functional, name), getattr(fallback, name)
    if inspect.isclass(ours):
        ours, plain = ours.apply, plain.apply
    assert inspect.signature(ours) == inspect.signature(plain)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_plain_functions_give_the_same(activation, dtype):
    x, weight = torch.randn(2, 5, 7, dtype=dtype), torch.randn(5, 4)
    bias, states = torch.randn(5), torch.randn(2, 5, 3, dtype=dtype)
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)

    def everything(functions):
        pool, other = torch.ones(4, 5, 6, dtype=dtype), torch.ones(2, 5, 4, dtype=dtype)
        indices = torch.tensor([2, -1])
        cu_seqlens = torch.tensor([0, 3, 3, 7])
        return [
            functions.causal_conv1d(x, weight, bias, activation),
            functions.causal_conv1d_fwd(x, weight, None, activation is not None),
            functions.causal_conv1d_fn(
                x, weight, bias, None, states, True, None, activation=activation
            ),
            functions.causal_conv1d_fn(
                x, weight, seq_idx=torch.tensor([[0, 0, 1, 1, -1, 2, 2]] * 2)
            ),
            functions.causal_conv1d_varlen_fn(
                x[:1], weight, bias, cu_seqlens, None, True, activation
            ),
            functions.causal_conv1d_varlen_states(x[0].T, cu_seqlens, 2),
            functions.causal_conv1d_update(x, other, weight, bias, activation),
            functions.causal_conv1d_update(x[..., 0], other, weight, bias, activation),
            functions.causal_conv1d_update(x, pool, weight, bias, activation, None, indices),
            functions.causal_conv1d_update(
                x, pool[:2], weight, bias, activation, torch.tensor([3, 8])
            ),
            functions.CausalConv1dMPSFunction.apply(x, weight, bias, None, None, False, None, True),
            pool,
            other,
        ]

    close(everything(fallback), everything(functional), tolerance)
