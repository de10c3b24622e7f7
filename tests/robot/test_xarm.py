from __future__ import annotations

import pytest

from robot.clock import SimulatedClock
from robot.xarm import XArm
from tests.contracts.arm import ArmContract
from tests.robot.xarm_rig import config_for, make_controller


class TestXArm(ArmContract):
    @pytest.fixture(autouse=True)
    def _close_controllers(self):
        self.controllers = []
        yield
        for controller in self.controllers:
            controller.close()

    def make_arm(self):
        clock = SimulatedClock()
        controller = make_controller(clock)
        self.controllers.append(controller)
        return XArm(config_for(controller), clock), clock
