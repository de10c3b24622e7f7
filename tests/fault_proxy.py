"""A TCP proxy that does what networks do: cut, swallow, delay, slice, reset, damage.

It runs on a thread of its own, so that tests of blocking code can use it, and draws what is random
from its seed. The words are toxiproxy's where there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from dataclasses import dataclass, field
from types import TracebackType


@dataclass
class Toxics:
    """What happens to bytes under way; each field may be changed at any time."""

    is_blackhole: bool = False
    """Bytes vanish in both directions, connections stay open: a half-open TCP connection."""
    latency_s: float = 0.0
    """Every piece is delayed by this, plus or minus `jitter_s`."""
    jitter_s: float = 0.0
    slice_bytes: int = 0
    """Pieces are passed on in slices of this many bytes; 0 for as they come."""
    reset_after_bytes: int = 0
    """Each connection is reset once it has carried so many bytes; 0 for never."""
    flip_every_bytes: int = 0
    """One bit in about so many bytes to the server is flipped; 0 for none."""


@dataclass(eq=False)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    num_bytes: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class FaultProxy:
    """Listens on a port of its own and passes everything on to `upstream`, with faults.

    Args:
        upstream: HOST:PORT of the real server; may be changed when that one moves.
        seed: Of the jitter and of the flipped bits.
    """

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self.upstream = upstream
        self.toxics = Toxics()
        self.num_connections = 0
        self.num_flips = 0
        self._rng = random.Random(seed)
        self._links: set[_Link] = set()
        self._is_down = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{port}"

    def cut(self) -> None:
        """Closes every connection and refuses new ones until `heal`."""
        self._is_down = True
        self._run(self._close_all(is_reset=False))

    def reset(self) -> None:
        """Resets every connection (RST); new ones are welcome."""
        self._run(self._close_all(is_reset=True))

    def heal(self) -> None:
        """Takes every fault away. What was swallowed is gone, so those connections are reset."""
        was_blackhole = self.toxics.is_blackhole
        self._is_down = False
        self.toxics = Toxics()
        if was_blackhole:
            self.reset()

    def close(self) -> None:
        """Ends the proxy and its thread."""
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)

    async def _shut(self) -> None:
        self._server.close()  # in its loop's thread: connections that end just now count down too
        await self._close_all(is_reset=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        if self._is_down:
            _close(writer, is_reset=True)
            return
        host, _, port = self.upstream.rpartition(":")
        try:
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            _close(writer, is_reset=True)
            return
        link = _Link(writer, up_writer)
        self._links.add(link)
        link.tasks = [
            asyncio.ensure_future(self._pump(link, reader, up_writer)),
            asyncio.ensure_future(self._pump(link, up_reader, writer)),
        ]
        await asyncio.wait(link.tasks, return_when=asyncio.FIRST_COMPLETED)
        self._end(link, is_reset=False)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(64 << 10):
                toxics = self.toxics
                if toxics.latency_s or toxics.jitter_s:
                    delay = toxics.latency_s + self._rng.uniform(-1, 1) * toxics.jitter_s
                    await asyncio.sleep(max(0.0, delay))
                if self.toxics.is_blackhole:
                    continue
                if toxics.flip_every_bytes and writer is link.server:
                    data = self._damaged(data, toxics.flip_every_bytes)
                for piece in _slices(data, toxics.slice_bytes):
                    writer.write(piece)
                    await writer.drain()
                    if toxics.slice_bytes:
                        await asyncio.sleep(0)
                link.num_bytes += len(data)
                if toxics.reset_after_bytes and link.num_bytes >= toxics.reset_after_bytes:
                    self._end(link, is_reset=True)
                    return

    def _damaged(self, data: bytes, every: int) -> bytes:
        damaged = bytearray(data)
        for _ in range(len(data) // every + (self._rng.random() < (len(data) % every) / every)):
            self.num_flips += 1
            damaged[self._rng.randrange(len(damaged))] ^= 1 << self._rng.randrange(8)
        return bytes(damaged)

    async def _close_all(self, *, is_reset: bool) -> None:
        for link in list(self._links):
            self._end(link, is_reset=is_reset)

    def _end(self, link: _Link, *, is_reset: bool) -> None:
        self._links.discard(link)
        for task in link.tasks:
            task.cancel()
        for writer in (link.client, link.server):
            _close(writer, is_reset=is_reset)


def _slices(data: bytes, size: int) -> list[bytes]:
    if not size:
        return [data]
    return [data[i : i + size] for i in range(0, len(data), size)]


def _close(writer: asyncio.StreamWriter, *, is_reset: bool) -> None:
    found = writer.get_extra_info("socket")
    if is_reset and found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort() if is_reset else writer.close()
