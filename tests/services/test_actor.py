"""The supervisor: who is started again, who is not, and what an actor leaves behind."""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from protos.trial import Outcome
from robot.clock import SimulatedClock
from robot.frames import FrameLimits
from robot.sim.config import SimConfig
from services import actor as actor_module
from services.actor import run_actor
from services.actor_config import ActorConfig, ActorRun
from services.actor_folder import ActorFolder, Recovered
from services.actor_robot import make_env, robot_spec
from services.config import ConfigError, build
from services.process import CannotStart, ExitCode, StopSignals
from services.ring import RingReader, RingWriter
from services.ring_memory import Ring
from services.spool import Spool, SpoolConfig
from services.spool_audit import read_spool
from tests.services.rig import wait_until
from tests.services.ring_processes import columns, make_provenance, make_spec, observation
from tests.services.ring_processes import write_trial as write

CONFIG = ActorConfig(
    robot="counting",
    sim=SimConfig(max_steps=4, image_size=8),
    policy="random",
    reserve_bytes=0,
    drain_s=0.5,
)


class Stage:
    """An actor whose processes are stand-ins."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = dataclasses.replace(CONFIG, spool=folder / "spool")
        self.stop = StopSignals()
        self.starts: list[str] = []
        self._monkeypatch = monkeypatch

    def play(self, *, loop: str, recorder: str = "record") -> int:
        roles = {"loop": loop, "recorder": recorder}

        def command(name: str, file: Path) -> list[str]:
            return [sys.executable, "-m", "tests.services.fake_processes", roles[name], str(file)]

        self._monkeypatch.setattr(actor_module, "command", command)
        return run_actor(self.config, self.stop)

    @property
    def run(self) -> Path:
        return self.config.spool / "run"

    def when(self, is_true: Callable[[], bool], then: Callable[[], None]) -> threading.Thread:
        def watch() -> None:
            wait_until(is_true)
            then()

        thread = threading.Thread(target=watch)
        thread.start()
        return thread

    def ring(self) -> Ring:
        wait_until(lambda: (self.run / "loop.pid").exists(), what="the actor starts")
        return Ring(ActorRun.read(self.run / "actor.toml").ring)

    def has_run(self, name: str) -> bool:
        return (self.run / f"{name}.pid").exists()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_a_loop_with_a_fault_is_not_started_again(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert stage.play(loop="fault") == ExitCode.CRASHED
    assert caplog.text.count("event=started process=loop") == 1
    assert "collision: something was in the way" in caplog.text


def test_a_loop_that_never_gets_to_a_trial_is_given_up(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("services.kept_process._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("services.kept_process._LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(actor_module, "_STARTS_WITHOUT_TRIAL", 3)
    assert stage.play(loop="crash") == ExitCode.CRASHED
    assert caplog.text.count("event=started process=loop") == 3
    assert "event=loop_given_up" in caplog.text


def test_the_loop_of_a_real_arm_is_not_started_again(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(ActorConfig, "is_simulated", property(lambda _self: False))
    assert stage.play(loop="crash") == ExitCode.CRASHED
    assert caplog.text.count("event=started process=loop") == 1


@pytest.mark.parametrize("roles", [("refuse", "record"), ("deaf", "refuse")])
def test_what_cannot_start_ends_the_actor(stage: Stage, roles: tuple[str, str]) -> None:
    loop, recorder = roles
    assert stage.play(loop=loop, recorder=recorder) == ExitCode.CANNOT_START


def test_a_recorder_is_always_started_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    watcher = stage.when(
        lambda: caplog.text.count("event=started process=recorder") >= 3, stage.stop.ask
    )
    assert stage.play(loop="deaf", recorder="crash") == ExitCode.DONE
    watcher.join()


def test_a_loop_that_hangs_is_killed_and_its_trial_kept(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(actor_module, "_HUNG_S", 0.3)
    watcher = stage.when(
        lambda: caplog.text.count("event=started process=loop") >= 2, stage.stop.ask
    )
    assert stage.play(loop="hang") == ExitCode.DONE
    watcher.join()
    assert "event=loop_hung" in caplog.text
    kept = list(read_spool(stage.config.spool))
    assert len(kept) >= 1
    assert {t.state for t in kept} == {"ready"}
    assert not stage.has_run("loop")


def test_a_loop_that_does_not_end_is_killed(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(actor_module, "_LOOP_STOP_S", 0.3)
    watcher = stage.when(lambda: stage.has_run("loop"), stage.stop.ask)
    began = time.monotonic()
    assert stage.play(loop="deaf") == ExitCode.DONE
    watcher.join()
    assert time.monotonic() - began < 10
    assert not stage.has_run("loop")


def test_it_ends_after_the_last_trial_only_when_told_to(stage: Stage) -> None:
    stage.config = dataclasses.replace(stage.config, exit_when_done=True)
    assert stage.play(loop="done") == ExitCode.DONE
    stage.config = dataclasses.replace(stage.config, exit_when_done=False)
    stays = threading.Event()

    def is_waiting() -> bool:
        if (stage.run / "recorder.pid").exists() and not (stage.run / "loop.pid").exists():
            stays.set()
        return stays.is_set()

    watcher = stage.when(is_waiting, stage.stop.ask)
    assert stage.play(loop="done") == ExitCode.DONE
    watcher.join()
    assert stays.is_set()


def test_what_a_killed_actor_left_in_memory_comes_to_disk(tmp_path: Path) -> None:
    spec = make_spec()
    with ActorFolder(tmp_path) as folder:
        ring = Ring.create(folder.ring_path, spec, num_trials=3)
        writer = RingWriter(ring)
        first, second = write(writer, spec, 0), write(writer, spec, 10)
        reader = RingReader(ring)
        with closing(Spool(SpoolConfig(root=tmp_path, reserve_bytes=0))) as spool:
            spool.add(reader.poll(0))
            reader.commit()  # the first one is on disk, and so is half of the second
            spool.add(reader.poll(0)[:3])
        third = "01926c3e-0000-7000-8000-000000000003"
        writer.begin(third, make_provenance(20), observation(20))
        writer.step(columns(spec, 20), observation(21))
    with ActorFolder(tmp_path) as folder:
        assert folder.recover(0) == Recovered(num_waiting=3, num_begun=3)
        assert not folder.ring_path.exists()
        assert folder.recover(0) == Recovered(num_waiting=3, num_begun=3)
    with closing(Spool(SpoolConfig(root=tmp_path, reserve_bytes=0))) as spool:
        trials = [spool.load(t) for t in (first, second, third)]
    assert [t.outcome for t in trials] == [Outcome.FAILURE, Outcome.FAILURE, Outcome.ABORTED]
    assert [t.num_steps for t in trials] == [4, 4, 1]
    assert "died" in trials[2].abort_reason


def test_an_actor_that_is_started_again_knows_how_many_trials_came_before(stage: Stage) -> None:
    for before in (0, 2, 4):
        stage.config = dataclasses.replace(stage.config, exit_when_done=True, upload_wait_s=0.0)
        assert stage.play(loop="two_trials") == ExitCode.DONE
        assert ActorRun.read(stage.run / "actor.toml").num_trials_before == before
        with closing(Spool(SpoolConfig(root=stage.config.spool, reserve_bytes=0))) as spool:
            for trial_id in spool.ready():  # delivered, and deleted long after
                spool.mark_acked(trial_id, 1)
            spool.collect_garbage(is_pressing=True)
            assert spool.num_begun() == before + 2


def test_something_that_is_no_ring_is_not_in_the_way(tmp_path: Path) -> None:
    with ActorFolder(tmp_path) as folder:
        folder.ring_path.write_bytes(b"not a ring")
        assert folder.recover(0) == Recovered(num_waiting=0, num_begun=0)
        assert not folder.ring_path.exists()


def test_process_ids_of_a_killed_actor_are_forgotten(tmp_path: Path) -> None:
    with ActorFolder(tmp_path) as folder:
        stale = folder.run / "loop.pid"
        stale.write_text("1\n")
    with ActorFolder(tmp_path):
        assert not stale.exists()


def test_a_spool_serves_one_actor(tmp_path: Path) -> None:
    with ActorFolder(tmp_path), pytest.raises(CannotStart, match="in use by process"):
        ActorFolder(tmp_path)
    with ActorFolder(tmp_path):
        pass


@pytest.mark.parametrize(
    "file", ["actor.lock", "children.lock", "loop.pid", "actor.toml", "../spool.lock"]
)
def test_a_folder_that_cannot_be_written_to_is_no_start_and_is_let_go_of(
    stage: Stage, file: str
) -> None:
    in_the_way = stage.run / file / "in-the-way"
    in_the_way.mkdir(parents=True)
    with pytest.raises(CannotStart, match=r"spool\S* cannot be used: .*See that its disk has room"):
        stage.play(loop="done")
    in_the_way.rmdir()
    in_the_way.parent.rmdir()
    with ActorFolder(stage.config.spool):
        pass


def test_a_full_disk_is_no_start(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as during:
        during.setattr(Path, "write_text", full)
        with pytest.raises(CannotStart, match="No space left on device"):
            ActorFolder(stage.config.spool)
    with monkeypatch.context() as during:
        during.setattr(os, "open", full)
        with pytest.raises(CannotStart, match="no space left"):
            ActorFolder(stage.config.spool)
    with ActorFolder(stage.config.spool) as folder:
        monkeypatch.setattr(Path, "unlink", full)
        assert folder.run.is_dir()


def test_a_ring_that_does_not_fit_is_refused_before_the_start(stage: Stage) -> None:
    sim = SimConfig(max_steps=10_000, image_size=1024, render_size=1024)
    stage.config = dataclasses.replace(stage.config, sim=sim, ring_trials=10_000)
    with pytest.raises(CannotStart, match="cannot create a ring"):
        stage.play(loop="done")
    assert not stage.has_run("loop")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learner", "nowhere"),
        ("learner", "host:0"),
        ("actor_id", "../up"),
        ("actor_id", ""),
        ("trials", 0),
        ("max_uncertainty", -1.0),
        ("drain_s", -0.1),
        ("wait_weights_s", float("nan")),
        ("ring_trials", 1),
        ("max_missed_in_a_row", 0),
        ("source", "offline"),
        ("pace", "faster"),
        ("robot", "toaster"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        build(ActorConfig, {key: value}, file="x.toml")


def test_an_uncertain_action_is_withheld_unless_the_file_says_otherwise() -> None:
    assert ActorConfig().max_uncertainty == 5.0
    assert build(ActorConfig, {"max_uncertainty": "none"}, file="x.toml").max_uncertainty is None


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, trials=None, max_uncertainty=0.5, spool=tmp_path)
    run = ActorRun(
        ring=tmp_path / "ring", incarnation="i", software="1", parent_pid=7, config=config
    )
    run.write(tmp_path / "actor.toml")
    assert ActorRun.read(tmp_path / "actor.toml") == run


@pytest.mark.parametrize("robot", ["sim", "counting"])
def test_the_limits_on_frames_reach_the_robot(robot: str) -> None:
    text = {"robot": robot, "sim": {"frames": {"max_age_s": 0.125, "fault_age_s": 0.25}}}
    config = build(ActorConfig, text, file="x.toml")
    env = make_env(config, SimulatedClock())
    assert {w._limits for w in env._watches.values()} == {config.sim.frames}
    assert config.sim.frames == FrameLimits(max_age_s=0.125, fault_age_s=0.25)
    env.close()
    with pytest.raises(ConfigError, match="max_age_s"):
        build(ActorConfig, {"sim": {"frames": {"max_age_s": 2.0}}}, file="x.toml")


@pytest.mark.parametrize("robot", ["sim", "counting"])
def test_the_spec_is_known_without_the_robot(robot: str) -> None:
    config = dataclasses.replace(CONFIG, robot=robot)  # type: ignore[arg-type]
    spec = robot_spec(config)
    assert spec.max_steps == 4
    assert {f.name for f in spec.observations} == {"image.front", "state"}
