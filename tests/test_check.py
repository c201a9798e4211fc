"""Wrong calls: plain PyTorch and tracing say what the C library says; sizes stay symbolic."""

import re

import numpy as np
import pytest
import torch
from numerics import DEVICE
from torch._dynamo.testing import CompileCounterWithBackend

import causal_conv1d_mps
from causal_conv1d_mps import (
    CausalConv1d,
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_update,
    causal_conv1d_varlen_fn,
    causal_conv1d_varlen_states,
    fallback,
    serving,
)
from causal_conv1d_mps.compat import cpp_functions

X, W, B, STATE = torch.randn(2, 4, 8), torch.randn(4, 3), torch.randn(4), torch.randn(2, 4, 3)
IDS, CUTS = torch.zeros(2, 8, dtype=torch.int32), torch.tensor([0, 3, 8])
INDICES, PACKED = torch.tensor([1, 0]), X[:1]
HUGE = torch.zeros(1).expand(2**20, 2**20, 2**20)

# By function: wrong arguments that shapes and dtypes tell.
WRONG = {
    "causal_conv1d": [
        (X[0], W, B),
        (X[None], W, B),
        (X[0, 0, 0], W, B),
        (X, W[0], B),
        (X, W[None], B),
        (X, W[:3], B),
        (X, W[:, :0], B),
        (X, W, W),
        (X, W, B[:2]),
        (X.int(), W, B),
        (X.to(torch.complex64), W, B),
        (X, W.long(), B),
        (X, W, B > 0),
        (HUGE, torch.zeros(1).expand(2**20, 3)),
        (X, W, B, "relu"),
    ],
    "causal_conv1d_fn": [
        (X[0], W, B, IDS),
        (X, W, B, IDS[:, 1:]),
        (X, W, B, IDS[:1]),
        (X, W, B, IDS[0]),
        (X, W, B, IDS.float()),
        (X, W, B, IDS.short()),
        (X, W, B, None, X[:, :, :3]),
        (X, W, B, None, X[:1, :, :2]),
        (X, W, B, None, X[:, :, 0]),
        (X, W, B, None, X[:, :, :2].half()),
        (X, W, B, None, X[:, :, :2].int()),
        (X, W, B, IDS, None, True),
        (X, W, B, None, None, True, X[:, :, :3]),
        (X, W, B, None, None, True, X[:, :, :2].half()),
    ],
    "causal_conv1d_varlen_fn": [
        (X, W, B, CUTS),
        (X[None], W, B, CUTS),
        (PACKED, W, B, None),
        (PACKED, W, B, CUTS.float()),
        (PACKED, W, B, CUTS[None]),
        (PACKED, W, B, CUTS[0]),
        (PACKED, W, B, CUTS[:0]),
        (PACKED, W, B, CUTS, STATE[:1, :, :2]),
        (PACKED, W, B, CUTS, STATE),
        (PACKED, W[:3], B, CUTS),
        (PACKED[0].T, W[:3], B, CUTS),
    ],
    "causal_conv1d_update": [
        (X[0, 0], STATE, W, B),
        (X[None], STATE, W, B),
        (X, STATE[:, :, :1], W, B),
        (X, STATE[0], W, B),
        (X[:, :, 0], STATE[:1], W, B),
        (X[:, :, 0], STATE[:, :3], W, B),
        (X, STATE.half(), W, B),
        (X, STATE.long(), W, B),
        (X, STATE, W[:3], B),
        (X, STATE, W, B[:1]),
        (X, STATE, W, B, None, INDICES[:1]),
        (X, STATE, W, B, None, INDICES[None]),
        (X, STATE, W, B, None, None, INDICES[:1]),
        (X, STATE, W, B, None, None, INDICES.float()),
        (X, STATE, W, B, "gelu"),
    ],
    "causal_conv1d_varlen_states": [
        (X, CUTS, 3),
        (X[0].T, CUTS, -1),
        (X[0].T.int(), CUTS, 3),
        (X[0].T, CUTS.float(), 3),
        (X[0].T, CUTS[None], 3),
        (X[0].T, CUTS[:0], 3),
    ],
}
# What only values and memory tell.
POOL = torch.randn(40)
WRONG_DATA = {
    "causal_conv1d_varlen_fn": [
        (PACKED, W, B, torch.tensor(cuts)) for cuts in ([0, 9], [1, 8], [0, 5, 3, 8])
    ],
    "causal_conv1d_varlen_states": [
        (X[0].T, torch.tensor(cuts), 3) for cuts in ([0, 9], [1, 8], [0, 5, 3, 8])
    ],
    "causal_conv1d_update": [
        (X, STATE, W, B, None, None, torch.tensor([0, 2])),
        (X, STATE[:1].expand(2, -1, -1), W, B),
        (X, POOL.as_strided((2, 4, 3), (12, 2, 1)), W, B),
        (POOL[12:].view(-1)[:24].view(2, 4, 3), POOL[:24].view(2, 4, 3), W, B),
        (X, POOL[:24].view(2, 4, 3), POOL[20:32].view(4, 3), B),
        (X, POOL[:24].view(2, 4, 3), W, POOL[23:27]),
    ],
    "causal_conv1d_fn": [
        (X, W, B, None, None, True, STATE[:1, :, :2].expand(2, -1, -1)),
    ],
}


def calls(table):
    return [(name, arguments) for name, of_it in table.items() for arguments in of_it]


def failure(function, *arguments):
    """Type and text of what a call raises."""
    try:
        function(*arguments)
    except Exception as error:
        return type(error), str(error)
    raise AssertionError("was accepted")


@pytest.mark.cpu_only
@pytest.mark.native_only
@pytest.mark.parametrize(("name", "arguments"), calls(WRONG) + calls(WRONG_DATA))
def test_plain_pytorch_says_what_c_says(name, arguments):
    expected = failure(getattr(causal_conv1d_mps, name), *arguments)
    before = arguments[1].clone()
    assert failure(getattr(fallback, name), *arguments) == expected
    assert torch.equal(arguments[1], before)


@pytest.mark.cpu_only
@pytest.mark.native_only
@pytest.mark.parametrize(("name", "arguments"), calls(WRONG))
def test_tensors_without_data_say_what_c_says(name, arguments):
    function = getattr(causal_conv1d_mps, name)
    meta = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments]
    kind, text = failure(function, *arguments)
    assert failure(function, *meta) == (kind, text.replace("cpu", "meta"))


def compiled(function, **options):
    """The function under torch.compile, and the counter of its graphs."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    return torch.compile(function, fullgraph=True, backend=counter, **options), counter


@pytest.mark.cpu_only
@pytest.mark.native_only
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_tracing_says_what_c_says(name, dynamic):
    """Before any graph is there, not when one runs."""
    function = getattr(causal_conv1d_mps, name)
    for arguments in WRONG[name]:
        if HUGE is arguments[0] or not all(isinstance(a, torch.Tensor) for a in arguments[:2]):
            continue  # a size of 2^60 cannot be traced; a check in Python, before any operation
        _, text = failure(function, *arguments)
        traced, counter = compiled(function, dynamic=dynamic)
        _, found = failure(traced, *arguments)
        if dynamic and "final_states_out" in text:  # checked by traced Python: sizes have symbols
            text, found = (re.sub(r"\b(s\d+( - 1)?|\d+)\b", "n", t) for t in (text, found))
        assert text in found and counter.frame_count == 0


@pytest.mark.parametrize("needs_grad", [False, True])
def test_batch_and_seqlen_stay_dynamic(needs_grad):
    weight, bias = (t.requires_grad_(needs_grad) for t in (W.clone(), B.clone()))

    def everything(x, ids, states, cuts, pool, indices):
        packed = x.transpose(0, 1).flatten(1)[None]
        with torch.no_grad():
            if DEVICE.fallback:  # which reads indices and cuts on the host
                step = kept = causal_conv1d_update(x, states, W, B)
            else:
                step = causal_conv1d_update(x[:, :, 0], pool, W, B, "silu", None, indices)
                kept = causal_conv1d_varlen_states(packed[0].T, cuts, 3)
        return (
            causal_conv1d(x, weight, bias, "silu"),
            causal_conv1d_fn(x, weight, bias, ids, states),
            *causal_conv1d_fn(x, weight, bias, None, states, True),
            *causal_conv1d_varlen_fn(packed, weight, bias, cuts, None, True),
            step,
            kept,
        )

    traced, counter = compiled(everything)
    for batch, seqlen, sequences, rows in ((2, 8, 3, 5), (3, 9, 4, 6), (5, 33, 7, 8)):
        x = torch.randn(batch, 4, seqlen)
        ids, states = torch.zeros(batch, seqlen, dtype=torch.int32), torch.randn(batch, 4, 2)
        cuts = torch.linspace(0, batch * seqlen, sequences).long()
        pool, indices = torch.randn(rows, 4, 3), torch.arange(batch)
        given = (x, ids, states, cuts, pool, indices)
        for tensor, sizes in zip(given, ((0, 2), (0, 1), (0,), (0,), (0,), (0,)), strict=True):
            for size in sizes:  # an error if the size is specialised
                torch._dynamo.mark_dynamic(tensor, size)
        expected = everything(*(t.clone() for t in given))
        torch.testing.assert_close(traced(*given), expected)
    assert counter.frame_count == 1


def test_a_size_that_nobody_knows():
    """One that depends on data, as where rows are picked by a mask."""

    def function(x, keep):
        rows = x[keep]
        return causal_conv1d_fn(rows, W, B, None, rows[:, :, :2], True, activation="silu")

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        traced, counter = compiled(function)
        for keep in ([True, True, False], [False, True, False], [False, False, False]):
            x, keep = torch.randn(3, 4, 8), torch.tensor(keep)
            torch.testing.assert_close(traced(x, keep), function(x, keep))
    assert counter.frame_count == 1


def test_export_with_dynamic_sizes():
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = CausalConv1d(4, 3)

        def forward(self, x, ids):
            return causal_conv1d_fn(self.conv(x), self.conv.weight, None, ids)

    batch, seqlen = torch.export.Dim("batch"), torch.export.Dim("seqlen")
    layer, shapes = Layer(), ({0: batch, 2: seqlen}, {0: batch, 1: seqlen})
    program = torch.export.export(layer, (X, IDS), dynamic_shapes=shapes)
    for n, t in ((3, 5), (7, 40)):
        x, ids = torch.randn(n, 4, t), torch.randint(-1, 2, (n, t))
        torch.testing.assert_close(program.module()(x, ids.int()), layer(x, ids))


# By function: right arguments, all of which are to be tensors up to the last.
TENSORS = {
    "causal_conv1d": {"x": X, "weight": W, "bias": B},
    "causal_conv1d_fwd": {"x": X, "weight": W, "bias": B},
    "causal_conv1d_ref": {"x": X, "weight": W, "bias": B},
    "causal_conv1d_fn": {
        "x": X, "weight": W, "bias": B, "seq_idx": IDS, "initial_states": STATE[:, :, :2],
    },
    "causal_conv1d_varlen_fn": {
        "x": PACKED, "weight": W, "bias": B, "cu_seqlens": CUTS, "initial_states": X[:, :, :2],
    },
    "causal_conv1d_update": {
        "x": X, "conv_state": STATE, "weight": W, "bias": B, "cache_seqlens": INDICES,
        "conv_state_indices": INDICES,
    },
    "causal_conv1d_varlen_states": {"x": X[0].T, "cu_seqlens": CUTS},
}  # fmt: skip
TENSORS["causal_conv1d_update_ref"] = TENSORS["causal_conv1d_update"]
TENSORS["causal_conv1d_varlen_states_ref"] = TENSORS["causal_conv1d_varlen_states"]
OTHERS = {"causal_conv1d_varlen_states": {"state_len": 3}}
OTHERS["causal_conv1d_varlen_states_ref"] = OTHERS["causal_conv1d_varlen_states"]


@pytest.mark.parametrize("needs_grad", [False, True])
@pytest.mark.parametrize("name", TENSORS)
def test_what_is_no_tensor(name, needs_grad):
    function, others = getattr(causal_conv1d_mps, name), OTHERS.get(name, {})
    right = {
        n: t.clone().requires_grad_(needs_grad and t.is_floating_point() and n != "conv_state")
        for n, t in TENSORS[name].items()
    }
    function(**{n: t.clone() for n, t in right.items()}, **others)
    for argument, tensor in right.items():
        array = tensor.detach().cpu().numpy()
        for wrong, came in ((array, "numpy.ndarray"), (array.tolist(), "list"), (1.5, "float")):
            with pytest.raises(TypeError, match=f"^{argument}: expected a tensor, got {came}$"):
                function(**{**right, argument: wrong}, **others)
    for argument in ("x", "weight", "conv_state"):
        if argument in right:
            with pytest.raises(TypeError, match=f"^{argument}: expected a tensor, got None$"):
                function(**{**right, argument: None}, **others)


def test_what_is_no_tensor_elsewhere():
    layer, array, text = CausalConv1d(4, 3), X.cpu().numpy(), "expected a tensor, got numpy.ndarray"
    pool, starts = torch.randn(3, 4, 3), torch.tensor([0, 8])
    wrong = {
        "x": [
            lambda: layer(array),
            lambda: layer.step(array),
            lambda: causal_conv1d_mps.CausalConv1dMPSFunction.apply(array, W),
            lambda: serving.causal_conv1d_prefill(array[0], W, B, pool, starts),
            lambda: serving.causal_conv1d_decode(array[:, :, 0], pool, W),
            lambda: cpp_functions.causal_conv1d_fwd_function(array, W, B, None, None, None, True),
        ],
        "final_states_out": [lambda: causal_conv1d_fn(X, W, B, None, None, True, array[:, :, :2])],
        "query_start_loc": [
            lambda: serving.causal_conv1d_prefill(X[0], W, B, pool, np.array([0, 8]))
        ],
        "dout": [
            lambda: cpp_functions.causal_conv1d_bwd_function(
                X, W, B, array, None, None, None, None, False, False
            )
        ],
    }
    for name, of_it in wrong.items():
        for call in of_it:
            with pytest.raises(TypeError, match=f"^{name}: {text}$"):
                call()


@pytest.mark.native_only
def test_what_pytorch_has_not_implemented_stays_its_own():
    """Only where an operation of ours lacks kernels is it our error."""

    class Refuses(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, function, types, arguments=(), options=None):
            raise error

    error = NotImplementedError("not by this tensor")
    x = torch.Tensor._make_subclass(Refuses, X)
    for call in (
        lambda: causal_conv1d(x, W),
        lambda: causal_conv1d(x, W.clone().requires_grad_()),
        lambda: causal_conv1d_fn(x, W, None, IDS),
        lambda: causal_conv1d_update(x, STATE.clone(), W),
    ):
        with pytest.raises(NotImplementedError) as raised:
            call()
        assert raised.value is error
    with pytest.raises(ValueError, match="Expected tensors on a device that has kernels"):
        causal_conv1d(X.to_sparse(), W)
