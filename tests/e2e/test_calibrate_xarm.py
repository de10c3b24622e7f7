"""Calibrating at the real arm, through its guard and both vendor SDKs, at the doubles."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyrealsense2", reason="the camera's SDK is not installed")
pytest.importorskip("xarm", reason="the arm's SDK is not installed")

from robot.calibration import Calibration  # noqa: E402
from robot.calibration_views import Grid  # noqa: E402
from robot.clock import SimulatedClock  # noqa: E402
from robot.sim.config import SimConfig  # noqa: E402
from robot.sim.objects import TARGET_SIDE_M  # noqa: E402
from robot.sim.world import SimWorld  # noqa: E402
from services import cli  # noqa: E402
from services.actor_cell import check_cell  # noqa: E402
from services.actor_config import ActorConfig  # noqa: E402
from services.actor_folder import ActorFolder  # noqa: E402
from services.commands.calibrate import GRIDS  # noqa: E402
from services.config import build_file  # noqa: E402
from services.config_text import to_toml  # noqa: E402
from services.demo_config import CONFIGS  # noqa: E402
from services.guard import FAULT_FILE  # noqa: E402
from tests.e2e.doubles_rig import LIMITS, DoubleProcess, make_patient_config  # noqa: E402
from tests.services.pty_rig import Typist  # noqa: E402

CENTRE_FROM_TOOL_M = (0.0, 0.0, -0.015)
HEIGHT_M = 0.05
TARGET_M = (0.52, 0.10, 0.001)
GRID = Grid(num=(3, 3, 2), low_m=0.07, high_m=0.12)
# Tells where a person would see things in the first picture.
SHIPPED = build_file(Calibration, CONFIGS / "xarm7-doubles-calibration.toml")


pytestmark = pytest.mark.alone


@pytest.fixture
def double(tmp_path: Path) -> Iterator[DoubleProcess]:
    with DoubleProcess(tmp_path) as made:
        assert made.tell("place target " + " ".join(map(str, TARGET_M))) == "ok"
        yield made


def write_actor(folder: Path, double: DoubleProcess) -> tuple[ActorConfig, list[str]]:
    """Writes the actor's file, not calibrated; returns it and the command line that calibrates."""
    made = make_patient_config(folder, "127.0.0.1:1", double)
    # Few pictures are looked at, and drawing them costs time that the motion needs.
    stream = dataclasses.replace(made.cell.stream, fps=5)
    cell = dataclasses.replace(made.cell, stream=stream)
    config = dataclasses.replace(made, calibration=None, cell=cell)
    (folder / "cell.toml").write_text(to_toml(config))
    words = ["calibrate", "--robot", "xarm7", "--actor-config", str(folder / "cell.toml")]
    words += ["--is-held", "--out", str(folder / "out"), "--json"]
    words += ["--centre-from-tool-m", *map(str, CENTRE_FROM_TOOL_M)]
    words += ["--held-height-m", str(HEIGHT_M), "--target-side-m", str(TARGET_SIDE_M)]
    words += ["--config", str(write_grid(folder, GRID))]
    return config, words


def write_grid(folder: Path, grid: Grid) -> Path:
    path = folder / "calibrate.toml"
    path.write_text("[grid]\n" + to_toml(grid))
    return path


def marks() -> list[str]:
    """Returns what a person reads off the first picture."""
    first_m = GRID.points_m(LIMITS.box_low_m, LIMITS.box_high_m)[0]
    held_m = np.array(first_m) + np.array(CENTRE_FROM_TOOL_M)
    (held, target) = SHIPPED.camera.project(np.array([held_m, TARGET_M]))
    return [
        *("--held-mark", *(str(round(n)) for n in held), "4"),
        *("--target-mark", *(str(round(n)) for n in target), "4"),
    ]


@pytest.mark.slow
def test_the_calibration_is_the_simulator_s_truth_and_an_actor_takes_it(
    tmp_path: Path, double: DoubleProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    config, words = write_actor(tmp_path, double)
    assert cli.main([*words, *marks()]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["num_views"] == 18
    assert told["error_px"] < 1.0
    found = build_file(Calibration, tmp_path / "out" / "calibration.toml")
    world = SimWorld(SimConfig(task="reach"), SimulatedClock())
    world.reset()
    camera = world.data.camera("front")
    np.testing.assert_allclose(found.camera.position_m, camera.xpos, atol=0.02)
    # Across the workspace, points are drawn where the simulator draws them.
    xs, ys = np.linspace(0.27, 0.53, 5), np.linspace(-0.13, 0.13, 5)
    points_m = np.array([[x, y, z] for x in xs for y in ys for z in (0.0, 0.05, 0.1)])
    seen = (points_m - camera.xpos) @ camera.xmat.reshape(3, 3)
    focal_px = found.camera.focal_px[0]
    true_px = 111.5 + focal_px * seen[:, :2] * [1, -1] / -seen[:, 2:]
    assert np.linalg.norm(found.camera.project(points_m) - true_px, axis=1).max() < 1.5
    assert found.camera_serial.startswith("world-")
    assert found.held.opening == pytest.approx(LIMITS.start.gripper_opening, abs=0.03)
    assert found.target is not None
    assert SHIPPED.target is not None
    assert found.target.side_m == pytest.approx(SHIPPED.target.side_m, rel=0.1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "calibration.toml",
        "first.png",
        "grid.png",
    }
    check_cell(dataclasses.replace(config, calibration=tmp_path / "out" / "calibration.toml"))
    assert not (config.spool / "run" / FAULT_FILE).exists()


def test_without_marks_the_first_picture_is_there_to_read_them_off_and_the_arm_is_let_go(
    tmp_path: Path, double: DoubleProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    config, words = write_actor(tmp_path, double)
    assert cli.main(words) == 3
    assert "--held-mark COLUMN ROW RADIUS" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first.png"]
    assert not (config.spool / "run" / FAULT_FILE).exists()
    ActorFolder(config.spool).__exit__()


def test_a_key_stops_the_arm_while_it_calibrates(tmp_path: Path, double: DoubleProcess) -> None:
    config, words = write_actor(tmp_path, double)
    with Typist([*words, *marks()]) as typist:
        typist.until("any key stops the arm")
        typist.type(b"w")
        assert typist.wait() not in (0, 3)
    assert "motion was stopped by" in typist.text
    assert not (tmp_path / "out" / "calibration.toml").exists()


def test_a_person_is_asked_before_the_gripper_closes_and_before_the_arm_carries(
    tmp_path: Path, double: DoubleProcess
) -> None:
    _, words = write_actor(tmp_path, double)
    words.remove("--is-held")
    with Typist(words) as typist:
        typist.until("they close on it")
        assert not (tmp_path / "out").exists()
        typist.type(b"\r")
        typist.until("hands out of the cell, and press Enter")
        assert not (tmp_path / "out").exists()
        time.sleep(1.1)  # an Enter sooner is the one before, still held
        typist.type(b"\r")
        assert typist.wait() == 3
    assert "--held-mark COLUMN ROW RADIUS" in typist.text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first.png"]


def test_what_is_missing_is_said_before_anything_moves_and_a_running_actor_keeps_its_arm(
    tmp_path: Path, double: DoubleProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    config, words = write_actor(tmp_path, double)
    with ActorFolder(config.spool):
        assert cli.main(words) == 3
    assert "in use by process" in capsys.readouterr().err
    assert cli.main(words[:5]) == 3
    assert "--centre-from-tool-m" in capsys.readouterr().err
    side = words.index("--target-side-m")
    assert cli.main([*words[:side], *words[side + 2 :]]) == 3
    assert "needs --target-side-m" in capsys.readouterr().err
    assert cli.main([*words, "--opening", "1.0"]) == 3
    assert "holds nothing: give --opening" in capsys.readouterr().err
    assert cli.main(words[:3]) == 3
    assert "--actor-config" in capsys.readouterr().err
    assert cli.main([*words, "--camera-name", "wrist"]) == 3
    assert "one of front" in capsys.readouterr().err
    write_grid(tmp_path, dataclasses.replace(GRID, high_m=0.9))
    assert cli.main(words) == 3
    assert "heights must be within" in capsys.readouterr().err
    assert set(GRIDS) == {"reach", "pick"}
