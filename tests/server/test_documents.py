"""SETTINGS.md and METRICS.md hold every setting and every metric, in their own words, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from server.metrics import Metrics
from server.options import _MADE_DEFAULTS
from server.settings import Settings

FOLDER = Path(__file__).parents[2] / "server"


def table_of(document: str) -> list[str]:
    """Rows of the first table, without its head."""
    lines = (FOLDER / document).read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| --- "))
    rows = []
    for line in lines[first + 1 :]:
        if not line.startswith("|"):
            break
        rows.append(line)
    return rows


def number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.10g}"


def default_of(name: str, field: FieldInfo) -> str:
    if field.default_factory is not None:
        return _MADE_DEFAULTS[name]
    if field.default is None:
        return "none"
    if isinstance(field.default, int | float):
        return number(field.default)
    return f"`{field.default}`"


def values_of(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{each}`" for each in get_args(field.annotation))
    lowest = next((f"from {number(each.ge)}" for each in field.metadata if isinstance(each, Ge)), "")  # type: ignore[arg-type]
    above = next((f"above {number(each.gt)}" for each in field.metadata if isinstance(each, Gt)), "")  # type: ignore[arg-type]
    highest = next((f"to {number(each.le)}" for each in field.metadata if isinstance(each, Le)), "")  # type: ignore[arg-type]
    below = next((f"below {number(each.lt)}" for each in field.metadata if isinstance(each, Lt)), "")  # type: ignore[arg-type]
    limits = " ".join(part for part in (lowest, above, highest, below) if part)
    kinds = {str: "text", Path: "folder", int: "whole number", float: "number"}
    kind = next(text for kind, text in kinds.items() if field.annotation == kind or kind in get_args(field.annotation))
    return f"{kind} {limits}".strip()


def setting_row(name: str, field: FieldInfo) -> str:
    return f"| `LEEWAY_{name.upper()}` | {default_of(name, field)} | {values_of(field)} | {field.description} |"


def test_every_setting_is_documented() -> None:
    expected = [setting_row(name, field) for name, field in Settings.model_fields.items()]
    assert table_of("SETTINGS.md") == expected, "the table should be\n" + "\n".join(expected)


def metric_rows() -> list[str]:
    rows = []
    collectors = Metrics().registry._collector_to_names
    for collector in collectors:
        labels = ", ".join(f"`{label}`" for label in getattr(collector, "_labelnames", ()))
        (family,) = collector.collect()
        suffix = "_total" if family.type == "counter" else ""
        rows.append(f"| `{family.name}{suffix}` | {family.type} | {labels} | {family.documentation} |")
    return rows


def test_every_metric_is_documented() -> None:
    expected = metric_rows()
    assert table_of("METRICS.md") == expected, "the table should be\n" + "\n".join(expected)


@pytest.mark.parametrize("document", ["SETTINGS.md", "METRICS.md"])
def test_the_text_names_only_what_there_is(document: str) -> None:
    text = (FOLDER / document).read_text(encoding="utf-8")
    known_settings = {f"LEEWAY_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"LEEWAY_[A-Z_]+", text)) <= known_settings
    known = " ".join(metric_rows())
    for name in re.findall(r"leeway_[a-z0-9_]+", text):
        assert f"`{re.sub('_(bucket|sum|count)$', '', name)}`" in known, name
