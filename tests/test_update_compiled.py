"""The decoding step under torch.compile and AOTInductor, on states that are views of a cache."""

import pytest
import torch
from numerics import DEVICE, parameters

from causal_conv1d_mps import causal_conv1d_update

# A cache and the state (2, 8, 4) in it.
VIEWS = {
    "whole": ((2, 8, 4), lambda c: c),
    "first layer": ((3, 2, 8, 4), lambda c: c[0]),
    "layer": ((3, 2, 8, 4), lambda c: c[1]),
    "layer among channels": ((2, 8, 3, 4), lambda c: c.select(2, 1)),
    "unbound": ((3, 2, 8, 4), lambda c: c.unbind(0)[2]),
    "layer of a layer": ((3, 2, 2, 8, 4), lambda c: c[1][1]),
    "narrow": ((2, 8, 9), lambda c: c.narrow(2, 3, 4)),
    "rows": ((5, 8, 4), lambda c: c[1:3]),
    "rows of a layer": ((3, 4, 8, 4), lambda c: c[1][1:3]),
    "chunk": ((2, 16, 4), lambda c: c.chunk(2, 1)[1]),
    "steps": ((4, 16, 8), lambda c: c[::2, 1::2, ::2]),
    "transposed": ((2, 4, 8), lambda c: c.mT),
    "transposed layer": ((3, 2, 4, 8), lambda c: c[1].mT),
    "channels first": ((3, 8, 2, 4), lambda c: c[1].transpose(0, 1)),
    "arena": ((200,), lambda c: c[64:128].view(2, 8, 4)),
    "as_strided": ((200,), lambda c: c.as_strided((2, 8, 4), (64, 1, 8), 40)),
    "squeezed": ((2, 1, 8, 4), lambda c: c.squeeze(1)),
    "diagonal": ((2, 2, 8, 4), lambda c: c.diagonal().movedim(-1, 0)),
    "other dtype": ((3, 2, 8, 4), lambda c: c.view(torch.int32).view(torch.float32)[1]),
}
# A cache and the pool (5, 8, 6) in it.
POOLS = {
    "whole": ((5, 8, 6), lambda c: c),
    "layer": ((3, 5, 8, 6), lambda c: c[1]),
    "columns": ((5, 8, 9), lambda c: c[:, :, 2:8]),
    "transposed layer": ((2, 5, 6, 8), lambda c: c[1].mT),
}
WEIGHT, BIAS = parameters(8, 4)
PADDING = [[4, -1, 0], [-1, 2, -1], [-3, -1, -1], [1, 0, 4], [0, -1, -1]]


@pytest.fixture(autouse=True, scope="module")
def _no_graphs_of_another_run(tmp_path_factory):
    """Inductor keeps what it made of a graph, and would not notice that an operation changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


def check(function, compiled, *inputs, caches, names=()):
    """Both, from the same caches on, twice: these hold the same afterwards, at the same address."""
    expected_caches = [c.clone() for c in caches]
    addresses = [c.data_ptr() for c in caches]
    with torch.no_grad():
        for _ in range(2):
            expected = function(*inputs, *expected_caches)
            torch.testing.assert_close(compiled(*inputs, *caches), expected, equal_nan=True)
    # A later layer's state takes an earlier one's output, and Inductor rounds plain PyTorch anew.
    tolerance = 1e-5 if DEVICE.fallback else 0.0
    same = [
        torch.allclose(cache, right, rtol=tolerance, atol=tolerance, equal_nan=True)
        for cache, right in zip(caches, expected_caches, strict=True)
    ]
    assert all(same), [names[i] if names else i for i, right in enumerate(same) if not right]
    assert [c.data_ptr() for c in caches] == addresses


@pytest.mark.parametrize("dynamic", [False, True])
def test_views(dynamic):
    def step(x, *caches):
        views = [view(c) for (_, view), c in zip(VIEWS.values(), caches, strict=True)]
        return [causal_conv1d_update(x, v, WEIGHT, BIAS, "silu") for v in views]

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic)
    caches = [torch.randn(shape) for shape, _ in VIEWS.values()]
    check(step, compiled, torch.randn(2, 8, 1), caches=caches, names=list(VIEWS))


@pytest.mark.parametrize("dynamic", [None, True])
def test_a_loop_over_layers_at_several_batch_sizes(dynamic):
    lengths = torch.tensor([3, 9, 0, 1, 7])

    def step(x, ring, cache):
        for layer in range(4):
            x = causal_conv1d_update(x, cache[layer], WEIGHT, BIAS, "silu")
        return causal_conv1d_update(x, ring[1], WEIGHT, BIAS, None, lengths[: x.shape[0]])

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic)
    for batch in (2, 5, 3):
        caches = [torch.randn(2, batch, 8, 5), torch.randn(4, batch, 8, 4)]
        check(step, compiled, torch.randn(batch, 8, 3), caches=caches)


def test_the_layer_is_a_number_of_the_call():
    def step(x, layer, cache):
        return causal_conv1d_update(x, cache[layer], WEIGHT, BIAS, "silu")

    def chosen(x, layer, cache):
        index = layer.item()
        torch._check(index >= 0)
        torch._check(index < cache.shape[0])
        return step(x, index, cache)

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True)
    for layer in (1, 2, 0, 1):
        check(step, compiled, torch.randn(2, 8), layer, caches=[torch.randn(3, 2, 8, 4)])
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        compiled = torch.compile(chosen, fullgraph=True)
        for layer in (2, 0, 1):
            index = torch.tensor(layer)
            check(chosen, compiled, torch.randn(2, 8), index, caches=[torch.randn(3, 2, 8, 4)])


@pytest.mark.parametrize("dynamic", [False, True])
def test_layers_of_one_cache_as_arguments(dynamic):
    def step(x, first, second):
        y = causal_conv1d_update(x, first, WEIGHT, BIAS, "silu")
        return causal_conv1d_update(y, second, WEIGHT, BIAS, "silu")

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic)
    x, cache = torch.randn(2, 8), torch.randn(4, 2, 8, 4)
    expected = cache.clone()
    with torch.no_grad():
        for _ in range(2):
            right = step(x, expected[1], expected[3])
            torch.testing.assert_close(compiled(x, cache[1], cache[3]), right)
            assert torch.equal(cache, expected)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
def test_pools(backend, dynamic):
    """Padding leaves the pool as it is, wherever it stands among the rows."""

    def step(x, indices, lengths, *caches):
        pools = [view(c) for (_, view), c in zip(POOLS.values(), caches, strict=True)]
        outs = [causal_conv1d_update(x, p, WEIGHT, BIAS, None, None, indices) for p in pools]
        return outs + [
            causal_conv1d_update(x, p, WEIGHT, BIAS, None, lengths, indices) for p in pools
        ]

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend=backend)
    lengths = torch.tensor([7, 0, 3])
    for dtype in (torch.int64, torch.int32):
        for indices in PADDING:
            caches = [torch.randn(shape) for shape, _ in POOLS.values()]
            for (_, view), cache in zip(POOLS.values(), caches, strict=True):
                view(cache)[3] = float("nan")
            inputs = (torch.randn(3, 8, 2), torch.tensor(indices, dtype=dtype), lengths)
            check(step, compiled, *inputs, caches=caches, names=list(POOLS))


@pytest.mark.parametrize("rows, slots", [(0, 5), (2, 0), (0, 0)])
def test_no_rows_or_no_slots(rows, slots):
    def step(x, indices, cache):
        return causal_conv1d_update(x, cache[1], WEIGHT, BIAS, None, None, indices)

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    indices = torch.full((rows,), -1)
    check(step, compiled, torch.randn(rows, 8), indices, caches=[torch.randn(3, slots, 8, 4)])


@pytest.mark.native_only  # compiled plain PyTorch reads no index
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
def test_an_index_beyond_the_pool(dynamic, backend):
    """An error that changes nothing; on a GPU, where nobody reads it, padding."""

    def step(x, indices, cache):
        return causal_conv1d_update(x, cache[1], WEIGHT, BIAS, "silu", None, indices)

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend=backend)
    x, cache, indices = torch.randn(2, 8), torch.randn(3, 5, 8, 4), torch.tensor([3, 5])
    before = cache.clone()
    with torch.no_grad():
        if DEVICE.is_gpu:
            compiled(x, indices, cache)
            step(x, indices, before)
        else:
            with pytest.raises(RuntimeError, match=r"conv_state_indices below 5.* got 5 at 1"):
                compiled(x, indices, cache)
    assert torch.equal(cache, before)


class Layers(torch.nn.Module):
    """Every way to keep states, in two layers each."""

    def forward(self, x, indices, lengths, stack, rings, pools, columns, across):
        x = causal_conv1d_update(x, across.mT, WEIGHT, BIAS, "silu")
        for layer in range(2):
            x = causal_conv1d_update(x, stack[layer], WEIGHT, BIAS, "silu")
            x = causal_conv1d_update(x, rings[layer], WEIGHT, BIAS, "silu", lengths)
            x = causal_conv1d_update(x, pools[layer], WEIGHT, BIAS, None, None, indices)
            x = causal_conv1d_update(x, columns[..., layer : layer + 4], WEIGHT, BIAS, None)
        return x


@pytest.mark.parametrize("dynamic", [False, True])
def test_aot_inductor(dynamic, tmp_path):
    def example(batch):
        shapes = [(2, batch, 8, 4), (2, batch, 8, 5), (2, 7, 8, 4), (batch, 8, 5), (batch, 4, 8)]
        caches = [torch.randn(shape) for shape in shapes]
        indices = torch.arange(batch) - 1
        return (torch.randn(batch, 8), indices, torch.arange(batch)), caches

    batch = torch.export.Dim("batch", min=2, max=6)
    of_batch = [{0: batch}] * 3 + [{1: batch}, {1: batch}, None, {0: batch}, {0: batch}]
    inputs, caches = example(3)
    program = torch.export.export(
        Layers(), (*inputs, *caches), dynamic_shapes=of_batch if dynamic else None
    )
    path = torch._inductor.aoti_compile_and_package(
        program, package_path=str(tmp_path / "layers.pt2")
    )
    packaged = torch._inductor.aoti_load_package(path)
    for size in (3, 2, 6) if dynamic else (3,):
        inputs, caches = example(size)
        check(Layers(), program.module(), *inputs, caches=[c.clone() for c in caches])
        check(Layers(), packaged, *inputs, caches=caches)
