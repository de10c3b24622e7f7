"""What the checks read of this machine, each in one function, so that tests can put others in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learner.algorithms.base import Policy
from protos.trial import RobotSpec
from robot.interfaces import Reward
from robot.realsense_config import RealSenseConfig
from services import measure, wall_clock
from services.measure import Times
from services.wall_clock import ClockState


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """Readers of this machine."""

    free_bytes: Callable[[Path], int] = _free_bytes
    """Free on the disk of an existing folder."""
    durable_write: Callable[[Path], Times] = measure.durable_write
    """Small writes that are on the disk when they return."""
    lateness: Callable[[float], Times] = measure.lateness
    """How late a loop at this rate, in Hz, wakes up."""
    lateness_under_load: Callable[[float, int], Times] = measure.lateness_under_load
    """The same at a niceness while every core is busy."""
    planning: Callable[[Policy, Mapping[str, np.ndarray], int], Times] = measure.planning
    """So many plans from one observation."""
    watching: Callable[[RealSenseConfig, RobotSpec, Reward | None, int], Times] = measure.watching
    """A loop's work on so many sets of a real arm's frames."""
    clock_state: Callable[[], ClockState] = wall_clock.clock_state
    """What the kernel says of the wall clock."""
    wall_minus_monotonic_ns: Callable[[], int] = wall_clock.wall_minus_monotonic_ns
    """Changes by much only when the wall clock jumps."""
