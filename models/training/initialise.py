"""A new model: pretrained towers, two vocabularies, fusion encoder and decoder at random.

The answers' vocabulary is made from the training text. So is the questions', cut out of BERT's word pieces; a text
tower with another tokenizer keeps all of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer

from visavis.models.config import (
    READERS_OF_WORDS,
    DecoderConfig,
    FusionConfig,
    ModelConfig,
    ObjectConfig,
    SharedConfig,
    tower_config,
)
from visavis.models.fusion.mmbt import MmbtFusion, load_bert_layers
from visavis.models.image_processor import ImageProcessor
from visavis.models.processor import MAX_TEXT_TOKENS, Processor, Vocabulary
from visavis.models.tower_configs import Dinov2Config
from visavis.models.training.data import Photo, all_texts
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.vocabulary import (
    answer_vocabulary,
    embeddings_from_pieces,
    prune_word_pieces,
    question_vocabulary,
)
from visavis.models.transformers_towers import pretrained_tower
from visavis.models.visavis_model import VisavisModel


@dataclass(frozen=True)
class TowerFolders:
    """Where the pretrained towers lie; `objects` is None without an object tower."""

    vision: Path
    text: Path
    objects: Path | None

    @classmethod
    def of(cls, settings: TrainingSettings) -> TowerFolders:
        """`settings.towers`, unless a folder is named for one of them.

        Raises:
            ValueError: one of the two is nowhere to be found.
        """
        towers = Path(settings.towers)
        vision, text = (Path(getattr(settings, part) or towers / part) for part in ("vision", "text"))
        if missing := [str(folder) for folder in (vision, text) if not (folder / "config.json").is_file()]:
            raise ValueError(f"there is no pretrained tower in {missing[0]}: its config.json is missing")
        objects = towers / "objects"
        return cls(vision, text, objects if settings.towers and objects.is_dir() else None)


def new_model(settings: TrainingSettings, photos: Sequence[Photo]) -> tuple[VisavisModel, Processor]:
    """Build from the folders of `settings`.

    Raises:
        ValueError: a tower or one of its weights is missing, or its layers do not fit the kind of fusion.
        TypeError: an unknown option of the fusion.
    """
    folders = TowerFolders.of(settings)
    vision, text = tower_config(folders.vision, "vision"), tower_config(folders.text, "text")
    asked, answered = all_texts(photos)
    questions, kept = _questions(folders.text, text, asked + answered, settings.question_pieces)
    answers = answer_vocabulary(answered, settings.answer_pieces)
    images = image_processor_of(folders.vision, vision)
    fusion, objects = FusionConfig(**settings.fusion), _objects(folders.objects, images)
    model = VisavisModel(_config(fusion, vision, text, objects, len(questions), len(answers)))
    _load_vision(model, folders)
    words = _load_text(model, folders.text, kept)
    if words.shape[1] == model.config.decoder.hidden_size:
        model.decoder.token_embedding.weight.data = embeddings_from_pieces(answers, questions, words)
    processor = Processor(images, questions, answers)
    if model.encoder.tags is not None:
        load_kinds(model, processor, Path(settings.towers))
    return model, processor


def with_tags(model: VisavisModel, processor: Processor, towers: Path) -> VisavisModel:
    """The same model with the classifier and the kinds' names of `towers/objects`: what it says changes little until
    it has learned to read them."""
    named = kind_names(towers)
    assert model.config.objects is not None
    objects = replace(model.config.objects, kinds=len(named))
    grown = VisavisModel(replace(model.config, objects=objects))
    grown.load_state_dict(model.state_dict(), strict=False)
    load_kinds(grown, processor, towers)
    return grown


def with_shared_space(model: VisavisModel) -> VisavisModel:
    """The same model with a space for pictures and texts that knows nothing yet."""
    grown = VisavisModel(replace(model.config, shared=SharedConfig()))
    grown.load_state_dict(model.state_dict(), strict=False)
    return grown


def kind_names(towers: Path) -> list[str]:
    """What the object tower's classifier calls things; none without the file."""
    file = towers / "objects" / "kinds.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def load_kinds(model: VisavisModel, processor: Processor, towers: Path) -> None:
    """The pretrained classifier, and its kinds' names in answer tokens (cut at the configured length)."""
    tower, tags = model.encoder.vision.objects, model.encoder.tags
    assert tower is not None and tags is not None
    state = load_file(towers / "objects" / "model.safetensors")
    for name in ("head", "classes"):
        getattr(tower, name).load_state_dict({part: state[f"{name}.{part}"] for part in ("weight", "bias")})
    for row, name in zip(tags.tokens, kind_names(towers), strict=True):
        ids = processor.encode_answer(" " + name)[: row.shape[0]]
        row[: len(ids)] = torch.tensor(ids)


def _objects(folder: Path | None, images: ImageProcessor) -> ObjectConfig | None:
    if folder is None:
        return None
    look = list(images.image_mean), list(images.image_std)
    return ObjectConfig(kinds=len(kind_names(folder.parent)), image_mean=look[0], image_std=look[1])


def image_processor_of(folder: Path, config: Any) -> ImageProcessor:
    """What a vision tower wants to be shown, by its `preprocessor_config.json` or else its configuration."""
    file = folder / "preprocessor_config.json"
    options = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    plain = ImageProcessor() if isinstance(config, Dinov2Config) else ImageProcessor(config.image_size)
    size = options.get("crop_size") or options.get("size") or plain.size
    size = next(iter(size.values())) if isinstance(size, dict) else size
    mean, std = (options.get(name) or getattr(plain, name) for name in ("image_mean", "image_std"))
    return ImageProcessor(size, mean, std)


def _questions(folder: Path, config: Any, texts: Sequence[str], size: int) -> tuple[Vocabulary, list[int] | None]:
    """The vocabulary of a text tower, and which rows of its word embeddings are kept (None: all)."""
    vocabulary_file = folder / "vocab.txt"
    if config.model_type == "bert" and vocabulary_file.is_file():
        kept = prune_word_pieces(vocabulary_file, texts, size)
        pieces = vocabulary_file.read_text(encoding="utf-8").splitlines()
        return question_vocabulary([pieces[index] for index in kept]), kept
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(min(MAX_TEXT_TOKENS, config.max_position_embeddings))
    return Vocabulary(backend, tokenizer.special_tokens_map), None


def _config(
    fusion: FusionConfig, vision: Any, text: Any, objects: ObjectConfig | None, questions: int, answers: int
) -> ModelConfig:
    """Kinds that read words keep the text tower's embeddings alone; `mmbt` takes its layers over."""
    if fusion.kind == "mmbt":
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        fusion = replace(fusion, **{name: getattr(text, name) for name in names})
    text.vocab_size = questions
    if fusion.kind in READERS_OF_WORDS:
        text.num_hidden_layers = 0
    decoder = DecoderConfig(vocab_size=answers, hidden_size=fusion.hidden_size)
    return ModelConfig(vision, text, objects, fusion, decoder)


def _load_vision(model: VisavisModel, folders: TowerFolders) -> None:
    """The object tower's network is frozen like the other; its head goes on learning, slowly, with the projection."""
    encoder = model.encoder.vision
    _inner(encoder.tower).load_state_dict(pretrained_tower(folders.vision, "vision").state_dict())
    if folders.objects is None or encoder.objects is None:
        return
    state = load_file(folders.objects / "model.safetensors")
    network = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    encoder.objects.network.load_state_dict(network)
    model.encoder.image_projection.head.load_state_dict({part: state[f"head.{part}"] for part in ("weight", "bias")})


def _load_text(model: VisavisModel, folder: Path, kept: Sequence[int] | None) -> Tensor:
    """Give the tower its weights, and `mmbt` the layers that it took over; the word embeddings (V, D_t)."""
    loaded = pretrained_tower(folder, "text")
    words: Any = loaded.get_input_embeddings()
    if kept is not None:
        words.weight = nn.Parameter(words.weight.detach()[torch.tensor(kept)])
    state, tower = loaded.state_dict(), _inner(model.encoder.text.tower)
    tower.load_state_dict({name: state[name] for name in tower.state_dict()})
    if isinstance(model.encoder.fusion, MmbtFusion):
        load_bert_layers(model.encoder.fusion, state)
    return words.weight.detach()  # type: ignore[no-any-return]


def _inner(tower: nn.Module) -> nn.Module:
    """Ours have transformers' names; its own stand inside a tower of ours."""
    inner = getattr(tower, "model", tower)
    assert isinstance(inner, nn.Module)
    return inner
