"""What the double does with requests: states, modes, the fence, the queue, bad payloads."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from robot.doubles.xarm_faults import FaultPanel
from robot.doubles.xarm_frames import Register, Reply, Request, StateBits
from robot.doubles.xarm_machine import XArmMachine
from robot.doubles.xarm_motion import KinematicBody
from robot.doubles.xarm_settings import TOOL_M

HOME = (0.40, 0.0, 0.20)
MS = 1_000_000


class Bench:
    """A machine and a hand on its control port."""

    def __init__(self, mode: int = 7) -> None:
        self.machine = XArmMachine(KinematicBody(HOME, 0))
        self.machine.settings.tcp_offset = (0.0, 0.0, 1000.0 * TOOL_M, 0.0, 0.0, 0.0)
        self.t_ns = 0
        self.ask(Register.MOTION_EN, b"\x08\x01")
        self.ask(Register.SET_MODE, bytes([mode, 0]))
        assert self.state() == 5
        self.ask(Register.SET_STATE, b"\x00")

    def ask(self, register: int, data: bytes = b"") -> Reply:
        request = Request(transaction=1, protocol=3, register=register, data=data)
        return self.machine.handle(request, self.t_ns)

    def move(self, place_mm, speed=250.0, acceleration=2000.0) -> Reply:
        numbers = (*place_mm, math.pi, 0.0, 0.0, speed, acceleration, 0.0, -1.0)
        return self.ask(Register.MOVE_LINE, struct.pack("<10f", *numbers) + bytes(3))

    def wait(self, duration_ms: int) -> None:
        self.t_ns += duration_ms * MS
        self.machine.advance(self.t_ns)

    def state(self) -> int:
        return self.ask(Register.GET_STATE).data[0]

    def error(self) -> int:
        return self.ask(Register.GET_ERROR).data[0]

    def place_mm(self) -> np.ndarray:
        return np.array(struct.unpack("<6f", self.ask(Register.GET_TCP_POSE).data)[:3])

    def fence(self, boundary=(580, 220, 180, -180, 345, 0)) -> None:
        self.ask(Register.SET_LIMIT_XYZ, struct.pack("<6i", *boundary))
        self.ask(Register.SET_REDUCED_TRSV, struct.pack("<f", 100.0))
        self.ask(Register.SET_REDUCED_MODE, b"\x01")
        self.ask(Register.SET_FENCE_ON, b"\x01")


def test_it_does_not_move_before_it_is_enabled_and_running():
    machine = XArmMachine(KinematicBody(HOME, 0))
    request = Request(transaction=1, protocol=3, register=Register.GET_STATE, data=b"")
    reply = machine.handle(request, 0)
    assert reply.data == b"\x04"
    assert reply.state & StateBits.NOT_READY


def test_mode_7_replaces_the_target_and_mode_0_queues_it():
    places = {}
    for mode in (7, 0):
        bench = Bench(mode)
        bench.move((450, 0, 200))
        bench.wait(20)
        bench.move((400, 60, 200))
        highest = 0.0
        for _ in range(200):
            bench.wait(10)
            highest = max(highest, float(bench.place_mm()[0]))
        assert np.allclose(bench.place_mm(), (400, 60, 200), atol=0.01)
        places[mode] = highest
    assert places[7] < 404
    assert places[0] == pytest.approx(450, abs=0.1)


def test_states_while_moving_and_standing():
    bench = Bench()
    assert bench.state() == 2
    bench.move((450, 0, 200))
    bench.wait(50)
    assert bench.state() == 1
    bench.wait(2000)
    assert bench.state() == 2


@pytest.mark.parametrize("how", [4, 6])
def test_stopping_brakes_and_holds_until_the_state_is_set_back(how):
    bench = Bench()
    bench.move((520, 0, 200))
    bench.wait(300)
    there = bench.place_mm()
    bench.ask(Register.SET_STATE, bytes([how]))
    bench.wait(1000)
    assert 0 < bench.place_mm()[0] - there[0] < 4
    assert bench.move((450, 0, 200)).state & StateBits.NOT_READY
    there = bench.place_mm()
    bench.wait(1000)
    assert np.array_equal(bench.place_mm(), there)
    assert not bench.machine.motions[-1].is_taken
    bench.ask(Register.SET_STATE, b"\x00")
    bench.move((450, 0, 200))
    bench.wait(1000)
    assert np.allclose(bench.place_mm(), (450, 0, 200), atol=0.01)


def test_changing_the_mode_stops_until_the_state_is_set():
    bench = Bench()
    bench.move((520, 0, 200))
    bench.wait(100)
    bench.ask(Register.SET_MODE, b"\x05\x00")
    assert bench.state() == 5
    bench.wait(500)
    assert bench.machine.body.speed_m_s == 0.0


def test_leaving_the_fence_is_error_35_and_stays_so_outside():
    bench = Bench()
    bench.fence()
    bench.move((450, 170, 200))
    bench.wait(3000)
    assert bench.error() == 0
    bench.move((450, 260, 200))
    bench.wait(3000)
    assert bench.error() == 35
    assert bench.state() == 4
    assert 180 < bench.place_mm()[1] < 185
    bench.ask(Register.CLEAN_ERR)
    assert bench.error() == 35


def test_the_reduced_mode_caps_the_speed():
    bench = Bench()
    bench.fence()
    bench.move((500, 0, 200), speed=900.0)
    bench.wait(500)
    assert bench.machine.body.speed_m_s == pytest.approx(0.1)


def test_velocity_mode_ends_with_its_duration():
    bench = Bench(mode=5)
    velocity = struct.pack("<6f", 0.0, 100.0, 0.0, 0.0, 0.0, 0.0) + b"\x00"
    bench.ask(Register.VC_SET_CARTV, velocity + struct.pack("<f", 0.2))
    bench.wait(100)
    assert bench.machine.body.speed_m_s == pytest.approx(0.1)
    bench.wait(2000)
    assert bench.machine.body.speed_m_s == 0.0
    assert bench.place_mm()[1] == pytest.approx(20.0, abs=1.6)


def test_velocity_mode_without_a_duration_never_ends():
    bench = Bench(mode=5)
    velocity = struct.pack("<6f", 0.0, 100.0, 0.0, 0.0, 0.0, 0.0) + b"\x00"
    bench.ask(Register.VC_SET_CARTV, velocity + struct.pack("<f", -1.0))
    bench.wait(2000)
    assert bench.machine.body.speed_m_s == pytest.approx(0.1)


@pytest.mark.parametrize("place", [(math.nan, 0, 200), (math.inf, 0, 200)])
def test_a_target_that_is_no_number_is_refused(place):
    bench = Bench()
    assert bench.move(place).state & StateBits.INVALID
    bench.wait(500)
    assert np.allclose(bench.place_mm(), (400, 0, 200))


def test_a_target_out_of_reach_is_error_21():
    bench = Bench()
    bench.move((2000, 0, 200))
    assert bench.error() == 21


def test_motion_frames_are_recorded_as_they_came():
    bench = Bench()
    bench.wait(30)
    bench.move((450, 0, 200), speed=120.0, acceleration=900.0)
    frame = bench.machine.motions[-1]
    assert frame.t_ns == 30 * MS
    assert frame.position_m == pytest.approx((0.45, 0.0, 0.2))
    assert (frame.speed_m_s, frame.acceleration_m_s2) == pytest.approx((0.12, 0.9))
    assert (frame.mode, frame.is_taken) == (7, True)


@pytest.mark.parametrize("register", [Register.MOVE_LINE, Register.SET_LIMIT_XYZ, 250])
def test_a_short_or_unknown_request_is_invalid_and_changes_nothing(register):
    bench = Bench()
    assert bench.ask(register, b"\x01").state & StateBits.INVALID
    assert bench.state() == 2


def test_the_emergency_stop_has_to_be_released_before_its_error_clears():
    bench = Bench()

    class NoLines:
        def reset_connections(self) -> None: ...
        def set_accepting(self, *, is_accepting: bool) -> None: ...

    panel = FaultPanel(bench.machine, NoLines())
    assert panel.obey("estop") == "ok"
    assert (bench.error(), bench.state(), bench.machine.is_enabled) == (1, 4, False)
    bench.ask(Register.CLEAN_ERR)
    assert bench.error() == 1
    assert panel.obey("estop release") == "ok"
    bench.ask(Register.CLEAN_ERR)
    bench.ask(Register.SET_STATE, b"\x00")
    assert (bench.error(), bench.state()) == (0, 4)
    bench.ask(Register.MOTION_EN, b"\x08\x01")
    bench.ask(Register.SET_STATE, b"\x00")
    assert bench.state() == 2
    assert panel.obey("state").startswith("state=2 mode=7 error=0")
    for line in ("", "error", "error x", "explode 3", "delay 1 2"):
        assert panel.obey(line).startswith("error")


@pytest.mark.parametrize("after_ms", [0, 50])
@pytest.mark.parametrize(
    ("register", "data"),
    [
        (Register.SET_TCP_OFFSET, struct.pack("<6f", 0, 0, 172, 0, 0, 0)),
        (Register.SET_LOAD_PARAM, struct.pack("<4f", 0.82, 0, 0, 48)),
        (Register.SET_COLLIS_SENS, b"\x03"),
    ],
)
def test_a_change_of_the_tool_has_it_begin_anew(register: int, data: bytes, after_ms: int):
    bench = Bench()
    bench.machine.begins_anew_after_ns = after_ms * MS
    bench.move((420, 0, 200))
    bench.ask(register, data)
    if after_ms:
        assert (bench.state(), bench.machine.mode) == (1, 7)
        bench.wait(after_ms)
    assert (bench.state(), bench.machine.mode) == (5, 0)
    bench.ask(Register.SET_STATE, b"\x00")
    bench.wait(1000)
    assert (bench.state(), bench.machine.mode) == (2, 0)


def test_it_tells_and_takes_the_place_of_the_point_that_the_tool_s_offset_says():
    bench = Bench(mode=0)
    bench.ask(Register.SET_TCP_OFFSET, bytes(24))
    bench.ask(Register.SET_STATE, b"\x00")
    flange_mm = bench.place_mm()
    assert flange_mm == pytest.approx((400, 0, 372), abs=1e-3)
    bench.move((420, 0, 372))
    bench.wait(2000)
    assert bench.machine.body.pose()[0] == pytest.approx((0.42, 0.0, 0.2), abs=1e-4)
