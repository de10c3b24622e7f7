"""An algorithm of a few numbers with all the kinds of state a real one has, and a job for FOWM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from learner.algorithms.base import DivergedError, UpdateResult
from learner.algorithms.fowm import FowmConfig
from learner.algorithms.registry import policy_config_to_json
from learner.batch import Batch
from learner.planner_config import PlannerConfig
from learner.store import TrialStore
from learner.trainer import Trainer
from learner.trainer_config import TrainerConfig, TrainerJob
from tests.learner.trials import make_spec


class TickingClock:
    """Every look at it takes a millisecond; sleeping takes as long as it should, at once."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept_s = 0.0

    def monotonic_s(self) -> float:
        self.now_s += 0.001
        return self.now_s

    def unix_ns(self) -> int:
        return int(self.now_s * 1e9)

    def sleep_s(self, seconds: float, /) -> None:
        self.now_s += seconds
        self.slept_s += seconds


class TinyAlgorithm:
    """Predicts rewards from states by a line; counts what it was given."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.weight = torch.zeros(4, requires_grad=True)
        self._adam = torch.optim.Adam([self.weight], lr=1e-2)
        self.num_updates = 0
        self.needs_ranges = True
        self.ranges: dict[str, Any] = {}
        self.is_broken = False
        self.fractions: list[float] = []

    def set_ranges(self, ranges: Mapping[str, Any]) -> None:
        self.ranges, self.needs_ranges = dict(ranges), False

    def update(self, batch: Batch) -> UpdateResult:
        noise = torch.randn(batch.size, generator=self._generator)
        error = batch.observations["state"] @ self.weight + 0.1 * noise - batch.reward[0, :, 0]
        loss = (batch.weights * error.square()).mean()
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        self.num_updates += 1
        self.fractions.append(float(batch.source.float().mean()))
        if self.is_broken:
            self.weight.data[0] = float("nan")
        return UpdateResult(metrics={"loss": loss.detach()}, priorities=error.detach().abs())

    def check_finite(self) -> None:
        if not torch.isfinite(self.weight).all():
            raise DivergedError(f"not finite by update {self.num_updates}")

    def state_dict(self) -> dict[str, Any]:
        self.check_finite()
        return {
            "weight": self.weight.detach().clone(),
            "adam": self._adam.state_dict(),
            "generator": self._generator.get_state(),
            "num_updates": self.num_updates,
            "needs_ranges": self.needs_ranges,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weight.data.copy_(state["weight"])
        self._adam.load_state_dict(dict(state["adam"]))
        self._generator.set_state(state["generator"])
        self.num_updates, self.needs_ranges = state["num_updates"], state["needs_ranges"]

    def actor_tensors(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight.detach().clone()}


TINY_CONFIG = TrainerConfig(
    num_pretrain_updates=10,
    updates_per_trial=4,
    updates_per_step=None,
    batch_size=8,
    checkpoint_every_updates=1_000,
    checkpoint_every_s=1e9,
    log_every_updates=5,
    is_tensorboard_on=False,
    poll_s=0.001,
)


def make_tiny_trainer(
    store: TrialStore, config: TrainerConfig = TINY_CONFIG, **change: Any
) -> Trainer:
    parts: dict[str, Any] = {
        "config": config,
        "algorithm": TinyAlgorithm(),
        "spec": make_spec(),
        "policy_config": '{"algorithm": "tiny"}',
        "horizon": 3,
        "store": store,
        "clock": TickingClock(),
    }
    return Trainer(**parts | change)


SMALL_FOWM = FowmConfig(
    encoder="spatial_softmax",
    conv_channels=4,
    latent_size=8,
    mlp_size=16,
    state_hidden=16,
    num_q=3,
    horizon=3,
    shift_px=1,
    state_normalisation="box",
    planner=PlannerConfig(num_samples=16, num_elites=4, iterations=2),
)


def make_fowm_job(store: str, config: TrainerConfig, *, image_size: int = 24) -> TrainerJob:
    """A FOWM small enough for a few milliseconds an update."""
    return TrainerJob(
        store=store,
        spec=make_spec(image_size=image_size),
        policy_config=policy_config_to_json(SMALL_FOWM),
        trainer=config,
        device="cpu",
        seed=5,
    )
