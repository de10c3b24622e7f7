from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.interfaces import ArmState, RobotFault, StartPose
from robot.safety import SafetyGate, SafetyLimits

LIMITS = SafetyLimits()
AXES = ("x", "y", "z", "gripper")
SCALE = (0.0225, 0.0225, 0.0225, 0.25)
PERIOD_S = 0.1
START = StartPose(position_m=(0.40, 0.0, 0.10), gripper_opening=0.5)


def make_gate(limits=LIMITS, names=AXES, scale=SCALE) -> SafetyGate:
    gate = SafetyGate(limits, action_names=names, action_scale=scale, period_s=PERIOD_S)
    gate.start(START)
    return gate


def state_at(position_m, t_ns=0, **changes) -> ArmState:
    values = {
        "position_m": tuple(position_m),
        "rotation_rad": (math.pi, 0.0, 0.0),
        "gripper_opening": 0.5,
        "is_gripper_stuck": False,
        "t_ns": t_ns,
    }
    return ArmState(**(values | changes))


def test_an_action_displaces_the_last_target_and_not_the_measured_place():
    gate = make_gate()
    lagging = state_at((0.395, 0.0, 0.10))
    first = gate.check(np.array([1.0, 0, 0, 0]), lagging)
    assert first.target.position_m == pytest.approx((0.4225, 0.0, 0.10))
    assert not first.clamped
    held = gate.check(np.zeros(4), state_at((0.395, 0.0, 0.10), t_ns=10**8))
    assert held.target == first.target


def test_axes_follow_their_names():
    gate = make_gate(names=("gripper", "y"), scale=(0.25, 0.01))
    result = gate.check(np.array([-1.0, 1.0]), state_at(START.position_m))
    assert result.target.position_m == pytest.approx((0.40, 0.01, 0.10))
    assert result.target.gripper_opening == pytest.approx(0.25)
    assert result.executed_action.tolist() == [-1.0, 1.0]
    assert result.executed_action.dtype == np.float32


def test_a_diagonal_is_shortened_to_the_speed_limit_and_keeps_its_direction():
    result = make_gate().check(np.array([1.0, 1.0, 0, 0]), state_at(START.position_m))
    moved = np.subtract(result.target.position_m, START.position_m)
    assert np.linalg.norm(moved) == pytest.approx(LIMITS.max_speed_m_s * PERIOD_S)
    assert moved[0] == pytest.approx(moved[1])
    assert result.clamped
    assert result.executed_action[0] == pytest.approx(0.025 / math.sqrt(2) / 0.0225)


def test_a_gripper_at_its_end_is_no_clamp():
    gate = make_gate()
    for t_ns in range(0, 5 * 10**8, 10**8):
        result = gate.check(np.array([0, 0, 0, 1.0]), state_at(START.position_m, t_ns))
        assert not result.clamped
    assert result.target.gripper_opening == 1.0
    assert result.executed_action[3] == 0.0


def test_actions_sent_too_fast_do_not_exceed_the_speed_limit():
    gate = make_gate()
    y_m, t_ns = 0.0, 0
    for _ in range(40):
        y_m = gate.check(
            np.array([0, 1.0, 0, 0]), state_at((0.4, y_m, 0.1), t_ns)
        ).target.position_m[1]
        t_ns += 10_000_000
    assert y_m <= LIMITS.max_speed_m_s * (0.39 + 1.5 * PERIOD_S) + 1e-9


def test_jitter_of_the_caller_is_not_clamped():
    gate = make_gate()
    y_m, t_ns = 0.0, 0
    for late_ns in (0, 5_000_000, 0, 9_000_000, 1_000_000, 0):
        result = gate.check(np.array([0, 1.0, 0, 0]), state_at((0.4, y_m, 0.1), t_ns + late_ns))
        y_m = result.target.position_m[1]
        assert not result.clamped
        t_ns += 100_000_000


@given(
    actions=st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 4), min_size=1, max_size=60),
    step_ns=st.integers(0, 10**9),
)
def test_targets_stay_in_the_box_within_step_and_speed(actions, step_ns):
    gate = make_gate()
    place = np.array(START.position_m)
    opening = START.gripper_opening
    t_ns = 0
    path_m = 0.0
    for action in actions:
        asked = np.array(action, dtype=np.float32)
        result = gate.check(asked, state_at(place, t_ns))
        moved = np.subtract(result.target.position_m, place)
        length_m = float(np.linalg.norm(moved))
        path_m += length_m
        assert np.all(np.array(result.target.position_m) >= LIMITS.box_low_m)
        assert np.all(np.array(result.target.position_m) <= LIMITS.box_high_m)
        assert 0.0 <= result.target.gripper_opening <= 1.0
        assert length_m <= min(LIMITS.max_step_m, LIMITS.max_speed_m_s * PERIOD_S) + 1e-9
        assert path_m <= LIMITS.max_speed_m_s * (t_ns * 1e-9 + 1.5 * PERIOD_S) + 1e-9
        assert np.all(np.abs(result.executed_action) <= 1.0 + 1e-5)
        assert np.allclose(result.executed_action[:3] * SCALE[:3], moved, atol=1e-7)
        assert result.executed_action[3] * SCALE[3] == pytest.approx(
            result.target.gripper_opening - opening, abs=1e-6
        )
        if not result.clamped:
            assert np.allclose(result.executed_action[:3], asked[:3], atol=2e-6)
        place, opening = np.array(result.target.position_m), result.target.gripper_opening
        t_ns += step_ns


@given(
    index=st.integers(0, 3),
    bad=st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_an_action_that_is_no_number_latches_until_a_person_resets(index, bad):
    gate = make_gate()
    action = np.zeros(4)
    action[index] = bad
    with pytest.raises(RobotFault) as caught:
        gate.check(action, state_at(START.position_m))
    assert caught.value.code == "action_not_finite"
    for call in (
        lambda: gate.check(np.zeros(4), state_at(START.position_m)),
        lambda: gate.start(START),
    ):
        with pytest.raises(RobotFault) as again:
            call()
        assert again.value.code == "action_not_finite"
    gate.reset_by_person()
    assert gate.fault is None
    gate.start(START)
    gate.check(np.zeros(4), state_at(START.position_m))


@pytest.mark.parametrize("shape", [(), (3,), (5,), (4, 1), (0,)])
def test_an_action_of_the_wrong_size_latches(shape):
    gate = make_gate()
    with pytest.raises(RobotFault) as caught:
        gate.check(np.zeros(shape), state_at(START.position_m))
    assert caught.value.code == "action_size"


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (state_at((math.nan, 0.0, 0.1)), "state_not_finite"),
        (state_at(START.position_m, gripper_opening=math.inf), "state_not_finite"),
        (state_at((0.40, 0.0, 0.10 + LIMITS.max_lag_m + 0.01)), "not_following"),
        (state_at((0.40, LIMITS.box_high_m[1] + LIMITS.max_outside_m + 0.01, 0.1)), "outside_box"),
    ],
)
def test_an_arm_that_is_not_where_it_was_sent_latches(state, code):
    gate = make_gate()
    with pytest.raises(RobotFault) as caught:
        gate.check(np.zeros(4), state)
    assert caught.value.code == code
    assert gate.fault is not None


def test_a_start_outside_the_box_latches():
    gate = make_gate()
    for place in ((0.7, 0.0, 0.1), (math.nan, 0.0, 0.1)):
        with pytest.raises(RobotFault) as caught:
            gate.start(StartPose(position_m=place))
        assert caught.value.code == "start_outside_box"
        gate.reset_by_person()
    with pytest.raises(RuntimeError, match="start"):
        gate.check(np.zeros(4), state_at(START.position_m))


@pytest.mark.parametrize(
    "changes",
    [
        {"box_low_m": (0.6, -0.15, 0.0)},
        {"box_low_m": (math.nan, -0.15, 0.0)},
        {"max_speed_m_s": 0.0},
        {"max_step_m": -1.0},
        {"max_lag_m": math.inf},
    ],
)
def test_limits_that_limit_nothing_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes)).split("_low")[0]):
        SafetyLimits(**changes)


@pytest.mark.parametrize(
    ("names", "scale", "period_s"),
    [
        (("x", "roll"), (1.0, 1.0), 0.1),
        (("x", "x"), (1.0, 1.0), 0.1),
        (("x", "y"), (1.0,), 0.1),
        (("x", "y"), (1.0, 0.0), 0.1),
        (("x", "y"), (1.0, 1.0), 0.0),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(names, scale, period_s):
    with pytest.raises(ValueError, match="must be"):
        SafetyGate(LIMITS, action_names=names, action_scale=scale, period_s=period_s)
