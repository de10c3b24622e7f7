"""Planning in the latent space: MPPI over action sequences, with a penalty on uncertainty.

Legend: z latent, H horizon, N Gaussian samples, P policy trajectories, n = N + P candidates,
K elites, I iterations, B latents planned for at once, E Q networks; G estimated return, u their
disagreement (unbiased std), lambda its weight, mu and sigma the sampling Gaussian.

    G = sum_t gamma^t [R(z_t, a_t) - lambda u(z_t, a_t)]
        + gamma^H [min(Q_i, Q_j)(z_H, a_H) - lambda u(z_H, a_H)],   a_H = pi(z_H) + noise

`full` search evaluates every candidate. `pruned` leaves out those that cannot become elites: u is
never negative, so R and min Q alone bound G from above, and whoever's bound stays below the K-th
best G is out. The elites are the same for finite networks. See `candidates.py` for both.

Differs: the chosen elite is drawn by the Gumbel trick instead of numpy's `choice`: the same
distribution, another stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from learner.candidates import Evaluator
from learner.losses import ensemble_uncertainty
from learner.planner_config import PlannerConfig
from learner.world_model import POLICY_STD, ActorModel


@dataclass(frozen=True, kw_only=True)
class PlanDraws:
    """Every random number of one planning call; standard normal unless said otherwise."""

    policy: Tensor
    """Noise of the policy's trajectories. [H, B, P, A]"""
    samples: Tensor
    """Noise of the Gaussian sequences. [I, H, B, N, A]"""
    terminal: Tensor
    """Noise of the policy's action at z_H, samples first, policy trajectories last. [I, B, n, A]"""
    pairs: Tensor
    """Two distinct Q networks an iteration; int64. [I, B, 2]"""
    elite: Tensor
    """Gumbel draws that pick the elite. [B, K]"""
    action: Tensor
    """Noise on the chosen action; zeros in evaluation. [B, A]"""


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """What a planning call returns."""

    action: Tensor
    """[B, A]"""
    mean: Tensor
    """mu after the last iteration, to start the next call from. [B, H, A]"""
    std: Tensor
    """sigma after the last iteration. [B, H, A]"""
    value: Tensor
    """G of the chosen candidate. [B]"""
    uncertainty: Tensor
    """u(z, action) of the returned action. [B]"""


def draw_plan(
    config: PlannerConfig,
    *,
    horizon: int,
    num_actions: int,
    num_q: int,
    generator: torch.Generator,
    is_eval: bool,
    batch: int = 1,
) -> PlanDraws:
    """Draws the random numbers of one planning call on the generator's device."""
    device, b, a = generator.device, batch, num_actions
    iterations, n = config.iterations, config.num_candidates

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    order = torch.rand((iterations, b, num_q), generator=generator, device=device).argsort(-1)
    uniform = torch.rand((b, config.num_elites), generator=generator, device=device)
    action = normal(b, a)
    return PlanDraws(
        policy=normal(horizon, b, config.num_policy, a),
        samples=normal(iterations, horizon, b, config.num_samples, a),
        terminal=normal(iterations, b, n, a),
        pairs=order[..., :2],
        elite=-(-uniform.clamp(1e-20, 1 - 1e-7).log()).log(),
        action=torch.zeros_like(action) if is_eval else action,
    )


def refit(actions: Tensor, returns: Tensor, *, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Fits the sampling Gaussian to the return-weighted elites (TD-MPC, MPPI update).

    Args:
        actions: Elite action sequences. [H, B, K, A]
        returns: Their estimated returns G. [B, K]
        temperature: Inverse temperature; larger trusts the best elite more.

    Returns:
        Weights of the elites [B, K], mean mu and standard deviation sigma, each [H, B, A].
    """
    best = returns.max(-1, keepdim=True).values
    scores = (temperature * (returns - best)).exp()
    scores = scores / scores.sum(-1, keepdim=True)
    total = scores.sum(-1, keepdim=True) + 1e-9
    weight = scores[None, :, :, None]
    mu = (weight * actions).sum(2) / total
    sigma = ((weight * (actions - mu[:, :, None]).square()).sum(2) / total).sqrt()
    return scores, mu, sigma


def is_pruned(config: PlannerConfig, device: torch.device) -> bool:
    """Tells which search `config` means on `device`."""
    return config.search == "pruned" or (config.search == "auto" and device.type == "cpu")


def plan(
    model: ActorModel,
    latent: Tensor,
    previous_mean: Tensor,
    has_previous: Tensor,
    config: PlannerConfig,
    draws: PlanDraws,
    *,
    discount: float,
    uncertainty_weight: float,
) -> PlanResult:
    """Plans from each of B latents; independent of each other, and of what else is in the batch.

    With `search="full"` no value is read back from the device, so the call can be captured.

    Args:
        model: Networks.
        latent: Where to plan from. [B, Z]
        previous_mean: `PlanResult.mean` of the step before. [B, H, A]
        has_previous: 1 to start from it, shifted by a step; 0 on the first step of a trial. [B]
        config: Sizes; `use_mpc` and `compile` are the caller's business.
        draws: All random numbers; the `action` part is zero in evaluation.
        discount: gamma.
        uncertainty_weight: lambda; 0 leaves u out altogether.
    """
    shifted = torch.cat([previous_mean[:, 1:], torch.zeros_like(previous_mean[:, :1])], 1)
    mean = (shifted * has_previous[:, None, None]).transpose(0, 1)  # [H, B, A]
    std = torch.full_like(mean, config.max_std)
    evaluator = Evaluator(model, latent, draws, discount, uncertainty_weight)
    returns_of = evaluator.prune if is_pruned(config, latent.device) else evaluator.full
    elites, elite_returns, scores = mean[:, :, None], mean.new_zeros(()), mean.new_zeros(())
    for iteration in range(config.iterations):
        noise = draws.samples[iteration]
        samples = (mean[:, :, None] + std[:, :, None] * noise).clamp(-1.0, 1.0)
        actions = torch.cat([samples, evaluator.policy_actions], 2)  # [H, B, n, A]
        returns = returns_of(samples, iteration, config.num_elites)
        elite_returns, index = returns.topk(config.num_elites, -1)  # [B, K]
        where = index[None, :, :, None].expand(*mean.shape[:2], -1, mean.shape[2])
        elites = actions.gather(2, where)
        scores, mu, sigma = refit(elites, elite_returns, temperature=config.temperature)
        std = sigma.clamp(config.min_std, config.max_std)
        mean = config.momentum * mean + (1.0 - config.momentum) * mu
    chosen = (scores.log() + draws.elite).argmax(-1, keepdim=True)  # [B, 1]
    first = elites[0].gather(1, chosen[:, :, None].expand(-1, -1, mean.shape[2])).squeeze(1)
    action = (first + std[0] * draws.action).clamp(-1.0, 1.0)
    q = model.q_values(latent, action)
    return PlanResult(
        action=action,
        mean=mean.transpose(0, 1).contiguous(),
        std=std.transpose(0, 1).contiguous(),
        value=elite_returns.gather(1, chosen).squeeze(1),
        uncertainty=ensemble_uncertainty(q),
    )


def act_with_policy(
    model: ActorModel, latent: Tensor, previous_mean: Tensor, draws: PlanDraws
) -> PlanResult:
    """Acts with pi alone, its noise taken from the draws; value is the drawn pair's lower Q."""
    action = model.act(latent, draws.action)
    q = model.q_values(latent, action)
    pair = q.gather(0, draws.pairs[0].mT)
    return PlanResult(
        action=action,
        mean=previous_mean,
        std=torch.full_like(previous_mean, POLICY_STD),
        value=pair.min(0).values,
        uncertainty=ensemble_uncertainty(q),
    )
