"""Calls on static buffers: what lets a GPU replay a whole plan or update as one CUDA graph.

Inputs are copied into buffers that never move, the function runs on those, and its outputs are
copied out. On a CUDA device the function is recorded after a few ordinary calls and replayed from
then on; elsewhere it simply runs, with the same numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

WARM_UP_CALLS = 3

Result = TypeVar("Result")


def clone_tree(value: Any) -> Any:
    """Copies every tensor in nested dataclasses and mappings; other leaves are kept."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: clone_tree(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: clone_tree(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return type(value)(**fields)
    return value


def copy_tree(target: Any, value: Any) -> None:
    """Copies `value`'s tensors into those of `target`, a tree of the same form.

    Raises:
        ValueError: A tensor has another shape than its buffer.
    """
    if isinstance(target, Tensor):
        if target.shape != value.shape:
            raise ValueError(f"recorded for {tuple(target.shape)}, got {tuple(value.shape)}")
        target.copy_(value, non_blocking=True)
    elif isinstance(target, Mapping):
        for key, item in target.items():
            copy_tree(item, value[key])
    elif dataclasses.is_dataclass(target):
        for field in dataclasses.fields(target):
            copy_tree(getattr(target, field.name), getattr(value, field.name))


class StaticCall(Generic[Result]):
    """One function on static buffers, recorded as a CUDA graph where there is CUDA.

    Every ordinary call before the recording counts as a real one, so a function with side effects
    on its own static state (an update) has them exactly once a call.
    """

    def __init__(self, function: Callable[..., Result], device: torch.device) -> None:
        self._function = function
        self._device = device
        self._calls = 0
        self._inputs: tuple[Any, ...] | None = None
        self._outputs: Result | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Any) -> Result:
        """Runs the function on copies of `inputs`; returns copies of its outputs."""
        if self._inputs is None:
            self._inputs = tuple(clone_tree(value) for value in inputs)
        else:
            for target, value in zip(self._inputs, inputs, strict=True):
                copy_tree(target, value)
        if self._device.type != "cuda":
            return clone_tree(self._function(*self._inputs))
        if self._calls < WARM_UP_CALLS:
            self._calls += 1
            return clone_tree(self._run_aside(self._inputs))
        if self._graph is None:
            self._record(self._inputs)
        assert self._graph is not None
        self._graph.replay()
        return clone_tree(self._outputs)

    def _run_aside(self, inputs: tuple[Any, ...]) -> Result:
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            outputs = self._function(*inputs)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        return outputs

    def _record(self, inputs: tuple[Any, ...]) -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._outputs = self._function(*inputs)
        self._graph = graph
