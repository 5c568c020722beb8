"""Every Terraform module and environment passes its own file of tests, against a provider that is mocked."""

from pathlib import Path

import pytest

from tests.terraform.workbench import SOURCE, TESTS, Workbench, provider_mirror, terraform_binary

ROOTS = sorted(
    f"{kind}/{folder.name}"
    for kind in ("modules", "environments")
    for folder in (SOURCE / kind).iterdir()
    if folder.is_dir() and any(folder.glob("*.tf"))
)


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    if terraform_binary() is None:
        pytest.skip("terraform is not on the PATH")
    mirror = provider_mirror()
    if mirror is None:
        pytest.skip(
            "no mirror with the aws provider: set TF_PLUGIN_DIR to the folder above registry.terraform.io"
        )
    return Workbench.laid_out(tmp_path / "terraform", mirror)


@pytest.mark.parametrize("folder", ROOTS)
def test_a_module_passes_its_own_tests(folder: str, workbench: Workbench) -> None:
    finished = workbench.test(folder, f"{Path(folder).name}.tftest.hcl")

    assert finished.returncode == 0, finished.stdout
    assert "Success!" in finished.stdout
    assert "Success! 0 passed" not in finished.stdout


def test_the_code_is_formatted(workbench: Workbench) -> None:
    for place in (SOURCE, TESTS):
        finished = workbench.command(place, "fmt", "-check", "-diff", "-recursive")
        assert finished.returncode == 0, finished.stdout


def test_every_module_and_environment_has_tests_and_no_tests_are_left_over() -> None:
    tested = {file.name.removesuffix(".tftest.hcl") for file in TESTS.glob("*.tftest.hcl")}

    assert tested == {Path(folder).name for folder in ROOTS}
