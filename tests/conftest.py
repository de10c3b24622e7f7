"""What all tests need before the first import: a way to render without a display."""

from __future__ import annotations

import os

# Read when MuJoCo is imported, which a test may do before the project does.
os.environ.setdefault("MUJOCO_GL", "egl")
