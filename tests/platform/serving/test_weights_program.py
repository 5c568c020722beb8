"""Weights are fetched whole, and nothing but the weights that were asked for is let through."""

import subprocess
from pathlib import Path

import pytest

from headrace_platform.local.environments import engine_python
from headrace_platform.serving import weights
from headrace_platform.serving.weights import WeightsWrong, checksum, inside, main
from tests.support.object_store import COMMIT, ObjectStore, object_store

FILES = {
    "config.json": b"{}",
    "model/part-1.safetensors": b"1" * 1000,
    "model/part-2.safetensors": b"2" * 500,
}


def folder_of(tmp_path: Path, files: dict[str, bytes] = FILES) -> Path:
    folder = tmp_path / "weights"
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_a_folder_s_checksum_is_that_of_its_list_of_files(tmp_path: Path) -> None:
    # As `sha256sum` would: find . -type f | sort, each by its checksum, and the checksum of that.
    shell = "find . -type f | sed 's|^./||' | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1"
    folder = folder_of(tmp_path)
    said = subprocess.run(
        ["bash", "-c", shell], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert checksum(folder) == said.strip()


def test_what_a_download_leaves_beside_the_files_does_not_count(tmp_path: Path) -> None:
    before = checksum(folder_of(tmp_path))
    assert checksum(folder_of(tmp_path, {".cache/huggingface/lock": b"x", ".partial/a": b"y"})) == before


@pytest.mark.parametrize(
    "changed",
    [{"config.json": b"{ }"}, {"more.bin": b""}, {"config2.json": b"{}", "config.json": b""}],
)
def test_a_file_altered_or_too_many_is_noticed(tmp_path: Path, changed: dict[str, bytes]) -> None:
    expected = checksum(folder_of(tmp_path))
    folder = folder_of(tmp_path, changed)
    with pytest.raises(WeightsWrong, match=expected):
        weights.verify(folder, expected)


def test_a_file_that_is_gone_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path)
    expected = checksum(folder)
    assert main(["verify", str(folder), "--sha256", expected]) == 0
    (folder / "config.json").unlink()
    assert main(["verify", str(folder), "--sha256", expected]) == 1
    assert expected in capsys.readouterr().err


def test_an_empty_folder_is_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsWrong, match="no files"):
        checksum(tmp_path)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd"])
def test_a_key_leads_nowhere_but_into_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsWrong, match="leads out"):
        inside(tmp_path / "weights", name)


def fetched(
    source: str, folder: Path, expected: str, store: ObjectStore
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            engine_python(),
            "-P",
            "-m",
            "headrace_platform.serving.weights",
            "fetch",
            source,
            folder,
            "--sha256",
            expected,
            "--endpoint",
            store.url,
        ],
        env={
            "PATH": "",
            "HOME": str(folder.parent),
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-central-1",
            "HF_ENDPOINT": store.url,
            "HF_HUB_DISABLE_XET": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.engine
def test_a_bucket_s_folder_is_fetched_once_and_page_by_page(tmp_path: Path) -> None:
    expected = checksum(folder_of(tmp_path))
    folder = tmp_path / "fetched"
    with object_store({f"models/glm/{name}": content for name, content in FILES.items()}) as store:
        done = fetched("s3://models/glm", folder, expected, store)
        assert done.returncode == 0, done.stderr
        first = list(store.downloads)
        assert fetched("s3://models/glm/", folder, expected, store).returncode == 0
        assert store.downloads == first

        refused = fetched("s3://models/glm", tmp_path / "other", "0" * 64, store)
        assert refused.returncode == 1
        assert expected in refused.stderr
        assert fetched("s3://models/nothing", tmp_path / "none", expected, store).returncode == 1


@pytest.mark.engine
def test_a_repository_is_fetched_at_its_commit(tmp_path: Path) -> None:
    expected = checksum(folder_of(tmp_path))
    with object_store({f"zai-org/GLM/{name}": content for name, content in FILES.items()}) as store:
        done = fetched(f"hf://zai-org/GLM@{COMMIT}", tmp_path / "fetched", expected, store)
    assert done.returncode == 0, done.stderr
