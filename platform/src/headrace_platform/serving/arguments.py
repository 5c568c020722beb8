"""What the Serve application is built from: the `args` of its configuration, flat, with nothing secret in them."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace_platform.catalog.serve import Argument


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationArguments:
    placement: Mapping[str, Any]
    """The catalogue's own: the model, the profile, and how one is divided on the other."""
    deployment: str
    """What the gateway's table calls it."""
    records_url: str
    """Billing's `…/internal/v1/engine-records`."""
    weights_at: str | None = None
    """A folder in place of the one that the model's record names."""
    engine_arguments: tuple[str, ...] = ()
    """Further ones of `vllm serve`."""

    @classmethod
    def read(cls, args: Mapping[str, Any]) -> "ApplicationArguments":
        """From the configuration's `args`; raises `KeyError` for one that is missing."""
        return cls(
            placement=dict(args),
            deployment=args["deployment"],
            records_url=args["records_url"],
            weights_at=args.get("weights_at"),
            engine_arguments=tuple(shlex.split(args.get("engine_arguments", ""))),
        )


def more_arguments(
    *, records_url: str, weights_at: str | None = None, engine_arguments: tuple[str, ...] = ()
) -> dict[str, Argument]:
    """What goes into `args` beside the catalogue's own."""
    more: dict[str, Argument] = {"records_url": records_url}
    if weights_at is not None:
        more["weights_at"] = weights_at
    if engine_arguments:
        more["engine_arguments"] = shlex.join(engine_arguments)
    return more
