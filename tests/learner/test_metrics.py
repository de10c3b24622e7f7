"""Means are means, lines are JSON, and TensorBoard shows the same numbers."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from learner.durable import StoreFull
from learner.ledger import TrialRow
from learner.metrics import Metrics
from protos.trial import Outcome, Source
from tests.learner.trials import make_trial


def make_row(number: int, outcome: Outcome, source: Source = Source.ONLINE) -> TrialRow:
    trial = make_trial(number, outcome=outcome, source=source)
    row = TrialRow.from_trial(trial, digest="d", group_sha256="g", committed_unix_ns=1)
    return TrialRow(**{**{k: getattr(row, k) for k in row.__dataclass_fields__}, "ledger_seq": 7})


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_holds_the_means_since_the_one_before(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, is_tensorboard_on=False, unix_ns=lambda: 5)
    for value in (1.0, 2.0, 6.0):
        metrics.add({"q_loss": torch.tensor(value), "v_loss": torch.tensor(2 * value)})
    metrics.add({"other": torch.tensor(4.0)})
    assert metrics.write(30, {"updates_owed": 8}) == {
        "q_loss": 3.0,
        "v_loss": 6.0,
        "other": 4.0,
        "updates_owed": 8,
    }
    metrics.add({"q_loss": torch.tensor(10.0), "v_loss": torch.tensor(0.0)})
    metrics.write(31, {})
    metrics.close()
    start, first, second = lines_of(tmp_path)
    assert start == {"kind": "start", "num_updates": 0, "unix_ns": 5}
    assert first["q_loss"] == 3.0
    assert second == {
        "kind": "updates",
        "num_updates": 31,
        "unix_ns": 5,
        "q_loss": 10.0,
        "v_loss": 0.0,
    }


class FullBoard:
    """A TensorBoard writer whose thread has met a full disk."""

    def __init__(self) -> None:
        self.num_calls = 0

    def add_scalar(self, *_: object) -> None:
        self.num_calls += 1
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_numbers_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(tmp_path, is_tensorboard_on=False)
    disk, board = metrics._file, FullBoard()
    metrics._file = full = Path("/dev/full").open("w", buffering=1, encoding="utf-8")  # noqa: SIM115
    metrics._board = board  # type: ignore[assignment]
    metrics.add({"loss": torch.tensor(1.0)})
    assert metrics.write(1, {}) == {"loss": 1.0}
    metrics.write_trial(make_row(1, Outcome.SUCCESS), 1)
    assert board.num_calls == 1
    assert caplog.text.count("metrics_not_written") == 3
    metrics._file = disk
    metrics.add({"loss": torch.tensor(2.0)})
    metrics.write(2, {})
    metrics.close()
    assert lines_of(tmp_path)[-1]["loss"] == 2.0
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_a_disk_that_is_full_from_the_start_costs_tensorboard_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def make_board(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", make_board)
    metrics = Metrics(tmp_path)
    metrics.add({"loss": torch.tensor(1.0)})
    assert metrics.write(1, {}) == {"loss": 1.0}
    metrics.close()
    assert "metrics_not_written no space left while writing TensorBoard" in caplog.text
    assert [line["kind"] for line in lines_of(tmp_path)] == ["start", "updates"]


def test_without_room_for_the_file_the_disk_is_said_to_be_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_file(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", open_file)
    with pytest.raises(StoreFull, match=r"metrics\.jsonl"):
        Metrics(tmp_path)


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, is_tensorboard_on=False)
    metrics.add({"loss": torch.tensor(float("nan"))})
    metrics.write(1, {"rate": float("inf")})
    metrics.close()
    assert lines_of(tmp_path)[-1]["loss"] is None
    assert lines_of(tmp_path)[-1]["rate"] is None


def test_a_line_cut_short_by_a_kill_spoils_no_other(tmp_path: Path) -> None:
    Metrics(tmp_path, is_tensorboard_on=False).close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "upda')
    metrics = Metrics(tmp_path, num_updates=4, is_tensorboard_on=False)
    metrics.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["num_updates"] == 4
    assert len(lines) == 3


def test_tensorboard_shows_the_same(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.add({"consistency_loss": torch.tensor(0.25)})
    metrics.write(100, {"updates_per_second": 12.5})
    metrics.write_trial(make_row(1, Outcome.SUCCESS), 100)
    metrics.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {
        "consistency_loss",
        "updates_per_second",
        "trials/online_success",
        "trials/online_total_reward",
    }
    (loss,) = events.Scalars("consistency_loss")
    assert (loss.step, loss.value) == (100, 0.25)
    (success,) = events.Scalars("trials/online_success")
    assert (success.step, success.value) == (7, 1.0)


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.FAILURE])
def test_each_trial_is_a_line(tmp_path: Path, outcome: Outcome) -> None:
    metrics = Metrics(tmp_path, is_tensorboard_on=False)
    metrics.write_trial(make_row(1, outcome, Source.EVAL), 40)
    metrics.close()
    line = lines_of(tmp_path)[-1]
    assert line["success"] == float(outcome is Outcome.SUCCESS)
    assert (line["kind"], line["source"], line["ledger_seq"]) == ("trial", "eval", 7)
