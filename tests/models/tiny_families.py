"""Tiny checkpoints of other people's model families, with random weights, saved as real ones are."""

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as t
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

_NAMES = """
<pad> <s> </s> <unk> <image> <end_of_utterance> <fake_token_around_image> <global-img> [IMG] [IMG_BREAK] [IMG_END]
<start_of_image> <end_of_image> <image_soft_token> <|image|> <|python_tag|> <IMG_START> <IMG_ATOM> <IMG_GRID> <IMG_COL>
<IMG_ROW> <IMG_END> [CLS] [SEP] [PAD] [UNK] [MASK]
"""
SPECIAL = _NAMES.split() + [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {% for c in m.content %}{% if c.type == 'image' %}IMAGE_TOKEN"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZE, PATCH = 28, 14


def tokenizer(**names: Any) -> Any:
    """Bytes as tokens, and the special tokens of all families."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    given = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", **names}
    return t.PreTrainedTokenizerFast(tokenizer_object=core, **given)


TOKENS = tokenizer()
IDS: Mapping[str, int] = TOKENS.get_vocab()
VOCABULARY = {
    "vocab_size": len(IDS),
    "bos_token_id": IDS["<s>"],
    "eos_token_id": IDS["</s>"],
    "pad_token_id": IDS["<pad>"],
}
SQUARE = {"size": {"height": SIZE, "width": SIZE}}


def template(token: str) -> str:
    return TEMPLATE.replace("IMAGE_TOKEN", token)


def llava() -> tuple[Any, Any]:
    vision = t.CLIPVisionConfig(image_size=SIZE, patch_size=PATCH, **VISION)
    config = t.LlavaConfig(
        vision_config=vision, text_config=t.LlamaConfig(**TEXT, **VOCABULARY), image_token_index=IDS["<image>"]
    )
    images = t.CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    processor = t.LlavaProcessor(
        images, TOKENS, patch_size=PATCH, vision_feature_select_strategy="default", chat_template=template("<image>\n"),
        num_additional_image_tokens=1,
    )  # fmt: skip
    return t.LlavaForConditionalGeneration(config), processor


def paligemma() -> tuple[Any, Any]:
    vision = t.SiglipVisionConfig(image_size=SIZE, patch_size=PATCH, projection_dim=32, **VISION)
    text = t.GemmaConfig(**TEXT, **VOCABULARY)
    config = t.PaliGemmaConfig(
        vision_config=vision, text_config=text, image_token_index=IDS["<image>"], projection_dim=32, hidden_size=32
    )
    images = t.SiglipImageProcessorPil(**SQUARE)
    images.image_seq_length = (SIZE // PATCH) ** 2
    return t.PaliGemmaForConditionalGeneration(config), t.PaliGemmaProcessor(images, tokenizer(image_token="<image>"))


def gemma3() -> tuple[Any, Any]:
    vision = t.SiglipVisionConfig(image_size=SIZE, patch_size=PATCH, **VISION)
    text = t.Gemma3TextConfig(**TEXT, **VOCABULARY, sliding_window=64)
    config = t.Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=IDS["<image_soft_token>"],
        boi_token_index=IDS["<start_of_image>"], eoi_token_index=IDS["<end_of_image>"],
    )  # fmt: skip
    words = tokenizer(boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>")
    processor = t.Gemma3Processor(
        t.Gemma3ImageProcessorPil(**SQUARE), words, chat_template=template("<start_of_image>"), image_seq_length=4
    )
    return t.Gemma3ForConditionalGeneration(config), processor


def blip2() -> tuple[Any, Any]:
    config = t.Blip2Config(
        vision_config=t.Blip2VisionConfig(image_size=SIZE, patch_size=PATCH, **VISION).to_dict(),
        qformer_config=t.Blip2QFormerConfig(**VISION, encoder_hidden_size=32, vocab_size=len(IDS)).to_dict(),
        text_config=t.OPTConfig(
            **VOCABULARY, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4
        ).to_dict(),
        num_query_tokens=4,
        image_token_index=IDS["<image>"],
    )
    processor = t.Blip2Processor(t.BlipImageProcessorPil(**SQUARE), tokenizer(), num_query_tokens=4)
    return t.Blip2ForConditionalGeneration(config), processor


def blip_vqa() -> tuple[Any, Any]:
    words = tokenizer(bos_token="[CLS]", cls_token="[CLS]", sep_token="[SEP]", eos_token="[SEP]", pad_token="[PAD]")
    text = {"bos_token_id": IDS["[CLS]"], "sep_token_id": IDS["[SEP]"], "eos_token_id": IDS["[SEP]"]}
    config = t.BlipConfig(
        text_config={**VISION, "vocab_size": len(IDS), "pad_token_id": IDS["[PAD]"], "encoder_hidden_size": 32, **text},
        vision_config={**VISION, "image_size": SIZE, "patch_size": PATCH},
    )
    return t.BlipForQuestionAnswering(config), t.BlipProcessor(t.BlipImageProcessorPil(**SQUARE), words)


def idefics3() -> tuple[Any, Any]:
    vision = {**VISION, "image_size": SIZE, "patch_size": PATCH}
    text = t.LlamaConfig(**TEXT, **VOCABULARY).to_dict()
    config = t.Idefics3Config(
        vision_config=vision, text_config=text, scale_factor=2, image_token_id=IDS["<image>"], **{"pad_token_id": 0}
    )
    images = t.Idefics3ImageProcessorPil(
        size={"longest_edge": SIZE}, max_image_size={"longest_edge": SIZE}, do_image_splitting=False
    )
    processor = t.Idefics3Processor(images, tokenizer(), image_seq_len=1, chat_template=template("<image>"))
    return t.Idefics3ForConditionalGeneration(config), processor


def mistral3() -> tuple[Any, Any]:
    vision = t.PixtralVisionConfig(image_size=2 * SIZE, patch_size=PATCH, head_dim=8, **VISION)
    text = t.MistralConfig(**TEXT, **VOCABULARY)
    config = t.Mistral3Config(
        vision_config=vision, text_config=text, image_token_index=IDS["[IMG]"], spatial_merge_size=2
    )
    processor = t.PixtralProcessor(
        t.PixtralImageProcessorPil(size={"longest_edge": 2 * SIZE}, patch_size=PATCH), tokenizer(),
        patch_size=PATCH, spatial_merge_size=2, image_token="[IMG]", image_break_token="[IMG_BREAK]",
        image_end_token="[IMG_END]", chat_template=template("[IMG]"),
    )  # fmt: skip
    return t.Mistral3ForConditionalGeneration(config), processor


def git() -> tuple[Any, Any]:
    words = tokenizer(bos_token="[CLS]", cls_token="[CLS]", sep_token="[SEP]", eos_token="[SEP]", pad_token="[PAD]")
    config = t.GitConfig(
        vision_config={**VISION, "image_size": SIZE, "patch_size": PATCH}, vocab_size=len(IDS), **VISION,
        bos_token_id=IDS["[CLS]"], eos_token_id=IDS["[SEP]"], pad_token_id=IDS["[PAD]"],
    )  # fmt: skip
    images = t.CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    return t.GitForCausalLM(config), t.GitProcessor(images, words)


def mllama() -> tuple[Any, Any]:
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_global_layers": 1,
        "attention_heads": 4, "vision_output_dim": 64, "image_size": SIZE, "patch_size": PATCH, "max_num_tiles": 2,
        "intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
    }  # fmt: skip
    text = {name: size for name, size in TEXT.items() if name != "head_dim"} | {"cross_attention_layers": [1]}
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    config = t.MllamaConfig(
        vision_config=vision,
        text_config={**text, **VOCABULARY, "rope_parameters": rope},
        image_token_index=IDS["<|image|>"],
    )
    images = t.MllamaImageProcessorPil(size=SQUARE["size"], max_image_tiles=2)
    processor = t.MllamaProcessor(images, tokenizer(), chat_template=template("<|image|>"))
    return t.MllamaForConditionalGeneration(config), processor


def ovis2() -> tuple[Any, Any]:
    marks = [IDS[f"<IMG_{part}>"] for part in ("START", "GRID", "COL", "ROW", "END")]
    config = t.Ovis2Config(
        vision_config={**VISION, "image_size": SIZE, "patch_size": PATCH, "vocab_size": 64, "hidden_stride": 1},
        text_config=t.Qwen2Config(**TEXT, **VOCABULARY).to_dict(), image_token_id=IDS["<IMG_ATOM>"],
        visual_indicator_token_ids=marks, vocab_size=len(IDS), hidden_size=32,
    )  # fmt: skip
    images = t.Ovis2ImageProcessorPil(**SQUARE, crop_to_patches=False)
    processor = t.Ovis2Processor(images, tokenizer(), image_seq_length=4, chat_template=template("<image>"))
    return t.Ovis2ForConditionalGeneration(config), processor


def florence2() -> tuple[Any, Any]:
    ids = {name: IDS["</s>"] for name in ("eos_token_id", "decoder_start_token_id")}
    text = t.BartConfig(
        vocab_size=len(IDS), d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=64, decoder_ffn_dim=64,
        encoder_attention_heads=2, decoder_attention_heads=2, pad_token_id=IDS["<pad>"], bos_token_id=IDS["<s>"], **ids,
    )  # fmt: skip
    groups = {"depths": (1,) * 4, "embed_dim": (8, 8, 8, 16), "num_heads": (1, 1, 1, 2), "num_groups": (1, 1, 1, 2)}
    config = t.Florence2Config(
        text_config=text.to_dict(), vision_config={**groups, "window_size": 4, "projection_dim": 32},
        image_token_id=IDS["<image>"],
    )  # fmt: skip
    images = t.CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 5
    words = tokenizer(extra_special_tokens={"image_token": "<image>"})
    return t.Florence2ForConditionalGeneration(config), t.Florence2Processor(images, words)


FAMILIES: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "llava": llava,
    "paligemma": paligemma,
    "gemma3": gemma3,
    "blip-2": blip2,
    "blip": blip_vqa,
    "idefics3": idefics3,
    "mistral3": mistral3,
    "git": git,
    "mllama": mllama,
    "ovis2": ovis2,
    "florence2": florence2,
}


def make(family: str) -> tuple[Any, Any]:
    """Always the same weights. The initial ones of some families are zeros where the picture comes in."""
    torch.manual_seed(1)
    model, processor = FAMILIES[family]()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1 or "gate" in name:
                weights.normal_(std=0.3)
    return model.train(False), processor


def save(family: str, folder: Path) -> Path:
    """A checkpoint as the hub has them."""
    for part in make(family):
        part.save_pretrained(folder)
    return folder


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
