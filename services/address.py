"""HOST:PORT: the default one, what it must look like, and whether it can be listened on."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

DEFAULT_ADDRESS = "127.0.0.1:7443"
"""Where a learner listens and an actor looks for it, unless told otherwise."""


def split_address(address: str) -> tuple[str, int]:
    """Returns host and port of `HOST:PORT`; an IPv6 host stands in brackets there, not here.

    Raises:
        ValueError: It is not that; the message is about the address alone.
    """
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"expected HOST:PORT, as in {DEFAULT_ADDRESS}, got {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a `HOST:PORT`; a name other than localhost may not."""
    return is_loopback_host(split_address(address)[0])


def is_loopback_host(host: str) -> bool:
    """Whether a host is this machine itself, by its address or as `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen_error(address: str) -> OSError | None:
    """Returns what would keep a server from listening on `HOST:PORT` now; None if nothing would."""
    host, port = split_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, target in found:
            with contextlib.closing(socket.socket(family, kind, protocol)) as probe:
                # As servers do: connections of one that has ended must not be in the way.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(target)
    except OSError as error:
        return error
    return None
