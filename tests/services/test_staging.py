"""Uploads in progress: pieces in any order, any number of times, after any interruption."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from learner.durable import StoreFull
from protos import codec
from services.staging import BadChunk, Incomplete, Staging, Upload, upload_of
from tests.wire_data import trial_id_of

CHUNK = 4096
ID = trial_id_of(1)


def make_staging(root: Path, **changes: int) -> Staging:
    settings = {"max_uploads": 4, "max_bytes": 1 << 20, "reserve_bytes": 0} | changes
    root.mkdir(exist_ok=True)
    return Staging(root, **settings)


def payload_of(size: int, seed: int = 0) -> tuple[bytes, Upload, list[codec.Chunk]]:
    payload = random.Random(seed).randbytes(size)
    upload = Upload(
        payload_sha256=hashlib.sha256(payload).hexdigest(), total_bytes=size, chunk_bytes=CHUNK
    )
    return payload, upload, list(codec.cut_chunks(payload, chunk_bytes=CHUNK))


def test_shuffled_and_repeated_chunks_make_the_payload(tmp_path: Path) -> None:
    staging = make_staging(tmp_path / "s")
    payload, upload, chunks = payload_of(10 * CHUNK + 17)
    order = chunks * 2
    random.Random(1).shuffle(order)
    for chunk in order:
        staging.put(ID, upload, chunk.index, chunk.data)
    assert staging.payload(ID, upload.payload_sha256) == payload


def test_a_chunk_that_is_here_is_not_written_again(tmp_path: Path) -> None:
    staging = make_staging(tmp_path / "s")
    payload, upload, chunks = payload_of(2 * CHUNK)
    assert [staging.put(ID, upload, c.index, c.data) for c in chunks] == [1, 2]
    mapped = staging.payload(ID, upload.payload_sha256)
    assert staging.put(ID, upload, 0, bytes(CHUNK)) == 2
    assert mapped == payload


def test_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    payload, upload, chunks = payload_of(6 * CHUNK)
    first = make_staging(tmp_path / "s")
    for chunk in (chunks[0], chunks[1], chunks[4]):
        first.put(ID, upload, chunk.index, chunk.data)
    second = make_staging(tmp_path / "s")
    assert second.received(ID) == (upload, [(0, 2), (4, 1)])
    with pytest.raises(Incomplete, match="missing"):
        second.payload(ID, upload.payload_sha256)
    for index in (2, 3, 5):
        second.put(ID, upload, index, chunks[index].data)
    assert second.payload(ID, upload.payload_sha256) == payload


def test_chunks_that_do_not_add_up_are_dropped(tmp_path: Path) -> None:
    staging = make_staging(tmp_path / "s")
    _, upload, chunks = payload_of(3 * CHUNK)
    for chunk in chunks:
        staging.put(ID, upload, chunk.index, chunk.data[::-1])
    with pytest.raises(Incomplete, match="add up"):
        staging.payload(ID, upload.payload_sha256)
    assert staging.received(ID) is None


def test_other_payload_of_the_same_trial_replaces_the_first(tmp_path: Path) -> None:
    staging = make_staging(tmp_path / "s")
    _, upload, chunks = payload_of(3 * CHUNK)
    staging.put(ID, upload, 0, chunks[0].data)
    payload, other, others = payload_of(2 * CHUNK, seed=5)
    for chunk in others:
        staging.put(ID, other, chunk.index, chunk.data)
    assert staging.payload(ID, other.payload_sha256) == payload


def test_untouched_upload_makes_way(tmp_path: Path) -> None:
    staging = make_staging(tmp_path / "s", max_uploads=2)
    _, upload, chunks = payload_of(2 * CHUNK)
    ids = [trial_id_of(seed) for seed in range(3)]
    staging.put(ids[0], upload, 0, chunks[0].data)
    staging.put(ids[1], upload, 0, chunks[0].data)
    staging.put(ids[0], upload, 1, chunks[1].data)
    staging.put(ids[2], upload, 0, chunks[0].data)
    assert [staging.received(i) is not None for i in ids] == [True, False, True]
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == sorted([ids[0], ids[2]])


def test_bytes_are_bounded(tmp_path: Path) -> None:
    staging = make_staging(tmp_path / "s", max_bytes=5 * CHUNK)
    _, upload, chunks = payload_of(2 * CHUNK)
    for seed in range(4):
        staging.put(trial_id_of(seed), upload, 0, chunks[0].data)
        assert staging.num_bytes <= 5 * CHUNK
    assert staging.received(trial_id_of(3)) is not None


def test_reserve_of_the_disk_is_kept(tmp_path: Path) -> None:
    staging = make_staging(tmp_path / "s", reserve_bytes=1 << 60)
    _, upload, chunks = payload_of(CHUNK)
    with pytest.raises(StoreFull, match="reserve"):
        staging.put(ID, upload, 0, chunks[0].data)
    assert list((tmp_path / "s").iterdir()) == []


def test_uploads_under_way_count_as_what_they_will_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = make_staging(tmp_path / "s", reserve_bytes=10 * CHUNK, max_bytes=1 << 30)
    _, upload, chunks = payload_of(100 * CHUNK)
    usage = shutil.disk_usage(tmp_path)._replace(free=115 * CHUNK)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    staging.put(ID, upload, 0, chunks[0].data)
    with pytest.raises(StoreFull, match="reserve"):
        staging.put(trial_id_of(2), upload, 0, chunks[0].data)
    for chunk in chunks[1:]:
        staging.put(ID, upload, chunk.index, chunk.data)
    staging.put(trial_id_of(2), upload, 0, chunks[0].data)


def test_folder_cut_off_while_made_is_removed_and_strange_ones_stay(tmp_path: Path) -> None:
    root = tmp_path / "s"
    (root / ID).mkdir(parents=True)
    (root / ID / "upload.json").write_text('{"payload_sha256": "a", "total_b')
    (root / ".commit-x").mkdir()
    staging = make_staging(root)
    assert staging.received(ID) is None
    assert [p.name for p in root.iterdir()] == [".commit-x"]


def test_empty_payload_is_one_empty_chunk(tmp_path: Path) -> None:
    staging = make_staging(tmp_path / "s")
    sha256 = hashlib.sha256(b"").hexdigest()
    upload = upload_of(sha256, 0, index=0, count=1, offset=0, num_bytes=0)
    assert staging.put(ID, upload, 0, b"") == 1
    assert staging.payload(ID, sha256) == b""


@hypothesis.given(
    size=st.integers(1, 100_000), chunk_bytes=st.integers(CHUNK, 20_000), data=st.data()
)
@hypothesis.settings(deadline=None, max_examples=50)
def test_every_chunk_names_the_same_upload(size: int, chunk_bytes: int, data) -> None:
    payload = bytes(size)
    chunks = list(codec.cut_chunks(payload, chunk_bytes=chunk_bytes))
    sha256 = hashlib.sha256(payload).hexdigest()
    found = {
        upload_of(
            sha256, size, index=c.index, count=c.count, offset=c.offset, num_bytes=len(c.data)
        ).count
        for c in chunks
    }
    assert found == {len(chunks)}
    chunk = data.draw(st.sampled_from(chunks))
    wrong = data.draw(
        st.sampled_from(
            [{"offset": chunk.offset + 1}, {"count": chunk.count + 1}, {"index": chunk.count}]
        )
    )
    right = {
        "index": chunk.index,
        "count": chunk.count,
        "offset": chunk.offset,
        "num_bytes": len(chunk.data),
    }
    with pytest.raises(BadChunk):
        upload_of(sha256, size, **(right | wrong))


def test_digest_that_is_no_digest_is_refused() -> None:
    for text in ("", "zz" * 32, "../" * 21 + "a", "AB" * 32):
        with pytest.raises(BadChunk, match="hexadecimal"):
            upload_of(text, 10, index=0, count=1, offset=0, num_bytes=10)
