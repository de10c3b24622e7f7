"""Ways of doing the same thing, timed in turns, so that a busy machine hits all alike."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One way against the baseline; medians over the rounds of one run."""

    figure: str
    ours: float
    baseline: float
    ratio: float
    """Median over the rounds of baseline / ours."""
    unit: str
    config: str
    target: str

    def to_json(self, machine: Mapping[str, Any]) -> str:
        """Returns the row as one line of JSON."""
        return json.dumps({**dataclasses.asdict(self), "machine": dict(machine)})


def machine() -> dict[str, Any]:
    """Returns what the numbers depend on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
    }


@contextlib.contextmanager
def one_thread() -> Iterator[bool]:
    """Has torch compute in one thread, as actors do; yields whether its processor time can be used.

    That is what a busy machine distorts least. With a GPU the time that counts is the clock's.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield not torch.cuda.is_available()
    finally:
        torch.set_num_threads(before)


def time_in_turns(
    calls: Mapping[str, Callable[[int], object]], *, rounds: int, uses_cpu_time: bool = False
) -> dict[str, list[float]]:
    """Calls each of `calls` once a round with the round's number, after two rounds to warm up.

    Args:
        calls: What to time, by name.
        rounds: Rounds that count.
        uses_cpu_time: Count the process's own processor time, for one thread on a shared machine.

    Returns:
        Milliseconds of every round, by name.
    """
    clock = time.process_time if uses_cpu_time else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 2):
        for name, call in calls.items():
            begin = clock()
            call(number)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= 2:
                times[name].append(1e3 * (clock() - begin))
    return times


def compare(
    times: Mapping[str, list[float]], baseline: str, *, targets: Mapping[str, str], config: str
) -> list[Comparison]:
    """Returns a row for everything but the baseline."""
    return [
        Comparison(
            figure=name,
            ours=statistics.median(values),
            baseline=statistics.median(times[baseline]),
            ratio=statistics.median(
                b / ours for b, ours in zip(times[baseline], values, strict=True)
            ),
            unit="ms",
            config=config,
            target=targets.get(name, "-"),
        )
        for name, values in times.items()
        if name != baseline
    ]
