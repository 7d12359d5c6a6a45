"""Settings of visavis: where they come from and what is refused.

Holds the one frozen `Settings` object and is the only module that reads the environment. Knows nothing of who uses a
setting; checks here are about single values and their combinations, not about the machine (see `doctor` for that).
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from visavis.dialogue.limits import ImageLimits, Limits

PREFIX = "VISAVIS_"
EMBEDDED = "embedded"
TRACING = ("LANGSMITH_TRACING", "LANGCHAIN_TRACING")
PLATFORMS = ("SLACK_", "DISCORD_")
SHORTEST_SECRET = 32  # as many bytes as SHA-256 gives, RFC 7518


class SettingsError(ValueError):
    """A setting cannot be used; the message is one sentence that names it."""


def _also(name: str) -> AliasChoices:
    """A token is found under our own name or under the one that the platform's documentation uses."""
    return AliasChoices(PREFIX + name, name, name.lower())


class Settings(BaseSettings):
    """Everything that can be set, by flag or by `VISAVIS_<NAME>`; frozen, checked when made."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    data_dir: Path = Field(default_factory=lambda: default_data_dir())
    redis_url: str | None = None
    model: str = EMBEDDED
    more_models: Annotated[tuple[str, ...], NoDecode] = ()
    fallback: Annotated[tuple[str, ...], NoDecode] = ()
    model_url: str | None = None
    model_urls: dict[str, str] = Field({}, description="addresses of model servers by the names of their models")
    model_api_key: str | None = Field(None, repr=False)
    model_timeout_s: float = Field(60.0, gt=0, description="how long the next word of somebody else's model may take")
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    compiled: bool = True
    threads: int = Field(0, ge=0, le=256, description="threads of the model server; 0 lets it decide")
    gateways: int = Field(1, ge=1, le=64)
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    log_format: Literal["text", "json"] = "text"
    traces: bool = Field(False, description="send OpenTelemetry traces to OTEL_EXPORTER_OTLP_ENDPOINT")
    metrics_port: int = Field(0, ge=0, le=65535, description="where a chat platform's process tells its metrics")

    public_url: str | None = None
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    allow_public: bool = False
    embed_secret: str | None = Field(None, repr=False)
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field((), repr=False)
    image_hosts: Annotated[tuple[str, ...], NoDecode] = ()

    assistant_name: str = Field("", max_length=60)
    greeting: str = Field("", max_length=500)
    instructions: str = Field("", max_length=8_000)
    context_tokens: int | None = Field(None, gt=0, description="2048; of hf: models what they can read")

    slack_bot_token: str | None = Field(None, repr=False, validation_alias=_also("SLACK_BOT_TOKEN"))
    slack_app_token: str | None = Field(None, repr=False, validation_alias=_also("SLACK_APP_TOKEN"))
    slack_signing_secret: str | None = Field(None, repr=False, validation_alias=_also("SLACK_SIGNING_SECRET"))
    slack_port: int = Field(3000, ge=0, le=65535, description="where events come in when there is no app token")
    slack_channels: Annotated[tuple[str, ...], NoDecode] = ()
    slack_api_url: str = "https://slack.com/api/"

    discord_token: str | None = Field(None, repr=False, validation_alias=_also("DISCORD_TOKEN"))
    discord_message_content: bool = Field(False, description="in threads, messages without a mention are answered, too")
    discord_shard: str = Field("0/1", pattern=r"^\d{1,4}/[1-9]\d{0,3}$", description="this copy's part of all servers")
    discord_api_url: str | None = Field(None, description="a proxy of https://discord.com/api/v10")
    discord_file_hosts: Annotated[tuple[str, ...], NoDecode] = ()

    max_image_bytes: int = Field(20 * 1024 * 1024, gt=0)
    max_image_pixels: int = Field(40_000_000, gt=0)
    max_images_per_turn: int = Field(8, gt=0)
    max_text_chars: int = Field(4_000, gt=0)
    max_frame_bytes: int = Field(64 * 1024, gt=0)
    turns_per_minute: int = Field(60, gt=0)
    images_per_minute: int = Field(60, gt=0)
    sockets_per_address: int = Field(200, gt=0)
    session_ttl_s: int = Field(30 * 24 * 3600, gt=0)
    drain_s: float = Field(20.0, ge=0)

    @field_validator(
        *("allowed_origins", "trusted_proxies", "api_keys", "image_hosts", "more_models", "fallback", "slack_channels"),
        "discord_file_hosts",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        value = tuple(origin.rstrip("/") for origin in value)
        for origin in value:
            if origin_of(origin) != origin:
                raise ValueError(f"expected origins such as https://example.org, got {origin!r}")
        return value

    @field_validator("image_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not re.fullmatch(r"(\*\.)?[\w-]+(\.[\w-]+)*(:\d{1,5})?", host):
                raise ValueError(f"expected hosts such as images.example.org or *.example.org, got {host!r}")
        return value

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is not None and origin_of(value) is None:
            raise ValueError(f"expected a URL such as https://chat.example.org, got {value!r}")
        return value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _check_redis_url(self) -> Settings:
        """A rule of its own, because the sentence about a single value repeats it, and this one may hold a password."""
        if self.redis_url is not None and not re.match(r"(rediss?://[^/]+|unix:///)", self.redis_url):
            raise ValueError("--redis-url (VISAVIS_REDIS_URL): expected redis://..., rediss://... or unix:///...")
        return self

    @model_validator(mode="after")
    def _check_embed_secret(self) -> Settings:
        """Apart as well: what is wrong with a secret is said without it."""
        if self.embed_secret is not None and len(self.embed_secret.encode()) < SHORTEST_SECRET:
            raise ValueError(f"VISAVIS_EMBED_SECRET: expected at least {SHORTEST_SECRET} bytes")
        return self

    @model_validator(mode="after")
    def _refuse_open_bind(self) -> Settings:
        if not is_loopback(self.host) and not self.allow_public and self.embed_secret is None:
            raise ValueError(
                f"{self.host} can be reached from other machines, and whoever reaches it may chat; "
                "add --allow-public (VISAVIS_ALLOW_PUBLIC=1) if that is wanted, or let in those only who bring a token "
                "(VISAVIS_EMBED_SECRET)"
            )
        return self

    @property
    def limits(self) -> Limits:
        """What one client may send, in the dialogue's words."""
        return Limits(
            image=ImageLimits(max_bytes=self.max_image_bytes, max_pixels=self.max_image_pixels),
            max_images=self.max_images_per_turn,
            max_characters=self.max_text_chars,
            max_frame_bytes=self.max_frame_bytes,
            turns_per_minute=self.turns_per_minute,
            images_per_minute=self.images_per_minute,
            sockets_per_address=self.sockets_per_address,
        )

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host = self.host if self.host not in ("0.0.0.0", "::") else "127.0.0.1"
        return self.public_url or f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def model_address(self, name: str) -> str | None:
        """Where the model server of one of our models is."""
        return self.model_urls.get(name) or (self.model_url if name == self.model else None)

    def child_environment(self, **more: str) -> dict[str, str]:
        """The environment in which a child process reads these same settings (secrets never show in `ps`). LangChain's
        tracing stays behind: it would send every conversation to somebody, whatever model is asked; and so do variables
        that the platforms' own libraries read."""
        own = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, *TRACING, *PLATFORMS))}
        return own | _as_variables(self) | more


def _as_variables(settings: Settings) -> dict[str, str]:
    values = settings.model_dump(mode="json", exclude_none=True)
    return {PREFIX + name.upper(): _as_text(value) for name, value in values.items()}


def _as_text(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return ",".join(value) if isinstance(value, list) else str(value)


def load_settings(**flags: Any) -> Settings:
    """Read the environment, overridden by the flags that are not None.

    Raises:
        SettingsError: naming the first setting that cannot be used, what was expected and what came.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0]).lower().removeprefix(PREFIX.lower())
    return f"--{name.replace('_', '-')} ({PREFIX}{name.upper()}): {message}, got {first['input']!r}"


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/visavis`, by default `~/.local/share/visavis`."""
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "visavis"


def origin_of(url: str) -> str | None:
    """`scheme://host[:port]` of a web address in lower case, None if it is not one."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is no number
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    return f"{parts.scheme}://{parts.netloc.lower()}"


def is_loopback(host: str) -> bool:
    """Whether a bind to this host can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
