"""`make bench`: every figure, one row each, from one run, into deploy/results and the README.

Ratios hold on other machines; absolute times are those of the machine that the first line names.
`python -m tests.bench --only loop --minutes 10` runs a part of it, or for longer; with `--dry` it
writes nothing.
"""

from __future__ import annotations

import datetime
import importlib
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from services import config
from services.machine import machine
from tests.bench import record
from tests.bench.record import BenchRecord, PartRecord
from tests.bench.row import Row

Part = Literal[
    "plan",
    "update",
    "sampling",
    "wire",
    "commit",
    "weights",
    "loop",
    "realtime",
    "malformed",
    "resume",
    "kills",
]
SIZES: dict[Part, tuple[str, ...]] = {
    "weights": ("publishes",),
    "loop": ("minutes",),
    "realtime": ("minutes",),
    "malformed": ("messages",),
    "kills": ("kills",),
}
"""Which flags a part takes."""


@dataclass(frozen=True, kw_only=True)
class BenchFlags:
    """Measures every figure and prints one row each, part by part."""

    only: tuple[Part, ...] = get_args(Part)
    """Parts to run, in this order."""
    minutes: float = 1.0
    """How long each arm moves in `loop` and `realtime`. [min]"""
    publishes: int = 100
    """Versions of weights that are published in `weights`, of each size."""
    messages: int = 100_000
    """Messages that are sent in `malformed`."""
    kills: int = 3
    """How often trainer, ingress, recorder and loop are killed in `kills`, each."""
    dry: bool = False
    """Write neither data nor table."""

    def __post_init__(self) -> None:
        for name in ("minutes", "publishes", "messages", "kills"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


def rows_of(part: Part, flags: BenchFlags) -> Iterable[Row]:
    """Runs one part; its rows come as they are measured."""
    sizes = {name: getattr(flags, name) for name in SIZES.get(part, ())}
    return importlib.import_module(f"tests.bench.bench_{part}").measure(**sizes)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints, row by row, so that a long run shows what it is at."""
    flags = config.load(
        BenchFlags, sys.argv[1:] if argv is None else argv, prog="python -m tests.bench"
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
    sys.stdout.write(
        f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, "
        f"{device}, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}\n"
    )
    today = datetime.datetime.now(tz=datetime.UTC).strftime("%d %B %Y")
    threads = f"{torch.get_num_threads()} threads, {device}, torch {torch.__version__}"
    for part in flags.only:
        rows = []
        for row in rows_of(part, flags):
            sys.stdout.write(f"{row}\n")
            sys.stdout.flush()
            rows.append(row)
        if not flags.dry:
            done = PartRecord(machine=f"{machine()}, {threads}", date=today, rows=tuple(rows))
            record.write(BenchRecord.read().with_part(part, done, get_args(Part)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
