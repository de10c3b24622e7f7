"""Two actors with two spools and one arm: the second one is told, and the first goes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from robot.arm_claim import ArmClaim
from robot.interfaces import RobotFault, StartPose
from robot.xarm import XArm
from tests.robot.xarm_rig import config_for, connected_arm

START = StartPose(position_m=(0.40, 0.0, 0.20), gripper_opening=1.0)


def test_an_arm_that_has_a_driver_is_taken_by_no_other_and_is_free_after_it():
    with connected_arm() as (arm, controller, clock):
        other = XArm(config_for(controller), clock)
        with pytest.raises(RobotFault) as caught:
            other.connect()
        assert caught.value.code == "arm_claimed"
        other.close()
        arm.reset(START)  # it was not disturbed
        assert arm.fault is None
        arm.close()
        other.connect()
        other.close()


CLAIM = """
from robot.arm_claim import ArmClaim
claim = ArmClaim("192.0.2.1:502")
print("claimed", flush=True)
input()
"""


def test_a_claim_ends_with_its_process():
    holder = subprocess.Popen(
        [sys.executable, "-c", CLAIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "claimed\n"
        with pytest.raises(RobotFault, match="arm_claimed"):
            ArmClaim("192.0.2.1:502")
        holder.kill()
    ArmClaim("192.0.2.1:502").release()
