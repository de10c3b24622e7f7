"""The training loop: sample, update, measure, checkpoint, publish. Knows no algorithm and no Ray.

A plain object that any process can drive. It follows the ledger at the boundary between two
updates, so that a robot may work while it learns, and keeps an account of the updates it owes
(`progress.py`). All of its state is in the checkpoint: killed at any moment and built again, it
continues bit for bit on a CPU from the last one. Frames are not in it; they are in the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from learner.algorithms.base import Algorithm
from learner.checkpoint import CheckpointStore
from learner.clock import Clock, SystemClock
from learner.durable import FolderLock, StoreFull
from learner.metrics import Metrics
from learner.progress import Progress
from learner.replay import Replay
from learner.run_state import RunState
from learner.sampler import Mixture
from learner.status import StatusFile, TrainerState, TrainerStatus
from learner.store import TrialStore
from learner.trainer_config import TrainerConfig
from learner.weights import WeightsManifest, WeightStore
from learner.zarr_group import TrialCorrupt
from protos.trial import RobotSpec, Trial

logger = logging.getLogger(__name__)
RETRY_FULL_DISK_S = 5.0


class Trainer:
    """Trains one algorithm on one store, and resumes where an earlier one stopped.

    Args:
        config: How much to train, and how often to save.
        algorithm: Fresh; takes its state from the newest checkpoint.
        spec: What the trials must follow.
        policy_config: The algorithm's configuration as text; goes with the weights.
        horizon: Steps of a training window, H.
        store: The trials; reading is enough.
        device: Where the algorithm's batches must lie.
        replay_device: Where frames and priorities live.
        seed: Of the draws from the replay.
        learner_id: Named in each published version.
        clock: Time.

    Raises:
        StoreLocked: Another trainer works on this store.
        CheckpointMismatch: The store's checkpoints are of another algorithm or robot.
        CheckpointCorrupt: It has checkpoints and none can be read.
        StoreFull: The disk is full; a later try may succeed.
    """

    def __init__(
        self,
        *,
        config: TrainerConfig,
        algorithm: Algorithm,
        spec: RobotSpec,
        policy_config: str,
        horizon: int,
        store: TrialStore,
        device: torch.device | str = "cpu",
        replay_device: torch.device | str = "cpu",
        seed: int = 0,
        learner_id: str = "learner",
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.algorithm = algorithm
        self.replay = Replay(spec, config.replay, device=replay_device)
        self.weights = WeightStore(store.root / "weights", keep=config.keep_weights)
        self.checkpoints = CheckpointStore(store.root / "checkpoints", keep=config.keep_checkpoints)
        self._run = RunState(spec, policy_config, algorithm, self.replay, seed, config)
        self._store, self._learner_id, self._device = store, learner_id, torch.device(device)
        self._clock = clock or SystemClock()
        self._mixture = Mixture(self.replay, horizon)
        self._num_unreadable = 0
        self._problem = ""
        self._polled_at_s = self._retry_at_s = float("-inf")
        self._weights_version = self.weights.latest_version() or 0
        self._status = StatusFile(store.root / "logs" / "trainer_status.json", self._clock)
        self._lock = FolderLock(store.root / "run" / "trainer.lock", f"training in {store.root}")
        try:
            self._show(TrainerState.LOADING)
            if (checkpoint := self.checkpoints.load_latest()) is not None:
                self._run.restore(checkpoint, self._load)
            self._metrics = Metrics(
                store.root / "logs",
                num_updates=self.progress.num_updates,
                is_tensorboard_on=config.is_tensorboard_on,
                unix_ns=self._clock.unix_ns,
            )
        except BaseException as error:
            is_full = isinstance(error, StoreFull)
            self._show(TrainerState.WAITING if is_full else TrainerState.FAILED, str(error))
            self._lock.release()
            raise
        self._saved, self._saved_at_s = self.progress.state_dict(), self._clock.monotonic_s()

    @property
    def progress(self) -> Progress:
        """What was seen, done and is owed."""
        return self._run.progress

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Trains until `should_stop`, then finishes the update, saves and closes.

        Raises:
            DivergedError, WeightsNotFinite: An update was not finite; it was not saved.
            SpecMismatch: A committed trial follows another spec.
            Exception: Whatever else ended it; the status file says each.
        """
        try:
            while not should_stop():
                self.step()
            if self.progress.state_dict() != self._saved:
                self._retry_at_s = float("-inf")
                self._try(self.save)
            self._show(TrainerState.STOPPED)
        except Exception as error:
            self._show(TrainerState.FAILED, str(error))
            raise
        finally:
            self.close()

    def run_until_settled(self) -> None:
        """Makes all the updates that are owed for what is committed, publishes and saves.

        Raises:
            RuntimeError: There is not enough data to make them.
        """
        self.drain()
        while self.progress.owed(self.config):
            if missing := self._missing_data():
                raise RuntimeError(f"cannot train: {missing}")
            self.step()
        if self.progress.must_publish(self.config):
            self.publish()
        if self.progress.state_dict() != self._saved:
            self.save()

    def close(self) -> None:
        """Closes the metrics and frees the store for another trainer."""
        self._metrics.close()
        self._lock.release()

    def step(self) -> None:
        """Takes in new trials, then makes one update, or waits a moment if none can be made."""
        now_s = self._clock.monotonic_s()
        if now_s - self._polled_at_s >= self.config.poll_s:
            self._polled_at_s = now_s
            self.drain()
        owed, missing = self.progress.owed(self.config), self._missing_data()
        if owed and not missing:
            self._update()
        if self.progress.must_publish(self.config):
            self._try(self.publish)
        if self.progress.state_dict() != self._saved and self._is_save_due():
            self._try(self.save)
        if missing or not owed:
            self._show(TrainerState.WAITING, self._problem or missing or "online trials")
            self._clock.sleep_s(self.config.poll_s)

    def drain(self) -> None:
        """Takes every newly committed trial into the replay, in order of commit."""
        for row in self._store.iter_rows(since=self.progress.ledger_seq):
            trial = self._load(row.trial_id) if row.is_trainable else None
            if trial is not None:
                self.replay.add(trial)
            self.progress.note(row, is_taken=trial is not None)
            self._metrics.write_trial(row, self.progress.num_updates)
        self.progress.settle(self.config)

    def publish(self) -> WeightsManifest:
        """Publishes the weights as they are now.

        Raises:
            DivergedError, WeightsNotFinite: The algorithm's state is not finite.
            StoreFull: The disk is full.
        """
        self._write_metrics()
        tensors = {name: t.numpy() for name, t in self.algorithm.actor_tensors().items()}
        manifest = self.weights.publish(
            tensors,
            train_step=self.progress.num_updates,
            spec_digest=self._run.spec.digest(),
            policy_config=self._run.policy_config,
            ledger_seq=self.progress.settled_seq,
            num_online_trials=self.progress.num_online_trials,
            learner_id=self._learner_id,
        )
        self.progress.published_updates = self.progress.num_updates
        self._weights_version = manifest.version
        logger.info(
            "weights_published version=%s updates=%s", manifest.version, manifest.train_step
        )
        return manifest

    def save(self) -> Path:
        """Writes a checkpoint.

        Raises:
            DivergedError: The algorithm's state is not finite.
            StoreFull: The disk is full.
        """
        path = self.checkpoints.save(self.progress.num_updates, self._run.parts())
        self._saved, self._saved_at_s = self.progress.state_dict(), self._clock.monotonic_s()
        return path

    def _load(self, trial_id: str) -> Trial | None:
        try:
            return self._store.load(trial_id)
        except (TrialCorrupt, KeyError) as error:
            self._num_unreadable += 1
            logger.warning("trial_skipped trial_id=%s reason=%s", trial_id, error)
            return None

    def _missing_data(self) -> str:
        """Returns what the next offline update still needs, in words; empty if nothing."""
        there, wanted = self.progress.num_offline_trials, self.config.min_offline_trials
        if self.progress.offline_owed(self.config) and there < wanted:
            return f"offline trials, {there} of {wanted} are there"
        return ""

    def _update(self) -> None:
        is_offline = self.progress.offline_owed(self.config) > 0
        self._show(TrainerState.PRETRAINING if is_offline else TrainerState.FINETUNING)
        if self.algorithm.needs_ranges:
            offline, online = self.replay.offline, self.replay.online
            self.algorithm.set_ranges((offline if offline.num_steps else online).ranges())
        batch = self._mixture.sample(
            self.config.batch_size,
            0.0 if is_offline else self.config.online_batch_fraction,
            generator=self._run.generator,
        ).to(self._device)
        result = self.algorithm.update(batch)
        self.replay.update_priorities(batch, result.priorities)
        self._metrics.add(result.metrics | {"online_fraction": batch.source.float().mean()})
        self.progress.count_update(self.config)
        self.progress.settle(self.config)
        if self.progress.num_updates % self.config.log_every_updates == 0:
            self.algorithm.check_finite()
            self._write_metrics()

    def _is_save_due(self) -> bool:
        is_new = self.progress.published_updates != self._saved["published_updates"]
        if is_new and not self.progress.owed(self.config):
            return True  # there is time to spare, and work that must not be lost
        num_saved = self._saved["offline_updates"] + self._saved["online_updates"]
        return (
            self.progress.num_updates - num_saved >= self.config.checkpoint_every_updates
            or self._clock.monotonic_s() - self._saved_at_s >= self.config.checkpoint_every_s
        )

    def _write_metrics(self) -> None:
        self._metrics.write(
            self.progress.num_updates,
            {
                "updates_per_second": self._status.updates_per_second,
                "updates_owed": self.progress.owed(self.config),
                "num_offline_trials": self.progress.num_offline_trials,
                "num_online_trials": self.progress.num_online_trials,
            },
        )

    def _try(self, write: Callable[[], object]) -> None:
        """Writes; a full disk is a reason to try again later, not to stop learning."""
        if self._clock.monotonic_s() < self._retry_at_s:
            return
        try:
            write()
            self._problem = ""
        except StoreFull as error:
            self._problem = str(error)
            self._retry_at_s = self._clock.monotonic_s() + RETRY_FULL_DISK_S
            logger.warning("store_full %s", error)

    def _show(self, state: TrainerState, text: str = "") -> None:
        progress = self.progress
        self._status.show(
            TrainerStatus(
                state=state,
                waiting_for=text or self._problem,
                num_updates=progress.num_updates,
                updates_owed=progress.owed(self.config),
                num_offline_trials=progress.num_offline_trials,
                num_online_trials=progress.num_online_trials,
                num_unreadable_trials=self._num_unreadable,
                weights_version=self._weights_version,
                ledger_seq=progress.ledger_seq,
                settled_seq=progress.settled_seq,
            )
        )
