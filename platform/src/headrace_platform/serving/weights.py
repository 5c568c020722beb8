"""`python -m headrace_platform.serving.weights`: brings a model's weights onto this machine, and proves what they are.

    checksum FOLDER                             prints the folder's checksum
    verify FOLDER --sha256 CHECKSUM             exit status 1 unless it is this one
    fetch s3://… | hf://…@… FOLDER --sha256 …   fetches what is not there, then verifies

The checksum is the SHA-256 of the list that names each file by its own: `<sha256>  <path>` a line, sorted by path.
A folder that says no more than that is whole: a file too many, too few or altered changes it.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Hashing leaves Python's lock, and a fast disk feeds about so many.
READERS = 8
CHUNK_BYTES = 8 * 2**20

# What downloading leaves beside the files.
LEFT_BEHIND = (".cache", ".partial")


class WeightsWrong(Exception):
    """The folder does not hold the weights that were asked for."""

    code = "weights_wrong"


def checksum(folder: Path) -> str:
    """Of all files below the folder."""
    files = list(files_of(folder))
    if not files:
        raise WeightsWrong(f"there are no files in {folder}")
    with ThreadPoolExecutor(READERS) as pool:
        lines = [
            f"{digest}  {path.relative_to(folder).as_posix()}\n"
            for path, digest in zip(files, pool.map(file_checksum, files), strict=True)
        ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def verify(folder: Path, expected: str) -> None:
    """Raises `WeightsWrong`."""
    found = checksum(folder)
    if found != expected:
        raise WeightsWrong(f"the checksum of {folder} is {found}, and {expected} was asked for")


def files_of(folder: Path) -> Iterator[Path]:
    """In the order of their paths, whatever the disk's. A link counts as what it leads to."""
    found = (
        Path(parent, name)
        for parent, folders, names in os.walk(folder, followlinks=True)
        for name in names
        if not set(Path(parent).relative_to(folder).parts).intersection(LEFT_BEHIND)
    )
    yield from sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def file_checksum(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
        return digest.hexdigest()


def fetch(source: str, folder: Path, *, endpoint: str | None = None) -> None:
    """Downloads what is not there yet; a second start of the same pod takes up where the first was stopped."""
    kind, _, rest = source.partition("://")
    if kind == "hf":
        repository, _, commit = rest.rpartition("@")
        fetch_from_hub(repository, commit, folder)
    elif kind == "s3":
        bucket, _, prefix = rest.partition("/")
        fetch_from_bucket(bucket, prefix, folder, endpoint=endpoint)
    else:
        raise WeightsWrong(f"weights come from s3:// or hf://, not from {source}")


def fetch_from_hub(repository: str, commit: str, folder: Path) -> None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (seconds, which a check of a folder need not wait)

    snapshot_download(repository, revision=commit, local_dir=folder, max_workers=READERS)


def fetch_from_bucket(bucket: str, prefix: str, folder: Path, *, endpoint: str | None) -> None:
    import boto3  # noqa: PLC0415 (as above)

    client = boto3.client("s3", endpoint_url=endpoint)
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    wanted = [
        (item["Key"], item["Size"])
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in page.get("Contents", ())
        if not item["Key"].endswith("/")
    ]
    if not wanted:
        raise WeightsWrong(f"there is nothing below s3://{bucket}/{prefix}")
    for key, size in wanted:
        path = inside(folder, key.removeprefix(prefix))
        if path.exists() and path.stat().st_size == size:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own until it is whole, else a killed download would pass for a file.
        partial = inside(folder / ".partial", key.removeprefix(prefix))
        partial.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, key, str(partial))
        partial.replace(path)


def inside(folder: Path, name: str) -> Path:
    """A bucket's key is anything that its owner likes, so it must not lead elsewhere. Raises `WeightsWrong`."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise WeightsWrong(f"{name} leads out of the folder")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="headrace_platform.serving.weights", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("checksum", "verify", "fetch"):
        command = commands.add_parser(name)
        if name == "fetch":
            command.add_argument("source")
            command.add_argument("--endpoint")
        command.add_argument("folder", type=Path)
        if name != "checksum":
            command.add_argument("--sha256", required=True)
    given = parser.parse_args(arguments)
    try:
        if given.command == "checksum":
            sys.stdout.write(checksum(given.folder) + "\n")
            return 0
        if given.command == "fetch":
            fetch(given.source, given.folder, endpoint=given.endpoint)
        verify(given.folder, given.sha256)
    except WeightsWrong as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
