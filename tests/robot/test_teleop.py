"""Keys and sticks become actions: how long a press lasts, what turns it round, what ends it."""

from __future__ import annotations

import numpy as np
import pytest

from robot.teleop import HALT, KeyTeleop, PadState, TeleopConfig, pad_action

MS = 1_000_000
CONFIG = TeleopConfig(hold_s=0.3, decay_s=0.2, speeds=(0.25, 1.0), first_speed=2)
PICK = ("x", "y", "z", "gripper")


def make_keys(*, names: tuple[str, ...] = PICK, hz: float = 10.0) -> KeyTeleop:
    scale = [0.25 if name == "gripper" else 0.02 for name in names]
    return KeyTeleop(CONFIG, action_names=names, action_scale=scale, control_hz=hz)


@pytest.mark.parametrize(
    ("key", "action"),
    [
        ("w", (1, 0, 0, 0)),
        ("s", (-1, 0, 0, 0)),
        ("a", (0, 1, 0, 0)),
        ("d", (0, -1, 0, 0)),
        ("up", (1, 0, 0, 0)),
        ("down", (-1, 0, 0, 0)),
        ("left", (0, 1, 0, 0)),
        ("right", (0, -1, 0, 0)),
        ("r", (0, 0, 1, 0)),
        ("f", (0, 0, -1, 0)),
        ("o", (0, 0, 0, 1)),
        ("c", (0, 0, 0, -1)),
    ],
)
def test_a_key_moves_its_axis(key: str, action: tuple[float, ...]) -> None:
    keys = make_keys()
    assert keys.press(key, 0)
    moved = keys.action(1 * MS)
    assert moved.dtype == np.float32
    assert moved.tolist() == list(action)


def test_a_press_holds_then_decays_to_rest_and_stays_there() -> None:
    keys = make_keys()
    keys.press("w", 100 * MS)
    at_ms = (100, 250, 400, 450, 500, 550, 600, 10_000)
    speeds = [float(keys.action(t * MS)[0]) for t in at_ms]
    assert speeds == pytest.approx([1, 1, 1, 0.75, 0.5, 0.25, 0, 0], abs=1e-6)
    assert keys.is_pressed(550 * MS)
    assert not keys.is_pressed(600 * MS)


def test_a_held_key_goes_on_from_the_first_press_to_the_last_repeat() -> None:
    keys = make_keys()
    keys.press("w", 0)
    # A terminal repeats for the first time after up to half a second, which is still moving.
    assert keys.action(450 * MS)[0] > 0.2
    for t_ms in range(480, 2000, 33):
        keys.press("w", t_ms * MS)
        assert keys.action((t_ms + 32) * MS)[0] == 1.0
    assert keys.action(3000 * MS)[0] == 0.0


def test_the_opposite_key_turns_round_at_once_and_other_axes_go_on() -> None:
    keys = make_keys()
    keys.press("w", 0)
    keys.press("a", 100 * MS)
    keys.press("s", 150 * MS)
    assert keys.action(200 * MS).tolist() == [-1, 1, 0, 0]


def test_halt_ends_everything_at_once() -> None:
    keys = make_keys()
    for key in ("w", "a", "r", "c"):
        keys.press(key, 0)
    assert keys.press(HALT, 1 * MS)
    assert not keys.action(1 * MS).any()


def test_digits_set_the_speed_of_the_arm_and_not_of_the_gripper() -> None:
    keys = make_keys()
    assert keys.press("1", 0)
    keys.press("w", 0)
    keys.press("c", 0)
    assert keys.action(0).tolist() == [0.25, 0, 0, -1]
    assert not keys.press("3", 0)
    assert not keys.press("0", 0)
    assert keys.speed == 1


@pytest.mark.parametrize("hz", [5.0, 10.0, 20.0, 50.0])
def test_one_press_closes_the_gripper_all_the_way_at_any_rate(hz: float) -> None:
    keys = make_keys(hz=hz)
    keys.press("c", 0)
    sent = [float(keys.action(round((k + 0.999) / hz * 1e9))[3]) for k in range(40)]
    assert -sum(sent) * 0.25 >= 1.0  # from fully open to fully closed
    assert sent[-1] == 0.0
    assert sum(n != 0 for n in sent) <= 5


def test_keys_of_axes_that_a_robot_has_not_mean_nothing() -> None:
    keys = make_keys(names=("x", "y"))
    assert [keys.press(key, 0) for key in "rfoczq"] == [False] * 6
    assert keys.action(0).tolist() == [0, 0]


def test_sticks_start_from_zero_outside_the_dead_zone_and_reach_one() -> None:
    config = TeleopConfig(dead_zone=0.2)
    for pushed, meant in ((0.19, 0.0), (0.2, 0.0), (0.6, 0.5), (1.0, 1.0), (-0.6, -0.5)):
        action = pad_action(config, PadState(forward=pushed, left=-pushed, up=pushed), PICK)
        assert action.tolist() == pytest.approx([meant, -meant, meant, 0.0], abs=1e-6)
    assert pad_action(config, PadState(is_closing=True), PICK).tolist() == [0, 0, 0, -1]
    assert pad_action(config, PadState(is_opening=True), ("gripper", "x")).tolist() == [1, 0]
    assert not pad_action(config, PadState(), PICK).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"hold_s": 0.0},
        {"hold_s": float("nan")},
        {"decay_s": 3.0},
        {"speeds": ()},
        {"speeds": (0.5, 1.5)},
        {"first_speed": 6},
        {"dead_zone": 1.0},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TeleopConfig(**wrong)  # type: ignore[arg-type]
