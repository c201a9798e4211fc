"""What is measured: the sizes, the contenders and the calls."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._functions import (
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_update,
    causal_conv1d_varlen_fn,
)
from ..bounds import forward_error
from ..reference import Activation
from .timing import Call

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OURS, PYTORCH, COMPILED, FLOOR = "ours", "PyTorch", "torch.compile", "floor"


@dataclass(frozen=True)
class Case:
    """A configuration, always with a bias; channels-last is a transposed (B,T,D) tensor."""

    batch: int
    dim: int
    seqlen: int
    width: int = 4
    activation: Activation = None
    channels_last: bool = False

    @property
    def name(self) -> str:
        """What tables and plot call it."""
        size = f"{self.batch}x{self.dim}x{self.seqlen}x{self.width}"
        return size + " SiLU" * bool(self.activation) + " ch-last" * self.channels_last

    def tensors(self, dtype: torch.dtype, device: str) -> tuple[Tensor, ...]:
        """Random x, weight, bias and dout."""
        normal = partial(torch.randn, dtype=dtype, device=device)
        if self.channels_last:
            x = normal(self.batch, self.seqlen, self.dim).transpose(1, 2)
        else:
            x = normal(self.batch, self.dim, self.seqlen)
        return x, normal(self.dim, self.width), normal(self.dim), torch.randn_like(x)


CLASSIC = [
    Case(1, 64, 128),
    Case(2, 128, 256),
    Case(4, 256, 512),
    Case(1, 512, 1024),
    Case(8, 64, 128),
    Case(2, 128, 256, activation="silu"),
]
MODEL = [
    Case(*size, activation="silu", channels_last=channels_last)
    for size in ((1, 2048, 2048), (4, 2048, 2048), (1, 8192, 1024))
    for channels_last in (False, True)
]
LARGE = [  # a GPU's memory is not its cache
    Case(*size, activation="silu", channels_last=channels_last)
    for size in ((8, 4096, 2048), (1, 4096, 65536))
    for channels_last in (False, True)
]


def pytorch(x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
    """The same out of PyTorch's own operations."""
    dim, width = weight.shape
    out = F.conv1d(x, weight[:, None], bias, padding=width - 1, groups=dim)[..., : x.shape[2]]
    return F.silu(out) if activation else out


def shifted(x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
    """The same as a sum of shifted products, which torch.compile makes one loop of."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    width, seqlen = weight.shape[1], x.shape[2]
    padded = F.pad(x, (width - 1, 0)).to(dtype)
    out = torch.zeros_like(x, dtype=dtype) + bias[:, None]  # zeros_like keeps x's layout
    for k in range(width):
        out = out + weight[:, k, None] * padded[:, :, k : k + seqlen]
    return (F.silu(out) if activation else out).to(x.dtype)


def bound(function: Callable[..., Tensor], tensors: tuple[Tensor, ...], case: Case) -> Call:
    """The call to time: forward, or if the tensors require gradients the backward pass alone."""
    *inputs, dout = tensors
    forward = partial(function, *inputs, case.activation)
    if not inputs[0].requires_grad:
        return forward
    return partial(torch.autograd.grad, forward(), inputs, dout, retain_graph=True)


def contenders(case: Case, tensors: tuple[Tensor, ...]) -> tuple[dict[str, Call], str]:
    """The calls to compare, and why torch.compile is not among them, if so."""
    calls = {OURS: bound(causal_conv1d, tensors, case), PYTORCH: bound(pytorch, tensors, case)}
    x, dout = tensors[0].detach(), tensors[-1]
    calls[FLOOR] = partial(torch.add, x, dout) if tensors[0].requires_grad else x.clone
    torch.compiler.reset()  # past some shapes of a function it would quietly stay eager
    # Spelt out, the number of threads is sure to be in the key of the cache of compiled code.
    options: dict[str, Any] = {"cpp.threads": torch.get_num_threads()}
    compiled = torch.compile(shifted, dynamic=False, options=options)
    try:
        call = bound(compiled, tensors, case)
        call()
    except RuntimeError as error:
        return calls, str(error).strip().splitlines()[0]
    return {**calls, COMPILED: call}, ""


def token(batch: int, dim: int, dtype: str, device: str) -> tuple[Tensor, ...]:
    """Random x of one token per row, state, weight of width 4, bias."""
    normal = partial(torch.randn, dtype=DTYPES[dtype], device=device)
    return normal(batch, dim, 1), normal(batch, dim, 4), normal(dim, 4), normal(dim)


def decoding(
    x: Tensor, state: Tensor, weight: Tensor, bias: Tensor
) -> tuple[dict[str, Call], bool]:
    """Ours, and what transformers does without a package; whether ours is right."""

    def ours(state: Tensor = state) -> Tensor:
        return causal_conv1d_update(x, state, weight, bias, "silu")

    def fallback(state: Tensor = state) -> Tensor:
        columns = torch.cat([state, x], dim=-1)
        state.copy_(columns[:, :, -4:])
        return F.silu(F.conv1d(columns, weight[:, None], bias, groups=x.shape[1])[:, :, -1:])

    after = state.clone()
    error = forward_error(ours(after), x, weight, bias, "silu", initial_states=state[:, :, 1:])
    right = error <= 1 and after.equal(torch.cat([state, x], -1)[:, :, 1:])
    return {OURS: ours, "cat, copy_, conv1d, silu": fallback}, right


def packed(dim: int, args: argparse.Namespace) -> tuple[dict[str, Call], bool]:
    """64 sequences of 32 tokens, channels-last: one packed call, and what it could replace."""
    length, count, device = 32, 64, args.device
    normal = partial(torch.randn, dtype=DTYPES[args.dtype], device=device)
    x = normal(1, count * length, dim).transpose(1, 2)
    weight, bias, states = normal(dim, 4), normal(dim), normal(count, dim, 3)
    cu_seqlens = torch.arange(count + 1, device=device) * length
    ids = torch.arange(count, dtype=torch.int32, device=device).repeat_interleave(length)[None]

    def calls() -> list[Tensor]:
        return [causal_conv1d(part, weight, bias, "silu") for part in x.split(length, dim=2)]

    contenders: dict[str, Call] = {
        OURS: partial(causal_conv1d_varlen_fn, x, weight, bias, cu_seqlens, None, False, "silu"),
        f"{count} calls": calls,
        "with states": partial(
            causal_conv1d_varlen_fn, x, weight, bias, cu_seqlens, states, True, "silu"
        ),
        "by seq_idx": partial(causal_conv1d_fn, x, weight, bias, ids, activation="silu"),
        "as one sequence": partial(causal_conv1d, x, weight, bias, "silu"),
    }
    one_by_one = torch.cat(calls(), dim=2)
    right = all(torch.equal(contenders[name](), one_by_one) for name in (OURS, "by seq_idx"))
    return contenders, right


DECODE: dict[str, Callable[..., Any]] = {
    f"{batch}x{dim}x1": lambda args, batch=batch, dim=dim: decoding(
        *token(batch, dim, args.dtype, args.device)
    )
    for batch, dim in ((1, 2048), (1, 6144), (64, 2048))
}
PACKED = {f"64 x 32 tokens, dim {dim}": partial(packed, dim) for dim in (64, 512, 2048)}
