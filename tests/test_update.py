"""The decoding step: results and states against the row-by-row reference; gradients."""

import itertools

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from numerics import DEVICE, on_cpu, parameters
from torch.func import grad, jvp

from causal_conv1d_mps import (
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_ref,
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


def slices():
    """(states, x, whether they share an element), views of one memory; (3, 40, ..) each."""
    buffer = torch.randn(3, 40, 5)
    for column in range(5):
        yield buffer[:, :, :4], buffer[:, :, column], column < 4
    for column in range(5):
        yield buffer[:, :, 1:], buffer[:, :, column : column + 1], column > 0
    last = torch.randn(3, 7, 40).mT  # channels-last, as states of a cache and x behind them
    yield last[:, :, :4], last[:, :, 4:], False
    yield last[:, :, :4], last[:, :, 3:], True
    yield last[:, :, 0::2], last[:, :, 1::2], False
    yield last[:, :, 0::2], last[:, :, 2::2], True
    rows = torch.randn(3, 40 * 5)  # dense rows of states, then a row of x
    yield rows[:, :160].view(3, 40, 4), rows[:, 160:], False
    yield rows[:, 40:].view(3, 40, 4), rows[:, :40], False
    yield rows[:, :160].view(3, 40, 4), rows[:, 159:199], True
    channels = torch.randn(3, 80, 4)
    yield channels[:, ::2], channels[:, 1::2, 0], False
    yield channels[:, ::2], channels[:, 2:42, 3], True
    pools = torch.randn(6, 40, 4)
    yield pools[::2], pools[1::2, :, :2], False
    yield pools[:3], pools[2:5, :, :2], True
    whole = torch.randn(3, 40, 4)
    yield whole, whole[:, :, 0], True
    memory = torch.randn(1500)  # strides that do not nest
    states = memory.as_strided((3, 40, 4), (10, 36, 4))
    yield states, memory.as_strided((3, 40), (10, 36), 6), False
    yield states, memory.as_strided((3, 40), (10, 36), 2), True


@pytest.mark.parametrize("needs_grad", [False, True])
def test_slices_of_one_memory(needs_grad):
    weight, bias = parameters(40, 4)
    weight.requires_grad_(needs_grad)
    for i, (state, x, shared) in enumerate(slices()):
        before, x_before = state.clone(), x.clone()
        if shared:
            with pytest.raises(ValueError, match=r"conv_state in memory of its own, .* with x"):
                causal_conv1d_update(x, state, weight, bias, "silu")
            assert torch.equal(state, before), i
            continue
        expected = causal_conv1d_update(x_before, before, weight, bias, "silu")
        out = causal_conv1d_update(x, state, weight, bias, "silu")
        assert torch.equal(out, expected) and torch.equal(state, before), i
        assert torch.equal(x, x_before), i


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


def leaves(seqlen, dtype=torch.float32):
    """A state, two inputs, weight and bias, all requiring a gradient."""
    x = torch.randn(2, 2, 5, seqlen, dtype=dtype).unbind(0)
    tensors = (torch.randn(2, 5, 5, dtype=dtype), *x, *parameters(5, 4, dtype))
    return [t.requires_grad_() for t in tensors]


def two_steps(state, first, second, weight, bias, update=causal_conv1d_update):
    """Of a layer of a cache that requires a gradient."""
    cache = torch.stack([state, 2 * state])
    outs = [update(x, cache[1], weight, bias, "silu") for x in (first, second)]
    return *outs, cache


def differentiable_update(x, conv_state, weight, bias, activation):
    """By what autograd knows."""
    before = conv_state[:, :, conv_state.shape[2] - weight.shape[1] + 1 :].clone()
    out = causal_conv1d_ref(x, weight, bias, before, activation=activation)
    conv_state.copy_(torch.cat([conv_state, x], dim=2)[:, :, x.shape[2] :])
    return out


@pytest.mark.parametrize("seqlen", [1, 3, 7])
@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_through_a_state_that_requires_one(seqlen, compiled):
    """Against those of the reference in float64."""
    torch._dynamo.reset()
    steps = torch.compile(two_steps, fullgraph=True, backend="aot_eager") if compiled else two_steps
    inputs = leaves(seqlen)
    exact = [t.detach().cpu().double().requires_grad_() for t in inputs]
    found, expected = steps(*inputs), two_steps(*exact, update=differentiable_update)
    factors = [torch.randn_like(t) for t in found]
    with torch.no_grad():
        cache = torch.stack([inputs[0], 2 * inputs[0]])
        for x in inputs[1:3]:
            causal_conv1d_update(x, cache[1], *inputs[3:])
    assert torch.equal(found[2], cache)
    for used in ([0, 1, 2], [0], [2]):
        # All of them, or the state alone.
        for variables in ([0, 1, 2, 3, 4], [0]):
            grads, right = (
                torch.autograd.grad(
                    [results[i] for i in used],
                    [tensors[i] for i in variables],
                    [factors[i].to(results[i]) for i in used],
                    retain_graph=True,
                    materialize_grads=True,
                )
                for tensors, results in ((inputs, found), (exact, expected))
            )
            for a, b in zip(grads, right, strict=True):
                torch.testing.assert_close(a.cpu().double(), b, rtol=1e-4, atol=1e-4)


def test_the_state_alone_requires_a_gradient():
    state, x, _, weight, bias = (t.detach() for t in leaves(2))
    state.requires_grad_()
    grad = torch.autograd.grad(causal_conv1d_update(x, state * 1, weight, bias).sum(), state)[0]
    same = torch.func.grad(lambda s: causal_conv1d_update(x, s * 1, weight, bias).sum())(state)
    right = torch.autograd.grad(
        differentiable_update(x, state * 1, weight, bias, None).sum(), state
    )
    torch.testing.assert_close((grad, same), (right[0], right[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weight_too", [False, True])
def test_a_leaf_that_requires_a_gradient_is_no_state(weight_too):
    leaf, x, _, weight, bias = (t.detach() for t in leaves(2))
    leaf, cache = leaf.requires_grad_(), torch.randn(3, 2, 5, 5, requires_grad=True)
    weight.requires_grad_(weight_too)
    step = torch.compile(causal_conv1d_update, fullgraph=True, backend="aot_eager")
    for state in (leaf, cache[1]):
        before = state.detach().clone()
        with pytest.raises(ValueError, match=r"Expected conv_state that can be .* got a leaf"):
            causal_conv1d_update(x, state, weight, bias)
        torch._dynamo.reset()
        with pytest.raises((RuntimeError, torch._dynamo.exc.Unsupported), match="leaf"):
            step(x, state, weight, bias)
        assert torch.equal(state, before)
        with torch.no_grad():  # where PyTorch allows it
            causal_conv1d_update(x, state, weight, bias)
        assert not torch.equal(state, before)


def test_a_ring_or_pool_that_requires_a_gradient_is_refused():
    leaf, x, _, weight, bias = leaves(2)
    state, numbers = leaf * 1, torch.tensor([1, 0])
    before = state.detach().clone()
    for name in ("cache_seqlens", "conv_state_indices"):
        with pytest.raises(ValueError, match=f"without gradient beside .*{name}"):
            causal_conv1d_update(x, state, weight, bias, **{name: numbers})
    with pytest.raises(ValueError, match="dtype"):
        causal_conv1d_update(x.half(), state, weight, bias)
    assert torch.equal(state, before)


@pytest.mark.parametrize("which", ["x", "conv_state", "weight", "bias", "all"])
@pytest.mark.parametrize("pool", [False, True])
def test_the_negative_bit(which, pool):
    x, state = torch.randn(2, 5, 3), torch.randn(3 if pool else 2, 5, 4)
    weight, bias = parameters(5, 4)
    tensors = {"x": x, "conv_state": state, "weight": weight, "bias": bias}
    options = {"conv_state_indices": torch.tensor([2, 0]) if pool else None}
    given = {
        name: (-t)._neg_view() if which in (name, "all") else t.clone()
        for name, t in tensors.items()
    }
    compiled = torch.compile(causal_conv1d_update, backend="aot_eager")
    for update, needs_grad in itertools.product((causal_conv1d_update, compiled), (False, True)):
        given["x"].requires_grad_(needs_grad)
        out = update(**given, **options)
        assert out.requires_grad == needs_grad
        assert torch.equal(out, causal_conv1d_update(**tensors, **options))
        assert torch.equal(given["conv_state"], state)
    assert given["conv_state"].is_neg() == (which in ("conv_state", "all"))


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
    wrong("share memory", x, torch.randn(20).as_strided((2, 4, 3), (6, 2, 3)), weight, bias)
    wide = weight.clone().requires_grad_()
    wrong("does not match", x, state, wide, bias, cache_seqlens=torch.tensor([1]))
    wrong("state_len >= width - 1 = 3", x, state[:, :, 1:], wide, bias)
    wrong("activation must be", x, state, weight, bias, "gelu", error=NotImplementedError)
    if not DEVICE.is_gpu:  # which would have to wait for the values
        beyond = torch.tensor([0, 2])
        wrong("below 2", x, state, weight, bias, conv_state_indices=beyond)
        wrong("below 2", x, state, wide, bias, conv_state_indices=beyond)


def test_the_update_refuses_tangents():
    x, state, weight, bias = torch.randn(2, 3), torch.randn(2, 3, 4), torch.randn(3, 4), None
    before = state.clone()
    for name, values in {"x": (x,), "conv_state": (state,), "weight": (weight,)}.items():

        def step(value, name=name):
            arguments = {"x": x, "conv_state": state, "weight": weight, name: value}
            return causal_conv1d_update(bias=bias, **arguments)

        text = f"Expected {name} without a tangent"
        with pytest.raises(NotImplementedError, match=text):
            jvp(step, values, values)
        with pytest.raises(NotImplementedError, match=text), fwAD.dual_level():
            step(fwAD.make_dual(values[0], values[0]))
        with pytest.raises(NotImplementedError, match=text):
            grad(lambda v, step=step: jvp(step, (v,), (v,))[1].sum())(values[0])
        with pytest.raises(Exception, match=text):
            torch.compiler.reset()
            torch.compile(lambda v, step=step: jvp(step, (v,), (v,)), backend="eager")(values[0])
    assert torch.equal(state, before)
    with fwAD.dual_level():  # nothing that it is given is dual
        out = causal_conv1d_update(x, state, weight)
    assert torch.equal(out, causal_conv1d_update(x, before, weight)) and torch.equal(state, before)
