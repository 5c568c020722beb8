"""A bucket that speaks S3, and a hub that speaks Hugging Face's protocol: as much of each as a download needs."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import msgspec

PAGE_KEYS_MAX = 2
COMMIT = "c0ffee" * 6 + "c0de"


@dataclass
class ObjectStore:
    port: int
    objects: dict[str, bytes]
    """By bucket and key, or by repository and file."""
    downloads: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Handler(BaseHTTPRequestHandler):
    store: ObjectStore
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path, query = unquote(address.path).strip("/"), parse_qs(address.query)
        if "list-type" in query:
            self._list(path, query)
        elif path.startswith("api/models/"):
            self._model(path.removeprefix("api/models/"))
        else:
            self._object(path.replace(f"/resolve/{COMMIT}/", "/"))

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix, after = (query.get(name, [""])[0] for name in ("prefix", "continuation-token"))
        keys = [
            key
            for name in sorted(self.store.objects)
            if (key := name.removeprefix(f"{bucket}/")) != name and key.startswith(prefix) and key > after
        ]
        page = keys[:PAGE_KEYS_MAX]
        more = (
            f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if keys[len(page) :] else ""
        )
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.store.objects[f'{bucket}/{key}'])}</Size></Contents>"
            for key in page
        )
        self._answer(
            f"<ListBucketResult><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{contents}{more}"
            "</ListBucketResult>".encode(),
            "application/xml",
        )

    def _model(self, rest: str) -> None:
        repository, _, wanted = rest.replace("/tree/", "/revision/").partition("/revision/")
        files = [
            name.removeprefix(f"{repository}/")
            for name in self.store.objects
            if name.startswith(f"{repository}/")
        ]
        if wanted != COMMIT or not files:
            self._refuse()
            return
        if "/tree/" in rest:
            told: object = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(self.store.objects[f"{repository}/{name}"]),
                    "oid": "0" * 40,
                }
                for name in files
            ]
        else:
            told = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        self._answer(msgspec.json.encode(told), "application/json")

    def _object(self, name: str) -> None:
        content = self.store.objects.get(name)
        if content is None:
            self._refuse()
            return
        if self.command == "GET":
            self.store.downloads.append(name)
        self._answer(content, "application/octet-stream")

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')  # noqa: S324  (S3's own)
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _refuse(self) -> None:
        self.send_response(HTTPStatus.NOT_FOUND)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the parent's name)
        """Nobody reads it."""


@contextmanager
def object_store(objects: dict[str, bytes]) -> Iterator[ObjectStore]:
    handler = type("OfStore", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        store = ObjectStore(port=server.server_address[1], objects=objects)
        handler.store = store  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield store
        finally:
            server.shutdown()
            thread.join()
