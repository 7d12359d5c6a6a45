"""Where in the picture a stored answer came from: asked of the model anew, with what is stored beside the answer.

Knows the chat model only by its optional `explain(messages, answer)`, which gives words with `start`, `end` and `rows`
of heat; a model without it cannot tell.
"""

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from visavis.dialogue.context import Budget, build_messages
from visavis.dialogue.errors import BadRequest, ModelFailed, UnknownTurn
from visavis.dialogue.events import TurnCompleted
from visavis.dialogue.model_choice import ModelChoice
from visavis.dialogue.turns import Session

logger = logging.getLogger(__name__)

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class WordMap:
    """A word of the answer's text (`start` up to `end`) and its map, as in `Explanation`."""

    start: int
    end: int
    map: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The picture looked at and a map a word; `answer` is the mean of all of them.

    A map is base64 of uint8, row by row, scaled to its own maximum; `grid` is (rows, columns).
    """

    turn: str
    image: str
    grid: tuple[int, int]
    answer: str
    words: tuple[WordMap, ...]


async def explain_turn(session: Session, turn_id: str, choice: ModelChoice, budget: Budget) -> Explanation:
    """Explain the answer to the turn before which `session` was loaded, by the model that gave it.

    Raises:
        UnknownTurn: it is not there. BadRequest: it has no answer about a picture, or the model cannot tell.
        ModelFailed: the model did not manage.
    """
    if session.target is None:
        raise UnknownTurn("There is no finished answer to this turn in the conversation.", id=turn_id)
    question, answer = session.target.question, session.target.answer
    if not answer.images:
        raise _nothing_to_explain(turn_id)
    context = build_messages(session, question, budget)
    model = speaker(choice.find(question.model), answer.final.model if isinstance(answer.final, TurnCompleted) else "")
    return await explain_answer(model, context.messages, answer.text, answer.images[0], turn_id)


def speaker(model: BaseChatModel, name: str) -> BaseChatModel:
    """Who has answered as `name`: of a model made of several (with a `speaker` of its own), one of those."""
    several: Any = getattr(model, "speaker", None)
    return model if several is None else several(name) or model


async def explain_answer(
    model: BaseChatModel, messages: list[BaseMessage], answer: str, image: str, turn_id: str = ""
) -> Explanation:
    """Explain what a model said to messages, of which `image` is the picture it looked at; raises as `explain_turn`."""
    explain: Any = getattr(model, "explain", None)
    if explain is None:
        raise BadRequest("This model cannot show where it looked.", id=turn_id)
    if not answer:
        raise _nothing_to_explain(turn_id)
    try:
        words = await explain(messages, answer)
    except Exception as error:  # the edge to any model
        logger.warning("an answer could not be explained", exc_info=True)
        raise ModelFailed("The model could not show where it looked.", id=turn_id) from error
    return _explanation(turn_id, image, [(word.start, word.end, word.rows) for word in words])


def _nothing_to_explain(turn_id: str) -> BadRequest:
    return BadRequest("Only an answer about a picture can be explained.", id=turn_id)


def _explanation(turn_id: str, image: str, words: Sequence[tuple[int, int, Rows]]) -> Explanation:
    if not words:
        raise BadRequest("This answer has no words to explain.", id=turn_id)
    first = words[0][2]
    sums = [[sum(rows[y][x] for _, _, rows in words) for x in range(len(first[0]))] for y in range(len(first))]
    maps = tuple(WordMap(start, end, _encode(rows)) for start, end, rows in words)
    return Explanation(turn_id, image, (len(first), len(first[0])), _encode(sums), maps)


def _encode(rows: Rows) -> str:
    hottest = max(max(row) for row in rows) or 1.0
    return base64.b64encode(bytes(round(255 * max(value, 0.0) / hottest) for row in rows for value in row)).decode()
