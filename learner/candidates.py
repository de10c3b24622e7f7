"""Returns of the planner's candidates: all of them, or exactly those that can become elites.

Legend: as in `mppi.py`. A joint row is a latent and an action side by side, [z; a].

The order of work differs from a textbook loop and the numbers do not (up to rounding): latents are
rolled out first, then one reward and one Q call cover all steps; the terminal minimum is read from
the values u is made of; the policy's trajectories are evaluated once and only their noisy terminal
term is redone in every iteration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from learner.losses import ensemble_uncertainty, widened
from learner.world_model import ActorModel

if TYPE_CHECKING:
    from learner.mppi import PlanDraws


class Evaluator:
    """Estimates the returns of one planning call's candidates."""

    def __init__(
        self, model: ActorModel, latent: Tensor, draws: PlanDraws, gamma: float, lambda_: float
    ) -> None:
        self.model, self.latent, self.draws, self.lambda_ = model, latent, draws, lambda_
        horizon = draws.policy.shape[0]
        exact = torch.float64 if latent.dtype == torch.float64 else torch.float32
        discounts = gamma ** torch.arange(horizon + 1, device=latent.device, dtype=exact)
        self.discounts, self.last_discount = discounts[:-1, None, None], discounts[-1]
        z = self._start(draws.policy.shape[2])
        joints, actions = [], []
        for noise in draws.policy:
            action = model.act(z, noise.to(z.dtype))
            joints.append(torch.cat([z, action], -1))
            actions.append(widened(action))
            z = model.dynamics(joints[-1])
        joint = torch.stack(joints)
        self.policy_actions = torch.stack(actions)  # [H, B, P, A]
        self._policy_return = self._rewards(joint) - self._step_penalty(self._q(joint))  # [B, P]
        self._policy_end = z  # [B, P, Z]

    def full(self, samples: Tensor, iteration: int, num_elites: int) -> Tensor:
        """Returns G of every candidate, samples first. [H, B, N, A] -> [B, n]"""
        del num_elites
        joint, end = self._rollout(samples, iteration)
        rewards = torch.cat([self._rewards(joint), self._policy_return], 1)
        if self.lambda_ == 0:
            returns = rewards + self.last_discount * self._pair_minimum(self._q(end), iteration)
            return returns.nan_to_num(nan=0.0)
        rows = joint.shape[0] * joint.shape[1] * joint.shape[2]
        q = self.model.q(torch.cat([joint.flatten(0, 2), end.flatten(0, 1)]))
        q = widened(q)
        steps, last = q[:, :rows].view(-1, *joint.shape[:3]), q[:, rows:].view(-1, *end.shape[:2])
        penalty = self._step_penalty(steps)  # [B, N]
        rewards = rewards - torch.nn.functional.pad(penalty, (0, self._policy_end.shape[1]))
        returns = rewards + self._terminal(last, iteration)
        return returns.nan_to_num(nan=0.0)

    def prune(self, samples: Tensor, iteration: int, num_elites: int) -> Tensor:
        """Returns G where it can be among the best, -inf elsewhere. [H, B, N, A] -> [B, n]

        Reads values back from the device to decide; for CPUs.
        """
        if self.lambda_ == 0:
            return self.full(samples, iteration, num_elites)
        joint, end = self._rollout(samples, iteration)
        known = torch.cat([self._rewards(joint), self._policy_return], 1)  # [B, n]
        return torch.stack(
            [
                self._prune_one(joint[:, b], end[b], known[b], iteration, b, num_elites)
                for b in range(len(known))
            ]
        )

    def _prune_one(
        self, joint: Tensor, end: Tensor, known: Tensor, iteration: int, b: int, num_elites: int
    ) -> Tensor:
        """One latent's candidates. [H, N, Z+A], [n, Z+A], [n] -> [n]"""
        pair = self.draws.pairs[iteration, b].tolist()
        lowest = widened(self.model.q(end, pair)).min(0).values
        bound = known + self.last_discount * lowest
        returns = torch.full_like(bound, -torch.inf)
        num_samples = joint.shape[1]
        order = bound.argsort(descending=True)
        while len(order):
            chunk, order = order[:num_elites], order[num_elites:]
            is_sample = chunk < num_samples
            sampled = joint[:, chunk[is_sample]]
            q = self.model.q(torch.cat([sampled.flatten(0, 1), end[chunk]]))
            q = widened(q)
            rows = sampled.shape[0] * sampled.shape[1]
            penalty = torch.zeros_like(bound[chunk])
            u = ensemble_uncertainty(q[:, :rows]).view(sampled.shape[:2])
            penalty[is_sample] = self.lambda_ * (self.discounts[:, 0] * u).sum(0)
            last_u = ensemble_uncertainty(q[:, rows:])
            terminal = self.last_discount * (lowest[chunk] - self.lambda_ * last_u)
            returns[chunk] = (known[chunk] - penalty + terminal).nan_to_num(nan=0.0)
            threshold = returns.topk(num_elites).values[-1]
            order = order[bound[order] >= threshold]
        return returns

    def _start(self, num: int) -> Tensor:
        return self.latent[:, None].expand(-1, num, -1)

    def _rollout(self, samples: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """Returns the samples' joint rows [H, B, N, Z+A] and everyone's last [B, n, Z+A]."""
        z, joints = self._start(samples.shape[2]), []
        for action in samples.to(self.latent.dtype):
            joints.append(torch.cat([z, action], -1))
            z = self.model.dynamics(joints[-1])
        z = torch.cat([z, self._policy_end], 1)
        action = self.model.act(z, self.draws.terminal[iteration].to(z.dtype))
        return torch.stack(joints), torch.cat([z, action], -1)

    def _rewards(self, joint: Tensor) -> Tensor:
        """Returns sum gamma^t R. [H, B, N, Z+A] -> [B, N]"""
        rewards = widened(self.model.reward_head(joint).squeeze(-1))
        return (self.discounts * rewards).sum(0)

    def _q(self, joint: Tensor) -> Tensor:
        """Returns all Q values. [..., Z+A] -> [E, ...]"""
        return widened(self.model.q(joint.flatten(0, -2))).view(-1, *joint.shape[:-1])

    def _step_penalty(self, q: Tensor) -> Tensor:
        """Returns lambda sum gamma^t u. [E, H, B, N] -> [B, N]"""
        return self.lambda_ * (self.discounts * ensemble_uncertainty(q)).sum(0)

    def _pair_minimum(self, q: Tensor, iteration: int) -> Tensor:
        """Returns the lower of the two drawn Qs. [E, B, n] -> [B, n]"""
        pair = self.draws.pairs[iteration].mT[:, :, None].expand(-1, -1, q.shape[2])
        return q.gather(0, pair).min(0).values

    def _terminal(self, q: Tensor, iteration: int) -> Tensor:
        """Returns gamma^H [min Q - lambda u] at z_H. [E, B, n] -> [B, n]"""
        penalised = self._pair_minimum(q, iteration) - self.lambda_ * ensemble_uncertainty(q)
        return self.last_discount * penalised
