"""The desk of the person who watches a robot: keys and sticks in, words to the control loop out.

It runs in the process and thread that own the terminal. The loop reads the words when it likes
(`services/overseer.py`); neither ever waits for the other. A desk that falls silent lets go of the
robot: the arm holds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from protos.trial import RobotSpec
from robot.guard_messages import Stop
from robot.teleop import HALT, KeyTeleop, PadState, TeleopConfig, pad_action
from services import desk_texts, guard_client
from services.held_keys import HeldKeys
from services.overseer import Verdict, pack_command
from services.ring_control import Control, LoopState
from services.terminal import ESCAPE, GONE, Keyboard, KeyPress

logger = logging.getLogger(__name__)

START = "start"
"""The button of a gamepad that agrees, and lets a trial begin."""
_JUDGING = {"y": Verdict.SUCCESS, "n": Verdict.FAILURE, "x": Verdict.DISCARD}
_AGREEING = {"enter": Verdict.AGREED, START: Verdict.AGREED}
_BEAT_S = 0.02
_QUIET_NS = 1_000_000_000
"""What lets an arm move counts after so long without that key, and so long after it was asked for.
"""


class Pad(Protocol):
    """A gamepad that is asked and never waited for."""

    def poll(self) -> list[str]:
        """Takes in what came since the last call; returns the buttons pressed, named as keys."""
        ...

    @property
    def state(self) -> PadState | None:
        """Where sticks and buttons stand; None while there is no gamepad."""
        ...


class Desk:
    """Understands what a person does, and passes it on.

    Args:
        control: Where the words go.
        spec: The robot's.
        config: How keys and sticks feel.
        say: Shows the person a line.
        end: Called when the person asks for an orderly end, or cannot type any more.
        stop: Called when the person asks for a stop that stays.
        pad: A gamepad, if there is one.
        is_always_steering: Nobody else steers; else the person takes over and hands back.
        now_ns: Monotonic time, that of all processes of the machine.
    """

    def __init__(
        self,
        control: Control,
        spec: RobotSpec,
        config: TeleopConfig,
        *,
        say: Callable[[str], None],
        end: Callable[[], None],
        stop: Callable[[], None],
        pad: Pad | None = None,
        is_always_steering: bool = False,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._control, self._spec, self._config = control, spec, config
        self._say, self._end, self._stop = say, end, stop
        self._pad = pad
        self._is_always_steering = is_always_steering
        self._now_ns = now_ns
        self._keys = KeyTeleop(
            config,
            action_names=spec.action_names,
            action_scale=spec.action_scale,
            control_hz=spec.control_hz,
        )
        self._is_steering = is_always_steering
        self._is_ended = self._is_stopped = False
        self._shown: tuple[int, int] | None = None
        self._shown_ns, self._is_too_soon_said = now_ns(), False
        self._is_on, self._num_ticks = False, 0
        self._last_ns: dict[str, int] = {}
        self._held = HeldKeys()
        self._has_pad = pad is not None

    @property
    def is_ended(self) -> bool:
        """Whether the person asked for an end or a stop: nothing more is passed on."""
        return self._is_ended

    def beat(self, presses: Sequence[KeyPress] = ()) -> None:
        """Takes keys, asks the gamepad, and renews the words.

        Args:
            presses: Keys since the last beat.
        """
        self._announce()
        now_ns = self._now_ns()
        buttons = self._pad.poll() if self._pad is not None else []
        for press in [*presses, *(KeyPress(key=key, t_ns=now_ns) for key in buttons)]:
            if not self._is_ended:
                self._take(press)
            elif press.key == ESCAPE and not self._is_stopped:
                # Until the program is gone the arm may move.
                self._leave(ESCAPE)
        self._look_after_pad()
        self._control.operator_beat_ns = now_ns
        self._control.operator_command = pack_command(self._command(now_ns))

    def _announce(self) -> None:
        """Shows where the trials are, when that has changed."""
        control = self._control
        state, number = LoopState(control.loop_state), control.trial_number
        if state == LoopState.IN_TRIAL and not self._is_on and control.num_ticks > self._num_ticks:
            self._is_on = True
            self._say(desk_texts.on(number, is_steering=self._is_steering))
        has_not_counted_yet = state == LoopState.IN_TRIAL and number < control.operator_go
        if (state, number) == self._shown or has_not_counted_yet:
            return
        self._shown, self._shown_ns = (state, number), self._now_ns()
        self._is_too_soon_said = False
        # What was meant for the phase before means nothing in this one.
        self._keys.halt()
        self._is_steering = self._is_always_steering
        self._is_on, self._num_ticks = False, control.num_ticks
        control.is_paused = 0
        is_success = control.trial_says == Verdict.SUCCESS
        if text := desk_texts.of_state(state, number, is_success=is_success):
            self._say(text)

    def _take(self, press: KeyPress) -> None:
        key = press.key
        quiet_ns = press.t_ns - max(self._shown_ns, self._last_ns.get(key, self._shown_ns))
        self._last_ns[key] = press.t_ns
        is_repeat = self._held.is_repeat(press)
        if key in (ESCAPE, GONE, "q"):
            self._leave(key)
            return
        state = self._control.loop_state
        if state == LoopState.WAITING_FOR_OPERATOR and key in (HALT, START):
            # A key that is still held, or was meant for the trial that has just ended, does not
            # move an arm with hands around it.
            if quiet_ns >= _QUIET_NS:
                self._control.operator_go = self._control.trial_number + 1
            elif not (is_repeat and self._is_too_soon_said):
                self._is_too_soon_said = True
                self._say(desk_texts.TOO_SOON)
        elif state == LoopState.WAITING_FOR_VERDICT and not is_repeat:
            self._judge({**_JUDGING, **_AGREEING}.get(key))
        elif state == LoopState.IN_TRIAL and self._is_on:
            self._take_in_trial(press)
        elif state == LoopState.IN_TRIAL and (key == "p" or (key == HALT and not is_repeat)):
            # The arm goes to its start and nobody steers it: to hold it is to stop it. A space that
            # repeats is the one that let the trial begin, still held.
            self._leave(ESCAPE)

    def _take_in_trial(self, press: KeyPress) -> None:
        key, control = press.key, self._control
        if key in _JUDGING:
            self._judge(_JUDGING[key])
        elif key == "p":
            control.is_paused = 1 - control.is_paused
            self._keys.halt()
            self._say(desk_texts.PAUSED if control.is_paused else desk_texts.RESUMED)
        elif key == "i" and not self._is_always_steering:
            self._take_over(is_steering=not self._is_steering)
        elif control.is_paused == 0 and self._keys.press(key, press.t_ns):
            if key.isdecimal():
                self._say(f"speed {self._keys.speed}")
            elif not self._is_steering:
                self._take_over(is_steering=True)

    def _take_over(self, *, is_steering: bool) -> None:
        self._is_steering = is_steering
        if not is_steering:
            self._keys.halt()
        self._say(desk_texts.TAKEN_OVER if is_steering else desk_texts.HANDED_BACK)

    def _judge(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            self._control.set_operator_verdict(self._control.trial_number, verdict)
            if verdict is not Verdict.AGREED:
                self._say(desk_texts.JUDGED[verdict])

    def _leave(self, key: str) -> None:
        self._is_ended, self._is_stopped = True, key == ESCAPE
        self._keys.halt()
        (self._stop if key == ESCAPE else self._end)()
        self._say({ESCAPE: desk_texts.STOPPED, GONE: desk_texts.GONE, "q": desk_texts.ENDED}[key])

    def break_off(self, *, is_stopping: bool = False) -> None:
        """Asks for an end, or a stop that stays, because nobody listens here any more."""
        (self._stop if is_stopping else self._end)()

    def _look_after_pad(self) -> None:
        if self._pad is None:
            return
        has_pad = self._pad.state is not None
        if has_pad != self._has_pad:
            self._has_pad = has_pad
            self._say(desk_texts.PLUGGED if has_pad else desk_texts.UNPLUGGED)

    def _command(self, now_ns: int) -> np.ndarray | None:
        still = np.zeros(self._spec.action_size, np.float32)
        sticks = still
        if self._pad is not None and (state := self._pad.state) is not None:
            sticks = pad_action(self._config, state, self._spec.action_names)
        if self._is_ended:
            return still
        if sticks.any() and not self._is_steering and self._is_on:
            self._take_over(is_steering=True)
        if not self._is_steering:
            return None
        return np.clip(self._keys.action(now_ns) + sticks, -1.0, 1.0)


def stop_through_guard(folder: Path) -> None:
    """Has a real arm stopped and the stop latched, as `offworld actor stop` does.

    A guard that does not answer has its own reasons to stop the arm; that is waited for up to 10 s.

    Args:
        folder: SPOOL/run, where the guard works.
    """
    try:
        guard_client.ask_guard(folder, Stop())
    except guard_client.GuardUnreachable as error:
        logger.error("event=stop_not_heard reason=%s", error)


class DeskThread:
    """Keeps a desk beating while the `with` block lasts.

    Args:
        desk: Used by this thread alone from now on.
        keyboard: Where keys come from.
    """

    def __init__(self, desk: Desk, keyboard: Keyboard) -> None:
        self._desk, self._keyboard = desk, keyboard
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)

    def __enter__(self) -> DeskThread:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._done.is_set():
                self._desk.beat(self._keyboard.take(_BEAT_S))
        except OSError:  # nothing can be shown: the terminal is gone
            self._desk.break_off()
        except Exception:
            logger.exception("event=desk_broke")
            self._desk.break_off(is_stopping=True)
