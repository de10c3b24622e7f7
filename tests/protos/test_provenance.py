"""What a trial keeps of its cameras, and that trials without are what they were before."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from protos import codec
from protos.provenance import CameraFacts, CameraIntrinsics, Provenance
from protos.trial import Trial, TrialRejected
from tests.wire_data import make_spec, make_trial

LENS = CameraIntrinsics(
    width=640,
    height=480,
    fx_px=610.5,
    fy_px=611.0,
    ppx_px=320.25,
    ppy_px=239.0,
    distortion_model="inverse_brown_conrady",
    distortion=(0.1, 0.0, 0.0, 0.0, 0.0),
)
CAMERA = CameraFacts(
    name="front", intrinsics=LENS, serial="923322071234", firmware="5.16.0.1", exposure_s=0.0156
)


def with_cameras(*cameras: CameraFacts) -> Trial:
    trial = make_trial(make_spec(image_size=2, max_steps=2), 4, num_steps=2)
    provenance = dataclasses.replace(trial.provenance, cameras=cameras)
    return dataclasses.replace(trial, provenance=provenance)


def test_cameras_survive_the_wire_and_count_for_the_digest() -> None:
    trial = with_cameras(CAMERA)
    encoded = codec.encode_trial(trial)
    read = codec.decode_trial(encoded.manifest, encoded.payload)
    assert read.provenance == trial.provenance
    assert read.digest() == trial.digest() == encoded.trial_digest
    other = dataclasses.replace(CAMERA, serial="1")
    assert len({t.digest() for t in (trial, with_cameras(other), with_cameras())}) == 3


def test_a_trial_without_cameras_has_the_header_that_it_always_had() -> None:
    header = with_cameras().header()
    assert "cameras" not in header["provenance"]
    assert Provenance.from_header(header["provenance"]).cameras == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.update(cameras="front"),
        lambda p: p.update(cameras=[1]),
        lambda p: p.update(cameras=[{}]),
        lambda p: p.update(cameras=p["cameras"] * 9),
        lambda p: p["cameras"][0].update(serial="x" * 1000),
        lambda p: p["cameras"][0].update(colour="red"),
        lambda p: p["cameras"][0].update(gain="much"),
        lambda p: p["cameras"][0].update(gain=float("nan")),
        lambda p: p["cameras"][0]["intrinsics"].update(width=0),
        lambda p: p["cameras"][0]["intrinsics"].update(fx_px=None),
        lambda p: p["cameras"][0]["intrinsics"].update(distortion=3),
        lambda p: p["cameras"][0]["intrinsics"].update(distortion=[0.0] * 99),
    ],
)
def test_cameras_that_cannot_be_are_refused(change: Any) -> None:
    encoded = codec.encode_trial(with_cameras(CAMERA))
    header = json.loads(encoded.manifest.header_json)
    change(header["provenance"])
    encoded.manifest.header_json = json.dumps(header)
    with pytest.raises(TrialRejected, match="camera"):
        codec.decode_trial(encoded.manifest, encoded.payload)
