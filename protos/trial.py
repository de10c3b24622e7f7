"""The trial: the unit of exchange between robots and learners, and the spec both must agree on.

A trial of L steps holds L + 1 observations: row t is what the robot saw before action t, row L is
the final observation. Every invariant is checked on construction, so a `Trial` that exists is a
valid one. Plain numpy and the standard library: robots and learners both import this module.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from protos.provenance import Provenance, Source

MAX_TRIAL_STEPS = 100_000
MAX_FIELD_ELEMENTS = 64 << 20
OBSERVATION_PREFIX = "observation/"
STEP_PREFIX = "step/"
_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_DTYPES = frozenset({"uint8", "float32", "float64", "int64", "bool"})


class SpecMismatch(ValueError):
    """The two sides describe the robot differently; the message lists the fields that differ."""


class TrialRejected(ValueError):
    """A trial breaks an invariant or does not fit the spec; the message says which and how."""


class Outcome(StrEnum):
    """How a trial ended. Aborted trials are kept and never trained on."""

    SUCCESS = "success"
    FAILURE = "failure"
    ABORTED = "aborted"


class Fallback(StrEnum):
    """What was commanded instead of a fresh plan."""

    NONE = "none"
    SHIFTED = "shifted"
    HOLD = "hold"
    OPERATOR = "operator"
    """A person steered."""


FALLBACK_CODES = {
    Fallback.NONE: 0,
    Fallback.SHIFTED: 1,
    Fallback.HOLD: 2,
    Fallback.OPERATOR: 3,
}


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """One observed array of one step."""

    name: str
    """Dotted lower-case name, such as `image.front` or `state`."""
    dtype: str
    shape: tuple[int, ...]
    unit: str = ""
    """What the numbers mean, for people."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SpecMismatch(f"field name {self.name!r} is not dotted lower case")
        if self.dtype not in _DTYPES:
            raise SpecMismatch(f"field {self.name}: dtype {self.dtype!r} is not one of {_DTYPES}")
        if any(n < 1 for n in self.shape) or int(np.prod(self.shape)) > MAX_FIELD_ELEMENTS:
            raise SpecMismatch(f"field {self.name}: shape {self.shape} is empty or too large")


@dataclass(frozen=True, kw_only=True)
class RobotSpec:
    """What one robot observes and how it is commanded; actor and learner must agree on it all."""

    task: str
    observations: tuple[FieldSpec, ...]
    action_names: tuple[str, ...]
    """One name an axis, in order; actions are normalised to [-1, 1]."""
    action_scale: tuple[float, ...]
    """What an action of 1 means on each axis: metres per step, or gripper opening per step."""
    control_hz: float
    max_steps: int
    """Steps after which a trial is truncated."""

    def __post_init__(self) -> None:
        if len({f.name for f in self.observations}) != len(self.observations):
            raise SpecMismatch("two observation fields share a name")
        if not self.observations or not self.action_names:
            raise SpecMismatch("a robot needs at least one observation and one action axis")
        if len(self.action_scale) != len(self.action_names):
            raise SpecMismatch("action_scale and action_names differ in length")
        if not (self.control_hz > 0 and 1 <= self.max_steps <= MAX_TRIAL_STEPS):
            raise SpecMismatch("control_hz and max_steps must be positive")

    @property
    def action_size(self) -> int:
        """Number of action axes A."""
        return len(self.action_names)

    @property
    def image_fields(self) -> tuple[FieldSpec, ...]:
        """Observation fields that hold camera images, uint8 [Y, X, C]."""
        return tuple(f for f in self.observations if f.name.startswith("image."))

    def field(self, name: str) -> FieldSpec:
        """Returns the observation field called `name`; KeyError if there is none."""
        for field in self.observations:
            if field.name == name:
                return field
        raise KeyError(name)

    def to_json(self) -> str:
        """Returns the canonical text form, the one that is digested."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RobotSpec:
        """Reads `to_json`'s form; SpecMismatch if the text is anything else."""
        try:
            raw = json.loads(text)
            fields = tuple(
                FieldSpec(name=f["name"], dtype=f["dtype"], shape=tuple(f["shape"]), unit=f["unit"])
                for f in raw["observations"]
            )
            return cls(
                task=str(raw["task"]),
                observations=fields,
                action_names=tuple(raw["action_names"]),
                action_scale=tuple(float(x) for x in raw["action_scale"]),
                control_hz=float(raw["control_hz"]),
                max_steps=int(raw["max_steps"]),
            )
        except OverflowError as error:
            raise SpecMismatch(f"not a robot spec: a number is too large ({error})") from error
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, SpecMismatch):
                raise
            raise SpecMismatch(f"not a robot spec: {error}") from error

    def digest(self) -> str:
        """Returns the SHA-256 of the canonical form, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def difference(self, other: RobotSpec) -> list[str]:
        """Lists, field by field, where `other` differs; empty when the two agree."""
        mine, theirs = _flat(dataclasses.asdict(self)), _flat(dataclasses.asdict(other))
        return [
            f"{key}: {mine.get(key, 'absent')} here, {theirs.get(key, 'absent')} there"
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key) != theirs.get(key)
        ]


def _flat(spec: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {k: v for k, v in spec.items() if k != "observations"}
    for field in spec["observations"]:
        for key in ("dtype", "shape", "unit"):
            flat[f"observations[{field['name']}].{key}"] = field[key]
    return flat


def step_fields(spec: RobotSpec) -> tuple[FieldSpec, ...]:
    """Returns the columns every step of a trial has beside its observations."""
    action = (spec.action_size,)
    scalar: tuple[tuple[str, str, str], ...] = (
        ("reward", "float32", "task reward of the step"),
        ("terminated", "bool", "the task ended here: no bootstrap"),
        ("truncated", "bool", "cut here by time or by us: bootstrap"),
        ("t_scheduled_ns", "int64", "deadline of the tick, monotonic"),
        ("t_observed_ns", "int64", "when the oldest frame seen was taken, monotonic"),
        ("t_planned_ns", "int64", "when the plan was ready, monotonic"),
        ("t_commanded_ns", "int64", "when the arm was given its target, monotonic"),
        ("deadline_missed", "bool", "its plan was not there in time, or its command"),
        ("plan_value", "float32", "the plan's estimated return; NaN if nothing was planned"),
        (
            "plan_uncertainty",
            "float32",
            "std over the Q ensemble of the chosen action; NaN likewise",
        ),
        ("weights_version", "int64", "version that planned the step; 0 for none"),
        ("fallback", "uint8", "0 none, 1 shifted plan, 2 hold, 3 operator"),
        ("clamped", "bool", "the safety gate changed the action"),
    )
    return (
        FieldSpec(name="action", dtype="float32", shape=action, unit="as planned, [-1, 1]"),
        FieldSpec(name="action_executed", dtype="float32", shape=action, unit="after the gate"),
        *(FieldSpec(name=n, dtype=d, shape=(), unit=u) for n, d, u in scalar),
    )


# Columns of steps in which NaN is a value: nothing was planned. Infinity is one nowhere.
MAY_BE_NAN = frozenset({"plan_value", "plan_uncertainty"})


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial, whole: observations one row longer than the steps, outcome and provenance.

    Raises:
        TrialRejected: An array is missing, has another dtype, length or shape, or is not finite.
    """

    trial_id: str
    """UUIDv7, minted before the first step; canonical text form."""
    spec: RobotSpec
    provenance: Provenance
    outcome: Outcome
    observations: Mapping[str, np.ndarray]
    """By field name. [L + 1, *field.shape]"""
    steps: Mapping[str, np.ndarray]
    """By column name, see `step_fields`. [L, *field.shape]"""
    abort_reason: str = ""

    def __post_init__(self) -> None:
        check_trial_id(self.trial_id)
        length = self.num_steps
        if length > self.spec.max_steps:
            raise TrialRejected(f"{length} steps; the spec allows {self.spec.max_steps}")
        if length < 1 and self.outcome is not Outcome.ABORTED:
            raise TrialRejected("a trial that was not aborted needs at least one step")
        _check_columns("observation", self.spec.observations, self.observations, length + 1)
        _check_columns("step", step_fields(self.spec), self.steps, length)
        ends = self.steps["terminated"] | self.steps["truncated"]
        if ends[:-1].any():
            raise TrialRejected("a step before the last one is marked as the end")
        if length and self.outcome is not Outcome.ABORTED and not ends[-1]:
            raise TrialRejected("the last step is neither terminated nor truncated")
        if length and float(np.abs(self.steps["action"]).max()) > 1.0:
            raise TrialRejected("an action lies outside [-1, 1]")

    @property
    def num_steps(self) -> int:
        """Number of steps L."""
        return int(self.steps["reward"].shape[0]) if "reward" in self.steps else 0

    @property
    def is_success(self) -> bool:
        """Whether the task was reached at any step."""
        return self.outcome is Outcome.SUCCESS

    @property
    def is_trainable(self) -> bool:
        """Whether a learner may train on it: complete, and not an evaluation."""
        return self.outcome is not Outcome.ABORTED and self.provenance.source is not Source.EVAL

    @property
    def total_reward(self) -> float:
        """Undiscounted sum of rewards."""
        return float(self.steps["reward"].sum())

    def columns(self) -> dict[str, np.ndarray]:
        """Returns every array under its prefixed name, in canonical (sorted) order."""
        named = {OBSERVATION_PREFIX + k: v for k, v in self.observations.items()}
        named |= {STEP_PREFIX + k: v for k, v in self.steps.items()}
        return dict(sorted(named.items()))

    def header(self) -> dict[str, Any]:
        """Returns all that is not an array, as plain JSON values."""
        return {
            "trial_id": self.trial_id,
            "spec": json.loads(self.spec.to_json()),
            "provenance": self.provenance.to_header(),
            "outcome": self.outcome.value,
            "abort_reason": self.abort_reason,
        }

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> Trial:
        """Rebuilds a trial from `header()` and `columns()`; TrialRejected if they are not that."""
        try:
            observations = {
                name.removeprefix(OBSERVATION_PREFIX): array
                for name, array in columns.items()
                if name.startswith(OBSERVATION_PREFIX)
            }
            steps = {
                name.removeprefix(STEP_PREFIX): array
                for name, array in columns.items()
                if name.startswith(STEP_PREFIX)
            }
            return cls(
                trial_id=str(header["trial_id"]),
                spec=RobotSpec.from_json(json.dumps(header["spec"])),
                provenance=Provenance.from_header(header["provenance"]),
                outcome=Outcome(header["outcome"]),
                observations=observations,
                steps=steps,
                abort_reason=str(header["abort_reason"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise TrialRejected(f"not a trial header: {error!r}") from error
        except ValueError as error:
            raise TrialRejected(str(error)) from error

    def digest(self) -> str:
        """Returns the SHA-256 over header and arrays, in hex: equal digests, equal trials."""
        sha = hashlib.sha256(
            json.dumps(self.header(), sort_keys=True, separators=(",", ":")).encode()
        )
        for name, array in self.columns().items():
            sha.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


def _check_columns(
    kind: str, fields: tuple[FieldSpec, ...], arrays: Mapping[str, np.ndarray], length: int
) -> None:
    names = {f.name for f in fields}
    if names != arrays.keys():
        raise TrialRejected(
            f"{kind} columns: missing {sorted(names - arrays.keys())}, "
            f"unexpected {sorted(arrays.keys() - names)}"
        )
    for field in fields:
        array = arrays[field.name]
        if array.dtype != np.dtype(field.dtype) or array.shape != (length, *field.shape):
            raise TrialRejected(
                f"{kind} {field.name}: expected {field.dtype} {(length, *field.shape)}, "
                f"got {array.dtype} {array.shape}"
            )
        if array.dtype.kind == "f":
            may_be_nan = kind == "step" and field.name in MAY_BE_NAN
            is_bad = np.isinf(array) if may_be_nan else ~np.isfinite(array)
            if bool(is_bad.any()):
                raise TrialRejected(f"{kind} {field.name}: not finite")


def check_trial_id(text: str) -> str:
    """Returns `text` if it is a UUIDv7 in canonical form; TrialRejected otherwise."""
    try:
        value = uuid.UUID(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise TrialRejected(f"trial id {text[:64]!r} is not a UUID") from error
    if str(value) != text or value.version != 7:
        raise TrialRejected(f"trial id {text!r} is not a version 7 UUID in canonical form")
    return text


def new_trial_id(
    unix_ns: Callable[[], int] = time.time_ns, random: Callable[[int], bytes] = os.urandom
) -> str:
    """Mints a UUIDv7 (RFC 9562): 48 bits of milliseconds, then random bits."""
    value = (unix_ns() // 1_000_000) & ((1 << 48) - 1)
    tail = int.from_bytes(random(10), "big")
    number = (
        value << 80 | 0x7 << 76 | (tail >> 68 & 0xFFF) << 64 | 0b10 << 62 | tail & (1 << 62) - 1
    )
    return str(uuid.UUID(int=number))
