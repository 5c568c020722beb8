"""The command `headrace`, put together: each room brings its own subcommands."""

from headrace_platform.catalog.command import models
from headrace_platform.control.command import render
from headrace_platform.demo.command import demo
from headrace_platform.local.cli import app
from headrace_platform.reconciliation.command import reconcile

app.command()(demo)
app.command()(models)
app.command()(render)
app.command()(reconcile)

__all__ = ["app"]
