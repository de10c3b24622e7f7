"""What a demo measured: the contents of `result.json`, and nothing that only a picture needs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.intervals import Rate

SCHEMA = 2
FILE_NAME = "result.json"


class ResultUnreadable(ValueError):
    """A result file is not one, or is of another schema; the message says which."""


@dataclass(frozen=True, kw_only=True)
class PositionOutcome:
    """One evaluation trial at one fixed position."""

    position_index: int
    x_m: float
    y_m: float
    """Where the target stood, in the arm's base frame. [m]"""
    is_success: bool
    num_steps: int
    trial_id: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One pass over the fixed positions with one version of the weights."""

    weights_version: int
    num_updates: int
    """Updates behind those weights."""
    outcomes: tuple[PositionOutcome, ...]

    @property
    def rate(self) -> Rate:
        """Success rate over the positions."""
        return Rate(successes=sum(o.is_success for o in self.outcomes), trials=len(self.outcomes))


@dataclass(frozen=True, kw_only=True)
class OnlineTrial:
    """One trial that the model was finetuned on."""

    trial_id: str
    is_success: bool
    num_steps: int
    total_reward: float
    weights_version: int


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The outcome of one demo run."""

    seed: int
    task: str
    num_offline_trials: int
    num_offline_successes: int
    recorded_region_m: tuple[float, float, float, float]
    """Where targets stood in the offline trials: x low, x high, y low, y high. [m]"""
    table_region_m: tuple[float, float, float, float]
    """Where targets stand online and in the evaluation, likewise. [m]"""
    variation: str
    """What else differs online and in the evaluation: one of `VARIATIONS`, `none` for nothing."""
    zero_shot: Evaluation
    """After pretraining on the offline trials."""
    after: Evaluation
    """After finetuning on the online trials too."""
    control: Evaluation
    """After as many further updates on the offline trials alone."""
    online: tuple[OnlineTrial, ...]
    seconds: Mapping[str, float]
    """Wall-clock time of each phase. [s]"""
    peak_memory_bytes: int
    """Largest memory of all processes together, pages that several share counted once."""
    peak_resident_bytes: int
    """Largest sum of resident sizes, in which shared pages count again in every process."""
    versions: Mapping[str, str]
    machine: str
    config_digest: str = ""
    """What decided the result, see `services/demo_digest.py`; empty in results of before."""
    schema: int = SCHEMA
    settings: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the result as JSON, aside and renamed."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; rates and intervals are added for readers."""
        values = dataclasses.asdict(self)
        for name in ("zero_shot", "after", "control"):
            rate = getattr(self, name).rate
            values[name]["rate"] = rate.value
            values[name]["interval_95"] = list(rate.interval)
        return values

    @classmethod
    def load(cls, path: Path) -> DemoResult:
        """Reads what `save` wrote; ResultUnreadable if the file is anything else."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw["schema"] != SCHEMA:
                raise ResultUnreadable(f"{path}: schema {raw['schema']}, this reads {SCHEMA}")
            for name in ("zero_shot", "after", "control"):
                raw[name] = Evaluation(
                    weights_version=raw[name]["weights_version"],
                    num_updates=raw[name]["num_updates"],
                    outcomes=tuple(PositionOutcome(**o) for o in raw[name]["outcomes"]),
                )
            raw["online"] = tuple(OnlineTrial(**t) for t in raw["online"])
            for name in ("recorded_region_m", "table_region_m"):
                raw[name] = tuple(raw[name])
            return cls(**raw)
        except OSError as error:
            raise ResultUnreadable(f"{path}: {error.strerror}") from error
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ResultUnreadable(f"{path}: not a demo result: {error!r}") from error
