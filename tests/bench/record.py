"""What was measured last of each figure, as data and as the table of the README."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.demo_config import CONFIGS
from tests.bench.row import Row
from tests.marked_table import with_part

DATA = CONFIGS.parent / "results" / "bench.json"
PAGE = CONFIGS.parents[1] / "README.md"
_HEAD = ("| figure | measured | aim |", "|---|---|---|")


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """One part of the benchmark, as it was run last."""

    machine: str
    date: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class BenchRecord:
    """Every part, in the order of the benchmark."""

    parts: dict[str, PartRecord]

    @classmethod
    def read(cls, path: Path = DATA) -> BenchRecord:
        """Reads `to_json`'s file; nothing was measured where there is none."""
        if not path.exists():
            return cls(parts={})
        raw = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            parts={
                name: PartRecord(**part | {"rows": tuple(Row(**row) for row in part["rows"])})
                for name, part in raw.items()
            }
        )

    def to_json(self) -> str:
        """Returns it as the text of a file."""
        parts = {name: dataclasses.asdict(part) for name, part in self.parts.items()}
        return json.dumps(parts, indent=1) + "\n"

    def with_part(self, name: str, part: PartRecord, order: Sequence[str]) -> BenchRecord:
        """Returns it with a part in the place of the one of its name, in the order given."""
        parts = {**self.parts, name: part}
        return BenchRecord(parts={n: parts[n] for n in order if n in parts})

    def table(self) -> str:
        """Returns the rows that have an aim, a line each, and where they were measured."""
        places: dict[tuple[str, str], list[str]] = {}
        for name, part in self.parts.items():
            places.setdefault((part.machine, part.date), []).append(name)
        lines = [
            f"{', '.join(names)}: {machine}, {date}." for (machine, date), names in places.items()
        ]
        for part in self.parts.values():
            lines += [_line(row) for row in part.rows if row.target != "-"]
        num_places = len(places)
        return "\n".join([*lines[:num_places], "", *_HEAD, *lines[num_places:]]) + "\n"


def write(record: BenchRecord, data: Path = DATA, page: Path = PAGE) -> None:
    """Writes the data, and the table into the README."""
    data.write_text(record.to_json(), encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    page.write_text(with_part(text, "bench", record.table()), encoding="utf-8")


def _line(row: Row) -> str:
    value = str(row.value) if isinstance(row.value, int) else f"{row.value:.2f}"
    unit = f" {row.unit}" if row.unit else ""
    return f"| {row.figure} | {value}{unit} | {row.target} |"
