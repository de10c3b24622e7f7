"""What the controller is told before the arm may move, and the check that it has it.

The settings of a controller are lost when it restarts, and some writes are acknowledged and not
kept, so that nothing counts until it was read back.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from robot.interfaces import RobotFault
from robot.xarm_codes import controller_fault, sdk_fault
from robot.xarm_config import XArmConfig
from robot.xarm_units import to_m, to_mm, tool_axis

MIN_FIRMWARE = (1, 11, 0)
NUM_JOINTS = 7
ONLINE_MODE = 7
"""Cartesian online planning: a new target replaces the old one with continuous velocity."""
_POSITION_MODE = 0
_STOP = 4
_MOVING, _PAUSED, _CHANGING = 1, 3, 5
_TAKEN = (0, 2, 9)
"""Codes of the SDK for a write that was taken: done; beside a warning; by a controller that is not
ready to move, which it is not after each change of the tool. It is read back in any case."""
# The rich report comes every 0.2 s.
_REPORT_WAIT_S = 2.0
READY_S = 2.0
"""The vendor's examples pause for 0.1 .. 1 s after a change of mode."""
_LOOK_S = 0.02
_ROTATION_RAD = 0.01


@dataclass(frozen=True)
class Setting:
    """One setting as it should be and as the controller has it, in the vendor's units."""

    name: str
    wished: Sequence[float]
    found: Sequence[float]
    _: KW_ONLY
    tolerance: float

    @property
    def is_kept(self) -> bool:
        """Whether the two are the same."""
        return len(self.wished) == len(self.found) and all(
            math.isclose(a, b, rel_tol=0, abs_tol=self.tolerance)
            for a, b in zip(self.wished, self.found, strict=True)
        )


class FreshReports:
    """Counts the reports of one connection, to wait for one made after a certain moment."""

    def __init__(self, api: Any) -> None:
        self._arrived = threading.Condition()
        self._count = 0
        api.register_report_callback(self._take)

    def wait(self, what: str) -> None:
        """Waits for the second report from now: the first may have been on its way already.

        Raises:
            RobotFault: `report_silent`, none came.
        """
        with self._arrived:
            wanted = self._count + 2
            if not self._arrived.wait_for(lambda: self._count >= wanted, _REPORT_WAIT_S):
                raise RobotFault("report_silent", f"{what}: the controller sends no report")

    def _take(self, _: Any) -> None:
        with self._arrived:
            self._count += 1
            self._arrived.notify_all()


def check_identity(api: Any) -> None:
    """Raises RobotFault unless the controller and the arm can do what is asked of them."""
    firmware = tuple(api.version_number)
    if firmware < MIN_FIRMWARE:
        raise RobotFault(
            "firmware_too_old",
            f"expected controller firmware {_dotted(MIN_FIRMWARE)} or newer, which has mode 7, "
            f"found {_dotted(firmware)}; update it with the vendor's program",
        )
    if api.axis != NUM_JOINTS:
        raise RobotFault(
            "wrong_arm", f"expected an arm with {NUM_JOINTS} joints, found one with {api.axis}"
        )


def check_error(api: Any) -> None:
    """Raises RobotFault if the controller has an error, which only a person clears."""
    code, errors = api.get_err_warn_code()
    if code != 0:
        raise sdk_fault(code, "reading the error code")
    if errors[0] != 0:
        raise controller_fault(errors[0])


def check_idle(api: Any) -> None:
    """Waits for the arm to stand still, as one does soon whose guard has gone.

    Raises:
        RobotFault: `arm_in_use`, it moves on and on.
    """
    for state in _states(api):
        if state != _MOVING:
            return
    raise RobotFault(
        "arm_in_use", "the arm moves, so that another program drives it: end that one first"
    )


def enable(api: Any, mode: int) -> None:
    """Switches the motors on and the controller to a mode.

    What somebody else had it do, and paused, is stopped first, or it would go on.

    Raises:
        RobotFault: It does not get there, in `READY_S`.
    """
    _check(api.set_state(_STOP), "stopping what is left to do")
    _check(api.motion_enable(enable=True), "enabling the motors")
    _check(api.set_mode(mode), f"setting mode {mode}")
    _make_ready(api)


def _make_ready(api: Any) -> None:
    _check(api.set_state(0), "setting state 0")
    state = _STOP
    for state in _states(api):
        if state < _PAUSED:
            return
        if state == _CHANGING:  # it began anew since
            _check(api.set_state(0), "setting state 0")
        check_error(api)
    raise RobotFault(
        "not_ready", f"the controller stays in state {state}, {READY_S:g} s after enabling"
    )


def _states(api: Any) -> Iterator[int]:
    """Asks for the controller's state again and again, for `READY_S`, and once at least."""
    until_s = time.monotonic() + READY_S
    while True:
        code, state = api.get_state()
        _check(code, "reading the state")
        yield state
        if time.monotonic() > until_s:
            return
        time.sleep(_LOOK_S)


def set_up(api: Any, reports: FreshReports, config: XArmConfig) -> None:
    """Writes every setting and reads it back; the arm does not move meanwhile.

    Args:
        api: Connected, with the rich report.
        reports: Of that connection.
        config: What to set.

    Raises:
        RobotFault: Something was refused (`settings_refused` or the SDK's fault), is not what it
            was set to (`settings_mismatch`, names the field), or the tool is `outside_fence`.
    """
    reports.wait("reading how the arm is mounted")
    # First: of an arm that is simulated the SDK asks less, and says that all is well.
    _expect(mount_settings(api))
    enable(api, _POSITION_MODE)
    # By the vendor's word the controller begins anew after each of these: mode 0, state 5.
    _written(api.set_tcp_offset(_tool_offset(config), wait=False), "setting the tool's offset")
    _make_ready(api)
    centre = to_mm(config.tool_centre_of_mass_m)
    _written(api.set_tcp_load(config.tool_mass_kg, centre), "setting the tool's load")
    _make_ready(api)
    _written(
        api.set_collision_sensitivity(config.collision_sensitivity),
        "setting the collision sensitivity",
    )
    reports.wait("reading the tool's settings back")
    _expect(tool_settings(api, config))
    check_inside(api, config)
    _fence(api, config)


def check_inside(api: Any, config: XArmConfig) -> None:
    """Raises RobotFault unless our tool is inside the fence, whatever offset the controller has."""
    code, pose = api.get_position()
    _check(code, "reading the position")
    # A controller that has restarted tells of the flange.
    beyond_m = config.tool_offset_m - api.tcp_offset[2] / 1000.0
    position_m = to_m(
        [mm + 1000.0 * beyond_m * x for mm, x in zip(pose[:3], tool_axis(pose[3:6]), strict=True)]
    )
    if not config.is_inside_fence(position_m):
        raise RobotFault(
            "outside_fence",
            f"the tool is at {[round(x, 3) for x in position_m]} m, the fence is "
            f"{config.fence_low_m} .. {config.fence_high_m} m; move it inside by hand with the "
            "vendor's program",
        )


def tool_settings(api: Any, config: XArmConfig) -> list[Setting]:
    """Returns what the controller has of the tool, from its newest rich report."""
    offset, centre = _tool_offset(config), to_mm(config.tool_centre_of_mass_m)
    mass, measured_centre = api.tcp_load
    sensitivity = config.collision_sensitivity
    found = list(api.tcp_offset)
    return [
        Setting("tool_offset_m", offset[:3], found[:3], tolerance=0.5),
        Setting("tool rotation", offset[3:], found[3:], tolerance=_ROTATION_RAD),
        Setting("tool_mass_kg", [config.tool_mass_kg], [mass], tolerance=0.005),
        Setting("tool_centre_of_mass_m", centre, list(measured_centre), tolerance=0.5),
        Setting("collision_sensitivity", [sensitivity], [api.collision_sensitivity], tolerance=0),
    ]


def mount_settings(api: Any) -> list[Setting]:
    """Returns what a person may have changed with the vendor's program, from the newest report.

    It decides where a target is and whether the arm moves as it is told; nothing here writes it.
    """
    base = list(api.world_offset)
    return [
        Setting("base offset", [0.0] * 3, base[:3], tolerance=0.5),
        Setting("base rotation", [0.0] * 3, base[3:], tolerance=_ROTATION_RAD),
        Setting("gravity", [0.0, 0.0, -1.0], list(api.gravity_direction), tolerance=0.02),
        Setting("simulated arm", [0], [int(api.is_simulation_robot)], tolerance=0),
        Setting("collision rebound", [0], [int(api.is_collision_rebound)], tolerance=0),
    ]


def fence_settings(api: Any, config: XArmConfig) -> list[Setting]:
    """Asks for what the controller has of fence and speed limit; RobotFault without an answer."""
    code, states = api.get_reduced_states()
    _check(code, "reading the fence back")
    is_reduced, boundary, speed_mm_s = states[:3]
    return [
        Setting("fence", _boundary_mm(config), list(boundary), tolerance=0),
        Setting("speed_m_s", [1000.0 * config.speed_m_s], [speed_mm_s], tolerance=0.5),
        Setting("reduced mode", [1], [is_reduced], tolerance=0),
        Setting("fence mode", [1], [states[5]], tolerance=0),
    ]


def _tool_offset(config: XArmConfig) -> list[float]:
    return [0.0, 0.0, 1000.0 * config.tool_offset_m, 0.0, 0.0, 0.0]


def _boundary_mm(config: XArmConfig) -> list[int]:
    low, high = (
        [round(mm) for mm in to_mm(corner)] for corner in (config.fence_low_m, config.fence_high_m)
    )
    return [high[0], low[0], high[1], low[1], high[2], low[2]]


def _fence(api: Any, config: XArmConfig) -> None:
    _written(api.set_reduced_tcp_boundary(_boundary_mm(config)), "setting the fence")
    _written(api.set_reduced_max_tcp_speed(1000.0 * config.speed_m_s), "setting the speed limit")
    # Limits take effect when the reduced mode is switched on, also if it was on before.
    _written(api.set_reduced_mode(True), "switching the reduced mode on")
    # This one returns a list.
    _written(api.set_fence_mode(True)[0], "switching the fence on")
    _expect(fence_settings(api, config))


def _expect(settings: Sequence[Setting]) -> None:
    for setting in settings:
        if not setting.is_kept:
            raise RobotFault(
                "settings_mismatch",
                f"{setting.name} has to be {setting.wished} and reads back as {setting.found} "
                "(vendor's units); set it with the vendor's program, and check that nothing else "
                "is connected to the controller",
            )


def _written(code: int, what: str) -> None:
    if code not in _TAKEN:
        raise sdk_fault(code, what)


def _check(code: int, what: str) -> None:
    if code != 0:
        raise sdk_fault(code, what)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version)
