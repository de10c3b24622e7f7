"""What decides a demo's result, as one digest: two runs with the same one need not both be run."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from services import config
from services.actor_config import ActorConfig
from services.config_text import to_toml
from services.demo_config import DemoConfig
from services.learner_config import LearnerConfig
from services.process import software_version


def config_digest(settings: DemoConfig) -> str:
    """Returns the SHA-256 of the seed, all configurations as resolved, and offworld's version.

    Where the run is kept, and what it prints, is left out.

    Raises:
        ConfigError: The learner's or the actor's file cannot be read.
    """
    plain = dataclasses.replace(
        settings,
        json=False,
        out=Path(),
        seeds=(),
        learner_config=Path(),  # their contents count, below
        actor_config=Path(),
    )
    parts = (
        software_version(),
        _values(plain),
        _values(config.build_file(LearnerConfig, settings.learner_config)),
        _values(config.build_file(ActorConfig, settings.actor_config)),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _values(resolved: object) -> str:
    """Returns a configuration as TOML without its comments, which may be worded anew."""
    lines = to_toml(resolved).splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))
