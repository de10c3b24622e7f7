"""A RealSense camera: one thread that captures, and the newest frame for whoever reads.

The thread takes frames from the SDK's pipeline, copies the picture, and lets the frame go at once:
the pool that frames come from is small. A stream that dies, or shows no first frame, is started
again from the same thread, after a reset of the hardware: a loop ends soon after its camera died,
and the next one finds the camera well. Meanwhile the newest frame only grows older, and what may be
done with it is judged by its age (`robot.frames`). A camera given up, or a recording that is over,
is a fault for good: open it anew.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from typing import Any

import numpy as np

from protos.provenance import CameraFacts, CameraIntrinsics
from robot.clock import Clock
from robot.interfaces import Frame, RobotFault
from robot.realsense_config import CaptureCounts, RealSenseConfig
from robot.realsense_frames import is_in_global_time, queued_ns, warn_of_host_clock
from robot.realsense_intake import FrameIntake
from robot.realsense_settings import apply_settings, read_facts
from robot.realsense_source import RESET_S, RealSenseSource, translated

logger = logging.getLogger(__name__)

CLOSE_S = 20.0
"""The SDK may keep the thread for 15 s when a camera vanishes while it starts."""
_WAIT_MS = 50


class RealSenseCamera:
    """One colour camera. It may be read from any thread.

    The stream is started here, and a camera that is not there is told at once. The first read waits
    for the first frame, for `first_frame_s` and, if none came, for as long again after a reset of
    the hardware; later ones never wait.

    Args:
        config: Stream, settings and limits.
        clock: Dates the frames.
        source: Where they come from; not to be shared with another camera.

    Raises:
        RobotFault: The stream cannot be started; the message says what is there and what to do.
    """

    def __init__(self, config: RealSenseConfig, clock: Clock, source: RealSenseSource) -> None:
        self._config = config
        self._clock = clock
        self._source = source
        self._intake = FrameIntake(
            num_warm_up=0 if source.is_lockstep else config.num_warm_up_frames,
            late_ns=round(config.late_s * 1e9),
            is_dated_on_arrival=source.is_lockstep,
        )
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._newest: Frame | None = None
        self._fault: RobotFault | None = None
        self._trouble = ""
        self._is_next_wanted = False
        self._arrived_ns = 0
        self._last_image: np.ndarray | None = None
        self._num_attempts = 0
        self._give_up_s = 0.0
        self._pipeline: Any = None
        self._facts = self._open()
        self._thread = threading.Thread(target=self._run, name=f"camera-{config.name}", daemon=True)
        self._thread.start()
        # The interpreter kills the threads that are left, and the SDK aborts the process for that.
        atexit.register(self.close)

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._config.name

    @property
    def intrinsics(self) -> CameraIntrinsics:
        """How the camera projects, as it says itself."""
        return self._facts.intrinsics

    @property
    def facts(self) -> CameraFacts:
        """What a trial keeps of it, as it said when it was opened."""
        return self._facts

    @property
    def counts(self) -> CaptureCounts:
        """What came since the camera was opened."""
        return self._intake.counts

    def read(self) -> Frame:
        """Returns the newest frame; its image cannot be written to. [height, width, 3]

        Raises:
            RobotFault: `camera_no_frame`, none came yet; `camera_stale`, it is older than
                `max_age_s`; `camera_gone`, it could not be started again; `recording_ended`;
                `camera_closed`.
        """
        if self._source.is_lockstep:
            return self._next()
        newest = self._newest
        if newest is None or self._fault is not None:
            newest = self._first()
        age_s = (self._clock.now_ns() - newest.t_ns) / 1e9
        if age_s > self._config.max_age_s:
            raise RobotFault(
                "camera_stale",
                f"the newest frame of camera {self.name}, number {newest.frame_number}, is "
                f"{age_s:.3f} s old, {self._config.max_age_s:g} s are allowed. "
                f"{self._trouble or 'The stream says nothing'}; so far {self.counts}",
            )
        return newest

    def wait_for_newer(self, frame_number: int, timeout_s: float) -> Frame:
        """Returns the newest frame as soon as its number is greater; 0 is less than any number.

        Raises:
            RobotFault: `camera_no_frame`, none came in time; and all that `read` raises but for
                age, which is not looked at.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._fault is not None or self._is_newer(frame_number), timeout_s
            )
            if self._fault is not None:
                raise self._fault.again()
            if self._newest is None or not self._is_newer(frame_number):
                raise RobotFault(
                    "camera_no_frame",
                    f"camera {self.name} gave no frame after number {frame_number} in time. "
                    f"{self._trouble or 'The stream says nothing'}",
                )
            return self._newest

    def close(self) -> None:
        """Stops the stream and ends the thread; may be called twice."""
        atexit.unregister(self.close)
        self._closing.set()
        with self._changed:
            self._fault = self._fault or RobotFault("camera_closed", f"{self.name} was closed")
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            logger.error("camera close name=%s the SDK keeps the thread", self.name)

    def _first(self) -> Frame:
        """Returns the first frame; of a camera that shows none at first, that after one reset."""
        once_s = self._config.first_frame_s
        wait_s = 2 * once_s + RESET_S if self._source.is_live else once_s
        with self._changed:
            self._changed.wait_for(
                lambda: self._fault or self._is_newer(0) or self._num_attempts > 1, wait_s
            )
        return self.wait_for_newer(0, 0.0)

    def _is_newer(self, frame_number: int) -> bool:
        return self._newest is not None and self._newest.frame_number > frame_number

    def _next(self) -> Frame:
        with self._changed:
            number = 0 if self._newest is None else self._newest.frame_number
            self._is_next_wanted = True
            self._changed.notify_all()
        return self.wait_for_newer(number, self._config.first_frame_s)

    def _open(self) -> CameraFacts:
        """Starts the stream."""
        self._pipeline = self._source.start(self._config)
        try:
            with translated("camera_start", f"camera {self.name}"):
                profile = self._pipeline.get_active_profile()
                if self._source.is_live:
                    apply_settings(profile, self._config)
                facts = read_facts(profile, self._config)
        except RobotFault:
            self._stop_pipeline()
            raise
        self._is_clock_unknown = True
        # The SDK waits in real time, whatever clock dates the frames.
        self._give_up_s = time.monotonic() + self._config.first_frame_s
        return facts

    def _run(self) -> None:
        last_words = RobotFault("camera_gone", f"the thread of camera {self.name} has ended")
        try:
            while not self._closing.is_set():
                if self._source.is_lockstep and not self._is_wanted():
                    continue
                if self._pipeline is not None and self._fetch():
                    continue
                if self._source.has_ended():
                    last_words = RobotFault(
                        "recording_ended", f"camera {self.name} has shown its whole recording"
                    )
                    return
                # A recording would begin anew: a gap in it is waited for.
                if self._source.is_live and time.monotonic() > self._give_up_s:
                    self._restart()
        except RobotFault as fault:
            last_words = fault
        finally:
            self._stop_pipeline()
            with self._changed:
                self._fault = self._fault or last_words
                self._changed.notify_all()

    def _is_wanted(self) -> bool:
        with self._changed:
            return self._changed.wait_for(
                lambda: self._is_next_wanted or self._closing.is_set(), _WAIT_MS / 1000
            )

    def _fetch(self) -> bool:
        """Waits a moment for a frame; returns whether one came that is shown."""
        try:
            has_come, frames = self._pipeline.try_wait_for_frames(_WAIT_MS)
            if not has_come:
                return False
            frame = frames.get_color_frame()
            # A frame may have waited for this thread.
            waited_ns = queued_ns(frame) if self._source.is_live else 0
            self._arrived_ns = max(self._clock.now_ns() - waited_ns, self._arrived_ns)
            if self._source.is_live and is_in_global_time(frame):
                self._intake.drop_global()
                self._trouble = "Its frames are stamped in the host's time, though that is off"
                return False
            number, device_ns = frame.get_frame_number(), round(frame.get_timestamp() * 1e6)
            image = np.array(np.asanyarray(frame.get_data()))
            if self._is_clock_unknown:
                self._is_clock_unknown = False
                warn_of_host_clock(frame, self.name)
        except RuntimeError as error:
            if not self._source.is_live:
                raise RobotFault("recording_broken", f"camera {self.name}: {error}") from error
            self._trouble = f"The SDK says: {error}"
            self._give_up_s = 0.0
            return False
        last, self._last_image = self._last_image, image
        is_frozen = self._config.is_noisy and last is not None and np.array_equal(image, last)
        stamp = self._intake.take(number, device_ns, self._arrived_ns, is_frozen=is_frozen)
        if stamp is None:
            return False
        image.setflags(write=False)
        with self._changed:
            self._newest = Frame(image=image, t_ns=stamp.t_ns, frame_number=stamp.frame_number)
            self._is_next_wanted = False
            self._changed.notify_all()
        self._num_attempts, self._trouble = 0, ""
        self._give_up_s = time.monotonic() + self._config.stall_s
        return True

    def _restart(self) -> None:
        """Makes one more attempt to start the stream; RobotFault once there were enough."""
        self._stop_pipeline()
        most = self._config.max_restarts
        if self._num_attempts >= most:
            raise RobotFault(
                "camera_gone",
                f"camera {self.name} brings no frames and {most} attempts to start it again have "
                f"failed. {self._trouble}",
            )
        with self._changed:
            self._num_attempts += 1
            self._changed.notify_all()
        attempt = f"restart {self._num_attempts} of {most}"
        logger.warning("camera restart name=%s %s %s", self.name, attempt, self._trouble)
        self._intake.restart()
        try:
            self._closing.wait(self._config.restart_pause_s if self._num_attempts > 1 else 0.0)
            self._source.reset(self._closing)
            if not self._closing.is_set():
                self._open()
                self._trouble = f"The stream had died, {attempt} is under way"
        except RuntimeError as fault:  # a RobotFault, or what the SDK raises
            self._trouble = f"The stream had died, {attempt} has failed: {fault}"
            self._give_up_s = 0.0

    def _stop_pipeline(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None:
            return
        try:
            self._source.stop(pipeline)
        except RuntimeError as error:
            logger.warning("camera stop name=%s error=%s", self.name, error)
