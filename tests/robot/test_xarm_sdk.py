"""The SDK leaves its process as it was, and the double of the controller runs as a program."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from robot.clock import SimulatedClock
from robot.interfaces import RobotFault
from robot.xarm import XArm
from robot.xarm_config import XArmConfig
from tests.robot.xarm_rig import connected_arm, make_controller

ROOT = Path(__file__).parents[2]
CONNECT = """
import socket, sys
from robot.clock import MonotonicClock
from tests.robot.xarm_rig import connected_arm
with connected_arm(MonotonicClock()) as (arm, controller, clock):
    arm.state()
    controller.faults.error(31)
    while arm.fault is None:
        arm.state()
    controller.faults.reset_connections()
    assert arm.fault.code == "controller_c31", arm.fault
    assert socket.getdefaulttimeout() is None
    assert "xarm" in sys.modules
"""


def run_python(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_connecting_prints_nothing_leaves_no_files_and_no_default_timeout(tmp_path):
    done = run_python(CONNECT, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_driver_is_imported_without_the_sdk(tmp_path):
    done = run_python("import sys, robot.xarm; print('xarm' in sys.modules)", tmp_path)
    assert done.stdout == "False\n", done.stderr


def test_a_missing_sdk_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['xarm'] = None\n"
        "from robot.clock import MonotonicClock\n"
        "from robot.xarm import XArm\n"
        "from robot.xarm_config import XArmConfig\n"
        "from robot.interfaces import RobotFault\n"
        "try:\n    XArm(XArmConfig(), MonotonicClock()).connect()\n"
        "except RobotFault as fault:\n    print(fault)\n"
    )
    done = run_python(code, tmp_path)
    assert done.stdout.startswith("sdk_missing: "), done.stderr
    assert "offworld[robot]" in done.stdout


def test_nobody_at_the_address_is_not_connected():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    from robot.xarm_config import XArmPorts

    ports = XArmPorts(control=port, rich=port, real=port)
    arm = XArm(XArmConfig(ip="127.0.0.1", ports=ports), SimulatedClock())
    with pytest.raises(RobotFault) as caught:
        arm.connect()
    assert caught.value.code == "not_connected"
    with pytest.raises(RobotFault):
        arm.state()
    arm.stop()
    arm.close()


def test_garbage_on_the_control_port_ends_that_connection_only():
    with connected_arm() as (arm, controller, clock):
        with socket.create_connection(("127.0.0.1", controller.ports.control)) as stranger:
            stranger.sendall(b"\xff" * 64)
            assert stranger.recv(64) == b""
        clock.advance(100_000_000)
        arm.state()
        assert arm.fault is None


def test_the_control_port_answers_a_frame_of_bytes():
    with (
        make_controller(SimulatedClock()) as controller,
        socket.create_connection(("127.0.0.1", controller.ports.control)) as client,
    ):
        client.sendall(struct.pack(">HHHB", 9, 2, 1, 13))
        # State 4, and the bit that it is not ready to move.
        assert client.recv(64) == bytes.fromhex("0009 0002 0003 0d 10 04")


@pytest.mark.parametrize("body", ["kinematic", "mujoco"])
def test_the_double_runs_as_a_program_and_takes_faults_from_both_sides(body):
    ports = [f"--{name}-port=0" for name in ("control", "normal", "rich", "real", "admin")]
    command = [sys.executable, "-m", "robot.doubles.xarm_controller", "--body", body, *ports]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        line = program.stdout.readline()
        if body == "mujoco":
            assert line.startswith("feed_port=")
            line = program.stdout.readline()
        found = dict(re.findall(r"(\w+)_port=(\d+)", line))
        assert found.keys() == {"control", "normal", "rich", "real", "admin"}
        address = ("127.0.0.1", int(found["admin"]))
        with socket.create_connection(address) as admin, admin.makefile("rw") as lines:
            place = "ok" if body == "mujoco" else "error"
            for sent, answer in (
                ("error 31", "ok"),
                ("nonsense", "error"),
                ("place object 0.4 0.05 0.03", place),
                ("place nobody 0 0 0", "error"),
            ):
                lines.write(sent + "\n")
                lines.flush()
                assert lines.readline().startswith(answer)
        program.stdin.write("state\nquit\n")
        program.stdin.flush()
        assert "error=31" in program.stdout.readline()
        assert program.wait(timeout=20) == 0
