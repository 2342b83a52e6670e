"""Command line options made from the fields of `Settings`, so that help and settings cannot drift apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Optional, get_type_hints

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from server.settings import Settings

_MADE_DEFAULTS = {
    "store": "the packaged one",
    "profile_dir": "leeway/profiles in XDG_CACHE_HOME or ~/.cache",
}
"""What the help says of defaults that a function makes."""


def with_settings_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: add an option for each named field of `Settings` (all, if none is named).

    The function takes them as ``**given``, only those that the user gave.
    """
    fields = {name: field for name, field in Settings.model_fields.items() if not names or name in names}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [each for each in inspect.signature(function).parameters.values() if each.kind != each.VAR_KEYWORD]
        hints = get_type_hints(function, include_extras=True)

        def command(**values: Any) -> None:
            given = {name: values.pop(name) for name in fields if name in values}
            function(**values, **{name: value for name, value in given.items() if value is not None})

        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name, field))
            for name, field in fields.items()
        ]
        keywords = [each.replace(kind=each.KEYWORD_ONLY, annotation=hints[each.name]) for each in own]
        command.__name__ = function.__name__
        command.__doc__ = function.__doc__
        command.__signature__ = inspect.Signature([*keywords, *options])  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in [*keywords, *options]}
        return command

    return decorate


def settings_of(given: dict[str, Any]) -> Settings:
    """Settings from options, then the environment, then defaults.

    Raises:
        typer.BadParameter: a value that a setting cannot have; the message names all of them.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise typer.BadParameter("; ".join(problems)) from error


def _annotation(name: str, field: FieldInfo) -> Any:
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=f"{field.description} (LEEWAY_{name.upper()}; {_default_text(name, field)})",
        show_default=False,
    )
    return Annotated[Optional[field.annotation], option]  # noqa: UP045 - made at run time


def _default_text(name: str, field: FieldInfo) -> str:
    return f"default: {_MADE_DEFAULTS[name] if field.default_factory is not None else field.default}"
