"""Weights that cannot be trusted are refused, and the last good ones kept in use."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from learner.algorithms.registry import policy_config_to_json
from services.records import WeightsMark
from services.weights_slot import WeightsSlot
from tests.services import loop_site
from tests.services.loop_site import Site, mark_of
from tests.services.small_weights import CONFIG, publish, small_tensors

site = loop_site.site


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_weights_that_cannot_be_trusted_are_refused_and_the_last_good_ones_kept(
    site: Site,
) -> None:
    slot = site.slot()
    good = site.announce()
    assert slot.follow(good)
    policy, spec, root = slot.pilot, site.spec, site.weights
    action = _first_action(slot)

    tensors = small_tensors(spec, seed=1)
    name = max(tensors, key=lambda n: tensors[n].size)
    bad = [
        mark_of(publish(root, spec, spec_digest="0" * 64)),
        mark_of(publish(root, spec, policy_config='{"algorithm": "other"}')),
        mark_of(publish(root, spec, tensors=tensors | {name: tensors[name][:-1]})),
        mark_of(publish(root, spec, tensors={k: v for k, v in tensors.items() if k != name})),
        mark_of(publish(root, spec, tensors=tensors | {name: tensors[name].astype(np.float64)})),
        mark_of(
            publish(root, spec, tensors={k: np.full_like(v, 3e38) for k, v in tensors.items()})
        ),
        WeightsMark(99, 1),
        WeightsMark(good.version, good.tag ^ 1),
    ]
    for spoil in (lambda d: d[:-1], _flip, lambda _d: b"", lambda d: d[: len(d) // 2]):
        manifest = publish(root, spec)
        file = root / str(manifest.version) / "weights.safetensors"
        file.write_bytes(spoil(file.read_bytes()))
        bad.append(mark_of(manifest))
    for number, mark in enumerate(bad, start=1):
        assert not slot.follow(mark)
        assert not slot.follow(mark), "what was refused is not tried again"
        assert site.ring.control.num_refused == number
        assert site.ring.control.last_refused == mark.version
    assert (slot.mark, slot.pilot) == (good, policy)
    assert site.ring.control.used_weights == good
    np.testing.assert_array_equal(_first_action(slot), action)
    assert slot.follow(site.announce())


@pytest.mark.parametrize("num_before", [1, 3])
def test_weights_of_another_learner_are_used_also_under_a_lower_or_the_same_number(
    site: Site, num_before: int
) -> None:
    slot = site.slot()
    for _ in range(num_before):
        assert slot.follow(site.announce())
    site.replace_learner()
    tensors = small_tensors(site.spec, seed=1)
    manifest = publish(site.weights, site.spec, tensors=tensors, ledger_seq=4)
    assert manifest.version == 1
    assert slot.follow(mark_of(manifest))
    assert (slot.version, slot.digest, slot.ledger_seq) == (1, manifest.sha256, 4)
    assert site.ring.control.used_weights == mark_of(manifest)
    assert not slot.follow(mark_of(manifest))


def test_the_same_weights_that_are_to_be_planned_with_otherwise_are_taken_up(site: Site) -> None:
    slot = site.slot()
    assert slot.follow(site.announce())
    first = slot.pilot
    site.replace_learner()
    planner = dataclasses.replace(CONFIG.planner, iterations=1)
    config = policy_config_to_json(dataclasses.replace(CONFIG, planner=planner))
    manifest = publish(site.weights, site.spec, policy_config=config)
    assert (manifest.version, manifest.sha256) == (1, slot.digest)
    assert slot.follow(mark_of(manifest))
    assert slot.pilot is not first


def test_refused_weights_that_were_fetched_again_are_tried_again(site: Site) -> None:
    slot, mark = site.slot(), site.announce()
    folder = site.weights / str(mark.version)
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(_flip(data))
    assert not slot.follow(mark)
    manifest = (folder / "manifest.json").read_bytes()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(data)
    (folder / "manifest.json").write_bytes(manifest)
    assert slot.follow(mark)


def _first_action(slot: WeightsSlot) -> np.ndarray:
    slot.pilot.reset()
    blank = {
        "image.front": np.zeros((40, 40, 3), np.uint8),
        "state": np.zeros(8, np.float32),
    }
    import torch

    torch.manual_seed(0)
    generator = slot.pilot._generator  # type: ignore[attr-defined]  # the noise must be the same
    generator.manual_seed(0)
    return slot.pilot.act(blank, is_eval=True).action
