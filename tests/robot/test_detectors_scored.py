from __future__ import annotations

import json

import pytest

from robot.calibrating import Fit
from robot.clock import SimulatedClock
from robot.detectors.make import make_detector
from robot.detectors.verdict import Verdict
from robot.observation import Observation
from robot.sim.config import SimConfig
from robot.sim.scoring import Judged, Tally, judge_trials
from services import cli
from services.actor_config import ActorConfig
from services.actor_robot import make_env
from services.commands import score_detectors
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


def judged(trial: int, said: float, true: float) -> Judged:
    verdict = Verdict(reward=said, confidence=1.0, reason="")
    unseen = Observation(fields={}, t_observed_ns=1)
    return Judged(trial=trial, step=1, observation=unseen, verdict=verdict, true_reward=true)


def tally_of(*frames: tuple[int, float, float]) -> Tally:
    tally = Tally()
    for frame in frames:
        tally.add(judged(*frame))
    return tally


def test_trials_are_counted_by_their_outcome():
    agreed = [(0, 0.0, 0.0), (0, 0.0, 1.0), (0, 1.0, 0.0), (1, 0.5, 0.0)]
    tally = tally_of(*agreed, (2, 0.0, 0.0), (2, 1.0, 0.5), (3, 0.5, 1.0), (3, 0.5, 1.0))
    assert (tally.num_trials, tally.num_false_trials, tally.num_missed_trials) == (4, 1, 1)
    assert tally.trial_agreement == 0.5


@pytest.mark.parametrize(("num_false", "code"), [(0, 0), (3, 0), (4, 5)])
def test_too_many_wrong_trials_are_bad_whatever_the_frames_say(
    tmp_path, monkeypatch, capsys, calibrations, num_false, code
):
    path = tmp_path / "calibration.toml"
    path.write_text(to_toml(calibrations["reach"].calibration), encoding="utf-8")

    def judge(*_args, num_trials, **_details):
        for trial in range(num_trials):
            yield from (judged(trial, 0.0, 0.0) for _ in range(99))
            yield judged(trial, float(trial < num_false), 0.0)

    monkeypatch.setattr(score_detectors, "judge_trials", judge)
    argv = ["data", "score", "--calibration", str(path), "--trials", "100", "--json"]
    assert cli.main(argv) == code
    (row, _) = json.loads(capsys.readouterr().out)
    assert (row["num_trials"], row["false_trials"], row["missed_trials"]) == (100, num_false, 0)


@pytest.mark.parametrize(
    ("words", "named"),
    [([], "got none at all"), (["none", "distractors"], "got none, distractors")],
)
def test_variations_that_cannot_be_scored_are_named(words, named, capsys):
    known = "variations of reach: expected one or more of none, distractor, tool_offset"
    with pytest.raises(ValueError, match=f"{known}.*{named}"):
        score_detectors.ScoreConfig(variations=tuple(words))
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "score", "--variations", *words])
    assert ended.value.code == 2
    assert "variations of reach" in capsys.readouterr().err
