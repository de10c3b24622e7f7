"""`offworld record`: trials that a person steers, into the store that a learner starts from."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import signal
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from learner.store import TrialStore
from protos.trial import RobotSpec, Trial
from robot.cell import CellConfig
from robot.clock import MonotonicClock
from robot.gamepad import Gamepad
from robot.interfaces import RobotFault
from robot.sim.config import SimConfig
from robot.teleop import TeleopConfig
from services import config, console, desk_texts
from services.actor_config import ActorConfig
from services.actor_folder import ActorFolder
from services.actor_robot import make_env, robot_spec
from services.commands.flags import DEFAULT_STORE
from services.kept_guard import KeptGuard
from services.learner_config import LearnerConfig
from services.operator_desk import Desk, DeskThread, stop_through_guard
from services.process import CannotStart, ExitCode, StopFlag, be_urgent, software_version
from services.recording import Recording, Session
from services.ring_control import PAGE_BYTES, Control
from services.terminal import Keyboard

_OF_THE_ACTOR = ("robot", "sim", "calibration", "ip", "camera", "limits", "cell", "spool")


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """Records trials that you steer from this terminal, and commits them to a store."""

    store: Path = DEFAULT_STORE
    """Folder of the store; made if it is not there. Trials of another robot in it are refused."""
    actor_config: Path | None = None
    """The actor's file: the robot, its task, cameras, limits, calibration and spool are as there,
    and stand there only. None for what the flags below say."""
    learner_config: Path | None = None
    """The file of the learner that shall train on the trials, compared before the first one."""
    trials: int | None = None
    """Trials to record; discarded ones do not count. None to go on until you end it."""
    robot: Literal["sim", "xarm7"] = "sim"
    """`sim` is the simulated xArm 7, `xarm7` the real one, behind its guard."""
    teleop: TeleopConfig = field(default_factory=TeleopConfig)
    """How keys and sticks feel."""
    gamepad: Path | None = None
    """Device of a gamepad, as /dev/input/js0 or /dev/input/event5; keys work beside it."""
    operator: str = "operator"
    """Who steers, for the trials' provenance."""
    seed: int = 0
    """Decides every reset, with the number of trials that the store has seen."""

    sim: SimConfig = field(default_factory=SimConfig)
    """The simulated workspace, for `sim`."""
    calibration: Path | None = None
    """File of `offworld calibrate`: rewards come from the camera then. None for the simulator's
    truth; `xarm7` has none."""
    ip: str | None = None
    """IPv4 address of the real arm's controller; none for the one in `limits`."""
    camera: tuple[str, ...] = ()
    """Cameras of the real arm, as for `offworld actor`."""
    limits: Path | None = None
    """File of what the real arm's guard holds it to, as deploy/configs/limits-xarm7.toml."""
    cell: CellConfig = field(default_factory=CellConfig)
    """The task at the real arm."""
    spool: Path = Path("runs/spool")
    """The folder of the real arm's actor: its guard works there, and no actor may run."""

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise ValueError(f"trials must be positive or none, got {self.trials}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.actor_config is not None:
            usual = RecordConfig()
            said = [n for n in _OF_THE_ACTOR if getattr(self, n) != getattr(usual, n)]
            if said:
                raise ValueError(f"{', '.join(said)}: with actor_config this stands in its file")

    def actor(self) -> ActorConfig:
        """Returns the actor whose robot this is; ConfigError if its file is none."""
        if self.actor_config is not None:
            actor = config.build_file(ActorConfig, self.actor_config)
            return dataclasses.replace(actor, spool=actor.spool.absolute())
        return ActorConfig(
            robot=self.robot,
            sim=self.sim,
            calibration=self.calibration,
            ip=self.ip,
            camera=self.camera,
            limits=self.limits,
            cell=self.cell,
            spool=self.spool.absolute(),
        )


def main(argv: Sequence[str]) -> int:
    """Records until there are enough trials, or the person ends it."""
    settings = config.load(RecordConfig, argv, prog="offworld record")
    stop = StopFlag()
    stop.set_on_signals()
    # A terminal that hangs up is an end like another: the arm is stopped, the settings put back.
    signal.signal(signal.SIGHUP, lambda _number, _frame: stop.set())
    actor = settings.actor()
    spec = robot_spec(actor)
    if settings.learner_config is not None:
        learner = config.build_file(LearnerConfig, settings.learner_config)
        _check_same(learner.spec, spec, f"{settings.learner_config} learns for another robot")
    control = Control(np.zeros(PAGE_BYTES, np.uint8))
    was_stopped = False

    def stop_arm() -> None:
        nonlocal was_stopped
        was_stopped = True
        if not actor.is_simulated:
            stop_through_guard(actor.spool / "run")
        stop.set()

    with contextlib.ExitStack() as ending:
        store = TrialStore.open(settings.store)
        ending.callback(store.close)
        for row in itertools.islice(store.iter_rows(), 1):
            others = store.load(row.trial_id).spec
            _check_same(others, spec, f"{settings.store} has trials of another robot")
        keyboard = ending.enter_context(Keyboard())
        guard = ending.enter_context(_guarded(actor, stop))
        clock = MonotonicClock()
        if not actor.is_simulated:
            # As an actor's loop is: a guard that hears nothing stops the arm.
            be_urgent(actor.niceness)
        env = make_env(actor, clock, should_stop=lambda: stop.is_set)
        ending.callback(env.close)
        ending.callback(env.stop)
        pad = None if settings.gamepad is None else Gamepad(settings.gamepad)
        if pad is not None:
            ending.callback(pad.close)
        desk = Desk(
            control,
            spec,
            settings.teleop,
            say=console.say,
            end=stop.set,
            stop=stop_arm,
            pad=pad,
            is_always_steering=True,
        )
        console.say(desk_texts.KEYS)
        if pad is not None:
            console.say(desk_texts.PAD)
        session = Session(
            actor=settings.operator,
            incarnation=uuid.uuid4().hex,
            software=software_version(),
            seed=settings.seed,
            num_trials=settings.trials,
        )
        recording = Recording(
            session,
            env,
            clock,
            store,
            control,
            should_stop=lambda: stop.is_set,
            look=lambda: None if guard is None else guard.check(),
        )
        with DeskThread(desk, keyboard):
            recording.run(_say_trial)
    if was_stopped:
        raise RobotFault("stopped", "a person stopped the arm")
    return ExitCode.DONE


def _check_same(theirs: RobotSpec, ours: RobotSpec, what: str) -> None:
    """Raises CannotStart where a learner could not train on our trials beside theirs."""
    if difference := theirs.difference(ours):
        raise CannotStart(
            f"{what}: {'; '.join(difference)}. Give the actor's file (--actor-config), and make "
            "[spec] of the learner's agree with it; trials of another robot need another --store"
        )


def _say_trial(trial: Trial, number: int) -> None:
    console.say(f"committed {number}: {trial.trial_id} {trial.outcome}, {trial.num_steps} steps")


@contextlib.contextmanager
def _guarded(actor: ActorConfig, stop: StopFlag) -> Iterator[KeptGuard | None]:
    """Keeps the guard of a real arm, serving; None for a simulated one."""
    if actor.limits is None or actor.is_simulated:
        yield None
        return
    with ActorFolder(actor.spool) as folder:
        guard = KeptGuard(folder, actor.limits.absolute(), actor.ip)
        try:
            guard.wait_until_serving(math.inf, should_stop=lambda: stop.is_set)
            yield guard
        finally:
            guard.stop()
