"""How a picture is looked at: whole or in part, with its words read or not. What is computed is kept by this."""

from __future__ import annotations

from dataclasses import dataclass

from visavis.models.generation import Region


@dataclass(frozen=True)
class Look:
    """The picture `sha256`, or its `region`; `read` with the words that stand in it."""

    sha256: str
    region: Region | None = None
    read: bool = False
