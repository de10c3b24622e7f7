"""The simulated workspace as MJCF text: the arm, a table, a camera and a task's objects.

Frame: the arm's base, x forward, y left, z up, the table's top at z = 0.
"""

from __future__ import annotations

import math

from robot.sim.arm_model import FINGER_TRAVEL_M, GREY, make_arm, make_gripper, make_servos, numbers
from robot.sim.config import SimConfig
from robot.sim.objects import make_task_objects

TIMESTEP_S = 0.002


def make_scene_mjcf(config: SimConfig) -> str:
    """Returns the whole workspace of a task and its variation."""
    held, assets, bodies = make_task_objects(config)
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
    {make_arm(make_gripper(held))}
    {bodies}
  </worldbody>
  <contact><exclude body1="finger_left" body2="finger_right"/></contact>
  <tendon>
    <fixed name="grip"><joint joint="finger_left" coef=".5"/>
    <joint joint="finger_right" coef=".5"/></fixed>
  </tendon>
  <equality>
    <joint joint1="finger_left" joint2="finger_right" solimp=".95 .99 .001" solref=".005 1"/>
  </equality>
  <actuator>
    {make_servos()}
    <position name="grip" tendon="grip" kp="4000" kv="60" forcerange="-60 60"
              ctrlrange="0 {FINGER_TRAVEL_M}"/>
  </actuator>
</mujoco>"""


def _camera(config: SimConfig) -> str:
    """The front camera: opposite the arm, looking down on the box, as close as shows all of it.

    Reach keeps to one low plane of the box and is seen more closely than pick.
    """
    low, high = config.limits.box_low_m, config.limits.box_high_m
    middle_x, middle_y = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    forward, height, pitch, fovy = (
        (0.58, 0.92, 0.96, 23.0) if config.task == "reach" else (0.66, 0.84, 0.79, 30.0)
    )
    position = (middle_x + forward, middle_y, height)
    up = (-math.sin(pitch), 0.0, math.cos(pitch))
    return (
        f'<camera name="front" pos="{numbers(position)}" xyaxes="0 1 0 {numbers(up)}" '
        f'fovy="{fovy}"/>'
    )
