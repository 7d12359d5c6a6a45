"""The contrastive loss against cases by hand, its queue, and the shared space it makes."""

import math

import pytest
import torch
from torch import Tensor, nn

from visavis.models.shared_space import LARGEST_SCALE, SharedSpace
from visavis.models.training.contrastive import Contrast, Queue, matching_loss


def test_matching_loss_by_hand() -> None:
    logits = torch.tensor([[math.log(2.0), 0.0, 0.0], [0.0, 0.0, math.log(2.0)]])
    right = torch.tensor([[True, False, False], [False, True, True]])
    expected = (math.log(2) + math.log(4 / 3)) / 2
    assert float(matching_loss(logits, right)) == pytest.approx(expected)


def test_a_queue_keeps_the_newest_and_leaves_out_what_it_does_not_have() -> None:
    queue = Queue(3, 2)
    queue.push(torch.ones(2, 2), torch.tensor([1, 2]))
    vectors, owners = queue.after(torch.zeros(1, 2), torch.tensor([9]))
    assert owners.tolist() == [9, 1, 2] and vectors.shape == (3, 2)
    queue.push(torch.zeros(2, 2), torch.tensor([3, 4]))
    assert queue.after(torch.zeros(0, 2), torch.tensor([], dtype=torch.long))[1].tolist() == [3, 4, 1]


class AsTheyAre(nn.Module):
    """A space whose heads change nothing, but for a factor that a test may turn."""

    factor, scale = 1.0, torch.tensor(1.0)

    def picture(self, summaries: Tensor) -> Tensor:
        return self.factor * summaries

    text = picture


def test_queued_summaries_are_wrong_candidates() -> None:
    space, pair, photos = AsTheyAre(), torch.eye(2), torch.tensor([1, 2])
    fresh = Contrast(2, 2, 4)(space, pair, photos, pair, photos)
    contrast = Contrast(2, 2, 4)
    contrast(space, pair, torch.tensor([5, 6]), pair, torch.tensor([5, 6]))
    crowded = contrast(space, pair, photos, pair, photos)
    assert float(fresh) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(crowded) == pytest.approx(math.log(2 + 2 * math.exp(-1)))
    again = contrast(space, pair, photos, pair, photos)  # its own older summaries are left out
    assert float(again) == pytest.approx(float(crowded))


def test_what_is_queued_is_embedded_by_the_heads_of_today() -> None:
    space, pair, photos = AsTheyAre(), torch.eye(2), torch.tensor([1, 2])
    contrast = Contrast(2, 2, 4)
    contrast(space, pair, torch.tensor([5, 6]), pair, torch.tensor([5, 6]))
    space.factor = 2.0
    assert float(contrast(space, pair, photos, pair, photos)) == pytest.approx(math.log(2 + 2 * math.exp(-4)))


@pytest.fixture
def space() -> SharedSpace:
    torch.manual_seed(0)
    space = SharedSpace(16, 12, 8, [2, 1]).train(False)
    with torch.no_grad():
        for parameter in space.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2)
    return space


def test_embeddings_are_unit_vectors_and_padding_does_not_touch_them(space: SharedSpace) -> None:
    states = torch.randn(2, 5, 12)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    texts = space.embed_texts(states, mask)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(space.embed_texts(states[:1, :3], mask[:1, :3]), texts[:1])
    pictures = space.embed_pictures(torch.randn(3, 7, 16))
    torch.testing.assert_close(pictures.norm(dim=1), torch.ones(3))


def test_pictures_find_their_captions_once_trained(space: SharedSpace) -> None:
    patches, states, mask = torch.randn(6, 4, 16), torch.randn(12, 3, 12), torch.ones(12, 3)
    photos, owners = torch.arange(6), torch.arange(6).repeat_interleave(2)
    contrast = Contrast(48, 12, 12)
    optimizer = torch.optim.Adam(space.parameters(), lr=3e-3)

    def found() -> Tensor:
        return (space.embed_pictures(patches) @ space.embed_texts(states, mask).T).argmax(dim=1) // 2

    assert not torch.equal(found(), photos)
    for _ in range(30):
        optimizer.zero_grad()
        contrast(space, space.sum_up_pictures(patches), photos, states.mean(dim=1), owners).backward()
        optimizer.step()
    assert torch.equal(found(), photos)
    assert all(value.grad is not None and value.grad.any() for value in space.parameters())


def test_the_scale_stays_within_bounds(space: SharedSpace) -> None:
    with torch.no_grad():
        space.log_sharpness.fill_(50)
    assert float(space.scale.detach()) == LARGEST_SCALE
