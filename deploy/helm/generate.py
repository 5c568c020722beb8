"""Writes what of the chart follows from something else; a test fails where it was not run.

- README.md: every value with its default and the comment above it in values.yaml;
- values.schema.json, `$defs.modelDeployment`: the object's spec as its definition in crds/ has it, closed;
- images.txt: every image that the chart can name, for a registry that has no way out.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

CHART = Path(__file__).parent / "headrace"
CRD = "crds/headrace.dev_modeldeployments.yaml"

BEGIN = "<!-- values -->\n"

# The engine runs by digest, which is not known before it is built; these are its builds, by the chart's version.
ENGINES = ("headrace/engine", "headrace/engine-cuda")

# Everything that names an image, switched on.
ALL_IMAGES = {
    "auth": {"existingSecret": "auth"},
    "evaluation": {"enabled": True, "existingSecret": "evaluation"},
    "tests": {"existingSecret": "key"},
    "images": {"engine": {"digest": "sha256:" + "0" * 64}},
    "cluster": {"checkKubeRay": False},
}
IMAGE = re.compile(r'^\s*(?:- )?image: "?([^\s"]+)"?$', re.MULTILINE)


def main() -> int:
    for name, content in generated().items():
        (CHART / name).write_text(content)
    return 0


def generated() -> dict[str, str]:
    """What each generated file should hold."""
    return {"README.md": readme(), "values.schema.json": schema(), "images.txt": images()}


def readme() -> str:
    head = (CHART / "README.md").read_text().partition(BEGIN)[0]
    rows = "".join(f"| `{path}` | {default} | {text} |\n" for path, default, text in described())
    return f"{head}{BEGIN}\n| value | default | what it is for |\n|---|---|---|\n{rows}"


def described() -> Iterator[tuple[str, str, str]]:
    """Each value with a comment of its own: path, default, comment."""
    text = (CHART / "values.yaml").read_text()
    lines = text.splitlines()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    yield from _described(root, "", lines)


def _described(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[tuple[str, str, str]]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        comment = _comment_above(key.start_mark.line, lines)
        nested = isinstance(value, yaml.MappingNode) and not value.flow_style
        if comment:
            default = "" if nested else f"`{_flow(value)}`"
            yield path, default, comment.replace("|", "\\|")
        if nested:
            yield from _described(value, f"{path}.", lines)


def _comment_above(line: int, lines: list[str]) -> str:
    words: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        words.insert(0, lines[line].strip().removeprefix("#").strip())
    return " ".join(words)


def _flow(node: yaml.Node) -> str:
    return yaml.serialize(node, width=1000).strip().removesuffix("\n...").replace("\n", " ")


def schema() -> str:
    document = json.loads((CHART / "values.schema.json").read_text())
    definition = yaml.safe_load((CHART / CRD).read_text())
    version = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    document["$defs"]["modelDeployment"] = closed(version["properties"]["spec"])
    return json.dumps(document, indent=2) + "\n"


def closed(node: Any) -> Any:
    """An OpenAPI schema of Kubernetes as a JSON schema that takes no property it does not know."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: closed(value)
        for key, value in node.items()
        # `properties` may be named like keywords, so only at a schema's own level.
        if not key.startswith("x-kubernetes-") and key not in ("default", "description", "format")
    }
    if "properties" in node:
        kept["properties"] = {name: closed(value) for name, value in node["properties"].items()}
        kept.setdefault("additionalProperties", False)
    return kept


def images() -> str:
    with Chart.load(CHART) as chart:
        rendered = chart.render(ALL_IMAGES, name="headrace", namespace="headrace")
        engines = {f"{engine}:{chart.metadata['appVersion']}" for engine in ENGINES}
    named = {image for text in rendered.values() for image in IMAGE.findall(text)}
    return "".join(f"{image}\n" for image in sorted(named | engines))


if __name__ == "__main__":
    sys.exit(main())
