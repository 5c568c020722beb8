"""What a test does in the cluster: kubectl's part, and that of controllers which the test plays itself."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession

from tests.support.kubernetes.kinds import Document

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Answer:
    status: int
    document: Document


class Refused(AssertionError):
    """An answer that was to be a success."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.document.get("message", answer.document))
        self.status = answer.status


@dataclass(frozen=True)
class Kubectl:
    """Raw requests; nothing is retried and nothing hidden."""

    session: ClientSession
    url: str
    manager: str = "kubectl"

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        **query: str,
    ) -> Answer:
        async with self.session.request(
            method,
            self.url + path,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": content_type},
            params={"fieldManager": self.manager, **query},
        ) as response:
            return Answer(response.status, await response.json())

    async def get(self, path: str) -> Document:
        return _done(await self.ask("GET", path))

    async def items(self, path: str, labels: str = "") -> list[Document]:
        listed = _done(await self.ask("GET", path, labelSelector=labels))
        items: list[Document] = listed["items"]
        return items

    async def create(self, path: str, body: Document) -> Document:
        return _done(await self.ask("POST", path, body))

    async def replace(self, path: str, body: Document) -> Document:
        return _done(await self.ask("PUT", path, body))

    async def merge(self, path: str, patch: Document) -> Document:
        return _done(await self.ask("PATCH", path, patch, content_type=MERGE))

    async def apply(self, path: str, body: Document, *, force: bool = False) -> Document:
        force_text = "true" if force else "false"
        return _done(await self.ask("PATCH", path, body, content_type=APPLY, force=force_text))

    async def delete(self, path: str) -> Document:
        return _done(await self.ask("DELETE", path))

    def as_manager(self, name: str) -> "Kubectl":
        return Kubectl(self.session, self.url, name)


@asynccontextmanager
async def kubectl(url: str, *, token: str | None = None) -> AsyncIterator[Kubectl]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with ClientSession(headers=headers) as session:
        yield Kubectl(session, url)


def _done(answer: Answer) -> Document:
    if answer.status >= 300:
        raise Refused(answer)
    return answer.document
