"""docs/reference/models.md, written from the records: `python -m headrace_platform.catalog.reference > FILE`.

A test compares the file with what this makes of the records.
"""

import sys
from collections.abc import Iterable, Iterator

from headrace_platform.catalog.figures import NOT_KNOWN, short
from headrace_platform.catalog.memory import GB, MEMORY_SHARE, OVERHEAD_BYTES
from headrace_platform.catalog.models import MODELS
from headrace_platform.catalog.placement import (
    CONTEXT_SHARE,
    CONTEXT_TOKENS_MIN,
    SEQUENCE_TOKENS_USUAL,
)
from headrace_platform.catalog.profiles import PROFILES, Profile
from headrace_platform.catalog.record import ModelRecord
from headrace_platform.catalog.sizes import NODES_MAX
from headrace_platform.catalog.summary import placements, thinking

BEGINNING = """# Models

<!-- Written by `python -m headrace_platform.catalog.reference` from platform/src/headrace_platform/catalog/records/. -->

Headrace knows a model by its *record*: dimensions, weights, parsers, flags, thinking, list price. Nothing goes by a
model's family, since two models of one may need different flags. What is not known is said to be so and never
guessed. `headrace models` shows the list, `headrace models ID` all of one model with what each GPU can run and the
engine's arguments, and `--json` gives either to a program.
"""

PLACEMENT = """## Where they run

The fewest GPUs of each kind that hold a model, in the format that is preferred among those that fit. An empty cell:
it does not fit, does not run there, or that is not known; `headrace models ID` says which.
"""

RECKONING = f"""The figures are reckoned, not measured. An engine is given {MEMORY_SHARE:.0%} of a GPU's memory; weights take their
size divided by tensor and pipeline sizes, activations, graphs and buffers {OVERHEAD_BYTES // GB} GB, and the rest is the
key-value cache. Grouped-query attention divides a token's entry over the tensor group; latent attention repeats it on
each GPU, so more GPUs in a group leave more room beside the weights and do not divide what a token takes; linear
attention (KDA) takes a fixed amount a request. The formulas, with their sources, are in
`catalog/memory.py`; `catalog/placement.py` draws the conclusions:

- a placement never has fewer GPUs than the model's maker or vLLM's recipe names;
- one node is better than several, and {NODES_MAX} nodes are the most;
- the context is shortened where the cache could not hold a whole one, down to {CONTEXT_TOKENS_MIN:,} tokens, and one request may
  have {CONTEXT_SHARE:.0%} of the estimated cache;
- the engine is set up for as many requests at once as the cache holds at {SEQUENCE_TOKENS_USUAL:,} tokens each.

The line "GPU KV cache size" of an engine's log says what it really has.
"""

PROFILES_TOLD = """## GPUs

`profiles.toml` holds what is known of each. *Not known* is treated as no: a plan must not rest on it.
"""

ADDING = """## Add a model

1. Write `catalog/records/<id>.toml`. The file's name is the id: lower-case letters, digits, dots and dashes, at most 40
   characters. Each field is explained in `catalog/record.py` and `catalog/shape.py`; leave out what is not known, and say
   in a comment where a fact comes from. A release with another one's dimensions takes them with
   `same_shape_as = "ID"`, which takes architecture and shape and nothing else.
2. `[[weights]]`, the preferred one first: a `repository` (with `revision`, its commit) or a `folder` below
   `catalog/weights/`, the `format`, and `size_bytes`, from which the placement is reckoned.
3. What only some hardware needs goes under `[hardware.NAME]`, by profile (`h200`), generation (`hopper`) or backend
   (`rocm`); the narrower one wins.
4. Run `pytest tests/platform/catalog`. It holds class, parsers and every argument against the installed vLLM,
   and the configuration against Ray Serve. A mistake in the file is told by model and field.
5. Write this page anew: `python -m headrace_platform.catalog.reference > docs/reference/models.md`.

## Add a fine-tune

A record with `base = "ID"` inherits everything but what is a fine-tune's own: names, revision, owner, date, licence,
weights, published minimums and price. What it has otherwise, it overrides, tables key by key; what its base has and it
has not, it names in `without`:

```toml
id = "acme-support"
base = "glm-4.5-air"
without = ["speculation"]       # its weights have no layer that drafts
revision = "1"
owned_by = "acme"
licence = "MIT"
tool_parser = "qwen3_coder"     # it was trained on another template

[[weights]]
format = "fp8"
repository = "acme/support-106b-fp8"
revision = "0123456789abcdef0123456789abcdef01234567"
size_bytes = 110_000_000_000
```
"""


def reference() -> str:
    return "\n".join(
        (
            BEGINNING,
            table(MODEL_HEADINGS, map(model_row, MODELS)),
            PLACEMENT,
            table(("model", *(name for name in PROFILES)), placement_rows()),
            *(f"- {record.id} is not served: {record.unserved}." for record in MODELS if record.unserved),
            "",
            RECKONING,
            PROFILES_TOLD,
            table(("profile", "GPU", "GB", "a node", "computes with", "sparse attention"), profile_rows()),
            ADDING.rstrip(),
            "",
        )
    )


MODEL_HEADINGS = (
    *("model", "parameters (active)", "context", "attention", "weights", "tools / reasoning parser"),
    *("thinking", "vLLM", "licence"),
)


def model_row(record: ModelRecord) -> tuple[str, ...]:
    active = f" ({short(record.parameters_active)})" if record.parameters_active else ""
    weights = ", ".join(
        f"{weights.format}: {f'`{weights.repository}`' if weights.repository else 'in this distribution'}"
        for weights in record.weights
    )
    return (
        f"{record.id}{f', from {record.base}' if record.base else ''}",
        f"{short(record.parameters)}{active}",
        f"{record.context_tokens:,}" if record.context_tokens else NOT_KNOWN,
        record.shape.attention_name if record.shape else NOT_KNOWN,
        weights,
        f"{record.tool_parser or NOT_KNOWN} / {record.reasoning_parser or NOT_KNOWN}",
        thinking(record) or NOT_KNOWN,
        record.vllm_minimum or NOT_KNOWN,
        record.licence,
    )


def placement_rows() -> Iterator[tuple[str, ...]]:
    for record in MODELS:
        if record.unserved:
            continue
        cells = {}
        for profile, placement in placements(record):
            over = f", {placement.nodes} nodes" if placement.nodes > 1 else ""
            cells[profile.id] = f"{placement.gpus or 'CPU'} {placement.format}{over}"
        yield (record.id, *(cells.get(name, "") for name in PROFILES))


def profile_rows() -> Iterator[tuple[str, ...]]:
    for profile in PROFILES.values():
        yield (
            profile.id,
            profile.name,
            str(profile.memory_gb),
            str(profile.gpus_a_node or ""),
            computes_with(profile),
            {True: "yes", False: "no", None: NOT_KNOWN}[profile.sparse_attention],
        )


def computes_with(profile: Profile) -> str:
    return ", ".join(stored for stored, able in profile.formats.items() if able)


def table(headings: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [tuple(headings), *rows]
    rule = "|" + "---|" * len(lines[0])
    told = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join((told[0], rule, *told[1:], ""))


if __name__ == "__main__":
    sys.stdout.write(reference())
