"""A new model: pretrained towers, two vocabularies from the training text, fusion encoder and decoder at random."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel

from visavis.models.config import DecoderConfig, FusionConfig, ModelConfig, ObjectConfig
from visavis.models.image_processor import ImageProcessor
from visavis.models.processor import Processor
from visavis.models.training.data import Photo, all_texts
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.vocabulary import (
    answer_vocabulary,
    embeddings_from_pieces,
    prune_word_pieces,
    question_vocabulary,
)
from visavis.models.visavis_model import VisavisModel


def new_model(
    settings: TrainingSettings, photos: Sequence[Photo], fusion: FusionConfig | None = None
) -> tuple[VisavisModel, Processor]:
    """Build from `settings.towers` (folders `vision` and `text`, the latter with `vocab.txt`)."""
    towers = Path(settings.towers)
    asked, answered = all_texts(photos)
    kept = prune_word_pieces(towers / "text" / "vocab.txt", asked + answered, settings.question_pieces)
    pieces = (towers / "text" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    questions = question_vocabulary([pieces[index] for index in kept])
    answers = answer_vocabulary(answered, settings.answer_pieces)
    model = VisavisModel(_config(towers, len(kept), len(answers), fusion))
    _load_towers(model, towers, kept)
    if model.config.objects is not None:
        _load_objects(model, towers)
    words = model.state_dict()["encoder.text.tower.embeddings.word_embeddings.weight"]
    model.decoder.token_embedding.weight.data = embeddings_from_pieces(answers, questions, words)
    processor = Processor(ImageProcessor(), questions, answers)
    if model.encoder.tags is not None:
        load_kinds(model, processor, towers)
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


def _config(towers: Path, questions: int, answers: int, fusion: FusionConfig | None) -> ModelConfig:
    vision, text = (AutoConfig.from_pretrained(towers / part) for part in ("vision", "text"))
    text.vocab_size = questions
    objects = ObjectConfig(kinds=len(kind_names(towers))) if (towers / "objects").is_dir() else None
    return ModelConfig(vision, text, objects, fusion or FusionConfig(), DecoderConfig(vocab_size=answers))


def _load_objects(model: VisavisModel, towers: Path) -> None:
    """The network is frozen with the other towers; its head goes on learning, slowly, with the projection."""
    state = load_file(towers / "objects" / "model.safetensors")
    network = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    model.encoder.vision.objects.network.load_state_dict(network)  # type: ignore[union-attr]
    head = {name: state[f"head.{name}"] for name in ("weight", "bias")}
    model.encoder.image_projection.head.load_state_dict(head)


def _load_towers(model: VisavisModel, towers: Path, kept: Sequence[int]) -> None:
    vision = AutoModel.from_pretrained(towers / "vision")
    model.encoder.vision.tower.load_state_dict(vision.state_dict())
    text = AutoModel.from_pretrained(towers / "text", add_pooling_layer=False)
    words = text.get_input_embeddings().weight.detach()
    text.resize_token_embeddings(len(kept))
    text.get_input_embeddings().weight.data = words[torch.tensor(kept)]
    model.encoder.text.tower.load_state_dict(text.state_dict())
