"""The state folder: everything that a stack must find again the next time it starts.

What must stay true: only its owner may enter it (0700), so that what lies inside may hold secrets; a file is
replaced whole or not at all; one `up` or `down` at a time works on it. Secrets and ports, once made, stay.
"""

import fcntl
import os
import secrets as randomness
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace_contracts.endpoints import Endpoints, decode_endpoints, encode_endpoints
from headrace_platform.local.problems import Busy, StateUnusable


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """Made at the first start. Passed on in environments and pipes, never on a command line."""

    postgres_password: str
    valkey_password: str
    admin_token: str
    ingest_token: str
    signing_key: str
    """32 bytes in hexadecimal."""

    def __repr__(self) -> str:
        return "Secrets(…)"


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that somebody else runs, and the name under which it serves the model."""

    url: str
    model: str


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided at the first start, and holds until asked otherwise."""

    model: str
    ports: dict[str, int]
    ports_asked: list[str] = []
    """Programs whose port someone chose by hand: such a port is never exchanged for another."""
    upstream: Upstream | None = None
    gateway_workers: int = 1
    """Processes that share the gateway's port; each keeps a core busy."""


@dataclass(frozen=True, slots=True)
class State:
    root: Path

    @classmethod
    def at(cls, folder: Path) -> "State":
        return cls(folder.absolute())

    def folder(self, name: str) -> Path:
        """The folder of one program's own data."""
        path = self.root / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def log(self, program: str) -> Path:
        return self.root / "logs" / f"{program}.log"

    @property
    def endpoints_file(self) -> Path:
        return self.root / "endpoints.json"

    @property
    def deployments_file(self) -> Path:
        return self.root / "deployments.json"

    @property
    def exists(self) -> bool:
        return self._layout_file.exists()

    def create(self) -> None:
        """Raises `StateUnusable` when the folder is not ours to use."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.root.stat()
            if status.st_uid != os.geteuid():
                raise StateUnusable(
                    f"{self.root} belongs to another user (uid {status.st_uid}).",
                    next_step="Run as that user, or choose another folder with --state.",
                )
            if stat.S_IMODE(status.st_mode) != 0o700:
                if any(self.root.iterdir()) and not self.exists:
                    raise StateUnusable(
                        f"{self.root} is not a state folder of Headrace and is not empty.",
                        next_step="Choose another folder with --state.",
                    )
                self.root.chmod(0o700)
            self.folder("logs")
            self.folder("processes")
        except (FileExistsError, NotADirectoryError, PermissionError) as reason:
            raise StateUnusable(
                f"{self.root} can't be used: {reason.strerror}.",
                next_step="Choose another folder with --state.",
            ) from reason

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Raises `Busy` while another process holds it; a killed holder's lock is gone with it."""
        with (self.root / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(
                    f"Another `headrace up` or `headrace down` works on {self.root}.",
                    next_step="Wait until it is done.",
                ) from None
            yield

    def secrets(self) -> Secrets:
        """The stack's secrets, made if there are none yet."""
        file = self.root / "secrets.json"
        if not file.exists():
            made = Secrets(
                postgres_password=randomness.token_urlsafe(32),
                valkey_password=randomness.token_urlsafe(32),
                admin_token=randomness.token_urlsafe(32),
                ingest_token=randomness.token_urlsafe(32),
                signing_key=randomness.token_hex(32),
            )
            self.replace(file, msgspec.json.encode(made))
        return msgspec.json.decode(file.read_bytes(), type=Secrets)

    @property
    def _layout_file(self) -> Path:
        return self.root / "stack.json"

    def layout(self) -> Layout | None:
        """None before the first start."""
        if not self.exists:
            return None
        return msgspec.json.decode(self._layout_file.read_bytes(), type=Layout)

    def keep_layout(self, layout: Layout) -> None:
        self.replace(self._layout_file, msgspec.json.encode(layout))

    def endpoints(self) -> Endpoints | None:
        if not self.endpoints_file.exists():
            return None
        return decode_endpoints(self.endpoints_file.read_bytes())

    def keep_endpoints(self, endpoints: Endpoints) -> None:
        self.replace(self.endpoints_file, encode_endpoints(endpoints))

    @staticmethod
    def replace(file: Path, content: bytes) -> None:
        """Writes the file so that a reader, or a crash, finds either the old content or the new."""
        new = file.with_name(f"{file.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as writing:
            writing.write(content)
            writing.flush()
            os.fsync(descriptor)
        new.rename(file)
