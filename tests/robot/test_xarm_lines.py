"""What becomes of the SDK's own errors on the connection that a stop goes out on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from robot.clock import SimulatedClock
from robot.interfaces import RobotFault
from robot.xarm_config import XArmConfig
from robot.xarm_lines import XArmLines

FAULT = RobotFault("sdk_timeout", "the controller does not answer")
RAISED = [IndexError("list index out of range"), ValueError("too many values to unpack")]


class StubApi:
    """An SDK's connection that answers, or raises, as it is told."""

    connected = True

    def __init__(self) -> None:
        self.code = 0
        self.state = 4
        self.errors = [0, 0]
        self.error: Exception | None = None

    def register_report_callback(self, _callback: Any) -> None: ...

    def register_connect_changed_callback(self, _callback: Any) -> None: ...

    def disconnect(self) -> None: ...

    def set_state(self, _state: int) -> int:
        self._raise()
        return self.code

    def get_state(self) -> tuple[int, int]:
        self._raise()
        return self.code, self.state

    def get_err_warn_code(self) -> tuple[int, list[int]]:
        self._raise()
        return self.code, self.errors

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error


Made = tuple[XArmLines, StubApi]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    api = StubApi()
    monkeypatch.setattr("robot.xarm_lines.open_api", lambda *_: api)
    lines = XArmLines(XArmConfig(), SimulatedClock())
    yield lines, api
    lines.close()


@pytest.mark.parametrize("raised", RAISED, ids=repr)
def test_a_stop_that_the_sdk_breaks_at_is_not_confirmed(made: Made, raised: Exception, caplog):
    lines, api = made
    api.error = raised
    assert lines.stop() is False
    assert repr(raised) in caplog.text
    api.error = None
    assert lines.stop() is True


@pytest.mark.parametrize("raised", RAISED, ids=repr)
def test_a_fault_keeps_its_name_where_the_sdk_breaks_at_the_controller_s_error(
    made: Made, raised: Exception
):
    lines, api = made
    api.errors = [31, 0]
    api.error = raised
    assert lines.error_or(FAULT) is FAULT
    api.error = None
    assert lines.error_or(FAULT).code == "controller_c31"


@pytest.mark.parametrize("errors", [[], [31], [31, 0, 0], None])
def test_a_fault_keeps_its_name_where_the_answer_has_another_form(made: Made, errors):
    lines, api = made
    api.errors = errors
    assert lines.error_or(FAULT) is FAULT


@pytest.mark.parametrize("raised", RAISED, ids=repr)
def test_a_state_that_the_sdk_breaks_at_is_none(made: Made, raised: Exception):
    lines, api = made
    api.error = raised
    assert lines.state() is None
    api.error = None
    assert lines.state() == 4


@pytest.mark.parametrize(
    ("code", "state", "is_stopped"),
    [
        (0, 4, True),
        (0, 2, False),
        (1, 4, True),
        (1, 5, True),
        (1, 2, False),
        (2, 4, True),
        (3, 4, False),
        (9, 4, False),
        (-1, 4, False),
    ],
)
def test_a_stop_is_confirmed_by_an_answer_and_the_state_also_if_there_is_an_error(
    made: Made, code: int, state: int, is_stopped: bool
):
    lines, api = made
    api.code, api.state = code, state
    assert lines.stop() is is_stopped
