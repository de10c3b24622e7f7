"""The person beside an actor: whether there is one, and their desk in the supervisor's process."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

from services.actor_config import ActorConfig
from services.process import StopSignals
from services.ring_memory import Ring


def with_attendance(config: ActorConfig) -> ActorConfig:
    """Returns the configuration with `is_attended` decided: a real arm at a terminal has one."""
    if config.is_attended is not None:
        return config
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return dataclasses.replace(config, is_attended=not config.is_simulated and has_terminal)


@contextlib.contextmanager
def desk_of(config: ActorConfig, run_folder: Path, ring: Ring, stop: StopSignals) -> Iterator[None]:
    """Keeps the person's desk, if there is a person, while the block lasts.

    Args:
        config: With `is_attended` decided.
        run_folder: Where the guard works.
        ring: Whose words the loop reads.
        stop: Asked when the person ends it.

    Raises:
        NotATerminal: There shall be a person, and nobody can type.
    """
    if not config.is_attended:
        yield
        return
    # Loaded for a person only.
    from robot.gamepad import Gamepad
    from services import console, desk_texts
    from services.operator_desk import Desk, DeskThread, stop_through_guard
    from services.terminal import Keyboard

    def stop_arm() -> None:
        if not config.is_simulated:
            stop_through_guard(run_folder)
        stop.ask()

    with contextlib.ExitStack() as ending:
        keyboard = ending.enter_context(Keyboard())
        console.say(desk_texts.KEYS + "\n" + desk_texts.INTERVENING)
        pad = None if config.gamepad is None else Gamepad(config.gamepad)
        if pad is not None:
            ending.callback(pad.close)
            console.say(desk_texts.PAD)
        desk = Desk(
            ring.control,
            ring.spec,
            config.teleop,
            say=console.say,
            end=stop.ask,
            stop=stop_arm,
            pad=pad,
        )
        ending.enter_context(DeskThread(desk, keyboard))
        yield
