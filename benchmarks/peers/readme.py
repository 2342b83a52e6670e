"""The README's performance table, written from a document of ``python -m benchmarks.peers``."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.systems import FULL
from benchmarks.report import Document
from benchmarks.server_process import BenchmarkError

BEGIN = "<!-- peers: begin -->"
END = "<!-- peers: end -->"

_RATIOS = {
    "bert_fp32/full": "BERT-base fp32, torch eager, over `full`",
    "bert_fp32/within1": "the same over `{within1}`",
    "bert_int8/full": "BERT-base int8, OpenVINO, over `full`",
    "bert_int8/within1": "the same over `{within1}`",
    "ort_int8/full": "the same model in ONNX Runtime dynamic int8, over `full`",
    "ort_int8/within1": "the same over `{within1}`",
    "static/full": "the same model in OpenVINO, a static graph per bucket, nothing dropped, over `full`",
    "dynamic/static": "OpenVINO's one graph for every shape, `full`, over its graph for one shape",
}


def block(document: Document) -> str:
    """Markers, tables and the command, in Markdown."""
    return "\n".join([BEGIN, *_heading(document), "", *_systems(document), "", *_ratios(document), END])


def write(document: Document, readme: Path) -> None:
    """Replace what stands between the markers of `readme`.

    Raises:
        BenchmarkError: it does not have each of them once, in their order.
        OSError: it cannot be read or written.
    """
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise BenchmarkError(f"{readme} must hold the lines {BEGIN} and {END} once, in this order")
    before, after = text[: text.index(BEGIN)], text[text.index(END) + len(END) :]
    readme.write_text(before + block(document) + after, encoding="utf-8")


def _heading(document: Document) -> list[str]:
    machine = f"{document['threads']} cores of {document['processor']}"
    timed = f"{document['timed']} questions of {document['data']} ({document['mean_tokens']} tokens in the mean)"
    rounds = f"batch 1, {document['runs']} interleaved runs"
    scored = f"F1 on {document['questions']} questions; random weights have none"
    return [f"{document['model']} on {machine}: {timed}, {rounds}. {scored}."]


def _shown(document: Document) -> list[Document]:
    """All systems, but of a length-adaptive one only full, the configuration within 1 point, and the cheapest."""
    systems: list[Document] = document["systems"]
    cheapest = {each["name"].partition("/")[0]: each["name"] for each in systems}  # of each engine the last one
    ids = {"", FULL, document["within1"]}
    return [each for each in systems if each["name"].partition("/")[2] in ids or each["name"] in cheapest.values()]


def _systems(document: Document) -> list[str]:
    lines = [
        "| system | F1 | p50 ms | p95 ms | p99 ms | questions/s | MB | p50 ms, padded to 384 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in _shown(document):
        f1 = "time only" if each["f1"] is None else f"{each['f1']:.2f}"
        padded = "" if each["padded"] is None else f"{each['padded']['p50_ms']:.1f}"
        times = " | ".join(f"{each[f'p{place}_ms']:.1f}" for place in (50, 95, 99))
        rate = f"{each['questions_per_second']:.1f}"
        lines.append(f"| {each['what']} | {f1} | {times} | {rate} | {each['rss_mb']:.0f} | {padded} |")
    return lines


def _ratios(document: Document) -> list[str]:
    lines = ["| times | ratio | 95% interval |", "| --- | --- | --- |"]
    for name, words in _RATIOS.items():
        value = document["ratios"].get(name)  # a document kept before the ratio was measured lacks it
        if value is None:
            continue
        low, high = document["intervals"][name]["interval"]
        lines.append(f"| {words.format(within1=document['within1'])} | {value:.2f} | {low:.2f} to {high:.2f} |")
    share = document["ratios"]["int8_peak_share"]
    if share is not None:
        lines.append(f"| share of the int8 peak ({document['int8_peak_gmacs']:.0f} GMAC/s) | {share:.2f} | |")
    return lines
