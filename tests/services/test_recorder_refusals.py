"""A recorder whose robot or whose name the learner does not take ends, and keeps its trials."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from services.client import ActorIdTaken, LearnerClient
from services.process import CannotStart
from services.records import LoopStatus
from tests.fault_proxy import FaultProxy
from tests.services import recorder_bench
from tests.services.ingress_bench import COUNTS
from tests.services.recorder_bench import RunningRecorder, digests, expected
from tests.services.rig import IngressProcess, identity, wait_until
from tests.wire_data import make_spec

ingress = recorder_bench.ingress


def test_spec_refused_at_the_start_ends_the_recorder(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    running = RunningRecorder(
        tmp_path / "spool", ingress.address, spec=make_spec(task="pick", max_steps=30)
    )
    wait_until(running.is_over)
    assert "task: reach here, pick there" in str(running.error)
    assert "max_steps" in str(running.error)


def test_spec_refused_later_leaves_it_recording(tmp_path: Path) -> None:
    with (
        IngressProcess(tmp_path / "a") as first,
        FaultProxy(first.address) as proxy,
        RunningRecorder(tmp_path / "spool", proxy.address) as running,
    ):
        running.record(1)
        wait_until(lambda: len(running.loop.acked) == 1)
        with IngressProcess(tmp_path / "b", spec=make_spec(task="pick")) as other:
            first.kill()
            proxy.upstream = other.address
            proxy.reset()
            wait_until(lambda: running.loop.links[-1] is False)
            running.record(2)
            wait_until(lambda: running.loop.num_unsent == 1 and running.loop.is_drained)
            assert not running.is_over()


class OtherActor:
    """Another process under the recorder's actor id, which is heard whenever it is told to."""

    def __init__(self, address: str) -> None:
        self.client = LearnerClient(address)
        self.lease_token = 0

    def is_accepted(self) -> bool:
        try:
            self.lease_token = self.client.hello(identity(incarnation="other")).lease_token
        except ActorIdTaken:
            return False
        return True

    def is_heard(self) -> bool:
        self.client.heartbeat(self.lease_token, LoopStatus(), COUNTS)
        return True

    def leave(self) -> None:
        self.client.heartbeat(self.lease_token, LoopStatus(), COUNTS, is_leaving=True)
        self.client.close()


def test_one_that_was_taken_over_ends_and_its_trials_wait_for_the_next(tmp_path: Path) -> None:
    with (
        IngressProcess(tmp_path / "learner", arguments=["--lease-ttl-s", "5"]) as ingress,
        FaultProxy(ingress.address) as proxy,
    ):
        running = RunningRecorder(tmp_path / "spool", proxy.address)
        running.record(1)
        wait_until(lambda: len(running.loop.acked) == 1)
        proxy.cut()
        running.record(2, 3)
        wait_until(lambda: running.loop.is_drained)
        other = OtherActor(ingress.address)
        wait_until(other.is_accepted, what="the lease of the one that was cut off lapses")
        proxy.heal()
        wait_until(lambda: other.is_heard() and running.is_over(), what="the old one ends")
        assert isinstance(running.error, CannotStart)
        assert "arm-1 was taken over by another process" in str(running.error)
        assert f"2 trials are kept in {tmp_path / 'spool'}" in str(running.error)
        assert running.loop.links[-1] is False
        assert digests(ingress) == expected(1)
        other.leave()
        with RunningRecorder(tmp_path / "spool", ingress.address, incarnation="i-2") as again:
            wait_until(lambda: len(again.loop.acked) == 3, what="the rest is delivered")
        assert digests(ingress) == expected(1, 2, 3)


def test_one_whose_id_is_in_use_waits_for_the_lease_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with IngressProcess(tmp_path / "learner", arguments=["--lease-ttl-s", "5"]) as ingress:
        other = OtherActor(ingress.address)
        assert other.is_accepted()
        began = time.monotonic()
        running = RunningRecorder(tmp_path / "spool", ingress.address)
        running.record(1)
        wait_until(lambda: other.is_heard() and running.is_over(), what="it gives up")
        took_s = time.monotonic() - began
        assert "arm-1 is in use" in str(running.error)
        assert f"1 trials are kept in {tmp_path / 'spool'}" in str(running.error)
        assert caplog.text.count("event=actor_id_taken up_to_s=6.0") == 1
        assert took_s > 6.0, "the other one could have been dead"
        assert digests(ingress) == {}
        other.leave()


def test_one_that_died_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with IngressProcess(tmp_path / "learner", arguments=["--lease-ttl-s", "3"]) as ingress:
        dead = OtherActor(ingress.address)
        assert dead.is_accepted()
        with RunningRecorder(tmp_path / "spool", ingress.address) as running:
            running.record(1)
            # However late it asks: the other one has the id then, and dies while it waits.
            wait_until(lambda: dead.is_heard() and "event=actor_id_taken" in caplog.text)
            dead.client.close()
            wait_until(lambda: len(running.loop.acked) == 1)
