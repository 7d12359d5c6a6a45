"""The chat models that a gateway offers: which falls back to which, and what people are told about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.language_models import BaseChatModel

from visavis.bot.chat_models import ModelNotFound, named_models, remote, shown_name
from visavis.bot.providers.fallback_chat_model import FallbackChatModel
from visavis.bot.providers.names import BadName, RemoteName
from visavis.bot.providers.opening import open_remote, stays_here, told_at_start
from visavis.bot.providers.patience import Patience
from visavis.bot.providers.remote_chat_model import RemoteChatModel
from visavis.bot.settings import Settings
from visavis.dialogue.limits import ModelCard
from visavis.dialogue.model_choice import ModelChoice
from visavis.models.chat_model import ImageSource, VisavisChatModel
from visavis.models.checkpoint_files import FOREIGN

PATIENCE_S = 60.0  # for a model server that cannot be reached: it may be starting
SHORT_PATIENCE_S = 5.0  # when another model can be asked
FOREIGN_TOKENS = 32_768  # such a model's server leaves out itself what the model cannot read


@dataclass(frozen=True)
class ModelOffer:
    """What a gateway may ask, by shown name.

    `unasked` is for what nobody has chosen a model for: one that sends nothing away, if there is one. `needed` are the
    addresses of model servers of which one has to be there, if any.
    """

    choice: ModelChoice
    unasked: BaseChatModel
    needed: Sequence[str] = ()


def create_chat_models(settings: Settings, images: ImageSource) -> ModelOffer:
    """The models of a gateway. Ours are behind model servers (`unix:///path.sock`, `http://host:port/v1`).

    Raises:
        ModelNotFound: a model of ours without an address, or one of somebody else's that cannot be used.
    """
    parts = {name: _open(name, settings, images) for name in named_models(settings)}
    models: dict[str, BaseChatModel] = {}
    cards = []
    for name in dict.fromkeys([settings.model, *settings.more_models]):
        chain = {shown_name(part): parts[part] for part in dict.fromkeys([name, *settings.fallback])}
        models[shown_name(name)] = FallbackChatModel(models=chain) if len(chain) > 1 else parts[name]
        pictures = any(not isinstance(part, RemoteChatModel) or part.takes_pictures for part in chain.values())
        cards.append(ModelCard(shown_name(name), pictures=pictures, remote=any(map(_leaves, chain.values()))))
    unasked = next((part for part in parts.values() if not _leaves(part)), next(iter(models.values())))
    first = [settings.model_address(name) for name in dict.fromkeys([settings.model, *settings.fallback])]
    needed = [] if None in first else [url for url in first if url is not None]
    return ModelOffer(ModelChoice(models, cards), unasked, needed)


def open_named(name: RemoteName, settings: Settings, images: ImageSource | None = None) -> RemoteChatModel:
    """A model of somebody else's; raises `ModelNotFound`."""
    key = settings.model_api_key
    try:
        return open_remote(name, patience=Patience(word_s=settings.model_timeout_s), api_key=key, images=images)
    except BadName as error:
        raise ModelNotFound(str(error)) from error


def _leaves(model: BaseChatModel) -> bool:
    return isinstance(model, RemoteChatModel) and not stays_here(model)


def _open(name: str, settings: Settings, images: ImageSource) -> BaseChatModel:
    if (somewhere := remote(name)) is not None:
        return open_named(somewhere, settings, images)
    url = settings.model_address(name)
    if url is None:
        raise ModelNotFound("A gateway needs the address of a model server in VISAVIS_MODEL_URL.")
    patience_s = SHORT_PATIENCE_S if settings.fallback else PATIENCE_S
    return VisavisChatModel(
        base_url=url,
        keep_connections=True,
        image_source=images,
        model_name=shown_name(name),
        patience_s=patience_s,
        context_tokens=FOREIGN_TOKENS if settings.context_tokens is None and name.startswith(FOREIGN) else None,
    )


def start_lines(settings: Settings) -> list[str]:
    """What whoever starts a server is told about models of somebody else's: a sentence each.

    Raises:
        ModelNotFound: one of them cannot be used.
    """
    named = [(name, remote(name)) for name in named_models(settings)]
    told = [line for _, elsewhere in named if elsewhere for line in told_at_start(open_named(elsewhere, settings))]
    ours = [shown_name(name) for name, elsewhere in named if elsewhere is None and not name.startswith(FOREIGN)]
    if settings.instructions and ours:
        told.append(f"VISAVIS_INSTRUCTIONS are not for {', '.join(ours)}: no system prompt is read there.")
    if settings.fallback:
        told.append(f"When a model does not answer, the next one is: {', '.join(map(shown_name, settings.fallback))}.")
    return told
