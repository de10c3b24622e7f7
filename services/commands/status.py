"""`offworld status`: how a learner, its trainer and its actors are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from protos import learner_pb2 as pb
from services import config, console
from services.client import LearnerClient
from services.commands.flags import LearnerFlag, OutputFlags
from services.process import ExitCode

_ACTOR_COLUMNS = (
    "actor",
    "state",
    "link",
    ">weights",
    ">spool",
    ">refused",
    ">clock s",
    "fault",
)


@dataclass(frozen=True, kw_only=True)
class StatusFlags(OutputFlags, LearnerFlag):
    """Asks a learner how it is, and prints its answer."""

    watch: bool = False
    """Ask again every two seconds, until Ctrl-C."""


def main(argv: Sequence[str]) -> int:
    """Asks once, or until Ctrl-C."""
    flags = config.load(StatusFlags, argv, prog="offworld status")
    with contextlib.closing(LearnerClient(flags.learner, flags)) as client:
        try:
            while True:
                show(client.status(), flags)
                if not flags.watch:
                    return ExitCode.DONE
                time.sleep(2.0)
        except KeyboardInterrupt:
            return ExitCode.DONE


def show(reply: pb.StatusReply, flags: StatusFlags) -> None:
    """Prints one answer."""
    if flags.json:
        console.emit_json(_plain(reply))
        return
    console.show_fields(_facts(reply, flags.learner))
    rows = [_actor_cells(actor) for actor in reply.actors]
    console.say("")
    if rows:
        console.show_table(_ACTOR_COLUMNS, rows)
    else:
        console.say("no actor has said Hello yet")


def _plain(value: Any) -> Any:
    """Returns a message as plain JSON values; unlike protobuf's own form, with whole numbers."""
    if isinstance(value, Message):
        return {f.name: _plain(getattr(value, f.name)) for f in value.DESCRIPTOR.fields}
    return value if isinstance(value, str | int | float) else [_plain(item) for item in value]


def _facts(reply: pb.StatusReply, learner: str) -> dict[str, Any]:
    trainer, weights = reply.trainer, reply.latest_weights
    owed = f", {trainer.updates_owed} owed" if trainer.updates_owed else ""
    age_s = max(0.0, time.time() - weights.created_unix_ns / 1e9)
    return {
        "learner": f"{learner}, {reply.software}, up {reply.uptime_s:.0f} s",
        "task": reply.task,
        "trials": f"{reply.num_trials} committed, {reply.num_quarantined} in quarantine",
        "trainer": _trainer_words(trainer),
        "updates": f"{trainer.num_updates}{owed} ({trainer.updates_per_second:.1f} a second)",
        "learned on": (
            f"{trainer.num_offline_trials} offline and {trainer.num_online_trials} online trials"
        ),
        "weights": (
            f"v{weights.version}, {weights.num_bytes / 2**20:.1f} MiB, {age_s:.0f} s old"
            if weights.version
            else "none published yet"
        ),
        "disk": f"{reply.disk_free_bytes / 2**30:.1f} GiB free",
    }


def _trainer_words(trainer: pb.TrainerStatus) -> str:
    if not trainer.state:
        return "has not reported yet"
    reason = f": {trainer.waiting_for}" if trainer.waiting_for else ""
    return f"{trainer.state}{reason}, told {trainer.status_age_s:.0f} s ago"


def _actor_cells(actor: pb.ActorStatus) -> tuple[object, ...]:
    kind = "simulated" if actor.kind == pb.ACTOR_KIND_SIM else "real"
    link = "up" if actor.is_alive else f"silent for {actor.heartbeat_age_s:.0f} s"
    return (
        f"{actor.actor_id} ({kind})",
        actor.loop_state or "-",
        link,
        f"v{actor.weights_version}" if actor.weights_version else "-",
        actor.spool_trials,
        actor.rejected_trials,
        f"{actor.clock_offset_s:+.2f}",
        actor.fault or "-",
    )
