"""Tables of deployments as they change on disk: what can't be read takes nothing else down."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from headrace_contracts.deployments import Deployment
from headrace_gateway.routing import tables
from headrace_gateway.routing.deployments import DeploymentsFile
from headrace_gateway.routing.tables import Tables, TablesUnreadable
from tests.gateway.http.stack import write_table
from tests.gateway.routing.test_deployments import deployment


def ids(found: Tables) -> list[str]:
    return [each.id for each in found.deployments]


def test_a_new_table_is_taken_over_and_a_broken_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "deployments.json"
    write_table(path, deployment("1", "a"))
    file = DeploymentsFile(path)
    assert file.current.for_model("a", "org")

    path.write_bytes(b"{")
    file.look()
    assert file.current.for_model("a", "org")

    path.unlink()
    file.look()
    assert file.current.for_model("a", "org")

    write_table(path, deployment("1", "b"))
    file.look()
    assert (file.current.for_model("a", "org"), len(file.current.for_model("b", "org"))) == ([], 1)


def test_what_can_not_be_read_is_said_once_as_long_as_it_lasts(tmp_path: Path) -> None:
    path = tmp_path / "deployments.json"
    write_table(path, deployment("1", "a"))
    found = Tables(path)

    def said() -> list[str]:
        with capture_logs() as lines:
            assert not found.look()
        return [line["event"] for line in lines]

    assert said() == []
    path.rename(tmp_path / "elsewhere")
    assert [said(), said()] == [["deployments_unreadable"], []]
    (tmp_path / "elsewhere").rename(path)
    assert said() == []
    path.unlink()
    assert said() == ["deployments_unreadable"]


@pytest.mark.parametrize(
    "slip",
    [
        *(
            {"url": url}
            for url in ("", "engine:8000", "ftp://engine", "http://:80", "http://engine:99999", "http://[::1")
        ),
        *({"deprecated_at": when} for when in (-1, 10**18)),
        {"context_tokens": 0},
        {"prompt_overhead_tokens": -1},
        {"slots": -1},
        {"wait_seconds": -1.5},
        {"weight": -1},
    ],
)
def test_a_table_with_a_slip_in_it_is_refused_before_any_request_meets_it(
    tmp_path: Path, slip: dict[str, Any]
) -> None:
    path = tmp_path / "deployments.json"
    write_table(path, deployment("1", "a"))
    file = DeploymentsFile(path)
    table = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({"deployments": [table["deployments"][0] | {"model": "b"} | slip]}))
    file.look()
    assert [each.model for each in file.current.every] == ["a"]


@pytest.mark.parametrize("content", [None, b"{"])
def test_without_a_table_there_is_nothing_to_begin_with(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "deployments.json").write_bytes(content)
    with pytest.raises(TablesUnreadable):
        DeploymentsFile(tmp_path / "deployments.json")


def test_a_folder_s_files_are_one_table_and_each_fails_alone(tmp_path: Path) -> None:
    write_table(tmp_path / "a.json", deployment("1", "a"))
    (tmp_path / "b.json").write_bytes(b"{")
    (tmp_path / "notes.txt").write_text("no table")
    found = Tables(tmp_path)
    assert ids(found) == ["1"]

    write_table(tmp_path / "b.json", deployment("2", "b"))
    assert found.look()
    assert ids(found) == ["1", "2"]

    (tmp_path / "a.json").write_bytes(b'{"deployments": [{"id": "1"}]}')
    write_table(tmp_path / "b.json", deployment("2", "b"), deployment("3", "c"))
    assert found.look()
    assert ids(found) == ["1", "2", "3"]  # the first as it last could be read
    assert not found.look()
    assert found.unreadable == 1

    (tmp_path / "a.json").unlink()
    assert found.look()
    assert ids(found) == ["2", "3"]
    assert found.unreadable == 0


def test_an_id_stays_with_the_file_that_had_it(tmp_path: Path) -> None:
    write_table(tmp_path / "m.json", deployment("1", "first"))
    found = Tables(tmp_path)
    write_table(tmp_path / "a.json", deployment("1", "usurper"), deployment("2", "b"))
    assert found.look()
    assert [(each.id, each.model) for each in found.deployments] == [("1", "first"), ("2", "b")]

    (tmp_path / "m.json").unlink()
    assert found.look()
    assert [(each.id, each.model) for each in found.deployments] == [("1", "usurper"), ("2", "b")]


def test_an_empty_folder_is_no_failure(tmp_path: Path) -> None:
    assert ids(Tables(tmp_path)) == []


def test_no_file_is_read_beyond_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TABLE_BYTES_MAX", 1000)
    write_table(tmp_path / "a.json", deployment("1", "a"))
    write_table(tmp_path / "b.json", *(deployment(str(number), "b") for number in range(10, 30)))
    assert ids(Tables(tmp_path)) == ["1"]


class ConfigMap:
    """A volume as the kubelet writes it: files are links through `..data`, which is swapped for all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.generation = 0

    def project(self, *, note: bool = True, **files: Deployment) -> None:
        """`note`: what the operator leaves in it."""
        before = (self.folder / "..data").resolve() if self.generation else None
        self.generation += 1
        real = self.folder / f"..2026_11_25_{self.generation}"
        real.mkdir()
        for name, content in files.items():
            write_table(real / f"{name}.json", content)
        if note:
            (real / "README").write_text("tables")
        link = self.folder / "..data_tmp"
        link.symlink_to(real.name)
        link.replace(self.folder / "..data")
        if before is not None:
            for old in before.iterdir():
                old.unlink()
            before.rmdir()

    def link(self, *names: str) -> None:
        """The kubelet does this last, and later still takes away what is no more."""
        for name in names:
            (self.folder / f"{name}.json").symlink_to(f"..data/{name}.json")


def test_a_config_map_is_seen_as_it_was_at_one_instant(tmp_path: Path) -> None:
    volume = ConfigMap(tmp_path)
    volume.project(a=deployment("1", "a"), b=deployment("2", "b"))
    volume.link("a", "b")
    found = Tables(tmp_path)
    assert ids(found) == ["1", "2"]

    volume.project(a=deployment("2", "b"), c=deployment("1", "a"))  # each moved to another file; `b` dangles
    assert found.look()
    assert sorted(ids(found)) == ["1", "2"]
    assert not found.look()


def test_a_folder_that_vanishes_leaves_what_stood(tmp_path: Path) -> None:
    folder = tmp_path / "deployments"
    folder.mkdir()
    write_table(folder / "a.json", deployment("1", "a"))
    found = Tables(folder)
    folder.rename(tmp_path / "elsewhere")
    assert not found.look()
    assert ids(found) == ["1"]

    folder.mkdir()
    write_table(folder / "b.json", deployment("2", "b"))
    assert found.look()
    assert ids(found) == ["2"]


def test_a_config_map_that_is_deleted_leaves_what_stood_and_one_without_deployments_does_not(
    tmp_path: Path,
) -> None:
    volume = ConfigMap(tmp_path)
    volume.project(note=False)
    found = Tables(tmp_path)
    assert ids(found) == []

    volume.project(a=deployment("1", "a"))
    assert found.look()
    volume.project(note=False)
    assert not found.look()
    assert ids(found) == ["1"]

    volume.project()
    assert found.look()
    assert ids(found) == []


def test_a_config_map_s_link_that_leads_nowhere_leaves_what_stood(tmp_path: Path) -> None:
    volume = ConfigMap(tmp_path)
    volume.project(a=deployment("1", "a"))
    found = Tables(tmp_path)
    (tmp_path / "..data").unlink()
    (tmp_path / "..data").symlink_to("nowhere")
    assert not found.look()
    assert ids(found) == ["1"]
