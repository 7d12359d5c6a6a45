"""From the name of somebody else's model to a `RemoteChatModel`, and what people are told about it before it is asked.

LangChain's `init_chat_model` makes the model; the packages of providers are extras. Nothing is sent here.
"""

from __future__ import annotations

import math
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel

from visavis.bot.providers.failures import redacted
from visavis.bot.providers.names import HTTP, BadName, RemoteName
from visavis.bot.providers.patience import Patience
from visavis.bot.providers.remote_chat_model import RemoteChatModel
from visavis.bot.settings import is_loopback
from visavis.models.chat_model import ImageSource

EXTRAS = {"openai": "openai", HTTP: "openai", "anthropic": "anthropic", "google_genai": "google", "ollama": "ollama"}
_TELL_THEIR_END = frozenset(EXTRAS) | {"mistralai"}
_ADDRESSES = ("openai_api_base", "anthropic_api_url", "base_url", "endpoint")


def open_remote(
    name: RemoteName, *, patience: Patience, api_key: str | None = None, images: ImageSource | None = None
) -> RemoteChatModel:
    """The model, which has not been asked yet. `api_key` is for an address alone; providers find theirs in the
    environment variables that they have for it.

    Raises:
        BadName: a provider that LangChain does not know, a package or a key that is missing.
    """
    try:
        inner = _init(name, patience.word_s, api_key)
    except ImportError as error:
        raise BadName(_missing(name)) from error
    except Exception as error:  # the edge to any provider's package
        first = (redacted(str(error), [api_key or ""]).strip() or type(error).__name__).splitlines()[0]
        raise BadName(f"{name.shown} cannot be used: {first}") from None
    profile: dict[str, Any] = dict(inner.profile or {})
    return RemoteChatModel(
        inner=inner,
        shown_name=name.shown,
        image_source=images,
        patience=patience,
        takes_pictures=profile.get("image_inputs", True) is not False,
        takes_sampling=profile.get("temperature", True) is not False,
        tells_its_end=name.provider in _TELL_THEIR_END,
    )


def _init(name: RemoteName, word_s: float, api_key: str | None) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    # Trying again is done here, alike for all; some clients count whole seconds, and what is in time is seen to here.
    options: dict[str, Any] = {"max_retries": 0, "timeout": math.ceil(word_s)}
    if name.provider in (HTTP, "openai"):
        # langchain-openai shares connections between models whose time-outs can be hashed; they fail in other event
        # loops
        options |= {"timeout": httpx.Timeout(word_s), "stream_usage": True}
    if name.provider == HTTP:
        options |= {"base_url": name.base_url, "api_key": api_key or "none"}
    elif name.provider == "ollama":
        options = {"client_kwargs": {"timeout": word_s}}
    provider = "openai" if name.provider == HTTP else name.provider
    model: BaseChatModel = init_chat_model(name.model, model_provider=provider, **options)
    return model


def _missing(name: RemoteName) -> str:
    extra = EXTRAS.get(name.provider)
    if extra is not None:
        return f"{name.shown} needs a package that is not installed: pip install 'visavis[{extra}]'."
    package = f"langchain and langchain-{name.provider.replace('_', '-')}"
    return f"{name.shown} needs packages that are not installed: pip install {package}."


def stays_here(model: RemoteChatModel) -> bool:
    """Whether it is asked on this very machine."""
    host = _host(model)
    return host is not None and is_loopback(host)


def told_at_start(model: RemoteChatModel) -> list[str]:
    """One sentence each: where what people say goes, and what is different with this model."""
    name, host = model.shown_name, _host(model)
    if stays_here(model):
        place = f"{name} is asked at {host}, on this machine."
    else:
        to = host or "its provider"
        place = f"Text and pictures leave this machine: conversations with {name} are sent to {to}."
    told = [place]
    profile: dict[str, Any] = dict(model.inner.profile or {})
    if not model.takes_pictures:
        told.append(f"{name} takes no pictures: questions about one are refused, or go to a --fallback.")
    elif not profile:
        told.append(f"Whether {name} takes pictures is not known here; it is shown them.")
    if not model.takes_sampling:
        told.append(f"{name} takes no temperature: an answer that is asked for again may be the same.")
    if not streams(model.inner):
        told.append(f"{name} does not stream: its answers come whole.")
    if not model.tells_its_end:
        told.append(f"{name} may not count tokens nor say why it stopped: tokens are counted here, about.")
    return told


def streams(model: BaseChatModel) -> bool:
    """Whether its class can do more than answer as a whole."""
    kind = type(model)
    return kind._astream is not BaseChatModel._astream or kind._stream is not BaseChatModel._stream


def _host(model: RemoteChatModel) -> str | None:
    """None is the provider's own. The clients of Ollama and Google alone know what their environment variables said."""
    inner: Any = model.inner
    ollama = getattr(getattr(inner, "_client", None), "_client", None)
    google = getattr(getattr(getattr(inner, "client", None), "_api_client", None), "_http_options", None)
    found = [getattr(inner, name, None) for name in _ADDRESSES]
    found += [getattr(client, "base_url", None) for client in (ollama, google)]
    address = next((str(value) for value in found if value and not callable(value)), None)
    return None if address is None else httpx.URL(address).host
