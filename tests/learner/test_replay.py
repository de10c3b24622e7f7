"""The replay keeps frames once, windows inside one trial, and priorities where they belong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from learner.replay import OFFLINE, ONLINE, Replay
from learner.replay_buffer import ReplayBuffer
from learner.sampler import Mixture, SequenceSampler, draw_rows
from learner.trainer_config import ReplayConfig
from protos.trial import Outcome, Source, SpecMismatch, Trial
from tests.learner.trials import make_spec, make_trial, trial_id_of


def make_buffer(
    lengths: list[int], *, capacity_steps: int | None = None, config: ReplayConfig | None = None
) -> ReplayBuffer:
    buffer = ReplayBuffer(make_spec(), config or ReplayConfig(), capacity_steps=capacity_steps)
    for number, length in enumerate(lengths):
        buffer.add(make_trial(number, num_steps=length))
    return buffer


def live_rows(buffer: ReplayBuffer) -> list[int]:
    return torch.nonzero(buffer.priority).flatten().tolist()


def test_frames_are_stored_once_as_uint8() -> None:
    buffer = make_buffer([5, 3])
    frames = buffer.observations["image.front"]
    assert frames.dtype == torch.uint8
    assert [t.end_row for t in buffer.trials] == [6, 10]
    expected = np.concatenate(
        [make_trial(n, num_steps=k).observations["image.front"] for n, k in ((0, 5), (1, 3))]
    )
    assert np.array_equal(frames[:10].numpy(), expected)


def test_every_step_can_begin_a_window_and_no_final_observation_can() -> None:
    buffer = make_buffer([5, 1, 3])
    assert live_rows(buffer) == [0, 1, 2, 3, 4, 6, 8, 9, 10]
    assert buffer.num_steps == 9


@pytest.mark.parametrize("horizon", [1, 3, 5, 8])
def test_windows_match_a_slow_loop(horizon: int) -> None:
    lengths = [5, 1, 7]
    trials = [make_trial(n, num_steps=k, is_terminated=n == 2) for n, k in enumerate(lengths)]
    buffer = ReplayBuffer(make_spec(), ReplayConfig())
    for trial in trials:
        buffer.add(trial)
    rows = torch.tensor(live_rows(buffer))
    batch = SequenceSampler(buffer, horizon).windows(rows, torch.ones(len(rows)), source=OFFLINE)
    starts = [(n, t) for n, length in enumerate(lengths) for t in range(length)]
    for b, (n, t) in enumerate(starts):
        trial, last = trials[n], lengths[n] - 1
        assert batch.observations["state"][b].tolist() == [n, t, 0, 0]
        for h in range(horizon):
            k = min(t + h, last)
            assert batch.next_observations["state"][h, b].tolist() == [n, k + 1, 0, 0]
            assert np.array_equal(
                batch.next_observations["image.front"][h, b].numpy(),
                trial.observations["image.front"][k + 1],
            )
            assert batch.action[h, b].tolist() == trial.steps["action_executed"][k].tolist()
            assert batch.reward[h, b, 0] == trial.steps["reward"][k]
            assert batch.done[h, b, 0] == float(k == last)
            assert batch.mask[h, b, 0] == float(not (n == 2 and k == last))


def test_after_a_trials_end_done_stays_and_all_is_finite() -> None:
    buffer = make_buffer([2, 9])
    batch = SequenceSampler(buffer, 6).windows(torch.tensor([1]), torch.ones(1), source=OFFLINE)
    assert batch.done[:, 0, 0].tolist() == [1.0] * 6
    assert batch.next_observations["state"][:, 0, 0].tolist() == [0.0] * 6
    assert all(torch.isfinite(t).all() for t in (batch.action, batch.reward, batch.mask))


def test_growth_keeps_what_is_stored() -> None:
    buffer = make_buffer([25] * 100)
    state = buffer.observations["state"]
    for number, stored in enumerate(buffer.trials):
        rows = state[stored.start_row : stored.end_row]
        assert rows[:, 0].eq(number).all()
        assert rows[:, 1].tolist() == list(range(26))


def test_new_trials_get_the_largest_priority() -> None:
    buffer = make_buffer([2])
    assert buffer.priority[:3].tolist() == [1, 1, 0]
    buffer.set_priorities(torch.tensor([1]), torch.tensor([7.0]), torch.tensor([True]))
    buffer.add(make_trial(1, num_steps=2))
    assert buffer.priority[:6].tolist() == pytest.approx([1, 7, 0, 7, 7, 0], rel=1e-5)
    assert buffer.scaled[1].item() == pytest.approx(7**0.6, rel=1e-5)


def test_priorities_are_cut_shifted_and_never_revive_a_row() -> None:
    buffer = make_buffer([3])
    rows, errors = torch.tensor([0, 1, 3, 2]), torch.tensor([0.0, 1e9, 5.0, float("nan")])
    buffer.set_priorities(rows, errors, torch.ones(4, dtype=torch.bool))
    assert buffer.priority[:4].tolist() == pytest.approx([1e-6, 1e4, 1e4, 0])
    assert live_rows(buffer) == [0, 1, 2]


def test_a_step_drawn_twice_gets_its_larger_error() -> None:
    buffer = make_buffer([3])
    rows, errors = torch.tensor([1, 1, 1]), torch.tensor([2.0, 5.0, 3.0])
    buffer.set_priorities(rows, errors, torch.ones(3, dtype=torch.bool))
    assert buffer.priority[1].item() == pytest.approx(5.0, rel=1e-5)


def test_priorities_go_back_to_the_half_they_came_from() -> None:
    replay = Replay(make_spec())
    replay.add(make_trial(0, num_steps=4))
    replay.add(make_trial(1, num_steps=4, source=Source.ONLINE))
    batch = Mixture(replay, 2).sample(64, 0.5, generator=torch.Generator().manual_seed(3))
    td_abs = torch.where(batch.source == ONLINE, 50.0, 2.0) + batch.indices
    replay.update_priorities(batch, td_abs)
    assert replay.offline.priority[:5].tolist() == pytest.approx([2, 3, 4, 5, 0], rel=1e-4)
    assert replay.online.priority[:5].tolist() == pytest.approx([50, 51, 52, 53, 0], rel=1e-4)


def test_the_oldest_trials_leave_and_their_rows_are_used_again() -> None:
    buffer = make_buffer([4, 4, 4, 5, 2, 4, 3, 4, 4], capacity_steps=12)
    numbers = [t.trial_id for t in buffer.trials]
    assert numbers == [trial_id_of(n) for n in (6, 7, 8)]
    assert buffer.num_steps == 11 == len(live_rows(buffer))
    taken: set[int] = set()
    for number, stored in zip((6, 7, 8), buffer.trials, strict=True):
        rows = range(stored.start_row, stored.end_row)
        assert not taken & set(rows)
        taken |= set(rows)
        state = buffer.observations["state"][stored.start_row : stored.end_row]
        assert state[:, 0].eq(number).all()
        assert state[:, 1].tolist() == list(range(len(rows)))
    assert max(taken) < 25, "rows that became free were not used again"


def test_a_restored_buffer_draws_as_the_one_it_was_saved_from() -> None:
    lengths = [4, 4, 4, 5, 2, 4, 3]
    first = make_buffer(lengths, capacity_steps=12)
    first.set_priorities(
        torch.tensor(live_rows(first)), torch.arange(1.0, 10.0), torch.ones(9, dtype=torch.bool)
    )
    second = make_buffer([], capacity_steps=12)
    lengths_of = {t.trial_id: t.num_steps for t in first.trials}

    def load(trial_id: str) -> Trial:
        return make_trial(int(trial_id[-4:], 16), num_steps=lengths_of[trial_id])

    second.load_state_dict(first.state_dict(), load)
    for buffer in (first, second):
        buffer.add(make_trial(77, num_steps=5))
    assert first.trials == second.trials
    draws = [
        SequenceSampler(b, 3).sample(32, source=0, generator=torch.Generator().manual_seed(1))
        for b in (first, second)
    ]
    assert torch.equal(draws[0].indices, draws[1].indices)
    assert torch.equal(draws[0].weights, draws[1].weights)
    assert torch.equal(draws[0].next_observations["state"], draws[1].next_observations["state"])


@pytest.mark.parametrize("capacity_steps", [None, 12])
def test_without_replacement_a_restored_buffer_draws_the_same_too(
    capacity_steps: int | None,
) -> None:
    config = ReplayConfig(per_without_replacement=True)
    first, second = (ReplayBuffer(make_spec(), config, capacity_steps=capacity_steps) for _ in "12")
    # With a capacity, the last trial takes the place of a longer one that was at the end.
    for number, length in enumerate([4, 4, 4, 4, 4, 3] if capacity_steps else [4, 4]):
        first.add(make_trial(number, num_steps=length))
    lengths_of = {t.trial_id: t.num_steps for t in first.trials}
    second.load_state_dict(
        first.state_dict(), lambda i: make_trial(int(i[-4:], 16), num_steps=lengths_of[i])
    )
    assert len(first.scaled) > len(second.scaled)
    generators = [torch.Generator().manual_seed(1) for _ in "12"]
    for _ in range(3):
        rows = [draw_rows(b, 3, g)[0] for b, g in zip((first, second), generators, strict=True)]
        assert torch.equal(*rows)
    assert torch.equal(*(g.get_state() for g in generators))


def test_actions_are_kept_within_their_bounds_and_no_closer() -> None:
    trial = make_trial(0, num_steps=4)
    trial.steps["action_executed"][:, 0] = [-1.5, -1.0, 1.0, 1.5]
    buffer = ReplayBuffer(make_spec(), ReplayConfig())
    buffer.add(trial)
    assert buffer.step_column("action", torch.arange(4))[:, 0].tolist() == [-1.0, -1.0, 1.0, 1.0]


def test_a_trial_that_cannot_be_read_any_more_leaves_a_hole_that_is_never_drawn() -> None:
    first = make_buffer([4, 4, 4])
    second = make_buffer([])
    second.load_state_dict(
        first.state_dict(),
        lambda i: None if i == trial_id_of(1) else make_trial(int(i[-4:], 16), num_steps=4),
    )
    assert [t.trial_id for t in second.trials] == [trial_id_of(0), trial_id_of(2)]
    assert live_rows(second) == [0, 1, 2, 3, 10, 11, 12, 13]
    assert second.add(make_trial(5, num_steps=4)).start_row == 5


def test_ranges_cover_every_observation_and_nothing_else() -> None:
    low, high = make_buffer([4, 7, 2]).ranges()["state"]
    assert low.tolist() == [0, 0, 0, 0]
    assert high.tolist() == [2, 7, 0, 0]
    assert "image.front" not in make_buffer([4]).ranges()


def test_only_trainable_trials_of_the_same_spec_enter() -> None:
    replay = Replay(make_spec())
    with pytest.raises(ValueError, match="not one to train on"):
        replay.add(make_trial(0, source=Source.EVAL))
    with pytest.raises(ValueError, match="not one to train on"):
        replay.add(make_trial(0, outcome=Outcome.ABORTED))
    with pytest.raises(SpecMismatch, match="control_hz: 10.0 here, 20.0 there"):
        replay.add(make_trial(0, spec=dataclasses.replace(make_spec(), control_hz=20.0)))
    assert replay.offline.num_steps == replay.online.num_steps == 0


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": -0.1},
        {"beta": -1.0},
        {"epsilon": 0.0},
        {"max_priority": 0.0},
        {"online_capacity_steps": 0},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        ReplayConfig(**change)
