"""`make bench`: every figure, one row each, from one run.

Ratios hold on other machines; absolute times are those of the machine that the first line names.
"""

from __future__ import annotations

import importlib
import platform
import sys

import torch

MODULES = ("bench_plan", "bench_update", "bench_sampling", "bench_wire")


def main() -> int:
    """Measures and prints, module by module, so that a long run shows what it is at."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
    sys.stdout.write(
        f"{platform.machine()}, {torch.get_num_threads()} threads, {device}, "
        f"torch {torch.__version__}\n"
    )
    for name in MODULES:
        for row in importlib.import_module(f"tests.bench.{name}").measure():
            sys.stdout.write(f"{row.figure:<78} {row.value:10.2f} {row.unit:<4} {row.target}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
