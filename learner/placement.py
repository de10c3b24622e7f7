"""Whether a trainer fits on any of the machines there are.

Ray keeps what fits nowhere waiting for a machine that may never come, and does not say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal


class NoMachineFits(RuntimeError):
    """No machine has what the trainer asks for."""


def num_gpus_for(
    device: str, num_cpus: int, machines: Sequence[Mapping[str, float]]
) -> Literal[0, 1]:
    """Returns how many GPUs to ask Ray for.

    Args:
        device: As of `TrainerJob`.
        num_cpus: Asked for beside them.
        machines: What each machine has, by Ray's names `CPU` and `GPU`.

    Raises:
        NoMachineFits: No one machine has all of it.
    """
    roomy = [machine for machine in machines if machine.get("CPU", 0) >= num_cpus]
    has_gpu = any(machine.get("GPU", 0) >= 1 for machine in roomy)
    if not roomy or (device == "cuda" and not has_gpu):
        wanted = f"{num_cpus} CPUs (ray.num_cpus)" + " and a GPU (device)" * (device == "cuda")
        there = ", ".join(
            f"{m.get('CPU', 0):g} CPUs and {m.get('GPU', 0):g} GPUs" for m in machines
        )
        raise NoMachineFits(
            f"the trainer asks for {wanted} on one machine; Ray sees {there or 'no machine'}. Ask "
            "for less, or find out why Ray does not see it (nvidia-smi, CUDA_VISIBLE_DEVICES)"
        )
    return 1 if has_gpu and device != "cpu" else 0
