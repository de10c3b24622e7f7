"""What every machine of a robot is asked: versions, loop, planner, disk, clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from robot.interfaces import Reward
from services import config as configs
from services.actor_config import ActorConfig
from services.checkup.finding import Finding, go, judged, no_go, not_asked
from services.checkup.gauges import Gauges
from services.config import ConfigError
from services.machine import machine, versions
from services.measure import HEADROOM, blank_fields, honest_hz, nearest_folder, observing
from services.planning import PLANNING_SHARE

GIB = 2**30
_PROBED_HZ = 100.0
STEP_NS = 50_000_000
"""More than a clock that is being corrected gains while the checks run."""


def identity() -> Iterator[Finding]:
    """Says what runs here and on what."""
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield go("versions", told)
    yield go("machine", machine())


def loop(actor: ActorConfig, control_hz: float, gauges: Gauges) -> Iterator[Finding]:
    """Measures how late a loop wakes up: idle and, for a real arm, with every core busy."""
    allowed_ms = (1.0 - PLANNING_SHARE) * 1e3 / control_hz
    rows = [("loop", "idle", gauges.lateness(_PROBED_HZ))]
    if actor.is_simulated:
        yield not_asked("loop loaded", "a simulated robot harms nobody by being late")
    else:
        loaded = gauges.lateness_under_load(_PROBED_HZ, actor.niceness)
        rows.append(("loop loaded", "with every core busy", loaded))
    for check, how, late in rows:
        yield judged(
            check,
            f"{how}, it wakes up late by {late}; at {control_hz:g} Hz p99 may be {allowed_ms:g} ms",
            "end what else runs here, allow the actor its niceness (`ulimit -e`, or Nice= in its "
            "unit), set the processor to full speed",
            is_good=late.p99_ms <= allowed_ms,
        )


def planner(
    actor: ActorConfig, actor_file: Path, learner_file: Path, num: int, gauges: Gauges
) -> Iterator[Finding]:
    """Measures a plan of the learner's configuration here, and the highest honest control rate."""
    import torch

    from learner.algorithms.registry import make_policy
    from services.actor_robot import robot_spec
    from services.learner_config import LearnerConfig

    learner = configs.build_file(LearnerConfig, learner_file)
    if difference := learner.spec.difference(robot_spec(actor, is_calibrated=False)):
        raise ConfigError(
            f"{actor_file} and {learner_file} describe different robots: " + "; ".join(difference)
        )
    if actor.num_threads is not None:
        torch.set_num_threads(actor.num_threads)
    looking, fields = [], blank_fields(learner.spec)
    if actor.robot == "sim":
        try:
            look, fields = observing(actor.sim, num)
            looking = [look]
            yield go("rendering", f"move, render, observe: {look}")
        except ImportError as error:
            yield no_go(
                "rendering",
                f"no simulated robot here: {error}",
                "install the packages of deploy/system-packages.sh and set MUJOCO_GL=egl",
            )
    elif not actor.is_simulated:
        detector, which = _detector(actor)
        looking = [gauges.watching(actor.cell.stream, learner.spec, detector, num)]
        yield go("frames", f"{which}: {looking[0]}")
    policy = make_policy(learner.algorithm, learner.spec, actor.device, 0)
    plans = gauges.planning(policy, fields, num)
    hz, asked = honest_hz(plans, *looking), learner.spec.control_hz
    yield judged(
        "planner",
        f"one plan on {actor.device}: {plans}; honest up to {hz:.1f} Hz with "
        f"{1 - HEADROOM:.0%} of the time to spare for what else runs then, {asked:g} is asked",
        f"plan on a GPU (device), with fewer planner.num_samples, or at {int(hz)} Hz or less in "
        "both files",
        is_good=hz >= asked,
    )


def _detector(actor: ActorConfig) -> tuple[Reward | None, str]:
    """Returns what judges a real arm's frames, if it is calibrated, and what to say of it."""
    from services.actor_cell import check_cell, detector_of

    try:
        check_cell(actor)
        return detector_of(actor), "reduce and judge every camera's newest frame"
    except ConfigError:
        return None, "reduce every camera's newest frame; to be judged too once calibrated"


def disk(actor: ActorConfig, gauges: Gauges) -> Iterator[Finding]:
    """Looks at the room on the spool's disk, and at how long a durable write takes there."""
    folder = nearest_folder(actor.spool)
    free, reserve = gauges.free_bytes(folder), actor.reserve_bytes
    yield judged(
        "spool disk",
        f"{free / GIB:.1f} GiB free at {folder}, {reserve / GIB:.1f} GiB stay reserved",
        f"make room on the disk of {folder}: no trial begins that would touch the reserve",
        is_good=free > 2 * reserve,
    )
    took = gauges.durable_write(folder)
    yield go("spool fsync", f"64 KiB durably on disk: {took}")


def clock(actor: ActorConfig, offset_before_ns: int, gauges: Gauges) -> Iterator[Finding]:
    """Says whether the wall clock is kept right, and whether it jumped since `offset_before_ns`."""
    step_ns = gauges.wall_minus_monotonic_ns() - offset_before_ns
    yield judged(
        "clock step",
        f"the wall clock moved by {step_ns / 1e6:+.1f} ms against the monotonic one meanwhile",
        "something sets the clock by jumps: keep one time service, and have it slew",
        is_good=abs(step_ns) <= STEP_NS,
    )
    if actor.is_simulated:
        yield not_asked("clock", "a simulated robot's trials need no right time")
        return
    try:
        state = gauges.clock_state()
    except OSError as error:
        yield not_asked("clock", str(error))
        return
    yield judged(
        "clock",
        f"{'synchronised' if state.is_synchronised else 'not synchronised'}, the kernel's greatest "
        f"error is {state.max_error_s:.3f} s",
        "switch a time service on (`timedatectl set-ntp true`, or chrony): trials are dated by it",
        is_good=state.is_synchronised,
    )
