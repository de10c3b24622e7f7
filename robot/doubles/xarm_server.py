"""The ports of an xArm controller that is not there: what the vendor's SDK connects to.

Each connection has a thread, the reports one for all. Not for the network: there are no passwords.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from robot.clock import Clock
from robot.doubles.xarm_faults import FaultPanel
from robot.doubles.xarm_frames import MalformedFrame, Register, pack_reply, take_request
from robot.doubles.xarm_machine import XArmMachine
from robot.doubles.xarm_motion import Body
from robot.doubles.xarm_record import Identity
from robot.doubles.xarm_reports import ReportValues, pack_normal, pack_real, pack_rich

logger = logging.getLogger(__name__)
_REPORT_PERIOD_S = 0.01
SLOW_EVERY = 20
"""Normal and rich reports come with every so many of the real ones, as a real controller's do."""
# Closing a socket with this resets the connection instead of ending it.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class ControllerPorts:
    """TCP ports; 0 is any that is free. The defaults are the real controller's."""

    control: int = 502
    normal: int = 30001
    rich: int = 30002
    real: int = 30003
    admin: int = 0


ANY_PORTS = ControllerPorts(control=0, normal=0, rich=0, real=0)


class _Listener:
    """One port and the connections that came in on it."""

    def __init__(self, ip: str, port: int, serve: Callable[[socket.socket], None]) -> None:
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        self._ip, self._serve = ip, serve
        self._socket: socket.socket | None = None
        self.port = port
        self.open()

    def open(self) -> None:
        """Begins to listen, on the same port as before."""
        if self._socket is not None:
            return
        listening = socket.create_server((self._ip, self.port))
        # A blocked accept() is not woken by closing its socket: where shutting it down does not do
        # that either, it has to come up for air.
        listening.settimeout(0.05)
        self._socket, self.port = listening, listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, args=(listening,), daemon=True)
        self._thread.start()

    def shut(self) -> None:
        """Refuses new connections."""
        listening, self._socket = self._socket, None
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            # While it waits in accept() the system goes on taking connections in.
            self._thread.join()
            listening.close()

    def reset(self) -> None:
        """Cuts all connections with a reset."""
        with self.lock:
            connections, self.connections = self.connections, set()
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            # A thread that waits in recv() keeps the connection until it is woken.
            self._wake(connection)
            connection.close()

    def forget(self, connection: socket.socket) -> None:
        """Closes one connection."""
        with self.lock:
            self.connections.discard(connection)
        connection.close()

    def _accept(self, listening: socket.socket) -> None:
        while listening is self._socket:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _wake(connection: socket.socket) -> None:
        try:
            connection.shutdown(socket.SHUT_RD)
        except OSError:
            logger.debug("a connection was gone before it was cut")


class XArmController:
    """The double: a machine, its ports and its faults. A context manager.

    Args:
        body: What moves.
        clock: Time of the motion.
        ip: To listen on.
        ports: To listen on.
        identity: What it says it is.
        slow_every: Normal and rich reports come with every so many of the real ones.
        on_tick: Runs every 10 ms in the thread that sends reports, with the machine's lock held.
        obey_first: Sees lines of text before the faults do, with the lock held; None passes them
            on.
    """

    def __init__(
        self,
        body: Body,
        clock: Clock,
        *,
        ip: str = "127.0.0.1",
        ports: ControllerPorts = ANY_PORTS,
        identity: Identity | None = None,
        slow_every: int = SLOW_EVERY,
        on_tick: Callable[[], None] | None = None,
        obey_first: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.machine = XArmMachine(body, identity)
        self.faults = FaultPanel(self.machine, self)
        self._clock = clock
        self._on_tick, self._obey_first = on_tick, obey_first
        self._ending = threading.Event()
        self._control = _Listener(ip, ports.control, self._serve_control)
        self._reports: tuple[tuple[_Listener, Callable[[ReportValues], bytes], int], ...] = (
            (_Listener(ip, ports.real, lambda _: None), pack_real, 1),
            (_Listener(ip, ports.normal, lambda _: None), pack_normal, slow_every),
            (_Listener(ip, ports.rich, lambda _: None), pack_rich, slow_every),
        )
        self._admin = _Listener(ip, ports.admin, self._serve_admin)
        self.ports = ControllerPorts(
            control=self._control.port,
            real=self._reports[0][0].port,
            normal=self._reports[1][0].port,
            rich=self._reports[2][0].port,
            admin=self._admin.port,
        )
        """Where it listens."""
        self._reporter = threading.Thread(target=self._report, daemon=True)
        self._reporter.start()

    def __enter__(self) -> XArmController:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections; may be called twice."""
        self._ending.set()
        self._reporter.join()
        self.set_accepting(is_accepting=False)
        self._admin.shut()
        self.reset_connections()
        self._admin.reset()

    def obey(self, line: str) -> str:
        """Does what a line of text says; see `robot.doubles.xarm_faults`."""
        with self.machine.lock:
            answer = self._obey_first(line)
        return self.faults.obey(line) if answer is None else answer

    def reset_connections(self) -> None:
        """Cuts every connection but those of the admin port."""
        for listener in self._listeners():
            listener.reset()

    def set_accepting(self, *, is_accepting: bool) -> None:
        """Lets new connections in, or refuses them; the admin port stays as it is."""
        for listener in self._listeners():
            if is_accepting:
                listener.open()
            else:
                listener.shut()

    def _listeners(self) -> list[_Listener]:
        return [self._control, *(listener for listener, _, _ in self._reports)]

    def _serve_control(self, connection: socket.socket) -> None:
        buffer = bytearray()
        try:
            while data := connection.recv(4096):
                self._wait_for_plug()
                if connection.fileno() < 0:
                    return  # cut meanwhile: what was on its way never arrives
                buffer += data
                while (request := take_request(buffer)) is not None:
                    if self.faults.is_mute:
                        continue
                    with self.machine.lock:
                        reply = self.machine.handle(request, self._clock.now_ns())
                    self._ending.wait(self._delay_s(request.register))
                    self._wait_for_plug()
                    connection.sendall(pack_reply(request, reply))
        except (OSError, MalformedFrame) as error:
            logger.debug("a control connection ended: %s", error)
        finally:
            self._control.forget(connection)

    def _wait_for_plug(self) -> None:
        while not (self.faults.is_plugged.wait(_REPORT_PERIOD_S) or self._ending.is_set()):
            pass

    def _delay_s(self, register: int) -> float:
        of_gripper = self.faults.gripper_delay_s if register == Register.RS485_RTU else 0.0
        return max(self.faults.reply_delay_s, of_gripper)

    def _serve_admin(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rw", encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    lines.write(self.obey(line) + "\n")
                    lines.flush()
        except (OSError, UnicodeDecodeError) as error:
            logger.debug("an admin connection ended: %s", error)
        finally:
            self._admin.forget(connection)

    def _report(self) -> None:
        count = 0
        while not self._ending.wait(_REPORT_PERIOD_S):
            count += 1
            with self.machine.lock:
                self.machine.advance(self._clock.now_ns())
                values = self.machine.values()
                if self._on_tick is not None:
                    self._on_tick()
            for listener, pack, every in self._reports:
                is_sent = self.faults.is_plugged.is_set() and not self.faults.is_report_silent
                if count % every == 0 and is_sent:
                    self._send(listener, pack(values))

    def _send(self, listener: _Listener, report: bytes) -> None:
        with listener.lock:
            connections = list(listener.connections)
        for connection in connections:
            try:
                connection.sendall(report)
            except OSError:
                listener.forget(connection)
