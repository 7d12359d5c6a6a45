"""Answers as they are spoken: pieces of text, then one `Ending`. Of a model alone, or of a session's next turn.

Leaving a stream early stops the work behind it. Knows no HTTP and no form of bodies.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, UsageMetadata
from langchain_core.messages.ai import add_usage

from visavis.bot.openai_api.errors import ApiError
from visavis.dialogue.commands import CommandName, TurnCommand
from visavis.dialogue.errors import BadRequest, DialogueError
from visavis.dialogue.events import TextDelta, TurnCancelled, TurnCompleted, TurnFailed, TurnRestarted
from visavis.dialogue.explaining import Explanation, explain_answer, speaker
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.wire import parse_command

_FULL = ("length", "max_tokens", "max_output_tokens")
_FILTERED = ("content_filter", "safety", "refusal", "blocklist", "prohibited_content", "recitation")


@dataclass(frozen=True)
class Tokens:
    """What an answer took."""

    prompt: int
    completion: int
    image: int = 0


@dataclass(frozen=True)
class Ending:
    """How an answer ended: OpenAI's finish reason, tokens when they are known, and what is beyond OpenAI's fields."""

    finish_reason: str
    tokens: Tokens | None
    extension: Mapping[str, Any]


Answer = AsyncGenerator[str | Ending, None]


@dataclass
class _Spoken:
    text: str = ""
    usage: UsageMetadata | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def add(self, chunk: AIMessageChunk) -> str:
        """The text of the next chunk; a lone surrogate from a careless model could not be sent."""
        self.metadata.update(chunk.response_metadata)
        if chunk.usage_metadata is not None:
            self.usage = add_usage(self.usage, chunk.usage_metadata)
        text = str(chunk.text).encode("utf-8", "replace").decode()
        self.text += text
        return text

    def ending(self) -> Ending:
        tokens = None
        if self.usage is not None:
            details: Any = self.usage.get("input_token_details") or {}
            tokens = Tokens(self.usage["input_tokens"], self.usage["output_tokens"], details.get("image") or 0)
        reason = self.metadata.get("finish_reason") or self.metadata.get("stop_reason")
        told = {name: self.metadata.get(name) for name in ("confidence", "image", "images")}
        return Ending(_openai_reason(reason), tokens, {**told, "finish_reason": reason, "model": self._name()})

    def _name(self) -> str | None:
        name = self.metadata.get("model_name")
        return name if isinstance(name, str) else None


async def answer_of_model(
    model: BaseChatModel,
    messages: list[BaseMessage],
    options: Mapping[str, Any],
    *,
    stop: Sequence[str] = (),
    explain: bool = False,
) -> Answer:
    """What a model says to the messages; raises whatever it raises."""
    spoken = _Spoken()
    stream = model.astream(messages, stop=list(stop) or None, **options)
    async with contextlib.aclosing(cast(AsyncGenerator[AIMessageChunk, None], stream)) as chunks:
        async for chunk in chunks:
            if text := spoken.add(chunk):
                yield text
    ending = spoken.ending()
    if explain:
        image, who = ending.extension["image"], speaker(model, str(spoken.metadata.get("model_name")))
        maps = await _or_nothing(explain_answer(who, messages, spoken.text, image)) if image else None
        ending = Ending(ending.finish_reason, ending.tokens, {**ending.extension, "explanation": maps})
    yield ending


def turn_command(text: str, images: Sequence[str], region: Mapping[str, float] | None, *, manager: DialogueManager,
                 session: str, key: str | None, model: str = "") -> TurnCommand:  # fmt: skip
    """The next turn of a session. With an idempotency `key`, sending it again never asks twice.

    Raises:
        DialogueError: the text is too long, there are too many pictures, or neither.
    """
    turn_id = uuid.uuid4() if key is None else uuid.uuid5(uuid.NAMESPACE_URL, f"{session}/{key}")
    turn: dict[str, Any] = {"type": CommandName.TURN, "id": str(turn_id), "text": text, "images": list(images)}
    turn |= {"model": model} if model else {}
    if region is not None:
        if not images:
            raise BadRequest("A region needs the picture that it lies in, in the same message.")
        turn["region"] = {**region, "image": images[-1]}
    command = parse_command(json.dumps(turn), manager.limits)
    assert isinstance(command, TurnCommand)
    return command


async def answer_in_session(
    manager: DialogueManager, session: str, command: TurnCommand, *, explain: bool = False, lasting: bool = False
) -> Answer:
    """The session's next answer. Leaving early stops the turn, unless it is `lasting`: then the client comes back.

    Raises:
        DialogueError: as `DialogueManager.run_turn`. ApiError: the turn failed.
    """
    said = new = 0
    ended = False
    try:
        async with contextlib.aclosing(manager.run_turn(session, command)) as events:
            async for event in events:
                match event:
                    case TurnRestarted():
                        new = 0
                    case TextDelta():  # what was said before a restart is not said again
                        new += len(event.text)
                        if new > said:
                            yield event.text[said - new :]
                            said = new
                    case TurnFailed():
                        ended = True
                        raise ApiError(event.message, code=event.code)
                    case TurnCompleted() | TurnCancelled():
                        ended = True
                        if event.text[said:]:
                            yield event.text[said:]
                        maps = await _or_nothing(manager.explain(session, command.id)) if explain else None
                        yield _ending_of_turn(event, maps, explain=explain)
    finally:
        if not ended and not lasting:
            with contextlib.suppress(DialogueError):
                await manager.turns.cancel(session, command.id)


def _ending_of_turn(event: TurnCompleted | TurnCancelled, maps: dict[str, Any] | None, *, explain: bool) -> Ending:
    told: dict[str, Any] = {"session": event.session, "turn": event.turn}
    told |= {"explanation": maps} if explain else {}
    if isinstance(event, TurnCancelled):
        nothing = dict.fromkeys(("confidence", "image", "model"))
        return Ending("stop", None, {**told, **nothing, "finish_reason": "cancelled"})
    tokens = Tokens(event.usage.input_tokens, event.usage.output_tokens, event.usage.image_tokens)
    told |= {"confidence": event.confidence, "image": event.image, "finish_reason": "stop", "model": event.model}
    return Ending("stop", tokens, {**told, "left_out": list(event.left_out), "timings": asdict(event.timings)})


async def _or_nothing(explaining: Any) -> dict[str, Any] | None:
    """Heat maps as plain values; None when there are none: another model spoke, or nobody looked."""
    try:
        explanation: Explanation = await explaining
    except DialogueError:
        return None
    maps = asdict(explanation)
    maps.pop("turn")
    return maps


def _openai_reason(reason: object) -> str:
    """Providers have words of their own."""
    word = str(reason or "").lower()
    return "length" if word in _FULL else "content_filter" if word in _FILTERED else "stop"
