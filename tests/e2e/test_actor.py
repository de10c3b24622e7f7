"""The actor, whole: its processes, their ends, and that no trial is lost or doubled by any."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from protos.trial import FALLBACK_CODES, Fallback, Outcome
from robot.sim.config import SimConfig
from services import cli
from services.actor_folder import ring_path_of
from services.actor_robot import robot_spec
from services.process import ExitCode
from services.ring_control import LinkState
from services.ring_memory import Ring
from tests.e2e.actor_rig import (
    QUICK,
    ActorProcess,
    check_delivered,
    count,
    make_config,
    make_ingress,
    spooled,
    stored,
)
from tests.services.rig import IngressProcess, is_gone, wait_until
from tests.services.small_weights import publish

NOBODY = "127.0.0.1:1"
# Trials of more than a second: whatever has to happen in the middle of one does.
SLOW = dataclasses.replace(QUICK, max_steps=60)


@pytest.fixture
def ingress(tmp_path: Path) -> Iterator[IngressProcess]:
    with make_ingress(tmp_path / "learner", make_config(tmp_path, NOBODY)) as made:
        yield made


@pytest.fixture
def slow_ingress(tmp_path: Path) -> Iterator[IngressProcess]:
    config = make_config(tmp_path, NOBODY, sim=SLOW)
    with make_ingress(tmp_path / "learner", config) as made:
        yield made


def test_it_runs_its_trials_delivers_them_and_leaves_nothing_behind(
    tmp_path: Path, ingress: IngressProcess
) -> None:
    config = make_config(tmp_path, ingress.address)
    with ActorProcess(tmp_path, config) as actor:
        assert actor.wait(150) == ExitCode.DONE
    trials = check_delivered(config, ingress.store)
    assert [t.outcome for t in trials] == [Outcome.FAILURE] * 5
    assert {t.provenance.actor for t in trials} == {"counter"}
    assert len({t.provenance.incarnation for t in trials}) == 1
    assert not list(actor.run.glob("*.pid"))
    assert not ring_path_of(config.spool).exists()
    assert "not_delivered=0" in actor.log_text()


def test_its_health_is_told_without_a_learner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(tmp_path, NOBODY, trials=None)
    words = ["actor", "status", "--spool", str(config.spool), "--json"]
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.num_complete > 0, timeout_s=60.0, what="a trial ended")
        code = cli.main(words)
        told = json.loads(capsys.readouterr().out)
        assert (code, told["problems"]) == (ExitCode.DONE, [])
        assert told["work"]["actor_id"] == "counter"
        assert told["work"]["num_ticks"] > 0
        actor.kill("actor")
        actor.wait(15)
    assert cli.main(words) == ExitCode.PEER_UNREACHABLE
    assert "ended without a word" in capsys.readouterr().out


def test_kill_9_of_loop_and_recorder_loses_and_doubles_nothing(
    tmp_path: Path, ingress: IngressProcess
) -> None:
    seed = int(os.environ.get("OFFWORLD_TEST_SEED", secrets.randbits(32)))
    print(f"OFFWORLD_TEST_SEED={seed}")  # noqa: T201 (shown when the test fails)
    dice = random.Random(seed)
    config = make_config(tmp_path, ingress.address, trials=16)
    kills = {"loop": 0, "recorder": 0}
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        while sum(kills.values()) < 8 and ring.num_complete < 15:
            head = ring.control.head + dice.randrange(3, 30)
            wait_until(
                lambda head=head: ring.control.head >= head or actor.process.poll() is not None,
                what="the loop goes on",
            )
            assert actor.process.poll() is None, actor.log_text()
            name = dice.choice(["loop", "recorder"])
            kills[name] += actor.kill(name)
        assert actor.wait(120) == ExitCode.DONE
    trials = check_delivered(config, ingress.store)
    print(kills, [t.outcome.value for t in trials])  # noqa: T201
    assert count(trials, Outcome.FAILURE) == 16
    assert count(trials, Outcome.ABORTED) <= kills["loop"]
    assert len(trials) == ring.num_begun
    assert sum(kills.values()) >= 4


def freeze_in_a_trial(actor: ActorProcess, ring: Ring, *, after: int) -> int:
    """Freezes the loop in a trial that has a step; returns which trial, one after the first few."""
    while True:
        wait_until(lambda: ring.num_begun > after and ring.has_open_trial, what="a trial is on")
        number, ticks = ring.num_begun, ring.control.num_ticks
        wait_until(
            lambda ticks=ticks: ring.control.num_ticks >= ticks + 2,
            what="it has a step",
        )
        pid = actor.pid_of("loop")
        assert pid is not None, actor.log_text()
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda pid=pid: is_frozen(pid), what="the loop is frozen")
        if ring.num_begun == number and ring.has_open_trial:
            return number
        os.kill(pid, signal.SIGCONT)  # the trial had just ended


def is_frozen(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_killed_loop_leaves_half_a_trial_that_is_kept_as_aborted(
    tmp_path: Path, slow_ingress: IngressProcess
) -> None:
    config = make_config(tmp_path, slow_ingress.address, sim=SLOW, trials=3)
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        num_before = freeze_in_a_trial(actor, ring, after=1) - 1
        assert actor.kill("loop")
        assert actor.wait(150) == ExitCode.DONE
    trials = check_delivered(config, slow_ingress.store)
    expected = [Outcome.FAILURE] * 3
    expected.insert(num_before, Outcome.ABORTED)
    assert [t.outcome for t in trials] == expected
    assert 0 < trials[num_before].num_steps < SLOW.max_steps
    assert "died" in trials[num_before].abort_reason
    assert len({t.provenance.seed for t in trials}) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_middle_of_a_trial_is_clean_and_quick(
    tmp_path: Path, slow_ingress: IngressProcess, number: int
) -> None:
    config = make_config(tmp_path, slow_ingress.address, sim=SLOW, trials=None)
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.num_begun >= 2, what="the second trial is on")
        children = [actor.pid_of(name) for name in ("loop", "recorder")]
        began = time.monotonic()
        actor.process.send_signal(number)
        assert actor.wait(60) == ExitCode.DONE
        assert time.monotonic() - began <= 10
    assert all(pid is not None and is_gone(pid) for pid in children)
    assert not ring_path_of(config.spool).exists()
    trials = check_delivered(config, slow_ingress.store)
    assert trials[-1].outcome is Outcome.ABORTED
    assert "stopped by request" in trials[-1].abort_reason
    assert count(trials[:-1], Outcome.FAILURE) == len(trials) - 1


def test_a_stop_without_a_learner_keeps_everything_for_the_next_start(tmp_path: Path) -> None:
    config = make_config(tmp_path, NOBODY, trials=None)
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.num_complete >= 3, what="trials go on without a learner")
        began = time.monotonic()
        assert actor.stop() == ExitCode.DONE
        assert time.monotonic() - began <= 10
    kept = spooled(config.spool)
    assert len(kept) >= 3
    assert {t.state for t in kept} == {"ready"}
    assert f"trials={len(kept)}" in actor.log_text()
    with make_ingress(tmp_path / "learner", config) as ingress:
        config = make_config(tmp_path, ingress.address, trials=1)
        with ActorProcess(tmp_path, config) as actor:
            assert actor.wait(150) == ExitCode.DONE
        assert len(check_delivered(config, ingress.store)) == len(kept) + 1


def test_a_second_signal_stops_at_once_and_still_loses_nothing(tmp_path: Path) -> None:
    config = make_config(tmp_path, NOBODY, trials=None, unreachable_s=0.3, drain_s=60.0)
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.num_complete >= 2, what="two trials are made")
        recorder = actor.pid_of("recorder")
        assert recorder is not None
        os.kill(recorder, signal.SIGSTOP)  # it will not end by itself
        wait_until(lambda: ring.num_complete >= 4, what="trials go on without a recorder")
        began = time.monotonic()
        actor.process.terminate()
        wait_until(lambda: actor.pid_of("loop") is None, what="the loop stops first")
        wait_until(lambda: time.monotonic() >= began + 1.5, what="no signal is an echo any more")
        actor.process.terminate()
        assert actor.wait(60) == ExitCode.DONE
        assert time.monotonic() - began < 15
    kept = spooled(config.spool)
    assert len(kept) == ring.num_begun
    assert {t.state for t in kept} == {"ready"}
    assert not any(t.damage for t in kept)


def test_a_killed_actor_takes_its_processes_along_and_the_next_one_finds_every_step(
    tmp_path: Path, slow_ingress: IngressProcess
) -> None:
    config = make_config(tmp_path, slow_ingress.address, sim=SLOW, trials=None)
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.num_begun >= 2, what="the second trial is on")
        children = [actor.pid_of(name) for name in ("loop", "recorder")]
        assert None not in children
        for pid in (actor.process.pid, *children):
            os.kill(pid, signal.SIGKILL)  # type: ignore[arg-type]
        actor.process.wait()
    num_begun, num_complete, was_open = ring.num_begun, ring.num_complete, ring.has_open_trial
    config = make_config(tmp_path, slow_ingress.address, sim=SLOW, trials=2)
    with ActorProcess(tmp_path, config) as actor:
        assert actor.wait(150) == ExitCode.DONE
    trials = check_delivered(config, slow_ingress.store)
    assert len(trials) == num_begun + 2
    assert count(trials, Outcome.FAILURE) == num_complete + 2
    assert count(trials, Outcome.ABORTED) == was_open
    assert len({t.provenance.incarnation for t in trials}) == 2
    assert not ring_path_of(config.spool).exists()


def test_its_processes_end_when_the_actor_is_killed(
    tmp_path: Path, ingress: IngressProcess
) -> None:
    config = make_config(tmp_path, ingress.address, trials=None)
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.num_complete >= 1, what="a trial is made")
        children = [actor.pid_of(name) for name in ("loop", "recorder")]
        actor.process.kill()
        actor.process.wait()
        for pid in children:
            assert pid is not None
            wait_until(lambda pid=pid: is_gone(pid), timeout_s=15, what="it ends by itself")
    # The processes of the killed one may still be ending: the next one waits for them.
    config = make_config(tmp_path, ingress.address, trials=1)
    with ActorProcess(tmp_path, config) as actor:
        assert actor.wait(150) == ExitCode.DONE
    check_delivered(config, ingress.store)


def test_one_actor_works_in_a_spool(tmp_path: Path) -> None:
    config = make_config(tmp_path, NOBODY, trials=None)
    with ActorProcess(tmp_path, config) as actor:
        actor.ring()
        (tmp_path / "second").mkdir()
        with ActorProcess(tmp_path / "second", config) as second:
            assert second.wait(90) == ExitCode.CANNOT_START
        assert str(actor.process.pid) in second.log_text()
        assert actor.stop() == ExitCode.DONE


def test_one_that_was_taken_over_ends_and_the_next_delivers_what_it_had(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    config = make_config(tmp_path, NOBODY, trials=None)
    with make_ingress(tmp_path / "learner", config, "--lease-ttl-s", "3") as ingress:
        config = dataclasses.replace(config, learner=ingress.address)
        other = dataclasses.replace(config, spool=tmp_path / "other" / "spool")
        with ActorProcess(tmp_path, config) as actor:
            ring = actor.ring()
            wait_until(lambda: len(stored(ingress.store)) > 0, what="a trial is delivered")
            recorder = actor.pid_of("recorder")
            assert recorder is not None
            os.kill(recorder, signal.SIGSTOP)
            num_complete = ring.num_complete
            wait_until(lambda: ring.num_complete >= num_complete + 2, what="more trials are made")
            with ActorProcess(tmp_path / "other", other) as successor:
                theirs = successor.ring()
                wait_until(lambda: theirs.control.link_state == LinkState.UP, what="it took over")
                os.kill(recorder, signal.SIGCONT)
                assert actor.wait(90) == ExitCode.CANNOT_START
                assert "was taken over by another process" in actor.log_text()
                wait_until(lambda: theirs.num_complete > 1, what="the other one goes on")
                assert successor.stop() == ExitCode.DONE
        kept = [t for t in spooled(config.spool) if t.state == "ready"]
        assert len(kept) >= 2
        # The one under way may have been committed while its sender stood still: unknown to it.
        assert not {t.trial_id for t in kept[1:]} & {r.trial_id for r, _ in stored(ingress.store)}
        for one in (config, other):
            with ActorProcess(tmp_path, dataclasses.replace(one, trials=1)) as again:
                assert again.wait(150) == ExitCode.DONE
        here = [t for folder in (config.spool, other.spool) for t in spooled(folder)]
        assert {t.state for t in here} == {"acked"}
        assert sorted(t.digest for t in here) == sorted(
            trial.digest() for _, trial in stored(ingress.store)
        )


def test_one_whose_name_is_in_use_ends_and_keeps_its_trials(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    config = make_config(tmp_path, NOBODY, trials=None)
    with make_ingress(tmp_path / "learner", config, "--lease-ttl-s", "3") as ingress:
        config = dataclasses.replace(config, learner=ingress.address)
        second = dataclasses.replace(config, spool=tmp_path / "second" / "spool")
        with ActorProcess(tmp_path, config) as actor:
            ring = actor.ring()
            wait_until(lambda: ring.control.link_state == LinkState.UP, what="it has its lease")
            with ActorProcess(tmp_path / "second", second) as late:
                assert late.wait(90) == ExitCode.CANNOT_START
            assert "event=actor_id_taken" in late.log_text()
            assert "actor counter is in use" in late.log_text()
            assert {t.state for t in spooled(second.spool)} == {"ready"}
            delivered = len(stored(ingress.store))
            wait_until(lambda: len(stored(ingress.store)) > delivered, what="the first goes on")
            assert actor.stop() == ExitCode.DONE


def test_an_actor_shows_its_learner_s_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-that-is-long-enough")
    config = make_config(tmp_path, NOBODY, trials=2)
    arguments = ("--token-file", str(token))
    with make_ingress(tmp_path / "learner", config, *arguments) as ingress:
        config = dataclasses.replace(config, learner=ingress.address)
        with ActorProcess(tmp_path, config) as stranger:
            assert stranger.wait(150) == ExitCode.CANNOT_START
        assert "token_file" in stranger.log_text()
        config = dataclasses.replace(config, token_file=token)
        with ActorProcess(tmp_path, config) as actor:
            assert actor.wait(150) == ExitCode.DONE
        assert count(check_delivered(config, ingress.store), Outcome.FAILURE) >= 2


def test_a_learner_of_another_robot_refuses_it(tmp_path: Path, ingress: IngressProcess) -> None:
    sim = dataclasses.replace(QUICK, max_steps=11)
    config = make_config(tmp_path, ingress.address, sim=sim, trials=None)
    with ActorProcess(tmp_path, config) as actor:
        assert actor.wait(150) == ExitCode.CANNOT_START
    assert "max_steps" in actor.log_text()
    assert {t.state for t in spooled(config.spool)} <= {"ready"}


def test_the_loop_plans_with_the_learners_weights_and_waits_for_them_after_each_trial(
    tmp_path: Path, ingress: IngressProcess
) -> None:
    config = make_config(
        tmp_path, ingress.address, policy="model", trials=4, max_missed_in_a_row=50
    )
    spec, weights = robot_spec(config), ingress.store / "weights"
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.control.recorder_heartbeat_ns > 0, what="the recorder works")
        assert ring.num_begun == 0
        for number in range(1, 5):  # what a trainer does: one version a trial
            wait_until(
                lambda number=number: len(stored(ingress.store)) >= number - 1,
                timeout_s=60,
                what="the trial before is committed",
            )
            publish(weights, spec, ledger_seq=number - 1)
        assert actor.wait(90) == ExitCode.DONE
    trials = check_delivered(config, ingress.store)
    assert [t.provenance.weights_version for t in trials] == [1, 2, 3, 4]
    for trial in trials:
        assert set(trial.steps["weights_version"]) <= {trial.provenance.weights_version, 0}
        is_planned = trial.steps["fallback"] == FALLBACK_CODES[Fallback.NONE]
        np.testing.assert_array_equal(np.isfinite(trial.steps["plan_value"]), is_planned)
        assert is_planned.any()


def test_a_simulated_arm_runs_as_fast_as_it_can(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    sim = SimConfig(task="reach", max_steps=4, image_size=40, render_size=64)
    config = make_config(tmp_path, NOBODY, robot="sim", sim=sim, pace="fast", trials=2)
    with make_ingress(tmp_path / "learner", config) as ingress:
        config = make_config(
            tmp_path,
            ingress.address,
            robot="sim",
            sim=sim,
            pace="fast",
            trials=2,
            source="eval",
        )
        with ActorProcess(tmp_path, config) as actor:
            assert actor.wait(90) == ExitCode.DONE
        trials = [trial for _, trial in stored(ingress.store)]
    assert [t.provenance.position_index for t in trials] == [0, 1]
    for trial in trials:
        assert trial.num_steps == 4
        assert trial.observations["image.front"].std() > 0
        np.testing.assert_array_equal(np.diff(trial.steps["t_scheduled_ns"]), 100_000_000)
