"""Detectors against the truth: the same trials judged by both, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robot.clock import SimulatedClock
from robot.detectors.make import Detector
from robot.detectors.verdict import Verdict
from robot.interfaces import SUCCESS
from robot.observation import Observation
from robot.sim.config import SimConfig
from robot.sim.env import make_reward, make_sim_env
from robot.sim.experts import Explorer
from robot.sim.offline import make_expert

Behaviour = Literal["expert", "exploratory"]
LEVELS: tuple[float, ...] = (0.0, 0.5, 1.0)
"""The rewards there are."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One frame, judged by detector and truth."""

    trial: int
    step: int
    """Number of actions before it."""
    observation: Observation
    verdict: Verdict
    true_reward: float

    @property
    def is_agreed(self) -> bool:
        """Whether the detector's reward is the true one."""
        return self.verdict.reward == self.true_reward


def judge_trials(
    config: SimConfig,
    detector: Detector,
    behaviour: Behaviour,
    *,
    seed: int,
    num_trials: int,
) -> Iterator[Judged]:
    """Yields every frame that an action led to, in order, of trials that `seed` decides.

    Args:
        config: Which workspace. Its truth is the standard and is never shown to the detector.
        detector: For the workspace's camera.
        behaviour: Who acts.
        seed: Decides every trial.
        num_trials: Of `config.max_steps` steps each.
    """
    env = make_sim_env(config, SimulatedClock())
    truth = make_reward(config)
    actor = make_expert(config) if behaviour == "expert" else Explorer(env.spec.action_size)
    try:
        for trial in range(num_trials):
            rng = np.random.default_rng([seed, trial])
            actor.begin(rng)
            observation = env.reset(int(rng.integers(2**31)))
            detector.begin(_untold(observation))
            for step in range(1, config.max_steps + 1):
                observation = env.step(actor.act(observation)).observation
                yield Judged(
                    trial=trial,
                    step=step,
                    observation=observation,
                    verdict=detector.judge(_untold(observation)),
                    true_reward=truth(observation),
                )
    finally:
        env.close()


class Tally:
    """Counts of what was true and what was said, with the confidence on either side.

    A trial is a success from its first frame of success on, as a learner and a series count it.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((len(LEVELS), len(LEVELS)), np.int64)
        """By true reward, then by the detector's. [3, 3]"""
        self._confidence: dict[bool, list[float]] = {True: [], False: []}
        self._successes: dict[int, tuple[bool, bool]] = {}
        """By trial: whether one was said, and whether one was true."""

    def add(self, judged: Judged) -> None:
        """Counts one frame."""
        self.counts[LEVELS.index(judged.true_reward), LEVELS.index(judged.verdict.reward)] += 1
        self._confidence[judged.is_agreed].append(judged.verdict.confidence)
        said, true = self._successes.get(judged.trial, (False, False))
        self._successes[judged.trial] = (
            said or judged.verdict.reward >= SUCCESS,
            true or judged.true_reward >= SUCCESS,
        )

    @property
    def num_frames(self) -> int:
        """Frames counted."""
        return int(self.counts.sum())

    @property
    def agreement(self) -> float:
        """Part of the frames with the same reward."""
        return float(np.trace(self.counts)) / self.num_frames

    @property
    def num_false_success(self) -> int:
        """Frames called a success that were none."""
        return int(self.counts[:-1, -1].sum())

    @property
    def num_missed_success(self) -> int:
        """Successes that were not called so."""
        return int(self.counts[-1, :-1].sum())

    @property
    def num_trials(self) -> int:
        """Trials counted."""
        return len(self._successes)

    @property
    def num_false_trials(self) -> int:
        """Trials called a success that were none."""
        return sum(said and not true for said, true in self._successes.values())

    @property
    def num_missed_trials(self) -> int:
        """Trials that were a success and were not called so."""
        return sum(true and not said for said, true in self._successes.values())

    @property
    def trial_agreement(self) -> float:
        """Part of the trials with the same outcome."""
        return 1.0 - (self.num_false_trials + self.num_missed_trials) / self.num_trials

    def mean_confidence(self, *, is_agreed: bool) -> float | None:
        """Returns the mean confidence over right or over wrong verdicts, None without any."""
        values = self._confidence[is_agreed]
        return float(np.mean(values)) if values else None


def _untold(observation: Observation) -> Observation:
    """Returns what a real robot would see: no truth."""
    return Observation(
        fields=observation.fields,
        t_observed_ns=observation.t_observed_ns,
        is_stale=observation.is_stale,
        frames=observation.frames,
        arm=observation.arm,
    )
