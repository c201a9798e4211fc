"""States, seq_idx and packed sequences, forward and backward: drawn by hypothesis, and by hand."""

import itertools

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from numerics import (
    DEVICE,
    LAYOUTS,
    assert_backward,
    assert_forward,
    assert_same,
    make,
    on_cpu,
    parameters,
)

from causal_conv1d_mps import (
    CausalConv1d,
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_varlen_fn,
    causal_conv1d_varlen_states,
    causal_conv1d_varlen_states_ref,
)
from causal_conv1d_mps.bounds import reference


def call(x, weight, bias, activation, seq_idx=None, cu_seqlens=None, initial_states=None):
    """(out, final states or None), by the public function that takes these arguments."""
    if cu_seqlens is not None:
        return causal_conv1d_varlen_fn(
            x, weight, bias, cu_seqlens, initial_states, True, activation
        )
    final = seq_idx is None
    result = causal_conv1d_fn(
        x, weight, bias, seq_idx, initial_states, final, activation=activation
    )
    return result if final else (result, None)


def check(x, weight, bias, activation, **sequences):
    """Forward, final states and every gradient of one call against float64."""
    states = sequences.get("initial_states")
    given = [t for t in (x, weight, bias, states) if t is not None]
    leaves = [t.detach().requires_grad_() for t in given]
    named = iter(leaves)
    again = [None if t is None else next(named) for t in (x, weight, bias, states)]
    out, final = call(*again[:3], activation, **{**sequences, "initial_states": again[3]})
    assert_forward(out.detach(), x, weight, bias, activation, **sequences)
    douts = [torch.randn_like(out)]
    if final is not None:
        _, expected = reference(*on_cpu((x, weight, bias, activation)), **on_cpu(sequences))
        assert torch.equal(final.cpu(), expected)
        douts.append(torch.randn_like(final))
    results = [out] if final is None else [out, final]
    grads = torch.autograd.grad(results, leaves, douts)
    dfinal = douts[1] if final is not None else None
    assert_backward(grads, douts[0], x, weight, bias, activation, dfinal=dfinal, **sequences)
    seq_idx = sequences.get("seq_idx")
    if seq_idx is not None:  # padding: exactly 0, and nothing flows back
        padding = (seq_idx < 0)[:, None].expand_as(out)
        assert (out[padding] == 0).all() and (grads[0][padding] == 0).all()
    if "cu_seqlens" in sequences:
        end = int(sequences["cu_seqlens"][-1])
        assert not out[:, :, end:].any() and not grads[0][:, :, end:].any()
    without_grad = call(x, weight, bias, activation, **sequences)
    assert torch.equal(without_grad[0], out)


@st.composite
def cases(draw):
    """The arguments of check. Random numbers come from a drawn seed, so that a case replays."""
    integer = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    torch.manual_seed(integer(0, 2**31))
    dtype, layout = draw(st.sampled_from(DEVICE.dtypes)), draw(st.sampled_from(LAYOUTS))
    width = draw(st.sampled_from([1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 9, 12]))
    dim = draw(st.sampled_from([1, 3, 8, 17, 33, 64]))
    batch, seqlen = integer(1, 3), integer(0, 5) if draw(st.booleans()) else integer(6, 140)
    weight_dtype = draw(st.sampled_from([dtype, dtype, *DEVICE.parameter_dtypes]))
    weight, bias = parameters(
        dim,
        width,
        weight_dtype,
        draw(st.booleans()),
        draw(st.sampled_from([weight_dtype, *DEVICE.parameter_dtypes])),
    )
    kind = draw(st.sampled_from(["plain", "ids", "packed"]))
    sequences, count = {}, batch
    integers = draw(st.sampled_from([torch.int32, torch.int64]))
    if kind == "ids":
        ids = st.lists(st.integers(-1, 2), min_size=seqlen, max_size=seqlen)
        rows = [draw(ids) if draw(st.booleans()) else sorted(draw(ids)) for _ in range(batch)]
        sequences["seq_idx"] = torch.tensor(rows, dtype=integers).reshape(batch, seqlen)
    if kind == "packed":
        batch = 1
        cuts = sorted(draw(st.lists(st.integers(0, seqlen), max_size=6)))
        if draw(st.booleans()):  # else the rest is padding
            cuts.append(seqlen)
        sequences["cu_seqlens"] = torch.tensor([0, *cuts], dtype=integers)
        count = len(cuts)
    if draw(st.booleans()):
        sequences["initial_states"] = make(
            count, dim, width - 1, dtype, draw(st.sampled_from(LAYOUTS))
        )
    x = make(batch, dim, seqlen, dtype, layout)
    return (x, weight, bias, draw(st.sampled_from([None, "silu"]))), sequences


def describe(arguments, sequences):
    shapes = [None if t is None else (tuple(t.shape), t.stride(), t.dtype) for t in arguments[:3]]
    return f"{shapes}, {arguments[3]}, { ({k: v.shape for k, v in sequences.items()}) }"


def test_drawn(draws):
    @hypothesis.settings(max_examples=draws)
    @hypothesis.given(cases())
    def run(case):
        arguments, sequences = case
        hypothesis.note(describe(arguments, sequences))
        check(*arguments, **sequences)

    run()


@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("width", [2, 4, 7])
def test_shorter_than_the_window(width, layout):
    for seqlen in range(width + 2):
        x = make(2, 19, seqlen, layout=layout)
        weight, bias = parameters(19, width)
        for activation in (None, "silu"):
            check(x, weight, bias, activation, initial_states=make(2, 19, width - 1))
            check(x, weight, bias, activation)


@pytest.mark.parametrize("shape", DEVICE.affordable((1, 1, 5), (1, 7, 5), (1, 65537, 5)))
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_dims(shape, layout):
    x, dim = make(*shape, layout=layout), shape[1]
    seq_idx = torch.tensor([[0, 0, -1, 1, 1]])
    check(x, *parameters(dim, 4), "silu", initial_states=make(1, dim, 3))
    check(x, *parameters(dim, 4), "silu", seq_idx=seq_idx)


@pytest.mark.parametrize("seqlen", [1, 63, 64, 65, 1026, 4099, 8200])
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_lengths(seqlen, layout):
    x = make(2, 5, seqlen, layout=layout)
    seq_idx = torch.randint(-1, 9, (2, seqlen)).sort(dim=1).values.int()
    check(x, *parameters(5, 4), "silu", initial_states=make(2, 5, 3), seq_idx=seq_idx)
    check(x, *parameters(5, 4), "silu", initial_states=make(2, 5, 3, layout="channels-last"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed_lengths(layout):
    longest = 900 if DEVICE.emulated else 9000
    lengths = torch.tensor([0, 1, 2, 3, 0, 700, 64, 5, longest, 1, 0])
    cu_seqlens = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    x = make(1, 19, int(cu_seqlens[-1]), layout=layout)
    check(x, *parameters(19, 4), "silu", cu_seqlens=cu_seqlens, initial_states=make(11, 19, 3))
    check(x, *parameters(19, 4), None, cu_seqlens=cu_seqlens)


def test_packed_equals_separate_calls_bit_for_bit():
    cu_seqlens = torch.arange(0, 65) * 32
    x, (weight, bias) = make(1, 48, 2048, layout="channels-last"), parameters(48, 4)
    out = causal_conv1d_varlen_fn(x, weight, bias, cu_seqlens, activation="silu")
    parts = [causal_conv1d(part, weight, bias, "silu") for part in x.split(32, dim=2)]
    assert torch.equal(out, torch.cat(parts, dim=2))
    ids = torch.arange(64).repeat_interleave(32)[None]
    assert torch.equal(causal_conv1d_fn(x, weight, bias, ids, activation="silu"), out)
    flat = causal_conv1d_varlen_fn(x[0].T, weight, bias, cu_seqlens, activation="silu")
    assert flat.shape == (2048, 48) and torch.equal(flat, out[0].T)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("width", [1, 3, 4, 9])
@pytest.mark.parametrize("ends", [[], [0], [5], [1, 1], [70, 70, 133], [133, 300]])
def test_padding_after_the_last_sequence(ends, width, layout):
    """As if it were not there, whatever it holds."""
    cu_seqlens, total = torch.tensor([0, *ends]), 300
    used, count = ([0, *ends])[-1], len(ends)
    x, dout = make(1, 19, total, layout=layout), torch.randn(1, 19, total)
    weight, bias = parameters(19, width)
    states, dfinal = make(count, 19, width - 1), torch.randn(count, 19, width - 1)
    for activation in (None, "silu"):
        check(x, weight, bias, activation, cu_seqlens=cu_seqlens, initial_states=states)
        check(x, weight, bias, activation, cu_seqlens=cu_seqlens)
        results = []
        for length in (total, used):
            inputs = [x[:, :, :length].clone(), weight.clone(), bias.clone(), states.clone()]
            inputs[0][:, :, used:] = float("inf")
            leaves = [t.requires_grad_() for t in inputs]
            out, final = call(*leaves[:3], activation, None, cu_seqlens, leaves[3])
            given = [dout[:, :, :length].clone(), dfinal]
            given[0][:, :, used:] = float("nan")
            grads = torch.autograd.grad([out, final], leaves, given)
            assert not out[:, :, used:].any() and not grads[0][:, :, used:].any()
            results.append([out[:, :, :used], final, grads[0][:, :, :used], *grads[1:]])
        padded, plain = results
        assert_same([*padded[:3], padded[5]], [*plain[:3], plain[5]])
        for a, b in zip(padded[3:5], plain[3:5], strict=True):  # a GPU adds up in another order
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)
    flat = x[0].T.contiguous()
    for state_len in (0, 2, 7):
        found = causal_conv1d_varlen_states(flat, cu_seqlens, state_len)
        assert torch.equal(found, causal_conv1d_varlen_states(flat[:used], cu_seqlens, state_len))


def test_no_sequence_at_all():
    weight, bias = parameters(5, 4)
    x = torch.randn(1, 5, 0)
    zero = torch.tensor([0])
    out, final = causal_conv1d_varlen_fn(x, weight, bias, zero, return_final_states=True)
    assert out.shape == x.shape and final.shape == (0, 5, 3)
    for batch, seqlen in ((0, 4), (2, 0)):
        check(torch.randn(batch, 5, seqlen), weight, bias, "silu",
              initial_states=torch.randn(batch, 5, 3))  # fmt: skip


def test_final_states_out():
    x, (weight, bias) = make(2, 5, 9), parameters(5, 4)
    out, final = causal_conv1d_fn(x, weight, bias, return_final_states=True)
    assert torch.equal(final, x[:, :, -3:])
    given = torch.full((2, 5, 4), 7.0)[:, :, :3]
    again, same = causal_conv1d_fn(
        x, weight, bias, return_final_states=True, final_states_out=given
    )
    assert same is given and torch.equal(given, final) and torch.equal(again, out)


@pytest.mark.parametrize("seqlen", [1, 2, 9])
@pytest.mark.parametrize("with_grad", [False, True])
def test_final_states_may_overwrite_the_initial_ones(seqlen, with_grad):
    x = make(2, 5, seqlen).requires_grad_(with_grad)
    weight, bias = parameters(5, 4)
    states = make(2, 5, 3)
    expected, final = causal_conv1d_fn(x, weight, bias, None, states.clone(), True)
    out, _ = causal_conv1d_fn(x, weight, bias, None, states, True, states)
    assert torch.equal(out, expected) and torch.equal(states, final)
    if with_grad:
        dout = torch.randn_like(out)
        torch.testing.assert_close(
            *(torch.autograd.grad(y, x, dout)[0] for y in (out, expected)), rtol=0, atol=0
        )


@pytest.mark.native_only
@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_bits_whatever_the_threads(layout):
    """On a GPU: every time."""
    x = make(2, 40, 3000, layout=layout).requires_grad_()
    weight, bias = parameters(40, 4)
    seq_idx = torch.randint(-1, 30, (2, 3000)).sort(dim=1).values
    packed = x.detach()[:1].requires_grad_()
    cu_seqlens = torch.tensor([0, 5, 900, 901, 3000])
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        w = weight.clone().requires_grad_()
        out = causal_conv1d_fn(x, w, bias, seq_idx, activation="silu")
        grads = torch.autograd.grad(out.square().sum(), (x, w))
        other = causal_conv1d_varlen_fn(packed, w, bias, cu_seqlens, activation="silu")
        results.append([out, *grads, other, *torch.autograd.grad(other.sum(), (packed, w))])
    for later in results[1:]:
        assert all(map(torch.equal, results[0], later))


@pytest.mark.parametrize("state_len", [0, 1, 3, 7])
@pytest.mark.parametrize("dtype", DEVICE.dtypes, ids=str)
def test_varlen_states(dtype, state_len):
    x = torch.randn(30, 40, dtype=dtype)
    cu_seqlens = torch.tensor([0, 0, 1, 3, 6, 25, 25, 30])
    for view in (x, x.T.contiguous().T, torch.randn(30, 80).to(dtype)[:, ::2]):
        states = causal_conv1d_varlen_states(view, cu_seqlens, state_len)
        expected = causal_conv1d_varlen_states_ref(*on_cpu((view, cu_seqlens)), state_len)
        assert torch.equal(states.cpu(), expected)


@pytest.mark.cpu_only
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("kind", ["plain", "states", "ids", "packed", "padded"])
def test_first_and_second_derivatives(kind, activation):
    x = make(1, 3, 6, torch.float64)
    weight, bias = parameters(3, 3, torch.float64)
    states = make(2 if kind in ("packed", "padded") else 1, 3, 2, torch.float64)
    ids, cuts = torch.tensor([[0, 0, 1, -1, 1, 0]]), torch.tensor([0, 4, 6])
    if kind == "padded":
        cuts = torch.tensor([0, 3, 4])

    def function(x, weight, bias, states):
        if kind == "plain":
            return causal_conv1d(x, weight, bias, activation)
        sequences = {"seq_idx": ids} if kind == "ids" else {}
        if kind in ("packed", "padded"):
            sequences = {"cu_seqlens": cuts}
        results = call(x, weight, bias, activation, initial_states=states, **sequences)
        return tuple(r for r in results if r is not None)

    inputs = [t.requires_grad_() for t in (x, weight, bias, states)]
    if kind == "plain":
        inputs[3] = None
    torch.autograd.gradcheck(function, inputs)
    torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("kind", ["states", "ids", "packed", "padded", "padding alone"])
def test_second_derivatives_in_float32(kind):
    """Against those of the reference in float64."""
    x, dout = make(1, 5, 40), make(1, 5, 40)
    states = make({"packed": 2, "padded": 2, "padding alone": 0}.get(kind, 1), 5, 3)
    sequences = {
        "states": {},
        "ids": {"seq_idx": torch.randint(-1, 2, (1, 40))},
        "packed": {"cu_seqlens": torch.tensor([0, 13, 40])},
        "padded": {"cu_seqlens": torch.tensor([0, 13, 30])},
        "padding alone": {"cu_seqlens": torch.tensor([0])},
    }[kind]

    def second(function, tensors, dout, sequences):
        *inputs, states = leaves = [t.detach().requires_grad_() for t in tensors]
        out, _ = function(*inputs, "silu", **sequences, initial_states=states)
        first = torch.autograd.grad(out, leaves, dout, create_graph=True)
        return torch.autograd.grad(sum(grad.square().sum() for grad in first), leaves)

    tensors = (x, *parameters(5, 4), states)
    found = second(call, tensors, dout, sequences)
    exact = second(
        reference, [t.double() for t in on_cpu(tensors)], dout.cpu().double(), on_cpu(sequences)
    )
    for a, b in zip(found, exact, strict=True):
        size = b.abs().max() if b.numel() else 0
        torch.testing.assert_close(a.cpu().double(), b, rtol=1e-4, atol=1e-4 * size)


def test_more_than_2_to_the_32_elements(request):
    if not request.config.getoption("--large"):
        pytest.skip("needs --large and 20 GB of memory")
    batch, dim, seqlen = 1, 4100, 2**20 + 64  # 4.3e9 elements, 8.6 GB in bf16
    x = torch.zeros(batch, dim, seqlen, dtype=torch.bfloat16)
    last = torch.randn(dim, 64).bfloat16()
    x[0, :, -64:] = last
    weight, bias = parameters(dim, 4)
    out = causal_conv1d(x, weight, bias, "silu")
    before = torch.cat([torch.zeros(dim, 3, dtype=torch.bfloat16), last], dim=1)[None]
    expected = causal_conv1d(before, weight, bias, "silu")[:, :, 3:]
    assert x.numel() > 2**32 and torch.equal(out[:, :, -64:], expected)
    constant = torch.nn.functional.silu(bias).bfloat16()
    assert torch.equal(out[0, :, 12345], constant) and torch.equal(out[0, :, 0], constant)


@pytest.mark.parametrize("chunks", [[1] * 20, [20], [3, 0, 1, 2, 14], [7, 13]])
@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("width", [1, 2, 4, 7, 9])
def test_streaming_equals_the_whole_bit_for_bit(width, layout, chunks):
    layer = CausalConv1d(19, width).eval()
    x = make(2, 19, 20, layout=layout)
    with torch.no_grad():
        whole = layer(x)
        parts, saved = [], None
        for i, part in enumerate(x.split(chunks, dim=2)):
            parts.append(layer.step(part))
            if i == 0:  # saved and restored, in another layer
                saved = layer.state.clone()
                other = CausalConv1d(19, width)
                other.load_state_dict(layer.state_dict())
                other.state = saved
                layer = other
        assert torch.equal(torch.cat(parts, dim=2), whole)
        layer.reset_state()
        assert layer.state is None
        one = torch.stack([layer.step(column) for column in x.unbind(2)], dim=2)
    assert torch.equal(one, whole)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_streaming_goes_on_after_inference_mode(mode):
    layer, x = CausalConv1d(5, 4), make(2, 5, 12)
    parts = x.split([1, 3, 1, 3, 1, 3], dim=2)
    with torch.inference_mode():
        outs = [layer.step(part) for part in parts[:2]]
        saved = layer.state
    for first in (2, 3):  # one column, or several
        layer.state = saved
        with mode():
            rest = [layer.step(part) for part in parts[first:]]
        if first == 2:
            with torch.inference_mode():
                assert torch.equal(torch.cat(outs + rest, dim=2), layer(x))
    assert torch.equal(saved, torch.cat([torch.zeros(2, 5, 4), x[:, :, :4]], dim=2)[:, :, -4:])


def test_a_refused_step_changes_nothing():
    layer, x = CausalConv1d(5, 4), make(2, 5, 3)
    with pytest.raises(ValueError):
        layer.step(make(7, 6, 3))
    assert layer.state is None
    layer.step(x)
    before = layer.state.clone()
    with pytest.raises(ValueError):
        layer.step(x.half())
    assert torch.equal(layer.state, before)


def test_streaming_with_gradients():
    layer = CausalConv1d(5, 4, activation="silu")
    x = make(2, 5, 8)
    layer.step(x[:, :, :4])
    out = layer.step(x[:, :, 4:])
    torch.testing.assert_close(out, layer(x)[:, :, 4:])
    out.sum().backward()
    assert layer.weight.grad is not None


def test_every_combination_runs():
    for width, seqlen, ids, states in itertools.product((1, 4, 9), (0, 3, 40), (0, 1), (0, 1)):
        sequences = {}
        if ids:
            sequences["seq_idx"] = torch.randint(-1, 2, (2, seqlen))
        if states:
            sequences["initial_states"] = make(2, 5, width - 1)
        check(make(2, 5, seqlen), *parameters(5, width), "silu", **sequences)
