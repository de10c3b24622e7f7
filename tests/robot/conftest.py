"""What the tests of the robot side have in common."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _patient_with_a_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the arm's driver wait long for a double's answers; see `xarm_rig.impatient`."""
    monkeypatch.setattr("robot.xarm_lines._ANSWER_TIMEOUT_S", 10.0)
