"""The machine that figures are of, and how busy others keep it; not its name."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil


def description() -> dict[str, str | int | float]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": interpreter(Path(sys.executable)),
    }


def interpreter(python: Path) -> str:
    """Its version, and whether the system brought it: how it was built makes much of what it costs."""
    asking = (
        "import platform, sys; system = ' of the system' if sys.base_prefix == '/usr' else ''; "
        "print(f'{platform.python_implementation()} {platform.python_version()}{system}')"
    )
    return subprocess.run([python, "-c", asking], check=True, capture_output=True, text=True).stdout.strip()


class Loads:
    """The load average before and after: more than the run's own two programs means that the machine is shared."""

    def __init__(self) -> None:
        self._before = os.getloadavg()[0]

    def told(self) -> dict[str, float]:
        return {"before": round(self._before, 2), "after": round(os.getloadavg()[0], 2)}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
