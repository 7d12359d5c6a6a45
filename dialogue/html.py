"""Markdown of an answer -> HTML that is safe to put into a page.

Raw HTML in the answer stays text, pictures are never loaded, links are nofollow. Knows nothing of where it is shown.
"""

import re
from functools import cache

import nh3
from markdown_it import MarkdownIt

_TEXT_TAGS = {"a", "br", "code", "em", "s", "strong"}
_BLOCK_TAGS = {"blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "ul"}
_TABLE_TAGS = {"table", "tbody", "td", "th", "thead", "tr"}
_ATTRIBUTES = {"a": {"href", "title"}, "code": {"class"}, "ol": {"start"}}
_SCHEMES = {"http", "https", "mailto"}
_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9 ,;:.?!'()-]*[A-Za-z0-9,;:.?!'()-])?")
"""A line in which nothing is Markdown, HTML or to be escaped: most answers are such."""


@cache
def markdown() -> MarkdownIt:
    """What reads Markdown here: raw HTML stays text, pictures are not known."""
    options = {"html": False, "breaks": True}
    return MarkdownIt("commonmark", options).enable(["table", "strikethrough"]).disable("image")


def render_html(text: str) -> str:
    """Sanitised HTML of Markdown `text`."""
    if _PLAIN.fullmatch(text):
        return f"<p>{text}</p>"
    return clean_html(markdown().render(text))


def clean_html(html: str) -> str:
    """`html` without all but harmless tags, attributes and addresses."""
    return _cleaner().clean(html).strip()


@cache
def _cleaner() -> nh3.Cleaner:
    """To set one up takes a hundred times as long as to clean an answer."""
    return nh3.Cleaner(
        tags=_TEXT_TAGS | _BLOCK_TAGS | _TABLE_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer nofollow",
    )
