"""Where a RealSense stream comes from: a connected camera or a recording.

The SDK waits 15 s for a camera that is not there and then says only that there is none. What is
connected is therefore looked up first, and every refusal says what was expected, what is there and
what to do.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from robot.interfaces import RobotFault
from robot.realsense_config import RealSenseConfig
from robot.realsense_sdk import rs

logger = logging.getLogger(__name__)

RESET_S = 10.0
"""A camera that was reset is back on the bus by then."""
_POLL_S = 0.2
_PAUSE_S, _DRAIN_MS = 5.0, 1


class RealSenseSource(Protocol):
    """Something that starts the SDK's pipeline. Used by one camera, in one thread at a time."""

    @property
    def is_live(self) -> bool:
        """Whether there are settings to make."""
        ...

    @property
    def is_lockstep(self) -> bool:
        """Whether a frame is fetched for each read and dated by it; otherwise frames come."""
        ...

    def start(self, config: RealSenseConfig) -> Any:
        """Returns a started `rs.pipeline` of one colour stream.

        Raises:
            RobotFault: `camera_missing`, `camera_mode` or `camera_start`.
        """
        ...

    def stop(self, pipeline: Any) -> None:
        """Ends the stream of a pipeline that `start` returned; RuntimeError if the SDK cannot."""
        ...

    def reset(self, closing: threading.Event) -> None:
        """Makes the hardware begin anew; returns early once `closing` is set."""
        ...

    def has_ended(self) -> bool:
        """Whether no frame will ever come again, since all were seen."""
        ...


@dataclass(frozen=True, kw_only=True)
class DeviceInfo:
    """A connected camera."""

    name: str
    serial: str
    usb: str

    def __str__(self) -> str:
        return f"{self.name} serial {self.serial} (USB {self.usb})"


def choose_device(found: Sequence[DeviceInfo], serial: str | None) -> DeviceInfo:
    """Returns the camera with this serial number, or the only one for None.

    Raises:
        RobotFault: `camera_missing`, with what is connected.
    """
    connected = ", ".join(str(device) for device in found) or "nothing"
    if serial is None and len(found) > 1:
        raise RobotFault(
            "camera_missing",
            f"expected one RealSense camera, found {connected}: give the serial number of one",
        )
    for device in found:
        if serial in (None, device.serial):
            return device
    wanted = "a RealSense camera" if serial is None else f"RealSense camera {serial}"
    raise RobotFault(
        "camera_missing",
        f"expected {wanted}, connected: {connected}. Check its serial number, its cable and the "
        "rights to /dev/video*",
    )


class SerialSource:
    """A connected camera.

    Args:
        serial: Its serial number; None for the only one there is.
    """

    is_live = True
    is_lockstep = False

    def __init__(self, serial: str | None = None) -> None:
        self._serial = serial

    def start(self, config: RealSenseConfig) -> Any:
        """Starts the camera; see `RealSenseSource`."""
        devices = _query()
        chosen = choose_device([info for info, _ in devices], self._serial)
        device = next(device for info, device in devices if info == chosen)
        # After a reset it must be the same one again.
        self._serial = chosen.serial
        request = make_request(config)
        request.enable_device(chosen.serial)
        return start_pipeline(rs.pipeline(), request, device, config, str(chosen))

    def stop(self, pipeline: Any) -> None:
        """Ends its stream."""
        pipeline.stop()

    def reset(self, closing: threading.Event) -> None:
        """Resets the camera and waits until it is back on the bus."""
        devices = {info.serial: device for info, device in _query()}
        if self._serial not in devices:
            return
        with translated("camera_start", f"reset of {self._serial}"):
            devices[self._serial].hardware_reset()
        # It leaves the bus first: until then it would be found there as before.
        for is_wanted_there in (False, True):
            for _ in range(round(RESET_S / 2 / _POLL_S)):
                is_there = self._serial in {info.serial for info, _ in _query()}
                if is_there is is_wanted_there or closing.wait(_POLL_S):
                    break

    def has_ended(self) -> bool:
        """Never."""
        return False


class RecordingSource:
    """A recording: `.db3`, or `.bag` of older SDKs, which is converted beside it first.

    Args:
        path: The file.
        is_real_time: Frames come when they came; otherwise each read brings the next one.
    """

    is_live = False

    def __init__(self, path: Path, *, is_real_time: bool = True) -> None:
        self.is_lockstep = not is_real_time
        self._path = path
        self._playback: Any = None

    def start(self, config: RealSenseConfig) -> Any:
        """Starts at the beginning of the recording; see `RealSenseSource`."""
        path = self._converted()
        where = f"recording {path}"
        with translated("camera_start", where):
            context = rs.context()
            self._playback = context.load_device(str(path))
            # Before the start: frames would be lost in between.
            self._playback.set_real_time(not self.is_lockstep)
            pipeline = rs.pipeline(context)
            pipeline.set_device(self._playback)
        return start_pipeline(pipeline, make_request(config), self._playback, config, where)

    def stop(self, pipeline: Any) -> None:
        """Ends the playback, and then the stream.

        The SDK takes its callback away under the thread that plays (librealsense issue 9446): one
        stop in about 1500 of a recording that still plays ended the process. A pause waits for that
        thread, which waits in turn for somebody to take its frames.
        """
        pausing = threading.Thread(target=self._pause, name="recording-pause", daemon=True)
        pausing.start()
        until_s = time.monotonic() + _PAUSE_S
        while pausing.is_alive() and time.monotonic() < until_s:
            with contextlib.suppress(RuntimeError):
                pipeline.try_wait_for_frames(_DRAIN_MS)
            pausing.join(_DRAIN_MS / 1000)
        pipeline.stop()

    def _pause(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
            self._playback.pause()

    def reset(self, closing: threading.Event) -> None:
        """Nothing to reset."""

    def has_ended(self) -> bool:
        """Whether the last frame was played."""
        return (
            self._playback is not None
            and self._playback.current_status() == rs.playback_status.stopped
        )

    def _converted(self) -> Path:
        if not self._path.is_file():
            raise RobotFault("camera_missing", f"there is no recording {self._path}")
        if self._path.suffix != ".bag":
            return self._path
        converted = self._path.with_suffix(".db3")
        # One that is older than the recording was made from another of the same name.
        made_ns = converted.stat().st_mtime_ns if converted.exists() else -1
        if made_ns >= self._path.stat().st_mtime_ns:
            logger.info("recording reuse bag=%s db3=%s", self._path, converted)
        else:
            logger.info("recording convert bag=%s db3=%s", self._path, converted)
            partial = converted.with_name(f"{converted.stem}.partial.db3")
            partial.unlink(missing_ok=True)
            with translated("camera_start", f"conversion of {self._path}"):
                rs.context().convert_bag_to_db3(str(self._path), str(partial))
            partial.rename(converted)
        return converted


def make_request(config: RealSenseConfig) -> Any:
    """Returns an `rs.config` that asks for the colour stream of `config`."""
    request = rs.config()
    request.enable_stream(rs.stream.color, config.width, config.height, rs.format.rgb8, config.fps)
    return request


def start_pipeline(
    pipeline: Any, request: Any, device: Any, config: RealSenseConfig, where: str
) -> Any:
    """Returns the pipeline, started.

    Args:
        pipeline: Not started.
        request: What it shall stream.
        device: Where from; asked what it offers when it cannot.
        config: The request, for messages.
        where: The device, for messages.

    Raises:
        RobotFault: `camera_mode`, the device has no such stream; `camera_start`.
    """
    with translated("camera_start", where):
        if not request.can_resolve(rs.pipeline_wrapper(pipeline)):
            raise RobotFault(
                "camera_mode",
                f"expected {config.mode}, {where} offers {_offered(device)}. Choose one of them; "
                "a camera at a USB 2 port offers less than at a USB 3 port",
            )
        pipeline.start(request)
    return pipeline


def _offered(device: Any) -> str:
    modes = {
        f"{video.width()}x{video.height()} rgb8 at {video.fps()} Hz"
        for sensor in device.query_sensors()
        for video in (profile.as_video_stream_profile() for profile in sensor.get_stream_profiles())
        if video.stream_type() == rs.stream.color and video.format() == rs.format.rgb8
    }
    return ", ".join(sorted(modes)) or "no rgb8 stream"


@contextlib.contextmanager
def translated(code: str, where: str) -> Iterator[None]:
    """Makes a fault of the one error that the SDK knows, RuntimeError; only the text tells more."""
    try:
        yield
    except RobotFault:
        raise
    except RuntimeError as error:
        raise RobotFault(code, f"{where}: {error}") from error


def _query() -> list[tuple[DeviceInfo, Any]]:
    def told(device: Any, info: Any) -> str:
        return device.get_info(info) if device.supports(info) else "unknown"

    with translated("camera_start", "looking for cameras"):
        return [
            (
                DeviceInfo(
                    name=told(device, rs.camera_info.name),
                    serial=told(device, rs.camera_info.serial_number),
                    usb=told(device, rs.camera_info.usb_type_descriptor),
                ),
                device,
            )
            for device in rs.context().query_devices()
        ]
