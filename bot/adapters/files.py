"""Fetching what somebody posted from the platform's own file servers, with the platform's token or without.

The token goes to hosts of the platform alone: an address of another host is refused, and so is every redirect. Bytes
and time are bounded, and what comes has to be a picture by its type and by its first bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import httpx

from visavis.bot.adapters.platform import FileLink, Limited, wait_told
from visavis.dialogue.errors import BadImage, UnsupportedImage
from visavis.dialogue.images import too_many_bytes
from visavis.dialogue.limits import ImageLimits

TIMEOUT_S = 30.0
_USUAL_WAIT_S = 5.0
_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
_PAGES = (b"<!doctype", b"<html")


class WebPage(BadImage):
    """A web page came in the place of a file, such as one that asks to sign in."""


def check_file(file: FileLink, limits: ImageLimits) -> None:
    """Refuse what the platform itself says is no picture, or too large, before it is fetched.

    Raises:
        UnsupportedImage, ImageTooLarge.
    """
    if file.mime and not file.mime.startswith("image/"):
        raise UnsupportedImage(f"{file.mime[:60]} files are not read; please send JPEG, PNG, WebP or GIF.")
    if file.size > limits.max_bytes:
        raise too_many_bytes(file.size, limits)


async def fetch_file(
    url: str, limits: ImageLimits, *, hosts: Sequence[str], headers: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a picture at `url`, at most `limits.max_bytes`.

    `hosts` are origins such as `https://files.example.com`, or `https://*.example.com` for all below a domain.

    Raises:
        BadImage: another host, a redirect, an error, nothing in time. WebPage. UnsupportedImage: it is no picture.
        ImageTooLarge. Limited.
    """
    if not any(_is_of(url, host) for host in hosts):
        raise BadImage("The file lies on a host that is not the platform's; please post the picture itself.")
    try:
        async with asyncio.timeout(TIMEOUT_S), httpx.AsyncClient(follow_redirects=False, timeout=TIMEOUT_S) as client:
            request = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "visavis"}
            async with client.stream("GET", url, headers={**request, **(headers or {})}) as response:
                return await _read(response, limits)
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadImage("The picture could not be fetched from the platform; please post it again.") from error


async def _read(response: httpx.Response, limits: ImageLimits) -> bytes:
    if response.status_code == 429:
        raise Limited(wait_told(response.headers.get("retry-after"), _USUAL_WAIT_S))
    if response.status_code != 200:
        raise BadImage(f"The platform did not give the picture (status {response.status_code}); please post it again.")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise _web_page()
    if kind and not kind.startswith(_TYPES):
        raise UnsupportedImage(f"{kind[:60]} files are not read; please send JPEG, PNG, WebP or GIF.")
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.max_bytes:
        raise too_many_bytes(int(announced), limits)
    data = bytearray()
    async for piece in response.aiter_raw():
        data += piece
        if len(data) > limits.max_bytes:
            raise too_many_bytes(len(data), limits)
    if bytes(data[:64]).lstrip().lower().startswith(_PAGES):
        raise _web_page()
    return bytes(data)  # what is inside is checked from its header before a pixel is decoded, as of any upload


def _is_of(url: str, host: str) -> bool:
    """Read by the library that makes the request, so that both see the same host."""
    try:
        asked, allowed = httpx.URL(url), httpx.URL(host)
    except httpx.InvalidURL:
        return False
    if (asked.scheme, asked.port) != (allowed.scheme, allowed.port) or asked.userinfo:
        return False
    return asked.host.endswith(allowed.host[1:]) if allowed.host.startswith("*.") else asked.host == allowed.host


def _web_page() -> WebPage:
    return WebPage("The platform sent a web page in the place of the picture.")
