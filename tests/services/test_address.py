"""Addresses: one default port everywhere, and what can be said of an address beforehand."""

from __future__ import annotations

import errno
import re
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from services.actor_config import ActorConfig
from services.address import DEFAULT_ADDRESS, is_loopback, listen_error, split_address
from services.commands.flags import LearnerFlag
from services.ingress_service import IngressConfig

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "deploy").rglob("*.toml"),
    *(p for p in (ROOT / "services").rglob("*.py") if "_pb2" not in p.name),
]


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:7443", ("127.0.0.1", 7443)),
        ("gpu-box:0", ("gpu-box", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_has_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize("address", ["", "host", ":7443", "host:", "host:http", "h:65536", "h:-1"])
def test_what_is_no_address_is_said_to_be_none(address: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"expected HOST:PORT, as in {DEFAULT_ADDRESS}")):
        split_address(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.5:1", False),
        ("localhost.example.com:1", False),
    ],
)
def test_only_this_machine_is_loopback(address: str, *, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_a_port_that_is_listened_on_is_in_use_and_free_afterwards() -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        error = listen_error(address)
        assert error is not None
        assert error.errno == errno.EADDRINUSE
    assert listen_error(address) is None


def test_an_address_of_another_machine_is_not_in_use() -> None:
    error = listen_error("192.0.2.1:0")
    assert error is not None
    assert error.errno == errno.EADDRNOTAVAIL


def test_the_default_port_is_the_same_everywhere() -> None:
    assert ActorConfig().learner == LearnerFlag().learner == DEFAULT_ADDRESS
    assert IngressConfig(store=Path()).listen == DEFAULT_ADDRESS
    # "world:" is not a learner but a double of the workspace.
    named = {
        (path.relative_to(ROOT).as_posix(), match[1])
        for path in DOCUMENTS
        for match in re.finditer(
            r"(?<!world:)\b(?:\d+\.\d+\.\d+\.\d+|localhost|gpu-box|HOST):(\d+)", path.read_text()
        )
    }
    assert {port for _, port in named} == {"7443", "0"}, sorted(named)
    assert {"README.md", "deploy/configs/demo-learner.toml"} <= {file for file, _ in named}


@pytest.mark.skipif(
    sys.platform != "linux", reason="where TIME_WAIT is left behind is the system's"
)
def test_connections_of_a_server_that_ended_are_not_in_the_way() -> None:
    with closing(socket.socket()) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = server.getsockname()
        client = socket.create_connection(address)
        server.accept()[0].close()  # the side that closes first keeps the connection for a minute
        client.close()
    assert listen_error(f"127.0.0.1:{address[1]}") is None
