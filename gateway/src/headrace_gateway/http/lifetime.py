"""What answers tell of a model's end: `Deprecation` (RFC 9745) and `Sunset` (RFC 8594)."""

from email.utils import formatdate
from functools import lru_cache

from headrace_contracts.deployments import Deployment
from headrace_gateway.http.heads import Headers

DEPLOYMENTS_MAX = 1024


def lifetime_headers(deployment: Deployment) -> Headers:
    """None for a model that goes on."""
    if deployment.deprecated_at is None and deployment.sunset_at is None:
        return []
    return _headers(deployment.deprecated_at, deployment.sunset_at)


@lru_cache(maxsize=DEPLOYMENTS_MAX)
def _headers(deprecated_at: int | None, sunset_at: int | None) -> Headers:
    headers = []
    if deprecated_at is not None:
        headers.append(("deprecation", f"@{deprecated_at}"))
    if sunset_at is not None:
        headers.append(("sunset", formatdate(sunset_at, usegmt=True)))
    return headers
