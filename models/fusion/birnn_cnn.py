"""BiRNN and CNN: what came before transformers, joined by attention.

A bidirectional LSTM (Schuster and Paliwal 1997) reads the words and a convolutional network the picture, as in the
first model of visual question answering (Antol et al. 2015), which multiplied one vector of each. Here every word looks
at the network's cells (word-guided attention, Xu and Saenko 2016), and words and cells meet a second time in the
decoder, under one attention over both (the flat combination of Libovický and Helcl 2017).
Shape letters: B rows, T text tokens, P picture positions, O cells, K texts of all rows, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from visavis.models.attention import Attention
from visavis.models.fusion.interface import Fused
from visavis.models.fusion.packing import Texts, pack, unpack
from visavis.models.kv_cache import KeyValue


class BirnnCnnFusion(nn.Module):
    """Words by a bidirectional LSTM, each joined with what it sees in the `cells` of the object tower.

    The cells, and the `tags` behind them, are a picture's last positions; without an object tower all are looked at.
    """

    def __init__(self, layers: int, width: int, heads: int, dropout: float, *, cells: int, tags: int = 0) -> None:
        super().__init__()
        self.shown = slice(-cells - tags, None) if cells else slice(None)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(width, width // 2, layers, batch_first=True, dropout=between, bidirectional=True)
        self.attention = Attention(width, heads)
        self.join = nn.Sequential(nn.Linear(3 * width, width), nn.LayerNorm(width), nn.Dropout(dropout))

    def remember(self, patches: Tensor) -> tuple[KeyValue, ...]:
        """(B, P, D) projected picture -> the cells' keys and values."""
        return (self.attention.remember(patches[:, self.shown]),)

    def forward(
        self,
        text: Tensor,
        patches: Tensor,
        memory: Sequence[KeyValue],
        segments: Tensor,
        patch_mask: Tensor | None = None,
    ) -> Fused:
        """As `FusionEncoder` says; `text` is word embeddings, and M = T."""
        texts = unpack(text, segments)
        read = pack(texts, self._read(texts), texts.mask, text.shape[0])
        mask = None if patch_mask is None else patch_mask[:, None, None, self.shown].bool()
        seen = self.attention(read.states, memory[0], mask)
        joined = self.join(torch.cat([read.states, seen, read.states * seen], dim=2))
        return Fused(joined, read.segments)

    def _read(self, texts: Texts) -> Tensor:
        """(K, L, D) word embeddings -> LSTM states (K, L, D); padding is never read."""
        lengths = texts.mask.sum(dim=1).cpu()
        packed = pack_padded_sequence(texts.states, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]
