"""`python -m headrace_platform.local`: the stack's commands where the script `headrace` is not installed."""

from headrace_platform.local.cli import app

app()
