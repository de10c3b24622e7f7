"""What an actor is told: which robot, which learner, how many trials of which kind.

The learner's configuration decides what is learned; this one holds hardware and limits. The two
meet in a handshake that refuses with the differences.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from robot.camera_address import parse_camera
from robot.cell import CellConfig
from robot.sim.config import SimConfig
from robot.teleop import TeleopConfig
from services.address import DEFAULT_ADDRESS, split_address
from services.config import build_file
from services.config_text import to_toml
from services.credentials import ClientSecurity
from services.process import write_aside

RobotName = Literal["sim", "counting", "xarm7"]
_ACTOR_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_OPTIONAL_POSITIVE = ("trials", "max_uncertainty", "num_threads")
_NOT_NEGATIVE = ("seed", "wait_weights_s", "unreachable_s", "upload_wait_s", "drain_s")


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """One robot actor."""

    learner: str = DEFAULT_ADDRESS
    """HOST:PORT of the learner."""
    token_file: Path | None = None
    """File with the learner's token; none if it asks for none."""
    tls_ca: Path | None = None
    """Certificate that the learner's is signed with (itself, if self-signed), PEM; none for a
    learner without TLS."""
    actor_id: str = "sim-1"
    """Name of this actor; the learner serves one process of a name at a time."""
    robot: RobotName = "sim"
    """`sim` is the simulated xArm 7; `counting` sees the step's number and moves nothing; `xarm7`
    is the real one."""
    sim: SimConfig = field(default_factory=SimConfig)
    """The simulated workspace, for `sim`; sizes and limits of frames count for `counting` too."""
    calibration: Path | None = None
    """File of `offworld calibrate`: rewards come from the camera then. None for the simulator's
    truth; `xarm7` has none."""
    ip: str | None = None
    """IPv4 address of the real arm's controller; none for the one in `limits`."""
    camera: tuple[str, ...] = ()
    """Cameras of the real arm: `SERIAL=NAME`, or where the controller is a double on this
    machine also `FILE.db3=NAME` for a recording and `world:127.0.0.1:PORT=NAME` for a simulated
    world."""
    limits: Path | None = None
    """File of what the real arm's guard holds it to, as deploy/configs/limits-xarm7.toml."""
    cell: CellConfig = field(default_factory=CellConfig)
    """The task at the real arm."""
    spool: Path = Path("runs/spool")
    """Folder where trials wait for the learner. One actor, one spool."""
    reserve_bytes: int = 1 << 30
    """No trial begins that would leave less than this free on the spool's disk."""

    trials: int | None = 20
    """Trials to complete; aborted ones do not count. None to go on until stopped."""
    source: Literal["online", "eval"] = "online"
    """`online` explores and is trained on; `eval` does neither, on the fixed positions in turn."""
    policy: Literal["model", "random"] = "model"
    """`model` plans with the learner's weights and waits for them; `random` needs none."""
    seed: int = 0
    """Decides every reset and the exploration noise, with the number of trials that the spool has
    seen: an actor that is started again goes on, and with an empty spool it begins anew."""
    pace: Literal["real", "fast"] = "real"
    """`fast` lets a simulated robot's time pass as quickly as planning allows."""
    exit_when_done: bool = False
    """End after the last trial, once the learner has them all or `upload_wait_s` has passed."""

    is_attended: bool | None = None
    """A person at this terminal lets trials begin, judges them and may take over; needs `real`
    pace. None is yes for a real arm started from a terminal, else no."""
    teleop: TeleopConfig = field(default_factory=TeleopConfig)
    """How the person's keys and sticks feel."""
    gamepad: Path | None = None
    """Device of the person's gamepad, as /dev/input/js0; keys work beside it."""

    wait_weights_s: float = 120.0
    """Longest wait between trials for weights trained on the trial before. 0 never waits."""
    unreachable_s: float = 5.0
    """A learner that has not answered for this long is not waited for."""
    max_uncertainty: float | None = 5.0
    """A planned action whose Q networks differ by more (standard deviation) is withheld and the arm
    holds; None trusts all. This is wide: the demo's models differ by 0.25 at the most. Narrow it
    for your task by what `offworld trials show` says."""
    max_missed_in_a_row: int = 10
    """So many missed deadlines in a row abort the trial."""
    max_aborted_in_a_row: int = 5
    """So many aborted trials in a row end the loop."""
    device: str = "cpu"
    """Where to plan: `cpu`, `cuda`, `cuda:0`."""
    num_threads: int | None = None
    """Threads of a plan on the CPU; None for torch's choice."""
    niceness: int = -10
    """Scheduling priority of the loop at `real` pace, as of nice(1): lower is more urgent. Left as
    it is where the system does not allow that."""

    ring_trials: int = 4
    """Trials that fit into the memory between loop and recorder."""
    upload_wait_s: float = 60.0
    """How long `exit_when_done` waits for the learner to acknowledge what is in the spool."""
    drain_s: float = 5.0
    """How long a stop waits for the upload of what is in the spool. It is safe there anyway."""

    def __post_init__(self) -> None:
        try:
            _, port = split_address(self.learner)
        except ValueError as error:
            raise ValueError(f"learner: {error}") from error
        if port == 0:
            raise ValueError(f"learner: a port from 1 on is needed, got {self.learner!r}")
        if not _ACTOR_ID.fullmatch(self.actor_id):
            raise ValueError(
                f"actor_id must be up to 63 letters, digits, dots, dashes; got {self.actor_id!r}"
            )
        names = [parse_camera(text).name for text in self.camera]
        if len(set(names)) != len(names):
            raise ValueError(f"camera: every camera needs a name of its own, got {names}")
        for name in _OPTIONAL_POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive or none, got {value}")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must not be negative, got {value}")
        for name in ("max_missed_in_a_row", "max_aborted_in_a_row"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not -20 <= self.niceness <= 19:
            raise ValueError(f"niceness must be -20 .. 19, got {self.niceness}")
        if self.is_attended and self.pace != "real":
            raise ValueError(f"is_attended needs pace real, got {self.pace}")
        if self.ring_trials < 2:
            raise ValueError(f"ring_trials must be at least 2, got {self.ring_trials}")
        if self.reserve_bytes < 0:
            raise ValueError(f"reserve_bytes must not be negative, got {self.reserve_bytes}")

    @property
    def security(self) -> ClientSecurity:
        """What the learner is shown, and how it is known."""
        return ClientSecurity(token_file=self.token_file, tls_ca=self.tls_ca)

    @property
    def is_simulated(self) -> bool:
        """Whether no real arm moves: only then is a loop that died started again by itself."""
        return self.robot in ("sim", "counting")


@dataclass(frozen=True, kw_only=True)
class ActorRun:
    """What the supervisor hands to loop and recorder, through SPOOL/run/actor.toml."""

    ring: Path
    """File of the shared memory."""
    incarnation: str
    """One id a start of the actor."""
    software: str
    """Version of offworld that runs."""
    parent_pid: int
    """The supervisor; whoever finds it gone ends."""
    num_trials_before: int = 0
    """Trials that earlier starts began in this spool: seeds go on from there."""
    config: ActorConfig

    @classmethod
    def read(cls, path: Path) -> ActorRun:
        """Reads `write`'s file; ConfigError if it is not that."""
        return build_file(cls, path)

    def write(self, path: Path) -> None:
        """Writes the file, replaced by rename."""
        write_aside(path, to_toml(self))
