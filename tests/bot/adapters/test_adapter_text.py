"""What is made of the model's text: harmless, cut where it reads well, and growing only at its end."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.bot.adapters.text import BREAK, harmless, split_text

ALPHABET = st.sampled_from(
    [
        "<",
        "!",
        "@",
        "#",
        "[",
        "here",
        "everyone",
        "channel",
        "U1",
        "`",
        "```",
        "~~~",
        "\n",
        " ",
        "a",
        "word. ",
        "\u202e",
        "é",
    ]
)
TEXTS = st.lists(ALPHABET, max_size=120).map("".join)


def test_halves_of_characters_which_no_platform_takes_are_left_out() -> None:
    assert harmless("half \ud83d, whole \U0001f600") == "half , whole \U0001f600"


@pytest.mark.parametrize(
    "active",
    [
        "<!channel>",
        "<!here>",
        "<!subteam^S1>",
        "<@U1>",
        "<@&42>",
        "<#C1>",
        "@everyone",
        "@HERE",
        "@channel",
        "![a](http://x)",
    ],
)
def test_nothing_active_is_left(active: str) -> None:
    text = harmless(f"so {active} there")
    assert active not in text
    assert text.replace(BREAK, "") == f"so {active} there"


@pytest.mark.parametrize(
    "plain", ["a@b.example", "1 < 2", "<div>", "vector<int>", "@property", "see [x](http://y)", "a!"]
)
def test_what_is_not_active_stays(plain: str) -> None:
    assert harmless(plain) == plain


@given(TEXTS)
@settings(deadline=None)
def test_what_was_streamed_stays_the_beginning_of_what_comes(text: str) -> None:
    stages = [harmless(text[:length]) for length in range(len(text) + 1)]
    for earlier, later in itertools.pairwise(stages):
        assert later.startswith(earlier)


@given(TEXTS, st.integers(100, 200))
@settings(deadline=None)
def test_parts_fit_and_lose_nothing(text: str, limit: int) -> None:
    parts = split_text(text, limit)
    assert all(len(part) <= limit for part in parts)
    assert all(part.strip() for part in parts)
    if "```" not in text and "~~~" not in text:
        assert "".join("".join(parts).split()) == "".join(text.split())


def test_a_block_of_code_that_is_cut_goes_on_as_one() -> None:
    code = "\n".join(f"line {number}" for number in range(60))
    parts = split_text(f"Look:\n```python\n{code}\n```\nDone.", 200)
    assert len(parts) > 2
    for part in parts:
        assert part.count("```") % 2 == 0
    assert all(part.startswith("```python\n") for part in parts[1:-1])
    assert [line for part in parts for line in part.split("\n") if line.startswith("line")] == code.split("\n")


def test_paragraphs_are_kept_whole_when_they_fit() -> None:
    first, second = "a" * 80, "b" * 80
    assert split_text(f"{first}\n\n{second}", 120) == [first, second]


def test_an_empty_text_is_no_part() -> None:
    assert split_text(" \n", 100) == []
