"""A rate is told only of one version of the weights, at every position, as the trials say."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from protos.trial import Source
from services import cli
from services.commands import evaluate
from services.process import ExitCode
from services.trial_log import TrialLine
from tests.services.trials import make_trial


def line(position: int, version: int = 2, **change: Any) -> TrialLine:
    trial = make_trial(
        actor="eval",
        source=Source.EVAL,
        position_index=position,
        is_success=position == 0,
        weights_version=version,
        seed=position,
    )
    return dataclasses.replace(TrialLine.from_trial(trial, 10 + position), **change)


class LearnerThatOffersOne:
    def __init__(self, *_: object) -> None: ...

    def status(self) -> Any:
        return SimpleNamespace(latest_weights=SimpleNamespace(version=1), ledger_seq=9)

    def close(self) -> None: ...


def run_eval(monkeypatch: pytest.MonkeyPatch, lines: list[TrialLine], *flags: str) -> int:
    """Evaluates two positions with an actor that ends at once and has left `lines`."""

    def committed(_learner: str, after: int, _security: object) -> Iterator[TrialLine]:
        return iter([x for x in lines if x.ledger_seq > after])

    monkeypatch.setattr(evaluate, "LearnerClient", LearnerThatOffersOne)
    monkeypatch.setattr(evaluate, "committed_trials", committed)
    monkeypatch.setattr(evaluate, "offworld", lambda *_: [sys.executable, "-c", ""])
    return cli.main(["eval", "--num-positions", "2", *flags])


def test_the_version_is_the_one_that_ran(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [line(1, 1, actor="arm-1"), line(1, 1, outcome="aborted"), line(0, 1, ledger_seq=9)]
    assert run_eval(monkeypatch, [line(0), line(1), *others], "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["weights_version"] == 2
    assert (told["successes"], told["trials"]) == (1, 2)


@pytest.mark.parametrize(
    ("lines", "flags", "words"),
    [
        ([line(0)], [], "one trial at each of 2 positions"),
        ([], [], "has 0, at []"),
        ([line(0), line(1), line(1)], [], "has 3, at [0, 1, 1]"),
        ([line(0), line(0)], [], "has 2, at [0, 0]"),
        ([line(0), line(1, 3)], [], "expected weights of one version, the trials ran with v2, v3"),
        ([line(0), line(1)], ["--weights", "1"], "expected weights v1, the trials ran with v2"),
    ],
)
def test_what_is_no_evaluation_of_one_version_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: list[TrialLine],
    flags: list[str],
    words: str,
) -> None:
    assert run_eval(monkeypatch, lines, *flags) == ExitCode.CRASHED
    told = capsys.readouterr()
    assert "weights v" not in told.out
    assert words in told.err
