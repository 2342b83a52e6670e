"""The document as one HTML page that needs nothing else: no script, no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import log10
from typing import Any

from loadtest.figures import PERCENTILES
from loadtest.svg import Axes, Points, lines, stacked

_OUTCOME_COLOURS = {
    "served_in_budget": "#2a9d5c",
    "served_late": "#e9b44c",
    "rejected_infeasible": "#7d8597",
    "rejected_overload": "#d1495b",
    "expired_in_queue": "#8d3b72",
    "client_gone": "#3d405b",
    "failed": "#000000",
}
_COLOURS = (
    "#0b7285",
    "#74b816",
    "#e8590c",
    "#5f3dc4",
    "#c2255c",
    "#1971c2",
    "#f08c00",
    "#2b8a3e",
    "#862e9c",
    "#495057",
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #1d2129 }
table { border-collapse: collapse; margin: .5em 0 }
th, td { padding: .15em .8em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: #444 } .grid { stroke: #e3e3e3 }
.keys span { margin-right: 1.2em; font-size: 13px }
.keys i { display: inline-block; width: .8em; height: .8em; margin-right: .3em }
.verdict { font-size: 1.2em; font-weight: 600 } pre { overflow-x: auto; background: #f5f5f5; padding: 1em }
"""


def page_of(document: Mapping[str, Any], latencies: Sequence[float]) -> str:
    """The page.

    Args:
        document: of `loadtest.report.document_of`.
        latencies: of the answered requests, in milliseconds, for their distribution.
    """
    title = f"Load test: {document['scenario']}"
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(document['about'])}</p>",
        _verdict(document),
        _key_figures(document),
        _over_time(document),
        _distribution(latencies),
        *(
            _groups(document, kind, name)
            for kind, name in (("phases", "Phases"), ("budgets", "Budgets"), ("lengths", "Lengths"))
        ),
        _search(document),
        _rest(document),
    ]
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _verdict(document: Mapping[str, Any]) -> str:
    if document["void"] is not None:
        return f'<p class="verdict">Void: {escape(document["void"])}</p>'
    if not document["broken"]:
        return '<p class="verdict">Passed</p>'
    rows = [[each["limit"], each["of"], _text(each["bound"]), _text(each["found"])] for each in document["broken"]]
    return f'<p class="verdict">Failed</p>{_table(["broken limit", "of", "bound", "found"], rows)}'


def _key_figures(document: Mapping[str, Any]) -> str:
    low, high = document["slo_attainment_interval"]
    capacity = document["capacity"] or {"rate": None, "idle_full_ms": None}
    rows = [
        ["offered requests", str(document["offered"])],
        ["offered per second", _text(document["offered_rate"])],
        ["SLO attainment (95% interval)", f"{_text(document['slo_attainment'])} ({low:.4f} to {high:.4f})"],
        ["goodput per second", _text(document["goodput"])],
        ["effective F1", _text(document["effective_f1"])],
        ["F1 of the answers", _text(document["answered_f1"])],
        ["expected F1 of the answers (X-Expected-F1)", _text(document["expected_f1"])],
        ["late, but the server said in time", str(document["late_but_said_met"])],
        ["last quarter's median latency over the first's", _text(document["drift"])],
        ["capacity of full per second", _text(capacity["rate"])],
        ["idle median of full, ms", _text(capacity["idle_full_ms"])],
    ]
    outcomes = [[name, str(count)] for name, count in document["outcomes"].items()]
    names = [*PERCENTILES, "mean", "max"]
    times = [
        [what, *(_text(document[key][name]) for name in names)]
        for key, what in (
            ("latency_ms", "latency of answers, from the intended time"),
            ("latency_of_all_ms", "of all offered; without an answer: infinite"),
            ("latency_from_sending_ms", "of answers, from sending"),
            ("server_ms", "of answers, as the server says"),
            ("generator_lag_ms", "generator lag"),
        )
    ]
    return _table(["figure", "value"], rows) + _table(["outcome", "requests"], outcomes) + _table(["ms", *names], times)


def _over_time(document: Mapping[str, Any]) -> str:
    over, seconds = document["over_time"], document["seconds"]
    width = over["bin_seconds"]
    parts = ["<h2>Over time</h2>"]
    for key, name in (("outcomes", "requests"), ("length_configs", "answers")):
        series = {label: [count / width for count in counts] for label, counts in over[key].items()}
        colours = _OUTCOME_COLOURS if key == "outcomes" else _coloured(series)
        most = max((sum(column) for column in zip(*series.values(), strict=True)), default=0.0)
        parts.append(stacked(Axes("seconds", f"{name} per second", seconds, most), width, series, colours))
    for keys, name in ((("p50_ms", "p99_ms"), "latency, ms"), (("lag_p99_ms",), "generator lag, ms")):
        series_of = {key: _points(over[key], width) for key in keys}
        most = max((y for points in series_of.values() for _, y in points), default=0.0)
        parts.append(lines(Axes("seconds", name, seconds, most), series_of, _coloured(series_of)))
    return "".join(parts)


def _distribution(latencies: Sequence[float]) -> str:
    """Share of the answers that took longer, on a logarithmic scale: the tail is what is looked at."""
    ascending = sorted(latencies)
    if not ascending:
        return ""
    count = len(ascending)
    step = max(1, count // 400)
    kept = sorted({*range(0, count, step), *range(max(0, count - 400), count)})
    points = [(ascending[place], log10((count - place) / count)) for place in kept]
    axes = Axes("latency, ms", "log10(share at least as slow)", ascending[-1], 0.0, points[-1][1])
    return "<h2>Distribution</h2>" + lines(axes, {"answers": points}, {"answers": _COLOURS[0]})


def _groups(document: Mapping[str, Any], kind: str, name: str) -> str:
    if len(document[kind]) < 2:
        return ""
    rows = [
        [
            label,
            str(part["offered"]),
            *(_text(part[key]) for key in ("offered_rate", "slo_attainment", "goodput", "effective_f1")),
            *(_text(part["latency_ms"][key]) for key in ("p50", "p99")),
        ]
        for label, part in document[kind].items()
    ]
    head = [kind, "offered", "per second", "attainment", "goodput", "effective F1", "p50 ms", "p99 ms"]
    return f"<h2>{escape(name)}</h2>{_table(head, rows)}"


def _search(document: Mapping[str, Any]) -> str:
    search = document["search"]
    if search is None:
        return ""
    keys = ("multiplier", "offered_rate", "offered", "slo_attainment", "goodput", "effective_f1", "passed")
    rows = [[_text(probe[key]) for key in keys] for probe in search["probes"]]
    found = _text(search["offered_rate"])
    return f"<h2>Search</h2><p>Highest rate that passed: {found} per second</p>{_table(keys, rows)}"


def _rest(document: Mapping[str, Any]) -> str:
    shown = {key: document[key] for key in ("failures", "budget_ms", "server", "definition")}
    return f"<h2>Details</h2><pre>{escape(json.dumps(shown, indent=1, ensure_ascii=False))}</pre>"


def _points(values: Sequence[float | None], width: float) -> Points:
    return [((place + 0.5) * width, value) for place, value in enumerate(values) if value is not None]


def _coloured(names: Iterable[str]) -> dict[str, str]:
    return {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{names}</tr>{body}</table>"


def _text(value: float | bool | None) -> str:  # noqa: FBT001 - a cell
    if value is None:
        return "\N{EN DASH}"
    return str(value) if isinstance(value, bool | int) else f"{value:.4g}"
