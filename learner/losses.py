"""Losses of FOWM as pure functions, named as in the papers.

Legend: t step of the window, m_t validity, rho temporal weight, gamma discount, tau expectile,
beta temperature of advantage-weighted regression, w_b importance weights, delta_t = Q - y.

Per-sample losses are masked and summed over time first; importance weights come last.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_AWR_WEIGHT = 100.0


def validity(done: Tensor) -> Tensor:
    """Returns m_t: 1 until the first `done` and on it, 0 after. [H, B] -> [H, B]"""
    before = torch.cat([torch.zeros_like(done[:1]), done[:-1]])
    return (1.0 - before).cumprod(0)


def temporal_weights(done: Tensor, rho: float) -> Tensor:
    """Returns rho^t m_t. [H, B] -> [H, B]"""
    steps = torch.arange(done.shape[0], device=done.device, dtype=done.dtype)
    return validity(done) * (rho**steps)[:, None]


def td_target(reward: Tensor, mask: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """Returns y = r + gamma * mask * V(z'), all of one shape."""
    return reward + gamma * mask * next_value


def consistency_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Returns the squared error averaged over latent dimensions. [..., Z] -> [...]"""
    return (predicted - target).square().mean(-1)


def expectile_loss(difference: Tensor, tau: float) -> Tensor:
    """Returns |tau - 1[u <= 0]| u^2 of u = target - estimate; any shape."""
    weight = (tau - (difference <= 0).to(difference.dtype)).abs()
    return weight * difference.square()


def awr_weights(advantage: Tensor, beta: float) -> Tensor:
    """Returns min(exp(beta * A), 100); any shape."""
    return (beta * advantage).exp().clamp(max=MAX_AWR_WEIGHT)


def unit_gaussian_nll(mean: Tensor, action: Tensor) -> Tensor:
    """Returns -log N(a; mean, 1) summed over the action's axes. [..., A] -> [...]"""
    size = mean.shape[-1]
    return 0.5 * (mean - action).square().sum(-1) + 0.5 * size * math.log(2.0 * math.pi)


def policy_loss(
    mean: Tensor, action: Tensor, advantage: Tensor, beta: float, weights: Tensor
) -> Tensor:
    """Returns the advantage-weighted regression loss, a scalar.

    Args:
        mean: Policy's actions. [H, B, A]
        action: Recorded actions. [H, B, A]
        advantage: min Q - V of the recorded actions, no gradient. [H, B]
        beta: Inverse temperature.
        weights: rho^t m_t, or rho^t where rows after an end shall count too. [H, B]
    """
    nll = unit_gaussian_nll(mean, action)
    return (weights * awr_weights(advantage, beta) * nll).mean()


def ensemble_uncertainty(values: Tensor) -> Tensor:
    """Returns u, the unbiased standard deviation over the ensemble. [E, ...] -> [...]"""
    spread = (values - values.mean(0)).square().sum(0)
    return (spread / (values.shape[0] - 1)).sqrt()  # not torch.std: it warns where nothing is left


def td_abs(weights: Tensor, delta: Tensor) -> Tensor:
    """Returns sum over members and time of rho^t m_t |delta|. [H, B], [E, H, B] -> [B]"""
    return (weights * delta.abs().sum(0)).sum(0)
