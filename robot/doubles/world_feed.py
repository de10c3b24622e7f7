"""The state of a simulated world, offered by one process so that another can draw it.

What a scene looks like follows from the positions of its joints and of what is moved by hand. They
go out over a TCP socket of this machine, all numbers little-endian:

    4 bytes   magic "OWWF"
    uint16    version of the layout, 1
    uint16    Q, number of joint positions
    uint16    M, number of bodies moved by hand
    uint16    what is wrong with the camera that draws it (`DeviceTrouble`), 0 for nothing
    8 bytes   digest of the scene: both sides must have built the same one
    int64     when the state was, ns of the operating system's monotonic clock
    float64   joint positions [Q], then position and quaternion of each moved body [M, 7]

Nothing goes back. A reader that is slow misses states; it never makes the publisher wait, and never
reads an old state when there is a newer one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import select
import socket
import struct
from dataclasses import dataclass

import numpy as np

from robot.doubles.device_trouble import DeviceTrouble, trouble_of
from robot.sim.config import SimConfig
from robot.sim.engine import mujoco
from robot.sim.scene import make_scene_mjcf
from robot.sim.world import SimWorld

VERSION = 1
MAX_READERS = 4
_HOST = "127.0.0.1"
_MAGIC = b"OWWF"
_HEADER = struct.Struct("<4sHHHH8sq")
_SEND_BUFFER_BYTES = 8192
_RECEIVE_BYTES = 65536
_CONNECT_S = 2.0
_MAX_READS = 64


class WorldFeedError(RuntimeError):
    """The feed is not there, or is not of this scene; the message says what was expected."""


@dataclass(frozen=True, kw_only=True)
class WorldState:
    """Everything that decides what a scene looks like."""

    t_ns: int
    """When, on the operating system's monotonic clock."""
    qpos: np.ndarray
    """Joint positions, float64. [Q]"""
    moved: np.ndarray
    """Position and quaternion of each body that is moved by hand, float64. [M, 7]"""
    trouble: DeviceTrouble | None = None
    """What is wrong with the camera that draws it."""


def state_of(world: SimWorld, t_ns: int | None = None) -> WorldState:
    """Returns the state of a world, as it stands.

    Args:
        world: Not advanced by this.
        t_ns: When it is; None is the world's own time.
    """
    data = world.data
    return WorldState(
        t_ns=world.t_ns if t_ns is None else t_ns,
        qpos=data.qpos.copy(),
        moved=np.concatenate([data.mocap_pos, data.mocap_quat], axis=1),
    )


def put_state(world: SimWorld, state: WorldState) -> None:
    """Makes a world of the same scene look as `state` says; its velocities are left alone."""
    world.data.qpos[:] = state.qpos
    world.data.mocap_pos[:] = state.moved[:, :3]
    world.data.mocap_quat[:] = state.moved[:, 3:]
    mujoco.mj_forward(world.model, world.data)


def scene_digest(config: SimConfig) -> bytes:
    """Returns 8 bytes that are the same for the same scene, whatever the size of its pictures."""
    plain = dataclasses.replace(config, image_size=8, render_size=8)
    return hashlib.sha256(make_scene_mjcf(plain).encode()).digest()[:8]


class _Layout:
    """The one layout that states of a scene have."""

    def __init__(self, world: SimWorld) -> None:
        self.num_qpos, self.num_moved = int(world.model.nq), int(world.model.nmocap)
        self._digest = scene_digest(world.config)
        self._body = struct.Struct(f"<{self.num_qpos + 7 * self.num_moved}d")
        self.num_bytes = _HEADER.size + self._body.size

    def pack(self, state: WorldState) -> bytes:
        trouble = 0 if state.trouble is None else state.trouble.number
        head = (_MAGIC, VERSION, self.num_qpos, self.num_moved, trouble, self._digest, state.t_ns)
        return _HEADER.pack(*head) + self._body.pack(*state.qpos, *state.moved.ravel())

    def unpack(self, packet: bytes) -> WorldState:
        t_ns, trouble = self.check(packet)
        numbers = np.array(self._body.unpack_from(packet, _HEADER.size))
        if not np.isfinite(numbers).all():
            raise WorldFeedError("the world feed sent a number that is not finite")
        moved = numbers[self.num_qpos :].reshape(self.num_moved, 7)
        return WorldState(t_ns=t_ns, qpos=numbers[: self.num_qpos], moved=moved, trouble=trouble)

    def check(self, packet: bytes) -> tuple[int, DeviceTrouble | None]:
        """Returns time and trouble of a state; WorldFeedError if it is not of this scene."""
        *found, trouble, digest, t_ns = _HEADER.unpack_from(packet)
        found.append(digest)
        wanted = (_MAGIC, VERSION, self.num_qpos, self.num_moved, self._digest)
        names = ("magic", "version", "joint positions", "moved bodies", "scene")
        for name, is_there, is_wanted in zip(names, found, wanted, strict=True):
            if is_there != is_wanted:
                raise WorldFeedError(
                    f"{name} of the world feed: expected {is_wanted!r}, got {is_there!r}. Both "
                    "sides need the same version of offworld and the same task and variation"
                )
        try:
            return t_ns, trouble_of(trouble)
        except ValueError as error:
            raise WorldFeedError(f"the world feed sent what cannot be: {error}") from error


@dataclass
class _Reader:
    connection: socket.socket
    unsent: bytes = b""


class WorldPublisher:
    """Offers states to whoever connects on this machine. Used in one thread; it has none itself.

    Args:
        world: Gives the layout; its states are what is published.
        port: 0 for any.
    """

    def __init__(self, world: SimWorld, port: int = 0) -> None:
        self.num_dropped = 0
        """States that a slow reader missed, over all readers."""
        self._layout = _Layout(world)
        self._readers: list[_Reader] = []
        self._listener = socket.create_server((_HOST, port), backlog=MAX_READERS)
        self._listener.settimeout(0.0)
        # Small, so that what waits for a slow reader is soon too much and not too old.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.port: int = self._listener.getsockname()[1]
        """Where to connect."""

    @property
    def num_readers(self) -> int:
        """How many are connected, as far as was seen when last published."""
        return len(self._readers)

    def publish(self, state: WorldState) -> None:
        """Sends a state to every reader that has room for it, and returns at once."""
        self._accept()
        packet = self._layout.pack(state)
        for reader in list(self._readers):
            try:
                self._send(reader, packet)
            except OSError:
                self._readers.remove(reader)
                reader.connection.close()

    def close(self) -> None:
        """Ends all connections; may be called twice."""
        for reader in self._readers:
            reader.connection.close()
        self._readers.clear()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(0.0)
                if len(self._readers) >= MAX_READERS:
                    connection.close()
                    continue
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._readers.append(_Reader(connection))

    def _send(self, reader: _Reader, packet: bytes) -> None:
        """A state that was sent in part is finished before the next one begins."""
        try:
            if reader.unsent:
                reader.unsent = reader.unsent[reader.connection.send(reader.unsent) :]
            if not reader.unsent:
                reader.unsent = packet[reader.connection.send(packet) :]
                return
        except BlockingIOError:
            pass
        self.num_dropped += 1


class WorldSubscriber:
    """Reads the newest state of a feed. Used in one thread.

    Args:
        world: Of the same scene; it is not changed.
        port: Of the publisher.

    Raises:
        WorldFeedError: Nobody publishes there.
    """

    def __init__(self, world: SimWorld, port: int) -> None:
        self._layout = _Layout(world)
        self._received = b""
        try:
            self._connection = socket.create_connection((_HOST, port), timeout=_CONNECT_S)
        except OSError as error:
            raise WorldFeedError(f"no world feed at {_HOST}:{port}: {error}") from error
        self._connection.settimeout(0.0)

    def newest(self, timeout_s: float) -> WorldState | None:
        """Returns the newest state that has come since the last call, or None.

        Args:
            timeout_s: How long to wait for one.

        Raises:
            WorldFeedError: The publisher is gone, or publishes another scene.
        """
        select.select([self._connection], [], [], timeout_s)
        try:
            # A publisher that never pauses cannot hold us here.
            for _ in range(_MAX_READS):
                more = self._connection.recv(_RECEIVE_BYTES)
                if not more:
                    raise WorldFeedError("the world feed has ended")
                self._received += more
                self._forget_older()
        except BlockingIOError:
            pass
        except OSError as error:
            raise WorldFeedError(f"the world feed has ended: {error}") from error
        size = self._layout.num_bytes
        if len(self._received) < size:
            return None
        packet, self._received = self._received[:size], self._received[size:]
        return self._layout.unpack(packet)

    def _forget_older(self) -> None:
        """Keeps the newest whole state and the beginning of the next one."""
        if len(self._received) >= _HEADER.size:
            # Another scene has states of another size: its second one would not be understood.
            self._layout.check(self._received)
        num_whole = len(self._received) // self._layout.num_bytes
        self._received = self._received[max(num_whole - 1, 0) * self._layout.num_bytes :]

    def close(self) -> None:
        """Ends the connection; may be called twice."""
        self._connection.close()
