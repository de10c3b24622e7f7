"""The loop's process from its first line on: early signals, and a robot that is let go of."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from robot.sim.config import SimConfig
from services.actor_config import ActorConfig, ActorRun
from services.actor_robot import robot_spec
from services.process import ExitCode
from services.ring_control import LoopState
from services.ring_memory import Ring, ring_folder
from tests.services.rig import ROOT

# The loop, with a signal at one place on its way, and a word on what becomes of the robot.
PROCESS = """
import os, signal, sys, time
from services import loop

def interrupted(function, is_before):
    def call(*arguments):
        if is_before:
            os.kill(os.getpid(), signal.SIGTERM)
        result = function(*arguments)
        if not is_before:
            os.kill(os.getpid(), signal.SIGTERM)
        return result
    return call

def watched(make_env):
    def make(*arguments):
        env = make_env(*arguments)
        stop, close = env.stop, env.close
        def say_stop():
            print("stop", flush=True)
            stop()
            STOP_FAILS
        def say_close():
            print("close", flush=True)
            close()
        env.stop, env.close = say_stop, say_close
        print("made", flush=True)
        return env
    return make

loop.make_env = watched(loop.make_env)
INTERRUPT
raise SystemExit(loop.main(sys.argv[1:]))
"""


class Case:
    """A run file for a counting robot, and its ring."""

    def __init__(self, folder: Path, policy: Literal["model", "random"] = "random") -> None:
        config = ActorConfig(
            robot="counting",
            sim=SimConfig(max_steps=4, image_size=8),
            spool=folder / "spool",
            policy=policy,
        )
        path = ring_folder() / f"offworld-test-{os.getpid()}-{secrets.token_hex(4)}"
        self.ring = Ring.create(path, robot_spec(config), num_trials=2)
        self.file = folder / "actor.toml"
        run = ActorRun(
            ring=path, incarnation="i", software="test", parent_pid=os.getpid(), config=config
        )
        run.write(self.file)

    def run(self, interrupt: str, *, stop_fails: str = "") -> tuple[int, list[str]]:
        code = PROCESS.replace("INTERRUPT", interrupt).replace("STOP_FAILS", stop_fails)
        ended = subprocess.run(
            [sys.executable, "-c", code, str(self.file)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        return ended.returncode, ended.stdout.split()


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    made.ring.unlink()


@pytest.mark.parametrize("is_before", [True, False])
def test_a_signal_while_the_robot_is_made_does_not_pass_over_its_stop(
    case: Case, *, is_before: bool
) -> None:
    code, said = case.run(f"loop.make_env = interrupted(loop.make_env, {is_before})")
    assert (code, said) == (ExitCode.DONE, ["made", "stop", "close"])
    assert case.ring.control.loop_state == LoopState.STOPPED
    assert case.ring.num_begun == 0


@pytest.mark.parametrize("name", ["configure_logging", "end_with_parent", "Ring"])
def test_a_signal_before_there_is_a_robot_ends_the_loop_without_one(case: Case, name: str) -> None:
    code, said = case.run(f"loop.{name} = interrupted(loop.{name}, False)")
    assert (code, said) == (ExitCode.DONE, [])
    assert case.ring.control.loop_state == LoopState.STOPPED


SLOW_SLOT = """
class Slot:
    version = 0
    def follow(self, announced):
        slow()

def slow(*_arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

loop._make_slot = MAKE
"""


@pytest.mark.parametrize(
    ("make", "said"), [("slow", []), ("lambda *_: Slot()", ["made", "stop", "close"])]
)
def test_a_signal_breaks_off_what_is_loaded_and_the_first_plan_of_new_weights(
    tmp_path: Path, make: str, said: list[str]
) -> None:
    case = Case(tmp_path, policy="model")
    case.ring.control.recorder_heartbeat_ns = time.monotonic_ns()
    try:
        began = time.monotonic()
        assert case.run(SLOW_SLOT.replace("MAKE", make)) == (ExitCode.DONE, said)
        assert time.monotonic() - began < 30.0
        assert case.ring.control.loop_state == LoopState.STOPPED
    finally:
        case.ring.unlink()


def test_a_robot_that_does_not_stop_is_let_go_of_nevertheless(case: Case) -> None:
    code, said = case.run(
        "loop.make_env = interrupted(loop.make_env, False)", stop_fails="raise RuntimeError"
    )
    assert (code, said) == (ExitCode.CRASHED, ["made", "stop", "close"])
