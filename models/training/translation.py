"""L_i2t and L_t2i, training by translation between pictures and texts in both directions, plain and perturbed.

L_i2t generates the captions from the picture. L_t2i predicts the picture's visual words, cell by cell, from a caption
that the model reads with an empty picture. Perturbed, a photo's other form stands for the photo. A caption that is read
is masked, thinned, shuffled and reworded; one that is to be said only changes sides with the picture, since words that
are wrong are better not learned.
Shape letters: N photos, C cells, M memory positions, D_v width.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from visavis.models.image_features import ImageFeatures
from visavis.models.training.batches import Row, Text, make_row
from visavis.models.training.data import CAPTION_REQUESTS, Example, Photo, mirrored
from visavis.models.training.features import View
from visavis.models.training.passes import Passes
from visavis.models.training.perturbations import Perturbation, Synonyms, perturb_text
from visavis.models.training.visual_codes import CodePredictor, code_loss, grid_cells, k_means, nearest_word
from visavis.models.visavis_model import VisavisModel

SIDE = 8
"""Cells a side of the grid of visual words."""
WORDS = 256
PHOTOS = 500
"""How many photos the visual words are found in."""


class Translation(nn.Module):
    """The two directions over photos that have captions; `codebook` (WORDS, D_v) is found when training begins."""

    codebook: Tensor

    def __init__(self, passes: Passes, photos: Sequence[Photo]) -> None:
        super().__init__()
        self.passes, self.perturbed = passes, passes.features.of_perturbed()
        self.photos = [photo for photo in photos if photo.captions]
        config = passes.model.config
        self.register_buffer("codebook", torch.zeros(WORDS, config.vision.hidden_size))
        self.predictor = CodePredictor(config.fusion.hidden_size, config.fusion.num_attention_heads, SIDE, WORDS)
        questions = passes.processor.questions
        self.mask = questions.special_tokens.get("mask_token")
        embeddings = word_embeddings(passes.model)
        words = {word for photo in self.photos for caption in photo.captions for word in caption.lower().split()}
        self.synonyms = Synonyms(questions, embeddings, sorted(words))

    def prepare(self, seed: int) -> None:
        """Find the visual words, unless a stopped run has brought them."""
        if bool(self.codebook.any()):
            return
        chosen = random.Random(seed).sample(self.photos, min(PHOTOS, len(self.photos)))
        cells = [self._cells(self.passes.features.read([View(photo.path)])) for photo in chosen]
        self.codebook.copy_(k_means(torch.cat(cells).flatten(0, 1), WORDS, torch.Generator().manual_seed(seed)))

    def learn_text(self, rows: Sequence[Row], weight: float, chance: random.Random, *, perturbed: bool) -> float:
        """L_i2t: accumulate its gradient."""
        request = chance.choice(CAPTION_REQUESTS)
        made = [self._captions(row, request, perturbed) for row in rows]
        return self.passes.learn_answers(made, weight, self.perturbed if perturbed else None)

    def learn_picture(self, rows: Sequence[Row], weight: float, chance: random.Random, *, perturbed: bool) -> float:
        """L_t2i: accumulate its gradient."""
        texts = [self._caption(row, chance, perturbed) for row in rows]
        states, segments = self.passes.texts.pack([[text] for text in texts], remember=not perturbed)
        cache = self.perturbed if perturbed else self.passes.features
        features = cache.read([View(row.photo.path) if perturbed else row.view for row in rows])
        with self.passes.autocast():
            fused = self.passes.model.encoder.fuse(self.passes.see(empty(features)), states, segments)
            logits = self.predictor(fused.states, fused.segments > 0)
        loss = code_loss(logits, nearest_word(self._cells(features), self.codebook))
        (weight * loss).backward()
        return float(loss.detach())

    def _cells(self, features: ImageFeatures) -> Tensor:
        return grid_cells(features.patches, SIDE)

    def _captions(self, row: Row, request: str, perturbed: bool) -> Row:
        flipped = Perturbation.of(row.photo.path.name).mirrored if perturbed else row.mirrored
        said = [mirrored(caption) if flipped else caption for caption in row.photo.captions]
        passes = self.passes
        examples = [Example(request, (), caption) for caption in said]
        made = make_row(row.photo, examples, passes.processor, passes.settings.max_answer_tokens)
        return made if perturbed else replace(made, mirrored=row.mirrored, crop=row.crop)

    def _caption(self, row: Row, chance: random.Random, perturbed: bool) -> Text:
        caption = chance.choice(row.photo.captions)
        if not perturbed:
            return (mirrored(caption) if row.mirrored else caption), ()
        flipped = Perturbation.of(row.photo.path.name).mirrored
        return perturb_text(mirrored(caption) if flipped else caption, chance, self.synonyms, self.mask), ()


def empty(features: ImageFeatures) -> ImageFeatures:
    """Features of the same form that show nothing, with a single patch."""
    return replace(features.map(torch.zeros_like), patches=torch.zeros_like(features.patches[:, :1]))


def word_embeddings(model: VisavisModel) -> Tensor:
    """The text tower's, (V, D_t), whatever it calls them."""
    tables = (part for part in model.encoder.text.modules() if isinstance(part, nn.Embedding))
    return next(table.weight.detach() for table in tables if table.num_embeddings == model.config.text.vocab_size)
