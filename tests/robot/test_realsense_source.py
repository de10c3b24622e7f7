from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from protos.provenance import CameraIntrinsics
from robot import realsense, realsense_source
from robot.clock import SimulatedClock
from robot.doubles.realsense_device import SoftwareDevice
from robot.interfaces import RobotFault
from robot.realsense import RealSenseCamera
from robot.realsense_config import RealSenseConfig
from robot.realsense_sdk import rs
from robot.realsense_settings import RGB_SENSOR, apply_settings
from robot.realsense_source import DeviceInfo, SerialSource, choose_device
from tests.robot.realsense_rig import make_config

D435 = DeviceInfo(name="D435I", serial="111", usb="3.2")
D405 = DeviceInfo(name="D405", serial="222", usb="2.1")


def fault_of(make) -> RobotFault:
    with pytest.raises(RobotFault) as caught:
        make()
    return caught.value


def open_double(config: RealSenseConfig, **how) -> tuple[RealSenseCamera, SoftwareDevice]:
    clock = SimulatedClock()
    device = SoftwareDevice(config, clock, **how)
    return RealSenseCamera(config, clock, device), device


def test_a_camera_is_chosen_by_its_serial_number_or_because_it_is_the_only_one():
    assert choose_device([D435, D405], "222") == D405
    assert choose_device([D405], None) == D405


@pytest.mark.parametrize(
    ("found", "serial", "words"),
    [
        ([], None, "expected a RealSense camera, connected: nothing"),
        ([], "333", "expected RealSense camera 333, connected: nothing"),
        (
            [D435, D405],
            "333",
            "camera 333, connected: D435I serial 111 (USB 3.2), D405 serial 222 (USB 2.1)",
        ),
        ([D435, D405], None, "expected one RealSense camera, found D435I serial 111"),
    ],
)
def test_a_camera_that_is_not_there_is_a_fault_that_tells_what_is(found, serial, words):
    fault = fault_of(lambda: choose_device(found, serial))
    assert fault.code == "camera_missing"
    assert words in str(fault)


def test_opening_a_camera_that_is_not_there_fails_at_once():
    begin_s = time.monotonic()
    source = SerialSource("no-such-serial")
    fault = fault_of(lambda: RealSenseCamera(make_config(), SimulatedClock(), source))
    assert fault.code == "camera_missing"
    assert "no-such-serial, connected: " in str(fault)
    # The SDK alone would take 15 s.
    assert time.monotonic() - begin_s < 2.0
    assert "camera-front" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("fails", ["read_facts", "apply_settings"])
def test_what_the_sdk_raises_after_a_start_is_a_fault_of_the_start(monkeypatch, fails):
    def fail(*_arguments):
        raise RuntimeError("get_xu(ctrl=1) failed! Last Error: Input/output error")

    monkeypatch.setattr(realsense, fails, fail)
    fault = fault_of(lambda: open_double(make_config()))
    assert fault.code == "camera_start"
    assert "camera front: get_xu(ctrl=1) failed" in str(fault)


def test_a_reset_waits_until_the_camera_has_gone_and_come_back(monkeypatch):
    resets: list[str] = []
    device = SimpleNamespace(hardware_reset=lambda: resets.append("reset"))
    # Found; still there after the reset; gone twice; back.
    answers = [[(D435, device)], [(D435, device)], [], [], [(D435, device)]]
    monkeypatch.setattr(realsense_source, "_query", lambda: answers.pop(0))
    monkeypatch.setattr(realsense_source, "_POLL_S", 0.001)
    SerialSource("111").reset(threading.Event())
    assert resets == ["reset"]
    assert answers == []


def test_a_camera_that_is_not_on_the_bus_is_not_reset_nor_is_another(monkeypatch):
    resets: list[str] = []
    other = SimpleNamespace(hardware_reset=lambda: resets.append("reset"))
    # Asked once: there is nothing to wait for.
    answers = [[(D405, other)]]
    monkeypatch.setattr(realsense_source, "_query", lambda: answers.pop(0))
    SerialSource("111").reset(threading.Event())
    assert resets == []
    assert answers == []


def test_a_reset_ends_early_when_the_camera_is_closed(monkeypatch):
    device = SimpleNamespace(hardware_reset=lambda: None)
    monkeypatch.setattr(realsense_source, "_query", lambda: [(D435, device)])
    closing = threading.Event()
    closing.set()
    begin_s = time.monotonic()
    SerialSource("111").reset(closing)
    assert time.monotonic() - begin_s < 1.0


def test_what_the_sdk_says_of_the_bus_is_a_fault(monkeypatch):
    def fail():
        raise RuntimeError("no rights to the bus")

    monkeypatch.setattr(realsense_source.rs, "context", lambda: SimpleNamespace(query_devices=fail))
    fault = fault_of(lambda: SerialSource().start(make_config()))
    assert fault.code == "camera_start"
    assert "no rights to the bus" in str(fault)


@pytest.mark.parametrize("change", [{"width": 64}, {"height": 48}, {"fps": 60}])
def test_a_mode_that_the_camera_has_not_is_a_fault_that_tells_what_it_has(change):
    config = make_config(**change)
    device = SoftwareDevice(make_config(), SimulatedClock())
    fault = fault_of(lambda: RealSenseCamera(config, SimulatedClock(), device))
    assert fault.code == "camera_mode"
    assert f"expected {config.mode}, double-1 offers 32x24 rgb8 at 30 Hz" in str(fault)


def test_a_trial_keeps_which_camera_it_was_and_how_it_was_set():
    camera, _ = open_double(make_config(exposure_s=0.01, gain=32.0, white_balance_k=None))
    facts = camera.facts
    assert (facts.name, facts.serial, facts.firmware) == ("front", "double-1", "5.16.0.1")
    assert facts.model == "Software camera"
    assert facts.intrinsics == camera.intrinsics
    assert (facts.exposure_s, facts.gain, facts.white_balance_k) == (0.01, 32.0, None)
    camera.close()


def test_intrinsics_are_those_of_the_stream():
    camera, _ = open_double(make_config())
    assert camera.intrinsics == CameraIntrinsics(
        width=32,
        height=24,
        fx_px=32.0,
        fy_px=32.0,
        ppx_px=16.0,
        ppy_px=12.0,
        distortion_model="inverse_brown_conrady",
        distortion=(0.0, 0.0, 0.0, 0.0, 0.0),
    )
    camera.close()


@pytest.mark.parametrize(
    ("sensor_name", "exposure"), [(RGB_SENSOR, 156), ("Stereo Module", 15_600)]
)
def test_exposure_gain_and_white_balance_are_fixed_in_the_sensors_own_units(sensor_name, exposure):
    config = make_config(exposure_s=0.0156, gain=32.0, white_balance_k=5000.0)
    camera, device = open_double(config, sensor_name=sensor_name)
    get = device.sensor.get_option
    assert get(rs.option.exposure) == exposure
    assert get(rs.option.gain) == 32
    assert get(rs.option.white_balance) == 5000
    assert get(rs.option.enable_auto_exposure) == 0
    assert get(rs.option.enable_auto_white_balance) == 0
    camera.close()


def test_what_is_none_is_left_to_the_camera():
    config = make_config(exposure_s=None, gain=None, white_balance_k=None)
    camera, device = open_double(config)
    assert device.sensor.get_option(rs.option.enable_auto_exposure) == 1
    assert device.sensor.get_option(rs.option.enable_auto_white_balance) == 1
    camera.close()
    open_double(config, has_controls=False)[0].close()


@pytest.mark.parametrize(
    ("change", "has_controls", "words"),
    [
        ({}, False, "RGB Camera has no control for automatic exposure off: set it to None"),
        ({"exposure_s": 1.5}, True, "exposure_s = 1.5 is 15000 for RGB Camera, which takes 1 .. "),
        ({"gain": 200.0}, True, "gain = 200 is 200 for RGB Camera, which takes 0 .. 128"),
        ({"white_balance_k": 100.0}, True, "white_balance_k = 100 is 100"),
    ],
)
def test_a_setting_that_cannot_be_made_is_a_fault_and_lets_go_of_the_camera(
    change, has_controls, words
):
    config = make_config(**change)
    clock = SimulatedClock()
    device = SoftwareDevice(config, clock, has_controls=has_controls)
    fault = fault_of(lambda: RealSenseCamera(config, clock, device))
    assert fault.code == "camera_setting"
    assert words in str(fault)
    left_alone = make_config(exposure_s=None, gain=None, white_balance_k=None)
    RealSenseCamera(left_alone, clock, device).close()


class DeafSensor:
    """Takes every setting and keeps its own."""

    def get_info(self, _) -> str:
        return RGB_SENSOR

    def get_stream_profiles(self):
        return [SimpleNamespace(stream_type=lambda: rs.stream.color)]

    def supports(self, _) -> bool:
        return True

    def get_option_range(self, _):
        return SimpleNamespace(min=0.0, max=1e6, step=1.0)

    def set_option(self, _, value: float) -> None: ...

    def get_option(self, option) -> float:
        return 300.0 if option == rs.option.exposure else 0.0


def test_a_sensor_that_does_not_do_as_told_is_a_fault():
    device = SimpleNamespace(query_sensors=lambda: [DeafSensor()])
    profile = SimpleNamespace(get_device=lambda: device)
    fault = fault_of(lambda: apply_settings(profile, make_config()))
    assert fault.code == "camera_setting"
    assert "was told exposure_s = 0.0156 (156) and reads back 300" in str(fault)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "front camera"},
        {"width": 0},
        {"fps": 0},
        {"stall_s": 0.0},
        {"max_age_s": float("nan")},
        {"max_restarts": -1},
        {"exposure_s": 0.0},
        {"gain": float("inf")},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        RealSenseConfig(**change)


def test_waiting_is_bounded():
    camera, _ = open_double(make_config())
    fault = fault_of(lambda: camera.wait_for_newer(0, 0.01))
    assert fault.code == "camera_no_frame"
    camera.close()
