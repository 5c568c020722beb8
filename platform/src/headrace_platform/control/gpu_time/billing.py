"""Billing's side door for GPU time."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import msgspec
import structlog
from pydantic import SecretStr

from headrace_contracts.gpu_time import GpuTimeBatch, GpuTimeEvent, decode_gpu_time_reply, encode_gpu_time
from headrace_contracts.ingest import EventOutcome
from headrace_platform.control.gpu_time.meter import Undelivered

TIMEOUT = aiohttp.ClientTimeout(total=30)
FINE = (EventOutcome.ACCEPTED, EventOutcome.DUPLICATE)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BillingDoor:
    session: aiohttp.ClientSession
    url: str
    token: SecretStr

    async def send(self, events: Sequence[GpuTimeEvent]) -> None:
        """What billing keeps aside it has, and alarms about it itself. Raises `Undelivered`."""
        body = encode_gpu_time(GpuTimeBatch(events=list(events)))
        headers = {
            "Authorization": f"Bearer {self.token.get_secret_value()}",
            "Content-Type": "application/json",
        }
        url = f"{self.url.rstrip('/')}/internal/v1/gpu-time"
        try:
            async with self.session.post(url, data=body, headers=headers, timeout=TIMEOUT) as response:
                raw = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Undelivered(str(error) or type(error).__name__) from error
        if response.status != HTTPStatus.OK:
            raise Undelivered(f"billing answered {response.status}")
        try:
            results = decode_gpu_time_reply(raw).results
        except msgspec.MsgspecError as error:
            raise Undelivered(f"billing's answer can't be read: {error}") from error
        if len(results) != len(events):
            raise Undelivered(f"billing answered for {len(results)} of {len(events)} events")
        for result in results:
            if result.outcome not in FINE:
                log.error("gpu_time_kept_aside", pod=result.pod, outcome=result.outcome, reason=result.reason)
