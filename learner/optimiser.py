"""Adam over named parameters, with clipping and a state of plain tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class NamedAdam:
    """Adam (0.9, 0.999, eps 1e-8, no decay) after clipping the gradient's global norm."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], learning_rate: float, max_norm: float
    ) -> None:
        self._parameters = dict(parameters)
        self._max_norm = max_norm
        values = list(self._parameters.values())
        self._adam = torch.optim.Adam(
            values, lr=learning_rate, fused=True, capturable=values[0].is_cuda
        )

    def zero_grad(self) -> None:
        """Drops all gradients."""
        self._adam.zero_grad(set_to_none=True)

    def clip(self) -> Tensor:
        """Scales the gradient down to the largest norm allowed; returns its norm before."""
        return nn.utils.clip_grad_norm_(self._parameters.values(), self._max_norm)

    def step(self) -> None:
        """Moves the parameters."""
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Returns step count and moments by parameter name; empty before the first step."""
        state: dict[str, Any] = {"step": {}, "exp_avg": {}, "exp_avg_sq": {}}
        for name, parameter in self._parameters.items():
            for key, value in self._adam.state.get(parameter, {}).items():
                state[key][name] = value.detach().clone()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over `state_dict`'s value; KeyError if it was made for other parameters."""
        if not state["step"]:
            self._adam.state.clear()
            return
        for name, parameter in self._parameters.items():
            on_cpu = not parameter.is_cuda
            self._adam.state[parameter] = {
                "step": state["step"][name].to("cpu" if on_cpu else parameter.device).clone(),
                "exp_avg": state["exp_avg"][name].to(parameter.device).clone(),
                "exp_avg_sq": state["exp_avg_sq"][name].to(parameter.device).clone(),
            }
