"""The command `headrace`, put together: each room brings its own subcommands."""

from headrace_platform.catalog.command import models
from headrace_platform.control.command import render
from headrace_platform.demo.command import demo
from headrace_platform.local.cli import app

app.command()(demo)
app.command()(models)
app.command()(render)

__all__ = ["app"]
