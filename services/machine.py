"""What runs here: versions of what matters to a result, and the machine in a few words."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "offworld",
    "torch",
    "numpy",
    "mujoco",
    "ray",
    "zarr",
    "grpcio",
    "protobuf",
    "safetensors",
)


def versions() -> dict[str, str]:
    """Returns the installed versions by package; those that are absent are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Returns processor, cores and memory in a few words; no host name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    memory_kib = _field("/proc/meminfo", "MemTotal").split()
    memory = f", {int(memory_kib[0]) / 2**20:.0f} GiB" if memory_kib else ""
    return f"{cores} cores of {name}{memory}, {platform.system()}"


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
