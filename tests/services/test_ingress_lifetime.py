"""An ingress that cannot serve exits with 3, and one that is asked to ends with 0 at once."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from services.client import LearnerClient, LearnerUnavailable
from tests.services import ingress_bench
from tests.services.rig import ROOT, SPEC, IngressProcess, deliver, identity, is_gone, wait_until
from tests.wire_data import make_trial

ingress = ingress_bench.ingress


def test_sigterm_ends_it_with_0_while_callers_wait(tmp_path: Path) -> None:
    with IngressProcess(tmp_path) as ingress:
        client = LearnerClient(ingress.address)
        deliver(client, client.hello(identity()).lease_token, make_trial(SPEC, 1))
        stop = threading.Event()
        tail = client.tail_log(is_following=True, stop=stop)
        assert next(tail).trial.ledger_seq == 1  # from here on it waits at the learner
        poll = threading.Thread(target=_wait_for_weights, args=(client,))
        poll.start()
        began = time.monotonic()
        assert ingress.stop() == 0
        assert time.monotonic() - began < 7.5  # it has not waited for them, which is 8 s
        stop.set()
        assert list(tail) == []
        client.close()
        poll.join(10.0)
        assert not poll.is_alive()


def _wait_for_weights(client: LearnerClient) -> None:
    with contextlib.suppress(LearnerUnavailable):  # or sent home with nothing
        client.weights_manifest(0, 25.0)


def test_port_in_use_is_exit_3(ingress: IngressProcess, tmp_path: Path) -> None:
    with IngressProcess(tmp_path, arguments=["--listen", ingress.address]) as second:
        assert second.process.wait(20) == 3
        assert f"cannot listen on {ingress.address}" in second.log_text()


def test_store_in_use_is_exit_3(ingress: IngressProcess, tmp_path: Path) -> None:
    with IngressProcess(tmp_path, arguments=["--store", str(ingress.store)]) as second:
        assert second.process.wait(20) == 3
        assert "in use by process" in second.log_text()


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1", "127.0.0.1:http", "192.0.2.1:0"])
def test_address_that_is_none_is_exit_3(tmp_path: Path, listen: str) -> None:
    with IngressProcess(tmp_path, arguments=["--listen", listen]) as process:
        assert process.process.wait(20) == 3
        assert f"cannot listen on {listen!r}".replace("'", "") in process.log_text().replace(
            "'", ""
        )


def test_store_of_another_version_is_exit_3_and_left_alone(tmp_path: Path) -> None:
    with IngressProcess(tmp_path) as first:
        assert first.stop() == 0
    with sqlite3.connect(first.store / "ledger.sqlite") as ledger:
        ledger.execute("PRAGMA user_version = 99")
    ledger.close()
    with IngressProcess(tmp_path) as second:
        assert second.process.wait(20) == 3
        assert "99" in second.log_text()


PARENT = """
import sys, time
from pathlib import Path
from tests.services.rig import IngressProcess

process = IngressProcess(Path(sys.argv[1]))
print(process.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: is_gone(pid))
    assert "event=stopped" in (tmp_path / "ingress.log").read_text()


def test_address_beyond_this_machine_is_said_to_be_open(tmp_path: Path) -> None:
    with IngressProcess(tmp_path, arguments=["--listen", "0.0.0.0:0"]) as process:
        assert process.stop() == 0
        assert "event=open_to_network" in process.log_text()


def test_run_keeps_its_name_over_restarts(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        with IngressProcess(tmp_path) as ingress:
            client = LearnerClient(ingress.address)
            names.append(client.hello(identity()).run_id)
            client.close()
            assert ingress.stop() == 0
    assert names[0] == names[1]
    assert names[0]
