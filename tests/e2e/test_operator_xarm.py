"""A person at a real arm's terminal, at doubles of arm and camera: recording through the guard, an
actor that asks first, and a stop that stays."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyrealsense2", reason="the camera's SDK is not installed")
pytest.importorskip("xarm", reason="the arm's SDK is not installed")

from learner.store import TrialStore  # noqa: E402
from protos.trial import FALLBACK_CODES, Fallback, Outcome, Source, Trial  # noqa: E402
from services.commands.record import RecordConfig  # noqa: E402
from services.config_text import to_toml  # noqa: E402
from services.guard import FAULT_FILE  # noqa: E402
from services.process import ExitCode  # noqa: E402
from services.spool import Spool, SpoolConfig  # noqa: E402
from tests.e2e.doubles_rig import LIMITS, DoubleProcess, make_patient_config  # noqa: E402
from tests.services.pty_rig import Typist  # noqa: E402

OPERATOR = FALLBACK_CODES[Fallback.OPERATOR]
NOBODY = "127.0.0.1:1"


pytestmark = pytest.mark.alone


@pytest.fixture
def double(tmp_path: Path) -> Iterator[DoubleProcess]:
    with DoubleProcess(tmp_path, "--rearrange-above=0.2") as made:
        yield made


def record_command(folder: Path, double: DoubleProcess, *, max_steps: int) -> list[str]:
    """A recording at the doubles, with the actor's hardware."""
    actor = make_patient_config(folder, NOBODY, double)
    config = RecordConfig(
        store=folder / "store",
        trials=1,
        robot="xarm7",
        calibration=actor.calibration,
        camera=actor.camera,
        limits=actor.limits,
        ip=actor.ip,
        sim=actor.sim,
        cell=dataclasses.replace(actor.cell, max_steps=max_steps),
        spool=actor.spool,
    )
    (folder / "record.toml").write_text(to_toml(config))
    return ["record", "--config", str(folder / "record.toml")]


def actor_command(folder: Path, double: DoubleProcess) -> list[str]:
    """An actor at the doubles that was not told whether somebody watches."""
    config = dataclasses.replace(make_patient_config(folder, NOBODY, double), drain_s=0.0)
    config = dataclasses.replace(config, cell=dataclasses.replace(config.cell, max_steps=60))
    (folder / "actor.toml").write_text(to_toml(config))
    return ["actor", "--config", str(folder / "actor.toml")]


def stored(store: Path) -> list[Trial]:
    with contextlib.closing(TrialStore.open(store, read_only=True)) as opened:
        assert opened.fsck().problems == ()
        return [opened.load(row.trial_id) for row in opened.iter_rows()]


def spooled(root: Path) -> list[Trial]:
    with contextlib.closing(Spool(SpoolConfig(root=root, reserve_bytes=0))) as spool:
        return [spool.load(trial_id) for trial_id in spool.ready()]


def test_a_person_records_a_trial_through_the_guard_and_the_arm_goes_where_the_keys_say(
    tmp_path: Path, double: DoubleProcess
) -> None:
    # A niceness that every user may have.
    actor = dataclasses.replace(make_patient_config(tmp_path, NOBODY, double), niceness=3)
    actor = dataclasses.replace(actor, cell=dataclasses.replace(actor.cell, max_steps=25))
    (tmp_path / "actor.toml").write_text(to_toml(actor))
    words = ["record", "--actor-config", str(tmp_path / "actor.toml"), "--trials", "1"]
    with Typist([*words, "--store", str(tmp_path / "store")]) as person:
        person.let_begin(1)
        assert os.getpriority(os.PRIO_PROCESS, person.process.pid) == 3
        person.until("trial 1: on, you steer")
        for _ in range(6):
            person.type(b"a")
            time.sleep(0.1)
        person.until("Enter agrees")
        person.type(b"y")
        assert person.wait() == ExitCode.DONE, person.text
        assert person.settings() == person.before
    (trial,) = stored(tmp_path / "store")
    assert trial.provenance.source is Source.OFFLINE
    assert (trial.outcome, trial.num_steps) == (Outcome.SUCCESS, 25)
    assert (trial.steps["fallback"] == OPERATOR).mean() > 0.5
    commanded_m = float(trial.steps["action_executed"][:, 1].sum()) * trial.spec.action_scale[1]
    moved_m = float(np.diff(trial.observations["state"][[0, -1], 1])[0])
    assert commanded_m > 0.01
    assert moved_m == pytest.approx(commanded_m, abs=0.01)
    seen_m = trial.observations["state"][:, :2]
    assert np.all(seen_m <= np.array(LIMITS.box_high_m[:2]) + 0.005)
    assert not (tmp_path / "spool" / "run" / FAULT_FILE).exists()


def test_escape_stops_the_arm_latches_it_and_the_next_recording_waits_for_an_ack(
    tmp_path: Path, double: DoubleProcess
) -> None:
    with Typist(record_command(tmp_path, double, max_steps=1000)) as person:
        person.let_begin(1)
        person.until("trial 1: on, you steer")
        person.type(b"a")
        person.type(b"\x1b")
        assert person.wait() == ExitCode.CRASHED, person.text
        assert person.settings() == person.before
    fault = json.loads((tmp_path / "spool" / "run" / FAULT_FILE).read_text())
    assert fault["code"] == "stopped"
    assert stored(tmp_path / "store") == []
    with Typist(record_command(tmp_path, double, max_steps=1000)) as person:
        assert person.wait(60.0) == ExitCode.CRASHED
        assert "stopped: motion was stopped by" in person.text.splitlines()[-1]
        assert person.settings() == person.before
    with Typist(["actor", "ack", "--spool", str(tmp_path / "spool")]) as person:
        assert person.wait() == ExitCode.DONE, person.text
    with Typist(record_command(tmp_path, double, max_steps=1000)) as person:
        person.until("trial 1: put the object back", timeout_s=60.0)
        person.type(b"q")
        assert person.wait() == ExitCode.DONE, person.text


@pytest.mark.slow
def test_an_actor_of_a_real_arm_at_a_terminal_asks_first_and_escape_latches(
    tmp_path: Path, double: DoubleProcess
) -> None:
    with Typist(actor_command(tmp_path, double)) as person:
        person.let_begin(1)
        assert "the model steers" not in person.text
        person.until("trial 1: on, the model steers")
        person.type(b"w")
        person.until("you steer")
        person.until("Enter agrees")
        person.type(b"\r")
        person.let_begin(2)
        person.until("trial 2: on")
        person.type(b"\x1b")
        person.wait()
        assert person.settings() == person.before
    first, second = spooled(tmp_path / "spool")
    assert first.outcome is not Outcome.ABORTED
    assert OPERATOR in first.steps["fallback"]
    assert second.outcome is Outcome.ABORTED
    fault = json.loads((tmp_path / "spool" / "run" / FAULT_FILE).read_text())
    assert fault["code"] == "stopped"
