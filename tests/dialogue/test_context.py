from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from visavis.dialogue.context import DESCRIBE, Budget, Context, build_messages
from visavis.dialogue.events import TurnCancelled, TurnCompleted, TurnFailed, Usage
from visavis.dialogue.turns import Exchange, Region, Role, Session, Turn, answer_turn


def exchange(number: int, answer: str = "yes", images: tuple[str, ...] = ()) -> Exchange:
    place = {"session": "s", "turn": str(number), "attempt": 1, "seq": 3}
    final = TurnCompleted(**place, text=answer, html="")
    return Exchange(Turn(str(number), Role.USER, f"question {number}", images), answer_turn(final, 0))


def session(*exchanges: Exchange, newest: tuple[str, ...] = ()) -> Session:
    return Session("s", exchanges, shown=(newest,) if newest else ())


ASK = Turn("now", Role.USER, "What now?")


def image(name: str) -> dict[str, str]:
    return {"type": "image", "file_id": name}


def test_text_only() -> None:
    context = build_messages(session(exchange(1)), ASK, Budget())
    assert context.messages == [
        HumanMessage(content="question 1"),
        AIMessage(content="yes"),
        HumanMessage(content="What now?"),
    ]
    assert context.images == () and context.left_out == ()


def test_own_pictures_come_before_the_text_and_an_empty_text_asks_for_a_description() -> None:
    context = build_messages(session(newest=("old",)), Turn("now", Role.USER, "", ("a", "b")), Budget())
    assert context.messages[0].content == [image("a"), image("b"), {"type": "text", "text": DESCRIBE}]
    assert context.images == ("a", "b")


def test_without_pictures_of_its_own_a_turn_is_about_the_newest_even_when_its_turn_is_out_of_the_window() -> None:
    context = build_messages(session(exchange(1, images=("a",)), newest=("a",)), ASK, Budget(exchanges=0))
    assert context.images == ("a",) and context.messages[-1].content[0] == image("a")
    assert context.left_out == ("1",)


def test_each_picture_is_shown_once_and_earlier_ones_within_the_budget() -> None:
    talk = session(*(exchange(i, images=(name,)) for i, name in enumerate("abca")), newest=("a",))
    shown = [
        [block["file_id"] for block in message.content if block["type"] == "image"]
        if isinstance(message.content, list)
        else []
        for message in build_messages(talk, ASK, Budget(images=1)).messages
        if isinstance(message, HumanMessage)
    ]
    assert shown == [[], [], [], ["a"], []]


def test_a_follow_up_leaves_the_picture_where_it_was_shown_so_that_what_was_said_since_is_known() -> None:
    talk = session(exchange(1, images=("a",)), exchange(2), newest=("a",))
    first, _, _, _, last = build_messages(talk, ASK, Budget()).messages
    assert first.content[0] == image("a")
    assert last.content == "What now?"
    cut = build_messages(talk, ASK, Budget(exchanges=1))
    assert cut.messages[0].content == [image("a"), {"type": "text", "text": "question 2"}]
    assert cut.images == ("a",)


def test_pointing_at_an_earlier_picture_shows_it_again() -> None:
    turn = Turn("now", Role.USER, "What is this?", region=Region("a", 0, 0, 0.5, 0.5))
    context = build_messages(
        session(exchange(1, images=("a",)), exchange(2, images=("b",)), newest=("b",)), turn, Budget()
    )
    assert context.images == ("a",)
    assert context.messages[-1].content[0]["extras"]["region"]["w"] == 0.5


def test_a_follow_up_is_about_the_newest_picture_even_when_the_turn_that_showed_it_failed() -> None:
    failed = TurnFailed(session="s", turn="2", attempt=1, seq=3, code="busy", message="x")
    lost = Exchange(Turn("2", Role.USER, "Look.", ("b",)), answer_turn(failed, 0))
    messages = build_messages(session(exchange(1, images=("a",)), lost, newest=("b",)), ASK, Budget()).messages
    assert messages[0].content[0] == image("a") and messages[-1].content[0] == image("b")
    later = session(exchange(1, images=("a",)), lost, exchange(3), newest=("b",))
    messages = build_messages(later, ASK, Budget()).messages
    assert messages[2].content[0] == image("b") and messages[-1].content == "What now?"


def test_failed_and_empty_answers_are_left_away_and_stopped_ones_kept() -> None:
    place = {"turn": "2", "session": "s", "attempt": 1, "seq": 3}
    failed = Exchange(Turn("2", Role.USER, "q"), answer_turn(TurnFailed(**place, code="busy", message="x"), 0))
    silent = Exchange(Turn("2", Role.USER, "q"), answer_turn(TurnCancelled(**place, text=""), 0))
    stopped = Exchange(Turn("2", Role.USER, "q"), answer_turn(TurnCancelled(**place, text="A re"), 0))
    for pair, count in ((failed, 1), (silent, 1), (stopped, 3)):
        assert len(build_messages(session(pair), ASK, Budget()).messages) == count


def test_a_region_goes_with_its_picture() -> None:
    turn = Turn("now", Role.USER, "And this?", ("b", "a"), region=Region("b", 0, 0, 0.5, 1))
    content = build_messages(session(), turn, Budget()).messages[0].content
    assert content[0] == image("a")
    assert content[1] == {**image("b"), "extras": {"region": {"x": 0, "y": 0, "w": 0.5, "h": 1}}}


@given(st.lists(st.text(max_size=300), max_size=12), st.integers(0, 6), st.integers(0, 400))
def test_the_budget_holds_and_the_kept_part_is_the_latest(answers: list[str], exchanges: int, tokens: int) -> None:
    talk = session(*(exchange(i, answer) for i, answer in enumerate(answers)))
    context = build_messages(talk, ASK, Budget(exchanges, tokens))
    kept = [str(message.content) for message in context.messages[:-1]]
    assert len(kept) <= 2 * exchanges and sum(4 + len(text.encode()) // 4 for text in kept) <= tokens
    spoken = [i for i, answer in enumerate(answers) if answer]
    left = len(context.left_out)
    assert context.left_out == tuple(str(i) for i in spoken[:left])
    assert kept[::2] == [f"question {i}" for i in spoken[left:]]


def shown_in(context: Context) -> list[list[str]]:
    """The pictures in each message of the person."""
    contents = [message.content for message in context.messages if isinstance(message, HumanMessage)]
    return [
        [block["file_id"] for block in content if isinstance(block, dict) and block["type"] == "image"]
        if isinstance(content, list)
        else []
        for content in contents
    ]


def test_a_picture_costs_what_the_model_said_that_it_cost() -> None:
    talk = session(exchange(1, images=("a",)), exchange(2, images=("b",)), newest=("b",))
    ask = Turn("now", Role.USER, "And this?", ("c",))
    assert shown_in(build_messages(talk, ask, Budget(tokens=700, image_tokens=257))) == [[], ["b"], ["c"]]
    place = {"session": "s", "turn": "3", "attempt": 1, "seq": 3}
    dear = TurnCompleted(**place, text="yes", html="", image="b", usage=Usage(700, 3, 600))
    dear_talk = session(
        *talk.exchanges, Exchange(Turn("3", Role.USER, "question 3"), answer_turn(dear, 0)), newest=("b",)
    )
    assert shown_in(build_messages(dear_talk, ask, Budget(tokens=1000, image_tokens=257))) == [[], [], [], ["c"]]
    tight = build_messages(dear_talk, ask, Budget(tokens=500))
    assert shown_in(tight) == [["c"]] and tight.left_out == ("1", "2", "3")


def test_order_words_bring_a_picture_back_and_what_follows_stays_with_it() -> None:
    shown = (("a",), ("b",))
    talk = Session("s", (exchange(1, images=("a",)), exchange(2, images=("b",))), shown=shown)
    first = Turn("3", Role.USER, "What is in the first one?")
    context = build_messages(talk, first, Budget())
    assert context.images == ("a",) and shown_in(context) == [[], ["b"], ["a"]]
    asked = exchange(3)
    asked = replace(asked, question=replace(asked.question, about=("a",)))
    later = Session("s", (*talk.exchanges, asked), shown=shown)
    context = build_messages(later, ASK, Budget())
    assert context.images == ("a",) and shown_in(context) == [[], ["b"], ["a"], []]
    newer = Turn("4", Role.USER, "Compare it with the first one.", ("c",))
    assert build_messages(later, newer, Budget()).images == ("a", "c")
    both = Turn("4", Role.USER, "Compare them.")
    assert build_messages(later, both, Budget()).images == ("a", "b")


def test_what_a_picture_costs_is_known_where_several_were_looked_at() -> None:
    place = {"session": "s", "turn": "1", "attempt": 1, "seq": 3}
    seen = TurnCompleted(**place, text="yes", html="", image="a", usage=Usage(1300, 3, 1200, images=3))
    talk = session(Exchange(Turn("1", Role.USER, "question 1", ("a",)), answer_turn(seen, 0)), newest=("a",))
    turn = Turn("now", Role.USER, "And this?", ("b",))
    assert shown_in(build_messages(talk, turn, Budget(tokens=900))) == [["a"], ["b"]]


def test_a_model_may_say_how_much_it_reads() -> None:
    class Roomy:
        context_tokens = 9_000

    assert (Budget().of(Roomy()).tokens, Budget(tokens=70).of(object()).tokens) == (9_000, 70)


def test_the_operators_instructions_come_first_and_count() -> None:
    talk, said = session(exchange(1)), "You are Vera. " * 20
    context = build_messages(talk, ASK, Budget(instructions=said))
    assert context.messages[0] == SystemMessage(content=said) and len(context.messages) == 4
    assert len(build_messages(talk, ASK, Budget(tokens=80, instructions=said)).messages) == 2
