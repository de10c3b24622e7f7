"""`offworld actor status`: how the actor of this machine is, for people and for probes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services import config, console
from services.actor_health import ActorHealth, read_health
from services.commands.flags import OutputFlags
from services.process import ExitCode


@dataclass(frozen=True, kw_only=True)
class ActorStatusFlags(OutputFlags):
    """Says how the actor of a spool is, on its own machine and without a learner.

    Ends with 0 if all is well, 3 if it waits for a person, 4 if it does not run or does not beat.
    """

    spool: Path = Path("runs/spool")
    """The actor's folder."""


def main(argv: Sequence[str]) -> int:
    """Looks once, and says what it saw."""
    flags = config.load(ActorStatusFlags, argv, prog="offworld actor status")
    health = read_health(flags.spool)
    if flags.json:
        told = {"is_well": health.is_well, **dataclasses.asdict(health)}
        console.emit_json(told)
    else:
        console.show_fields(_facts(health))
        for problem in health.problems:
            console.say(f"NOT WELL: {console.safe(problem.what)}")
    if health.is_well:
        return ExitCode.DONE
    is_silent = any(problem.is_silent for problem in health.problems)
    return ExitCode.PEER_UNREACHABLE if is_silent else ExitCode.CANNOT_START


def _facts(health: ActorHealth) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if (work := health.work) is not None:
        facts = {
            "actor": f"{work.actor_id}, robot {work.robot}",
            "loop": f"{work.loop_state}{_beat(work.loop_silent_s)}",
            "recorder": f"recording{_beat(work.recorder_silent_s)}",
            "steps": f"{work.num_ticks}, {work.num_missed} late",
            "weights": f"v{work.weights_version}" if work.weights_version else "none yet",
            "learner": f"{work.learner}, link {work.link}"
            + (", its trainer has failed" if work.has_trainer_failed else ""),
        }
    if trials := health.trials:
        facts["spool"] = (
            f"{trials['ready']} trials to send, {trials['acked']} delivered, "
            f"{trials['rejected']} refused"
        )
    facts["well"] = "yes" if health.is_well else "no"
    return facts


def _beat(silent_s: float | None) -> str:
    return ", no beat yet" if silent_s is None else f", last beat {silent_s:.1f} s ago"
