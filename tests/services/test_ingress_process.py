"""The ingress is kept alive on one port; what cannot start is not tried for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from services.credentials import ServerSecurity
from services.ingress_process import IngressProcess, ingress_command
from services.process import CannotStart
from tests.services.rig import is_gone, wait_until

# Says where it listens, as the real one does, and waits.
SERVING = """
import os, signal, sys, time
listen, port_file, history = sys.argv[1:]
with open(history, "a") as file:
    file.write(listen + "\\n")
address = listen.replace(":0", ":4321")
with open(port_file + ".new", "w") as file:
    file.write(address)
os.replace(port_file + ".new", port_file)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(0.01)
"""


class Rig:
    def __init__(self, folder: Path, code: str) -> None:
        self.failures: list[CannotStart] = []
        self.history = folder / "history"
        self.process = IngressProcess(
            lambda listen: [
                *(sys.executable, "-c", code),
                *(listen, str(folder / "address"), str(self.history)),
            ],
            listen="127.0.0.1:0",
            port_file=folder / "address",
            on_failure=self.failures.append,
        )
        self._pid_file = folder / "ingress.pid"
        self._last_pid: int | None = None

    def pid(self) -> int:
        """Returns the id of the process that runs, once it is not the one it was before."""
        last = self._last_pid

        def is_another() -> bool:
            with contextlib.suppress(FileNotFoundError, ValueError):
                self._last_pid = int(self._pid_file.read_text())
                return self._last_pid != last and not is_gone(self._last_pid)
            return False

        wait_until(is_another, what="another process runs")
        assert self._last_pid is not None
        return self._last_pid

    def starts(self) -> list[str]:
        return self.history.read_text().split() if self.history.exists() else []


def test_it_comes_back_on_the_port_it_had(tmp_path: Path) -> None:
    rig = Rig(tmp_path, SERVING)
    rig.process.start()
    try:
        wait_until(lambda: rig.process.address == "127.0.0.1:4321")
        for number in (2, 3):
            os.kill(rig.pid(), signal.SIGKILL)
            wait_until(lambda n=number: len(rig.starts()) == n, what="it was started again")
    finally:
        rig.process.stop()
    assert rig.starts() == ["127.0.0.1:0", "127.0.0.1:4321", "127.0.0.1:4321"]
    assert rig.failures == []
    assert rig.process.address is None


# As the one above; when asked to end, writes down which threads its owner has.
ENDING = """
import os, signal, sys, time
listen, port_file, history = sys.argv[1:]
def end(*_):
    with open(history, "a") as file:
        file.write(" ".join(os.listdir(f"/proc/{os.getppid()}/task")))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
with open(port_file + ".new", "w") as file:
    file.write(listen)
os.replace(port_file + ".new", port_file)
while True:
    time.sleep(0.01)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="signals of a thread's end are Linux's")
def test_the_thread_that_started_it_outlives_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ENDING)
    rig.process.start()
    wait_until(lambda: rig.process.address is not None)
    starter = str(rig.process._thread.native_id)
    rig.process.stop()
    assert starter in rig.starts()


def test_one_that_cannot_start_is_reported_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "import sys; open(sys.argv[3], 'a').write('x '); sys.exit(3)")
    rig.process.start()
    wait_until(lambda: bool(rig.failures))
    rig.process.stop()
    assert rig.starts() == ["x"]
    assert "cannot start" in str(rig.failures[0])


def test_one_that_crashes_before_it_served_is_tried_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "import sys; open(sys.argv[3], 'a').write('x '); sys.exit(1)")
    rig.process.start()
    wait_until(lambda: len(rig.starts()) >= 2)
    rig.process.stop()
    assert rig.failures == []


# Serves at its first start; at the next two it finds its port taken, then serves again.
HEALING = SERVING.replace(
    "address =",
    """
num_starts = len(open(history).read().split())
if num_starts % 3 != 1:
    sys.exit(3)
address =""",
)


def test_one_that_cannot_start_again_gets_a_few_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kept_process._LONGEST_PAUSE_S", 0.2)
    rig = Rig(tmp_path, HEALING)
    rig.process.start()
    try:
        for number in (1, 4, 7):
            wait_until(lambda n=number: len(rig.starts()) == n, what="it serves again")
            wait_until(lambda: rig.process.address == "127.0.0.1:4321")
            os.kill(rig.pid(), signal.SIGKILL)
        wait_until(lambda: len(rig.starts()) == 10, what="it was started again")
    finally:
        rig.process.stop()
    assert rig.failures == []


def test_one_that_can_never_start_again_is_reported_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, HEALING.replace("num_starts % 3 != 1", "num_starts > 1"))
    rig.process.start()
    try:
        wait_until(lambda: rig.process.address is not None)
        os.kill(rig.pid(), signal.SIGKILL)
        wait_until(lambda: bool(rig.failures), what="the failure is reported")
        wait_until(lambda: not rig.process._thread.is_alive(), what="nobody starts it any more")
    finally:
        rig.process.stop()
    assert len(rig.starts()) == 4
    (failure,) = rig.failures
    assert "cannot start again at 127.0.0.1:4321, 3 times in a row" in str(failure)


def test_a_stop_before_the_start_starts_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, SERVING)
    (tmp_path / "address").write_text("127.0.0.1:1")  # of a learner that was killed
    rig.process.stop()
    assert not rig.process._thread.is_alive()
    assert list(tmp_path.iterdir()) == []
    rig.process.start()
    rig.process.stop()
    assert rig.starts() == []
    assert list(tmp_path.iterdir()) == []
    assert rig.failures == []


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:7443"])
def test_the_command_line_names_what_the_ingress_needs(tmp_path: Path, listen: str) -> None:
    make = ingress_command(
        store=tmp_path,
        lease_ttl_s=2.0,
        reserve_mib=3,
        max_trial_mib=4,
        port_file=tmp_path / "run" / "address",
        start_wait_s=5.0,
        security=ServerSecurity(token_file=tmp_path / "token"),
    )
    words = make(listen)
    pairs = dict(zip(words[3::2], words[4::2], strict=True))
    assert pairs["--listen"] == listen
    assert pairs["--store"] == str(tmp_path)
    assert pairs["--reserve-mib"] == "3"
    assert pairs["--start-wait-s"] == "5.0"
    assert pairs["--token-file"] == str(tmp_path / "token")
    assert "--tls-cert" not in pairs
    assert pairs["--parent-pid"] == str(os.getpid())
