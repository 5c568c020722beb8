"""What keys may name, do and be used from, as the API takes it. What a gateway could not go by stops here."""

from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, Field

from headrace_billing.bodies import PinnedModel
from headrace_contracts.access import KeyScope

MODELS_MAX = 200
CIDRS_MAX = 100
CIDR_CHARACTERS_MAX = 43  # an IPv6 address in full and its prefix length


def _canonical(cidr: str) -> str:
    try:
        return str(ip_network(cidr.strip()))
    except ValueError as error:
        raise ValueError(f"not a network in CIDR notation such as 203.0.113.0/24: {error}") from error


WEIGHT_MAX = 1000
FALLBACK_MODELS_MAX = 8

Models = Annotated[list[PinnedModel], Field(max_length=MODELS_MAX)]
FallbackModels = Annotated[list[PinnedModel], Field(max_length=FALLBACK_MODELS_MAX)]
"""Models, in order, that may answer when the one asked for can't."""
Weight = Annotated[int, Field(ge=1, le=WEIGHT_MAX)]
Scopes = Annotated[list[KeyScope], Field(min_length=1, max_length=len(KeyScope))]
Cidr = Annotated[str, Field(max_length=CIDR_CHARACTERS_MAX), AfterValidator(_canonical)]
Cidrs = Annotated[list[Cidr], Field(min_length=1, max_length=CIDRS_MAX)]
"""Networks; an empty list would shut everybody out, and null lets everybody in."""
