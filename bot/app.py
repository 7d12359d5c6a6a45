"""Composition root of a gateway: Settings -> conversations -> one Starlette app.

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
from visavis.bot.conversations import Conversations
from visavis.bot.openai_api.keys import ApiKeys
from visavis.bot.openai_api.pictures import Pictures
from visavis.bot.openai_api.routes import OpenAiApi
from visavis.bot.openai_api.url_fetcher import UrlFetcher
from visavis.bot.routes import EXCEPTION_HANDLERS, Gateway
from visavis.bot.settings import Settings, is_loopback
from visavis.bot.web_files import web_routes
from visavis.dialogue.image_worker import ImageWorkers
from visavis.dialogue.manager import DialogueManager


def create_app(settings: Settings, *, chat_model: BaseChatModel | None = None) -> Starlette:
    """The app of one gateway. A given `chat_model` takes the place of the one that the settings name."""
    parts = Conversations(settings, chat_model)
    offer, manager, store = parts.offer, parts.manager, parts.store
    identities = Identities(settings.embed_secret)
    api = create_api(offer.choice.models, manager, parts.workers, settings)
    alt_texts = AltTexts(offer.unasked, store.images)
    gateway = Gateway(manager, store, identities, api, alt_texts, parts.metrics, model_urls=offer.needed)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with parts:
            yield

    app = Starlette(
        routes=[*gateway.routes(), *web_routes()],
        middleware=[Middleware(AccessMiddleware, AccessRules(settings))],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.state.gateway = gateway
    return app


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
