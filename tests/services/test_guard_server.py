"""The guard's socket: who may drive, who may stop, and what becomes of those who talk nonsense."""

from __future__ import annotations

import logging
import math
import os
import random
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot.fault_store import FaultStore
from robot.guard import Guard
from robot.guard_link import SocketLink
from robot.guard_messages import (
    Ack,
    Answer,
    Close,
    Command,
    Hello,
    Message,
    Phase,
    Report,
    Reset,
    Rest,
    Stop,
)
from robot.guard_wire import pack, unpack
from robot.guarded_arm import GuardedArm
from robot.interfaces import RobotFault, StartPose, ToolTarget
from robot.safety import SafetyLimits
from services.guard_server import GuardServer
from services.process import CannotStart
from tests.contracts.arm import ArmContract
from tests.robot.guard_rig import LIMITS, PERIOD_NS, GuardClock
from tests.robot.recording_arm import Entry, RecordingArm

START = StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=0.6)


class ServerRig:
    """A guard behind its socket, served in this thread as a simulated clock runs."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "guard.sock"
        self.clock = GuardClock()
        self.record: list[Entry] = []
        real = RecordingArm(self.clock, self.record.append)
        faults = FaultStore(Path(self.folder.name) / "fault.json")
        self.guard = Guard(real, LIMITS, self.clock, faults)
        self.guard.connect()
        self.server = GuardServer(self.guard, self.path, self.clock)
        self.clock.on_cycle = lambda: self.server.turn(self.clock.now_ns())
        self.arms: list[GuardedArm] = []

    def arm(self, limits: SafetyLimits | None = None) -> GuardedArm:
        arm = AckedArm(
            lambda: SocketLink(self.path),
            self.clock,
            period_ns=PERIOD_NS,
            limits=limits or SafetyLimits(),
        )
        arm.rig = self
        self.arms.append(arm)
        return arm

    def drive(self) -> GuardedArm:
        """Returns the arm of a loop that moves it."""
        arm = self.arm()
        arm.connect()
        arm.reset(START)
        arm.command(ToolTarget(position_m=(0.41, 0.0, 0.12), gripper_opening=0.6))
        self.clock.advance(20_000_000)
        assert self.guard.phase is Phase.MOVING
        return arm

    def open(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.settimeout(0.0)
        made.connect(str(self.path))
        return made

    def ask(self, raw: bytes) -> bytes | None:
        """Sends bytes over a new connection; returns the answer, empty if hung up on."""
        with self.open() as peer:
            peer.send(raw)
            self.clock.advance(30_000_000)
            try:
                return peer.recv(512)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                return b""

    def answer(self, message: Message) -> Answer:
        raw = self.ask(pack(message))
        assert raw
        there = unpack(raw)
        assert isinstance(there, Answer)
        return there

    def close(self) -> None:
        for arm in self.arms:
            arm.close()
        self.server.close()
        self.folder.cleanup()


class AckedArm(GuardedArm):
    """Has a person at hand whenever a fault is to be cleared."""

    rig: ServerRig

    def clear_fault(self) -> None:
        assert self.rig.answer(Ack()).is_ok


class TestGuardedArmOverASocket(ArmContract):
    @pytest.fixture(autouse=True)
    def _rigs(self):
        self.rigs: list[ServerRig] = []
        yield
        for rig in self.rigs:
            rig.close()

    def make_arm(self):
        rig = ServerRig()
        self.rigs.append(rig)
        return rig.arm(), rig.clock


@pytest.fixture
def rig() -> Iterator[ServerRig]:
    made = ServerRig()
    yield made
    made.close()


@pytest.fixture
def driving(rig: ServerRig) -> GuardedArm:
    """A loop that moves the arm."""
    return rig.drive()


def nonsense() -> dict[str, bytes]:
    """Returns, by name, what must not be sent by somebody who is not the loop."""
    state = Report(phase=Phase.IDLE, t_ns=1)
    command = Command(seq=1, t_ns=1, target=ToolTarget(position_m=(0, 0, 0), gripper_opening=0))
    hello = Hello(period_ns=PERIOD_NS, limits=SafetyLimits())
    whole: list[Message] = [
        hello,
        Reset(number=1, pose=START),
        command,
        Rest(),
        Stop(),
        Close(),
        Ack(),
        Answer(is_ok=True, text=""),
        state,
    ]
    made = {}
    for message in whole:
        name, raw = type(message).__name__, pack(message)
        made |= {
            f"{name} cut": raw[:-1],
            f"{name} longer": raw + b"\0",
            f"{name} of version 9": raw[:2] + b"\x09" + raw[3:],
            f"{name} without the letters": b"go" + raw[2:],
            f"{name} far too long": raw + bytes(60_000),
        }
        if isinstance(message, Reset | Command | Rest | Answer | Report):
            made[f"{name} of a stranger"] = raw
    bad = bytearray(pack(hello))
    bad[-8:] = b"\xff" * 8
    made["Hello with NaN"] = bytes(bad)
    made["a kind that is none"] = b"OG\x01\x63"
    made["one byte"] = b"x"
    made["text"] = b"GET / HTTP/1.1\r\n\r\n"
    return made


@pytest.mark.parametrize("raw", [pytest.param(v, id=k) for k, v in nonsense().items()])
def test_who_talks_nonsense_is_hung_up_on_and_nobody_else_notices(
    rig: ServerRig, driving: GuardedArm, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    before = rig.guard.report()
    with caplog.at_level(logging.WARNING):
        assert rig.ask(raw) == b""
    (line,) = [r.getMessage() for r in caplog.records if "event=offence" in r.getMessage()]
    assert f"pid={os.getpid()} uid={os.getuid()} reason=" in line
    after = rig.guard.report()
    assert (after.phase, after.fault, after.seq) == (Phase.MOVING, None, before.seq)
    driving.command(ToolTarget(position_m=(0.42, 0.0, 0.12), gripper_opening=0.6))
    rig.clock.advance(20_000_000)
    assert rig.guard.report().seq == before.seq + 1


@pytest.mark.parametrize("raw", [b"x", pack(Hello(period_ns=PERIOD_NS, limits=SafetyLimits()))])
def test_a_loop_that_talks_nonsense_while_it_drives_is_gone(
    rig: ServerRig, driving: GuardedArm, raw: bytes
) -> None:
    assert driving._link is not None
    driving._link.send(raw)
    rig.clock.advance(20_000_000)
    assert rig.guard.fault is not None
    assert rig.guard.fault.code == "loop_gone"
    assert rig.record[-1].kind == "stop"


def test_a_loop_that_looked_away_finds_old_reports_and_waits_for_a_new_one(
    rig: ServerRig, driving: GuardedArm
) -> None:
    driving.rest()
    rig.clock.advance(20_000_000)
    position = driving.state().position_m
    rig.clock.advance(60 * 10**9)  # far more reports than the socket holds
    state = driving.state()
    assert rig.clock.now_ns() - state.t_ns < 250_000_000
    assert state.position_m == pytest.approx(position, abs=0.02)
    rig.clock.advance(60 * 10**9)
    driving.reset(START)
    assert driving.fault is None


def test_a_loop_says_why_it_stops(rig: ServerRig, driving: GuardedArm) -> None:
    cause = RobotFault("camera_stale", "nothing new for 1.0 s")
    driving.stop(cause)
    rig.clock.advance(20_000_000)
    assert rig.guard.fault is not None
    assert str(rig.guard.fault) == str(cause)


@pytest.mark.usefixtures("driving")
def test_nobody_else_says_why(rig: ServerRig) -> None:
    assert rig.answer(Stop(cause=RobotFault("camera_stale", "so they say"))).is_ok
    assert rig.guard.fault is not None
    assert rig.guard.fault.code == "stopped"


def test_anybody_here_may_stop_the_arm_and_clear_its_fault(
    rig: ServerRig, driving: GuardedArm, caplog: pytest.LogCaptureFixture
) -> None:
    assert rig.answer(Stop()) == Answer(is_ok=True, text="the arm was stopped")
    assert rig.record[-1].kind == "stop"
    fault = driving.fault
    assert fault is not None
    assert fault.message == f"motion was stopped by user {os.getuid()}"
    assert (Path(rig.folder.name) / "fault.json").exists()
    with caplog.at_level(logging.WARNING):
        answer = rig.answer(Ack())
    assert answer == Answer(is_ok=True, text=f"cleared {fault}")
    (line,) = [r.getMessage() for r in caplog.records if "event=acked" in r.getMessage()]
    assert f"fault=stopped uid={os.getuid()} pid={os.getpid()}" in line
    assert not (Path(rig.folder.name) / "fault.json").exists()
    assert rig.answer(Ack()) == Answer(is_ok=True, text="no fault is latched")


def test_a_loop_that_would_go_further_is_told_why_and_may_not_drive(rig: ServerRig) -> None:
    with pytest.raises(RobotFault, match="max_speed_m_s: the loop has 0.3, the guard allows 0.25"):
        rig.arm(SafetyLimits(max_speed_m_s=0.3)).connect()
    arm = rig.arm()
    arm.connect()
    with pytest.raises(RobotFault, match="another loop drives"):
        rig.arm().connect()
    arm.close()
    rig.clock.advance(20_000_000)
    rig.arm().connect()


def test_a_loop_that_waits_for_its_guard_finds_it(rig: ServerRig) -> None:
    rig.server.close()
    server: list[GuardServer] = []
    began_ns = rig.clock.now_ns()

    def start_late() -> None:
        if not server and rig.clock.now_ns() - began_ns > 10**9:
            server.append(GuardServer(rig.guard, rig.path, rig.clock))
        if server:
            server[0].turn(rig.clock.now_ns())

    rig.clock.on_cycle = start_late
    arm = rig.arm()
    arm.connect()
    assert arm.fault is None
    server[0].close()


def test_a_loop_that_finds_no_guard_says_so(rig: ServerRig) -> None:
    rig.server.close()
    rig.clock.on_cycle = lambda: None
    with pytest.raises(RobotFault) as caught:
        rig.arm().connect()
    assert caught.value.code == "guard_gone"
    assert str(rig.path) in caught.value.message


def test_a_guard_that_ends_is_a_fault_of_the_arm(rig: ServerRig, driving: GuardedArm) -> None:
    rig.server.close()
    rig.clock.on_cycle = lambda: None
    with pytest.raises(RobotFault) as caught:
        driving.command(ToolTarget(position_m=(0.42, 0.0, 0.12), gripper_opening=0.6))
    assert caught.value.code == "guard_gone"


def test_the_socket_is_its_owner_s_alone_and_an_old_one_is_replaced(rig: ServerRig) -> None:
    assert stat.S_IMODE(rig.path.stat().st_mode) == 0o600
    with pytest.raises(CannotStart, match="longer than"):
        GuardServer(rig.guard, Path("/tmp") / ("x" * 120), rig.clock)  # noqa: S108
    with pytest.raises(CannotStart, match="no socket can be made"):
        GuardServer(rig.guard, Path("/nowhere/guard.sock"), rig.clock)
    rig.server.close()
    rig.path.write_text("left by one that was killed")
    rig.server = GuardServer(rig.guard, rig.path, rig.clock)
    rig.arm().connect()


def test_one_peer_too_many_takes_the_place_of_the_oldest_that_does_not_drive(
    rig: ServerRig,
) -> None:
    loop = rig.open()
    loop.send(pack(Hello(period_ns=PERIOD_NS, limits=SafetyLimits())))
    peers = [rig.open() for _ in range(7)]
    rig.clock.advance(20_000_000)
    assert rig.answer(Ack()).is_ok
    assert peers[0].recv(10) == b"", "the oldest was hung up on"
    assert rig.answer(Stop()).is_ok
    assert rig.guard.fault is not None
    assert rig.guard.fault.code == "stopped", "the loop was not"
    for peer in [loop, *peers]:
        peer.close()


def test_a_loop_that_does_not_read_keeps_nobody_waiting(rig: ServerRig) -> None:
    loop = rig.open()
    loop.send(pack(Hello(period_ns=PERIOD_NS, limits=SafetyLimits())))
    rig.clock.advance(60 * 10**9)
    assert rig.guard.phase is Phase.IDLE
    assert rig.answer(Stop()).is_ok
    loop.close()


def test_a_thousand_hostile_targets_over_the_socket_move_the_arm_within_the_box(
    rig: ServerRig,
) -> None:
    logging.disable(logging.CRITICAL)
    rng, num_refused = random.Random(4), 0
    arm = rig.arm()
    arm.connect()
    arm.reset(START)
    place = START.position_m
    for _ in range(1000):
        odd = [math.nan, math.inf, 1e38, 0.6, 0.0]
        x, y, z = (
            rng.choice(odd) if rng.random() < 0.03 else at + rng.uniform(-0.013, 0.013)
            for at in place
        )
        try:
            arm.command(ToolTarget(position_m=(x, y, z), gripper_opening=rng.random()))
        except RobotFault:
            pass
        else:
            place = (x, y, z)
        rig.clock.advance(PERIOD_NS)
        if arm.fault is not None:
            num_refused += 1
            arm.clear_fault()
            arm.reset(START)
            place = START.position_m
    logging.disable(logging.NOTSET)
    targets = [entry.target for entry in rig.record if entry.kind == "command"]
    assert all(LIMITS.contains(target) for target in targets)
    assert num_refused > 50
    assert len(targets) > 700
