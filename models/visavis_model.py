"""The four parts wired: encode a picture once, fuse once a turn, decode many steps.

`encode_image`, `image_state`, `fuse` and `decode` are the steps an engine drives; `forward` is the same path for
training; `generate` (inherited) is the slow reference. Masks: True means *may attend*.
Shape letters: N pictures, B turns, A answers, T text tokens, S answer tokens, P patches, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from visavis.models.config import VisavisConfig
from visavis.models.fusion import create_fusion
from visavis.models.generation_decoder import GenerationDecoder
from visavis.models.kv_cache import KeyValue, KVCache
from visavis.models.text_encoder import TextEncoder
from visavis.models.vision_encoder import ImageProjection, VisionEncoder
from visavis.models.weight_files import holds_integers, read_weights


@dataclass(frozen=True)
class ImageState:
    """All that is computed from the picture alone: patches (N, P, D) and every layer's keys and values of them."""

    patches: Tensor
    fusion: tuple[KeyValue, ...]
    decoder: tuple[KeyValue, ...]

    def rows(self, index: Tensor | None) -> ImageState:
        """Pick (and repeat) pictures: `index` (B,) -> a state of B rows."""
        if index is None:
            return self
        fusion, decoder = (tuple(memory.rows(index) for memory in part) for part in (self.fusion, self.decoder))
        return ImageState(self.patches[index], fusion, decoder)

    @property
    def nbytes(self) -> int:
        """Bytes held: what a cache has to count."""
        return self.patches.nbytes + sum(memory.nbytes for memory in self.fusion + self.decoder)


@dataclass(frozen=True)
class Memory:
    """What the decoder attends to in one turn: keys and values a layer, (B, H, P + T, d), and their mask."""

    layers: tuple[KeyValue, ...]
    mask: Tensor | None

    def rows(self, index: Tensor | None) -> Memory:
        """Pick (and repeat) rows."""
        if index is None:
            return self
        return Memory(
            tuple(memory.rows(index) for memory in self.layers), None if self.mask is None else self.mask[index]
        )


class FusedEncoder(nn.Module):
    """Picture and text to memory states; the part that `generate` runs once."""

    main_input_name = "input_ids"

    def __init__(self, config: VisavisConfig) -> None:
        super().__init__()
        width = config.fusion.hidden_size
        self.vision = VisionEncoder(config.vision, config.objects)
        self.text = TextEncoder(config.text)
        self.image_projection = ImageProjection(config.vision.hidden_size, width, config.objects)
        same = config.text.hidden_size == width
        self.text_projection = nn.Identity() if same else nn.Linear(config.text.hidden_size, width)
        self.fusion = create_fusion(config.fusion)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        patch_mask: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        """Memory states (B, P + T, D) from pixels (B, 3, H, W) or ready features (B, P, D_v), and text (B, T)."""
        if image_features is None:
            if pixel_values is None:
                raise ValueError("pixel_values or image_features are needed: this model answers about a picture")
            image_features = self.vision(pixel_values)
        patches = self.image_projection(image_features)
        states = self.read(input_ids, attention_mask, token_type_ids)
        fused = self.fuse(self.fusion.remember(patches), states, attention_mask, patch_mask)
        return BaseModelOutput(last_hidden_state=torch.cat([patches, fused], dim=1))

    def read(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) ids -> text states (B, T, D_t), before any picture."""
        return self.text(input_ids, attention_mask, token_type_ids)  # type: ignore[no-any-return]

    def fuse(
        self,
        image: Sequence[KeyValue],
        states: Tensor,
        attention_mask: Tensor,
        patch_mask: Tensor | None = None,
    ) -> Tensor:
        """Text states (B, T, D_t) and the patches' keys and values -> fused text states (B, T, D)."""
        text_mask, patch_mask = _row_mask(attention_mask), _row_mask(patch_mask)
        return self.fusion(self.text_projection(states), image, text_mask, patch_mask)  # type: ignore[no-any-return]


class VisavisForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Text about a picture: DINOv2-like image encoder, BERT-like text encoder, fusion encoder, generation decoder."""

    config_class = VisavisConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: VisavisConfig) -> None:
        super().__init__(config)
        self.encoder = FusedEncoder(config)
        self.decoder = GenerationDecoder(config.decoder)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As transformers has it; a folder with 8-bit weights is read here, as transformers does not know them."""
        folder = Path(pretrained_model_name_or_path or "")
        if not holds_integers(folder) or kwargs.get("state_dict") is not None:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        config = kwargs.pop("config", None) or cls.config_class.from_pretrained(folder)
        return super().from_pretrained(None, config=config, state_dict=read_weights(folder, torch.float32), **kwargs)

    def get_encoder(self, *_: Any, **__: Any) -> nn.Module:
        """What `generate` calls once for the prompt."""
        return self.encoder

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """(N, 3, H, W) -> tower features (N, P, D_v): the costly call, worth a cache."""
        return self.encoder.vision(pixel_values)  # type: ignore[no-any-return]

    def image_state(self, image_features: Tensor) -> ImageState:
        """Tower features (N, P, D_v) -> everything else that depends on the picture alone."""
        patches = self.encoder.image_projection(image_features)
        return ImageState(patches, self.encoder.fusion.remember(patches), self.decoder.remember(patches))

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
        fused = self.encoder.fuse(image.fusion, states, attention_mask, patch_mask)
        text = self.decoder.remember(fused)
        layers = tuple(seen.join(said) for seen, said in zip(image.decoder, text, strict=True))
        return Memory(layers, _memory_mask(image.patches.shape[1], attention_mask, patch_mask))

    def decode(self, decoder_input_ids: Tensor, memory: Memory, cache: KVCache | None = None) -> Tensor:
        """(B, S) ids -> logits (B, S, V); with a cache only the new ids are given."""
        return self.decoder(decoder_input_ids, memory.layers, memory.mask, cache)  # type: ignore[no-any-return]

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

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        patch_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Teacher forcing (`labels` (B, S), -100 is ignored) or one step of `generate` (`encoder_outputs` given)."""
        if attention_mask is None:
            attention_mask = torch.ones_like(_needed(input_ids, "input_ids"))
        if encoder_outputs is None:
            ids = _needed(input_ids, "input_ids")
            encoder_outputs = self.encoder(
                ids, attention_mask, token_type_ids, pixel_values, image_features, patch_mask
            )
        if decoder_input_ids is None:
            decoder_input_ids = self.shift_right(_needed(labels, "labels or decoder_input_ids"))
        states = _needed(encoder_outputs.last_hidden_state, "encoder_outputs")
        mask = _memory_mask(states.shape[1] - attention_mask.shape[1], attention_mask, patch_mask)
        logits = self.decoder(decoder_input_ids, self.decoder.remember(states), mask)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=states)

    def shift_right(self, labels: Tensor) -> Tensor:
        """Labels (B, S) -> decoder inputs: the start token, then all labels but the last; ignored ones are padding."""
        start = labels.new_full((labels.shape[0], 1), self.config.decoder.bos_token_id)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == -100, self.config.decoder.pad_token_id)

    def prepare_inputs_for_generation(self, input_ids: Tensor, **options: Any) -> dict[str, Any]:
        """`generate` hands the answer so far as `input_ids`; nothing is cached between steps: this is the reference."""
        kept = ("attention_mask", "patch_mask", "encoder_outputs")
        return {"decoder_input_ids": input_ids, **{name: options.get(name) for name in kept}}


def _row_mask(mask: Tensor | None) -> Tensor | None:
    """(B, M), the same for every query, or (B, S, M) -> (B, 1, 1 or S, M)."""
    if mask is None:
        return None
    return mask.bool()[:, None] if mask.dim() == 3 else mask.bool()[:, None, None]


def _memory_mask(patches: int, attention_mask: Tensor, patch_mask: Tensor | None) -> Tensor | None:
    """(B, 1, 1, P + T), or None where everything may be attended to: attention without a mask is faster."""
    text = attention_mask.bool()
    if patch_mask is None:
        if bool(text.all()):
            return None
        patch_mask = text.new_ones(text.shape[0], patches)
    return torch.cat([patch_mask.bool(), text], dim=1)[:, None, None]


def _needed(value: Any, name: str) -> Any:
    if value is None:
        raise ValueError(f"{name} is needed")
    return value
