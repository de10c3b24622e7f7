from __future__ import annotations

import contextlib
import dataclasses
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robot.clock import MonotonicClock, SimulatedClock
from robot.doubles import world_feed
from robot.doubles.realsense_device import SoftwareDevice
from robot.doubles.scene_renderer import SceneRenderer, pad_sides
from robot.doubles.world_feed import (
    WorldFeedError,
    WorldPublisher,
    WorldState,
    WorldSubscriber,
    put_state,
    scene_digest,
    state_of,
)
from robot.frames import FrameLimits, FrameWatch
from robot.observation import reduce_image
from robot.realsense import RealSenseCamera
from robot.sim.camera import SimCamera
from robot.sim.config import SimConfig
from robot.sim.world import SimWorld
from tests.robot.realsense_rig import WAIT_S, make_config

ROOT = Path(__file__).parents[2]
SIZE = 96


@pytest.fixture(scope="module")
def world():
    return SimWorld(SimConfig(render_size=SIZE), SimulatedClock())


@pytest.fixture
def publisher(world):
    publisher = WorldPublisher(world)
    yield publisher
    publisher.close()


@pytest.fixture
def subscriber(world, publisher):
    subscriber = WorldSubscriber(world, publisher.port)
    yield subscriber
    subscriber.close()


def state_number(world: SimWorld, number: int) -> WorldState:
    rng = np.random.default_rng(number)
    return WorldState(
        t_ns=number,
        qpos=rng.normal(size=world.model.nq),
        moved=rng.normal(size=(world.model.nmocap, 7)),
    )


def test_a_state_arrives_to_the_last_bit(world, publisher, subscriber):
    sent = state_number(world, 7)
    publisher.publish(sent)
    got = subscriber.newest(WAIT_S)
    assert got is not None
    assert got.t_ns == 7
    assert np.array_equal(got.qpos, sent.qpos)
    assert np.array_equal(got.moved, sent.moved)
    assert subscriber.newest(0.0) is None


def test_a_reader_gets_the_newest_state_and_no_older_one(world, publisher, subscriber):
    for number in range(20):
        publisher.publish(state_number(world, number))
    got = subscriber.newest(WAIT_S)
    assert got is not None
    assert got.t_ns == 19
    assert subscriber.newest(0.0) is None


def test_a_slow_reader_misses_states_and_never_holds_the_publisher(world, publisher, subscriber):
    # More than sockets hold, or nothing would be shown.
    num_bytes = 60 + 8 * (world.model.nq + 7 * world.model.nmocap)
    number = 0
    while publisher.num_dropped < 100:
        publisher.publish(state_number(world, number))
        number += 1
        assert number * num_bytes < 2**28
    last = None
    while (state := subscriber.newest(0.0)) is not None:
        last = state
    assert last is not None
    publisher.publish(state_number(world, number))
    publisher.publish(state_number(world, number + 1))
    got = subscriber.newest(WAIT_S)
    assert got is not None
    assert got.t_ns == number + 1
    assert np.array_equal(got.qpos, state_number(world, number + 1).qpos)


def test_a_reader_that_is_gone_does_no_harm_to_the_others(world, publisher, subscriber):
    gone = WorldSubscriber(world, publisher.port)
    publisher.publish(state_number(world, 0))
    assert publisher.num_readers == 2
    gone.close()
    number = 0
    while publisher.num_readers == 2:
        number += 1
        assert number < 100_000
        publisher.publish(state_number(world, number))
    got = subscriber.newest(WAIT_S)
    assert got is not None
    assert got.t_ns == number


def test_more_readers_than_allowed_are_turned_away(world, publisher):
    readers = [WorldSubscriber(world, publisher.port) for _ in range(world_feed.MAX_READERS + 1)]
    publisher.publish(state_number(world, 1))
    assert publisher.num_readers == world_feed.MAX_READERS
    with pytest.raises(WorldFeedError, match="ended"):
        readers[-1].newest(WAIT_S)
    for reader in readers:
        reader.close()


def test_an_end_and_nobody_there_are_told(world, publisher, subscriber):
    publisher.publish(state_number(world, 1))
    publisher.close()
    with pytest.raises(WorldFeedError, match="ended"):
        subscriber.newest(WAIT_S)
    with pytest.raises(WorldFeedError, match="no world feed at"):
        WorldSubscriber(world, publisher.port)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variation": "tool_offset"}, "scene of the world feed"),
        ({"variation": "distractor"}, "joint positions of the world feed"),
        ({"task": "pick"}, "joint positions of the world feed"),
    ],
)
def test_another_scene_is_refused(publisher, world, change, words):
    other = SimWorld(dataclasses.replace(world.config, **change), SimulatedClock())
    subscriber = WorldSubscriber(other, publisher.port)
    publisher.publish(state_number(world, 1))
    publisher.publish(state_number(world, 2))
    with pytest.raises(WorldFeedError, match=words):
        subscriber.newest(WAIT_S)
    subscriber.close()


@pytest.mark.parametrize(
    ("place", "bytes_there", "words"),
    [
        (slice(0, 1), b"X", "magic"),
        (slice(4, 5), b"\x02", "version"),
        (slice(-8, None), np.array([np.nan]).tobytes(), "not finite"),
    ],
)
def test_what_is_not_a_state_is_refused(world, place, bytes_there, words):
    sent = bytearray(world_feed._Layout(world).pack(state_number(world, 1)))
    sent[place] = bytes_there
    with socket.create_server(("127.0.0.1", 0)) as server:
        subscriber = WorldSubscriber(world, server.getsockname()[1])
        connection, _ = server.accept()
        connection.sendall(sent)
        with pytest.raises(WorldFeedError, match=words):
            subscriber.newest(WAIT_S)
        connection.close()
        subscriber.close()


def test_the_size_of_the_pictures_is_no_part_of_the_scene():
    config = SimConfig()
    assert scene_digest(config) == scene_digest(dataclasses.replace(config, render_size=480))
    assert scene_digest(config) != scene_digest(SimConfig(variation="distractor"))


def test_a_state_put_into_another_world_looks_the_same(world):
    other = SimWorld(world.config, SimulatedClock())
    world.reset()
    world.place_body("target", np.array([0.4, 0.1, 0.001]))
    world.place_arm(np.array([0.45, -0.05, 0.07]), 0.5)
    put_state(other, state_of(world))
    cameras = [SimCamera(world), SimCamera(other)]
    first, second = (camera.read().image for camera in cameras)
    for camera in cameras:
        camera.close()
    assert first.std() > 20
    assert np.array_equal(first, second)


def test_padding_keeps_the_square_in_the_middle():
    image = np.random.default_rng(0).integers(1, 256, (48, 48, 3), dtype=np.uint8)
    padded = pad_sides(image, 64, 48)
    assert padded.shape == (48, 64, 3)
    assert np.array_equal(reduce_image(padded, (48, 48, 3)), image)
    with pytest.raises(ValueError, match="does not fill"):
        pad_sides(image, 64, 50)


def test_a_world_of_another_process_is_seen_by_a_camera_as_that_process_draws_it(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.robot.publish_world", str(tmp_path), str(SIZE)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        clock = MonotonicClock()
        config = make_config(width=128, height=SIZE, num_warm_up_frames=5, is_noisy=False)
        device = SoftwareDevice(config, clock)
        watch = FrameWatch("front", FrameLimits(max_age_s=5.0, fault_age_s=WAIT_S))

        def feed(image: np.ndarray, t_ns: int) -> None:
            device.feed(pad_sides(image, config.width, config.height), t_ns)

        with (
            contextlib.closing(RealSenseCamera(config, clock, device)) as camera,
            SceneRenderer(SimConfig(render_size=SIZE), port, feed),
        ):
            frame = camera.read()
            for place in range(3):
                assert process.stdout.readline() == f"{place}\n"
                expected = np.load(tmp_path / f"{place}.npy")
                assert expected.std() > 20
                for _ in range(100):
                    frame = camera.wait_for_newer(frame.frame_number, WAIT_S)
                    seen = reduce_image(frame.image, expected.shape)
                    if np.array_equal(seen, expected):
                        break
                assert np.array_equal(seen, expected)
                now_ns = clock.now_ns()
                assert not watch.judge(frame, asked_ns=now_ns, read_ns=now_ns).is_stale
                process.stdin.write("next\n")
                process.stdin.flush()
        process.stdin.close()
        assert process.wait(WAIT_S) == 0
