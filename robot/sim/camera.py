"""The simulated camera: draws the world as it is at the clock's present."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from protos.provenance import CameraFacts, CameraIntrinsics
from robot.interfaces import Frame, RobotFault
from robot.sim.engine import make_renderer
from robot.sim.world import SimWorld


class SimCamera:
    """A camera of the scene. Every read draws a new frame, about 2 ms at 224 x 224.

    The renderer is made by the first read and belongs to the thread that made it: read and close
    in one thread, and do not fork the process after the first read.

    Args:
        world: What to look at.
        name: Name of the camera in the scene and of the frames.
    """

    def __init__(self, world: SimWorld, name: str = "front") -> None:
        self._world = world
        self._name = name
        self._renderer: Any = None
        self._thread: int | None = None
        self._frame_number = 0

    @property
    def name(self) -> str:
        """Name of the camera."""
        return self._name

    @property
    def facts(self) -> CameraFacts:
        """The pinhole that it draws with."""
        model, size = self._world.model, self._world.config.render_size
        fovy_rad = math.radians(float(model.cam_fovy[model.camera(self._name).id]))
        focal_px = 0.5 * size / math.tan(0.5 * fovy_rad)
        lens = CameraIntrinsics(
            width=size,
            height=size,
            fx_px=focal_px,
            fy_px=focal_px,
            ppx_px=0.5 * (size - 1),
            ppy_px=0.5 * (size - 1),
            distortion_model="none",
            distortion=(),
        )
        return CameraFacts(name=self._name, intrinsics=lens, model="MuJoCo")

    def read(self) -> Frame:
        """Draws the world of this moment. [render_size, render_size, 3]"""
        if self._renderer is None:
            self._renderer = make_renderer(self._world.model, self._world.config.render_size)
            self._thread = threading.get_ident()
        elif self._thread != threading.get_ident():
            raise RobotFault("camera_thread", f"camera {self._name} belongs to another thread")
        self._world.advance()
        self._renderer.update_scene(self._world.data, camera=self._name)
        image = self._renderer.render()
        if bool(np.all(image == image[0, 0])):
            raise RobotFault("camera_blank", f"camera {self._name} drew a blank image")
        self._frame_number += 1
        return Frame(image=image, t_ns=self._world.t_ns, frame_number=self._frame_number)

    def close(self) -> None:
        """Frees the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
