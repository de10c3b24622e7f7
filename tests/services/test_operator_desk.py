"""The desk: which key does what in which phase, and what it never does."""

from __future__ import annotations

import numpy as np
import pytest

from protos.trial import RobotSpec
from robot.gamepad import BUTTONS
from robot.observation import make_spec
from robot.teleop import PadState, TeleopConfig
from services import desk_texts
from services.operator_desk import Desk, DeskThread
from services.overseer import Verdict, unpack_command
from services.ring_control import PAGE_BYTES, Control, LoopState
from services.terminal import ESCAPE, GONE, KeyPress
from tests.services.rig import wait_until

S = 1_000_000_000
SPEC: RobotSpec = make_spec(
    task="pick",
    camera_names=("front",),
    image_size=16,
    action_names=("x", "y", "z", "gripper"),
    action_scale=(0.02, 0.02, 0.02, 0.25),
    control_hz=10.0,
    max_steps=5,
)


class FakePad:
    """A gamepad whose buttons and sticks a test sets."""

    def __init__(self) -> None:
        self.state: PadState | None = PadState()
        self.pressed: list[str] = []

    def poll(self) -> list[str]:
        pressed, self.pressed = self.pressed, []
        return pressed


class Bench:
    """A desk on a control block, with time in hand."""

    def __init__(self, *, pad: FakePad | None = None, is_always_steering: bool = False) -> None:
        self.control = Control(np.zeros(PAGE_BYTES, np.uint8))
        self.now_ns = 10 * S
        self.said: list[str] = []
        self.asked: list[str] = []
        self.desk = Desk(
            self.control,
            SPEC,
            TeleopConfig(first_speed=5),
            say=self.said.append,
            end=lambda: self.asked.append("end"),
            stop=lambda: self.asked.append("stop"),
            pad=pad,
            is_always_steering=is_always_steering,
            now_ns=lambda: self.now_ns,
        )

    def enter(self, state: LoopState) -> None:
        self.control.loop_state = state
        self.desk.beat()

    def begin_trial(self) -> None:
        """Lets a trial begin as a loop does, up to its first tick."""
        self.control.trial_number += 1
        self.enter(LoopState.IN_TRIAL)
        self.control.num_ticks += 1
        self.desk.beat()

    def press(self, *keys: str, after_s: float = 0.0) -> None:
        self.now_ns += round(after_s * S)
        self.desk.beat([KeyPress(key=key, t_ns=self.now_ns) for key in keys])

    @property
    def command(self) -> list[float] | None:
        command = unpack_command(self.control.operator_command, 4)
        return None if command is None else command.tolist()

    @property
    def verdict(self) -> tuple[int, int]:
        return self.control.operator_verdict


def test_a_trial_begins_on_a_fresh_press_of_space_only() -> None:
    bench = Bench()
    bench.enter(LoopState.BETWEEN_TRIALS)
    bench.press("space")
    assert bench.control.operator_go == 0  # nobody asked
    bench.enter(LoopState.WAITING_FOR_OPERATOR)
    for key in ("enter", "y", "w", "x"):
        bench.press(key)
    for _ in range(40):  # the key is still held from before
        bench.press("space", after_s=0.1)
    assert bench.control.operator_go == 0
    bench.press("space", after_s=1.0)
    assert bench.control.operator_go == 1


def test_a_space_that_was_meant_for_the_trial_before_lets_no_trial_begin() -> None:
    bench = Bench()
    bench.control.trial_number = 1
    bench.enter(LoopState.IN_TRIAL)
    bench.press("a", after_s=5.0)
    bench.enter(LoopState.WAITING_FOR_OPERATOR)  # aborted: nobody is asked for a verdict
    bench.press("space", after_s=0.4)
    assert bench.control.operator_go == 0
    assert bench.said[-1] == desk_texts.TOO_SOON
    bench.press("space", after_s=0.9)
    assert bench.control.operator_go == 0
    bench.press("space", after_s=1.0)
    assert bench.control.operator_go == 2


def test_what_was_typed_before_the_first_prompt_lets_no_trial_begin() -> None:
    bench = Bench()
    early = KeyPress(key="space", t_ns=bench.now_ns - 3 * S)
    bench.control.loop_state = LoopState.WAITING_FOR_OPERATOR
    bench.desk.beat([early])
    assert bench.control.operator_go == 0


def test_a_verdict_may_be_tapped_again_and_again_but_not_held() -> None:
    bench = Bench()
    bench.control.trial_number = 1
    bench.enter(LoopState.IN_TRIAL)
    bench.press("enter", after_s=5.0)
    bench.enter(LoopState.WAITING_FOR_VERDICT)
    bench.press("enter", after_s=0.5)
    for _ in range(5):
        bench.press("enter", after_s=0.03)
    assert bench.verdict == (0, 0)
    bench.press("enter", after_s=0.9)
    assert bench.verdict == (1, Verdict.AGREED)


def test_keys_steer_in_a_trial_and_nowhere_else() -> None:
    bench = Bench(is_always_steering=True)
    for state in (LoopState.WAITING_FOR_OPERATOR, LoopState.WAITING_FOR_VERDICT):
        bench.enter(state)
        bench.press("w")
        assert bench.command == [0, 0, 0, 0]
    bench.control.trial_number += 1
    bench.enter(LoopState.IN_TRIAL)
    bench.press("w")  # the arm is on its way to the start
    bench.control.num_ticks += 1
    bench.press("a")
    assert bench.command == [0, 1, 0, 0]
    bench.press("c")
    assert bench.command == [0, 1, 0, -1]
    bench.press("space")
    assert bench.command == [0, 0, 0, 0]
    bench.press("w")
    bench.enter(LoopState.WAITING_FOR_VERDICT)
    assert bench.command == [0, 0, 0, 0]


@pytest.mark.parametrize("key", ["space", "p", ESCAPE])
def test_on_the_way_to_the_start_a_key_that_holds_stops_the_arm(key: str) -> None:
    bench = Bench()
    bench.enter(LoopState.WAITING_FOR_OPERATOR)
    bench.press("space", after_s=1.0)
    bench.control.trial_number += 1
    bench.enter(LoopState.IN_TRIAL)
    for _ in range(20):  # the key that let it begin is still held
        bench.press("space", after_s=0.1)
    assert bench.asked == []
    bench.press(key, after_s=1.0)
    assert bench.asked == ["stop"]
    assert bench.desk.is_ended


@pytest.mark.parametrize(("gap_s", "num"), [(0.7, 1), (0.4, 2), (0.2, 2)])
def test_on_the_way_to_the_start_hammering_the_key_that_began_it_stops_the_arm(
    gap_s: float, num: int
) -> None:
    bench = Bench()
    bench.enter(LoopState.WAITING_FOR_OPERATOR)
    bench.press("space", after_s=1.0)
    bench.control.trial_number += 1
    bench.enter(LoopState.IN_TRIAL)
    for _ in range(num):
        assert bench.asked == []
        bench.press("space", after_s=gap_s)
    assert bench.asked == ["stop"]


@pytest.mark.parametrize("key", ["q", GONE])
def test_an_end_does_not_take_the_stop_away(key: str) -> None:
    bench = Bench()
    bench.begin_trial()
    bench.press(key)
    bench.press("y", ESCAPE, after_s=0.1)
    bench.press(ESCAPE, after_s=0.1)
    assert bench.asked == ["end", "stop"]
    assert bench.verdict == (0, 0)


class BrokenKeyboard:
    """Hands out no keys but an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def take(self, timeout_s: float) -> list[KeyPress]:
        del timeout_s
        raise self._error


@pytest.mark.parametrize(
    ("error", "asked"), [(OSError("the terminal is gone"), "end"), (ValueError("a bug"), "stop")]
)
def test_a_desk_that_breaks_ends_the_program_and_a_bug_of_ours_stops_the_arm(
    error: Exception, asked: str
) -> None:
    bench = Bench()
    with DeskThread(bench.desk, BrokenKeyboard(error)):  # type: ignore[arg-type]
        wait_until(lambda: bench.asked != [])
    assert bench.asked == [asked]


def test_the_stop_button_of_a_gamepad_stops_the_arm() -> None:
    pad = FakePad()
    bench = Bench(pad=pad)
    bench.begin_trial()
    pad.pressed = [BUTTONS[0x13A]]
    bench.press()
    assert bench.asked == ["stop"]


@pytest.mark.parametrize("key", ["w", "i", "space"])
def test_a_person_takes_over_and_hands_back(key: str) -> None:
    bench = Bench()
    bench.begin_trial()
    assert bench.command is None
    bench.press("3")  # a speed is no motion
    assert bench.command is None
    bench.press(key)
    assert bench.command is not None
    bench.press(after_s=5.0)
    assert bench.command == [0, 0, 0, 0]  # theirs until they hand it back
    bench.press("i")
    assert bench.command is None
    assert [text for text in bench.said if "steer" in text] == [
        "trial 1: on, the model steers",
        "you steer; i hands back",
        "handed back: the model steers",
    ]


def test_the_next_trial_is_the_model_s_again() -> None:
    bench = Bench()
    bench.begin_trial()
    bench.press("w")
    bench.enter(LoopState.WAITING_FOR_VERDICT)
    bench.enter(LoopState.WAITING_FOR_OPERATOR)
    bench.begin_trial()
    assert bench.command is None


@pytest.mark.parametrize("state", [LoopState.IN_TRIAL, LoopState.WAITING_FOR_VERDICT])
@pytest.mark.parametrize(
    ("key", "verdict"), [("y", Verdict.SUCCESS), ("n", Verdict.FAILURE), ("x", Verdict.DISCARD)]
)
def test_a_verdict_names_its_trial(state: LoopState, key: str, verdict: Verdict) -> None:
    bench = Bench()
    bench.begin_trial()
    bench.control.loop_state = state
    bench.press(key)
    assert bench.verdict == (1, verdict)


def test_enter_agrees_when_asked_and_means_nothing_in_a_trial() -> None:
    bench = Bench()
    bench.begin_trial()
    bench.press("enter")
    assert bench.verdict == (0, 0)
    bench.control.trial_says = Verdict.SUCCESS
    bench.enter(LoopState.WAITING_FOR_VERDICT)
    assert "trial 1: success by the reward" in bench.said[-1]
    bench.press("enter")
    assert bench.verdict == (0, 0)  # still held
    bench.press("enter", after_s=1.0)
    assert bench.verdict == (1, Verdict.AGREED)


def test_a_pause_toggles_stops_motion_and_ends_with_the_trial() -> None:
    bench = Bench(is_always_steering=True)
    bench.begin_trial()
    bench.press("w")
    bench.press("p")
    assert bench.control.is_paused == 1
    assert bench.command == [0, 0, 0, 0]
    bench.press("w")
    assert bench.command == [0, 0, 0, 0]
    bench.press("p")
    assert bench.control.is_paused == 0
    bench.press("p")
    bench.enter(LoopState.WAITING_FOR_VERDICT)
    assert bench.control.is_paused == 0


@pytest.mark.parametrize(("key", "asked"), [(ESCAPE, "stop"), (GONE, "end"), ("q", "end")])
@pytest.mark.parametrize("state", list(LoopState))
def test_an_end_is_heard_in_every_state_once_and_nothing_after_it(
    key: str, asked: str, state: LoopState
) -> None:
    bench = Bench(is_always_steering=True)
    bench.begin_trial()
    bench.press("w")
    bench.control.loop_state = state
    bench.press(key, "y", "w", key)
    assert bench.asked == [asked]
    assert bench.verdict == (0, 0)
    assert bench.command == [0, 0, 0, 0]


def test_sticks_steer_take_over_and_add_to_keys() -> None:
    pad = FakePad()
    bench = Bench(pad=pad)
    bench.begin_trial()
    assert bench.command is None
    pad.state = PadState(left=1.0)
    bench.press()
    assert bench.command == [0, 1, 0, 0]
    bench.press("w", "a")
    assert bench.command == [1, 1, 0, 0]
    pad.state = PadState()
    bench.press(after_s=5.0)
    assert bench.command == [0, 0, 0, 0]
    pad.pressed = ["i"]
    bench.press()
    assert bench.command is None


def test_a_gamepad_that_is_unplugged_commands_nothing_and_is_said_once() -> None:
    pad = FakePad()
    bench = Bench(pad=pad, is_always_steering=True)
    bench.begin_trial()
    pad.state = PadState(forward=1.0)
    bench.press()
    assert bench.command == [1, 0, 0, 0]
    pad.state = None
    bench.press()
    bench.press()
    assert bench.command == [0, 0, 0, 0]
    assert sum("no gamepad" in text for text in bench.said) == 1
    bench.press("a")
    assert bench.command == [0, 1, 0, 0]
    pad.state = PadState()
    bench.press()
    assert "gamepad is there" in bench.said[-1]


def test_the_start_button_agrees_and_lets_a_trial_begin() -> None:
    pad = FakePad()
    bench = Bench(pad=pad)
    bench.begin_trial()
    bench.enter(LoopState.WAITING_FOR_VERDICT)
    pad.pressed = ["start"]
    bench.press()
    assert bench.verdict == (1, Verdict.AGREED)
    bench.enter(LoopState.WAITING_FOR_OPERATOR)
    pad.pressed = ["start"]
    bench.press(after_s=0.5)
    assert bench.control.operator_go == 0
    pad.pressed = ["start"]
    bench.press(after_s=1.0)
    assert bench.control.operator_go == 2
