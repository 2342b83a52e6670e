"""The compiled skimmer scores as the one in numpy does, at every level of instructions that this processor has."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from model_store.skimmer import skimmer_layout
from model_store.tensors import Tensors
from server.engine import native
from server.engine.native import obstacle, usable_library
from server.engine.skimmer import CompiledSkimmer, FloatArray, Skimmer, make_skimmer

VOCABULARY = 400

pytestmark = pytest.mark.usefixtures("level")
runs_here = pytest.mark.skipif(usable_library() is None, reason=f"native: {obstacle()}")

Ids = NDArray[np.int32]


def random_tensors(seed: int, scale: float = 0.1) -> Tensors:
    generator = np.random.default_rng(seed)
    tensors: Tensors = {}
    for name, spec in skimmer_layout(VOCABULARY).items():
        if spec.dtype == "int8":
            tensors[name] = generator.integers(-127, 128, spec.shapes[0], dtype=np.int8)
        else:
            tensors[name] = generator.normal(scale=scale, size=spec.shapes[0]).astype(np.float32)
    tensors["word.scale"] = generator.uniform(0.005, 0.02, VOCABULARY).astype(np.float32)
    return tensors


TENSORS = random_tensors(0)
PLAIN = Skimmer(TENSORS)


def some_ids(count: int, seed: int, below: int = VOCABULARY) -> Ids:
    return np.random.default_rng(seed).integers(0, below, count, dtype=np.int32)


SPREAD = float(PLAIN.scores(some_ids(13, 1), some_ids(512, 2)).std())


def compiled(tensors: Tensors = TENSORS) -> CompiledSkimmer:
    library = usable_library()
    assert library is not None
    return CompiledSkimmer(tensors, library)


def assert_alike(found: FloatArray, expected: FloatArray, spread: float = SPREAD) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * spread)


@runs_here
@pytest.mark.parametrize("asked", [1, 2, 13, 64])
def test_scores_of_any_number_of_tokens_are_those_of_numpy(asked: int) -> None:
    skimmer = compiled()
    for count in (1, 2, 7, 8, 63, 168, 384, 512):
        question, text = some_ids(asked, count), some_ids(count, asked + 1000)
        assert_alike(skimmer.scores(question, text), PLAIN.scores(question, text))


@runs_here
@pytest.mark.parametrize("below", [1, 2, 20])
def test_word_pieces_that_repeat_in_question_and_text_match_as_in_numpy(below: int) -> None:
    skimmer = compiled()
    for count, asked in ((1, 1), (9, 3), (100, 13), (300, 40)):
        question, text = some_ids(asked, count, below), some_ids(count, asked, below)
        assert set(question.tolist()) & set(text.tolist())
        assert_alike(skimmer.scores(question, text), PLAIN.scores(question, text))


@runs_here
def test_an_exact_match_counts_as_rarely_as_the_piece_is_and_never_less_than_none() -> None:
    tensors = random_tensors(3)
    tensors["rarity"] = np.linspace(-5, 5, VOCABULARY, dtype=np.float32)
    question, text = np.asarray([0, 399, 399, 1], dtype=np.int32), np.asarray([0, 1, 2, 399, 200], dtype=np.int32)
    for each in (question, question[:1]):
        expected = Skimmer(tensors).scores(each, text)
        assert_alike(compiled(tensors).scores(each, text), expected, float(expected.std()))


@runs_here
def test_matches_far_apart_do_not_overflow() -> None:
    tensors = random_tensors(4)
    for name in ("match", "gate.weight"):
        tensors[name] = tensors[name] * np.float32(300)
    question, text = some_ids(13, 5), some_ids(100, 6)
    expected = Skimmer(tensors).scores(question, text)
    assert np.isfinite(expected).all()
    assert_alike(compiled(tensors).scores(question, text), expected, float(expected.std()))


@runs_here
def test_a_call_leaves_nothing_for_the_next() -> None:
    used = compiled()
    used.scores(some_ids(64, 7), some_ids(512, 8))
    for count, asked in ((5, 3), (50, 1), (511, 63)):
        question, text = some_ids(asked, 9), some_ids(count, 10)
        assert (used.scores(question, text) == compiled().scores(question, text)).all()


@runs_here
def test_ids_of_any_stride_and_integer_type_are_read() -> None:
    question, text = some_ids(13, 11), some_ids(168, 12)
    found = compiled().scores(np.repeat(question, 2)[::2], text.astype(np.int64))
    assert (found == compiled().scores(question, text)).all()


@runs_here
def test_tensors_may_go_once_the_skimmer_is_made() -> None:
    tensors = random_tensors(0)
    skimmer = compiled(tensors)
    for values in tensors.values():
        values[...] = 0
    question, text = some_ids(13, 13), some_ids(168, 14)
    assert_alike(skimmer.scores(question, text), PLAIN.scores(question, text))


@runs_here
@pytest.mark.parametrize(("asked", "count"), [(0, 5), (5, 0), (1, (1 << 16) + 1)])
def test_numbers_of_tokens_that_cannot_be_are_refused(asked: int, count: int) -> None:
    skimmer = compiled()
    with pytest.raises(ValueError, match=f"no skimming of {count} tokens by a question of {asked}"):
        skimmer.scores(np.zeros(asked, dtype=np.int32), np.zeros(count, dtype=np.int32))


@runs_here
def test_calls_from_several_threads_wait_for_each_other() -> None:
    skimmer = compiled()
    questions, texts = (
        [some_ids(count, count) for count in (1, 13, 40)],
        [some_ids(count, count) for count in (9, 90, 500)],
    )
    expected = [skimmer.scores(*each) for each in zip(questions, texts, strict=True)]
    wrong: list[int] = []

    def call(place: int) -> None:
        for _ in range(40):
            wrong.extend([place] * bool((skimmer.scores(questions[place], texts[place]) != expected[place]).any()))

    callers = [threading.Thread(target=call, args=(place,)) for place in (0, 1, 2, 0, 1, 2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@runs_here
def test_the_compiled_skimmer_is_taken_where_the_machine_can_run_it() -> None:
    assert isinstance(make_skimmer(TENSORS), CompiledSkimmer)


def test_numpy_is_taken_where_the_machine_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "lacking", lambda flags: flags)
    assert isinstance(make_skimmer(TENSORS), Skimmer)
