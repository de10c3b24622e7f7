"""One trial as text: where it comes from, and what happened when at each of its steps."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from protos.provenance import CameraFacts
from protos.trial import FALLBACK_CODES, Trial

_FALLBACK_NAMES = {code: str(fallback) for fallback, code in FALLBACK_CODES.items()}
_TIMES = ("scheduled", "observed", "planned", "commanded")

STEP_COLUMNS = (
    ">step",
    *(f">{name} ms" for name in _TIMES),
    ">value",
    ">uncertainty",
    ">weights",
    ">reward",
    "fallback",
    "executed",
    "notes",
)


def describe(trial: Trial, digest: str) -> dict[str, object]:
    """Returns what there is to say about the whole trial, by name."""
    provenance = trial.provenance
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(provenance.started_unix_ns / 1e9))
    facts: dict[str, object] = {
        "trial": trial.trial_id,
        "task": trial.spec.task,
        "outcome": trial.outcome.value,
        "source": provenance.source.value,
        "actor": f"{provenance.actor} (incarnation {provenance.incarnation})",
        "began": began,
        "steps": f"{trial.num_steps} of at most {trial.spec.max_steps}",
        "reward": f"{trial.total_reward:g}",
        "weights": _weights(provenance.weights_version, provenance.weights_digest),
        "seed": provenance.seed,
        "digest": digest,
        "software": provenance.software,
    }
    for camera in provenance.cameras:
        facts[f"camera {camera.name}"] = _camera(camera)
    if provenance.position_index is not None:
        facts["position"] = provenance.position_index
    if provenance.note:
        facts["note"] = provenance.note
    if trial.abort_reason:
        facts["aborted"] = trial.abort_reason
    return facts


def _camera(camera: CameraFacts) -> str:
    lens = camera.intrinsics
    named = [camera.model, camera.serial and f"serial {camera.serial}"]
    named += [camera.firmware and f"firmware {camera.firmware}"]
    words = [" ".join(word for word in named if word), f"{lens.width}x{lens.height}"]
    words.append(f"focal length {lens.fx_px:.1f}, {lens.fy_px:.1f} px")
    if camera.exposure_s is not None:
        words.append(f"exposure {1e3 * camera.exposure_s:g} ms")
    return ", ".join(word for word in words if word)


def step_rows(trial: Trial) -> list[dict[str, Any]]:
    """Returns one mapping a step, as plain JSON values.

    Times are milliseconds since the first step was scheduled, on the actor's monotonic clock. A
    number that does not exist, as the value of a step that nobody planned, is None.
    """
    steps = trial.steps
    origin_ns = int(steps["t_scheduled_ns"][0]) if trial.num_steps else 0
    rows = []
    for i in range(trial.num_steps):
        row: dict[str, Any] = {"step": i}
        for name in _TIMES:
            row[f"{name}_ms"] = (int(steps[f"t_{name}_ns"][i]) - origin_ns) / 1e6
        row |= {
            "value": _number(steps["plan_value"][i]),
            "uncertainty": _number(steps["plan_uncertainty"][i]),
            "weights_version": int(steps["weights_version"][i]),
            "reward": float(steps["reward"][i]),
            "fallback": _FALLBACK_NAMES.get(int(steps["fallback"][i]), "unknown"),
            "action": [float(a) for a in steps["action"][i]],
            "action_executed": [float(a) for a in steps["action_executed"][i]],
            "is_clamped": bool(steps["clamped"][i]),
            "is_deadline_missed": bool(steps["deadline_missed"][i]),
            "is_terminated": bool(steps["terminated"][i]),
            "is_truncated": bool(steps["truncated"][i]),
        }
        rows.append(row)
    return rows


def step_cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    """Returns the values of `STEP_COLUMNS` for one of `step_rows`."""
    notes = [
        word
        for word, flag in (
            ("clamped", "is_clamped"),
            ("late", "is_deadline_missed"),
            ("terminated", "is_terminated"),
            ("truncated", "is_truncated"),
        )
        if row[flag]
    ]
    return (
        row["step"],
        *(f"{row[f'{name}_ms']:.1f}" for name in _TIMES),
        "-" if row["value"] is None else f"{row['value']:.3f}",
        "-" if row["uncertainty"] is None else f"{row['uncertainty']:.3f}",
        f"v{row['weights_version']}" if row["weights_version"] else "-",
        f"{row['reward']:g}",
        row["fallback"],
        " ".join(f"{a:+.2f}" for a in row["action_executed"]),
        " ".join(notes),
    )


def _weights(version: int, digest: str) -> str:
    return f"v{version} ({digest[:12]})" if version else "none"


def _number(value: np.floating[Any]) -> float | None:
    return None if math.isnan(value) else float(value)
