"""What a deployment says of the requests that it is sent: its share, whose they are, how long they wait, when it ends.

The gateways act on it by their table, so a change reaches them without a pod being touched; `policy` alone is Serve's.

What came after the first release has no default in the schema. The API server would write one into every object, and
the operator of the release before, which looks after them until the chart is upgraded, refuses a field that it does
not know.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from headrace_platform.control.words import Identifier, Moment

WEIGHT_MAX = 1_000_000
"""That of a Gateway API route's backend."""

WAIT_SECONDS_MAX = 3600
"""Longer than any client waits for a first token."""


class RoutingPolicy(StrEnum):
    LEAST_LOADED = "leastLoaded"  # the less busy of two replicas
    SESSION = (
        "session"  # the same replica for the same `x-session-id`, so that its prefix cache is found again
    )


class Routing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    policy: Annotated[
        RoutingPolicy,
        Meta(
            description="The less busy of two replicas; or the same one for the same `x-session-id`, so that its prefix"
            " cache is found again."
        ),
    ] = RoutingPolicy.LEAST_LOADED
    weight: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=WEIGHT_MAX,
                description="Its share of the sessions for which others would do as well, against theirs; its clusters"
                " divide it. 0 serves only when none of those can. 1 for each cluster where absent.",
            ),
        ]
        | None
    ) = None
    projects: (
        Annotated[
            tuple[Identifier, ...],
            Meta(
                # None of them would read as nobody's, and be everybody's.
                min_length=1,
                max_length=64,
                description="To which alone it is open, and for which it comes first, by their ids at billing; everybody's"
                " where absent.",
            ),
        ]
        | None
    ) = None
    overflow: (
        Annotated[
            bool,
            Meta(
                description="With `tenantRef`: what finds it full or failing may go to the deployments of all. Where"
                " absent it waits, or fails."
            ),
        ]
        | None
    ) = None
    wait_seconds: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=WAIT_SECONDS_MAX,
                description="How long a request may wait for one of its slots; the gateway's `queueWaitSeconds` where"
                " absent.",
            ),
        ]
        | None
    ) = None


class Lifecycle(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    deprecated_at: (
        Annotated[
            Moment,
            Meta(
                description="RFC 3339, to the second; clients are told (`Deprecation`). From then on"
                " other deployments of the model come first."
            ),
        ]
        | None
    ) = None
    sunset_at: (
        Annotated[
            Moment,
            Meta(
                description="The same, when it is expected to be gone (`Sunset`). Nothing takes it away then."
            ),
        ]
        | None
    ) = None
