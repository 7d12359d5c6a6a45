"""A gateway like any other, except that its answers have the forced lengths of the benchmark's questions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage
from starlette.applications import Starlette

from visavis.bot.app import create_app
from visavis.bot.bench.workload import forced_length
from visavis.bot.gateway import main
from visavis.bot.settings import Settings
from visavis.dialogue.store import open_store
from visavis.models.chat_model import VisavisChatModel


class ForcedLengths(VisavisChatModel):
    """Asks a model server for answers of exactly as many tokens as the workload wants."""

    def speak(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> AsyncGenerator[str | AIMessageChunk, None]:
        """Those of an answer of the forced length."""
        length = forced_length(str(messages[-1].text).strip())
        return super().speak(messages, stop, min_new_tokens=length, max_new_tokens=length, **kwargs)


def create_bench_app(settings: Settings) -> Starlette:
    """The app of such a gateway; pictures come from the store of the settings."""
    url = settings.model_address(settings.model)
    assert settings.redis_url is not None and url is not None
    images = open_store(settings.redis_url, ttl_s=settings.session_ttl_s).images
    return create_app(settings, chat_model=ForcedLengths(base_url=url, image_source=images, keep_connections=True))


if __name__ == "__main__":
    main(create_bench_app)
