"""Uploads in progress, on the learner's disk: pieces of payloads until their trial is committed.

Nothing here is promised to anybody. Every payload is digested as a whole before it is used, so a
power cut, a bit flip or an eviction costs a second upload and nothing else. An upload is a folder
with `upload.json`, the `payload` at its full size, and `received`, one byte a chunk. Memory use
does not depend on the size of a payload.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import mmap
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from learner.durable import StoreFull, full_disk_is_store_full
from protos import codec
from protos.trial import TrialRejected, check_trial_id

logger = logging.getLogger(__name__)

MIN_CHUNK_BYTES = 4096
_DIGEST_BLOCK = 1 << 20
_RECEIVED = b"\x01"


class BadChunk(ValueError):
    """A chunk contradicts itself or its upload; the message says how."""


class ChunkDamaged(RuntimeError):
    """A chunk did not arrive as it was sent; sending it again helps."""


class Incomplete(RuntimeError):
    """Chunks are missing, or do not add up to the payload they were announced as."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What is known of a payload before it is here."""

    payload_sha256: str
    total_bytes: int
    chunk_bytes: int
    """Length of every chunk but the last."""

    @property
    def count(self) -> int:
        """Number of chunks."""
        return codec.num_chunks(self.total_bytes, self.chunk_bytes)


def upload_of(
    payload_sha256: str, total_bytes: int, *, index: int, count: int, offset: int, num_bytes: int
) -> Upload:
    """Infers an upload from one of its chunks; BadChunk if the numbers do not fit together."""
    if len(payload_sha256) != 64 or not set(payload_sha256) <= set("0123456789abcdef"):
        raise BadChunk("payload_sha256 is not 64 hexadecimal digits")
    if not 0 <= index < count:
        raise BadChunk(f"chunk {index} of {count}")
    if index < count - 1:
        chunk_bytes = num_bytes
    else:
        chunk_bytes = offset // index if index else max(num_bytes, 1)
    if count > 1 and not MIN_CHUNK_BYTES <= chunk_bytes <= codec.MAX_CHUNK_BYTES:
        raise BadChunk(
            f"chunks of {chunk_bytes} bytes; {MIN_CHUNK_BYTES} to {codec.MAX_CHUNK_BYTES} are taken"
        )
    upload = Upload(payload_sha256=payload_sha256, total_bytes=total_bytes, chunk_bytes=chunk_bytes)
    expected = min(chunk_bytes, total_bytes - index * chunk_bytes)
    if (count, offset, num_bytes) != (upload.count, index * chunk_bytes, expected):
        raise BadChunk(
            f"chunk {index} of {count} with {num_bytes} bytes at {offset} does not fit into "
            f"{total_bytes} bytes"
        )
    return upload


class Staging:
    """Keeps uploads under `root`; safe to call from several threads.

    Args:
        root: The store's staging folder. Names that are no trial ids are somebody else's.
        max_uploads: How many at once; the one untouched for longest makes way.
        max_bytes: How much they may take together, likewise.
        reserve_bytes: How much of the disk is left alone.
    """

    def __init__(self, root: Path, *, max_uploads: int, max_bytes: int, reserve_bytes: int) -> None:
        self._root = root
        self._max_uploads = max_uploads
        self._max_bytes = max_bytes
        self._reserve_bytes = reserve_bytes
        self._mutex = threading.Lock()
        self._uploads: dict[str, Upload] = {}  # least recently touched first
        for folder in sorted(root.iterdir(), key=lambda path: path.stat().st_mtime):
            self._take_over(folder)

    @property
    def num_bytes(self) -> int:
        """How much the uploads take at most."""
        with self._mutex:
            return sum(upload.total_bytes for upload in self._uploads.values())

    def trial_ids(self) -> list[str]:
        """Returns the trials of which something is here."""
        with self._mutex:
            return list(self._uploads)

    def put(self, trial_id: str, upload: Upload, index: int, data: bytes) -> int:
        """Writes one chunk, the first time it comes; returns how many of the upload are here.

        Raises:
            StoreFull: The disk is full, or the reserve is reached.
        """
        with self._mutex, full_disk_is_store_full("an upload"):
            if self._uploads.get(trial_id) != upload:
                self._start(trial_id, upload)
            self._uploads[trial_id] = self._uploads.pop(trial_id)
            folder = self._root / trial_id
            received = (folder / "received").read_bytes()
            if received[index : index + 1] == _RECEIVED:
                return received.count(_RECEIVED)  # its commit may be reading the payload
            _write_at(folder / "payload", data, index * upload.chunk_bytes)
            _write_at(folder / "received", _RECEIVED, index)  # after the data, never before
            return received.count(_RECEIVED) + 1

    def received(self, trial_id: str) -> tuple[Upload, list[tuple[int, int]]] | None:
        """Returns an upload and its chunks that are here, as (first, count); None without one."""
        with self._mutex:
            upload = self._uploads.get(trial_id)
            if upload is None:
                return None
            return upload, _ranges((self._root / trial_id / "received").read_bytes())

    def payload(self, trial_id: str, payload_sha256: str) -> memoryview:
        """Maps a complete payload, digest verified; an upload that does not verify is dropped.

        Raises:
            Incomplete: Not all of it is here.
        """
        with self._mutex:
            upload = self._uploads.get(trial_id)
            if upload is None or upload.payload_sha256 != payload_sha256:
                raise Incomplete("nothing of this payload is here")
            folder = self._root / trial_id
            if (folder / "received").read_bytes() != _RECEIVED * upload.count:
                raise Incomplete("chunks are missing")
            payload = _map(folder / "payload", upload.total_bytes)
        sha256 = hashlib.sha256()
        for start in range(0, len(payload), _DIGEST_BLOCK):
            sha256.update(payload[start : start + _DIGEST_BLOCK])
        if sha256.hexdigest() != payload_sha256:
            self.drop(trial_id)
            raise Incomplete("the chunks do not add up to the payload's digest")
        return payload

    def drop(self, trial_id: str) -> None:
        """Deletes an upload, if there is one."""
        with self._mutex:
            self._drop(trial_id)

    def move(self, trial_id: str, target: Path) -> None:
        """Moves the folder of an upload, if there is one, elsewhere on the same disk."""
        with self._mutex:
            if self._uploads.pop(trial_id, None) is not None:
                (self._root / trial_id).rename(target)

    def _start(self, trial_id: str, upload: Upload) -> None:
        self._drop(trial_id)
        while self._uploads and (
            len(self._uploads) >= self._max_uploads
            or upload.total_bytes + sum(u.total_bytes for u in self._uploads.values())
            > self._max_bytes
        ):
            oldest = next(iter(self._uploads))
            logger.warning("event=upload_evicted trial=%s", oldest)
            self._drop(oldest)
        promised = sum(map(self._missing_bytes, self._uploads))
        free = shutil.disk_usage(self._root).free - promised
        if free < self._reserve_bytes + upload.total_bytes:
            raise StoreFull(
                f"{free >> 20} MiB are free under {self._root}, {upload.total_bytes >> 20} MiB "
                f"and a reserve of {self._reserve_bytes >> 20} MiB are needed"
            )
        folder = self._root / trial_id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, size in (("payload", upload.total_bytes), ("received", upload.count)):
            with (folder / name).open("wb") as file:
                file.truncate(size)
        (folder / "upload.json").write_text(json.dumps(dataclasses.asdict(upload)))
        self._uploads[trial_id] = upload

    def _missing_bytes(self, trial_id: str) -> int:
        """Returns how much of an upload is still to come: its file has its full size at once."""
        stat = (self._root / trial_id / "payload").stat()
        return max(0, stat.st_size - 512 * stat.st_blocks)

    def _drop(self, trial_id: str) -> None:
        if self._uploads.pop(trial_id, None) is not None:
            shutil.rmtree(self._root / trial_id, ignore_errors=True)

    def _take_over(self, folder: Path) -> None:
        try:
            trial_id = check_trial_id(folder.name)
        except TrialRejected:
            return
        try:
            upload = Upload(**json.loads((folder / "upload.json").read_text()))
            sizes = [(folder / name).stat().st_size for name in ("payload", "received")]
            if sizes != [upload.total_bytes, upload.count]:
                raise ValueError("sizes")
        except (OSError, ValueError, TypeError, ZeroDivisionError):
            shutil.rmtree(folder, ignore_errors=True)  # cut off while it was made
        else:
            self._uploads[trial_id] = upload


def _write_at(path: Path, data: bytes, offset: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written
    finally:
        os.close(descriptor)


def _map(path: Path, num_bytes: int) -> memoryview:
    if num_bytes == 0:
        return memoryview(b"")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), num_bytes, access=mmap.ACCESS_READ))


def _ranges(received: bytes) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for index, flag in enumerate(received):
        if not flag:
            continue
        if ranges and sum(ranges[-1]) == index:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + 1)
        else:
            ranges.append((index, 1))
    return ranges
