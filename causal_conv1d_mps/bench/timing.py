"""Times of calls: contenders take turns, and each sample is long enough for the clock."""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

# Seconds: reading the clock must not count, nor a timer interrupt, nor waiting for a GPU.
MIN_SAMPLE = {"cpu": 2e-3, "cuda": 1e-2, "mps": 5e-2}
BURST = 20  # calls in a row for the host's time: no device's queue is full by then
GRAPH_CALLS = 20  # in a CUDA graph, whose start counts once

Call = Callable[[], Any]


@dataclass(frozen=True)
class Stats:
    """Milliseconds per call over the rounds; stddev in percent of the mean."""

    minimum: float
    median: float
    stddev: float

    @classmethod
    def of(cls, seconds: list[float]) -> Stats:
        """The statistics of one contender's samples."""
        spread = statistics.pstdev(seconds) / statistics.mean(seconds)
        return cls(1e3 * min(seconds), 1e3 * statistics.median(seconds), 100 * spread)


def measure(calls: dict[str, Call], args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds per call of every contender, a sample of each per round."""
    synchronize = torch.get_device_module(args.device).synchronize

    def batch(call: Call, repeats: int) -> float:
        synchronize()
        start = perf_counter()
        for _ in range(repeats):
            call()
        synchronize()
        return perf_counter() - start

    repeats = dict.fromkeys(calls, 1)
    for name, call in calls.items():
        # The fastest of three: one interrupt must not pass for a long call.
        while min(batch(call, repeats[name]) for _ in range(3)) < MIN_SAMPLE[args.device]:
            repeats[name] *= 2
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.rounds):
        for name in random.sample(list(calls), len(calls)):
            samples[name].append(batch(calls[name], repeats[name]) / repeats[name])
    return samples


def host_times(calls: dict[str, Call], args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds that a call keeps the host of a GPU: of a burst, before any waiting."""
    synchronize = torch.get_device_module(args.device).synchronize

    def burst(call: Call) -> float:
        synchronize()
        start = perf_counter()
        for _ in range(BURST):
            call()
        return perf_counter() - start

    if args.device == "cpu":
        return {}
    return {name: 1e3 / BURST * min(burst(call) for _ in range(5)) for name, call in calls.items()}


def captured(call: Call, count: int = GRAPH_CALLS) -> torch.cuda.CUDAGraph:
    """A CUDA graph of so many calls."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        for _ in range(count):
            call()
    return graph


def graph_times(calls: dict[str, Call], args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of a call in a CUDA graph: the GPU's alone."""
    if args.device != "cuda":
        return {}
    graphs = {name: captured(call) for name, call in calls.items()}
    samples = measure({name: graph.replay for name, graph in graphs.items()}, args)
    return {name: 1e3 / GRAPH_CALLS * min(seconds) for name, seconds in samples.items()}
