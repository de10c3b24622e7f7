"""The folders of a store, and the version of the format they follow."""

from __future__ import annotations

import json
from pathlib import Path

from learner.durable import write_file
from learner.ledger import StoreVersionMismatch

FORMAT = "offworld.store"
VERSION = 1
ARCHIVES = ("offline.zarr", "online.zarr")


class StoreNotFound(FileNotFoundError):
    """There is no store in that folder."""


def trials(root: Path, archive: str) -> Path:
    """Returns the folder with one Zarr group a trial."""
    return root / archive / "trials"


def groups(root: Path) -> list[Path]:
    """Returns the groups of all trials, whether or not the ledger has them."""
    return [
        path
        for archive in ARCHIVES
        for path in sorted(trials(root, archive).iterdir())
        if path.is_dir()
    ]


def check_version(root: Path) -> None:
    """Raises `StoreNotFound` or `StoreVersionMismatch` unless `root` holds a store we can read."""
    try:
        found = json.loads((root / "store.json").read_text(encoding="utf-8"))
        format_, version = found["format"], found["version"]
    except FileNotFoundError as error:
        raise StoreNotFound(f"no store at {root}; `offworld learner` makes one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreVersionMismatch(f"{root}/store.json is not a store's: {error!r}") from error
    if (format_, version) != (FORMAT, VERSION):
        raise StoreVersionMismatch(
            f"{root} holds {format_} version {version}; this program reads {FORMAT} {VERSION}"
        )


def make(root: Path) -> None:
    """Makes the folders of a store in `root`; `seal` must follow once its ledger is there.

    Raises:
        StoreVersionMismatch: There is a store of another version.
    """
    if (root / "store.json").exists():
        check_version(root)
        return
    group = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}).encode()
    for archive in ARCHIVES:
        trials(root, archive).mkdir(parents=True, exist_ok=True)
        write_file(root / archive / "zarr.json", group)
        write_file(trials(root, archive) / "zarr.json", group)
    for name in ("staging", "quarantine", "weights", "checkpoints", "logs", "run"):
        (root / name).mkdir(exist_ok=True)


def seal(root: Path) -> None:
    """Marks the store as whole: from now on readers accept it."""
    if not (root / "store.json").exists():
        mark = {"format": FORMAT, "version": VERSION}
        write_file(root / "store.json", json.dumps(mark).encode())
