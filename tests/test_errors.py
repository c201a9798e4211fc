"""Bad input: the exception, its text, and nothing leaked."""

import gc
import resource

import pytest

import torch
from causal_conv1d_mps import (
    CausalConv1d,
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_fwd,
    causal_conv1d_ref,
)

X, W, B = torch.randn(2, 4, 8), torch.randn(4, 3), torch.randn(4)

BAD = {
    "x 2D": ((X[0], W, B), "Expected 3D input tensor x .*got 2D"),
    "x 4D": ((X[None], W, B), "Expected 3D input tensor x .*got 4D"),
    "x 0D": ((X[0, 0, 0], W, B), "Expected 3D input tensor x .*got 0D"),
    "weight 1D": ((X, W[0], B), "Expected 2D tensor weight .*got 1D"),
    "weight 3D": ((X, W[:, None], B), "Expected 2D tensor weight .*got 3D"),
    "weight dim": ((X, W[:3], B), r"weight \(dim, width\) with dim 3 does not match .*dim 4"),
    "width 0": ((X, W[:, :0], B), "width >= 1, got 0"),
    "bias 2D": ((X, W, W), "Expected 1D tensor bias .*got 2D"),
    "bias dim": ((X, W, B[:2]), r"bias \(dim\) with dim 2 does not match .*dim 4"),
    "x int": ((X.int(), W, B), "Expected x of dtype .*float64"),
    "x complex": ((X.to(torch.complex64), W, B), "Expected x of dtype"),
    "weight int": ((X, W.long(), B), "Expected weight of dtype"),
    "bias bool": ((X, W, B > 0), "Expected bias of dtype"),
    "weight elsewhere": ((X, W.to("meta"), B), "Expected weight on the device of x"),
    "bias elsewhere": ((X, W, B.to("meta")), "Expected bias on the device of x"),
}


@pytest.mark.parametrize("needs_grad", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_value_errors(case, needs_grad):
    (x, weight, bias), text = BAD[case]
    if needs_grad and not x.is_floating_point():
        pytest.skip("an integer tensor has no gradient")
    x = x.clone().requires_grad_(needs_grad)
    with pytest.raises(ValueError, match=text):
        causal_conv1d(x, weight, bias)
    with pytest.raises(ValueError, match=text):
        causal_conv1d_fn(x, weight, bias=bias, activation="silu")


@pytest.mark.parametrize("name", ["relu", "SiLU", "", True, 1])
def test_activation(name):
    message = "activation must be None, silu, or swish"
    for call in (causal_conv1d, causal_conv1d_ref):
        with pytest.raises(NotImplementedError, match=message):
            call(X, W, B, activation=name)
    with pytest.raises(NotImplementedError, match=message):
        causal_conv1d_fn(X, W, B, activation=name)
    with pytest.raises(NotImplementedError, match=message):
        CausalConv1d(4, 3, activation=name)


@pytest.mark.parametrize(
    "argument",
    [
        {"seq_idx": torch.zeros(2, 8, dtype=torch.int32)},
        {"initial_states": X[:, :, :2]},
        {"return_final_states": True},
        {"final_states_out": X[:, :, :2]},
    ],
    ids=lambda argument: next(iter(argument)),
)
def test_arguments_of_later_versions(argument):
    with pytest.raises(NotImplementedError, match=f"{next(iter(argument))} is not implemented"):
        causal_conv1d_fn(X, W, B, **argument)


def test_sizes_that_overflow():
    huge = torch.zeros(1).expand(2**20, 2**20, 2**20)
    with pytest.raises(ValueError, match="overflow"):
        causal_conv1d(huge, torch.zeros(1).expand(2**20, 3))


def test_module_sizes():
    with pytest.raises(ValueError, match="width >= 1"):
        CausalConv1d(4, 0)


def test_low_level_forward():
    with pytest.raises(ValueError, match="Expected 3D input tensor"):
        causal_conv1d_fwd(X[0], W)


def test_backward_of_a_bad_dout():
    op = torch.ops.causal_conv1d_mps.backward
    for dout, text in (
        (X[:, :, 1:], "Size 7 of dout in dimension 2 does not match"),
        (X[0], "dout"),
        (X.double(), "Expected dout of x's dtype"),
    ):
        with pytest.raises(RuntimeError, match=text):
            op(dout, X, W, B, True)


def test_good_and_bad_calls_leak_nothing():
    """Resident memory stays where it is: a leaked tensor handle would cost 100 bytes a call."""

    def calls(n):
        for _ in range(n):
            causal_conv1d(X, W, B, "silu")
            for case in ("x 2D", "bias dim", "weight int"):
                try:
                    causal_conv1d(*BAD[case][0])
                except ValueError:
                    pass
            torch.ops.causal_conv1d_mps.backward(X, X, W, None, False)
        gc.collect()

    calls(2000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    calls(20000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1500, f"{grown} KiB in 20000 rounds"
