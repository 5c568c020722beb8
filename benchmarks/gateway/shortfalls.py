"""Why targets were missed, as far as a run's own figures show it."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.gateway.subjects import GATEWAY, WALLET_ONLY
from benchmarks.gateway.targets import BEYOND_NGINX, CHUNK, PLAIN, TWO_WORKERS_COST, TWO_WORKERS_TWICE_COST

Found = Mapping[str, Any]

COUNTING = """\
**A chunk's CPU time** is nearly half the kernel's, as nginx's is, for each is read and written by itself. The rest: the engine is asked \
to count in every chunk, so each is longer than what nginx relays, and its count is read, compared with what was granted, and \
noted where it outlives the process."""

ADMITTING = """\
**The time to the first token** has the admission in it, a round trip to Valkey; here Valkey waits for the load's core \
beside the load, the engine, Postgres and billing, and finds nothing of its own in the processor's caches \
([where it goes](../decisions/0007-what-makes-the-gateway-cheaper.md))."""

SHARING = """\
**Two workers** share the one core here. Half as many requests share each flush, read and write, and the core changes hands \
more often; what they cost with as much load each as one has is measured beside ([counted](../decisions/0007-what-makes-the-gateway-cheaper.md))."""


def shortfalls(found: Found) -> Iterator[str]:
    missed = {verdict["name"] for verdict in found["targets"] if verdict["met"] is False}
    told = [why for names, why in _reasons(found) if missed.intersection(names)]
    if told:
        yield "## What falls short, and why\n"
        yield from (f"- {why}" for why in told)
        yield ""


def _reasons(found: Found) -> Iterator[tuple[set[str], str]]:
    costs = {step["step"]: step["cpu_us_per_request"] for step in found["steps"]}
    router = found["subjects"].get("vllm-router")
    if costs and router is not None:
        plain_names = {
            v["name"] for v in found["targets"] if v["name"].startswith("CPU per plain request of ")
        }
        yield {PLAIN, *plain_names}, _metering(costs, router["plain"]["cpu_us_per_request"])
    yield {CHUNK}, COUNTING
    yield {BEYOND_NGINX.format("median"), BEYOND_NGINX.format("99 %")}, ADMITTING
    yield {TWO_WORKERS_COST, TWO_WORKERS_TWICE_COST}, SHARING


def _metering(costs: Mapping[str, float], theirs: float) -> str:
    return (
        f"**A plain request's CPU time** goes into what the others don't do. Server, upstream client, reading and key check come "
        f"to {costs['keys']:.0f} µs, {costs['keys'] / theirs:.2f} of all that vllm-router does, and with two calls to Valkey that "
        f"do nothing to {costs['calls']:.0f}. Where Valkey is as long busy with these as with metering's, fewer requests come a second, "
        f"each wakes the process more for itself alone, and it is {costs['waits']:.0f}, {costs['waits'] / theirs:.2f} of vllm-router's: "
        "what would be left on this machine if metering itself cost nothing. Routing, admission, hold, settlement, "
        f"in-flight table and metrics add {costs['memory'] - costs['waits']:.0f} µs, the journal on the disk "
        f"{costs[WALLET_ONLY] - costs['memory']:.0f}, a limit of every kind {costs[GATEWAY] - costs[WALLET_ONLY]:.0f}. It is "
        "interpreted Python: hundreds of calls, none of which stands out. [What was tried and what helped]"
        "(../decisions/0007-what-makes-the-gateway-cheaper.md)."
    )
