"""How an actor plans, as a setting. No torch here: whoever reads a configuration needs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """How an actor plans; the defaults are the paper's for xArm."""

    num_samples: int = 512
    """Gaussian action sequences an iteration."""
    policy_fraction: float = 0.1
    """Policy trajectories added to them, as a fraction of `num_samples`."""
    num_elites: int = 50
    iterations: int = 6
    temperature: float = 0.5
    """Inverse temperature of the elites' weights; larger trusts the best one more."""
    momentum: float = 0.1
    """Part of the old mean kept by an iteration."""
    min_std: float = 0.05
    max_std: float = 2.0
    use_mpc: bool = True
    """False acts with the policy alone."""
    search: Literal["auto", "full", "pruned"] = "auto"
    """Evaluate all candidates or only those that can become elites; auto prunes on a CPU."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the hidden layers while planning; all else stays fp32."""
    compile: bool = False
    """Compile the networks (needs a C++ compiler on a CPU); the first plans take a minute."""

    def __post_init__(self) -> None:
        if min(self.num_samples, self.num_elites, self.iterations) < 1:
            raise ValueError("num_samples, num_elites and iterations must be at least 1")
        if not 0 <= self.policy_fraction <= 1:
            raise ValueError(f"policy_fraction must lie in [0, 1], got {self.policy_fraction}")
        if self.num_elites > self.num_candidates:
            raise ValueError(
                f"num_elites {self.num_elites} exceeds the {self.num_candidates} candidates"
            )
        if not (0 < self.min_std <= self.max_std and self.temperature > 0):
            raise ValueError("need 0 < min_std <= max_std and temperature > 0")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.search not in ("auto", "full", "pruned"):
            raise ValueError(f"search {self.search!r} is not auto, full or pruned")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision {self.precision!r} is not fp32 or bf16")

    @property
    def num_policy(self) -> int:
        """Policy trajectories P."""
        return int(self.policy_fraction * self.num_samples)

    @property
    def num_candidates(self) -> int:
        """Candidates an iteration, n = N + P."""
        return self.num_samples + self.num_policy
