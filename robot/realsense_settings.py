"""What is set on a RealSense camera when it starts, and what is read from it."""

from __future__ import annotations

import logging
from typing import Any

from protos.provenance import CameraFacts, CameraIntrinsics
from robot.interfaces import RobotFault
from robot.realsense_config import RealSenseConfig
from robot.realsense_sdk import rs

logger = logging.getLogger(__name__)

RGB_SENSOR = "RGB Camera"
RGB_EXPOSURE_UNIT_S = 1e-4
EXPOSURE_UNIT_S = 1e-6
"""Of every other sensor: a D405 has no RGB camera, its colour comes from the stereo module."""
_TOLERANCE = 0.1


def read_intrinsics(profile: Any) -> CameraIntrinsics:
    """Returns how the colour stream of a started `rs.pipeline_profile` projects."""
    found = profile.get_stream(rs.stream.color).as_video_stream_profile().intrinsics
    return CameraIntrinsics(
        width=found.width,
        height=found.height,
        fx_px=found.fx,
        fy_px=found.fy,
        ppx_px=found.ppx,
        ppy_px=found.ppy,
        distortion_model=found.model.name,
        distortion=tuple(float(number) for number in found.coeffs),
    )


def read_facts(profile: Any, config: RealSenseConfig) -> CameraFacts:
    """Returns what there is to keep of the camera of a started pipeline, its settings as they are.

    Args:
        profile: Of the started pipeline.
        config: Which settings are fixed; the others are the camera's own affair.
    """
    device, sensor = profile.get_device(), _colour_sensor(profile)

    def told(info: Any) -> str:
        return device.get_info(info) if device.supports(info) else ""

    def kept(option: Any, wish: float | None) -> float | None:
        if wish is None or not sensor.supports(option):
            return None
        return float(sensor.get_option(option))

    exposure = kept(rs.option.exposure, config.exposure_s)
    return CameraFacts(
        name=config.name,
        intrinsics=read_intrinsics(profile),
        model=told(rs.camera_info.name),
        serial=told(rs.camera_info.serial_number),
        firmware=told(rs.camera_info.firmware_version),
        exposure_s=None if exposure is None else exposure * _exposure_unit_s(sensor),
        gain=kept(rs.option.gain, config.gain),
        white_balance_k=kept(rs.option.white_balance, config.white_balance_k),
    )


def apply_settings(profile: Any, config: RealSenseConfig) -> None:
    """Fixes exposure, gain and white balance of the sensor that gives the colour stream.

    Args:
        profile: Of the started pipeline.
        config: None in a setting leaves it to the camera.

    Raises:
        RobotFault: `camera_setting`, the sensor has no such control, or another range, or does
            not do as told.
    """
    sensor = _colour_sensor(profile)
    name = sensor.get_info(rs.camera_info.name)
    try:
        # Stamps in time of the host jump with its clock; those of the camera do not.
        if sensor.supports(rs.option.global_time_enabled):
            sensor.set_option(rs.option.global_time_enabled, 0)
        if config.exposure_s is not None or config.gain is not None:
            _set(sensor, rs.option.enable_auto_exposure, 0.0, "automatic exposure off")
        if config.exposure_s is not None:
            wish = round(config.exposure_s / _exposure_unit_s(sensor))
            _set(sensor, rs.option.exposure, wish, f"exposure_s = {config.exposure_s:g}")
        if config.gain is not None:
            _set(sensor, rs.option.gain, config.gain, f"gain = {config.gain:g}")
        if config.white_balance_k is not None:
            _set(sensor, rs.option.enable_auto_white_balance, 0.0, "automatic white balance off")
            wish = config.white_balance_k
            _set(sensor, rs.option.white_balance, wish, f"white_balance_k = {wish:g}")
    except RuntimeError as error:
        if isinstance(error, RobotFault):
            raise
        raise RobotFault("camera_setting", f"camera {config.name}, {name}: {error}") from error


def _exposure_unit_s(sensor: Any) -> float:
    is_rgb = sensor.get_info(rs.camera_info.name) == RGB_SENSOR
    return RGB_EXPOSURE_UNIT_S if is_rgb else EXPOSURE_UNIT_S


def _colour_sensor(profile: Any) -> Any:
    for sensor in profile.get_device().query_sensors():
        if any(p.stream_type() == rs.stream.color for p in sensor.get_stream_profiles()):
            return sensor
    raise RobotFault("camera_setting", "no sensor of the camera gives a colour stream")


def _set(sensor: Any, option: Any, wish: float, words: str) -> None:
    name = sensor.get_info(rs.camera_info.name)
    if not sensor.supports(option):
        raise RobotFault(
            "camera_setting",
            f"{name} has no control for {words}: set it to None to leave it to the camera",
        )
    allowed = sensor.get_option_range(option)
    if not allowed.min <= wish <= allowed.max:
        raise RobotFault(
            "camera_setting",
            f"{words} is {wish:g} for {name}, which takes {allowed.min:g} .. {allowed.max:g}",
        )
    sensor.set_option(option, wish)
    # Sensors take the nearest step they know.
    is_set = sensor.get_option(option)
    if abs(is_set - wish) > max(_TOLERANCE * abs(wish), allowed.step):
        raise RobotFault(
            "camera_setting", f"{name} was told {words} ({wish:g}) and reads back {is_set:g}"
        )
    logger.info("camera setting sensor=%s option=%s value=%g", name, option.name, is_set)
