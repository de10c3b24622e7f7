"""The processes that this one started, as Linux tells; elsewhere there seem to be none."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def children() -> list[int]:
    """Returns the ids of our children."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if _stat(pid)[2:] == [str(os.getpid())]]


def is_alive(pid: int) -> bool:
    """Whether a process, ours or not, runs; one that ended and was not asked how does not."""
    fields = _stat(pid)
    return bool(fields) and fields[1] not in ("Z", "X")


def name_of(pid: int) -> str:
    """Returns the name of a process, its first 15 bytes; empty if there is none."""
    return (_stat(pid) or [""])[0]


def kill_children_with(argument: str) -> None:
    """Kills our children that have `argument` somewhere in their command line."""
    for pid in children():
        with contextlib.suppress(OSError):
            if argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """Returns name, state and parent of a process; empty if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    head, _, rest = text.rpartition(")")
    return [head.partition("(")[2], *rest.split()[:2]]
