"""`offworld trials` and `offworld data` on a store with a few trials."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.store import TrialStore
from protos.trial import Source, Trial
from services import cli, console, spool_audit
from services.children import offworld
from services.client import LearnerClient
from services.commands.trials_watch import Board
from services.process import ExitCode
from services.spool import Spool, SpoolConfig
from services.trial_feed import Gap, LiveStep, follow_store
from services.trial_log import TrialLine
from tests.services.rig import SPEC, IngressProcess, deliver, identity, wait_until
from tests.services.test_spool import records_of
from tests.services.trials import make_trial
from tests.wire_data import make_trial as wire_trial

HOSTILE = "\x1b[2J[bold]owned[/bold]"


@pytest.fixture
def trials() -> list[Trial]:
    return [
        make_trial(source=Source.OFFLINE, is_success=False, weights_version=0, seed=1),
        make_trial(actor="sim", note=HOSTILE, seed=2),
        make_trial(source=Source.EVAL, position_index=7, seed=3),
    ]


@pytest.fixture
def root(tmp_path: Path, trials: list[Trial]) -> Path:
    store = TrialStore.open(tmp_path / "store")
    for trial in trials:
        store.commit(trial)
    store.close()
    return store.root


def test_list_prints_one_line_a_trial(
    root: Path, trials: list[Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["trials", "list", "--store", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == [t.trial_id for t in trials]
    assert lines[2].split() == [
        *("2", trials[1].trial_id, "online", "sim", "v3", "4", "1", "success", "-")
    ]


@pytest.mark.parametrize(
    ("flags", "numbers"),
    [
        (["--source", "eval"], [3]),
        (["--outcome", "success"], [2, 3]),
        (["--last", "1"], [3]),
        (["--last", "99"], [1, 2, 3]),
        (["--source", "online", "--outcome", "failure"], []),
    ],
)
def test_list_chooses(
    root: Path, flags: list[str], numbers: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["trials", "list", "--store", str(root), "--json", *flags]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ledger_seq"] for line in found] == numbers


def test_show_tells_when_everything_happened(
    root: Path, trials: list[Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["trials", "show", trials[1].trial_id, "--store", str(root)]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert next(row[:10] for row in rows if row[:2] == ["0", "0.0"]) == [
        "0",
        "0.0",
        "2.0",
        "22.0",
        "23.0",
        "0.500",
        "0.125",
        "v3",
        "0",
        "none",
    ]
    assert next(row[:5] for row in rows if row[:2] == ["3", "300.0"]) == [
        "3",
        "300.0",
        "302.0",
        "322.0",
        "323.0",
    ]
    assert trials[1].digest() in out
    assert "\x1b" not in out
    assert "[bold]owned[/bold]" in out


def test_show_as_json_holds_the_whole_story(
    root: Path, trials: list[Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    part = trials[0].trial_id[-12:]
    assert cli.main(["trials", "show", part, "--store", str(root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["header"] == json.loads(json.dumps(trials[0].header()))
    assert [s["value"] for s in told["steps"]] == [None] * 4
    assert told["steps"][3]["is_truncated"] is True
    assert told["steps"][2]["commanded_ms"] == pytest.approx(223.0)


@pytest.mark.parametrize(("text", "words"), [("01", "several"), ("zzz", "no committed trial")])
def test_show_needs_one_trial(
    root: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["trials", "show", text, "--store", str(root)]) == ExitCode.BAD_DATA
    assert words in capsys.readouterr().err


def test_verify_and_fsck_are_content_with_a_sound_store(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["trials", "verify", "--store", str(root)]) == 0
    assert "3 trials, 0 in quarantine, 0 problems" in capsys.readouterr().out
    assert cli.main(["data", "fsck", "--store", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"num_trials": 3, "problems": []}


def test_one_flipped_bit_is_found_and_named(
    root: Path, trials: list[Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    group = root / "online.zarr" / "trials" / trials[1].trial_id
    chunk = max((p for p in group.rglob("*") if p.is_file()), key=os.path.getsize)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    assert cli.main(["data", "fsck", "--store", str(root), "--json"]) == ExitCode.BAD_DATA
    told = json.loads(capsys.readouterr().out)
    assert [p["where"] for p in told["problems"]] == [trials[1].trial_id]
    assert cli.main(["trials", "verify", "--store", str(root)]) == ExitCode.BAD_DATA
    assert trials[1].trial_id in capsys.readouterr().out


def test_stats_count_by_source(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "stats", "--store", str(root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["num_trials"] == {"offline": 1, "online": 1, "eval": 1}
    assert told["num_success"] == {"offline": 0, "online": 1, "eval": 1}
    assert told["num_steps"] == 12
    assert cli.main(["data", "stats", "--store", str(root)]) == 0
    assert "online" in capsys.readouterr().out


def test_watch_tells_what_is_there_and_goes_on_after_a_number(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["trials", "watch", "--store", str(root), "--no-follow"]
    assert cli.main([*words, "--json", "--after", "1"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(e["event"], e["ledger_seq"]) for e in told] == [("trial", 2), ("trial", 3)]
    assert cli.main(words) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_live_table_shows_trials_rates_and_what_happens_now(
    trials: list[Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    board = Board()
    for number, trial in enumerate(trials, start=1):
        board.take(TrialLine.from_trial(trial, number))
    board.take(
        LiveStep(
            kind="step",
            actor="arm-1",
            trial_id=HOSTILE,
            step=4,
            reward=1.0,
            value=0.5,
            uncertainty=0.25,
            weights_version=3,
            is_late=True,
            text="",
        )
    )
    board.take(Gap(num_events=7))
    console.stdout().print(board.draw())
    out = capsys.readouterr().out
    assert "success of the newest, online: 100% (1 of 1" in out
    assert "success of the newest, offline: 0% (0 of 1" in out
    assert "step 4  reward 1  value 0.50  uncertainty 0.25  v3  late" in out
    assert "7 live events were missed" in out
    assert "\x1b" not in out
    board.take(TrialLine.from_trial(make_trial(actor="arm-1", seed=4), 4))
    console.stdout().print(board.draw())
    assert "now: arm-1" not in capsys.readouterr().out


def test_following_a_store_waits_for_the_next_trial(root: Path) -> None:
    later = make_trial(seed=9)

    def commit_meanwhile(_seconds: float) -> None:
        store = TrialStore.open(root)
        store.commit(later)
        store.close()

    events = follow_store(root, 3, is_following=True, sleep_s=commit_meanwhile)
    event = next(events)
    assert isinstance(event, TrialLine)
    assert event.trial_id == later.trial_id


@pytest.fixture
def delivered(tmp_path: Path) -> Iterator[tuple[Path, Spool]]:
    """A store and a spool: the first trial was delivered, the second waits, a third is open."""
    spool = Spool(SpoolConfig(root=tmp_path / "spool", reserve_bytes=0))
    spool.add(records_of(1, number=1))
    spool.add(records_of(2, number=2))
    spool.add(records_of(3, number=3)[:-1])
    store = TrialStore.open(tmp_path / "store")
    first = spool.load(spool.ready()[0])
    spool.mark_acked(first.trial_id, store.commit(first).ledger_seq)
    store.close()
    yield store.root, spool
    spool.close()


def test_verify_counts_a_spool_while_its_recorder_has_it(
    delivered: tuple[Path, Spool], capsys: pytest.CaptureFixture[str]
) -> None:
    root, spool = delivered
    words = ["trials", "verify", "--store", str(root), "--spool", str(spool.config.root)]
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["spool"] == {"open": 1, "ready": 1, "acked": 1, "rejected": 0}
    assert told["problems"] == []


def test_a_trial_that_is_delivered_while_the_spool_is_read_is_no_problem(
    delivered: tuple[Path, Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, spool = delivered
    real_read = spool_audit.read_spool

    def read_and_then_deliver(folder: Path) -> Iterator[spool_audit.SpoolTrial]:
        found = list(real_read(folder))
        spool.add(records_of(3, number=3)[-1:])
        store = TrialStore.open(root)
        for trial_id in spool.ready():
            store.commit(spool.load(trial_id))
        store.close()
        yield from found

    monkeypatch.setattr(spool_audit, "read_spool", read_and_then_deliver)
    store = TrialStore.open(root, read_only=True)
    report = spool_audit.compare(spool.config.root, store.ledger)
    assert report.counts["open"] == 1
    assert report.problems == ()
    assert len(store.ledger.since(0)) == 3
    store.close()


def test_a_trial_that_is_in_the_ledger_and_still_open_is_a_problem(
    delivered: tuple[Path, Spool],
) -> None:
    root, spool = delivered
    with sqlite3.connect(spool.config.root / "spool.sqlite") as connection:
        connection.execute("UPDATE trials SET state = 'open' WHERE state = 'acked'")
    connection.close()
    store = TrialStore.open(root, read_only=True)
    (problem,) = spool_audit.compare(spool.config.root, store.ledger).problems
    store.close()
    assert "still open" in problem.what


def test_a_damaged_row_of_the_ledger_is_named_and_the_rest_is_compared(
    delivered: tuple[Path, Spool], capsys: pytest.CaptureFixture[str]
) -> None:
    root, spool = delivered
    with sqlite3.connect(root / "ledger.sqlite") as connection:
        connection.execute("UPDATE trials SET num_steps = num_steps + 1")
    connection.close()
    words = ["trials", "verify", "--store", str(root), "--spool", str(spool.config.root)]
    assert cli.main([*words, "--json"]) == ExitCode.BAD_DATA
    told = json.loads(capsys.readouterr().out)
    assert [problem["what"].split(",")[0] for problem in told["problems"]] == [
        "row 1",
        "its row in the ledger is not what was written",
    ]
    assert told["spool"]["ready"] == 1
    assert cli.main(["data", "fsck", "--store", str(root)]) == ExitCode.BAD_DATA
    assert "restore ledger.sqlite from a backup" in capsys.readouterr().out


def test_an_acknowledged_trial_that_the_ledger_lacks_is_a_lost_one(
    delivered: tuple[Path, Spool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, spool = delivered
    TrialStore.open(tmp_path / "other").close()
    words = ["--store", str(tmp_path / "other"), "--spool", str(spool.config.root)]
    assert cli.main(["trials", "verify", *words]) == ExitCode.BAD_DATA
    assert "lost" in capsys.readouterr().out


def test_a_damaged_row_of_a_spool_is_found(delivered: tuple[Path, Spool]) -> None:
    root, spool = delivered
    with sqlite3.connect(spool.config.root / "spool.sqlite") as connection:
        connection.execute("UPDATE rows SET step = zeroblob(length(step)) WHERE t = 2")
    connection.close()
    store = TrialStore.open(root, read_only=True)
    report = spool_audit.compare(spool.config.root, store.ledger)
    store.close()
    assert len(report.problems) == 2  # the delivered one and the waiting one
    assert "damaged" in report.problems[0].what


def test_a_learner_lists_and_streams_its_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with IngressProcess(tmp_path) as ingress:
        client = LearnerClient(ingress.address)
        token = client.hello(identity()).lease_token
        sent = [wire_trial(SPEC, i) for i in range(2)]
        for trial in sent:
            deliver(client, token, trial)
        wait_until(lambda: client.status().num_trials == len(sent), what="the trials are counted")
        client.close()
        where = ["--learner", ingress.address, "--json"]
        assert cli.main(["trials", "list", *where]) == 0
        listed = [json.loads(x)["trial_id"] for x in capsys.readouterr().out.splitlines()]
        assert cli.main(["trials", "watch", "--no-follow", *where]) == 0
        watched = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
        assert cli.main(["status", *where]) == 0
        status = json.loads(capsys.readouterr().out)
        assert cli.main(["status", "--learner", ingress.address]) == 0
        assert "arm-1 (simulated)" in capsys.readouterr().out
    assert listed == [t.trial_id for t in sent]
    assert [e["trial_id"] for e in watched if e["event"] == "trial"] == listed
    assert status["actors"][0]["actor_id"] == "arm-1"
    assert status["num_trials"] == 2
    assert status["trainer"]["state"] == ""


def test_store_and_learner_exclude_each_other(root: Path) -> None:
    words = ["trials", "list", "--store", str(root), "--learner", "127.0.0.1:1"]
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2


def test_the_command_line_of_a_child_runs_this_installation() -> None:
    assert offworld("trials", "list")[1:] == ["-m", "services.cli", "trials", "list"]
