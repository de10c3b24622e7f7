"""The doubles of arm and camera as a process of their own, and an actor configured for them."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from robot.guard_limits import GuardLimits
from robot.xarm_config import XArmPorts
from services.actor_config import ActorConfig
from services.config import build_file
from services.config_text import to_toml
from services.demo_config import CONFIGS
from tests.services.rig import ROOT

NUM_STEPS = 15
LIMITS = build_file(GuardLimits, CONFIGS / "limits-xarm7-doubles.toml")


class DoubleProcess:
    """The double of the arm in its simulated workspace, on ports that the system chose.

    Args:
        folder: Gets its log.
        arguments: More of its command line.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        ports = [f"--{name}-port=0" for name in ("control", "normal", "rich", "real")]
        # A controller has a processor of its own: it comes before the guard, if that is allowed.
        command = ["nice", "-n", "-16", sys.executable, "-m", "robot.doubles.xarm_controller"]
        command += ports
        command += ["--body=mujoco", "--task=reach", *arguments]
        with (folder / "double.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        # It says its ports in two lines once it listens on them.
        said = b"".join(self.process.stdout.readline() for _ in range(2)).decode()
        self.ports = {name: int(port) for name, port in re.findall(r"(\w+)_port=(\d+)", said)}

    def tell(self, line: str) -> str:
        """Types a line; returns its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().strip()

    def __enter__(self) -> DoubleProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.communicate(b"quit\n", timeout=10)


def write_limits(
    folder: Path,
    double: DoubleProcess,
    *,
    command_timeout_s: float | None = None,
) -> Path:
    """Writes the limits of the doubles with this double's ports and, if given, this timeout."""
    assert LIMITS.xarm is not None
    ports = XArmPorts(
        control=double.ports["control"], rich=double.ports["rich"], real=double.ports["real"]
    )
    xarm = dataclasses.replace(LIMITS.xarm, ports=ports)
    if command_timeout_s is not None:
        xarm = dataclasses.replace(xarm, command_timeout_s=command_timeout_s)
    limits = dataclasses.replace(LIMITS, xarm=xarm)
    path = folder / "limits.toml"
    path.write_text(to_toml(limits))
    return path


def make_config(folder: Path, learner: str, double: DoubleProcess) -> ActorConfig:
    """Returns the shipped configuration of the doubles, with actions drawn at random."""
    shipped = build_file(ActorConfig, CONFIGS / "xarm7-doubles-actor.toml")
    return dataclasses.replace(
        shipped,
        learner=learner,
        camera=(f"world:127.0.0.1:{double.ports['feed']}=front",),
        limits=write_limits(folder, double),
        calibration=CONFIGS / "xarm7-doubles-calibration.toml",
        cell=dataclasses.replace(shipped.cell, max_steps=NUM_STEPS),
        spool=folder / "spool",
        reserve_bytes=1 << 20,
        trials=5,
        policy="random",
        exit_when_done=True,
        max_missed_in_a_row=1000,
    )


def make_patient_config(folder: Path, learner: str, double: DoubleProcess) -> ActorConfig:
    """Returns the same for an arm whose answers may be late, as on a busy machine."""
    config = make_config(folder, learner, double)
    limits = write_limits(folder, double, command_timeout_s=2.0)
    return dataclasses.replace(config, limits=limits)
