"""The table of deployments is the one in the file, unless that can't be read."""

from pathlib import Path

import msgspec
import pytest

from headrace_contracts.deployments import Deployment, DeploymentTable, encode_table
from headrace_gateway.routing.deployments import Deployments, DeploymentsFile, TableUnreadable
from tests.gateway.account import DEPLOYMENT


def deployment(name: str, model: str, *aliases: str) -> Deployment:
    return msgspec.structs.replace(DEPLOYMENT, id=name, model=model, aliases=list(aliases))


def table(*deployments: Deployment) -> bytes:
    return encode_table(DeploymentTable(deployments=list(deployments)))


def test_a_model_is_found_by_name_and_alias_in_the_table_s_order() -> None:
    first, second, other = deployment("1", "a", "b"), deployment("2", "a"), deployment("3", "c", "c")
    deployments = Deployments(DeploymentTable(deployments=[first, second, other]))

    assert deployments.for_model("a") == [first, second]
    assert deployments.for_model("b") == [first]
    assert deployments.for_model("c") == [other]
    assert deployments.for_model("d") == []
    assert deployments.models(None) == [first, other]
    assert deployments.models(["c", "unknown"]) == [other]
    assert deployments.models([]) == []


def test_a_new_table_is_taken_over_and_a_broken_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "deployments.json"
    path.write_bytes(table(deployment("1", "a")))
    file = DeploymentsFile(path)
    assert file.current.for_model("a")

    path.write_bytes(b"{")
    file.look()
    assert file.current.for_model("a")

    path.unlink()
    file.look()
    assert file.current.for_model("a")

    replacement = tmp_path / "new"
    replacement.write_bytes(table(deployment("1", "b")))
    replacement.replace(path)
    file.look()
    assert (file.current.for_model("a"), len(file.current.for_model("b"))) == ([], 1)


def test_without_a_table_there_is_nothing_to_begin_with(tmp_path: Path) -> None:
    with pytest.raises(TableUnreadable):
        DeploymentsFile(tmp_path / "deployments.json")
