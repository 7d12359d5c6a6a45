import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.dialogue.picture_references import best_match, described_picture, named_pictures

APART = [("a",), ("b",), ("c",)]
TOGETHER = [("x",), ("a", "b", "c")]


@pytest.mark.parametrize(
    ("text", "groups", "found"),
    [
        ("What is in the first one?", APART, "a"),
        ("And the second picture?", APART, "b"),
        ("And the 3rd photo?", APART, "c"),
        ("What does picture 2 show?", APART, "b"),
        ("Look at image number two.", APART, "b"),
        ("And the PREVIOUS   one?", APART, "b"),
        ("Is the other picture brighter?", APART, "b"),
        ("What about the fourth one?", APART, ""),
        ("What is the first letter on the sign?", APART, ""),
        ("Is there one dog?", APART, ""),
        ("What colour is it?", APART, ""),
        ("What was my first question?", APART, ""),
        ("Compare the first and the third picture.", APART, "ac"),
        ("Compare the third one with the first one.", APART, "ca"),
        ("Compare them.", APART, "abc"),
        ("What do both show?", APART, "bc"),
        ("Which one is larger?", APART, "abc"),
        ("What have the pictures in common?", APART, "abc"),
        ("What is in the first one?", TOGETHER, "a"),
        ("What is in the third one?", TOGETHER, "c"),
        ("And the fourth picture?", TOGETHER, "c"),
        ("And the last one?", TOGETHER, "c"),
        ("Compare them.", TOGETHER, "abc"),
        ("What is in the first one?", [("a",)], ""),
        ("What is in the first one?", [], ""),
        ("Compare them.", [("a",), ("a",)], ""),
        ("And the last one?", APART, "c"),
        ("And the latest photo?", [("a",), ("b",), ("a",)], "a"),
        ("And the previous one?", [("a",), ("b",), ("a",)], "b"),
        ("Is this picture brighter?", APART, ""),
        ("And the second?", APART, "b"),
        ("What is the second thing on it?", APART, ""),
        ("Compare pictures 1 and 3.", APART, "ac"),
        ("Compare images one, two & three.", APART, "abc"),
        ("Compare the first and the fourth picture.", TOGETHER, "xc"),
        ("What are the two dogs doing?", APART, ""),
        ("Do the two match?", APART, "bc"),
        ("How do the two differ?", APART, "bc"),
        ("Compare the first two pictures.", APART, "ab"),
        ("What is in the first two?", APART, "ab"),
        ("Compare the last 2 photos.", APART, "bc"),
        ("Are the first three alike?", APART, ""),
        ("Do the first three match?", APART, "abc"),
        ("What do the first two show?", TOGETHER, "ab"),
        ("Compare the last four pictures.", TOGETHER, "xabc"),
        ("What are the first two dogs doing?", APART, ""),
        ("Compare the first five pictures.", APART, "abc"),
    ],
)
def test_order_words_name_pictures(text: str, groups: list[tuple[str, ...]], found: str) -> None:
    assert "".join(named_pictures(text, groups)) == found


@pytest.mark.parametrize(
    ("talked_about", "other"),
    [((), "b"), (("c",), "b"), (("b",), "c"), (("a",), "c"), (("c", "b"), "a"), (("a", "b", "c"), "b")],
)
def test_the_other_picture_is_none_of_those_talked_about(talked_about: tuple[str, ...], other: str) -> None:
    assert named_pictures("And the other one?", APART, talked_about) == (other,)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("What colour is the one with the dog?", "the dog"),
        ("In the picture of my two cats, where is the ball?", "my two cats"),
        ("The photo where people swim is blue.", "people swim"),
        ("What is the dog doing?", ""),
        ("Is it the one?", ""),
    ],
)
def test_a_description_is_found(text: str, what: str) -> None:
    assert described_picture(text) == what


def test_words_that_fit_few_pictures_count_most_and_the_newest_of_equals_wins() -> None:
    said = {"a": "A man and two dogs on grass.", "b": "A man with a cat.", "c": "A man in a red hat."}
    assert best_match("the dog", said) == "a"
    assert best_match("a man and a cat", said) == "b"
    assert best_match("the man", said) == "c"
    assert best_match("an elephant", said) is None
    assert best_match("the", said) is None


@given(st.text(), st.lists(st.lists(st.sampled_from("abcd"), min_size=1).map(tuple)))
def test_any_text_names_only_pictures_that_were_shown(text: str, groups: list[tuple[str, ...]]) -> None:
    found = named_pictures(text, groups)
    assert set(found) <= {image for group in groups for image in group} and len(set(found)) == len(found)
    assert isinstance(described_picture(text), str)
