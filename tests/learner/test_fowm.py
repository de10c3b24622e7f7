import dataclasses

import numpy as np
import pytest
import torch

from learner.algorithms.base import DivergedError
from learner.algorithms.fowm import FowmAlgorithm, FowmConfig
from learner.capture import StaticCall
from tests.learner.fowm_cases import (
    make_batch,
    make_config,
    make_random_algorithm,
    make_spec,
    widen,
    widen_batch,
)
from tests.learner.plain_fowm import PlainFowm, grid_shift, largest_difference

SPEC = make_spec()
PAPER = make_spec(image_size=84, state_size=4, num_actions=4)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def compare(plain, fast, num_updates, seed=0, tolerance=1e-10):
    config = fast.config
    for i in range(num_updates):
        batch = make_batch(SPEC, horizon=config.horizon, size=6, seed=seed + i)
        draws = fast.draw(6)
        if fast.model.v.weight1.dtype == torch.float64:
            batch = widen_batch(batch)
        result = fast.update(batch, draws)
        metrics, priorities = plain.update(batch, draws)
        for name, value in metrics.items():
            assert float(result.metrics[name]) == pytest.approx(value, rel=tolerance), name
        np.testing.assert_allclose(result.priorities, priorities, rtol=tolerance)
    return largest_difference(plain, fast)


@pytest.mark.parametrize("mask_pi_loss", [True, False])
@pytest.mark.parametrize("shift_px", [0, 4])
def test_four_updates_equal_the_plain_form_in_double(mask_pi_loss, shift_px):
    config = make_config(mask_pi_loss=mask_pi_loss, shift_px=shift_px)
    fast = widen(make_random_algorithm(config, SPEC))
    plain = PlainFowm(fast)
    assert compare(plain, fast, 4) < 1e-9


def test_update_equals_the_plain_form_in_single_precision():
    fast = make_random_algorithm(make_config(), SPEC)
    assert compare(PlainFowm(fast), fast, 1, tolerance=1e-4) < 1e-5


def test_update_follows_the_published_bilinear_shift():
    fast = make_random_algorithm(make_config(), SPEC)
    plain = PlainFowm(fast, shift=grid_shift, detach_target=False)
    assert compare(plain, fast, 1, tolerance=1e-3) < 1e-4


def test_bfloat16_training_stays_near_single_precision():
    exact = make_random_algorithm(make_config(), SPEC)
    rounded = make_random_algorithm(make_config(train_precision="bf16"), SPEC)
    batch = make_batch(SPEC, horizon=4, size=16, seed=0)
    draws = exact.draw(16)
    a, b = exact.update(batch, draws).metrics, rounded.update(batch, draws).metrics
    for name in ("consistency_loss", "reward_loss", "q_loss", "pi_loss"):
        assert float(a[name]) != float(b[name])
        assert float(b[name]) == pytest.approx(float(a[name]), rel=0.1), name
    assert all(p.dtype == torch.float32 for p in rounded.model.parameters())


def test_nothing_after_an_end_matters():
    config = make_config()
    batch = make_batch(SPEC, horizon=4, size=6, seed=0, done_rate=0.0)
    batch.done[1] = 1.0
    other = make_batch(SPEC, horizon=4, size=6, seed=1, done_rate=0.0)
    for name in ("action", "reward", "mask"):
        getattr(other, name)[:2] = getattr(batch, name)[:2]
    other.done[:2] = batch.done[:2]
    next_observations = {
        k: torch.cat([batch.next_observations[k][:2], v[2:]])
        for k, v in other.next_observations.items()
    }
    other = dataclasses.replace(
        other,
        observations=batch.observations,
        next_observations=next_observations,
        weights=batch.weights,
    )
    states = []
    for data in (batch, other):
        algorithm = make_random_algorithm(config, SPEC)
        result = algorithm.update(data, algorithm.draw(6))
        states.append((algorithm.state_dict(), result))
    (a, result_a), (b, result_b) = states
    for name in ("model", "target", "model_optimiser", "policy_optimiser"):
        assert_equal_trees(a[name], b[name])
    assert torch.equal(result_a.priorities, result_b.priorities)
    losses = [k for k in result_a.metrics if k.endswith("loss")]
    assert len(losses) == 6
    for name in losses:
        assert torch.equal(result_a.metrics[name], result_b.metrics[name])


def test_without_the_mask_the_policy_sees_steps_after_an_end():
    batch = make_batch(SPEC, horizon=4, size=6, seed=0, done_rate=0.0)
    batch.done[1] = 1.0
    values = []
    for mask_pi_loss in (True, False):
        algorithm = make_random_algorithm(make_config(mask_pi_loss=mask_pi_loss), SPEC)
        values.append(algorithm.update(batch, algorithm.draw(6)).metrics["pi_loss"])
    assert float(values[1]) > 1.05 * float(values[0])


def assert_equal_trees(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal_trees(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_a_true_end_has_no_bootstrap_and_a_cut_has():
    changes = {}
    for mask in (0.0, 1.0):
        metrics = []
        for seed in (5, 6):  # only what comes after the last step differs
            batch = make_batch(SPEC, horizon=1, size=6, seed=0, done_rate=2.0)
            batch.mask.fill_(mask)
            after = make_batch(SPEC, horizon=1, size=6, seed=seed).next_observations
            batch = dataclasses.replace(batch, next_observations=after)
            algorithm = make_random_algorithm(make_config(horizon=1), SPEC)
            metrics.append(algorithm.update(batch, algorithm.draw(6)).metrics["q_loss"])
        changes[mask] = float((metrics[0] - metrics[1]).abs())
    assert changes[0.0] == 0.0
    assert changes[1.0] > 1e-4


def test_slow_copies_move_every_second_update_and_only_they():
    algorithm = make_random_algorithm(make_config(), SPEC)
    batch = make_batch(SPEC, horizon=4, size=6, seed=0)
    before = {k: v.clone() for k, v in algorithm.target.state_dict().items()}
    algorithm.update(batch)
    online = algorithm.model.state_dict()
    after = {k: v.clone() for k, v in algorithm.target.state_dict().items()}
    for name, value in after.items():
        expected = 0.99 * before[name] + 0.01 * online[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)
    assert any(not torch.equal(after[k], before[k]) for k in after)
    algorithm.update(batch)
    assert_equal_trees(dict(algorithm.target.state_dict()), after)


def test_gradient_is_divided_by_the_horizon_before_clipping():
    algorithm = make_random_algorithm(make_config(max_grad_norm=1e9), SPEC)
    batch, draws = make_batch(SPEC, horizon=4, size=6, seed=0), algorithm.draw(6)
    norm = float(algorithm.update(batch, draws).metrics["grad_norm"])
    doubled = make_random_algorithm(
        make_config(
            max_grad_norm=1e9, consistency_coef=40.0, reward_coef=1.0, q_coef=0.2, v_coef=0.2
        ),
        SPEC,
    )
    twice = float(doubled.update(batch, draws).metrics["grad_norm"])
    assert twice == pytest.approx(2 * norm, rel=1e-4)
    plain = PlainFowm(make_random_algorithm(make_config(max_grad_norm=1e9), SPEC))
    plain.update(batch, draws)
    total = torch.stack([p.grad.norm() for p in plain.nets.model_parameters()]).norm()
    assert float(total) == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("num_before", [0, 3])
def test_a_saved_learner_continues_bit_for_bit(num_before):
    config = make_config(state_normalisation="box")
    ranges = {"state": (np.full(4, -1, np.float32), np.full(4, 1, np.float32))}
    batches = [make_batch(SPEC, horizon=4, size=6, seed=i) for i in range(num_before + 3)]
    straight = FowmAlgorithm(config, SPEC, "cpu", seed=0)
    straight.set_ranges(ranges)
    for batch in batches[:num_before]:
        straight.update(batch)
    resumed = FowmAlgorithm(config, SPEC, "cpu", seed=99)
    resumed.load_state_dict(straight.state_dict())
    assert resumed.num_updates == num_before
    assert not resumed.needs_ranges
    for batch in batches[num_before:]:
        a, b = straight.update(batch), resumed.update(batch)
        assert_equal_trees(a.metrics, b.metrics)
        assert torch.equal(a.priorities, b.priorities)
    assert_equal_trees(straight.state_dict(), resumed.state_dict())


def test_state_is_a_copy_and_refuses_another_shape():
    algorithm = FowmAlgorithm(make_config(), SPEC, "cpu", seed=0)
    algorithm.update(make_batch(SPEC, horizon=4, size=6, seed=0))
    state = algorithm.state_dict()
    kept = {k: v.clone() for k, v in state["model"].items()}
    algorithm.update(make_batch(SPEC, horizon=4, size=6, seed=1))
    assert_equal_trees(state["model"], kept)
    with pytest.raises(RuntimeError, match="size mismatch"):
        FowmAlgorithm(make_config(mlp_size=16), SPEC, "cpu", seed=0).load_state_dict(state)


def test_seeds_decide_everything_and_the_global_stream_is_left_alone():
    before = torch.random.get_rng_state()
    runs = []
    for seed in (0, 0, 1):
        algorithm = FowmAlgorithm(make_config(), SPEC, "cpu", seed=seed)
        algorithm.update(make_batch(SPEC, horizon=4, size=6, seed=0))
        runs.append(algorithm.model.state_dict())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_equal_trees(dict(runs[0]), dict(runs[1]))
    assert not torch.equal(runs[0]["q.weight2"], runs[2]["q.weight2"])


def test_a_loss_that_is_not_finite_stops_the_learner_before_it_moves():
    algorithm = make_random_algorithm(make_config(), SPEC)
    before = algorithm.state_dict()
    batch = make_batch(SPEC, horizon=4, size=6, seed=0)
    batch.reward[2, 3] = torch.inf
    with pytest.raises(DivergedError, match="update 1"):
        algorithm.update(batch)
    assert_equal_trees(dict(algorithm.model.state_dict()), before["model"])
    for read in (algorithm.check_finite, algorithm.state_dict, algorithm.actor_tensors):
        with pytest.raises(DivergedError):
            read()
    algorithm.load_state_dict(before)
    algorithm.check_finite()


def test_a_box_must_be_given_before_the_first_update():
    algorithm = FowmAlgorithm(make_config(state_normalisation="box"), SPEC, "cpu", seed=0)
    batch = make_batch(SPEC, horizon=4, size=6, seed=0)
    assert algorithm.needs_ranges
    with pytest.raises(RuntimeError, match="set_ranges"):
        algorithm.update(batch)
    low, high = np.array([-1, 0, 1, 2], np.float32), np.array([1, 4, 1, 3], np.float32)
    algorithm.set_ranges({"state": (low, high)})
    algorithm.update(batch)
    name = "encoder.parts.state.center"
    assert algorithm.actor_tensors()[name].tolist() == [0, 2, 1, 2.5]
    assert algorithm.target.state_dict()[name].tolist() == [0, 2, 1, 2.5]


def test_ranges_change_nothing_where_they_are_not_wanted():
    algorithm = FowmAlgorithm(make_config(), SPEC, "cpu", seed=0)
    algorithm.set_ranges({"state": (np.zeros(4, np.float32), np.ones(4, np.float32))})
    assert not algorithm.needs_ranges
    assert not algorithm.actor_tensors()["encoder.parts.state.center"].any()


def test_an_average_is_published_and_changes_no_update():
    plain = FowmAlgorithm(make_config(), SPEC, "cpu", seed=0)
    averaged = FowmAlgorithm(make_config(average_decay=0.5), SPEC, "cpu", seed=0)
    expected = None
    for count in range(1, 31):
        batch = make_batch(SPEC, horizon=4, size=6, seed=count)
        plain.update(batch)
        averaged.update(batch)
        kept = min(0.5, 1 - 10 / (9 + count))
        newest = plain.actor_tensors()
        expected = (
            newest
            if expected is None
            else {name: kept * expected[name] + (1 - kept) * newest[name] for name in newest}
        )
        torch.testing.assert_close(averaged.model.actor_tensors(), plain.model.actor_tensors())
    torch.testing.assert_close(averaged.actor_tensors(), expected)
    assert not torch.equal(expected["pi.linear1.weight"], newest["pi.linear1.weight"])


def test_actor_tensors_are_all_that_acting_needs():
    algorithm = FowmAlgorithm(make_config(), SPEC, "cpu", seed=0)
    names = {name.split(".")[0] for name in algorithm.actor_tensors()}
    assert names == {"encoder", "dynamics", "reward_head", "pi", "q"}
    tensors = FowmAlgorithm(FowmConfig(), PAPER, "cpu", 0).actor_tensors()
    size = sum(t.numel() for t in tensors.values())
    assert size == 2_444_268 + 2 * 4  # parameters, and the two constants of the state's range


def test_an_update_on_static_buffers_gives_the_same_numbers():
    direct, static = (make_random_algorithm(make_config(), SPEC) for _ in range(2))
    calls = {moves: StaticCall(step, torch.device("cpu")) for moves, step in static._steps.items()}
    for i in range(4):
        batch, draws = make_batch(SPEC, horizon=4, size=6, seed=i), direct.draw(6)
        a, b = direct.update(batch, draws), calls[i % 2 == 0](batch, draws)
        assert_equal_trees(a.metrics, b.metrics)
        assert torch.equal(a.priorities, b.priorities)
    assert_equal_trees(dict(direct.model.state_dict()), dict(static.model.state_dict()))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"horizon": 0}, "horizon"),
        ({"shift_px": -1}, "shift_px"),
        ({"discount": 1.5}, "discount"),
        ({"expectile": 0.0}, "expectile"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"uncertainty_weight": -1.0}, "uncertainty_weight"),
        ({"train_precision": "fp8"}, "train_precision"),
        ({"latent_size": 0}, "sizes"),
    ],
)
def test_config_refuses_nonsense(bad, message):
    with pytest.raises(ValueError, match=message):
        FowmConfig(**bad)


def test_every_parameter_of_every_camera_learns():
    spec = dataclasses.replace(
        SPEC,
        observations=(
            *SPEC.observations,
            dataclasses.replace(SPEC.image_fields[0], name="image.wrist", shape=(32, 44, 3)),
        ),
    )
    config = make_config(encoder="spatial_softmax")
    algorithm = make_random_algorithm(config, spec)
    before = algorithm.state_dict()["model"]
    for seed, size in enumerate((6, 6, 9)):
        algorithm.update(make_batch(spec, horizon=4, size=size, seed=seed))
    after = algorithm.state_dict()["model"]
    constants = {"encoder.parts.state.center", "encoder.parts.state.half_range"}
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == constants
