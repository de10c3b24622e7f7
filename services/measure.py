"""What this machine can do: measured, each in about a second."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from learner.algorithms.base import Policy
from protos.trial import RobotSpec
from robot.clock import MonotonicClock, SimulatedClock, Ticker
from robot.interfaces import ArmState, Frame, Reward
from robot.observation import Observation, reduce_image, state_vector
from robot.realsense_config import RealSenseConfig
from robot.sim.config import SimConfig
from services.planning import PLANNING_SHARE, PlanningThread
from services.process import be_urgent

HEADROOM = 0.8
"""Part of the time for observing and planning that may be used up at p99 while nothing else runs:
beside a guard, cameras and a recorder it all takes longer."""
_BLOCK_BYTES = 64 << 10
_IMAGE = "image."


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long something took, again and again. [ms]"""

    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, nanoseconds: list[int]) -> Times:
        """Summarises durations."""
        values = np.array(nanoseconds) / 1e6
        p50, p99 = np.percentile(values, [50, 99])
        return cls(p50_ms=float(p50), p99_ms=float(p99), max_ms=float(values.max()))

    def __str__(self) -> str:
        return f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, max {self.max_ms:.1f} ms"


def honest_hz(*parts: Times) -> float:
    """Returns the highest control rate at which all parts, at their p99, leave some headroom."""
    return HEADROOM * PLANNING_SHARE * 1e3 / max(1e-3, sum(part.p99_ms for part in parts))


def time_repeated(work: Callable[[], object], num: int) -> Times:
    """Measures `work`, `num` times."""
    durations = []
    for _ in range(num):
        began_ns = time.perf_counter_ns()
        work()
        durations.append(time.perf_counter_ns() - began_ns)
    return Times.of(durations)


def observing(sim: SimConfig, num: int) -> tuple[Times, Mapping[str, np.ndarray]]:
    """Measures one step of the simulated robot, rendering included; returns what it sees, too.

    Raises:
        ImportError: MuJoCo, or OpenGL for it, does not work here.
    """
    from robot.sim.env import make_sim_env

    env = make_sim_env(sim, SimulatedClock())
    try:
        observation = env.reset(seed=0)
        zero = np.zeros(env.spec.action_size, np.float32)

        def look() -> None:
            env.step(zero)

        return time_repeated(look, num), observation.fields
    finally:
        env.close()


def watching(stream: RealSenseConfig, spec: RobotSpec, reward: Reward | None, num: int) -> Times:
    """Measures what a loop does with a real arm's frames: reducing each, and judging them.

    The frames are made up, and the arm is not asked; neither is what makes it slow.

    Args:
        stream: Of every camera.
        spec: Of the robot; its images say which cameras there are, and how small they become.
        reward: Judges; None leaves that out.
        num: How often.
    """
    rng = np.random.default_rng(0)
    # Patches of colour, as a scene has, and not noise.
    patches = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = cv2.resize(patches, (stream.width, stream.height), interpolation=cv2.INTER_NEAREST)
    names = [f.name for f in spec.observations if f.name.startswith(_IMAGE)]
    t_ns = itertools.count(0, round(1e9 / spec.control_hz))

    def observe() -> Observation:
        now_ns = next(t_ns)
        frame = Frame(image=image, t_ns=now_ns, frame_number=1 + now_ns)
        arm = ArmState(
            position_m=(0.4, 0.0, 0.2),
            rotation_rad=(np.pi, 0.0, 0.0),
            gripper_opening=0.5,
            is_gripper_stuck=False,
            t_ns=now_ns,
        )
        fields = {name: reduce_image(image, spec.field(name).shape) for name in names}
        return Observation(
            fields={**fields, "state": state_vector(arm)},
            t_observed_ns=now_ns,
            frames={name.removeprefix(_IMAGE): frame for name in names},
            arm=arm,
        )

    if reward is None:
        return time_repeated(observe, num)
    reward.begin(observe())
    return time_repeated(lambda: reward(observe()), num)


def planning(policy: Policy, fields: Mapping[str, np.ndarray], num: int) -> Times:
    """Measures a plan from one observation, after a warm-up, in a thread as a loop has it."""

    def work() -> Times:
        policy.warm_up()
        policy.reset()
        return time_repeated(lambda: policy.act(fields, is_eval=True), num)

    thread = PlanningThread(MonotonicClock())
    try:
        return thread.call(work)
    finally:
        thread.close()


def blank_fields(spec: RobotSpec) -> Mapping[str, np.ndarray]:
    """Returns an observation of the right shapes, for a machine without a simulator."""
    return {f.name: np.zeros(f.shape, f.dtype) for f in spec.observations}


def lateness(hz: float, seconds: float = 1.0) -> Times:
    """Measures how late an idle loop on absolute deadlines wakes up."""
    clock = MonotonicClock()
    ticker = Ticker(clock, round(1e9 / hz))
    ticker.start()
    return Times.of([max(0, ticker.wait().late_ns) for _ in range(max(1, round(hz * seconds)))])


def lateness_under_load(hz: float, niceness: int, seconds: float = 2.0) -> Times:
    """Measures `lateness` at a niceness, as the control loop's, while every core is kept busy.

    Args:
        hz: Of the loop.
        niceness: As of nice(1); as it was where the system does not allow it.
        seconds: How long.
    """
    # They end by themselves should this process be killed.
    code = (
        f"import time\nend = time.monotonic() + {seconds + 5}\nwhile time.monotonic() < end: pass"
    )
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.ExitStack() as ending:
        for _ in range(len(os.sched_getaffinity(0))):
            busy = subprocess.Popen([sys.executable, "-c", code])  # noqa: S603 - our own text
            ending.callback(busy.wait)
            ending.callback(busy.kill)
        be_urgent(niceness)
        ending.callback(os.setpriority, os.PRIO_PROCESS, 0, before)
        return lateness(hz, seconds)


def durable_write(folder: Path, num: int = 10) -> Times:
    """Measures a small write that is on the disk when it returns, in `folder` or above it."""
    path = nearest_folder(folder) / f".offworld-doctor-{os.getpid()}"
    block = b"\0" * _BLOCK_BYTES

    def write() -> None:
        with path.open("wb") as file:
            file.write(block)
            file.flush()
            os.fsync(file.fileno())

    try:
        return time_repeated(write, num)
    finally:
        path.unlink(missing_ok=True)


def nearest_folder(path: Path) -> Path:
    """Returns the lowest folder on the way to `path` that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())
