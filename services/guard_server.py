"""The guard's socket: a loop drives through it, and people stop the arm and clear its faults.

Everybody who may open the socket may ask for a stop. One connection at a time becomes the loop, by
a Hello that the guard accepts, and gets its reports. Whoever sends what is no message, or what is
not his to send, is told so in the log and disconnected; nobody is ever waited for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from robot.clock import Clock
from robot.guard import AckRefused, Guard
from robot.guard_limits import LimitsRefused
from robot.guard_messages import (
    Ack,
    Answer,
    Close,
    Command,
    Hello,
    Hold,
    Message,
    Phase,
    Reset,
    Rest,
    Stop,
    Waiting,
)
from robot.guard_wire import MAX_BYTES, WireError, pack, unpack
from robot.interfaces import NOT_CONFIRMED, RobotFault
from services.process import CannotStart

logger = logging.getLogger(__name__)

MAX_PATH_BYTES = 107
"""Longest path of a Unix socket."""
_MAX_PEERS = 8
_MESSAGES_A_TURN = 16
_CREDENTIALS = struct.Struct("3i")


@dataclass(eq=False)
class Peer:
    """Somebody who opened the socket."""

    socket: socket.socket
    pid: int
    uid: int
    is_loop: bool = False


class GuardServer:
    """Serves a guard's socket, one turn after the other; closes with `close`.

    Args:
        guard: Gets what was asked for.
        path: Where the socket is made; an old one there is removed.
        clock: When to end a turn.

    Raises:
        CannotStart: The socket cannot be made.
    """

    def __init__(self, guard: Guard, path: Path, clock: Clock) -> None:
        self._guard, self._path, self._clock = guard, path, clock
        self._peers: dict[Peer, None] = {}  # in the order in which they came
        self._said: tuple[Phase, RobotFault | None, int] | None = None
        self._selector = selectors.DefaultSelector()
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise CannotStart(f"{path}: longer than the {MAX_PATH_BYTES} bytes of a socket's path")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.settimeout(0.0)
        before = os.umask(0o177)  # there is no moment at which others could open it
        try:
            path.unlink(missing_ok=True)
            self._listener.bind(str(path))
            self._listener.listen(_MAX_PEERS)
        except OSError as error:
            self._listener.close()
            raise CannotStart(f"{path}: no socket can be made here: {error}") from error
        finally:
            os.umask(before)
        self._selector.register(self._listener, selectors.EVENT_READ, None)

    def turn(self, until_ns: int) -> None:
        """Serves whoever comes until `until_ns`, then lets the guard step and reports to the loop.

        What is there already is served first, also when that is past.
        """
        while True:
            left_s = max(0.0, (until_ns - self._clock.now_ns()) * 1e-9)
            for key, _ in self._selector.select(left_s):
                if key.data is None:
                    self._accept()
                elif key.data in self._peers:
                    self._serve(key.data)
            self._report_news()
            if self._clock.now_ns() >= until_ns:
                break
        self._guard.step()
        self._report()

    def close(self) -> None:
        """Ends all connections and removes the socket; may be called twice."""
        for peer in list(self._peers):
            self._forget(peer)
        self._listener.close()
        self._selector.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._admit(self._listener.accept()[0])

    def _admit(self, connection: socket.socket) -> None:
        connection.settimeout(0.0)
        pid, uid, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid not in (0, os.getuid()):
            reason = f"user {uid} is neither the guard's nor root"
            logger.warning("event=refused pid=%d uid=%d reason=%r", pid, uid, reason)
            connection.close()
            return
        if len(self._peers) >= _MAX_PEERS:
            # Whoever comes may come to stop the arm: room is made for them.
            oldest = next(known for known in self._peers if not known.is_loop)
            self._drop(oldest, f"{_MAX_PEERS} connections are open", is_offence=True)
        peer = Peer(connection, pid, uid)
        self._peers[peer] = None
        self._selector.register(connection, selectors.EVENT_READ, peer)

    def _serve(self, peer: Peer) -> None:
        for _ in range(_MESSAGES_A_TURN):
            try:
                raw = peer.socket.recv(MAX_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._drop(peer, f"its connection broke: {error}")
                return
            if not raw:
                self._drop(peer, "it hung up")
                return
            try:
                self._take(peer, unpack(raw))
            except WireError as error:
                self._drop(peer, str(error), is_offence=True)
            if peer not in self._peers:
                return

    def _take(self, peer: Peer, message: Message) -> None:
        """Does what a message asks for; WireError if it is not this peer's to send."""
        who = "the loop" if peer.is_loop else f"user {peer.uid}"
        match message:
            case Stop():
                cause = message.cause if peer.is_loop else None
                # A fault that the loop found waits for a person, whatever the arm was doing.
                is_kept = not peer.is_loop or cause is not None
                is_confirmed = self._guard.stop(who, is_kept=is_kept, cause=cause)
                level = logging.INFO if peer.is_loop else logging.WARNING
                logger.log(level, "event=stop_asked by=%r pid=%d uid=%d", who, peer.pid, peer.uid)
                text = "the arm was stopped" if is_confirmed else NOT_CONFIRMED
                self._answer(peer, Answer(is_ok=is_confirmed, text=text))
            case Ack() if not peer.is_loop:
                self._acknowledge(peer)
            case Hello() if not peer.is_loop:
                self._welcome(peer, message)
            case Reset() if peer.is_loop:
                self._guard.reset(message.number, message.pose)
            case Command() if peer.is_loop:
                self._guard.command(message.seq, message.target, message.t_ns)
            case Hold() if peer.is_loop:
                self._guard.hold(message.t_ns)
            case Waiting() if peer.is_loop:
                self._guard.wait(message.t_ns)
            case Rest() if peer.is_loop:
                self._guard.rest()
            case Close():
                self._forget(peer)
                if peer.is_loop:
                    self._guard.detach(is_farewell=True)
                    logger.info("event=loop_left pid=%d", peer.pid)
            case _:
                raise WireError(f"{type(message).__name__} is not for {who} to send now")

    def _welcome(self, peer: Peer, hello: Hello) -> None:
        try:
            self._guard.attach(hello.period_ns, hello.limits)
        except LimitsRefused as error:
            logger.warning("event=loop_refused pid=%d reason=%r", peer.pid, str(error))
            self._answer(peer, Answer(is_ok=False, text=str(error)))
            return
        peer.is_loop = True
        logger.info("event=loop pid=%d period_ms=%.1f", peer.pid, hello.period_ns / 1e6)
        self._answer(peer, Answer(is_ok=True, text="drive"))
        self._said = None

    def _acknowledge(self, peer: Peer) -> None:
        try:
            cleared = self._guard.acknowledge()
        except AckRefused as error:
            logger.warning("event=ack_refused uid=%d reason=%r", peer.uid, str(error))
            self._answer(peer, Answer(is_ok=False, text=str(error)))
            return
        if cleared is None:
            self._answer(peer, Answer(is_ok=True, text="no fault is latched"))
            return
        logger.warning(
            "event=acked fault=%s uid=%d pid=%d text=%r",
            cleared.code,
            peer.uid,
            peer.pid,
            cleared.message,
        )
        self._answer(peer, Answer(is_ok=True, text=f"cleared {cleared}"))

    def _answer(self, peer: Peer, answer: Answer) -> None:
        if not peer.is_loop or answer.text == "drive":
            self._send(peer, answer)

    def _report_news(self) -> None:
        """Reports at once when something changed that a loop acts upon."""
        report = self._guard.report()
        if (report.phase, report.fault, report.reset_number) != self._said:
            self._report()

    def _report(self) -> None:
        report = self._guard.report()
        self._said = (report.phase, report.fault, report.reset_number)
        for peer in [p for p in self._peers if p.is_loop]:
            self._send(peer, report)

    def _send(self, peer: Peer, message: Message) -> None:
        try:
            peer.socket.send(pack(message))
        except BlockingIOError:
            return  # it does not read; it finds what is there, and newer reports after that
        except OSError as error:
            self._drop(peer, f"its connection broke: {error}")

    def _drop(self, peer: Peer, reason: str, *, is_offence: bool = False) -> None:
        if peer not in self._peers:
            return
        self._forget(peer)
        if is_offence:
            logger.warning("event=offence pid=%d uid=%d reason=%r", peer.pid, peer.uid, reason)
        if peer.is_loop:
            logger.warning("event=loop_gone pid=%d reason=%r", peer.pid, reason)
            self._guard.detach(is_farewell=False)

    def _forget(self, peer: Peer) -> None:
        self._peers.pop(peer, None)
        self._selector.unregister(peer.socket)
        peer.socket.close()
