"""A person beside an actor, at a pseudo-terminal: prompts, interventions, verdicts, the end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulated arm is not installed")

from protos.trial import FALLBACK_CODES, Fallback, Outcome, Trial  # noqa: E402
from services.process import ExitCode  # noqa: E402
from services.spool import Spool, SpoolConfig  # noqa: E402
from services.trial_run import DISCARDED  # noqa: E402
from tests.services.pty_rig import Typist  # noqa: E402
from tests.services.rig import ROOT  # noqa: E402

NONE, OPERATOR, HOLD = (
    FALLBACK_CODES[f] for f in (Fallback.NONE, Fallback.OPERATOR, Fallback.HOLD)
)
NOBODY = "127.0.0.1:1"


def command(folder: Path, *arguments: str) -> list[str]:
    """An actor at a simulated arm that draws its actions, with a person and without a learner."""
    shared = ("--learner", NOBODY, "--spool", str(folder / "spool"), "--policy", "random")
    sizes = ("--sim.image-size", "32", "--sim.max-steps", "60", "--max-missed-in-a-row", "1000")
    others = ("--reserve-bytes", "1000000", "--drain-s", "0", "--is-attended", "True")
    return ["actor", *shared, *sizes, *others, *arguments]


def spooled(folder: Path) -> list[Trial]:
    with contextlib.closing(Spool(SpoolConfig(root=folder / "spool", reserve_bytes=0))) as spool:
        return [spool.load(trial_id) for trial_id in spool.ready()]


def begin_trial(person: Typist, number: int) -> None:
    person.let_begin(number)
    person.until(f"trial {number}: on, the model steers")


def test_a_person_takes_over_judges_and_ends_it(tmp_path: Path) -> None:
    with Typist(command(tmp_path)) as person:
        begin_trial(person, 1)
        time.sleep(0.5)
        person.type(b"w")
        person.until("you steer")
        time.sleep(0.6)
        person.type(b"i")
        person.until("handed back")
        person.until("no success by the reward; Enter agrees")
        person.type(b"y")

        begin_trial(person, 2)
        person.type(b"x")
        person.until("discarded")

        begin_trial(person, 3)
        time.sleep(0.5)
        person.type(b"n")
        person.until("trial 4: put the object back")
        person.type(b"q")
        assert person.wait() == ExitCode.DONE, person.text
        assert person.settings() == person.before

    first, second, third = spooled(tmp_path)
    by = first.steps["fallback"]
    assert (first.outcome, first.num_steps, first.steps["reward"][-1]) == (Outcome.SUCCESS, 60, 1.0)
    assert set(by) <= set(FALLBACK_CODES.values())
    (theirs,) = np.nonzero(by == OPERATOR)
    assert by[0] == NONE
    assert by[-1] == NONE
    assert 3 <= len(theirs) <= 55
    # A step that the machine was late for is held, whoever steers.
    assert set(by[theirs[0] : theirs[-1] + 1]) <= {OPERATOR, HOLD}
    assert first.steps["action"][theirs, 0].max() > 0.3
    assert not first.steps["action"][theirs, 1].any()
    assert (second.outcome, second.abort_reason) == (Outcome.ABORTED, DISCARDED)
    assert (third.outcome, third.steps["truncated"][-1]) == (Outcome.FAILURE, True)
    assert third.num_steps < 60


def test_nothing_moves_before_the_person_says_so_and_escape_stops(tmp_path: Path) -> None:
    with Typist(command(tmp_path)) as person:
        person.until("trial 1: put the object back")
        time.sleep(1.5)
        assert person.process.poll() is None
        assert "the arm goes" not in person.text
        person.type(b" ")
        person.until("trial 1: on")
        person.type(b"\x1b")
        person.until("stopping the arm")
        assert person.wait() == ExitCode.DONE, person.text
        assert person.settings() == person.before
    (trial,) = spooled(tmp_path)
    assert trial.outcome is Outcome.ABORTED


def test_a_person_whose_terminal_goes_away_ends_it(tmp_path: Path) -> None:
    with Typist(command(tmp_path)) as person:
        begin_trial(person, 1)
        person.hang_up()
        person.wait()
    (trial,) = spooled(tmp_path)
    assert trial.outcome is Outcome.ABORTED


def test_an_operator_needs_a_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", *command(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == ExitCode.CANNOT_START
    assert "a terminal is needed" in done.stderr
