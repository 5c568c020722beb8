"""One request to an endpoint, as short and as narrow as it can be.

What must stay true: the address that was looked at is the one that is connected to, so a name that resolves to
something else a moment later reaches nothing; no redirect is followed; the answer's body is not read.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import httpx2

from headrace_billing.webhooks.endpoint import may_speak_to
from headrace_contracts.networks import Address, Network, address_of

TOTAL_SECONDS = 15.0
"""From the look-up of the name to the answer's headers: a receiver answers first and works afterwards."""
PORTS = {"https": 443, "http": 80}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Either a status or why there is none."""

    status: int | None
    error: str | None = None

    @property
    def is_taken(self) -> bool:
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_gone(self) -> bool:
        """The receiver wants no more, in the words of the specification."""
        return self.status == HTTPStatus.GONE


async def look_up(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Sender:
    def __init__(
        self,
        *,
        allowed: Sequence[Network] = (),
        resolve: Resolve = look_up,
        tls: ssl.SSLContext | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._total_seconds = total_seconds
        self._client = httpx2.AsyncClient(
            verify=True if tls is None else tls,
            trust_env=False,
            follow_redirects=False,
            timeout=total_seconds,
            # A connection kept would outlive the look-up that allowed its address.
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    async def send(self, url: str, body: str, headers: Mapping[str, str]) -> Answer:
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._send(url, body, headers)
        except TimeoutError:
            return Answer(None, "timed out")
        except httpx2.TimeoutException:
            return Answer(None, "timed out")
        except httpx2.HTTPError as error:
            return Answer(None, type(error).__name__)
        except OSError as error:
            return Answer(None, f"not resolved: {type(error).__name__}")

    async def close(self) -> None:
        await self._client.aclose()

    async def _send(self, url: str, body: str, headers: Mapping[str, str]) -> Answer:
        parts = urlsplit(url)
        host, plain = str(parts.hostname), parts.scheme == "http"
        port = parts.port or PORTS[parts.scheme]
        address = await self._address(host, port, plain=plain)
        if address is None:
            return Answer(None, "address not allowed")
        written = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
        pinned = parts._replace(netloc=f"{written}:{port}").geturl()
        request = self._client.build_request(
            "POST",
            pinned,
            content=body.encode(),
            headers={**headers, "host": parts.netloc},
            extensions={"sni_hostname": host},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()
        return Answer(response.status_code)

    async def _address(self, host: str, port: int, *, plain: bool) -> Address | None:
        """One that may be spoken to, if all are: a name that points inside as well is up to something."""
        literal = address_of(f"[{host}]" if ":" in host else host)
        found: list[IPv4Address | IPv6Address | None] = (
            [literal]
            if literal is not None
            else [
                address_of(f"[{each}]" if ":" in each else each) for each in await self._resolve(host, port)
            ]
        )
        for each in found:
            if each is None or not may_speak_to(each, allowed=self._allowed, plain=plain):
                return None
        return found[0] if found else None
