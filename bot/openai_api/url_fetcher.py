"""Pictures from the network, without letting a client reach into it: allowed hosts only, and no surprise on the way.

The host's name is resolved once, every address it has must be public, and the connection goes to that very address
(a name that changes its mind meets nobody). Redirects, proxies and compressed bodies are refused; bytes and time are
bounded. Knows no pictures.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import SplitResult, urlsplit

import httpx

from visavis.bot.openai_api.errors import ApiError
from visavis.dialogue.errors import ErrorCode
from visavis.dialogue.images import too_many_bytes
from visavis.dialogue.limits import ImageLimits

TIMEOUT_S = 10.0
PORTS = {"http": 80, "https": 443}
_TUNNELS = [ipaddress.ip_network(net) for net in ("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48", "::/96")]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def is_public(address: str) -> bool:
    """False for private, loopback, link-local, reserved, multicast addresses and IPv6 ones that hide an IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in tunnel for tunnel in _TUNNELS):
            return False
    return ip.is_global and not ip.is_multicast


class UrlFetcher:
    """Fetches from `hosts` (`images.example.org`, `*.example.org`, `example.org:8443`); none by default."""

    def __init__(
        self,
        hosts: Sequence[str] = (),
        *,
        resolve: Resolve = resolve,
        may_connect: Callable[[str], bool] = is_public,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._hosts = [host.lower() for host in hosts]
        self._resolve = resolve
        self._may_connect = may_connect
        self._timeout_s = timeout_s

    async def fetch(self, url: str, limits: ImageLimits) -> bytes:
        """The bytes at an address, at most `limits.max_bytes`.

        Raises:
            ApiError: the host is not allowed, or does not give the bytes. ImageTooLarge.
        """
        parts = self._checked(url)
        try:
            async with asyncio.timeout(self._timeout_s):
                address = await self._address(parts)
                return await _get(parts, address, limits)
        except TimeoutError:
            raise _refused(f"{parts.hostname} did not send the picture within {self._timeout_s:g} s.") from None
        except (OSError, httpx.HTTPError, UnicodeError):
            raise _refused(f"{parts.hostname} cannot be reached, or broke off.") from None

    def _checked(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise _refused("This is not an address.") from None
        if parts.scheme not in PORTS or not host or parts.username is not None or parts.password is not None:
            raise _refused("Expected an address such as https://images.example.org/photo.jpg.")
        if not any(_matches(host, port or PORTS[parts.scheme], parts.scheme, allowed) for allowed in self._hosts):
            raise _refused(
                f"Pictures are not fetched from {host} here: send the picture itself as a data URL, or ask whoever "
                "runs this server to allow the host (VISAVIS_IMAGE_HOSTS)."
            )
        return parts

    async def _address(self, parts: SplitResult) -> str:
        host = (parts.hostname or "").rstrip(".")
        addresses = await self._resolve(host, parts.port or PORTS[parts.scheme])
        if not addresses or not all(self._may_connect(address) for address in addresses):
            raise _refused(f"{host} has no public address, or one that is not.")
        return addresses[0]


def _matches(host: str, port: int, scheme: str, allowed: str) -> bool:
    name, _, wanted = allowed.partition(":")
    if port != (int(wanted) if wanted.isdecimal() else PORTS[scheme]):
        return False
    return host.endswith(name[1:]) if name.startswith("*.") else host == name


async def _get(parts: SplitResult, address: str, limits: ImageLimits) -> bytes:
    """Ask the address, in the name of the host (which its certificate must bear)."""
    host = parts.hostname or ""
    port = parts.port or PORTS[parts.scheme]
    target = httpx.URL(
        scheme=parts.scheme,
        host=address,
        port=port,
        raw_path=httpx.URL(parts._replace(fragment="").geturl()).raw_path,
    )
    headers = {"Host": parts.netloc, "Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "visavis"}
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=None) as client,
        client.stream("GET", target, headers=headers, extensions={"sni_hostname": host}) as response,
    ):
        if response.status_code != 200:
            raise _refused(f"{host} answered with status {response.status_code}; redirects are not followed.")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _refused(f"{host} sent a compressed body, which was not asked for.")
        data = bytearray()
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > limits.max_bytes:
                raise too_many_bytes(len(data), limits)
        return bytes(data)


def _refused(message: str) -> ApiError:
    return ApiError(message, code=ErrorCode.BAD_IMAGE, param="image_url")
