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


def open_channel(address: str) -> grpc.Channel:
    """Returns a channel to the learner at HOST:PORT; it connects with the first call."""
    return grpc.insecure_channel(address, options=_OPTIONS)
