"""`offworld actor status` says how the actor of this machine is, and asks nobody for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from robot.fault_store import FaultStore
from robot.interfaces import RobotFault
from robot.sim.config import SimConfig
from services import cli
from services.actor import RUN_FILE
from services.actor_config import ActorConfig, ActorRun
from services.actor_folder import PID_FILE, ActorFolder
from services.actor_robot import robot_spec
from services.guard import FAULT_FILE
from services.process import ExitCode
from services.ring_control import Control, LinkState, LoopState
from services.ring_memory import Ring, RingUnusable, read_control
from services.spool import Spool, SpoolConfig
from tests.services.test_spool import records_of

CONFIG = ActorConfig(
    robot="counting", actor_id="arm-1", sim=SimConfig(max_steps=4, image_size=8), reserve_bytes=0
)


class FakeActor:
    """What an actor leaves on its machine, made by hand; this process is its supervisor."""

    def __init__(self, spool: Path) -> None:
        self.spool, self.run = spool, spool / "run"
        self.folder = ActorFolder(spool)
        self.ring = Ring.create(self.folder.ring_path, robot_spec(CONFIG), num_trials=2)
        self.control = self.ring.control
        self.write(os.getpid())
        self.control.loop_state = LoopState.WAITING_FOR_WEIGHTS
        self.control.loop_heartbeat_ns = time.monotonic_ns()
        self.control.recorder_heartbeat_ns = time.monotonic_ns()

    def write(self, parent_pid: int) -> None:
        run = ActorRun(
            ring=self.ring.path,
            incarnation="i",
            software="s",
            parent_pid=parent_pid,
            config=CONFIG,
        )
        run.write(self.run / RUN_FILE)

    def status(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
        code = cli.main(["actor", "status", "--spool", str(self.spool), "--json"])
        return code, json.loads(capsys.readouterr().out)

    def close(self) -> None:
        self.ring.unlink()
        self.folder.__exit__()


@pytest.fixture
def actor(tmp_path: Path) -> Iterator[FakeActor]:
    with closing(FakeActor(tmp_path / "spool")) as made:
        yield made


def long_ago_ns() -> int:
    return time.monotonic_ns() - 3_600_000_000_000


def test_one_that_works_is_well_with_a_learner_or_without(
    actor: FakeActor, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = Spool(SpoolConfig(root=actor.spool, reserve_bytes=0))
    spool.add(records_of(1, number=1))
    spool.add(records_of(2, number=2)[:-1])
    for state in (LinkState.UP, LinkState.DOWN):
        actor.control.set_link(state)
        code, told = actor.status(capsys)
        assert (code, told["is_well"], told["problems"]) == (0, True, [])
        assert told["work"]["link"] == state.name.lower()
    assert told["work"]["actor_id"] == "arm-1"
    assert told["work"]["loop_state"] == "waiting_for_weights"
    assert told["trials"] == {"open": 1, "ready": 1, "acked": 0, "rejected": 0}
    assert cli.main(["actor", "status", "--spool", str(actor.spool)]) == 0
    out = capsys.readouterr().out
    assert "arm-1, robot counting" in out
    assert "1 trials to send" in out
    assert "NOT WELL" not in out
    spool.close()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            lambda c: setattr(c, "loop_heartbeat_ns", long_ago_ns()),
            ExitCode.PEER_UNREACHABLE,
            "the loop has been silent for 36",
        ),
        (
            lambda c: setattr(c, "recorder_heartbeat_ns", long_ago_ns()),
            ExitCode.PEER_UNREACHABLE,
            "the recorder has been silent for 36",
        ),
        (lambda c: setattr(c, "is_spool_full", 1), ExitCode.CANNOT_START, "is full"),
        (lambda c: setattr(c, "fault", "collision: C31"), ExitCode.CANNOT_START, "collision: C31"),
    ],
)
def test_what_is_wrong_is_said_and_is_the_exit_code(
    actor: FakeActor,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Control], None],
    code: ExitCode,
    words: str,
) -> None:
    change(actor.control)
    found, told = actor.status(capsys)
    assert found == code
    assert not told["is_well"]
    assert words in told["problems"][0]["what"]
    assert cli.main(["actor", "status", "--spool", str(actor.spool)]) == code
    assert f"NOT WELL: {told['problems'][0]['what'][:12]}" in capsys.readouterr().out


def test_a_loop_that_is_done_or_still_starts_need_not_beat(
    actor: FakeActor, capsys: pytest.CaptureFixture[str]
) -> None:
    actor.control.loop_heartbeat_ns = long_ago_ns()
    actor.control.recorder_heartbeat_ns = 0
    for state in (LoopState.DONE, LoopState.STOPPED, LoopState.STARTING):
        actor.control.loop_state = state
        assert actor.status(capsys)[0] == 0


@pytest.mark.parametrize("name", ["loop", "recorder"])
def test_one_that_starts_for_ever_is_not_well(
    actor: FakeActor, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    actor.control.loop_state = LoopState.STARTING
    actor.control.recorder_heartbeat_ns = 0
    for other in ("loop", "recorder"):
        (actor.run / f"{other}.pid").write_text("1\n")
    os.utime(actor.run / RUN_FILE, (0, 0))
    os.utime(actor.run / f"{name}.pid", (0, 0))
    code, told = actor.status(capsys)
    assert code == ExitCode.PEER_UNREACHABLE
    (problem,) = told["problems"]
    assert f"the {name} has been starting for" in problem["what"]


def test_a_latched_fault_is_told_also_where_no_actor_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    actor = FakeActor(tmp_path / "spool")
    FaultStore(actor.run / FAULT_FILE).save(RobotFault("collision", "C31"), "moving")
    code, told = actor.status(capsys)
    assert code == ExitCode.CANNOT_START
    assert "offworld actor ack --spool" in told["problems"][0]["what"]
    actor.close()
    code, told = actor.status(capsys)
    assert code == ExitCode.PEER_UNREACHABLE
    assert told["work"] is None
    assert [problem["is_silent"] for problem in told["problems"]] == [True, False]
    assert "no actor runs in" in told["problems"][0]["what"]


def test_one_that_was_killed_is_known_by_its_process(
    actor: FakeActor, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    (actor.run / PID_FILE).write_text(f"{gone.pid}\n")
    actor.write(gone.pid)
    code, told = actor.status(capsys)
    assert code == ExitCode.PEER_UNREACHABLE
    assert "ended without a word" in told["problems"][0]["what"]


def test_another_command_in_the_folder_is_no_actor(
    actor: FakeActor, capsys: pytest.CaptureFixture[str]
) -> None:
    actor.write(1)  # left by an actor of before
    code, told = actor.status(capsys)
    assert code == ExitCode.PEER_UNREACHABLE
    assert "it is no actor that has started" in told["problems"][0]["what"]
    (actor.run / RUN_FILE).unlink()
    assert actor.status(capsys)[0] == ExitCode.PEER_UNREACHABLE


def test_a_folder_without_anything_is_no_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["actor", "status", "--spool", str(tmp_path / "none"), "--json"])
    assert code == ExitCode.PEER_UNREACHABLE
    assert not (tmp_path / "none").exists()
    assert "no actor runs in" in capsys.readouterr().out


def test_a_damaged_spool_is_told(actor: FakeActor, capsys: pytest.CaptureFixture[str]) -> None:
    (actor.spool / "spool.sqlite").write_bytes(b"no database at all, " * 500)
    code, told = actor.status(capsys)
    assert code == ExitCode.CANNOT_START
    assert "cannot be read" in told["problems"][0]["what"]


def test_whoever_looks_at_a_ring_cannot_write_to_it(actor: FakeActor, tmp_path: Path) -> None:
    control = read_control(actor.ring.path)
    assert control.loop_state == LoopState.WAITING_FOR_WEIGHTS
    with pytest.raises(ValueError, match="read-only"):
        control.is_stop_requested = 1
    (tmp_path / "short").write_bytes(b"x")
    (tmp_path / "zeros").write_bytes(bytes(4096))
    for name in ("absent", "short", "zeros"):
        with pytest.raises(RingUnusable):
            read_control(tmp_path / name)
