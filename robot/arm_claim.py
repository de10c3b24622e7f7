"""One arm, one driver: a claim on an arm that the operating system keeps and gives up by itself.

Locks of an actor's folder do not help where two actors have two folders and one arm. A claim is a
Linux abstract socket address: of the whole machine, for any user, without a file, and free again
when its process is gone, however it went. Other machines do not see it.
"""

from __future__ import annotations

import errno
import socket

from robot.interfaces import RobotFault


class ArmClaim:
    """Holds the claim on one arm from now on.

    Args:
        address: Of the arm's controller, HOST:PORT.

    Raises:
        RobotFault: `arm_claimed`, another process has it.
    """

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(f"\0offworld/arm/{address}")
        except OSError as error:
            self._socket.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise RobotFault(
                "arm_claimed",
                f"another process on this machine drives the arm at {address}, from another spool: "
                "end that actor, recording or calibration first",
            ) from error

    def release(self) -> None:
        """Gives it up; may be called twice."""
        self._socket.close()
