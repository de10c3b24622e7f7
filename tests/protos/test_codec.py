"""Trials as bytes and back, and what is refused on the way back."""

from __future__ import annotations

import dataclasses
import json
import zlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from protos import codec
from protos import learner_pb2 as pb
from protos.trial import (
    MAY_BE_NAN,
    FieldSpec,
    Outcome,
    SpecMismatch,
    Trial,
    TrialRejected,
    step_fields,
)
from tests.wire_data import make_provenance, make_spec, make_trial, observation_row, step_row

SPEC = make_spec()


def _decode(encoded: codec.EncodedTrial, **changes: object) -> Trial:
    manifest = pb.TrialManifest()
    manifest.CopyFrom(encoded.manifest)
    for name, value in changes.items():
        setattr(manifest, name, value)
    return codec.decode_trial(manifest, encoded.payload)


@pytest.mark.parametrize("num_steps", [1, 5, 25])
def test_trial_survives_the_wire(num_steps: int) -> None:
    trial = make_trial(SPEC, 3, num_steps=num_steps)
    encoded = codec.encode_trial(trial)
    back = codec.decode_trial(encoded.manifest, memoryview(encoded.payload))
    assert back.digest() == trial.digest() == encoded.trial_digest
    assert back.header() == trial.header()


def test_aborted_trial_without_a_step_survives() -> None:
    trial = Trial(
        trial_id=make_trial(SPEC, 1).trial_id,
        spec=SPEC,
        provenance=make_provenance(1),
        outcome=Outcome.ABORTED,
        observations={k: v[None] for k, v in observation_row(SPEC, 1, 0).items()},
        steps={f.name: np.zeros((0, *f.shape), f.dtype) for f in step_fields(SPEC)},
        abort_reason="stopped\nby hand",
    )
    encoded = codec.encode_trial(trial)
    assert codec.decode_trial(encoded.manifest, encoded.payload).digest() == trial.digest()


def test_nan_where_nothing_was_planned_survives() -> None:
    trial = make_trial(SPEC, 1)
    trial.steps["plan_value"][:] = np.nan
    encoded = codec.encode_trial(trial)
    assert codec.decode_trial(encoded.manifest, encoded.payload).digest() == trial.digest()


@pytest.mark.parametrize("column", sorted(MAY_BE_NAN))
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_where_nan_may_be(column: str, value: float) -> None:
    trial = make_trial(SPEC, 1)
    trial.steps[column][0] = value
    encoded = codec.encode_trial(trial)
    with pytest.raises(TrialRejected, match=f"step {column}: not finite"):
        codec.decode_trial(encoded.manifest, encoded.payload)


def test_an_observation_has_no_nan_whatever_its_name() -> None:
    field = FieldSpec(name="plan_value", dtype="float32", shape=())
    spec = dataclasses.replace(SPEC, observations=(*SPEC.observations, field))
    trial = make_trial(spec, 1)
    with pytest.raises(TrialRejected, match="observation plan_value: not finite"):
        dataclasses.replace(
            trial,
            observations=trial.observations
            | {"plan_value": np.full(trial.num_steps + 1, np.nan, np.float32)},
        )


def test_image_payload_is_not_larger_than_the_arrays() -> None:
    trial = make_trial(make_spec(image_size=84), 1, num_steps=25)
    encoded = codec.encode_trial(trial)
    assert len(encoded.payload) == sum(a.nbytes for a in trial.columns().values())
    assert encoded.manifest.ByteSize() < 8192


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m.columns[0], "dtype", "object"), "not allowed"),
        (lambda m: setattr(m.columns[0], "name", "elsewhere/x"), "no observation"),
        (lambda m: m.columns.append(m.columns[0]), "twice"),
        (lambda m: m.columns[0].shape.append(1 << 62), "does not take"),
        (lambda m: m.columns[0].shape.__setitem__(0, 3), "does not take"),
        (lambda m: setattr(m.columns[0], "num_bytes", 1 << 63), "does not take"),
        (lambda m: m.columns.pop(), "describe"),
        (lambda m: setattr(m, "payload_bytes", 1), "payload bytes"),
        (lambda m: setattr(m, "header_json", "[1"), "not JSON"),
        (lambda m: setattr(m, "header_json", "[" * 100_000), "not JSON"),
        (lambda m: setattr(m, "header_json", "{}"), "provenance"),
        (lambda m: setattr(m, "header_json", "x" * 300_000), "longer"),
        (lambda m: m.columns.extend([pb.Column()] * 100), "at most"),
    ],
)
def test_malformed_manifest_is_refused(change, message: str) -> None:
    encoded = codec.encode_trial(make_trial(SPEC, 1))
    change(encoded.manifest)
    with pytest.raises(TrialRejected, match=message):
        codec.decode_trial(encoded.manifest, encoded.payload)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("provenance", "seed"), "1", "64-bit"),
        (("provenance", "seed"), 1 << 63, "64-bit"),
        (("provenance", "seed"), True, "64-bit"),
        (("provenance", "actor"), 5, "not text"),
        (("provenance", "actor"), "x" * 5000, "longer"),
        (("provenance", "actor"), "\ud800", "not JSON"),
        (("provenance", "seed"), None, "64-bit"),
        (("provenance", "surprise"), "x", "no field"),
        (("provenance", "source"), "elsewhere", "elsewhere"),
        (("outcome",), "won", "won"),
        (("trial_id",), "../../etc/passwd", "not a UUID"),
        (("abort_reason",), 1, "abort_reason"),
        (("spec", "max_steps"), float("inf"), "too large"),
        (("spec", "max_steps"), 2, "the spec allows"),
    ],
)
def test_malformed_header_is_refused(path: tuple[str, ...], value: object, message: str) -> None:
    encoded = codec.encode_trial(make_trial(SPEC, 1))
    header = json.loads(encoded.manifest.header_json)
    inner = header
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(TrialRejected, match=message):
        _decode(encoded, header_json=json.dumps(header))


def test_flag_that_is_neither_0_nor_1_is_refused() -> None:
    encoded = codec.encode_trial(make_trial(SPEC, 1))
    offset = 0
    for column in encoded.manifest.columns:
        if column.name == "step/clamped":
            break
        offset += column.num_bytes
    broken = bytearray(encoded.payload)
    broken[offset] = 2
    with pytest.raises(TrialRejected, match="flag"):
        codec.decode_trial(encoded.manifest, bytes(broken))


@hypothesis.given(st.integers(0, 10_000), st.integers(1, 4096))
@hypothesis.settings(deadline=None, max_examples=50)
def test_chunks_put_together_are_the_payload(size: int, chunk_bytes: int) -> None:
    payload = np.random.default_rng(size).bytes(size)
    chunks = list(codec.cut_chunks(payload, chunk_bytes=chunk_bytes))
    assert b"".join(c.data for c in chunks) == payload
    assert [c.index for c in chunks] == list(range(codec.num_chunks(size, chunk_bytes)))
    assert all(c.count == len(chunks) and c.offset == c.index * chunk_bytes for c in chunks)
    assert all(c.crc32 == zlib.crc32(c.data) and len(c.data) <= chunk_bytes for c in chunks)


def test_wanted_chunks_alone_are_cut() -> None:
    chunks = list(codec.cut_chunks(b"abcdefgh", chunk_bytes=3, wanted=[0, 2]))
    assert [(c.index, c.count, c.data) for c in chunks] == [(0, 3, b"abc"), (2, 3, b"gh")]


def test_rows_put_together_are_the_trial() -> None:
    trial = make_trial(SPEC, 7)
    fields = step_fields(SPEC)
    seen = [codec.pack_row(SPEC.observations, observation_row(SPEC, 7, t)) for t in range(6)]
    done = [codec.pack_row(fields, step_row(SPEC, 7, t, is_last=t == 4)) for t in range(5)]
    assert len(seen[0]) == codec.row_bytes(SPEC.observations)
    observations, steps = codec.stack_rows(SPEC, seen, done)
    for name, array in observations.items():
        np.testing.assert_array_equal(array, trial.observations[name], strict=True)
    for name, array in steps.items():
        np.testing.assert_array_equal(array, trial.steps[name], strict=True)


def test_misfitting_row_is_refused() -> None:
    row = observation_row(SPEC, 1, 0)
    with pytest.raises(TrialRejected, match="missing"):
        codec.pack_row(SPEC.observations, {"state": row["state"]})
    with pytest.raises(TrialRejected, match="float64"):
        codec.pack_row(SPEC.observations, row | {"state": row["state"].astype(np.float64)})
    with pytest.raises(TrialRejected, match="bytes"):
        codec.unpack_row(SPEC.observations, b"short")


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[" * 100_000, "x" * 300_000, '{"task": "\ud800"}', SPEC.to_json()[:-1]],
)
def test_spec_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SpecMismatch):
        codec.decode_spec(text)


def test_spec_with_infinite_size_is_refused() -> None:
    raw = json.loads(SPEC.to_json())
    raw["max_steps"] = float("inf")
    with pytest.raises(SpecMismatch):
        codec.decode_spec(json.dumps(raw))
