"""A RealSense camera made of software: the SDK's own pipeline runs on frames that are fed in.

    python -m robot.doubles.realsense_device --seconds 5

opens one and tells the rate and the ages of its frames as a robot would see them.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protos.provenance import CameraIntrinsics
from robot.clock import Clock, MonotonicClock
from robot.doubles.device_trouble import DeviceTrouble
from robot.doubles.frame_feeder import FrameFeeder
from robot.interfaces import RobotFault
from robot.realsense import RealSenseCamera
from robot.realsense_config import RealSenseConfig
from robot.realsense_sdk import rs
from robot.realsense_settings import RGB_SENSOR
from robot.realsense_source import make_request, start_pipeline

POOL_SIZE = 16
"""Frames a camera can hand out before it writes over the first one, as many as a real one has."""
SLOWNESS_NS = 500_000_000
FIRMWARE = "5.16.0.1"
UPTIME_NS = 3_600_000_000_000
"""How long the camera is on when it is made, or a reset would not show in its clock."""
_COUNTER = 2**32


class SoftwareDevice:
    """A camera that shows what `feed` gives it; a `RealSenseSource`. Feed it from one thread.

    Args:
        config: Its only stream.
        clock: Runs its own clock, which counts from another moment.
        serial: Its serial number.
        sensor_name: `Stereo Module` gives its colour as a D405 does.
        has_clock: Whether it stamps frames itself; otherwise its host does.
        num_global: So many frames of each start are stamped in the host's time, as those that come
            before that is switched off.
        has_controls: Whether exposure, gain and white balance can be set.
        lens: How it says it projects; None for a focal length of its width, in the middle.
    """

    is_live = True
    is_lockstep = False

    def __init__(
        self,
        config: RealSenseConfig,
        clock: Clock,
        *,
        serial: str = "double-1",
        sensor_name: str = RGB_SENSOR,
        has_clock: bool = True,
        num_global: int = 0,
        has_controls: bool = True,
        lens: CameraIntrinsics | None = None,
    ) -> None:
        self.trouble: DeviceTrouble | None = None
        """What is wrong with it from the next frame on; None is nothing."""
        self.num_starts = 0
        self.num_resets = 0
        self._config = config
        self._clock = clock
        self._serial = serial
        domains = rs.timestamp_domain
        self._domain = domains.hardware_clock if has_clock else domains.system_time
        self._num_global = num_global
        self._lock = threading.Lock()
        self._boot_ns = clock.now_ns() - UPTIME_NS
        self._number = 0
        self._num_fed = 0
        self._last: tuple[np.ndarray, int] | None = None
        self._delayed: deque[tuple[np.ndarray, int]] = deque()
        # The SDK keeps no copy of the pixels and no hold on their memory.
        self._pool = np.zeros((POOL_SIZE, config.height, config.width, 3), dtype=np.uint8)
        self._num_handed = 0
        self._device, self._sensor, self._profile = self._make(sensor_name, lens)
        if has_controls:
            _add_controls(self._sensor, longest=10_000 if sensor_name == RGB_SENSOR else 165_000)

    @property
    def sensor(self) -> Any:
        """The `rs.software_sensor`, for its controls."""
        return self._sensor

    def start(self, config: RealSenseConfig, *, record_to: Path | None = None) -> Any:
        """Returns a started pipeline on this device; see `RealSenseSource`.

        Args:
            config: What is asked of it; it offers only what it was made with.
            record_to: A `.db3` file that gets what it hands out.
        """
        with self._lock:
            if self.trouble is DeviceTrouble.UNPLUG:
                raise RobotFault("camera_missing", f"{self._serial} is unplugged")
            self.num_starts += 1
            self._number = 0
        pipeline = rs.pipeline()
        pipeline.set_device(self._device)
        request = make_request(config)
        if record_to is not None:
            request.enable_record_to_file(str(record_to))
        return start_pipeline(pipeline, request, self._device, config, self._serial)

    def stop(self, pipeline: Any) -> None:
        """Ends its stream."""
        pipeline.stop()

    def reset(self, closing: threading.Event) -> None:
        """Sets its clock to 0."""
        with self._lock:
            self.num_resets += 1
            self._boot_ns = self._clock.now_ns()

    def has_ended(self) -> bool:
        """Never."""
        return False

    def feed(self, image: np.ndarray, taken_ns: int | None = None) -> None:
        """Takes a picture and hands it out, or does what its trouble makes of it.

        Args:
            image: uint8. [height, width, 3]
            taken_ns: When it was taken, on the clock; None is now.
        """
        shape = (self._config.height, self._config.width, 3)
        if image.shape != shape or image.dtype != np.uint8:
            raise ValueError(f"expected uint8 {shape}, got {image.dtype} {image.shape}")
        now_ns = self._clock.now_ns()
        taken_ns = now_ns if taken_ns is None else taken_ns
        with self._lock:
            self._num_fed += 1
            match self.trouble:
                case DeviceTrouble.UNPLUG | DeviceTrouble.SILENCE:
                    pass
                case DeviceTrouble.HANG if self.num_resets == 0:
                    pass
                case DeviceTrouble.DROP if self._num_fed % 2:
                    self._number += 1
                case DeviceTrouble.SLOW:
                    self._delayed.append((image.copy(), taken_ns))
                    while self._delayed and self._delayed[0][1] <= now_ns - SLOWNESS_NS:
                        self._hand_out(*self._delayed.popleft())
                case DeviceTrouble.REPEAT if self._last is not None:
                    self._push(*self._last)
                case DeviceTrouble.FREEZE if self._last is not None:
                    self._hand_out(self._last[0], taken_ns)
                case DeviceTrouble.GO_BACK:
                    self._hand_out(image, taken_ns - 10_000_000_000)
                case DeviceTrouble.RUN_AHEAD:
                    self._hand_out(image, taken_ns + 10_000_000_000)
                case _:
                    self._delayed.clear()
                    self._hand_out(image, taken_ns)

    def _hand_out(self, image: np.ndarray, taken_ns: int) -> None:
        self._number += 1
        self._push(image, taken_ns)

    def _push(self, image: np.ndarray, taken_ns: int) -> None:
        slot = self._pool[self._num_handed % POOL_SIZE]
        self._num_handed += 1
        slot[:] = image
        self._last = (slot, taken_ns)
        frame = rs.software_video_frame()
        frame.pixels = slot
        frame.stride = self._config.width * 3
        frame.bpp = 3
        frame.domain = self._domain
        frame.timestamp = (taken_ns - self._boot_ns) // 1000 % _COUNTER / 1000
        frame.frame_number = self._number
        if self._number <= self._num_global:
            frame.domain, frame.timestamp = rs.timestamp_domain.global_time, time.time() * 1e3
        frame.profile = self._profile
        self._sensor.on_video_frame(frame)

    def _make(self, sensor_name: str, lens: CameraIntrinsics | None) -> tuple[Any, Any, Any]:
        config = self._config
        device = rs.software_device()
        device.register_info(rs.camera_info.name, "Software camera")
        device.register_info(rs.camera_info.serial_number, self._serial)
        device.register_info(rs.camera_info.firmware_version, FIRMWARE)
        sensor = device.add_sensor(sensor_name)
        intrinsics = rs.intrinsics()
        intrinsics.width, intrinsics.height = config.width, config.height
        intrinsics.fx = intrinsics.fy = float(config.width)
        intrinsics.ppx, intrinsics.ppy = config.width / 2, config.height / 2
        if lens is not None:
            intrinsics.fx, intrinsics.fy = lens.fx_px, lens.fy_px
            intrinsics.ppx, intrinsics.ppy = lens.ppx_px, lens.ppy_px
        intrinsics.model = rs.distortion.inverse_brown_conrady
        intrinsics.coeffs = [0.0] * 5
        stream = rs.video_stream()
        stream.type, stream.index, stream.uid = rs.stream.color, 0, 0
        stream.width, stream.height, stream.fps = config.width, config.height, config.fps
        stream.bpp, stream.fmt, stream.intrinsics = 3, rs.format.rgb8, intrinsics
        profile = sensor.add_video_stream(stream).as_video_stream_profile()
        return device, sensor, profile


def _add_controls(sensor: Any, longest: int) -> None:
    ranges = {
        rs.option.enable_auto_exposure: (0, 1, 1, 1),
        rs.option.exposure: (1, longest, 1, 1),
        rs.option.gain: (0, 128, 1, 1),
        rs.option.enable_auto_white_balance: (0, 1, 1, 1),
        rs.option.white_balance: (2800, 6500, 10, 2800),
    }
    for option, limits in ranges.items():
        allowed = rs.option_range()
        allowed.min, allowed.max, allowed.step, allowed.default = limits
        sensor.add_option(option, allowed)


def main(argv: Sequence[str] | None = None) -> int:
    """Opens a software camera, watches it, and tells what was seen; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m robot.doubles.realsense_device")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--fps", type=int, default=30)
    told = parser.parse_args(argv)
    config = RealSenseConfig(width=told.width, height=told.height, fps=told.fps)
    clock = MonotonicClock()
    device = SoftwareDevice(config, clock)
    camera = RealSenseCamera(config, clock, device)
    try:
        with FrameFeeder(noise(config), device.feed, config.fps):
            ages_ms, seconds = _watch(camera, clock, told.seconds)
    finally:
        camera.close()
    p50, p99 = np.percentile(ages_ms, (50, 99))
    sys.stdout.write(
        f"{len(ages_ms)} frames in {seconds:.2f} s: {len(ages_ms) / seconds:.2f} a second\n"
        f"age when seen: p50 {p50:.2f} ms, p99 {p99:.2f} ms\n"
        f"{camera.counts}\n"
    )
    return 0


def noise(config: RealSenseConfig) -> Callable[[], np.ndarray]:
    """Returns what draws one picture of noise after another. [height, width, 3]"""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (config.height, config.width, 3), dtype=np.uint8)

    def draw() -> np.ndarray:
        picture[:] = np.roll(picture, 1, axis=0)
        return picture

    return draw


def _watch(camera: RealSenseCamera, clock: Clock, seconds: float) -> tuple[list[float], float]:
    """Returns the age of every frame as it came, in ms, and how long that took."""
    ages_ms: list[float] = []
    frame = camera.read()
    begin_ns = clock.now_ns()
    while (passed_ns := clock.now_ns() - begin_ns) < seconds * 1e9:
        frame = camera.wait_for_newer(frame.frame_number, 1.0)
        ages_ms.append((clock.now_ns() - frame.t_ns) / 1e6)
    return ages_ms, passed_ns / 1e9


if __name__ == "__main__":
    sys.exit(main())
