"""`offworld actor stop`: stops an arm through its guard, from any terminal of its workstation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robot.guard_messages import Stop
from services import config, guard_client
from services.commands.ack import tell


@dataclass(frozen=True, kw_only=True)
class StopFlags:
    """Stops an arm; it stays stopped until `offworld actor ack`. This is no emergency stop."""

    spool: Path = Path("runs/spool")
    """The actor's folder."""


def main(argv: Sequence[str]) -> int:
    """Asks the guard for a stop, and says what it answered."""
    flags = config.load(StopFlags, argv, prog="offworld actor stop")
    return tell(guard_client.ask_guard(flags.spool / "run", Stop()))
