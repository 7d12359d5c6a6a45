"""Words that stand in a picture, read by RapidOCR (PaddleOCR's models on ONNX Runtime; the extra `ocr`).

Reading takes several times as long as encoding, so a picture is read only when a question asks for it. Without the
extra nothing is read and the model says what it sees.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from typing import Any

import numpy as np
from PIL import Image

READER = "rapidocr_onnxruntime"
SURE = 0.5
"""Below this score a line is rather a texture than a word."""
_ASKS = re.compile(
    r"\b(say|says|said|read|reads|written|writing|text|texts|words?|letters?|signs?|labels?|titles?|spells?|"
    r"spelled|numbers?|digits?|logo|brand|named?|slogan|heading)\b"
)


def asks_to_read(question: str) -> bool:
    """Whether a question may be about words in the picture."""
    return bool(_ASKS.search(question.lower()))


class WordReader:
    """Reads pictures, one at a time; its models load with the first one."""

    def __init__(self) -> None:
        self._read: Any = None
        self._reading = threading.Lock()

    @classmethod
    def find(cls) -> WordReader | None:
        """A reader, where the extra `ocr` is installed."""
        return cls() if importlib.util.find_spec(READER) is not None else None

    def read(self, picture: Image.Image) -> list[str]:
        """The lines that stand in a picture, from top to bottom; none where there are no words."""
        with self._reading:
            if self._read is None:
                self._read = importlib.import_module(READER).RapidOCR()
            lines, _ = self._read(np.asarray(picture.convert("RGB"))[:, :, ::-1])  # it expects blue first
        return [text for _, text, score in lines or [] if float(score) >= SURE]
