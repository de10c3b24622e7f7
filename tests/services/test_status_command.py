"""What `offworld status` says of the trainer."""

from __future__ import annotations

import json

import pytest

from protos import learner_pb2 as pb
from services.commands.status import StatusFlags, show


@pytest.mark.parametrize(
    ("state", "waiting_for", "told"),
    [
        ("", "", "has not reported yet"),
        ("finetuning", "", "finetuning, told 2 s ago"),
        (
            "waiting",
            "offline trials, 0 of 1 are there",
            "waiting: offline trials, 0 of 1 are there, told 2 s ago",
        ),
        ("waiting", "", "waiting, told 2 s ago"),
        ("failed", "CUDA out of memory", "failed: CUDA out of memory, told 2 s ago"),
    ],
)
def test_the_trainer_s_reason_is_said(
    state: str, waiting_for: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = pb.TrainerStatus(state=state, waiting_for=waiting_for, status_age_s=2.0)
    reply = pb.StatusReply(task="reach", trainer=trainer)
    show(reply, StatusFlags())
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("trainer ")]
    assert line.removeprefix("trainer").strip() == told
    show(reply, StatusFlags(json=True))
    assert json.loads(capsys.readouterr().out)["trainer"]["waiting_for"] == waiting_for
