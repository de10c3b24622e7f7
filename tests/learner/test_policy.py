import dataclasses
import json

import numpy as np
import pytest
import torch

from learner.algorithms.base import WeightsRejected
from learner.algorithms.fowm_policy import FowmPolicy
from learner.algorithms.registry import policy_config_from_json, policy_config_to_json
from learner.mppi import plan
from tests.learner.fowm_cases import SMALL_PLANNER, make_config, make_random_algorithm, make_spec

SPEC = make_spec()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def observe(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image.front": rng.integers(0, 256, (40, 40, 3), dtype=np.uint8),
        "state": rng.uniform(-1, 1, 4).astype(np.float32),
    }


def make_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    tensors = make_random_algorithm(make_config(), SPEC, seed).actor_tensors()
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def make_loaded(config=None, seed=0, weights_seed=0) -> FowmPolicy:
    config = config or make_config()
    policy = FowmPolicy(config, SPEC, "cpu", seed)
    policy.load(make_random_algorithm(config, SPEC, weights_seed).actor_tensors())
    return policy


def test_acting_from_exported_weights_equals_the_learners_own_plan():
    config = make_config(state_normalisation="box")
    algorithm = make_random_algorithm(config, SPEC)
    algorithm.set_ranges({"state": (np.full(4, -2, np.float32), np.full(4, 2, np.float32))})
    policy = FowmPolicy(config, SPEC, "cpu", seed=0)
    policy.load({k: v.numpy() for k, v in algorithm.actor_tensors().items()})
    mean, has_previous = torch.zeros(1, 4, 3), torch.zeros(1)
    for step in range(3):
        draws = policy.draw(is_eval=False)
        decision = policy.act(observe(step), is_eval=False, draws=draws)
        with torch.no_grad():
            tensors = {k: torch.from_numpy(v)[None] for k, v in observe(step).items()}
            z = algorithm.model.encode(tensors)
            result = plan(
                algorithm.model,
                z,
                mean,
                has_previous,
                config.planner,
                draws,
                discount=config.discount,
                uncertainty_weight=config.uncertainty_weight,
            )
            q = algorithm.model.q_values(z, result.action)
        mean, has_previous = result.mean, torch.ones(1)
        np.testing.assert_array_equal(decision.action, result.action[0].numpy())
        assert decision.value == float(result.value)
        assert decision.uncertainty == pytest.approx(float(q.std(0)), rel=1e-5)
        assert torch.equal(policy.previous_mean, mean[0])
        np.testing.assert_array_equal(policy.rest_of_plan(), mean[0, 1:].numpy())


def test_reset_forgets_the_trial_before():
    policy, fresh = make_loaded(), make_loaded()
    policy.act(observe(0), is_eval=False)
    assert policy.previous_mean.any()
    draws = fresh.draw(is_eval=False)
    started = policy.act(observe(1), is_eval=False, draws=draws)
    policy.reset()
    assert not policy.previous_mean.any()
    again = policy.act(observe(1), is_eval=False, draws=draws)
    first = fresh.act(observe(1), is_eval=False, draws=draws)
    np.testing.assert_array_equal(again.action, first.action)
    assert not np.array_equal(started.action, first.action)


def test_a_policy_that_does_not_plan_leaves_no_rest():
    planner = dataclasses.replace(SMALL_PLANNER, use_mpc=False)
    policy = make_loaded(make_config(planner=planner))
    policy.act(observe(0), is_eval=False)
    assert policy.rest_of_plan().shape == (0, 3)


def test_seeds_decide_the_actions():
    a, b, c = (make_loaded(seed=seed) for seed in (1, 1, 2))
    actions = [p.act(observe(0), is_eval=False).action for p in (a, b, c)]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])


def test_warming_up_changes_nothing():
    warm, cold = make_loaded(), make_loaded()
    warm.act(observe(0), is_eval=True)
    cold.act(observe(0), is_eval=True)
    warm.warm_up()
    np.testing.assert_array_equal(
        warm.act(observe(1), is_eval=False).action, cold.act(observe(1), is_eval=False).action
    )


def test_a_saved_policy_continues_bit_for_bit():
    policy, other = make_loaded(seed=1), make_loaded(seed=2)
    policy.act(observe(0), is_eval=False)
    other.load_state_dict(policy.state_dict())
    for step in (1, 2):
        np.testing.assert_array_equal(
            policy.act(observe(step), is_eval=False).action,
            other.act(observe(step), is_eval=False).action,
        )


def test_refused_weights_leave_the_old_ones_in_use():
    policy, untouched = make_loaded(), make_loaded()
    good = make_arrays(5)
    name = "q.weight2"
    for broken, message in (
        ({k: v for k, v in good.items() if k != name}, r"missing \['q.weight2'\]"),
        (good | {"v.weight1": good[name]}, r"unexpected \['v.weight1'\]"),
        (
            good | {name: good[name][:4]},
            r"q.weight2: .* \(5, 32, 32\), got .* \(4, 32, 32\)",
        ),
        (good | {name: good[name].astype(np.float16)}, "q.weight2: expected torch.float32"),
        (good | {name: np.where(good[name] > 0, np.inf, good[name])}, "q.weight2: not finite"),
        ({k: v * np.float32(1e30) for k, v in good.items()}, "trial plan"),
    ):
        with pytest.raises(WeightsRejected, match=message):
            policy.load(broken)
    for step in range(2):
        np.testing.assert_array_equal(
            policy.act(observe(step), is_eval=False).action,
            untouched.act(observe(step), is_eval=False).action,
        )


def test_new_weights_take_over_whole():
    policy, other = make_loaded(weights_seed=0), make_loaded(weights_seed=5)
    for seed in (3, 5):
        policy.load(make_random_algorithm(make_config(), SPEC, seed).actor_tensors())
    np.testing.assert_array_equal(
        policy.act(observe(0), is_eval=True).action, other.act(observe(0), is_eval=True).action
    )


def test_loaded_arrays_may_change_afterwards():
    arrays = make_arrays()
    policy = FowmPolicy(make_config(), SPEC, "cpu", seed=0)
    policy.load(arrays)
    for array in arrays.values():
        array[...] = 0
    expected = make_loaded().act(observe(0), is_eval=True).action
    np.testing.assert_array_equal(policy.act(observe(0), is_eval=True).action, expected)


def test_actions_are_bounded_and_full_and_pruned_search_agree():
    decisions = []
    for search in ("full", "pruned"):
        config = make_config(planner=dataclasses.replace(SMALL_PLANNER, search=search))
        decisions.append(make_loaded(config).act(observe(0), is_eval=False))
    assert np.abs(decisions[0].action).max() <= 1.0
    assert decisions[0].action.dtype == np.float32
    np.testing.assert_allclose(decisions[0].action, decisions[1].action, atol=1e-5)
    assert decisions[0].uncertainty > 0


def test_half_precision_and_policy_only_act_too():
    exact = make_loaded()
    config = make_config(planner=dataclasses.replace(SMALL_PLANNER, precision="bf16"))
    rounded = make_loaded(config).act(observe(0), is_eval=True)
    assert rounded.value == pytest.approx(exact.act(observe(0), is_eval=True).value, rel=0.05)
    config = make_config(planner=dataclasses.replace(SMALL_PLANNER, use_mpc=False))
    policy = make_loaded(config)
    first, second = (policy.act(observe(0), is_eval=True).action for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_config_survives_text():
    config = make_config(encoder="spatial_softmax", conv_channels=None, discount=1)
    text = policy_config_to_json(config)
    assert policy_config_from_json(text) == config
    assert json.loads(text)["algorithm"] == "fowm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown keys .*colour"),
        ({"horizon": "5"}, "horizon: '5'"),
        ({"horizon": True}, "horizon: True"),
        ({"discount": None}, "discount: None"),
        ({"discount": 7.0}, "discount"),
        ({"encoder": "resnet"}, "encoder: 'resnet'"),
        ({"planner": 3}, "planner: expected a table"),
        ({"planner": {}}, "planner: unknown keys .*missing keys .*num_samples"),
        ({"algorithm": "sac"}, "no algorithm"),
    ],
)
def test_text_that_is_not_a_config_is_refused(change, message):
    raw = json.loads(policy_config_to_json(make_config()))
    with pytest.raises(ValueError, match=message):
        policy_config_from_json(json.dumps(raw | change))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"algorithm": ["fowm"]}', "[" * 100_000])
def test_text_that_is_no_object_is_refused(text):
    with pytest.raises(ValueError, match="policy config"):
        policy_config_from_json(text)


def test_a_missing_key_is_refused():
    raw = json.loads(policy_config_to_json(make_config()))
    del raw["planner"]["momentum"]
    with pytest.raises(ValueError, match=r"planner: .*missing keys \['momentum'\]"):
        policy_config_from_json(json.dumps(raw))
