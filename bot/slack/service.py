"""The connection with Slack: Socket Mode by default, or HTTP with checked signatures where there is no app token."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import aiohttp
import uvicorn
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.adapter.starlette.async_handler import to_async_bolt_request, to_starlette_response
from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.platform import Limited, PlatformError
from visavis.bot.adapters.process import SetupError, keeps_tokens
from visavis.bot.conversations import Conversations
from visavis.bot.gateway import GatewayServer
from visavis.bot.settings import Settings
from visavis.bot.slack.calls import TIMEOUT_S, SlackRefused, answer, web_client
from visavis.bot.slack.listeners import Listeners
from visavis.bot.slack.platform import SlackPlatform

log = logging.getLogger(__name__)

EVENTS_PATH = "/slack/events"
MOST_BODY_BYTES = 1024 * 1024
_CONNECT_S = 30.0
_WATCH_S = 15.0
_TOKENS = {"slack_bot_token": "xoxb-", "slack_app_token": "xapp-"}


class SlackService:
    """As `process.Service` says. To be made in a running event loop."""

    def __init__(self, settings: Settings, conversations: Conversations) -> None:
        self._settings = settings
        token = settings.slack_bot_token or ""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        self._client = web_client(token, settings.slack_api_url, self._session)
        self._platform = SlackPlatform(self._client, token, settings.slack_api_url)
        self.adapter = Adapter(self._platform, conversations.manager, conversations.store.channel("slack"))
        self._identity = AuthorizeResult(enterprise_id=None, team_id=None)

        async def authorize() -> AuthorizeResult:
            """Known since the start: no event waits for Slack's Web API."""
            return self._identity

        app = AsyncApp(
            logger=logging.getLogger("slack_bolt"),
            client=web_client(None, settings.slack_api_url, self._session),
            authorize=authorize,
            signing_secret=settings.slack_signing_secret or "",
            request_verification_enabled=not settings.slack_app_token,
            process_before_response=True,
        )
        self._app = app
        self._listeners = Listeners(app, self.adapter, self._platform, self._client, settings.slack_channels)
        self._socket: Any = None  # the library's client, which is not typed
        self._watcher: asyncio.Task[None] | None = None
        self._server: _EventServer | None = None

    async def connect(self) -> None:
        """Begin to receive; raises `SetupError`, `PlatformError`."""
        check_tokens(self._settings)
        try:
            self._identity = identity = await identify(self._client)
            self._platform.bot_user = identity.bot_user_id or ""
            if self._settings.slack_app_token:
                await self._open_socket()
                self._watcher = asyncio.create_task(self._watch_socket())
            else:
                self._server = _EventServer(self._app)
                await self._server.start(self._settings.host, self._settings.slack_port)
        except SlackRefused as error:
            raise SetupError(
                f"{error}. `visavis slack --check` tells what is missing; docs/slack.md how to set it up."
            ) from None
        log.warning("connected to Slack as %s in %s", identity.get("user"), identity.get("team"))

    async def disconnect(self) -> None:
        """Receive nothing more; events that come now are brought to another process, or later."""
        if self._watcher is not None:
            self._watcher.cancel()
        if self._socket is not None:
            await self._socket.close()
        if self._server is not None:
            await self._server.stop()

    async def aclose(self) -> None:
        """Let go of everything."""
        await self.disconnect()
        await self._listeners.aclose()
        await self._session.close()

    async def _open_socket(self) -> None:
        """The library would try one address again and again; here each try gets a new one."""
        if self._socket is not None:
            await self._socket.close()
        handler = AsyncSocketModeHandler(self._app, self._settings.slack_app_token, web_client=self._client)
        client: Any = handler.client
        self._socket = client
        try:
            opened = await answer(self._client.apps_connections_open(app_token=self._settings.slack_app_token or ""))
            client.wss_uri = opened["url"]
            async with asyncio.timeout(_CONNECT_S):
                await client.connect()
        except TimeoutError:
            await client.close()
            raise PlatformError("Slack's socket cannot be opened") from None
        except PlatformError:
            await client.close()
            raise

    async def _watch_socket(self) -> None:
        """Open the socket anew when the library has not managed to for a while."""
        missing = 0
        while True:
            await asyncio.sleep(_WATCH_S)
            is_there = self._socket is not None and await self._socket.is_connected()
            missing = 0 if is_there else missing + 1
            if missing >= 3:
                missing = 0
                try:
                    await self._open_socket()
                except SlackRefused as error:  # such as a token that was revoked: only the operator can help
                    log.error("nothing is heard of Slack any more: %s", error)
                except PlatformError as error:
                    log.warning("nothing is heard of Slack at the moment: %s", error)
                    await asyncio.sleep(error.retry_after_s if isinstance(error, Limited) else 0)


class _EventServer:
    """Where Slack sends events by HTTP; the signature is checked by the app."""

    def __init__(self, app: AsyncApp) -> None:
        self._app = app
        routes = [
            Route(EVENTS_PATH, self._events, methods=["POST"]),
            Route("/healthz", lambda _: PlainTextResponse("ok")),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
        self._server = GatewayServer(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> None:
        try:
            listener = socket.create_server((host, port))
        except OSError as error:
            raise SetupError(
                f"Slack's events cannot be received on port {port} of {host}: {error.strerror}."
            ) from error
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)

    async def _events(self, request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_BODY_BYTES:
                return Response(status_code=413)
        try:
            asked = to_async_bolt_request(request, bytes(body))
        except (ValueError, RecursionError):  # brackets in brackets
            return Response(status_code=400)
        return to_starlette_response(await self._app.async_dispatch(asked))


def check_tokens(settings: Settings) -> None:
    """Raises `SetupError`: tokens are missing, or of another kind; never with the token."""
    for name, prefix in _TOKENS.items():
        value = getattr(settings, name)
        if value is not None and not value.startswith(prefix):
            raise SetupError(f"VISAVIS_{name.upper()}: expected a token that begins with {prefix}.")
    if not keeps_tokens(settings.slack_api_url):
        raise SetupError("VISAVIS_SLACK_API_URL: expected an address with https, for the tokens are sent there.")
    if not settings.slack_bot_token:
        raise SetupError("Slack needs VISAVIS_SLACK_BOT_TOKEN; docs/slack.md tells where to find it.")
    if not (settings.slack_app_token or settings.slack_signing_secret):
        raise SetupError(
            "Slack needs VISAVIS_SLACK_APP_TOKEN (Socket Mode) or VISAVIS_SLACK_SIGNING_SECRET (HTTP); see "
            "docs/slack.md."
        )


async def identify(client: Any) -> AuthorizeResult:
    """Who we are in which workspace, with the scopes of the token; raises as `answer`."""
    told = await answer(client.auth_test())
    scopes = next((value for name, value in told.headers.items() if name.lower() == "x-oauth-scopes"), "")
    return AuthorizeResult(
        enterprise_id=told.get("enterprise_id"),
        team_id=told.get("team_id"),
        team=told.get("team"),
        bot_id=told.get("bot_id"),
        bot_user_id=told.get("user_id"),
        user=told.get("user"),
        bot_token=client.token,
        bot_scopes=[scope.strip() for scope in str(scopes).split(",") if scope.strip()],
    )
