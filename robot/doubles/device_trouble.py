"""What can go wrong with the double of a camera; its numbers travel with the world it draws."""

from __future__ import annotations

import enum


class DeviceTrouble(enum.Enum):
    """What the camera may do instead of handing out what it is fed."""

    FREEZE = "hands out the same picture under growing numbers and times"
    REPEAT = "hands out the last frame again, with its number and its time"
    GO_BACK = "stamps frames with times of ten seconds ago"
    RUN_AHEAD = "stamps frames with times ten seconds from now"
    DROP = "loses every second frame"
    SLOW = "hands frames out half a second after they were taken"
    SILENCE = "hands out nothing, and can be started again"
    UNPLUG = "hands out nothing, and cannot be started again"
    HANG = "hands out nothing until its hardware was reset once, however often it is started"

    @property
    def number(self) -> int:
        """From 1 on; 0 is no trouble."""
        return 1 + list(DeviceTrouble).index(self)


def trouble_of(number: int) -> DeviceTrouble | None:
    """Returns the trouble of a number; ValueError if there is none such."""
    troubles = [None, *DeviceTrouble]
    if not 0 <= number < len(troubles):
        raise ValueError(f"a camera's trouble is 0 .. {len(troubles) - 1}, got {number}")
    return troubles[number]
