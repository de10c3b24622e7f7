"""What several files of tests here are given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.trial_bench import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    if made.ring is not None:
        made.ring.unlink()
