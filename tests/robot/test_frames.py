"""What a frame is worth: its age, its place in the order, and when a camera is a fault."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot.clock import SimulatedClock
from robot.env import RobotEnv
from robot.fakes import CountingArm, CountingCamera, CountingTask, make_counting_env
from robot.faulty_camera import CameraTrouble, FaultyCamera
from robot.frames import FrameLimits, FrameWatch, Sighting
from robot.interfaces import Frame, RobotFault
from robot.observation import make_spec
from robot.sim.config import SimConfig
from robot.sim.env import make_sim_env

MS = 1_000_000
IMAGE = np.zeros((2, 2, 3), np.uint8)
STILL = np.zeros(2, np.float32)


class Shown:
    """A watch, and what a test shows it; times in milliseconds."""

    def __init__(self, **limits: float) -> None:
        self.watch = FrameWatch("front", FrameLimits(**limits))

    def at(self, now: int, *, number: int, taken: int, asked: int | None = None) -> Sighting:
        return self.watch.judge(
            Frame(image=IMAGE, t_ns=taken * MS, frame_number=number),
            asked_ns=(now if asked is None else asked) * MS,
            read_ns=now * MS,
        )


def seen(taken: int, *, is_stale: bool = False) -> Sighting:
    return Sighting(taken_ns=taken * MS, is_stale=is_stale)


def test_a_camera_that_works_is_never_stale():
    shown = Shown()
    for k in range(50):
        assert shown.at(100 * k + 30, number=3 * k, taken=100 * k) == seen(100 * k)


def test_a_repeat_is_as_old_as_it_was_at_first_whatever_its_stamp_says():
    shown = Shown()
    assert shown.at(1000, number=7, taken=990) == seen(990)
    assert shown.at(1100, number=7, taken=1100) == seen(990)
    assert shown.at(1190, number=7, taken=990) == seen(990), "at its limit"
    assert shown.at(1191, number=7, taken=1191) == seen(990, is_stale=True)
    assert shown.at(1300, number=8, taken=1300) == seen(1300)


def test_an_old_frame_under_a_new_number_is_old():
    shown = Shown()
    shown.at(1000, number=7, taken=1000)
    assert shown.at(1300, number=8, taken=1000) == seen(1000, is_stale=True)


@pytest.mark.parametrize(("number", "taken"), [(6, 1100), (8, 999), (7, 999), (6, 999)])
def test_what_goes_back_is_stale_however_young(number: int, taken: int):
    shown = Shown()
    shown.at(1000, number=7, taken=1000)
    assert shown.at(1100, number=number, taken=taken) == seen(min(taken, 1000), is_stale=True)
    assert shown.at(1200, number=8, taken=1200) == seen(1200), "one of them is forgiven"


def test_nothing_new_for_too_long_is_a_fault_until_a_person_has_seen_to_it():
    shown = Shown()
    shown.at(1000, number=7, taken=1000)
    assert shown.at(2000, number=7, taken=2000).is_stale
    for number, taken in ((7, 2001), (8, 1000), (6, 2001), (7, 900)):
        with pytest.raises(RobotFault) as caught:
            shown.at(2001, number=number, taken=taken)
        assert caught.value.code == "camera_stale"
        assert "1.001 s old; 1 s are allowed" in caught.value.message
    shown.watch.forget()
    assert shown.at(2001, number=1, taken=2000) == seen(2000)


def test_the_first_frame_may_be_a_fault_too():
    with pytest.raises(RobotFault, match="camera front shows nothing new"):
        Shown().at(5000, number=1, taken=1000)


def test_a_pause_between_two_looks_is_no_fault_of_a_camera_that_moves_on():
    shown = Shown()
    shown.at(0, number=1, taken=0)
    assert shown.at(60_000, number=1800, taken=59_970) == seen(59_970)


def test_a_camera_that_stood_still_during_a_pause_is_a_fault():
    shown = Shown()
    shown.at(0, number=1, taken=0)
    with pytest.raises(RobotFault, match="camera_stale"):
        shown.at(60_000, number=1, taken=60_000)


def test_the_time_that_an_answer_takes_makes_it_old_but_is_no_fault():
    shown = Shown()
    slow = shown.at(1300, number=1, taken=1000, asked=1000)
    assert slow == seen(1000, is_stale=True)
    slower = shown.at(5000, number=2, taken=1301, asked=1300)
    assert slower == seen(1301, is_stale=True)
    with pytest.raises(RobotFault, match="camera_stale"):
        shown.at(5001, number=2, taken=1301, asked=5000)


def test_a_stamp_a_little_ahead_of_the_clock_is_taken_for_now_and_one_far_ahead_for_a_fault():
    shown = Shown()
    assert shown.at(1000, number=1, taken=1005) == seen(1000)
    assert shown.at(1100, number=1, taken=1105) == seen(1000)
    with pytest.raises(RobotFault) as caught:
        shown.at(1200, number=2, taken=1401)
    assert caught.value.code == "camera_clock"
    assert "0.201 s ahead" in caught.value.message


def test_limits_are_kept_as_given():
    shown = Shown(max_age_s=0.05, fault_age_s=0.3)
    shown.at(0, number=1, taken=0)
    assert not shown.at(50, number=1, taken=0).is_stale
    assert shown.at(51, number=1, taken=0).is_stale
    assert shown.at(300, number=1, taken=0).is_stale
    with pytest.raises(RobotFault):
        shown.at(301, number=1, taken=0)


@pytest.mark.parametrize(
    ("first", "second"),
    [(0.0, 1.0), (0.2, 0.2), (0.3, 0.2), (-1, 1), (0.2, math.inf), (math.nan, 1)],
)
def test_limits_that_make_no_sense_are_refused(first: float, second: float):
    with pytest.raises(ValueError, match="max_age_s"):
        FrameLimits(max_age_s=first, fault_age_s=second)


# ---- through the environment --------------------------------------------------------------------


def troubled(troubles: dict[int, CameraTrouble], **limits: float) -> RobotEnv:
    env = make_counting_env(
        SimulatedClock(), camera_troubles=troubles, frame_limits=FrameLimits(**limits)
    )
    env.reset(0)
    return env


@pytest.mark.parametrize("trouble", [CameraTrouble.FREEZE, CameraTrouble.RESTAMP])
def test_the_environment_dates_a_repeat_and_says_when_it_is_stale(trouble: CameraTrouble):
    env = troubled(dict.fromkeys(range(2, 6), trouble))
    observations = [env.step(STILL).observation for _ in range(6)]
    taken_ms = [o.t_observed_ns // MS for o in observations]
    assert taken_ms == [100, 100, 100, 100, 100, 600]
    assert [o.is_stale for o in observations] == [False, False, False, True, True, False]


def test_an_image_under_a_new_number_is_as_old_as_its_stamp():
    env = troubled(dict.fromkeys(range(2, 5), CameraTrouble.RENUMBER))
    assert [env.step(STILL).observation.is_stale for _ in range(5)] == [False] * 3 + [True, False]


@pytest.mark.parametrize("trouble", [CameraTrouble.GO_BACK, CameraTrouble.COUNT_ANEW])
def test_a_frame_out_of_order_is_stale_at_once(trouble: CameraTrouble):
    env = troubled({2: trouble})
    assert [env.step(STILL).observation.is_stale for _ in range(3)] == [False, True, False]


def test_a_camera_that_lags_behind_is_stale_and_its_time_is_told():
    env = troubled({1: CameraTrouble.LAG_BEHIND}, max_age_s=0.4, fault_age_s=0.6)
    env.clock.sleep_until_ns(1000 * MS)
    observation = env.observe()
    assert (observation.t_observed_ns, observation.is_stale) == (500 * MS, True)


def step_until_it_fails(env: RobotEnv) -> RobotFault:
    for _ in range(12):
        try:
            env.step(STILL)
        except RobotFault as fault:
            return fault
    raise AssertionError("it goes on for ever")


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (CameraTrouble.FREEZE, "camera_stale"),
        (CameraTrouble.RUN_AHEAD, "camera_clock"),
        (CameraTrouble.UNPLUG, "camera_gone"),
    ],
)
def test_a_camera_fault_stops_the_arm_and_stays_until_a_person_clears_it(
    trouble: CameraTrouble, code: str
):
    env = troubled(dict.fromkeys(range(2, 13), trouble))
    fault = step_until_it_fails(env)
    assert fault.code == code
    assert env.fault is not None
    assert env.fault.code == code
    for call in (env.hold, lambda: env.reset(1)):
        with pytest.raises(RobotFault, match=code):
            call()
    env.reset_by_person()
    assert env.fault is None


def test_a_robot_that_a_person_cleared_begins_anew():
    env = troubled({2: CameraTrouble.UNPLUG, 3: CameraTrouble.COUNT_ANEW})
    assert step_until_it_fails(env).code == "camera_gone"
    env.reset_by_person()
    assert not env.reset(1).is_stale, (
        "a camera that was plugged in again counts from where it likes"
    )
    assert not env.step(STILL).observation.is_stale


def test_a_fault_of_before_stays_the_cause():
    env = troubled({1: CameraTrouble.UNPLUG})
    with pytest.raises(RobotFault, match="action_not_finite"):
        env.apply(np.array([math.nan, 0.0]))
    with pytest.raises(RobotFault, match="camera_gone"):
        env.observe()
    assert env.fault is not None
    assert env.fault.code == "action_not_finite"


def test_an_image_of_another_size_is_a_fault():
    env = make_counting_env(SimulatedClock(), image_size=16)
    arm = env._arm
    assert isinstance(arm, CountingArm)
    env._cameras["image.front"] = CountingCamera(arm, env.clock, image_size=8)
    with pytest.raises(RobotFault, match="camera_size"):
        env.reset(0)
    assert env.fault is not None
    assert env.fault.code == "camera_size"


def test_of_several_cameras_the_oldest_frame_counts():
    clock = SimulatedClock()
    parts, arm = make_counting_env(clock), CountingArm(clock)
    side = CountingCamera(arm, clock, name="side")
    spec = make_spec(
        task="count",
        camera_names=("front", "side"),
        image_size=16,
        action_names=("x", "y"),
        action_scale=(1.0, 1.0),
        control_hz=10.0,
        max_steps=10,
    )
    env = RobotEnv(
        arm=arm,
        cameras=[
            CountingCamera(arm, clock),
            FaultyCamera(side, clock, dict.fromkeys(range(1, 9), CameraTrouble.FREEZE)),
        ],
        reward=parts.reward,
        gate=parts._gate,
        task=CountingTask(arm),
        spec=spec,
        clock=clock,
    )
    env.reset(0)
    observations = [env.step(STILL).observation for _ in range(4)]
    assert {o.t_observed_ns for o in observations} == {0}
    assert [o.is_stale for o in observations] == [False, False, True, True]


def test_the_simulated_camera_is_fresh_through_trials_and_pauses():
    clock = SimulatedClock()
    env = make_sim_env(SimConfig(image_size=16, render_size=32), clock)
    for trial in range(3):
        observations = [env.reset(trial)] + [env.step(STILL).observation for _ in range(5)]
        assert not any(o.is_stale for o in observations)
        assert observations[-1].t_observed_ns == clock.now_ns()
        clock.advance(60_000 * MS)
    env.close()
