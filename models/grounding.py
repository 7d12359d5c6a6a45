"""Where in the picture an answer comes from: one heat map a token, from the decoder's cross-attention.

Three readings of the same pass: the attention itself, attention rollout (Abnar and Zuidema 2020, here through the
decoder's own self-attention), and attention weighted by the gradient of the answer's probability (Chefer et al. 2021).
Deleting what a map calls hot has to hurt the answer (`answer_log_probability`) more than deleting as much at random.
Shape letters: S answer tokens, H heads, M memory positions, P picture positions, G cells a side of the map.
"""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.models.generation import Region, WordHeat
from visavis.models.generation_decoder import GenerationDecoder
from visavis.models.kv_cache import KeyValue
from visavis.models.processor import Processor
from visavis.models.regions import over_picture
from visavis.models.visavis_model import Memory, VisavisModel


class Reading(StrEnum):
    """How cross-attention becomes heat."""

    ATTENTION = "attention"
    ROLLOUT = "rollout"
    GRADIENT = "gradient"


def word_heat(
    model: VisavisModel,
    processor: Processor,
    memory: Memory,
    answer: str,
    patches: int,
    reading: Reading = Reading.GRADIENT,
    region: Region | None = None,
) -> tuple[WordHeat, ...]:
    """A map for every word of an answer, the mean of its tokens' maps. `memory` is of one turn, a single row; `region`
    is the part of the picture that was looked at."""
    decoder = model.config.decoder
    said = processor.encode_answer(answer)[: decoder.max_positions - 1]
    if not said:
        return ()
    ids = torch.tensor([[decoder.bos_token_id, *said]], device=model.device)
    maps = heat_maps(model, memory, ids, patches, reading)
    maps = maps if region is None else over_picture(maps, region)
    owners = _words_of_tokens(processor, said)
    spans = [(match.start(), match.end()) for match in re.finditer(r"\S+", processor.decode_answer(said))]
    return tuple(
        WordHeat(answer[start:end], start, end, _rows(maps[[index == number for index in owners]].mean(dim=0)))
        for number, (start, end) in enumerate(spans)
        if number in owners
    )


def _words_of_tokens(processor: Processor, said: list[int]) -> list[int]:
    """Which word (counted from 0) each token belongs to: a token that begins with a space begins a word."""
    owners: list[int] = []
    for token in said:
        begins = not owners or processor.answers.tokenizer.decode([token]).startswith(" ")
        owners.append(0 if not owners else owners[-1] + begins)
    return owners


def _rows(heat: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(value, 5) for value in row) for row in heat.tolist())


def heat_maps(model: VisavisModel, memory: Memory, ids: Tensor, patches: int, reading: Reading) -> Tensor:
    """The maps of an answer.

    Args:
        memory: of one turn, a single row.
        ids: the answer's token ids with the start token first, (1, S + 1).
        patches: how many of the memory's positions are the picture's.

    Returns:
        (S, G, G), each map summing to 1: what the model looked at when it said that token.
    """
    with torch.inference_mode(False), torch.enable_grad():
        ids = ids.clone()
        logits, own, seen = decode_openly(model.decoder, ids[:, :-1], _grown(memory))
        if reading is Reading.GRADIENT:
            said = logits.log_softmax(-1).gather(2, ids[:, 1:, None]).sum()
            gradients = torch.autograd.grad(said, seen)
            seen = [(weights * gradient).relu() for weights, gradient in zip(seen, gradients, strict=True)]
    looked = [weights.detach().mean(dim=1)[0] for weights in seen]
    heat = rollout([weights.detach().mean(dim=1)[0] for weights in own], looked) if reading is Reading.ROLLOUT else None
    heat = torch.stack(looked).mean(dim=0) if heat is None else heat
    cells, places = model.config.object_cells, patches - model.config.tag_rows
    return as_grid(heat[:, :places], 0 if places == cells else cells)  # of birnn_cnn the cells are all there is


def decode_openly(decoder: GenerationDecoder, ids: Tensor, memory: Memory) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The decoder's pass over a whole answer with its attention laid open.

    Returns:
        Logits (1, S, V); the self-attention (1, H, S, S) and the cross-attention (1, H, S, M) of every layer.
    """
    positions = torch.arange(ids.shape[1], device=ids.device)
    past_only = positions[:, None] >= positions
    states = decoder.embedding_norm(decoder.token_embedding(ids) + decoder.position_embedding(positions))
    own: list[Tensor] = []
    seen: list[Tensor] = []
    layers: list[Any] = list(decoder.layers)
    for layer, remembered in zip(layers, memory.layers, strict=True):
        normed = layer.self_norm(states)
        past = layer.self_attention.remember(normed)
        own.append(layer.self_attention.weights(normed, past, past_only))
        states = states + layer.self_attention.mix(own[-1], past)
        seen.append(layer.cross_attention.weights(layer.cross_norm(states), remembered, memory.mask))
        states = states + layer.cross_attention.mix(seen[-1], remembered)
        states = states + layer.feed_forward(layer.feed_norm(states))
    return decoder.logits(decoder.norm(states)), own, seen


def answer_log_probability(model: VisavisModel, memory: Memory, ids: Tensor) -> float:
    """The log-probability of a whole answer, `ids` (1, S + 1) with the start token first."""
    scores = model.decode(ids[:, :-1], memory).log_softmax(-1)
    return float(scores.gather(2, ids[:, 1:, None]).sum())


def rollout(own: list[Tensor], seen: list[Tensor]) -> Tensor:
    """Attention handed on from layer to layer: (S, S) and (S, M) of every layer -> (S, M).

    What earlier tokens saw reaches later ones through self-attention; the residual path counts as much as attention.
    """
    heat = torch.zeros_like(seen[0])
    for mixing, looked in zip(own, seen, strict=True):
        heat = (heat + mixing @ heat) / 2 + looked
    return heat


def as_grid(heat: Tensor, cells: int) -> Tensor:
    """Heat of picture positions (S, P) -> maps (S, G, G) that sum to 1; the object tower's cells are spread over the
    patches that they cover, tokens before the grid (a class token) are left out."""
    patches = heat.shape[1] - cells
    side, coarse = math.isqrt(patches), math.isqrt(cells)
    maps: Tensor = heat[:, patches - side * side : patches].unflatten(1, (side, side))
    if coarse:
        spread = heat[:, patches:].unflatten(1, (coarse, coarse))[:, None]
        maps = maps + F.interpolate(spread, (side, side), mode="bilinear")[:, 0] * (coarse / side) ** 2
    total: Tensor = maps.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    return maps / total


def _grown(memory: Memory) -> Memory:
    """Copies that gradients may pass through: an engine's tensors were made in inference mode."""
    layers = tuple(KeyValue(layer.key.clone(), layer.value.clone()) for layer in memory.layers)
    return Memory(layers, None if memory.mask is None else memory.mask.clone())
