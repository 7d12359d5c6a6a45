"""BERT's encoder (Devlin et al. 2019) without pooler, in plain torch: MiniLM is one.

Parameters are named, and results computed, as transformers' `BertModel` does; importing that costs more time than a
first answer may take. Shape letters: B texts, T tokens, D width, H heads, d = D / H.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.models.attention import ReadsTogether
from visavis.models.dropout import Dropout
from visavis.models.tower_configs import BertConfig


class Bert(nn.Module):
    """Token ids to states."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = TokenEmbeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))})

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Read texts.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), or (B, T, T) with a row for each token that attends; 1 or True means may attend.
            token_type_ids: (B, T), which segment a token belongs to; all to the first one by default.

        Returns:
            (B, T, D).
        """
        mask = _broadcast(attention_mask.bool())
        states: Tensor = self.embeddings(input_ids, token_type_ids)
        for layer in self.encoder["layer"].children():
            states = layer(states, mask)
        return states


def _broadcast(mask: Tensor) -> Tensor | None:
    """To (B, 1, 1 or T, T); None for one that hides nothing, since attention is faster without."""
    if bool(mask.all()):
        return None
    return mask[:, None] if mask.dim() == 3 else mask[:, None, None]


class TokenEmbeddings(nn.Module):
    """Words, segments and positions, added and normed."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) ids -> (B, T, D)."""
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        states = self.word_embeddings(input_ids) + self.token_type_embeddings(segments)
        states = states + self.position_embeddings(torch.arange(input_ids.shape[1], device=input_ids.device))
        return self.dropout(self.LayerNorm(states))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Self-attention and feed-forward, each normed after its residual."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(config), "output": Residual(config.hidden_size, config)},
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = Residual(config.intermediate_size, config)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D); the mask broadcasts to (B, H, T, T)."""
        states = self.attention["output"](self.attention["self"](states, mask), states)
        return self.output(F.gelu(self.intermediate["dense"](states)), states)  # type: ignore[no-any-return]


class SelfAttention(ReadsTogether):
    """Scaled dot-product attention; its output projection stands in the `Residual` behind it."""

    parts = ("query", "key", "value")

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        query, key, value = self.project(states, self.heads)
        mixed = F.scaled_dot_product_attention(query, key, value, mask, self.dropout if self.training else 0.0)
        return mixed.transpose(1, 2).flatten(2)


class Residual(nn.Module):
    """Project, add what was there before, norm."""

    def __init__(self, inner: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, states: Tensor, before: Tensor) -> Tensor:
        """(B, T, inner) and (B, T, D) -> (B, T, D)."""
        return self.LayerNorm(self.dropout(self.dense(states)) + before)  # type: ignore[no-any-return]
