"""A model without weights, and an application around it, as small as they can be."""

from __future__ import annotations

import string
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from model_store.architecture import Architecture
from model_store.length_config import LengthConfiguration, full_configuration
from model_store.pareto import ParetoPoint, ParetoTable, macs
from reading.tokens import TextTokenizer
from reading.windows import WindowSettings
from server.app import create_app
from server.engine.fake import FakeEngine
from server.model import LoadedModel
from server.routing.profile import LatencyProfile, ProfileKey
from server.service import Service
from server.settings import Settings

LAYERS = 2
WORDS = ("who", "wrote", "the", "first", "program", "ada", "lovelace", "in", "london", "word")
QUESTION = "Who wrote the first program?"
CONTEXT = "Ada Lovelace wrote the first program in London."


def tiny_tokenizer() -> Tokenizer:
    """A word piece tokenizer of letters, digits, punctuation and a few words."""
    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    pieces += [*string.punctuation, *WORDS, "\U0001f600", "é"]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return tokenizer


def tiny_architecture(vocabulary: int) -> Architecture:
    """Two layers, 128 positions."""
    return Architecture(
        layers=LAYERS, hidden=4, heads=2, intermediate=8, vocabulary=vocabulary, positions=128, segments=2
    )


def tiny_table(architecture: Architecture) -> ParetoTable:
    """Two points, ``c01`` and ``full``, at 40 tokens."""
    half, full = LengthConfiguration("c01", (0.5,) * LAYERS), full_configuration(LAYERS)
    points = (
        ParetoPoint(each, macs(architecture, 40, each.kept_tokens(40)), held_out_f1=f1, held_out_exact_match=f1 - 10)
        for each, f1 in ((half, 60.0), (full, 80.0))
    )
    return ParetoTable(tuple(points), 40.0)


def fake_model(gate: threading.Event | None = None) -> LoadedModel:
    """A loaded model on the fake engine; its windows are 64 tokens, 16 shared."""
    tokenizer = TextTokenizer(tiny_tokenizer())
    architecture = tiny_architecture(tokenizer.vocabulary_size)
    return LoadedModel(
        name="tiny",
        version="3",
        digest="sha256:0",
        engine=FakeEngine(architecture, gate=gate),
        tokenizer=tokenizer,
        architecture=architecture,
        table=tiny_table(architecture),
        window_defaults=WindowSettings(max_length=64, overlap=16, max_question=16),
        max_answer=8,
    )


def tiny_profile(model: LoadedModel, _folder: Path | None = None) -> LatencyProfile:
    """Full takes a millisecond per window and 0.01 per token, c01 half of it; nothing is measured."""
    return LatencyProfile(
        key=ProfileKey(model.digest, "fake", "none", "none", 1),
        configurations=tuple(each.id for each in model.configurations),
        lengths=(10, 110),
        window_ns=((550_000.0, 1_050_000.0), (1_100_000.0, 2_100_000.0)),
        residuals=(0.9, 1.0, 1.1),
        answer_ns=1_000_000.0,
        answer_ns_per_window=0.0,
        tokenize_ns=100_000.0,
        tokenize_ns_per_char=0.0,
        measured="calibrated",
    )


def tiny_settings(**changes: Any) -> Settings:
    """Settings for tests: nothing of the environment matters to them but what is not named here."""
    return Settings(**{"engine": "fake", "store": Path("no-such-store"), **changes})


@contextmanager
def serving(model: LoadedModel | None = None, **changes: Any) -> Iterator[TestClient]:
    """A client of an application that is ready."""
    loaded = model if model is not None else fake_model()
    with client_of(lambda settings: loaded, **changes) as client:
        wait_loaded(client)
        yield client


@contextmanager
def client_of(load: Callable[[Settings], LoadedModel], **changes: Any) -> Iterator[TestClient]:
    """A client of an application that has begun to load."""
    app = create_app(tiny_settings(**changes), load=load, measure=tiny_profile)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def wait_loaded(client: TestClient) -> None:
    """Wait until loading has ended."""
    assert client.portal is not None
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    client.portal.call(service.loaded.wait)
