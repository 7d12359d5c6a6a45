"""Photos and other pictures: what is drawn, what the head reads, and that it can be fitted."""

import random

import pytest
import torch
from PIL import Image

from visavis.models.config import ModelConfig, ObjectConfig
from visavis.models.image_features import ImageFeatures
from visavis.models.photo_head import PhotoHead, summary
from visavis.models.training.nonphotos import KINDS, Pen, draw_nonphoto
from visavis.models.training.photo_fitting import fit_photo_head
from visavis.models.visavis_model import VisavisModel


@pytest.mark.parametrize("kind", sorted(set(KINDS), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_kind_draws_something_that_chance_repeats(kind) -> None:  # type: ignore[no-untyped-def]
    drawn = []
    for _ in range(2):
        pen = Pen(random.Random(7), [])
        kind(pen)
        drawn.append(pen.image)
    assert drawn[0].tobytes() == drawn[1].tobytes()
    assert len(drawn[0].getcolors(1 << 20) or []) > 1


def test_photos_become_sketches_and_posters_too() -> None:
    photo = Image.effect_noise((64, 64), 80).convert("RGB")
    sizes = {draw_nonphoto(random.Random(seed), [], photo).size for seed in range(20)}
    assert (64, 64) in sizes and len(sizes) > 1


def test_the_head_reads_class_token_patches_and_cells() -> None:
    features = ImageFeatures(torch.tensor([[[1.0], [2.0], [4.0]]]), torch.tensor([[[5.0], [7.0]]]))
    assert summary(features).tolist() == [[1.0, 3.0, 6.0]]
    assert summary(ImageFeatures(features.patches)).tolist() == [[1.0, 3.0]]


def test_fitting_parts_what_can_be_parted() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(200, 6, generator=generator)
    seen = [
        (row + (3 if number % 2 else 0) * torch.tensor([1.0, 0, 0, 0, 0, 0]), bool(number % 2))
        for number, row in enumerate(rows)
    ]
    fit = fit_photo_head(seen)
    assert fit.recognised > 0.85 and fit.false_alarms < 0.15
    features = ImageFeatures(torch.tensor([[[5.0, 0, 0]] * 2, [[-2.0, 0, 0]] * 2]))
    assert (fit.head(features) > 0.5).tolist() == [True, False]


def test_the_state_of_a_picture_says_whether_it_is_a_photo() -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**sizes, "model_type": "dinov2", "image_size": 28, "patch_size": 7}
    parts = {"fusion": sizes, "decoder": {**sizes, "vocab_size": 30}}
    config = ModelConfig(vision, {**sizes, "model_type": "bert"}, ObjectConfig(resolution=64), **parts, photo_head=True)
    assert config.summary_size == 24 + 24 + 352
    model = VisavisModel(config).eval()
    with torch.no_grad():
        state = model.image_state(model.encode_image(torch.randn(2, 3, 28, 28)))
    assert state.photo is not None and state.photo.shape == (2,)
    assert isinstance(model.encoder.photo_head, PhotoHead)
    assert state.rows(torch.tensor([1, 1])).photo is not None
