"""Teach a visavis checkpoint your questions with transformers' Trainer, whole or as LoRA.

    pip install 'visavis[train]'
    python fine_tune.py my-photos tuned --lora
    visavis serve --model tuned

`my-photos` has `images/` and `questions.train.jsonl` (docs/training.md); `--from` is the checkpoint to begin with.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from PIL import Image
from torch.utils.data import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, Trainer, TrainingArguments

import visavis.models  # noqa: F401 - the Auto classes know a visavis checkpoint from now on
from visavis.models.checkpoint_files import EMBEDDED

# What LoRA adds to: the attention of fusion and decoder. The image encoder stays as it is.
LORA_LAYERS = r".*(fusion|decoder)\.layers\.\d+\.(self|cross)_attention\.(query|key_value|out)"


class Questions(Dataset[dict[str, str]]):
    """Lines of `questions.train.jsonl`, one for each answer."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "questions.train.jsonl").read_text(encoding="utf-8").splitlines()
        asked = [json.loads(line) for line in lines if line.strip()]
        self.rows = [
            {"image": str(folder / one["image"]), "question": one["question"], "answer": answer}
            for one in asked
            for answer in one["answers"]
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, str]:
        return self.rows[index]


def fine_tune(data: Path, output: Path, start: str, *, lora: bool, **options: Any) -> Trainer:
    """Train, and write a checkpoint that `visavis serve` takes; `options` are those of `TrainingArguments`."""
    processor = AutoProcessor.from_pretrained(start)
    model: Any = AutoModelForImageTextToText.from_pretrained(start)
    if lora:
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=LORA_LAYERS))

    def collate(rows: list[dict[str, str]]) -> dict[str, Any]:
        pictures = [Image.open(row["image"]).convert("RGB") for row in rows]
        asked, answers = [row["question"] for row in rows], [row["answer"] for row in rows]
        return dict(processor(images=pictures, text=asked, text_target=answers))

    defaults = {"learning_rate": 2e-4 if lora else 2e-5, "num_train_epochs": 3, "per_device_train_batch_size": 8}
    arguments = TrainingArguments(
        output_dir=str(output / "run"), remove_unused_columns=False, report_to=[], **{**defaults, **options}
    )
    trainer = Trainer(model, arguments, data_collator=collate, train_dataset=Questions(data))
    trainer.train()
    (model.merge_and_unload() if lora else model).save_pretrained(output)
    processor.save_pretrained(output)
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--from", dest="start", default=str(EMBEDDED))
    parser.add_argument("--lora", action="store_true")
    given = parser.parse_args()
    fine_tune(given.data, given.output, given.start, lora=given.lora)


if __name__ == "__main__":
    main()
