"""One robot at one task: what it observes, what it does with an action, what that was worth.

The environment never sleeps and keeps no schedule. Whoever drives it owns the clock: at each tick
observe, score the observation for the step before, decide, apply. An action displaces the last
commanded target (see `robot.safety`). Nothing here ends a trial but `terminated`; cutting it after
`spec.max_steps` is the driver's part, and so is holding still while an observation is stale.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from protos.provenance import CameraFacts
from protos.trial import RobotSpec
from robot.clock import Clock
from robot.frames import FrameLimits, FrameWatch
from robot.interfaces import Arm, Camera, Frame, KnownCamera, Reward, RobotFault, Task, WatchedArm
from robot.lookout import Lookout
from robot.observation import Observation, reduce_image, state_vector
from robot.safety import SafetyGate


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
        lookout: Watches the cameras during a trial, also while nobody observes; None for none.
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
        lookout: Lookout | None = None,
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
        self._lookout = lookout
        self._is_stale = False
        arm.connect()

    @property
    def fault(self) -> RobotFault | None:
        """The latched fault, or None while the robot may move."""
        return self._gate.fault or self._arm.fault

    @property
    def camera_facts(self) -> tuple[CameraFacts, ...]:
        """What a trial keeps of the cameras that know it of themselves."""
        return tuple(c.facts for c in self._cameras.values() if isinstance(c, KnownCamera))

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
        observation = self.observe()
        with self._latching():
            self.reward.begin(observation)
        if self._lookout is not None and isinstance(self._arm, WatchedArm):
            self._lookout.begin(self._arm)
        return observation

    def observe(self) -> Observation:
        """Returns the newest frames, reduced to the spec's sizes, and the arm's state.

        Raises:
            RobotFault: A camera gives nothing usable, or nothing new for longer than its limit;
                the arm is stopped and stays so.
        """
        fields: dict[str, np.ndarray] = {}
        frames: dict[str, Frame] = {}
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
            frames[camera.name] = frame
            taken_ns.append(sighting.taken_ns)
            is_stale |= sighting.is_stale
        self._is_stale = is_stale
        state = self._arm.state()
        fields["state"] = state_vector(state)
        return Observation(
            fields=fields,
            t_observed_ns=min(taken_ns, default=state.t_ns),
            is_stale=is_stale,
            truth=self._task.truth(),
            frames=frames,
            arm=state,
        )

    def apply(self, action: np.ndarray) -> Applied:
        """Sends the arm where the gate allows, and returns at once.

        While nothing new is seen, as of the last observation or by the lookout since, an arm that
        can be held brakes instead: the action is none.

        Args:
            action: Normalised to [-1, 1]; 0 holds the last target. [A]

        Raises:
            RobotFault: The gate or the arm refused, or nobody looks out any more; the arm is
                stopped and stays so.
        """
        try:
            if self._lookout is not None and self._lookout.failure is not None:
                raise self._lookout.failure.again()
            # What is not finite goes to the gate as it is: it latches.
            is_held = self._sees_nothing_new() and bool(np.isfinite(action).all())
            asked = np.zeros_like(action) if is_held else action
            result = self._gate.check(asked, self._arm.state())
            if is_held and isinstance(self._arm, WatchedArm):
                self._arm.hold()
            else:
                self._arm.command(result.target)
        except RobotFault as fault:
            self._arm.stop(fault.again())
            raise
        return Applied(
            executed=result.executed_action,
            clamped=result.clamped or (is_held and bool(np.any(action))),
            t_commanded_ns=self.clock.now_ns(),
        )

    def hold(self) -> Applied:
        """Keeps the arm at its last target: the action of all zeros."""
        return self.apply(np.zeros(self.spec.action_size, dtype=np.float32))

    def rest(self) -> None:
        """Says that the trial is over: nothing is applied before the next `reset`."""
        self._end_lookout()
        if isinstance(self._arm, WatchedArm):
            self._arm.rest()

    def outcome_of(self, observation: Observation) -> tuple[float, bool]:
        """Returns reward and `terminated` of the step that led to `observation`.

        Raises:
            RobotFault: The observation cannot be judged; the arm is stopped and stays so.
        """
        with self._latching():
            return self.reward(observation), False

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
        self._end_lookout()
        self._arm.stop()

    def latch(self, fault: RobotFault) -> RobotFault:
        """Stops the arm for a fault that it does not know of itself; returns what to raise.

        Args:
            fault: The cause. One that is latched already stays the cause.
        """
        self._gate.latch(fault)
        self._arm.stop(fault.again())
        return fault.again()

    def reset_by_person(self) -> None:
        """Clears latched faults on a person's behalf; the next thing to do is `reset`."""
        self._arm.clear_fault()
        self._gate.reset_by_person()
        for watch in self._watches.values():
            watch.forget()

    def close(self) -> None:
        """Closes cameras and arm."""
        if self._lookout is not None:
            self._lookout.close()
        for camera in self._cameras.values():
            camera.close()
        self._arm.close()

    @contextlib.contextmanager
    def _latching(self) -> Iterator[None]:
        try:
            yield
        except RobotFault as fault:
            self.latch(fault)
            raise

    def _sees_nothing_new(self) -> bool:
        is_blind = self._lookout is not None and self._lookout.is_blind
        return isinstance(self._arm, WatchedArm) and (self._is_stale or is_blind)

    def _end_lookout(self) -> None:
        if self._lookout is not None:
            self._lookout.end()
