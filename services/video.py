"""Videos of trials, for browsers: H.264, what the camera saw, with step, reward and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from protos.trial import Trial

PANEL = 256
"""Side of an enlarged camera image, pixels."""
STRIP = 40
"""Height of the text above it, pixels."""
GAP = 6
HOLD_S = 1.0
"""How long the last image of a trial stays."""
_INK, _PAPER = (34, 34, 34), (255, 255, 255)
_REACHED, _NOT_REACHED = (0, 114, 178), (210, 210, 210)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One trial to show, and what to call it."""

    trial: Trial
    label: str
    camera: str = "image.front"

    @property
    def num_frames(self) -> int:
        """Number of images: one more than steps."""
        return self.trial.num_steps + 1


def draw_panel(clip: Clip, index: int) -> np.ndarray:
    """Draws observation `index` of a clip under its text; later than the end means the end.

    Returns:
        The enlarged image with text above, framed in blue once the reward was reached.
        uint8 [PANEL + STRIP, PANEL, 3]
    """
    trial = clip.trial
    index = min(index, trial.num_steps)
    rewards = trial.steps["reward"][:index]
    is_reached = bool((rewards >= 1.0).any())
    version = int(trial.steps["weights_version"][max(0, index - 1)]) if trial.num_steps else 0
    panel = Image.new("RGB", (PANEL, PANEL + STRIP), _PAPER)
    view = Image.fromarray(trial.observations[clip.camera][index])
    panel.paste(view.resize((PANEL, PANEL), Image.Resampling.BICUBIC), (0, STRIP))
    pen = ImageDraw.Draw(panel)
    font = ImageFont.load_default(14)
    reward = float(rewards[-1]) if index else 0.0
    pen.text((4, 3), f"{clip.label}   {trial.trial_id[-12:]}", _INK, font)
    state = "reached" if is_reached else ""
    pen.text(
        (4, 20), f"step {index:2d}   reward {reward:g}   weights v{version}   {state}", _INK, font
    )
    pen.rectangle(
        (0, STRIP, PANEL - 1, PANEL + STRIP - 1),
        outline=_REACHED if is_reached else _NOT_REACHED,
        width=4 if is_reached else 1,
    )
    return np.asarray(panel)


def draw_grid(rows: Sequence[Sequence[Clip]], index: int) -> np.ndarray:
    """Draws observation `index` of several clips side by side.

    Returns:
        uint8 [Y, X, 3], both sides even as the codec wants them.
    """
    width = max(len(row) for row in rows) * (PANEL + GAP) + GAP
    height = len(rows) * (PANEL + STRIP + GAP) + GAP
    canvas = np.full((height + height % 2, width + width % 2, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, clip in enumerate(row):
            y, x = GAP + r * (PANEL + STRIP + GAP), GAP + c * (PANEL + GAP)
            canvas[y : y + PANEL + STRIP, x : x + PANEL] = draw_panel(clip, index)
    return canvas


def write_video(path: Path, pages: Sequence[Sequence[Sequence[Clip]]], *, hz: float) -> Path:
    """Writes pages of clips, one page after another, and returns the path.

    Args:
        path: An mp4 file to make.
        pages: Each page is rows of clips that play together; all pages have the first one's
            number of rows, and none has longer rows.
        hz: Images a second: the control rate, for real time.
    """
    first = draw_grid(pages[0], 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(hz).limit_denominator(1000))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "23", "preset": "veryfast"}
        for page in pages:
            num_frames = max(clip.num_frames for row in page for clip in row)
            for index in range(num_frames + round(HOLD_S * hz)):
                image = np.full_like(first, 255)
                grid = draw_grid(page, index)
                image[: grid.shape[0], : grid.shape[1]] = grid
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path
