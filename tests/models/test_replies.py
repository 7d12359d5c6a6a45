"""What is said without the model, and what must be left to it."""

import pytest

from visavis.models.replies import NO_PICTURE, NO_WORDS, UNREADABLE, is_small_talk, reply_without_model
from visavis.models.text_checks import clean_text, is_readable


@pytest.mark.parametrize(
    "question",
    ["hi", "Hello!", "hey there :)", "Good morning", "thanks", "Thank you so much!", "ok, thanks", "bye",
     "How are you?", "What can you do?", "who are you?", "help", "Are you a bot?", "how does this work?",
     "Hi! What can you do?", "so what exactly can you do for me", "Can you tell me what you can do?",
     "can you help me?",
     "what are your capabilities?", "What can I ask you?", "tell me about yourself", "What's your name?",
     "are you human or a robot?", "what model are you?", "can you see pictures?",
     "Hey, nice to meet you, how are you?",
     "great, thank you", "that was helpful, thanks!", "thanks a bunch", "Thanks, that's all. Bye!", "have a nice day",
     "ok", "cool!", "Got it.", "no", "wow, nice", "good job"],
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
     "okay?", "right or left?", "is he ok?", "no, it's a cat", "How do you know?", "what can the dog do?",
     "Are you sure?", "great. who is he?", "what can you do with it?", "what is your dog?",
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


def test_the_weightiest_part_of_small_talk_is_answered() -> None:
    about = reply_without_model("what can you do?", has_picture=True)
    assert reply_without_model("Hi! How are you? What can you do?", has_picture=True) == about
    assert reply_without_model("hello, how are you?", has_picture=True) == reply_without_model(
        "How are you?", has_picture=True
    )
