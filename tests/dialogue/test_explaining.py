"""What a model is asked when an old answer is explained, and how its maps go over the wire."""

import base64
from types import SimpleNamespace
from typing import Any

import pytest
from fake_chat_model import FakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import Field

from visavis.dialogue.context import Budget
from visavis.dialogue.errors import BadRequest, DialogueError, ModelFailed, UnknownTurn
from visavis.dialogue.explaining import explain_turn
from visavis.dialogue.model_choice import ModelChoice
from visavis.dialogue.turns import Exchange, Role, Session, Turn

CAT, DOG = "c" * 64, "d" * 64


class ExplainingModel(FakeChatModel):
    """Says where its words came from: the first from the top left, the second from everywhere."""

    explained: list[tuple[list[BaseMessage], str]] = Field(default_factory=list)
    error: Exception | None = None

    async def explain(self, messages: list[BaseMessage], answer: str) -> list[Any]:
        self.explained.append((messages, answer))
        if self.error is not None:
            raise self.error
        return [
            SimpleNamespace(start=0, end=1, rows=((0.5, 0.0), (0.0, 0.0))),
            SimpleNamespace(start=2, end=5, rows=((0.25, 0.25), (0.25, 0.25))),
        ]


def exchange(id: str, question: str, answer: str, image: str = "", shown: str = "") -> Exchange:
    asked = Turn(id, Role.USER, question, (shown,) if shown else ())
    return Exchange(asked, Turn(id, Role.ASSISTANT, answer, (image,) if image else ()))


FIRST = exchange("1", "What is it?", "A cat.", CAT, shown=CAT)
SECOND = exchange("2", "What color?", "Red.", CAT)
THIRD = exchange("3", "And this?", "A dog.", DOG, shown=DOG)
BEFORE_2 = Session("s", (FIRST,), shown=((CAT,),), target=SECOND)
BEFORE_3 = Session("s", (FIRST, SECOND), shown=((CAT,),), target=THIRD)


@pytest.fixture
def model() -> ExplainingModel:
    return ExplainingModel()


async def test_the_model_sees_what_it_saw_then(model: ExplainingModel) -> None:
    explanation = await explain_turn(BEFORE_2, "2", ModelChoice({"m": model}), Budget())
    [(messages, answer)] = model.explained
    assert answer == "Red." and explanation.image == CAT and explanation.turn == "2"
    assert [type(message) for message in messages] == [HumanMessage, AIMessage, HumanMessage]
    assert CAT in str(messages[0].content) and DOG not in str(messages)


async def test_maps_are_scaled_to_their_own_maximum(model: ExplainingModel) -> None:
    explanation = await explain_turn(BEFORE_3, "3", ModelChoice({"m": model}), Budget())
    assert explanation.grid == (2, 2)
    assert [(word.start, word.end) for word in explanation.words] == [(0, 1), (2, 5)]
    maps = [list(base64.b64decode(encoded)) for encoded in (explanation.answer, *(w.map for w in explanation.words))]
    assert maps == [[255, 85, 85, 85], [255, 0, 0, 0], [255, 255, 255, 255]]


async def test_only_finished_answers_are_explained(model: ExplainingModel) -> None:
    with pytest.raises(UnknownTurn):
        await explain_turn(Session("s"), "9", ModelChoice({"m": model}), Budget())


async def test_an_answer_without_a_picture_or_a_model_that_cannot_tell(model: ExplainingModel) -> None:
    words = Session("s", target=exchange("1", "Hello", "Hi!"))
    with pytest.raises(BadRequest, match="about a picture"):
        await explain_turn(words, "1", ModelChoice({"m": model}), Budget())
    with pytest.raises(BadRequest, match="cannot show where it looked") as refused:
        await explain_turn(BEFORE_2, "1", ModelChoice({"m": FakeChatModel()}), Budget())
    assert isinstance(refused.value, DialogueError) and refused.value.id == "1"


async def test_a_model_that_fails_is_one_sentence(model: ExplainingModel) -> None:
    model.error = RuntimeError("secret path /x")
    with pytest.raises(ModelFailed, match="could not show where it looked") as failed:
        await explain_turn(BEFORE_2, "1", ModelChoice({"m": model}), Budget())
    assert "secret" not in str(failed.value)
