"""The loop's process with a model: where it plans, and that a plan which hangs does not keep it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.trial import Outcome
from robot.sim.config import SimConfig
from services.actor_config import ActorConfig, ActorRun
from services.actor_robot import robot_spec
from services.process import ExitCode
from services.records import WeightsMark
from services.ring import RingReader
from services.ring_memory import Ring, ring_folder
from tests.services.assembler import TrialAssembler
from tests.services.rig import ROOT
from tests.services.small_weights import publish

# The loop, and in it a policy that tells in which thread it works and hangs at plan HANGS_AT.
PROCESS = """
import sys, threading
from learner.algorithms.fowm_policy import FowmPolicy
from services import deciding, loop

if HANGS_AT:
    deciding.STUCK_NS = 300_000_000
num_plans = 0

def telling(name, function):
    def call(self, *arguments, **named):
        print(name, threading.current_thread().name, flush=True)
        return function(self, *arguments, **named)
    return call

def act(self, *arguments, **named):
    global num_plans
    num_plans += 1
    if num_plans == HANGS_AT:
        threading.Event().wait()
    return made(self, *arguments, **named)

made = telling("act", FowmPolicy.act)
FowmPolicy.act = act
FowmPolicy.load = telling("load", FowmPolicy.load)
FowmPolicy.warm_up = telling("warm_up", FowmPolicy.warm_up)
raise SystemExit(loop.main(sys.argv[1:]))
"""


class Case:
    """A run file for a counting robot that is planned for, its ring, and weights."""

    def __init__(self, folder: Path) -> None:
        config = ActorConfig(
            robot="counting",
            sim=SimConfig(max_steps=12, image_size=40),
            spool=folder / "spool",
            policy="model",
            trials=1,
            num_threads=1,
            max_missed_in_a_row=5,
        )
        spec = robot_spec(config)
        path = ring_folder() / f"offworld-test-{os.getpid()}-{secrets.token_hex(4)}"
        self.ring = Ring.create(path, spec, num_trials=2)
        manifest = publish(config.spool / "weights", spec)
        self.ring.control.announced_weights = WeightsMark.of(1, manifest.to_json())
        self.ring.control.recorder_heartbeat_ns = time.monotonic_ns()
        self.file = folder / "actor.toml"
        run = ActorRun(
            ring=path, incarnation="i", software="test", parent_pid=os.getpid(), config=config
        )
        run.write(self.file)

    def run(self, *, hangs_at: int) -> tuple[int, set[str], str]:
        ended = subprocess.run(
            [sys.executable, "-c", PROCESS.replace("HANGS_AT", str(hangs_at)), str(self.file)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return ended.returncode, set(ended.stdout.splitlines()), ended.stderr


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    made.ring.unlink()


def test_a_model_is_loaded_warmed_up_and_asked_in_one_thread_beside_the_loop(case: Case) -> None:
    code, said, log = case.run(hangs_at=0)
    assert code == ExitCode.DONE, log
    assert said == {"load planning", "warm_up planning", "act planning"}
    assert case.ring.num_begun == 1


def test_a_plan_that_hangs_aborts_its_trial_and_ends_the_loop(case: Case) -> None:
    code, _, log = case.run(hangs_at=3)
    assert code == ExitCode.CRASHED, log
    assert "a plan does not end" in log
    assembler, reader = TrialAssembler(), RingReader(case.ring)
    (trial,) = [t for r in reader.poll(0) if (t := assembler.add(r)) is not None]
    assert trial.outcome is Outcome.ABORTED
    assert "5 deadlines missed in a row" in trial.abort_reason
