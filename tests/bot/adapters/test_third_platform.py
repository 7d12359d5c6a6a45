"""The example of a platform in the documentation works as it stands, and is short."""

import asyncio
import runpy
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from running_gateway import listening
from scripted_chat_model import ScriptedChatModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from visavis.bot.adapters.process import run_service
from visavis.bot.conversations import Conversations
from visavis.bot.gateway import GatewayServer
from visavis.bot.settings import Settings

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "telegram" / "telegram.py"


class Telegram:
    """A chat with one person, who sends a photo."""

    def __init__(self, photo: bytes) -> None:
        self.photo = photo
        self.messages: dict[int, str] = {}
        self.confirmed = 0
        self.limits = 1

    async def call(self, request: Request) -> Response:
        method, asked = request.path_params["method"], await request.json()
        if method == "sendMessage" and self.limits:
            self.limits -= 1
            told = {"ok": False, "error_code": 429, "description": "flood", "parameters": {"retry_after": 1}}
            return JSONResponse(told, 429)
        return JSONResponse({"ok": True, "result": await self.result(method, asked)})

    async def result(self, method: str, asked: dict[str, Any]) -> Any:
        match method:
            case "getUpdates":
                self.confirmed = max(self.confirmed, asked["offset"])
                await asyncio.sleep(0.05)
                odd = [{"update_id": 5, "message": {"from": {"id": 1}}}, {"update_id": 6, "message": "?"}]
                return [one for one in [*odd, self.update] if self.confirmed <= one["update_id"]]
            case "getFile":
                return {"file_path": f"{asked['file_id']}.jpg"}
            case "sendMessage":
                assert 0 < len(asked["text"]) <= 4096
                self.messages[len(self.messages) + 10] = asked["text"]
                return {"message_id": len(self.messages) + 9}
            case "editMessageText":
                self.messages[asked["message_id"]] = asked["text"]
        return {}

    @property
    def update(self) -> dict[str, Any]:
        chat, sender = {"id": 5, "type": "private"}, {"id": 5, "is_bot": False}
        photo = [{"file_id": "small", "width": 9, "file_size": 1}, {"file_id": "large", "width": 90, "file_size": 1}]
        message = {"message_id": 1, "chat": chat, "from": sender, "photo": photo, "caption": "what is this?"}
        return {"update_id": 7, "message": message}

    async def file(self, request: Request) -> Response:
        return Response(self.photo, media_type="image/jpeg")


async def test_a_third_platform_takes_less_than_150_lines(
    photo: bytes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line for line in EXAMPLE.read_text(encoding="utf-8").split("\n") if line.strip()]
    assert len(lines) < 150
    telegram, model = Telegram(photo), ScriptedChatModel(answer="word " * 2_000)
    methods = Route("/bot{token}/{method}", telegram.call, methods=["POST"])
    app = Starlette(routes=[Route("/file/{path:path}", telegram.file), methods])
    async with listening(GatewayServer(uvicorn.Config(app, log_config=None, lifespan="off"))) as url:
        monkeypatch.setenv("TELEGRAM_TOKEN", "1:a")
        monkeypatch.setenv("TELEGRAM_URL", url)
        conversations, stop = Conversations(settings, model), asyncio.Event()
        service = runpy.run_path(str(EXAMPLE))["TelegramService"](settings, conversations)
        running = asyncio.create_task(run_service(service, conversations, stop, 5))
        async with asyncio.timeout(60):
            while " ".join(telegram.messages.values()).split() != ["word"] * 2_000:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        stop.set()
        await running
    assert len(telegram.messages) == 3
    assert [block["type"] for block in model.asked[0][-1].content] == ["image", "text"]
    assert telegram.confirmed == 8
