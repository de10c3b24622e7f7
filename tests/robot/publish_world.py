"""A process that owns a world, draws it for itself, and publishes it until its input ends.

    python -m tests.robot.publish_world FOLDER RENDER_SIZE

Each line on standard input moves the arm and the target somewhere else; the picture of place k is
FOLDER/k.npy, written before it is published. The port comes on standard output, then each k.
"""

from __future__ import annotations

import select
import sys
import time
from pathlib import Path

import numpy as np

from robot.clock import SimulatedClock
from robot.doubles.world_feed import WorldPublisher, state_of
from robot.sim.camera import SimCamera
from robot.sim.config import SimConfig
from robot.sim.world import SimWorld

PERIOD_S = 0.01


def main(folder: Path, render_size: int) -> None:
    world = SimWorld(SimConfig(render_size=render_size), SimulatedClock())
    camera = SimCamera(world)
    publisher = WorldPublisher(world)
    tell(publisher.port)
    place = 0
    while True:
        world.reset()
        world.place_body("target", np.array([0.5 - 0.05 * place, 0.1 * place - 0.1, 0.001]))
        world.place_arm(np.array([0.35, 0.05 * place - 0.05, 0.07]), 0.5)
        np.save(folder / f"{place}.npy", camera.read().image)
        tell(place)
        while not select.select([sys.stdin], [], [], PERIOD_S)[0]:
            publisher.publish(state_of(world, time.monotonic_ns()))
        if not sys.stdin.readline():
            break
        place += 1
    publisher.close()
    camera.close()


def tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
