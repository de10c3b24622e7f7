"""A running average of an actor's tensors: steadier to act with than the newest ones.

Every update with a constant learning rate leaves the weights somewhere near a good place rather
than at it; two versions a few updates apart can differ by half their success. Averages do not.

Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992; in its
exponential form with a short start, so that it forgets the random weights it began with.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class ActorAverage:
    """Averages floating-point tensors over updates; copies all others.

    Args:
        tensors: The live tensors, by name; read at every `follow`.
        decay: Part of the average kept by one update, 0 <= decay < 1; about the last
            1 / (1 - decay) updates count.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self._decay = decay
        self._live = {name: tensor.detach() for name, tensor in tensors.items()}
        self._mean = {name: tensor.clone() for name, tensor in self._live.items()}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The average, by name; not copies."""
        return self._mean

    @torch.no_grad()
    def follow(self, num_updates: int) -> None:
        """Takes in the live tensors as they are after `num_updates` updates, 1 or more."""
        # As many updates count as there have been, until the window is full.
        part = max(1.0 - self._decay, 10.0 / (9.0 + num_updates))
        for name, live in self._live.items():
            if live.is_floating_point():
                self._mean[name].lerp_(live, part)
            else:
                self._mean[name].copy_(live)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns copies of the average."""
        return {name: tensor.clone() for name, tensor in self._mean.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continues from `state_dict`'s value."""
        for name, tensor in self._mean.items():
            tensor.copy_(state[name])
