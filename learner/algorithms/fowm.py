"""FOWM: a TD-MPC world model pretrained on recorded trials and finetuned online.

Legend: z latent, d dynamics, R reward, Q_i the five Q networks, V state value, pi policy; bars and
`target` are slow copies; y TD target, rho temporal weight, tau expectile, beta advantage-weighted
regression, m_t validity of a step, w_b importance weights, H horizon, B batch.

Where paper and published code differ the code is followed (see `Differs:` here and in the modules
used). One update, in order: targets without gradient; latent rollout; consistency, reward, Q and V
losses; clip; Adam; then the policy on the same latents with the new V; then the slow copies.

Differs: the TD target is V of the encoded real next frame, by the online encoder and V.
Differs: V is regressed on the lower of two random *target* Qs at the rolled-out latents.
Differs: the gradient is multiplied by 1/H before clipping.
Differs: the policy loss skips steps after a trial's end; `mask_pi_loss` off restores the published
code. Both random target pairs are read from one call of the target networks, which do not change in
between: the numbers are the same.
Differs: `average_decay` above 0 publishes an average of the weights; no update knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner import losses
from learner.algorithms.base import DivergedError, UpdateResult
from learner.algorithms.fowm_config import FowmConfig
from learner.augmentation import draw_offsets, random_shift
from learner.average import ActorAverage
from learner.batch import Batch
from learner.capture import StaticCall
from learner.networks import set_execution
from learner.optimiser import NamedAdam
from learner.world_model import TargetModel, WorldModel
from protos.trial import RobotSpec


@dataclass(frozen=True, kw_only=True)
class UpdateDraws:
    """Every random number of one update."""

    shifts: Mapping[str, Tensor]
    """Crop offsets of each image field, first frame then the H next ones; int64. [1 + H, B, 2]"""
    value_pair: Tensor
    """Two distinct target Qs for the V loss; int64. [2]"""
    policy_pair: Tensor
    """Two distinct target Qs for the policy's advantage; int64. [2]"""


class FowmAlgorithm:
    """Implements `Algorithm`; all randomness comes from its own generator or from `draws`.

    A non-finite loss or gradient raises DivergedError: on a CPU at once, before the parameters of
    that step move; on a GPU, which is not waited for, from `check_finite`, `state_dict` and
    `actor_tensors`, so that bad numbers are never saved or published.
    """

    def __init__(
        self, config: FowmConfig, spec: RobotSpec, device: torch.device | str, seed: int
    ) -> None:
        self.config = config
        self.spec = spec
        self.device = torch.device(device)
        self._seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = WorldModel(spec, config).to(self.device)
        if config.train_precision == "bf16":
            set_execution(self.model, torch.bfloat16)
        self.target = TargetModel(self.model)
        named = dict(self.model.named_parameters())
        policy = {k: p for k, p in named.items() if k.startswith("pi.")}
        rest = {k: p for k, p in named.items() if k not in policy}
        self._model_adam = NamedAdam(rest, config.learning_rate, config.max_grad_norm)
        self._policy_adam = NamedAdam(policy, config.learning_rate, config.max_grad_norm)
        self._average = (
            ActorAverage(self.model.actor_tensors(), config.average_decay)
            if config.average_decay
            else None
        )
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._is_finite = torch.ones((), dtype=torch.bool, device=self.device)
        self._num_updates = 0
        self._has_ranges = False
        self._steps, self._batch_size = self._make_steps(), 0

    @property
    def num_updates(self) -> int:
        """Updates made so far."""
        return self._num_updates

    @property
    def needs_ranges(self) -> bool:
        """Whether `set_ranges` must be called before the first update."""
        return self.config.state_normalisation == "box" and not self._has_ranges

    def set_ranges(self, ranges: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Fixes lowest and highest recorded value of each vector field. {name: ([S], [S])}"""
        if self.config.state_normalisation == "box":
            tensors = {
                name: (torch.as_tensor(low).flatten(), torch.as_tensor(high).flatten())
                for name, (low, high) in ranges.items()
            }
            self.model.set_ranges(tensors)
            self.target.encoder.load_state_dict(self.model.encoder.state_dict())
            self._has_ranges = True

    def draw(self, batch_size: int) -> UpdateDraws:
        """Draws the random numbers of one update."""
        device, lead = self.device, (1 + self.config.horizon, batch_size)
        shifts = {
            f.name: draw_offsets(lead, self.config.shift_px, self._generator, device)
            for f in self.spec.image_fields
        }
        noise = torch.rand((2, self.config.num_q), generator=self._generator, device=device)
        pairs = noise.argsort(-1)[:, :2]
        return UpdateDraws(shifts=shifts, value_pair=pairs[0], policy_pair=pairs[1])

    def update(self, batch: Batch, draws: UpdateDraws | None = None) -> UpdateResult:
        """Takes one step on model, V and Qs, one on the policy, and moves the slow copies.

        Raises:
            DivergedError: A loss or gradient is not finite (on a CPU; see the class).
        """
        if self.needs_ranges:
            raise RuntimeError("state_normalisation is 'box': call set_ranges before updating")
        draws = self.draw(batch.size) if draws is None else draws
        if batch.size != self._batch_size:  # recorded steps are for one size
            self._steps, self._batch_size = self._make_steps(), batch.size
        moves_target = self._num_updates % self.config.target_every == 0
        result = self._steps[moves_target](batch, draws)
        self._num_updates += 1
        if self._average is not None:
            self._average.follow(self._num_updates)
        return result

    def _make_steps(self) -> dict[bool, Callable[[Batch, UpdateDraws], UpdateResult]]:
        """Returns the update with and without moving the slow copies, recorded on a GPU."""

        def step(batch: Batch, draws: UpdateDraws) -> UpdateResult:
            result, latents, policy_q = self._model_step(batch, draws)
            result.metrics.update(self._policy_step(batch, latents, policy_q))
            return result

        def step_and_follow(batch: Batch, draws: UpdateDraws) -> UpdateResult:
            result = step(batch, draws)
            self.target.follow(self.model, self.config.target_tau)
            return result

        if self.device.type == "cuda" and self.config.cuda_graphs:
            return {
                False: StaticCall(step, self.device),
                True: StaticCall(step_and_follow, self.device),
            }
        return {False: step, True: step_and_follow}

    def _augmented(self, batch: Batch, draws: UpdateDraws) -> tuple[dict, dict]:
        first, after = dict(batch.observations), dict(batch.next_observations)
        for name, offsets in draws.shifts.items():
            first[name] = random_shift(first[name], offsets[0], self.config.shift_px)
            after[name] = random_shift(after[name], offsets[1:], self.config.shift_px)
        return first, after

    def _pair_minima(self, joint: Tensor, draws: UpdateDraws) -> tuple[Tensor, Tensor]:
        """Returns min Q_target of the V pair and of the policy pair. [H, B, Z+A] -> 2 x [H, B]"""
        rows, shape = joint.flatten(0, 1), joint.shape[:2]
        pairs = torch.stack([draws.value_pair, draws.policy_pair])
        if self.device.type == "cpu":  # reading indices is free here: run only the nets needed
            members = sorted(set(pairs.flatten().tolist()))
            pairs = torch.searchsorted(torch.tensor(members), pairs)
            q = self.target.q(rows, members)
        else:
            q = self.target.q(rows)
        lowest = q[pairs].min(1).values.view(2, *shape)
        return lowest[0], lowest[1]

    def _model_step(self, batch: Batch, draws: UpdateDraws) -> tuple[UpdateResult, Tensor, Tensor]:
        config, model = self.config, self.model
        observations, next_observations = self._augmented(batch, draws)
        reward, mask, done = (x.squeeze(-1) for x in (batch.reward, batch.mask, batch.done))
        with torch.no_grad():
            next_z = model.encode(next_observations)
            target_z = self.target.encoder(next_observations)
            next_v = model.value(next_z)
            y = losses.td_target(reward, mask, next_v, config.discount)
        z, joints, predicted = model.encode(observations), [], []
        for action in batch.action:
            joints.append(torch.cat([z, action.to(z.dtype)], -1))
            z = model.dynamics(joints[-1])
            predicted.append(z)
        joint = torch.stack(joints)
        latents = joint[..., : model.latent_size]
        with torch.no_grad():
            value_q, policy_q = self._pair_minima(joint.detach(), draws)
        q = model.q(joint.flatten(0, 1)).view(-1, *reward.shape)
        v = model.value(latents)
        weights = losses.temporal_weights(done, config.temporal_weight)
        delta = q - y
        next_latents = torch.stack(predicted)
        rewards = model.reward_head(joint).squeeze(-1)
        per_sample = {
            "consistency_loss": losses.consistency_loss(next_latents, target_z),
            "reward_loss": (rewards - reward).square(),
            "q_loss": delta.square().sum(0),
            "v_loss": losses.expectile_loss(value_q - v, config.expectile),
        }
        sums = {name: (weights * loss).sum(0) for name, loss in per_sample.items()}
        total = (
            config.consistency_coef * sums["consistency_loss"]
            + config.reward_coef * sums["reward_loss"]
            + config.q_coef * sums["q_loss"]
            + config.v_coef * sums["v_loss"]
        )
        loss = (batch.weights * total).mean()
        self._model_adam.zero_grad()
        (loss / batch.horizon).backward()
        norm = self._model_adam.clip()
        self._note_finite(loss, norm)
        self._model_adam.step()
        with torch.no_grad():
            metrics = {name: value.mean() for name, value in sums.items()}
            metrics |= {"total_loss": loss.detach(), "grad_norm": norm.detach()}
            metrics["mean_q"], metrics["mean_v"] = q.mean(), v.mean()
            metrics["mean_uncertainty"] = losses.ensemble_uncertainty(q).mean()
            priorities = losses.td_abs(weights, delta)
        return UpdateResult(metrics=metrics, priorities=priorities), latents.detach(), policy_q

    def _policy_step(self, batch: Batch, latents: Tensor, lowest_q: Tensor) -> dict[str, Tensor]:
        config, done = self.config, batch.done.squeeze(-1)
        with torch.no_grad():
            advantage = lowest_q - self.model.value(latents)
            counted = done if config.mask_pi_loss else torch.zeros_like(done)
            weights = losses.temporal_weights(counted, config.temporal_weight)
        mean = self.model.act(latents)
        loss = losses.policy_loss(mean, batch.action, advantage, config.awr_temperature, weights)
        self._policy_adam.zero_grad()
        loss.backward()
        norm = self._policy_adam.clip()
        self._note_finite(loss, norm)
        self._policy_adam.step()
        return {
            "pi_loss": loss.detach(),
            "pi_grad_norm": norm.detach(),
            "mean_advantage": advantage.mean(),
        }

    def _note_finite(self, *values: Tensor) -> None:
        for value in values:
            self._is_finite.logical_and_(value.detach().isfinite())
        if self.device.type == "cpu":
            self.check_finite()

    def check_finite(self) -> None:
        """Raises DivergedError if any update so far was not finite; waits for the device."""
        if not bool(self._is_finite):
            raise DivergedError(
                f"a loss or gradient was not finite by update {self._num_updates + 1}; "
                "go back to the last checkpoint"
            )

    def state_dict(self) -> dict[str, Any]:
        """Returns copies of networks, optimisers, random stream and counts.

        Raises:
            DivergedError: An update was not finite.
        """
        self.check_finite()
        return {
            "model": _copies(self.model.state_dict()),
            "target": _copies(self.target.state_dict()),
            "model_optimiser": self._model_adam.state_dict(),
            "policy_optimiser": self._policy_adam.state_dict(),
            "average": self._average.state_dict() if self._average else {},
            "generator": self._generator.get_state(),
            "generator_device": self.device.type,
            "num_updates": self._num_updates,
            "has_ranges": self._has_ranges,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`'s value; a state from another kind of device is reseeded."""
        self.model.load_state_dict(state["model"])
        self.target.load_state_dict(state["target"])
        self._model_adam.load_state_dict(state["model_optimiser"])
        self._policy_adam.load_state_dict(state["policy_optimiser"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._num_updates = int(state["num_updates"])
        self._has_ranges = bool(state["has_ranges"])
        self._is_finite.fill_(value=True)
        self._batch_size = 0
        if state["generator_device"] == self.device.type:
            self._generator.set_state(state["generator"])
        else:
            self._generator.manual_seed(self._seed + self._num_updates)

    def actor_tensors(self) -> dict[str, Tensor]:
        """Returns copies of encoder, dynamics, reward, policy and online Qs, on the CPU.

        They are the newest, or with `average_decay` the average.

        Raises:
            DivergedError: An update was not finite.
        """
        self.check_finite()
        tensors = self.model.actor_tensors()
        if self._average is not None and self._num_updates > 0:
            tensors = self._average.tensors
        return {k: t.cpu() for k, t in _copies(tensors).items()}


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
