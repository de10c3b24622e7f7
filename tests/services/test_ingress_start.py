"""An ingress that starts while another process still has its port or its store."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.services.rig import IngressProcess, wait_until


def once_said(log: Path, words: str, then: Callable[[], None]) -> threading.Thread:
    """Does something when a log says so."""

    def watch() -> None:
        wait_until(lambda: log.exists() and words in log.read_text(), what=words)
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_it_waits_for_a_port_that_becomes_free(tmp_path: Path) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        arguments = ["--listen", address, "--start-wait-s", "30"]
        watch = once_said(tmp_path / "ingress.log", "event=waiting_to_start", other.close)
        with IngressProcess(tmp_path, arguments=arguments) as ingress:
            watch.join()
            assert ingress.address == address
            assert f"reason={address}: Address already in use" in ingress.log_text()


def test_it_waits_for_a_store_that_becomes_free(tmp_path: Path) -> None:
    with IngressProcess(tmp_path / "old") as old:
        arguments = ["--store", str(old.store), "--start-wait-s", "30"]
        log = tmp_path / "new" / "ingress.log"
        watch = once_said(log, "event=waiting_to_start", old.kill)
        with IngressProcess(tmp_path / "new", arguments=arguments) as ingress:
            watch.join()
            assert ingress.address
            assert f"in use by process {old.pid}" in ingress.log_text()


@pytest.mark.parametrize("held", ["port", "store"])
def test_what_stays_taken_is_exit_3_after_the_wait(tmp_path: Path, held: str) -> None:
    with IngressProcess(tmp_path / "old") as old:
        ours = {
            "port": (["--listen", old.address], f"cannot listen on {old.address}: Address already"),
            "store": (["--store", str(old.store)], f"in use by process {old.pid}"),
        }
        arguments, reason = ours[held]
        arguments += ["--start-wait-s", "3"]
        with IngressProcess(tmp_path / "new", arguments=arguments) as ingress:
            assert ingress.process.wait(20) == 3
            text = ingress.log_text()
        assert re.search(r"event=waiting_to_start up_to_s=[0-3]\.", text)
        assert reason in text.partition("event=cannot_start")[2]
        assert text.count("event=waiting_to_start") == 1


def test_an_address_that_is_not_ours_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    arguments = ["--listen", "192.0.2.1:7443", "--start-wait-s", "600"]
    with IngressProcess(tmp_path, arguments=arguments) as ingress:
        assert ingress.process.wait(10) == 3
        assert "Cannot assign requested address" in ingress.log_text()
    assert time.monotonic() - began < 30
