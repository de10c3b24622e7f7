"""The whole story on this machine: pretrain, evaluate, finetune on trials, evaluate, control.

Every part runs in its own process, through the same commands that a lab would type.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from learner.ledger import TrialRow
from learner.status import TrainerStatus
from learner.store import TrialStore
from protos.trial import Source
from robot.sim.config import EVAL_POSITIONS, SimConfig
from robot.sim.offline import OfflineDataConfig
from services import config, store_view
from services.actor_config import ActorConfig
from services.children import Child, MemoryWatch
from services.commands.data import MakeConfig
from services.config_text import to_toml
from services.demo_config import DemoConfig, place_m, region_m
from services.demo_digest import config_digest
from services.demo_result import (
    FILE_NAME,
    DemoResult,
    Evaluation,
    OnlineTrial,
    PositionOutcome,
)
from services.demo_stage import DemoFailed, Stage
from services.machine import machine, versions
from services.process import CannotStart
from services.store_view import StoreView

MARKER = ".offworld-demo"
"""In a folder that a demo made, and may therefore replace."""


class Demo:
    """One demo run.

    Args:
        settings: What to run, and where.
    """

    def __init__(self, settings: DemoConfig) -> None:
        self.settings = settings
        self.out = settings.out
        self.view = StoreView(self.out / "store")
        self.control = StoreView(self.out / "control-store")
        self.actor = config.build_file(ActorConfig, settings.actor_config)
        self._config_digest = config_digest(settings)
        self._stage = Stage(settings)
        self._seconds: dict[str, float] = {}

    def run(self) -> DemoResult:
        """Runs all phases and returns what they measured; `result.json` holds the same.

        Raises:
            DemoFailed: A part ended with an error.
            CannotStart: The folder holds something else than an earlier demo.
        """
        make_folder(self.out)
        stage, num_online = self._stage, self.settings.num_online_trials
        with MemoryWatch() as memory:
            with self._phase("offline trials"):
                self._make_offline_trials()
            with stage.learner("learner", self.view) as learner:
                with self._phase("pretraining"):
                    pretrained = stage.train(learner, self.view, "pretraining")
                self._prepare_control(learner, pretrained)
                with self._phase("evaluation before"):
                    zero_shot = self._evaluate("before", learner, self.view)
                with self._phase("online trials and finetuning"):
                    online = stage.trials(
                        "online trials",
                        learner,
                        self.view,
                        source=Source.ONLINE,
                        num_trials=num_online,
                    )
                    finetuned = stage.train(learner, self.view, "finetuning")
                with self._phase("evaluation after"):
                    after = self._evaluate("after", learner, self.view)
            further = finetuned.num_updates - pretrained.num_updates
            extra = ("--trainer.extra-offline-updates", str(further))
            with stage.learner("control-learner", self.control, *extra) as learner:
                with self._phase("control: training on offline data"):
                    stage.train(learner, self.control, "control", goal=finetuned.num_updates)
                with self._phase("control: evaluation"):
                    control = self._evaluate("control", learner, self.control)
        offline = self.view.rows(source=Source.OFFLINE)
        sim = self.actor.sim
        result = DemoResult(
            seed=self.settings.seed,
            task=sim.task,
            num_offline_trials=len(offline),
            num_offline_successes=sum(row.is_success for row in offline),
            recorded_region_m=region_m(sim, self.settings.recorded_region),
            table_region_m=region_m(sim, sim.target_region),
            variation=sim.variation,
            zero_shot=zero_shot,
            after=after,
            control=control,
            online=tuple(_online(row) for row in online),
            seconds=self._seconds,
            peak_memory_bytes=memory.peak_bytes,
            peak_resident_bytes=memory.peak_resident_bytes,
            versions=versions(),
            machine=machine(),
            config_digest=self._config_digest,
            settings={
                "num_pretrain_updates": pretrained.num_updates,
                "num_further_updates": further,
                "eval_pace": self.settings.eval_pace,
                "recorded_region": self.settings.recorded_region,
            },
        )
        result.save(self.out / FILE_NAME)
        return result

    def _make_offline_trials(self) -> None:
        offline = offline_data(self.settings, self.actor.sim)
        making = MakeConfig(store=self.view.root, seed=self.settings.seed, offline=offline)
        # Made here, so that it may be read from now on.
        TrialStore.open(self.view.root).close()
        file = self.out / "configs" / "offline.toml"
        file.write_text(to_toml(making), encoding="utf-8")
        self._stage.make_data(str(file), self.view, sum(offline.counts))

    def _prepare_control(self, learner: Child, pretrained: TrainerStatus) -> None:
        """Copies offline trials and the checkpoint of this moment into the control's store."""
        num_updates = pretrained.num_updates
        self._stage.wait_until(
            "the checkpoint of the pretrained model",
            learner,
            lambda: self.view.checkpoint_at(num_updates) is not None,
        )
        checkpoint = self.view.checkpoint_at(num_updates)
        assert checkpoint is not None
        store_view.copy_as_control(self.view, checkpoint, self.control.root)

    def _evaluate(self, name: str, learner: Child, view: StoreView) -> Evaluation:
        """Runs one trial at each fixed position with the newest weights."""
        status = view.status()
        assert status is not None
        rows = self._stage.trials(
            f"evaluation, {name}",
            learner,
            view,
            source=Source.EVAL,
            num_trials=self.settings.num_positions,
            flags=("--pace", self.settings.eval_pace),
        )
        used = {row.weights_version for row in rows}
        if used != {status.weights_version}:
            raise DemoFailed(f"evaluated {sorted(used)}, not weights v{status.weights_version}")
        return Evaluation(
            weights_version=status.weights_version,
            num_updates=status.num_updates,
            outcomes=tuple(_at_position(row, self.actor.sim) for row in rows),
        )

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self._seconds[name] = round(time.monotonic() - began_s, 2)


def offline_data(settings: DemoConfig, sim: SimConfig) -> OfflineDataConfig:
    """Returns which offline trials a demo records: the actor's workspace, part of its table."""
    return OfflineDataConfig(
        sim=dataclasses.replace(sim, target_region=settings.recorded_region, variation="none"),
        num_expert_trials=settings.num_expert_trials,
        num_exploratory_trials=settings.num_exploratory_trials,
    )


def make_folder(out: Path) -> None:
    """Makes an empty folder for a run; one that an earlier demo left is replaced.

    Raises:
        CannotStart: The folder holds something that no demo made.
    """
    if out.exists():
        if not (out / MARKER).exists() and any(out.iterdir()):
            raise CannotStart(f"{out} holds something no demo made; give another --out")
        shutil.rmtree(out)
    for folder in (out, out / "logs", out / "configs", out / "spools"):
        folder.mkdir(parents=True)
    (out / MARKER).touch()


def _at_position(row: TrialRow, sim: SimConfig) -> PositionOutcome:
    assert row.position_index is not None
    x_m, y_m = place_m(sim, EVAL_POSITIONS[row.position_index][0])
    return PositionOutcome(
        position_index=row.position_index,
        x_m=x_m,
        y_m=y_m,
        is_success=row.is_success,
        num_steps=row.num_steps,
        trial_id=row.trial_id,
    )


def _online(row: TrialRow) -> OnlineTrial:
    return OnlineTrial(
        trial_id=row.trial_id,
        is_success=row.is_success,
        num_steps=row.num_steps,
        total_reward=row.total_reward,
        weights_version=row.weights_version,
    )
