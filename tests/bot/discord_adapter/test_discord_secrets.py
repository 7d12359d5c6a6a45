"""What goes wrong on the way to Discord is told without the token."""

from __future__ import annotations

import logging
import traceback

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from visavis.bot.adapters.platform import PlatformError
from visavis.bot.discord.replies import platform_errors

SECRET = "Bot very.secret.token"


def a_loop_of_redirects() -> aiohttp.TooManyRedirects:
    headers = CIMultiDictProxy(CIMultiDict({"Authorization": SECRET}))
    url = URL("http://127.0.0.1/again")
    return aiohttp.TooManyRedirects(aiohttp.RequestInfo(url, "GET", headers, url), ())


def test_an_error_does_not_tell_the_headers_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    assert SECRET in repr(a_loop_of_redirects())
    with pytest.raises(PlatformError) as failure, platform_errors():
        raise a_loop_of_redirects()
    told = "".join(traceback.format_exception(failure.value))
    logging.getLogger("visavis").warning("%s", failure.value, exc_info=failure.value)
    assert SECRET not in told + repr(failure.value) + caplog.text
    assert "TooManyRedirects" in caplog.text
