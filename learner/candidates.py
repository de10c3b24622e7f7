"""Returns of the planner's candidates: all of them, or exactly those that can become elites.

Legend: as in `mppi.py`. A joint row is a latent and an action side by side, [z; a].

The order of work differs from a textbook loop and the numbers do not (up to rounding): latents are
rolled out first, then one reward and one Q call cover all steps; the terminal minimum is read from
the values u is made of; the policy's trajectories are evaluated once and only their noisy terminal
term is redone in every iteration.

Pruning rests on penalties never being negative: with any of them left out, G can only be larger.
The K samples that look best without any are evaluated whole, which sets a G to beat; the others get
the penalty of one step after the other and leave as soon as they cannot beat it any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from learner.losses import ensemble_uncertainty
from learner.world_model import ActorModel

if TYPE_CHECKING:
    from learner.mppi import PlanDraws

ROUNDING = 1e-5
"""Relative slack of a bound: equal numbers may differ this much between two orders of work."""


class Evaluator:
    """Estimates the returns of one planning call's candidates."""

    def __init__(
        self, model: ActorModel, latent: Tensor, draws: PlanDraws, gamma: float, lambda_: float
    ) -> None:
        self.model, self.latent, self.draws, self.lambda_ = model, latent, draws, lambda_
        steps = torch.arange(draws.policy.shape[0] + 1, device=latent.device, dtype=latent.dtype)
        self.discounts = gamma**steps  # [H + 1]
        z = self._start(draws.policy.shape[2])
        joints, actions = [], []
        for noise in draws.policy:
            actions.append(model.act(z, noise))
            joints.append(torch.cat([z, actions[-1]], -1))
            z = model.dynamics(joints[-1])
        joint = torch.stack(joints)
        self.policy_actions = torch.stack(actions)  # [H, B, P, A]
        self._policy_end = z  # [B, P, Z]
        self._policy_return = self._rewards(joint)  # [B, P]
        if lambda_ != 0:
            q = model.q(joint.flatten(0, 2)).view(-1, *joint.shape[:3])
            self._policy_return -= self._step_penalty(q)

    def full(self, samples: Tensor, iteration: int, num_elites: int) -> Tensor:
        """Returns G of every candidate, samples first. [H, B, N, A] -> [B, n]"""
        del num_elites
        joint, end = self._rollout(samples, iteration)
        rewards = self._rewards(joint)
        pair = self.draws.pairs[iteration].mT[:, :, None].expand(-1, -1, end.shape[1])
        if self.lambda_ == 0:
            last = self.model.q(end.flatten(0, 1)).view(-1, *end.shape[:2])
            terminal = last.gather(0, pair).min(0).values
        else:
            rows = joint.shape[:3].numel()
            q = self.model.q(torch.cat([joint.flatten(0, 2), end.flatten(0, 1)]))
            rewards = rewards - self._step_penalty(q[:, :rows].view(-1, *joint.shape[:3]))
            last = q[:, rows:].view(-1, *end.shape[:2])
            lowest = last.gather(0, pair).min(0).values
            terminal = lowest - self.lambda_ * ensemble_uncertainty(last)
        before = torch.cat([rewards, self._policy_return], 1)
        return (before + self.discounts[-1] * terminal).nan_to_num(nan=0.0)

    def prune(self, samples: Tensor, iteration: int, num_elites: int) -> Tensor:
        """Returns G where it can be among the best, -inf elsewhere. [H, B, N, A] -> [B, n]

        Reads values back from the device to decide; for CPUs.
        """
        if self.lambda_ == 0:
            return self.full(samples, iteration, num_elites)
        joint, end = self._rollout(samples, iteration)
        rewards, num = self._rewards(joint), samples.shape[2]
        rows = []
        for b in range(len(rewards)):
            pair = self.draws.pairs[iteration, b].tolist()
            last = self.model.q(end[b, num:])
            penalised = last[pair].min(0).values - self.lambda_ * ensemble_uncertainty(last)
            policy = (self._policy_return[b] + self.discounts[-1] * penalised).nan_to_num(nan=0.0)
            whole = torch.cat([joint[:, b], end[None, b, :num]])  # [H + 1, N, Z+A]
            sampled = self._prune_samples(whole, rewards[b], policy, pair, num_elites)
            rows.append(torch.cat([sampled, policy]))
        return torch.stack(rows)

    def _prune_samples(
        self, joint: Tensor, rewards: Tensor, policy: Tensor, pair: list[int], num_elites: int
    ) -> Tensor:
        """Returns G of one latent's samples, -inf for those left out.

        Args:
            joint: Joint rows of the samples, the terminal one last. [H + 1, N, Z+A]
            rewards: Their discounted rewards. [N]
            policy: G of the policy's trajectories. [P]
            pair: The two networks of the terminal minimum.
            num_elites: K.
        """
        last, others = len(joint) - 1, [m for m in range(self.model.q.num) if m not in pair]
        ends = self.model.q(joint[-1], pair)  # [2, N]
        unpenalised = rewards + self.discounts[-1] * ends.min(0).values
        returns = torch.full_like(unpenalised, -torch.inf)
        order = unpenalised.argsort(descending=True)
        first, rest = order[:num_elites], order[num_elites:]
        q = self.model.q(joint[:, first].flatten(0, 1)).view(-1, len(joint), len(first))
        penalty = (self.discounts[:, None] * ensemble_uncertainty(q)).sum(0)
        returns[first] = (unpenalised[first] - self.lambda_ * penalty).nan_to_num(nan=0.0)
        threshold = torch.cat([returns, policy]).topk(num_elites).values[-1]
        threshold = threshold - ROUNDING * (1 + threshold.abs())
        left = unpenalised[rest]
        for number, weight in enumerate(self.lambda_ * self.discounts):
            keep = left >= threshold
            rest, left = rest[keep], left[keep]
            step = joint[number, rest]
            if number < last:
                q = self.model.q(step)
            else:  # two of the networks have been asked already
                q = torch.cat([ends[:, rest], self.model.q(step, others)])
            left = left - weight * ensemble_uncertainty(q)
        returns[rest] = left
        return returns

    def _step_penalty(self, q: Tensor) -> Tensor:
        """Returns lambda sum gamma^t u before the terminal one. [E, H, B, N] -> [B, N]"""
        weighted = self.discounts[:-1, None, None] * ensemble_uncertainty(q)
        return self.lambda_ * weighted.sum(0)

    def _start(self, num: int) -> Tensor:
        return self.latent[:, None].expand(-1, num, -1)

    def _rollout(self, samples: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """Returns the samples' joint rows [H, B, N, Z+A] and everyone's last [B, n, Z+A]."""
        z, joints = self._start(samples.shape[2]), []
        for action in samples:
            joints.append(torch.cat([z, action], -1))
            z = self.model.dynamics(joints[-1])
        z = torch.cat([z, self._policy_end], 1)
        action = self.model.act(z, self.draws.terminal[iteration])
        return torch.stack(joints), torch.cat([z, action], -1)

    def _rewards(self, joint: Tensor) -> Tensor:
        """Returns sum gamma^t R before the terminal step. [H, B, N, Z+A] -> [B, N]"""
        rewards = self.model.reward_head(joint).squeeze(-1)
        return (self.discounts[:-1, None, None] * rewards).sum(0)
