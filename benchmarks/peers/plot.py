"""One picture: latency against F1, everyone.  Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import Document


def draw(document: Document, path: Path) -> None:
    """Write the picture; its kind follows from the name (.png, .svg).

    Systems without weights at hand have a time but no F1: they are lines from top to bottom.

    Raises:
        ImportError: matplotlib is not installed.
        OSError, ValueError: the file cannot be written, or its kind is unknown.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    curves: dict[str, list[Document]] = {}
    for system in document["systems"]:
        if system["f1"] is None:
            axes.axvline(system["p50_ms"], color="0.6", linestyle=":")
            label = f"{system['name']} (time only)"
            axes.annotate(label, (system["p50_ms"], 0.02), xycoords=("data", "axes fraction"), rotation=90, fontsize=7)
        else:
            curves.setdefault(str(system["name"]).partition("/")[0], []).append(system)
    for name, points in curves.items():
        style = "o-" if len(points) > 1 else "D"
        axes.plot([each["p50_ms"] for each in points], [each["f1"] for each in points], style, label=name)
    axes.set_xscale("log")
    axes.set_xlabel(f"median latency in ms, batch 1, {document['threads']} threads, {document['processor']}")
    axes.set_ylabel(f"F1 on {document['questions']} questions of {document['data']}, percent")
    axes.grid(visible=True, which="both", alpha=0.3)
    if curves:
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
