"""The SQLite file under the spool: its schema, how it is opened, what its errors mean.

SQLite has no page checksums, so every row carries a SHA-256 of its own, checked on each read.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from protos import codec
from protos.trial import OBSERVATION_PREFIX, STEP_PREFIX, RobotSpec, Trial

SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 5_000
_WAL_LIMIT_BYTES = 64 << 20

_SCHEMA = """
CREATE TABLE trials (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    trial_id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('open', 'ready', 'acked', 'rejected')),
    header TEXT NOT NULL,
    header_sha256 BLOB NOT NULL,
    num_steps INTEGER NOT NULL DEFAULT 0,
    num_bytes INTEGER NOT NULL DEFAULT 0,
    gap TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL DEFAULT '',
    abort_reason TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL DEFAULT '',
    ledger_seq INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    begun_unix_ns INTEGER NOT NULL,
    settled_unix_ns INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX trials_by_state ON trials (state, seq);
CREATE TABLE rows (
    trial_seq INTEGER NOT NULL REFERENCES trials (seq) ON DELETE CASCADE,
    t INTEGER NOT NULL,
    observation BLOB NOT NULL,
    step BLOB NOT NULL,
    sha256 BLOB NOT NULL,
    PRIMARY KEY (trial_seq, t)
);
"""


class SpoolFull(RuntimeError):
    """The disk under the spool has no room; nothing was lost, free some and go on."""


class SpoolCorrupt(RuntimeError):
    """The spool holds something else than what was written."""


class SpoolVersionMismatch(RuntimeError):
    """The spool was written by another version of the format."""


def connect(path: Path) -> sqlite3.Connection:
    """Opens the spool's file for one writer, makes it if absent, and checks it.

    Raises:
        SpoolVersionMismatch: It has another schema version.
        SpoolCorrupt: It is not a sound SQLite database.
        SpoolFull: The disk is too full to make it.
    """
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1e3
    )
    try:
        with sqlite_errors(path):
            _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def reading(root: Path) -> Iterator[sqlite3.Connection]:
    """Opens the spool in `root` beside the recorder that owns it, to be read.

    Raises:
        FileNotFoundError: There is no spool.
        SpoolVersionMismatch: It was written by another version.
        SpoolCorrupt: The file is damaged.
    """
    path = root / "spool.sqlite"
    if not path.exists():
        raise FileNotFoundError(f"no spool at {root}")
    opened = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    with closing(opened) as connection, sqlite_errors(path):
        connection.text_factory = _text
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version != SCHEMA_VERSION:
            raise SpoolVersionMismatch(
                f"{path} has spool version {version}; this program reads version {SCHEMA_VERSION}"
            )
        yield connection


def _text(raw: bytes) -> str:
    """Reads damaged text too, which is then found to have another digest."""
    return raw.decode(errors="replace")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.text_factory = _text
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, SCHEMA_VERSION):
        raise SpoolVersionMismatch(
            f"{path} has spool version {version}; this program reads version {SCHEMA_VERSION}: "
            "deliver its trials with the version that wrote it, or use another folder"
        )
    if version == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses commits in a power cut
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    found = str(connection.execute("PRAGMA quick_check").fetchone()[0])
    if found != "ok":
        raise SpoolCorrupt(f"{path}: {found}")
    if version == 0:
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits what happens inside, durably, or takes all of it back."""
    with sqlite_errors("the spool"):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def sqlite_errors(where: object) -> Iterator[None]:
    """Translates what SQLite says into `SpoolFull` and `SpoolCorrupt`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        # A full disk shows as IOERR where SQLite could not extend the WAL or its index.
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise SpoolFull(f"cannot write {where}: {error}; is the disk full?") from error
        raise
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise SpoolCorrupt(f"{where}: {error}") from error


def row_sha256(trial_id: str, t: int, observation: bytes, step: bytes) -> bytes:
    """Digests one row together with its place, so that rows cannot change places unseen."""
    sha = hashlib.sha256(f"{trial_id} {t} {len(observation)}\n".encode())
    sha.update(observation)
    sha.update(step)
    return sha.digest()


def header_sha256(trial_id: str, header: str) -> bytes:
    """Digests what is known of a trial at its beginning."""
    return hashlib.sha256(f"{trial_id} {header}".encode()).digest()


def read_trial(connection: sqlite3.Connection, trial_id: str) -> Trial:
    """Reads a finished trial, verified row by row.

    Raises:
        KeyError: No such finished trial is here.
        SpoolCorrupt: A row is missing or not what was written.
        TrialRejected: It is what was written, and not a valid trial.
    """
    found = connection.execute(
        "SELECT seq, header, header_sha256, outcome, abort_reason, num_steps FROM trials "
        "WHERE trial_id = ? AND state != 'open'",
        (trial_id,),
    ).fetchone()
    if found is None:
        raise KeyError(trial_id)
    seq, header, sha256, outcome, abort_reason, num_steps = found
    if header_sha256(trial_id, header) != sha256:
        raise SpoolCorrupt(f"trial {trial_id}: its header is not what was written")
    observations: list[bytes] = []
    steps: list[bytes] = []
    for t, observation, step, row_sha in connection.execute(
        "SELECT t, observation, step, sha256 FROM rows WHERE trial_seq = ? ORDER BY t", (seq,)
    ):
        if t != len(observations) or row_sha256(trial_id, t, observation, step) != row_sha:
            raise SpoolCorrupt(f"trial {trial_id}: row {len(observations)} is damaged")
        observations.append(observation)
        steps.append(step)
    if len(observations) != num_steps + 1:
        raise SpoolCorrupt(f"trial {trial_id}: {len(observations)} rows, {num_steps} steps")
    parts = json.loads(header)
    spec = RobotSpec.from_json(json.dumps(parts["spec"]))
    seen, done = codec.stack_rows(spec, observations, steps[1:])
    columns = {OBSERVATION_PREFIX + k: v for k, v in seen.items()}
    columns |= {STEP_PREFIX + k: v for k, v in done.items()}
    return Trial.from_parts(
        parts | {"trial_id": trial_id, "outcome": outcome, "abort_reason": abort_reason},
        columns,
    )


def settle(
    connection: sqlite3.Connection,
    trial_id: str,
    state: str,
    *,
    unix_ns: int,
    ledger_seq: int = 0,
    reason: str = "",
) -> None:
    """Notes what became of a finished trial; one that is settled already stays as it is."""
    connection.execute(
        "UPDATE trials SET state = ?, ledger_seq = ?, reason = ?, settled_unix_ns = ? "
        "WHERE trial_id = ? AND state = 'ready'",
        (state, ledger_seq, reason, unix_ns, trial_id),
    )
