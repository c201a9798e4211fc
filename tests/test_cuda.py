"""What only CUDA has: graphs, streams, several devices, kernels cached on disk."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from numerics import make, parameters

from causal_conv1d_mps import (
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_update,
    causal_conv1d_varlen_fn,
)

pytestmark = pytest.mark.cuda_only


def forward(x, weight, bias):
    """out and, through it, every gradient."""
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    out = causal_conv1d(*leaves, "silu")
    return out, *torch.autograd.grad(out, leaves, x)


def with_states(x, weight, bias):
    """The states are made like x's columns."""
    states = x[..., : weight.shape[1] - 1] + 1
    return causal_conv1d_fn(
        x, weight, bias, initial_states=states, return_final_states=True, activation="silu"
    )


def by_seq_idx(x, weight, bias):
    """Ids that are on the GPU alone."""
    ids = (x[:, 0] > 0).cumsum(1).int()
    return (causal_conv1d_fn(x, weight, bias, ids, activation="silu"),)


def packed(x, weight, bias):
    """One row of three sequences."""
    cuts = torch.tensor([0, 7, 7, x.shape[2]])
    return causal_conv1d_varlen_fn(
        x[:1], weight, bias, cuts, return_final_states=True, activation="silu"
    )


def update(x, weight, bias):
    """A step, and the state it leaves."""
    state = x[..., :4].clone()
    return causal_conv1d_update(x[..., 4].contiguous(), state, weight, bias, "silu"), state


CALLS = [forward, with_states, by_seq_idx, update]


@pytest.mark.parametrize("layout", ["channel-first", "channels-last"])
@pytest.mark.parametrize("call", CALLS)
def test_graph(call, layout):
    """A captured call computes anew from what its inputs then are; a capture forbids waiting."""
    x, weight, bias = make(2, 64, 256, torch.bfloat16, layout), *parameters(64, 4)
    call(x, weight, bias)  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call(x, weight, bias)
    for _ in range(3):
        x.normal_(), weight.normal_(), bias.normal_()
        graph.replay()
        torch.cuda.synchronize()
        for result, expected in zip(results, call(x, weight, bias), strict=True):
            assert torch.equal(result, expected)


@pytest.mark.parametrize("call", [*CALLS, packed])
def test_current_stream(call):
    """A call waits for what is before it on its stream, and what follows there waits for it."""
    x, weight, bias = make(4, 256, 2048), *parameters(256, 4)
    expected = [r + 1 for r in call(2 * x, weight, bias)]
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)  # cycles: some 25 ms, in which nothing else is ordered
        doubled = 2 * x
        results = [r + 1 for r in call(doubled, weight, bias)]
        torch.cuda.current_stream().synchronize()
    for result, wanted in zip(results, expected, strict=True):
        assert torch.equal(result, wanted)


def test_threads_with_streams_of_their_own():
    x, weight, bias = make(2, 128, 512), *parameters(128, 4)
    expected, wrong = forward(x, weight, bias), []

    def run():
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                results = forward(x, weight, bias)
                torch.cuda.current_stream().synchronize()
                wrong.extend(not torch.equal(*p) for p in zip(results, expected, strict=True))

    torch.cuda.synchronize()
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 4 * 20 * 4 and not any(wrong)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_another_device_than_the_current_one():
    x, weight, bias = make(2, 128, 512), *parameters(128, 4)
    expected = forward(x, weight, bias)
    last = torch.device("cuda", torch.cuda.device_count() - 1)
    results = forward(*(t.to(last) for t in (x, weight, bias)))
    assert torch.cuda.current_device() == 0
    for result, wanted in zip(results, expected, strict=True):
        assert result.device == last and torch.equal(result.to(wanted.device), wanted)


def test_compiled_into_cuda_graphs():
    """Inductor's own graphs, forward and backward."""
    x, weight, bias = make(2, 64, 128), *parameters(64, 4)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]

    def function(x, weight, bias):
        return causal_conv1d(2 * x, weight, bias, "silu") * 3

    compiled = torch.compile(function, mode="reduce-overhead", fullgraph=True)
    for _ in range(4):  # the first ones warm up and record
        with torch.no_grad():
            x.normal_()
        torch.compiler.cudagraph_mark_step_begin()
        out = compiled(*leaves)
        grads = [g.clone() for g in torch.autograd.grad(out.sum(), leaves)]
        expected = function(*leaves)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(grads, list(torch.autograd.grad(expected.sum(), leaves)))


ONE_CALL = """
import torch, causal_conv1d_mps
x, w = torch.ones(1, 4, 8, device="cuda"), torch.ones(4, 4, device="cuda")
print(causal_conv1d_mps.causal_conv1d(x, w).sum().item())
"""


@pytest.mark.parametrize("damage", [lambda entry: b"", lambda entry: entry[:-1] + b"?"])
def test_cache(damage, tmp_path):
    """Kernels are kept on disk, and compiled anew where what lies there is not what was written."""

    def one_call():
        environment = {**os.environ, "CAUSAL_CONV1D_CACHE": str(tmp_path)}
        command = [sys.executable, "-c", ONE_CALL]
        return subprocess.check_output(command, env=environment, text=True).strip()

    assert one_call() == "104.0"  # 4 * (1 + 2 + 3 + 5 * 4)
    (entry,) = (path for path in tmp_path.rglob("*") if path.is_file())
    written = entry.read_bytes()
    entry.write_bytes(damage(written))
    assert one_call() == "104.0"
    assert entry.read_bytes() == written
