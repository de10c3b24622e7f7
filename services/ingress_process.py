"""Keeps the ingress running, always on the same port, whatever else its learner is busy with."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from services.credentials import ServerSecurity, security_flags
from services.kept_process import KeptProcess, describe_end
from services.process import CannotStart, ExitCode

logger = logging.getLogger(__name__)

ADDRESS_FILE = Path("run") / "address"
"""HOST:PORT at which the learner of a store answers, below the store; there while it serves."""
STOP_S = 12.0
"""How long the ingress may take to finish calls under way. [s]"""
START_WAIT_S = 15.0
"""How long it waits for a port and a store that the ingress of a killed learner still has. [s]"""
_LOOK_S = 0.1
_TRIES = 3
"""So many starts in a row that end with CANNOT_START are believed, once it has served."""


class IngressProcess:
    """Runs the ingress and watches it from a thread of its own.

    That thread also ends it: Linux tells a process of the end of the thread that started it as if
    its owner had died, and a second signal would cut off calls under way.

    Args:
        command: Makes the command line, given the address to listen on.
        listen: HOST:PORT; the port that was found for port 0 is kept from then on.
        port_file: Where the process writes its address when it serves; its folder gets its pid.
        on_failure: Called when it cannot start: at once if it never served, after a few tries if it
            did.
    """

    def __init__(
        self,
        command: Callable[[str], Sequence[str]],
        *,
        listen: str,
        port_file: Path,
        on_failure: Callable[[CannotStart], None],
    ) -> None:
        self._command = command
        self._listen = listen
        self._port_file = port_file
        self._on_failure = on_failure
        self._num_refusals = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ingress-watch", daemon=True)
        self._kept = self._make()

    @property
    def address(self) -> str | None:
        """Where it answers; None until it first does."""
        try:
            return self._port_file.read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def start(self) -> None:
        """Starts the process, and the thread that watches it."""
        self._port_file.unlink(missing_ok=True)
        self._thread.start()

    def stop(self) -> None:
        """Asks it to finish its calls and end, and waits until it has."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._port_file.unlink(missing_ok=True)

    def _make(self) -> KeptProcess:
        return KeptProcess("ingress", self._command(self._listen), folder=self._port_file.parent)

    def _watch(self) -> None:
        while not self._stop.is_set():
            code = self._kept.keep()
            if code is not None and not self._restart(code):
                return
            self._stop.wait(_LOOK_S)
        self._kept.send(signal.SIGTERM)
        if not self._kept.wait(STOP_S):
            logger.warning("event=ingress_killed waited_s=%.0f", STOP_S)
            self._kept.kill()

    def _restart(self, code: int) -> bool:
        address = self.address
        self._num_refusals = self._num_refusals + 1 if code == ExitCode.CANNOT_START else 0
        if self._num_refusals and address is None:
            self._on_failure(CannotStart("the ingress cannot start; it said why"))
            return False
        logger.warning("event=ingress_died how=%s", describe_end(code))
        if self._num_refusals >= _TRIES:
            self._on_failure(
                CannotStart(
                    f"the ingress cannot start again at {address}, {_TRIES} times in a row; it "
                    "said why"
                )
            )
            return False
        if address is not None and address != self._listen:
            self._listen = address
            self._kept = self._make()
        else:
            self._kept.start_again()
        return True


def ingress_command(
    *,
    store: Path,
    lease_ttl_s: float,
    reserve_mib: int,
    max_trial_mib: int,
    port_file: Path,
    start_wait_s: float,
    security: ServerSecurity,
) -> Callable[[str], list[str]]:
    """Returns what makes the command line of the ingress of a store, given its address."""

    def command(listen: str) -> list[str]:
        return [
            *(sys.executable, "-m", "services.ingress"),
            *("--store", str(store)),
            *("--listen", listen),
            *("--spec-json", str(store / "run" / "spec.json")),
            *("--policy-json", str(store / "run" / "policy.json")),
            *("--port-file", str(port_file)),
            *("--lease-ttl-s", str(lease_ttl_s)),
            *("--reserve-mib", str(reserve_mib)),
            *("--max-trial-mib", str(max_trial_mib)),
            *("--start-wait-s", str(start_wait_s)),
            *security_flags(security),
            *("--parent-pid", str(os.getpid())),
        ]

    return command
