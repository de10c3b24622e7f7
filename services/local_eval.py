"""Evaluates a stored version of the weights in simulation, in this process, without a learner."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from learner.algorithms.base import Policy
from learner.algorithms.registry import make_policy, policy_config_from_json
from learner.weights import WeightStore
from protos.trial import Provenance, RobotSpec, Source, SpecMismatch, Trial
from robot.clock import SimulatedClock
from robot.collect import collect_trial
from robot.observation import Observation
from robot.sim.config import SimConfig
from robot.sim.env import make_sim_env
from services.process import software_version


class PolicyExpert:
    """Lets a policy drive where a scripted expert is expected."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def begin(self, rng: np.random.Generator) -> None:
        """Starts a trial; the policy has a random stream of its own."""
        del rng
        self._policy.reset()

    def act(self, observation: Observation) -> np.ndarray:
        """Returns the planned action, clipped to [-1, 1]. [A]"""
        return np.clip(self._policy.act(observation.fields, is_eval=True).action, -1.0, 1.0)


def load_policy(store: Path, version: int | None, spec: RobotSpec, seed: int) -> tuple[Policy, int]:
    """Returns the policy of a version of a store (None: the newest), and that version.

    Raises:
        WeightsCorrupt: There is no such version, or it is damaged.
        SpecMismatch: It was learned for another robot.
    """
    weights = WeightStore(store / "weights")
    newest = weights.latest_version()
    chosen = version if version is not None else newest or 0
    manifest = weights.manifest(chosen)
    if manifest.spec_digest != spec.digest():
        raise SpecMismatch(f"weights v{chosen} of {store} were learned for another robot spec")
    policy = make_policy(policy_config_from_json(manifest.policy_config), spec, "cpu", seed)
    policy.load(weights.load(chosen))
    return policy, chosen


def evaluate(
    policy: Policy, version: int, sim: SimConfig, *, num_positions: int, seed: int
) -> Iterator[Trial]:
    """Yields one trial at each fixed position; time passes as quickly as planning allows."""
    env = make_sim_env(sim, SimulatedClock())
    try:
        for index in range(num_positions):
            provenance = Provenance(
                actor="eval",
                incarnation=f"eval-{seed}",
                source=Source.EVAL,
                seed=seed,
                started_unix_ns=time.time_ns(),
                software=software_version(),
                weights_version=version,
                position_index=index,
            )
            rng = np.random.default_rng([seed, index])
            yield collect_trial(env, PolicyExpert(policy), provenance, rng=rng)
    finally:
        env.close()
