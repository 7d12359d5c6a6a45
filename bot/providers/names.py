"""Names of models that somebody else runs: `provider:name` of LangChain, `http://host/v1#name` of OpenAI's API.

Pure; which providers there are is LangChain's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

HTTP = "http"  # the provider of a name that is an address
_PROVIDER = re.compile(r"([a-z][a-z0-9_]*):(?!/)(.+)", re.DOTALL)
_OURS = ("hf",)


class BadName(ValueError):
    """A name that looks like one of these and is none; the message is one sentence."""


@dataclass(frozen=True)
class RemoteName:
    """`model` as the `provider` calls it; `base_url` is the address that was named, if one was."""

    provider: str
    model: str
    base_url: str | None = None

    @property
    def shown(self) -> str:
        """What people read: the address of a server stays with the operator."""
        return self.model if self.provider == HTTP else f"{self.provider}:{self.model}"


def remote_name(name: str) -> RemoteName | None:
    """What a name means, None if it is none of somebody else's.

    Raises:
        BadName: an address without a model, or with a password in it.
    """
    if name.startswith(("http://", "https://")):
        return _address(name)
    found = _PROVIDER.fullmatch(name)
    if found is None or found[1] in _OURS:
        return None
    return RemoteName(found[1], found[2])


def _address(name: str) -> RemoteName:
    place, _, model = name.partition("#")
    parts = urlsplit(place)
    if not model or not parts.hostname:
        raise BadName("Expected the address of a server and one of its models, such as http://127.0.0.1:8000/v1#name.")
    if "@" in parts.netloc or parts.query:
        raise BadName("The address of a model has no password in it; its key belongs into VISAVIS_MODEL_API_KEY.")
    return RemoteName(HTTP, model, place)
