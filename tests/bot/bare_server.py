"""A websocket endpoint under the gateway's own server settings that does nothing: what a socket costs by itself."""

import asyncio
import socket
import sys

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from visavis.bot.gateway import GatewayServer, server_config
from visavis.bot.settings import load_settings


async def healthz(request: object) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.receive()


def main() -> None:
    app = Starlette(routes=[Route("/healthz", healthz), WebSocketRoute("/chat", chat)])
    with socket.socket(fileno=int(sys.argv[-1])) as listener:
        asyncio.run(GatewayServer(server_config(app, load_settings())).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
