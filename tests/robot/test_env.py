from __future__ import annotations

import math

import numpy as np
import pytest

from robot.clock import MonotonicClock, SimulatedClock
from robot.env import RobotEnv
from robot.fakes import make_counting_env
from robot.interfaces import ArmState, RobotFault
from robot.observation import reduce_image, state_vector
from robot.sim.config import SimConfig
from robot.sim.env import make_sim_env
from tests.robot.doubles import make_blind_env

BLIND = SimConfig(image_size=8)
PERIOD_NS = 100_000_000


@pytest.fixture(scope="module")
def seeing():
    env = make_sim_env(SimConfig(image_size=48), SimulatedClock())
    yield env
    env.close()


def test_observations_fit_the_spec(seeing: RobotEnv):
    observation = seeing.reset(0)
    assert observation.fields.keys() == {field.name for field in seeing.spec.observations}
    for field in seeing.spec.observations:
        array = observation.fields[field.name]
        assert array.dtype == field.dtype
        assert array.shape == field.shape
    assert observation.fields["image.front"].std() > 10
    assert observation.t_observed_ns == seeing.clock.now_ns()


def test_a_reset_is_settled_and_repeats_bit_for_bit(seeing: RobotEnv):
    first = seeing.reset(7)
    seeing.step(np.array([1.0, -1.0], dtype=np.float32))
    again = seeing.reset(7)
    other = seeing.reset(8)
    for name in first.fields:
        assert np.array_equal(first.fields[name], again.fields[name])
    assert not np.array_equal(first.fields["image.front"], other.fields["image.front"])


def test_a_step_moves_by_the_action_and_takes_one_period():
    env, _ = make_blind_env(BLIND)
    before = env.reset(0, 8).fields["state"]
    t_ns = env.clock.now_ns()
    for _ in range(3):
        step = env.step(np.array([0.4, -0.9], dtype=np.float32))
        assert not step.terminated
        assert not step.applied.clamped
    assert env.clock.now_ns() == t_ns + 3 * PERIOD_NS
    moved = step.observation.fields["state"] - before
    assert moved[:2] == pytest.approx((3 * 0.4 * 0.0225, -3 * 0.9 * 0.0225), abs=5e-3)
    assert abs(moved[2]) < 1e-3
    assert step.observation.t_observed_ns == env.clock.now_ns()
    assert step.applied.t_commanded_ns == env.clock.now_ns() - PERIOD_NS


def test_apply_returns_at_once():
    env, _ = make_blind_env(BLIND)
    env.reset(0)
    t_ns = env.clock.now_ns()
    applied = env.apply(np.ones(2, dtype=np.float32))
    assert applied.t_commanded_ns == env.clock.now_ns() == t_ns


def test_the_border_holds_and_is_reported():
    env, _ = make_blind_env(BLIND)
    env.reset(0)
    for _ in range(25):
        step = env.step(np.array([0.0, 1.0], dtype=np.float32))
    assert step.applied.clamped
    assert step.applied.executed.tolist() == [0.0, 0.0]
    assert step.observation.fields["state"][1] == pytest.approx(0.15, abs=2e-3)


def test_hold_keeps_the_last_target():
    env, _ = make_blind_env(BLIND)
    env.reset(0, 8)
    target = env.step(np.array([1.0, 0.0], dtype=np.float32)).observation.fields["state"][:3]
    for _ in range(5):
        assert env.hold().executed.tolist() == [0.0, 0.0]
        env.clock.sleep_until_ns(env.clock.now_ns() + PERIOD_NS)
    assert env.observe().fields["state"][:3] == pytest.approx(target, abs=5e-3)


def test_reward_is_of_the_observation_it_is_asked_about():
    env, _ = make_blind_env(BLIND)
    early = env.reset(0)
    assert early.truth is not None
    while True:
        observation = env.observe()
        assert observation.truth is not None
        error_m = (observation.truth["target_m"] - observation.truth["held_m"])[:2]
        if np.linalg.norm(error_m) < 0.005:
            break
        env.step(np.clip(error_m / 0.0225, -1, 1).astype(np.float32))
    assert env.outcome_of(env.observe()) == (1.0, False)
    assert env.outcome_of(early) == (0.0, False)


def test_a_bad_action_stops_the_arm_until_a_person_resets():
    env, world = make_blind_env(BLIND)
    env.reset(0, 8)
    env.apply(np.array([1.0, 0.0], dtype=np.float32))
    with pytest.raises(RobotFault) as caught:
        env.apply(np.array([math.nan, 0.0], dtype=np.float32))
    assert caught.value.code == "action_not_finite"
    assert env.fault is not None
    assert env.fault.code == "action_not_finite"
    place_m = world.tool_pose()[0]
    env.clock.sleep_until_ns(env.clock.now_ns() + PERIOD_NS)
    assert env.observe().fields["state"][:3] == pytest.approx(place_m, abs=2e-3)
    for call in (lambda: env.apply(np.zeros(2)), env.hold, lambda: env.reset(1)):
        with pytest.raises(RobotFault):
            call()
    env.reset_by_person()
    assert env.fault is None
    env.reset(1)
    env.step(np.zeros(2, dtype=np.float32))


def test_a_broken_arm_latches_through_the_environment():
    env = make_counting_env(SimulatedClock(), fault_at_command=2)
    env.reset(0)
    env.step(np.zeros(2))
    env.step(np.zeros(2))
    with pytest.raises(RobotFault) as caught:
        env.step(np.zeros(2))
    assert caught.value.code == "collision"
    assert env.fault is not None
    assert env.fault.code == "collision"
    env.reset_by_person()
    env.reset(0)
    for _ in range(5):
        env.step(np.zeros(2))


class Puzzled:
    """A reward that cannot make anything of what it is shown, from an observation on."""

    def __init__(self, num_understood: int) -> None:
        self.num_understood = num_understood

    def begin(self, observation):
        self(observation)

    def __call__(self, _observation) -> float:
        self.num_understood -= 1
        if self.num_understood < 0:
            raise RobotFault("detector_failed", "expected to see the table")
        return 0.0

    def is_success(self, reward: float) -> bool:
        return reward >= 1


@pytest.mark.parametrize("num_understood", [0, 2])
def test_what_cannot_be_judged_stops_the_arm_and_stays_the_cause(num_understood: int):
    env, _ = make_blind_env(BLIND)
    env.reward = Puzzled(num_understood)

    def drive():
        env.reset(0)
        for _ in range(3):
            env.step(np.zeros(2, dtype=np.float32))

    with pytest.raises(RobotFault, match="detector_failed"):
        drive()
    assert env.fault is not None
    assert env.fault.code == "detector_failed"
    with pytest.raises(RobotFault):
        env.hold()


def test_stop_latches():
    env, _ = make_blind_env(BLIND)
    env.reset(0)
    env.stop()
    assert env.fault is not None
    assert env.fault.code == "stopped"
    with pytest.raises(RobotFault):
        env.hold()


def test_a_spec_that_the_cameras_do_not_fit_is_refused():
    env = make_counting_env(SimulatedClock())
    with pytest.raises(ValueError, match="front"):
        RobotEnv(
            arm=env._arm,
            cameras=[],
            reward=env.reward,
            gate=env._gate,
            task=env._task,
            spec=env.spec,
            clock=env.clock,
        )


class NotingClock(MonotonicClock):
    """Real time that notes what it told, and until when it was slept on."""

    def __init__(self) -> None:
        self.told_ns: list[int] = []
        self.deadlines_ns: list[int] = []

    def now_ns(self) -> int:
        self.told_ns.append(super().now_ns())
        return self.told_ns[-1]

    def sleep_until_ns(self, t_ns: int) -> None:
        self.deadlines_ns.append(t_ns)
        super().sleep_until_ns(t_ns)


def test_real_time_runs_in_real_time():
    clock = NotingClock()
    env = make_sim_env(SimConfig(image_size=48), clock)
    first = env.reset(0, 8)
    start_ns = clock.now_ns()
    for _ in range(5):
        clock.told_ns.clear()
        clock.deadlines_ns.clear()
        step = env.step(np.array([1.0, 0.0], dtype=np.float32))
        # A busy machine takes longer, but nothing asked it to.
        assert clock.deadlines_ns == [clock.told_ns[0] + PERIOD_NS]
        # The simulation has got as far as its last whole step.
        observed_ns = step.observation.t_observed_ns
        assert clock.deadlines_ns[0] - 10_000_000 <= observed_ns <= clock.now_ns()
    assert clock.now_ns() - start_ns >= 5 * PERIOD_NS
    moved = step.observation.fields["state"] - first.fields["state"]
    assert moved[0] > 0.08
    env.close()


def test_images_are_cropped_to_the_middle_and_averaged():
    image = np.zeros((4, 8, 3), dtype=np.uint8)
    image[:, 2:6] = 100
    image[:2, 2:4] = 200
    assert np.all(reduce_image(image, (4, 4, 3))[2:] == 100)
    small = reduce_image(image, (2, 2, 3))
    assert small[..., 0].tolist() == [[200, 100], [100, 100]]
    same = reduce_image(image[:, 2:6], (4, 4, 3))
    assert not np.shares_memory(same, image)
    with pytest.raises(ValueError, match="too small"):
        reduce_image(image, (5, 5, 3))


def test_roll_does_not_jump_where_the_tool_points_down():
    def at(roll: float) -> np.ndarray:
        return state_vector(
            ArmState(
                position_m=(0.4, 0.0, 0.1),
                rotation_rad=(roll, 0.0, 0.0),
                gripper_opening=0.5,
                is_gripper_stuck=True,
                t_ns=0,
            )
        )

    above, below = at(math.pi - 0.01), at(-math.pi + 0.01)
    assert below[3] - above[3] == pytest.approx(0.02, abs=1e-5)
    assert above[7] == 1.0
