"""What is said without the model, and what must be left to it."""

import pytest

from visavis.models.replies import NO_PICTURE, NO_WORDS, UNREADABLE, is_small_talk, reply_without_model
from visavis.models.text_checks import clean_text, is_readable


@pytest.mark.parametrize(
    "question",
    ["hi", "Hello!", "hey there :)", "Good morning", "thanks", "Thank you so much!", "ok, thanks", "bye",
     "How are you?", "What can you do?", "who are you?", "help", "Are you a bot?", "how does this work?"],
)  # fmt: skip
def test_small_talk_is_answered_in_character(question: str) -> None:
    assert is_small_talk(question)
    for has_picture in (True, False):
        reply = reply_without_model(question, has_picture=has_picture)
        assert reply and reply not in NO_PICTURE


@pytest.mark.parametrize(
    "question",
    ["What is this?", "hi, what color is it?", "is the man saying hello?", "What are they doing?", "thanks. is it red?",
     "Describe the picture.", "Who is he?", "what do you see?", "42",
     "What does 猫 mean in the picture?", "¿Qué es esto?", "What color is it? In one word."],
)  # fmt: skip
def test_questions_about_the_picture_are_left_to_the_model(question: str) -> None:
    assert reply_without_model(question, has_picture=True) is None
    assert reply_without_model(question, has_picture=False) in NO_PICTURE


@pytest.mark.parametrize(
    "question", ["这是什么？", "Что это?", "これは何ですか", "ما هذا؟", "यह क्या है?", "猫 is это что такое"]
)
def test_scripts_that_are_not_read_get_an_honest_sentence(question: str) -> None:
    for has_picture in (True, False):
        assert reply_without_model(question, has_picture=has_picture) in UNREADABLE


@pytest.mark.parametrize("question", ["?", "😀", "🐱🐱?!", "", "..."])
def test_signs_without_a_word_are_no_question(question: str) -> None:
    assert is_small_talk(question)
    assert reply_without_model(question, has_picture=True) in NO_WORDS
    assert reply_without_model(question, has_picture=False) in NO_PICTURE


def test_the_same_question_gets_the_same_words_and_others_vary() -> None:
    questions = [f"what is number {number}?" for number in range(20)]
    replies = [reply_without_model(question, has_picture=False) for question in questions]
    assert replies == [reply_without_model(question, has_picture=False) for question in questions]
    assert set(replies) == set(NO_PICTURE)


def test_clean_text_leaves_nothing_that_chokes_a_tokenizer() -> None:
    assert clean_text(" a\x00b \ud800 ｗｈａｔ\n\tis\u00a0it ") == "a b what is it"
    assert is_readable(clean_text("𝐖𝐡𝐚𝐭 is it"))
