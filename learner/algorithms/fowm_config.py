"""All settings of FOWM but batch sizes, which are the trainer's.

Legend: H horizon, gamma discount, rho temporal weight, tau expectile, beta temperature of
advantage-weighted regression, lambda weight of uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from learner.network_config import NetworkConfig
from learner.planner_config import PlannerConfig


@dataclass(frozen=True, kw_only=True)
class FowmConfig(NetworkConfig):
    """FOWM; the defaults are the paper's for xArm."""

    horizon: int = 5
    """Steps of a training window and of a plan, H."""
    discount: float = 0.9
    """gamma."""
    temporal_weight: float = 0.5
    """rho."""
    learning_rate: float = 3e-4
    consistency_coef: float = 20.0
    reward_coef: float = 0.5
    q_coef: float = 0.1
    v_coef: float = 0.1
    expectile: float = 0.9
    """tau of the V loss."""
    awr_temperature: float = 3.0
    """beta of the policy loss."""
    uncertainty_weight: float = 1.0
    """lambda of the planner; 0 switches the penalty off."""
    shift_px: int = 4
    """Largest random shift of training images, in pixels."""
    target_tau: float = 0.01
    """Part of the way the slow copies move."""
    target_every: int = 2
    """Updates between two of their moves."""
    average_decay: float = 0.0
    """Actors get the average of about the last 1 / (1 - this) updates; 0: the newest weights, as in
    the paper."""
    max_grad_norm: float = 10.0
    mask_pi_loss: bool = True
    """False lets steps after a trial's end count in the policy loss, as the published code does."""
    train_precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of hidden layers and convolutions in updates; all else stays fp32."""
    cuda_graphs: bool = True
    """Record updates and plans as CUDA graphs; no effect on a CPU."""
    planner: PlannerConfig = PlannerConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon < 1 or self.target_every < 1 or self.shift_px < 0:
            raise ValueError("horizon and target_every must be at least 1, shift_px at least 0")
        for name in ("discount", "temporal_weight", "expectile", "target_tau"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay must lie in [0, 1), got {self.average_decay}")
        if self.uncertainty_weight < 0:
            raise ValueError("uncertainty_weight must not be negative")
        if self.train_precision not in ("fp32", "bf16"):
            raise ValueError(f"train_precision {self.train_precision!r} is not fp32 or bf16")
