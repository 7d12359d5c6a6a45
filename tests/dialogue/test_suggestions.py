"""What is suggested to be asked next."""

from __future__ import annotations

import pytest

from visavis.dialogue.events import TurnCompleted
from visavis.dialogue.suggestions import COUNT, suggestions


def after(text: str, *asked: str, confidence: float | None = 0.9, image: str | None = "a") -> tuple[str, ...]:
    answer = TurnCompleted(
        session="s", turn="t", attempt=1, seq=2, text=text, html="", image=image, confidence=confidence
    )
    return suggestions(answer, asked)


def test_what_an_answer_leaves_open_is_suggested() -> None:
    assert after("A black cat.")[:2] == ("What is the cat doing?", "Where was this taken?")
    assert after("Two dogs play.")[:2] == ("What are the dogs doing?", "What color are the dogs?")
    assert after("There is a cup of coffee on a table.")[0] == "What color is the coffee?"
    assert after("A woman with a bus.")[0] == "What is the woman doing?"


def test_what_was_said_or_asked_is_not_suggested() -> None:
    assert after("A brown dog is running through the grass.") == ("Is there a person in the picture?",)
    assert after("It is black.", "Where is the man?", "What colour is it?") == ()
    assert len(after("A woman with a bus.")) <= COUNT


def test_nothing_is_built_on_a_guess() -> None:
    guessed = after("A man is sitting on a bed.", confidence=0.2)
    assert guessed == ("Where was this taken?", "Is there a person in the picture?")


@pytest.mark.parametrize("text", ["No, I don't see a dog.", "There is no dog.", "No dog is in the picture."])
def test_what_is_not_there_is_not_asked_about(text: str) -> None:
    assert not any("dog" in question for question in after(text))


@pytest.mark.parametrize("text", ["一只黑猫。", "", "🐈"])
def test_an_answer_that_is_not_understood_gets_none(text: str) -> None:
    assert after(text) == ()
    assert after("A black cat.", image=None) == ()
