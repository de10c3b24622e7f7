import dataclasses

import pytest
import torch

from tests.learner.fowm_cases import make_batch, make_spec

SPEC = make_spec()


def test_sizes_come_from_the_actions():
    batch = make_batch(SPEC, horizon=5, size=7, seed=0)
    assert (batch.horizon, batch.size) == (5, 7)


@pytest.mark.parametrize("name", ["reward", "mask", "done", "weights", "indices", "source"])
def test_arrays_must_fit_the_actions(name):
    batch = make_batch(SPEC, horizon=5, size=7, seed=0)
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(batch, **{name: getattr(batch, name)[:-1]})


@pytest.mark.parametrize("which", ["observations", "next_observations"])
def test_observations_must_fit(which):
    batch = make_batch(SPEC, horizon=5, size=7, seed=0)
    cut = {k: v[:-1] for k, v in getattr(batch, which).items()}
    with pytest.raises(ValueError, match=r"image\.front"):
        dataclasses.replace(batch, **{which: cut})
    with pytest.raises(ValueError, match="observed"):
        dataclasses.replace(batch, **{which: {}})


def test_moving_keeps_everything():
    batch = make_batch(SPEC, horizon=5, size=7, seed=0)
    moved = batch.to("cpu")
    assert torch.equal(moved.action, batch.action)
    assert moved.observations.keys() == batch.observations.keys()
    with pytest.raises(dataclasses.FrozenInstanceError):
        moved.action = batch.action
