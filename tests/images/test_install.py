"""Each image's install step, run in an empty environment: what it starts finds everything that it imports."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.dockerfile import DOCKER, ROOT

TOOLS = Path(sys.executable).parent

# Every module of what an image runs, so that one which is imported late is not missed, but those of the command
# `headrace`, which no image has; what a process says when it is started with nothing is in `SAYS`.
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if "migrations" not in module.name and not module.name.endswith(".command"):
            importlib.import_module(module.name)
"""
PACKAGES = {
    "gateway": ["headrace_gateway"],
    "billing": ["headrace_billing"],
    "operator": ["headrace_platform.control"],
}
SAYS = {
    "gateway": (["headrace_gateway"], "valkey_url"),
    "billing": (["headrace_billing", "api"], "database_url"),
    "operator": (["headrace_platform.control"], "environment"),
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


def installed(image: str, dist: Path, folder: Path, **extra: str) -> Path:
    """A clean environment with what the image's step installs; its Python."""
    made = run("uv", "venv", "--quiet", "--python", sys.executable, str(folder))
    assert made.returncode == 0, made.stderr
    python = folder / "bin" / "python"
    step = run("sh", str(DOCKER / "install.sh"), image, str(dist), str(folder), PYTHON=str(python), **extra)
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


def test_the_engine_s_image_has_ray_and_all_that_starts_it(dist: Path, tmp_path: Path) -> None:
    if not (ROOT / ".venv-engine" / ".complete").exists():
        pytest.skip("two gigabytes to fetch: `make setup` has them at hand")
    links = run(sys.executable, "-m", "pip", "config", "get", "global.find-links").stdout.strip()
    extra = {"UV_FIND_LINKS": os.environ.get("UV_FIND_LINKS", links)} if links else {}
    python = installed("engine", dist, tmp_path / "image", **extra)
    # vLLM takes half a minute to import, and `make test` does that elsewhere, from the same lock.
    imported = run(
        str(python),
        "-I",
        "-c",
        "import headrace_platform.serving.__main__, importlib.util as u; assert u.find_spec('vllm')",
    )
    assert imported.returncode == 0, imported.stderr
    # By its name on the path: that is how KubeRay starts it.
    ray = run(str(python.parent / "ray"), "--version")
    assert ray.stdout.startswith("ray, version"), ray.stderr
    shutil.rmtree(tmp_path)
