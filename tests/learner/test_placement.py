"""What Ray is asked for, and that what is nowhere is said."""

from __future__ import annotations

import pytest

from learner.placement import NoMachineFits, num_gpus_for

SMALL = {"CPU": 2.0}
GPU_BOX = {"CPU": 16.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("device", "machines", "num_gpus"),
    [
        ("auto", [SMALL], 0),
        ("auto", [SMALL, GPU_BOX], 1),
        ("cpu", [GPU_BOX], 0),
        ("cuda", [SMALL, GPU_BOX], 1),
    ],
)
def test_a_gpu_is_asked_for_where_there_is_one(
    device: str, machines: list[dict[str, float]], num_gpus: int
) -> None:
    assert num_gpus_for(device, 1, machines) == num_gpus


@pytest.mark.parametrize(
    ("device", "num_cpus", "machines", "told"),
    [
        ("cuda", 1, [SMALL], r"1 CPUs .* and a GPU .* Ray sees 2 CPUs and 0 GPUs\."),
        ("auto", 64, [SMALL, GPU_BOX], "64 CPUs .*; Ray sees 2 CPUs and 0 GPUs, 16 CPUs and 1"),
        ("cuda", 2, [{"CPU": 1.0, "GPU": 1.0}, SMALL], "on one machine"),
        ("auto", 1, [], "Ray sees no machine"),
    ],
    ids=["no GPU", "too many CPUs", "each on another machine", "nothing"],
)
def test_what_is_nowhere_is_said(
    device: str, num_cpus: int, machines: list[dict[str, float]], told: str
) -> None:
    with pytest.raises(NoMachineFits, match=told):
        num_gpus_for(device, num_cpus, machines)


def test_a_gpu_on_a_machine_with_too_few_cpus_is_left_alone() -> None:
    assert num_gpus_for("auto", 8, [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0}]) == 0
