"""The acting half of FOWM: encode what the robot sees, plan, act.

Two models take turns: new weights are checked and loaded into the idle one, tried, and only then
used, so that a refused version changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from learner.algorithms.base import Decision, WeightsRejected, check_weights
from learner.algorithms.fowm import FowmConfig
from learner.capture import StaticCall
from learner.mppi import PlanDraws, PlanResult, act_with_policy, draw_plan, is_pruned, plan
from learner.networks import set_execution
from learner.pointwise import FusedSteps
from learner.world_model import ActorModel
from protos.trial import RobotSpec


class FowmPolicy:
    """Implements `Policy`; its random stream is its own and starts at `seed`."""

    def __init__(
        self, config: FowmConfig, spec: RobotSpec, device: torch.device | str, seed: int
    ) -> None:
        self.config = config
        self.spec = spec
        self.device = torch.device(device)
        self._generator = torch.Generator(self.device).manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._models = [_Actor(config, spec, self.device) for _ in range(2)]
        self._expected = {
            name: torch.empty(t.shape, dtype=torch.float32, device="meta")
            for name, t in self._models[0].model.state_dict().items()
        }
        self._mean = torch.zeros(1, config.horizon, spec.action_size, device=self.device)
        self._has_previous = torch.zeros(1, device=self.device)

    @property
    def previous_mean(self) -> Tensor:
        """The plan the next call starts from; zeros after `reset`. [H, A]"""
        return self._mean[0]

    def load(self, tensors: Mapping[str, np.ndarray | Tensor]) -> None:
        """Takes new weights whole, or raises WeightsRejected and keeps the old ones."""
        checked = check_weights(self._expected, tensors)
        idle = self._models[1]
        idle.load(checked)
        result = idle.decide(
            self._tensors(_blank(self.spec)),
            torch.zeros_like(self._mean),
            torch.zeros_like(self._has_previous),
            self._draw(is_eval=True, generator=torch.Generator(self.device).manual_seed(0)),
        )
        if not all(bool(x.isfinite().all()) for x in (result.action, result.uncertainty)):
            raise WeightsRejected("the weights are finite, but a trial plan with them is not")
        self._models.reverse()

    def warm_up(self) -> None:
        """Plans on blank observations with both models until nothing is left to compile."""
        draws = self._draw(is_eval=True, generator=torch.Generator(self.device).manual_seed(0))
        blank = self._tensors(_blank(self.spec))
        for actor in self._models:
            for _ in range(5):
                actor.decide(blank, self._mean * 0, self._has_previous * 0, draws)

    def reset(self) -> None:
        """Forgets the plan of the trial before; called at the start of every trial."""
        self._mean = torch.zeros_like(self._mean)
        self._has_previous = torch.zeros_like(self._has_previous)

    def draw(self, *, is_eval: bool) -> PlanDraws:
        """Draws the random numbers of the next decision."""
        return self._draw(is_eval=is_eval, generator=self._generator)

    def act(
        self,
        observation: Mapping[str, np.ndarray],
        *,
        is_eval: bool,
        draws: PlanDraws | None = None,
    ) -> Decision:
        """Decides on one action.

        Args:
            observation: What the robot sees now. {name: [*shape]}
            is_eval: Leaves out the noise on the chosen action, and nothing else.
            draws: Random numbers to use instead of the policy's own.
        """
        draws = self.draw(is_eval=is_eval) if draws is None else draws
        result = self._models[0].decide(
            self._tensors(observation), self._mean, self._has_previous, draws
        )
        self._mean = result.mean
        self._has_previous = torch.ones_like(self._has_previous)
        return Decision(
            action=result.action[0].cpu().numpy().astype(np.float32),
            value=float(result.value[0]),
            uncertainty=float(result.uncertainty[0]),
        )

    def rest_of_plan(self) -> np.ndarray:
        """Returns the last plan's mean after its first action; see `Policy`. [H - 1 or 0, A]"""
        has_plan = self.config.planner.use_mpc and bool(self._has_previous[0])
        rest = self._mean[0, 1:] if has_plan else self._mean[0, :0]
        return np.array(rest.cpu().numpy(), dtype=np.float32)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what the next action depends on beside the weights."""
        return {
            "previous_mean": self._mean.clone(),
            "has_previous": self._has_previous.clone(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continues from `state_dict`'s value."""
        self._mean = state["previous_mean"].to(self.device).clone()
        self._has_previous = state["has_previous"].to(self.device).clone()
        self._generator.set_state(state["generator"])

    def _draw(self, *, is_eval: bool, generator: torch.Generator) -> PlanDraws:
        return draw_plan(
            self.config.planner,
            horizon=self.config.horizon,
            num_actions=self.spec.action_size,
            num_q=self.config.num_q,
            generator=generator,
            is_eval=is_eval,
        )

    def _tensors(self, observation: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(np.array(observation[name]))[None].to(self.device)
            for name in self._models[0].model.encoder.fields
        }


class _Actor:
    """One model with its planner, fixed in memory so that a recorded plan stays valid."""

    def __init__(self, config: FowmConfig, spec: RobotSpec, device: torch.device) -> None:
        self.model = ActorModel(spec, config).to(device).requires_grad_(requires_grad=False)
        self._config = config
        dtype = torch.bfloat16 if config.planner.precision == "bf16" else None
        fused = FusedSteps.compiled() if config.planner.compile else None
        for head in (self.model.dynamics, self.model.reward_head, self.model.pi, self.model.q):
            set_execution(head, dtype, fused=fused, convert=True)
        is_static = device.type == "cuda" and config.cuda_graphs
        is_static &= not is_pruned(config.planner, device)
        self._decide = StaticCall(self._plan, device) if is_static else self._plan

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(tensors)

    def decide(
        self, observation: dict[str, Tensor], mean: Tensor, has_previous: Tensor, draws: PlanDraws
    ) -> PlanResult:
        with torch.no_grad():
            return self._decide(observation, mean, has_previous, draws)

    def _plan(
        self, observation: dict[str, Tensor], mean: Tensor, has_previous: Tensor, draws: PlanDraws
    ) -> PlanResult:
        latent = self.model.encode(observation)
        if not self._config.planner.use_mpc:
            return act_with_policy(self.model, latent, mean, draws)
        return plan(
            self.model,
            latent,
            mean,
            has_previous,
            self._config.planner,
            draws,
            discount=self._config.discount,
            uncertainty_weight=self._config.uncertainty_weight,
        )


def _blank(spec: RobotSpec) -> dict[str, np.ndarray]:
    return {f.name: np.zeros(f.shape, f.dtype) for f in spec.observations}
