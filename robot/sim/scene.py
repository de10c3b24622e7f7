"""The simulated workspace as MJCF text: an xArm 7 of primitive shapes, a table, a task's objects.

Kinematics, masses, inertias and limits of the arm are the real ones; the shapes are capsules and
boxes, which render some twenty times faster than meshes and touch things only with the gripper.
Frame: the arm's base, x forward, y left, z up, the table's top at z = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from robot.sim.config import SimConfig

TIMESTEP_S = 0.002
TOOL_LENGTH_M = 0.172
"""Tool centre point, between the finger pads, from the flange."""
FINGER_TRAVEL_M = 0.0425
"""Way of each finger from closed to open; the opening is twice that."""

RED = "0.82 0.06 0.05 1"
BLUE = "0.05 0.22 0.75 1"
GREEN = "0.08 0.55 0.16 1"
YELLOW = "0.93 0.75 0.08 1"
PURPLE = "0.48 0.16 0.62 1"
WHITE = "0.92 0.92 0.90 1"
GREY = "0.30 0.31 0.33 1"

PRISM_RADIUS_M = 0.022
"""From the axis of a prism to its corners."""
PRISM_HEIGHT_M = 0.06
PRISM_MASS_KG = 0.038
TARGET_SIDE_M = 0.05


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
        f"<worldbody>{_arm(site)}</worldbody></mujoco>"
    )


def make_scene_mjcf(config: SimConfig) -> str:
    """Returns the whole workspace of a task and its variation."""
    held, assets, bodies = _task_objects(config)
    size = config.render_size
    return f"""
<mujoco model="workspace_{config.task}_{config.variation}">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP_S}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <size memory="2M"/>
  <visual>
    <global offwidth="{size}" offheight="{size}"/>
    <quality offsamples="0"/>
    <headlight ambient=".45 .45 .45" diffuse=".35 .35 .35" specular="0 0 0"/>
    <map znear=".02" zfar="10"/>
  </visual>
  <default>
    <geom contype="0" conaffinity="0"/>
    <default class="shape"><geom rgba="{WHITE}"/></default>
    <default class="pad">
      <geom type="box" rgba="{GREY}" contype="1" conaffinity="1" friction="1.5 .02 .001"
            condim="4" priority="1" solref=".006 1"/>
    </default>
    <default class="solid">
      <geom contype="1" conaffinity="1" friction="1 .01 .0005" condim="4" solref=".006 1"/>
    </default>
  </default>
  <asset>{assets}</asset>
  <worldbody>
    <light pos=".7 -.4 1.5" dir="-.2 .3 -1" directional="true" castshadow="false"
           diffuse=".45 .45 .45" specular="0 0 0"/>
    <geom name="table" class="solid" type="box" size=".75 .75 .02" pos=".35 0 -.02"
          rgba=".74 .71 .66 1"/>
    <geom name="floor" type="plane" size="4 4 1" pos="0 0 -.7" rgba=".45 .46 .48 1"/>
    {_camera(config)}
    {_arm(_gripper(held))}
    {bodies}
  </worldbody>
  <contact>{_excludes()}</contact>
  <tendon>
    <fixed name="grip"><joint joint="finger_left" coef=".5"/>
    <joint joint="finger_right" coef=".5"/></fixed>
  </tendon>
  <equality>
    <joint joint1="finger_left" joint2="finger_right" solimp=".95 .99 .001" solref=".005 1"/>
  </equality>
  <actuator>
    {_servos()}
    <position name="grip" tendon="grip" kp="4000" kv="60" forcerange="-60 60"
              ctrlrange="0 {FINGER_TRAVEL_M}"/>
  </actuator>
</mujoco>"""


def _arm(tool: str) -> str:
    """The chain of links, innermost last, with `tool` inside the flange."""
    text = tool
    for index in reversed(range(len(JOINTS))):
        joint = JOINTS[index]
        shapes = "".join(
            f'<geom type="capsule" fromto="{start} {end}" size="{radius}" rgba="{WHITE}"/>'
            for start, end, radius in _LINK_SHAPES[index]
        )
        inertia = _numbers(1e-3 * moment for moment in joint.inertia)
        text = (
            f'<body name="link{index + 1}" pos="{_numbers(joint.origin_m)}" '
            f'euler="{joint.roll_rad} 0 0" gravcomp="1">'
            f'<inertial pos="{_numbers(joint.com_m)}" mass="{joint.mass_kg}" '
            f'diaginertia="{inertia}"/>'
            f'<joint name="joint{index + 1}" axis="0 0 1" damping="{joint.damping}" '
            f'frictionloss="1" armature=".1" range="{joint.low_rad} {joint.high_rad}"/>'
            f"{shapes}{text}</body>"
        )
    return (
        '<body name="base"><inertial pos="0 0 .07" mass=".88556" diaginertia=".002 .002 .002"/>'
        f'<geom type="cylinder" fromto="0 0 0 0 0 .12" size=".063" rgba="{WHITE}"/>{text}</body>'
    )


def _gripper(held: str) -> str:
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


def _servos() -> str:
    return "".join(
        f'<position name="servo{index}" joint="joint{index}" kp="{joint.stiffness}" '
        f'kv="{joint.servo_damping}" forcerange="-{joint.effort_nm} {joint.effort_nm}" '
        f'ctrlrange="{joint.low_rad} {joint.high_rad}"/>'
        for index, joint in enumerate(JOINTS, start=1)
    )


def _excludes() -> str:
    return '<exclude body1="finger_left" body2="finger_right"/>'


def _camera(config: SimConfig) -> str:
    """The front camera: opposite the arm, looking down on the box, as close as shows all of it.

    Reach keeps to one low plane of the box and is seen more closely than pick.
    """
    low, high = config.limits.box_low_m, config.limits.box_high_m
    middle_x, middle_y = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    forward, height, pitch, fovy = (
        (0.58, 0.92, 0.96, 23.0) if config.task == "reach" else (0.66, 0.84, 0.80, 29.0)
    )
    position = (middle_x + forward, middle_y, height)
    up = (-math.sin(pitch), 0.0, math.cos(pitch))
    return (
        f'<camera name="front" pos="{_numbers(position)}" xyaxes="0 1 0 {_numbers(up)}" '
        f'fovy="{fovy}"/>'
    )


def _task_objects(config: SimConfig) -> tuple[str, str, str]:
    """Returns what the gripper holds, assets and free bodies."""
    assets = _prism_mesh("hexagon", 6) + _prism_mesh("octagon", 8)
    if config.task == "reach":
        held = _held_bottle() if config.variation == "tool_offset" else _held_prism()
        bodies = (
            '<body name="target" mocap="true"><geom type="box" '
            f'size="{TARGET_SIDE_M / 2} {TARGET_SIDE_M / 2} .001" rgba="{BLUE}"/></body>'
        )
        if config.variation == "distractor":
            bodies += _free_prism("distractor", "hexagon", RED)
        return held, assets, bodies
    is_green = config.variation == "green_octagon"
    bodies = _free_prism("object", "octagon" if is_green else "hexagon", GREEN if is_green else RED)
    if config.variation == "distractors":
        bodies += _free_box("distractor_box", YELLOW) + _free_cylinder("distractor_can", PURPLE)
    return "", assets, bodies


HELD_BELOW_TOOL_M = 0.045
"""From the tool centre point down to the bottom of the held object."""
TOOL_OFFSET_M = (0.018, 0.018)
"""Where the bottle's bottom is beside the tool centre point, base frame: 2.5 cm away."""


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
            PRISM_RADIUS_M * math.cos(_TURN * side / num_sides),
            PRISM_RADIUS_M * math.sin(_TURN * side / num_sides),
            z,
        )
        for z in (-half, half)
        for side in range(num_sides)
    ]
    return f'<mesh name="{name}" vertex="{" ".join(_numbers(c) for c in corners)}"/>'


def _numbers(values: object) -> str:
    return " ".join(f"{value:.7g}" for value in values)  # type: ignore[attr-defined]
