"""What a training run is told: one frozen dataclass, read from a JSON file and overridden by flags."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainingSettings:
    """A run's folders and numbers. Paths are strings so that the file is plain JSON.

    A new model takes its towers from `towers` (`vision`, `text`, and `objects` where there is one); `vision` and `text`
    name other folders that transformers reads, and `fusion` holds options of its `FusionConfig`, such as the kind.

    `epochs` sets the length; with `budget_minutes` the learning-rate schedule follows the clock instead and the run
    ends in time on any machine. Until the share `pool_until` of the run is done, patches are averaged two by two: a
    quarter of the keys for the part of training that learns to speak. Until `drop_until`, half of the patches are left
    out at random: cheaper steps, and no answer may hang on one patch. `turn_share` is the chance that a photo with
    captions brings its dialogue along in an epoch, `caption_share` the chance that it brings its captions. With
    `self_critical_samples` above 1 as many captions of each photo are sampled and rewarded (`self_critical.py`), at
    `self_critical_weight` times the weight of all other answers. With `text_lr_scale` 0 the text encoder stays frozen
    and its states are kept in memory; `gate_lr_scale` lets the fusion gates open faster than the rest moves. The last
    `vision_blocks` blocks of the image encoder learn at `vision_lr_scale` of the rate. With `trained` only parameters
    learn whose names begin so (`shared.`: what an objective adds to a model that is to stay as it is). `mirror_share`
    of the photos are mirrored, and each is seen whole or as one of its `crops` by chance. About `made_questions` a
    photo are made from its captions, and about `lesson_share` lessons with swapped object tags are taught a photo
    (`tag_lessons.py`).

    `phases` name the objectives and their weights (`phases.py`) up to a share of the run, such as ({"until": 0.3,
    "uni": 1}, {"answer": 1, "itc": 0.1}); without any, the answers are learned throughout.
    """

    data: tuple[str, ...] = ()
    towers: str = ""
    vision: str = ""
    text: str = ""
    fusion: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    output: str = "run"
    feature_cache: str = ""
    epochs: float = 8.0
    budget_minutes: float | None = None
    batch_photos: int = 16
    groups: int = 2
    pool_until: float = 0.6
    drop_until: float = 0.0
    learning_rate: float = 8e-4
    text_lr_scale: float = 0.0
    gate_lr_scale: float = 1.0
    trained: tuple[str, ...] = ()
    vision_blocks: int = 0
    vision_lr_scale: float = 0.1
    mirror_share: float = 0.0
    crops: int = 0
    made_questions: int = 0
    lesson_share: float = 0.0
    warmup_steps: int = 200
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    short_share: float = 0.3
    turn_share: float = 1.0
    caption_share: float = 1.0
    phases: tuple[dict[str, float], ...] = ()
    self_critical_samples: int = 0
    self_critical_weight: float = 1.0
    max_answer_tokens: int = 32
    question_pieces: int = 10_000
    answer_pieces: int = 4_000
    checkpoint_minutes: float = 5.0
    precision: str = "auto"
    threads: int = 0
    seed: int = 1

    @classmethod
    def load(cls, file: Path | None = None, **overrides: Any) -> TrainingSettings:
        """Read `file`, then apply the overrides that are not None.

        Raises:
            ValueError: a name that is no setting.
        """
        values = json.loads(file.read_text(encoding="utf-8")) if file else {}
        values.update({name: value for name, value in overrides.items() if value is not None})
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown training setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
        for name in ("data", "trained"):
            if name in values:
                values[name] = tuple(str(item) for item in values[name])
        if "phases" in values:
            values["phases"] = tuple(values["phases"])
        return cls(**values)

    def save(self, file: Path) -> None:
        """Write the settings beside the run's checkpoints."""
        file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
