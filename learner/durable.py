"""Files that are whole or absent: written aside, fsynced, renamed into place.

The order is always the same: bytes, fsync of files and folders, rename, fsync of the parent. A
reader sees the old state or the new one, also after a power cut. Nothing here knows what is kept.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

FAILPOINT_VARIABLE = "OFFWORLD_FAILPOINT"
"""Environment variable `NAME` or `NAME:N`: SIGKILL ourselves at that point, the N-th time."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_reached: dict[str, int] = {}


class StoreFull(RuntimeError):
    """The disk has no room left; nothing was changed, and a later try may succeed."""


class StoreLocked(RuntimeError):
    """Another process holds the lock of this folder."""


def failpoint(name: str) -> None:
    """Kills this process when the environment asks for it here; tests cut power this way."""
    wanted, _, count = os.environ.get(FAILPOINT_VARIABLE, "").partition(":")
    if wanted != name:
        return
    _reached[name] = _reached.get(name, 0) + 1
    if _reached[name] >= int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def full_disk_is_store_full(what: str) -> Iterator[None]:
    """Translates a full disk or quota into `StoreFull`; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StoreFull(f"no space left while writing {what}; free some and retry") from error


def write_folder(aside: Path, final: Path, files: Mapping[str, bytes], point: str) -> None:
    """Makes the folder `final` with `files`, all of it or nothing.

    Args:
        aside: Where to write first; same file system. Removed when writing fails.
        final: Where it goes. Must not exist, its parent must.
        files: Contents by relative path.
        point: Prefix of the failpoints `.written` and `.renamed`.

    Raises:
        StoreFull: The disk is full.
        FileExistsError: `final` is already there.
    """
    try:
        with full_disk_is_store_full(str(final)):
            for name, data in files.items():
                path = aside / name
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(path, data)
            fsync_tree(aside)
            failpoint(f"{point}.written")
            if final.exists():
                raise FileExistsError(errno.EEXIST, "already there", str(final))
            aside.rename(final)
            failpoint(f"{point}.renamed")
            fsync(final.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def write_file(path: Path, data: bytes, *, is_durable: bool = True) -> None:
    """Replaces the file `path` by rename; with `is_durable` it also outlives a power cut."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with full_disk_is_store_full(str(path)):
            _write(aside, data)
            if is_durable:
                fsync(aside)
            aside.replace(path)
            if is_durable:
                fsync(path.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def remove_folder(path: Path, aside: Path) -> None:
    """Takes the folder `path` away by rename, then deletes it: no half folder is ever seen."""
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def fsync(path: Path) -> None:
    """Waits until the file or folder itself is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path) -> None:
    """Waits until every file and folder under `root` is on the disk."""
    paths = [Path(base) / name for base, _, names in os.walk(root) for name in names]
    paths += [Path(base) for base, _, _ in os.walk(root)]
    # Several at once share the journal's commits: 2 ms where one by one took 8 to 110 ms.
    list(_fsync_threads().map(fsync, paths))


@functools.cache
def _fsync_threads() -> ThreadPoolExecutor:
    """Threads that are kept: to start them for each trial took longer than their work."""
    return ThreadPoolExecutor(max_workers=8, thread_name_prefix="fsync")


def sha256_hex(data: bytes) -> str:
    """Returns the SHA-256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)


class FolderLock:
    """Holds an exclusive lock for as long as this process lives; the kernel frees it at death.

    Raises:
        StoreLocked: Somebody else holds it; the message has their process id.
        StoreFull: There is no file at `path` yet, and no room for one.
    """

    def __init__(self, path: Path, what: str) -> None:
        with full_disk_is_store_full(str(path)):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._descriptor: int | None = descriptor
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            self._descriptor = None
            raise StoreLocked(
                f"{what} is in use by process {holder} (lock {path}); stop that one first"
            ) from error
        os.truncate(self._descriptor, 0)
        # On a full disk the lock holds all the same; it only does not say whose it is.
        with contextlib.suppress(StoreFull), full_disk_is_store_full(str(path)):
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Frees the lock; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
