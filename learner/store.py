"""Committed trials on disk: one Zarr group a trial, renamed into place, then one ledger row.

A commit writes the group aside, fsyncs it, renames it, fsyncs the parent and only then appends the
ledger row, which is the commit point. Whatever a kill leaves behind is settled by `sweep`: files
written aside are deleted; a renamed group without a row was whole and verified before its rename,
so it is adopted (nobody was told that it is stored, and the actor's next upload of it is then an
ordinary duplicate). What cannot be verified goes to quarantine, nothing is thrown away.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from learner import layout
from learner.durable import FolderLock, fsync, sha256_hex, write_folder
from learner.ledger import Ledger, QuarantineRow, TrialRow
from learner.store_check import StoreReport, check_store
from learner.zarr_group import (
    ROOT_FILE,
    TrialCorrupt,
    attributes_of,
    corrupt_is_trial_corrupt,
    group_files,
    trial_from_files,
)
from protos.trial import Source, Trial, TrialRejected, check_trial_id

logger = logging.getLogger(__name__)

ASIDE_PREFIX = ".commit-"
"""Names in staging/ that belong to this module; everything else there is the ingress's."""


@dataclass(frozen=True, kw_only=True)
class CommitResult:
    """The answer to a commit; the trial is durable."""

    ledger_seq: int
    is_duplicate: bool
    """The same trial was committed before; nothing was written now."""


@dataclass(frozen=True, kw_only=True)
class StoreStats:
    """Counts over all committed trials."""

    num_trials: dict[str, int]
    """By source."""
    num_success: dict[str, int]
    """By source."""
    num_aborted: int
    num_steps: int
    num_quarantined: int
    last_seq: int


class TrialStore:
    """Commits, loads and checks trials under one root folder.

    Args:
        root: The store's folder.
        ledger: Its ledger, open for writing if anything is to be committed.
        unix_ns: Wall clock.
    """

    def __init__(
        self, root: Path, ledger: Ledger, *, unix_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.root = root
        self.ledger = ledger
        self._unix_ns = unix_ns
        self._mutex = threading.Lock()
        self._lock: FolderLock | None = None

    @classmethod
    def open(cls, root: Path, *, read_only: bool = False) -> TrialStore:
        """Opens the store in `root`; for writing it is made if absent, locked and swept.

        Raises:
            StoreNotFound: `read_only` and there is none.
            StoreLocked: Another process writes here.
            StoreVersionMismatch: The store is of another version.
        """
        if read_only:
            layout.check_version(root)
            return cls(root, Ledger.open(root / "ledger.sqlite", read_only=True))
        root.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(root / "writer.lock", f"the store {root}")
        try:
            layout.make(root)
            store = cls(root, Ledger.open(root / "ledger.sqlite"))
            layout.seal(root)
        except BaseException:
            lock.release()
            raise
        store._lock = lock
        store.sweep()
        return store

    def close(self) -> None:
        """Closes the ledger and frees the lock."""
        self.ledger.close()
        if self._lock is not None:
            self._lock.release()

    def commit(self, trial: Trial) -> CommitResult:
        """Stores `trial` durably; the same trial again is a duplicate, and a success.

        Raises:
            TrialRejected: Another trial was committed under this id; `trial` is in quarantine.
            StoreFull: The disk is full; nothing was changed, a later try may succeed.
        """
        digest = trial.digest()
        with self._mutex:
            if self._path(trial.trial_id, trial.provenance.source).exists():
                self._adopt_if_unknown(self._path(trial.trial_id, trial.provenance.source))
            row = self.ledger.get(trial.trial_id)
            if row is None:
                return CommitResult(ledger_seq=self._write(trial, digest), is_duplicate=False)
            if row.digest == digest:
                assert row.ledger_seq is not None
                return CommitResult(ledger_seq=row.ledger_seq, is_duplicate=True)
            self._quarantine(trial, digest)
        raise TrialRejected(
            f"trial {trial.trial_id} was committed with digest {row.digest[:12]}, this one has "
            f"{digest[:12]}; it was put in quarantine"
        )

    def load(self, trial_id: str) -> Trial:
        """Returns one committed trial, verified file by file and as a whole.

        Raises:
            KeyError: No such trial is committed.
            TrialCorrupt: It is not what was committed, or files are missing.
        """
        row = self.ledger.get(check_trial_id(trial_id))
        if row is None:
            raise KeyError(trial_id)
        try:
            return _read(self._path(trial_id, row.source), row.group_sha256, row.digest)
        except TrialCorrupt as error:
            raise TrialCorrupt(f"trial {trial_id}: {error}") from error

    def iter_rows(
        self, *, source: Source | None = None, since: int = 0, is_trainable: bool | None = None
    ) -> Iterator[TrialRow]:
        """Yields ledger rows after `since` in order of commit.

        Args:
            source: Only trials of this source.
            since: Only rows with a larger `ledger_seq`.
            is_trainable: Only trials that may, or may not, be trained on.
        """
        for row in self.ledger.since(since):
            if source is not None and row.source is not source:
                continue
            if is_trainable is None or row.is_trainable == is_trainable:
                yield row

    def stats(self) -> StoreStats:
        """Counts what is committed."""
        rows = self.ledger.since(0)
        by_source = Counter(row.source.value for row in rows)
        return StoreStats(
            num_trials={s.value: by_source[s.value] for s in Source},
            num_success={
                s.value: sum(row.is_success for row in rows if row.source is s) for s in Source
            },
            num_aborted=sum(row.outcome.value == "aborted" for row in rows),
            num_steps=sum(row.num_steps for row in rows),
            num_quarantined=len(self.ledger.quarantined()),
            last_seq=self.ledger.last_seq(),
        )

    def sweep(self) -> int:
        """Settles what an earlier process left half done; returns how many trials it adopted."""
        for path in (self.root / "staging").glob(f"{ASIDE_PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)
        with self._mutex:
            return sum(self._adopt_if_unknown(path) for path in layout.groups(self.root))

    def fsck(self) -> StoreReport:
        """Reads all that is committed and reports what is not as written, see `check_store`."""
        return check_store(self.root, self.ledger, self.load)

    def _write(self, trial: Trial, digest: str) -> int:
        files = group_files(trial, digest)
        final = self._path(trial.trial_id, trial.provenance.source)
        write_folder(self._aside(trial.trial_id), final, files, "commit")
        return self._append(trial, digest, files[ROOT_FILE])

    def _append(self, trial: Trial, digest: str, root_file: bytes) -> int:
        return self.ledger.append(
            TrialRow.from_trial(
                trial,
                digest=digest,
                group_sha256=sha256_hex(root_file),
                committed_unix_ns=self._unix_ns(),
            )
        )

    def _adopt_if_unknown(self, path: Path) -> bool:
        if self.ledger.get(path.name) is not None:
            return False
        try:
            with corrupt_is_trial_corrupt(ROOT_FILE):
                root_file = (path / ROOT_FILE).read_bytes()
            digest = str(attributes_of(root_file)["digest"])
            trial = _read(path, sha256_hex(root_file), digest)
            if self._path(trial.trial_id, trial.provenance.source) != path:
                raise TrialCorrupt(f"it says that it is trial {trial.trial_id}")
        except TrialCorrupt as error:
            target = self.root / "quarantine" / f"{path.name}.{self._unix_ns()}"
            path.rename(target)
            fsync(path.parent)
            logger.warning("trial_quarantined path=%s reason=%s moved_to=%s", path, error, target)
            return False
        fsync(path.parent)  # the kill may have come before the rename was on the disk
        seq = self._append(trial, digest, root_file)
        logger.info("trial_adopted trial_id=%s ledger_seq=%s", trial.trial_id, seq)
        return True

    def _quarantine(self, trial: Trial, digest: str) -> None:
        final = self.root / "quarantine" / f"{trial.trial_id}.{digest[:12]}"
        reason = "another trial was committed under this id"
        if not final.exists():
            files = group_files(trial, digest)
            write_folder(self._aside(trial.trial_id), final, files, "quarantine")
        self.ledger.quarantine(
            QuarantineRow(
                trial_id=trial.trial_id, digest=digest, reason=reason, unix_ns=self._unix_ns()
            )
        )
        logger.warning("trial_quarantined trial_id=%s digest=%s", trial.trial_id, digest)

    def _path(self, trial_id: str, source: Source) -> Path:
        archive = "offline.zarr" if source is Source.OFFLINE else "online.zarr"
        return layout.trials(self.root, archive) / trial_id

    def _aside(self, trial_id: str) -> Path:
        return self.root / "staging" / f"{ASIDE_PREFIX}{trial_id}"


def _read(path: Path, group_sha256: str, digest: str) -> Trial:
    with corrupt_is_trial_corrupt("files"):
        root_file = (path / ROOT_FILE).read_bytes()
        if sha256_hex(root_file) != group_sha256:
            raise TrialCorrupt(f"{ROOT_FILE} has another digest than the ledger says")
        attributes = attributes_of(root_file)
        files = {ROOT_FILE: root_file}
        for name, sha256 in attributes["files"].items():
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise TrialCorrupt(f"{name!r} is no name of a file in the group")
            files[name] = (path / name).read_bytes()
            if sha256_hex(files[name]) != sha256:
                raise TrialCorrupt(f"{name} is damaged: its digest is not the recorded one")
        trial = trial_from_files(files, attributes["header"])
    if trial.digest() != digest:
        raise TrialCorrupt("the digest of the whole trial is not the recorded one")
    return trial
