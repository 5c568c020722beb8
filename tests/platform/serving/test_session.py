"""Where Ray works."""

import socket
from pathlib import Path

from headrace_platform.serving.session import SESSIONS_KEPT, session_folder

SOCKET = "session_2026-11-23_23-46-15_097206_1234567/sockets/plasma_store"


def test_ray_works_in_the_state_folder(tmp_path: Path) -> None:
    with session_folder(tmp_path) as folder:
        assert folder.resolve() == tmp_path / "ray"


def test_a_deep_state_folder_gets_a_name_that_fits_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    with session_folder(deep) as folder:
        path = folder / SOCKET
        path.parent.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
        assert (deep / "ray" / SOCKET).exists()
    assert not folder.parent.exists()


def test_the_logs_of_the_last_runs_are_kept_and_no_older_ones(tmp_path: Path) -> None:
    for day in range(1, 8):
        (tmp_path / "ray" / f"session_2026-11-0{day}" / "logs").mkdir(parents=True)
    (tmp_path / "ray" / "session_latest").symlink_to(tmp_path / "ray" / "session_2026-11-07")
    with session_folder(tmp_path):
        kept = sorted(path.name for path in (tmp_path / "ray").iterdir() if not path.is_symlink())
    assert len(kept) == SESSIONS_KEPT
    assert kept[-1] == "session_2026-11-07"
