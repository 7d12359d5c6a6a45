"""The chat template: wishes for a short answer in anybody's words, what a question follows from, and what does not."""

import pytest

from visavis.models.prompt import CAPTION_PROMPT, in_one_word, render

HISTORY = (("What is it?", "A dog."), ("What color is it?", "It is brown."), ("Is it asleep?", "No, it runs."))


@pytest.mark.parametrize(
    "question",
    ["What is this? In one word.", "In one word, what is this?", "One word: what is this?", "What is this? One word.",
     "What is this? Answer in one word.", "Answer with a single word: what is this?", "What is this (one word)?",
     "Briefly, what is this?", "Give me a one-word answer: what is this?", "What is this, in a word?",
     "What is this? Just one word please.", "in one word, please: what is this?", "What is this in two words?",
     "Answer briefly: what is this?", "Hi, What is this? In one word.",
     "What is this? Short answer.", "Describe the picture in one word."],
)  # fmt: skip
def test_a_short_answer_is_asked_for_in_one_way(question: str) -> None:
    assert render(question)[0] == in_one_word("What is this?")


@pytest.mark.parametrize(
    "question",
    ["What word is on the sign?", "Is there one word on the sign?", "One word is missing, which?",
     "How many words are there?", "Is he in short pants?", "Read the words."],
)  # fmt: skip
def test_other_questions_stay_as_they_are(question: str) -> None:
    assert render(question, HISTORY[:1]) == (question, "What is it? A dog.")


@pytest.mark.parametrize("question", ["Hello! Is it red?", "Thanks. Is it red?", "ok, great, Is it red?", "Is it red?"])
def test_a_greeting_before_a_question_is_no_part_of_it(question: str) -> None:
    assert render(question) == ("Is it red?", "")
    assert render("Hello!")[0] == "Hello!"


def test_in_one_word_by_itself_asks_the_last_question_again() -> None:
    assert render("In one word?", HISTORY) == (in_one_word("Is it asleep?"), render("", HISTORY[:2])[1])
    assert render("In one word.") == (in_one_word(""), "")


def test_only_the_question_itself_asks_for_a_short_answer() -> None:
    assert render("Where is it?", ((in_one_word("What is it?"), "dog"),)) == ("Where is it?", "What is it? dog")


def test_a_short_talk_is_told_whole_and_of_a_long_one_the_end_newest_first() -> None:
    latest = "Is it asleep? No, it runs. | What color is it? It is brown."
    assert render("Where is it?", HISTORY)[1] == f"{latest} | What is it? A dog."
    assert render("Where is it?", (("Is it big?", "Yes."), *HISTORY))[1] == latest


@pytest.mark.parametrize(
    "question",
    [CAPTION_PROMPT, "What do you see?", "what's going on in this photo?", "Can you describe this image please",
     "Caption this photo.", "And what is in the picture?", "tell me about this scene"],
)  # fmt: skip
def test_who_wants_the_picture_described_follows_from_nothing(question: str) -> None:
    assert render(question, HISTORY) == (question, "")


@pytest.mark.parametrize("question", ["Describe it.", "What do you see behind it?", "What is happening?"])
def test_who_asks_about_a_part_follows_from_what_was_said(question: str) -> None:
    assert render(question, HISTORY)[1]
