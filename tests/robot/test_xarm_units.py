"""The driver's arithmetic without an arm: units, codes, the way of a reset, configuration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot.interfaces import ArmState
from robot.xarm_codes import controller_fault, sdk_fault, state_fault
from robot.xarm_config import XArmConfig
from robot.xarm_reset import Arrival, reset_path
from robot.xarm_units import OPEN_PULSES, to_m, to_mm, to_opening, to_pulses, width_mm


def test_metres_go_to_millimetres_and_back():
    assert to_mm((0.4, -0.0215, 0.12)) == pytest.approx([400.0, -21.5, 120.0])
    place = (0.3217, -0.14999, 0.0151)
    assert to_m(to_mm(place)) == pytest.approx(place, abs=1e-12)


def test_openings_go_to_pulses_and_back():
    assert to_pulses(0.0) == 0
    assert to_pulses(1.0) == OPEN_PULSES
    for opening in np.linspace(0.0, 1.0, 201):
        assert to_opening(to_pulses(opening)) == pytest.approx(opening, abs=1.0 / OPEN_PULSES)
    pulses = [to_pulses(opening) for opening in np.linspace(0.0, 1.0, 201)]
    assert pulses == sorted(set(pulses))


@pytest.mark.parametrize(("opening", "pulses"), [(-0.5, 0), (1.5, OPEN_PULSES)])
def test_what_is_beyond_the_gripper_s_ends_is_cut_off(opening, pulses):
    assert to_pulses(opening) == pulses
    assert to_opening(2 * pulses - 100) == pytest.approx(float(pulses > 0))


def test_the_width_between_the_pads_is_the_vendor_s():
    assert width_mm(0) == pytest.approx(0.06, abs=0.01)
    assert width_mm(850) == pytest.approx(84.0, abs=0.1)


@pytest.mark.parametrize("code", [1, 2, 3, 10, 19, 21, 22, 23, 24, 31, 35, 60, 99])
def test_a_controller_error_is_named_after_its_number(code):
    fault = controller_fault(code)
    assert fault.code == f"controller_c{code}"
    assert f"C{code}: " in fault.message


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (-1, "connection_lost"),
        (-2, "state_stopped"),
        (-3, "sdk_refused"),
        (-8, "target_refused"),
        (-9, "state_stopped"),
        (1, "controller_error"),
        (2, "controller_warning"),
        (3, "sdk_timeout"),
        (6, "sdk_garbled"),
        (7, "sdk_garbled"),
        (8, "connection_lost"),
        (9, "state_stopped"),
        (10, "sdk_refused"),
        (19, "gripper_silent"),
        (22, "gripper_silent"),
        (28, "gripper_silent"),
        (100, "sdk_timeout"),
        (102, "gripper_error"),
        (4711, "sdk_error"),
    ],
)
def test_every_return_code_of_the_sdk_has_a_fault_that_says_what_was_tried(code, name):
    fault = sdk_fault(code, "sending a target")
    assert fault.code == name
    assert fault.message.startswith("sending a target: ")
    assert f"SDK code {code}" in fault.message


def test_states_in_which_the_arm_does_not_obey_are_faults():
    names = [None if (fault := state_fault(s)) is None else fault.code for s in range(7)]
    assert names == [
        None,
        None,
        None,
        "state_paused",
        "state_stopped",
        "state_stopped",
        "state_stopped",
    ]


@pytest.mark.parametrize(
    ("start", "goal", "path"),
    [
        (
            (0.3, 0.0, 0.05),
            (0.5, 0.1, 0.1),
            [(0.3, 0.0, 0.25), (0.5, 0.1, 0.25), (0.5, 0.1, 0.1)],
        ),
        ((0.3, 0.0, 0.30), (0.5, 0.1, 0.1), [(0.5, 0.1, 0.30), (0.5, 0.1, 0.1)]),
        ((0.3, 0.0, 0.25), (0.5, 0.1, 0.28), [(0.3, 0.0, 0.28), (0.5, 0.1, 0.28)]),
        ((0.3, 0.0, 0.05), (0.3, 0.0, 0.05), [(0.3, 0.0, 0.25), (0.3, 0.0, 0.05)]),
        ((0.3, 0.0, 0.25), (0.3, 0.0, 0.25), [(0.3, 0.0, 0.25)]),
    ],
)
def test_a_reset_lifts_crosses_and_descends(start, goal, path):
    assert reset_path(start, goal, 0.25) == path


def test_crossing_the_table_never_happens_below_the_safe_height():
    rng = np.random.default_rng(0)
    for _ in range(200):
        start, goal = (tuple(rng.uniform((0.25, -0.15, 0.01), (0.55, 0.15, 0.34))) for _ in "ab")
        places = [start, *reset_path(start, goal, 0.25)]
        assert places[-1] == goal
        for one, two in zip(places, places[1:], strict=False):
            if math.dist(one[:2], two[:2]) > 0:
                assert min(one[2], two[2]) >= 0.25


def state_at(place) -> ArmState:
    return ArmState(
        position_m=place,
        rotation_rad=(math.pi, 0.0, 0.0),
        gripper_opening=1.0,
        is_gripper_stuck=False,
        t_ns=0,
    )


def test_a_tool_that_passes_by_has_not_arrived():
    arrival = Arrival((0.4, 0.0, 0.2), 0.002)
    assert not any(arrival.take(state_at((0.39 + 0.001 * k, 0.0, 0.2))) for k in range(20))
    assert sum(arrival.take(state_at((0.4, 0.0, 0.2))) for _ in range(10)) == 5
    assert arrival.distance_m == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"fence_low_m": (0.2205, 0.0, 0.0)},
        {"fence_low_m": (0.6, -0.1, 0.0)},
        {"fence_high_m": (math.nan, 0.1, 0.3)},
        {"collision_sensitivity": 0},
        {"collision_sensitivity": 6},
        {"speed_m_s": 1.5},
        {"speed_m_s": 0.0},
        {"acceleration_m_s2": math.inf},
        {"gripper_speed_rpm": 0},
        {"gripper_speed_rpm": 5001},
        {"tool_mass_kg": 4.0},
        {"command_timeout_s": 0.0},
        {"position_tolerance_m": math.nan},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError, match="[a-z]"):
        XArmConfig(**changes)
