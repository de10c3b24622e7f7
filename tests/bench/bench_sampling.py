"""What it costs to store trials and to sample them, against the update that uses the sample.

Run as `python -m tests.bench.bench_sampling`; `make bench` prints the same rows with all others.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from learner.algorithms.fowm import FowmAlgorithm, FowmConfig
from learner.checkpoint import CheckpointStore
from learner.replay import Replay
from learner.sampler import Mixture
from learner.store import TrialStore
from protos.trial import RobotSpec, Source, Trial
from tests.bench.row import Row
from tests.learner.trials import make_spec, make_trial

BATCH_SIZE, HORIZON, IMAGE_SIZE, NUM_STEPS = 256, 5, 84, 25
NUM_OFFLINE, NUM_ONLINE = 120, 20


def seconds_of(call: Callable[[], object], repeats: int) -> float:
    """Returns the median time of `call` after one run to warm up."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return sorted(times[1:])[repeats // 2]


def measure() -> list[Row]:
    """Measures on the GPU if there is one, else on the CPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    spec = make_spec(image_size=IMAGE_SIZE, action_size=4)
    trials = [
        make_trial(
            number,
            num_steps=NUM_STEPS,
            spec=spec,
            is_noisy=True,
            source=Source.OFFLINE if number < NUM_OFFLINE else Source.ONLINE,
        )
        for number in range(NUM_OFFLINE + NUM_ONLINE)
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows = store_rows(Path(folder), trials)
    return rows + sampling_rows(spec, trials, device)


def store_rows(folder: Path, trials: list[Trial]) -> list[Row]:
    """Times commits, loads, and a batch drawn straight from Zarr."""
    store = TrialStore.open(folder / "store")
    remaining = iter(trials)
    commit_s = seconds_of(lambda: store.commit(next(remaining)), repeats=40)
    names = [row.trial_id for row in store.iter_rows()]
    load_s = seconds_of(lambda: store.load(names[0]), repeats=20)
    store.close()
    return [
        Row(figure="commit one trial, fsynced", value=commit_s * 1e3, unit="ms", target="<= 30"),
        Row(figure="load one trial, verified", value=load_s * 1e3, unit="ms", target="-"),
        Row(
            figure=f"batch of {BATCH_SIZE} read from Zarr (what we do not do)",
            value=load_s * BATCH_SIZE * 1e3,
            unit="ms",
            target="-",
        ),
    ]


def sampling_rows(spec: RobotSpec, trials: list[Trial], device: str) -> list[Row]:
    """Times batches, priorities, the update between them, and a checkpoint of it all."""
    replay = Replay(spec, device=device)
    for trial in trials:
        replay.add(trial)
    mixture = Mixture(replay, HORIZON)
    generator = torch.Generator(device).manual_seed(0)
    algorithm = FowmAlgorithm(FowmConfig(horizon=HORIZON), spec, device, 0)
    batch = mixture.sample(BATCH_SIZE, generator=generator)
    errors = torch.rand(BATCH_SIZE, device=device)

    def sample() -> None:
        replay.update_priorities(mixture.sample(BATCH_SIZE, generator=generator), errors)

    is_gpu = device == "cuda"
    sample_s = seconds_of(sample, repeats=50)
    update_s = seconds_of(lambda: algorithm.update(batch), repeats=50 if is_gpu else 3)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = CheckpointStore(Path(folder))
        parts = {"algorithm": algorithm.state_dict(), "replay": replay.state_dict()}
        save_s = seconds_of(lambda: checkpoints.save(1, parts), repeats=3)
    where = f"pixels, batch {BATCH_SIZE}, H {HORIZON}, {device}"
    return [
        Row(figure=f"sampled batches, {where}", value=1 / sample_s, unit="1/s", target="-"),
        Row(figure=f"FOWM update, {where}", value=update_s * 1e3, unit="ms", target="-"),
        Row(
            figure="sampling as part of an update",
            value=100 * sample_s / update_s,
            unit="%",
            target="< 10",
        ),
        Row(figure="checkpoint, fsynced", value=save_s * 1e3, unit="ms", target="-"),
    ]


if __name__ == "__main__":
    for row in measure():
        sys.stdout.write(f"{row}\n")
