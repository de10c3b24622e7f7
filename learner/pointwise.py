"""Normalisation and activations between matrix products, in the forms that are fast.

Each takes the product as it comes (bfloat16 or wider), computes in float32 or wider, and hands the
result on in the format of the next product.

Where a gradient is asked for, and on a GPU, torch's own functions run. Otherwise, on a CPU, forms
that need one exponential each, several times faster than torch's and equal up to rounding:

    mish(x) = x - 2 x / n with n = (1 + e^x)^2 + 1        (x where e^x overflows)
    elu(x)  = max(x, e^min(x, 0) - 1)
    tanh(x) = 1 - 2 / (e^(2 x) + 1)                        (compiled form only)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

MIN_COMPILED_ROWS = 16
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


class Pointwise:
    """The steps between products, one torch call after the other."""

    def normed_mish(self, h: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
        """Returns mish of the layer norm of h, in `dtype`. [n, M], [M], [M] -> [n, M]"""
        return mish(F.layer_norm(widened(h), h.shape[-1:], weight, bias)).to(dtype)

    def normed_tanh(self, h: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
        """Returns tanh of the layer norm of h, in `dtype`. [n, M], [M], [M] -> [n, M]"""
        x = F.layer_norm(widened(h), h.shape[-1:], weight, bias)
        return (x.tanh() if x.requires_grad else x.tanh_()).to(dtype)

    def elu_product(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Returns the product of elu(h) with one row of weights. [n, M], [1, M], [1] -> [n]"""
        return F.linear(elu(widened(h)), weight, bias).squeeze(-1)


def fused_normed_mish(h: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Does `Pointwise.normed_mish` in a form that compiles into one pass."""
    x = F.layer_norm(widened(h), h.shape[-1:], weight, bias)
    return (x - 2 * x / ((1 + x.exp()).square() + 1)).to(dtype)


def fused_normed_tanh(h: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Does `Pointwise.normed_tanh` in a form that compiles into one pass."""
    x = F.layer_norm(widened(h), h.shape[-1:], weight, bias)
    return (1 - 2 / ((2 * x).exp() + 1)).to(dtype)


def fused_elu_product(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Does `Pointwise.elu_product` in a form that compiles into one pass."""
    x = widened(h)
    return (torch.where(x > 0, x, x.clamp(max=0).exp() - 1) * weight[0]).sum(-1) + bias


class CompiledPointwise(Pointwise):
    """The same steps, each compiled into one pass; only for use without gradient."""

    def __init__(self, compiler: Callable[..., Callable[..., Tensor]] = torch.compile) -> None:
        self._normed_mish = compiler(fused_normed_mish, dynamic=True)
        self._normed_tanh = compiler(fused_normed_tanh, dynamic=True)
        self._elu_product = compiler(fused_elu_product, dynamic=True)

    def normed_mish(self, h: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
        """Returns mish of the layer norm of h, in `dtype`. [n, M], [M], [M] -> [n, M]"""
        if len(h) < MIN_COMPILED_ROWS:
            return super().normed_mish(h, weight, bias, dtype)
        return self._normed_mish(h, weight, bias, dtype)

    def normed_tanh(self, h: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
        """Returns tanh of the layer norm of h, in `dtype`. [n, M], [M], [M] -> [n, M]"""
        if len(h) < MIN_COMPILED_ROWS:
            return super().normed_tanh(h, weight, bias, dtype)
        return self._normed_tanh(h, weight, bias, dtype)

    def elu_product(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Returns the product of elu(h) with one row of weights. [n, M], [1, M], [1] -> [n]"""
        if len(h) < MIN_COMPILED_ROWS:
            return super().elu_product(h, weight, bias)
        return self._elu_product(h, weight, bias)


EAGER = Pointwise()
