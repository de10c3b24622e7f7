"""FOWM written down slowly and separately, to compare the fast form with.

One network at a time, one step at a time, frames as float [C, Y, X], every candidate evaluated in
full in every iteration: the order of work of the published code. Shares nothing with `learner` but
the weights it is given and the random numbers it is told to use.
"""

import copy
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


def _normed_mlp(source: nn.Module) -> nn.Sequential:
    layers = (
        source.linear1,
        source.norm1,
        nn.Mish(),
        source.linear2,
        source.norm2,
        nn.Mish(),
        source.out,
    )
    return nn.Sequential(*(copy.deepcopy(layer) for layer in layers))


def _value_net(ensemble: nn.Module, member: int) -> nn.Sequential:
    hidden, inputs = ensemble.weight1.shape[1:]
    net = nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LayerNorm(hidden),
        nn.Tanh(),
        nn.Linear(hidden, hidden),
        nn.ELU(),
        nn.Linear(hidden, 1),
    ).to(ensemble.weight1)
    stacks = ("weight1", "bias1", "norm_weight", "norm_bias", "weight2", "bias2")
    for parameter, name in zip(net.parameters(), (*stacks, "weight3", "bias3"), strict=True):
        parameter.data.copy_(getattr(ensemble, name)[member])
    return net


class _Scale(nn.Module):
    def forward(self, x):
        return x / 255.0


class PlainHeads(nn.Module):
    """The networks behind the encoder, one module each."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.d = nn.Sequential(_normed_mlp(model.dynamics[0]), copy.deepcopy(model.dynamics[1]))
        self.r = _normed_mlp(model.reward_head)
        self.pi_net = _normed_mlp(model.pi)
        self.qs = nn.ModuleList(_value_net(model.q, i) for i in range(model.q.num))
        self.v = _value_net(model.v, 0)
        self.requires_grad_(requires_grad=True)

    def next(self, z, a):
        return self.d(torch.cat([z, a], -1))

    def reward(self, z, a):
        return self.r(torch.cat([z, a], -1))

    def pi(self, z, eps=None):
        a = torch.tanh(self.pi_net(z))
        if eps is not None:
            a = a + torch.clamp(0.05 * eps, -0.3, 0.3)
            a = torch.clamp(a, -1 + 1e-6, 1 - 1e-6)
        return a

    def q(self, i, z, a):
        return self.qs[i](torch.cat([z, a], -1))

    def all_q(self, z, a):
        return torch.stack([self.q(i, z, a) for i in range(len(self.qs))])

    def min_q(self, pair, z, a):
        return torch.min(self.q(pair[0], z, a), self.q(pair[1], z, a))


class PlainNets(PlainHeads):
    """The same with the encoder of one image field and one vector field."""

    def __init__(self, model: nn.Module, image: str = "image.front", vector: str = "state") -> None:
        super().__init__(model)
        self.image, self.vector = image, vector
        conv = model.encoder.part(image)
        layers: list[nn.Module] = [_Scale()]
        for layer in conv.convs.layers:
            layers += [copy.deepcopy(layer), nn.ReLU()]
        head = copy.deepcopy(conv.head)
        self.rgb = nn.Sequential(*layers, nn.Flatten(), head[1], head[2][0], nn.Sigmoid())
        self.state = copy.deepcopy(model.encoder.part(vector).net)
        self.requires_grad_(requires_grad=True)

    def enc(self, images, vectors):
        """Frames float [B, C, Y, X] of 0..255, vectors [B, S] -> [B, Z]."""
        return (self.rgb(images) + self.state(vectors)) / 2

    def model_parameters(self):
        return [p for n, p in self.named_parameters() if not n.startswith("pi_net.")]


def estimate_value(nets, z, actions, pair, last_noise, gamma, weight):
    """Returns G of candidates. z [n, Z], actions [H, n, A] -> [n, 1]"""
    g, discount = 0.0, 1.0
    for a in actions:
        g = g + discount * nets.reward(z, a)
        if weight:
            g = g - discount * weight * nets.all_q(z, a).std(0)
        z = nets.next(z, a)
        discount *= gamma
    a = nets.pi(z, last_noise)
    terminal = nets.min_q(pair, z, a)
    if weight:
        terminal = terminal - weight * nets.all_q(z, a).std(0)
    return g + discount * terminal


@torch.no_grad()
def plan(nets, z, prev_mean, config, draws, *, is_first, horizon, gamma, weight, b=0, trace=None):
    """Plans from one latent [1, Z]; returns action [A], mean and std [H, A], its G."""
    num_policy = int(config.policy_fraction * config.num_samples)
    num_actions = draws.action.shape[-1]
    zs = z.repeat(num_policy, 1)
    pi_actions = z.new_empty(horizon, num_policy, num_actions)
    for t in range(horizon):
        pi_actions[t] = nets.pi(zs, draws.policy[t, b])
        zs = nets.next(zs, pi_actions[t])
    mean = z.new_zeros(horizon, num_actions)
    if not is_first:
        mean[:-1] = prev_mean[1:]
    std = torch.full_like(mean, config.max_std)
    zs = z.repeat(config.num_samples + num_policy, 1)
    for i in range(config.iterations):
        noise = draws.samples[i, :, b]
        samples = torch.clamp(mean[:, None] + std[:, None] * noise, -1, 1)
        actions = torch.cat([samples, pi_actions], 1)
        pair = draws.pairs[i, b].tolist()
        g = estimate_value(nets, zs, actions, pair, draws.terminal[i, b], gamma, weight)
        g = torch.nan_to_num(g, nan=0.0).squeeze(1)
        best = torch.topk(g, config.num_elites).indices
        elite_g, elites = g[best], actions[:, best]
        s = torch.exp(config.temperature * (elite_g - elite_g.max()))
        s = s / s.sum()
        total = s.sum() + 1e-9
        mu = (s[None, :, None] * elites).sum(1) / total
        sd = torch.sqrt((s[None, :, None] * (elites - mu[:, None]) ** 2).sum(1) / total)
        std = torch.clamp(sd, config.min_std, config.max_std)
        mean = config.momentum * mean + (1 - config.momentum) * mu
        if trace is not None:
            trace.append((set(best.tolist()), g))
    index = int(torch.argmax(torch.log(s) + draws.elite[b]))
    action = elites[0, index].clone()
    action = torch.clamp(action + std[0] * draws.action[b], -1, 1)
    return action, mean, std, elite_g[index]


def grid_shift(x, offsets, pad):
    """Random shift as published: replicate padding, then bilinear sampling on a shifted grid."""
    n, _, h, w = x.shape
    assert h == w
    x = F.pad(x, (pad, pad, pad, pad), "replicate")
    eps = 1.0 / (h + 2 * pad)
    line = torch.linspace(-1.0 + eps, 1.0 - eps, h + 2 * pad, dtype=x.dtype, device=x.device)[:h]
    line = line.unsqueeze(0).repeat(h, 1).unsqueeze(2)
    base = torch.cat([line, line.transpose(1, 0)], dim=2).unsqueeze(0).repeat(n, 1, 1, 1)
    shift = offsets.flip(-1).to(x.dtype).view(n, 1, 1, 2) * (2.0 / (h + 2 * pad))
    return F.grid_sample(x, base + shift, padding_mode="zeros", align_corners=False)


def crop_shift(x, offsets, pad):
    """Random shift as specified: replicate padding, whole-pixel crop, image by image."""
    padded = F.pad(x, (pad, pad, pad, pad), "replicate")
    h, w = x.shape[-2:]
    crops = [p[:, i : i + h, j : j + w] for p, (i, j) in zip(padded, offsets.tolist(), strict=True)]
    return torch.stack(crops)


class PlainFowm:
    """The learner, slowly."""

    def __init__(self, algorithm, *, shift=crop_shift, detach_target=True) -> None:
        self.config = algorithm.config
        self.nets = PlainNets(algorithm.model)
        self.slow = PlainNets(_SlowView(algorithm))
        self.shift, self.detach_target = shift, detach_target
        rate = self.config.learning_rate
        self.model_adam = torch.optim.Adam(self.nets.model_parameters(), lr=rate)
        self.policy_adam = torch.optim.Adam(self.nets.pi_net.parameters(), lr=rate)
        self.step = 0

    def _frames(self, images, offsets, dtype):
        x = images.permute(0, 3, 1, 2).to(dtype).contiguous()
        return self.shift(x, offsets, self.config.shift_px) if self.config.shift_px else x

    def update(self, batch, draws):
        """Returns the metrics that have an equal on the fast side, and the priorities."""
        c, nets, slow = self.config, self.nets, self.slow
        image, vector = nets.image, nets.vector
        offsets = draws.shifts[image]
        dtype = batch.action.dtype
        first = self._frames(batch.observations[image], offsets[0], dtype)
        z = nets.enc(first, batch.observations[vector])
        valid = torch.ones_like(batch.done[0])
        sums = {"consistency_loss": 0.0, "reward_loss": 0.0, "q_loss": 0.0, "v_loss": 0.0}
        priorities = 0.0
        zs, valids = [], []
        for t in range(c.horizon):
            a, r, mask = batch.action[t], batch.reward[t], batch.mask[t]
            rho = c.temporal_weight**t * valid
            with torch.no_grad():
                frames = self._frames(batch.next_observations[image][t], offsets[1 + t], dtype)
                state = batch.next_observations[vector][t]
                z_bar = slow.enc(frames, state)
                y = r + c.discount * mask * nets.v(nets.enc(frames, state))
            zs.append(z.detach())
            valids.append(valid)
            qs = nets.all_q(z, a)
            v = nets.v(z)
            with torch.no_grad():
                q_bar = slow.min_q(draws.value_pair.tolist(), z.detach(), a)
            r_hat, z = nets.reward(z, a), nets.next(z, a)
            sums["consistency_loss"] += rho * ((z - z_bar) ** 2).mean(1, keepdim=True)
            sums["reward_loss"] += rho * (r_hat - r) ** 2
            for q in qs:
                sums["q_loss"] += rho * (q - y) ** 2
                priorities = priorities + (rho * (q - y).abs()).detach().squeeze(1)
            u = q_bar - v
            weight = (c.expectile - (u <= 0).to(u.dtype)).abs()
            sums["v_loss"] += rho * weight * u**2
            valid = valid * (1 - batch.done[t])
        total = (
            c.consistency_coef * sums["consistency_loss"]
            + c.reward_coef * sums["reward_loss"]
            + c.q_coef * sums["q_loss"]
            + c.v_coef * sums["v_loss"]
        )
        loss = (batch.weights * total.squeeze(1)).mean()
        loss.register_hook(lambda gradient: gradient / c.horizon)
        self.model_adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(nets.model_parameters(), c.max_grad_norm)
        self.model_adam.step()
        pi_loss = self._policy_loss(batch, draws, zs, valids)
        self.policy_adam.zero_grad()
        pi_loss.backward()
        nn.utils.clip_grad_norm_(nets.pi_net.parameters(), c.max_grad_norm)
        self.policy_adam.step()
        if self.step % c.target_every == 0:
            self._follow()
        self.step += 1
        metrics = {k: v.detach().mean().item() for k, v in sums.items()}
        return metrics | {
            "total_loss": loss.detach().item(),
            "pi_loss": pi_loss.detach().item(),
        }, priorities

    def _policy_loss(self, batch, draws, zs, valids):
        c, nets = self.config, self.nets
        loss, num_actions = 0.0, batch.action.shape[-1]
        for t in range(c.horizon):
            z, a = zs[t], batch.action[t]
            advantage = self.slow.min_q(draws.policy_pair.tolist(), z, a) - nets.v(z)
            if self.detach_target:
                advantage = advantage.detach()
            w = torch.clamp(torch.exp(c.awr_temperature * advantage), max=100.0)
            error = ((nets.pi(z) - a) ** 2).sum(1, keepdim=True)
            nll = 0.5 * error + num_actions / 2 * math.log(2 * math.pi)
            counted = valids[t] if c.mask_pi_loss else torch.ones_like(valids[t])
            loss = loss + c.temporal_weight**t * (counted * w.detach() * nll).mean()
        return loss / c.horizon

    @torch.no_grad()
    def _follow(self):
        pairs = [(self.slow.rgb, self.nets.rgb), (self.slow.state, self.nets.state)]
        pairs.append((self.slow.qs, self.nets.qs))
        for slow, online in pairs:
            for p_slow, p in zip(slow.parameters(), online.parameters(), strict=True):
                p_slow.copy_((1 - self.config.target_tau) * p_slow + self.config.target_tau * p)


@torch.no_grad()
def largest_difference(plain: PlainFowm, algorithm) -> float:
    """Returns the largest difference of any parameter, model and slow copies."""
    fast = PlainNets(algorithm.model)
    worst = 0.0
    for p, q in zip(plain.nets.parameters(), fast.parameters(), strict=True):
        worst = max(worst, float((p - q).abs().max()))
    slow = PlainNets(_SlowView(algorithm))
    for part in ("rgb", "state", "qs"):
        pairs = zip(
            getattr(plain.slow, part).parameters(), getattr(slow, part).parameters(), strict=True
        )
        worst = max(worst, *(float((p - q).abs().max()) for p, q in pairs))
    return worst


class _SlowView:
    """The slow copies where `PlainNets` looks for a model's networks."""

    def __init__(self, algorithm) -> None:
        model = algorithm.model
        self.dynamics, self.reward_head, self.pi, self.v = (
            model.dynamics,
            model.reward_head,
            model.pi,
            model.v,
        )
        self.encoder, self.q = algorithm.target.encoder, algorithm.target.q
