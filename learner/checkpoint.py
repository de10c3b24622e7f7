"""Checkpoints: all state of a training run in one folder, whole or absent, verified when read.

Tensors go into safetensors, everything else into JSON; a manifest holds the SHA-256 of each file
and of itself. A folder is written as `STEP.tmp`, fsynced and renamed. When the newest is damaged it
is set aside as `STEP.corrupt` and the one before is used, with a warning. If all are damaged that
is an error: training never starts over in silence.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from learner.durable import remove_folder, sha256_hex, write_file, write_folder
from learner.ledger_row import canonical_json

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST_FILE = "manifest.json"
ASIDE_SUFFIX = ".tmp"


class CheckpointCorrupt(RuntimeError):
    """A checkpoint is not what was written, or none of several can be read."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint, verified."""

    path: Path
    num_updates: int
    parts: dict[str, Any]
    """Nested dicts, lists and tuples of tensors, numbers, strings and None, by part."""


class CheckpointStore:
    """Saves and finds checkpoints under one folder; one process at a time.

    Args:
        root: The `checkpoints` folder of a store; made if absent.
        keep: How many of the newest stay.
        unix_ns: Wall clock.
    """

    def __init__(
        self, root: Path, *, keep: int = 3, unix_ns: Callable[[], int] = time.time_ns
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}, at least the newest checkpoint must stay")
        self.root = root
        self._keep = keep
        self._unix_ns = unix_ns
        root.mkdir(parents=True, exist_ok=True)

    def save(self, num_updates: int, parts: Mapping[str, Any]) -> Path:
        """Writes one checkpoint durably and drops those that are too many.

        Raises:
            StoreFull: The disk is full; the checkpoints there were are untouched.
        """
        files: dict[str, bytes] = {}
        for part, state in parts.items():
            tensors: dict[str, Tensor] = {}
            files[f"{part}.json"] = json.dumps(_encode(state, part, tensors)).encode()
            files[f"{part}.safetensors"] = safetensors.torch.save(tensors)
        body = {
            "format": FORMAT,
            "num_updates": num_updates,
            "created_unix_ns": self._unix_ns(),
            "files": {name: sha256_hex(data) for name, data in files.items()},
        }
        manifest = body | {"sha256": _self_digest(body)}
        files[MANIFEST_FILE] = json.dumps(manifest, indent=1).encode()
        for path in self.root.glob(f"*{ASIDE_SUFFIX}"):
            shutil.rmtree(path, ignore_errors=True)
        name = self._free_name(num_updates)
        final = self.root / name
        write_folder(self.root / (name + ASIDE_SUFFIX), final, files, "checkpoint")
        write_file(self.root / "latest", f"{name}\n".encode())
        for path in self.paths()[: -self._keep]:
            remove_folder(path, path.with_name(path.name + ASIDE_SUFFIX))
        return final

    def load_latest(self) -> Checkpoint | None:
        """Returns the newest checkpoint that is sound; None if there never was one.

        Raises:
            CheckpointCorrupt: There are checkpoints and none of them can be read.
        """
        problems = []
        for path in reversed(self.paths()):
            try:
                checkpoint = read_checkpoint(path)
            except CheckpointCorrupt as error:
                problems.append(str(error))
                logger.warning("checkpoint_corrupt path=%s reason=%s", path, error)
                continue
            for damaged in self.paths():
                if _order(damaged.name) > _order(path.name):
                    _set_aside(damaged)
            return checkpoint
        if problems:
            raise CheckpointCorrupt(
                f"no checkpoint in {self.root} can be read; move the folder away to start over: "
                + "; ".join(problems)
            )
        return None

    def paths(self) -> list[Path]:
        """Returns the checkpoints there are, oldest first."""
        names = [n for n in os.listdir(self.root) if all(p.isdecimal() for p in n.split("."))]
        return [self.root / name for name in sorted(names, key=_order)]

    def _free_name(self, num_updates: int) -> str:
        same = [p for p in self.paths() if _order(p.name)[0] == num_updates]
        return f"{num_updates:010d}" + (f".{_order(same[-1].name)[1] + 1}" if same else "")


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies the checkpoint in one folder; CheckpointCorrupt if it is not sound."""
    try:
        manifest = json.loads((path / MANIFEST_FILE).read_bytes())
        digest = manifest.pop("sha256")
        if digest != _self_digest(manifest):
            raise CheckpointCorrupt(f"{path.name}: {MANIFEST_FILE} is damaged")
        if manifest["format"] != FORMAT:
            raise CheckpointCorrupt(
                f"{path.name} has format {manifest['format']}; this program reads {FORMAT}"
            )
        files = {name: (path / name).read_bytes() for name in manifest["files"]}
        for name, sha256 in manifest["files"].items():
            if sha256_hex(files[name]) != sha256:
                raise CheckpointCorrupt(f"{path.name}: {name} is damaged")
        parts = {}
        for name in files:
            part, _, suffix = name.rpartition(".")
            if suffix == "json":
                tensors = safetensors.torch.load(files[f"{part}.safetensors"])
                parts[part] = _decode(json.loads(files[name]), tensors)
        return Checkpoint(path=path, num_updates=int(manifest["num_updates"]), parts=parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointCorrupt(f"{path.name}: {error!r}") from error


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        # A copy: safetensors refuses tensors that share memory.
        tensors[path] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": path}
    if isinstance(value, Mapping):
        items = [[k, _encode(v, f"{path}/{k}", tensors)] for k, v in value.items()]
        if not all(type(k) in (str, int) for k, _ in items):
            raise TypeError(f"{path}: a checkpoint's keys are strings and integers")
        return {"dict": items}
    if isinstance(value, list | tuple):
        items = [_encode(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{path}: a checkpoint cannot hold a {type(value).__name__}")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {k: _decode(v, tensors) for k, v in content}
    items = [_decode(v, tensors) for v in content]
    return tuple(items) if kind == "tuple" else items


def _self_digest(body: Mapping[str, Any]) -> str:
    return sha256_hex(canonical_json(body).encode())


def _order(name: str) -> tuple[int, int]:
    step, _, repeat = name.partition(".")
    return int(step), int(repeat or 0)


def _set_aside(path: Path) -> None:
    target = path.with_name(path.name + ".corrupt")
    shutil.rmtree(target, ignore_errors=True)
    path.rename(target)
    logger.warning("checkpoint_set_aside path=%s", target)
