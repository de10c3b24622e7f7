"""A RealSense camera that sees a simulated world of another process, through the vendor's SDK."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from protos.provenance import CameraFacts
from robot.clock import Clock
from robot.doubles.realsense_device import SoftwareDevice
from robot.doubles.scene_renderer import SceneRenderer, pad_sides
from robot.doubles.world_feed import WorldState
from robot.interfaces import Frame
from robot.realsense import RealSenseCamera
from robot.realsense_config import RealSenseConfig
from robot.sim.camera import SimCamera
from robot.sim.config import SimConfig
from robot.sim.world import SimWorld


class WorldCamera:
    """A camera over the published world. It may be read from any thread.

    The lowest bits of a corner's colours count the pictures: two pictures of a real camera are
    never the same either, and one that repeats itself is found out by that.

    Args:
        config: The stream. The scene fills the middle square of its pictures.
        clock: The operating system's monotonic clock, which dates the published states.
        scene: What the publisher simulates; sizes of pictures do not matter.
        port: Of the publisher.
    """

    def __init__(self, config: RealSenseConfig, clock: Clock, scene: SimConfig, port: int) -> None:
        size = min(config.width, config.height)
        scene = dataclasses.replace(scene, image_size=8, render_size=size)
        lens = SimCamera(SimWorld(scene, clock)).facts.intrinsics
        # The square it draws has dark sides to the left and right.
        lens = dataclasses.replace(
            lens,
            ppx_px=lens.ppx_px + (config.width - size) / 2,
            ppy_px=lens.ppy_px + (config.height - size) / 2,
        )
        device = SoftwareDevice(config, clock, serial=f"world-{port}", lens=lens)

        counted = itertools.count()

        def feed(image: np.ndarray, taken_ns: int) -> None:
            picture = pad_sides(image, config.width, config.height)
            picture[0, 0] ^= np.array([(next(counted) >> n) & 1 for n in range(3)], np.uint8)
            device.feed(picture, taken_ns)

        def take_trouble(state: WorldState) -> None:
            device.trouble = state.trouble

        self._camera = RealSenseCamera(config, clock, device)
        self._renderer = SceneRenderer(
            scene,
            port,
            feed,
            fps=config.fps,
            on_state=take_trouble,
        )

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._camera.name

    @property
    def facts(self) -> CameraFacts:
        """What a trial keeps of it."""
        return self._camera.facts

    def read(self) -> Frame:
        """Returns the newest frame; see `RealSenseCamera.read`."""
        return self._camera.read()

    def close(self) -> None:
        """Ends drawing and stream; may be called twice."""
        self._renderer.close()
        self._camera.close()
