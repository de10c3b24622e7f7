"""A checkpoint is whole or absent, exact, and never a silent fresh start."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from learner import durable
from learner.checkpoint import CheckpointCorrupt, CheckpointStore, read_checkpoint
from learner.durable import FAILPOINT_VARIABLE, StoreFull

ROOT = Path(__file__).parents[2]


def make_parts(value: int = 0) -> dict[str, Any]:
    parameter = torch.nn.Parameter(torch.arange(6.0).view(2, 3) + value)
    adam = torch.optim.Adam([parameter], lr=1e-3)
    parameter.sum().backward()
    adam.step()
    whole = torch.arange(8, dtype=torch.float64)
    return {
        "algorithm": {
            "adam": adam.state_dict(),
            "transposed": parameter.detach().t(),
            "shared": [whole[:4], whole[4:], whole],
            "random": torch.Generator().manual_seed(3).get_state(),
            "half": torch.ones(2, dtype=torch.bfloat16),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 3),
        },
        "trainer": {
            "big": 2**70,
            "tenth": 0.1,
            "is_on": True,
            "nothing": None,
            "text": "\u00e4",
            "nested": [[1, (2, "x")], {}],
        },
    }


def assert_equal(first: Any, second: Any) -> None:
    assert type(first) is type(second) or isinstance(first, torch.Tensor)
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for mine, theirs in zip(first, second, strict=True):
            assert_equal(mine, theirs)
    else:
        assert first == second


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", keep=3)


def test_everything_comes_back_exactly(store: CheckpointStore) -> None:
    assert store.load_latest() is None
    path = store.save(500, make_parts())
    checkpoint = store.load_latest()
    assert checkpoint is not None
    assert (checkpoint.num_updates, checkpoint.path) == (500, path)
    assert_equal(checkpoint.parts, make_parts())


def test_equal_states_give_equal_files(store: CheckpointStore) -> None:
    first, second = (store.save(n, make_parts()) for n in (1, 2))
    for path in first.iterdir():
        is_same = path.read_bytes() == (second / path.name).read_bytes()
        assert is_same is (path.name != "manifest.json")


def test_the_newest_are_kept_and_latest_names_the_last(store: CheckpointStore) -> None:
    for number in (9, 10, 100, 100, 1000):
        store.save(number, make_parts(number))
    names = [path.name for path in store.paths()]
    assert names == ["0000000100", "0000000100.1", "0000001000"]
    assert (store.root / "latest").read_text() == "0000001000\n"
    assert sorted(os.listdir(store.root)) == [*names, "latest"]


@pytest.mark.parametrize("bad", [object(), {3.5: 1}, {"a": {1, 2}}, {"b": b"bytes"}])
def test_what_cannot_be_kept_exactly_is_refused(store: CheckpointStore, bad: Any) -> None:
    with pytest.raises(TypeError, match="checkpoint"):
        store.save(1, {"algorithm": bad})
    assert store.paths() == []


def test_every_flipped_bit_is_found_and_the_one_before_is_used(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(1, make_parts(1))
    newest = store.save(2, make_parts(2))
    draw = random.Random(0)
    for path in [p for p in newest.iterdir() for _ in range(8)]:
        whole = path.read_bytes()
        at = draw.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        if path.name == "manifest.json" and json.loads(whole) == loads_or_none(damaged):
            path.write_bytes(whole)
            continue
        with pytest.raises(CheckpointCorrupt, match=newest.name):
            read_checkpoint(newest)
        path.write_bytes(whole)
    (newest / "algorithm.json").unlink()
    with caplog.at_level(logging.WARNING):
        checkpoint = store.load_latest()
    assert checkpoint is not None
    assert_equal(checkpoint.parts, make_parts(1))
    assert "checkpoint_corrupt" in caplog.text
    assert [p.name for p in store.paths()] == ["0000000001"], "the damaged one is set aside"
    store.save(2, make_parts(2))
    assert store.load_latest().num_updates == 2


def loads_or_none(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def test_only_damaged_checkpoints_are_an_error_not_a_fresh_start(store: CheckpointStore) -> None:
    for number in (1, 2):
        (store.save(number, make_parts()) / "manifest.json").write_text("{")
    for _ in range(2):
        with pytest.raises(CheckpointCorrupt, match=r"no checkpoint in .* 0000000002.*0000000001"):
            store.load_latest()


def test_another_format_is_not_read(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.save(1, make_parts())
    monkeypatch.setattr("learner.checkpoint.FORMAT", 2)
    with pytest.raises(CheckpointCorrupt, match="has format 1; this program reads 2"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("failpoint", "newest"), [("checkpoint.written", 1), ("checkpoint.renamed", 2), ("", 2)]
)
def test_a_kill_leaves_the_old_one_or_the_new_one(
    store: CheckpointStore, failpoint: str, newest: int
) -> None:
    store.save(1, make_parts(1))
    code = (
        "import sys; from pathlib import Path; from learner.checkpoint import CheckpointStore\n"
        "from tests.learner.test_checkpoint import make_parts\n"
        "CheckpointStore(Path(sys.argv[1])).save(2, make_parts(2))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.root)],
        cwd=ROOT,
        env={**os.environ, FAILPOINT_VARIABLE: failpoint},
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if failpoint else 0)
    checkpoint = store.load_latest()
    assert checkpoint is not None
    assert checkpoint.num_updates == newest
    assert_equal(checkpoint.parts, make_parts(newest))
    store.save(3, make_parts(3))
    assert not [name for name in os.listdir(store.root) if name.endswith(".tmp")]


def test_a_full_disk_leaves_the_old_ones(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(1, make_parts(1))

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "_write", full)
        with pytest.raises(StoreFull):
            store.save(2, make_parts(2))
    assert [p.name for p in store.root.iterdir() if p.is_dir()] == ["0000000001"]
    assert store.load_latest().num_updates == 1
