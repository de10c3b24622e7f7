"""A trainer that is killed and resumed, against one that never stopped: all they know, bit by bit.

The runs are those of the trainer's own test: 200 updates at once; and 100, SIGKILL in the middle of
a checkpoint, and the rest by a second process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.bench.row import Row
from tests.learner.killed_trainer import train_straight_and_killed


def measure() -> list[Row]:
    """Trains both, and compares their last checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        straight, killed = train_straight_and_killed(Path(folder))
    num, num_differing = count_differing(straight.parts, killed.parts)
    what = f"resumed after kill -9: differing numbers of {num} (weights, optimiser, draws)"
    return [Row(figure=what, value=num_differing, unit="", target="0")]


def count_differing(first: Any, second: Any) -> tuple[int, int]:
    """Counts the numbers in two nested states, and those whose bits differ.

    A tensor that one of them lacks, or has in another shape or type, differs as a whole.
    """
    here, there = (dict(_leaves(state, "")) for state in (first, second))
    num = num_differing = 0
    for name in here.keys() | there.keys():
        a, b = (leaves.get(name, np.zeros((0, 1), np.uint8)) for leaves in (here, there))
        num += max(len(a), len(b))
        is_alike = a.shape == b.shape
        num_differing += int((a != b).any(1).sum()) if is_alike else max(len(a), len(b))
    return num, num_differing


def _leaves(state: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the bytes of every tensor, and of the text of everything else. uint8 [numbers, B]"""
    if isinstance(state, Mapping):
        for key, value in state.items():
            yield from _leaves(value, f"{path}/{key}")
    elif isinstance(state, list | tuple):
        for index, value in enumerate(state):
            yield from _leaves(value, f"{path}/{index}")
    elif isinstance(state, torch.Tensor):
        flat = state.detach().reshape(-1).contiguous().view(torch.uint8).numpy()
        name = f"{path} {state.dtype} {tuple(state.shape)}"
        yield name, flat.reshape(state.numel(), state.element_size())
    else:
        yield path, np.frombuffer(repr(state).encode(), np.uint8)[None]
