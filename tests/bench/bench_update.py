"""One FOWM update from pixels at the paper's size: the plain form against ours, in turns.

Run as `python -m tests.bench.bench_update` for one line of JSON a row; `make bench` prints the same
rows with all others. The plain form follows the published code: frames as floats, bilinear shift,
one frame batch and one network at a time, gradients into the slow copies.
"""

from __future__ import annotations

import argparse
import sys

import torch

from learner.algorithms.fowm import FowmAlgorithm, FowmConfig
from tests.bench.interleaved import Comparison, compare, machine, one_thread, time_in_turns
from tests.bench.row import Row
from tests.learner.fowm_cases import make_batch, make_spec
from tests.learner.plain_fowm import PlainFowm, grid_shift

BASELINE = "plain"


def measure_all(
    *, rounds: int, batch_size: int, image_size: int, uses_cpu_time: bool
) -> list[Comparison]:
    """Times updates on the same batch with the same random numbers."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = make_spec(image_size=image_size, state_size=4, num_actions=4)
    batch = make_batch(spec, horizon=5, size=batch_size, seed=0).to(device)
    exact = FowmAlgorithm(FowmConfig(), spec, device, seed=0)
    half = FowmAlgorithm(FowmConfig(train_precision="bf16"), spec, device, seed=0)
    plain = PlainFowm(exact, shift=grid_shift, detach_target=False)
    draws = [exact.draw(batch_size) for _ in range(rounds + 2)]
    times = time_in_turns(
        {
            BASELINE: lambda number: plain.update(batch, draws[number]),
            "update, fp32": lambda number: exact.update(batch, draws[number]),
            "update, bf16": lambda number: half.update(batch, draws[number]),
        },
        rounds=rounds,
        uses_cpu_time=uses_cpu_time,
    )
    target = ">= 3" if device.type == "cuda" else ">= 2"
    what = f"batch {batch_size}, horizon 5, {image_size}x{image_size} pixels"
    return compare(times, BASELINE, targets={"update, bf16": target}, config=what)


def measure() -> list[Row]:
    """Returns the rows of `make bench`."""
    with one_thread() as uses_cpu_time:
        rows = measure_all(rounds=3, batch_size=256, image_size=84, uses_cpu_time=uses_cpu_time)
    return [
        Row(
            figure=f"{r.figure}, {r.config}: times faster than plain",
            value=r.ratio,
            unit="x",
            target=r.target,
        )
        for r in rows
    ]


def main() -> int:
    """Prints one line of JSON a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--image-size", type=int, default=84)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--cpu-time", action="store_true", help="processor time, not wall time")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for row in measure_all(
        rounds=options.rounds,
        batch_size=options.batch_size,
        image_size=options.image_size,
        uses_cpu_time=options.cpu_time,
    ):
        sys.stdout.write(row.to_json(machine()) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
