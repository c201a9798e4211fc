"""Prefill and decoding of servers against their semantics in plain loops over requests."""

from itertools import pairwise

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from causal_conv1d_mps import causal_conv1d_ref
from causal_conv1d_mps.serving import causal_conv1d_decode, causal_conv1d_prefill

pytestmark = pytest.mark.cpu_only
PAD = -1


def conv(columns, weight, bias, activation, seqlen):
    """The last seqlen outputs of a request's columns (dim, n)."""
    out = causal_conv1d_ref(columns[None], weight, bias, activation=activation)
    return out[0, :, columns.shape[1] - seqlen :]


def prefill(x, weight, bias, states, starts, slots, has_initial, activation, pad):
    """x (dim, total); states is changed."""
    out, keep = torch.zeros_like(x), weight.shape[1] - 1
    for n, slot in enumerate(slots):
        begin, end = starts[n], starts[n + 1]
        if slot == pad or begin == end:
            continue
        history = states[slot, :, :keep].clone()
        columns = torch.cat([history * has_initial[n], x[:, begin:end]], dim=1)
        out[:, begin:end] = conv(columns, weight, bias, activation, end - begin)
        states[slot, :, :keep] = columns[:, columns.shape[1] - keep :]
    return out


def decode(pieces, weight, bias, states, slots, accepted, activation, pad):
    """pieces (dim, n) per request; states is changed."""
    outs, keep = [], weight.shape[1] - 1
    for n, (slot, piece) in enumerate(zip(slots, pieces, strict=True)):
        if slot == pad or piece.shape[1] == 0:
            outs.append(torch.zeros_like(piece))
            continue
        first = 0 if accepted is None else accepted[n] - 1
        columns = torch.cat([states[slot, :, first : first + keep], piece], dim=1)
        outs.append(conv(columns, weight, bias, activation, piece.shape[1]))
        if accepted is None:
            states[slot, :, :keep] = columns[:, columns.shape[1] - keep :]
        else:
            states[slot, :, : columns.shape[1] - 1] = columns[:, 1:]
    return outs


@st.composite
def calls(draw):
    batch, width = draw(st.integers(1, 5)), draw(st.integers(2, 5))
    room = draw(st.integers(0, 3))  # for drafts
    pad = draw(st.sampled_from([PAD, 0]))
    slots = draw(st.permutations(range(1, 9)))[:batch]
    return {
        "seed": draw(st.integers(0, 2**31)),  # of the random numbers, so that a case replays
        "dim": draw(st.integers(1, 40)),
        "width": width,
        "room": room,
        "pad": pad,
        "slots": [pad if draw(st.booleans()) and draw(st.booleans()) else s for s in slots],
        "lengths": draw(st.lists(st.integers(0, 9), min_size=batch, max_size=batch)),
        "drafts": draw(st.lists(st.integers(0, room + 1), min_size=batch, max_size=batch)),
        "accepted": draw(st.lists(st.integers(1, room + 1), min_size=batch, max_size=batch)),
        "initial": draw(st.lists(st.booleans(), min_size=batch, max_size=batch)),
        "activation": draw(st.sampled_from([None, "silu"])),
        "bias": draw(st.booleans()),
        "beyond": draw(st.integers(0, 2)),
        "channels_last": draw(st.booleans()),
        "int": draw(st.sampled_from([torch.int32, torch.int64])),
    }


def make(call, dtype=torch.float32):
    torch.manual_seed(call["seed"])
    dim, width = call["dim"], call["width"]
    weight = torch.randn(dim, width, dtype=dtype)
    bias = torch.randn(dim, dtype=dtype) if call["bias"] else None
    shape = (9, width - 1 + call["room"], dim)
    states = torch.randn(shape, dtype=dtype).transpose(1, 2)
    return weight, bias, states if call["channels_last"] else states.contiguous()


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def starts_of(lengths):
    return [sum(lengths[:n]) for n in range(len(lengths) + 1)]


@hypothesis.settings(max_examples=150)
@hypothesis.given(calls())
def test_prefill(call):
    weight, bias, states = make(call)
    starts, integer = starts_of(call["lengths"]), call["int"]
    x = torch.randn(starts[-1] + call["beyond"], call["dim"]).T  # padding beyond the last request
    before = states.clone()
    expected = prefill(
        x, weight, bias, before, starts, call["slots"], call["initial"], call["activation"],
        call["pad"],
    )  # fmt: skip
    out = causal_conv1d_prefill(
        x, weight, bias, states, torch.tensor(starts, dtype=integer),
        torch.tensor(call["slots"], dtype=integer), torch.tensor(call["initial"]),
        call["activation"], call["pad"],
    )  # fmt: skip
    close(out, expected)
    close(states, before)
    assert out.stride() == x.stride() or x.numel() == 0 or 1 in x.shape


@hypothesis.settings(max_examples=150)
@hypothesis.given(calls(), st.sampled_from(["drafts", "packed", "plain"]))
def test_decode(call, way):
    weight, bias, states = make(call)
    drafted, integer = way == "drafts", call["int"]
    lengths = call["drafts"] if drafted else call["lengths"]
    if way == "plain":  # the same number for all, without query_start_loc
        lengths = [max(lengths[0], 1)] * len(lengths)
    starts = starts_of(lengths)
    x = torch.randn(starts[-1] + (0 if way == "plain" else call["beyond"]), call["dim"])
    before = states.clone()
    pieces = [x[a:b].T for a, b in pairwise(starts)]
    expected = decode(
        pieces, weight, bias, before, call["slots"], call["accepted"] if drafted else None,
        call["activation"], call["pad"],
    )  # fmt: skip
    slots = torch.tensor(call["slots"], dtype=integer)
    if way == "plain":
        out = causal_conv1d_decode(
            torch.stack(pieces), states, weight, bias, call["activation"], slots,
            pad_slot_id=call["pad"],
        )  # fmt: skip
        close(out, torch.stack(expected))
    else:
        out = causal_conv1d_decode(
            x, states, weight, bias, call["activation"], slots,
            torch.tensor(call["accepted"], dtype=integer) if drafted else None,
            torch.tensor(starts, dtype=integer), 9, call["pad"],
        )  # fmt: skip
        close(out[: starts[-1]], torch.cat(expected, dim=1).T)
        assert not out[starts[-1] :].any()
    close(states, before)


@pytest.mark.parametrize("shape", ["2-D", "3-D"])
def test_drafts_without_query_start_loc(shape):
    weight, states, x = torch.randn(6, 4), torch.randn(5, 6, 5), torch.randn(2, 6, 3)
    if shape == "2-D":
        x = x[..., :1]
    before, slots, accepted = states.clone(), [4, 2], [2, 1]
    expected = decode(list(x), weight, None, before, slots, accepted, "silu", PAD)
    out = causal_conv1d_decode(
        x[..., 0] if shape == "2-D" else x, states, weight, None, True, torch.tensor(slots),
        torch.tensor(accepted),
    )  # fmt: skip
    close(out if shape == "3-D" else out[..., None], torch.stack(expected))
    close(states, before)


@pytest.mark.parametrize("width", [2, 3, 4, 7])
def test_speculation_says_what_the_whole_stream_says(width):
    """Requests that accept any part of their drafts get the outputs of what they accepted."""
    torch.manual_seed(width)
    drafts, dim = 4, 24
    weight, bias = torch.randn(dim, width), torch.randn(dim)
    states = torch.randn(6, width - 1 + drafts - 1, dim).transpose(1, 2)
    slots, prompts = torch.tensor([5, 1, 3]), [7, 1, 2]
    streams = [torch.randn(dim, n) for n in prompts]
    starts = torch.tensor(starts_of(prompts), dtype=torch.int32)
    out = causal_conv1d_prefill(torch.cat(streams, 1), weight, bias, states, starts, slots)
    outs = list(out.split(prompts, dim=1))
    accepted = torch.ones(3, dtype=torch.int32)
    for _ in range(12):
        drafted = torch.randint(1, drafts + 1, (3,))
        pieces = [torch.randn(dim, int(n)) for n in drafted]
        starts = torch.tensor(starts_of(drafted.tolist()), dtype=torch.int32)
        out = causal_conv1d_decode(
            torch.cat(pieces, 1).T, states, weight, bias, "silu", slots, accepted, starts, drafts
        )
        # At least one token counts, as in a server: the last of the accepted drafts is its own.
        accepted = torch.stack([torch.randint(1, int(n) + 1, ()) for n in drafted]).int()
        for n, (piece, found) in enumerate(
            zip(pieces, out.T.split(drafted.tolist(), 1), strict=True)
        ):
            streams[n] = torch.cat([streams[n], piece[:, : accepted[n]]], dim=1)
            outs[n] = torch.cat([outs[n], found[:, : accepted[n]]], dim=1)
    for stream, found in zip(streams, outs, strict=True):
        close(found, conv(stream, weight, bias, "silu", stream.shape[1]))


def test_batches_of_equal_length():
    """SGLang's prefill without query_start_loc: x (batch, dim, seqlen)."""
    x, weight, states = (
        torch.randn(3, 9, 6).transpose(1, 2),
        torch.randn(6, 4),
        torch.randn(3, 6, 3),
    )
    before = states.clone()
    expected = prefill(
        torch.cat(list(x), 1), weight, None, before, [0, 9, 18, 27], [2, PAD, 0],
        [True, True, False], None, PAD,
    )  # fmt: skip
    out = causal_conv1d_prefill(
        x, weight, None, states, None, torch.tensor([2, PAD, 0], dtype=torch.int32),
        torch.tensor([True, True, False]), False,
    )  # fmt: skip
    close(torch.cat(list(out), 1), expected)
    close(states, before)


def test_low_precision_keeps_states_exact():
    x = torch.randn(11, 8, dtype=torch.bfloat16).T
    weight, states = torch.randn(8, 4), torch.zeros(2, 8, 3, dtype=torch.bfloat16)
    starts = torch.tensor([0, 4, 11])
    out = causal_conv1d_prefill(x, weight, None, states, starts)
    assert out.dtype == torch.bfloat16
    assert torch.equal(states[0], x[:, 1:4]) and torch.equal(states[1], x[:, 8:])
    step = causal_conv1d_decode(x[:, :2].T.contiguous(), states, weight, None, "silu")
    wide = causal_conv1d_ref(x[None, :, 4:].float(), weight, None, activation="silu")
    torch.testing.assert_close(out[None, :, 4:].float(), wide, rtol=1e-2, atol=1e-2)
    assert step.shape == (2, 8)


def test_errors():
    x, weight, states = torch.randn(6, 9), torch.randn(6, 4), torch.randn(3, 6, 3)
    starts, before = torch.tensor([0, 9]), states.clone()
    with pytest.raises(NotImplementedError, match="activation must be"):
        causal_conv1d_prefill(x, weight, None, states, starts, activation="gelu")
    with pytest.raises(IndexError):
        causal_conv1d_prefill(x, weight, None, states, starts, torch.tensor([3]))
    with pytest.raises(ValueError, match="does not match"):
        causal_conv1d_prefill(x, weight[:5], None, states, starts)
    with pytest.raises(ValueError, match="at least 11 columns for drafts, got 3"):
        causal_conv1d_decode(
            x.T, states, weight, None, None, torch.tensor([1]), torch.tensor([1]), starts
        )
    with pytest.raises(IndexError):  # accepted more than the slot has
        causal_conv1d_decode(
            x.T[:1], states, weight, None, None, torch.tensor([1]), torch.tensor([2]),
            torch.tensor([0, 1]),
        )  # fmt: skip
    assert torch.equal(states, before)
