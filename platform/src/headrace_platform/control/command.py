"""`headrace render`: what the operator would make of a ModelDeployment, without a cluster."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from headrace_platform.control.deployment import DeploymentUnreadable, ModelDeployment, decode
from headrace_platform.control.environment import Environment, EnvironmentUnreadable, decode_environment
from headrace_platform.control.labels import Manifest
from headrace_platform.control.render import render as render_manifests
from headrace_platform.control.route import render_route
from headrace_platform.control.rules import violations
from headrace_platform.control.yaml_file import FileUnreadable, read

LINE_CHARACTERS = 110

complaints = Console(stderr=True)


def render(
    file: Annotated[Path, typer.Argument(help="A ModelDeployment, as YAML or JSON.")],
    environment: Annotated[
        Path,
        typer.Option(
            help="The operator's settings, as the chart writes them.", envvar="HEADRACE_OPERATOR_ENVIRONMENT"
        ),
    ],
) -> None:
    """Print the Kubernetes objects of a ModelDeployment; exit status 1 if it breaks a rule."""
    try:
        settings: Environment = decode_environment(read(environment))
        deployment: ModelDeployment = decode(read(file))
    except (DeploymentUnreadable, EnvironmentUnreadable, FileUnreadable) as error:
        complain(str(error))
        raise typer.Exit(1) from error
    found = violations(deployment, settings)
    for violation in found:
        complain(f"{violation.path}: {violation.message} [{violation.code}]")
    if found:
        raise typer.Exit(1)
    typer.echo(
        documents((*render_manifests(deployment, settings), render_route(deployment, settings))), nl=False
    )


def documents(manifests: tuple[Manifest, ...]) -> str:
    dumped: str = yaml.dump_all(
        manifests,
        Dumper=_Plain,
        sort_keys=False,
        explicit_start=True,
        allow_unicode=True,
        width=LINE_CHARACTERS,
    )
    return dumped


def complain(text: str) -> None:
    complaints.print(text, markup=False, highlight=False, soft_wrap=True)


class _Plain(yaml.SafeDumper):
    """Texts of several lines as blocks, and nothing by reference: kubectl and people read it."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _block(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Plain.add_representer(str, _block)
