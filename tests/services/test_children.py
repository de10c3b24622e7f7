"""Programs started by a program: none outlives its owner, and all their memory is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.children import Child, MemoryWatch, descendants, memory_bytes
from tests.services.rig import ROOT, is_gone, wait_until

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PARENT_OF_ONE = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
    "start_new_session=True)\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n"
)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def test_what_it_prints_goes_into_its_log_and_its_code_is_known(tmp_path: Path) -> None:
    code = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"
    with Child("talker", python(code), log=tmp_path / "log") as child:
        assert child.wait(30) == 3
        assert child.exit_code == 3
        assert child.log_tail(1) in {"one", "two"}
        assert sorted(child.log_tail().splitlines()) == ["one", "two"]


def test_it_is_asked_to_stop_first(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    child = Child("polite", python(code), log=tmp_path / "log")
    wait_until(lambda: "ready" in child.log_tail())
    assert child.stop() == 0


@linux
def test_stopping_leaves_no_grandchild_even_in_a_session_of_its_own(tmp_path: Path) -> None:
    with Child("parent", python(PARENT_OF_ONE), log=tmp_path / "log") as child:
        wait_until(lambda: child.log_tail().isdigit())
        grandchild = int(child.log_tail())
        assert grandchild in descendants(os.getpid())
        assert not is_gone(grandchild)
    assert is_gone(grandchild)


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    child = Child("deaf", python(code), log=tmp_path / "log")
    wait_until(lambda: "ready" in child.log_tail())
    assert child.wait(0.0) is None
    assert child.stop(timeout_s=0.2) == -signal.SIGKILL


@linux
def test_a_child_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom services.children import Child\n"
        "child = Child('c', [sys.executable, '-c', 'import time; time.sleep(600)'], "
        "log=Path(sys.argv[1]))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        python(code, str(tmp_path / "log")), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        command = Path(f"/proc/{pid}/cmdline")
        wait_until(lambda: b"services.children" not in command.read_bytes(), what="it became it")
        owner.kill()
    wait_until(lambda: is_gone(pid))


@linux
def test_the_memory_of_children_counts(tmp_path: Path) -> None:
    before = memory_bytes(os.getpid())
    assert before[0] >= before[1] > 0
    code = "import time; block = b'x' * (200 << 20); print('ready', flush=True); time.sleep(600)"
    with (
        Child("big", python(code), log=tmp_path / "log") as child,
        MemoryWatch(period_s=0.05) as watch,
    ):
        wait_until(lambda: "ready" in child.log_tail())
        wait_until(lambda: watch.peak_bytes > 200 << 20, what="the block is seen")
    assert watch.peak_resident_bytes >= watch.peak_bytes
    assert memory_bytes(2**22 + 1) == (0, 0)
