"""What all tests need before the first import, and the order of files where several run at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import hypothesis
import pytest

from services.logs import LineFormatter

# Read when MuJoCo is imported, which a test may do before the project does.
os.environ.setdefault("MUJOCO_GL", "egl")

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts whole systems first: a long file that begins last keeps one worker busy for minutes.

    The order is otherwise as it was, that is, random.
    """
    items.sort(key=lambda item: "/e2e/" not in item.nodeid)


@pytest.fixture(autouse=True)
def _logging_put_back() -> Iterator[None]:
    """Undoes `configure_logging`, which a command that a test calls does for its whole process."""
    root = logging.getLogger()
    level = root.level
    yield
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, LineFormatter):
            root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=False)
