from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot.clock import MonotonicClock, SimulatedClock
from robot.doubles import realsense_device
from robot.doubles.frame_feeder import FrameFeeder
from robot.doubles.realsense_device import DeviceTrouble, SoftwareDevice
from robot.frames import FrameLimits, FrameWatch
from robot.interfaces import RobotFault
from robot.realsense import RealSenseCamera
from robot.realsense_sdk import rs
from tests.contracts.camera import CameraContract
from tests.robot.realsense_rig import (
    PERIOD_NS,
    WAIT_S,
    FilmedClock,
    make_config,
    picture,
    wait_until,
)

ROOT = Path(__file__).parents[2]


class TestSoftwareCamera(CameraContract):
    def make_camera(self):
        clock = FilmedClock(make_config())
        return clock.camera, clock


@pytest.fixture
def filmed():
    clock = FilmedClock(make_config())
    yield clock
    clock.camera.close()


def fault_of(read) -> RobotFault:
    with pytest.raises(RobotFault) as caught:
        read()
    return caught.value


def judge(watch: FrameWatch, filmed: FilmedClock) -> bool:
    """Whether what the camera shows now is stale."""
    now_ns = filmed.now_ns()
    return watch.judge(filmed.camera.read(), asked_ns=now_ns, read_ns=now_ns).is_stale


def test_a_frame_shows_what_was_fed_and_cannot_be_written_to(filmed):
    frame = filmed.film()
    assert np.array_equal(frame.image, picture(filmed.num_fed, filmed.config))
    assert frame.t_ns == filmed.now_ns()
    assert not frame.image.flags.writeable
    assert cv2.resize(frame.image, (8, 8)).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("trouble", "count"),
    [
        (DeviceTrouble.FREEZE, "num_frozen"),
        (DeviceTrouble.REPEAT, "num_repeated"),
        (DeviceTrouble.GO_BACK, "num_back"),
        (DeviceTrouble.RUN_AHEAD, "num_ahead"),
        (DeviceTrouble.SILENCE, None),
        (DeviceTrouble.UNPLUG, None),
    ],
)
def test_a_camera_in_trouble_is_stale_after_200_ms_and_a_fault_after_a_second(
    filmed, trouble, count
):
    watch = FrameWatch("front", FrameLimits())
    for _ in range(5):
        filmed.advance(PERIOD_NS)
        assert not judge(watch, filmed)
    last = filmed.camera.read()
    filmed.device.trouble = trouble
    for number in range(1, 11):
        filmed.pass_by(PERIOD_NS)
        filmed.feed()
        if count is not None:
            wait_until(lambda n=number: getattr(filmed.camera.counts, count) == n)
        assert filmed.camera.read() is last
        assert judge(watch, filmed) is (number > 2)
    filmed.pass_by(PERIOD_NS)
    fault = fault_of(filmed.camera.read)
    assert fault.code == "camera_stale"
    assert f"number {last.frame_number}, is 1.100 s old" in str(fault)
    filmed.device.trouble = None
    filmed.advance(PERIOD_NS)
    assert not judge(watch, filmed)
    assert filmed.camera.counts.num_restarts == 0


def test_a_slow_camera_is_stale_for_as_long_as_it_is_slow(filmed):
    watch = FrameWatch("front", FrameLimits())
    for _ in range(5):
        filmed.advance(PERIOD_NS)
    filmed.device.trouble = DeviceTrouble.SLOW
    for _ in range(5):
        filmed.pass_by(PERIOD_NS)
        filmed.feed()
    for number in range(1, 21):
        filmed.advance(PERIOD_NS)
        age_ns = filmed.now_ns() - filmed.camera.read().t_ns
        assert age_ns == pytest.approx(500_000_000, abs=1_000_000)
        assert judge(watch, filmed)
        assert filmed.camera.counts.num_late == number
    filmed.device.trouble = None
    filmed.advance(PERIOD_NS)
    assert not judge(watch, filmed)


def test_lost_frames_are_counted_and_no_more(filmed):
    watch = FrameWatch("front", FrameLimits())
    filmed.device.trouble = DeviceTrouble.DROP
    # Every odd one is lost; the first came before the trouble.
    for number in range(5):
        filmed.advance(PERIOD_NS)
        assert not judge(watch, filmed)
        assert filmed.camera.counts.num_missed == number
        filmed.pass_by(PERIOD_NS)
        filmed.feed()


def test_a_frame_that_waited_in_the_host_is_as_old_as_that(filmed):
    filmed.advance(PERIOD_NS)
    when_ms = time.time_ns() // 1_000_000 - 200
    filmed.device.sensor.set_metadata(rs.frame_metadata_value.time_of_arrival, when_ms)
    filmed.advance(1_000_000_000)
    age_ns = filmed.now_ns() - filmed.camera.read().t_ns
    assert 200_000_000 <= age_ns < 1_000_000_000


@pytest.mark.parametrize("has_clock", [True, False])
def test_a_camera_that_lets_the_host_stamp_its_frames_is_told_of(caplog, has_clock):
    config, clock = make_config(), SimulatedClock()
    device = SoftwareDevice(config, clock, has_clock=has_clock)
    camera = RealSenseCamera(config, clock, device)
    device.feed(picture(1, config))
    camera.read()
    camera.close()
    assert ("domain=system_time" in caplog.text) is not has_clock


def num_come(camera: RealSenseCamera) -> int:
    """How many frames came, whatever became of them."""
    return sum(dataclasses.asdict(camera.counts).values())


def test_frames_from_before_the_host_s_time_was_switched_off_are_dropped_and_counted(caplog):
    config, clock = make_config(num_warm_up_frames=2), SimulatedClock()
    device = SoftwareDevice(config, clock, num_global=2)
    with contextlib.closing(RealSenseCamera(config, clock, device)) as camera:
        for number in range(1, 6):
            clock.advance(PERIOD_NS)
            device.feed(picture(number, config))
            # One that is fed too soon takes the place of the one before.
            wait_until(lambda n=number: num_come(camera) == n)
        frame = camera.wait_for_newer(0, WAIT_S)
        assert np.array_equal(frame.image, picture(5, config))
        assert frame.t_ns == clock.now_ns()
        counts = camera.counts
    assert (counts.num_global, counts.num_warm_up, counts.num_shown) == (2, 2, 1)
    assert counts.num_back == 0
    assert "stamped by the host" not in caplog.text


def test_a_camera_that_stays_in_the_host_s_time_says_so():
    config = make_config(first_frame_s=2.0, max_restarts=0)
    device = SoftwareDevice(config, SimulatedClock(), num_global=1000)
    with contextlib.closing(RealSenseCamera(config, SimulatedClock(), device)) as camera:
        device.feed(picture(1, config))
        wait_until(lambda: camera.counts.num_global == 1)
        assert "stamped in the host's time" in str(fault_of(camera.read))


def test_a_still_picture_is_no_fault_where_pictures_are_drawn():
    filmed = FilmedClock(make_config(is_noisy=False))
    filmed.device.trouble = DeviceTrouble.FREEZE
    first = filmed.film()
    filmed.advance(PERIOD_NS)
    assert np.array_equal(filmed.camera.read().image, first.image)
    assert filmed.camera.read().frame_number == first.frame_number + 1
    filmed.camera.close()


def test_300_frames_that_are_kept_hold_nothing_of_the_pool(filmed):
    kept = [filmed.film() for _ in range(300)]
    assert len(kept) > 10 * realsense_device.POOL_SIZE
    for number, frame in enumerate(kept, 2):
        assert frame.image.base is None
        assert np.array_equal(frame.image, picture(number, filmed.config))


class WatchedPipeline:
    """A pipeline that knows which of its frames are still held."""

    def __init__(self, pipeline) -> None:
        self.pipeline = pipeline
        self.handed_out: list[weakref.ref] = []

    def get_active_profile(self):
        return self.pipeline.get_active_profile()

    def stop(self) -> None:
        self.pipeline.stop()

    def try_wait_for_frames(self, timeout_ms: int):
        has_come, frames = self.pipeline.try_wait_for_frames(timeout_ms)
        return has_come, WatchedFrames(self, frames)

    def num_held(self) -> int:
        return sum(reference() is not None for reference in self.handed_out)


class WatchedFrames:
    def __init__(self, owner: WatchedPipeline, frames) -> None:
        self.owner = owner
        self.frames = frames

    def get_color_frame(self):
        frame = self.frames.get_color_frame()
        self.owner.handed_out.append(weakref.ref(frame))
        return frame


class WatchedDevice(SoftwareDevice):
    def start(self, config, *, record_to=None):
        self.watched = WatchedPipeline(super().start(config, record_to=record_to))
        return self.watched


def test_frames_are_let_go_at_once():
    config, clock = make_config(), SimulatedClock()
    device = WatchedDevice(config, clock)
    camera = RealSenseCamera(config, clock, device)
    kept = []
    for number in range(300):
        clock.advance(PERIOD_NS)
        device.feed(picture(number, config))
        kept.append(camera.wait_for_newer(number, WAIT_S))
        assert device.watched.num_held() <= 1
    camera.close()
    assert len(device.watched.handed_out) == 300
    assert device.watched.num_held() == 0


def test_two_cameras_at_once_show_each_its_own_and_end():
    clock = MonotonicClock()
    before = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        cameras = []
        for name, shade in (("left", 50), ("right", 200)):
            config = make_config(name=name, num_warm_up_frames=5, fps=60, is_noisy=False)
            device = SoftwareDevice(config, clock, serial=name)
            image = np.full((config.height, config.width, 3), shade, dtype=np.uint8)
            camera = stack.enter_context(contextlib.closing(RealSenseCamera(config, clock, device)))
            stack.enter_context(FrameFeeder(lambda i=image: i, device.feed, config.fps))
            cameras.append((camera, image))
        frames = [camera.read() for camera, _ in cameras]
        for _ in range(30):
            for index, (camera, image) in enumerate(cameras):
                newer = camera.wait_for_newer(frames[index].frame_number, WAIT_S)
                assert np.array_equal(newer.image, image)
                assert frames[index].t_ns < newer.t_ns <= clock.now_ns()
                frames[index] = newer
        assert [camera.name for camera, _ in cameras] == ["left", "right"]
    assert set(threading.enumerate()) <= before


def test_the_first_read_waits_for_the_first_frame():
    config, clock = make_config(), SimulatedClock()
    device = SoftwareDevice(config, clock)
    camera = RealSenseCamera(config, clock, device)
    frames = []
    reader = threading.Thread(target=lambda: frames.append(camera.read()))
    reader.start()
    device.feed(picture(1, config))
    reader.join(WAIT_S)
    assert [frame.frame_number for frame in frames] == [1]
    camera.close()


def test_a_camera_that_never_shows_a_frame_is_a_fault():
    config = make_config(first_frame_s=0.05, max_restarts=1_000_000)
    camera = RealSenseCamera(config, SimulatedClock(), SoftwareDevice(config, SimulatedClock()))
    assert fault_of(camera.read).code == "camera_no_frame"
    camera.close()


def test_close_ends_the_thread_and_whoever_waits(filmed):
    codes = []

    def wait() -> None:
        codes.append(fault_of(lambda: filmed.camera.wait_for_newer(1000, WAIT_S)).code)

    waiting = threading.Thread(target=wait)
    waiting.start()
    filmed.camera.close()
    waiting.join(WAIT_S)
    assert codes == ["camera_closed"]
    assert "camera-front" not in {thread.name for thread in threading.enumerate()}
    assert fault_of(filmed.camera.read).code == "camera_closed"


def test_a_stream_that_dies_is_started_again_and_nothing_old_looks_fresh():
    # The clock stands still while the camera is silent, but for what the test lets pass.
    filmed = FilmedClock(make_config(stall_s=1.0, first_frame_s=1.0, max_restarts=1_000_000))
    before = filmed.film()
    filmed.device.trouble = DeviceTrouble.SILENCE
    filmed.pass_by(900_000_000)
    wait_until(lambda: filmed.device.num_resets >= 2)
    assert filmed.device.num_starts >= 2
    assert filmed.camera.read() is before
    filmed.pass_by(200_000_000)
    fault = fault_of(filmed.camera.read)
    assert fault.code == "camera_stale"
    assert "The stream had died, restart" in str(fault)
    filmed.device.trouble = None

    def has_come_back() -> bool:
        filmed.feed()
        return filmed.camera.counts.num_shown > before.frame_number

    wait_until(has_come_back)
    after = filmed.camera.wait_for_newer(before.frame_number, WAIT_S)
    assert after.frame_number == before.frame_number + 1
    assert after.t_ns == filmed.now_ns()
    assert filmed.device.sensor.get_option(rs.option.exposure) == 156
    filmed.camera.close()


@pytest.mark.parametrize("hangs_at", ["start", "work"])
def test_a_camera_that_hangs_comes_back_by_the_first_attempt(hangs_at):
    # One attempt alone: it must be one with a reset of the hardware.
    config = make_config(first_frame_s=5.0, stall_s=3.0, max_restarts=1, is_noisy=False)
    clock = MonotonicClock()
    device = SoftwareDevice(config, clock)
    if hangs_at == "start":
        device.trouble = DeviceTrouble.HANG
    camera = RealSenseCamera(config, clock, device)
    with (
        contextlib.closing(camera),
        FrameFeeder(lambda: picture(1, config), device.feed, config.fps),
    ):
        number = camera.read().frame_number
        if hangs_at == "work":
            device.trouble = DeviceTrouble.HANG
            wait_until(lambda: device.num_resets == 1)
            number = camera.wait_for_newer(number + config.fps, WAIT_S).frame_number
        assert number > 0
        assert (device.num_resets, device.num_starts) == (1, 2)


def test_a_camera_that_is_pulled_out_is_given_up_after_so_many_attempts():
    filmed = FilmedClock(make_config(stall_s=0.5, max_restarts=3))
    filmed.device.trouble = DeviceTrouble.UNPLUG
    wait_until(lambda: "camera-front" not in {t.name for t in threading.enumerate()})
    fault = fault_of(filmed.camera.read)
    assert fault.code == "camera_gone"
    assert "3 attempts" in str(fault)
    assert "unplugged" in str(fault)
    assert filmed.camera.counts.num_restarts == 3
    filmed.camera.close()


def test_a_process_that_forgets_to_close_ends_in_order():
    # The camera's thread wakes up again while the interpreter is being taken down.
    code = (
        "import time\n"
        "from tests.robot.realsense_rig import FilmedClock, make_config\n"
        "class Slow:\n"
        "    def __del__(self, sleep=time.sleep): sleep(0.3)\n"
        "slow = Slow()\n"
        "filmed = FilmedClock(make_config())\n"
        "filmed.film()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_tells_rate_and_ages(capsys):
    assert realsense_device.main(["--seconds", "0.3", "--width", "64", "--height", "48"]) == 0
    told = capsys.readouterr().out
    assert "a second" in told
    assert "p50" in told
    assert "num_restarts=0" in told
