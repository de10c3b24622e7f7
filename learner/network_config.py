"""Sizes of the networks, as a setting. No torch here: whoever reads a configuration needs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
