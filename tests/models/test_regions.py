"""Which positions a region of the picture touches."""

import torch

from visavis.models.generation import Region
from visavis.models.regions import patch_mask


def test_patch_mask_covers_what_the_region_touches() -> None:
    mask = patch_mask(Region(0.25, 0.5, 0.5, 0.25), 17)
    assert mask.shape == (1, 17) and bool(mask[0, 0])
    assert mask[0, 1:].reshape(4, 4).int().tolist() == [[0] * 4, [0] * 4, [0, 1, 1, 0], [0] * 4]
    with_cells = patch_mask(Region(0.25, 0.5, 0.5, 0.25), 17 + 4, 4)
    assert torch.equal(with_cells[:, :17], mask) and with_cells[0, 17:].int().tolist() == [0, 0, 1, 1]
    with_tags = patch_mask(Region(0.25, 0.5, 0.5, 0.25), 17 + 4 + 3, 4, 3)
    assert torch.equal(with_tags[:, :21], with_cells) and not with_tags[0, 21:].any()
