"""Each image's install step, run in an empty environment: what it starts finds everything that it imports."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.dockerfile import DOCKER, ROOT

TOOLS = Path(sys.executable).parent

# Every module of what an image runs, so that one which is imported late is not missed; what a process says when it is
# started with nothing is in `SAYS`.
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if "migrations" not in module.name:
            importlib.import_module(module.name)
"""
PACKAGES = {
    "gateway": ["headrace_gateway"],
    "billing": ["headrace_billing"],
}
SAYS = {
    "gateway": (["headrace_gateway"], "valkey_url"),
    "billing": (["headrace_billing", "api"], "database_url"),
}


def environment() -> dict[str, str]:
    """The registry's and the proxy's settings of whoever runs the tests, and the tools of this environment."""
    kept = ("UV_", "PIP_", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy", "HOME", "XDG_")
    found = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    return found | {"PATH": f"{TOOLS}:{os.defpath}", "UV_SYSTEM_CERTS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def run(*command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment() | extra, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once."""
    folder = tmp_path_factory.mktemp("dist")
    built = run("sh", str(DOCKER / "build-wheel.sh"), str(folder))
    assert built.returncode == 0, built.stderr
    return folder


def installed(image: str, dist: Path, folder: Path) -> Path:
    """A clean environment with what the image's step installs; its Python."""
    made = run("uv", "venv", "--quiet", "--python", sys.executable, str(folder))
    assert made.returncode == 0, made.stderr
    python = folder / "bin" / "python"
    step = run("sh", str(DOCKER / "install.sh"), image, str(dist), str(folder), PYTHON=str(python))
    assert step.returncode == 0, step.stderr
    return python


@pytest.mark.parametrize("image", PACKAGES)
def test_an_image_has_all_that_its_process_imports(image: str, dist: Path, tmp_path: Path) -> None:
    python = installed(image, dist, tmp_path / "image")

    imported = run(str(python), "-I", "-c", IMPORT_ALL, *PACKAGES[image])
    assert imported.returncode == 0, imported.stderr

    arguments, said = SAYS[image]
    started = run(str(python), "-I", "-m", *arguments)
    assert started.returncode != 0
    assert said in started.stdout + started.stderr
    # Hundreds of megabytes that nobody looks at again.
    shutil.rmtree(tmp_path)
