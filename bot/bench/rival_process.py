"""What runs inside the process of `generate`; the weights are loaded once, by `load`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visavis.models.rivals import GenerateRival, Talk

_RIVAL: list[GenerateRival] = []
_LOADED: list[tuple[Path, int, str]] = []
Timed = tuple[float, list[list[str]]]


def load(folder: Path, threads: int, device: str) -> None:
    """Import torch and load the weights."""
    from visavis.models.rivals import GenerateRival

    _RIVAL.append(GenerateRival(folder, threads, device))
    _LOADED.append((folder, threads, device))


def sequential(talks: Sequence[Talk]) -> Timed:
    """See `GenerateRival`."""
    return _RIVAL[0].sequential(talks)


def static_cold(talks: Sequence[Talk]) -> Timed:
    """See `GenerateRival`."""
    return _RIVAL[0].static_batch(talks, cached=False)


def static_cached(talks: Sequence[Talk]) -> Timed:
    """See `GenerateRival`."""
    return _RIVAL[0].static_batch(talks, cached=True)


def token_ids(texts: Sequence[str]) -> list[list[int]]:
    """Texts as answer tokens."""
    return [_RIVAL[0].token_ids(text) for text in texts]


def rooflines() -> dict[str, float]:
    """See `visavis.models.roofline`."""
    from visavis.models.roofline import rooflines

    return rooflines(*_LOADED[0])
