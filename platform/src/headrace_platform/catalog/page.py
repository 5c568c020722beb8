"""A model's page in a terminal: what is known of it, where it runs, and how its engine is started there."""

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace_platform.catalog.figures import NOT_KNOWN, short
from headrace_platform.catalog.record import Minimum, ModelRecord, Weights
from headrace_platform.catalog.shape import Latent
from headrace_platform.catalog.summary import ModelPage, OnProfile, thinking

console = Console()

# Whose arguments a page shows unless asked, the first of them that runs the model.
PROFILES_SHOWN = ("local-cpu", "h200")


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
        sees = shape.vision
        yield (
            "vision",
            f"{sees.layers} layers of {sees.hidden} wide, an image takes up to {sees.image_tokens_max:,} tokens",
        )
    if shape.hearing:
        hears = shape.hearing
        said = f"{hears.layers} layers of {hears.hidden} wide, a token each {hears.token_milliseconds} ms"
        yield "hearing", f"{said}, recordings of up to {hears.seconds_max} s"


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


def gigabytes(weights: Weights) -> str:
    size = weights.size_bytes / 10**9
    return f"{size:,.0f}" if size >= 10 else f"{size:.1g}"
