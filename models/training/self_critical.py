"""Self-critical training: captions are sampled, scored by CIDEr-D, and made likelier if better than their siblings.

Rennie et al. 2017 compare a sample with the greedy caption; here the mean of the other samples of the same photo is
the baseline, which costs no extra decoding and has less variance (Luo 2020, "A Better Variant of Self-Critical Sequence
Training"). Samples and their gradients are taken without dropout, so that what is judged is what was said.
Shape letters: N photos, K samples of each, S answer tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from visavis.models.kv_cache import KVCache
from visavis.models.prompt import CAPTION_PROMPT
from visavis.models.training.batches import IGNORED, PackedAnswers, Row, Text, pack_answers
from visavis.models.training.cider import CiderReward
from visavis.models.training.data import Photo, mirrored
from visavis.models.training.objectives import answer_loss
from visavis.models.training.passes import Passes
from visavis.models.visavis_model import Memory, VisavisModel

TOP_TOKENS = 12
MAX_TOKENS = 24
PHOTOS_AT_ONCE = 16
"""How many photos are sampled at a time, which bounds the memory it takes."""
REQUEST: Text = (CAPTION_PROMPT, ())


class SelfCritical:
    """Samples `samples` captions of each photo and learns from their scores. `mean_reward` is that of late."""

    def __init__(self, passes: Passes, photos: Sequence[Photo], samples: int) -> None:
        self.passes, self.model, self.processor = passes, passes.model, passes.processor
        self.samples = samples
        self.reward = CiderReward(photo.captions for photo in photos if photo.captions)
        self.mean_reward: float | None = None

    def learn(self, views: Sequence[Row], weight: float) -> float:
        """Accumulate the gradient of the reward of captions sampled of these photos, mirrored as they are, a mean over
        their tokens; the loss."""
        self.model.train(False)
        total = 0.0
        for start in range(0, len(views), PHOTOS_AT_ONCE):
            rows, answers, weights, reward = self.rows(views[start : start + PHOTOS_AT_ONCE])
            share = len(rows) / len(views)
            loss = answer_loss(self.passes.logits(rows, answers), answers.labels, weights) * share
            (weight * loss).backward()
            total += float(loss.detach())
            self.mean_reward = reward if self.mean_reward is None else 0.98 * self.mean_reward + 0.02 * reward
        self.passes.train_mode()
        return total

    def rows(self, views: Sequence[Row]) -> tuple[list[Row], PackedAnswers, Tensor, float]:
        """Sampled captions as packed answers, the weight of every token (N, S), and the mean reward."""
        with torch.no_grad():
            ids = self._sample(self._remember(views))
        answers = [[until_end(row, self.model.config.decoder.eos_token_id) for row in rows] for rows in ids.tolist()]
        rewards = torch.tensor([self._score(view, said) for view, said in zip(views, answers, strict=True)])
        made = [
            replace(view, texts=[REQUEST], answers=[(0, item) for item in said])
            for view, said in zip(views, answers, strict=True)
        ]
        decoder = self.model.config.decoder
        packed = pack_answers(made, decoder.bos_token_id, decoder.pad_token_id)
        return made, packed, token_weights(packed, advantages(rewards)), float(rewards.mean())

    def _remember(self, views: Sequence[Row]) -> Memory:
        states, segments = self.passes.texts.pack([[REQUEST]] * len(views))
        with self.passes.autocast():
            image = self.passes.see(self.passes.features.read([view.view for view in views]))
            return self.model.fuse_states(image, states, segments > 0).float()

    def _score(self, view: Row, answers: Sequence[Sequence[int]]) -> list[float]:
        written = [mirrored(caption) if view.mirrored else caption for caption in view.photo.captions]
        return self.reward.score([self.processor.decode_answer(ids) for ids in answers], written)

    def _sample(self, memory: Memory) -> Tensor:
        """(N, K, S) ids drawn from the model's own distribution."""
        ids: Tensor = sample(self.model, memory, self.samples, MAX_TOKENS).unflatten(0, (-1, self.samples))
        return ids


def sample(model: VisavisModel, memory: Memory, samples: int, max_tokens: int) -> Tensor:
    """(N K, S) ids, K = `samples` for each row of the memory, each until its end token and padded behind it.

    Tokens are drawn from the `TOP_TOKENS` likeliest: label smoothing leaves a tenth of the probability on the whole
    vocabulary, and drawn from all of it most captions would hold a wrong piece.
    """
    rows, decoder = memory.layers[0].key.shape[0] * samples, model.config.decoder
    cache: KVCache = model.new_cache(rows, max_tokens)
    token = torch.full((rows, 1), decoder.bos_token_id)
    said: list[Tensor] = []
    over = torch.zeros(rows, 1, dtype=torch.bool)
    while len(said) < max_tokens and not bool(over.all()):
        logits = model.decode(token, memory, cache)[:, -1].float()
        best, index = logits.topk(TOP_TOKENS)
        token = index.gather(1, torch.multinomial(best.softmax(-1), 1)).masked_fill(over, decoder.pad_token_id)
        over |= token == decoder.eos_token_id
        said.append(token)
    return torch.cat(said, dim=1)


def until_end(ids: list[int], end: int) -> list[int]:
    """Cut behind the end token; ids without one stay whole."""
    return ids[: ids.index(end) + 1] if end in ids else ids


def advantages(rewards: Tensor) -> Tensor:
    """(N, K) rewards -> each less the mean of the photo's other samples, in units of their spread over the batch."""
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    better = rewards - others
    return better / (better.square().mean().sqrt() + 1e-6)


def token_weights(answers: PackedAnswers, advantage: Tensor) -> Tensor:
    """(N, S): every token of a sample weighs its advantage, over the number of tokens; padding nothing."""
    padded = torch.cat([advantage.new_zeros(advantage.shape[0], 1), advantage], dim=1)
    real = answers.labels != IGNORED
    return padded.gather(1, answers.answer_id) * real / real.sum()
