"""Recorded intervals, where they outlive the operator: a ConfigMap a deployment, in the operator's own namespace.

Not in the deployment's status, which goes with the deployment and which its tenant may write; and not derived anew
from pods each time, for a pod that is gone tells nothing. A write is made for the version that was read, so that of
two operators one looks again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from headrace_platform.control.gpu_time.held import Held
from headrace_platform.control.kubernetes_api import KubernetesApi
from headrace_platform.control.labels import Manifest
from headrace_platform.control.observation import Key
from headrace_platform.control.resource import CONFIG_MAPS

LABEL = "headrace.dev/gpu-time"
DATA_KEY = "held.json"

decode = msgspec.json.Decoder(list[Held]).decode


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
        stored = await self.api.items(CONFIG_MAPS, self.namespace, {LABEL: "true"})
        records = [_record(item) for item in stored]
        return {record.key: record for record in records}

    async def of(self, key: Key) -> Record:
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
    # Neither part can hold a dot.
    _, namespace, name = stored["metadata"]["name"].split(".")
    held = decode(stored["data"][DATA_KEY].encode())
    return Record(Key(namespace, name), {each.pod: each for each in held}, stored)
