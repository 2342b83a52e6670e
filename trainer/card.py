"""The model card: the manifest's figures and origins, in words."""

from __future__ import annotations

import json

from model_store import ModelDescription

_CARD = """# {name}

Extractive question answering in English: a question and a text go in, a span of the text comes out.  A
{layers}-layer, {hidden}-wide BERT-style encoder (MiniLM), quantization scheme `{scheme}`{trained}, made by this
project's trainer.{skimmer}

## Figures

{figures}

Held-out figures are on whole training articles that were kept out of training (one reference answer each); every
choice was made by them.  SQuAD dev figures are for the report only and read higher, having several references.

## Origin

{origin}

## Limits

- English, lower-cased; trained on Wikipedia paragraphs.  Other kinds of text were not measured.
- SQuAD 1.1 has an answer to every question: the model was never taught to say that there is none.
- A probability compares spans of one text; it was not calibrated to be the chance of being right.

## Licences

{licences}
"""


_SKIMMER = """

A second, small network, the skimmer, scores a text's tokens by the question.  At length configurations whose
`input_ratio` is below 1 the encoder never sees the rest, so an answer can be lost there that `full` would find."""


def model_card(name: str, description: ModelDescription) -> str:
    """Markdown for ``MODEL_CARD.md``."""
    aware = description.quantization.details.get("quantization_aware_training")
    licences = [f"- {item.what}: {item.licence}. {item.attribution}" for item in description.licences]
    return _CARD.format(
        name=name,
        layers=description.architecture.layers,
        hidden=description.architecture.hidden,
        scheme=description.quantization.scheme,
        trained=" (quantization-aware training, on the very ranges that it is published with)" if aware else "",
        skimmer=_SKIMMER if "skimmer" in description.training else "",
        figures=_block(dict(description.metrics)),
        origin=_block(dict(description.training)),
        licences="\n".join(licences),
    )


def _block(content: dict[str, object]) -> str:
    return "```json\n" + json.dumps(content, indent=2, ensure_ascii=False) + "\n```"
