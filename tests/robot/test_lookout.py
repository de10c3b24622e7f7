"""The lookout: what it finds stale, when it has the arm held, and what a held robot does."""

from __future__ import annotations

import numpy as np
import pytest

from robot.cell import CellConfig
from robot.clock import SimulatedClock
from robot.env import RobotEnv
from robot.fakes import CountingArm, CountingReward, CountingTask
from robot.frames import FrameLimits
from robot.interfaces import Frame, RobotFault
from robot.lookout import Lookout
from robot.observation import make_spec
from robot.realsense_config import RealSenseConfig
from robot.safety import SafetyGate, SafetyLimits
from tests.services.rig import wait_until

MS = 1_000_000
LIMITS = FrameLimits(max_age_s=0.085, fault_age_s=1.0)


class Cam:
    """Shows frames as a test says."""

    name = "front"

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self.fault: RobotFault | None = None
        self.number = 0
        self.show()

    def show(self) -> None:
        self.number += 1
        image = np.zeros((2, 2, 3), np.uint8)
        self.frame = Frame(image=image, t_ns=self.clock.now_ns(), frame_number=self.number)

    def read(self) -> Frame:
        if self.fault is not None:
            raise self.fault
        return self.frame

    def close(self) -> None: ...


class HeldArm(CountingArm):
    """Counts how often it was held."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(clock)
        self.num_aside = self.num_held = self.num_commands = 0

    def hold(self, *, is_aside: bool = False) -> None:
        self.num_aside += is_aside
        self.num_held += not is_aside

    def rest(self) -> None: ...

    def command(self, target) -> None:
        self.num_commands += 1
        super().command(target)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(start_ns=10**9)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lookouts look when they are told to."""
    monkeypatch.setattr(Lookout, "_run", lambda self: None)


def test_an_arm_is_held_while_a_camera_shows_nothing_new_and_no_longer(clock, still):
    cameras, arm = [Cam(clock), Cam(clock)], HeldArm(clock)
    lookout = Lookout(cameras, LIMITS, clock)
    lookout.begin(arm)
    clock.advance(85 * MS)
    lookout.look()
    assert (lookout.is_blind, arm.num_aside) == (False, 0)
    cameras[0].show()
    clock.advance(1 * MS)
    for num in (1, 2):  # it is said again: a target may have been on its way
        lookout.look()
        assert (lookout.is_blind, arm.num_aside, arm.num_held) == (True, num, 0)
    cameras[1].show()
    lookout.look()
    assert not lookout.is_blind
    cameras[1].fault = RobotFault("camera_gone", "unplugged")
    lookout.look()
    assert lookout.is_blind
    lookout.end()
    lookout.look()
    assert (lookout.is_blind, arm.num_aside) == (False, 3)
    lookout.close()


@pytest.mark.parametrize("hz", [30, 15])
def test_frames_that_come_with_jitter_are_never_stale(hz: int, clock, still):
    rng = np.random.default_rng(3)
    config = CellConfig(control_hz=20.0, stream=RealSenseConfig(fps=hz))
    limits = FrameLimits(max_age_s=config.lookout_age_s)
    camera, arm = Cam(clock), HeldArm(clock)
    lookout = Lookout([camera], limits, clock)
    lookout.begin(arm)
    for k in range(1, 400):
        # Taken on time, and with us 20 to 35 ms later; until then the frame before is the newest.
        taken_ns = 10**9 + round(k * 1e9 / hz)
        comes_ns = taken_ns + round(rng.uniform(20, 35) * MS)
        while clock.now_ns() < comes_ns:
            clock.advance(5 * MS)
            lookout.look()
        camera.number += 1
        camera.frame = Frame(image=camera.frame.image, t_ns=taken_ns, frame_number=camera.number)
    assert arm.num_aside == 0
    lookout.close()


@pytest.mark.parametrize(
    ("control_hz", "fps", "age_s"),
    [(10.0, 30, 0.15), (20.0, 30, 0.075), (50.0, 30, 0.075), (20.0, 15, 0.15)],
)
def test_how_old_a_frame_becomes_follows_from_the_two_rates(control_hz, fps, age_s):
    config = CellConfig(control_hz=control_hz, stream=RealSenseConfig(fps=fps))
    assert config.lookout_age_s == pytest.approx(age_s)
    assert config.frames.max_age_s == 0.1
    with pytest.raises(ValueError, match="fault_age_s"):
        CellConfig(control_hz=10.0, frames=FrameLimits(max_age_s=0.1, fault_age_s=0.15))


def test_a_camera_that_died_is_not_started_again_before_its_silence_is_a_fault():
    frames = FrameLimits(max_age_s=0.1, fault_age_s=1.0)
    CellConfig(frames=frames, stream=RealSenseConfig(stall_s=1.0))
    with pytest.raises(ValueError, match="stall_s 0.9 is less than frames.fault_age_s 1"):
        CellConfig(frames=frames, stream=RealSenseConfig(stall_s=0.9))


def test_its_thread_looks_by_itself_and_ends(clock):
    camera, arm = Cam(clock), HeldArm(clock)
    lookout = Lookout([camera], LIMITS, clock)
    clock.advance(200 * MS)
    assert arm.num_aside == 0
    lookout.begin(arm)
    wait_until(lambda: lookout.is_blind and arm.num_aside > 1, what="the lookout looks")
    lookout.end()
    lookout.close()
    lookout.close()
    assert not lookout._thread.is_alive()


def make_env(clock: SimulatedClock, camera: Cam, arm: HeldArm, lookout: Lookout) -> RobotEnv:
    spec = make_spec(
        task="count",
        camera_names=("front",),
        image_size=2,
        action_names=("x", "y"),
        action_scale=(1.0, 1.0),
        control_hz=10.0,
        max_steps=10,
    )
    wide = SafetyLimits(
        box_low_m=(-9, -9, -9), box_high_m=(9, 9, 9), max_step_m=9, max_speed_m_s=90, max_lag_m=90
    )
    gate = SafetyGate(wide, action_names=("x", "y"), action_scale=(1.0, 1.0), period_s=0.1)
    return RobotEnv(
        arm=arm,
        cameras=[camera],
        reward=CountingReward(None),
        gate=gate,
        task=CountingTask(arm),
        spec=spec,
        clock=clock,
        frame_limits=FrameLimits(max_age_s=0.1),
        lookout=lookout,
    )


def test_a_robot_that_sees_nothing_new_is_held_and_goes_on_when_it_does(clock, still):
    camera, arm = Cam(clock), HeldArm(clock)
    lookout = Lookout([camera], LIMITS, clock)
    env = make_env(clock, camera, arm, lookout)
    env.reset(0)
    action = np.array([0.3, 0.0], np.float32)
    assert env.apply(action).executed == pytest.approx(action)
    assert (arm.num_commands, arm.num_held) == (1, 0)

    clock.advance(101 * MS)
    assert env.observe().is_stale
    applied = env.apply(np.zeros(2, np.float32))
    assert (arm.num_commands, arm.num_held) == (1, 1)
    assert not applied.clamped

    camera.show()
    assert not env.observe().is_stale
    env.apply(action)
    assert (arm.num_commands, arm.num_held) == (2, 1)

    # The camera dies while the next action is thought about.
    env.observe()
    clock.advance(90 * MS)
    lookout.look()
    applied = env.apply(action)
    assert (arm.num_commands, arm.num_held, arm.num_aside) == (2, 2, 1)
    assert (applied.executed.tolist(), applied.clamped) == ([0.0, 0.0], True)

    # What is not a number latches all the same.
    with pytest.raises(RobotFault, match="action_not_finite"):
        env.apply(np.array([np.nan, 0.0], np.float32))
    lookout.look()
    assert arm.num_aside == 2
    env.stop()
    lookout.look()
    assert arm.num_aside == 2
    env.close()


def test_a_robot_whose_lookout_broke_is_not_commanded_any_more(clock):
    camera, arm = Cam(clock), HeldArm(clock)
    lookout = Lookout([camera], LIMITS, clock)
    env = make_env(clock, camera, arm, lookout)
    env.reset(0)
    env.apply(np.zeros(2, np.float32))
    image = camera.frame.image
    camera.frame = None
    wait_until(lambda: lookout.failure is not None, what="the lookout breaks")
    camera.frame = Frame(image=image, t_ns=clock.now_ns(), frame_number=9)
    for _ in range(2):
        with pytest.raises(RobotFault, match="lookout_failed: AttributeError"):
            env.apply(np.zeros(2, np.float32))
    assert env.fault is not None
    assert arm.num_commands == 1
    with pytest.raises(RobotFault, match="lookout_failed"):
        env.reset(1)
    env.close()


def test_a_trial_that_is_over_is_not_looked_out_for(clock, still):
    camera, arm = Cam(clock), HeldArm(clock)
    lookout = Lookout([camera], LIMITS, clock)
    env = make_env(clock, camera, arm, lookout)
    env.reset(0)
    env.rest()
    clock.advance(500 * MS)
    lookout.look()
    assert arm.num_aside == 0
    env.close()
    assert not lookout._thread.is_alive()
