from __future__ import annotations

import pytest

from robot.calibrating import Fit
from robot.clock import SimulatedClock
from robot.detectors.make import make_detector
from robot.sim.config import SimConfig
from robot.sim.scoring import Tally, judge_trials
from services import cli
from services.actor_config import ActorConfig
from services.actor_robot import make_env
from services.commands.calibrate import CalibrateConfig, calibrate
from services.config_text import to_toml


@pytest.fixture(scope="module")
def calibrations(tmp_path_factory) -> dict[str, Fit]:
    folder = tmp_path_factory.mktemp("calibration")
    return {
        task: calibrate(CalibrateConfig(sim=SimConfig(task=task), out=folder / task))
        for task in ("reach", "pick")
    }


@pytest.mark.parametrize(
    ("task", "variation"),
    [("reach", "none"), ("reach", "distractor"), ("pick", "none"), ("pick", "distractors")],
)
def test_a_detector_agrees_with_the_truth(calibrations, task, variation):
    config = SimConfig(task=task, variation=variation, max_steps=25 if task == "reach" else 40)
    detector = make_detector(
        task,
        calibrations[task].calibration,
        reach_tolerance_m=config.reach_tolerance_m,
        lift_height_m=config.lift_height_m,
    )
    tally = Tally()
    for judged in judge_trials(config, detector, "expert", seed=5, num_trials=6):
        tally.add(judged)
    assert tally.num_frames == 6 * config.max_steps
    assert tally.counts[-1].sum() >= 10, "no success among the frames: the test shows nothing"
    assert tally.agreement >= 0.97
    assert tally.num_false_success <= 1


def test_an_actor_s_rewards_come_from_the_camera(calibrations, tmp_path):
    path = tmp_path / "calibration.toml"
    path.write_text(to_toml(calibrations["reach"].calibration), encoding="utf-8")
    env = make_env(ActorConfig(calibration=path), SimulatedClock())
    try:
        env.reset(0)
        assert env.outcome_of(env.observe()) == (0.0, False)
        assert "mm from the target" in env.reward.last.reason
    finally:
        env.close()


def test_the_command_line_calibrates_and_scores(tmp_path, capsys):
    assert cli.main(["calibrate", "--robot", "sim", "--out", str(tmp_path), "--json"]) == 0
    assert '"error_px"' in capsys.readouterr().out
    argv = ["data", "score", "--calibration", str(tmp_path / "calibration.toml"), "--trials", "1"]
    picture = tmp_path / "wrong.png"
    assert cli.main([*argv, "--picture", str(picture), "--min-agreement", "0.5"]) == 0
    assert "agreement" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert cli.main(["data", "score", "--calibration", str(tmp_path / "none.toml")]) == 3
