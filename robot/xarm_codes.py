"""What the controller's error codes and the SDK's return codes mean, as faults."""

from __future__ import annotations

from robot.interfaces import RobotFault

_CONTROLLER = {
    1: "the emergency stop is pressed; release it",
    2: "the emergency stop input of the control box is open",
    3: "the three-state switch is released or pressed through",
    19: "the tool's line (gripper) does not answer; check its cable",
    21: "no way to the target, a kinematic error",
    22: "the arm would touch itself",
    23: "a joint is at its limit",
    24: "a joint is faster than allowed",
    25: "the motion cannot be planned",
    28: "the tool's line (gripper) does not answer; check its cable",
    31: "a collision: the motors need more current than expected",
    35: "the tool left the fence; drive it back by hand in the vendor's program",
    38: "a joint has an impossible angle",
    40: "no joints reach the target",
    60: "the tool is faster than allowed",
}
_SERVOS = range(10, 18)

HAS_ERROR, NOT_READY, TIMED_OUT, NOT_CONNECTED, NOT_ENABLED = 1, 9, 3, -1, -2
_SDK = {
    NOT_CONNECTED: ("connection_lost", "the connection to the controller is gone"),
    NOT_ENABLED: ("state_stopped", "the motors are not enabled"),
    -3: ("sdk_refused", "the SDK refused the arguments"),
    -4: ("sdk_refused", "the controller does not know the command"),
    -6: ("target_refused", "the target is beyond the tool's limits"),
    -7: ("target_refused", "the target is beyond a joint's limits"),
    -8: ("target_refused", "the target is out of range"),
    -9: ("state_stopped", "the arm was stopped"),
    HAS_ERROR: ("controller_error", "the controller has an error that is not cleared"),
    2: ("controller_warning", "the controller has a warning that is not cleared"),
    TIMED_OUT: ("sdk_timeout", "the controller does not answer"),
    4: ("sdk_garbled", "an answer had a wrong length"),
    5: ("sdk_garbled", "an answer had a wrong number"),
    6: ("sdk_garbled", "an answer was of another protocol"),
    7: ("sdk_garbled", "an answer was to something else"),
    8: ("connection_lost", "nothing can be sent to the controller"),
    NOT_READY: ("state_stopped", "the arm is not ready to move"),
    10: ("sdk_refused", "the controller refused what it was told"),
    11: ("sdk_refused", "the controller answered with an unnamed error"),
    12: ("sdk_refused", "the controller refused the arguments"),
    19: ("gripper_silent", "the tool's line (gripper) does not answer"),
    20: ("gripper_silent", "the tool's line answered with a wrong host"),
    21: ("gripper_silent", "the tool's line cannot run at the gripper's speed"),
    22: ("gripper_silent", "the tool's line runs at a wrong speed"),
    23: ("gripper_silent", "the gripper's answer had a wrong length"),
    28: ("gripper_silent", "the tool's line (gripper) does not answer"),
    51: ("state_stopped", "the controller is in another mode"),
    100: ("sdk_timeout", "the controller did not finish in time"),
    101: ("gripper_silent", "the gripper's state cannot be read"),
    102: ("gripper_error", "the gripper has an error"),
    103: ("gripper_error", "the gripper is not enabled"),
}
_STATES = {3: "state_paused", 4: "state_stopped", 5: "state_stopped", 6: "state_stopped"}


def controller_fault(code: int) -> RobotFault:
    """Returns the fault of a controller error, such as `controller_c31`."""
    if code in _SERVOS:
        meaning = "a joint's servo has an error; see the vendor's program"
    else:
        meaning = _CONTROLLER.get(code, "see the vendor's list of controller errors")
    return RobotFault(f"controller_c{code}", f"C{code}: {meaning}")


def sdk_fault(code: int, what: str) -> RobotFault:
    """Returns the fault of a return code that is not 0.

    Args:
        code: As the SDK returned it.
        what: What was tried.
    """
    name, meaning = _SDK.get(code, ("sdk_error", "see the vendor's list of API codes"))
    return RobotFault(name, f"{what}: {meaning} (SDK code {code})")


def state_fault(state: int) -> RobotFault | None:
    """Returns the fault of a controller state in which the arm does not obey, or None."""
    if state not in _STATES:
        return None
    return RobotFault(
        _STATES[state],
        f"somebody else stopped or paused the arm (state {state}); clear it once it is safe",
    )
