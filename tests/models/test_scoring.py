"""Hand-computed cases of the scoring rules."""

import pytest

from visavis.models.training.scoring import (
    AnswerPrior,
    Polarity,
    TurnScore,
    denies,
    dialogue_scores,
    exact_match,
    is_denial_key,
    normalise,
    polarity,
    turn_counts,
)


def test_normalise_drops_case_articles_and_punctuation() -> None:
    assert normalise("The Dog’s bed, a lamp!") == ["dog's", "bed", "lamp"]
    assert normalise("Twenty-one_chairs") == ["20", "1", "chairs"]


@pytest.mark.parametrize(
    ("reply", "answers", "counts"),
    [
        ("A table.", ["table"], True),
        ("two", ["2"], True),
        ("Garbage bin", ["lamp", "garbage bin"], True),
        ("tables", ["table"], False),
        ("brown table", ["table"], False),
        ("", ["table"], False),
        ("the", ["a"], False),
    ],
)
def test_exact_match(reply: str, answers: list[str], counts: bool) -> None:
    assert exact_match(reply, answers) is counts


def test_prior_prefers_the_same_question_then_its_opening_then_everything() -> None:
    prior = AnswerPrior(
        [
            ("what is on the table?", ["book"]),
            ("What is on the table", ["lamp", "cup"]),
            ("what is on the table", ["lamp"]),
            ("what is on the wall", ["cup"]),
            ("what is on the bed", ["cup"]),
            ("how many chairs", ["2"]),
            ("how many lamps", ["2"]),
            ("how many beds", ["2"]),
            ("how many doors", ["2"]),
        ]
    )
    assert prior.answer("what is on the table") == "lamp"
    assert prior.answer("what is on the floor?") == "cup"
    assert prior.answer("where is he") == "2"


def test_prior_needs_answers() -> None:
    with pytest.raises(ValueError, match="got none"):
        AnswerPrior([("what is it", ())])


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Yes, there is no doubt.", Polarity.YES),
        ("Right, nobody is on it.", Polarity.YES),
        ("It is, there are no leaves on it.", Polarity.YES),
        ("He does.", Polarity.YES),
        ("They both are, yes.", Polarity.YES),
        ("They seem to be holding hands, yes.", Polarity.YES),
        ("No, it is black.", Polarity.NO),
        ("I don’t see any, just green plants.", Polarity.NO),
        ("It is not wearing a sweater.", Polarity.NO),
        ("He isn't.", Polarity.NO),
        ("There is nobody.", Polarity.NO),
        ("It is brown.", None),
        ("Northern lights.", None),
        ("A red shirt, not a blue one.", None),
        ("", None),
    ],
)
def test_polarity(reply: str, expected: Polarity | None) -> None:
    assert polarity(reply) is expected


@pytest.mark.parametrize(
    "reply",
    [
        "No.",
        "Nobody is riding it.",
        "I don't see a cat, only a dog.",
        "There is no ball in the photo.",
        "I can't tell.",
        "The photo does not show her name.",
        "I see no bike.",
        "That is not visible.",
    ],
)
def test_denials(reply: str) -> None:
    assert denies(reply)
    assert turn_counts(reply, "unknown")
    assert turn_counts(reply, "no cat")


@pytest.mark.parametrize("reply", ["He is not old.", "A brown dog.", "She knows him.", "It is red, not blue.", ""])
def test_no_denials(reply: str) -> None:
    assert not denies(reply)


def test_denial_keys_are_unknown_and_no_something() -> None:
    assert is_denial_key("Unknown")
    assert is_denial_key("no third dog")
    assert not is_denial_key("no")
    assert not is_denial_key("north")


@pytest.mark.parametrize(
    ("reply", "short", "counts"),
    [
        ("Her costume is bright red.", "red", True),
        ("They are on the benches.", "bench", True),
        ("It has two puppies and a cookie.", "puppy", True),
        ("It has a cookie.", "cookies", True),
        ("The women carry children.", "the child", True),
        ("Two dogs are there.", "2", True),
        ("It is black and white.", "white and black", True),
        ("He is covered.", "red", False),  # not inside another word
        ("The big dog has the ball.", "small dog", False),
        ("Yes.", "no", False),
        ("It is not, no.", "no", True),
        ("one two three four five six seven eight nine ten x x x x red", "red", True),
        ("one two three four five six seven eight nine ten x x x x x red", "red", False),  # the 16th word
        ("", "red", False),
    ],
)
def test_turn_counts(reply: str, short: str, counts: bool) -> None:
    assert turn_counts(reply, short) is counts


def test_dialogue_scores() -> None:
    turns = [
        TurnScore("red", 0, True),
        TurnScore("yes", 0, True),
        TurnScore("yes", 1, False),
        TurnScore("no", 2, True),
        TurnScore("no cat", 1, False),
        TurnScore("unknown", 3, True),
        TurnScore("two", 1, False),
        TurnScore("ball", 2, True),
    ]
    assert dialogue_scores(turns) == {
        "accuracy": pytest.approx(5 / 8),
        "first": 1.0,
        "later": 0.5,
        "first_open": 1.0,
        "later_open": 0.5,
        "yes_no_balanced": 0.75,
        "false_premise": 0.5,
        "n": 8,
    }


def test_dialogue_scores_of_nothing_are_none() -> None:
    scores = dialogue_scores([TurnScore("yes", 0, True)])
    assert scores["yes_no_balanced"] is None
    assert scores["false_premise"] is None
    assert scores["later"] is None
