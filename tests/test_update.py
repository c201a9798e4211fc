"""The decoding step: results and states against the row-by-row reference; gradients."""

import itertools

import pytest
import torch
from numerics import DEVICE, on_cpu, parameters

from causal_conv1d_mps import (
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_update,
    causal_conv1d_update_ref,
)


def tolerance(dtype):
    return {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)


def check(x, state, weight, bias, activation, cache_seqlens=None, indices=None):
    expected_state, with_grad_state = state.cpu().clone(), state.clone()
    address = state.data_ptr()
    expected = causal_conv1d_update_ref(
        *on_cpu((x, expected_state, weight, bias, activation, cache_seqlens, indices))
    )
    out = causal_conv1d_update(x, state, weight, bias, activation, cache_seqlens, indices)
    limit = tolerance(x.dtype)
    assert out.shape == x.shape and out.dtype == x.dtype and state.data_ptr() == address
    torch.testing.assert_close(out.cpu(), expected, rtol=limit, atol=limit)
    assert torch.equal(state.cpu(), expected_state)
    if indices is not None:
        assert (out[indices < 0] == 0).all()
    with_grad = causal_conv1d_update(
        x, with_grad_state, weight.clone().requires_grad_(), bias, activation, cache_seqlens,
        indices,
    )  # fmt: skip
    assert with_grad.requires_grad and torch.equal(with_grad, out)
    assert torch.equal(with_grad_state, state)


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("dtype", DEVICE.dtypes, ids=str)
def test_against_reference(dtype, pool, ring):
    for width, extra, seqlen in itertools.product(
        (1, 2, 3, 4, 5, 8, 9), (0, 1, 4), (None, 1, 2, 11)
    ):
        state_len = width - 1 + extra
        if state_len == 0 and ring:
            continue
        for dim in (1, 19, 300):
            x = torch.randn(3, dim, *([] if seqlen is None else [seqlen])).to(dtype)
            state = torch.randn(6 if pool else 3, dim, state_len).to(dtype)
            check(
                x, state, *parameters(dim, width, dtype), "silu",
                torch.randint(0, 50, (3,), dtype=torch.int32) if ring else None,
                torch.tensor([4, -1, 0]) if pool else None,
            )  # fmt: skip


@pytest.mark.parametrize("seqlen", [1, 3])
def test_views_of_x_and_state(seqlen):
    weight, bias = parameters(40, 4)
    xs = [
        torch.randn(2, 40, seqlen),
        torch.randn(2, seqlen, 40).mT,
        torch.randn(2, 80, seqlen)[:, ::2],
    ]
    states = [
        lambda: torch.randn(2, 40, 4),
        lambda: torch.randn(2, 4, 40).mT,
        lambda: torch.randn(2, 40, 9)[:, :, 2:6],
        lambda: torch.randn(2, 40, 4)[:, :, 1:],
        lambda: torch.randn(4, 80, 8)[::2, ::2, ::2],
    ]
    for x, make_state in itertools.product(xs, states):
        base = make_state()
        check(x, base, weight, bias, None)


@pytest.mark.parametrize("parameter_dtype", DEVICE.parameter_dtypes, ids=str)
@pytest.mark.parametrize("dtype", DEVICE.dtypes, ids=str)
def test_mixed_dtypes_and_strided_parameters(dtype, parameter_dtype):
    weight, bias = parameters(80, 8, parameter_dtype)
    for w, b in ((weight[::2, ::2], bias[::2]), (weight[:40, :4].contiguous(), None)):
        check(torch.randn(2, 40, 1).to(dtype), torch.randn(2, 40, 4).to(dtype), w, b, "silu")


def test_padding_touches_nothing():
    weight, bias = parameters(40, 4)
    state = torch.full((2, 40, 4), float("nan"))
    before = state.clone()
    indices = torch.tensor([-1, -7], dtype=torch.int32)
    for shape in ((2, 40), (2, 40, 3)):
        out = causal_conv1d_update(
            torch.randn(shape), state, weight, bias, "silu", conv_state_indices=indices
        )
        assert (out == 0).all() and torch.equal(state.isnan(), before.isnan())


def test_steps_continue_the_forward_bit_for_bit():
    x, (weight, bias) = torch.randn(2, 40, 12), parameters(40, 4)
    whole = causal_conv1d(x, weight, bias)
    _, state = causal_conv1d_fn(x[:, :, :5], weight, bias, return_final_states=True)
    state = torch.nn.functional.pad(state, (1, 0))
    ring, length = torch.zeros(2, 40, 6), torch.tensor([5, 5])
    ring[:, :, :5] = x[:, :, :5]
    for t in range(5, 12):
        assert torch.equal(causal_conv1d_update(x[:, :, t], state, weight, bias), whole[:, :, t])
        out = causal_conv1d_update(x[:, :, t : t + 1], ring, weight, bias, None, length)
        assert torch.equal(out[:, :, 0], whole[:, :, t])
        length += 1


@pytest.mark.gpu_only
@pytest.mark.parametrize("needs_grad", [False, True])
@pytest.mark.parametrize("seqlen", [1, 3])
def test_an_index_outside_of_the_pool_writes_nothing(seqlen, needs_grad):
    """Nobody reads the indices before the device does: such rows are like padding."""
    memory = torch.randn(9, 40, 4)
    before, pool = memory.clone(), memory[3:6]
    x, (weight, bias) = torch.randn(4, 40, seqlen), parameters(40, 4)
    weight.requires_grad_(needs_grad)
    indices = torch.tensor([3, 1, 2**40, -1])
    out = causal_conv1d_update(x, pool, weight, bias, "silu", conv_state_indices=indices)
    alone = before[4:5].clone()
    expected = causal_conv1d_update(x[1:2], alone, weight, bias, "silu")
    assert torch.equal(out[1:2], expected) and (out[[0, 2, 3]] == 0).all()
    assert torch.equal(memory, torch.cat([before[:4], alone, before[5:]]))


@pytest.mark.parametrize("ring", [False, True])
def test_gradients_in_float32(ring):
    """Against those of the reference in float64."""
    x, state, (weight, bias) = torch.randn(3, 4, 2), torch.randn(5, 4, 4), parameters(4, 3)
    others = [torch.tensor([3, 9, 0]) if ring else None, torch.tensor([4, -1, 0])]

    def gradients(function, tensors, others):
        x, state, weight, bias = tensors
        inputs = [t.requires_grad_() for t in (x, weight, bias)]
        out = function(x, state.clone(), weight, bias, "silu", *others)
        return torch.autograd.grad(out.square().sum(), inputs)

    exact = gradients(
        causal_conv1d_update_ref,
        [t.double() for t in on_cpu((x, state, weight, bias))],
        on_cpu(others),
    )
    found = gradients(causal_conv1d_update, (x, state, weight, bias), others)
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a.cpu().double(), b, rtol=1e-5, atol=1e-5)


@pytest.mark.cpu_only
@pytest.mark.parametrize("ring", [False, True])
def test_gradients(ring):
    x = torch.randn(3, 4, 2, dtype=torch.float64)
    state = torch.randn(5, 4, 4, dtype=torch.float64)
    lengths = torch.tensor([3, 9, 0]) if ring else None
    indices = torch.tensor([4, -1, 0])
    inputs = [t.requires_grad_() for t in (x, *parameters(4, 3, torch.float64))]

    def function(x, weight, bias):
        return causal_conv1d_update(x, state.clone(), weight, bias, "silu", lengths, indices)

    torch.autograd.gradcheck(function, inputs)
    grad = torch.autograd.grad(function(*inputs).sum(), inputs[0])[0]
    assert (grad[1] == 0).all() and (grad[0] != 0).all()


def test_padding_is_no_part_of_the_gradient():
    x, (weight, bias) = torch.randn(2, 5, 3), parameters(5, 4)
    x[1] = float("nan")
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    for pool, first in ((3, 2), (0, -1)):
        indices = torch.tensor([first, -1])
        state = torch.full((pool, 5, 4), float("nan"))
        state[first:] = 1
        out = causal_conv1d_update(x, state, weight, bias, "silu", conv_state_indices=indices)
        grads = torch.autograd.grad(out.sum(), inputs)
        assert (grads[0][1] == 0).all() and all(g.isfinite().all() for g in grads)


def test_autograd_notices_that_the_state_has_changed():
    x, state, (weight, bias) = torch.randn(2, 5), torch.randn(2, 5, 4), parameters(5, 4)
    parameter = torch.ones(2, 5, 4, requires_grad=True)
    product = (parameter * state).sum()
    causal_conv1d_update(x, state, weight, bias)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    with torch.inference_mode():
        causal_conv1d_update(x, torch.randn(2, 5, 4), weight, bias)


def test_compiled_update_keeps_the_address_of_the_state():
    weight, bias = parameters(40, 4)
    state = torch.zeros(2, 40, 4)
    eager_state, address = state.clone(), state.data_ptr()

    @torch.compile(fullgraph=True)
    def step(x, state):
        return causal_conv1d_update(x + 1, state, weight, bias, "silu") * 2

    for _ in range(4):
        x = torch.randn(2, 40)
        expected = causal_conv1d_update(x + 1, eager_state, weight, bias, "silu") * 2
        torch.testing.assert_close(step(x, state), expected)
        assert torch.equal(state, eager_state) and state.data_ptr() == address


def test_errors():
    x, state = torch.randn(2, 4), torch.randn(2, 4, 3)
    weight, bias = parameters(4, 4)

    def wrong(text, *arguments, error=ValueError, **options):
        before = arguments[1].clone()
        with pytest.raises(error, match=text):
            causal_conv1d_update(*arguments, **options)
        assert torch.equal(arguments[1], before)

    wrong("state_len >= width - 1 = 3", x, state[:, :, 1:], weight, bias)
    wrong("does not match", x, state[:1], weight, bias)
    wrong("does not match", x, state[:, :3], weight, bias)
    wrong("dtype", x, state.half(), weight, bias)
    wrong("does not match", x, state, weight[:3], bias)
    wrong("Expected 3D input tensor", x[0], state, weight, bias)
    wrong("int32 or int64", x, state, weight, bias, conv_state_indices=torch.tensor([0.0, 1.0]))
    wrong("does not match", x, state, weight, bias, cache_seqlens=torch.tensor([1]))
    wrong("share memory", x, state[:1].expand(2, -1, -1), weight, bias)
    wide = weight.clone().requires_grad_()
    wrong("does not match", x, state, wide, bias, cache_seqlens=torch.tensor([1]))
    wrong("state_len >= width - 1 = 3", x, state[:, :, 1:], wide, bias)
    wrong("activation must be", x, state, weight, bias, "gelu", error=NotImplementedError)
    if not DEVICE.is_gpu:  # which would have to wait for the values
        beyond = torch.tensor([0, 2])
        wrong("below 2", x, state, weight, bias, conv_state_indices=beyond)
        wrong("below 2", x, state, wide, bias, conv_state_indices=beyond)
