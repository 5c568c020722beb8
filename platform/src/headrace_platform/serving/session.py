"""The folder that Ray works in: in the state folder, so that its logs are found there, and no older ones forever."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A Unix socket's name has 107 bytes, and Ray appends `/session_<date>_<time>_<pid>/sockets/plasma_store` to
# its folder's.
FOLDER_BYTES_MAX = 107 - 70

SESSIONS_KEPT = 3


@contextmanager
def session_folder(state_dir: Path) -> Iterator[Path]:
    """Ray's temporary folder, by a name that is short enough."""
    folder = state_dir.absolute() / "ray"
    folder.mkdir(mode=0o700, exist_ok=True)
    forget_old_sessions(folder)
    if len(bytes(folder)) <= FOLDER_BYTES_MAX:
        yield folder
        return
    # Only the name is elsewhere. One that a killed process leaves behind points into nowhere, harmlessly.
    with tempfile.TemporaryDirectory(prefix="hr-") as elsewhere:
        name = Path(elsewhere) / "ray"
        name.symlink_to(folder, target_is_directory=True)
        yield name


def forget_old_sessions(folder: Path) -> None:
    """Keeps the logs of the last runs."""
    sessions = sorted(path for path in folder.glob("session_*") if not path.is_symlink() and path.is_dir())
    for session in sessions[: -SESSIONS_KEPT or None]:
        shutil.rmtree(session, ignore_errors=True)
