import pytest
import torch

from learner.augmentation import draw_offsets, random_shift, shift_by_gather, shift_by_slices
from tests.learner.plain_fowm import crop_shift, grid_shift


def frames(*shape: int) -> torch.Tensor:
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def draw(*lead: int, shift_px: int) -> torch.Tensor:
    return draw_offsets(lead, shift_px, torch.Generator().manual_seed(1), torch.device("cpu"))


def channels_first(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("form", [shift_by_gather, shift_by_slices])
@pytest.mark.parametrize(("shape", "shift_px"), [((84, 84), 4), ((13, 9), 4), ((4, 3), 9)])
def test_shift_is_replicate_padding_and_a_crop(form, shape, shift_px):
    images, offsets = frames(60, *shape, 3), draw(60, shift_px=shift_px)
    expected = crop_shift(channels_first(images), offsets, shift_px)
    assert torch.equal(channels_first(form(images, offsets - shift_px)), expected)


def test_shift_equals_the_published_bilinear_grid_to_a_hundredth_of_a_grey_level():
    images, offsets = frames(40, 84, 84, 3), draw(40, shift_px=4)
    published = grid_shift(channels_first(images), offsets, 4)
    ours = channels_first(random_shift(images, offsets, 4))
    assert float((ours - published).abs().max()) < 0.01


def test_the_middle_offset_is_no_shift_and_nothing_is_done_without_one():
    images = frames(2, 3, 12, 12, 3)
    assert torch.equal(random_shift(images, torch.full((2, 3, 2), 4), 4), images)
    assert random_shift(images, torch.zeros(2, 3, 2, dtype=torch.int64), 0) is images


def test_every_offset_is_drawn_alike_and_for_each_image():
    offsets = draw(9000, shift_px=4)
    assert (int(offsets.min()), int(offsets.max())) == (0, 8)
    counts = offsets.flatten().bincount(minlength=9)
    assert int((counts - 2000).abs().max()) < 250
    assert not torch.equal(offsets[:, 0], offsets[:, 1])
