"""`offworld doctor`: measures this machine and says what it can honestly do."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services import config, console
from services.actor_config import ActorConfig
from services.address import listen_error
from services.commands.flags import OutputFlags
from services.config import ConfigError
from services.credentials import ClientSecurity
from services.demo_config import CONFIGS
from services.machine import machine, versions
from services.process import ExitCode

Verdict = Literal["ok", "warn", "fail"]
_GIB = 2**30
_IDLE_HZ = 100.0


@dataclass(frozen=True, kw_only=True)
class DoctorFlags(OutputFlags, ClientSecurity):
    """Checks what a learner and an actor need, and measures planning at this configuration."""

    learner_config: Path = CONFIGS / "demo-learner.toml"
    """The learner's file: which planner to measure, where the store is."""
    actor_config: Path = CONFIGS / "demo-actor.toml"
    """The actor's file: which workspace, how many threads."""
    plans: int = 100
    """How many plans to measure."""
    learner: str | None = None
    """HOST:PORT of a learner to reach; none leaves that out."""

    def __post_init__(self) -> None:
        if self.plans < 1:
            raise ValueError(f"plans must be at least 1, got {self.plans}")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    verdict: Verdict
    detail: str


def main(argv: Sequence[str]) -> int:
    """Runs all checks; 3 if one of them failed."""
    flags = config.load(DoctorFlags, argv, prog="offworld doctor")
    findings = []
    for finding in examine(flags):
        findings.append(finding)
        if not flags.json:
            console.say(
                f"{finding.verdict:<4}  {finding.check:<10}  {console.safe(finding.detail)}"
            )
    num_failed = sum(f.verdict == "fail" for f in findings)
    if flags.json:
        console.emit_json([dataclasses.asdict(f) for f in findings])
    else:
        console.say(f"{len(findings)} checks, {num_failed} failed")
    return ExitCode.CANNOT_START if num_failed else ExitCode.DONE


def examine(flags: DoctorFlags) -> Iterator[Finding]:
    """Yields one finding after the other; a check that cannot run is a failed one."""
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield Finding(check="versions", verdict="ok", detail=told)
    yield Finding(check="machine", verdict="ok", detail=machine())
    yield from _guard("ray", _ray)
    yield from _guard("loop", _loop)
    yield from _guard("planner", lambda: _planner(flags))
    yield from _guard("store", lambda: _store(flags))
    yield from _guard("port", lambda: _port(flags))
    learner = flags.learner
    if learner is not None:
        yield from _guard("learner", lambda: _learner(learner, flags))


def _guard(check: str, work: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    from services.client import LearnerUnavailable

    try:
        yield from work()
    except (ImportError, OSError, ConfigError, LearnerUnavailable) as error:
        yield Finding(check=check, verdict="fail", detail=str(error))


def _ray() -> Iterator[Finding]:
    # Elsewhere: it takes a second, and whoever asks may not want it in this process.
    done = subprocess.run(
        [sys.executable, "-c", "import ray; print(ray.__version__)"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield Finding(
            check="ray",
            verdict="warn",
            detail=f"cannot be imported, so no learner runs here: {reason}",
        )
    else:
        yield Finding(check="ray", verdict="ok", detail=f"version {done.stdout.strip()}")


def _loop() -> Iterator[Finding]:
    from services.measure import lateness

    late = lateness(_IDLE_HZ)
    yield Finding(
        check="loop",
        verdict="ok" if late.p99_ms < 10 else "warn",
        detail=f"an idle loop at {_IDLE_HZ:.0f} Hz wakes up late by {late}",
    )


def _planner(flags: DoctorFlags) -> Iterator[Finding]:
    import torch

    from learner.algorithms.registry import make_policy
    from services import learner_config, measure

    actor = config.build_file(ActorConfig, flags.actor_config)
    learner = config.build_file(learner_config.LearnerConfig, flags.learner_config)
    if actor.num_threads is not None:
        torch.set_num_threads(actor.num_threads)
    looking, fields = None, measure.blank_fields(learner.spec)
    try:
        from robot.sim.env import make_sim_spec

        difference = learner.spec.difference(make_sim_spec(actor.sim))
        if difference:
            raise ConfigError(
                f"{flags.actor_config} and {flags.learner_config} describe different robots: "
                + "; ".join(difference)
            )
        looking, fields = measure.observing(actor.sim, flags.plans)
        yield Finding(check="rendering", verdict="ok", detail=f"move, render, observe: {looking}")
    except ImportError as error:
        yield Finding(check="rendering", verdict="warn", detail=f"no simulated robot here: {error}")
    policy = make_policy(learner.algorithm, learner.spec, actor.device, 0)
    plans = measure.planning(policy, fields, flags.plans)
    hz = measure.honest_hz(plans, *([] if looking is None else [looking]))
    asked = learner.spec.control_hz
    yield Finding(
        check="planner",
        verdict="ok" if hz >= asked else "fail",
        detail=f"one plan on {actor.device}: {plans}; honest up to {hz:.0f} Hz, {asked:g} is asked",
    )


def _store(flags: DoctorFlags) -> Iterator[Finding]:
    from services import learner_config
    from services.measure import durable_write, nearest_folder

    learner = config.build_file(learner_config.LearnerConfig, flags.learner_config)
    folder = nearest_folder(learner.store)
    free = shutil.disk_usage(folder).free
    reserve = learner.limits.reserve_mib << 20
    yield Finding(
        check="disk",
        verdict="ok" if free > 2 * reserve else "fail" if free < reserve else "warn",
        detail=f"{free / _GIB:.1f} GiB free at {folder}, {reserve / _GIB:.1f} GiB stay reserved",
    )
    yield Finding(
        check="fsync", verdict="ok", detail=f"64 KiB durably on disk: {durable_write(folder)}"
    )


def _port(flags: DoctorFlags) -> Iterator[Finding]:
    from services import learner_config

    listen = config.build_file(learner_config.LearnerConfig, flags.learner_config).listen
    error = listen_error(listen)
    if error is not None:
        detail = f"{listen}: {error.strerror or error}; a learner that runs here already?"
        yield Finding(check="port", verdict="warn", detail=detail)
    else:
        yield Finding(check="port", verdict="ok", detail=f"{listen} is free")


def _learner(address: str, security: ClientSecurity) -> Iterator[Finding]:
    from services.client import LearnerClient
    from services.measure import time_repeated

    with contextlib.closing(LearnerClient(address, security)) as client:
        reply = client.status()
        took = time_repeated(client.status, 20)
    trainer = reply.trainer.state or "has not reported"
    yield Finding(
        check="learner",
        verdict="ok",
        detail=f"{address} answers, {took}; task {reply.task}, trainer {trainer}",
    )
