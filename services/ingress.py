"""The learner's door: one process that takes trials in and hands weights and logs out.

It runs beside the trainer, without torch, and shares nothing with it but the store's folder: a
dead trainer never refuses a trial.

    python -m services.ingress --store DIR --listen HOST:PORT --spec-json FILE --policy-json FILE
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import os
import sys
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from learner.durable import StoreLocked, write_file
from learner.ledger import LedgerCorrupt, StoreVersionMismatch
from learner.store import TrialStore
from protos import codec, learner_pb2
from protos.trial import RobotSpec, SpecMismatch
from services.address import DEFAULT_ADDRESS, is_loopback, listen_error
from services.credentials import ServerSecurity
from services.delivery import DeliveryConfig
from services.ingress_service import Ingress, IngressConfig
from services.logs import configure_logging
from services.process import CannotStart, end_with_parent, run_to_exit_code, write_aside
from services.refusals import translate
from services.server import (
    add_health,
    add_service,
    bind,
    make_server,
    serve_until_signal,
    set_serving,
)

__all__ = ["DeliveryConfig", "IngressConfig", "main", "serve"]

logger = logging.getLogger(__name__)

SERVICE = learner_pb2.DESCRIPTOR.services_by_name["Learner"]
_NUM_THREADS = 8
_LOOK_S = 0.1


async def serve(
    config: IngressConfig,
    spec: RobotSpec,
    *,
    policy_config_json: str,
    port_file: Path | None,
    start_wait_s: float = 0.0,
) -> None:
    """Serves the store until SIGTERM.

    Args:
        config: The settings.
        spec: What every actor must agree with.
        policy_config_json: Handed to actors as it is.
        port_file: Gets the address, once calls are answered.
        start_wait_s: How long to wait for a port and a store that another process still has: the
            ingress of a learner that was killed finishes its calls first.

    Raises:
        CannotStart: The port is in use, or the store, token or certificate cannot be used.
    """
    wait = _StartWait(start_wait_s)
    token = config.security.token()
    key_and_certificate = config.security.key_and_certificate()
    server = make_server()
    await _until_free(config.listen, wait)
    address = bind(server, config.listen, key_and_certificate)  # before the store is touched
    store = await _open(config.store, wait)
    with contextlib.closing(store), ThreadPoolExecutor(_NUM_THREADS) as executor:
        ingress = Ingress(
            config,
            store,
            spec,
            policy_config_json=policy_config_json,
            run_id=_run_id(config.store),
            executor=executor,
        )
        add_service(server, SERVICE, ingress, translate, token)
        health = add_health(server)
        ingress.pulse.beat = ingress.pulse.look()
        pulse = asyncio.create_task(ingress.pulse.run())
        await server.start()
        await set_serving(health, SERVICE.full_name)

        def announce() -> None:
            write_aside(config.store / "run" / "ingress.pid", f"{os.getpid()}\n")
            logger.info(
                "event=serving address=%s store=%s pid=%d", address, config.store, os.getpid()
            )
            for gap in [] if is_loopback(address) else config.security.gaps():
                logger.warning("event=open_to_network address=%s; %s", address, gap)
            if port_file is not None:
                write_aside(port_file, f"{address}\n")

        await serve_until_signal(server, health, pulse, announce, ingress.pulse.close)
        logger.info("event=stopped address=%s", address)


class _StartWait:
    """What is left of the time that a start may wait for others to end; says what it waits for."""

    def __init__(self, longest_s: float) -> None:
        self._until_s = time.monotonic() + longest_s
        self._last_words = ""

    async def again(self, reason: str) -> bool:
        """Waits a moment; False when the time is up."""
        left_s = self._until_s - time.monotonic()
        if not left_s > 0:
            return False
        if reason != self._last_words:
            logger.warning("event=waiting_to_start up_to_s=%.1f reason=%s", left_s, reason)
        self._last_words = reason
        await asyncio.sleep(min(_LOOK_S, left_s))
        return True


async def _until_free(listen: str, wait: _StartWait) -> None:
    """Returns when nobody listens there, or when it was waited long enough."""
    with contextlib.suppress(ValueError):  # no address, which is for `bind` to say
        while (error := listen_error(listen)) is not None and error.errno == errno.EADDRINUSE:
            if not await wait.again(f"{listen}: {error.strerror}"):
                return


async def _open(root: Path, wait: _StartWait) -> TrialStore:
    while True:
        try:
            return TrialStore.open(root)
        except StoreLocked as error:
            if not await wait.again(str(error)):
                raise CannotStart(str(error)) from error
        except (StoreVersionMismatch, LedgerCorrupt) as error:
            raise CannotStart(str(error)) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.ingress", description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--listen", default=DEFAULT_ADDRESS, help="HOST:PORT; port 0 for any")
    parser.add_argument("--spec-json", type=Path, required=True, help="RobotSpec, as JSON")
    parser.add_argument("--policy-json", type=Path, required=True, help="handed to actors")
    parser.add_argument("--port-file", type=Path, help="gets HOST:PORT once calls are answered")
    parser.add_argument("--lease-ttl-s", type=float, default=5.0)
    parser.add_argument("--reserve-mib", type=int, default=1024, help="of the disk, left alone")
    parser.add_argument("--max-trial-mib", type=int, default=1024)
    parser.add_argument("--token-file", type=Path, help="callers must show the token in it")
    parser.add_argument("--tls-cert", type=Path, help="PEM; with --tls-key")
    parser.add_argument("--tls-key", type=Path, help="PEM")
    parser.add_argument("--start-wait-s", type=float, default=0.0, help="for port and store")
    parser.add_argument("--parent-pid", type=int, help="end when this process ends")
    parser.add_argument("--log-level", default="INFO")
    arguments = parser.parse_args(argv)
    configure_logging("ingress", level=arguments.log_level)
    if arguments.parent_pid is not None:
        end_with_parent(arguments.parent_pid)
    return run_to_exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    try:
        spec = codec.decode_spec(arguments.spec_json.read_text(encoding="utf-8"))
        policy_config_json = arguments.policy_json.read_text(encoding="utf-8")
        config = IngressConfig(
            store=arguments.store,
            listen=arguments.listen,
            security=ServerSecurity(
                token_file=arguments.token_file,
                tls_cert=arguments.tls_cert,
                tls_key=arguments.tls_key,
            ),
            lease_ttl_s=arguments.lease_ttl_s,
            delivery=DeliveryConfig(
                reserve_bytes=arguments.reserve_mib << 20,
                max_trial_bytes=arguments.max_trial_mib << 20,
            ),
        )
    except (OSError, SpecMismatch, ValueError) as error:
        raise CannotStart(f"cannot be configured so: {error}") from error
    asyncio.run(
        serve(
            config,
            spec,
            policy_config_json=policy_config_json,
            port_file=arguments.port_file,
            start_wait_s=arguments.start_wait_s,
        )
    )


def _run_id(store: Path) -> str:
    """Returns the name of the store, given at its first start and never again."""
    path = store / "run_id"
    if not path.exists():
        write_file(path, f"{uuid.uuid4()}\n".encode())
    return path.read_text(encoding="ascii").strip()


if __name__ == "__main__":
    sys.exit(main())
