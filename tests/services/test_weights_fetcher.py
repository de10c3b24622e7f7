"""Weights on their way to the actor: verified, whole, or not there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from learner.weights import ASIDE_PREFIX, DATA_FILE, WeightStore
from protos import learner_pb2 as pb
from services.backoff import Backoff
from services.client import LearnerUnavailable
from services.records import WeightsMark
from services.weights_fetcher import KEEP_VERSIONS, WeightsFetcher
from tests.services.rig import SPEC, ListLoop, wait_until

SIZE = 600_000  # floats: more than two pieces
UNSPOILED: tuple[Callable, Callable] = (lambda manifest: manifest, lambda data: data)


class FakeLearner:
    """Serves the versions of a real weights store, and does to them what a test wants."""

    def __init__(self, root: Path) -> None:
        self._serving = WeightStore(root), "run-1"
        self.spoiled: dict[int, tuple[Callable, Callable]] = {}
        """What is done to manifest and data of a version."""
        self.fail_once_at = -1
        self.offsets: list[int] = []
        self.num_asked = 0

    @property
    def store(self) -> WeightStore:
        return self._serving[0]

    def serve(self, root: Path, *fills: float, run_id: str) -> None:
        """Goes on, from one moment to the next, with versions of another store."""
        store = WeightStore(root)
        for fill in fills:
            self.publish(fill, store=store)
        self._serving = store, run_id

    def publish(self, fill: float = 1.0, *, store: WeightStore | None = None) -> int:
        manifest = (store or self.store).publish(
            {"w": np.full(SIZE, fill, np.float32), "b": np.arange(4, dtype=np.int64)},
            train_step=1,
            spec_digest=SPEC.digest(),
            policy_config="{}",
            ledger_seq=0,
            num_online_trials=0,
            learner_id="t",
        )
        return manifest.version

    def weights_manifest(self, after: int, wait_s: float) -> pb.GetWeightsManifestReply:
        store, run_id = self._serving
        self.num_asked += 1
        reply = pb.GetWeightsManifestReply(run_id=run_id)
        latest = store.latest()
        if latest is not None and latest.version > after:
            manifest = self.spoiled.get(latest.version, UNSPOILED)[0](latest)
            reply.weights.version, reply.weights.sha256 = manifest.version, manifest.sha256
            reply.manifest_json = manifest.to_json()
        return reply

    def weights_chunk(self, version: int, offset: int, length: int) -> bytes:
        self.offsets.append(offset)
        if offset == self.fail_once_at:
            self.fail_once_at = -1
            raise LearnerUnavailable("cut")
        change_data = self.spoiled.get(version, UNSPOILED)[1]
        return change_data(self.store.read(version, 0, 1 << 30))[offset : offset + length]


class Rig:
    def __init__(self, folder: Path) -> None:
        self.learner = FakeLearner(folder / "learner")
        self.loop = ListLoop()
        self.root = folder / "spool" / "weights"
        self.fetcher = self.new_fetcher()

    def new_fetcher(self) -> WeightsFetcher:
        return WeightsFetcher(
            self.root,
            self.learner,  # type: ignore[arg-type]
            self.loop,
            spec_digest=SPEC.digest(),
            backoff=Backoff(low_s=0.001, high_s=0.002, rng=random.Random(0)),
        )

    def kept(self) -> list[int]:
        return WeightStore(self.root).versions()


@pytest.fixture
def rig(tmp_path: Path):
    made = Rig(tmp_path)
    made.fetcher.worker.start()
    yield made
    made.fetcher.worker.stopping.set()
    assert made.fetcher.worker.join(10.0)
    made.fetcher.worker.raise_if_failed()


def test_new_version_is_fetched_whole_and_announced(rig: Rig) -> None:
    version = rig.learner.publish(2.0)
    wait_until(lambda: rig.loop.weights == [version])
    tensors = WeightStore(rig.root).load(version)
    assert tensors["w"].shape == (SIZE,)
    assert float(tensors["w"][-1]) == 2.0
    assert len(rig.learner.offsets) == 3


def test_interrupted_fetch_goes_on_where_it_stopped(rig: Rig) -> None:
    rig.learner.fail_once_at = 1 << 20
    version = rig.learner.publish()
    wait_until(lambda: rig.loop.weights == [version])
    assert rig.learner.offsets == [0, 1 << 20, 1 << 20, 2 << 20]


def _flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 4]) + data[-8:]


def _as_described(data: bytes) -> tuple[Callable, Callable]:
    """A manifest and a file that agree in size and digest, whatever is in them."""
    sha256 = hashlib.sha256(data).hexdigest()
    return (
        lambda m: dataclasses.replace(m, num_bytes=len(data), sha256=sha256),
        lambda _: data,
    )


def _tensors(tensors: dict[str, np.ndarray]) -> tuple[Callable, Callable]:
    return _as_described(safetensors.numpy.save(tensors))


RIGHT = {"w": np.ones(SIZE, np.float32), "b": np.arange(4, dtype=np.int64)}
WRONG: dict[str, tuple[Callable, Callable]] = {
    "bit flipped": (lambda m: m, _flip),
    "truncated and filled": (lambda m: m, lambda d: d[: len(d) // 2] + bytes(len(d) - len(d) // 2)),
    "nan": _tensors(RIGHT | {"w": np.full(SIZE, math.nan, np.float32)}),
    "infinite": _tensors(RIGHT | {"w": np.full(SIZE, math.inf, np.float32)}),
    "shape": _tensors(RIGHT | {"w": np.ones((SIZE, 1), np.float32)}),
    "dtype": _tensors(RIGHT | {"w": np.ones(SIZE, np.float64)}),
    "name": _tensors({"w": RIGHT["w"], "c": RIGHT["b"]}),
    "missing": _tensors({"w": RIGHT["w"]}),
    "other robot": (lambda m: dataclasses.replace(m, spec_digest="0" * 64), lambda d: d),
    "no version": (lambda m: dataclasses.replace(m, version=-m.version), lambda d: d),
    "immense version": (lambda m: dataclasses.replace(m, version=1 << 23), lambda d: d),
    "empty": (lambda m: dataclasses.replace(m, num_bytes=0), lambda d: d),
    "immense": (lambda m: dataclasses.replace(m, num_bytes=1 << 50), lambda d: d),
    "no safetensors": _as_described(b"abcd"),
    "nothing but a length": _as_described((1 << 60).to_bytes(8, "little")),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_wrong_weights_are_refused_the_last_good_stay_and_the_next_good_come(
    rig: Rig, what: str
) -> None:
    good = rig.learner.publish(1.0)
    wait_until(lambda: rig.loop.weights == [good])
    rig.learner.spoiled[good + 1] = WRONG[what]
    bad = rig.learner.publish(2.0)
    asked = rig.learner.num_asked
    wait_until(lambda: rig.learner.num_asked > asked + 10, what="it asks on")
    assert rig.loop.weights == [good]
    assert rig.kept() == [good]
    better = rig.learner.publish(3.0)
    wait_until(lambda: rig.loop.weights == [good, better])
    assert bad not in rig.kept()


def test_manifest_that_is_none_does_not_end_the_thread(rig: Rig) -> None:
    good = rig.learner.publish(1.0)
    wait_until(lambda: rig.loop.weights == [good])
    right = rig.learner.weights_manifest

    def broken(after: int, wait_s: float) -> pb.GetWeightsManifestReply:
        reply = right(after, wait_s)
        if reply.HasField("weights"):
            reply.manifest_json = json.dumps({"version": "x"})
        return reply

    rig.learner.weights_manifest = broken  # type: ignore[method-assign]
    rig.learner.publish(2.0)
    asked = rig.learner.num_asked
    wait_until(lambda: rig.learner.num_asked > asked + 10)
    rig.learner.weights_manifest = right  # type: ignore[method-assign]
    better = rig.learner.publish(3.0)
    wait_until(lambda: rig.loop.weights == [good, better])


def test_passing_damage_is_tried_again(rig: Rig) -> None:
    damages = iter([_flip, _flip, _flip])  # one piece of the first try
    rig.learner.spoiled[1] = UNSPOILED[0], lambda data: next(damages, lambda d: d)(data)
    version = rig.learner.publish()
    wait_until(lambda: rig.loop.weights == [version])


def test_only_the_newest_stay_on_disk_and_the_one_in_use(rig: Rig) -> None:
    first = rig.learner.publish(0.0)
    wait_until(lambda: rig.loop.weights == [first])
    rig.loop.loop_status = dataclasses.replace(rig.loop.loop_status, weights_version=first)
    version = first
    for fill in range(1, 6):
        version = rig.learner.publish(float(fill))
        wait_until(lambda version=version: rig.loop.weights[-1] == version)
    wait_until(lambda: len(rig.kept()) == KEEP_VERSIONS + 1)
    assert rig.kept() == [first, *range(version - KEEP_VERSIONS + 1, version + 1)]


def test_kept_weights_are_announced_without_a_learner(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.fetcher.worker.start()
    versions = []
    for fill in (1.0, 2.0):
        versions.append(rig.learner.publish(fill))
        wait_until(lambda: rig.loop.weights[-1:] == versions[-1:])
    rig.fetcher.worker.stopping.set()
    rig.fetcher.worker.join(10.0)
    path = rig.root / str(versions[1]) / DATA_FILE
    rig.loop.marks.clear()
    assert rig.new_fetcher().announce_kept() == versions[1]
    path.write_bytes(_flip(path.read_bytes()))
    assert rig.new_fetcher().announce_kept() == versions[0]
    assert rig.loop.weights == [versions[1], versions[0]]


def test_damaged_version_on_disk_is_fetched_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.fetcher.worker.start()
    version = rig.learner.publish()
    wait_until(lambda: rig.loop.weights == [version])
    rig.fetcher.worker.stopping.set()
    rig.fetcher.worker.join(10.0)
    path = rig.root / str(version) / DATA_FILE
    path.write_bytes(_flip(path.read_bytes()))
    again = rig.new_fetcher()
    assert again.announce_kept() == 0
    again.worker.start()
    wait_until(lambda: rig.loop.weights == [version, version])
    again.worker.stopping.set()
    assert again.worker.join(10.0)
    WeightStore(rig.root).load(version)


def test_another_learner_s_versions_begin_again(rig: Rig, tmp_path: Path) -> None:
    for fill in (1.0, 2.0):
        rig.learner.publish(fill)
    wait_until(lambda: rig.loop.weights[-1:] == [2])
    rig.learner.serve(tmp_path / "another", 7.0, run_id="run-2")
    wait_until(lambda: rig.loop.weights[-1:] == [1])
    assert float(WeightStore(rig.root).load(1)["w"][0]) == 7.0
    assert rig.kept() == [1]


def test_the_same_number_at_another_learner_is_announced_as_something_else(
    rig: Rig, tmp_path: Path
) -> None:
    rig.learner.publish(1.0)
    wait_until(lambda: rig.loop.weights == [1])
    rig.learner.serve(tmp_path / "another", 7.0, run_id="run-2")
    wait_until(lambda: rig.loop.weights == [1, 1])
    assert rig.loop.marks[0] != rig.loop.marks[1]
    manifest = WeightStore(rig.root).manifest(1)
    assert rig.loop.marks[1] == WeightsMark.of(1, manifest.to_json())


@pytest.mark.parametrize("num_published", [1, 3])
def test_a_learner_whose_weights_were_restored_is_followed_also_to_a_lower_or_the_same_number(
    rig: Rig, tmp_path: Path, num_published: int
) -> None:
    for fill in (1.0, 2.0, 3.0):
        version = rig.learner.publish(fill)
        wait_until(lambda version=version: rig.loop.weights[-1:] == [version])
    fills = [7.0 + number for number in range(num_published)]
    rig.learner.serve(tmp_path / "restored", *fills, run_id="run-1")
    wait_until(lambda: len(rig.loop.marks) > 3 and rig.loop.weights[-1] == num_published)
    wait_until(lambda: rig.kept()[-1] == num_published)
    newest = WeightStore(rig.root).load(num_published)
    assert float(newest["w"][0]) == fills[-1]
    assert rig.new_fetcher().announce_kept() == num_published


def test_weights_of_the_same_numbers_that_are_planned_with_otherwise_are_others(rig: Rig) -> None:
    rig.learner.publish(1.0)
    wait_until(lambda: rig.loop.weights == [1])
    rig.learner.spoiled[1] = (
        lambda m: dataclasses.replace(m, policy_config='{"n": 2}'),
        UNSPOILED[1],
    )
    wait_until(lambda: rig.loop.weights == [1, 1])
    assert rig.loop.marks[0] != rig.loop.marks[1]
    assert WeightStore(rig.root).manifest(1).policy_config == '{"n": 2}'


def test_what_is_known_is_not_fetched_or_announced_again(rig: Rig) -> None:
    version = rig.learner.publish()
    wait_until(lambda: rig.loop.weights == [version])
    asked, fetched = rig.learner.num_asked, len(rig.learner.offsets)
    wait_until(lambda: rig.learner.num_asked > asked + 10)
    assert (rig.loop.weights, len(rig.learner.offsets)) == ([version], fetched)


def test_another_learner_is_noticed_at_the_first_word_also_with_a_lower_number(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path)
    rig.fetcher.worker.start()
    for fill in (1.0, 2.0):
        rig.learner.publish(fill)
    wait_until(lambda: rig.loop.weights[-1:] == [2])
    rig.fetcher.worker.stopping.set()
    rig.fetcher.worker.join(10.0)
    rig.learner.serve(tmp_path / "another", 7.0, run_id="run-2")
    answer, asked = rig.learner.weights_manifest, []

    def note(after: int, wait_s: float) -> pb.GetWeightsManifestReply:
        asked.append((after, wait_s))
        return answer(after, wait_s)

    rig.learner.weights_manifest = note  # type: ignore[method-assign]
    again = rig.new_fetcher()
    assert again.announce_kept() == 2
    again.worker.start()
    wait_until(lambda: rig.loop.weights[-1:] == [1])
    again.worker.stopping.set()
    assert again.worker.join(10.0)
    assert asked[0] == (0, 0.0)


def test_what_a_killed_recorder_left_half_done_is_in_nobody_s_way(rig: Rig, tmp_path: Path) -> None:
    for version in (1, 2):
        for name in (f"{ASIDE_PREFIX}{version}", f"{ASIDE_PREFIX}old-{version}"):
            (rig.root / name).mkdir(parents=True)
            (rig.root / name / DATA_FILE).write_bytes(b"half")
    rig.learner.publish(1.0)
    wait_until(lambda: rig.loop.weights == [1])
    rig.learner.serve(tmp_path / "another", 7.0, run_id="run-2")
    wait_until(lambda: rig.loop.weights == [1, 1])
    assert float(WeightStore(rig.root).load(1)["w"][0]) == 7.0
