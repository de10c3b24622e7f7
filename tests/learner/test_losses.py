import math

import pytest
import torch

from learner import losses


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_a_step_counts_until_an_end_lies_strictly_before_it():
    done = torch.stack([column(0, 0, 0, 0), column(0, 1, 0, 0), column(1, 0, 1, 0)], 1).squeeze(-1)
    valid = losses.validity(done)
    assert valid.T.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
    weights = losses.temporal_weights(done, 0.5)
    assert weights.T.tolist() == [[1, 0.5, 0.25, 0.125], [1, 0.5, 0, 0], [1, 0, 0, 0]]


def test_mask_cuts_the_bootstrap_and_nothing_else():
    y = losses.td_target(column(1, 1), column(0, 1), column(10, 10), 0.9)
    assert y.squeeze(-1).tolist() == [1.0, 10.0]


def minimise_expectile(samples: torch.Tensor, tau: float) -> float:
    low, high = float(samples.min()), float(samples.max())
    for _ in range(60):
        middle = (low + high) / 2
        v = torch.tensor(middle, dtype=torch.float64, requires_grad=True)
        losses.expectile_loss(samples - v, tau).mean().backward()
        low, high = (middle, high) if v.grad < 0 else (low, middle)
    return low


@pytest.mark.parametrize(
    ("tau", "expected"), [(0.5, 0.5), (0.7, 0.604356), (0.9, 0.75), (0.95, 0.813395)]
)
def test_expectile_of_the_uniform_distribution(tau, expected):
    n = 20_000
    samples = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    assert minimise_expectile(samples, tau) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("tau", [0.3, 0.7, 0.9])
def test_expectile_of_a_fair_coin_is_tau(tau):
    coin = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert minimise_expectile(coin, tau) == pytest.approx(tau, abs=1e-9)


def test_half_expectile_is_half_the_squared_error():
    u = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(losses.expectile_loss(u, 0.5), 0.5 * u.square())


def test_awr_weights_and_their_cap():
    advantage = torch.tensor([-1.0, 0.0, 0.5, 1.53, 1.54, 100.0], dtype=torch.float64)
    weights = losses.awr_weights(advantage, 3.0).tolist()
    assert weights[:3] == pytest.approx([0.049787, 1.0, 4.481689], abs=1e-6)
    assert math.log(100) / 3 == pytest.approx(1.535057, abs=1e-6)
    assert weights[3] < 100.0
    assert weights[4:] == [100.0, 100.0]


def test_policy_loss_is_a_weighted_regression():
    generator = torch.Generator().manual_seed(0)
    shape = (4, 6, 3)
    mean = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    action = torch.randn(shape, generator=generator, dtype=torch.float64)
    advantage = torch.randn(shape[:2], generator=generator, dtype=torch.float64)
    weights = losses.temporal_weights(torch.zeros(4, 6, dtype=torch.float64), 0.5)
    loss = losses.policy_loss(mean, action, advantage, 3.0, weights)
    (gradient,) = torch.autograd.grad(loss, mean)
    w = (weights * (3.0 * advantage).exp().clamp(max=100.0))[..., None]
    torch.testing.assert_close(gradient, w * (mean - action).detach() / 24)
    normal = torch.distributions.Normal(mean, 1.0)
    nll = -normal.log_prob(action).sum(-1)
    torch.testing.assert_close(losses.unit_gaussian_nll(mean, action), nll)


def test_uncertainty_is_the_unbiased_standard_deviation():
    same = torch.full((5, 3), 2.0)
    assert not losses.ensemble_uncertainty(same).any()
    counted = torch.arange(1.0, 6.0)[:, None]
    assert float(losses.ensemble_uncertainty(counted)) == pytest.approx(1.581139, abs=1e-6)
    assert losses.ensemble_uncertainty(torch.empty(5, 0)).shape == (0,)


def test_consistency_is_averaged_over_latent_dimensions():
    a, b = torch.zeros(2, 3, 50), torch.full((2, 3, 50), 2.0)
    torch.testing.assert_close(losses.consistency_loss(a, b), torch.full((2, 3), 4.0))


def test_priorities_sum_over_networks_and_steps():
    weights = torch.tensor([[1.0, 1.0], [0.5, 0.0]])
    delta = torch.tensor([[[1.0, -2.0], [3.0, 9.0]], [[-1.0, 1.0], [1.0, 9.0]]])
    assert losses.td_abs(weights, delta).tolist() == [1 + 1 + 0.5 * (3 + 1), 2 + 1]
