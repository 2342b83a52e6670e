"""How a benchmark says what it found, and its exit status."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from benchmarks.server_process import BenchmarkError
from server.errors import LeewayError

Document = dict[str, Any]


def check_data(data: Path) -> None:
    """Refuse a data file that is not there, in words that help.

    Raises:
        BenchmarkError: it is not a file.
    """
    if not data.is_file():
        raise BenchmarkError(
            f"there is no data file {data}; give one in SQuAD 1.1 format, plain or .gz (--data FILE, or "
            "DATA=FILE for make bench). SQuAD's own dev-v1.1.json is at https://rajpurkar.github.io/SQuAD-explorer/"
        )


def say(line: str) -> None:
    """A line of progress, to stderr."""
    typer.echo(line, err=True)


def finish(document: Mapping[str, Any]) -> None:
    """Print the document as the last line; exit status 1 if its list ``broken`` names a broken limit."""
    for breach in document["broken"]:
        say(f"broken limit: {breach}")
    typer.echo(json.dumps(document, allow_nan=False))
    if document["broken"]:
        raise typer.Exit(1)


def plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """One line and exit status 2 for a measurement that could not be made."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (BenchmarkError, LeewayError, OSError, ValueError) as error:
            say(f"{command.__name__}: {error}")
            raise typer.Exit(2) from error

    return wrapped
