"""The causal generation decoder: attends to its own past and to the memory of patches and fused text.

Shape letters: B rows, S new tokens, M memory positions, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visavis.models.attention import Attention, FeedForward, SelfAttention
from visavis.models.config import DecoderConfig
from visavis.models.dropout import Dropout
from visavis.models.kv_cache import Cache, GrowingCache, KeyValue


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the memory, feed-forward; pre-norm (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = SelfAttention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.feed_forward = FeedForward(width, inner, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        states: Tensor,
        memory: KeyValue,
        mask: Tensor | None,
        self_mask: Tensor | None,
        cache: Cache | None,
        layer: int,
    ) -> Tensor:
        """(B, S, D) -> (B, S, D). With a cache, S new positions join the remembered ones."""
        normed = self.self_norm(states)
        query, past = self.self_attention.read(normed)
        if cache is not None:
            past = cache.write(layer, past)
        causal = self_mask is None and states.shape[1] > 1
        states = states + self.dropout(self.self_attention.attend(query, past, self_mask, causal))
        states = states + self.dropout(self.cross_attention(self.cross_norm(states), memory, mask))
        return states + self.dropout(self.feed_forward(self.feed_norm(states)))  # type: ignore[no-any-return]


class GenerationDecoder(nn.Module):
    """Token ids and a memory in, logits out; input and output embeddings are one matrix (Press and Wolf 2017)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.max_positions = config.max_positions
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.position_embedding = nn.Embedding(config.max_positions, width)
        self.embedding_norm = nn.LayerNorm(width)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, config.intermediate_size, config.dropout)
            for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.output: nn.Module | None
        self.register_module("output", None)

    def remember(self, states: Tensor) -> tuple[KeyValue, ...]:
        """Memory states (B, M, D) -> one `KeyValue` a layer; parts of a memory may be made apart and joined."""
        attentions: list[Any] = [layer.cross_attention for layer in self.layers]
        return tuple(attention.remember(states) for attention in attentions)

    def forward(
        self,
        input_ids: Tensor,
        memory: Sequence[KeyValue],
        mask: Tensor | None = None,
        cache: GrowingCache | None = None,
    ) -> Tensor:
        """(B, S) ids -> (B, S, V) logits.

        Args:
            input_ids: the new tokens; all of them when there is no cache.
            memory: what `remember` gave, rows aligned with `input_ids`.
            mask: broadcastable to (B, 1, S, M), True means may attend.
            cache: remembers the self-attention of earlier calls and is moved on by this one.

        Raises:
            ValueError: more positions than `max_positions`.
        """
        start, length = 0 if cache is None else cache.length, input_ids.shape[1]
        if start + length > self.max_positions:
            raise ValueError(f"the decoder has {self.max_positions} positions, {start + length} are needed")
        positions = torch.arange(start, start + length, device=input_ids.device)
        # is_causal aligns to the top left: right only while nothing is remembered. One new token sees everything.
        later = start > 0 and length > 1
        self_mask = positions[:, None] >= torch.arange(start + length, device=positions.device) if later else None
        states = self.states(input_ids, positions, memory, mask, self_mask, cache)
        if cache is not None:
            cache.advance(length)
        return self.logits(states)

    def states(
        self,
        input_ids: Tensor,
        positions: Tensor,
        memory: Sequence[KeyValue],
        mask: Tensor | None = None,
        self_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The last layer's normed states (B, S, D); a `self_mask` (None: causal) lets several answers share a row."""
        states = self.token_embedding(input_ids) + self.position_embedding(positions)
        states = self.dropout(self.embedding_norm(states))
        for index, layer in enumerate(self.layers):
            states = layer(states, memory[index], mask, self_mask, cache, index)
        return self.norm(states)  # type: ignore[no-any-return]

    def logits(self, states: Tensor) -> Tensor:
        """(..., D) -> (..., V). A lowered decoder has an `output` layer in the place of the embedding's transpose."""
        if self.output is not None:
            return self.output(states)  # type: ignore[no-any-return]
        return states @ self.token_embedding.weight.T
