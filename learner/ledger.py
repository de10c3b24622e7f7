"""The ledger: one SQLite row a committed trial. The row is the commit point.

One process writes (the one that holds the store's lock), any number read. Rows are never changed
or deleted; `ledger_seq` only grows. SQLite has no page checksums, so each row carries its own.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from learner.durable import StoreFull, failpoint
from learner.ledger_row import (
    COLUMNS,
    DamagedRow,
    QuarantineRow,
    TrialRow,
    from_columns,
    to_columns,
)

SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 5_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
    ledger_seq INTEGER PRIMARY KEY AUTOINCREMENT,
    trial_id TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    group_sha256 TEXT NOT NULL,
    source TEXT NOT NULL,
    outcome TEXT NOT NULL,
    num_steps INTEGER NOT NULL,
    total_reward REAL NOT NULL,
    actor TEXT NOT NULL,
    weights_version INTEGER NOT NULL,
    position_index INTEGER,
    committed_unix_ns INTEGER NOT NULL,
    header TEXT NOT NULL,
    row_sha256 TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS quarantine (
    trial_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    reason TEXT NOT NULL,
    unix_ns INTEGER NOT NULL,
    PRIMARY KEY (trial_id, digest)
);
"""
_SELECT = f"SELECT ledger_seq, {', '.join(COLUMNS)}, row_sha256 FROM trials "  # noqa: S608
_INSERT = (
    f"INSERT INTO trials ({', '.join(COLUMNS)}, row_sha256) "  # noqa: S608
    f"VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
)


class StoreVersionMismatch(RuntimeError):
    """The store was written by another version of the format."""


class LedgerCorrupt(RuntimeError):
    """The ledger cannot be read, or a row is not the one that was written."""


class Ledger:
    """Appends and reads rows; safe to call from several threads of one process.

    Raises:
        StoreVersionMismatch: The file has another schema version.
        LedgerCorrupt: The file is not a sound SQLite database.
        FileNotFoundError: `read_only` and there is no file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._mutex = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Ledger:
        """Opens the ledger at `path`, making it first unless `read_only`."""
        if read_only and not path.exists():
            raise FileNotFoundError(f"no ledger at {path}; is this an offworld store?")
        with _sqlite_errors(path):
            connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1e3
            )
            # Bytes that are no text make another text, which the row's digest tells.
            connection.text_factory = _text
            try:
                _prepare(connection, path, read_only=read_only)
            except BaseException:
                connection.close()
                raise
        return cls(connection)

    def close(self) -> None:
        """Closes the file."""
        with self._mutex:
            self._connection.close()

    def append(self, row: TrialRow) -> int:
        """Commits one trial, durably before it returns; returns its `ledger_seq`.

        Raises:
            StoreFull: The disk is full; nothing was recorded.
            sqlite3.IntegrityError: The trial is already there.
        """
        with self._mutex, _sqlite_errors("the ledger"):
            cursor = self._connection.execute(_INSERT, to_columns(row))
        failpoint("ledger.appended")
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def last_seq(self) -> int:
        """Returns the newest `ledger_seq`, 0 if there is none; cheap enough to poll."""
        rows = self._query("SELECT coalesce(max(ledger_seq), 0) FROM trials")
        return int(rows[0][0])

    def since(self, ledger_seq: int, limit: int | None = None) -> list[TrialRow]:
        """Returns the rows committed after `ledger_seq`, in order; the first `limit` of them."""
        rows = self._query(
            _SELECT + "WHERE ledger_seq > ? ORDER BY ledger_seq LIMIT ?",
            ledger_seq,
            -1 if limit is None else limit,
        )
        return [_sound(raw) for raw in rows]

    def scan(self) -> tuple[list[TrialRow], list[DamagedRow]]:
        """Returns all rows that are as they were written, in order, and all that are not."""
        rows = [from_columns(raw) for raw in self._query(_SELECT + "ORDER BY ledger_seq")]
        sound = [row for row in rows if isinstance(row, TrialRow)]
        return sound, [row for row in rows if isinstance(row, DamagedRow)]

    def get(self, trial_id: str) -> TrialRow | None:
        """Returns the row of one trial, or None."""
        rows = self._query(_SELECT + "WHERE trial_id = ?", trial_id)
        return _sound(rows[0]) if rows else None

    def quarantine(self, row: QuarantineRow) -> None:
        """Records that an uploaded trial was refused; the same one again changes nothing."""
        with self._mutex, _sqlite_errors("the ledger"):
            self._connection.execute(
                "INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?)",
                (row.trial_id, row.digest, row.reason, row.unix_ns),
            )

    def quarantined(self) -> list[QuarantineRow]:
        """Returns every refused trial, oldest first."""
        rows = self._query(
            "SELECT trial_id, digest, reason, unix_ns FROM quarantine ORDER BY unix_ns, trial_id"
        )
        return [QuarantineRow(trial_id=t, digest=d, reason=r, unix_ns=n) for t, d, r, n in rows]

    def check(self) -> list[str]:
        """Reads the whole file; returns what SQLite finds wrong with it, nothing if sound."""
        found = [str(row[0]) for row in self._query("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def _query(self, statement: str, *values: object) -> list[Any]:
        with self._mutex, _sqlite_errors("the ledger"):
            return self._connection.execute(statement, values).fetchall()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _prepare(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, SCHEMA_VERSION) or (read_only and version == 0):
        raise StoreVersionMismatch(
            f"{path} has ledger version {version}; this program reads version {SCHEMA_VERSION}"
        )
    if read_only:
        connection.execute("PRAGMA query_only = ON")
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    found = str(connection.execute("PRAGMA quick_check").fetchone()[0])
    if found != "ok":
        raise LedgerCorrupt(f"{path}: {found}; restore it from a backup")
    if version == 0:
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )


def _sound(raw: tuple[Any, ...]) -> TrialRow:
    row = from_columns(raw)
    if isinstance(row, DamagedRow):
        raise LedgerCorrupt(
            f"ledger row {row.ledger_seq} is not what was written; run `offworld data fsck`"
        )
    return row


@contextmanager
def _sqlite_errors(where: object) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise StoreFull(f"no space left while writing {where}; free some, retry") from error
        raise
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise LedgerCorrupt(f"{where}: {error}; restore it from a backup") from error
