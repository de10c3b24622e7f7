"""What a person's hand does in a simulated workspace: puts the object between the fingers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot.clock import Clock
from robot.interfaces import Arm, RobotFault, StartPose, ToolTarget
from robot.sim.env import make_sim_task
from robot.sim.objects import HELD_BELOW_TOOL_M, PRISM_HEIGHT_M, TARGET_SIDE_M
from robot.sim.tasks import HOLDING_OPENING, REACH_HEIGHT_M
from robot.sim.world import SimWorld

GRASP_HEIGHT_M = 0.035
"""Height of the tool that grasps an object standing on the table."""
GRIP_OPENING = 0.1
"""Commanded around a prism: much less than its width, so that the fingers press."""
_CLOSING_S = 1.0
_POSITION_INDEX = 17
"""Where the target lies while the arm carries the object: out of the way of the first points."""
_BARE = ("none", "green_octagon", "green_target")
"""Variations with nothing on the table that the carried object would knock over."""


@dataclass(frozen=True, kw_only=True)
class HandedOver:
    """How the object sits in the gripper, as a person with a ruler would tell."""

    centre_from_tool_m: tuple[float, float, float]
    height_m: float
    target_side_m: float | None
    """Of the target; None where the task has none."""
    opening: float
    """To command while it is carried."""


def hand_over(world: SimWorld, arm: Arm, clock: Clock, place_m: tuple[float, float]) -> HandedOver:
    """Leaves the arm with the object in its gripper above a place, and the target on the table.

    Raises:
        ValueError: The variation has more on the table than the target.
        RobotFault: The object is not between the fingers then.
    """
    if world.config.variation not in _BARE:
        raise ValueError(
            f"calibrate on a bare table, variation {' or '.join(_BARE)}; "
            f"got {world.config.variation!r}"
        )
    make_sim_task(world.config, world).begin(0, _POSITION_INDEX)
    x, y = place_m
    if world.config.task == "reach":
        pose = StartPose(position_m=(x, y, REACH_HEIGHT_M), gripper_opening=HOLDING_OPENING)
        arm.reset(pose)
        return HandedOver(
            centre_from_tool_m=(0.0, 0.0, PRISM_HEIGHT_M / 2 - HELD_BELOW_TOOL_M),
            height_m=PRISM_HEIGHT_M,
            target_side_m=TARGET_SIDE_M,
            opening=HOLDING_OPENING,
        )
    world.place_body("object", np.array([x, y, PRISM_HEIGHT_M / 2]))
    arm.reset(StartPose(position_m=(x, y, GRASP_HEIGHT_M), gripper_opening=1.0))
    arm.command(ToolTarget(position_m=(x, y, GRASP_HEIGHT_M), gripper_opening=GRIP_OPENING))
    clock.sleep_until_ns(clock.now_ns() + round(_CLOSING_S * 1e9))
    if not arm.state().is_gripper_stuck:
        raise RobotFault("nothing_grasped", "the object is not between the fingers")
    return HandedOver(
        centre_from_tool_m=(0.0, 0.0, PRISM_HEIGHT_M / 2 - GRASP_HEIGHT_M),
        height_m=PRISM_HEIGHT_M,
        target_side_m=None,
        opening=GRIP_OPENING,
    )
