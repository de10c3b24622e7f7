"""The one channel from a client to its learner: how it connects, and how it notices silence.

gRPC's own retries are off: they would hide from the caller what is going on.
"""

from __future__ import annotations

import grpc

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.keepalive_time_ms", 10_000),
    # keepalive_timeout alone does not notice a peer that froze: only this one does.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # also how long connecting may take
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
# What gRPC says when one side speaks TLS and the other does not, or trusts another certificate.
_HINTS = (
    ("WRONG_VERSION_NUMBER", "the learner there serves without TLS, and tls_ca is set here"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not the one that tls_ca trusts, or is over"),
    ("Hostname Verification", "its certificate is not for the host that is dialled"),
    ("Socket closed", "a learner with TLS does so to callers without tls_ca"),
)


def open_channel(address: str, root_certificate: bytes | None = None) -> grpc.Channel:
    """Returns a channel to the learner at HOST:PORT; it connects with the first call.

    Args:
        address: Where the learner is.
        root_certificate: PEM of what its certificate must be signed with; None for no TLS.
    """
    if root_certificate is None:
        return grpc.insecure_channel(address, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(root_certificate)
    return grpc.secure_channel(address, credentials, options=_OPTIONS)


def with_hint(details: str) -> str:
    """Returns what gRPC says of a failed call, with what a person can do about it, if known."""
    hint = next((hint for words, hint in _HINTS if words in details), None)
    return details if hint is None else f"{details} ({hint})"
