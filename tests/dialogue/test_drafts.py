"""Answers in the making: what is shown at any moment is what stays."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.dialogue.drafts import PACE_S, DraftWriter, finished
from visavis.dialogue.html import render_html

ANSWER = """Here are **two things** and `code *here*`:

1. the *first*, see [our page](https://example.org/a)
2. the second ~~not~~

| a | b |
| - | - |
| 1 | 2 |

```python
x = "**"
```

## The end
snake_case stays, 2 * 3 is six."""


def shown_after_each(pieces: list[str]) -> list[str]:
    """The blocks that a page shows after each draft, put together as a page does it."""
    blocks: list[str] = []
    shown = []
    now = 0
    writer = DraftWriter(clock=lambda: now)
    for piece in pieces:
        now += 1
        draft = writer.add(piece)
        if draft is not None:
            blocks = [*blocks[: draft.after], *split(draft.html)]
            shown.append("\n".join(blocks))
    return shown


def split(html: str) -> list[str]:
    """Top-level elements, one a string."""
    parts, depth, start = [], 0, 0
    for tag in re.finditer(r"<(/?)(\w+)[^>]*>", html):
        if tag[2] in ("br", "hr"):
            if depth == 0:
                parts.append(tag[0])
                start = tag.end()
            continue
        if depth == 0:
            start = tag.start()
        depth += -1 if tag[1] else 1
        if depth == 0:
            parts.append(html[start : tag.end()])
    return parts


def test_no_marker_is_ever_seen_and_the_last_draft_is_the_answer() -> None:
    shown = shown_after_each(list(ANSWER))
    assert shown[-1] == "\n".join(split(render_html(ANSWER)))
    for html in shown:
        words = re.sub(r"<pre>.*?(</pre>|$)|<code>.*?</code>|<[^>]*>", "", html, flags=re.DOTALL)
        assert not re.search(r"\*\*|\*(?=\w)|~~|`|\||\[|\]|#|https", words), html


def test_what_is_shown_only_grows() -> None:
    """No line that stood there moves: all but the last block of a draft are in the whole answer as they are."""
    whole = split(render_html(ANSWER))
    for html in shown_after_each(list(ANSWER)):
        blocks = split(html)
        assert blocks[:-1] == whole[: len(blocks) - 1]
        if blocks:
            assert re.match(r"<\w+", blocks[-1])[0] == re.match(r"<\w+", whole[len(blocks) - 1])[0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a **bo", "a **bo**"),
        ("a **bold*", "a **bold**"),
        ("a **", "a"),
        ("a ***b* c", "a ***b* c***"),
        ("**a *b***", "**a *b***"),
        ("2 * 3", "2 * 3"),
        ("`a **b", "`a **b`"),
        ("``a`", "``a``"),
        ("file_name", "file_name"),
        ("see [the pa", "see the pa"),
        ("see [the page](http://exam", "see the page"),
        ("see [the page](http://example.org)", "see [the page](http://example.org)"),
        ("words\n--", "words"),
        ("words\n- ", "words"),
        ("words\n\n| a | b |\n| -", "words"),
        ("```\n**", "```\n**"),
    ],
)
def test_what_is_half_there_is_closed_or_hidden(text: str, shown: str) -> None:
    assert finished(text) == shown


def test_plain_words_make_no_drafts_and_drafts_keep_their_pace() -> None:
    now = 0.0
    writer = DraftWriter(clock=lambda: now)
    assert [writer.add(word) for word in ("A red ball, ", "well-known, on grass.")] == [None, None]
    assert writer.add("\n\n**So") is not None
    assert writer.add(" it** ") is None
    now += PACE_S
    draft = writer.add("is.")
    assert draft is not None and draft.html == "<p><strong>So it</strong> is.</p>" and draft.after == 1


def test_drafts_that_take_long_come_less_often() -> None:
    times = iter([0.0, 1.0, 19.0, 21.0, 21.0])  # the first one takes a second
    writer = DraftWriter(clock=times.__next__)
    assert writer.add("*a*") is not None
    assert writer.add(" b") is None
    assert writer.add(" c") is not None


@given(st.lists(st.text(alphabet="a *_`~#|->[]()\\<&1.\n\r"), max_size=30))
def test_any_text_in_any_pieces_ends_as_safe_blocks(pieces: list[str]) -> None:
    for html in shown_after_each([*pieces, "\n\n*end*"]):
        assert "<img" not in html and "<script" not in html


def test_a_long_line_costs_no_more_than_its_length() -> None:
    for nasty in (
        "\n" * 50_000,
        "1" * 50_000,
        "*a" * 25_000,
        "[" * 50_000,
        "`" * 50_000 + " a",
        "\n1." * 20_000,
        "_a_" * 10_000,
    ):
        assert len(finished(nasty)) < 200_000
