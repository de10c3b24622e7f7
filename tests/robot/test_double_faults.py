"""Faults of the doubles of controller and camera: a pulled plug, the record, the troubles."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import pytest

from robot.clock import MonotonicClock
from robot.doubles.device_trouble import DeviceTrouble, trouble_of
from robot.doubles.xarm_motion import KinematicBody
from robot.doubles.xarm_server import XArmController
from tests.services.rig import wait_until

GET_STATE = 13
SILENT_S = 0.2


@pytest.fixture
def controller() -> Iterator[XArmController]:
    clock = MonotonicClock()
    with XArmController(KinematicBody((0.40, 0.0, 0.20), clock.now_ns()), clock) as made:
        yield made


def ask(connection: socket.socket, number: int) -> None:
    connection.sendall(struct.pack(">HHHB", number, 2, 1, GET_STATE))


def open_control(controller: XArmController) -> socket.socket:
    return socket.create_connection(("127.0.0.1", controller.ports.control), timeout=10.0)


def test_without_its_plug_nothing_comes_and_goes_and_afterwards_what_was_sent_arrives(
    controller: XArmController,
) -> None:
    with open_control(controller) as connection:
        ask(connection, 1)
        assert connection.recv(100)[:2] == b"\0\1"
        assert controller.obey("unplug") == "ok"
        ask(connection, 2)
        connection.settimeout(SILENT_S)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        assert [r.register for r in controller.machine.received].count(GET_STATE) == 1
        assert controller.obey("plug") == "ok"
        connection.settimeout(10.0)
        assert connection.recv(100)[:2] == b"\0\2"


def test_what_was_under_way_on_a_connection_that_is_cut_never_arrives(
    controller: XArmController,
) -> None:
    with open_control(controller) as connection:
        ask(connection, 1)
        connection.recv(100)
        controller.obey("unplug")
        ask(connection, 2)
        controller.obey("reset")
        controller.obey("plug")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with open_control(controller) as connection:
        ask(connection, 3)
        assert connection.recv(100)[:2] == b"\0\3"
    assert [r.register for r in controller.machine.received].count(GET_STATE) == 2


def test_the_record_has_what_came_since(controller: XArmController) -> None:
    wait_until(lambda: len(json.loads(controller.obey("record 0"))["samples"]) >= 5)
    samples = json.loads(controller.obey("record 0"))["samples"]
    since = samples[2]["t_ns"]
    later = json.loads(controller.obey(f"record {since}"))["samples"]
    assert later[0] == samples[2]
    assert all(sample["speed_m_s"] == 0.0 for sample in later)
    assert controller.obey("record yesterday").startswith("error")


def test_troubles_have_numbers_that_lead_back_to_them() -> None:
    assert trouble_of(0) is None
    for trouble in DeviceTrouble:
        assert trouble_of(trouble.number) is trouble
    with pytest.raises(ValueError, match="trouble is 0 .. 9"):
        trouble_of(10)
