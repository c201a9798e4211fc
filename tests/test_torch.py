"""The operations inside PyTorch: opcheck, compile, autocast, threads, fork, workers."""

import multiprocessing
import threading

import pytest
import torch
from numerics import DEVICE, make, parameters
from torch.utils.data import DataLoader

from causal_conv1d_mps import (
    CausalConv1d,
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_ref,
    causal_conv1d_varlen_fn,
)

OPS = torch.ops.causal_conv1d_mps


@pytest.mark.native_only
@pytest.mark.parametrize("layout", ["channel-first", "channels-last", "padded"])
@pytest.mark.parametrize("kind", ["bare", "bias", "states", "ids", "packed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype, kind, layout):
    x = make(1, 5, 9, dtype, layout)
    weight, bias = parameters(5, 4, bias=kind != "bare")
    ids = torch.tensor([[0, 0, 0, 1, 1, -1, 2, 2, 2]]) if kind == "ids" else None
    cuts = torch.tensor([0, 4, 9]) if kind == "packed" else None
    states = (
        make(2 if cuts is not None else 1, 5, 3, dtype) if kind in ("states", "packed") else None
    )
    final = make(*states.shape, dtype) if states is not None else None
    arguments = (x, weight, bias, ids, cuts, states, True, states is not None)
    torch.library.opcheck(OPS.forward_plain.default, (x, weight, bias, True))
    backward = (x, final, x, weight, bias, ids, cuts, states, True)
    for tensor in (x, weight, bias, states):
        if tensor is not None:
            tensor.requires_grad_()
    torch.library.opcheck(OPS.forward.default, arguments)
    torch.library.opcheck(OPS.backward.default, backward)


@pytest.mark.native_only
@pytest.mark.parametrize("kind", ["plain", "ring", "pool"])
def test_opcheck_update(kind):
    weight, bias = parameters(5, 4)
    lengths = torch.tensor([3, 9]) if kind == "ring" else None
    indices = torch.tensor([2, -1]) if kind == "pool" else None
    state = torch.randn(3 if kind == "pool" else 2, 5, 4)
    for x in (torch.randn(2, 5), torch.randn(2, 5, 2)):
        arguments = (x, state, weight, bias, True, lengths, indices)
        torch.library.opcheck(OPS.update.default, arguments)
        torch.library.opcheck(OPS.update_traced.default, arguments)
        rows = None if indices is None else (state[:2], torch.tensor([0, -1]))
        torch.library.opcheck(OPS.update_functional.default, (*arguments, *(rows or (None, None))))


@pytest.mark.native_only
def test_opcheck_varlen_states():
    cuts = torch.tensor([0, 4, 4, 9], dtype=torch.int32)
    torch.library.opcheck(OPS.varlen_states.default, (torch.randn(9, 5), cuts, 3))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_without_graph_break(dynamic):
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = CausalConv1d(8, 4, activation="silu")

        def forward(self, x):
            y = self.conv((2 * x).transpose(1, 2))
            return causal_conv1d_fn(y, self.conv.weight, self.conv.bias).transpose(1, 2) + x

    block = Block()
    compiled = torch.compile(block, fullgraph=True, dynamic=dynamic)
    for seqlen in (9, 17, 33):
        x = torch.randn(2, seqlen, 8, requires_grad=True)
        expected, out = block(x), compiled(x)
        torch.testing.assert_close(out, expected)
        dout = torch.randn_like(x)
        inputs = (x, *block.parameters())
        for a, b in zip(
            torch.autograd.grad(out, inputs, dout),
            torch.autograd.grad(expected, inputs, dout),
            strict=True,
        ):
            torch.testing.assert_close(a, b)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), expected)


def test_export():
    layer = CausalConv1d(8, 4, activation="silu")
    program = torch.export.export(layer, (torch.randn(2, 8, 9),))
    x = torch.randn(2, 8, 9)
    torch.testing.assert_close(program.module()(x), layer(x))


def test_meta_gives_shape_and_strides():
    x = make(2, 5, 9, layout="padded")
    weight, bias = parameters(5, 4)
    meta = causal_conv1d(x.to("meta"), weight.to("meta"), bias.to("meta"))
    out = causal_conv1d(x, weight, bias)
    assert meta.shape == out.shape and meta.is_meta
    assert causal_conv1d(x.to("meta").mT, weight.new_empty(9, 2, device="meta")).shape == (2, 9, 5)


def test_autocast_keeps_full_precision_parameters():
    layer = CausalConv1d(8, 4, activation="silu")
    project = torch.nn.Linear(8, 8)
    with torch.autocast(DEVICE.name, torch.bfloat16):
        x = project(torch.randn(2, 9, 8)).mT
        out = layer(x)
        out.float().sum().backward()
    assert x.dtype == out.dtype == torch.bfloat16 and layer.weight.grad.dtype == torch.float32
    reference = causal_conv1d_ref(x, layer.weight, layer.bias, activation="silu")
    torch.testing.assert_close(out, reference, rtol=2**-7, atol=1e-30)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_with_sequences(dynamic):
    weight, bias = (t.requires_grad_() for t in parameters(8, 4))

    def function(x, states, ids, cuts):
        out, final = causal_conv1d_fn(x, weight, bias, None, states, True, activation="silu")
        packed = causal_conv1d_varlen_fn(x[:1], weight, bias, cuts, activation="silu")
        return out + packed, final * 2, causal_conv1d_fn(x, weight, bias, ids)

    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic)
    for seqlen in (9, 17):
        x, states = torch.randn(2, 8, seqlen, requires_grad=True), torch.randn(2, 8, 3)
        ids, cuts = torch.randint(-1, 2, (2, seqlen)), torch.tensor([0, 4, seqlen])
        expected, results = (f(x, states, ids, cuts) for f in (function, compiled))
        torch.testing.assert_close(results, expected)
        douts = [torch.randn_like(r) for r in results]
        torch.testing.assert_close(
            *(torch.autograd.grad(r, (x, weight, bias), douts) for r in (results, expected))
        )


def test_vmap_and_functional_transforms():
    xs, (weight, bias) = torch.randn(4, 2, 5, 9), parameters(5, 4)
    states, ids = torch.randn(4, 2, 5, 3), torch.randint(-1, 2, (4, 2, 9))
    many = torch.randn(4, 5, 4)

    def one(x, weight, states, ids):
        return causal_conv1d_fn(x, weight, bias, ids, states, activation="silu")

    def loop(function, *arguments):
        return torch.stack([function(*parts) for parts in zip(*arguments, strict=True)])

    shared = [weight] * 4
    bits = {} if DEVICE.fallback else {"rtol": 0.0, "atol": 0.0}
    out = torch.vmap(one, in_dims=(0, None, 0, 0))(xs, weight, states, ids)
    torch.testing.assert_close(out, loop(one, xs, shared, states, ids), **bits)
    out = torch.vmap(one)(xs, many, states, ids)
    torch.testing.assert_close(out, loop(one, xs, many, states, ids), **bits)

    cuts = torch.tensor([0, 4, 9])
    out = torch.vmap(lambda x: causal_conv1d_varlen_fn(x, weight, bias, cuts))(xs[:, :1])
    expected = [causal_conv1d_varlen_fn(x[:1], weight, bias, cuts) for x in xs]
    torch.testing.assert_close(out, torch.stack(expected), **bits)

    def gradient(function):
        return torch.func.grad(
            lambda weight, x: function(x, weight, bias, activation="silu").square().sum()
        )

    per_sample = torch.vmap(gradient(causal_conv1d), in_dims=(None, 0))(weight, xs)
    expected = torch.stack([gradient(causal_conv1d_ref)(weight, x) for x in xs])
    torch.testing.assert_close(per_sample, expected, rtol=1e-4, atol=1e-4)
    twice = torch.func.grad(lambda w: gradient(causal_conv1d)(w, xs[0]).sum())(weight)
    expected = torch.func.grad(lambda w: gradient(causal_conv1d_ref)(w, xs[0]).sum())(weight)
    torch.testing.assert_close(twice, expected, rtol=1e-4, atol=1e-4)


def work(seed):
    """A forward and backward big enough for several threads; the bits depend on the seed alone."""
    generator = torch.Generator(DEVICE.name).manual_seed(seed)
    # A default device is that of one thread.
    options = {"generator": generator, "device": DEVICE.name, "requires_grad": True}
    x, weight = torch.randn(2, 64, 700, **options), torch.randn(64, 4, **options)
    out = causal_conv1d(x, weight, None, "silu")
    return [t.detach() for t in (out, *torch.autograd.grad(out.square().sum(), (x, weight)))]


def test_eight_python_threads_at_once():
    expected = {seed: work(seed) for seed in range(8)}
    wrong = []

    def run(seed):
        for _ in range(1 if DEVICE.emulated else 20):
            if not all(map(torch.equal, work(seed), expected[seed])):
                wrong.append(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def forked(sender):
    torch.set_num_threads(1)  # as PyTorch's own workers do: OpenMP does not survive a fork
    sender.send([t.numpy() for t in work(3)])


@pytest.mark.native_only  # plain PyTorch's own threads may hang after a fork
@pytest.mark.cpu_only
def test_after_fork():
    expected = work(3)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=forked, args=(sender,))
    process.start()
    sender.close()  # the process has the only other end: if it dies, recv raises
    got = receiver.recv()
    process.join()
    assert process.exitcode == 0
    assert all(torch.equal(torch.from_numpy(a), b) for a, b in zip(got, expected, strict=True))


class Convolved(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return work(index)[0]


@pytest.mark.native_only  # plain PyTorch's own threads may hang after a fork
@pytest.mark.cpu_only
def test_data_loader_workers():
    loaded = list(DataLoader(Convolved(), batch_size=None, num_workers=2))
    assert all(torch.equal(item, work(i)[0]) for i, item in enumerate(loaded))
