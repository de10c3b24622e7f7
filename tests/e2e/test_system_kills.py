"""Trainer, ingress, recorder and loop die at random while a robot works and a learner learns."""

from __future__ import annotations

import faulthandler
import json
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protos.trial import Outcome
from robot.sim.config import SimConfig
from services import cli
from services.actor_config import ActorConfig
from tests.e2e.actor_rig import check_counting, make_config, stored
from tests.e2e.system_audit import Score, check_learner, score
from tests.e2e.system_rig import OFFLINE_TRIALS, System

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

NOBODY = "127.0.0.1:1"


def counting(folder: Path) -> ActorConfig:
    """A trial each fifth of a second, which waits for nothing."""
    sim = SimConfig(control_hz=50.0, max_steps=10, image_size=24)
    return make_config(
        folder, NOBODY, sim=sim, policy="model", trials=None, wait_weights_s=0.0, drain_s=30.0
    )


def simulated(folder: Path) -> ActorConfig:
    """The simulated arm, in lockstep: each trial waits for weights that learned from the last."""
    sim = SimConfig(task="reach", max_steps=10, image_size=24, render_size=48)
    return make_config(
        folder,
        NOBODY,
        robot="sim",
        sim=sim,
        policy="model",
        trials=None,
        wait_weights_s=5.0,
        drain_s=30.0,
    )


def verify(
    folder: Path, config: ActorConfig, capsys: pytest.CaptureFixture[str]
) -> tuple[list[str], dict[str, int]]:
    """Runs `offworld trials verify`; returns the problems it names and the spool's counts."""
    capsys.readouterr()
    words = ["--store", str(folder / "store"), "--spool", str(config.spool), "--json"]
    code = cli.main(["trials", "verify", *words])
    told = json.loads(capsys.readouterr().out)
    problems = [f"{p['where']}: {p['what']}" for p in told["problems"]]
    assert code == (5 if problems else 0)
    return problems, told["spool"] | {"stored": told["num_trials"]}


def kill_and_compare(
    folder: Path, config: ActorConfig, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kills each of the four so many times, and asserts that nobody lost or doubled anything."""
    seed = int(os.environ.get("OFFWORLD_TEST_SEED", secrets.randbits(32)))
    print(f"OFFWORLD_TEST_SEED={seed}")  # noqa: T201 (shown when the test fails)
    with System(folder, config, seed=seed) as system:
        system.wait_for_trials(1)
        system.kill_each(times)
        version = system.settle()
    problems, counts = verify(folder, system.config, capsys)
    found = score(system, len(problems))
    killed = ", ".join(f"{count} {process}" for process, count in system.killed.items())
    with capsys.disabled():
        print(f"\n{config.robot} robot: killed {killed}; {found} (seed {seed})")  # noqa: T201
    assert problems == []
    assert set(system.killed.values()) == {times}
    num_begun, num_complete = system.ring.num_begun, system.ring.num_complete
    num_aborted = num_begun - num_complete
    assert num_aborted <= times + 1  # killed loops, and the stop
    assert found == Score(
        complete=num_complete, aborted=num_aborted, lost=0, doubled=0, mismatched=0
    )
    assert counts == {
        "open": 0,
        "ready": 0,
        "acked": num_begun,
        "rejected": 0,
        "stored": OFFLINE_TRIALS + num_begun,
    }
    check_learner(system, version)


def check_contents(folder: Path) -> None:
    """Asserts that every trial of the counting robot is contiguous, the aborted ones too."""
    for _, trial in stored(folder / "store")[OFFLINE_TRIALS:]:
        check_counting(trial)
        assert bool(trial.abort_reason) == (trial.outcome is Outcome.ABORTED)


def test_two_kills_of_each_process_lose_and_double_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_and_compare(tmp_path, counting(tmp_path), 2, capsys)
    check_contents(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("make", [counting, simulated], ids=["free", "in_lockstep"])
def test_forty_kills_lose_and_double_nothing(
    tmp_path: Path,
    make: Callable[[Path], ActorConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    faulthandler.cancel_dump_traceback_later()  # it takes minutes, and has deadlines of its own
    config = make(tmp_path)
    kill_and_compare(tmp_path, config, 10, capsys)
    if config.robot == "counting":
        check_contents(tmp_path)
