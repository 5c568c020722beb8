"""An outside meter, and the CloudEvents that it sends."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2

from tests.billing.seller import MODEL, NOW, Customer, Document

EVENT_TYPE = "dev.headrace.usage.tokens.v1"
BATCH = "application/cloudevents-batch+json"
SOURCE = "//meter.example/rack-1"
PATH = "/v1/usage-events"


@dataclass(slots=True)
class Reporter:
    http: httpx2.AsyncClient
    id: str
    token: str
    customer: Customer

    def event(
        self,
        *,
        at: datetime = NOW - timedelta(minutes=1),
        tokens: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        **attributes: object,
    ) -> Document:
        return {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": SOURCE,
            "type": EVENT_TYPE,
            "time": at.isoformat(),
            "data": {
                "project": self.customer.project,
                "model": MODEL,
                "tokens": tokens or {"input_uncached": 10, "output_visible": 5},
                **(data or {}),
            },
            **attributes,
        }

    async def send(self, *events: Any) -> httpx2.Response:
        answer = await self.http.post(PATH, json=list(events), headers=self.headers())
        assert answer.status_code in {200, 207}, answer.text
        return answer

    async def report(self, *events: Any) -> list[Document]:
        results: list[Document] = (await self.send(*events)).json()["results"]
        return results

    def headers(self, content_type: str = BATCH) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", "content-type": content_type}


def outcomes(results: list[Document]) -> list[str]:
    return [result["outcome"] for result in results]
