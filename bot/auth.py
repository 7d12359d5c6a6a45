"""Who a web client is: a visitor by a secret of its own, or whom a host page's server vouches for by an embed token.

An embed token is a JWT signed with the shared secret (HS256): `sub` names the person, `exp` ends it soon, `origin` is
the one page it may be used from. Knows no sockets and no sessions.
"""

from __future__ import annotations

import hashlib
import time

import jwt

from visavis.dialogue.errors import Unauthorized

LONGEST_LIFE_S = 24 * 3600
LEEWAY_S = 30  # between the clocks of two servers
_CLAIMS = ["sub", "exp", "origin"]


class Identities:
    """Turns the `token` of `hello` into a person's name. With a secret only those with an embed token come in."""

    def __init__(self, embed_secret: str | None) -> None:
        self._secret = embed_secret

    def person(self, token: str | None, origin: str | None) -> str:
        """`embed:<subject>`, `web:<hash>`, or empty for somebody who says nothing; `origin` is the page's.

        Raises:
            Unauthorized: what is wrong, never more than the token's sender knows.
        """
        if token is not None and "." in token:
            return f"embed:{self._subject(token, origin)}"
        if self._secret is not None:
            raise Unauthorized("This server takes those only who bring a signed token in 'token'.")
        return "" if token is None else visitor(token)

    def _subject(self, token: str, origin: str | None) -> str:
        if self._secret is None:
            raise Unauthorized("This server takes no signed tokens; a secret of one's own has no dots in it.")
        try:
            claims = jwt.decode(token, self._secret, ["HS256"], options={"require": _CLAIMS}, leeway=LEEWAY_S)
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The signed token has expired; please get a new one.") from None
        except jwt.InvalidTokenError:
            raise Unauthorized("The signed token is not valid here.") from None
        if int(claims["exp"]) > time.time() + LONGEST_LIFE_S + LEEWAY_S:
            raise Unauthorized("The signed token lives for more than a day; it must expire sooner.")
        if origin is None or claims["origin"] != origin:
            raise Unauthorized("The signed token is meant for another page.")
        if not 1 <= len(claims["sub"]) <= 256 or not _is_unicode(claims["sub"]):
            raise Unauthorized("The signed token names nobody.")
        return str(claims["sub"])


def _is_unicode(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which JSON lets through."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def visitor(secret: str) -> str:
    """The person behind a secret that a web client has made up. The secret itself is kept nowhere."""
    return f"web:{hashlib.sha256(secret.encode()).hexdigest()[:32]}"
