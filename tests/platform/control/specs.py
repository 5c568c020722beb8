"""Hypothesis' way to specs: anything that the schema takes, and examples with some of it in them."""

from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from headrace_platform.control import crd
from headrace_platform.control.deployment import DEPLOYMENT_NAME_CHARACTERS_MAX
from tests.platform.control.examples import NAMES, body

SPEC = crd.schema()["properties"]["spec"]

moments = st.builds(
    lambda moment, zone: f"{moment:%Y-%m-%dT%H:%M:%S}{zone}",
    st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 30)),  # noqa: DTZ001 - the zone is told beside it
    st.sampled_from(["Z", "+02:00", "-11:30"]),
)
names = st.from_regex(rf"[a-z]([-a-z0-9]{{0,{DEPLOYMENT_NAME_CHARACTERS_MAX - 2}}}[a-z0-9])?", fullmatch=True)
namespaces = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Whatever the schema takes; lists and maps stay short."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            least, most = schema.get("minimum", 0), schema.get("maximum", 2**31)
            return st.integers(least, min(most, least + 64)) | st.integers(least, most)
        case "string" if schema.get("format") == "date-time":
            return moments
        case "string" if "pattern" in schema:
            longest = schema.get("maxLength", 64)
            return st.from_regex(
                schema["pattern"].replace("$", r"\Z"), alphabet=st.characters(codec="ascii")
            ).filter(lambda text: schema.get("minLength", 0) <= len(text) <= longest)
        case "string":
            return st.text(min_size=schema.get("minLength", 0), max_size=20)
        case "array":
            unique = schema.get("x-kubernetes-list-type") == "set"
            return st.lists(
                values(schema["items"]), min_size=schema.get("minItems", 0), max_size=3, unique=unique
            )
        case "object" if "additionalProperties" in schema:
            return st.dictionaries(st.text(max_size=10), values(schema["additionalProperties"]), max_size=2)
        case "object":
            inside = {name: values(inner) for name, inner in schema["properties"].items()}
            needed = {name: inside.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(needed, optional=inside)
    raise AssertionError(f"a schema of no known type: {schema}")


def fields(schema: dict[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """Every field that may be there by itself: below an object that needs no other one."""
    found: dict[str, dict[str, Any]] = {}
    for name, inner in schema["properties"].items():
        found[f"{prefix}{name}"] = inner
        if "properties" in inner and not inner.get("required"):
            found |= fields(inner, f"{prefix}{name}.")
    return found


# Made once: a strategy is expensive to build, and its parts to compile.
FIELDS = {path: values(schema) for path, schema in fields(SPEC).items()}
SPECS = values(SPEC)


@st.composite
def changed_examples(draw: st.DrawFn) -> dict[str, Any]:
    """An example with up to three fields set to something else, so that many still can be rendered."""
    chosen = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=3, unique=True))
    # The shorter path first: a field inside another must not be lost when that one is set.
    changes = {path: draw(FIELDS[path]) for path in sorted(chosen)}
    whole = body(draw(st.sampled_from(NAMES)), changes)
    whole["metadata"] |= {"name": draw(names), "namespace": draw(namespaces)}
    return whole


@st.composite
def deployments(draw: st.DrawFn) -> dict[str, Any]:
    """Any object that the schema takes."""
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": draw(names), "namespace": draw(namespaces), "uid": "u"},
        "spec": draw(SPECS),
    }
