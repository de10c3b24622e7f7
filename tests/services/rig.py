"""Real processes and sockets for the tests of the wire; whoever starts one ends it, by its id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import grpc

from protos import codec, learner_pb2_grpc
from protos import learner_pb2 as pb
from protos.trial import RobotSpec, Trial
from services.client import ActorIdentity, LearnerClient
from services.records import LoopStatus, Record, TrialEnd, WeightsMark
from tests.wire_data import make_spec

SPEC = make_spec()
ROOT = Path(__file__).parents[2]


def wait_until(is_true: Callable[[], bool], *, timeout_s: float = 20.0, what: str = "") -> None:
    """Looks again and again; fails when it takes longer than `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or is_true}")
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, whether or not its parent has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class IngressProcess:
    """`python -m services.ingress` on a port of its own.

    Args:
        folder: Gets the store, the spec and the log.
        spec: What actors must agree with.
        arguments: More of the command line.
        environment: Variables added to ours.
    """

    def __init__(
        self,
        folder: Path,
        *,
        spec: RobotSpec = SPEC,
        arguments: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store = folder / "store"
        self.log = folder / "ingress.log"
        (folder / "spec.json").write_text(spec.to_json())
        (folder / "policy.json").write_text('{"kind": "none"}')
        port_file = folder / "port"
        port_file.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "services.ingress"),
            *("--store", str(self.store)),
            *("--spec-json", str(folder / "spec.json")),
            *("--policy-json", str(folder / "policy.json")),
            *("--port-file", str(port_file)),
            *("--parent-pid", str(os.getpid())),
            *("--reserve-mib", "1"),
        ]
        if "--listen" not in arguments:
            command += ["--listen", "127.0.0.1:0"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        try:
            wait_until(
                lambda: port_file.exists() or self.process.poll() is not None,
                timeout_s=30.0,
                what="the ingress serves",
            )
        except BaseException:
            self.kill()
            raise
        self.address = port_file.read_text().strip() if port_file.exists() else ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def log_text(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self, *, timeout_s: float = 15.0) -> int:
        """Asks it to end; returns its exit code."""
        self.process.terminate()
        return self.process.wait(timeout_s)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> IngressProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.kill()


def raw_stub(address: str) -> tuple[grpc.Channel, learner_pb2_grpc.LearnerStub]:
    channel = grpc.insecure_channel(address)
    return channel, learner_pb2_grpc.LearnerStub(channel)


def identity(actor_id: str = "arm-1", incarnation: str = "i-1") -> ActorIdentity:
    return ActorIdentity(actor_id=actor_id, incarnation=incarnation, is_sim=True, spec=SPEC)


def deliver(client: LearnerClient, lease_token: int, trial: Trial) -> pb.CommitTrialReply:
    """Uploads a trial in the plainest way."""
    encoded = codec.encode_trial(trial)
    for chunk in codec.cut_chunks(encoded.payload):
        client.put_chunk(lease_token, trial.trial_id, encoded, chunk)
    return client.commit_trial(lease_token, trial.trial_id, encoded)


class ListLoop:
    """A control loop that is a list: records put in come out of `poll`, `commit` lets them go."""

    def __init__(self) -> None:
        self.loop_status = LoopStatus(state="in_trial")
        self.marks: list[WeightsMark] = []
        self.trained = (0, 0)
        self.has_trainer_failed = False
        self.links: list[bool] = []
        self.rooms: list[bool] = []
        self.acked: dict[str, int] = {}
        self.num_unsent = -1
        self._new: deque[Record] = deque()
        self._polled: list[Record] = []
        self._mutex = threading.Condition()

    def put(self, records: Sequence[Record]) -> None:
        with self._mutex:
            self._new.extend(records)
            self._mutex.notify_all()

    @property
    def is_drained(self) -> bool:
        with self._mutex:
            return not self._new and not self._polled

    def restarted(self) -> ListLoop:
        """The same ring for the next recorder: what was not committed comes again."""
        again = ListLoop()
        again.put([*self._polled, *self._new])
        return again

    def poll(self, timeout_s: float) -> list[Record]:
        with self._mutex:
            self._mutex.wait_for(lambda: bool(self._new), timeout_s)
            records: list[Record] = []
            while self._new:
                records.append(self._new.popleft())
                if isinstance(records[-1], TrialEnd):
                    break
            self._polled += records
            return records

    def commit(self) -> None:
        with self._mutex:
            ends = [i for i, r in enumerate(self._polled) if isinstance(r, TrialEnd)]
            self._polled = self._polled[ends[-1] + 1 :] if ends else self._polled

    def status(self) -> LoopStatus:
        return self.loop_status

    @property
    def weights(self) -> list[int]:
        return [mark.version for mark in self.marks]

    def announce_weights(self, mark: WeightsMark) -> None:
        self.marks.append(mark)

    def announce_room(self, *, has_room: bool) -> None:
        self.rooms.append(has_room)

    def announce_link(self, *, is_up: bool) -> None:
        self.links.append(is_up)

    def announce_acked(self, *, trial_id: str, ledger_seq: int) -> None:
        self.acked[trial_id] = ledger_seq

    def announce_trained(self, *, version: int, ledger_seq: int) -> None:
        self.trained = version, ledger_seq

    def announce_trainer(self, *, has_failed: bool) -> None:
        self.has_trainer_failed = has_failed

    def announce_unsent(self, num_trials: int) -> None:
        self.num_unsent = num_trials
