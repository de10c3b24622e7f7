"""A process is kept whatever becomes of the file with its id."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from services.kept_process import KeptProcess

WAITING = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_pid_file_that_cannot_be_written_does_not_stop_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    kept = KeptProcess("idler", WAITING, folder=tmp_path / "absent")
    try:
        assert kept.keep() is None
        assert kept.is_alive()
        assert "event=pid_file_not_written" in caplog.text
    finally:
        kept.kill()
    assert not kept.is_alive()


def test_its_id_is_in_the_file_while_it_runs(tmp_path: Path) -> None:
    kept = KeptProcess("idler", WAITING, folder=tmp_path)
    try:
        kept.keep()
        pid = int((tmp_path / "idler.pid").read_text())
        assert Path(f"/proc/{pid}").exists()
    finally:
        kept.kill()
    assert not (tmp_path / "idler.pid").exists()


def test_a_pid_file_that_cannot_be_removed_does_not_keep_it_from_being_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptProcess("idler", WAITING, folder=tmp_path)
    kept.keep()

    def refused(_path: Path, *, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system", missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    kept.kill()
    assert not kept.is_alive()
    assert "event=pid_file_not_removed" in caplog.text
