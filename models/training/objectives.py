"""What training minimises. Pure functions of tensors.

Shape letters: N photos, S packed answer tokens, R real (not padded) tokens, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def answer_weights(labels: Tensor, answer_id: Tensor) -> Tensor:
    """The weight of every token, (N, S): a token of an answer of n tokens weighs 1 / sqrt(n), padding nothing.

    So neither do one-word answers drown in captions (as they would by the token), nor does "yes" count as much as a
    whole sentence (as it would by the answer).

    Args:
        labels: (N, S).
        answer_id: (N, S), which answer of its row a token belongs to, from 1; 0 is padding.
    """
    counts = torch.zeros(labels.shape[0], int(answer_id.max()) + 1).scatter_add_(1, answer_id, torch.ones(labels.shape))
    return counts.gather(1, answer_id).rsqrt() * (answer_id > 0)


def answer_loss(logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The weighted sum of the cross-entropies of all real tokens.

    Args:
        logits: (R, V), of the places where `labels` is a token, row by row.
        labels, weights: (N, S).
        label_smoothing: share of the probability spread over the vocabulary (Szegedy et al. 2016).
    """
    real = labels >= 0
    losses = F.cross_entropy(logits, labels[real], reduction="none", label_smoothing=label_smoothing)
    return torch.dot(losses, weights[real])
