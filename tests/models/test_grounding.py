"""Heat maps: the open pass is the real pass, and heat is where the model could look."""

import pytest
import torch

from visavis.models.grounding import Reading, answer_log_probability, as_grid, decode_openly, heat_maps, rollout
from visavis.models.image_features import ImageFeatures
from visavis.models.visavis_model import Memory, VisavisModel

ANSWER = torch.tensor([[1, 9, 11, 14, 2]])


def memory_of(model: VisavisModel, patch_mask: torch.Tensor | None = None) -> Memory:
    torch.manual_seed(4)
    ids = torch.tensor([[7, 8, 9]])
    return model.fuse(
        model.image_state(ImageFeatures(torch.randn(1, 17, 24))), ids, torch.ones_like(ids), patch_mask=patch_mask
    )


def test_the_open_pass_gives_the_same_scores(tiny_model: VisavisModel) -> None:
    with torch.inference_mode():
        memory = memory_of(tiny_model)
        scores, own, seen = decode_openly(tiny_model.decoder, ANSWER, memory)
        torch.testing.assert_close(scores, tiny_model.decode(ANSWER, memory))
        expected = scores[:, :-1].log_softmax(-1)[0, range(4), ANSWER[0, 1:]].sum()
        assert answer_log_probability(tiny_model, memory, ANSWER) == pytest.approx(float(expected))
    assert own[0].shape == (1, 2, 5, 5) and seen[0].shape == (1, 2, 5, 17 + 3)
    for weights in own + seen:
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))


@pytest.mark.parametrize("reading", list(Reading))
def test_all_heat_is_where_the_model_may_look(tiny_model: VisavisModel, reading: Reading) -> None:
    one = torch.zeros(1, 17, dtype=torch.bool)
    one[0, [0, 1 + 6]] = True  # the class token and the patch of row 1, column 2
    with torch.inference_mode():
        memory = memory_of(tiny_model, one)
        maps = heat_maps(tiny_model, memory, ANSWER, 17, reading)
    assert maps.shape == (4, 4, 4) and not maps.requires_grad
    hit = maps[:, 1, 2]
    assert bool((hit > 0).any()) and bool(((hit - 1).abs().lt(1e-5) | (hit == 0)).all())
    assert float(maps.sum() - hit.sum()) == 0


def test_rollout_by_hand() -> None:
    """Two tokens, two layers: the second token takes over half of what the first one saw."""
    own = [torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])]
    seen = [torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 2)]
    assert rollout(own, seen).tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_cells_are_spread_over_the_patches_they_cover() -> None:
    patches = torch.zeros(1, 1 + 16)
    patches[0, 0] = 5  # the class token is no place
    cells = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    grid = as_grid(torch.cat([patches, cells], dim=1), 4)[0]
    assert float(grid.sum()) == pytest.approx(1)
    assert float(grid[2:, 2:].sum()) > 0.5 and float(grid[:1, :1].sum()) == 0
