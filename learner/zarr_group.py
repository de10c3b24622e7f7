"""A trial as the files of one Zarr v3 group, and back; the only module that names zarr.

The group is built in memory and handed out as bytes by relative path, so that whoever stores it
decides how it reaches the disk. Its attributes hold the trial's header, its digest and the SHA-256
of every other file: together with the digest of the root file, kept in the ledger, every bit is
accounted for. The codec chain also ends in crc32c, for readers that know nothing of this.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import zarr
import zarr.api.asynchronous
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore

from learner.durable import sha256_hex
from protos.trial import OBSERVATION_PREFIX, STEP_PREFIX, RobotSpec, Trial, step_fields

SCHEMA = "offworld.trial/1"
ROOT_FILE = "zarr.json"
CHUNK_BYTES = 32 << 20
"""Largest chunk before compression; a trial of ordinary length is one chunk a column."""


class TrialCorrupt(RuntimeError):
    """Stored bytes of a trial are not the ones that were written; the message says which."""


def group_files(trial: Trial, digest: str) -> dict[str, bytes]:
    """Returns the files of the group that holds `trial`, by relative path.

    Must not be called from a thread that runs an event loop.
    """
    contents: dict[str, Buffer] = {}
    store = MemoryStore(contents)
    # One event loop for all columns: zarr's plain calls pass each step of each column to a thread.
    asyncio.run(_write_columns(store, trial.columns()))
    columns = {name: data.to_bytes() for name, data in contents.items() if name != ROOT_FILE}
    root = zarr.open_group(store, mode="r+")
    root.update_attributes(
        {
            "schema": SCHEMA,
            "digest": digest,
            "header": trial.header(),
            "files": {name: sha256_hex(data) for name, data in sorted(columns.items())},
        }
    )
    return columns | {ROOT_FILE: contents[ROOT_FILE].to_bytes()}


async def _write_columns(store: MemoryStore, columns: Mapping[str, np.ndarray]) -> None:
    await zarr.api.asynchronous.open_group(store, mode="w", zarr_format=3)
    await asyncio.gather(*(_write_column(store, *item) for item in columns.items()))


async def _write_column(store: MemoryStore, name: str, column: np.ndarray) -> None:
    rows = max(1, min(len(column), CHUNK_BYTES // max(1, column[:1].nbytes)))
    array = await zarr.api.asynchronous.create_array(
        store,
        name=name,
        shape=column.shape,
        chunks=(rows, *column.shape[1:]),
        dtype=column.dtype,
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
        config={"write_empty_chunks": True},
    )
    if len(column):
        await array.setitem(Ellipsis, column)


def attributes_of(root_file: bytes) -> dict[str, Any]:
    """Returns the attributes in a group's root file; TrialCorrupt if they are not a trial's."""
    with corrupt_is_trial_corrupt("root metadata"):
        store = MemoryStore({ROOT_FILE: cpu.Buffer.from_bytes(root_file)})
        attributes = zarr.open_group(store, mode="r", zarr_format=3).attrs.asdict()
        if attributes["schema"] != SCHEMA:
            raise TrialCorrupt(f"schema {attributes['schema']!r}; this program reads {SCHEMA!r}")
        return {name: attributes[name] for name in ("digest", "header", "files")}


def trial_from_files(files: Mapping[str, bytes], header: Mapping[str, Any]) -> Trial:
    """Rebuilds the trial from its files, whose digests the caller has checked.

    Args:
        files: Every file of the group, by relative path.
        header: `Trial.header`, as the group's attributes have it.

    Raises:
        TrialCorrupt: A column is missing, misshapen or cannot be decoded.
    """
    with corrupt_is_trial_corrupt("columns"):
        store = MemoryStore({name: cpu.Buffer.from_bytes(data) for name, data in files.items()})
        spec = RobotSpec.from_json(json.dumps(header["spec"]))
        names = [OBSERVATION_PREFIX + field.name for field in spec.observations]
        names += [STEP_PREFIX + field.name for field in step_fields(spec)]
        columns = {
            name: np.asarray(zarr.open_array(store, path=name, mode="r", zarr_format=3)[...])
            for name in names
        }
        return Trial.from_parts(header, columns)


@contextmanager
def corrupt_is_trial_corrupt(what: str) -> Iterator[None]:
    """Translates what zarr, its codecs and JSON raise on damaged input into `TrialCorrupt`."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        if isinstance(error, TrialCorrupt):
            raise
        raise TrialCorrupt(f"{what}: {error!r}") from error
