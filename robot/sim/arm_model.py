"""The xArm 7 and its gripper as MJCF: the real kinematics, masses and limits in simple shapes.

Capsules and boxes render some twenty times faster than meshes. Only the finger pads touch things;
the box that the tool keeps to keeps the rest of the arm off the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TOOL_LENGTH_M = 0.172
"""Tool centre point, between the finger pads, from the flange."""
FINGER_TRAVEL_M = 0.0425
"""Way of each finger from closed to open; the opening is twice that."""

WHITE = "0.92 0.92 0.90 1"
GREY = "0.30 0.31 0.33 1"


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One joint of the xArm 7 and the link behind it, from the maker's description."""

    origin_m: tuple[float, float, float]
    roll_rad: float
    low_rad: float
    high_rad: float
    effort_nm: float
    damping: float
    mass_kg: float
    com_m: tuple[float, float, float]
    inertia: tuple[float, float, float]
    """Principal moments, 1e-3 kg m^2."""
    stiffness: float
    """Position gain of the servo, Nm/rad: three times that of the common model, which lags."""
    servo_damping: float


_QUARTER = math.pi / 2
_TURN = 2 * math.pi
JOINTS: tuple[Joint, ...] = tuple(
    Joint(
        origin_m=origin,
        roll_rad=roll,
        low_rad=low,
        high_rad=high,
        effort_nm=effort,
        damping=damping,
        mass_kg=mass,
        com_m=com,
        inertia=inertia,
        stiffness=3.0 * gain,
        servo_damping=gain / 10.0,
    )
    for origin, roll, low, high, effort, damping, mass, com, inertia, gain in (
        # One row a joint, as in the table it was taken from.
        # fmt: off
        (
            (0, 0, 0.267),
            0,
            -_TURN,
            _TURN,
            50,
            10,
            2.382,
            (-0.0002, 0.02905, -0.01233),
            (5.69, 5.33, 2.94),
            1500,
        ),
        (
            (0, 0, 0),
            -_QUARTER,
            -2.059,
            2.0944,
            50,
            10,
            1.869,
            (0.00022, -0.12856, 0.01735),
            (9.60, 9.38, 2.01),
            1500,
        ),
        (
            (0, -0.293, 0),
            _QUARTER,
            -_TURN,
            _TURN,
            30,
            5,
            1.6383,
            (0.0466, -0.02463, -0.00768),
            (3.52, 2.94, 1.96),
            1000,
        ),
        (
            (0.0525, 0, 0),
            _QUARTER,
            -0.19198,
            3.927,
            30,
            5,
            1.7269,
            (0.07047, -0.11575, 0.012),
            (6.57, 6.48, 1.87),
            1000,
        ),
        (
            (0.0775, -0.3425, 0),
            _QUARTER,
            -_TURN,
            _TURN,
            30,
            5,
            1.3203,
            (-0.00032, 0.01604, -0.026),
            (5.35, 4.99, 1.35),
            1000,
        ),
        (
            (0, 0, 0),
            _QUARTER,
            -1.69297,
            math.pi,
            20,
            2,
            1.325,
            (0.06469, 0.03278, 0.02141),
            (2.45, 2.22, 1.07),
            800,
        ),
        (
            (0.076, 0.097, 0),
            -_QUARTER,
            -_TURN,
            _TURN,
            20,
            2,
            0.17,
            (0, -0.00677, -0.01098),
            (0.132, 0.093, 0.059),
            800,
        ),
        # fmt: on
    )
)
HOME_RAD: tuple[float, ...] = (0.0, -0.247, 0.0, 0.909, 0.0, 1.15644, 0.0)
"""A comfortable pose: tool down at (400, 0, 228) mm."""

# Shapes of each link, in its own frame: capsules (from, to, radius).
_LINK_SHAPES: tuple[tuple[tuple[str, str, float], ...], ...] = (
    (("0 0 -.15", "0 0 0", 0.055),),
    (("0 0 0", "0 -.293 0", 0.050),),
    (("0 0 0", ".0525 0 0", 0.050),),
    (("0 0 0", ".0775 -.10 0", 0.048), (".0775 -.10 0", ".0775 -.3425 0", 0.045)),
    (("0 0 -.06", "0 0 .02", 0.043),),
    (("0 0 0", ".076 .02 0", 0.040), (".076 .02 0", ".076 .06 0", 0.038)),
    (("0 0 -.03", "0 0 -.012", 0.034),),
)


def make_arm_mjcf() -> str:
    """Returns a model of the seven joints alone, with the site `tool`: what kinematics needs."""
    site = f'<site name="tool" group="4" pos="0 0 {TOOL_LENGTH_M}"/>'
    return (
        '<mujoco model="xarm7_kinematics"><compiler angle="radian" autolimits="true"/>'
        f"<worldbody>{make_arm(site)}</worldbody></mujoco>"
    )


def make_arm(tool: str) -> str:
    """The chain of links, innermost last, with `tool` inside the flange."""
    text = tool
    for index in reversed(range(len(JOINTS))):
        joint = JOINTS[index]
        shapes = "".join(
            f'<geom type="capsule" fromto="{start} {end}" size="{radius}" rgba="{WHITE}"/>'
            for start, end, radius in _LINK_SHAPES[index]
        )
        inertia = numbers(1e-3 * moment for moment in joint.inertia)
        text = (
            f'<body name="link{index + 1}" pos="{numbers(joint.origin_m)}" '
            f'euler="{joint.roll_rad} 0 0" gravcomp="1">'
            f'<inertial pos="{numbers(joint.com_m)}" mass="{joint.mass_kg}" '
            f'diaginertia="{inertia}"/>'
            f'<joint name="joint{index + 1}" axis="0 0 1" damping="{joint.damping}" '
            f'frictionloss="1" armature=".1" range="{joint.low_rad} {joint.high_rad}"/>'
            f"{shapes}{text}</body>"
        )
    return (
        '<body name="base"><inertial pos="0 0 .07" mass=".88556" diaginertia=".002 .002 .002"/>'
        f'<geom type="cylinder" fromto="0 0 0 0 0 .12" size=".063" rgba="{WHITE}"/>{text}</body>'
    )


def make_gripper(held: str) -> str:
    finger = """
      <body name="{name}" pos="0 {y} .105" gravcomp="1">
        <joint name="{name}" type="slide" axis="0 {sign} 0" range="0 {travel}"
               armature=".05" damping="4"/>
        <geom type="box" size=".010 .006 .022" pos="0 {outer} .022" mass=".06" rgba="{grey}"/>
        <geom name="{name}_pad" class="pad" size=".011 .004 .018" pos="0 {inner} .057"
              mass=".0449"/>
      </body>"""
    fingers = "".join(
        finger.format(
            name=f"finger_{side}",
            y=0.0,
            sign=sign,
            travel=FINGER_TRAVEL_M,
            outer=sign * 0.008,
            inner=sign * 0.004,
            grey=GREY,
        )
        for side, sign in (("left", -1), ("right", 1))
    )
    return f"""
      <site name="tool" group="4" pos="0 0 {TOOL_LENGTH_M}"/>
      <body name="gripper" gravcomp="1">
        <inertial pos="0 0 .05" mass=".5416" diaginertia=".0006 .0005 .0004"/>
        <geom type="box" size=".026 .045 .030" pos="0 0 .045" rgba="{GREY}"/>
        <geom type="cylinder" fromto="0 0 0 0 0 .02" size=".034" rgba="{GREY}"/>
        <geom type="box" size=".014 .060 .012" pos="0 0 .087" rgba="{GREY}"/>
        {fingers}
        {held}
      </body>"""


def make_servos() -> str:
    return "".join(
        f'<position name="servo{index}" joint="joint{index}" kp="{joint.stiffness}" '
        f'kv="{joint.servo_damping}" forcerange="-{joint.effort_nm} {joint.effort_nm}" '
        f'ctrlrange="{joint.low_rad} {joint.high_rad}"/>'
        for index, joint in enumerate(JOINTS, start=1)
    )


def numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.7g}" for value in values)
