"""A recorder on a thread of the test, a learner for it, and what that one holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.store import TrialStore
from protos.trial import RobotSpec
from services.credentials import ClientSecurity
from services.process import CannotStart
from services.recorder import Recorder, RecorderConfig
from services.spool import SpoolConfig
from tests.services.rig import SPEC, IngressProcess, ListLoop
from tests.services.test_spool import records_of
from tests.wire_data import make_trial, trial_id_of


class RunningRecorder:
    """A recorder on a thread of the test."""

    def __init__(
        self,
        spool: Path,
        address: str,
        *,
        loop: ListLoop | None = None,
        spec: RobotSpec = SPEC,
        reserve_bytes: int = 0,
        incarnation: str = "i-1",
        security: ClientSecurity | None = None,
    ) -> None:
        self.loop = loop or ListLoop()
        config = RecorderConfig(
            learner=address,
            security=security or ClientSecurity(),
            actor_id="arm-1",
            incarnation=incarnation,
            is_sim=True,
            spool=SpoolConfig(root=spool, reserve_bytes=reserve_bytes),
        )
        self.recorder = Recorder(config, spec, self.loop)
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.recorder.run(self._stop)
        except CannotStart as error:
            self.error = error

    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20.0)
        assert self.is_over()

    def record(self, *seeds: int) -> list[str]:
        for seed in seeds:
            self.loop.put(records_of(seed))
        return [trial_id_of(seed) for seed in seeds]

    def __enter__(self) -> RunningRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture
def ingress(tmp_path: Path) -> Iterator[IngressProcess]:
    with IngressProcess(tmp_path / "learner") as process:
        yield process


def digests(ingress: IngressProcess) -> dict[str, str]:
    store = TrialStore.open(ingress.store, read_only=True)
    found = {row.trial_id: store.load(row.trial_id).digest() for row in store.ledger.since(0)}
    store.close()
    return found


def expected(*seeds: int) -> dict[str, str]:
    return {trial_id_of(seed): make_trial(SPEC, seed).digest() for seed in seeds}
