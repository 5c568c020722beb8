"""Helm itself, in a process of its own: a line of JSON in is a render asked for, a line out is its result.

Helm's library brings Go's runtime along, with threads and signal handlers that a test process has no use for.
"""

import json
import sys
from typing import Any

from helm_python import _native
from helm_python.chart import Chart, lint
from helm_python.errors import HelmError


def main(path: str) -> None:
    # Helm tells on standard output what it thinks of some templates; ours has to stay one line a render.
    answers = sys.stdout
    with Chart.load(path) as chart:
        for line in sys.stdin:
            answers.write(json.dumps(answered(chart, path, json.loads(line))) + "\n")
            answers.flush()


def answered(chart: Chart, path: str, asked: dict[str, Any]) -> dict[str, Any]:
    values = asked["values"]
    try:
        chart.validate_schema(values)
        if "lint" in asked:
            return {"lint": lint(path, values, strict=True)}
        text = _native.call_string(
            "helm_render", chart._raw(), json.dumps(values), json.dumps(asked["options"])
        )
    except HelmError as error:
        return {"error": str(error)}
    return {"manifests": json.loads(text)}


if __name__ == "__main__":
    main(sys.argv[1])
