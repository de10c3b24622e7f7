"""What carries messages between the control loop and the guard: a socket of this machine."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Protocol

from robot.guard_wire import MAX_BYTES


class LinkEnded(RuntimeError):
    """The guard is not there, or not any more."""


class Link(Protocol):
    """Carries messages to the guard and back, and never waits."""

    def send(self, raw: bytes) -> None:
        """Sends one message; LinkEnded if it cannot be sent."""
        ...

    def receive(self) -> bytes | None:
        """Returns the next message, or None while there is none; LinkEnded after the last."""
        ...

    def close(self) -> None:
        """Ends the link; may be called twice."""
        ...


class SocketLink:
    """A link over the guard's Unix socket; LinkEnded if nobody listens there.

    Args:
        path: The socket.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.settimeout(0.0)
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise LinkEnded(f"no guard answers at {path}: {error}") from error

    def send(self, raw: bytes) -> None:
        """Sends one message; a guard that takes none any more counts as gone."""
        try:
            self._socket.send(raw)
        except OSError as error:
            raise LinkEnded(f"the guard takes no message: {error}") from error

    def receive(self) -> bytes | None:
        """Returns the next message, or None while there is none."""
        try:
            raw = self._socket.recv(MAX_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise LinkEnded(f"the guard's connection broke: {error}") from error
        if not raw:
            raise LinkEnded("the guard ended the connection")
        return raw

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()
