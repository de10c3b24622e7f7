"""Several demo runs, one seed each, and what they say together."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services import console
from services.demo_config import DemoConfig
from services.demo_digest import config_digest
from services.demo_result import FILE_NAME, DemoResult
from services.intervals import Rate, bootstrap_mean
from services.process import write_aside

SUMMARY_FILE = "summary.json"
_PHASES = ("zero_shot", "control", "after")


def run_seeds(settings: DemoConfig, run: Callable[[DemoConfig], object]) -> list[DemoResult]:
    """Runs every seed whose result is not there yet; returns all results.

    A result of other configurations, or of another version of offworld, is replaced.

    Args:
        settings: Its `seeds` say which, its `out` where.
        run: Runs one demo.
    """
    results = []
    for seed in settings.seeds:
        one = dataclasses.replace(settings, out=settings.out / f"seed-{seed}", seed=seed, seeds=())
        file = one.out / FILE_NAME
        if (why := _why_to_run(file, config_digest(one))) is not None:
            tell = console.complain if settings.json else console.say
            tell(f"seed {seed} in {one.out}{why}")
            run(one)
        results.append(DemoResult.load(file))
    return results


def _why_to_run(file: Path, digest: str) -> str | None:
    """Returns why a seed has to run, empty if it never did; None if its result is there."""
    if not file.exists():
        return ""
    found = DemoResult.load(file).config_digest
    if found == digest:
        return None
    what = "other configurations or another version" if found else "configurations not known"
    return f" runs again: the result there is of {what}"


def summarise(results: Sequence[DemoResult]) -> dict[str, Any]:
    """Returns means, intervals and counts over seeds, as plain JSON values.

    The interval of a mean is a bootstrap over seeds; the one of a pooled rate is Wilson's and
    treats all trials as independent, which those of one seed are not.
    """
    rates = {name: [getattr(r, name).rate for r in results] for name in _PHASES}
    summary: dict[str, Any] = {
        "seeds": [r.seed for r in results],
        "task": sorted({r.task for r in results}),
        "num_online_trials": sorted({len(r.online) for r in results}),
    }
    for name, found in rates.items():
        pooled = Rate(
            successes=sum(r.successes for r in found), trials=sum(r.trials for r in found)
        )
        values = [r.value for r in found]
        summary[name] = {
            "per_seed": values,
            "mean": float(np.mean(values)),
            "mean_interval_95": _finite(bootstrap_mean(values)),
            "pooled": [pooled.successes, pooled.trials],
            "pooled_interval_95": list(pooled.interval),
        }
    for other in ("zero_shot", "control"):
        gains = [a.value - b.value for a, b in zip(rates["after"], rates[other], strict=True)]
        summary[f"after_minus_{other}"] = {
            "per_seed": gains,
            "mean": float(np.mean(gains)),
            "mean_interval_95": _finite(bootstrap_mean(gains)),
            "num_better": sum(g > 0 for g in gains),
            "num_equal": sum(g == 0 for g in gains),
            "num_worse": sum(g < 0 for g in gains),
        }
    summary["seconds"] = [sum(r.seconds.values()) for r in results]
    summary["peak_memory_bytes"] = max(r.peak_memory_bytes for r in results)
    return summary


def save_summary(summary: dict[str, Any], out: Path) -> Path:
    """Writes the summary as JSON and returns its path."""
    path = out / SUMMARY_FILE
    write_aside(path, json.dumps(summary, indent=1) + "\n")
    return path


def show_summary(results: Sequence[DemoResult], summary: dict[str, Any]) -> None:
    """Prints one line a seed, the means, and in how many seeds finetuning helped."""
    rows: list[tuple[object, ...]] = [
        (
            r.seed,
            *(f"{getattr(r, name).rate.value:.0%}" for name in _PHASES),
            f"{sum(r.seconds.values()):.0f}",
            f"{r.peak_memory_bytes / 2**30:.2f}",
        )
        for r in results
    ]
    means = [f"{summary[name]['mean']:.0%}{_percent(summary[name])}" for name in _PHASES]
    rows.append(("mean", *means, f"{np.mean(summary['seconds']):.0f}", ""))
    console.show_table((">seed", ">before", ">control", ">after", ">seconds", ">peak GiB"), rows)
    for other, words in (("zero_shot", "before"), ("control", "the control")):
        gain = summary[f"after_minus_{other}"]
        console.say(
            f"after against {words}: {gain['mean']:+.0%} on average{_percent(gain)}, better in "
            f"{gain['num_better']} of {len(results)} seeds, worse in {gain['num_worse']}"
        )


def _finite(interval: tuple[float, float]) -> list[float] | None:
    return None if math.isnan(interval[0]) else list(interval)


def _percent(entry: dict[str, Any]) -> str:
    interval = entry["mean_interval_95"]
    return "" if interval is None else f" [{interval[0]:.0%}, {interval[1]:.0%}]"
