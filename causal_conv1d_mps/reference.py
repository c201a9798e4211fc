"""The definitions in plain PyTorch: what the operations are tested against."""

from __future__ import annotations

import torch.nn.functional as F

import torch
from torch import Tensor


def causal_conv1d_ref(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """:func:`causal_conv1d_mps.causal_conv1d` as a sum of shifted products, differentiable.

    Shapes and dtypes as there. Computes in the widest of the dtypes, float32 at the least, and
    rounds to x's dtype at the end.
    """
    if activation not in (None, "silu", "swish"):
        raise NotImplementedError("activation must be None, silu, or swish")
    dtype = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
    width, seqlen = weight.shape[1], x.shape[2]
    padded = F.pad(x.to(dtype), (width - 1, 0))
    out = torch.zeros_like(x, dtype=dtype)
    for k in range(width):
        out = out + weight[:, k, None].to(dtype) * padded[:, :, k : k + seqlen]
    if bias is not None:
        out = out + bias[:, None].to(dtype)
    return (out if activation is None else F.silu(out)).to(x.dtype)
