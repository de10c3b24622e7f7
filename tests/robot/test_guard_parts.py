"""The guard's limits, the fault on disk, and the bytes that loop and guard exchange."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.fault_store import UNREADABLE, FaultStore
from robot.guard_limits import GuardLimits
from robot.guard_messages import (
    Ack,
    Answer,
    Close,
    Command,
    Hello,
    Hold,
    Message,
    Phase,
    Report,
    Reset,
    Rest,
    Stop,
)
from robot.guard_wire import MAX_BYTES, WireError, pack, unpack
from robot.interfaces import ArmState, RobotFault, StartPose, ToolTarget
from robot.safety import SafetyLimits
from robot.xarm_config import XArmConfig
from tests.robot.guard_rig import LIMITS

STATE = ArmState(
    position_m=(0.4, -0.1, 0.2),
    rotation_rad=(math.pi, 0.0, -0.5),
    gripper_opening=0.25,
    is_gripper_stuck=True,
    t_ns=123,
)
MESSAGES: list[Message] = [
    Hello(period_ns=100_000_000, limits=SafetyLimits(max_step_m=0.01)),
    Reset(number=7, pose=StartPose(position_m=(0.4, 0.0, 0.1), gripper_opening=0.5)),
    Command(
        seq=2**40, t_ns=2**60, target=ToolTarget(position_m=(1e38, -0.0, 5e-324), gripper_opening=1)
    ),
    Rest(),
    Hold(t_ns=2**60),
    Stop(),
    Close(),
    Ack(),
    Answer(is_ok=False, text="the loop goes further:\nbox_low_m x"),
    Report(phase=Phase.IDLE, t_ns=1),
    Report(
        phase=Phase.LATCHED,
        t_ns=2,
        state=STATE,
        seq=3,
        reset_number=4,
        num_holds=5,
        num_ignored=6,
        num_acks=7,
    ),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_wire(message: Message):
    assert unpack(pack(message)) == message
    assert len(pack(message)) < MAX_BYTES


def test_a_fault_survives_the_wire_and_a_long_one_is_cut():
    fault = RobotFault("collision", "ä" * 1000)
    there = unpack(pack(Report(phase=Phase.LATCHED, t_ns=1, fault=fault)))
    assert isinstance(there, Report)
    assert there.fault is not None
    assert there.fault.code == "collision"
    assert there.fault.message == "ä" * 128


def test_a_stop_says_why_where_there_is_a_reason():
    there = unpack(pack(Stop(cause=RobotFault("camera_stale", "nothing new for 1.0 s"))))
    assert isinstance(there, Stop)
    assert str(there.cause) == "camera_stale: nothing new for 1.0 s"
    assert unpack(pack(Stop())) == Stop(cause=None)


def test_what_is_no_number_gets_through_to_be_latched():
    command = Command(
        seq=1, t_ns=1, target=ToolTarget(position_m=(math.nan, math.inf, 0), gripper_opening=0)
    )
    there = unpack(pack(command))
    assert isinstance(there, Command)
    assert math.isnan(there.target.position_m[0])
    assert there.target.position_m[1] == math.inf


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_of_another_length_kind_or_version_is_refused(message: Message):
    raw = pack(message)
    for wrong, reason in [
        (raw[:-1], "bytes"),
        (raw + b"\0", "bytes"),
        (b"", "too short"),
        (raw[:2] + b"\x02" + raw[3:], "version 2"),
        (raw[:2] + b"\x00" + raw[3:], "version 0"),
        (b"XX" + raw[2:], "begins with"),
        (raw[:3] + b"\xff" + raw[4:], "no message of kind 255"),
    ]:
        with pytest.raises(WireError, match=reason):
            unpack(wrong)


@given(st.binary(max_size=MAX_BYTES))
def test_random_bytes_are_a_message_or_a_wire_error(raw: bytes):
    try:
        unpack(raw)
    except WireError:
        return
    assert raw[:2] == b"OG"


def test_mutated_messages_are_messages_or_wire_errors():
    rng = random.Random(7)
    num_refused = 0
    for _ in range(20_000):
        raw = bytearray(pack(rng.choice(MESSAGES)))
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        try:
            unpack(bytes(raw))
        except WireError:
            num_refused += 1
    assert num_refused > 1000


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_a_hello_with_limits_that_cannot_be_is_refused(bad: float):
    limits = SafetyLimits()
    object.__setattr__(limits, "max_speed_m_s", bad)
    with pytest.raises(WireError, match=r"Hello that cannot be: max_speed_m_s"):
        unpack(pack(Hello(period_ns=1, limits=limits)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"box_low_m": (0.25, math.nan, 0.0)}, "box_low_m"),
        ({"box_low_m": (0.6, -0.15, 0.015)}, "box_low_m"),
        ({"box_high_m": (math.inf, 0.15, 0.3)}, "box_low_m and box_high_m"),
        ({"max_step_m": 0.0}, "max_step_m"),
        ({"max_speed_m_s": -1.0}, "max_speed_m_s"),
        ({"max_speed_m_s": math.inf}, "max_speed_m_s"),
        ({"max_acceleration_m_s2": math.nan}, "max_acceleration_m_s2"),
        ({"max_lag_m": 0.0}, "max_lag_m"),
        ({"max_outside_m": 0.0}, "max_outside_m"),
        ({"max_tilt_rad": 0.0}, "max_tilt_rad"),
        ({"max_period_s": 0.0}, "max_period_s"),
        ({"max_period_s": 0.01}, "max_period_s"),
        ({"reset_reach_m": -0.1}, "reset_reach_m"),
        ({"start": StartPose(position_m=(0.0, 0.0, 0.1))}, "start"),
        ({"start": StartPose(position_m=(0.4, 0.0, 0.1), gripper_opening=2.0)}, "start"),
        ({"crossing_height_m": 0.4}, "crossing_height_m"),
        ({"box_low_m": (0.21, -0.15, 0.015)}, "fence"),
        ({"box_low_m": (0.235, -0.15, 0.015)}, "in x the box is 15 mm inside the fence"),
        ({"box_high_m": (0.55, 0.161, 0.315)}, "in y the box is 19 mm inside the fence"),
        ({"box_high_m": (0.55, 0.15, 0.33)}, "in z the box is 15 mm inside the fence"),
        ({"hold_acceleration_m_s2": 1.9}, "hold_acceleration_m_s2"),
        ({"hold_acceleration_m_s2": 51.0}, "hold_acceleration_m_s2"),
        ({"hold_acceleration_m_s2": math.inf}, "hold_acceleration_m_s2"),
        ({"reset_speed_m_s": 0.26}, "reset_speed_m_s"),
        ({"reset_speed_m_s": 0.0}, "reset_speed_m_s"),
        ({"reset_speed_m_s": math.nan}, "reset_speed_m_s"),
        ({"max_speed_m_s": 0.2}, "xarm.speed_m_s"),
        ({"max_acceleration_m_s2": 1.0}, "xarm.acceleration_m_s2"),
    ],
)
def test_limits_that_cannot_be_are_refused_by_name(change, named: str):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(LIMITS, **change)


def test_limits_may_be_narrower_than_the_controller_s():
    slow = XArmConfig(speed_m_s=0.1, acceleration_m_s2=1.0)
    limits = dataclasses.replace(LIMITS, max_speed_m_s=0.1, reset_speed_m_s=0.1, xarm=slow)
    assert limits.max_speed_m_s == 0.1


def test_a_box_20_mm_inside_the_fence_will_do():
    near = dataclasses.replace(LIMITS, box_low_m=(0.24, -0.16, 0.01))
    assert near.xarm is not None


def test_another_robot_has_a_box_of_its_own_and_no_fence_of_an_xarm():
    limits = GuardLimits(
        box_low_m=(0.3, -0.3, 0.4),
        box_high_m=(0.6, 0.3, 0.8),
        start=StartPose(position_m=(0.4, 0.0, 0.5)),
        crossing_height_m=0.6,
    )
    assert limits.xarm is None
    with pytest.raises(ValueError, match="crossing_height_m"):
        dataclasses.replace(limits, crossing_height_m=0.25)


def test_a_box_contains_its_border_and_nothing_that_is_no_number():
    assert LIMITS.contains(LIMITS.box_low_m)
    assert not LIMITS.contains((0.4, 0.0, 0.3151))
    assert LIMITS.contains((0.4, 0.0, 0.3151), 0.001)
    assert not LIMITS.contains((0.4, math.nan, 0.1), 1.0)
    assert not LIMITS.contains((0.4, math.inf, 0.1), 1.0)


def test_a_fault_survives_on_disk(tmp_path: Path):
    store = FaultStore(tmp_path / "fault.json", unix_s=lambda: 12.5)
    assert store.load() is None
    store.save(RobotFault("collision", "C31\nwith the table"), "moving")
    stored = FaultStore(tmp_path / "fault.json").load()
    assert stored is not None
    assert (stored.code, stored.message) == ("collision", "C31\nwith the table")
    assert (stored.unix_s, stored.doing) == (12.5, "moving")
    assert str(stored.fault()) == "collision: C31\nwith the table"
    assert os.listdir(tmp_path) == ["fault.json"]
    store.clear()
    store.clear()
    assert store.load() is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"code": "x"}', '{"code":1,"message":2,"unix_s":"a","doing":3}'],
)
def test_a_fault_file_that_cannot_be_read_is_a_fault(tmp_path: Path, text: str):
    path = tmp_path / "fault.json"
    path.write_text(text)
    stored = FaultStore(path).load()
    assert stored is not None
    assert stored.code == UNREADABLE
    path.write_bytes(b"\xff\xfe")
    assert FaultStore(path).load() is not None


def test_a_fault_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch):
    store = FaultStore(tmp_path / "fault.json")
    store.save(RobotFault("first", "one"), "moving")

    def full(_descriptor: int) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        store.save(RobotFault("second", "two"), "moving")
    stored = store.load()
    assert stored is not None
    assert stored.code == "first"
    assert os.listdir(tmp_path) == ["fault.json"]


def test_the_file_is_synced_before_it_is_renamed_and_the_folder_after(tmp_path: Path, monkeypatch):
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        happened.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        happened.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    FaultStore(tmp_path / "fault.json").save(RobotFault("a", "b"), "moving")
    assert happened[0].startswith(".fault.json")
    assert happened[1:] == ["rename", tmp_path.name]
    assert json.loads((tmp_path / "fault.json").read_text())["code"] == "a"


def test_the_limits_of_the_guard_know_no_wider_loop():
    assert LIMITS.excess_of(0.1, SafetyLimits()) == []
    narrow = GuardLimits(box_low_m=(0.3, -0.1, 0.1), box_high_m=(0.5, 0.1, 0.3))
    assert len(narrow.excess_of(1.0, SafetyLimits())) == 7
