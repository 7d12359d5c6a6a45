"""Passes of a batch through the model: photos from the cache of features, texts from memory, answers to losses.

Every objective is made of these. Which objectives there are it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from visavis.models.image_features import ImageFeatures
from visavis.models.processor import Processor
from visavis.models.training.batches import PackedAnswers, Row, pack_answers, split_by_length
from visavis.models.training.features import FeatureCache, drop_patches, pool_patches
from visavis.models.training.objectives import answer_loss, answer_weights
from visavis.models.training.optimisation import autocast
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.text_states import TextStates
from visavis.models.visavis_model import ImageState, VisavisModel

LESSON_PATCHES = 0.125
"""How many of the patches are kept in a lesson about names and words."""


class Passes:
    """`done` is the share of the run that is over: pictures are shown coarsely at first.

    Raises:
        ValueError: settings that the model's kind of fusion cannot follow.
    """

    def __init__(
        self, model: VisavisModel, processor: Processor, features: FeatureCache, settings: TrainingSettings
    ) -> None:
        self.may_drop = model.config.fusion.kind != "mmbt"
        if not self.may_drop and settings.drop_until > settings.pool_until:
            raise ValueError("mmbt cuts the grid of patches into regions, so no patch may be dropped (drop_until)")
        self.model, self.processor, self.features, self.settings = model, processor, features, settings
        self.autocast = autocast(settings.precision)
        self.texts = TextStates(model, processor, not settings.text_lr_scale, self.autocast)
        self.done = 0.0

    def train_mode(self) -> None:
        """Dropout in all parts but frozen ones."""
        self.model.train()
        self.model.encoder.vision.eval()
        if self.texts.frozen:
            self.model.encoder.text.eval()

    def see(self, features: ImageFeatures) -> ImageState:
        """Features of the cache through what still learns of the image encoder."""
        return self.model.image_state(self.finish(features))

    def finish(self, features: ImageFeatures) -> ImageFeatures:
        """Features of the cache through the image encoder's last blocks."""
        return self.model.encoder.vision.finish(features, self.features.later)

    def shrink(self, features: ImageFeatures) -> ImageFeatures:
        """Fewer patches in the first parts of the run."""
        if self.done < self.settings.pool_until:
            return pool_patches(features)
        return drop_patches(features) if self.done < self.settings.drop_until else features

    def logits(self, rows: Sequence[Row], answers: PackedAnswers, features: FeatureCache | None = None) -> Tensor:
        """The logits of all real tokens, (R, V), over the photos of `features` or of the usual cache."""
        seen = shown_instead((features or self.features).read([row.view for row in rows]), rows)
        seen = drop_patches(seen, LESSON_PATCHES) if self.may_drop and all(map(is_thin, rows)) else self.shrink(seen)
        states, segments = self.texts.pack([row.texts for row in rows])
        with self.autocast():
            image = self.see(seen)
            fused = self.model.encoder.fuse(image, states, segments)
            memory = self.model.join(image, fused)
            mask = answers.memory_mask(fused.segments, image.shown)
            hidden = self.model.decoder.states(answers.input_ids, answers.positions, memory, mask, answers.self_mask())
            return self.model.decoder.logits(hidden[answers.answer_id > 0]).float()

    def group_loss(self, rows: Sequence[Row], answers: PackedAnswers, features: FeatureCache | None = None) -> Tensor:
        """The weighted sum of the losses of all answers of some photos."""
        weights = answer_weights(answers.labels, answers.answer_id)
        smoothing = self.settings.label_smoothing
        return answer_loss(self.logits(rows, answers, features), answers.labels, weights, smoothing)

    def learn_answers(self, rows: Sequence[Row], weight: float = 1.0, features: FeatureCache | None = None) -> float:
        """Accumulate the gradient of the mean over all answers, one group at a time: less memory, the same sum."""
        answered = [row for row in rows if row.answers]
        groups = grouped(answered, self.settings.groups) if answered else []
        decoder = self.model.config.decoder
        packed = [pack_answers(group, decoder.bos_token_id, decoder.pad_token_id) for group in groups]
        total = sum(answer_weights(answers.labels, answers.answer_id).sum() for answers in packed)
        mean = 0.0
        for group, answers in zip(groups, packed, strict=True):
            loss = self.group_loss(group, answers, features) / total
            (weight * loss).backward()
            mean += float(loss.detach())
        return mean


def is_thin(row: Row) -> bool:
    """True for a lesson about names and words alone."""
    return row.shown is not None and row.shown.sure


def grouped(rows: Sequence[Row], groups: int) -> list[list[Row]]:
    """Rows of like length together, and lessons that need little of the picture by themselves: they are cheap."""
    thin, full = [row for row in rows if is_thin(row)], [row for row in rows if not is_thin(row)]
    return split_by_length(full, groups) + ([thin] if thin else [])


def shown_instead(features: ImageFeatures, rows: Sequence[Row]) -> ImageFeatures:
    """The features, with swapped tags and words where a row is shown with them."""
    if features.kinds is None or not any(row.shown for row in rows):
        return features
    kinds, longest = features.kinds.clone(), max(len(row.shown.words) for row in rows if row.shown)
    read = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        if row.shown is not None:
            kinds[number] = float("-inf")
            for kind, probability in row.shown.kinds:
                kinds[number, kind] = math.log(probability)
            read[number, : len(row.shown.words)] = torch.tensor(row.shown.words, dtype=torch.long)
    return replace(features, kinds=kinds, read=read)
