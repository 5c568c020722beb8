"""Reading what somebody wrote as YAML or JSON: one object, and not a large one."""

from pathlib import Path
from typing import Any

import msgspec
import yaml

# A deployment of a hundred fields is a few kilobytes; anything larger was not meant for us.
FILE_BYTES_MAX = 1024 * 1024


class FileUnreadable(Exception):
    """There is no such file, or no YAML in it."""

    code = "file_unreadable"


def read(path: Path) -> dict[str, Any]:
    """Raises `FileUnreadable`."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise FileUnreadable(f"{path} is larger than {FILE_BYTES_MAX} bytes")
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FileUnreadable(f"{path} can't be read: {error}") from error
    try:
        return msgspec.convert(body, dict[str, Any])
    except msgspec.ValidationError as error:
        raise FileUnreadable(f"{path} holds no object: {error}") from error
