"""`offworld actor ack`: a person has seen to a latched fault, and the arm may move again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robot.guard_messages import Answer
from services import config, console, guard_client
from services.logs import configure_logging
from services.process import ExitCode


@dataclass(frozen=True, kw_only=True)
class AckFlags:
    """Clears the latched fault of an arm: the cause has been seen to and nobody is in reach."""

    spool: Path = Path("runs/spool")
    """The actor's folder."""


def main(argv: Sequence[str]) -> int:
    """Clears the fault, through the guard if one runs; says what it was."""
    flags = config.load(AckFlags, argv, prog="offworld actor ack")
    configure_logging("ack")
    return tell(guard_client.acknowledge(flags.spool / "run"))


def tell(answer: Answer) -> int:
    """Prints what the guard answered; returns the exit code."""
    if answer.is_ok:
        console.say(console.safe(answer.text))
        return ExitCode.DONE
    console.complain(f"offworld: {console.safe_lines(answer.text)}")
    return ExitCode.CANNOT_START
