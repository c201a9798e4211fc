"""Forward results against float64 and to the bit, over dtypes, layouts, lengths, views."""

import itertools
import random

import pytest
import torch
from numerics import DEVICE, LAYOUTS, assert_forward, make, on_cpu, parameters

from causal_conv1d_mps import (
    CausalConv1d,
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_fwd,
    causal_conv1d_ref,
    causal_conv1d_update,
)

# Around every vector width (8, 16) and twice it, and T in 0..W+2.
LENGTHS = sorted({*range(7), 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130})


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DEVICE.dtypes, ids=str)
def test_every_length(dtype, layout, bias, activation):
    for width, seqlen in itertools.product((1, 2, 3, 4, 5), LENGTHS):
        x = make(2, 19, seqlen, dtype, layout)
        weight, b = parameters(19, width, dtype, bias)
        assert_forward(causal_conv1d(x, weight, b, activation), x, weight, b, activation)


@pytest.mark.parametrize(
    "shape", DEVICE.affordable((1, 300, 100), (3, 2, 9000), (1, 513, 700), (5, 64, 1))
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DEVICE.dtypes, ids=str)
def test_several_tiles(dtype, layout, shape):
    x = make(*shape, dtype, layout)
    weight, bias = parameters(shape[1], 4, dtype)
    assert_forward(causal_conv1d(x, weight, bias, "swish"), x, weight, bias, "swish")


@pytest.mark.parametrize("weight_dtype", DEVICE.parameter_dtypes, ids=str)
@pytest.mark.parametrize("bias_dtype", DEVICE.parameter_dtypes, ids=str)
def test_mixed_dtypes(weight_dtype, bias_dtype):
    for dtype, layout in itertools.product(DEVICE.dtypes, LAYOUTS[:2]):
        x = make(2, 19, 33, dtype, layout)
        weight, bias = parameters(19, 4, weight_dtype, bias_dtype=bias_dtype)
        assert_forward(causal_conv1d(x, weight, bias), x, weight, bias, None)


def chain(x, weight, bias):
    """The W fma from the bias on, each rounded once to float32, in the order of the taps."""
    columns, out = torch.nn.functional.pad(x, (weight.shape[1] - 1, 0)).double(), bias.double()
    out = out[:, None].expand(x.shape)
    for k, tap in enumerate(weight.double().unbind(1)):
        # The product is exact in float64; the sum is rounded to odd there, then to float32.
        a, b = tap[:, None] * columns[:, :, k : k + x.shape[2]], out
        total = a + b
        error = (a - (total - (total - a))) + (b - (total - a))
        bits = total.view(torch.int64)
        beyond = ((error != 0) & ((error < 0) == (total > 0))).long()
        odd = ((bits - beyond) | 1).view(torch.float64)
        out = torch.where(error == 0, total, odd).float().double()
    return out.to(x.dtype)


@pytest.mark.native_only
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 17, 33, 145])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_same_bits_on_every_device(dtype, layout, width):
    """Without SiLU: those of a chain of fma, whatever the device, and so the CPU's."""
    x, (weight, bias) = make(2, 37, 101, dtype, layout), parameters(37, width)
    out = causal_conv1d(x, weight, bias).cpu()
    assert torch.equal(out, chain(*on_cpu((x, weight, bias))))
    assert torch.equal(out, causal_conv1d(*on_cpu((x, weight, bias))))


@pytest.mark.gpu_only
def test_float64_is_refused():
    if DEVICE.name == "mps":
        pytest.skip("PyTorch itself has no float64 there")
    x, (weight, bias) = make(2, 5, 9, torch.float64), parameters(5, 4)
    with pytest.raises(ValueError, match="float64"):
        causal_conv1d(x, weight, bias)
    with pytest.raises(ValueError, match="float64"):
        causal_conv1d_update(x[:, :, 0], torch.zeros_like(x), weight, bias)


def test_every_view_equals_its_copy():
    base = torch.randn(3, 40, 50)
    views = {
        "offset": base[1:, 3:, 5:],
        "every other": base[::2, ::3, ::4],
        "expanded batch": base[:1].expand(3, -1, -1),
        "expanded time": base[:, :, :1].expand(-1, -1, 50),
        "overlapping": base.as_strided((3, 40, 50), (7, 3, 1)),
        "permuted": base.permute(2, 0, 1),
        "transposed": base.transpose(0, 2),
    }
    for name, x in views.items():
        weight, bias = parameters(x.shape[1], 4)
        out = causal_conv1d(x, weight.T.contiguous().T, bias.repeat_interleave(2)[::2], "silu")
        assert_forward(out, x, weight, bias, "silu")
        assert torch.allclose(out, causal_conv1d(x.contiguous(), weight, bias, "silu")), name


def test_output_has_the_strides_of_empty_like():
    draw = random.Random(1)
    for _ in range(500):
        shape = draw.choices((0, 1, 2, 3, 5), k=3)
        x = torch.randn(400).as_strided(shape, draw.choices((0, 1, 2, 3, 5, 15, 30), k=3))
        if draw.choice((True, False)):
            x = torch.randn(shape).permute(draw.sample(range(3), 3))
        out = causal_conv1d(x, torch.randn(x.shape[1], 2))
        assert out.stride() == torch.empty_like(x).stride(), (x.shape, x.stride())


@pytest.mark.native_only
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", DEVICE.affordable((2, 40, 3000), (1, 1000, 70), (7, 5, 20000)))
def test_same_bits_whatever_the_threads(shape, layout):
    x = make(*shape, layout=layout)
    weight, bias = parameters(shape[1], 4)
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        results.append(causal_conv1d(x, weight, bias, "silu"))
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("dtype", DEVICE.dtypes[:3], ids=str)
def test_special_values_stay_in_their_window(dtype):
    x = make(1, 5, 64, dtype)
    x[0, 0, 10], x[0, 1, 20], x[0, 2, 30] = float("nan"), float("inf"), -float("inf")
    weight, bias = parameters(5, 4, dtype)
    for layout in (x, x.mT.contiguous().mT):
        out = causal_conv1d(layout, weight, bias, "silu").cpu()
        assert out[0, 0, 10:14].isnan().all() and (~out.isfinite()).sum() <= 12
        before = causal_conv1d_ref(*(t.cpu().double() for t in (layout, weight, bias)))
        assert torch.equal(out.isnan(), before.isnan())
        assert (
            out[before == -torch.inf].abs().float() < 2e-36
        ).all()  # PyTorch's own silu gives NaN
        assert (out[before == torch.inf] == torch.inf).all()


def test_low_level_forward_rounds_parameters_to_the_dtype_of_x():
    x = make(2, 19, 33, torch.bfloat16)
    weight, bias = parameters(19, 4)
    weight.requires_grad_()
    rounded = causal_conv1d(x, weight.bfloat16(), bias.bfloat16(), "silu").detach()
    out = causal_conv1d_fwd(x, weight, bias, True)
    assert torch.equal(out, rounded) and not out.requires_grad
    assert not torch.equal(out, causal_conv1d(x, weight, bias, "silu"))
    assert torch.equal(causal_conv1d_fwd(x.float(), weight), causal_conv1d(x.float(), weight))


def test_fn_and_module_are_the_function():
    x = make(2, 19, 33)
    layer = CausalConv1d(19, 3, activation="silu")
    expected = causal_conv1d(x, layer.weight, layer.bias, "silu")
    assert torch.equal(layer(x), expected)
    assert torch.equal(
        causal_conv1d_fn(x, layer.weight, bias=layer.bias, activation="swish"), expected
    )
    bare = CausalConv1d(19, 3, bias=False)
    assert list(bare.state_dict()) == ["weight"] and "bias=False" in repr(bare)
    assert torch.equal(bare(x), causal_conv1d(x, bare.weight))


@pytest.mark.cpu_only
def test_fresh_large_output_with_and_without_huge_pages():
    x = make(1, 2048, 4500)  # 36.9 MB: above the threshold of 32 MiB
    weight, bias = parameters(2048, 4)
    assert_forward(causal_conv1d(x, weight, bias), x, weight, bias, None)
