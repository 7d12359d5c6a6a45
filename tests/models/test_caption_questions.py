"""Questions made from captions: only what the captions agree on."""

import random

from visavis.models.training.caption_questions import choose, questions_of

DOG = ["A brown dog runs through the snow.", "A brown dog is running in the snow.", "The dog runs in deep snow."]


def asked(*captions: str) -> dict[str, tuple[str, str]]:
    return {item.question: (item.answer, item.short) for item in questions_of(captions)}


def test_color_action_place_and_presence_are_asked() -> None:
    made = asked(*DOG)
    assert made["What color is the dog?"] == ("It is brown.", "brown")
    assert made["Is the dog brown?"] == ("Yes, it is brown.", "yes")
    assert made["What is the dog doing?"] == ("It is running in the snow.", "running")
    assert made["Where is the dog?"] == ("It is in the snow.", "snow")
    assert made["Do you see a dog?"] == ("Yes, there is a dog.", "yes")
    assert made["Is there a child?"] == ("No, I don't see a child.", "no")
    assert made["How many dogs are there?"] == ("There is one dog.", "one")


def test_what_captions_do_not_agree_on_is_not_asked() -> None:
    made = asked("A black dog and two men.", "A white dog with three men.", "Dogs and men.")
    assert not any("color" in question for question in made)
    assert not any(question.startswith("How many") for question in made)


def test_counts_need_two_captions() -> None:
    assert asked("Two dogs play.", "Two brown dogs fight.")["How many dogs are there?"] == (
        "There are two dogs.",
        "two",
    )
    assert "How many dogs are there?" not in asked("Two dogs play.", "Dogs fight.")


def test_a_related_word_forbids_a_denial() -> None:
    assert "Is there a child?" in asked("A dog.", "A dog runs.")
    assert "Is there a child?" not in asked("A dog and a toddler.", "A dog runs.")


def test_one_caption_is_too_few_and_choosing_repeats() -> None:
    assert questions_of(DOG[:1]) == []
    assert choose(DOG, random.Random(3), 2) == choose(DOG, random.Random(3), 2)
    assert 2 <= len(choose(DOG, random.Random(3), 2)) <= 3
