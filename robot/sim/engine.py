"""The one place that imports MuJoCo, after choosing a way to render without a display."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")

_NO_GL = (
    "MuJoCo cannot render with MUJOCO_GL={gl}{cause}. On a machine without a display, install "
    "OpenGL with `apt-get install libegl1 libgl1`"
)

try:
    import mujoco
except (AttributeError, OSError) as error:
    # How PyOpenGL's loader shows that libEGL is missing.
    raise ImportError(_NO_GL.format(gl=os.environ["MUJOCO_GL"], cause=f" ({error})")) from error

__all__ = ["make_renderer", "mujoco"]


def make_renderer(model: Any, size: int) -> Any:
    """Returns a renderer of square images [size, size, 3] without shadows.

    It belongs to the calling thread: OpenGL refuses to draw from another one.

    Raises:
        ImportError: There is no OpenGL here; the message says what to install.
    """
    # The package swallows its own ImportError and comes up without the class.
    renderer_type = getattr(mujoco, "Renderer", None)
    if renderer_type is None:
        raise ImportError(_NO_GL.format(gl=os.environ["MUJOCO_GL"], cause=""))
    renderer = renderer_type(model, size, size)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    return renderer
