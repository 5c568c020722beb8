"""The chart as Helm renders it, each pair of values and cluster once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NewType

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "headrace"
NAMESPACE = "models"
RELEASE = "headrace"

# What a cluster with KubeRay answers when Helm asks for its kinds.
WITH_KUBERAY = ("ray.io/v1/RayService",)

Values = dict[str, Any]
Manifest = dict[str, Any]
Notes = NewType("Notes", str)


class Refused(Exception):
    """Helm would not render; the message is what its user reads."""


class Release:
    """What a render makes: objects in the order of the templates, and the notes."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.notes = next(text for path, text in texts.items() if path.endswith("NOTES.txt"))
        self.objects: list[Manifest] = [
            document
            for path, text in sorted(texts.items())
            if path.endswith(".yaml")
            for document in yaml.load_all(text, yaml.CSafeLoader)
            if document is not None
        ]

    def of_kind(self, *kinds: str) -> list[Manifest]:
        return [found for found in self.objects if found["kind"] in kinds]

    def named(self, kind: str, name: str) -> Manifest:
        return next(found for found in self.of_kind(kind) if found["metadata"]["name"] == name)

    def workloads(self) -> list[tuple[Manifest, Manifest]]:
        """Each object that makes pods, with its pods' template (a pod's is itself)."""
        pods = [(pod, pod) for pod in self.of_kind("Pod")]
        made = self.of_kind("Deployment", "StatefulSet", "Job", "DaemonSet")
        return pods + [(found, found["spec"]["template"]) for found in made]


class Helm:
    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child
        self._rendered: dict[str, Release] = {}

    def render(
        self,
        values: Values,
        *,
        kinds: tuple[str, ...] = WITH_KUBERAY,
        upgrade: bool = False,
        name: str = RELEASE,
    ) -> Release:
        """Raises `Refused`."""
        options = {
            "name": name,
            "namespace": NAMESPACE,
            "api_versions": list(kinds),
            "is_upgrade": upgrade,
            "is_install": not upgrade,
        }
        asked = json.dumps({"values": values, "options": options}, sort_keys=True)
        if asked not in self._rendered:
            self._rendered[asked] = Release(self._ask(asked)["manifests"])
        return self._rendered[asked]

    def lint(self, values: Values) -> list[str]:
        """What Helm's own linter has to say beyond information."""
        report = self._ask(json.dumps({"values": values, "lint": True}))["lint"]
        return [message["error"] for message in report["messages"] if message["severity"] > 1]

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()
        answer: dict[str, Any] = json.loads(self._child.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer


@contextmanager
def running_helm() -> Iterator[Helm]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.chart.helm_child", str(CHART)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with child:
        try:
            yield Helm(child)
        finally:
            assert child.stdin is not None
            child.stdin.close()
            child.wait(10)
