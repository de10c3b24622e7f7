"""What a demo run is told; whatever is learned stands in the learner's file.

The values used are those of deploy/configs/demo.toml.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import deploy
from robot.sim.config import EVAL_POSITIONS, REGIONS, TABLE_MARGIN_M, SimConfig
from services.commands.flags import OutputFlags

CONFIGS = Path(deploy.__file__).parent / "configs"
"""Configurations that come with offworld."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig(OutputFlags):
    """Pretrains on recorded trials, runs online trials, compares before, after and a control."""

    out: Path = Path("demo-run")
    """Folder for everything the run leaves behind; one of an earlier demo is replaced."""
    seed: int = 0
    """Decides data, learning and trials."""
    seeds: tuple[int, ...] = ()
    """Several runs, one after the other below `out`, and their summary."""
    learner_config: Path = CONFIGS / "demo-learner.toml"
    """The learner's file: what is learned, and how."""
    actor_config: Path = CONFIGS / "demo-actor.toml"
    """The actor's file: the simulated workspace."""
    num_expert_trials: int | None = None
    """Offline trials of the noisy expert; None is the task's usual number."""
    num_exploratory_trials: int | None = None
    """Offline trials of random motion; None is the task's usual number."""
    recorded_region: str = "near"
    """Part of the table where offline trials have their targets; online it is all of it."""
    num_online_trials: int = 20
    """Trials to finetune on."""
    num_positions: int = len(EVAL_POSITIONS)
    """Fixed positions in each evaluation, from the first."""
    eval_pace: Literal["real", "fast"] = "fast"
    """Pace of evaluation trials; see `offworld actor --help`."""

    def __post_init__(self) -> None:
        if self.recorded_region not in REGIONS:
            raise ValueError(
                f"recorded_region must be one of {sorted(REGIONS)}, got {self.recorded_region!r}"
            )
        if self.num_online_trials < 1:
            raise ValueError(f"num_online_trials must be at least 1, got {self.num_online_trials}")
        if not 1 <= self.num_positions <= len(EVAL_POSITIONS):
            raise ValueError(
                f"num_positions must be 1 .. {len(EVAL_POSITIONS)}, got {self.num_positions}"
            )


def region_m(sim: SimConfig, region: str) -> tuple[float, float, float, float]:
    """Returns a region of the table: x low, x high, y low, y high. [m]"""
    (x_low, x_high), (y_low, y_high) = REGIONS[region]
    low, high = place_m(sim, (x_low, y_low)), place_m(sim, (x_high, y_high))
    return low[0], high[0], low[1], high[1]


def place_m(sim: SimConfig, fraction: tuple[float, float]) -> tuple[float, float]:
    """Returns a place of the placing area, given as fractions of it. [m]"""
    low, high = sim.limits.box_low_m, sim.limits.box_high_m
    x, y = (
        low[i] + TABLE_MARGIN_M + fraction[i] * (high[i] - low[i] - 2 * TABLE_MARGIN_M)
        for i in range(2)
    )
    return x, y
