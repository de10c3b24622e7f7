"""What a person asks of a guard: stop the arm, clear its fault; also when no guard runs."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path

from learner.durable import FolderLock, StoreLocked
from robot.clock import MonotonicClock
from robot.fault_store import FaultStore
from robot.guard import AckRefused, Guard
from robot.guard_messages import Ack, Answer, Stop
from robot.guard_wire import MAX_BYTES, WireError, pack, unpack
from services import guard
from services.config import ConfigError
from services.guard import FAULT_FILE, LOCK_FILE, RUN_FILE, SOCKET_FILE, GuardRun
from services.process import CannotStart

logger = logging.getLogger(__name__)

_ANSWER_S = 10.0


class GuardUnreachable(RuntimeError):
    """No guard runs, or it does not answer."""


def ask_guard(folder: Path, message: Stop | Ack) -> Answer:
    """Asks the guard of an actor and returns its answer.

    Args:
        folder: SPOOL/run.
        message: What to ask.

    Raises:
        GuardUnreachable: There is none, or it gives no answer in ten seconds.
    """
    path = folder / SOCKET_FILE
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_ANSWER_S)
        try:
            connection.connect(str(path))
            connection.send(pack(message))
            raw = connection.recv(MAX_BYTES)
            answer = unpack(raw)
        except (OSError, WireError) as error:
            raise GuardUnreachable(f"no guard answers at {path}: {error}") from error
    if not isinstance(answer, Answer):
        raise GuardUnreachable(f"{path} answers with {type(answer).__name__}")
    return answer


def acknowledge(folder: Path) -> Answer:
    """Clears the latched fault, on disk and in the arm's controller: through the guard or, where
    none runs, as the last one would have.

    While the cause is still there, or the arm does not answer, it is refused.

    Args:
        folder: SPOOL/run.

    Raises:
        GuardUnreachable: A guard runs but does not answer, or the folder cannot be used.
    """
    try:
        return ask_guard(folder, Ack())
    except GuardUnreachable as unreachable:
        try:
            lock = FolderLock(folder / LOCK_FILE, f"the arm of {folder}")
        except (StoreLocked, OSError) as error:
            raise GuardUnreachable(f"{unreachable}; {error}") from error
    with contextlib.ExitStack() as ending:
        ending.callback(lock.release)
        faults = FaultStore(folder / FAULT_FILE)
        stored = faults.load()
        if stored is None:
            return Answer(is_ok=True, text="no fault is latched")
        try:
            _clear(folder, faults)
        except (AckRefused, ConfigError, CannotStart) as error:
            return Answer(is_ok=False, text=str(error))
        except OSError as error:
            return Answer(is_ok=False, text=f"{faults.path} cannot be removed: {error}")
        logger.warning(
            "event=acked fault=%s uid=%d pid=%d text=%r",
            stored.code,
            os.getuid(),
            os.getpid(),
            stored.message,
        )
        return Answer(is_ok=True, text=f"cleared {stored.fault()}")


def _clear(folder: Path, faults: FaultStore) -> None:
    """Clears the fault as a guard does, so that the arm itself is asked; no arm, only the disk."""
    file = folder / RUN_FILE
    if not file.exists():
        faults.clear()
        return
    limits, clock = GuardRun.read(file).read_limits(), MonotonicClock()
    with contextlib.ExitStack() as ending:
        guarding = Guard(guard.make_arm(limits, clock), limits, clock, faults)
        ending.callback(guarding.shut_down)
        guarding.acknowledge()
