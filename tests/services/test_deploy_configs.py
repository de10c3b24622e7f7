"""The configurations that come with offworld: they load, and learner and actor agree."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from learner.algorithms.registry import policy_config_from_json, policy_config_to_json
from learner.trainer_config import TrainerJob
from robot.guard_limits import GuardLimits
from robot.safety import SafetyLimits
from robot.sim.config import SimConfig
from robot.sim.env import make_sim_spec
from services import config, learner_config
from services.actor_config import ActorConfig
from services.commands.data import MakeConfig
from services.config_text import to_toml
from services.demo import offline_data
from services.demo_config import CONFIGS, DemoConfig
from services.guard import read_limits
from services.learner_config import LearnerConfig

LEARNERS = sorted(
    path
    for path in CONFIGS.glob("*.toml")
    if not any(kind in path.name for kind in ("actor", "limits", "calibration"))
    and path.name not in ("demo.toml", "demo-data.toml")
)


def test_there_are_configurations() -> None:
    assert {p.name for p in CONFIGS.glob("*.toml")} >= {
        "demo.toml",
        "demo-learner.toml",
        "demo-actor.toml",
        "xarm-reach-paper.toml",
        "xarm-pick-paper.toml",
    }


@pytest.mark.parametrize("path", LEARNERS, ids=lambda p: p.stem)
def test_a_learner_configuration_loads_and_survives_being_written_down(path: Path) -> None:
    loaded = learner_config.load(["--config", str(path)])
    printed = to_toml(loaded)
    assert config.build(LearnerConfig, tomllib.loads(printed), file="printed") == loaded
    job = loaded.job()
    assert TrainerJob.from_json(job.to_json()) == job
    assert policy_config_from_json(policy_config_to_json(loaded.algorithm)) == loaded.algorithm


def test_the_demo_s_learner_and_actor_describe_the_same_robot() -> None:
    learner = config.build_file(LearnerConfig, CONFIGS / "demo-learner.toml")
    actor = config.build_file(ActorConfig, CONFIGS / "demo-actor.toml")
    assert learner.spec.difference(make_sim_spec(actor.sim)) == []


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_the_paper_s_learner_fits_the_simulated_robot_as_it_is(task: str) -> None:
    learner = config.build_file(LearnerConfig, CONFIGS / f"xarm-{task}-paper.toml")
    assert learner.spec.difference(make_sim_spec(SimConfig(task=task))) == []  # type: ignore[arg-type]


def test_the_demo_s_own_settings_load() -> None:
    settings = config.build_file(DemoConfig, CONFIGS / "demo.toml")
    assert settings.num_online_trials == 20
    assert settings.num_positions == 18


def test_the_recorded_data_is_what_the_demo_records() -> None:
    settings = config.build_file(DemoConfig, CONFIGS / "demo.toml")
    actor = config.build_file(ActorConfig, CONFIGS / "demo-actor.toml")
    data = config.build_file(MakeConfig, CONFIGS / "demo-data.toml")
    assert data.offline == offline_data(settings, actor.sim)
    assert data.seed == settings.seed


def test_the_limits_of_an_arm_load_and_let_the_simulated_robot_s_gate_drive() -> None:
    limits = read_limits(CONFIGS / "limits-xarm7.toml")
    period_s = 1.0 / SimConfig().control_hz
    assert limits.excess_of(period_s, SafetyLimits()) == []
    assert config.build(GuardLimits, tomllib.loads(to_toml(limits)), file="printed") == limits


def test_limits_that_anybody_may_change_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text((CONFIGS / "limits-xarm7.toml").read_text())
    path.chmod(0o666)
    with pytest.raises(config.ConfigError, match="chmod o-w"):
        read_limits(path)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("box_low_m = [0.25, -0.15]", "box_low_m"),
        ('max_speed_m_s = "fast"', "max_speed_m_s"),
        ("max_step_m = nan", "max_step_m"),
        ("max_stepp_m = 0.1", "did you mean 'max_step_m'"),
        ("[start]\nposition_m = [0.0, 0.0, 0.0]", "start"),
        ('[xarm]\nip = "xarm.local"', "xarm: ip must be"),
        ("[xarm]\ncollision_sensitivity = 0", "xarm: collision_sensitivity"),
        ("[xarm]\nspeed = 1", "xarm.speed"),
    ],
)
def test_limits_that_cannot_be_are_named(tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "limits.toml"
    box = "box_low_m = [0.25, -0.15, 0.015]\nbox_high_m = [0.55, 0.15, 0.315]\n"
    path.write_text(f"{line}\n" if "box_low_m" in line else box + line)
    with pytest.raises(config.ConfigError, match=named):
        read_limits(path)


def test_a_learner_without_a_file_is_told_which_there_are() -> None:
    with pytest.raises(config.ConfigError, match="demo-learner.toml"):
        learner_config.load([])


def test_a_wrong_key_is_named_with_its_neighbour(tmp_path: Path) -> None:
    text = (CONFIGS / "demo-learner.toml").read_text().replace("batch_size", "batchsize")
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(config.ConfigError, match=r"mine.toml.*'trainer.batchsize'.*batch_size"):
        learner_config.load(["--config", str(path)])
