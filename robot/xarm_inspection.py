"""Looks at a controller without changing anything: no setting, mode or motion is sent.

It takes one more connection to the controller, which serves several; no connection is ended but
its own, and the arm goes on with whatever it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robot.bounded_calls import BoundedCalls
from robot.interfaces import RobotFault
from robot.xarm_config import XArmConfig
from robot.xarm_sdk import open_api
from robot.xarm_settings import (
    FreshReports,
    Setting,
    check_error,
    check_identity,
    check_inside,
    fence_settings,
    mount_settings,
    tool_settings,
)

_ANSWERS_S = 10.0
_MOVING = 1


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a controller is and has."""

    firmware: str
    serial: str
    """Of the arm; empty where the controller does not say."""
    is_moving: bool
    """Whether the arm moves right now: then another program drives it."""
    settings: Sequence[Setting]
    """All that the guard writes before the arm may move, as it is now."""
    mount: Sequence[Setting]
    """All that it only looks at: a person decides on it."""
    outside: RobotFault | None
    """Why the tool is not where motion may begin; None inside the fence."""


def inspect_arm(config: XArmConfig) -> Inspection:
    """Reads what a controller is and has.

    Args:
        config: Where it is, and what it should have.

    Raises:
        RobotFault: It is not there, does not answer, is too old or another arm, or has an error.
    """
    calls = BoundedCalls("xarm-inspection")
    try:
        api = calls.call(
            lambda: open_api(config, "rich"),
            config.connect_timeout_s,
            on_late=lambda late: late.disconnect(),
        )
        try:
            return calls.call(lambda: _read(api, config), _ANSWERS_S)
        finally:
            api.disconnect()
    except TimeoutError as error:
        raise RobotFault(
            "not_connected",
            f"the controller at {config.ip} took the connection and does not answer; restart it",
        ) from error
    finally:
        calls.close()


def _read(api: Any, config: XArmConfig) -> Inspection:
    check_identity(api)
    check_error(api)
    FreshReports(api).wait("reading the tool's settings")
    try:
        check_inside(api, config)
        outside = None
    except RobotFault as fault:
        if fault.code != "outside_fence":
            raise
        outside = fault
    return Inspection(
        firmware=".".join(str(number) for number in api.version_number),
        serial=str(api.sn or ""),
        is_moving=api.state == _MOVING,
        settings=[*tool_settings(api, config), *fence_settings(api, config)],
        mount=mount_settings(api),
        outside=outside,
    )
