"""A ring of two trials, and all that is in it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.records import Record
from services.ring import RingReader
from services.ring_memory import Ring, ring_folder
from tests.services.ring_processes import make_spec

SPEC = make_spec()


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring.create(new_path(), SPEC, num_trials=2)
    yield made
    made.unlink()


def new_path() -> Path:
    return ring_folder() / f"offworld-test-{os.getpid()}-{secrets.token_hex(4)}"


def everything(reader: RingReader) -> list[Record]:
    records: list[Record] = []
    while batch := reader.poll(0):
        records += batch
    return records
