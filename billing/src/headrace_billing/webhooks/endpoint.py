"""Where messages go: an address that may be spoken to, and the secret that signs what goes there."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from standardwebhooks import Webhook

from headrace_billing.errors import BillingError
from headrace_billing.webhooks.event import Message
from headrace_contracts.networks import Network, address_of

URL_CHARACTERS_MAX = 1000
SCHEMES = ("https", "http")
NAT64 = IPv6Network("64:ff9b::/96")


class EndpointStatus(StrEnum):
    ENABLED = "enabled"
    DISABLED = "disabled"


class EndpointUrlInvalid(BillingError):
    """Nothing that messages may be sent to."""

    code = "endpoint_url_invalid"


class EndpointDisabled(BillingError):
    """Nothing is sent there at the moment."""

    code = "endpoint_disabled"

    def __init__(self, endpoint: str) -> None:
        super().__init__(f"{endpoint} is disabled: enable it first.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    id: str
    org: str | None
    """Null for the seller's, which hear of every organisation."""
    url: str
    description: str
    events: list[str] | None
    """Null means all."""
    status: EndpointStatus
    disabled_reason: str | None
    secret_number: int
    old_secret_until: datetime | None
    failing_since: datetime | None
    created_at: datetime

    def secret(self, signing_key: bytes, *, number: int | None = None) -> str:
        """Made from the installation's signing key each time, so that it stands in no table and no backup."""
        purpose = f"headrace.webhook/v1:{self.id}:{number or self.secret_number}"
        key = hmac.digest(signing_key, purpose.encode(), hashlib.sha256)
        return f"whsec_{base64.b64encode(key).decode()}"

    def headers(self, message: Message, *, signing_key: bytes, now: datetime) -> dict[str, str]:
        """By the Standard Webhooks specification; two signatures while a secret is rotated."""
        numbers = [self.secret_number]
        if self.old_secret_until is not None and now < self.old_secret_until:
            numbers.append(self.secret_number - 1)
        signatures = [
            Webhook(self.secret(signing_key, number=number)).sign(message.id, now, message.body())
            for number in numbers
        ]
        return {
            "content-type": "application/json",
            "user-agent": "headrace-webhooks/1",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def check_url(url: str, *, allowed: Sequence[Network]) -> str:
    """`url` itself. Raises `EndpointUrlInvalid`.

    What a name resolves to is looked at with each delivery, for it may change after this.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise EndpointUrlInvalid(f"url: {error}.") from error
    if parts.scheme not in SCHEMES or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise EndpointUrlInvalid("url: an address such as https://example.com/hooks is needed.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise EndpointUrlInvalid("url: no user, password or fragment; the signature says who sends.")
    if parts.scheme == "http" and not allowed:
        raise EndpointUrlInvalid("url: only https is sent to.")
    address = address_of(f"[{host}]" if ":" in host else host)
    if address is not None and not may_speak_to(address, allowed=allowed):
        raise EndpointUrlInvalid(f"url: {host} is no public address.")
    return url


def may_speak_to(
    address: IPv4Address | IPv6Address, *, allowed: Sequence[Network], plain: bool = False
) -> bool:
    """Public addresses, and those that the seller's settings name; without TLS the latter alone."""
    if any(address in network for network in allowed):
        return True
    return not plain and address.is_global and not address.is_multicast and not _is_translated(address)


def _is_translated(address: IPv4Address | IPv6Address) -> bool:
    """An IPv6 address that stands for an IPv4 one, which may be inside."""
    return isinstance(address, IPv6Address) and (
        address in NAT64 or address.sixtofour is not None or address.teredo is not None
    )
