import dataclasses

import numpy as np
import pytest
import torch

from learner.algorithms.base import DivergedError
from learner.algorithms.fowm import FowmAlgorithm, FowmConfig, UpdateDraws
from learner.capture import StaticCall
from tests.learner.fowm_cases import (
    make_batch,
    make_config,
    make_random_algorithm,
    make_spec,
    widen,
    widen_batch,
)
from tests.learner.plain_fowm import PlainFowm, crop_shift, grid_shift, largest_difference

SPEC = make_spec()


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
