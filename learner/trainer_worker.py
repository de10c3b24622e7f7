"""The process that trains: builds the trainer from its job, drives it, logs beside the store."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
import threading
import time
from pathlib import Path

from learner.durable import StoreFull, StoreLocked, write_file
from learner.status import note_failure
from learner.trainer_config import TrainerJob

logger = logging.getLogger(__name__)

LOCK_WAIT_S = 30.0
"""How long a new worker waits for a dying one to let go of the store."""
RETRY_FULL_DISK_S = 5.0
LOG_BYTES = 4 << 20


class TrainerWorker:
    """Runs in the worker process: builds the trainer from its job and drives it.

    Args:
        job: Text of a `TrainerJob`.
    """

    def __init__(self, job: str) -> None:
        self._job = TrainerJob.from_json(job)
        self._stop = threading.Event()

    def run(self) -> None:
        """Trains, from the newest checkpoint on, until `stop`; raises what ended it otherwise."""
        logs = Path(self._job.store) / "logs"
        handler = _log_to(logs / "trainer.log")
        try:
            self._run()
        except StoreLocked:
            logger.exception("trainer_ended")
            raise  # the status is another trainer's
        except Exception as error:
            logger.exception("trainer_ended")
            note_failure(logs / "trainer_status.json", f"{type(error).__name__}: {error}")
            raise
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()

    def stop(self) -> None:
        """Asks `run` to finish its update, save and return."""
        self._stop.set()

    def _run(self) -> None:
        import torch

        from learner.training import build_trainer

        if self._job.trainer.num_threads is None:
            # Ray tells OpenMP to use one; the machine is the trainer's.
            torch.set_num_threads(_num_cpus())
        pid_file = Path(self._job.store) / "run" / "trainer.pid"
        with contextlib.suppress(StoreFull):
            write_file(pid_file, f"{os.getpid()}\n".encode(), is_durable=False)
        deadline_s = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                trainer = build_trainer(self._job)
                break
            except StoreLocked:
                if time.monotonic() > deadline_s or self._stop.wait(0.2):
                    raise
            except StoreFull as error:
                logger.warning("store_full %s", error)
                if self._stop.wait(RETRY_FULL_DISK_S):
                    pid_file.unlink(missing_ok=True)
                    return
        trainer.run(self._stop.is_set)
        pid_file.unlink(missing_ok=True)


def _num_cpus() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _log_to(path: Path) -> logging.Handler:
    """Sends this process's records to a file of their own: it has no terminal and no journal."""
    handler = logging.handlers.RotatingFileHandler(
        # Opened by its first record: a log that cannot be made on a full disk ends nothing.
        path,
        maxBytes=LOG_BYTES,
        backupCount=3,
        encoding="utf-8",
        delay=True,
    )
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s trainer %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    logging.getLogger("learner").setLevel(logging.INFO)
    return handler
