"""The comparison that the other tests rest on: what it lets pass, and what not."""

import math

import pytest
import torch
from numerics import assert_forward, make, parameters

from causal_conv1d_mps import causal_conv1d
from causal_conv1d_mps.bounds import backward_errors, worst

pytestmark = pytest.mark.cpu_only


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_worst_is_at_most_1_for_the_roundings_of_what_is_allowed(dtype):
    expected = torch.randn(2000, dtype=torch.float64) * torch.logspace(-6, 3, 2000).double()
    tolerance = expected.abs() * 2.0**-22
    for part in (-0.99, -0.5, 0.5, 0.99):
        error = worst((expected + part * tolerance).to(dtype), expected, tolerance)
        assert error <= 1 and (dtype != torch.float32 or error > abs(part) - 0.3)
    just_beyond = torch.nextafter((expected + tolerance).float(), torch.tensor(math.inf))
    assert worst(just_beyond, expected, tolerance) > 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_worst_notices_a_single_wrong_rounding(dtype):
    expected = torch.rand(100, dtype=torch.float64) + 1
    out = expected.to(dtype)
    assert worst(out, expected, expected * 2.0**-22) <= 1
    out[37] += torch.finfo(dtype).eps
    assert worst(out, expected, expected * 2.0**-22) > 1
    out[37] = math.nan
    assert worst(out, expected, expected * 2.0**-22) == math.inf
    assert worst(torch.zeros(1), torch.zeros(1).double(), torch.zeros(1).double()) == 0
    assert worst(torch.ones(1), torch.zeros(1).double(), torch.full((1,), 1e-300).double()) > 1


def test_a_wrong_tap_is_noticed():
    x, (weight, bias) = make(2, 5, 40), parameters(5, 4)
    wrong = weight.clone()
    wrong[3, 2] *= 1 + 2**-15
    assert_forward(causal_conv1d(x, weight, bias), x, weight, bias)
    with pytest.raises(AssertionError, match="tolerances"):
        assert_forward(causal_conv1d(x, wrong, bias), x, weight, bias)


@pytest.mark.parametrize("activation", [None, "silu"])
def test_a_missing_term_of_a_sum_over_time_is_noticed(activation):
    """Of 8192 terms of one sign, which the channels-last kernels add up one after the other."""
    x, (weight, bias) = make(1, 8192, 8).abs().transpose(1, 2), parameters(8, 4)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    dout = make(1, 8192, 8).abs().transpose(1, 2)

    def errors(given):
        grads = torch.autograd.grad(causal_conv1d(*inputs, activation), inputs, given)
        return backward_errors(grads, dout, *inputs, activation)

    assert max(errors(dout)) <= 0.5
    without = dout.clone()
    without[:, 3, dout[0, 3].argmax()] = 0
    dx, dweight, dbias = errors(without)
    assert dx > 1 and dweight > 1 and dbias > 1
