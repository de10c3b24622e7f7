"""Processes as Linux tells of them; elsewhere there seem to be none."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def children() -> list[int]:
    """Returns the ids of our children."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if stat_of(pid)[2:3] == [str(os.getpid())]]


def is_alive(pid: int) -> bool:
    """Whether a process, ours or not, runs; one that ended and was not asked how does not."""
    return has_not_ended(stat_of(pid))


def has_not_ended(stat: list[str]) -> bool:
    """Whether a process that Linux said this of ran then; see `stat_of`."""
    return bool(stat) and stat[1] not in ("Z", "X")


def name_of(pid: int) -> str:
    """Returns the name of a process, its first 15 bytes; empty if there is none."""
    return (stat_of(pid) or [""])[0]


def kill_children_with(argument: str) -> None:
    """Kills our children that have `argument` somewhere in their command line."""
    for pid in children():
        with contextlib.suppress(OSError):
            if argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def stat_of(pid: int) -> list[str]:
    """Returns what Linux says of a process: name, state, parent, ...; empty if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    head, _, rest = text.rpartition(")")  # the name in parentheses may hold anything
    return [head.partition("(")[2], *rest.split()]
