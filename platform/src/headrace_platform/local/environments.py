"""Where the two Python environments are: ours, and the engine's beside it."""

import os
import shutil
import sys
from pathlib import Path

from headrace_platform.local.problems import EngineMissing

ENGINE_PYTHON_VARIABLE = "HEADRACE_ENGINE_PYTHON"


def services_python() -> Path:
    """The interpreter that runs us: the services live in the same environment."""
    return Path(sys.executable)


def engine_python(chosen: str | None = None) -> Path:
    """The interpreter that has Ray and vLLM; `chosen` (or the environment variable) replaces the usual place.

    Raises `EngineMissing`.
    """
    chosen = chosen or os.environ.get(ENGINE_PYTHON_VARIABLE)
    python = Path(chosen) if chosen else Path(sys.prefix).parent / ".venv-engine" / "bin" / "python"
    if shutil.which(python) is None:
        raise EngineMissing(
            f"The engine's environment is missing: there is no Python at {python}.",
            next_step=(
                "Run `make setup`, or give the gateway an engine that runs elsewhere: "
                "`headrace up --upstream URL`."
            ),
        )
    return python.absolute()
