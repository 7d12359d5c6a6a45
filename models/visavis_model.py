"""The four parts wired: encode a picture once, fuse once a turn, decode many steps.

`encode_image`, `image_state`, `fuse` and `decode` are the steps that an engine and training drive. Plain torch;
`transformers_classes` has the same model with labels and `generate`. Masks: True means *may attend*.
Shape letters: N pictures, B turns, A answers, T text tokens, S answer tokens, P patches, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visavis.models.config import ModelConfig
from visavis.models.errors import NoSharedSpace
from visavis.models.fusion import Fused, create_fusion
from visavis.models.generation_decoder import GenerationDecoder
from visavis.models.image_features import ImageFeatures
from visavis.models.kv_cache import KeyValue, KVCache
from visavis.models.object_tags import ObjectTags
from visavis.models.photo_head import PhotoHead
from visavis.models.shared_space import SharedSpace
from visavis.models.text_encoder import TextEncoder
from visavis.models.vision_encoder import ImageProjection, VisionEncoder

INITIAL_STD = 0.02


@dataclass(frozen=True)
class ImageState:
    """All that is computed from the picture alone: `patches` (N, P, D), with the object tower's cells and tags behind
    them, every layer's keys and values of them, and the probability that it is a photo (N,), if the model can tell.

    `decoder` holds only the positions that the fusion encoder's kind shows to the decoder.
    """

    patches: Tensor
    fusion: tuple[KeyValue, ...]
    decoder: tuple[KeyValue, ...]
    photo: Tensor | None = None

    def rows(self, index: Tensor | None) -> ImageState:
        """Pick (and repeat) pictures: `index` (B,) -> a state of B rows."""
        if index is None:
            return self
        fusion, decoder = (tuple(memory.rows(index) for memory in part) for part in (self.fusion, self.decoder))
        return ImageState(self.patches[index], fusion, decoder, None if self.photo is None else self.photo[index])

    @property
    def shown(self) -> int:
        """How many of the picture's positions the decoder attends to."""
        return self.decoder[0].key.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes held: what a cache has to count."""
        return self.patches.nbytes + sum(memory.nbytes for memory in self.fusion + self.decoder)


@dataclass(frozen=True)
class Memory:
    """What the decoder attends to in one turn: keys and values a layer, (B, H, P + T, d), and their mask."""

    layers: tuple[KeyValue, ...]
    mask: Tensor | None

    def float(self) -> Memory:
        """The same in single precision: what was made under autocast meets layers that are not."""
        return Memory(tuple(KeyValue(layer.key.float(), layer.value.float()) for layer in self.layers), self.mask)

    def rows(self, index: Tensor | None) -> Memory:
        """Pick (and repeat) rows."""
        if index is None:
            return self
        return Memory(
            tuple(memory.rows(index) for memory in self.layers), None if self.mask is None else self.mask[index]
        )


class FusedEncoder(nn.Module):
    """Picture and text to memory states."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.fusion.hidden_size
        self.vision = VisionEncoder(config.vision, config.objects)
        self.text = TextEncoder(config.text)
        self.image_projection = ImageProjection(config.vision.hidden_size, width, config.objects)
        self.tags = ObjectTags(config.objects, width) if config.objects is not None and config.objects.kinds else None
        self.photo_head = PhotoHead(config.summary_size) if config.photo_head else None
        same = config.text.hidden_size == width
        self.text_projection = nn.Identity() if same else nn.Linear(config.text.hidden_size, width)
        self.fusion = create_fusion(config.fusion, config.object_cells, config.tag_rows)

    def read(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) ids -> text states (B, T, D_t), before any picture."""
        return self.text(input_ids, attention_mask, token_type_ids)  # type: ignore[no-any-return]

    def fuse(self, image: ImageState, states: Tensor, segments: Tensor, patch_mask: Tensor | None = None) -> Fused:
        """Text states (B, T, D_t) of a picture's texts, kept apart by `segments` as `FusionEncoder` has it."""
        return self.fusion(self.text_projection(states), image.patches, image.fusion, segments, patch_mask)


class VisavisModel(nn.Module):
    """Text about a picture: DINOv2-like image encoder, BERT-like text encoder, fusion encoder, generation decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.build(config)
        self.apply(_initialise)

    def build(self, config: Any) -> None:
        """Make the parts; for classes that are modules already."""
        self.config: ModelConfig = config
        self.encoder = FusedEncoder(config)
        self.decoder = GenerationDecoder(config.decoder)
        self.step_decoder: GenerationDecoder | None
        self.register_module("step_decoder", None)  # a copy of the decoder that a server takes its steps with
        self.memory_dtype: torch.dtype | None = None  # of what its steps attend to, if not the model's
        self.shared: SharedSpace | None = None
        if config.shared is not None:
            widths = config.fusion.hidden_size, config.text.hidden_size
            groups = [rows for rows in (config.object_cells, config.tag_rows) if rows]
            self.shared = SharedSpace(*widths, config.shared.size, groups)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.decoder.token_embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the parameters are."""
        return self.decoder.token_embedding.weight.dtype

    def encode_image(self, pixel_values: Tensor) -> ImageFeatures:
        """(N, 3, H, W) -> the towers' features: the costly call, worth a cache."""
        return self.encoder.vision(pixel_values)  # type: ignore[no-any-return]

    def image_state(self, features: ImageFeatures) -> ImageState:
        """The towers' features -> everything else that depends on the picture alone."""
        photo = None if self.encoder.photo_head is None else self.encoder.photo_head(features)
        return self._state_of(self.project(features), photo)

    def project(self, features: ImageFeatures) -> Tensor:
        """The towers' features -> patches in the width of the fusion encoder, with object cells and tags (N, P, D)."""
        patches: Tensor = self.encoder.image_projection(features)
        if self.encoder.tags is None or features.kinds is None:
            return patches
        tags = self.encoder.tags(features.kinds, features.read, self.decoder.token_embedding)
        return torch.cat([patches, tags], dim=1)

    def with_words(self, state: ImageState, read: Tensor) -> ImageState:
        """A picture's state (one row) with answer tokens (1, W) of words that were read in it; without object tags it
        stays as it is. A picture that can be read need not be a photo."""
        tags = self.encoder.tags
        if tags is None:
            return state
        rows = tags.words(read[:, : tags.read_tokens], self.decoder.token_embedding)
        return self._state_of(torch.cat([state.patches[:, : -tags.read_tokens], rows], dim=1), None)

    def _state_of(self, patches: Tensor, photo: Tensor | None) -> ImageState:
        fusion = self.encoder.fusion
        return ImageState(patches, fusion.remember(patches), self.decoder.remember(patches[:, fusion.shown]), photo)

    def fuse(
        self,
        image: ImageState,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        patch_mask: Tensor | None = None,
    ) -> Memory:
        """Once a turn: the text (B, T) with its dialogue so far meets the picture (rows of `image` aligned with it)."""
        states = self.encoder.read(input_ids, attention_mask, token_type_ids)
        return self.fuse_states(image, states, attention_mask, patch_mask)

    def fuse_states(
        self, image: ImageState, states: Tensor, attention_mask: Tensor, patch_mask: Tensor | None = None
    ) -> Memory:
        """`fuse` for text states (B, T, D_t) that are known already: a frozen text encoder's are worth keeping."""
        fused = self.encoder.fuse(image, states, attention_mask, patch_mask)
        shown = None if patch_mask is None else patch_mask[:, self.encoder.fusion.shown]
        return Memory(self.join(image, fused), memory_mask(image.shown, fused.segments > 0, shown))

    def join(self, image: ImageState, fused: Fused) -> tuple[KeyValue, ...]:
        """Keys and values of what the decoder attends to, (B, H, P + M, d): the shown picture, then what was fused."""
        text = self.decoder.remember(fused.states)
        return tuple(seen.join(said) for seen, said in zip(image.decoder, text, strict=True))

    def decode(self, decoder_input_ids: Tensor, memory: Memory, cache: KVCache | None = None) -> Tensor:
        """(B, S) ids -> logits (B, S, V); with a cache only the new ids are given."""
        return self.decoder(decoder_input_ids, memory.layers, memory.mask, cache)  # type: ignore[no-any-return]

    def embed_pictures(self, image: ImageState) -> Tensor:
        """(N, E) unit vectors in the space that pictures share with texts. Raises NoSharedSpace if there is none."""
        return self._space.embed_pictures(image.patches)

    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) ids -> (B, E) unit vectors; their dot product with a picture's is the likeness. Raises as above."""
        states = self.encoder.read(input_ids, attention_mask, token_type_ids)
        return self._space.embed_texts(states, attention_mask)

    @property
    def _space(self) -> SharedSpace:
        if self.shared is None:
            raise NoSharedSpace
        return self.shared

    def new_cache(self, rows: int, max_length: int | None = None) -> KVCache:
        """An empty decoder cache of the right size, type and place."""
        sizes = self.config.decoder
        return KVCache(
            sizes.num_hidden_layers,
            rows,
            sizes.num_attention_heads,
            max_length or sizes.max_positions,
            sizes.hidden_size // sizes.num_attention_heads,
            dtype=self.dtype,
            device=self.device,
        )


def memory_mask(patches: int, fused_mask: Tensor, patch_mask: Tensor | None) -> Tensor | None:
    """(B, 1, 1, P + M), or None where everything may be attended to: attention without a mask is faster."""
    text = fused_mask.bool()
    if patch_mask is None:
        if bool(text.all()):
            return None
        patch_mask = text.new_ones(text.shape[0], patches)
    return torch.cat([patch_mask.bool(), text], dim=1)[:, None, None]


def _initialise(module: nn.Module) -> None:
    """Small at random; a fusion gate keeps its zeros, a norm its ones."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
