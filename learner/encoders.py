"""Encoders: raw observations to latents in (0, 1), one a field, averaged.

Legend: Z latent, C Y X image channels, rows, columns, K keypoints.

Differs: features of the fields are averaged, not added as the paper says, so that the fused latent
stays in (0, 1), the range the dynamics can reach (the published code does the same).
Differs: `SpatialSoftmaxEncoder` is not in the paper; it is a second, named choice for small data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from learner.network_config import NetworkConfig
from learner.networks import BoundedHead, Hidden, initialise
from learner.pointwise import BLOCK_FRAMES, in_blocks, widened
from protos.trial import FieldSpec, RobotSpec

IMAGE_PREFIX = "image."


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


class ConvStack(Hidden):
    """Unpadded convolutions on raw uint8 frames, ReLU between them and, if asked, after the last.

    Dividing by 255 and subtracting a grey level are folded into the first layer.
    """

    def __init__(
        self,
        image_channels: int,
        channels: int,
        kernels: Iterable[tuple[int, int]],
        *,
        grey: float = 0.0,
        ends_in_relu: bool = True,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self._grey, self._ends_in_relu = grey, ends_in_relu
        for kernel, stride in kernels:
            inputs = channels if len(self.layers) else image_channels
            self.layers.append(nn.Conv2d(inputs, channels, kernel, stride))

    def hidden_weights(self) -> Iterable[Tensor]:
        """Returns the weights of the convolutions."""
        return (p for p in self.parameters() if p.dim() > 1)

    def forward(self, images: Tensor) -> Tensor:
        """[n, Y, X, C] -> [n, K, Y', X']"""
        # [n, Y, X, C] seen as [n, C, Y, X] is already in channels-last memory order.
        x = images.movedim(-1, -3)
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            weight, bias = layer.weight, layer.bias
            if i == 0:
                weight = weight / 255
                bias = bias - self._grey * weight.sum((1, 2, 3)) if self._grey else bias
            dtype = self.hidden_dtype or weight.dtype
            x = F.conv2d(x.to(dtype), weight.to(dtype), bias.to(dtype), layer.stride)
            if self._ends_in_relu or i + 1 < len(self.layers):
                x = F.relu(x, inplace=True)
        return widened(x)


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
            raise ValueError(f"images of {shape[0]}x{shape[1]} are too small for paper_conv")
        self.convs = ConvStack(shape[2], channels, self.KERNELS)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * rows * columns, latent), BoundedHead(latent)
        )
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Raw uint8 frames to latents. [n, Y, X, C] -> [n, Z]"""
        return torch.cat([self.head(self.convs(x)) for x in in_blocks(images, BLOCK_FRAMES)])


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
        self.convs = ConvStack(shape[2], channels, self.KERNELS, grey=self.GREY, ends_in_relu=False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(self.INITIAL_TEMPERATURE)))
        self.register_buffer("grid_x", torch.linspace(-1, 1, columns), persistent=False)
        self.register_buffer("grid_y", torch.linspace(-1, 1, rows), persistent=False)
        self.head = nn.Sequential(nn.Linear(2 * channels, latent), BoundedHead(latent))
        initialise(self)

    def keypoints(self, images: Tensor) -> Tensor:
        """Returns expected x of every channel, then y, in [-1, 1]. [n, Y, X, C] -> [n, 2 * K]"""
        features = self.convs(images)
        logits = features.flatten(2) / self.log_temperature.exp()
        weights = logits.softmax(-1).view(features.shape)
        x = weights.sum(-2) @ self.grid_x
        y = weights.sum(-1) @ self.grid_y
        return torch.cat([x, y], dim=-1)

    def forward(self, images: Tensor) -> Tensor:
        """Raw uint8 frames to latents. [n, Y, X, C] -> [n, Z]"""
        return torch.cat([self.head(self.keypoints(x)) for x in in_blocks(images, BLOCK_FRAMES)])


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
