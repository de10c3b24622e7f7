import dataclasses

import pytest
import torch

from learner import candidates
from learner.mppi import PlanDraws, act_with_policy, draw_plan, plan, refit
from learner.planner_config import PlannerConfig
from tests.learner import plain_fowm
from tests.learner.fowm_cases import (
    SMALL_PLANNER,
    make_config,
    make_random_algorithm,
    make_spec,
)

SPEC = make_spec()
HORIZON, ACTIONS, LATENT = 4, 3, 8
FULL = dataclasses.replace(SMALL_PLANNER, search="full")
PRUNED = dataclasses.replace(SMALL_PLANNER, search="pruned")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_model(dtype=torch.float64):
    return make_random_algorithm(make_config(), SPEC).model.to(dtype).requires_grad_(False)


def make_draws(config, seed=0, *, batch=1, is_eval=False, dtype=torch.float64):
    draws = draw_plan(
        config,
        horizon=HORIZON,
        num_actions=ACTIONS,
        num_q=5,
        generator=torch.Generator().manual_seed(seed),
        is_eval=is_eval,
        batch=batch,
    )
    values = {f.name: getattr(draws, f.name) for f in dataclasses.fields(draws)}
    return PlanDraws(**{k: v.to(dtype) if v.is_floating_point() else v for k, v in values.items()})


def make_latents(batch=1, dtype=torch.float64):
    return torch.rand(batch, LATENT, generator=torch.Generator().manual_seed(9)).to(dtype)


def run(model, latent, mean, has_previous, config, draws, *, discount=0.9, weight=1.0):
    started = torch.full((len(latent),), float(has_previous), dtype=latent.dtype)
    return plan(
        model,
        latent,
        mean,
        started,
        config,
        draws,
        discount=discount,
        uncertainty_weight=weight,
    )


@pytest.mark.parametrize("config", [FULL, PRUNED], ids=["full", "pruned"])
@pytest.mark.parametrize("weight", [0.0, 1.0, 20.0])
def test_ten_steps_equal_the_plain_planner_with_warm_start_and_reset(config, weight):
    model = make_model()
    nets = plain_fowm.PlainNets(model)
    mean = torch.zeros(1, HORIZON, ACTIONS, dtype=torch.float64)
    plain_mean = mean[0]
    latents = make_latents(10)
    for step in range(10):
        draws = make_draws(config, seed=step, is_eval=step % 2 == 0)
        is_first = step in (0, 6)
        z = latents[step : step + 1]
        result = run(model, z, mean, not is_first, config, draws, weight=weight)
        action, plain_mean, std, value = plain_fowm.plan(
            nets,
            z,
            plain_mean,
            config,
            draws,
            is_first=is_first,
            horizon=HORIZON,
            gamma=0.9,
            weight=weight,
        )
        torch.testing.assert_close(result.action[0], action, rtol=0, atol=1e-10)
        torch.testing.assert_close(result.mean[0], plain_mean, rtol=0, atol=1e-10)
        torch.testing.assert_close(result.std[0], std, rtol=0, atol=1e-10)
        torch.testing.assert_close(result.value[0], value, rtol=0, atol=1e-10)
        mean = result.mean


@pytest.mark.parametrize("config", [FULL, PRUNED], ids=["full", "pruned"])
def test_single_precision_stays_within_1e_5_of_the_plain_planner(config):
    model = make_model(torch.float32)
    draws = make_draws(config, dtype=torch.float32)
    z, mean = make_latents(dtype=torch.float32), torch.zeros(1, HORIZON, ACTIONS)
    result = run(model, z, mean, has_previous=False, config=config, draws=draws)
    action, plain_mean, _, _ = plain_fowm.plan(
        plain_fowm.PlainNets(model),
        z,
        mean[0],
        config,
        draws,
        is_first=True,
        horizon=HORIZON,
        gamma=0.9,
        weight=1.0,
    )
    torch.testing.assert_close(result.action[0], action, rtol=0, atol=1e-5)
    torch.testing.assert_close(result.mean[0], plain_mean, rtol=0, atol=1e-5)


def returns_of(config, model, z, draws, samples, weight):
    evaluator = candidates.Evaluator(model, z, draws, 0.9, weight)
    search = evaluator.prune if config is PRUNED else evaluator.full
    return search(samples, 0, config.num_elites)


@pytest.mark.parametrize("weight", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("seed", range(8))
def test_pruning_keeps_the_elites_and_their_returns(weight, seed):
    model, z = make_model(), make_latents(2)
    draws = make_draws(FULL, seed, batch=2)
    samples = (2 * draws.samples[0]).clamp(-1, 1)
    full = returns_of(FULL, model, z, draws, samples, weight)
    pruned = returns_of(PRUNED, model, z, draws, samples, weight)
    for f, p in zip(full, pruned, strict=True):
        best, best_pruned = f.topk(FULL.num_elites), p.topk(FULL.num_elites)
        assert best.indices.tolist() == best_pruned.indices.tolist()
        torch.testing.assert_close(best.values, best_pruned.values, rtol=0, atol=1e-12)


def test_pruning_leaves_most_candidates_out_when_the_penalty_is_small():
    model, z = make_model(), make_latents()
    draws = make_draws(PRUNED)
    samples = (2 * draws.samples[0]).clamp(-1, 1)
    pruned = returns_of(PRUNED, model, z, draws, samples, 0.01)
    assert int(pruned.isfinite().sum()) < PRUNED.num_candidates / 2


def test_a_batch_of_latents_equals_a_loop():
    model, z = make_model(), make_latents(3)
    draws = make_draws(FULL, batch=3)
    mean = torch.rand(3, HORIZON, ACTIONS, dtype=torch.float64) - 0.5
    together = run(model, z, mean, True, FULL, draws)
    for b in range(3):
        alone = PlanDraws(
            policy=draws.policy[:, b : b + 1],
            samples=draws.samples[:, :, b : b + 1],
            terminal=draws.terminal[:, b : b + 1],
            pairs=draws.pairs[:, b : b + 1],
            elite=draws.elite[b : b + 1],
            action=draws.action[b : b + 1],
        )
        single = run(model, z[b : b + 1], mean[b : b + 1], True, FULL, alone)
        for name in ("action", "mean", "std", "value", "uncertainty"):
            torch.testing.assert_close(
                getattr(together, name)[b], getattr(single, name)[0], rtol=0, atol=1e-12
            )


def test_permuting_the_samples_permutes_nothing_else():
    model, z, mean = make_model(), make_latents(), torch.zeros(1, HORIZON, ACTIONS).double()
    draws = make_draws(FULL)
    order = torch.randperm(FULL.num_samples, generator=torch.Generator().manual_seed(3))
    tail = torch.arange(FULL.num_samples, FULL.num_candidates)
    shuffled = dataclasses.replace(
        draws,
        samples=draws.samples[:, :, :, order],
        terminal=draws.terminal[:, :, torch.cat([order, tail])],
    )
    a, b = (run(model, z, mean, False, FULL, d) for d in (draws, shuffled))
    for name in ("action", "mean", "std", "value", "uncertainty"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=1e-12)


def test_refit_hand_case():
    # Values 3, 1, 2, 0 of actions .5, -.5, 1, 0; three elites; temperature .5; old mean .2.
    actions = torch.tensor([0.5, 1.0, -0.5], dtype=torch.float64).view(1, 1, 3, 1)
    returns = torch.tensor([[3.0, 2.0, 1.0]], dtype=torch.float64)
    scores, mu, sigma = refit(actions, returns, temperature=0.5)
    expected = torch.tensor([0.506480, 0.307196, 0.186324], dtype=torch.float64)
    torch.testing.assert_close(scores[0], expected, rtol=0, atol=5e-7)
    assert float(mu) == pytest.approx(0.467274, abs=5e-7)
    assert float(sigma) == pytest.approx(0.511910, abs=5e-7)
    assert 0.1 * 0.2 + 0.9 * float(mu) == pytest.approx(0.440547, abs=5e-7)


def test_no_penalty_runs_no_ensemble_over_the_steps(monkeypatch):
    model, rows = make_model(), []
    forward = model.q.forward
    monkeypatch.setattr(model.q, "forward", lambda x, *a: (rows.append(len(x)), forward(x, *a))[1])
    evaluator = candidates.Evaluator(model, make_latents(), make_draws(FULL), 0.9, 0.0)
    evaluator.full(make_draws(FULL).samples[0], 0, FULL.num_elites)
    assert max(rows) <= FULL.num_candidates


def test_a_huge_penalty_makes_the_least_uncertain_candidates_the_elites():
    model, z, draws = make_model(), make_latents(), make_draws(FULL)
    samples = draws.samples[0].clamp(-1, 1)
    returns = returns_of(FULL, model, z, draws, samples, 1e9)
    nets = plain_fowm.PlainNets(model)
    evaluator = candidates.Evaluator(model, z, draws, 0.9, 1e9)
    actions = torch.cat([samples, evaluator.policy_actions], 2)[:, 0]
    latent, total = z.expand(actions.shape[1], -1), 0.0
    for t, action in enumerate([*actions, None]):
        action = nets.pi(latent, draws.terminal[0, 0]) if action is None else action
        total = total + 0.9**t * nets.all_q(latent, action).std(0).squeeze(-1)
        latent = nets.next(latent, action)
    best = set(returns[0].topk(FULL.num_elites).indices.tolist())
    assert best == set((-total).topk(FULL.num_elites).indices.tolist())


def test_evaluation_only_drops_the_last_noise():
    noisy, still = make_draws(FULL, is_eval=False), make_draws(FULL, is_eval=True)
    assert not still.action.any()
    assert noisy.action.any()
    for name in ("policy", "samples", "terminal", "pairs", "elite"):
        assert torch.equal(getattr(noisy, name), getattr(still, name))


def test_pairs_are_distinct_and_uniform():
    config = PlannerConfig(num_samples=2, num_elites=1, iterations=20_000)
    pairs = make_draws(config).pairs[:, 0]
    assert not (pairs[:, 0] == pairs[:, 1]).any()
    counts = torch.zeros(5, 5).index_put((pairs[:, 0], pairs[:, 1]), torch.ones(1), accumulate=True)
    off_diagonal = counts[~torch.eye(5, dtype=torch.bool)]
    assert float((off_diagonal - 1000).abs().max()) < 150  # five standard deviations


def test_the_chosen_elite_follows_the_scores():
    scores = torch.tensor([0.6, 0.3, 0.1])
    config = PlannerConfig(num_samples=3, num_elites=3, policy_fraction=0.0, iterations=1)
    gumbel = make_draws(config, batch=30_000).elite
    picked = (scores.log() + gumbel).argmax(-1).bincount(minlength=3) / 30_000
    torch.testing.assert_close(picked.float(), scores, rtol=0, atol=0.015)


def test_without_mpc_the_policy_acts():
    model, z = make_model(), make_latents()
    draws = make_draws(FULL, is_eval=True)
    mean = torch.zeros(1, HORIZON, ACTIONS).double()
    result = act_with_policy(model, z, mean, draws)
    torch.testing.assert_close(result.action, plain_fowm.PlainNets(model).pi(z))


class LinearModel:
    """A model whose best first action is known: z' = A z + B a, quadratic costs, LQR."""

    a = torch.tensor([[1.0, 0.2], [0.0, 1.0]], dtype=torch.float64)
    b = torch.tensor([[0.0], [0.2]], dtype=torch.float64)
    state_cost = torch.diag(torch.tensor([1.0, 0.1], dtype=torch.float64))
    action_cost = 0.1

    def __init__(self):
        self.final_cost = self.state_cost

    def dynamics(self, joint):
        return joint[..., :2] @ self.a.T + joint[..., 2:] @ self.b.T

    next = lambda self, z, a: self.dynamics(torch.cat([z, a], -1))  # noqa: E731

    def reward_head(self, joint):
        z, a = joint[..., :2], joint[..., 2:]
        cost = ((z @ self.state_cost) * z).sum(-1, keepdim=True)
        return -(cost + self.action_cost * a.square().sum(-1, keepdim=True))

    def act(self, z, noise=None):
        return torch.zeros(*z.shape[:-1], 1, dtype=z.dtype)

    def q(self, joint, members=None):
        z = joint[..., :2]
        return -((z @ self.final_cost) * z).sum(-1).expand(2, -1)

    def q_values(self, z, a, members=None):
        return self.q(torch.cat([z, a], -1))


def first_lqr_action(model, z, horizon):
    cost = model.final_cost
    for _ in range(horizon):
        inner = model.action_cost + model.b.T @ cost @ model.b
        gain = torch.linalg.solve(inner, model.b.T @ cost @ model.a)
        cost = model.state_cost + model.a.T @ cost @ (model.a - model.b @ gain)
    return -(z @ gain.T)


def test_the_first_action_is_near_the_optimum_of_a_linear_quadratic_problem():
    model = LinearModel()
    config = PlannerConfig(
        num_samples=2000, num_elites=50, iterations=12, temperature=50.0, policy_fraction=0.01
    )
    z = torch.tensor([[0.4, -0.3]], dtype=torch.float64)
    draws = draw_plan(
        config,
        horizon=6,
        num_actions=1,
        num_q=2,
        generator=torch.Generator().manual_seed(0),
        is_eval=True,
    )
    result = plan(
        model,
        z,
        torch.zeros(1, 6, 1, dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
        config,
        draws,
        discount=1.0,
        uncertainty_weight=0.0,
    )
    best = first_lqr_action(model, z, 6)
    assert 0.1 < float(best.abs()) < 1.0
    assert float(result.mean[0, 0]) == pytest.approx(float(best), abs=0.03)


@pytest.mark.parametrize(
    "bad",
    [
        {"num_samples": 0},
        {"num_elites": 1000},
        {"policy_fraction": 1.5},
        {"min_std": 0.0},
        {"min_std": 3.0},
        {"temperature": 0.0},
        {"momentum": 1.0},
        {"search": "best"},
        {"precision": "int8"},
    ],
)
def test_planner_config_refuses_nonsense(bad):
    with pytest.raises(ValueError, match=next(iter(bad)).split("_")[-1]):
        PlannerConfig(**bad)
