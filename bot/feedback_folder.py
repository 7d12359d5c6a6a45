"""Answers that people liked and gave away, as a folder for `visavis train`: `dialogues.train.jsonl` and `images/`.

A row names its session, so that forgetting it later takes it out again. Knows no store.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visavis.dialogue.turns import Exchange

Row = dict[str, Any]
NAME = "dialogues.train.jsonl"
SUFFIX = {"image/jpeg": ".jpg", "image/png": ".png"}


def training_rows(session: str, exchanges: Sequence[Exchange]) -> list[Row]:
    """For each picture the talk about it, up to the last answer that was liked with consent.

    Answers that were not liked are left out, and so is all without consent after them.
    """
    given = [i for i, one in enumerate(exchanges) if (seen := one.answer.feedback) and seen.consent and seen.score > 0]
    turns: dict[str, list[Row]] = {}
    for one in exchanges[: given[-1] + 1 if given else 0]:
        disliked = one.answer.feedback is not None and one.answer.feedback.score < 0
        if one.answer.images and one.question.text and one.answer.text and not disliked:
            said = {"question": one.question.text, "answer": one.answer.text, "short": ""}
            turns.setdefault(one.answer.images[0], []).append(said)
    return [{"image": image, "turns": said, "session": session} for image, said in turns.items()]


class FeedbackFolder:
    """Blocking; one process writes at a time, and readers see the old file or the new one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / NAME

    def replace(self, rows: Sequence[Row], pictures: dict[str, tuple[str, bytes]]) -> None:
        """Write everything anew; `pictures` are names and bytes by sha256."""
        (self._folder / "images").mkdir(parents=True, exist_ok=True)
        with self._locked():
            for name, data in pictures.values():
                (self._folder / "images" / name).write_bytes(data)
            self._write([row | {"image": f"images/{pictures[row['image']][0]}"} for row in rows])

    def forget(self, session: str) -> None:
        """Take out what came from a session, and pictures that no other row shows."""
        if not self._file.exists() or session not in self._file.read_text(encoding="utf-8"):
            return
        with self._locked():
            rows = [json.loads(line) for line in self._file.read_text(encoding="utf-8").splitlines()]
            self._write([row for row in rows if row["session"] != session])

    def _write(self, rows: Sequence[Row]) -> None:
        written = self._file.with_suffix(".new")
        written.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        os.replace(written, self._file)
        shown = {Path(row["image"]).name for row in rows}
        for picture in (self._folder / "images").iterdir():
            if picture.name not in shown:
                picture.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._folder / ".lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def feedback_folder(data_dir: Path) -> FeedbackFolder:
    """Where exported feedback lies on this machine."""
    return FeedbackFolder(data_dir / "feedback")
