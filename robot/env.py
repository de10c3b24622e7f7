"""One robot at one task: what it observes, what it does with an action, what that was worth.

The environment never sleeps and keeps no schedule. Whoever drives it owns the clock: at each tick
observe, score the observation for the step before, decide, apply. An action displaces the last
commanded target (see `robot.safety`). Nothing here ends a trial but `terminated`; cutting it after
`spec.max_steps` is the driver's part, and so is holding still while an observation is stale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from protos.trial import FieldSpec, RobotSpec
from robot.clock import Clock
from robot.frames import FrameLimits, FrameWatch
from robot.interfaces import Arm, ArmState, Camera, Reward, RobotFault, Task
from robot.safety import SafetyGate

STATE_SIZE = 8
STATE_UNIT = (
    "tool x y z (m, base frame); roll in [0, 2 pi), pitch, yaw (rad); gripper opening "
    "(0 closed .. 1 open); gripper stuck (0 or 1)"
)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the robot knew at one moment."""

    fields: Mapping[str, np.ndarray]
    """One array a field of the spec, with its dtype and shape."""
    t_observed_ns: int
    """When the oldest of its camera frames was taken, monotonic; a frame that is shown again keeps
    the time of the first time."""
    is_stale: bool = False
    """A camera shows nothing new enough to act upon: hold."""
    truth: Mapping[str, Any] | None = None
    """Where things really are, in simulation; never part of a trial."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What became of an action."""

    executed: np.ndarray
    """The action after the gate, float32. [A]"""
    clamped: bool
    """The gate changed the action."""
    t_commanded_ns: int
    """When the arm was given its target, monotonic."""


@dataclass(frozen=True, kw_only=True)
class TimeStep:
    """One step of `RobotEnv.step`: the action's fate and what followed from it."""

    observation: Observation
    reward: float
    terminated: bool
    applied: Applied


def make_spec(
    *,
    task: str,
    camera_names: Sequence[str],
    image_size: int,
    action_names: Sequence[str],
    action_scale: Sequence[float],
    control_hz: float,
    max_steps: int,
) -> RobotSpec:
    """Returns the spec of a robot with square colour images and the state of 8 numbers."""
    images = tuple(
        FieldSpec(
            name=f"image.{name}", dtype="uint8", shape=(image_size, image_size, 3), unit="RGB"
        )
        for name in camera_names
    )
    state = FieldSpec(name="state", dtype="float32", shape=(STATE_SIZE,), unit=STATE_UNIT)
    return RobotSpec(
        task=task,
        observations=(*images, state),
        action_names=tuple(action_names),
        action_scale=tuple(action_scale),
        control_hz=control_hz,
        max_steps=max_steps,
    )


class RobotEnv:
    """An arm, its cameras, a task and a gate as one thing to drive. One thread at a time.

    Args:
        arm: Connected here, closed by `close`.
        cameras: One for each image field of the spec.
        reward: Scores observations.
        gate: Every action passes it.
        task: Arranges the workspace for a trial.
        spec: What is observed and how the robot is commanded.
        clock: Stamps commands and dates frames; `step` waits on it.
        frame_limits: When frames are too old; None for the defaults.
    """

    def __init__(
        self,
        *,
        arm: Arm,
        cameras: Sequence[Camera],
        reward: Reward,
        gate: SafetyGate,
        task: Task,
        spec: RobotSpec,
        clock: Clock,
        frame_limits: FrameLimits | None = None,
    ) -> None:
        wanted = {field.name for field in spec.observations}
        offered = {"state", *(f"image.{camera.name}" for camera in cameras)}
        if wanted != offered:
            raise ValueError(f"the spec wants {sorted(wanted)}, arm and cameras give {offered}")
        self.spec = spec
        self.clock = clock
        self.reward = reward
        self._arm = arm
        limits = frame_limits or FrameLimits()
        self._cameras = {f"image.{camera.name}": camera for camera in cameras}
        self._watches = {name: FrameWatch(c.name, limits) for name, c in self._cameras.items()}
        self._gate = gate
        self._task = task
        arm.connect()

    @property
    def fault(self) -> RobotFault | None:
        """The latched fault, or None while the robot may move."""
        return self._gate.fault or self._arm.fault

    @property
    def period_ns(self) -> int:
        """Time one action has, nanoseconds."""
        return round(1e9 / self.spec.control_hz)

    def reset(self, seed: int, position_index: int | None = None) -> Observation:
        """Begins a trial: arranges the workspace and moves the arm to its start, settled.

        Args:
            seed: Decides every random choice of the arrangement.
            position_index: A fixed evaluation position instead of a random one.

        Raises:
            RobotFault: A fault is latched or latches on the way.
        """
        if self.fault is not None:
            raise self.fault.again()
        pose = self._task.begin(seed, position_index)
        self._gate.start(pose)
        self._arm.reset(pose)
        return self.observe()

    def observe(self) -> Observation:
        """Returns the newest frames, reduced to the spec's sizes, and the arm's state.

        Raises:
            RobotFault: A camera gives nothing usable, or nothing new for longer than its limit;
                the arm is stopped and stays so.
        """
        fields: dict[str, np.ndarray] = {}
        taken_ns: list[int] = []
        is_stale = False
        for name, camera in self._cameras.items():
            asked_ns = self.clock.now_ns()
            try:
                frame = camera.read()
                sighting = self._watches[name].judge(
                    frame, asked_ns=asked_ns, read_ns=self.clock.now_ns()
                )
            except RobotFault as fault:
                self.latch(fault)
                raise
            try:
                fields[name] = reduce_image(frame.image, self.spec.field(name).shape)
            except ValueError as error:
                raise self.latch(RobotFault("camera_size", f"{camera.name}: {error}")) from error
            taken_ns.append(sighting.taken_ns)
            is_stale |= sighting.is_stale
        state = self._arm.state()
        fields["state"] = state_vector(state)
        return Observation(
            fields=fields,
            t_observed_ns=min(taken_ns, default=state.t_ns),
            is_stale=is_stale,
            truth=self._task.truth(),
        )

    def apply(self, action: np.ndarray) -> Applied:
        """Sends the arm where the gate allows, and returns at once.

        Args:
            action: Normalised to [-1, 1]; 0 holds the last target. [A]

        Raises:
            RobotFault: The gate or the arm refused; the arm is stopped and stays so.
        """
        try:
            result = self._gate.check(action, self._arm.state())
            self._arm.command(result.target)
        except RobotFault:
            self._arm.stop()
            raise
        return Applied(
            executed=result.executed_action,
            clamped=result.clamped,
            t_commanded_ns=self.clock.now_ns(),
        )

    def hold(self) -> Applied:
        """Keeps the arm at its last target: the action of all zeros."""
        return self.apply(np.zeros(self.spec.action_size, dtype=np.float32))

    def outcome_of(self, observation: Observation) -> tuple[float, bool]:
        """Returns reward and `terminated` of the step that led to `observation`."""
        return self.reward(observation.fields, observation.truth), False

    def step(self, action: np.ndarray) -> TimeStep:
        """Applies an action, lets one period pass on the clock, and scores what came of it.

        For scripts and simulated time; the control loop paces itself.
        """
        end_ns = self.clock.now_ns() + self.period_ns
        applied = self.apply(action)
        self.clock.sleep_until_ns(end_ns)
        observation = self.observe()
        reward, terminated = self.outcome_of(observation)
        return TimeStep(
            observation=observation, reward=reward, terminated=terminated, applied=applied
        )

    def stop(self) -> None:
        """Stops the arm and latches the stop."""
        self._arm.stop()

    def latch(self, fault: RobotFault) -> RobotFault:
        """Stops the arm for a fault that it does not know of itself; returns what to raise.

        Args:
            fault: The cause. One that is latched already stays the cause.
        """
        self._gate.latch(fault)
        self._arm.stop()
        return fault.again()

    def reset_by_person(self) -> None:
        """Clears latched faults on a person's behalf; the next thing to do is `reset`."""
        self._arm.clear_fault()
        self._gate.reset_by_person()
        for watch in self._watches.values():
            watch.forget()

    def close(self) -> None:
        """Closes cameras and arm."""
        for camera in self._cameras.values():
            camera.close()
        self._arm.close()


def reduce_image(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Crops the middle square of an image and averages it down to `shape`.

    Args:
        image: uint8. [Y, X, C]
        shape: Wanted [Y, X, C], no larger than the square.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if square.shape == shape:
        return np.ascontiguousarray(square).copy()
    if side < max(shape[:2]):
        raise ValueError(f"the camera gives {image.shape}, too small for {shape}")
    return cv2.resize(square, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def state_vector(state: ArmState) -> np.ndarray:
    """Returns the observed state, float32 [8], see `STATE_UNIT`.

    Roll is taken in [0, 2 pi): a tool that points down has roll pi, where the usual range jumps.
    """
    roll, pitch, yaw = state.rotation_rad
    return np.array(
        [
            *state.position_m,
            roll % (2 * math.pi),
            pitch,
            yaw,
            state.gripper_opening,
            float(state.is_gripper_stuck),
        ],
        dtype=np.float32,
    )
