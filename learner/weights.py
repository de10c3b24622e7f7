"""Published weights: one folder a version, whole or absent, read by the ingress and the actors.

A version is written aside, fsynced and renamed, then `latest` is replaced. Version numbers only
grow, also across restarts. Weights that hold a NaN or an infinity are never published and never
loaded. numpy only: the processes that pass weights on do not load torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from learner.durable import remove_folder, sha256_hex, write_file, write_folder

DATA_FILE = "weights.safetensors"
MANIFEST_FILE = "manifest.json"
ASIDE_PREFIX = ".aside-"


class WeightsNotFinite(RuntimeError):
    """A tensor holds a NaN or an infinity; the message names it."""


class WeightsCorrupt(RuntimeError):
    """A version is missing, damaged, or not what its manifest says."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One tensor of a version."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class WeightsManifest:
    """What a version is, and how to know that it arrived whole."""

    version: int
    train_step: int
    """Updates the learner had done."""
    sha256: str
    """Of the safetensors file, in hex."""
    num_bytes: int
    """Size of the safetensors file."""
    tensors: tuple[TensorSpec, ...]
    """In order of name."""
    spec_digest: str
    """Digest of the robot spec the weights were learned for."""
    policy_config: str
    """JSON from which an actor builds the policy that these weights fit."""
    ledger_seq: int
    """Every trial up to this one has been trained on in full: no update was owed."""
    num_online_trials: int
    """Online trials trained on."""
    created_unix_ns: int
    learner_id: str

    def to_json(self) -> str:
        """Returns the text form, one line."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> WeightsManifest:
        """Reads `to_json`'s form; WeightsCorrupt if the text is anything else."""
        try:
            raw: dict[str, Any] = json.loads(text)
            tensors = tuple(
                TensorSpec(name=str(t["name"]), dtype=str(t["dtype"]), shape=tuple(t["shape"]))
                for t in raw.pop("tensors")
            )
            manifest = cls(**raw, tensors=tensors)
            for field in dataclasses.fields(cls):
                wanted = {"int": int, "str": str}.get(str(field.type), tuple)
                if type(getattr(manifest, field.name)) is not wanted:
                    raise TypeError(f"{field.name} is not {field.type}")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise WeightsCorrupt(f"not a weights manifest: {error!r}") from error
        return manifest


def check_finite(tensors: Mapping[str, np.ndarray]) -> None:
    """Raises `WeightsNotFinite` if any number of any tensor is NaN or infinite."""
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not bool(np.isfinite(tensor).all()):
            raise WeightsNotFinite(f"tensor {name} {tensor.shape} holds a NaN or an infinity")


def parse_weights(data: bytes, manifest: WeightsManifest) -> dict[str, np.ndarray]:
    """Returns the tensors in `data`, checked against the manifest in every respect.

    Raises:
        WeightsCorrupt: Size, digest, names, shapes or types differ.
        WeightsNotFinite: A number is NaN or infinite.
    """
    if len(data) != manifest.num_bytes or sha256_hex(data) != manifest.sha256:
        raise WeightsCorrupt(
            f"weights version {manifest.version}: {len(data)} bytes with another digest than the "
            f"{manifest.num_bytes} bytes of the manifest"
        )
    try:
        tensors = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsCorrupt(f"weights version {manifest.version}: {error}") from error
    if _tensor_specs(tensors) != manifest.tensors:
        raise WeightsCorrupt(
            f"weights version {manifest.version}: the tensors are not those of the manifest"
        )
    check_finite(tensors)
    return tensors


class WeightStore:
    """Publishes and reads versions under one folder; any number of processes may read.

    Args:
        root: The `weights` folder of a store; made if absent.
        keep: How many of the newest versions stay.
        unix_ns: Wall clock.
    """

    def __init__(
        self, root: Path, *, keep: int = 8, unix_ns: Callable[[], int] = time.time_ns
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}, at least the newest version must stay")
        self.root = root
        self._keep = keep
        self._unix_ns = unix_ns
        root.mkdir(parents=True, exist_ok=True)

    def publish(
        self,
        tensors: Mapping[str, np.ndarray],
        *,
        train_step: int,
        spec_digest: str,
        policy_config: str,
        ledger_seq: int,
        num_online_trials: int,
        learner_id: str,
    ) -> WeightsManifest:
        """Makes `tensors` the newest version, durably; see `WeightsManifest` for the fields.

        Raises:
            WeightsNotFinite: A number is NaN or infinite; nothing was published.
            StoreFull: The disk is full; nothing was published.
        """
        check_finite(tensors)
        data = safetensors.numpy.save({k: np.asarray(v, order="C") for k, v in tensors.items()})
        manifest = WeightsManifest(
            version=max([0, *self.versions()]) + 1,
            train_step=train_step,
            sha256=sha256_hex(data),
            num_bytes=len(data),
            tensors=_tensor_specs(tensors),
            spec_digest=spec_digest,
            policy_config=policy_config,
            ledger_seq=ledger_seq,
            num_online_trials=num_online_trials,
            created_unix_ns=self._unix_ns(),
            learner_id=learner_id,
        )
        self._remove_leftovers()
        name = str(manifest.version)
        write_folder(
            self.root / f"{ASIDE_PREFIX}{name}",
            self.root / name,
            {DATA_FILE: data, MANIFEST_FILE: manifest.to_json().encode()},
            "weights",
        )
        write_file(self.root / "latest", f"{name}\n".encode())
        for version in self.versions()[: -self._keep]:
            remove_folder(self.root / str(version), self.root / f"{ASIDE_PREFIX}old-{version}")
        return manifest

    def versions(self) -> list[int]:
        """Returns the versions there are, oldest first."""
        return sorted(int(entry) for entry in os.listdir(self.root) if entry.isdecimal())

    def latest_version(self) -> int | None:
        """Returns the newest version that was published in full; None before the first."""
        try:
            return int((self.root / "latest").read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise WeightsCorrupt(f"{self.root}/latest does not name a version") from error

    def latest(self) -> WeightsManifest | None:
        """Returns the manifest of the newest version; None before the first."""
        version = self.latest_version()
        return None if version is None else self.manifest(version)

    def manifest(self, version: int) -> WeightsManifest:
        """Returns the manifest of one version.

        Raises:
            WeightsCorrupt: There is no such version any more, or its manifest is damaged.
        """
        manifest = WeightsManifest.from_json(self._read(version, MANIFEST_FILE, 0, None))
        if manifest.version != version:
            raise WeightsCorrupt(f"version {version} says that it is {manifest.version}")
        return manifest

    def read(self, version: int, offset: int, num_bytes: int) -> bytes:
        """Returns a piece of a version's safetensors file; shorter at its end.

        Raises:
            WeightsCorrupt: There is no such version any more.
        """
        return self._read(version, DATA_FILE, offset, num_bytes)

    def load(self, version: int) -> dict[str, np.ndarray]:
        """Returns the tensors of one version, verified; see `parse_weights`."""
        manifest = self.manifest(version)
        return parse_weights(self._read(version, DATA_FILE, 0, None), manifest)

    def _read(self, version: int, name: str, offset: int, num_bytes: int | None) -> bytes:
        try:
            with (self.root / str(int(version)) / name).open("rb") as file:
                file.seek(offset)
                return file.read(-1 if num_bytes is None else num_bytes)
        except FileNotFoundError as error:
            raise WeightsCorrupt(f"there is no weights version {version} (any more)") from error

    def _remove_leftovers(self) -> None:
        for path in self.root.glob(f"{ASIDE_PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)


def _tensor_specs(tensors: Mapping[str, np.ndarray]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name, dtype=str(tensor.dtype), shape=tuple(tensor.shape))
        for name, tensor in sorted(tensors.items())
    )
