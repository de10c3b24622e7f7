"""Trials as bytes: the only code that touches raw array bytes.

Two forms. On the wire a trial is a `TrialManifest` (header as JSON, one `Column` an array) beside
a payload: the arrays in canonical order, one after the other, C order, little-endian, no padding.
In the spool and in the ring one step is a row: its arrays in the order of the spec, packed alike.
Whatever is read here comes from a file or a network: it is checked before it is believed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protos import learner_pb2
from protos.provenance import cameras_from_header
from protos.trial import (
    OBSERVATION_PREFIX,
    STEP_PREFIX,
    FieldSpec,
    Provenance,
    RobotSpec,
    SpecMismatch,
    Trial,
    TrialRejected,
    step_fields,
)

PROTO_MAJOR = 1
PROTO_MINOR = 0
MAX_CHUNK_BYTES = 1 << 20
MAX_HEADER_BYTES = 256 << 10
MAX_COLUMNS = 64
MAX_TEXT_CHARS = 4096
_INT64 = range(-(1 << 63), 1 << 63)
_DTYPES = frozenset({"uint8", "float32", "float64", "int64", "bool"})

if sys.byteorder != "little":
    raise ImportError("offworld writes little-endian arrays; this machine is big-endian")


@dataclass(frozen=True, kw_only=True)
class EncodedTrial:
    """A trial ready to be sent."""

    manifest: learner_pb2.TrialManifest
    payload: bytes
    payload_sha256: str
    trial_digest: str


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of a payload; all but the last one are of equal length."""

    index: int
    count: int
    offset: int
    data: bytes
    crc32: int


def encode_trial(trial: Trial) -> EncodedTrial:
    """Turns a trial into its manifest and payload; equal trials give equal bytes."""
    columns = trial.columns()
    payload = b"".join(array.tobytes() for array in columns.values())
    manifest = learner_pb2.TrialManifest(
        header_json=json.dumps(trial.header(), sort_keys=True, separators=(",", ":")),
        columns=[
            learner_pb2.Column(
                name=name, dtype=array.dtype.name, shape=array.shape, num_bytes=array.nbytes
            )
            for name, array in columns.items()
        ],
        payload_bytes=len(payload),
    )
    return EncodedTrial(
        manifest=manifest,
        payload=payload,
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        trial_digest=trial.digest(),
    )


def decode_trial(manifest: learner_pb2.TrialManifest, payload: memoryview | bytes) -> Trial:
    """Rebuilds a trial; its arrays are read-only views into `payload` where alignment allows.

    Raises:
        TrialRejected: The manifest is malformed, or does not describe a valid trial.
    """
    header = _header(manifest.header_json)
    if len(manifest.columns) > MAX_COLUMNS:
        raise TrialRejected(f"{len(manifest.columns)} columns; at most {MAX_COLUMNS} are allowed")
    if manifest.payload_bytes != len(payload):
        raise TrialRejected(
            f"the manifest says {manifest.payload_bytes} payload bytes, {len(payload)} came"
        )
    columns: dict[str, np.ndarray] = {}
    offset = 0
    for column in manifest.columns:
        if not column.name.startswith((OBSERVATION_PREFIX, STEP_PREFIX)):
            raise TrialRejected(f"column {column.name[:64]!r} is no observation and no step column")
        if column.name in columns:
            raise TrialRejected(f"column {column.name[:64]!r} is there twice")
        columns[column.name] = _array(column, payload, offset)
        offset += column.num_bytes
    if offset != len(payload):
        raise TrialRejected(f"the columns describe {offset} bytes of {len(payload)}")
    try:
        return Trial.from_parts(header, columns)
    except OverflowError as error:
        raise TrialRejected(f"a number in the header is too large: {error}") from error


def decode_spec(text: str) -> RobotSpec:
    """Reads a spec that another machine sent; SpecMismatch if it is none."""
    if len(text) > MAX_HEADER_BYTES:
        raise SpecMismatch(f"the robot spec is longer than {MAX_HEADER_BYTES} characters")
    try:
        text.encode()
        return RobotSpec.from_json(text)
    except (OverflowError, UnicodeEncodeError) as error:
        raise SpecMismatch(f"not a robot spec: {error}") from error


def _header(text: str) -> Mapping[str, Any]:
    if len(text) > MAX_HEADER_BYTES:
        raise TrialRejected(f"the header is longer than {MAX_HEADER_BYTES} characters")
    try:
        header = json.loads(text)
        json.dumps(header, ensure_ascii=False).encode()  # a lone surrogate is JSON, not text
    except (ValueError, RecursionError) as error:
        raise TrialRejected(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict) or not isinstance(header.get("provenance"), dict):
        raise TrialRejected("the header is not an object with a provenance")
    if not isinstance(header.get("abort_reason"), str):
        raise TrialRejected("the header has no abort_reason")
    _check_text("abort_reason", header["abort_reason"])
    optional = {"position_index"}
    kinds = {field.name: field.type for field in dataclasses.fields(Provenance)}
    for name, value in header["provenance"].items():
        if name not in kinds:
            raise TrialRejected(f"provenance has no field {name[:64]!r}")
        if value is None and name in optional:
            continue
        if name == "cameras":
            _check_cameras(value)
            continue
        if str(kinds[name]).startswith("int"):
            if type(value) is not int or value not in _INT64:
                raise TrialRejected(f"provenance {name} is not a 64-bit integer")
        elif not isinstance(value, str):
            raise TrialRejected(f"provenance {name} is not text")
        else:
            _check_text(f"provenance {name}", value)
    return header


def _check_cameras(raw: object) -> None:
    try:
        cameras_from_header(raw)
    except ValueError as error:
        raise TrialRejected(f"provenance cameras: {error}") from error


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_TEXT_CHARS:
        raise TrialRejected(f"{name} is longer than {MAX_TEXT_CHARS} characters")


def _array(column: learner_pb2.Column, payload: memoryview | bytes, offset: int) -> np.ndarray:
    if column.dtype not in _DTYPES:
        raise TrialRejected(f"column {column.name}: dtype {column.dtype[:32]!r} is not allowed")
    dtype = np.dtype(column.dtype)
    shape = tuple(column.shape)
    if not 1 <= len(shape) <= 8:
        raise TrialRejected(f"column {column.name}: {len(shape)} axes; 1 to 8 are allowed")
    count = math.prod(shape)
    if count * dtype.itemsize != column.num_bytes or offset + column.num_bytes > len(payload):
        raise TrialRejected(
            f"column {column.name}: {column.dtype} {shape} does not take {column.num_bytes} bytes "
            f"at {offset} of {len(payload)}"
        )
    try:
        return _view(dtype, shape, payload, offset, what=f"column {column.name}")
    except (ValueError, OverflowError) as error:
        raise TrialRejected(f"column {column.name}: {error}") from error


def _view(
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    data: memoryview | bytes,
    offset: int,
    *,
    what: str,
) -> np.ndarray:
    if dtype == np.bool_:  # other bytes than 0 and 1 would be neither true nor false to numpy
        flags = np.frombuffer(data, np.uint8, math.prod(shape), offset)
        if flags.size and int(flags.max()) > 1:
            raise TrialRejected(f"{what}: a flag is neither 0 nor 1")
    flat = np.frombuffer(data, dtype, math.prod(shape), offset)
    return (flat if flat.flags.aligned else flat.copy()).reshape(shape)


def num_chunks(num_bytes: int, chunk_bytes: int = MAX_CHUNK_BYTES) -> int:
    """Returns into how many chunks a payload is cut; an empty payload is one empty chunk."""
    return max(1, -(-num_bytes // chunk_bytes))


def cut_chunks(
    payload: bytes, *, chunk_bytes: int = MAX_CHUNK_BYTES, wanted: Sequence[int] | None = None
) -> Iterator[Chunk]:
    """Yields the chunks of a payload, or those of them whose index is in `wanted`."""
    count = num_chunks(len(payload), chunk_bytes)
    for index in range(count) if wanted is None else wanted:
        offset = index * chunk_bytes
        data = payload[offset : offset + chunk_bytes]
        yield Chunk(index=index, count=count, offset=offset, data=data, crc32=zlib.crc32(data))


def row_bytes(fields: Sequence[FieldSpec]) -> int:
    """Returns the length of one packed row of `fields`."""
    return sum(math.prod(f.shape) * np.dtype(f.dtype).itemsize for f in fields)


def pack_row(fields: Sequence[FieldSpec], arrays: Mapping[str, Any]) -> bytes:
    """Packs one row: the value of every field, in the order of `fields`.

    Raises:
        TrialRejected: A field is missing or superfluous, or has another dtype or shape.
    """
    names = {f.name for f in fields}
    if names != arrays.keys():
        raise TrialRejected(
            f"row: missing {sorted(names - arrays.keys())}, "
            f"unexpected {sorted(arrays.keys() - names)}"
        )
    parts: list[bytes] = []
    for field in fields:
        value = np.asarray(arrays[field.name])
        if value.dtype != np.dtype(field.dtype) or value.shape != field.shape:
            raise TrialRejected(
                f"row {field.name}: expected {field.dtype} {field.shape}, "
                f"got {value.dtype} {value.shape}"
            )
        parts.append(value.tobytes())
    return b"".join(parts)


def unpack_row(fields: Sequence[FieldSpec], data: memoryview | bytes) -> dict[str, np.ndarray]:
    """Reads `pack_row`'s form; TrialRejected if the length or a flag is wrong."""
    if len(data) != row_bytes(fields):
        raise TrialRejected(f"row: expected {row_bytes(fields)} bytes, got {len(data)}")
    row: dict[str, np.ndarray] = {}
    offset = 0
    for field in fields:
        dtype = np.dtype(field.dtype)
        row[field.name] = _view(dtype, field.shape, data, offset, what=f"row {field.name}")
        offset += row[field.name].nbytes
    return row


def stack_rows(
    spec: RobotSpec, observations: Sequence[bytes], steps: Sequence[bytes]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Turns packed rows into the arrays of a trial.

    Returns:
        Observations [L + 1, ...] and step columns [L, ...], by field name.
    """
    return _stack(spec.observations, observations), _stack(step_fields(spec), steps)


def _stack(fields: Sequence[FieldSpec], rows: Sequence[bytes]) -> dict[str, np.ndarray]:
    stacked = {f.name: np.empty((len(rows), *f.shape), f.dtype) for f in fields}
    for t, data in enumerate(rows):
        for name, value in unpack_row(fields, data).items():
            stacked[name][t] = value
    return stacked
