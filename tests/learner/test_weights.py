"""A version is whole or absent, its number only grows, and nothing damaged is ever loaded."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from learner.durable import FAILPOINT_VARIABLE
from learner.weights import (
    WeightsCorrupt,
    WeightsManifest,
    WeightsNotFinite,
    WeightStore,
    parse_weights,
)

ROOT = Path(__file__).parents[2]
FIELDS = {
    "train_step": 10,
    "spec_digest": "ab" * 32,
    "policy_config": '{"kind": "fowm"}',
    "ledger_seq": 4,
    "num_online_trials": 2,
    "learner_id": "box",
}


def make_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        "q.weight": draw.normal(size=(5, 3)).astype(np.float32),
        "encoder.bias": draw.normal(size=7).astype(np.float32),
        "scale": np.array(2.0, np.float32),
    }


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path / "weights", keep=3)


def test_what_is_published_is_what_is_loaded(store: WeightStore) -> None:
    assert store.latest() is None
    manifest = store.publish(make_tensors(), **FIELDS)
    assert store.latest() == manifest
    assert manifest.version == 1
    assert {k: getattr(manifest, k) for k in FIELDS} == FIELDS
    assert [t.name for t in manifest.tensors] == ["encoder.bias", "q.weight", "scale"]
    loaded = store.load(1)
    for name, tensor in make_tensors().items():
        assert np.array_equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype


def test_pieces_make_the_whole(store: WeightStore) -> None:
    manifest = store.publish(make_tensors(), **FIELDS)
    pieces = [store.read(1, offset, 50) for offset in range(0, manifest.num_bytes, 50)]
    assert parse_weights(b"".join(pieces), manifest).keys() == make_tensors().keys()
    assert store.read(1, manifest.num_bytes, 50) == b""


def test_versions_grow_across_restarts_and_old_ones_leave(store: WeightStore) -> None:
    for _ in range(4):
        store.publish(make_tensors(), **FIELDS)
    assert store.versions() == [2, 3, 4]
    again = WeightStore(store.root, keep=2)
    assert again.publish(make_tensors(), **FIELDS).version == 5
    assert again.versions() == [4, 5]
    assert again.latest_version() == 5
    with pytest.raises(WeightsCorrupt, match="no weights version 1"):
        again.load(1)
    assert sorted(os.listdir(store.root)) == ["4", "5", "latest"]


def test_a_manifest_comes_back_from_its_text(store: WeightStore) -> None:
    manifest = store.publish(make_tensors(), **FIELDS)
    assert WeightsManifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1"},
        {"tensors": [{"name": "a"}]},
        {"tensors": 3},
        {"surprise": 1},
        {"sha256": None},
        {"policy_config": 4},
    ],
)
def test_a_manifest_that_is_none_is_refused(store: WeightStore, change: dict[str, object]) -> None:
    raw = json.loads(store.publish(make_tensors(), **FIELDS).to_json())
    for text in (json.dumps(raw | change), "[]", "{", "null", "{}"):
        with pytest.raises(WeightsCorrupt, match="not a weights manifest"):
            WeightsManifest.from_json(text)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_never_published(store: WeightStore, bad: float) -> None:
    store.publish(make_tensors(), **FIELDS)
    tensors = make_tensors()
    tensors["q.weight"][4, 2] = bad
    with pytest.raises(WeightsNotFinite, match=r"q\.weight"):
        store.publish(tensors, **FIELDS)
    assert store.versions() == [1]


def test_what_does_not_fit_the_manifest_is_refused(store: WeightStore) -> None:
    import safetensors.numpy

    manifest = store.publish(make_tensors(), **FIELDS)
    data = store.read(1, 0, manifest.num_bytes)

    def manifest_of(data: bytes) -> WeightsManifest:
        import hashlib

        return dataclasses.replace(
            manifest, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
        )

    with pytest.raises(WeightsCorrupt, match="another digest"):
        parse_weights(data[:-1], manifest)
    with pytest.raises(WeightsCorrupt, match="version 1"):
        parse_weights(data[:-1], manifest_of(data[:-1]))
    for change in (
        {"q.weight": make_tensors()["q.weight"].T.copy()},
        {"q.weight": make_tensors()["q.weight"].astype(np.float64)},
        {"more": np.zeros(1, np.float32)},
    ):
        other = safetensors.numpy.save(make_tensors() | change)
        with pytest.raises(WeightsCorrupt, match="not those of the manifest"):
            parse_weights(other, manifest_of(other))
    fewer = make_tensors()
    fewer["q.weight"][0, 0] = np.nan
    nan = safetensors.numpy.save(fewer)
    with pytest.raises(WeightsNotFinite):
        parse_weights(nan, manifest_of(nan))


def test_every_flipped_bit_of_the_data_is_found(store: WeightStore) -> None:
    manifest = store.publish(make_tensors(), **FIELDS)
    path = store.root / "1" / "weights.safetensors"
    whole = path.read_bytes()
    draw = random.Random(0)
    for _ in range(50):
        at = draw.randrange(8 * manifest.num_bytes)
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(WeightsCorrupt, match="another digest"):
            store.load(1)


@pytest.mark.parametrize(
    ("failpoint", "newest"), [("weights.written", 1), ("weights.renamed", 1), ("", 2)]
)
def test_a_kill_leaves_the_old_version_or_the_new_one(
    store: WeightStore, failpoint: str, newest: int
) -> None:
    store.publish(make_tensors(), **FIELDS)
    code = (
        "import sys; from pathlib import Path; from learner.weights import WeightStore\n"
        "from tests.learner.test_weights import FIELDS, make_tensors\n"
        "WeightStore(Path(sys.argv[1]), keep=3).publish(make_tensors(1), **FIELDS)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.root)],
        cwd=ROOT,
        env={**os.environ, FAILPOINT_VARIABLE: failpoint},
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if failpoint else 0)
    assert store.latest_version() == newest
    seed = newest - 1
    assert np.array_equal(store.load(newest)["q.weight"], make_tensors(seed)["q.weight"])
    published = store.publish(make_tensors(2), **FIELDS)
    assert published.version > newest
    assert np.array_equal(store.load(published.version)["scale"], make_tensors(2)["scale"])
    assert not [name for name in os.listdir(store.root) if name.startswith(".")]


def test_a_latest_that_names_nothing_is_an_error(store: WeightStore) -> None:
    store.publish(make_tensors(), **FIELDS)
    (store.root / "latest").write_text("x")
    with pytest.raises(WeightsCorrupt, match="does not name a version"):
        store.latest_version()
    with pytest.raises(ValueError, match="keep"):
        WeightStore(store.root, keep=0)
