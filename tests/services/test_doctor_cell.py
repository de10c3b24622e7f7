"""Arm, cameras and files are go or no-go with what to do, and nothing is touched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyrealsense2", reason="the camera's SDK is not installed")
pytest.importorskip("xarm", reason="the arm's SDK is not installed")

from learner.durable import FolderLock, StoreFull  # noqa: E402
from robot.clock import MonotonicClock  # noqa: E402
from robot.doubles.xarm_frames import Register  # noqa: E402
from robot.doubles.xarm_motion import KinematicBody  # noqa: E402
from robot.doubles.xarm_record import Identity  # noqa: E402
from robot.doubles.xarm_server import XArmController  # noqa: E402
from robot.interfaces import Frame, RobotFault  # noqa: E402
from services.checkup import robot_side  # noqa: E402
from services.commands import doctor  # noqa: E402
from services.commands.doctor import DoctorFlags, examine  # noqa: E402
from services.guard import FAULT_FILE, LOCK_FILE  # noqa: E402
from tests.robot.xarm_rig import make_controller  # noqa: E402
from tests.services import doctor_bench  # noqa: E402
from tests.services.doctor_bench import GOOD, MACHINE, rows, set_up, write_cell  # noqa: E402

controller, fed = doctor_bench.controller, doctor_bench.fed

READING = {
    Register.GET_VERSION,
    Register.GET_STATE,
    Register.GET_ERROR,
    Register.GET_TCP_POSE,
    Register.GET_REDUCED_STATE,
    Register.GET_ROBOT_SN,
}


def test_an_arm_and_a_camera_that_are_right_are_a_go_and_nothing_was_sent_but_questions(
    tmp_path: Path, controller: XArmController, fed: list[float]
) -> None:
    actor = write_cell(tmp_path, controller)
    set_up(actor)
    machine = controller.machine
    machine.received.clear()
    before = (machine.mode, machine.state, machine.is_enabled, machine.settings.boundary_mm)
    found = rows(actor, "arm")
    assert {found[name].verdict for name in ("cell", "fault", "arm", "fence", "camera front")} == {
        "go"
    }, found
    assert "firmware 1.12" in found["arm"].detail
    assert "XI1305" in found["arm"].detail
    assert {received.register for received in machine.received} <= READING
    assert (machine.mode, machine.state, machine.is_enabled, machine.settings.boundary_mm) == before
    assert not (tmp_path / "spool").exists()


def test_a_fence_that_is_not_the_limits_file_s_is_named(
    tmp_path: Path, controller: XArmController, fed: list[float]
) -> None:
    actor = write_cell(tmp_path, controller)
    found = rows(actor, "arm")
    assert (found["arm"].verdict, found["fence"].verdict) == ("go", "no-go")
    assert "fence mode is [0], not [1]" in found["fence"].detail
    set_up(actor)
    controller.machine.settings.boundary_mm = (600, 220, 180, -180, 345, -10)
    found = rows(actor, "arm")["fence"]
    assert found.verdict == "no-go"
    assert "fence is [600, 220" in found.detail
    assert "speed" not in found.detail
    assert "the guard writes these" in found.todo


def test_an_old_firmware_an_error_and_an_arm_that_is_not_there_say_what_to_do(
    tmp_path: Path, fed: list[float]
) -> None:
    with make_controller(MonotonicClock(), Identity(firmware="1.9.0")) as old:
        actor = write_cell(tmp_path, old)
        found = rows(actor, "arm")
    assert found["arm"].verdict == "no-go"
    assert "found 1.9.0" in found["arm"].detail
    assert "firmware" in found["arm"].todo
    assert found["fence"].verdict == "not asked"
    found = rows(actor, "arm")  # closed meanwhile
    assert "not_connected" in found["arm"].detail
    assert "cable" in found["arm"].todo
    with make_controller(MonotonicClock()) as failed:
        actor = write_cell(tmp_path, failed)
        with failed.machine.lock:
            failed.machine.fail(31)
        found = rows(actor, "arm")
    assert "C31" in found["arm"].detail


@pytest.mark.parametrize(("rate_hz", "words"), [(6.0, "15 asked"), (0.0, "no frame")])
def test_a_slow_and_a_dead_camera_are_a_no_go(
    tmp_path: Path, controller: XArmController, fed: list[float], rate_hz: float, words: str
) -> None:
    fed[0] = rate_hz
    found = rows(write_cell(tmp_path, controller), "arm")["camera front"]
    assert found.verdict == "no-go"
    assert words in found.detail
    assert found.todo


def test_cameras_are_watched_all_at_once_and_one_that_fails_does_not_hide_another(
    tmp_path: Path, controller: XArmController, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_now: set[str] = set()
    were_open: list[set[str]] = []

    class Watched:
        """A camera that always shows something new, if it shows anything."""

        def __init__(self, name: str) -> None:
            self.name = name
            open_now.add(name)

        def read(self) -> Frame:
            were_open.append(set(open_now))
            if self.name == "third":
                raise RobotFault("camera_no_frame", "third shows nothing")
            t_ns = MonotonicClock().now_ns()
            return Frame(image=np.zeros((1, 1, 3), np.uint8), t_ns=t_ns, frame_number=t_ns)

        def close(self) -> None:
            open_now.discard(self.name)

    monkeypatch.setattr(robot_side, "open_camera", lambda _c, address, _t: Watched(address.name))
    names = ("front", "side", "third")
    actor = write_cell(tmp_path, controller, camera=tuple(f"{name}-1={name}" for name in names))
    found = rows(actor, "arm")
    assert [found[f"camera {name}"].verdict for name in names] == ["go", "go", "no-go"]
    assert were_open
    assert all(at_once == set(names) for at_once in were_open)
    assert not open_now
    assert "3 cameras at once" in found["camera side"].detail


def test_a_camera_that_is_not_plugged_in_is_named_with_what_to_do(
    tmp_path: Path, controller: XArmController
) -> None:
    found = rows(write_cell(tmp_path, controller), "arm")["camera front"]
    assert found.verdict == "no-go"
    assert "RealSense camera double-1" in found.detail
    assert "serial number" in found.todo


@pytest.mark.parametrize("file", ["actor.lock", LOCK_FILE])
def test_a_folder_that_an_actor_or_a_guard_holds_is_reported_and_left_alone(
    tmp_path: Path,
    controller: XArmController,
    fed: list[float],
    capsys: pytest.CaptureFixture[str],
    file: str,
) -> None:
    actor = write_cell(tmp_path, controller)
    run = tmp_path / "spool" / "run"
    run.mkdir(parents=True)
    lock = FolderLock(run / file, "the spool")
    found = rows(actor, "arm")
    for name in ("arm", "fence", "camera front"):
        assert found[name].verdict == "left alone"
        assert "in use by process" in found[name].detail
    words = ["--actor-config", str(actor), "--skip", *MACHINE[1:], "ray", "disk", "port"]
    assert doctor.main(words) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("GO for the rest, arm, mount, place, fence, camera front not ")
    assert not controller.machine.received
    lock.release()
    assert rows(actor, "arm")["arm"].verdict == "go"
    FolderLock(run / file, "the spool").release()  # the doctor has let go of it


@pytest.mark.parametrize("file", ["actor.lock", LOCK_FILE])
def test_a_folder_that_cannot_be_used_is_a_no_go_with_what_to_do(
    tmp_path: Path, controller: XArmController, fed: list[float], file: str
) -> None:
    actor = write_cell(tmp_path, controller)
    # A folder where the lock should be is refused to every user, root too.
    (tmp_path / "spool" / "run" / file).mkdir(parents=True)
    found = rows(actor, "arm")
    assert found["folder"].verdict == "no-go"
    assert f"this user cannot use the folder {tmp_path / 'spool' / 'run'}" in found["folder"].detail
    assert "as one user" in found["folder"].todo
    for name in ("arm", "fence", "camera front"):
        assert found[name].verdict == "not asked"
    assert not controller.machine.received


def test_a_folder_without_room_for_its_lock_is_a_no_go(
    tmp_path: Path, controller: XArmController, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spool" / "run").mkdir(parents=True)

    def full(_path: Path, _what: str) -> None:
        raise StoreFull("no space left")

    monkeypatch.setattr(robot_side, "FolderLock", full)
    found = rows(write_cell(tmp_path, controller), "arm")["folder"]
    assert (found.verdict, "no space left" in found.detail) == ("no-go", True)


def test_a_folder_that_cannot_be_looked_into_is_a_no_go(
    tmp_path: Path, controller: XArmController, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = write_cell(tmp_path, controller)

    def refused(_self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refused)
    found = rows(actor, "arm")
    assert (found["cell"].verdict, found["fault"].verdict) == ("go", "no-go")
    assert "as one user" in found["fault"].todo
    assert found["arm"].verdict == "not asked"


def test_a_latched_fault_and_files_that_do_not_fit_are_a_no_go(
    tmp_path: Path, controller: XArmController, fed: list[float]
) -> None:
    actor = write_cell(tmp_path, controller)
    run = tmp_path / "spool" / "run"
    run.mkdir(parents=True)
    (run / FAULT_FILE).write_text("{}")
    found = rows(actor, "arm")
    assert found["fault"].verdict == "no-go"
    assert "actor ack" in found["fault"].todo
    found = rows(write_cell(tmp_path, controller, limits=Path("nowhere.toml")), "arm")
    assert "nowhere.toml: no such file" in found["cell"].detail
    assert {found[name].verdict for name in ("arm", "place", "fence")} == {"not asked"}


def test_a_real_arm_with_a_drawn_camera_is_a_no_go_and_is_not_asked_anything(
    tmp_path: Path, controller: XArmController, fed: list[float]
) -> None:
    drawn = ("world:127.0.0.1:15030=front",)
    actor = write_cell(tmp_path, controller, ip="192.0.2.7", camera=drawn)
    found = rows(actor, "arm")
    assert found["cell"].verdict == "no-go"
    assert "the feed of a simulated world" in found["cell"].detail
    assert {found[name].verdict for name in ("arm", "place", "camera front")} == {"not asked"}


def test_an_arm_that_was_never_calibrated_nor_moved_is_looked_at_and_may_be_a_go(
    tmp_path: Path, controller: XArmController, fed: list[float]
) -> None:
    actor = write_cell(tmp_path, controller, calibration=tmp_path / "calibration.toml")
    told = DoctorFlags(actor_config=actor, skip=("loop", "planner", "learner"), seconds=1.0)
    found = {finding.check: finding for finding in examine(told, GOOD)}
    assert "calibration.toml: no such file" in found["calibration"].detail
    assert "--skip calibration" in found["calibration"].todo
    assert "--skip fence" in found["fence"].todo
    assert {n for n, row in found.items() if row.verdict == "no-go"} == {"calibration", "fence"}
    for name in ("cell", "arm", "place", "camera front"):
        assert found[name].verdict == "go"
    first = dataclasses.replace(told, skip=(*told.skip, "calibration", "fence"))
    assert [row for row in examine(first, GOOD) if row.verdict == "no-go"] == []


def test_a_tool_outside_the_fence_is_a_no_go_also_where_the_fence_is_left_out(
    tmp_path: Path, controller: XArmController, fed: list[float]
) -> None:
    actor = write_cell(tmp_path, controller)
    controller.machine.body = KinematicBody((0.40, 0.25, 0.20), 0)
    told = DoctorFlags(actor_config=actor, skip=(*MACHINE[1:], "fence"), seconds=1.0)
    found = {finding.check: finding for finding in examine(told, GOOD)}
    assert (found["place"].verdict, found["fence"].verdict) == ("no-go", "not asked")
    assert "outside_fence" in found["place"].detail
