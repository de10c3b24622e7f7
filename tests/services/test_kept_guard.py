"""The supervisor's side of the guard: its ends, what they mean, and which of them latch."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robot.fault_store import FaultStore
from robot.interfaces import RobotFault
from services import kept_guard
from services.actor_folder import ActorFolder
from services.guard import FAULT_FILE, RUN_FILE, SOCKET_FILE, GuardRun
from services.kept_guard import KeptGuard
from services.process import CannotStart, ExitCode
from tests.services.rig import is_gone, wait_until

# Says that it serves, and waits.
SERVING = "import pathlib, signal; pathlib.Path({socket!r}).touch(); signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVING
POLITE = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); " + SERVING
REFUSING = POLITE.replace("exit(0)", "exit(3)")


class Stage:
    """A guard that is a line of Python."""

    def __init__(self, folder: ActorFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.faults = FaultStore(folder.run / FAULT_FILE)
        self._monkeypatch = monkeypatch

    def guard(self, line: str) -> KeptGuard:
        code = line.format(socket=str(self.folder.run / SOCKET_FILE))
        self._monkeypatch.setattr(kept_guard, "command", lambda _: [sys.executable, "-c", code])
        return KeptGuard(self.folder, Path("/limits.toml"), "10.0.0.7")

    def serving(self, line: str) -> KeptGuard:
        guard = self.guard(line)
        assert guard.look() is None
        wait_until(lambda: guard.is_serving, what="it serves")
        return guard

    def end_of(self, guard: KeptGuard) -> int:
        codes: list[int] = []

        def has_ended() -> bool:
            code = guard.look()
            codes.extend([] if code is None else [code])
            return bool(codes)

        wait_until(has_ended, what="it ends")
        return codes[0]

    def kill(self, number: int) -> None:
        os.kill(int((self.folder.run / "guard.pid").read_text()), number)

    def latched(self) -> str | None:
        stored = self.faults.load()
        return None if stored is None else stored.code


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with ActorFolder(tmp_path / "spool") as folder:
        yield Stage(folder, monkeypatch)


def test_the_guard_is_told_of_limits_address_and_parent(stage: Stage) -> None:
    stage.guard("")
    run = GuardRun.read(stage.folder.run / RUN_FILE)
    assert (run.folder, run.limits) == (stage.folder.run, Path("/limits.toml"))
    assert (run.ip, run.parent_pid) == ("10.0.0.7", os.getpid())


@pytest.mark.parametrize("file", [SOCKET_FILE, RUN_FILE])
def test_a_folder_that_cannot_be_written_to_is_no_start(stage: Stage, file: str) -> None:
    (stage.folder.run / file / "in-the-way").mkdir(parents=True)
    with pytest.raises(CannotStart, match=f"run/{file} cannot be used"):
        stage.guard(SERVING)


def test_a_socket_of_an_earlier_guard_is_no_sign_of_this_one(stage: Stage) -> None:
    (stage.folder.run / SOCKET_FILE).touch()
    assert not stage.guard("").is_serving


def test_a_guard_that_cannot_start_is_no_fault(stage: Stage) -> None:
    assert stage.end_of(stage.guard("raise SystemExit(3)")) == ExitCode.CANNOT_START
    assert stage.latched() is None


def test_a_guard_that_ended_by_itself_ends_the_actor_and_is_no_fault(stage: Stage) -> None:
    guard = stage.serving(POLITE)
    stage.kill(signal.SIGTERM)
    assert stage.end_of(guard) == ExitCode.CRASHED
    assert stage.latched() is None


@pytest.mark.parametrize(
    "die",
    [
        lambda stage: stage.end_of(stage.guard("raise SystemExit(1)")),
        lambda stage: _killed(stage),
    ],
    ids=["crashed", "killed"],
)
def test_a_guard_that_died_is_a_fault(stage: Stage, die: Callable[[Stage], int]) -> None:
    assert die(stage) == ExitCode.CRASHED
    assert stage.latched() == "guard_died"


def _killed(stage: Stage) -> int:
    guard = stage.serving(SERVING)
    stage.kill(signal.SIGKILL)
    return stage.end_of(guard)


def test_it_is_not_started_again(stage: Stage) -> None:
    guard = stage.guard("raise SystemExit(1)")
    stage.end_of(guard)
    assert guard.look() is None
    assert not (stage.folder.run / "guard.pid").exists()


def test_the_first_fault_stays(stage: Stage) -> None:
    stage.faults.save(RobotFault("collision", "something was in the way"), "moving")
    stage.end_of(stage.guard("raise SystemExit(1)"))
    assert stage.latched() == "collision"


def test_a_guard_asked_to_end_leaves_no_fault(stage: Stage) -> None:
    stage.serving(POLITE).stop()
    assert stage.latched() is None
    assert not (stage.folder.run / "guard.pid").exists()


@pytest.mark.parametrize(
    ("line", "number", "fault"),
    [
        (SERVING, signal.SIGKILL, "guard_died"),
        (POLITE, signal.SIGTERM, None),
        (REFUSING, signal.SIGTERM, None),
    ],
    ids=["killed", "ended", "cannot start"],
)
def test_an_end_that_nobody_saw_before_it_was_asked_to_end_counts_the_same(
    stage: Stage, line: str, number: int, fault: str | None
) -> None:
    guard = stage.serving(line)
    pid = int((stage.folder.run / "guard.pid").read_text())
    stage.kill(number)
    wait_until(lambda: is_gone(pid))
    guard.stop()
    assert stage.latched() == fault
    assert not (stage.folder.run / "guard.pid").exists()


def test_a_guard_that_does_not_end_when_asked_to_is_killed_and_is_a_fault(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_guard, "STOP_S", 0.2)
    stage.serving(DEAF).stop()
    assert stage.latched() == "guard_died"
    assert not (stage.folder.run / "guard.pid").exists()


def test_a_guard_that_never_started_is_stopped_as_well(stage: Stage) -> None:
    stage.guard("").stop()
    assert stage.latched() is None


def test_whoever_waits_for_it_hears_that_it_serves_ended_or_takes_too_long(stage: Stage) -> None:
    guard = stage.guard(SERVING)
    guard.wait_until_serving(60.0, should_stop=lambda: False)
    assert guard.is_serving
    guard.stop()
    with pytest.raises(CannotStart, match="the guard of the arm ended, exit"):
        stage.guard("").wait_until_serving(60.0, should_stop=lambda: False)
    for timeout_s, is_asked, why in ((60.0, True, "asked to stop"), (0.0, False, "after 0 s")):
        mute = stage.guard("import signal; signal.pause()")
        with pytest.raises(CannotStart, match=why):
            mute.wait_until_serving(timeout_s, should_stop=lambda is_asked=is_asked: is_asked)
        mute.stop()


def test_a_guard_asked_to_end_while_it_still_starts_is_no_fault(stage: Stage) -> None:
    # As python is, while it imports: no handler of signals yet, and no arm was ever touched.
    guard = stage.guard("import signal; signal.pause()")
    assert guard.look() is None
    guard.stop()
    assert stage.latched() is None


def test_a_fault_that_a_person_cleared_is_not_latched_again_by_the_end(stage: Stage) -> None:
    guard = stage.serving(SERVING)
    pid = int((stage.folder.run / "guard.pid").read_text())
    stage.kill(signal.SIGKILL)
    wait_until(lambda: is_gone(pid))
    stage.end_of(guard)
    assert stage.latched() == "guard_died"
    stage.faults.clear()
    guard.stop()
    assert stage.latched() is None
