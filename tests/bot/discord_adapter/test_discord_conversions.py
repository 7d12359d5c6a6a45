"""What is made of Discord's objects and of the model's text, without a Discord."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.bot.discord.conversions import MESSAGE_LIMIT, place_of, plain_text, without_previews


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("see https://a.example/x?y=1, and", "see <https://a.example/x?y=1>, and"),
        ("**https://a.example/x**", "**<https://a.example/x>**"),
        ("[here](https://a.example/x_(y))", "[here](<https://a.example/x_(y)>)"),
        ("[here](HTTPS://a.example)", "[here](<HTTPS://a.example>)"),
        ("<https://a.example>", "<https://a.example>"),
        ("`https://a.example` https://b.example", "`https://a.example` <https://b.example>"),
        ("```\nhttps://a.example\n```", "```\nhttps://a.example\n```"),
        ("```\nhttps://a.example", "```\nhttps://a.example"),
        ("no link: http:// at all", "no link: http:// at all"),
    ],
)
def test_links_outside_of_code_show_no_preview(before: str, after: str) -> None:
    assert without_previews(before) == after


def test_where_brackets_have_no_room_links_are_none() -> None:
    text = "https://a.example/x " * 100
    assert len(text) <= MESSAGE_LIMIT
    assert "http" not in without_previews(text)
    assert len(without_previews(text)) == len(text)


@given(
    st.text(alphabet="ab `\n<>()[]./:h\N{PARTY POPPER}", max_size=60).map(
        lambda text: f"{text}https://a.example {text}"
    )
)
def test_without_previews_only_adds_brackets(text: str) -> None:
    assert without_previews(text).replace("<", "").replace(">", "") == text.replace("<", "").replace(">", "")


def test_mentions_become_names() -> None:
    assert plain_text("<@1> is <@!22> the one? <@3>", 1, {22: "Bert"}) == "is @Bert the one? @somebody"


def test_a_thread_is_everybodys_place() -> None:
    assert place_of(2, 3, is_thread=True) == "2"
    assert place_of(2, 3, is_thread=False) == "2:3"
