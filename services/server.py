"""A gRPC server that survives whatever it is sent: bind, parse, refuse, drain.

Messages are parsed here, inside the call, and not by gRPC: a message that cannot be parsed is then
an ordinary refusal with a reason, and costs no memory that stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from services.address import listen_error, split_address
from services.credentials import shows_token
from services.process import CannotStart, StopRequests

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 4 << 20
DRAIN_S = 8.0
_MAX_DETAIL_CHARS = 2000

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.max_concurrent_streams", 64),
    # Without the ping timeout a peer that froze is noticed after a minute at best.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    # Clients ping every 10 s also while nothing is under way.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_connection_age_ms", 24 * 3600 * 1000),
    ("grpc.max_connection_age_grace_ms", 60_000),
)


class Refused(RuntimeError):
    """A call is answered with an error status."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


Unary = Callable[[Any], Awaitable[Message]]
Streaming = Callable[[Any], AsyncIterator[Message]]
Translate = Callable[[Exception], Refused | None]


def make_server(*, max_concurrent_rpcs: int = 512) -> grpc.aio.Server:
    """Makes a server with the project's settings; must be called inside the event loop."""
    return grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=max_concurrent_rpcs)


def bind(
    server: grpc.aio.Server, listen: str, key_and_certificate: tuple[bytes, bytes] | None = None
) -> str:
    """Binds to `host:port`, port 0 for any; returns the address with the real port.

    Args:
        server: Not started yet.
        listen: Where to.
        key_and_certificate: Both as PEM, and known to belong together; None serves without TLS.

    Raises:
        CannotStart: The port is in use, or the address is none.
    """
    try:
        split_address(listen)
        if key_and_certificate is None:
            bound = server.add_insecure_port(listen)
        else:
            credentials = grpc.ssl_server_credentials([key_and_certificate])
            bound = server.add_secure_port(listen, credentials)
    except ValueError as error:
        raise CannotStart(f"cannot listen on {listen}: {error}") from error
    except RuntimeError as error:
        reason = listen_error(listen)
        told = error if reason is None else reason.strerror
        raise CannotStart(f"cannot listen on {listen}: {told}") from error
    return f"{listen.rpartition(':')[0]}:{bound}"


def add_service(
    server: grpc.aio.Server,
    service: ServiceDescriptor,
    servicer: object,
    translate: Translate,
    token: str | None = None,
) -> None:
    """Serves every method of `service`, PutChunk by `servicer.put_chunk` and so on.

    Args:
        server: Where to add it.
        service: What the proto file says.
        servicer: Has a coroutine `(request) -> reply` a unary method, an async generator a stream.
        translate: Turns an exception of `servicer` into a refusal; None for those it does not know.
        token: Calls that do not show it are UNAUTHENTICATED, before anything of them is read.
    """
    handlers = {
        method.name: _handler(method, getattr(servicer, _snake_case(method.name)), translate, token)
        for method in service.methods
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service.full_name, handlers),)
    )


def add_health(server: grpc.aio.Server) -> HealthServicer:
    """Serves grpc.health.v1; see `set_serving`."""
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    return health


async def set_serving(health: HealthServicer, *services: str) -> None:
    """Marks services, and the server as a whole, as serving."""
    for name in ("", *services):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)


async def serve_until_signal(
    server: grpc.aio.Server,
    health: HealthServicer,
    background: asyncio.Task[None],
    announce: Callable[[], None],
    on_stop: Callable[[], None],
) -> None:
    """Returns after SIGTERM or SIGINT, when calls under way have ended or `DRAIN_S` has passed.

    A second request ends the process at once; see `StopRequests`.

    Args:
        server: Started.
        health: Says NOT_SERVING from the signal on.
        background: Work that the server depends on; its failure is raised here.
        announce: Says that calls are answered; called once a signal is heard.
        on_stop: Called at the signal; sends home those whose calls wait for something.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    requests = StopRequests()

    def on_signal(number: int) -> None:
        if requests.heard() > 1:
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    announce()
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({stopped, background}, return_when=asyncio.FIRST_COMPLETED)
    await health.enter_graceful_shutdown()
    on_stop()
    await server.stop(DRAIN_S if stop.is_set() else None)
    stopped.cancel()
    background.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await background


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _handler(
    method: MethodDescriptor, behaviour: Any, translate: Translate, token: str | None
) -> grpc.RpcMethodHandler[Any, Any]:
    kind = message_factory.GetMessageClass(method.input_type)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(_streaming(kind, behaviour, translate, token))
    return grpc.unary_unary_rpc_method_handler(_unary(kind, behaviour, translate, token))


def _unary(kind: type[Message], behaviour: Unary, translate: Translate, token: str | None) -> Any:
    async def call(raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        try:
            _require_token(context, token)
            return (await behaviour(_parse(kind, raw))).SerializeToString()
        except Exception as error:
            await _refuse(context, error, translate)
            raise

    return call


def _streaming(
    kind: type[Message], behaviour: Streaming, translate: Translate, token: str | None
) -> Any:
    async def call(raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        try:
            _require_token(context, token)
            async for reply in behaviour(_parse(kind, raw)):
                yield reply.SerializeToString()
        except Exception as error:
            await _refuse(context, error, translate)
            raise

    return call


def _require_token(context: grpc.aio.ServicerContext[Any, Any], token: str | None) -> None:
    if token is not None and not shows_token(context.invocation_metadata() or (), token):
        raise Refused(
            grpc.StatusCode.UNAUTHENTICATED,
            "this learner asks for a token: set token_file to a file with the one it has",
        )


def _parse(kind: type[Message], raw: bytes) -> Message:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise Refused(
            grpc.StatusCode.INVALID_ARGUMENT, f"not a {kind.DESCRIPTOR.name}: {error}"
        ) from error


async def _refuse(
    context: grpc.aio.ServicerContext[Any, Any], error: Exception, translate: Translate
) -> None:
    """Ends the call with a status; returns if `error` is a bug of ours, which gRPC reports."""
    refused = error if isinstance(error, Refused) else translate(error)
    if refused is not None:
        if refused.code is grpc.StatusCode.UNAVAILABLE:  # our trouble, not the caller's
            logger.warning("event=call_failed reason=%s", refused)
        await context.abort(refused.code, str(refused)[:_MAX_DETAIL_CHARS])
