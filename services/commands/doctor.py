"""`offworld doctor`: says go or no-go for a robot on this machine, and why.

It looks and measures, and changes nothing: the arm is neither moved nor set up, and an actor that
runs keeps its arm and its cameras (`services/checkup/robot_side.py`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from protos.trial import RobotSpec
from services import config, console
from services.actor_config import ActorConfig, RobotName
from services.actor_robot import robot_spec
from services.checkup import learner_side, machine_side, robot_side
from services.checkup.finding import Check, Finding, attempt, not_asked
from services.checkup.gauges import Gauges
from services.commands.flags import OutputFlags
from services.credentials import ClientSecurity
from services.demo_config import CONFIGS
from services.process import ExitCode

_TODO = {
    "versions": "install offworld anew",
    "arm": "do what the message says",
    "loop": "see that processes can be started here",
    "planner": "make the two files agree, and install what is missing",
    "spool": "see that the spool's folder can be written to",
    "ray": "see that processes can be started here",
    "disk": "correct the learner's file, or see that its store can be written to",
    "port": "correct the learner's file",
    "learner": "start it (`offworld learner`), and check address, token, certificate and firewall",
    "clock": "see to the machine's clock",
}
"""What to do about a check that could not be made."""


@dataclass(frozen=True, kw_only=True)
class DoctorFlags(OutputFlags, ClientSecurity):
    """Says go or no-go for one robot on this machine; moves nothing and changes nothing.

    Ends with 0 for go and 3 for no-go. Arm and cameras that an actor has are left alone: a go is
    one for the rest then, and the last line says so.
    """

    learner_config: Path = CONFIGS / "demo-learner.toml"
    """The learner's file: which planner to measure, where the store is."""
    actor_config: Path = CONFIGS / "demo-actor.toml"
    """The actor's file: which robot, which workspace, how many threads."""
    robot: RobotName | None = None
    """Another robot than the actor's file has."""
    plans: int = 100
    """How many plans to measure."""
    seconds: float = 3.0
    """How long to watch each camera."""
    learner: str | None = None
    """HOST:PORT of a learner to reach; none for the actor's one with a real arm, and for leaving it
    out in simulation."""
    skip: tuple[str, ...] = ()
    """Checks to leave out: versions, arm (cameras too), loop, planner, spool, ray, disk, port,
    learner, clock; and of those of the arm: calibration, fence."""

    def __post_init__(self) -> None:
        if self.plans < 1:
            raise ValueError(f"plans must be at least 1, got {self.plans}")
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be positive, got {self.seconds}")
        known = (*_TODO, *robot_side.OPTIONAL)
        if unknown := set(self.skip) - set(known):
            raise ValueError(f"skip: {', '.join(sorted(unknown))} is none of {', '.join(known)}")


def main(argv: Sequence[str]) -> int:
    """Runs all checks; 3 if one of them says no-go."""
    flags = config.load(DoctorFlags, argv, prog="offworld doctor")
    findings: list[Finding] = []
    for finding in examine(flags):
        findings.append(finding)
        if not flags.json:
            _tell(finding)
    num_bad = sum(f.verdict == "no-go" for f in findings)
    num_skipped = sum(f.verdict == "not asked" for f in findings)
    if flags.json:
        checks = [dataclasses.asdict(f) for f in findings]
        console.emit_json({"is_go": not num_bad, "checks": checks})
    else:
        verdict = "NO-GO" if num_bad else "GO"
        counts = f"{len(findings)} checks, {num_bad} no-go, {num_skipped} not asked"
        alone = [f.check for f in findings if f.verdict == "left alone"]
        if alone:
            verdict += f" for the rest, {', '.join(alone)} not looked at"
            counts += f", {len(alone)} left alone: end what has them, and ask again"
        console.say(f"{verdict}: {counts}")
    return ExitCode.CANNOT_START if num_bad else ExitCode.DONE


def examine(flags: DoctorFlags, gauges: Gauges | None = None) -> Iterator[Finding]:
    """Yields one finding after the other.

    Args:
        flags: What to look at.
        gauges: Reads this machine; none for the real one.

    Raises:
        ConfigError: The actor's file cannot be read.
    """
    gauges = gauges or Gauges()
    actor = config.build_file(ActorConfig, flags.actor_config)
    if flags.robot is not None:
        actor = dataclasses.replace(actor, robot=flags.robot)
    offset_ns = gauges.wall_minus_monotonic_ns()
    control_hz = (actor.sim if actor.is_simulated else actor.cell).control_hz
    here = "" if actor.is_simulated else "the learner of a real arm runs elsewhere"
    address = flags.learner or (None if actor.is_simulated else actor.learner)
    own = ClientSecurity(token_file=flags.token_file, tls_ca=flags.tls_ca)
    security = own if own != ClientSecurity() else actor.security

    def spec() -> RobotSpec:
        return robot_spec(actor, is_calibrated=False)

    files = (flags.actor_config, flags.learner_config)
    checks: tuple[tuple[str, str, Check], ...] = (
        ("versions", "", machine_side.identity),
        ("arm", "", lambda: robot_side.cell(actor, flags.seconds, flags.skip)),
        ("loop", "", lambda: machine_side.loop(actor, control_hz, gauges)),
        ("planner", "", lambda: machine_side.planner(actor, *files, flags.plans, gauges)),
        ("spool", "", lambda: machine_side.disk(actor, gauges)),
        ("ray", here, learner_side.ray),
        ("disk", here, lambda: learner_side.store(flags.learner_config, gauges)),
        ("port", here, lambda: learner_side.port(flags.learner_config)),
        (
            "learner",
            "" if address else "give --learner HOST:PORT",
            lambda: learner_side.link(address or "", security, spec()),
        ),
        ("clock", "", lambda: machine_side.clock(actor, offset_ns, gauges)),
    )
    for name, why_not, work in checks:
        if name in flags.skip:
            yield not_asked(name, "left out with --skip")
        elif why_not:
            yield not_asked(name, why_not)
        else:
            yield from attempt(name, work, _TODO[name])


def _tell(finding: Finding) -> None:
    console.say(f"{finding.verdict:<10}  {finding.check:<12}  {console.safe(finding.detail)}")
    if finding.todo:
        console.say(f"{'':<26}-> {console.safe(finding.todo)}")
