"""Recorded intervals, where they outlive the operator: a ConfigMap a deployment, in the operator's own namespace.

Not in the deployment's status, which goes with the deployment and which its tenant may write; and not derived anew
from pods each time, for a pod that is gone tells nothing. A write is made for the version that was read, so that of
two operators one looks again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import structlog

from headrace_platform.control.gpu_time.held import Held
from headrace_platform.control.kubernetes_api import KubernetesApi
from headrace_platform.control.labels import Manifest
from headrace_platform.control.observation import Key
from headrace_platform.control.resource import CONFIG_MAPS

LABEL = "headrace.dev/gpu-time"
DATA_KEY = "held.json"

log = structlog.get_logger()
decode = msgspec.json.Decoder(list[Held]).decode


class RecordUnreadable(Exception):
    """Somebody has edited it; it stays as it is until somebody mends or deletes it."""

    code = "gpu_time_record_unreadable"


@dataclass(frozen=True, slots=True)
class Record:
    key: Key
    held: Mapping[str, Held]
    stored: Manifest | None
    """As it was read; None where there is none yet."""


@dataclass(frozen=True, slots=True)
class Records:
    api: KubernetesApi
    namespace: str

    async def all(self) -> dict[Key, Record]:
        """Those that can be read."""
        found = {}
        for stored in await self.api.items(CONFIG_MAPS, self.namespace, {LABEL: "true"}):
            try:
                record = _record(stored)
            except RecordUnreadable as error:
                log.error("gpu_time_unreadable", record=stored["metadata"]["name"], why=str(error))  # noqa: TRY400 (no trace of interest)
                continue
            found[record.key] = record
        return found

    async def of(self, key: Key) -> Record:
        """Raises `RecordUnreadable`."""
        stored = await self.api.get(CONFIG_MAPS, self.namespace, _name(key))
        return _record(stored) if stored is not None else Record(key, {}, None)

    async def keep(self, record: Record, held: Mapping[str, Held]) -> None:
        """Raises `Conflict` where somebody else has written since."""
        if held == record.held:
            return
        text = msgspec.json.encode([held[pod] for pod in sorted(held)]).decode()
        if record.stored is None:
            await self.api.create(CONFIG_MAPS, self._manifest(record.key, text))
        elif not held:
            await self.api.delete(CONFIG_MAPS, record.stored)
        else:
            await self.api.change(CONFIG_MAPS, record.stored, {"data": {DATA_KEY: text}})

    def _manifest(self, key: Key, text: str) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _name(key), "namespace": self.namespace, "labels": {LABEL: "true"}},
            "data": {DATA_KEY: text},
        }


def _name(key: Key) -> str:
    return f"gpu-time.{key.namespace}.{key.name}"


def _record(stored: Manifest) -> Record:
    try:
        # Neither part can hold a dot.
        _, namespace, name = stored["metadata"]["name"].split(".")
        held = decode(stored["data"][DATA_KEY].encode())
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise RecordUnreadable(f"{type(error).__name__}: {error}") from error
    return Record(Key(namespace, name), {each.pod: each for each in held}, stored)
