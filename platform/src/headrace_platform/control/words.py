"""Kinds of words and numbers that the fields of a `ModelDeployment` hold, each with its bound."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

# Of a DNS label.
NAME_CHARACTERS_MAX = 63

Label = Annotated[
    str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
"""A DNS label: an object's or a profile's name."""

ObjectName = Annotated[str, Meta(min_length=1, max_length=253, pattern="^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
"""The name of a Secret, a claim or a class in Kubernetes."""

Host = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]

Identifier = Annotated[str, Meta(min_length=1, max_length=128, pattern="^[A-Za-z0-9][-A-Za-z0-9._]*$")]
"""An organisation, as billing names it."""

ModelName = Annotated[str, Meta(min_length=1, max_length=128, pattern="^[A-Za-z0-9][-A-Za-z0-9._/:]*$")]
"""A model as clients ask for it."""

Sha256 = Annotated[str, Meta(min_length=64, max_length=64, pattern="^[0-9a-f]{64}$")]
Digest = Annotated[str, Meta(min_length=71, max_length=71, pattern="^sha256:[0-9a-f]{64}$")]
Repository = Annotated[
    str, Meta(min_length=1, max_length=255, pattern=r"^[a-z0-9][-a-z0-9._:]*(/[a-z0-9][-a-z0-9._]*)*$")
]
"""An image without tag or digest."""

Path = Annotated[str, Meta(min_length=1, max_length=1024, pattern="^/[-A-Za-z0-9._/]*$")]
RelativePath = Annotated[str, Meta(min_length=1, max_length=1024, pattern="^[A-Za-z0-9][-A-Za-z0-9._/]*$")]
ClockTime = Annotated[str, Meta(min_length=5, max_length=5, pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Moment = Annotated[
    datetime,
    Meta(
        tz=True,
        extra_json_schema={
            "maxLength": 25,
            "pattern": "^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[-+][0-9]{2}:[0-9]{2})$",
        },
    ),
]
"""RFC 3339 to the second, as Kubernetes writes its own; always with its zone."""

TimeZone = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z][-+A-Za-z0-9_/]*$")]
LabelKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=316,
        pattern=r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$",
    ),
]
LabelValue = Annotated[str, Meta(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?)?$")]
