"""Settings -> store, chat models and dialogue manager: what a gateway and a platform's process have in common.

Talks to nobody when it is made; everything is opened by entering it.
"""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType

from langchain_core.language_models import BaseChatModel

from visavis.bot.chat_models import shown_name
from visavis.bot.feedback_folder import feedback_folder
from visavis.bot.instruments import Instruments
from visavis.bot.model_offer import ModelOffer, create_chat_models
from visavis.bot.settings import Settings
from visavis.dialogue.context import CONTEXT_TOKENS, Budget
from visavis.dialogue.errors import StoreTooNew, StoreUnavailable
from visavis.dialogue.image_worker import ImageWorkers
from visavis.dialogue.limits import Persona
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.model_choice import ModelChoice
from visavis.dialogue.store import open_store

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379"
_LOOK_S = 2.0
VARIATION = {"temperature": 0.5, "top_p": 0.8}  # of an answer that is asked for again


async def refuse_newer_store(settings: Settings) -> None:
    """End the process with a sentence when a later version has used the store; one that does not answer may come."""
    store = open_store(settings.redis_url or DEFAULT_REDIS_URL)
    try:
        async with asyncio.timeout(_LOOK_S):
            await store.ping()
    except StoreTooNew as error:
        print(f"visavis: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except (StoreUnavailable, TimeoutError):
        pass
    finally:
        await store.aclose()


class Conversations:
    """The parts of one process, in use while it is entered. A given `chat_model` takes the place of the settings'."""

    def __init__(self, settings: Settings, chat_model: BaseChatModel | None = None) -> None:
        self.store = open_store(settings.redis_url or DEFAULT_REDIS_URL, ttl_s=settings.session_ttl_s)
        self.offer = (
            create_chat_models(settings, self.store.images)
            if chat_model is None
            else ModelOffer(ModelChoice({shown_name(settings.model): chat_model}), unasked=chat_model)
        )
        self.workers = ImageWorkers()
        instruments = Instruments()
        self.metrics = instruments.metrics
        self.manager = DialogueManager(
            self.store,
            self.offer.choice,
            settings.limits,
            variation=VARIATION,
            normalise=self.workers.normalise,
            on_forget=feedback_folder(settings.data_dir).forget,
            budget=Budget(tokens=settings.context_tokens or CONTEXT_TOKENS, instructions=settings.instructions),
            persona=Persona(settings.assistant_name, settings.greeting),
            observer=instruments,
        )

    async def __aenter__(self) -> Conversations:
        await self.manager.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.manager.__aexit__(kind, error, trace)
        finally:
            await self.workers.aclose()
            for model in self.offer.choice.models.values():
                await _close(model)
            await self.store.aclose()


async def _close(model: BaseChatModel) -> None:
    close = getattr(model, "aclose", None)
    if close is not None:
        await close()
