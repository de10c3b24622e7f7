"""An actor of a real arm is told in words what is missing, before anything is touched."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from robot.calibration import Calibration
from robot.sim.env import make_sim_spec
from robot.xarm_config import XArmConfig
from services.actor_cell import check_cell
from services.actor_config import ActorConfig
from services.actor_robot import robot_spec
from services.cell_bench import cell_bench
from services.commands.record import RecordConfig
from services.config import ConfigError, build_file, load
from services.config_text import to_toml
from services.demo_config import CONFIGS

COMPLETE = dataclasses.replace(
    build_file(ActorConfig, CONFIGS / "xarm7-doubles-actor.toml"),
    limits=CONFIGS / "limits-xarm7-doubles.toml",
    calibration=CONFIGS / "xarm7-doubles-calibration.toml",
)


def test_the_flags_of_a_real_arm_are_read_as_they_are_documented() -> None:
    line = "--robot xarm7 --ip 10.0.0.7 --camera 9233=front 9234=wrist --limits L --calibration C"
    config = load(ActorConfig, line.split(), prog="offworld actor")
    assert (config.robot, config.ip) == ("xarm7", "10.0.0.7")
    assert config.camera == ("9233=front", "9234=wrist")
    assert (config.limits, config.calibration) == (Path("L"), Path("C"))
    assert not config.is_simulated


def test_a_configuration_survives_being_written_down(tmp_path: Path) -> None:
    path = tmp_path / "actor.toml"
    path.write_text(to_toml(COMPLETE))
    assert build_file(ActorConfig, path) == COMPLETE


def test_what_comes_with_offworld_is_complete_and_is_the_demo_s_robot() -> None:
    check_cell(COMPLETE)
    demo = build_file(ActorConfig, CONFIGS / "demo-actor.toml")
    assert robot_spec(COMPLETE).difference(make_sim_spec(demo.sim)) == []
    assert COMPLETE.cell.reach_tolerance_m == demo.sim.reach_tolerance_m


def test_everything_that_is_missing_is_named() -> None:
    bare = dataclasses.replace(COMPLETE, camera=(), limits=None, calibration=None)
    with pytest.raises(ConfigError, match=r"--camera SERIAL=NAME, --limits FILE, --calibration"):
        check_cell(bare)
    with pytest.raises(ConfigError, match="needs --limits FILE$"):
        robot_spec(dataclasses.replace(COMPLETE, limits=None))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pace": "fast"}, "--pace real"),
        ({"camera": ("9233=wrist",)}, "made for camera 'front', there is wrist"),
        ({"limits": Path("nowhere.toml")}, "nowhere.toml: no such file"),
        ({"calibration": Path("nowhere.toml")}, "nowhere.toml: no such file"),
    ],
)
def test_what_does_not_fit_is_named(changes, named) -> None:
    with pytest.raises(ConfigError, match=named):
        check_cell(dataclasses.replace(COMPLETE, **changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"control_hz": 2.0}, "period: the loop has 0.5 s"),
        ({"start_margin_m": 0.2}, "start_margin_m 0.2 leaves nothing"),
        ({"task": "pick", "lift_height_m": 0.02}, "cell: lift_height_m must be at least 0.04"),
    ],
)
def test_what_the_limits_do_not_allow_is_named(changes, named) -> None:
    cell = dataclasses.replace(COMPLETE.cell, **changes)
    with pytest.raises(ConfigError, match=named):
        check_cell(dataclasses.replace(COMPLETE, cell=cell))


def test_a_calibration_at_another_size_is_refused() -> None:
    stream = dataclasses.replace(COMPLETE.cell.stream, width=640, height=480)
    cell = dataclasses.replace(COMPLETE.cell, stream=stream)
    with pytest.raises(ConfigError, match=r"made at 224x224, cell.stream is 640x480"):
        check_cell(dataclasses.replace(COMPLETE, cell=cell))


def test_a_calibration_of_another_camera_is_refused(tmp_path: Path) -> None:
    assert COMPLETE.calibration is not None
    made = build_file(Calibration, COMPLETE.calibration)
    path = tmp_path / "calibration.toml"
    path.write_text(to_toml(dataclasses.replace(made, camera_serial="111")))
    seen = dataclasses.replace(COMPLETE, calibration=path)
    check_cell(dataclasses.replace(seen, camera=("111=front", "222=side")))
    with pytest.raises(ConfigError, match=r"serial number 111, but 'front' is 222: swap the names"):
        check_cell(dataclasses.replace(seen, camera=("222=front", "111=side")))
    # A recording and a double have no serial number on the command line.
    check_cell(dataclasses.replace(seen, camera=("take.db3=front", "222=side")))
    # Nor has a calibration of before.
    assert made.camera_serial == ""
    check_cell(dataclasses.replace(COMPLETE, camera=("222=front", "111=side")))


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.8.0.3", "localhost"])
@pytest.mark.parametrize("camera", ["old.db3=front", "world:127.0.0.1:15030=front"])
def test_a_double_may_be_seen_by_a_recording_or_a_drawn_world(ip: str, camera: str) -> None:
    check_cell(dataclasses.replace(COMPLETE, ip=ip, camera=(camera,)))


@pytest.mark.parametrize("camera", ["old.db3=side", "old.bag=side", "world:127.0.0.1:15030=side"])
def test_a_real_arm_is_not_driven_by_what_no_camera_sees_now(tmp_path: Path, camera: str) -> None:
    cameras = ("9233=front", camera)
    real = dataclasses.replace(COMPLETE, ip="192.168.1.200", camera=cameras)
    named = re.escape(f"at 192.168.1.200, SERIAL=NAME, got '{camera}'")
    with pytest.raises(ConfigError, match=named):
        check_cell(real, is_calibrated=False)
    # The address may stand in the limits file, and steering and calibrating drive an arm, too.
    limits = tmp_path / "limits.toml"
    text = (CONFIGS / "limits-xarm7-doubles.toml").read_text()
    limits.write_text(text.replace('ip = "127.0.0.1"', 'ip = "192.168.1.200"'))
    by_file = dataclasses.replace(real, ip=None, limits=limits, spool=tmp_path / "spool")
    with pytest.raises(ConfigError, match=named):
        check_cell(by_file)
    with pytest.raises(ConfigError, match=named), cell_bench(by_file, "front"):
        pytest.fail("the arm may move")
    (tmp_path / "actor.toml").write_text(to_toml(by_file))
    with pytest.raises(ConfigError, match=named):
        robot_spec(RecordConfig(actor_config=tmp_path / "actor.toml").actor())
    assert not (tmp_path / "spool").exists()
    check_cell(dataclasses.replace(by_file, camera=("9233=front", "9234=side")))


def test_an_address_that_belongs_to_no_arm_is_named(tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    text = (CONFIGS / "limits-xarm7-doubles.toml").read_text()
    limits.write_text(text[: text.index("[xarm]")])
    with pytest.raises(ConfigError, match=r"there is no \[xarm\] in here"):
        check_cell(dataclasses.replace(COMPLETE, limits=limits))


@pytest.mark.parametrize("ip", ["xarm.local", "", "192.168.1", "::1", "192.168.1.200:502"])
def test_an_address_that_the_sdk_would_take_for_a_serial_port_is_refused(ip: str) -> None:
    with pytest.raises(ValueError, match="ip must be an IPv4 address") as caught:
        XArmConfig(ip=ip)
    assert repr(ip) in str(caught.value)
    with pytest.raises(ConfigError, match="ip must be an IPv4 address"):
        check_cell(dataclasses.replace(COMPLETE, ip=ip))


def test_two_cameras_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="a name of its own"):
        dataclasses.replace(COMPLETE, camera=("1=front", "2=front"))
