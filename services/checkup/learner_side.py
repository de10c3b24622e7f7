"""What is asked about the learner: whether one could run here, and the line to one that runs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from protos import codec
from protos import learner_pb2 as pb
from protos.trial import RobotSpec, step_fields
from services import config as configs
from services.address import listen_error
from services.checkup.finding import Finding, go, judged, no_go
from services.checkup.gauges import Gauges
from services.checkup.machine_side import GIB
from services.client import LearnerClient
from services.credentials import ClientSecurity
from services.learner_config import LearnerConfig
from services.leases import LeaseLost
from services.measure import nearest_folder, time_repeated

_NUM_CALLS = 20
_SENDING_S = 1.0


def ray() -> Iterator[Finding]:
    """Tries Ray, which supervises a learner's trainer."""
    # Elsewhere: it takes a second, and whoever asks may not want it in this process.
    done = subprocess.run(
        [sys.executable, "-c", "import ray; print(ray.__version__)"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield no_go(
            "ray",
            f"cannot be imported, so no learner runs here: {reason}",
            "install it, or leave this out with --skip ray if the learner runs elsewhere",
        )
    else:
        yield go("ray", f"version {done.stdout.strip()}")


def store(learner_file: Path, gauges: Gauges) -> Iterator[Finding]:
    """Looks at the room on the store's disk, and at how long a durable write takes there."""
    learner = configs.build_file(LearnerConfig, learner_file)
    folder = nearest_folder(learner.store)
    free, reserve = gauges.free_bytes(folder), learner.limits.reserve_mib << 20
    yield judged(
        "disk",
        f"{free / GIB:.1f} GiB free at {folder}, {reserve / GIB:.1f} GiB stay reserved",
        f"make room on the disk of {folder}",
        is_good=free > 2 * reserve,
    )
    yield go("fsync", f"64 KiB durably on disk: {gauges.durable_write(folder)}")


def port(learner_file: Path) -> Iterator[Finding]:
    """Looks whether a learner could listen here."""
    listen = configs.build_file(LearnerConfig, learner_file).listen
    error = listen_error(listen)
    yield judged(
        "port",
        f"{listen} is free" if error is None else f"{listen}: {error.strerror or error}",
        "a learner that runs here already? Then leave this out with --skip port",
        is_good=error is None,
    )


def link(address: str, security: ClientSecurity, spec: RobotSpec) -> Iterator[Finding]:
    """Measures the line to a learner and asks whether it learns for this robot.

    Args:
        address: HOST:PORT.
        security: What it is shown and known by.
        spec: Of the robot here.
    """
    with contextlib.closing(LearnerClient(address, security)) as client:
        reply = client.status()
        took = time_repeated(client.status, _NUM_CALLS)
        yield judged(
            "learner",
            f"{address} answers, {took}; task {reply.task}, trainer "
            f"{reply.trainer.state or 'has not reported'}",
            "it learns for another robot: compare [spec] of its file with the actor's file; the "
            "actor says the fields when it starts",
            is_good=reply.spec_digest == spec.digest(),
        )
        bytes_s = _sending_bytes_s(client)
    trial_bytes, lasts_s = trial_size_bytes(spec), spec.max_steps / spec.control_hz
    yield judged(
        "bandwidth",
        f"{bytes_s / 1e6:.1f} MB/s to the learner: a trial of up to {trial_bytes / 1e6:.1f} MB "
        f"takes {trial_bytes / bytes_s:.1f} s and lasts {lasts_s:.1f} s",
        "trials would pile up in the spool: use a wired line, or send smaller images",
        is_good=trial_bytes / bytes_s <= lasts_s,
    )


def trial_size_bytes(spec: RobotSpec) -> int:
    """Returns the bytes of the longest trial of a robot."""
    sizes = [
        num * int(np.prod(field.shape, dtype=np.int64)) * np.dtype(field.dtype).itemsize
        for fields, num in (
            (spec.observations, spec.max_steps + 1),
            (step_fields(spec), spec.max_steps),
        )
        for field in fields
    ]
    return sum(sizes)


def _sending_bytes_s(client: LearnerClient) -> float:
    """Returns how much a second gets to the learner: chunks that it takes in and keeps not."""
    block = np.random.default_rng(0).bytes(codec.MAX_CHUNK_BYTES)
    (chunk,) = codec.cut_chunks(block)
    trial = codec.EncodedTrial(
        manifest=pb.TrialManifest(), payload=block, payload_sha256="", trial_digest=""
    )
    began_s, num = time.monotonic(), 0
    while (passed_s := time.monotonic() - began_s) < _SENDING_S:
        # Without a lease the learner reads a chunk and refuses it.
        with contextlib.suppress(LeaseLost):
            client.put_chunk(0, "", trial, chunk)
        num += 1
    return num * codec.MAX_CHUNK_BYTES / passed_s
