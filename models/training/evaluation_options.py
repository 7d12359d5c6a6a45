"""What to evaluate, and what came of it: value types of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visavis.models.training.evaluation_items import Blank, Item, Section

Figures = dict[str, Any]


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate on. An absent file leaves its figures None; `limit` is the most items taken of each file;
    captions are searched for with so many `beams`."""

    captions: Path | None = None
    questions: Path | None = None
    dialogues: Path | None = None
    things: Path | None = None
    nonphotos: Path | None = None
    retrieval: bool = False
    ocr: bool = False
    swap_images: bool = False
    blank: Blank | None = None
    predictions: Path | None = None
    limit: int | None = None
    beams: int = 1

    @property
    def files(self) -> dict[Section, Path]:
        """The files that were given."""
        named = {section: getattr(self, section.value) for section in Section}
        return {section: file for section, file in named.items() if file is not None}

    @property
    def is_probe(self) -> bool:
        """Whether pictures or questions are tampered with; then there are no further blind figures."""
        return self.swap_images or self.blank is not None


@dataclass(frozen=True)
class Answer:
    """What was said to an item; `scored` is the CIDEr of a caption, else whether the reply counts."""

    item: Item
    said: str
    confidence: float | None
    scored: bool | float
