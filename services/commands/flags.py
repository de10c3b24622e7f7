"""Flags that several commands share, with the same names and meaning everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from services.address import DEFAULT_ADDRESS
from services.config import ConfigError
from services.credentials import ClientSecurity

__all__ = ["LearnerFlag", "OutputFlags", "Positional", "SourceFlags"]

DEFAULT_STORE = Path("runs/store")


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """How a command answers."""

    json: bool = False
    """Print JSON, one value a line, for scripts."""


@dataclass(frozen=True, kw_only=True)
class LearnerFlag(ClientSecurity):
    """Which learner to ask."""

    learner: str = DEFAULT_ADDRESS
    """HOST:PORT of the learner."""


@dataclass(frozen=True, kw_only=True)
class SourceFlags(ClientSecurity):
    """Where to read trials: a store on this machine, or a running learner."""

    store: Path | None = None
    """Folder of a store on this machine."""
    learner: str | None = None
    """HOST:PORT of a learner."""

    def __post_init__(self) -> None:
        if self.store is not None and self.learner is not None:
            raise ConfigError("give --store or --learner, not both")
