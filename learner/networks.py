"""The networks of FOWM: multilayer perceptrons and the ensemble of value networks.

Legend: Z latent, M hidden width, E members of an ensemble.

Every linear layer starts orthogonal with gain 1, every convolution orthogonal with gain sqrt(2),
biases at zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from learner.pointwise import BLOCK_ROWS, MIN_FUSED_ROWS, FusedSteps, elu, in_blocks, mish


def initialise(module: nn.Module) -> None:
    """Applies the initialisation above to every layer under `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            gain = math.sqrt(2.0) if isinstance(layer, nn.Conv2d) else 1.0
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def hidden_product(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Returns x W' + b, multiplied in `dtype` if one is given, in x's format. [n, I] -> [n, M]"""
    if dtype is None:
        return F.linear(x, weight, bias)
    return F.linear(x.to(dtype), weight.to(dtype), bias.to(dtype)).to(x.dtype)


class Hidden(nn.Module):
    """A network whose hidden layers can run in another number format than its output."""

    hidden_dtype: torch.dtype | None = None
    fused: FusedSteps | None = None

    def hidden_weights(self) -> Iterable[Tensor]:
        """Returns the weights of the hidden layers' products."""
        raise NotImplementedError

    def _is_fused(self, rows: Tensor) -> bool:
        return self.fused is not None and len(rows) >= MIN_FUSED_ROWS


def set_execution(
    module: nn.Module,
    hidden_dtype: torch.dtype | None,
    *,
    fused: FusedSteps | None = None,
    convert: bool = False,
) -> None:
    """Says how the networks under `module` are computed.

    Args:
        module: Any tree of networks.
        hidden_dtype: Format of hidden products and convolutions, None for the parameters' own.
            Normalisation, activations and output layers keep the parameters' own, so that values,
            rewards and latents are not rounded.
        fused: Compiled steps between products; to act, not to train.
        convert: Store the hidden layers' weights in that format, too; to act, not to train.
    """
    for part in module.modules():
        if isinstance(part, Hidden):
            part.hidden_dtype, part.fused = hidden_dtype, fused
            for weight in part.hidden_weights() if convert and hidden_dtype else ():
                weight.data = weight.data.to(hidden_dtype)


class NormedMlp(Hidden):
    """Two hidden layers with layer norm and Mish; linear output."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(inputs, hidden)
        self.norm1 = nn.LayerNorm(hidden)
        self.linear2 = nn.Linear(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, outputs)
        initialise(self)

    def hidden_weights(self) -> Iterable[Tensor]:
        """Returns the weights of the hidden layers' products."""
        return (self.linear1.weight, self.linear2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]"""
        rows = x.reshape(-1, x.shape[-1])
        outputs = [self._block(block) for block in in_blocks(rows, BLOCK_ROWS)]
        out = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return out.view(*x.shape[:-1], -1)

    def _block(self, x: Tensor) -> Tensor:
        layers = ((self.linear1, self.norm1), (self.linear2, self.norm2))
        if not self._is_fused(x):
            for linear, norm in layers:
                x = mish(norm(hidden_product(x, linear.weight, linear.bias, self.hidden_dtype)))
            return self.out(x)
        assert self.fused is not None
        h, dtypes = x.to(self.linear1.weight.dtype), (self.linear2.weight.dtype, x.dtype)
        for (linear, norm), dtype in zip(layers, dtypes, strict=True):
            h = h @ linear.weight.mT
            h = self.fused.normed_mish(h, linear.bias, norm.weight, norm.bias, dtype)
        return self.out(h)


class BoundedHead(nn.Sequential):
    """Layer norm, then sigmoid: what makes every latent lie in (0, 1)."""

    def __init__(self, size: int) -> None:
        super().__init__(nn.LayerNorm(size), nn.Sigmoid())


class Ensemble(Hidden):
    """E value networks with one output each, their parameters stacked along the first axis.

    Body of a member: linear, layer norm, tanh, linear, ELU, linear.
    """

    def __init__(self, num: int, inputs: int, hidden: int) -> None:
        super().__init__()
        self.num = num
        self.hidden = hidden
        self.weight1 = nn.Parameter(torch.empty(num, hidden, inputs))
        self.bias1 = nn.Parameter(torch.zeros(num, hidden))
        self.norm_weight = nn.Parameter(torch.ones(num, hidden))
        self.norm_bias = nn.Parameter(torch.zeros(num, hidden))
        self.weight2 = nn.Parameter(torch.empty(num, hidden, hidden))
        self.bias2 = nn.Parameter(torch.zeros(num, hidden))
        self.weight3 = nn.Parameter(torch.empty(num, 1, hidden))
        self.bias3 = nn.Parameter(torch.zeros(num, 1))
        for member in range(num):
            for weight in (self.weight1, self.weight2, self.weight3):
                nn.init.orthogonal_(weight.data[member], 1.0)

    def hidden_weights(self) -> Iterable[Tensor]:
        """Returns the weights of the hidden layers' products."""
        return (self.weight1, self.weight2)

    def zero_last_layer(self) -> None:
        """Makes every member's output zero everywhere."""
        nn.init.zeros_(self.weight3)
        nn.init.zeros_(self.bias3)

    def forward(self, inputs: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """Returns every member's output (or those of `members`, in that order). [n, I] -> [E, n]

        On a GPU, and fused, one batched product a layer; otherwise one member after the other,
        whose activations then stay in the cache. The numbers are the same up to rounding.
        """
        form = self.stacked if inputs.is_cuda else self.looped
        blocks = [
            self._fused_form(block)
            if members is None and self._is_fused(block)
            else form(block, members)
            for block in in_blocks(inputs, BLOCK_ROWS)
        ]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)

    def stacked(self, inputs: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """Returns outputs by batched products. [n, I] -> [E, n]"""
        w1, b1, norm_w, norm_b, w2, b2, w3, b3 = self._stacks(members)
        wide, dtype = inputs.dtype, self.hidden_dtype or inputs.dtype
        x = inputs.to(dtype).expand(len(w1), *inputs.shape)
        h = torch.baddbmm(b1.to(dtype), x, w1.to(dtype).mT).to(wide)
        h = torch.addcmul(norm_b, F.layer_norm(h, (self.hidden,)), norm_w).tanh().to(dtype)
        h = F.elu(torch.baddbmm(b2.to(dtype), h, w2.to(dtype).mT).to(wide))
        return torch.baddbmm(b3, h, w3.mT).squeeze(-1)

    def looped(self, inputs: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """Returns outputs member by member. [n, I] -> [E, n]"""
        nets = list(zip(*(p.unbind(0) for p in self.parameters()), strict=True))
        outputs = []
        for member in range(self.num) if members is None else members:
            w1, b1, norm_w, norm_b, w2, b2, w3, b3 = nets[member]
            h = hidden_product(inputs, w1, b1, self.hidden_dtype)
            h = F.layer_norm(h, (self.hidden,), norm_w, norm_b)
            h = h.tanh() if h.requires_grad else h.tanh_()
            h = elu(hidden_product(h, w2, b2, self.hidden_dtype))
            outputs.append(F.linear(h, w3, b3).squeeze(-1))
        return torch.stack(outputs) if outputs else inputs.new_empty((0, len(inputs)))

    def _fused_form(self, inputs: Tensor) -> Tensor:
        assert self.fused is not None
        w1, b1, norm_w, norm_b, w2, b2, w3, b3 = self._stacks(None)
        x = inputs.to(w1.dtype).expand(self.num, -1, -1)
        h = self.fused.normed_tanh(torch.bmm(x, w1.mT), b1, norm_w, norm_b, w2.dtype)
        h = self.fused.elu_product(torch.bmm(h, w2.mT), b2, w3)
        return h + b3.squeeze(-1)

    def _stacks(self, members: Sequence[int] | None) -> list[Tensor]:
        """Returns all parameters, or those of `members`, vectors as [E, 1, M]."""
        stacks = [p if p.dim() == 3 else p[:, None] for p in self.parameters()]
        return stacks if members is None else [stack[list(members)] for stack in stacks]
