from __future__ import annotations

from tests.contracts.camera import CameraContract
from tests.robot.realsense_rig import FilmedClock, make_config


class TestSoftwareCamera(CameraContract):
    def make_camera(self):
        clock = FilmedClock(make_config())
        return clock.camera, clock
