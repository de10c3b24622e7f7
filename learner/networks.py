"""The networks of FOWM (algorithms of TD-MPC with normalised, bounded latents).

Legend: Z latent, M hidden width, E members of an ensemble, C Y X image channels, rows, columns.

Every linear layer starts orthogonal with gain 1, every convolution orthogonal with gain sqrt(2),
biases at zero.

Differs: observation features are averaged, not added as the paper says, so that the fused latent
stays in (0, 1), the range the dynamics can reach (the published code does the same).
Differs: `SpatialSoftmaxEncoder` is not in the paper; it is a second, named choice for small data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from protos.trial import FieldSpec, RobotSpec

IMAGE_PREFIX = "image."


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the networks; the defaults are the paper's for xArm."""

    encoder: Literal["paper_conv", "spatial_softmax"] = "paper_conv"
    """Image encoder: the paper's four convolutions, or keypoints for small data and machines."""
    conv_channels: int | None = None
    """Channels of every convolution; None for the encoder's own number (32, or 16 keypoints)."""
    latent_size: int = 50
    mlp_size: int = 512
    """Width of the hidden layers of dynamics, reward, policy, Q and V."""
    state_hidden: int = 256
    """Width of the hidden layer of the encoder of vectors."""
    num_q: int = 5
    """Q networks in the ensemble."""
    state_normalisation: Literal["none", "box"] = "none"
    """`none` feeds vectors as they are (the paper); `box` maps their recorded range to [-1, 1]."""

    def __post_init__(self) -> None:
        sizes = (self.latent_size, self.mlp_size, self.state_hidden, self.conv_channels or 1)
        if min(sizes) < 1:
            raise ValueError(f"network sizes must be positive, got {sizes}")
        if self.num_q < 2:
            raise ValueError(f"num_q must be at least 2 (a random pair is taken), got {self.num_q}")
        if self.encoder not in ("paper_conv", "spatial_softmax"):
            raise ValueError(f"encoder {self.encoder!r} is not paper_conv or spatial_softmax")
        if self.state_normalisation not in ("none", "box"):
            raise ValueError(f"state_normalisation {self.state_normalisation!r} is not none or box")


def initialise(module: nn.Module) -> None:
    """Applies the initialisation above to every layer under `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            gain = math.sqrt(2.0) if isinstance(layer, nn.Conv2d) else 1.0
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class NormedMlp(nn.Sequential):
    """Two hidden layers with layer norm and Mish; linear output."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__(
            nn.Linear(inputs, hidden),
            nn.LayerNorm(hidden),
            nn.Mish(),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.Mish(),
            nn.Linear(hidden, outputs),
        )


class BoundedHead(nn.Sequential):
    """Layer norm, then sigmoid: what makes every latent lie in (0, 1)."""

    def __init__(self, size: int) -> None:
        super().__init__(nn.LayerNorm(size), nn.Sigmoid())


class Ensemble(nn.Module):
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

    def zero_last_layer(self) -> None:
        """Makes every member's output zero everywhere."""
        nn.init.zeros_(self.weight3)
        nn.init.zeros_(self.bias3)

    def forward(self, inputs: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """Returns every member's output (or those of `members`, in that order). [n, I] -> [E, n]

        On a GPU one batched product a layer; on a CPU one member after the other, whose
        activations then stay in the cache. The numbers are the same up to rounding.
        """
        if inputs.is_cuda:
            out = self.stacked(inputs)
            return out if members is None else out[list(members)]
        return self.looped(inputs, members)

    def stacked(self, inputs: Tensor) -> Tensor:
        """Returns all outputs by batched products. [n, I] -> [E, n]"""
        x = inputs.expand(self.num, *inputs.shape)
        hidden = torch.baddbmm(self.bias1[:, None], x, self.weight1.mT)
        hidden = F.layer_norm(hidden, (self.hidden,))
        hidden = torch.addcmul(self.norm_bias[:, None], hidden, self.norm_weight[:, None]).tanh()
        hidden = F.elu(torch.baddbmm(self.bias2[:, None], hidden, self.weight2.mT))
        return torch.baddbmm(self.bias3[:, None], hidden, self.weight3.mT).squeeze(-1)

    def looped(self, inputs: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """Returns outputs member by member. [n, I] -> [E, n]"""
        stacks = [p.unbind(0) for p in self.parameters()]
        outputs = []
        for member in range(self.num) if members is None else members:
            w1, b1, norm_w, norm_b, w2, b2, w3, b3 = (stack[member] for stack in stacks)
            hidden = F.layer_norm(F.linear(inputs, w1, b1), (self.hidden,), norm_w, norm_b).tanh()
            hidden = F.elu(F.linear(hidden, w2, b2))
            outputs.append(F.linear(hidden, w3, b3).squeeze(-1))
        return torch.stack(outputs)


class StateEncoder(nn.Module):
    """Vectors to latents: an affine map fixed by data, then linear, ELU, linear, bounded head."""

    center: Tensor
    half_range: Tensor

    def __init__(self, inputs: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(inputs))
        self.register_buffer("half_range", torch.ones(inputs))
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ELU(), nn.Linear(hidden, latent), BoundedHead(latent)
        )
        initialise(self)

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Maps [low, high] to [-1, 1] from now on; constant inputs are only centred. Each [S]"""
        half = (high - low) / 2
        self.center.copy_((high + low) / 2)
        self.half_range.copy_(torch.where(half > 0, half, torch.ones_like(half)))

    def forward(self, vector: Tensor) -> Tensor:
        """[n, S] -> [n, Z]"""
        return self.net((vector.to(self.center.dtype) - self.center) / self.half_range)


def _convolve(images: Tensor, layers: Iterable[nn.Module]) -> Tensor:
    """Runs conv layers with ReLU between them on raw uint8 frames; the last one has none.

    Dividing by 255 is folded into the first.
    """
    x: Tensor | None = None
    for layer in layers:
        assert isinstance(layer, nn.Conv2d)
        if x is None:
            # [n, Y, X, C] seen as [n, C, Y, X] is already in channels-last memory order.
            x = images.movedim(-1, -3).to(layer.weight.dtype)
            x = F.conv2d(x, layer.weight / 255, layer.bias, layer.stride)
        else:
            x = layer(F.relu(x))
    assert x is not None
    return x


def _conv_sizes(size: int, convs: Iterable[tuple[int, int]]) -> list[int]:
    sizes = [size]
    for kernel, stride in convs:
        sizes.append((sizes[-1] - kernel) // stride + 1)
    return sizes


class ConvEncoder(nn.Module):
    """The paper's image encoder: four unpadded convolutions, linear, bounded head."""

    KERNELS = ((7, 2), (5, 2), (3, 2), (3, 2))

    def __init__(self, shape: tuple[int, int, int], channels: int, latent: int) -> None:
        super().__init__()
        rows, columns = (_conv_sizes(n, self.KERNELS)[-1] for n in shape[:2])
        if rows < 1 or columns < 1:
            raise ValueError(
                f"images of {shape[0]}x{shape[1]} are too small for paper_conv (37x37)"
            )
        widths = [shape[2]] + [channels] * 4
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], kernel, stride)
            for i, (kernel, stride) in enumerate(self.KERNELS)
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * rows * columns, latent), BoundedHead(latent)
        )
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Raw uint8 frames to latents. [n, Y, X, C] -> [n, Z]"""
        return self.head(F.relu(_convolve(images, self.convs)))


class SpatialSoftmaxEncoder(nn.Module):
    """Keypoints: three convolutions, each channel's expected coordinates, linear, bounded head.

    The softmax starts sharp: at a temperature of 1 every keypoint begins at the centre of the image
    and moves too little to be learned from (measured on reach: 0 of 18 positions after 700 updates,
    18 of 18 with this start). Its logits keep their sign and grey is 0, so that what is darker or
    less red than the table can be a keypoint too.
    """

    KERNELS = ((5, 2), (3, 1), (3, 1))
    INITIAL_TEMPERATURE = 0.05
    GREY = 127.5
    grid_x: Tensor
    grid_y: Tensor

    def __init__(self, shape: tuple[int, int, int], channels: int, latent: int) -> None:
        super().__init__()
        rows, columns = (_conv_sizes(n, self.KERNELS)[-1] for n in shape[:2])
        if rows < 2 or columns < 2:
            raise ValueError(f"images of {shape[0]}x{shape[1]} are too small for spatial_softmax")
        widths = [shape[2]] + [channels] * 3
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], kernel, stride)
            for i, (kernel, stride) in enumerate(self.KERNELS)
        )
        self.log_temperature = nn.Parameter(torch.tensor(math.log(self.INITIAL_TEMPERATURE)))
        self.register_buffer("grid_x", torch.linspace(-1, 1, columns), persistent=False)
        self.register_buffer("grid_y", torch.linspace(-1, 1, rows), persistent=False)
        self.head = nn.Sequential(nn.Linear(2 * channels, latent), BoundedHead(latent))
        initialise(self)

    def keypoints(self, images: Tensor) -> Tensor:
        """Returns expected x of every channel, then y, in [-1, 1]. [n, Y, X, C] -> [n, 2 * K]"""
        dtype = self.log_temperature.dtype
        features = _convolve(images.to(dtype) - self.GREY, self.convs)
        logits = features.flatten(2) / self.log_temperature.exp()
        weights = logits.softmax(-1).view(features.shape)
        x = weights.sum(-2) @ self.grid_x
        y = weights.sum(-1) @ self.grid_y
        return torch.cat([x, y], dim=-1)

    def forward(self, images: Tensor) -> Tensor:
        """Raw uint8 frames to latents. [n, Y, X, C] -> [n, Z]"""
        return self.head(self.keypoints(images))


def _module_name(field: str) -> str:
    return field.replace(".", "-")  # a module name may not hold a dot, a field name no dash


def _field_encoder(field: FieldSpec, config: NetworkConfig) -> nn.Module:
    if not field.name.startswith(IMAGE_PREFIX):
        return StateEncoder(math.prod(field.shape), config.state_hidden, config.latent_size)
    if field.dtype != "uint8" or len(field.shape) != 3:
        raise ValueError(f"{field.name} is {field.dtype} {field.shape}; images are uint8 [Y, X, C]")
    shape = (field.shape[0], field.shape[1], field.shape[2])
    if config.encoder == "paper_conv":
        return ConvEncoder(shape, config.conv_channels or 32, config.latent_size)
    return SpatialSoftmaxEncoder(shape, config.conv_channels or 16, config.latent_size)


class ObservationEncoder(nn.Module):
    """One encoder a field, their latents averaged."""

    def __init__(self, spec: RobotSpec, config: NetworkConfig) -> None:
        super().__init__()
        self.fields = {field.name: field.shape for field in spec.observations}
        self.parts = nn.ModuleDict(
            {_module_name(f.name): _field_encoder(f, config) for f in spec.observations}
        )

    def part(self, field: str) -> nn.Module:
        """Returns the encoder of one field."""
        return self.parts[_module_name(field)]

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Encodes raw observations with any leading axes. {name: [..., *shape]} -> [..., Z]"""
        latents, lead = [], torch.Size()
        for name, shape in self.fields.items():
            value = observations[name]
            lead = value.shape[: value.dim() - len(shape)]
            if name.startswith(IMAGE_PREFIX):
                rows = value.reshape(-1, *shape)
            else:
                rows = value.reshape(-1, math.prod(shape))
            latents.append(self.part(name)(rows))
        fused = latents[0] if len(latents) == 1 else torch.stack(latents).mean(0)
        return fused.view(*lead, -1)
