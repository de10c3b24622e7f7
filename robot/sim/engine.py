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
    import mujoco as _mujoco
except ModuleNotFoundError as error:
    raise ImportError(
        f"{error}: the simulated robot needs MuJoCo, `pip install 'offworld[sim]'`"
    ) from error
except (AttributeError, ImportError, OSError, RuntimeError) as error:
    # AttributeError is how PyOpenGL's loader shows that libEGL is missing.
    raise ImportError(_NO_GL.format(gl=os.environ["MUJOCO_GL"], cause=f" ({error})")) from error

__all__ = ["make_renderer", "mujoco"]

# The bindings come without types.
mujoco: Any = _mujoco


def make_renderer(model: Any, size: int) -> Any:
    """Returns a renderer of square images [size, size, 3] without shadows.

    It belongs to the calling thread: OpenGL refuses to draw from another one.

    Raises:
        ImportError: There is no OpenGL here; the message says what to install.
    """
    try:
        renderer = mujoco.Renderer(model, size, size)
    except (ImportError, AttributeError, OSError, RuntimeError, mujoco.FatalError) as error:
        cause = f" ({error})"
        raise ImportError(_NO_GL.format(gl=os.environ["MUJOCO_GL"], cause=cause)) from error
    renderer.scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = 0
    renderer.scene.flags[int(mujoco.mjtRndFlag.mjRND_REFLECTION)] = 0
    return renderer
