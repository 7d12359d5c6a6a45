"""Visual words: k-means finds what is there, cells keep their places, a predictor learns codes from a text alone."""

import pytest
import torch
import torch.nn.functional as F

from visavis.models.training.visual_codes import CodePredictor, code_loss, grid_cells, k_means, nearest_word


def test_k_means_finds_separate_groups() -> None:
    chance = torch.Generator().manual_seed(1)
    centres = F.normalize(torch.eye(4), dim=1)
    groups = torch.arange(200) % 4
    points = F.normalize(centres[groups] + 0.05 * torch.randn(200, 4, generator=chance), dim=1)
    found = k_means(points, 4, chance)
    assert torch.allclose(found.norm(dim=1), torch.ones(4), atol=1e-5)
    codes = nearest_word(points, found)
    assert all(len(codes[groups == number].unique()) == 1 for number in range(4))
    assert len(codes.unique()) == 4


def test_a_lost_centre_starts_anew() -> None:
    points = F.normalize(torch.cat([torch.ones(9, 2), torch.tensor([[1.0, -1.0]])]), dim=1)
    found = k_means(points, 2, torch.Generator().manual_seed(3))
    assert not found.isnan().any()
    with pytest.raises(ValueError, match="11 visual words need as many cells, there are 10"):
        k_means(points, 11, torch.Generator())


def test_the_same_seed_finds_the_same_words() -> None:
    points = F.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    first, second = (k_means(points, 5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("before", [0, 1, 5])
def test_cells_keep_their_places(before: int) -> None:
    grid = torch.zeros(1, 36, 2)
    grid[:, :18, 0], grid[:, 18:, 1] = 1, 1  # three rows of the one, three of the other
    cells = grid_cells(torch.cat([9 * torch.ones(1, before, 2), grid], dim=1), 2)
    assert cells.tolist() == [[[1, 0], [1, 0], [0, 1], [0, 1]]]


def test_code_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]))
    assert float(code_loss(logits, torch.tensor([[0, 1]]))) == pytest.approx((0.6931 + 0.2877) / 2, abs=1e-4)


def test_a_predictor_learns_codes_and_ignores_padding() -> None:
    torch.manual_seed(0)
    predictor = CodePredictor(16, 2, 2, 5)
    text, mask = torch.randn(2, 3, 16), torch.tensor([[True, True, False], [True, True, True]])
    codes = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])
    optimizer = torch.optim.Adam(predictor.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        code_loss(predictor(text, mask), codes).backward()
        optimizer.step()
    logits = predictor(text, mask)
    assert torch.equal(logits.argmax(-1), codes)
    changed = text.clone()
    changed[0, 2] += 9
    torch.testing.assert_close(predictor(changed, mask), logits)
