"""The vendor's SDK, opened quietly: the one place that imports it and the one that patches it.

Left alone it prints, makes a directory in the home of whoever imports it, gives every socket of the
process a time limit of one second, and has the controller's ports as constants of a class.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from robot.interfaces import RobotFault
from robot.xarm_config import XArmConfig

logger = logging.getLogger(__name__)
_importing = threading.Lock()
_STANDARD_PORTS = {"normal": 30001, "rich": 30002, "real": 30003}


class _TidySocket(socket.socket):
    """A socket that does not stay open, for want of an owner, when it cannot connect."""

    def connect(self, address: Any) -> None:
        """Connects, or closes and raises OSError."""
        try:
            super().connect(address)
        except OSError:
            self.close()
            raise


class _PatientSocketModule:
    """The `socket` module without its process-wide default; the SDK's sockets set their own."""

    socket = _TidySocket

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def setdefaulttimeout(self, timeout: float | None) -> None:
        """Does nothing."""


class _ReportLayouts:
    """Finds a report's layout, which the SDK looks up by the standard port, by the port in use."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.standard_port: dict[int, int] = {}

    def create(self, port: int, **options: Any) -> Any:
        """Returns an empty report of the kind that comes from `port`."""
        return self.original.create(self.standard_port.get(port, port), **options)


class _Forward(logging.Handler):
    """Takes the SDK's log records to ours: at debug, for what matters comes as a return code."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.debug("sdk: %s", record.getMessage())


def open_api(config: XArmConfig, report: str | None) -> Any:
    """Returns a connected `XArmAPI` in radians and millimetres.

    Args:
        config: Where the controller is.
        report: Which report to subscribe to, `rich` or `real`; None for none.

    Raises:
        RobotFault: `sdk_missing`; or `not_connected`, the controller is not there.
    """
    load_sdk(config)
    from xarm.core.config.x_config import XCONF
    from xarm.wrapper import XArmAPI
    from xarm.x3 import base

    settings: Any = XCONF.SocketConf
    settings.TCP_CONTROL_PORT = config.ports.control
    settings.TCP_REPORT_RICH_PORT = config.ports.rich
    settings.TCP_REPORT_REAL_PORT = config.ports.real
    layouts: Any = base.ReportDataStructure
    layouts.standard_port[config.ports.rich] = _STANDARD_PORTS["rich"]
    layouts.standard_port[config.ports.real] = _STANDARD_PORTS["real"]
    try:
        return XArmAPI(
            config.ip,
            is_radian=True,
            enable_report=report is not None,
            report_type=report or "real",
            # Both would make a call wait, for as long as it takes, for somebody to resume.
            check_is_pause=False,
            check_cmdnum_limit=False,
            forbid_uds=True,
        )
    except Exception as error:
        # The SDK raises nothing more precise than Exception when it cannot connect.
        raise RobotFault(
            "not_connected",
            f"no xArm controller at {config.ip}:{config.ports.control} ({error}); check power, "
            "cable and address",
        ) from error


def load_sdk(config: XArmConfig) -> None:
    with _importing:
        is_first = "xarm.wrapper" not in sys.modules
        try:
            with _kept_quiet(is_needed=is_first and config.is_sdk_quiet):
                import xarm.wrapper  # noqa: F401
        except ModuleNotFoundError as error:
            raise RobotFault(
                "sdk_missing", f"{error}: the arm needs `pip install 'offworld[robot]'`"
            ) from error
        from xarm.core.comm import socket_port
        from xarm.x3 import base

        if isinstance(base.ReportDataStructure, _ReportLayouts):
            return
        vendor_base: Any = base
        vendor_ports: Any = socket_port
        vendor_base.ReportDataStructure = _ReportLayouts(base.ReportDataStructure)
        vendor_ports.socket = _PatientSocketModule()
        if config.is_sdk_quiet:
            _silence()


@contextlib.contextmanager
def _kept_quiet(*, is_needed: bool) -> Iterator[None]:
    """Has an import print nowhere and make its directory where it goes away again."""
    if not is_needed:
        yield
        return
    home = os.environ.get("HOME")
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        os.environ["HOME"] = directory
        try:
            yield
        finally:
            if home is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = home


def _silence() -> None:
    """Sends the SDK's prints and log records to our log."""
    from xarm.core.utils import log

    for vendor_logger in (log.logger, log.origin_logger):
        vendor_logger.handlers[:] = [_Forward()]
        vendor_logger.propagate = False
    for name, module in list(sys.modules.items()):
        if name.startswith("xarm.") and module is not None:
            # A module's own `print` is found before the built-in one.
            module.__dict__["print"] = _log_print


def _log_print(*words: object, **_: object) -> None:
    logger.debug("sdk: %s", " ".join(str(word) for word in words))
