"""The shared memory under the ring: a control block, the robot's spec, and fixed-size slots.

The memory is a file of /dev/shm that we map ourselves. `multiprocessing.shared_memory` hands every
segment that is merely attached to a tracker process which removes it as soon as the attaching
process dies, which is what a killed recorder must not do; and it does not reserve the memory, so
that a full /dev/shm would kill the loop in the middle of a trial instead of refusing to start.

All that must be known after a crash (how many trials have begun and ended, whether one is open) is
kept in the last record itself, which one store of `head` makes valid, and is therefore exact.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

from protos.trial import RobotSpec, SpecMismatch, step_fields
from services.ring_control import PAGE_BYTES, Control

_MAGIC = 0x6F66_6677_7269_6E67
_LAYOUT_VERSION = 2
TEXT_BYTES = 8192
KIND_BEGIN, KIND_STEP, KIND_END = 1, 2, 3
COLUMN, SEEN = "step/", "observation/"


class RingUnusable(RuntimeError):
    """The shared memory cannot be created, or is not a ring of this version."""


def ring_folder() -> Path:
    """Returns where rings live: memory on Linux, the folder for temporary files elsewhere."""
    shm = Path("/dev/shm")  # noqa: S108 (files there are made with O_EXCL and mode 600)
    return shm if sys.platform == "linux" and shm.is_dir() else Path(tempfile.gettempdir())


def _reserve(file: int, size: int) -> None:
    if sys.platform == "linux":
        os.posix_fallocate(file, 0, size)  # fails here, not as a SIGBUS in the middle of a trial
    else:
        os.ftruncate(file, size)


def _slot_dtype(spec: RobotSpec) -> np.dtype[np.void]:
    names = ["crc", "kind", "index", "text_bytes", "seq", "number", "complete", "trial_id"]
    formats: list[object] = ["u4", "i4", "i4", "u4", "i8", "i8", "i8", "S36"]
    offsets = [0, 4, 8, 12, 16, 24, 32, 40]
    end = 80
    for prefix, fields in ((COLUMN, step_fields(spec)), (SEEN, spec.observations)):
        for field in fields:
            dtype = np.dtype((field.dtype, field.shape))
            names.append(prefix + field.name)
            formats.append(dtype)
            offsets.append(end)
            end += -(-dtype.itemsize // 8) * 8
    names.append("text")
    formats.append(np.dtype(("u1", (TEXT_BYTES,))))
    offsets.append(end)
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": end + TEXT_BYTES}
    )


def read_control(path: Path) -> Control:
    """Maps the control block alone, to be looked at by whoever has no part in the ring.

    Raises:
        RingUnusable: The file is absent, may not be read, or is no ring of this version.
    """
    try:
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), PAGE_BYTES, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise RingUnusable(f"{path}: cannot map the ring: {error}") from error
    control = Control(np.frombuffer(memory, np.uint8))
    _check_layout(path, control)
    return control


def _check_layout(path: Path, control: Control) -> None:
    if (control.magic, control.layout_version) != (_MAGIC, _LAYOUT_VERSION):
        raise RingUnusable(f"{path}: not a ring of layout {_LAYOUT_VERSION}")


class Ring:
    """The mapped memory: control block, spec, slots. Use `create` or `attach`.

    Raises:
        RingUnusable: The file is absent, is no ring, or is a ring of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("r+b") as file:
                flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
                memory = mmap.mmap(file.fileno(), 0, flags=flags)
        except (OSError, ValueError) as error:
            raise RingUnusable(f"{path}: cannot map the ring: {error}") from error
        raw = np.frombuffer(memory, np.uint8)
        if len(raw) < PAGE_BYTES:
            raise RingUnusable(f"{path}: {len(raw)} bytes are not a ring")
        self.control = Control(raw[:PAGE_BYTES])
        _check_layout(path, self.control)
        end = PAGE_BYTES + self.control.spec_bytes
        try:
            self.spec = RobotSpec.from_json(bytes(raw[PAGE_BYTES:end]).decode())
        except (SpecMismatch, UnicodeDecodeError) as error:
            raise RingUnusable(f"{path}: its spec cannot be read: {error}") from error
        self.num_slots = self.control.num_slots
        self._dtype = _slot_dtype(self.spec)
        self._start = -(-end // 64) * 64
        size = self._start + self.num_slots * self._dtype.itemsize
        if self.control.slot_bytes != self._dtype.itemsize or size != len(raw):
            raise RingUnusable(f"{path}: {len(raw)} bytes, expected {size} for its spec")
        self._raw = raw[self._start :].reshape(self.num_slots, self._dtype.itemsize)
        self.slots = self._raw.reshape(-1).view(self._dtype)
        self.text_offset = int(self._dtype.fields["text"][1]) if self._dtype.fields else 0

    @classmethod
    def create(cls, path: Path, spec: RobotSpec, *, num_trials: int) -> Ring:
        """Creates the file, with room for `num_trials` trials, and maps it.

        Raises:
            RingUnusable: The file exists already, or the memory is not there.
        """
        dtype, text = _slot_dtype(spec), spec.to_json().encode()
        num_slots = num_trials * (spec.max_steps + 3)
        size = -(-(PAGE_BYTES + len(text)) // 64) * 64 + num_slots * dtype.itemsize
        aside = path.with_name(f"{path.name}.new")
        try:
            if path.exists():
                raise FileExistsError(errno.EEXIST, "the ring exists already")
            aside.unlink(missing_ok=True)
            file = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                _reserve(file, size)
                with mmap.mmap(file, size) as memory:
                    page = np.zeros(PAGE_BYTES, np.uint8)
                    control = Control(page)
                    control.magic, control.layout_version = _MAGIC, _LAYOUT_VERSION
                    control.num_slots, control.slot_bytes = num_slots, dtype.itemsize
                    control.spec_bytes = len(text)
                    memory[: PAGE_BYTES + len(text)] = page.tobytes() + text
            finally:
                os.close(file)
            aside.rename(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise RingUnusable(
                f"{path}: cannot create a ring of {size} bytes: {error}; is {path.parent} full?"
            ) from error
        return cls(path)

    def unlink(self) -> None:
        """Removes the file. Processes that have it mapped keep their memory."""
        self.path.unlink(missing_ok=True)

    @property
    def is_drained(self) -> bool:
        """Whether the recorder has everything on disk."""
        return self.control.tail >= self.control.head

    @property
    def num_begun(self) -> int:
        """Trials begun since the ring was created."""
        return self.last_trial[0]

    @property
    def num_complete(self) -> int:
        """Trials ended and not aborted since the ring was created."""
        return int(self._last()["complete"]) if self.control.head else 0

    @property
    def has_open_trial(self) -> bool:
        """Whether the last trial has begun and not ended."""
        return self.control.head > 0 and int(self._last()["kind"]) != KIND_END

    @property
    def last_trial(self) -> tuple[int, str]:
        """Number and id of the trial that began last; (0, "") before the first one."""
        if not self.control.head:
            return 0, ""
        last = self._last()
        return int(last["number"]), last["trial_id"].decode(errors="replace")

    def _last(self) -> np.void:
        return self.slots[(self.control.head - 1) % self.num_slots]

    def checksum(self, slot: np.ndarray, text_bytes: int) -> int:
        """Returns the CRC-32 of one slot. slot: uint8 [slot_bytes]"""
        return zlib.crc32(slot.data[4 : self.text_offset + text_bytes])

    def row(self, position: int) -> np.ndarray:
        """Returns the bytes of the slot at a position of the sequence. uint8 [slot_bytes]"""
        return self._raw[position % self.num_slots]
