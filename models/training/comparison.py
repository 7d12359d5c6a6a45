"""Nine runs on one budget: four kinds of fusion on the answers alone, five mixes of objectives on the default kind.

Equal steps, seed, data, vocabularies and cached features; only what an entry names differs. Each run is a folder of its
own that goes on where it was stopped, and what was measured is kept beside it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visavis.models.loading import load_model
from visavis.models.training.data import load_photos
from visavis.models.training.evaluation import evaluate
from visavis.models.training.evaluation_options import Answer, EvaluationOptions
from visavis.models.training.export import count_parameters
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.train_command import train_command

FIGURES = "figures.json"


@dataclass(frozen=True)
class Entry:
    """A run: what it is called in the table and how its settings differ."""

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)


ANSWER = {"answer": 1.0}
ENTRIES = (
    Entry("cross_attention", "cross-attention, answers"),
    Entry("mmbt", "MMBT, answers", {"fusion": {"kind": "mmbt"}}),
    Entry("concat", "concatenation, answers", {"fusion": {"kind": "concat"}}),
    Entry("birnn_cnn", "BiRNN + CNN, answers", {"fusion": {"kind": "birnn_cnn"}}),
    Entry("uni", "cross-attention, answers + L_uni", {"phases": ({**ANSWER, "uni": 0.3},)}),
    Entry("bi", "cross-attention, answers + L_bi", {"phases": ({**ANSWER, "bi": 0.3},)}),
    Entry(
        "two_phases",
        "cross-attention, L_uni, then L_bi, then answers",
        {"phases": ({"until": 0.15, "uni": 1.0}, {"until": 0.3, "bi": 1.0}, ANSWER)},
    ),
    Entry("itc", "cross-attention, answers + L_itc", {"phases": ({**ANSWER, "itc": 0.3},)}),
    Entry(
        "itc_rewards",
        "cross-attention, answers + L_itc, then answers + CIDEr rewards",
        {
            "phases": ({"until": 0.8, **ANSWER, "itc": 0.3}, {**ANSWER, "self_critical": 1.0}),
            "self_critical_samples": 5,
        },
    ),
)


def compare(
    base: TrainingSettings,
    steps: int,
    *,
    entries: Sequence[Entry] = ENTRIES,
    limit: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, dict[str, Any]]]:
    """Train and measure each entry for `steps` steps; yields all figures by name after each.

    `base.output` holds a folder a run and their common cache of features; `limit` is the most items of each dev file.

    Raises:
        ValueError: wrong settings or data, or a folder holds a run of another budget.
        ModelError, OSError, ModuleNotFoundError: as `train_command` and `evaluate`.
    """
    photos = len(load_photos([Path(folder) for folder in base.data]))
    base = replace(base, epochs=steps * base.batch_photos / photos, budget_minutes=None)
    base = replace(base, feature_cache=base.feature_cache or str(Path(base.output) / "features"))
    found: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(entries, 1):
        tell(f"{number} of {len(entries)}: {entry.title}")
        changes = {**entry.changes, "fusion": {**base.fusion, **entry.changes.get("fusion", {})}}
        settings = replace(base, output=str(Path(base.output) / entry.name), **changes)
        found[entry.name] = _run(settings, steps, limit)
        yield found


def _run(settings: TrainingSettings, steps: int, limit: int | None) -> dict[str, Any]:
    file, budget = Path(settings.output) / FIGURES, {"steps": steps, "seed": settings.seed, "limit": limit}
    if file.exists():
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if kept["budget"] != budget:
            raise ValueError(f"{settings.output} holds a run of {kept['budget']}, not {budget}; choose another output")
        return kept
    checkpoint = train_command(settings)
    figures, answers = evaluate(checkpoint, dev_files(settings.data, limit))
    kept = {**figures, **_costs(settings, checkpoint), "errors": standard_errors(answers), "budget": budget}
    file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return kept


def dev_files(folders: Sequence[str], limit: int | None = None) -> EvaluationOptions:
    """The first dev file of every kind among the folders; captions are used for retrieval as well."""

    def first(kind: str) -> Path | None:
        files = (Path(folder) / f"{kind}.dev.jsonl" for folder in folders)
        return next(filter(Path.exists, files), None)

    captions = first("captions")
    return EvaluationOptions(
        captions=captions,
        questions=first("questions"),
        dialogues=first("dialogues"),
        retrieval=captions is not None,
        limit=limit,
    )


def standard_errors(answers: Sequence[Answer]) -> dict[str, float]:
    """Of the mean score of every section, pictures as they are."""
    scores: dict[str, list[float]] = {}
    for answer in answers:
        if answer.item.image is not None:
            scores.setdefault(answer.item.section.value, []).append(float(answer.scored))
    return {name: statistics.pstdev(values) / math.sqrt(len(values)) for name, values in scores.items()}


def _costs(settings: TrainingSettings, checkpoint: Path) -> dict[str, Any]:
    """Parameters, those beside the towers, and how long the steps took."""
    model, _ = load_model(checkpoint, "cpu")
    towers = count_parameters(model.encoder.vision) + count_parameters(model.encoder.text)
    position = json.loads((Path(settings.output) / "run" / "position.json").read_text(encoding="utf-8"))
    total = count_parameters(model)
    return {"parameters": total, "beside_towers": total - towers, "train_seconds": position["seconds"]}
