"""The contrastive loss against cases by hand, its queue, and the shared space it makes."""

import math

import pytest
import torch
from torch import Tensor

from visavis.models.shared_space import LARGEST_SCALE, SharedSpace
from visavis.models.training.contrastive import Contrast, EmbeddingQueue, matching_loss

ONE = torch.tensor(1.0)


def test_matching_loss_by_hand() -> None:
    logits = torch.tensor([[math.log(2.0), 0.0, 0.0], [0.0, 0.0, math.log(2.0)]])
    right = torch.tensor([[True, False, False], [False, True, True]])
    expected = (math.log(2) + math.log(4 / 3)) / 2
    assert float(matching_loss(logits, right)) == pytest.approx(expected)


def test_a_queue_keeps_the_newest_and_leaves_out_what_it_does_not_have() -> None:
    queue = EmbeddingQueue(3, 2)
    queue.push(torch.ones(2, 2), torch.tensor([1, 2]))
    vectors, owners = queue.after(torch.zeros(1, 2), torch.tensor([9]))
    assert owners.tolist() == [9, 1, 2] and vectors.shape == (3, 2)
    queue.push(torch.zeros(2, 2), torch.tensor([3, 4]))
    assert queue.after(torch.zeros(0, 2), torch.tensor([], dtype=torch.long))[1].tolist() == [3, 4, 1]


def test_queued_embeddings_are_wrong_candidates() -> None:
    pictures, captions = torch.eye(2), torch.eye(2)
    photos = torch.tensor([1, 2])
    fresh = Contrast(2, 4)(pictures, photos, captions, photos, ONE)
    contrast = Contrast(2, 4)
    contrast(pictures, torch.tensor([5, 6]), captions, torch.tensor([5, 6]), ONE)
    crowded = contrast(pictures, photos, captions, photos, ONE)
    assert float(fresh) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(crowded) == pytest.approx(math.log(2 + 2 * math.exp(-1)))
    again = contrast(pictures, photos, captions, photos, ONE)  # its own older embeddings are left out
    assert float(again) == pytest.approx(float(crowded))


@pytest.fixture
def space() -> SharedSpace:
    torch.manual_seed(0)
    space = SharedSpace(16, 12, 2, 8)
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
    contrast = Contrast(8, 12)
    optimizer = torch.optim.Adam(space.parameters(), lr=5e-3)

    def found() -> Tensor:
        return (space.embed_pictures(patches) @ space.embed_texts(states, mask).T).argmax(dim=1) // 2

    assert not torch.equal(found(), photos)
    for _ in range(80):
        optimizer.zero_grad()
        pictures, captions = space.embed_pictures(patches), space.embed_texts(states, mask)
        contrast(pictures, photos, captions, owners, space.scale).backward()
        optimizer.step()
    assert torch.equal(found(), photos)
    assert all(value.grad is not None and value.grad.any() for value in space.parameters())


def test_the_scale_stays_within_bounds(space: SharedSpace) -> None:
    with torch.no_grad():
        space.log_sharpness.fill_(50)
    assert float(space.scale.detach()) == LARGEST_SCALE
