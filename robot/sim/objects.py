"""What lies on the table or hangs in the gripper, as MJCF."""

from __future__ import annotations

import math

from robot.sim.arm_model import TOOL_LENGTH_M, WHITE, numbers
from robot.sim.config import SimConfig

RED = "0.82 0.06 0.05 1"
BLUE = "0.05 0.22 0.75 1"
GREEN = "0.08 0.55 0.16 1"
YELLOW = "0.93 0.75 0.08 1"
PURPLE = "0.48 0.16 0.62 1"

PRISM_RADIUS_M = 0.022
"""From the axis of a prism to its corners."""
PRISM_HEIGHT_M = 0.06
PRISM_MASS_KG = 0.038
TARGET_SIDE_M = 0.05
HELD_BELOW_TOOL_M = 0.045
"""From the tool centre point down to the bottom of the held object."""
TOOL_OFFSET_M = (0.018, 0.018)
"""Where the bottle's bottom is beside the tool centre point, base frame: 2.5 cm away."""


def make_task_objects(config: SimConfig) -> tuple[str, str, str]:
    """Returns what the gripper holds, assets and free bodies."""
    assets = _prism_mesh("hexagon", 6) + _prism_mesh("octagon", 8)
    if config.task == "reach":
        held = _held_bottle() if config.variation == "tool_offset" else _held_prism()
        colour = GREEN if config.variation == "green_target" else BLUE
        bodies = (
            '<body name="target" mocap="true"><geom type="box" '
            f'size="{TARGET_SIDE_M / 2} {TARGET_SIDE_M / 2} .001" rgba="{colour}"/></body>'
        )
        if config.variation == "distractor":
            bodies += _free_prism("distractor", "hexagon", RED)
        return held, assets, bodies
    is_green = config.variation == "green_octagon"
    bodies = _free_prism("object", "octagon" if is_green else "hexagon", GREEN if is_green else RED)
    if config.variation == "distractors":
        bodies += _free_box("distractor_box", YELLOW) + _free_cylinder("distractor_can", PURPLE)
    return "", assets, bodies


def _held_prism() -> str:
    middle = TOOL_LENGTH_M + HELD_BELOW_TOOL_M - PRISM_HEIGHT_M / 2
    return (
        f'<body name="held" pos="0 0 {middle}" gravcomp="1"><geom class="solid" type="mesh" '
        f'mesh="hexagon" mass="{PRISM_MASS_KG}" rgba="{RED}"/></body>'
        f'<site name="held_bottom" group="4" pos="0 0 {TOOL_LENGTH_M + HELD_BELOW_TOOL_M}"/>'
    )


def _held_bottle() -> str:
    # The gripper's frame points down: its y is the base's -y.
    x, y = TOOL_OFFSET_M[0], -TOOL_OFFSET_M[1]
    top, bottom = TOOL_LENGTH_M - 0.01, TOOL_LENGTH_M + HELD_BELOW_TOOL_M
    cap_x, cap_y = 0.15 * x, 0.15 * y
    return (
        '<body name="held" gravcomp="1">'
        f'<geom type="capsule" fromto="0 0 {top} {cap_x} {cap_y} {top + 0.012}" size=".010" '
        f'mass=".008" rgba="{WHITE}"/>'
        f'<geom class="solid" type="capsule" fromto="{0.3 * x} {0.3 * y} {top + 0.024} '
        f'{0.85 * x} {0.85 * y} {bottom - 0.018}" size=".017" mass=".030" rgba="{RED}"/>'
        f'<geom type="cylinder" fromto="{0.85 * x} {0.85 * y} {bottom - 0.018} {x} {y} {bottom}" '
        f'size=".017" mass="0" rgba="{RED}"/></body>'
        f'<site name="held_bottom" group="4" pos="{x} {y} {bottom}"/>'
    )


def _free_prism(name: str, mesh: str, rgba: str) -> str:
    return _free_body(name, f'type="mesh" mesh="{mesh}" mass="{PRISM_MASS_KG}"', rgba)


def _free_box(name: str, rgba: str) -> str:
    half = PRISM_HEIGHT_M / 2
    return _free_body(name, f'type="box" size=".02 .02 {half}" mass="{PRISM_MASS_KG}"', rgba)


def _free_cylinder(name: str, rgba: str) -> str:
    half = PRISM_HEIGHT_M / 2
    return _free_body(name, f'type="cylinder" size=".02 {half}" mass="{PRISM_MASS_KG}"', rgba)


def _free_body(name: str, shape: str, rgba: str) -> str:
    return (
        f'<body name="{name}"><freejoint name="{name}"/>'
        f'<geom name="{name}" class="solid" {shape} rgba="{rgba}"/></body>'
    )


def _prism_mesh(name: str, num_sides: int) -> str:
    half = PRISM_HEIGHT_M / 2
    corners = [
        (
            PRISM_RADIUS_M * math.cos(2 * math.pi * side / num_sides),
            PRISM_RADIUS_M * math.sin(2 * math.pi * side / num_sides),
            z,
        )
        for z in (-half, half)
        for side in range(num_sides)
    ]
    return f'<mesh name="{name}" vertex="{" ".join(numbers(c) for c in corners)}"/>'
