"""Bad input: the exception, its text, and nothing leaked."""

import ctypes
import gc

import pytest
import torch
from numerics import DEVICE

from causal_conv1d_mps import (
    CausalConv1d,
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_fwd,
    causal_conv1d_ref,
    causal_conv1d_update,
    causal_conv1d_varlen_fn,
    causal_conv1d_varlen_states,
)

X, W, B = torch.randn(2, 4, 8), torch.randn(4, 3), torch.randn(4)

BAD = {
    "x 2D": ((X[0], W, B), "Expected 3D input tensor x .*got 2D"),
    "x 4D": ((X[None], W, B), "Expected 3D input tensor x .*got 4D"),
    "x 0D": ((X[0, 0, 0], W, B), "Expected 3D input tensor x .*got 0D"),
    "weight 1D": ((X, W[0], B), "Expected 2D tensor weight .*got 1D"),
    "weight 3D": ((X, W[None], B), "Expected 2D tensor weight .*got 3D$"),
    "weight of nn.Conv1d": ((X, W[:, None], B), r"got 3D \(4, 1, 3\).*weight.squeeze\(1\)"),
    "weight dim": ((X, W[:3], B), r"weight \(dim, width\) with dim 3 does not match .*dim 4"),
    "width 0": ((X, W[:, :0], B), "width >= 1, got 0"),
    "bias 2D": ((X, W, W), "Expected 1D tensor bias .*got 2D"),
    "bias dim": ((X, W, B[:2]), r"bias \(dim\) with dim 2 does not match .*dim 4"),
    "x int": ((X.int(), W, B), "Expected x of dtype .*float64, got int32"),
    "x complex": ((X.to(torch.complex64), W, B), "Expected x of dtype .*got complex64"),
    "weight int": ((X, W.long(), B), "Expected weight of dtype .*got int64"),
    "bias bool": ((X, W, B > 0), "Expected bias of dtype .*got bool"),
    "weight elsewhere": (
        (X, W.to("meta"), B),
        f"Expected weight on the device of x, {X.device}, got one on meta",
    ),
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


WRONG_CUTS = (
    ([0, 9], "does not match the total"),
    ([1, 8], "begin with 0"),
    ([0, 5, 3, 8], "never fall"),
    ([], "sequences . 1 elements"),
)


def test_sequences():
    ids = torch.zeros(2, 8, dtype=torch.int32)

    def wrong(text, *arguments, error=ValueError, function=causal_conv1d_fn, **options):
        with pytest.raises(error, match=text):
            function(*arguments, **options)

    wrong("seq_idx excludes", X, W, B, ids, None, True, error=AssertionError)
    wrong("seq_idx .*does not match", X, W, B, ids[:, 1:])
    wrong("seq_idx of dtype int32 or int64, got float32", X, W, B, ids.float())
    wrong("seq_idx of dtype int32 or int64, got int16", X, W, B, ids.short())
    wrong("initial_states .*does not match", X, W, B, None, X[:, :, :3])
    wrong("initial_states .*does not match", X, W, B, None, X[:, :, 0])
    wrong("initial_states of x's dtype, float32, got float16", X, W, B, None, X[:, :, :2].half())
    wrong("does not match", X, W, B, None, None, True, torch.full((2, 4, 3), 7.0))

    packed = X[:1]
    for cuts, text in WRONG_CUTS if not DEVICE.is_gpu else WRONG_CUTS[-1:]:
        cuts = torch.tensor(cuts, dtype=torch.int64)
        wrong(text, packed, W, B, cuts, function=causal_conv1d_varlen_fn)
        wrong(text, packed[0].T, cuts, 3, function=causal_conv1d_varlen_states)
    good = torch.tensor([0, 8])
    wrong("batch 2", X, W, B, good, function=causal_conv1d_varlen_fn)
    wrong("got None", packed, W, B, function=causal_conv1d_varlen_fn)
    wrong("int32 or int64", packed, W, B, good.float(), function=causal_conv1d_varlen_fn)
    wrong("does not match", packed, W, B, good, X[:, :, :2], function=causal_conv1d_varlen_fn)
    wrong("state_len >= 0", packed[0].T, good, -1, function=causal_conv1d_varlen_states)


@pytest.mark.gpu_only
@pytest.mark.parametrize(
    "cuts", [[0, 9], [1, 8], [0, 5, 3, 8], [0, 2**40, 8], [-9, 8], [0, -(2**40), 8], [0, 5, 3]]
)
def test_wrong_cuts_do_no_harm(cuts):
    """Nobody reads them before the device does, which has to stay within the tensors."""
    x, cuts = X[:1], torch.tensor(cuts)
    states = torch.randn(len(cuts) - 1, 4, 2)
    inputs = [t.clone().requires_grad_() for t in (x, W, B, states)]
    out, final = causal_conv1d_varlen_fn(*inputs[:3], cuts, inputs[3], True, "silu")
    grads = torch.autograd.grad((out.sum() + final.sum()), inputs)
    states = causal_conv1d_varlen_states(x[0].T, cuts, 3)
    good = torch.tensor([0, 8])
    right = causal_conv1d_varlen_fn(x, W, B, good)
    assert torch.equal(right, causal_conv1d(x, W, B))  # the device is still well
    assert [t.shape for t in grads] == [t.shape for t in inputs]
    assert states.cpu().shape == (len(cuts) - 1, 4, 3)


@pytest.mark.gpu_only
@pytest.mark.skipif(DEVICE.emulated, reason="there is one device")
def test_tensors_on_the_cpu_beside_x_on_the_gpu():
    ids, cuts = torch.zeros(1, 8, dtype=torch.int32), torch.tensor([0, 8])
    x, states = X[:1], X[:1, :, :2]
    calls = {
        "weight": lambda: causal_conv1d(x, W.cpu(), B),
        "bias": lambda: causal_conv1d(x, W, B.cpu()),
        "weight ": lambda: causal_conv1d(x.cpu(), W, B.cpu()),
        "seq_idx": lambda: causal_conv1d_fn(x, W, B, ids.cpu()),
        "initial_states": lambda: causal_conv1d_fn(x, W, B, None, states.cpu()),
        "cu_seqlens": lambda: causal_conv1d_varlen_fn(x, W, B, cuts.cpu()),
        "cu_seqlens ": lambda: causal_conv1d_varlen_states(x[0].T, cuts.cpu(), 3),
        "conv_state": lambda: causal_conv1d_update(x, states.cpu(), W, B),
        "cache_seqlens": lambda: causal_conv1d_update(x, states, W, B, None, cuts[:1].cpu()),
        "conv_state_indices": lambda: causal_conv1d_update(
            x, states, W, B, None, None, cuts[:1].cpu()
        ),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"Expected {name.strip()} on the device of x"):
            call()


def test_sizes_that_overflow():
    huge = torch.zeros(1).expand(2**20, 2**20, 2**20)
    with pytest.raises(ValueError, match="overflow"):
        causal_conv1d(huge, torch.zeros(1).expand(2**20, 3))


@pytest.mark.parametrize(
    "name",
    "uint8 uint16 uint32 uint64 int8 int16 int32 int64 bool complex64 complex128 "
    "float8_e5m2 float8_e4m3fn float8_e5m2fnuz float8_e4m3fnuz float8_e8m0fnu".split(),
)
def test_other_dtypes_are_named(name):
    bias = torch.empty(4, dtype=getattr(torch, name))
    if name == "float8_e8m0fnu" and torch.__version__ < "2.13" and not DEVICE.fallback:
        name = f"({name}|another dtype)"  # the C interface of PyTorch 2.11 has no number for it
    with pytest.raises(ValueError, match=f"Expected bias of dtype .*, got {name}$"):
        causal_conv1d(X, W, bias)


def test_state_len_that_overflows():
    with pytest.raises(ValueError, match="state_len"):
        causal_conv1d_varlen_states(torch.randn(8, 4), torch.tensor([0, 8]), 2**62)


def test_module_sizes():
    with pytest.raises(ValueError, match="width >= 1"):
        CausalConv1d(4, 0)


def test_low_level_forward():
    with pytest.raises(ValueError, match="Expected 3D input tensor"):
        causal_conv1d_fwd(X[0], W)


@pytest.mark.native_only
def test_backward_of_a_bad_dout():
    op = torch.ops.causal_conv1d_mps.backward
    for dout, text in (
        (X[:, :, 1:], "Size 7 of dout in dimension 2 does not match"),
        (X[0], "dout"),
        (X.half(), "Expected dout of x's dtype"),
    ):
        with pytest.raises(RuntimeError, match=text):
            op(dout, None, X, W, B, None, None, None, True)


class Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of glibc."""

    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in names.split())


@pytest.mark.native_only
@pytest.mark.cpu_only
def test_good_and_bad_calls_leak_nothing():
    """Of what malloc has given out: a leaked handle of a tensor alone is 32 bytes a call."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if not mallinfo2:
        pytest.skip("glibc's count of what is allocated is not here")
    mallinfo2.restype = Mallinfo2

    def calls(n):
        for _ in range(n):
            causal_conv1d(X, W, B, "silu")
            for case in ("x 2D", "bias dim", "weight int"):
                try:
                    causal_conv1d(*BAD[case][0])
                except ValueError:
                    pass
            torch.ops.causal_conv1d_mps.backward(X, None, X, W, B, None, None, None, False)
        gc.collect()

    def allocated():
        found = mallinfo2()
        return found.uordblks + found.hblkhd

    calls(100)
    before = allocated()
    calls(1000)
    assert allocated() - before < 16 * 1000
