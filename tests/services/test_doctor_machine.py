"""What this machine and the line to its learner cannot do is a no-go, and so is the whole."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyrealsense2", reason="the camera's SDK is not installed")
pytest.importorskip("xarm", reason="the arm's SDK is not installed")

from robot.doubles.xarm_server import XArmController  # noqa: E402
from services import cli  # noqa: E402
from services.actor_cell import detector_of  # noqa: E402
from services.actor_config import ActorConfig  # noqa: E402
from services.actor_robot import robot_spec  # noqa: E402
from services.checkup import learner_side  # noqa: E402
from services.checkup.finding import Finding, attempt, no_go  # noqa: E402
from services.checkup.gauges import Gauges  # noqa: E402
from services.config import build_file  # noqa: E402
from services.credentials import ClientSecurity  # noqa: E402
from services.demo_config import CONFIGS  # noqa: E402
from services.measure import Times  # noqa: E402
from services.wall_clock import ClockState, clock_state  # noqa: E402
from tests.services import doctor_bench  # noqa: E402
from tests.services.doctor_bench import GOOD, rows, set_up, write_cell  # noqa: E402
from tests.services.rig import IngressProcess, identity  # noqa: E402

controller, fed = doctor_bench.controller, doctor_bench.fed

TIGHT = Times(p50_ms=60.0, p99_ms=80.0, max_ms=85.0)
"""In time at 10 Hz, and not with headroom."""
SLOW = Times(p50_ms=60.0, p99_ms=120.0, max_ms=130.0)


def test_the_planner_of_an_arm_that_is_not_calibrated_yet_is_measured(
    tmp_path: Path, controller: XArmController
) -> None:
    actor = write_cell(tmp_path, controller, calibration=tmp_path / "calibration.toml")
    assert rows(actor, "planner")["planner"].verdict == "go"


@pytest.mark.parametrize(
    ("asked", "row", "changes", "words"),
    [
        (
            "planner",
            "planner",
            {"planning": lambda _p, _f, _n: SLOW},
            "up to 6.0 Hz with 20%",
        ),
        ("planner", "planner", {"planning": lambda _p, _f, _n: TIGHT}, "honest up to 9.0 Hz"),
        (
            "planner",
            "planner",
            {"watching": lambda *_: SLOW},
            "runs then, 10 is asked",
        ),
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
