"""`headrace models`: what the catalogue knows, and where each model runs.

Exit status: 0 shown, 1 no model has that name, 2 the command was not understood.
"""

import sys
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from headrace_platform.catalog.figures import NOT_KNOWN, short, tokens
from headrace_platform.catalog.models import MODELS, ModelUnknown, find, near
from headrace_platform.catalog.page import show_page
from headrace_platform.catalog.profiles import PROFILES
from headrace_platform.catalog.summary import ModelLine, ModelList, line, page

console = Console()
complaints = Console(stderr=True)

# Shown in the list, which has no room for all; a model's own page has them all.
PROFILES_LISTED = ("h100", "h200", "b200", "mi300x")

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
    name: Annotated[str | None, typer.Argument(metavar="ID", help="One model; all without it.")] = None,
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
    complaints.print(
        f"\nNo model is named {name}.", style="bold red", markup=False, highlight=False, soft_wrap=True
    )
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
