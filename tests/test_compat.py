"""What is imported as ``causal_conv1d`` and ``causal_conv1d_cuda``: names, signatures, and the call
sites of mamba-ssm and fla, of all generations."""

import inspect
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from processes import IMPORTS, python

import causal_conv1d_mps
from causal_conv1d_mps import fallback
from causal_conv1d_mps.compat import causal_conv1d_cuda, causal_conv1d_varlen, cpp_functions
from causal_conv1d_mps.compat import causal_conv1d_interface as interface

pytestmark = pytest.mark.cpu_only
ROOT = Path(__file__).parent.parent


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
