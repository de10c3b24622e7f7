"""The algorithms by name: how a configuration becomes a learner, a policy, or text and back.

Torch is loaded with the first learner or policy: a process that only reads configurations needs
none of it.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import TYPE_CHECKING, Any

from learner.algorithms.fowm_config import FowmConfig
from protos.trial import RobotSpec

if TYPE_CHECKING:
    import torch

    from learner.algorithms.base import Algorithm, Policy

AlgorithmConfig = FowmConfig
"""Union of the configurations of all algorithms."""

_NAMES: dict[str, type[AlgorithmConfig]] = {"fowm": FowmConfig}


def make_algorithm(
    config: AlgorithmConfig, spec: RobotSpec, device: torch.device | str, seed: int
) -> Algorithm:
    """Returns the learner that `config` describes, untrained."""
    from learner.algorithms.fowm import FowmAlgorithm

    return FowmAlgorithm(config, spec, device, seed)


def make_policy(
    config: AlgorithmConfig, spec: RobotSpec, device: torch.device | str, seed: int
) -> Policy:
    """Returns the policy that acts for `config`, with random weights until `load`."""
    from learner.algorithms.fowm_policy import FowmPolicy

    return FowmPolicy(config, spec, device, seed)


def policy_config_to_json(config: AlgorithmConfig) -> str:
    """Returns the text that travels with weights, so that an actor can build their policy."""
    name = next(key for key, value in _NAMES.items() if isinstance(config, value))
    return json.dumps({"algorithm": name, **dataclasses.asdict(config)}, sort_keys=True)


def policy_config_from_json(text: str) -> AlgorithmConfig:
    """Reads `policy_config_to_json`'s text.

    Raises:
        ValueError: Not that: an unknown algorithm, key or type, or a value out of range.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"policy config is not JSON: {error}") from error
    name = raw.pop("algorithm", None) if isinstance(raw, dict) else None
    kind = _NAMES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"policy config names no algorithm of {sorted(_NAMES)}")
    return _read(kind, raw, "policy config")


def _read(kind: type[Any], raw: dict[str, Any], path: str) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = sorted(raw.keys() - hints.keys())
    missing = sorted(hints.keys() - raw.keys())
    if unknown or missing:
        raise ValueError(f"{path}: unknown keys {unknown}, missing keys {missing}")
    return kind(**{key: _value(hints[key], raw[key], f"{path}.{key}") for key in raw})


def _value(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ValueError(f"{path}: expected a table, got {value!r}")
        return _read(hint, value, path)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        fits = value in typing.get_args(hint)
    elif origin in (types.UnionType, typing.Union):
        fits = any(_is_a(value, option) for option in typing.get_args(hint))
    else:
        fits = _is_a(value, hint)
    if not fits:
        raise ValueError(f"{path}: {value!r} is not {hint}")
    return float(value) if hint is float else value


def _is_a(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
