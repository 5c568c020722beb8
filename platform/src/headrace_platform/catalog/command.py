"""`headrace models`: what the catalogue knows, and where each model runs.

Exit status: 0 shown, 1 no model has that name, 2 the command was not understood.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace_platform.catalog.models import MODELS, ModelUnknown, find, near
from headrace_platform.catalog.profiles import PROFILES
from headrace_platform.catalog.record import Minimum, ModelRecord, Weights
from headrace_platform.catalog.shape import Latent
from headrace_platform.catalog.summary import ModelLine, ModelList, ModelPage, OnProfile, line, page, thinking

console = Console()
complaints = Console(stderr=True)

NOT_KNOWN = "not known"

# Shown in the list, which has no room for all; a model's own page has them all.
PROFILES_LISTED = ("h100", "h200", "b200", "mi300x")

# Whose arguments a page shows unless asked, the first of them that runs the model.
PROFILES_SHOWN = ("local-cpu", "h200")

# Widths add up to less than 80 columns.
COLUMNS = (
    ("model", 18),
    ("parameters", 14),
    ("context", 10),
    ("attention", 17),
    ("vLLM", 10),
    ("thinking", 10),
)


def models(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="One model; all without it.")] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="PROFILE", help="With ID: the engine's arguments there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The models of the catalogue: dimensions, weights, parsers, and the GPUs that each one takes."""
    if on is not None and name is None:
        raise typer.BadParameter("--on goes with a model's ID")
    if on is not None and on not in PROFILES:
        raise typer.BadParameter(f"there is no profile {on!r}; there are {', '.join(PROFILES)}")
    if name is None:
        lines = [line(record) for record in MODELS]
        show_json(ModelList(models=lines)) if as_json else show_list(lines)
        return
    try:
        record = find(name)
    except ModelUnknown:
        fail(name)
    whole = page(record)
    if on is not None:
        whole = msgspec.structs.replace(whole, profiles=[one for one in whole.profiles if one.profile == on])
    show_json(whole) if as_json else show_page(whole)


def fail(name: str) -> NoReturn:
    complaints.print(f"\nNo model is named {name}.", style="bold red", markup=False, highlight=False)
    meant = near(name)
    also = f"Did you mean {' or '.join(meant)}? " if meant else ""
    complaints.print(
        f"{also}`headrace models` lists them all.", markup=False, highlight=False, soft_wrap=True
    )
    raise typer.Exit(1)


def show_json(value: msgspec.Struct) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def show_list(lines: list[ModelLine]) -> None:
    console.print(Text("".join(f"{heading:<{width}}" for heading, width in COLUMNS).rstrip(), style="dim"))
    for one in lines:
        active = (
            "" if one.parameters_active in (None, one.parameters) else f" / {short(one.parameters_active)}"
        )
        cells = (
            one.id,
            f"{short(one.parameters)}{active}",
            tokens(one.context_tokens),
            one.attention or NOT_KNOWN,
            one.vllm_minimum or NOT_KNOWN,
            one.thinking or NOT_KNOWN,
        )
        text = Text()
        for cell, (_, width) in zip(cells, COLUMNS, strict=True):
            style = "bold" if cell is one.id else "dim" if cell == NOT_KNOWN else ""
            text.append(f"{cell:<{width}}", style=style)
        text.rstrip()
        console.print(text, no_wrap=True, crop=False)
        console.print(Text(f"  {where(one)}", style="dim"), no_wrap=True, crop=False)
    console.print(
        "\nGPUs are the fewest that hold the weights and some context, by estimate. `headrace models ID` "
        "has all that is known of one model, and the other GPUs.",
        highlight=False,
    )


def where(one: ModelLine) -> str:
    """A model's weights, licence and GPUs in one line."""
    said = [" ".join(one.formats), one.licence]
    if one.unserved:
        said.append(f"not served: {one.unserved}")
    elif 0 in one.gpus.values():
        said.append("this machine's CPU, or one GPU")
    else:
        said.append(", ".join(f"{one.gpus[name]} {name}" for name in PROFILES_LISTED if name in one.gpus))
    return " · ".join(said)


def show_page(whole: ModelPage) -> None:
    record = whole.record
    console.print(Text.assemble((record.id, "bold"), f"  {record.owned_by}, {record.licence}, {record.kind}"))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for heading, said in told(record):
        facts.add_row(heading, Text(said, style="dim" if said == NOT_KNOWN else ""))
    console.print(facts)
    show_weights(record)
    if record.unserved:
        console.print(f"\nNot served: {record.unserved}.", highlight=False)
        return
    show_profiles(whole.profiles)
    fitting = sorted(
        (one for one in whole.profiles if one.fits), key=lambda one: one.profile not in PROFILES_SHOWN
    )
    if fitting:
        show_engine(fitting[0], alone=len(whole.profiles) == 1)


def told(record: ModelRecord) -> Iterator[tuple[str, str]]:
    """The facts of a page, each with its heading."""
    if record.base:
        yield "fine-tune of", record.base
    if record.aliases:
        yield "also called", ", ".join(record.aliases)
    released = record.released_at
    yield "released", f"{datetime.fromtimestamp(released, UTC):%Y-%m-%d}" if released else NOT_KNOWN
    active = f", {short(record.parameters_active)} active" if record.parameters_active else ""
    yield "parameters", f"{short(record.parameters)}{active}"
    answers = f", answers up to {record.output_tokens_max:,}" if record.output_tokens_max else ""
    yield "context", f"{record.context_tokens:,} tokens{answers}" if record.context_tokens else NOT_KNOWN
    yield from dimensions(record)
    yield "thinking", thoughts(record)
    parsers = f"parser {record.tool_parser}" if record.tool_parser else NOT_KNOWN
    yield "tools", f"{parsers}, {record.tool_format} format" if record.tool_format else parsers
    yield "reasoning", f"parser {record.reasoning_parser}" if record.reasoning_parser else NOT_KNOWN
    yield "end tokens", " ".join(map(str, record.eos_ids)) if record.eos_ids else NOT_KNOWN
    if record.speculation:
        yield "drafts", f"{record.speculation.tokens} ahead, by {record.speculation.method}"
    yield "vLLM", f"{record.vllm_minimum} or later" if record.vllm_minimum else NOT_KNOWN
    if record.transformers_minimum:
        yield "transformers", f"{record.transformers_minimum} or later"
    if record.needs:
        yield "needs", ", ".join(record.needs)
    price = record.price
    cached = f"{price.cached} cached, " if price and price.cached is not None else ""
    yield (
        "list price",
        f"{price.input} in, {cached}{price.output} out, {price.currency} a million tokens ({price.source})"
        if price
        else NOT_KNOWN,
    )


def dimensions(record: ModelRecord) -> Iterator[tuple[str, str]]:
    shape = record.shape
    yield "class", record.architecture or NOT_KNOWN
    if shape is None:
        yield "dimensions", NOT_KNOWN
        return
    dense = f" ({shape.layers_dense} without experts)" if shape.experts else ""
    yield "layers", f"{shape.layers}{dense} of {shape.hidden} wide, vocabulary {shape.vocabulary:,}"
    attention = shape.attention
    said = f"{shape.attention_name}, {attention.heads} heads"
    if isinstance(attention, Latent):
        said += f", one entry of {attention.rank_kv}+{attention.head_dim_rotated} a token"
        if attention.linear:
            said += f" in {shape.layers - attention.linear.layers} layers"
        if attention.indexer:
            said += f", of which an indexer picks {attention.indexer.tokens_picked:,}"
    else:
        said += f" over {attention.heads_kv} of keys, {attention.head_dim} wide"
    yield "attention", said
    if shape.experts:
        shared = f", {shape.experts.shared} for all" if shape.experts.shared else ""
        yield "experts", f"{shape.experts.routed}, {shape.experts.per_token} a token{shared}"
    if shape.vision:
        most = shape.vision.image_tokens_max
        taken = f", an image takes up to {most:,} tokens" if most else ""
        yield "vision", f"{shape.vision.layers} layers of {shape.vision.hidden} wide{taken}"


def thoughts(record: ModelRecord) -> str:
    thought = record.thinking
    if thought is None:
        return NOT_KNOWN
    said = [thinking(record) or NOT_KNOWN]
    if thought.switch:
        said.append(f"`{thought.switch}` turns it off")
    if thought.efforts:
        said.append(f"efforts {', '.join(thought.efforts)} ({thought.effort_default} unless asked)")
    if thought.clear_switch:
        kept = "kept" if thought.keeps_by_default else "dropped"
        said.append(f"earlier thoughts {kept} unless `{thought.clear_switch}` says otherwise")
    return "; ".join(said)


def show_weights(record: ModelRecord) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading, justify in (
        ("weights", "left"),
        ("GB", "right"),
        ("from", "left"),
        ("recipe's GPUs", "left"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for weights in record.weights:
        recipes = [minimum for minimum in record.minimums if minimum.format is weights.format]
        table.add_row(
            str(weights.format),
            gigabytes(weights),
            weights.repository or "this distribution",
            Text(", ".join(map(recommended, recipes)) or NOT_KNOWN, style="" if recipes else "dim"),
        )
    console.print()
    console.print(table)


def recommended(minimum: Minimum) -> str:
    return f"{minimum.gpus} {minimum.profile}{' (whole context)' if minimum.whole_context else ''}"


def show_profiles(profiles: list[OnProfile]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("runs on", "as", "GPUs"):
        table.add_column(heading, no_wrap=True)
    for heading in ("weights GB", "cache GB", "context", "8K at once"):
        table.add_column(heading, justify="right", no_wrap=True)
    refusals: dict[str, list[str]] = {}
    for one in profiles:
        if one.reason is not None:
            refusals.setdefault(one.reason, []).append(one.profile)
            continue
        table.add_row(
            one.profile,
            one.format,
            division(one),
            f"{one.weights_gb_a_gpu:.1f}",
            f"{one.cache_gb_a_gpu:.1f}",
            f"{one.context_tokens:,}",
            f"{one.sequences_usual:,}",
        )
    console.print()
    if table.row_count:
        console.print(table)
        console.print(
            "GB are those of one GPU; the last column is how many requests of 8K tokens run at once, or of the "
            "context where that is shorter. All of it is estimated.",
            style="dim",
            highlight=False,
        )
    for reason, names in refusals.items():
        console.print(
            Text.assemble(("not on ", "dim"), ", ".join(names), (f": {reason}", "dim")), highlight=False
        )


def division(one: OnProfile) -> str:
    if not one.gpus:
        return "none"
    if one.gpus == 1:
        return "1"
    over = f" on {one.nodes} nodes" if one.nodes and one.nodes > 1 else ""
    return f"{one.gpus}{over}"


def show_engine(one: OnProfile, *, alone: bool) -> None:
    others = "" if alone else " (`--on` has it for another)"
    console.print(f"\nThe engine on {one.profile}{others}:", style="dim", highlight=False)
    for name, value in (one.engine_environment or {}).items():
        console.print(f"  {name}={value} \\", highlight=False, soft_wrap=True)
    console.print("  vllm serve \\", highlight=False)
    options = list(grouped(one.engine_arguments or []))
    for option in options:
        end = "" if option is options[-1] else " \\"
        console.print(Text(f"    {option}{end}"), soft_wrap=True)


def grouped(arguments: list[str]) -> Iterator[str]:
    """Each option with its value, as one would type it."""
    option: list[str] = []
    for argument in arguments:
        if argument.startswith("--") and option:
            yield " ".join(option)
            option = []
        option.append(f"'{argument}'" if argument.startswith("{") else argument)
    if option:
        yield " ".join(option)


def short(count: int | None) -> str:
    """A number of parameters in three digits."""
    if count is None:
        return NOT_KNOWN
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def tokens(count: int | None) -> str:
    if count is None:
        return NOT_KNOWN
    return f"{count // 1024}K" if count < 2**20 else f"{count // 2**20}M"


def gigabytes(weights: Weights) -> str:
    size = weights.size_bytes / 10**9
    return f"{size:,.0f}" if size >= 10 else f"{size:.1g}"
