"""The death of either side at any moment loses and doubles no trial."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.trial import Outcome, new_trial_id
from services.ring import RingReader, RingWriter
from services.ring_memory import Ring
from tests.services.assembler import TrialAssembler
from tests.services.ring_bench import SPEC
from tests.services.ring_bench import new_path as _path
from tests.services.ring_processes import make_provenance, observation, write_trial


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["whole", "half", "read", "restart"]), max_size=40))
def test_any_order_of_work_and_death_gives_each_trial_once(script: list[str]) -> None:
    ring = Ring.create(_path(), SPEC, num_trials=2)
    try:
        begun: list[str] = []
        spooled: dict[str, Outcome] = {}
        reader, assembler = RingReader(ring), TrialAssembler()
        writer = RingWriter(ring)

        def read(*, is_committing: bool) -> None:
            for record in reader.poll(0):
                if (trial := assembler.add(record)) is not None:
                    assert spooled.get(trial.trial_id, trial.outcome) is trial.outcome
                    spooled[trial.trial_id] = trial.outcome
            if is_committing:
                reader.commit()

        for act in [*script, *["read"] * (len(script) + 1)]:
            if act in ("whole", "half") and writer.has_room:
                writer.abort_open_trial("died")
                if not writer.has_room:
                    continue
                if act == "whole":
                    begun.append(write_trial(writer, SPEC, len(begun)))
                else:
                    begun.append(new_trial_id())
                    writer.begin(begun[-1], make_provenance(), observation(0))
                    writer = RingWriter(Ring(ring.path))
            elif act == "read":
                read(is_committing=True)
            elif act == "restart":
                read(is_committing=False)
                reader, assembler = RingReader(Ring(ring.path)), TrialAssembler()
        writer.abort_open_trial("died")
        read(is_committing=True)
        assert sorted(spooled) == sorted(begun)
        assert ring.num_begun == len(begun)
        assert ring.num_complete == sum(o is not Outcome.ABORTED for o in spooled.values())
    finally:
        ring.unlink()


def test_kill_9_of_either_side_loses_and_doubles_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("OFFWORLD_TEST_SEED", secrets.randbits(32)))
    print(f"OFFWORLD_TEST_SEED={seed}")  # noqa: T201 (shown when the test fails)
    dice = random.Random(seed)
    ring = Ring.create(_path(), SPEC, num_trials=3)
    told, spool = tmp_path / "told", tmp_path / "spool.sqlite"

    def start(role: str, file: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.services.ring_processes", role, ring.path, file]
        )

    producer, consumer = start("produce", told), start("consume", spool)
    try:
        for _ in range(8):
            _wait_for_progress(ring, dice.randrange(20, 120))
            if dice.random() < 0.5:
                producer.send_signal(signal.SIGKILL)
                assert producer.wait() == -signal.SIGKILL
                producer = start("produce", told)
            else:
                consumer.send_signal(signal.SIGKILL)
                assert consumer.wait() == -signal.SIGKILL
                consumer = start("consume", spool)
        _wait_for_progress(ring, 50)
        producer.kill()
        producer.wait()
        RingWriter(ring).abort_open_trial("the producer died")
        deadline = time.monotonic() + 20
        while not ring.is_drained and time.monotonic() < deadline:
            assert consumer.poll() is None, "the consumer found a trial damaged"
            time.sleep(0.01)
        assert ring.is_drained
    finally:
        for process in (producer, consumer):
            process.kill()
            process.wait()
        assert ring.path.exists(), "a process that merely attached removed the ring"
        ring.unlink()
    with sqlite3.connect(spool) as database:
        rows = dict(database.execute("SELECT id, row FROM t").fetchall())
    database.close()
    outcomes = [json.loads(r)[2] for r in rows.values()]
    assert len(rows) == ring.num_begun
    assert outcomes.count("failure") == ring.num_complete
    assert set(told.read_text().split()) <= {
        trial_id for trial_id, row in rows.items() if json.loads(row)[1:] == [4, "failure"]
    }


def _wait_for_progress(ring: Ring, num_records: int) -> None:
    goal = ring.control.head + num_records
    deadline = time.monotonic() + 20
    while ring.control.head < goal:
        assert time.monotonic() < deadline, "the producer or the consumer stands still"
        time.sleep(0.001)
