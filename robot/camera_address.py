"""How a camera is named on a command line: `WHERE=NAME`, as in `923322071234=front`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RECORDINGS = (".db3", ".bag")
_WORLD = "world:"
_SERIAL = re.compile(r"[A-Za-z0-9-]+")
_HERE = ("127.0.0.1", "localhost")


@dataclass(frozen=True, kw_only=True)
class CameraAddress:
    """One camera: exactly one of `serial`, `recording` and `world_port` says where it is."""

    name: str
    """Its images are the observation field `image.NAME`."""
    serial: str | None = None
    """Serial number of a connected camera."""
    recording: Path | None = None
    """A file of what a camera saw."""
    world_port: int | None = None
    """Port of a simulated world on this machine, which is drawn instead."""


def parse_camera(text: str) -> CameraAddress:
    """Reads `SERIAL=NAME`, `FILE.db3=NAME` or `world:HOST:PORT=NAME`; ValueError if it is none."""
    where, _, name = text.rpartition("=")
    if not (where and name.isidentifier()):
        raise ValueError(
            f"camera must be SERIAL=NAME, FILE.db3=NAME or world:HOST:PORT=NAME, got {text!r}"
        )
    if where.startswith(_WORLD):
        host, _, port = where.removeprefix(_WORLD).rpartition(":")
        if host not in _HERE or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"camera: expected world:127.0.0.1:PORT={name}, got {text!r}")
        return CameraAddress(name=name, world_port=int(port))
    if Path(where).suffix in RECORDINGS:
        return CameraAddress(name=name, recording=Path(where))
    if not _SERIAL.fullmatch(where):
        raise ValueError(
            f"camera: {where!r} is neither a serial number nor a {' or '.join(RECORDINGS)} file"
        )
    return CameraAddress(name=name, serial=where)
