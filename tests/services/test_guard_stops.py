"""Over the guard's socket: what a stop is answered, which stay, and who may not clear them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot.fault_store import FaultStore, StoredFault
from robot.guard import Guard
from robot.guard_link import SocketLink
from robot.guard_messages import Ack, Answer, Phase, Stop
from robot.guard_wire import pack
from robot.guarded_arm import GuardedArm
from robot.interfaces import NOT_CONFIRMED, ResetAbandoned, RobotFault, StartPose
from robot.safety import SafetyLimits
from services.guard_server import GuardServer
from tests.robot.guard_rig import LIMITS, PERIOD_NS
from tests.robot.recording_arm import TellingArm
from tests.services.test_guard_server import START, ServerRig

MS = 1_000_000
FAR = StartPose(position_m=(0.50, 0.10, 0.05), gripper_opening=0.6)
STALE = RobotFault("camera_stale", "nothing new for 1.0 s")


class StopsRig(ServerRig):
    """A guard behind its socket, over an arm that says whether it stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = FaultStore(Path(self.folder.name) / "fault.json")
        self.start_again()

    def start_again(self) -> None:
        """Puts a new guard in the place of the one before; it finds what that left on disk."""
        self.server.close()
        self.guard.shut_down()
        self.record.clear()
        self.real = TellingArm(self.clock, self.record.append)
        self.guard = Guard(self.real, LIMITS, self.clock, self.faults)
        self.guard.connect()
        self.server = GuardServer(self.guard, self.path, self.clock)

    def num_stops(self) -> int:
        return [entry.kind for entry in self.record].count("stop")

    def stored(self) -> StoredFault:
        """Returns the fault on disk; there must be one."""
        stored = self.faults.load()
        assert stored is not None
        return stored


@pytest.fixture
def rig() -> Iterator[StopsRig]:
    made = StopsRig()
    yield made
    made.close()


@pytest.fixture
def driving(rig: StopsRig) -> GuardedArm:
    """A loop that moves the arm."""
    return rig.drive()


def test_a_person_hears_that_the_arm_did_not_confirm_their_stop(
    rig: StopsRig, driving: GuardedArm
) -> None:
    rig.real.is_deaf = True
    assert rig.answer(Stop()) == Answer(is_ok=False, text=NOT_CONFIRMED)
    assert driving.fault is not None
    assert driving.fault.message.endswith(f"; {NOT_CONFIRMED}")
    assert rig.stored().message == driving.fault.message
    num_stops = rig.num_stops()
    rig.clock.advance(3000 * MS)
    assert rig.num_stops() == num_stops + 3
    rig.real.is_deaf = False
    assert rig.answer(Stop()) == Answer(is_ok=True, text="the arm was stopped")
    rig.clock.advance(3000 * MS)
    assert rig.num_stops() == num_stops + 4


def test_an_arm_that_breaks_at_the_stop_is_answered_for_and_the_guard_goes_on(
    rig: StopsRig, driving: GuardedArm
) -> None:
    rig.real.error = IndexError("list index out of range")
    assert rig.answer(Stop()) == Answer(is_ok=False, text=NOT_CONFIRMED)
    assert rig.stored().code == "stopped"
    rig.real.error = None
    rig.clock.advance(1000 * MS)
    assert driving.fault is not None
    assert rig.answer(Ack()).is_ok
    driving.reset(START)


def test_a_guard_that_found_a_fault_on_disk_confirms_no_stop(rig: StopsRig) -> None:
    assert rig.answer(Stop()).is_ok
    rig.start_again()
    assert not rig.real.is_connected
    assert rig.answer(Stop()) == Answer(is_ok=False, text=NOT_CONFIRMED)
    assert rig.record == []
    assert rig.answer(Ack()).is_ok
    assert rig.answer(Stop()) == Answer(is_ok=True, text="the arm was stopped")


def at_rest(rig: StopsRig, phase: Phase) -> GuardedArm:
    """Returns a loop's arm before its first command: just connected, or at its start."""
    arm = rig.arm()
    arm.connect()
    if phase is Phase.READY:
        arm.reset(START)
    assert rig.guard.phase is phase
    return arm


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.READY])
def test_a_fault_that_the_loop_found_before_its_first_command_outlives_the_guard(
    rig: StopsRig, phase: Phase
) -> None:
    at_rest(rig, phase).stop(STALE)
    rig.clock.advance(20 * MS)
    stored = rig.stored()
    assert str(stored.fault()) == str(STALE)
    assert stored.doing == phase.name.lower()
    rig.start_again()
    assert rig.guard.phase is Phase.LATCHED


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.READY])
def test_a_loop_that_ends_while_nothing_moves_leaves_no_fault(rig: StopsRig, phase: Phase) -> None:
    at_rest(rig, phase).stop()
    rig.clock.advance(20 * MS)
    assert rig.guard.fault is not None
    assert rig.guard.fault.code == "stopped"
    assert rig.faults.load() is None
    rig.start_again()
    assert rig.guard.phase is Phase.IDLE


def test_a_loop_that_clears_a_fault_itself_is_hung_up_on_and_the_fault_stays(
    rig: StopsRig, driving: GuardedArm, caplog: pytest.LogCaptureFixture
) -> None:
    driving.stop(STALE)
    rig.clock.advance(20 * MS)
    assert driving._link is not None
    with caplog.at_level(logging.WARNING):
        driving._link.send(pack(Ack()))
        rig.clock.advance(20 * MS)
    assert "event=offence" in caplog.text
    assert "Ack is not for the loop to send" in caplog.text
    assert rig.guard.report().num_acks == 0
    assert str(rig.guard.fault) == str(rig.stored().fault()) == str(STALE)
    with pytest.raises(RobotFault, match="guard_gone"):
        driving.state()
    assert rig.answer(Ack()).text == f"cleared {STALE}"
    rig.arm().connect()


def test_a_reset_that_is_broken_off_brakes_the_arm_and_lets_go_of_the_guard(rig: StopsRig) -> None:
    links: list[SocketLink] = []

    def open_link() -> SocketLink:
        links.append(SocketLink(rig.path))
        return links[-1]

    def is_on_its_way() -> bool:
        return rig.record != [] and rig.record[-1].speed_m_s > 0.1

    arm = GuardedArm(
        open_link,
        rig.clock,
        period_ns=PERIOD_NS,
        limits=SafetyLimits(),
        should_stop=is_on_its_way,
    )
    arm.connect()
    with pytest.raises(ResetAbandoned):
        arm.reset(FAR)
    assert [link._socket.fileno() for link in links] == [-1]
    # Before the guard would miss the loop, which takes it two periods.
    rig.clock.advance(PERIOD_NS)
    place = rig.real.state().position_m
    rig.clock.advance(30 * PERIOD_NS)
    assert rig.real.state().position_m == place
    assert math.dist(place, FAR.position_m) > 0.05
    assert rig.num_stops() == 0, "it braked, which leaves nothing to be cleared"
    assert (rig.guard.phase, rig.guard.fault, rig.faults.load()) == (Phase.IDLE, None, None)
    assert arm.fault is None
    with pytest.raises(RobotFault, match="not_connected"):
        arm.reset(FAR)
    again = rig.arm()
    again.connect()
    again.reset(FAR)
