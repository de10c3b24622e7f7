"""What the SDK raises while a stream is started again does not end the attempts."""

from __future__ import annotations

from collections.abc import Container

import pytest

from robot import realsense
from robot.doubles.realsense_device import SoftwareDevice
from robot.interfaces import RobotFault
from tests.robot.realsense_rig import WAIT_S, FilmedClock, make_config, wait_until

WORDS = "xioctl(VIDIOC_S_FMT) failed"


def breaking(function, *, at: Container[int]):
    """Returns a function that raises, as the SDK does, when it is called for one of these times."""
    num_calls = 0

    def call(*arguments, **named):
        nonlocal num_calls
        num_calls += 1
        if num_calls in at:
            raise RuntimeError(WORDS)
        return function(*arguments, **named)

    return call


# The second start is the one after the stream died, and a reset comes before it.
@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [(SoftwareDevice, "reset", 1), (SoftwareDevice, "start", 2), (realsense, "read_facts", 2)],
)
def test_what_the_sdk_raises_is_one_failed_attempt_and_the_next_is_made(
    owner, name, at, monkeypatch, caplog
):
    monkeypatch.setattr(owner, name, breaking(getattr(owner, name), at=[at]))
    filmed = FilmedClock(make_config(stall_s=0.05, max_restarts=2))
    before = filmed.camera.read()
    wait_until(lambda: filmed.camera.counts.num_restarts == 2)
    assert "restart 1 of 2 has failed: " in caplog.text
    assert WORDS in caplog.text

    def has_come_back() -> bool:
        filmed.feed()
        return filmed.camera.counts.num_shown > before.frame_number

    wait_until(has_come_back)
    assert filmed.camera.read().frame_number > before.frame_number
    filmed.camera.close()


def test_attempts_that_the_sdk_breaks_off_are_not_made_for_ever(monkeypatch):
    monkeypatch.setattr(SoftwareDevice, "start", breaking(SoftwareDevice.start, at=range(2, 9)))
    filmed = FilmedClock(make_config(stall_s=0.05, max_restarts=3))
    number = filmed.camera.read().frame_number
    with pytest.raises(RobotFault, match="3 attempts") as caught:
        filmed.camera.wait_for_newer(number, WAIT_S)
    assert caught.value.code == "camera_gone"
    assert WORDS in caught.value.message
    filmed.camera.close()
