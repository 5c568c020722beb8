"""Prices as they are written down: in a request, in the database, in an answer. One form for all three.

A plain price is a decimal string; any other one is an object that names its kind.
"""

from collections.abc import Mapping
from typing import Any

from headrace_billing.money import major, nanos_of
from headrace_billing.rating.book import Prices
from headrace_billing.rating.price import TokenClass, parse_price, price_text
from headrace_billing.rating.schedule import Schedule, ScheduleKind, Tier, checked, flat
from headrace_billing.rating.window import HourWindow

Definition = dict[str, Any]


def prices_of(definition: Mapping[str, Any]) -> Prices:
    """Raises `PriceInvalid` and `AmountInvalid`."""
    batch = definition.get("batch")
    return Prices(
        {kind: schedule_of(definition[kind.value]) for kind in TokenClass},
        {name: parse_price(multiplier) for name, multiplier in definition.get("windows", {}).items()},
        None if batch is None else parse_price(batch),
    )


def schedule_of(written: str | Mapping[str, Any]) -> Schedule:
    """Raises `PriceInvalid` and `AmountInvalid`."""
    if isinstance(written, str):
        return flat(parse_price(written))
    kind = ScheduleKind(written["kind"])
    tiers = written.get("tiers") or [{"price": written.get("price") or ""}]
    return checked(
        Schedule(
            kind,
            tuple(Tier(tier.get("up_to"), parse_price(tier["price"])) for tier in tiers),
            written.get("package_tokens"),
            _nanos(written.get("minimum_charge")),
            _nanos(written.get("maximum_charge")),
        )
    )


def definition_of(prices: Prices) -> Definition:
    written: Definition = {kind.value: written_schedule(prices.by_class[kind]) for kind in TokenClass}
    if prices.windows:
        written["windows"] = {name: price_text(multiplier) for name, multiplier in prices.windows.items()}
    if prices.batch is not None:
        written["batch"] = price_text(prices.batch)
    return written


def written_schedule(schedule: Schedule) -> str | Definition:
    if schedule.is_plain:
        return price_text(schedule.tiers[0].price)
    written: Definition = {"kind": schedule.kind.value}
    if schedule.kind in (ScheduleKind.GRADUATED, ScheduleKind.VOLUME):
        written["tiers"] = [{"up_to": tier.up_to, "price": price_text(tier.price)} for tier in schedule.tiers]
    else:
        written["price"] = price_text(schedule.tiers[0].price)
    if schedule.package_tokens is not None:
        written["package_tokens"] = schedule.package_tokens
    if schedule.minimum_nanos is not None:
        written["minimum_charge"] = major(schedule.minimum_nanos)
    if schedule.maximum_nanos is not None:
        written["maximum_charge"] = major(schedule.maximum_nanos)
    return written


def windows_of(definition: Mapping[str, Mapping[str, Any]]) -> dict[str, HourWindow]:
    return {
        name: HourWindow(
            tuple(window["weekdays"]),
            window["begins_minute"],
            window["ends_minute"],
            window["utc_offset_minutes"],
        )
        for name, window in definition.items()
    }


def written_windows(windows: Mapping[str, HourWindow]) -> Definition:
    return {
        name: {
            "weekdays": list(window.weekdays),
            "begins_minute": window.begins_minute,
            "ends_minute": window.ends_minute,
            "utc_offset_minutes": window.utc_offset_minutes,
        }
        for name, window in windows.items()
    }


def _nanos(amount: str | None) -> int | None:
    return None if amount is None else nanos_of(amount)
