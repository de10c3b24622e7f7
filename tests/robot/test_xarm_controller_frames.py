"""The double's bytes, against the SDK's own decoder and plain numbers."""

from __future__ import annotations

import dataclasses
import importlib
import struct

import numpy as np
import pytest

from robot.doubles.xarm_frames import (
    MalformedFrame,
    Register,
    Reply,
    StateBits,
    pack_reply,
    take_request,
)
from robot.doubles.xarm_reports import ReportValues, pack_normal, pack_real, pack_rich
from robot.xarm_config import XArmConfig
from robot.xarm_sdk import load_sdk

VALUES = ReportValues(
    state=2,
    mode=7,
    num_commands=3,
    joints_rad=(0.1, -0.2, 0.3, 0.4, -0.5, 0.6, -0.7),
    pose=(401.5, -20.25, 199.0, 3.14, 0.01, -0.02),
    is_enabled=True,
    error=31,
    warning=11,
    tcp_offset=(0.0, 0.0, 172.0, 0.0, 0.0, 0.0),
    tcp_load=(0.82, 1.0, 2.0, 48.0),
    collision_sensitivity=4,
    gravity=(0.0, 0.6, -0.8),
    base_offset=(100.0, -50.0, 20.0, 0.1, 0.2, 0.3),
    is_simulation=True,
    is_rebound_on=True,
    axis=7,
    arm_type=7,
    version="v1.12.10",
    speed_mm_s=123.0,
    counter=77,
    is_reduced=True,
    boundary_mm=(580, 220, 180, -180, 345, 0),
    reduced_speed_mm_s=250.0,
    reduced_joint_speed_rad_s=1.5,
    is_fence_on=True,
)


def decode(port: int, report: bytes):
    load_sdk(XArmConfig())
    layouts = importlib.import_module("xarm.x3.report").ReportDataStructure
    decoded = layouts.create(port, is_radian=True)
    assert len(decoded) == len(report)
    decoded.update(report)
    return decoded


@pytest.mark.parametrize(
    ("port", "pack"), [(30001, pack_normal), (30002, pack_rich), (30003, pack_real)]
)
def test_the_sdk_reads_the_motion_out_of_every_report(port, pack):
    decoded = decode(port, pack(VALUES))
    assert decoded.data_size == len(pack(VALUES))
    assert (decoded.state, decoded.mode, decoded.cmd_num) == (2, 7, 3)
    assert np.allclose(decoded.actual_joint_angle, VALUES.joints_rad, atol=1e-6)
    assert np.allclose(decoded.actual_tcp_pose, VALUES.pose, atol=1e-4)


@pytest.mark.parametrize(("port", "pack"), [(30001, pack_normal), (30002, pack_rich)])
def test_the_sdk_reads_errors_and_tool_out_of_the_slow_reports(port, pack):
    decoded = decode(port, pack(VALUES))
    assert (decoded.error_code, decoded.warn_code) == (31, 11)
    assert (decoded.motor_enable_status, decoded.motor_brake_status) == (0x7F, 0x7F)
    assert np.allclose(decoded.tcp_offset, VALUES.tcp_offset)
    assert np.allclose(decoded.tcp_payload, VALUES.tcp_load)
    assert decoded.collision_sens == 4
    assert np.allclose(decoded.gravity_direction, VALUES.gravity)


def test_the_sdk_reads_limits_and_identity_out_of_the_rich_report():
    decoded = decode(30002, pack_rich(VALUES))
    assert (decoded.robot_axis, decoded.robot_type, decoded.version) == (7, 7, "v1.12.10")
    assert (decoded.counter, decoded.target_tcp_speed) == (77, 123.0)
    assert decoded.reduced_tcp_boundary == [[220, 580], [-180, 180], [0, 345]]
    assert (decoded.reduced_tcp_max_speed, decoded.reduced_joint_max_speed) == (250.0, 1.5)
    assert decoded.is_reduced_mode
    assert decoded.is_fence_mode
    assert np.allclose(decoded.world_offset, VALUES.base_offset)
    assert decoded.is_simulation_robot
    assert decoded.is_collision_rebound
    still = dataclasses.replace(VALUES, is_simulation=False, is_rebound_on=False)
    decoded = decode(30002, pack_rich(still))
    assert not decoded.is_simulation_robot
    assert not decoded.is_collision_rebound


def request_bytes(register: int, data: bytes, transaction: int = 7) -> bytes:
    return struct.pack(">HHHB", transaction, 3, 1 + len(data), register) + data


def test_requests_are_taken_whole_and_in_order_however_they_arrive():
    stream = request_bytes(Register.SET_STATE, b"\x04", 1) + request_bytes(Register.GET_STATE, b"")
    buffer, taken = bytearray(), []
    for byte in stream:
        buffer.append(byte)
        while (request := take_request(buffer)) is not None:
            taken.append((request.register, request.data, request.transaction))
    assert taken == [(Register.SET_STATE, b"\x04", 1), (Register.GET_STATE, b"", 7)]
    assert buffer == b""


def test_a_reply_repeats_the_header_and_has_one_state_byte():
    request = take_request(bytearray(request_bytes(Register.GET_ERROR, b"", 513)))
    assert request is not None
    reply = pack_reply(request, Reply(state=StateBits.ERROR, data=bytes([31, 0])))
    assert reply == bytes.fromhex("0201 0003 0004 0f 40 1f 00")


@pytest.mark.parametrize("length", [0, 4097, 0xFFFF])
def test_a_length_that_no_client_sends_is_refused(length):
    with pytest.raises(MalformedFrame):
        take_request(bytearray(struct.pack(">HHHB", 1, 3, length, 11)))


def test_a_payload_too_short_for_its_register_is_refused():
    request = take_request(bytearray(request_bytes(Register.MOVE_LINE, bytes(8))))
    assert request is not None
    assert request.floats(2) == (0.0, 0.0)
    with pytest.raises(MalformedFrame):
        request.floats(3)
    with pytest.raises(MalformedFrame):
        request.byte(8)
