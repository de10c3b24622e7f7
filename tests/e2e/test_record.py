"""`offworld record` at a pseudo-terminal: a person steers a simulated arm, trials are stored."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulated arm is not installed")

from learner.store import TrialStore  # noqa: E402
from protos.trial import FALLBACK_CODES, Fallback, Outcome, Source, Trial  # noqa: E402
from services.actor_config import ActorConfig  # noqa: E402
from services.commands.record import RecordConfig  # noqa: E402
from services.config import build_file  # noqa: E402
from services.process import ExitCode  # noqa: E402
from tests.services.pty_rig import Typist  # noqa: E402
from tests.services.rig import ROOT  # noqa: E402

OPERATOR = FALLBACK_CODES[Fallback.OPERATOR]


def command(store: Path, *arguments: str) -> Sequence[str]:
    return ["record", "--store", str(store), "--sim.image-size", "32", *arguments]


def stored(store: Path) -> list[Trial]:
    opened = TrialStore.open(store, read_only=True)
    try:
        assert opened.fsck().problems == ()
        return [opened.load(row.trial_id) for row in opened.iter_rows()]
    finally:
        opened.close()


def begin_trial(person: Typist, number: int) -> None:
    person.let_begin(number)
    person.until(f"trial {number}: on, you steer")


def test_a_scripted_person_records_trials_into_an_offline_store(tmp_path: Path) -> None:
    steps = ("--sim.max-steps", "60", "--trials", "2")
    with Typist(command(tmp_path / "store", *steps)) as person:
        begin_trial(person, 1)
        for _ in range(8):  # as a held key repeats
            person.type(b"s")
            time.sleep(0.1)
        person.type(b"y")
        person.until("committed 1")

        begin_trial(person, 2)
        person.type(b"x")
        person.until("discarded")

        begin_trial(person, 3)
        person.type(b"\x1b[D")  # left
        person.until("Enter agrees")
        person.type(b"n")
        person.until("committed 2")
        assert person.wait() == ExitCode.DONE, person.text
        assert person.settings() == person.before

    first, second = stored(tmp_path / "store")
    for trial in (first, second):
        assert trial.provenance.source is Source.OFFLINE
        assert trial.provenance.actor == "operator"
        assert trial.is_trainable
        assert set(trial.steps["fallback"]) <= {OPERATOR, FALLBACK_CODES[Fallback.HOLD]}
        assert (trial.steps["fallback"] == OPERATOR).sum() > trial.num_steps / 2
        assert set(trial.steps["weights_version"]) == {0}
    assert first.provenance.seed != second.provenance.seed
    # What the keys said is what was commanded, and where the arm went.
    moved_m = np.diff(first.observations["state"][[0, -1], :2], axis=0)[0]
    assert set(np.sign(first.steps["action"][:, 0])) <= {-1.0, 0.0}
    assert not first.steps["action"][:, 1].any()
    assert moved_m[0] < -0.01
    assert abs(moved_m[1]) < 0.005
    assert np.diff(second.observations["state"][[0, -1], 1])[0] > 0.005
    # What the person said stands above the reward, also in the rewards.
    assert (first.outcome, first.steps["reward"][-1]) == (Outcome.SUCCESS, 1.0)
    assert (second.outcome, second.steps["reward"].max()) == (Outcome.FAILURE, 0.0)
    assert second.num_steps == 60
    assert first.num_steps < 60
    assert first.steps["truncated"][-1]


def test_a_gamepad_steers_and_one_that_is_unplugged_stops(tmp_path: Path) -> None:
    device = tmp_path / "js0"
    os.mkfifo(device)
    writer = os.open(device, os.O_RDWR)  # stays open whoever reads
    arguments = ("--trials", "1", "--sim.max-steps", "100", "--gamepad", str(device))
    with Typist(command(tmp_path / "store", *arguments)) as person:
        start = struct.pack("=IhBB", 0, 1, 1, 7) + struct.pack("=IhBB", 0, 0, 1, 7)
        person.let_begin(1, lambda: os.write(writer, start))
        person.until("trial 1: on, you steer")
        os.write(writer, struct.pack("=IhBB", 0, 32767, 2, 0))  # left stick to the right
        # As the kernel does when a device goes: the file is there, and there is nothing in it.
        time.sleep(0.5)
        os.close(writer)
        person.until("no gamepad, or it may not be read")
        person.until("Enter agrees")
        person.type(b"\r")
        assert person.wait() == ExitCode.DONE, person.text
        assert person.settings() == person.before
    (trial,) = stored(tmp_path / "store")
    to_left = trial.steps["action"][:, 1]
    assert to_left.min() == -1.0
    (moving,) = np.nonzero(to_left)
    assert moving[-1] < trial.num_steps / 2
    assert not trial.steps["action"][moving[-1] + 1 :].any()


def test_a_pause_is_one_step_that_holds(tmp_path: Path) -> None:
    with Typist(command(tmp_path / "store", "--sim.max-steps", "100", "--trials", "1")) as person:
        begin_trial(person, 1)
        person.type(b"w")
        person.type(b"p")
        person.until("paused")
        time.sleep(1.0)
        person.type(b"p")
        person.until("going on")
        person.until("Enter agrees")
        person.type(b"\r")
        assert person.wait() == ExitCode.DONE
    (trial,) = stored(tmp_path / "store")
    assert trial.num_steps == 100
    # How long other steps took is the machine's business.
    is_held = trial.steps["fallback"] == FALLBACK_CODES[Fallback.HOLD]
    gaps_s = np.diff(trial.steps["t_scheduled_ns"]) / 1e9
    (held,) = np.flatnonzero(is_held[:-1] & (gaps_s >= 0.9))
    assert not trial.steps["action"][held].any()


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("q", ExitCode.DONE, "ending"),
        ("escape", ExitCode.CRASHED, "a person stopped the arm"),
        ("SIGINT", ExitCode.DONE, ""),
        ("SIGTERM", ExitCode.DONE, ""),
    ],
)
def test_every_way_out_in_a_trial_restores_the_terminal_and_keeps_no_part_of_it(
    tmp_path: Path, how: str, code: ExitCode, says: str
) -> None:
    with Typist(command(tmp_path / "store", "--sim.max-steps", "1000")) as person:
        begin_trial(person, 1)
        person.type(b"w")
        assert person.settings() != person.before
        if how.startswith("SIG"):
            os.kill(person.process.pid, getattr(signal, how))
        else:
            person.type(b"\x1b" if how == "escape" else how.encode())
        assert person.wait() == code, person.text
        assert says in person.text
        assert person.settings() == person.before
    assert stored(tmp_path / "store") == []


def test_a_terminal_that_hangs_up_ends_it(tmp_path: Path) -> None:
    with Typist(command(tmp_path / "store", "--sim.max-steps", "1000")) as person:
        begin_trial(person, 1)
        person.hang_up()
        assert person.wait() in (ExitCode.DONE, ExitCode.CRASHED)
    assert stored(tmp_path / "store") == []


def test_trials_of_another_robot_or_learner_are_refused_before_the_first_one(
    tmp_path: Path,
) -> None:
    steps = ("--sim.max-steps", "3", "--trials", "1")
    with Typist(command(tmp_path / "store", *steps)) as person:
        begin_trial(person, 1)
        person.until("Enter agrees")
        person.type(b"\r")
        assert person.wait() == ExitCode.DONE, person.text
    with Typist(command(tmp_path / "store", "--sim.max-steps", "4")) as person:
        assert person.wait() == ExitCode.CANNOT_START
        assert "has trials of another robot: max_steps" in person.text
    learner = str(ROOT / "deploy" / "configs" / "demo-learner.toml")
    with Typist(command(tmp_path / "other", "--learner-config", learner)) as person:
        assert person.wait() == ExitCode.CANNOT_START
        assert "learns for another robot" in person.text
        assert "--actor-config" in person.text
    assert not (tmp_path / "other").exists()


def test_with_an_actor_s_file_the_robot_is_that_one_s_and_said_once(tmp_path: Path) -> None:
    actor = str(ROOT / "deploy" / "configs" / "demo-actor.toml")
    made = RecordConfig(actor_config=Path(actor)).actor()
    assert made.sim == build_file(ActorConfig, Path(actor)).sim
    with Typist(command(tmp_path / "store", "--actor-config", actor)) as person:
        assert person.wait() in (2, ExitCode.CANNOT_START)
        assert "sim: with actor_config this stands in its file" in person.text


def test_an_error_restores_the_terminal(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-calibration.toml")
    with Typist(command(tmp_path / "store", "--calibration", missing)) as person:
        assert person.wait() == ExitCode.CANNOT_START
        assert "no-calibration.toml" in person.text
        assert person.settings() == person.before
