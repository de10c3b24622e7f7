"""Random shift of image batches: pad by the edge pixels, crop at a whole-pixel offset."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_offsets(
    lead: tuple[int, ...], shift_px: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Draws crop offsets (row, column), uniform in 0..2 * shift_px; int64. [*lead, 2]"""
    return torch.randint(
        2 * shift_px + 1, (*lead, 2), generator=generator, device=device, dtype=torch.int64
    )


def random_shift(images: Tensor, offsets: Tensor, shift_px: int) -> Tensor:
    """Shifts every image by its own whole-pixel offset, repeating the edge pixels.

    On a CPU frame by frame with slices (five times faster there), on a GPU by one gather.

    Args:
        images: Any dtype; all channels of an image move together. [..., Y, X, C]
        offsets: Row and column of the crop in the padded image, 0 .. 2 * shift_px; shift_px is no
            shift. [..., 2]
        shift_px: Pixels of padding on each side.
    """
    if shift_px == 0:
        return images
    frames = images.reshape(-1, *images.shape[-3:])
    moves = offsets.reshape(-1, 2) - shift_px
    shift = shift_by_gather if images.is_cuda else shift_by_slices
    return shift(frames, moves).view(images.shape)


def shift_by_gather(frames: Tensor, moves: Tensor) -> Tensor:
    """Reads pixel (y + move, x + move), clamped to the frame. [n, Y, X, C], [n, 2]"""
    rows, columns = frames.shape[1:3]
    y = torch.arange(rows, device=frames.device) + moves[:, :1]
    x = torch.arange(columns, device=frames.device) + moves[:, 1:]
    y, x = y.clamp(0, rows - 1), x.clamp(0, columns - 1)
    frame = torch.arange(len(frames), device=frames.device)
    return frames[frame[:, None, None], y[:, :, None], x[:, None, :]]


def shift_by_slices(frames: Tensor, moves: Tensor) -> Tensor:
    """Does the same as `shift_by_gather` by block copies. [n, Y, X, C], [n, 2]"""
    rows, columns = frames.shape[1:3]
    shifted = torch.empty_like(frames)
    limit = torch.tensor([rows - 1, columns - 1])  # a larger move reads only edge pixels, too
    for out, frame, (down, right) in zip(
        shifted, frames, moves.clamp(-limit, limit).tolist(), strict=True
    ):
        top, bottom = max(0, -down), min(rows, rows - down)
        left, end = max(0, -right), min(columns, columns - right)
        out[top:bottom, left:end] = frame[top + down : bottom + down, left + right : end + right]
        if top:
            out[:top, left:end] = out[top : top + 1, left:end]
        if bottom < rows:
            out[bottom:, left:end] = out[bottom - 1 : bottom, left:end]
        if left:
            out[:, :left] = out[:, left : left + 1]
        if end < columns:
            out[:, end:] = out[:, end - 1 : end]
    return shifted
