"""Draws a simulated world that lives in another process, as that process itself would.

The scene is built and drawn by `robot.sim`; only the state comes over the feed. OpenGL belongs to
the thread it is used in, so everything here that draws does so in one thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np

from robot.clock import MonotonicClock, SimulatedClock, Ticker
from robot.doubles.world_feed import WorldFeedError, WorldState, WorldSubscriber, put_state
from robot.interfaces import RobotFault
from robot.sim.camera import SimCamera
from robot.sim.config import SimConfig
from robot.sim.world import SimWorld

logger = logging.getLogger(__name__)

RECONNECT_S = 0.2


def pad_sides(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns an image with black added around it; its middle square is the image.

    Args:
        image: uint8, square. [N, N, 3]
        width: Wanted; the smaller one of width and height is N.
        height: Wanted.
    """
    size = image.shape[0]
    if min(width, height) != size:
        raise ValueError(f"a square of {size} does not fill {width}x{height}: draw at its height")
    padded = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = (height - size) // 2, (width - size) // 2
    padded[top : top + size, left : left + size] = image
    return padded


class SceneRenderer:
    """A thread that draws the newest published state, at a steady rate, until it is closed.

    It waits for a publisher that is not there yet or begins anew. While nothing new is published
    nothing is drawn: what was is not shown as if it were now.

    Args:
        config: The scene; `render_size` decides the size of the pictures.
        port: Of the publisher.
        feed: Gets every picture [render_size, render_size, 3] and when it was, on the operating
            system's monotonic clock; called in the thread of the renderer.
        fps: Pictures a second, at most.
        camera_name: Of the scene.
        on_state: Gets every new state before it is drawn, in the thread of the renderer.
    """

    def __init__(
        self,
        config: SimConfig,
        port: int,
        feed: Callable[[np.ndarray, int], None],
        *,
        fps: float = 30.0,
        camera_name: str = "front",
        on_state: Callable[[WorldState], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._port = port
        self._feed, self._on_state = feed, on_state
        self._fps = fps
        self._camera_name = camera_name
        self._closing = threading.Event()
        self._subscriber: WorldSubscriber | None = None
        self._last_words = ""
        self._thread = threading.Thread(target=self._run, name="scene-renderer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; may be called twice."""
        self._closing.set()
        self._thread.join()

    def __enter__(self) -> SceneRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        # Its clock stands still: this world is only ever put somewhere.
        world = SimWorld(self._config, SimulatedClock())
        camera = SimCamera(world, self._camera_name)
        ticker = Ticker(MonotonicClock(), round(1e9 / self._fps))
        ticker.start()
        drawn_ns = -1
        try:
            while not self._closing.is_set():
                state = self._newest(world)
                if state is not None and state.t_ns > drawn_ns:
                    self._on_state(state)
                    put_state(world, state)
                    self._feed(camera.read().image, state.t_ns)
                    drawn_ns = state.t_ns
                ticker.wait()
        except RobotFault as fault:
            logger.error("renderer ended error=%s", fault)
        finally:
            camera.close()
            self._hang_up()

    def _newest(self, world: SimWorld) -> WorldState | None:
        try:
            if self._subscriber is None:
                self._subscriber = WorldSubscriber(world, self._port)
                logger.info("renderer connected port=%d", self._port)
            return self._subscriber.newest(1.0 / self._fps)
        except WorldFeedError as error:
            self._hang_up()
            if str(error) != self._last_words:
                logger.warning("renderer waits error=%s", error)
            self._last_words = str(error)
            self._closing.wait(RECONNECT_S)
            return None

    def _hang_up(self) -> None:
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None
