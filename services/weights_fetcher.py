"""Brings published weights onto the actor's disk: whole, verified, or not at all.

The newest version lies in ROOT/VERSION/, written aside and renamed, and is announced only when its
digest, its tensors and every number in it are right. Whatever goes wrong, the last good version
stays announced. Version numbers count within one run of the learner; `ROOT/run_id` says which. The
learner's word on what is newest counts also when its number is lower than ours, or the same on
another manifest: its weights may have been restored from elsewhere.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from learner.durable import StoreFull, remove_folder, write_file, write_folder
from learner.weights import (
    ASIDE_PREFIX,
    DATA_FILE,
    MANIFEST_FILE,
    WeightsCorrupt,
    WeightsManifest,
    WeightsNotFinite,
    WeightStore,
    parse_weights,
)
from protos import codec
from protos import learner_pb2 as pb
from services.backoff import Backoff
from services.client import LearnerClient, LearnerUnavailable, WeightsGone
from services.records import MAX_WEIGHTS_VERSION, LoopLink, WeightsMark
from services.worker import Worker

logger = logging.getLogger(__name__)

MAX_WEIGHTS_BYTES = 4 << 30
KEEP_VERSIONS = 3
WAIT_S = 20.0
_TRIES = 3


class WeightsFetcher:
    """One thread that follows the learner's newest version.

    Args:
        root: Folder of the versions; made if absent.
        client: The learner.
        link: Told which version is the newest verified one.
        spec_digest: Of the robot here; weights for another one are refused.
        backoff: Paces the tries.
    """

    def __init__(
        self,
        root: Path,
        client: LearnerClient,
        link: LoopLink,
        *,
        spec_digest: str,
        backoff: Backoff | None = None,
    ) -> None:
        self._root = root
        self._client = client
        self._link = link
        self._spec_digest = spec_digest
        self._backoff = backoff or Backoff()
        self._store = WeightStore(root)
        self._known: WeightsManifest | None = None
        self._skip_to = 0
        self._failures: dict[str, int] = {}
        self._partial: tuple[str, bytearray] = ("", bytearray())
        self.worker = Worker("weights", self._run)

    def announce_kept(self) -> int:
        """Announces the newest good version that is on disk already; 0 if there is none."""
        for version in reversed(self._store.versions()):
            try:
                manifest = self._store.manifest(version)
                self._check_manifest(manifest)
                self._store.load(version)
            except (WeightsCorrupt, WeightsNotFinite) as error:
                logger.warning("event=kept_weights_bad version=%d reason=%s", version, error)
                continue
            self._announce(manifest)
            return version
        return 0

    def _run(self) -> None:
        is_waiting = False
        while not self.worker.stopping.is_set():
            # Waiting tells of higher numbers only. At first, after each silence and each failure we
            # ask what is newest there, whatever its number: the learner may be another one.
            after, wait_s = (self._skip_to, WAIT_S) if is_waiting else (0, 0.0)
            try:
                reply = self._client.weights_manifest(after, wait_s)
                self._backoff.worked()
                is_waiting = not is_waiting or reply.HasField("weights")
                if not self._is_new_run(reply.run_id) and reply.HasField("weights"):
                    self._follow(reply)
            except (LearnerUnavailable, WeightsGone):
                is_waiting = False
                self.worker.stopping.wait(self._backoff.failed())
            except StoreFull as error:
                logger.warning("event=weights_not_kept reason=%s", error)
                self.worker.stopping.wait(self._backoff.failed())

    def _follow(self, reply: pb.GetWeightsManifestReply) -> None:
        key = f"{reply.weights.version} {reply.weights.sha256}"
        if self._failures.get(key, 0) >= _TRIES:
            return
        try:
            manifest = WeightsManifest.from_json(reply.manifest_json)
            if manifest != self._known:
                self._take(manifest)
        except (WeightsCorrupt, WeightsNotFinite) as error:
            self._refused(key, reply.weights.version, str(error))

    def _take(self, manifest: WeightsManifest) -> None:
        """Fetches, verifies and announces one version."""
        self._check_manifest(manifest)
        if not 0 < manifest.num_bytes <= MAX_WEIGHTS_BYTES:
            raise WeightsCorrupt(f"{manifest.num_bytes} bytes; {MAX_WEIGHTS_BYTES} is the limit")
        data = self._fetch(manifest)
        parse_weights(data, manifest)
        final = self._root / str(manifest.version)
        if final.exists():  # damaged, or the same number on other weights
            self._remove(manifest.version)
        write_folder(
            self._root / f"{ASIDE_PREFIX}{manifest.version}",
            final,
            {DATA_FILE: data, MANIFEST_FILE: manifest.to_json().encode()},
            "fetched",
        )
        self._partial = ("", bytearray())
        self._failures.clear()
        self._announce(manifest)
        logger.info(
            "event=weights_fetched version=%d train_step=%d bytes=%d",
            manifest.version,
            manifest.train_step,
            manifest.num_bytes,
        )
        self._forget_old()

    def _fetch(self, manifest: WeightsManifest) -> bytes:
        """Reads the file, going on where an interrupted try stopped."""
        if self._partial[0] != manifest.sha256:
            self._partial = (manifest.sha256, bytearray())
        data = self._partial[1]
        while len(data) < manifest.num_bytes:
            if self.worker.stopping.is_set():
                raise LearnerUnavailable("stopped during a download")
            length = min(codec.MAX_CHUNK_BYTES, manifest.num_bytes - len(data))
            data += self._client.weights_chunk(manifest.version, len(data), length)
        return bytes(data)

    def _announce(self, manifest: WeightsManifest) -> None:
        self._known, self._skip_to = manifest, manifest.version
        self._link.announce_weights(WeightsMark.of(manifest.version, manifest.to_json()))

    def _refused(self, key: str, version: int, reason: str) -> None:
        """Fetches a bad version again a few times, then waits for another one."""
        self._partial = ("", bytearray())
        self._failures[key] = self._failures.get(key, 0) + 1
        if self._failures[key] < _TRIES:
            self.worker.stopping.wait(self._backoff.failed())
            return
        self._skip_to = max(self._skip_to, version)
        logger.error(
            "event=weights_refused version=%d kept=%d reason=%s",
            version,
            0 if self._known is None else self._known.version,
            reason,
        )

    def _check_manifest(self, manifest: WeightsManifest) -> None:
        if not 0 < manifest.version <= MAX_WEIGHTS_VERSION:
            raise WeightsCorrupt(f"{manifest.version} is no version of weights")
        if manifest.spec_digest != self._spec_digest:
            raise WeightsCorrupt(f"version {manifest.version} was learned for another robot spec")

    def _is_new_run(self, run_id: str) -> bool:
        """Whether versions count from the beginning again; the old ones are then removed."""
        path = self._root / "run_id"
        known = path.read_text(encoding="utf-8") if path.exists() else ""
        if run_id == known:
            return False
        if known:
            logger.warning("event=learner_changed from_run=%s to_run=%s", known, run_id)
            for version in self._store.versions():
                self._remove(version)
            self._known, self._skip_to = None, 0
            self._failures.clear()
        write_file(path, run_id.encode())
        return bool(known)

    def _forget_old(self) -> None:
        """Removes versions that are no use any more: the oldest, and those of before a rollback."""
        assert self._known is not None
        versions, in_use = self._store.versions(), self._link.status().weights_version
        older = [version for version in versions if version <= self._known.version]
        for version in older[:-KEEP_VERSIONS]:
            if version != in_use:
                self._remove(version)
        for version in versions[len(older) :]:
            self._remove(version)

    def _remove(self, version: int) -> None:
        aside = self._root / f"{ASIDE_PREFIX}old-{version}"
        shutil.rmtree(aside, ignore_errors=True)  # a recorder that was killed here has left it
        remove_folder(self._root / str(version), aside)
