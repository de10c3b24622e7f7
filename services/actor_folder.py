"""The actor's folder: who may work in it, and what an actor that died has left there.

`run/actor.lock` is held by the supervisor alone: two actors never share a spool.
`run/children.lock` is handed down to its processes too, so that a new supervisor waits for those of
one that was killed: nobody reads a ring while somebody may still write it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from learner.durable import FolderLock, StoreFull, StoreLocked
from services.process import CannotStart, disk_is_usable
from services.ring import RingReader, RingWriter
from services.ring_memory import Ring, RingUnusable, ring_folder
from services.spool import Spool, SpoolConfig
from services.spool_db import SpoolCorrupt, SpoolFull, SpoolVersionMismatch

logger = logging.getLogger(__name__)

PID_FILE = "actor.pid"
ACTOR_DIED = "the actor died during the trial"
_CHILDREN_S = 20.0
_LOOK_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What earlier starts of the actor have left in the spool."""

    num_waiting: int
    """Trials that wait for the learner."""
    num_begun: int
    """Trials that ever began, those that are long delivered too."""


def ring_path_of(spool: Path) -> Path:
    """Returns where the ring of the actor of a spool is, whether there is one or not."""
    name = hashlib.sha256(str(spool.resolve()).encode()).hexdigest()[:16]
    return ring_folder() / f"offworld-{os.getuid()}-{name}.ring"


class ActorFolder:
    """The spool's folder, locked for one actor. Use it in a `with` statement.

    Args:
        root: The spool.

    Raises:
        CannotStart: Another actor works here, or the folder cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.run = self.root / "run"
        self.children_lock = -1
        """Open file for the processes to inherit."""
        with contextlib.ExitStack() as failed, disk_is_usable(self.run):
            try:
                self.run.mkdir(parents=True, exist_ok=True)
                self._lock = FolderLock(self.run / "actor.lock", f"the spool {self.root}")
            except (StoreLocked, StoreFull) as error:
                raise CannotStart(str(error)) from error
            failed.callback(self._lock.release)
            self.children_lock = self._lock_children()
            failed.callback(os.close, self.children_lock)
            for stale in self.run.glob("*.pid"):
                stale.unlink()
            (self.run / PID_FILE).write_text(f"{os.getpid()}\n", encoding="ascii")
            failed.pop_all()

    def __enter__(self) -> ActorFolder:
        return self

    def __exit__(self, *_error: object) -> None:
        # A disk that went bad meanwhile must not hide how the actor ended.
        with contextlib.suppress(OSError):
            (self.run / PID_FILE).unlink(missing_ok=True)
        os.close(self.children_lock)
        self._lock.release()

    @property
    def ring_path(self) -> Path:
        """Where this actor's ring is; the same for every start."""
        return ring_path_of(self.root)

    def recover(self, reserve_bytes: int, reason: str = ACTOR_DIED) -> Recovered:
        """Brings what a ring still holds into the spool, and removes the ring.

        No other process of this actor may run.

        Args:
            reserve_bytes: Of the spool.
            reason: Why a trial that was open is aborted.

        Returns:
            What the spool then holds.

        Raises:
            CannotStart: The spool cannot be used.
        """
        config = SpoolConfig(root=self.root, reserve_bytes=reserve_bytes)
        try:
            with disk_is_usable(self.root), contextlib.closing(Spool(config)) as spool:
                self._empty_ring(spool, reason)
                if (trial_id := spool.abort_open(reason)) is not None:
                    logger.warning("event=trial_aborted trial=%s reason=%s", trial_id, reason)
                return Recovered(num_waiting=spool.counts().num_ready, num_begun=spool.num_begun())
        except (SpoolCorrupt, SpoolFull, SpoolVersionMismatch, StoreFull, StoreLocked) as error:
            raise CannotStart(str(error)) from error

    def _empty_ring(self, spool: Spool, reason: str) -> None:
        if not self.ring_path.exists():
            return
        try:
            ring = Ring(self.ring_path)
        except RingUnusable as error:
            logger.warning("event=ring_dropped reason=%s", error)
            self.ring_path.unlink(missing_ok=True)
            return
        RingWriter(ring).abort_open_trial(reason)
        reader = RingReader(ring)
        num_records = 0
        while records := reader.poll(0):
            spool.add(records)
            reader.commit()
            num_records += len(records)
        if num_records:
            logger.warning("event=ring_recovered records=%d", num_records)
        ring.unlink()

    def _lock_children(self) -> int:
        path = self.run / "children.lock"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + _CHILDREN_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(_LOOK_S)
                    continue
                os.close(file)
                raise CannotStart(
                    f"processes of an earlier actor still work in {self.root}; their ids are in "
                    f"{self.run}/*.pid"
                ) from None
            return file
