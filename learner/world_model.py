"""The world model of FOWM: what an actor needs to plan, what a learner adds, and the slow targets.

Legend: z latent [..., Z], a action [..., A], d dynamics, R reward, pi policy, Q_i the ensemble,
V the state value. `enc` maps raw observations to z.

Differs: only the encoder and the Q networks have slow copies, the only ones that are ever read.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from learner.encoders import ObservationEncoder, StateEncoder
from learner.network_config import NetworkConfig
from learner.networks import BoundedHead, Ensemble, NormedMlp
from protos.trial import RobotSpec

POLICY_STD = 0.05
"""Standard deviation of the noise on the policy's actions wherever it has any."""
POLICY_NOISE_LIMIT = 0.3
ACTION_LIMIT = 1.0 - 1e-6


class ActorModel(nn.Module):
    """Encoder, dynamics, reward, policy and Q ensemble: all that planning needs."""

    def __init__(self, spec: RobotSpec, config: NetworkConfig) -> None:
        super().__init__()
        latent, hidden, actions = config.latent_size, config.mlp_size, spec.action_size
        self.latent_size = latent
        self.action_size = actions
        self.encoder = ObservationEncoder(spec, config)
        self.dynamics = nn.Sequential(
            NormedMlp(latent + actions, hidden, latent), BoundedHead(latent)
        )
        self.reward_head = NormedMlp(latent + actions, hidden, 1)
        self.pi = NormedMlp(latent, hidden, actions)
        self.q = Ensemble(config.num_q, latent + actions, hidden)
        nn.init.zeros_(self.reward_head.out.weight)
        self.q.zero_last_layer()

    def set_ranges(self, ranges: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Sets lowest and highest recorded value of each vector field. {name: ([S], [S])}"""
        for name, (low, high) in ranges.items():
            part = self.encoder.part(name)
            assert isinstance(part, StateEncoder)
            part.set_range(low, high)

    def encode(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Returns the latent of raw observations. {name: [..., *shape]} -> [..., Z]"""
        return self.encoder(observations)

    def next(self, z: Tensor, a: Tensor) -> Tensor:
        """Returns the latent one step on. [..., Z], [..., A] -> [..., Z]"""
        return self.dynamics(torch.cat([z, a], -1))

    def reward(self, z: Tensor, a: Tensor) -> Tensor:
        """Returns the expected reward of the step. [..., Z], [..., A] -> [...]"""
        return self.reward_head(torch.cat([z, a], -1)).squeeze(-1)

    def act(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """Returns the policy's action, with clipped noise if given. [..., Z] -> [..., A]

        Args:
            z: Latents. [..., Z]
            noise: Standard normal draws; None for the policy's own action. [..., A]
        """
        action = self.pi(z).tanh()
        if noise is None:
            return action
        bounded = (POLICY_STD * noise).clamp(-POLICY_NOISE_LIMIT, POLICY_NOISE_LIMIT)
        return (action + bounded.to(action.dtype)).clamp(-ACTION_LIMIT, ACTION_LIMIT)

    def q_values(self, z: Tensor, a: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """Returns every Q_i(z, a), or those of `members`. [..., Z], [..., A] -> [E, ...]"""
        joint = torch.cat([z, a], -1)
        values = self.q(joint.reshape(-1, joint.shape[-1]), members)
        return values.view(-1, *joint.shape[:-1])


class WorldModel(ActorModel):
    """The actor's model and the state value V, which only learning needs."""

    def __init__(self, spec: RobotSpec, config: NetworkConfig) -> None:
        super().__init__(spec, config)
        self.v = Ensemble(1, config.latent_size, config.mlp_size)

    def value(self, z: Tensor) -> Tensor:
        """Returns V(z). [..., Z] -> [...]"""
        return self.v(z.reshape(-1, z.shape[-1])).view(z.shape[:-1])

    def model_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters of the model step: all but the policy's."""
        return [p for name, p in self.named_parameters() if not name.startswith("pi.")]

    def actor_tensors(self) -> dict[str, Tensor]:
        """Returns what an actor needs, by name, without V."""
        return {k: t for k, t in self.state_dict().items() if not k.startswith("v.")}


class TargetModel(nn.Module):
    """Slow copies of encoder and Q networks; never trained, only moved towards the model."""

    def __init__(self, model: ActorModel) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(model.encoder)
        self.q = copy.deepcopy(model.q)
        self.requires_grad_(requires_grad=False)

    @torch.no_grad()
    def follow(self, model: ActorModel, tau: float) -> None:
        """Moves every parameter a part tau of the way to the model's."""
        online = [*model.encoder.parameters(), *model.q.parameters()]
        for slow, parameter in zip(self.parameters(), online, strict=True):
            slow.lerp_(parameter, tau)

    def q_values(self, z: Tensor, a: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """Returns every target Q_i(z, a), or those of `members`. [..., Z] -> [E, ...]"""
        joint = torch.cat([z, a], -1)
        values = self.q(joint.reshape(-1, joint.shape[-1]), members)
        return values.view(-1, *joint.shape[:-1])
