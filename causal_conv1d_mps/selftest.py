"""Is every operation right here, and how fast? Prints one page for each device that is here, or for
the one named, to paste into an issue.

Results are compared with float64 ones of the CPU, within the bounds of docs/numerics.md. The exit
code is 0 if all is right, 1 if not, 2 if the device cannot be used.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ._functions import (
    __version__,
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_update,
    causal_conv1d_varlen_fn,
    causal_conv1d_varlen_states,
)
from ._library import library
from ._table import show
from .bounds import backward_errors, forward_error, reference
from .reference import causal_conv1d_update_ref, causal_conv1d_varlen_states_ref

DIM, LENGTHS = 37, (1, 5, 130)  # no multiple of any vector
WIDTHS = (1, 2, 3, 4, 5, 8, 9)
DEVICES = ("cpu", "mps", "cuda")
LAYOUTS = ("channel-first", "channels-last", "strided")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SHAPE, SAMPLE = (2, 2048, 2048), 0.02  # what is timed, for how many seconds
WRONG = float("inf")  # the error of what has to be exact and is not


def chip(device: str) -> str:
    """The name of the GPU, or the one that the system gives its CPU (on a Mac they are one)."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.check_output(command, text=True).strip()
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    return match[1] if match else platform.processor() or platform.machine()


def lack(device: str) -> str | None:
    """Why the operations cannot run on the device, or None."""
    if not torch.get_device_module(device).is_available():
        return "this machine has none that PyTorch can use"
    try:
        causal_conv1d(torch.ones(1, 1, 1, device=device), torch.ones(1, 1, device=device))
    except (RuntimeError, ValueError) as error:
        return str(error)
    return None


class Maker:
    """Random tensors of one dtype and layout on a device."""

    def __init__(self, device: str, dtype: torch.dtype, layout: str) -> None:
        self.device: str = device
        self.dtype: torch.dtype = dtype
        self.layout: str = layout

    def normal(self, *shape: int) -> Tensor:
        """Contiguous."""
        return torch.randn(*shape).to(self.device, self.dtype)

    def columns(self, batch: int, length: int) -> Tensor:
        """(batch, DIM, length) in the layout."""
        if self.layout == "channel-first":
            return self.normal(batch, DIM, length)
        if self.layout == "channels-last":
            return self.normal(batch, length, DIM).mT
        return self.normal(batch, DIM, 2 * length, 2)[:, :, ::2, 1]

    def parameters(self, width: int) -> tuple[Tensor, Tensor]:
        """Weight and bias, in float32 for odd widths: so it is under autocast."""
        dtype = self.dtype if width % 2 == 0 else torch.float32
        return self.normal(DIM, width).to(dtype), self.normal(DIM).to(dtype)

    def integers(self, values: Any) -> Tensor:
        """The dtype of ids, offsets and indices is not that of x."""
        return torch.as_tensor(values, dtype=torch.int32).to(self.device)


class Progress:
    """Says on stderr what is being done, once two seconds have passed in silence."""

    def __init__(self) -> None:
        self.spoke: float = perf_counter()

    def __call__(self, doing: str) -> None:
        """Of a step that takes less than a second."""
        if perf_counter() - self.spoke > 2:
            print(f"{doing} ...", file=sys.stderr, flush=True)
            self.spoke = perf_counter()


tell: Progress = Progress()

# ---- the operations: each yields the errors of its cases in units of their bounds


def _sequences(make: Maker, kind: str, width: int, length: int) -> tuple[int, dict[str, Any]]:
    """The batch of x, and what else the call is given."""
    if kind == "seq_idx":
        ids = torch.randint(-1, 4, (2, length)).sort(dim=1).values
        return 2, {"seq_idx": make.integers(ids), "initial_states": make.columns(2, width - 1)}
    if kind == "states":
        return 2, {"initial_states": make.columns(2, width - 1)}
    if kind == "packed":
        cuts = make.integers([0, length // 3, length // 3, length])
        return 1, {"cu_seqlens": cuts, "initial_states": make.columns(3, width - 1)}
    return 2, {}


def _call(x: Tensor, weight: Tensor, bias: Tensor, kind: str, options: dict[str, Any]) -> Any:
    """(out, final states or None)."""
    if kind == "packed":
        function = causal_conv1d_varlen_fn
        return function(x, weight, bias, return_final_states=True, activation="silu", **options)
    if kind == "states":
        options = {**options, "return_final_states": True}
        return causal_conv1d_fn(x, weight, bias, activation="silu", **options)
    if kind == "seq_idx":
        return causal_conv1d_fn(x, weight, bias, activation="silu", **options), None
    return causal_conv1d(x, weight, bias, "silu"), None


def convolution(make: Maker, kind: str, backward: bool) -> Iterator[float]:
    """Forward or backward, of one kind of sequences."""
    for width, length in product(WIDTHS, LENGTHS):
        batch, options = _sequences(make, kind, width, length)
        inputs = (make.columns(batch, length), *make.parameters(width))
        if not backward:
            out, final = _call(*inputs, kind, options)
            error = forward_error(out, *inputs, "silu", **options)
            if final is not None:
                on_cpu: dict[str, Any] = {name: t.cpu() for name, t in options.items()}
                x, weight, bias = (t.cpu() for t in inputs)
                _, exact = reference(x, weight, bias, **on_cpu)
                assert exact is not None
                error = error if torch.equal(final.cpu(), exact) else WRONG
            yield error
            continue
        states = options.get("initial_states")
        leaves = [*inputs, states] if states is not None else inputs
        for leaf in leaves:
            leaf.requires_grad_()
        out, final = _call(*inputs, kind, options)
        results = [out] if final is None else [out, final]
        douts = [torch.randn_like(r) for r in results]
        grads = torch.autograd.grad(results, leaves, douts)
        dfinal = None if final is None else douts[1]
        yield max(backward_errors(grads, douts[0], *inputs, "silu", **options, dfinal=dfinal))


def update(make: Maker, kind: str) -> Iterator[float]:
    """The decoding step, plain, on a ring, or with rows picked from a pool."""
    for width, length in product(WIDTHS, (1, 3)):
        rows = [4, -1, 0] if kind == "indices" else [0, 1, 2]
        ends = [0, 3, 41] if kind == "ring" else [width] * 3
        x, state = make.columns(3, length), make.columns(max(rows) + 1, width)
        weight, bias = make.parameters(width)
        lengths = make.integers(ends) if kind == "ring" else None
        indices = make.integers(rows) if kind == "indices" else None
        others = [None if t is None else t.cpu() for t in (lengths, indices)]
        before, moved = (state.to("cpu", copy=True) for _ in range(2))
        causal_conv1d_update_ref(x.cpu(), moved, weight.cpu(), bias.cpu(), None, *others)
        out = causal_conv1d_update(x, state, weight, bias, "silu", lengths, indices).cpu()
        columns = [[(end - j) % width for j in range(width - 1, 0, -1)] for end in ends]
        alive = [b for b, row in enumerate(rows) if row >= 0]
        history = torch.stack([before[rows[b]][:, columns[b]] for b in alive])
        error = forward_error(out[alive], x.cpu()[alive], weight, bias, "silu", None, None, history)
        padding = out[[b for b, row in enumerate(rows) if row < 0]]
        yield error if torch.equal(state.cpu(), moved) and not padding.any() else WRONG


def varlen_states(make: Maker) -> Iterator[float]:
    """Copies: right to the bit, or wrong."""
    cuts = make.integers([0, 0, 1, 6, 30])
    for length in (1, 3, 8):
        x = make.columns(1, 30)[0].T
        exact = causal_conv1d_varlen_states_ref(x.cpu(), cuts.cpu(), length)
        found = causal_conv1d_varlen_states(x, cuts, length).cpu()
        yield 0.0 if torch.equal(found, exact) else WRONG


OPERATIONS: dict[str, Callable[[Maker], Iterator[float]]] = {
    f"{'backward' if backward else 'forward'}{', ' * bool(kind)}{kind}": partial(
        convolution, kind=kind, backward=backward
    )
    for backward in (False, True)
    for kind in ("", "seq_idx", "states", "packed")
}
OPERATIONS |= {
    f"update, {kind}": partial(update, kind=kind) for kind in ("plain", "ring", "indices")
}
OPERATIONS["varlen states"] = varlen_states


def check(device: str) -> list[dict[str, Any]]:
    """Every operation, dtype and layout: the number of cases, the worst error, what was raised."""
    results = []
    for operation, dtype, layout in product(OPERATIONS, DTYPES, LAYOUTS):
        tell(f"{device}: checking {operation}, {dtype}, {layout}")
        result = {"operation": operation, "dtype": dtype, "layout": layout, "raised": None}
        torch.manual_seed(0)
        errors: list[float] = []
        try:
            errors.extend(OPERATIONS[operation](Maker(device, DTYPES[dtype], layout)))
        except Exception as error:  # the page is to say all that it can
            result["raised"] = f"{type(error).__name__}: {error}".splitlines()[0]
        worst = max(errors, default=0.0)
        right = result["raised"] is None and worst <= 1
        results.append(result | {"cases": len(errors), "worst": worst, "right": right})
    return results


# ---- the time


def measure(device: str) -> list[dict[str, Any]]:
    """Microseconds per call, many calls in a row, beside a copy of x."""
    synchronize = torch.get_device_module(device).synchronize

    def microseconds(call: Callable[[], Any]) -> float:
        def several(repeats: int) -> float:
            synchronize()
            start = perf_counter()
            for _ in range(repeats):
                call()
            synchronize()
            return perf_counter() - start

        repeats = 1
        # The fastest of three: one interrupt must not pass for a long call.
        while min(several(repeats) for _ in range(3)) < SAMPLE:
            repeats *= 2
        return 1e6 / repeats * min(several(repeats) for _ in range(5))

    rows, (batch, dim, seqlen) = [], SHAPE
    for dtype, layout in product(("fp32", "bf16"), ("channel-first", "channels-last")):
        normal = partial(torch.randn, device=device, dtype=DTYPES[dtype])
        x = normal(batch, dim, seqlen)
        if layout == "channels-last":
            x = normal(batch, seqlen, dim).mT
        dout, token, state = torch.randn_like(x), normal(64, dim), normal(64, dim, 4)
        weight, bias = normal(dim, 4), normal(dim)
        leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
        out = causal_conv1d(leaves[0], leaves[1], leaves[2], "silu")
        calls: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "forward": (partial(causal_conv1d, x, weight, bias, "silu"), x.clone),
            "backward": (
                partial(torch.autograd.grad, out, leaves, dout, retain_graph=True),
                partial(torch.add, x, dout),
            ),
            "update": (
                partial(causal_conv1d_update, token, state, weight, bias, "silu"), state.clone,
            ),
        }  # fmt: skip
        for name, (call, copy) in calls.items():
            if name == "update" and layout != "channel-first":
                continue
            tell(f"{device}: timing {name}, {dtype}, {layout}")
            shape = f"64x{dim}" if name == "update" else f"{batch}x{dim}x{seqlen} {layout}"
            times = {"ours": microseconds(call), "copy": microseconds(copy)}
            rows.append({"call": f"{name} {shape}", "dtype": dtype} | times)
    return rows


# ---- the page


def page(
    environment: dict[str, Any], checks: list[dict[str, Any]], timings: list[dict[str, Any]]
) -> None:
    """What a person reads."""
    for name, value in environment.items():
        print(f"{name}: {value}")
    rows = []
    for operation in OPERATIONS:
        of = [c for c in checks if c["operation"] == operation]
        worst = [f"{max(c['worst'] for c in of if c['dtype'] == d):.3g}" for d in DTYPES]
        right = "yes" if all(c["right"] for c in of) else "NO"
        rows.append([operation, str(sum(c["cases"] for c in of)), *worst, right])
    title = "Worst error in units of the allowed one (16 bits: beyond their rounding)"
    show(title, ["operation", "cases", *DTYPES, "right"], rows)
    for c in checks:
        if not c["right"]:
            place = f"{c['operation']}, {c['dtype']}, {c['layout']}"
            print(f"WRONG: {place}: {c['raised'] or format(c['worst'], '.3g')}")
    rows = [
        [
            t["call"],
            t["dtype"],
            f"{t['ours']:.1f}",
            f"{t['copy']:.1f}",
            f"{t['copy'] / t['ours']:.2f}",
        ]
        for t in timings
    ]
    show("Microseconds per call", ["call", "dtype", "ours", "copy", "copy / ours"], rows)


def run(device: str) -> dict[str, Any]:
    """All that is known of a device afterwards: environment, checks and timings."""
    start = perf_counter()
    if reason := lack(device):
        raise RuntimeError(f"Cannot run on {device}: {reason}")
    torch.get_device_module(device).synchronize()
    first = perf_counter() - start
    environment = {
        "causal_conv1d_mps": __version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "system": platform.platform(),
        "chip": chip(device),
        "device": device,
        "CPU kernels": library.causal_conv1d_isa().decode(),
        "library": library._name,
        "shader": os.environ.get("CAUSAL_CONV1D_METAL_PATH", "the one in the library"),
        "first call (s)": round(first, 4),
    }
    checks, timings = check(device), measure(device)
    environment |= {
        "cases": sum(c["cases"] for c in checks),
        "seconds": round(perf_counter() - start, 1),
        "result": "all right" if all(c["right"] for c in checks) else "WRONG",
    }
    return {"environment": environment, "checks": checks, "timings": timings}


def main(arguments: list[str] | None = None) -> int:
    """Runs all and prints it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m causal_conv1d_mps selftest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=DEVICES, help="this one alone, not all that are here")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one per device")
    options = parser.parse_args(arguments)
    devices = [options.device] if options.device else [d for d in DEVICES if not lack(d)]
    results = []
    for device in devices:
        try:
            results.append(run(device))
        except RuntimeError as error:
            parser.exit(2, f"{error}\n")
        if not options.json:
            page(**results[-1])
    right = all(c["right"] for result in results for c in result["checks"])
    if options.json:
        for c in (c for result in results for c in result["checks"] if c["worst"] == WRONG):
            c["worst"] = None  # JSON has no infinity
        print(json.dumps(results, indent=2))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
