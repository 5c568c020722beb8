"""Tables of deployments on disk: one file, or a folder of `*.json` as a ConfigMap is mounted.

What must stay true: a file that can't be read never replaces what it said when it could, nor what others say; an id
names one deployment, and who has it keeps it. A ConfigMap's folder is seen as it was at one instant: its files are
read behind the link `..data`, which Kubernetes swaps for all of them at once. One with no file at all was deleted, for
the operator leaves something in it: what it said stands until it is back.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from headrace_contracts.deployments import Deployment, decode_table

log = structlog.get_logger()

FILES_MAX = 512
"""The operator writes one for each model or customer; looking at so many takes a few milliseconds."""

TABLE_BYTES_MAX = 4 * 2**20
"""A ConfigMap as a whole has at most one."""

SWAPPED_LINK = "..data"

Stamp = tuple[int, int, int]


class TablesUnreadable(Exception):
    """There is nothing to begin with."""


@dataclass(frozen=True, slots=True)
class Table:
    stamp: Stamp
    deployments: list[Deployment]
    """As they stood when the file could last be read."""
    valid: bool = True
    """Whether that is what the file says now."""


class Tables:
    def __init__(self, path: Path) -> None:
        """Raises `TablesUnreadable` without the file, or without the folder; a bad file in a folder is only logged."""
        self._path = path
        self._is_folder = path.is_dir()
        self._tables: dict[str, Table] = {}
        self._holders: dict[str, str] = {}
        self._unreadable: set[tuple[str, str]] = set()
        """Paths and why, as of the last look: what lasts is said once."""
        self.deployments: list[Deployment] = []
        try:
            self._read(self._files(), alone=not self._is_folder)
        except (OSError, msgspec.MsgspecError) as error:
            raise TablesUnreadable(f"{path}: {error}") from error
        self._unreadable.clear()  # the first look says it
        self._merge()

    @property
    def unreadable(self) -> int:
        """How many can't be read, as of the last look, or say what can't be; a folder that can't be read is one."""
        out_of_reach = {Path(path).name for path, _ in self._unreadable}
        return len(out_of_reach | {name for name, table in self._tables.items() if not table.valid})

    def look(self) -> bool:
        """Whether anything changed."""
        before, self._unreadable = self._unreadable, set()
        try:
            files = self._files()
            changed = self._read(files)
        except OSError as error:
            self._unreadable.add((str(self._path), str(error)))
            return False
        finally:
            for path, why in sorted(self._unreadable - before):
                log.warning("deployments_unreadable", path=path, error=why)
        gone = self._tables.keys() - {file.name for file in files}
        for name in gone:
            del self._tables[name]
        if changed or gone:
            self._merge()
        return changed or bool(gone)

    def _files(self) -> list[Path]:
        if not self._is_folder:
            return [self._path]
        linked = self._path / SWAPPED_LINK
        folder = linked.resolve(strict=True) if linked.is_symlink() else self._path
        found = list(folder.iterdir())
        if not found and self._tables and folder != self._path:
            raise FileNotFoundError("the ConfigMap is gone")
        files = sorted(path for path in found if path.suffix == ".json" and not path.name.startswith("."))
        if len(files) > FILES_MAX:
            log.error("deployments_too_many", path=str(self._path), files=len(files), files_max=FILES_MAX)
        return files[:FILES_MAX]

    def _read(self, files: list[Path], *, alone: bool = False) -> bool:
        """Takes in what is new; `alone`: at the start, a single file's failure is everything's."""
        changed = False
        for file in files:
            before = self._tables.get(file.name)
            try:
                stamp = _stamp(file)
                if before is not None and before.stamp == stamp:
                    continue
                content = _content(file, stamp)
            except OSError as error:
                if alone:
                    raise
                self._unreadable.add((str(file), str(error)))
                continue
            try:
                deployments = decode_table(content).deployments
            except msgspec.MsgspecError as error:
                if alone:
                    raise
                log.warning("deployments_invalid", path=str(file), error=str(error))
                # Said once, until it changes again.
                self._tables[file.name] = Table(
                    stamp, [] if before is None else before.deployments, valid=False
                )
                continue
            self._tables[file.name] = Table(stamp, deployments)
            changed = True
        return changed

    def _merge(self) -> None:
        """Files in the order of their names, each in its own; of equal ids the one that held it before."""
        found: dict[str, list[tuple[str, Deployment]]] = {}
        for name in sorted(self._tables):
            for deployment in self._tables[name].deployments:
                found.setdefault(deployment.id, []).append((name, deployment))
        held = self._holders
        self._holders, self.deployments = {}, []
        for deployment_id, claims in found.items():
            holder, deployment = next(
                (claim for claim in claims if claim[0] == held.get(deployment_id)), claims[0]
            )
            if len(claims) > 1:
                others = [name for name, other in claims if other is not deployment]
                log.error("deployment_id_taken", deployment=deployment_id, holder=holder, refused=others)
            self._holders[deployment_id] = holder
            self.deployments.append(deployment)


def _stamp(path: Path) -> Stamp:
    """What changes when the file is written, or replaced through a link."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size


def _content(path: Path, stamp: Stamp) -> bytes:
    if stamp[2] > TABLE_BYTES_MAX:
        raise OSError(f"{stamp[2]} bytes are more than a table may have")
    return path.read_bytes()
