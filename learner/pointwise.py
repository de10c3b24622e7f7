"""Normalisation and activations between matrix products, in the forms that are fast.

Where a gradient is asked for, and on a GPU, torch's own functions run. Otherwise, on a CPU, forms
that need one exponential each, several times faster than torch's and equal up to rounding:

    mish(x) = x - 2 x / n with n = (1 + e^x)^2 + 1        (x where e^x overflows)
    elu(x)  = max(x, e^min(x, 0) - 1)
    tanh(x) = 1 - 2 / (e^(2 x) + 1)                        (compiled form only)

`FusedSteps` goes further: whatever lies between two products, bias included, is compiled into one
pass over the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BLOCK_ROWS = 512
"""Rows a CPU works on at once."""
BLOCK_FRAMES = 32
"""Images a CPU works on at once."""
MIN_FUSED_ROWS = 16
"""Fewer rows are not worth a compiled call, and very few would be compiled anew."""


def widened(value: Tensor) -> Tensor:
    """Returns half-precision numbers as float32 and others as they are."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def mish(x: Tensor) -> Tensor:
    """Returns x tanh(softplus(x))."""
    if x.requires_grad or x.is_cuda:
        return F.mish(x)
    n = x.exp().add_(1).square_().add_(1)
    return torch.addcdiv(x, x, n, value=-2, out=n)


def elu(x: Tensor) -> Tensor:
    """Returns x where positive, e^x - 1 elsewhere."""
    if x.requires_grad or x.is_cuda:
        return F.elu(x)
    negative = x.clamp(max=0).exp_().sub_(1)
    return torch.maximum(x, negative, out=negative)


def fused_normed_mish(
    h: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, dtype: torch.dtype
) -> Tensor:
    """Returns mish(norm(h + bias) * weight + shift) in `dtype`. [..., n, M] -> [..., n, M]"""
    x = F.layer_norm(widened(h) + bias, h.shape[-1:]) * weight + shift
    return (x - 2 * x / ((1 + x.exp()).square() + 1)).to(dtype)


def fused_normed_tanh(
    h: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, dtype: torch.dtype
) -> Tensor:
    """Returns tanh(norm(h + bias) * weight + shift) in `dtype`. [..., n, M] -> [..., n, M]"""
    x = F.layer_norm(widened(h) + bias, h.shape[-1:]) * weight + shift
    return (1 - 2 / ((2 * x).exp() + 1)).to(dtype)


def fused_elu_product(h: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
    """Returns the sum of elu(h + bias) * weight over the last axis. [..., n, M] -> [..., n]"""
    x = widened(h) + bias
    return (torch.where(x > 0, x, x.clamp(max=0).exp() - 1) * weight).sum(-1)


class FusedSteps:
    """The steps above, each compiled into one pass; for use without gradient.

    The number of rows is left open; widths are fixed, which makes the faster code.
    """

    def __init__(self, compiler: Callable[[Callable[..., Tensor]], Any]) -> None:
        self._normed_mish = compiler(fused_normed_mish)
        self._normed_tanh = compiler(fused_normed_tanh)
        self._elu_product = compiler(fused_elu_product)

    @classmethod
    def compiled(cls) -> FusedSteps:
        """Compiles on the first calls; needs a C++ compiler on a CPU."""
        return cls(torch.compile)

    def normed_mish(
        self, h: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """Does `fused_normed_mish`."""
        return self._normed_mish(_with_open_rows(h), bias, weight, shift, dtype)

    def normed_tanh(
        self, h: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """Does `fused_normed_tanh`."""
        return self._normed_tanh(_with_open_rows(h), bias, weight, shift, dtype)

    def elu_product(self, h: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
        """Does `fused_elu_product`."""
        return self._elu_product(_with_open_rows(h), bias, weight)


def _with_open_rows(h: Tensor) -> Tensor:
    torch._dynamo.mark_dynamic(h, h.dim() - 2)
    return h


def in_blocks(rows: Tensor, size: int) -> Sequence[Tensor]:
    """Splits rows into what a CPU works on at once where no gradient is asked for. [n, ...]

    The activations of a block fit the cache and reuse its memory; one large call spends a quarter
    of its time on fresh pages.
    """
    if rows.is_cuda or torch.is_grad_enabled():
        return (rows,)
    return rows.split(size)
