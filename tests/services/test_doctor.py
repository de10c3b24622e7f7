"""The doctor of a real arm's workstation: each row green and red, and that nothing is touched."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyrealsense2", reason="the camera's SDK is not installed")
pytest.importorskip("xarm", reason="the arm's SDK is not installed")

from learner.durable import FolderLock  # noqa: E402
from robot.clock import MonotonicClock  # noqa: E402
from robot.doubles.frame_feeder import FrameFeeder  # noqa: E402
from robot.doubles.realsense_device import SoftwareDevice, noise  # noqa: E402
from robot.doubles.xarm_frames import Register  # noqa: E402
from robot.doubles.xarm_motion import KinematicBody  # noqa: E402
from robot.doubles.xarm_record import Identity  # noqa: E402
from robot.doubles.xarm_server import XArmController  # noqa: E402
from robot.guard_limits import GuardLimits  # noqa: E402
from robot.interfaces import Frame, RobotFault  # noqa: E402
from robot.realsense import RealSenseCamera  # noqa: E402
from robot.realsense_config import RealSenseConfig  # noqa: E402
from robot.xarm import XArm  # noqa: E402
from robot.xarm_config import XArmPorts  # noqa: E402
from services import cli  # noqa: E402
from services.actor_cell import detector_of  # noqa: E402
from services.actor_config import ActorConfig  # noqa: E402
from services.actor_robot import robot_spec  # noqa: E402
from services.checkup import learner_side, robot_side  # noqa: E402
from services.checkup.finding import Finding, attempt, no_go  # noqa: E402
from services.checkup.gauges import Gauges  # noqa: E402
from services.commands.doctor import DoctorFlags, examine  # noqa: E402
from services.config import build_file  # noqa: E402
from services.config_text import to_toml  # noqa: E402
from services.credentials import ClientSecurity  # noqa: E402
from services.demo_config import CONFIGS  # noqa: E402
from services.guard import FAULT_FILE, LOCK_FILE  # noqa: E402
from services.measure import Times  # noqa: E402
from services.wall_clock import ClockState, clock_state  # noqa: E402
from tests.robot.xarm_rig import make_controller  # noqa: E402
from tests.services.rig import IngressProcess, identity  # noqa: E402

FPS = 15
READING = {
    Register.GET_VERSION,
    Register.GET_STATE,
    Register.GET_ERROR,
    Register.GET_TCP_POSE,
    Register.GET_REDUCED_STATE,
    Register.GET_ROBOT_SN,
}
QUICK = Times(p50_ms=0.1, p99_ms=0.5, max_ms=0.6)
AT_ONCE = Times(p50_ms=0.0, p99_ms=0.0, max_ms=0.0)
SLOW = Times(p50_ms=60.0, p99_ms=120.0, max_ms=130.0)
GOOD = Gauges(
    free_bytes=lambda _: 1 << 40,
    durable_write=lambda _: QUICK,
    lateness=lambda _: QUICK,
    lateness_under_load=lambda _hz, _niceness: QUICK,
    planning=lambda _policy, _fields, _num: QUICK,
    watching=lambda _stream, _spec, _reward, _num: AT_ONCE,
    clock_state=lambda: ClockState(is_synchronised=True, max_error_s=0.001),
    wall_minus_monotonic_ns=lambda: 0,
)
MACHINE = ("arm", "loop", "planner", "spool", "learner", "clock")


@pytest.fixture
def controller() -> Iterator[XArmController]:
    with make_controller(MonotonicClock()) as made:
        yield made


def write_cell(folder: Path, controller: XArmController, **changes: object) -> Path:
    """Writes the actor's file of the doubles, with limits that lead to `controller`."""
    limits = build_file(GuardLimits, CONFIGS / "limits-xarm7-doubles.toml")
    ports = controller.ports
    xarm = dataclasses.replace(
        limits.xarm,
        ports=XArmPorts(control=ports.control, rich=ports.rich, real=ports.real),
    )
    (folder / "limits.toml").write_text(to_toml(dataclasses.replace(limits, xarm=xarm)))
    shipped = build_file(ActorConfig, CONFIGS / "xarm7-doubles-actor.toml")
    values: dict[str, object] = {
        "limits": folder / "limits.toml",
        "calibration": CONFIGS / "xarm7-doubles-calibration.toml",
        "camera": ("double-1=front",),
        "spool": folder / "spool",
    }
    path = folder / "actor.toml"
    path.write_text(to_toml(dataclasses.replace(shipped, **(values | changes))))  # type: ignore[arg-type]
    return path


def rows(
    actor_file: Path, asked: str, gauges: Gauges = GOOD, **flags: object
) -> dict[str, Finding]:
    """Returns what the doctor says when all but one check is left out."""
    skip = tuple(name for name in MACHINE if name != asked)
    told = DoctorFlags(actor_config=actor_file, skip=skip, plans=1, seconds=1.0, **flags)  # type: ignore[arg-type]
    return {finding.check: finding for finding in examine(told, gauges)}


def set_up(actor_file: Path) -> None:
    """Does to the controller what a guard does when it starts."""
    arm = XArm(robot_side.arm_config(build_file(ActorConfig, actor_file)), MonotonicClock())
    arm.connect()
    arm.close()


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Puts a software camera in the place of the cell's; the list says how often it is fed."""
    rate_hz, feeders = [float(FPS)], []

    def open_camera(config: ActorConfig, address: object, clock: MonotonicClock) -> RealSenseCamera:
        stream = RealSenseConfig(
            width=64, height=48, fps=FPS, num_warm_up_frames=2, first_frame_s=1.0, max_restarts=0
        )
        device = SoftwareDevice(stream, clock)
        if rate_hz[0]:
            feeders.append(FrameFeeder(noise(stream), device.feed, rate_hz[0]))
        return RealSenseCamera(stream, clock, device)

    monkeypatch.setattr(robot_side, "open_camera", open_camera)
    yield rate_hz
    for feeder in feeders:
        feeder.close()


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
    tmp_path: Path, controller: XArmController, fed: list[float], file: str
) -> None:
    actor = write_cell(tmp_path, controller)
    run = tmp_path / "spool" / "run"
    run.mkdir(parents=True)
    lock = FolderLock(run / file, "the spool")
    found = rows(actor, "arm")
    for name in ("arm", "fence", "camera front"):
        assert found[name].verdict == "not asked"
        assert "in use by process" in found[name].detail
    assert not controller.machine.received
    lock.release()
    assert rows(actor, "arm")["arm"].verdict == "go"
    FolderLock(run / file, "the spool").release()  # the doctor has let go of it


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


def test_the_planner_of_an_arm_that_is_not_calibrated_yet_is_measured(
    tmp_path: Path, controller: XArmController
) -> None:
    actor = write_cell(tmp_path, controller, calibration=tmp_path / "calibration.toml")
    assert rows(actor, "planner")["planner"].verdict == "go"


def test_a_tool_outside_the_fence_is_a_no_go_also_where_the_fence_is_left_out(
    tmp_path: Path, controller: XArmController, fed: list[float]
) -> None:
    actor = write_cell(tmp_path, controller)
    controller.machine.body = KinematicBody((0.40, 0.25, 0.20), 0)
    told = DoctorFlags(actor_config=actor, skip=(*MACHINE[1:], "fence"), seconds=1.0)
    found = {finding.check: finding for finding in examine(told, GOOD)}
    assert (found["place"].verdict, found["fence"].verdict) == ("no-go", "not asked")
    assert "outside_fence" in found["place"].detail


@pytest.mark.parametrize(
    ("asked", "row", "changes", "words"),
    [
        ("planner", "planner", {"planning": lambda _p, _f, _n: SLOW}, "honest up to 8 Hz, 10 is"),
        ("planner", "planner", {"watching": lambda *_: SLOW}, "honest up to 7 Hz, 10 is"),
        ("spool", "spool disk", {"free_bytes": lambda _: 1 << 29}, "0.5 GiB free"),
        ("loop", "loop", {"lateness": lambda _: SLOW}, "p99 may be 10 ms"),
        ("loop", "loop loaded", {"lateness_under_load": lambda _h, _n: SLOW}, "every core busy"),
        (
            "clock",
            "clock",
            {"clock_state": lambda: ClockState(is_synchronised=False, max_error_s=16.0)},
            "not synchronised",
        ),
        (
            "clock",
            "clock step",
            {"wall_minus_monotonic_ns": iter([0, 3_600_000_000_000]).__next__},
            "+3600000.0 ms",
        ),
    ],
)
def test_what_this_machine_cannot_do_is_a_no_go(  # noqa: PLR0913 - a table
    tmp_path: Path,
    controller: XArmController,
    asked: str,
    row: str,
    changes: dict[str, object],
    words: str,
) -> None:
    actor = write_cell(tmp_path, controller)
    if row != "clock step":
        assert rows(actor, asked)[row].verdict == "go"
    found = rows(actor, asked, dataclasses.replace(GOOD, **changes))[row]  # type: ignore[arg-type]
    assert found.verdict == "no-go", found
    assert words in found.detail
    assert found.todo


def test_this_machine_s_own_gauges_read_something(tmp_path: Path) -> None:
    own = Gauges()
    assert own.free_bytes(tmp_path) > 0
    assert own.lateness_under_load(100.0, 0).max_ms >= 0
    shipped = build_file(ActorConfig, CONFIGS / "xarm7-doubles-actor.toml")
    spec = shipped.cell.spec(["front"])
    for detector in (None, detector_of(shipped)):
        assert own.watching(shipped.cell.stream, spec, detector, 3).max_ms > 0
    assert abs(own.wall_minus_monotonic_ns() - own.wall_minus_monotonic_ns()) < 10**9
    assert clock_state().max_error_s >= 0


def test_a_learner_s_line_is_measured_and_a_learner_of_another_robot_is_a_no_go(
    tmp_path: Path, controller: XArmController
) -> None:
    actor = write_cell(tmp_path, controller)
    spec = robot_spec(build_file(ActorConfig, actor))
    with IngressProcess(tmp_path / "learner", spec=spec) as ingress:
        found = rows(actor, "learner", learner=ingress.address)
        assert (found["learner"].verdict, found["bandwidth"].verdict) == ("go", "go"), found
        assert "MB/s" in found["bandwidth"].detail
        crawling = dataclasses.replace(spec, control_hz=1e6)
        line = list(learner_side.link(ingress.address, ClientSecurity(), crawling))
        assert [row.verdict for row in line] == ["no-go", "no-go"]
        # Neither an actor's lease nor anything else has come of it.
        assert "event=hello" not in ingress.log_text()
    with IngressProcess(tmp_path / "other", spec=identity().spec) as other:
        found = rows(actor, "learner", learner=other.address)["learner"]
        assert found.verdict == "no-go"
        assert "another robot" in found.todo
    found = rows(actor, "learner", learner=other.address)["learner"]
    assert found.verdict == "no-go"
    assert "firewall" in found.todo


def test_the_exit_code_says_go_or_no_go_and_json_says_every_row(
    tmp_path: Path,
    controller: XArmController,
    fed: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    actor = write_cell(tmp_path, controller)
    words = ["doctor", "--actor-config", str(actor), "--seconds", "1", "--json"]
    words += ["--skip", "loop", "planner", "learner", "clock"]
    assert cli.main(words) == 3
    told = json.loads(capsys.readouterr().out)
    assert not told["is_go"]
    assert [c["check"] for c in told["checks"] if c["verdict"] == "no-go"] == ["fence"]
    set_up(actor)
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["is_go"]
    assert {"ray", "disk", "port", "learner"} <= {
        c["check"] for c in told["checks"] if c["verdict"] == "not asked"
    }
    assert cli.main([*words, "--robot", "sim"]) == 0
    told = json.loads(capsys.readouterr().out)
    verdicts = {c["check"]: c["verdict"] for c in told["checks"]}
    assert verdicts["arm"] == verdicts["fence"] == "not asked"


def test_a_check_that_cannot_be_made_is_a_no_go() -> None:
    def fails() -> Iterator[Finding]:
        raise OSError("no such device")
        yield

    assert list(attempt("disk", fails, "mend it")) == [no_go("disk", "no such device", "mend it")]
    with pytest.raises(ValueError, match="says what to do"):
        no_go("disk", "full", "")


def test_the_largest_trial_is_known_before_it_is_made() -> None:
    shipped = build_file(ActorConfig, CONFIGS / "xarm7-doubles-actor.toml")
    spec = shipped.cell.spec(["front"])
    size = learner_side.trial_size_bytes(spec)
    assert 26 * 48 * 48 * 3 < size < 1.1 * 26 * 48 * 48 * 3
