"""Composition root of a gateway: Settings -> store, chat model, dialogue manager -> one Starlette app.

The only place where the parts meet. Talks to nobody when the app is made; everything is opened by the app's lifespan.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from langchain_core.language_models import BaseChatModel
from starlette.applications import Starlette
from starlette.middleware import Middleware

from visavis.bot.access import AccessMiddleware, AccessRules
from visavis.bot.alt_texts import AltTexts
from visavis.bot.auth import Identities
from visavis.bot.chat_models import shown_name
from visavis.bot.feedback_folder import feedback_folder
from visavis.bot.model_offer import ModelOffer, create_chat_models
from visavis.bot.openai_api.keys import ApiKeys
from visavis.bot.openai_api.pictures import Pictures
from visavis.bot.openai_api.routes import OpenAiApi
from visavis.bot.openai_api.url_fetcher import UrlFetcher
from visavis.bot.routes import EXCEPTION_HANDLERS, Gateway
from visavis.bot.settings import Settings, is_loopback
from visavis.bot.web_files import web_routes
from visavis.dialogue.context import Budget
from visavis.dialogue.image_worker import ImageWorkers
from visavis.dialogue.limits import Persona
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.model_choice import ModelChoice
from visavis.dialogue.store import open_store

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379"
VARIATION = {"temperature": 0.5, "top_p": 0.8}  # of an answer that is asked for again


def create_app(settings: Settings, *, chat_model: BaseChatModel | None = None) -> Starlette:
    """The app of one gateway. A given `chat_model` takes the place of the one that the settings name."""
    store = open_store(settings.redis_url or DEFAULT_REDIS_URL, ttl_s=settings.session_ttl_s)
    offer = create_chat_models(settings, store.images) if chat_model is None else _only(chat_model, settings)
    workers = ImageWorkers()
    manager = DialogueManager(
        store,
        offer.choice,
        settings.limits,
        variation=VARIATION,
        normalise=workers.normalise,
        on_forget=feedback_folder(settings.data_dir).forget,
        budget=Budget(tokens=settings.context_tokens, instructions=settings.instructions),
        persona=Persona(settings.assistant_name, settings.greeting),
    )
    identities = Identities(settings.embed_secret)
    api = create_api(offer.choice.models, manager, workers, settings)
    alt_texts = AltTexts(offer.unasked, store.images)
    gateway = Gateway(manager, store, identities, api, alt_texts, model_urls=offer.needed)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            async with manager:
                yield
        finally:
            await workers.aclose()
            for model in offer.choice.models.values():
                await _close(model)
            await store.aclose()

    app = Starlette(
        routes=[*gateway.routes(), *web_routes()],
        middleware=[Middleware(AccessMiddleware, AccessRules(settings))],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.state.gateway = gateway
    return app


def _only(model: BaseChatModel, settings: Settings) -> ModelOffer:
    return ModelOffer(ModelChoice({shown_name(settings.model): model}), unasked=model)


def create_api(
    models: Mapping[str, BaseChatModel], manager: DialogueManager, workers: ImageWorkers, settings: Settings
) -> OpenAiApi:
    """The OpenAI-compatible API; beyond loopback it takes nobody without a key."""
    pictures = Pictures(manager, UrlFetcher(settings.image_hosts), workers.normalise)
    return OpenAiApi(models, manager, pictures, ApiKeys(settings.api_keys, closed=not is_loopback(settings.host)))


def gateway_of(app: Starlette) -> Gateway:
    """The gateway inside of an app that `create_app` made."""
    gateway = app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


async def _close(model: BaseChatModel) -> None:
    close = getattr(model, "aclose", None)
    if close is not None:
        await close()
