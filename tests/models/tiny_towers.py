"""Pretrained towers as transformers saves them, tiny and random: what a new model is built from."""

import json
from pathlib import Path
from typing import Any

import tiny_checkpoint
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PICTURE = {**SIZES, "image_size": 28, "patch_size": 7}


def save_bert(folder: Path) -> None:
    pieces = tiny_checkpoint.tiny_processor().questions.tokenizer.get_vocab()
    config = transformers.BertConfig(**SIZES, vocab_size=len(pieces))
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(sorted(pieces, key=pieces.__getitem__)), encoding="utf-8")


def save_words(folder: Path) -> int:
    """A tokenizer of whole words, as transformers saves it."""
    words = ["<pad>", "<unk>", "what", "color", "is", "it", "a", "red", "blue", "dog", "Describe", "the", "picture"]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    return len(words)


def save_both(folder: Path, model: Any, config: Any) -> None:
    """CLIP or SigLIP: one folder, two towers."""
    words = save_words(folder)
    text = {**SIZES, "vocab_size": words, "max_position_embeddings": 20}
    model(config(text_config=text, vision_config=PICTURE)).save_pretrained(folder)
    look = {"crop_size": {"height": 28, "width": 28}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (folder / "preprocessor_config.json").write_text(json.dumps(look), encoding="utf-8")


def save_pair(folder: Path, kind: str) -> dict[str, str]:
    """Folders as the settings name them."""
    if kind in ("clip", "siglip"):
        names = {"clip": (transformers.CLIPModel, transformers.CLIPConfig)}
        names["siglip"] = (transformers.SiglipModel, transformers.SiglipConfig)
        save_both(folder / kind, *names[kind])
        return {"vision": str(folder / kind), "text": str(folder / kind)}
    if kind == "vit":
        transformers.ViTModel(transformers.ViTConfig(**PICTURE)).save_pretrained(folder / "vision")
    else:
        transformers.Dinov2Model(transformers.Dinov2Config(**PICTURE)).save_pretrained(folder / "vision")
    save_bert(folder / "text")
    return {"towers": str(folder)}
