"""The latched fault, in memory and on disk: it outlives the process and the power.

One small JSON file. There is a file exactly while a fault is latched; it is written aside, fsynced
and renamed, so a reader finds it whole or not at all. One that cannot be read counts as a fault.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from robot.interfaces import RobotFault

logger = logging.getLogger(__name__)

UNREADABLE = "fault_file_unreadable"
_SAVE_AGAIN_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class StoredFault:
    """One latched fault."""

    code: str
    message: str
    unix_s: float
    """When it was latched; 0 where nobody knows."""
    doing: str
    """What the guard was doing then, in a few words."""

    def fault(self) -> RobotFault:
        """Returns it as the fault it was."""
        return RobotFault(self.code, self.message)


class FaultStore:
    """Keeps at most one fault in a file.

    Args:
        path: The file; its folder must exist.
        unix_s: Wall clock.
    """

    def __init__(self, path: Path, *, unix_s: Callable[[], float] = time.time) -> None:
        self.path = path
        self._unix_s = unix_s

    def load(self) -> StoredFault | None:
        """Returns the fault on disk, or None; what cannot be read is a fault of its own."""
        try:
            raw = json.loads(self.path.read_text(encoding="utf-8"))
            return StoredFault(
                code=str(raw["code"]),
                message=str(raw["message"]),
                unix_s=float(raw["unix_s"]),
                doing=str(raw["doing"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            return StoredFault(
                code=UNREADABLE,
                message=f"{self.path} holds no fault that can be read: {error!r}",
                unix_s=0.0,
                doing="unknown",
            )

    def save(self, fault: RobotFault, doing: str) -> None:
        """Writes a fault in the place of any other and returns once it is on the disk.

        Raises:
            OSError: It could not be written; what was there before still is.
        """
        stored = StoredFault(
            code=fault.code, message=fault.message, unix_s=self._unix_s(), doing=doing
        )
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with aside.open("w", encoding="utf-8") as file:
                json.dump(asdict(stored), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        self._sync_folder()

    def clear(self) -> None:
        """Takes the fault off the disk; OSError if that cannot be done."""
        self.path.unlink(missing_ok=True)
        self._sync_folder()

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class FaultLatch:
    """Holds the first fault there is until it is cleared; one on disk is held at once.

    Args:
        store: Where it is kept.
    """

    def __init__(self, store: FaultStore) -> None:
        self._store = store
        self._is_kept = False
        self._unsaved: str | None = None
        self._tried_ns = 0
        self.fault: RobotFault | None = None
        """The latched fault, or None."""
        if (stored := store.load()) is not None:
            self.fault, self._is_kept = stored.fault(), True
            logger.error(
                "event=found_latched fault=%s while=%r text=%r",
                stored.code,
                stored.doing,
                stored.message,
            )

    def latch(self, fault: RobotFault, *, doing: str, is_kept: bool, t_ns: int) -> None:
        """Holds `fault`, unless one is held that counts as much.

        Args:
            fault: The cause.
            doing: What was being done.
            is_kept: Whether it goes to disk. One that does takes the place of one that does not.
            t_ns: Now.
        """
        if self.fault is not None and (self._is_kept or not is_kept):
            return
        # One that is not kept is how a loop ends that was not in motion.
        logger.log(
            logging.ERROR if is_kept else logging.INFO,
            "event=latched fault=%s while=%r text=%r kept=%s",
            fault.code,
            doing,
            fault.message,
            is_kept,
        )
        self.fault, self._is_kept = fault.again(), is_kept
        if is_kept:
            self._unsaved = doing
            self._save(t_ns)

    def save_again(self, t_ns: int) -> None:
        """Tries to write what could not be written, once a second."""
        if self._unsaved is not None and t_ns - self._tried_ns >= _SAVE_AGAIN_NS:
            self._save(t_ns)

    def clear(self) -> None:
        """Forgets the fault, first on disk; OSError if that cannot be done: it is held on then."""
        self._store.clear()
        self.fault, self._is_kept, self._unsaved = None, False, None

    def _save(self, t_ns: int) -> None:
        assert self.fault is not None
        assert self._unsaved is not None
        self._tried_ns = t_ns
        try:
            self._store.save(self.fault, self._unsaved)
        except OSError as error:
            logger.error("event=fault_not_saved file=%s reason=%s", self._store.path, error)
        else:
            self._unsaved = None
