"""What every camera must do, whoever made it: a base class to inherit in a test module."""

from __future__ import annotations

import numpy as np
import pytest

from robot.clock import SimulatedClock
from robot.frames import FrameLimits, FrameWatch
from robot.interfaces import Camera


class CameraContract:
    """Subclasses give `make_camera`; the clock they return is the camera's own."""

    def make_camera(self) -> tuple[Camera, SimulatedClock]:
        raise NotImplementedError

    @pytest.fixture
    def camera_and_clock(self):
        camera, clock = self.make_camera()
        yield camera, clock
        camera.close()

    def test_is_a_camera(self, camera_and_clock):
        camera, _ = camera_and_clock
        assert isinstance(camera, Camera)
        assert camera.name

    def test_frames_are_colour_images(self, camera_and_clock):
        camera, _ = camera_and_clock
        image = camera.read().image
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3

    def test_frame_numbers_grow_and_time_does_not_run_back(self, camera_and_clock):
        camera, clock = camera_and_clock
        first = camera.read()
        clock.advance(100_000_000)
        second = camera.read()
        assert second.frame_number > first.frame_number
        assert second.t_ns > first.t_ns
        assert second.t_ns <= clock.now_ns()

    def test_a_frame_that_is_given_again_keeps_its_number_and_its_time(self, camera_and_clock):
        camera, _ = camera_and_clock
        first, second = camera.read(), camera.read()
        if second.frame_number == first.frame_number:
            assert second.t_ns == first.t_ns
            assert np.array_equal(second.image, first.image)
        else:
            assert second.frame_number > first.frame_number
            assert second.t_ns >= first.t_ns

    def test_its_newest_frame_is_fresh_also_after_a_pause(self, camera_and_clock):
        camera, clock = camera_and_clock
        watch = FrameWatch(camera.name, FrameLimits())
        for pause_ns in (*[100_000_000] * 20, 5_000_000_000, 600_000_000_000, 100_000_000):
            clock.advance(pause_ns)
            asked_ns = clock.now_ns()
            sighting = watch.judge(camera.read(), asked_ns=asked_ns, read_ns=clock.now_ns())
            assert not sighting.is_stale

    def test_a_frame_is_not_written_to_by_the_next_read(self, camera_and_clock):
        camera, clock = camera_and_clock
        first = camera.read().image
        kept = first.copy()
        clock.advance(100_000_000)
        assert not np.shares_memory(first, camera.read().image)
        assert np.array_equal(first, kept)

    def test_close_may_be_called_twice(self):
        camera, _ = self.make_camera()
        camera.read()
        camera.close()
        camera.close()
