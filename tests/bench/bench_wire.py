"""What crosses the wire: bytes of a trial as it is sent.

Run as `python -m tests.bench.bench_wire`; `make bench` prints the same rows with all others.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np

from protos import learner_pb2
from protos.codec import cut_chunks, encode_trial
from protos.trial import Trial
from tests.bench.row import Row
from tests.learner.trials import make_spec, make_trial

MIB = 1 << 20
NUM_STEPS = 100


def two_camera_trial() -> Trial:
    """Returns 10 s at 10 Hz with two 128 x 128 cameras."""
    spec = make_spec(image_size=128, action_size=4, max_steps=NUM_STEPS)
    trial = make_trial(0, num_steps=NUM_STEPS, spec=spec, is_noisy=True)
    top = dataclasses.replace(spec.image_fields[0], name="image.top")
    return dataclasses.replace(
        trial,
        spec=dataclasses.replace(spec, observations=(*spec.observations, top)),
        observations={**trial.observations, top.name: trial.observations["image.front"]},
    )


def measure() -> list[Row]:
    """Encodes a trial as it is sent, and counts what a transition-wise float32 form would take."""
    trial = two_camera_trial()
    encoded = encode_trial(trial)
    sent = encoded.manifest.ByteSize() + sum(
        learner_pb2.PutChunkRequest(trial_id=trial.trial_id, data=chunk.data).ByteSize()
        for chunk in cut_chunks(encoded.payload)
    )
    pixels = sum(int(np.prod(f.shape)) for f in trial.spec.image_fields)
    twice_float32 = 2 * 4 * pixels * NUM_STEPS
    what = "a trial of 100 steps, two 128x128 cameras"
    return [
        Row(figure=f"bytes on the wire, {what}", value=sent / MIB, unit="MiB", target="<= 9.5"),
        Row(
            figure="the same as transitions of float32 images (frame and next frame)",
            value=twice_float32 / MIB,
            unit="MiB",
            target="-",
        ),
    ]


if __name__ == "__main__":
    for row in measure():
        sys.stdout.write(f"{row}\n")
