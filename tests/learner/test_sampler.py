"""Draws follow the priorities, weights follow the closed form, halves have the wanted sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from learner.replay import OFFLINE, ONLINE, Replay
from learner.replay_buffer import ReplayBuffer
from learner.sampler import Mixture, NothingToSample, SequenceSampler, draw_rows
from learner.trainer_config import ReplayConfig
from protos.trial import Source
from tests.learner.trials import make_spec, make_trial


def make_prioritised(priorities: list[float], config: ReplayConfig | None = None) -> ReplayBuffer:
    buffer = ReplayBuffer(make_spec(), config or ReplayConfig(epsilon=1e-12))
    half = len(priorities) // 2
    buffer.add(make_trial(0, num_steps=half))
    buffer.add(make_trial(1, num_steps=len(priorities) - half))
    rows = torch.nonzero(buffer.priority).flatten()
    buffer.set_priorities(rows, torch.tensor(priorities), torch.ones_like(rows, dtype=torch.bool))
    return buffer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draws_and_weights_follow_the_closed_form() -> None:
    # Priorities 1, 2, 4, 8 with alpha 0.6, beta 0.4.
    buffer = make_prioritised([1, 2, 4, 8])
    rows, weights = draw_rows(buffer, 100_000, generator())
    steps = torch.nonzero(buffer.priority).flatten()
    counts = torch.stack([(rows == step).sum() for step in steps]).double()
    expected = torch.tensor([0.120550, 0.182720, 0.276951, 0.419779], dtype=torch.float64) * 1e5
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 16.27, "p < 0.001 with 3 degrees of freedom"
    for step, weight in zip(steps, [1, 0.846745, 0.716978, 0.607097], strict=True):
        assert weights[rows == step][0].item() == pytest.approx(weight, abs=1e-6)


def test_weights_are_divided_by_the_largest_of_the_drawn_only() -> None:
    buffer = make_prioritised([1e-6, 1, 1, 1])
    rows, weights = draw_rows(buffer, 8, generator())
    assert 0 not in rows
    assert weights.tolist() == [1.0] * 8


def test_draws_match_a_slow_sum_over_the_same_uniforms() -> None:
    priorities = np.random.default_rng(5).uniform(0.01, 9, 40).tolist()
    buffer = make_prioritised(priorities)
    rows, _ = draw_rows(buffer, 200, generator(9))
    uniforms = torch.rand(200, generator=generator(9), dtype=torch.float64)
    scaled = buffer.scaled.tolist()
    total = float(buffer.scaled[:-1].cumsum(0)[-1])
    for uniform, row in zip(uniforms.tolist(), rows.tolist(), strict=True):
        at, walked = uniform * total, 0
        while at >= scaled[walked]:
            at -= scaled[walked]
            walked += 1
        assert row == walked


def test_a_uniform_of_almost_one_still_lands_on_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = make_prioritised([0.1] * 20)
    monkeypatch.setattr(torch, "rand", lambda n, **_: torch.full((n,), 1.0, dtype=torch.float64))
    rows, _ = draw_rows(buffer, 3, generator())
    assert rows.tolist() == [20] * 3, "the last step of the second trial"


def test_a_uniform_of_zero_does_not_draw_a_row_that_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = ReplayBuffer(make_spec(), ReplayConfig(), capacity_steps=6)
    for number, length in enumerate((3, 3, 6)):
        buffer.add(make_trial(number, num_steps=length))
    monkeypatch.setattr(torch, "rand", lambda n, **_: torch.zeros(n, dtype=torch.float64))
    rows, _ = draw_rows(buffer, 3, generator())
    (stored,) = buffer.trials
    assert rows.tolist() == [stored.start_row] * 3
    buffer.priority[stored.start_row] = buffer.scaled[stored.start_row] = 0.0
    assert draw_rows(buffer, 1, generator())[0].tolist() == [stored.start_row + 1]


def test_without_replacement_draws_each_step_once() -> None:
    config = ReplayConfig(per_without_replacement=True)
    buffer = make_prioritised([1, 2, 3, 4, 5, 6], config)
    rows, _ = draw_rows(buffer, 6, generator())
    assert sorted(rows.tolist()) == [0, 1, 2, 4, 5, 6]
    more, _ = draw_rows(buffer, 7, generator())
    assert len(more) == 7, "more than there are steps: with replacement again"


def test_without_replacement_starts_once_an_online_buffer_is_full() -> None:
    config = ReplayConfig(per_without_replacement=True)
    buffer = ReplayBuffer(make_spec(), config, capacity_steps=8)
    for number in range(2):
        buffer.add(make_trial(number, num_steps=4))
    before = {len(set(draw_rows(buffer, 8, generator(s))[0].tolist())) for s in range(10)}
    buffer.add(make_trial(2, num_steps=4))
    after = {len(set(draw_rows(buffer, 8, generator(s))[0].tolist())) for s in range(10)}
    assert min(before) < 8
    assert after == {8}


def make_replay(num_offline: int, num_online: int) -> Replay:
    replay = Replay(make_spec())
    for number in range(num_offline):
        replay.add(make_trial(number))
    for number in range(100, 100 + num_online):
        replay.add(make_trial(number, source=Source.ONLINE))
    return replay


@pytest.mark.parametrize(
    ("num_offline", "num_online", "fraction", "expected"),
    [
        (3, 1, 0.5, 4),
        (3, 1, 0.0, 0),
        (3, 1, 1.0, 8),
        (3, 0, 0.5, 0),
        (0, 2, 0.5, 8),
        (3, 1, 0.2, 2),
    ],
)
def test_the_mixture_has_the_wanted_parts(
    num_offline: int, num_online: int, fraction: float, expected: int
) -> None:
    batch = Mixture(make_replay(num_offline, num_online), 3).sample(
        8, fraction, generator=generator()
    )
    assert int((batch.source == ONLINE).sum()) == expected
    assert batch.size == 8
    assert batch.horizon == 3
    came_from = batch.observations["state"][:, 0]
    assert ((came_from >= 100) == (batch.source == ONLINE)).all()
    assert ((batch.next_observations["state"][..., 0] >= 100) == (batch.source == ONLINE)).all()


def test_each_half_is_normalised_by_its_own_largest_weight() -> None:
    replay = make_replay(2, 2)
    rows = torch.nonzero(replay.online.priority).flatten()
    replay.online.set_priorities(rows, rows * 100.0, torch.ones_like(rows, dtype=torch.bool))
    batch = Mixture(replay, 2).sample(32, 0.5, generator=generator())
    for half in (OFFLINE, ONLINE):
        assert batch.weights[batch.source == half].max() == 1.0
    assert batch.weights[batch.source == OFFLINE].min() == 1.0


def test_nothing_to_sample_is_an_error() -> None:
    with pytest.raises(NothingToSample):
        Mixture(make_replay(0, 0), 3).sample(8, generator=generator())
    with pytest.raises(NothingToSample):
        Mixture(make_replay(0, 2), 3).sample(8, 0.0, generator=generator())
    with pytest.raises(ValueError, match="horizon"):
        SequenceSampler(make_replay(1, 0).offline, 0)


def test_the_same_generator_state_gives_the_same_batch() -> None:
    replay = make_replay(4, 4)
    first, second = (Mixture(replay, 5).sample(16, generator=generator(4)) for _ in range(2))
    assert torch.equal(first.indices, second.indices)
    assert torch.equal(
        first.next_observations["image.front"], second.next_observations["image.front"]
    )


@pytest.mark.gpu
def test_a_gpu_cuts_the_same_windows_and_draws_by_the_same_law() -> None:
    replays = [Replay(make_spec(), device=device) for device in ("cpu", "cuda")]
    for replay in replays:
        for number in range(4):
            replay.add(make_trial(number, num_steps=4 + number))
        rows = torch.nonzero(replay.offline.priority).flatten()
        is_mine = torch.ones_like(rows, dtype=torch.bool)
        replay.offline.set_priorities(rows, rows.float() + 1, is_mine)
        replay.offline.set_priorities(rows[:3].repeat(2), rows[:3].repeat(2) * 9.0, is_mine[:6])
    first, second = (replay.offline for replay in replays)
    assert torch.equal(first.priority, second.priority.cpu())
    rows = torch.nonzero(first.priority).flatten()
    ones = torch.ones(len(rows))
    mine = SequenceSampler(first, 5).windows(rows, ones, source=OFFLINE)
    theirs = SequenceSampler(second, 5).windows(rows.cuda(), ones.cuda(), source=OFFLINE).to("cpu")
    for name in ("state", "image.front"):
        assert torch.equal(mine.next_observations[name], theirs.next_observations[name])
    for name in ("action", "reward", "mask", "done", "indices", "source"):
        assert torch.equal(getattr(mine, name), getattr(theirs, name))
    drawn, weights = draw_rows(second, 100_000, torch.Generator("cuda").manual_seed(0))
    shares = torch.bincount(drawn.cpu(), minlength=len(first.priority)) / 1e5
    expected = first.scaled / first.scaled.sum()
    assert (shares - expected).abs().max() < 0.006
    assert weights.max() == 1.0
    batch = Mixture(replays[1], 5).sample(64, generator=torch.Generator("cuda").manual_seed(1))
    replays[1].update_priorities(batch, torch.full((64,), 3.0, device="cuda"))
    assert second.priority[batch.indices].cpu().tolist() == pytest.approx([3.0] * 64, rel=1e-5)
