from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from robot.clock import MonotonicClock, SimulatedClock
from robot.doubles.realsense_recording import write_recording
from robot.interfaces import RobotFault
from robot.realsense import RealSenseCamera
from robot.realsense_source import RecordingSource
from tests.contracts.camera import CameraContract
from tests.robot.realsense_rig import PERIOD_NS, WAIT_S, make_config, picture
from tests.services.rig import ROOT

NUM_FRAMES = 40
CONFIG = make_config(fps=60)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "short.db3"
    write_recording(path, [picture(k, CONFIG) for k in range(1, NUM_FRAMES + 1)], CONFIG)
    return path


def fault_of(make) -> RobotFault:
    with pytest.raises(RobotFault) as caught:
        make()
    return caught.value


class TestRecordingReadFrameByFrame(CameraContract):
    @pytest.fixture(autouse=True)
    def _path(self, recording):
        self.path = recording

    def make_camera(self):
        clock = SimulatedClock(start_ns=1_000_000_000)
        return RealSenseCamera(CONFIG, clock, RecordingSource(self.path, is_real_time=False)), clock


def test_each_read_brings_the_next_frame_until_the_end(recording):
    clock = SimulatedClock()
    camera = RealSenseCamera(CONFIG, clock, RecordingSource(recording, is_real_time=False))
    for number in range(1, NUM_FRAMES + 1):
        clock.advance(PERIOD_NS)
        frame = camera.read()
        assert frame.frame_number == number
        assert frame.t_ns == clock.now_ns()
        assert np.array_equal(frame.image, picture(number, CONFIG))
    for _ in range(2):
        fault = fault_of(camera.read)
        assert fault.code == "recording_ended"
        assert "front has shown its whole recording" in str(fault)
    camera.close()


def test_frames_come_when_they_came_and_then_the_end(recording):
    clock = MonotonicClock()
    camera = RealSenseCamera(CONFIG, clock, RecordingSource(recording))
    frames = [camera.wait_for_newer(0, WAIT_S)]
    fault = None
    while fault is None:
        try:
            frames.append(camera.wait_for_newer(frames[-1].frame_number, WAIT_S))
        except RobotFault as error:
            fault = error
    assert fault.code == "recording_ended"
    assert fault_of(camera.read).code == "recording_ended"
    # On a busy machine frames fall out, of the recording's making too, but none comes early.
    assert len(frames) > NUM_FRAMES / 4
    assert all(a.t_ns < b.t_ns for a, b in itertools.pairwise(frames))
    # The first may wait until the camera is open, and so be dated late.
    second, last = frames[1], frames[-1]
    num_periods = last.frame_number - second.frame_number
    assert last.t_ns - second.t_ns > 0.8 * num_periods * 1e9 / CONFIG.fps
    assert camera.counts.num_restarts == 0
    camera.close()


def test_intrinsics_are_recorded(recording):
    camera = RealSenseCamera(CONFIG, SimulatedClock(), RecordingSource(recording))
    assert (camera.intrinsics.width, camera.intrinsics.fx_px) == (32, 32.0)
    camera.close()


def test_a_recording_may_be_closed_in_the_middle(recording):
    camera = RealSenseCamera(
        CONFIG, SimulatedClock(), RecordingSource(recording, is_real_time=False)
    )
    camera.read()
    camera.close()
    assert fault_of(camera.read).code == "camera_closed"


class PlayingDevice:
    """A playback, and the pipeline it plays into: its thread waits until a frame is taken."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._is_taken = threading.Event()

    def pause(self) -> None:
        assert self._is_taken.wait(20)
        self.calls.append("paused")

    def try_wait_for_frames(self, _timeout_ms: int) -> tuple[bool, None]:
        self._is_taken.set()
        return False, None

    def stop(self) -> None:
        self.calls.append("stopped")


def test_what_plays_is_paused_before_its_pipeline_is_stopped(recording):
    source, device = RecordingSource(recording), PlayingDevice()
    source._playback = device
    source.stop(device)
    assert device.calls == ["paused", "stopped"]


CLOSE_OFTEN = """
import sys
from pathlib import Path
from robot.clock import SimulatedClock
from robot.realsense import RealSenseCamera
from robot.realsense_source import RecordingSource
from tests.robot.test_realsense_recording import CONFIG
for k in range(3000):
    source = RecordingSource(Path(sys.argv[1]), is_real_time=k % 4 == 3)
    camera = RealSenseCamera(CONFIG, SimulatedClock(), source)
    for _ in range(k % 3):
        camera.read()
    camera.close()
"""


@pytest.mark.slow
def test_a_recording_that_plays_may_be_closed_thousands_of_times(recording):
    done = subprocess.run(
        [sys.executable, "-c", CLOSE_OFTEN, str(recording)], cwd=ROOT, timeout=600, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("none.db3", None, "camera_missing", "there is no recording"),
        ("none.bag", None, "camera_missing", "there is no recording"),
        ("text.db3", b"hello", "camera_start", "file is not a database"),
        ("text.bag", b"hello", "camera_start", "conversion of"),
    ],
)
def test_what_is_no_recording_is_a_fault(tmp_path, name, content, code, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    fault = fault_of(lambda: RealSenseCamera(CONFIG, SimulatedClock(), RecordingSource(path)))
    assert fault.code == code
    assert words in str(fault)
    assert not path.with_suffix(".db3").exists() or name == "text.db3"


def test_another_size_than_recorded_is_a_fault(recording):
    config = make_config(width=64)
    fault = fault_of(lambda: RealSenseCamera(config, SimulatedClock(), RecordingSource(recording)))
    assert fault.code == "camera_mode"
    assert "offers 32x24 rgb8 at 60 Hz" in str(fault)


def test_an_old_recording_that_was_converted_is_not_converted_again(recording, tmp_path, caplog):
    (tmp_path / "old.bag").write_bytes(b"of an older SDK")
    shutil.copy(recording, tmp_path / "old.db3")
    source = RecordingSource(tmp_path / "old.bag", is_real_time=False)
    with caplog.at_level("INFO", "robot.realsense_source"):
        camera = RealSenseCamera(CONFIG, SimulatedClock(), source)
    assert np.array_equal(camera.read().image, picture(1, CONFIG))
    camera.close()
    assert f"recording reuse bag={tmp_path / 'old.bag'}" in caplog.text


def test_a_recording_that_is_newer_than_what_was_converted_is_converted_anew(recording, tmp_path):
    shutil.copy(recording, tmp_path / "take.db3")
    (tmp_path / "take.bag").write_bytes(b"of today")
    os.utime(tmp_path / "take.db3", ns=(0, (tmp_path / "take.bag").stat().st_mtime_ns - 1))
    source = RecordingSource(tmp_path / "take.bag")
    fault = fault_of(lambda: RealSenseCamera(CONFIG, SimulatedClock(), source))
    # What was written as today's is none that could be played: yesterday's is not played instead.
    assert "conversion of" in str(fault)


@pytest.mark.parametrize("name", ["there.db3", "new.bag"])
def test_only_a_new_file_is_recorded_to(tmp_path, name):
    (tmp_path / "there.db3").touch()
    with pytest.raises(ValueError, match="expected a new file"):
        write_recording(tmp_path / name, [], CONFIG)
