"""Stopping an arm until it says that it stopped."""

from __future__ import annotations

import logging

from robot.clock import Clock
from robot.interfaces import Arm, ConfirmingArm

logger = logging.getLogger(__name__)

_AGAIN_NS = 1_000_000_000
"""Time between two attempts: a controller that does not answer keeps the guard for 0.4 s each."""


class Stopping:
    """Sends a stop, and sends it again while it is not confirmed.

    Args:
        arm: To be stopped. One that cannot say whether it stopped is believed to have.
        clock: Paces the attempts.
    """

    def __init__(self, arm: Arm, clock: Clock) -> None:
        self._arm, self._clock = arm, clock
        self.is_confirmed = True
        """Whether the last stop was."""
        self._again_ns = 0

    def stop(self) -> bool:
        """Stops the arm, whatever goes wrong; returns whether it says that it stopped."""
        try:
            self._arm.stop()
            arm = self._arm
            self.is_confirmed = arm.is_stop_confirmed if isinstance(arm, ConfirmingArm) else True
        except Exception as error:  # noqa: BLE001 - the fault is to be kept whatever happens
            logger.error("event=stop_failed reason=%r", error)
            self.is_confirmed = False
        self._again_ns = self._clock.now_ns() + _AGAIN_NS
        return self.is_confirmed

    def go_on(self) -> None:
        """Stops the arm once more, if that is due."""
        if not self.is_confirmed and self._clock.now_ns() >= self._again_ns and self.stop():
            logger.warning("event=stop_confirmed after it was sent again")
