"""A gateway under real uvicorn in the event loop of a test."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from scripted_chat_model import ScriptedChatModel

from visavis.bot.app import create_app, gateway_of
from visavis.bot.gateway import GatewayServer, server_config
from visavis.bot.settings import Settings

RunGateway = Callable[..., AbstractAsyncContextManager[str]]


@contextlib.asynccontextmanager
async def running_gateway(settings: Settings, model: ScriptedChatModel | None = None) -> AsyncIterator[str]:
    """Its address, for as long as it runs."""
    app = create_app(settings, chat_model=model or ScriptedChatModel())
    server = GatewayServer(server_config(app, settings))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await gateway_of(app).drain(1)
            server.should_exit = True
            await task
