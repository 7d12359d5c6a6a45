"""A gateway under real uvicorn in the event loop of a test."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import uvicorn
from scripted_chat_model import ScriptedChatModel
from starlette.applications import Starlette

from visavis.bot.app import create_app, gateway_of
from visavis.bot.gateway import GatewayServer, server_config
from visavis.bot.settings import Settings

RunGateway = Callable[..., AbstractAsyncContextManager[str]]


@contextlib.asynccontextmanager
async def running_gateway(settings: Settings, model: ScriptedChatModel | None = None) -> AsyncIterator[str]:
    """Its address, for as long as it runs."""
    async with serving(create_app(settings, chat_model=model or ScriptedChatModel()), settings) as url:
        yield url


@contextlib.asynccontextmanager
async def serving(app: Starlette, settings: Settings) -> AsyncIterator[str]:
    """The address of a gateway's app, for as long as it runs."""
    async with listening(GatewayServer(server_config(app, settings))) as url:
        yield url
        await gateway_of(app).drain(1)


@contextlib.asynccontextmanager
async def listening(server: uvicorn.Server) -> AsyncIterator[str]:
    """The address of a server in this event loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
