"""What dialogue hands over, models understand: a follow-up is about the same picture and knows what was said of it."""

from visavis.dialogue.context import Budget, build_messages
from visavis.dialogue.events import TurnCompleted
from visavis.dialogue.turns import Exchange, Region, Role, Session, Turn, answer_turn
from visavis.models.chat_messages import read_conversation

PICTURE, OTHER = "a" * 64, "b" * 64


def talk(*exchanges: tuple[str, str, tuple[str, ...]]) -> Session:
    said = []
    for number, (question, answer, images) in enumerate(exchanges):
        final = TurnCompleted(session="s", turn=str(number), attempt=1, seq=3, text=answer, html="")
        said.append(Exchange(Turn(str(number), Role.USER, question, images), answer_turn(final, 0)))
    return Session("s", tuple(said), shown=tuple(images for _, _, images in exchanges if images))


def test_a_follow_up_knows_picture_and_history() -> None:
    session = talk(("What is it?", "A dog.", (PICTURE,)), ("Is it big?", "No.", ()))
    asked = read_conversation(build_messages(session, Turn("n", Role.USER, "What color is it?"), Budget()).messages)
    assert asked.image == PICTURE
    assert asked.question == "What color is it?"
    assert asked.history == (("What is it?", "A dog."), ("Is it big?", "No."))


def test_a_new_picture_starts_a_new_topic() -> None:
    session = talk(("What is it?", "A dog.", (PICTURE,)))
    asked = read_conversation(build_messages(session, Turn("n", Role.USER, "And this?", (OTHER,)), Budget()).messages)
    assert (asked.image, asked.history) == (OTHER, ())


def test_a_long_talk_keeps_its_picture() -> None:
    session = talk(("What is it?", "A dog.", (PICTURE,)), *(("Sure?", f"Yes, {i}.", ()) for i in range(20)))
    asked = read_conversation(build_messages(session, Turn("n", Role.USER, "Really?"), Budget(exchanges=3)).messages)
    assert asked.image == PICTURE
    assert [answer for _, answer in asked.history] == ["Yes, 17.", "Yes, 18.", "Yes, 19."]


def test_a_region_reaches_the_model() -> None:
    session = talk(("What is it?", "A dog.", (PICTURE,)))
    turn = Turn("n", Role.USER, "What is this?", region=Region(PICTURE, 0.5, 0, 0.5, 1))
    asked = read_conversation(build_messages(session, turn, Budget()).messages)
    assert (asked.image, asked.region) == (PICTURE, {"x": 0.5, "y": 0, "w": 0.5, "h": 1})
