"""A new model: pretrained towers, two vocabularies from the training text, fusion encoder and decoder at random."""

from __future__ import annotations

from collections.abc import Sequence
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
    return model, Processor(ImageProcessor(), questions, answers)


def _config(towers: Path, questions: int, answers: int, fusion: FusionConfig | None) -> ModelConfig:
    vision, text = (AutoConfig.from_pretrained(towers / part) for part in ("vision", "text"))
    text.vocab_size = questions
    objects = ObjectConfig() if (towers / "objects").is_dir() else None
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
