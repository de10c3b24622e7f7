"""The parts of the demo that need no process: places, folders, several seeds, the doctor."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import deploy
from learner.store import TrialStore
from protos.trial import Source
from robot.sim.config import EVAL_POSITIONS, SimConfig
from robot.sim.tasks import Placement
from services import cli, demo_seeds
from services.commands.doctor import DoctorFlags, examine
from services.demo import make_folder
from services.demo_config import DemoConfig, place_m, region_m
from services.demo_digest import config_digest
from services.demo_result import DemoResult, Evaluation, PositionOutcome
from services.measure import Times, honest_hz
from services.process import CannotStart
from services.store_view import StoreView, copy_as_control
from tests.services.tiny_demo import write_configs
from tests.services.trials import make_trial


@pytest.mark.parametrize("index", range(len(EVAL_POSITIONS)))
def test_positions_on_the_map_are_where_the_simulator_puts_them(index: int) -> None:
    sim = SimConfig()
    placed = Placement(sim, 0, index).place()
    assert place_m(sim, EVAL_POSITIONS[index][0]) == pytest.approx(placed)


@pytest.mark.parametrize("region", ["whole", "near", "near_left"])
def test_regions_on_the_map_hold_what_the_simulator_places_there(region: str) -> None:
    sim = SimConfig(target_region=region)
    x_low, x_high, y_low, y_high = region_m(sim, region)
    placement = Placement(sim, 0, None)
    places = np.array([placement.place() for _ in range(300)])
    assert places[:, 0].min() >= x_low
    assert places[:, 0].max() <= x_high
    assert places[:, 1].min() >= y_low
    assert places[:, 1].max() <= y_high
    assert np.ptp(places[:, 0]) > 0.9 * (x_high - x_low)
    assert np.ptp(places[:, 1]) > 0.9 * (y_high - y_low)


def test_a_demo_replaces_an_earlier_demo_and_nothing_else(tmp_path: Path) -> None:
    make_folder(tmp_path / "demo")
    (tmp_path / "demo" / "old").touch()
    make_folder(tmp_path / "demo")
    assert not (tmp_path / "demo" / "old").exists()
    (tmp_path / "mine").mkdir()
    make_folder(tmp_path / "mine")  # empty
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("x")
    with pytest.raises(CannotStart, match="precious"):
        make_folder(tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.tex").exists()


@pytest.mark.parametrize(
    "wrong", [{"recorded_region": "moon"}, {"num_online_trials": 0}, {"num_positions": 19}]
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DemoConfig(**wrong)


def evaluation(successes: int) -> Evaluation:
    outcomes = tuple(
        PositionOutcome(
            position_index=i, x_m=0, y_m=0, is_success=i < successes, num_steps=5, trial_id="t"
        )
        for i in range(10)
    )
    return Evaluation(weights_version=1, num_updates=10, outcomes=outcomes)


def result(seed: int, before: int, control: int, after: int) -> DemoResult:
    return DemoResult(
        seed=seed,
        task="reach",
        num_offline_trials=1,
        num_offline_successes=1,
        recorded_region_m=(0, 1, 0, 1),
        variation="none",
        table_region_m=(0, 1, 0, 1),
        zero_shot=evaluation(before),
        after=evaluation(after),
        control=evaluation(control),
        online=(),
        seconds={"all": 10.0},
        peak_memory_bytes=2**30 + seed,
        peak_resident_bytes=2**31,
        versions={},
        machine="m",
    )


RESULTS = [result(0, 2, 3, 6), result(1, 4, 4, 4), result(2, 1, 5, 3)]


def test_the_summary_counts_over_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    summary = demo_seeds.summarise(RESULTS)
    assert summary["after"]["per_seed"] == pytest.approx([0.6, 0.4, 0.3])
    assert summary["after"]["mean"] == pytest.approx(13 / 30)
    assert summary["zero_shot"]["pooled"] == [7, 30]
    low, high = summary["after"]["mean_interval_95"]
    assert 0.3 <= low < 13 / 30 < high <= 0.6
    against = summary["after_minus_zero_shot"]
    assert (against["num_better"], against["num_equal"], against["num_worse"]) == (2, 1, 0)
    control = summary["after_minus_control"]
    assert (control["num_better"], control["num_equal"], control["num_worse"]) == (1, 1, 1)
    assert summary["peak_memory_bytes"] == 2**30 + 2
    json.dumps(summary, allow_nan=False)
    demo_seeds.show_summary(RESULTS, summary)
    out = capsys.readouterr().out
    assert "better in 2 of 3 seeds, worse in 0" in out
    assert "better in 1 of 3 seeds, worse in 1" in out


def test_one_seed_has_no_interval_over_seeds() -> None:
    summary = demo_seeds.summarise(RESULTS[:1])
    assert summary["after"]["mean_interval_95"] is None
    assert summary["after"]["pooled_interval_95"] is not None
    json.dumps(summary, allow_nan=False)


class Runs:
    """Stands for demos: each leaves a result at once."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, settings: DemoConfig) -> None:
        self.seeds.append(settings.seed)
        settings.out.mkdir(parents=True, exist_ok=True)
        self.leave(settings, config_digest(settings))

    @staticmethod
    def leave(settings: DemoConfig, digest: str) -> None:
        made = dataclasses.replace(RESULTS[0], seed=settings.seed, config_digest=digest)
        made.save(settings.out / "result.json")


def test_seeds_that_are_done_are_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Runs()
    settings = DemoConfig(out=tmp_path, seeds=(4, 5), json=True)
    assert [r.seed for r in demo_seeds.run_seeds(settings, run)] == [4, 5]
    settings = dataclasses.replace(settings, seeds=(4, 5, 6))
    assert [r.seed for r in demo_seeds.run_seeds(settings, run)] == [4, 5, 6]
    assert run.seeds == [4, 5, 6]
    told = capsys.readouterr()
    assert told.out == ""
    assert "runs again" not in told.err


def test_a_seed_of_other_configurations_is_run_again_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, (learner, actor) = Runs(), write_configs(tmp_path / "configs")
    settings = DemoConfig(
        out=tmp_path / "out", seeds=(0,), learner_config=learner, actor_config=actor
    )
    demo_seeds.run_seeds(settings, run)
    learner.write_text("# as before\n" + learner.read_text())
    demo_seeds.run_seeds(settings, run)
    assert len(run.seeds) == 1
    assert "runs again" not in capsys.readouterr().out

    learner.write_text(learner.read_text().replace("mlp_size = 16", "mlp_size = 32"))
    demo_seeds.run_seeds(settings, run)
    demo_seeds.run_seeds(settings, run)
    actor.write_text(actor.read_text().replace("max_steps = 6", "max_steps = 7"))
    demo_seeds.run_seeds(settings, run)
    settings = dataclasses.replace(settings, num_online_trials=3)
    demo_seeds.run_seeds(settings, run)
    monkeypatch.setattr("services.demo_digest.software_version", lambda: "0.0.9")
    demo_seeds.run_seeds(settings, run)
    assert len(run.seeds) == 5
    told = capsys.readouterr().out
    assert told.count("runs again: the result there is of other configurations or another") == 4

    run.leave(dataclasses.replace(settings, out=settings.out / "seed-0"), "")
    demo_seeds.run_seeds(settings, run)
    assert len(run.seeds) == 6
    assert "runs again: the result there is of configurations not known" in capsys.readouterr().out


def test_results_of_before_can_still_be_read() -> None:
    files = sorted((Path(deploy.__file__).parent / "results" / "demo").glob("*.json"))
    assert [DemoResult.load(file).config_digest for file in files] == [""] * 5


def test_the_control_starts_from_the_same_trials_and_checkpoint(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "store")
    for seed in range(3):
        store.commit(make_trial(source=Source.OFFLINE, seed=seed))
    store.commit(make_trial(source=Source.ONLINE, seed=9))
    store.close()
    view = StoreView(tmp_path / "store")
    checkpoint = tmp_path / "store" / "checkpoints" / "0000000010"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text("{}")
    assert view.checkpoint_at(10) == checkpoint
    assert view.checkpoint_at(11) is None
    assert copy_as_control(view, checkpoint, tmp_path / "control") == 3
    control = StoreView(tmp_path / "control")
    assert [(r.ledger_seq, r.digest) for r in control.rows()] == [
        (r.ledger_seq, r.digest) for r in view.rows(source=Source.OFFLINE)
    ]
    assert control.checkpoint_at(10) is not None


def test_the_honest_rate_leaves_headroom_for_the_slowest_plans() -> None:
    slow = Times(p50_ms=20, p99_ms=40, max_ms=90)
    quick = Times(p50_ms=4, p99_ms=5, max_ms=6)
    assert honest_hz(slow, quick) == pytest.approx(1e3 * 0.9 * 0.8 / 45)
    assert Times.of([1_000_000, 3_000_000]).p50_ms == pytest.approx(2.0)


def test_the_doctor_measures_and_finds_what_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner, actor = write_configs(tmp_path)
    flags = DoctorFlags(learner_config=learner, actor_config=actor, plans=5)
    found = {f.check: f for f in examine(flags)}
    assert set(found) >= {"versions", "ray", "loop", "rendering", "planner", "disk", "port"}
    assert found["rendering"].verdict == "go"
    assert "honest up to" in found["planner"].detail
    actor.write_text(actor.read_text().replace("image_size = 32", "image_size = 40"))
    words = ["--learner-config", str(learner), "--actor-config", str(actor), "--plans", "1"]
    assert cli.main(["doctor", *words, "--learner", "127.0.0.1:1"]) == 3
    out = capsys.readouterr().out
    assert "describe different robots" in out
    assert "no-go       learner" in out
