"""Small robots, batches and random models for the tests of FOWM."""

import torch

from learner.algorithms.fowm import FowmAlgorithm, FowmConfig
from learner.batch import Batch
from learner.planner_config import PlannerConfig
from protos.trial import FieldSpec, RobotSpec

SMALL_PLANNER = PlannerConfig(num_samples=48, num_elites=10, iterations=3)


def make_spec(
    *, image_size: int | None = 40, state_size: int = 4, num_actions: int = 3
) -> RobotSpec:
    """Returns a robot with one camera (None for none) and one vector (0 for none)."""
    fields = []
    if image_size:
        shape = (image_size, image_size, 3)
        fields.append(FieldSpec(name="image.front", dtype="uint8", shape=shape))
    if state_size:
        fields.append(FieldSpec(name="state", dtype="float32", shape=(state_size,)))
    return RobotSpec(
        task="reach",
        observations=tuple(fields),
        action_names=tuple(f"a{i}" for i in range(num_actions)),
        action_scale=(0.02,) * num_actions,
        control_hz=10.0,
        max_steps=25,
    )


def make_config(**changes) -> FowmConfig:
    """Returns a configuration that updates and plans in milliseconds."""
    values = {
        "conv_channels": 4,
        "latent_size": 8,
        "mlp_size": 32,
        "state_hidden": 16,
        "horizon": 4,
        "planner": SMALL_PLANNER,
    }
    return FowmConfig(**(values | changes))


def make_batch(spec: RobotSpec, *, horizon: int, size: int, seed: int, done_rate=0.15) -> Batch:
    """Returns a batch of random numbers."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    def observe(*lead: int) -> dict[str, torch.Tensor]:
        values = {}
        for field in spec.observations:
            shape = (*lead, *field.shape)
            values[field.name] = (
                torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
                if field.dtype == "uint8"
                else uniform(*shape) * 2 - 1
            )
        return values

    return Batch(
        observations=observe(size),
        next_observations=observe(horizon, size),
        action=uniform(horizon, size, spec.action_size) * 2 - 1,
        reward=(uniform(horizon, size, 1) > 0.7).float(),
        mask=(uniform(horizon, size, 1) > 0.2).float(),
        done=(uniform(horizon, size, 1) < done_rate).float(),
        weights=0.2 + 0.8 * uniform(size),
        indices=torch.arange(size),
        source=torch.zeros(size, dtype=torch.int64),
    )


def widen_batch(batch: Batch) -> Batch:
    """Returns the batch with its float32 numbers as float64."""

    def wide(value):
        return value.double() if value.dtype == torch.float32 else value

    return Batch(
        observations={k: wide(v) for k, v in batch.observations.items()},
        next_observations={k: wide(v) for k, v in batch.next_observations.items()},
        **{
            name: wide(getattr(batch, name))
            for name in ("action", "reward", "mask", "done", "weights", "indices", "source")
        },
    )


def make_random_algorithm(config: FowmConfig, spec: RobotSpec, seed: int = 0) -> FowmAlgorithm:
    """Returns a learner whose every parameter has been shaken, so that nothing is zero."""
    algorithm = FowmAlgorithm(config, spec, "cpu", seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in algorithm.model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        for parameter in algorithm.target.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return algorithm


def widen(algorithm: FowmAlgorithm) -> FowmAlgorithm:
    """Turns a learner to double precision, for comparing without rounding."""
    algorithm.model.double()
    algorithm.target.double()
    return algorithm
