"""A copy of `terraform/` in a temporary folder, where Terraform may write what it likes.

The provider comes from a mirror on this machine (`TF_PLUGIN_DIR` or the usual places), never from a registry,
and every module links to it: it is far too large to be copied for each.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "terraform"
TESTS = Path(__file__).parent

# Generous: a whole module takes a few seconds on an idle machine, and a hung provider must not hang the suite.
COMMAND_SECONDS_MAX = 160

PROVIDER = Path("registry.terraform.io", "hashicorp", "aws")

# Terraform's own implied mirrors, then whatever an image keeps one level below these.
USUAL_MIRRORS = (".terraform.d/plugins", ".local/share/terraform/plugins")
USUAL_PARENTS = ("opt", "srv", "usr/share", "usr/local/share")


def terraform_binary() -> str | None:
    return shutil.which("terraform")


def provider_mirror() -> Path | None:
    """The folder that contains `registry.terraform.io` with the aws provider, or None."""
    given = os.environ.get("TF_PLUGIN_DIR")
    places = [Path(given)] if given else list(_usual_places())
    return next((place for place in places if (place / PROVIDER).is_dir()), None)


def _usual_places() -> Iterator[Path]:
    yield from (Path.home() / place for place in USUAL_MIRRORS)
    for parent in USUAL_PARENTS:
        yield from (found.parent for found in sorted((Path("/") / parent).glob("*/registry.terraform.io")))


@dataclass(frozen=True, slots=True)
class Workbench:
    root: Path
    mirror: Path

    @classmethod
    def laid_out(cls, root: Path, mirror: Path) -> "Workbench":
        shutil.copytree(SOURCE, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".terraform*"))
        return cls(root, mirror)

    def test(self, folder: str, test_file: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Initialise one module or environment, validate it and run its file of tests."""
        module = self.root / folder
        shutil.copy(TESTS / test_file, module / test_file)
        initialised = self.command(
            module, "init", "-backend=false", "-input=false", f"-plugin-dir={self.mirror}"
        )
        if initialised.returncode != 0:
            return initialised
        return self.command(module, "test", f"-filter={test_file}", *options)

    def command(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        binary = terraform_binary()
        assert binary is not None, "guarded by the fixture"
        # Ambient variables (TF_CLI_ARGS, AWS_PROFILE and such) must not change what is tested.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_"))
        }
        return subprocess.run(
            [binary, *arguments, *(() if arguments[0] == "fmt" else ("-no-color",))],
            cwd=folder,
            env=environment | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
