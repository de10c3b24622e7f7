"""What the double's command line says of ports that it cannot listen on."""

from __future__ import annotations

import socket

import pytest

from robot.doubles import xarm_controller

PORTS = ("control", "normal", "rich", "real", "admin")


def words(**changes: object) -> list[str]:
    """Returns a command line that asks for any free ports, but for the changes."""
    asked = {f"--{name}-port": "0" for name in PORTS} | {
        f"--{name.replace('_', '-')}": str(value) for name, value in changes.items()
    }
    return [word for flag in asked.items() for word in flag]


@pytest.mark.parametrize("port", ["65536", "99999", "-1", "five"])
@pytest.mark.parametrize("name", ["control", "feed"])
def test_what_is_no_port_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], name: str, port: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        xarm_controller.main([f"--{name}-port={port}"])
    assert ended.value.code == 2
    assert f"--{name}-port: expected a port, 0 .. 65535, got '{port}'" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "body"), [("real", "kinematic"), ("feed", "mujoco")])
def test_a_port_that_is_busy_is_named_and_no_other(
    capsys: pytest.CaptureFixture[str], name: str, body: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert xarm_controller.main(words(body=body, **{f"{name}_port": port})) == 3
    told = capsys.readouterr().out
    assert told == (
        f"error: cannot listen: --{name}-port {port}: Address already in use at 127.0.0.1\n"
    )


def test_a_port_that_is_asked_for_twice_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    assert xarm_controller.main(words(control_port=port, admin_port=port)) == 3
    assert f"--admin-port {port}: Address already in use" in capsys.readouterr().out
