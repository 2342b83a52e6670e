"""Leaving out text before the first layer, under any engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_store import LengthConfiguration, ModelStore, full_configuration
from model_store.skimmer import SHORTEST_TEXT
from server.engine import create_engine
from server.engine.interface import EngineInfo, EngineResult, WindowLogits, WindowTokens
from server.engine.native import obstacle
from server.engine.skimmer import Skimmer
from server.engine.skimming import (
    LEFT_OUT_LOGIT,
    RankedWindow,
    SkimmingEngine,
    entering_tokens,
    lengths_alike,
    ranked_windows,
    skim,
)
from tests.model_store.tiny_artifact import TINY, WORDS, publish_skimming, publish_tiny, tiny_skimmer
from tests.trainer.models import Tokens

pytestmark = pytest.mark.usefixtures("one_torch_thread")

HALF = LengthConfiguration("c01", (1.0,) * TINY.layers, input_ratio=0.5)
FULL = full_configuration(TINY.layers)
SKIMMER = Skimmer(tiny_skimmer())
CLS, SEP = WORDS.index("[CLS]"), WORDS.index("[SEP]")


def window(text: Sequence[int], question: Sequence[int] = (7, 13, 14)) -> Tokens:
    ids = np.asarray([CLS, *question, SEP, *text, SEP], dtype=np.int32)
    return Tokens(ids, len(question) + 2)


def some_text(length: int, seed: int = 0) -> list[int]:
    return [int(piece) for piece in np.random.default_rng(seed).integers(5, len(WORDS), length)]


class Spy:
    """An engine whose logits say which token of which call stands where."""

    info = EngineInfo("spy", "none", 1, "none")

    def __init__(self) -> None:
        self.seen: list[WindowTokens] = []
        self.closed = False

    def warm_up(self, configurations: Sequence[LengthConfiguration]) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        self.closed = True

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        self.seen += windows
        logits = [np.arange(len(each.token_ids), dtype=np.float32) for each in windows]
        return EngineResult(tuple(WindowLogits(each, -each) for each in logits), 1)


def by_hand(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each token the best score within seven."""
    return np.asarray([scores[max(place - 7, 0) : place + 8].max() for place in range(len(scores))])


def test_a_window_keeps_its_frame_and_the_text_that_the_skimmer_ranks_highest() -> None:
    whole = window(some_text(43))
    left = skim(whole, HALF, SKIMMER)
    scores = by_hand(SKIMMER.scores(whole.token_ids[1:4], whole.token_ids[5:-1]))
    assert (len(whole.token_ids), len(left.token_ids)) == (49, 32)  # half of it is 24.5
    assert left.token_ids[:5].tolist() == whole.token_ids[:5].tolist()
    assert (left.token_ids[-1], left.places[-1], left.segment_start) == (SEP, 48, 5)
    assert left.token_ids.tolist() == whole.token_ids[left.places].tolist()
    text = left.places[5:-1] - 5
    assert scores[text].min() >= np.delete(scores, text).max()


def test_an_engine_sees_the_rest_and_its_logits_go_where_the_tokens_stood() -> None:
    spy = Spy()
    engine = SkimmingEngine(spy, SKIMMER, TINY)
    windows = [window(some_text(43)), window(some_text(20, seed=1))]
    result = engine.run(windows, HALF)
    for whole, seen, logits in zip(windows, spy.seen, result.logits, strict=True):
        places = skim(whole, HALF, SKIMMER).places
        assert seen.token_ids.tolist() == whole.token_ids[places].tolist()
        assert logits.start[places].tolist() == list(range(len(places)))
        assert (-logits.end[places]).tolist() == list(range(len(places)))
        left_out = np.delete(np.arange(len(whole.token_ids)), places)
        assert len(left_out)
        assert set(logits.start[left_out]) == set(logits.end[left_out]) == {LEFT_OUT_LOGIT}
    assert result.inference_ns > 1


def test_a_configuration_that_reads_everything_goes_straight_to_the_engine() -> None:
    spy = Spy()
    engine = SkimmingEngine(spy, SKIMMER, TINY)
    whole = window(some_text(30))
    assert engine.run([whole], FULL).inference_ns == 1
    assert spy.seen == [whole]
    assert engine.info is spy.info
    engine.close()
    assert spy.closed


def test_a_question_that_fills_the_window_leaves_a_little_text_all_the_same() -> None:
    long_question = some_text(40, seed=2)
    left = skim(window(some_text(20), long_question), HALF, SKIMMER)
    assert len(left.places) == 42 + SHORTEST_TEXT + 1
    tiny = window(some_text(5), long_question)
    assert skim(tiny, HALF, SKIMMER).token_ids.tolist() == tiny.token_ids.tolist()


@pytest.mark.parametrize("whole", [window(some_text(30), ()), Tokens(np.asarray([CLS, SEP], dtype=np.int32), 2)])
def test_a_window_without_a_question_or_without_a_text_is_read_too(whole: Tokens) -> None:
    left = skim(whole, HALF, SKIMMER)
    assert left.token_ids[0] == CLS
    assert left.token_ids[-1] == SEP
    assert 0 < len(left.token_ids) <= len(whole.token_ids)


@given(st.integers(0, 40), st.integers(0, 60), st.floats(0.05, 1.0))
def test_whatever_the_lengths_no_more_is_left_than_there_was(question: int, text: int, share: float) -> None:
    whole = window(some_text(text), some_text(question, seed=3))
    configuration = LengthConfiguration("c01", (1.0,) * TINY.layers, input_ratio=share)
    left = skim(whole, configuration, SKIMMER)
    assert len(left.token_ids) <= len(whole.token_ids)
    assert len(left.token_ids) >= min(configuration.input_tokens(len(whole.token_ids)), len(whole.token_ids))
    assert (np.diff(left.places) > 0).all()


@pytest.mark.parametrize("bad", [-1, len(WORDS)])
def test_an_unknown_word_piece_is_refused_before_it_is_looked_up(bad: int) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        SkimmingEngine(Spy(), SKIMMER, TINY).run([window([*some_text(30), bad])], HALF)


@pytest.mark.parametrize("name", ["native", "reference", "openvino", "fake"])
def test_a_model_without_a_skimmer_refuses_to_skim(tmp_path: Path, name: str) -> None:
    publish_tiny(tmp_path)
    if name == "native" and obstacle():
        pytest.skip(obstacle())
    engine = create_engine(name, ModelStore(tmp_path).load("tiny"), threads=1)
    with pytest.raises(ValueError, match="no skimmer"):
        engine.run([window(some_text(30))], HALF)
    engine.close()


def test_an_equal_word_piece_counts_by_its_rarity() -> None:
    tensors = {name: np.zeros_like(tensor) for name, tensor in tiny_skimmer().items()}
    tensors |= {"rarity": np.arange(len(WORDS), dtype=np.float32), "score.weight": np.ones((1, 64), dtype=np.float32)}
    tensors["mix.matches"] = np.zeros((64, 5), dtype=np.float32)
    tensors["mix.matches"][0, 4] = 1.0
    found = Skimmer(tensors).scores(np.asarray([7, 13], dtype=np.int32), np.asarray([6, 13, 7, 13], dtype=np.int32))
    assert found.tolist() == [0.0, 13.0, 7.0, 13.0]


class Scores:
    """A scorer that knows the scores."""

    def __init__(self, *given: float) -> None:
        self.given = np.asarray(given, dtype=np.float32)

    def scores(self, question: NDArray[np.int32], text: NDArray[np.int32]) -> NDArray[np.float32]:
        assert len(self.given) == len(text)
        return self.given


MARGINS = np.full(19, 3.0, dtype=np.float32)
ONE_PEAK = [0.0] * 40 + [9.0] + [0.0] * 60
NO_PEAK = [0.0] * 101
TWO_PEAKS = [0.0] * 20 + [7.0] + [0.0] * 39 + [9.0] + [0.0] * 40


def ranked(scores: list[float]) -> RankedWindow:
    """The window of a text of 101 tokens and a question of three, which is 107 long, with these scores."""
    found = SkimmingEngine(Spy(), Scores(*scores), TINY, MARGINS).rank(window(some_text(101)))
    assert found is not None
    return found


def test_what_is_left_of_a_ranked_window_depends_on_how_sure_the_skimmer_is() -> None:
    # the plain count of 107 tokens at a half is 56, and 50 of them are text; 6 are the frame
    assert entering_tokens(window(some_text(101)), HALF) == 56
    assert entering_tokens(ranked(ONE_PEAK), HALF) == 24  # 15 of the text, rounded up
    assert entering_tokens(ranked(TWO_PEAKS), HALF) == 40  # twice 15
    assert entering_tokens(ranked(NO_PEAK), HALF) == 107  # twice 50, rounded up, and no more than there are
    quarter = LengthConfiguration("c02", (1.0,) * TINY.layers, input_ratio=0.25)
    assert entering_tokens(ranked(NO_PEAK), quarter) == 64  # 32 at a quarter: 26 of the text, at most twice those
    assert entering_tokens(ranked(NO_PEAK), FULL) == 107


def test_an_engine_sees_what_is_left_of_a_ranked_window() -> None:
    spy = Spy()
    engine = SkimmingEngine(spy, Scores(*TWO_PEAKS), replace(TINY, positions=128), MARGINS)
    (ready,) = ranked_windows(engine, [window(some_text(101))], [HALF])
    (logits,) = engine.run([ready], HALF).logits
    (seen,) = spy.seen
    assert len(seen.token_ids) == 40
    kept = np.flatnonzero(logits.start > LEFT_OUT_LOGIT)
    assert {*range(5 + 13, 5 + 28), *range(5 + 53, 5 + 68)} <= set(kept.tolist())
    assert seen.token_ids.tolist() == ready.token_ids[kept].tolist()


def test_windows_are_as_good_as_those_of_which_as_much_is_left_in_the_mean() -> None:
    sure, unsure, plain = ranked(ONE_PEAK), ranked(NO_PEAK), window(some_text(101))
    assert (sure.alike(HALF), unsure.alike(HALF), sure.alike(FULL)) == (48, 214, 107)
    exempt = LengthConfiguration("c02", (1.0,) * TINY.layers, 16, 0.5)
    assert sure.alike(exempt) == 16 + 2 * (24 - 16)
    found = lengths_alike([sure, plain], [HALF, exempt, FULL])
    assert found is not None
    assert found.tolist() == [[48, 107], [32, 107], [107, 107]]
    assert lengths_alike([plain], [HALF, FULL]) is None


def test_a_window_that_its_length_alone_leaves_whole_is_as_good_as_itself() -> None:
    short = SkimmingEngine(Spy(), Scores(*[0.0] * 7), TINY, MARGINS).rank(window(some_text(7)))
    assert short is not None
    assert (short.left_tokens(HALF), short.alike(HALF)) == (13, 13)


def test_only_a_text_in_one_window_is_ranked_and_only_where_there_are_margins() -> None:
    engine = SkimmingEngine(Spy(), Scores(*ONE_PEAK), TINY, MARGINS)
    whole, empty = window(some_text(101)), window([])
    assert isinstance(ranked_windows(engine, [whole], [HALF, FULL])[0], RankedWindow)
    assert ranked_windows(engine, [whole], [FULL]) == [whole]
    assert ranked_windows(engine, [whole, whole], [HALF]) == [whole, whole]
    assert ranked_windows(engine, [empty], [HALF]) == [empty]
    assert ranked_windows(Spy(), [whole], [HALF]) == [whole]
    assert ranked_windows(SkimmingEngine(Spy(), SKIMMER, TINY), [whole], [HALF]) == [whole]


@pytest.mark.parametrize("name", ["reference", "openvino", "fake"])
def test_engines_of_a_store_skim_where_the_artifact_has_a_skimmer(tmp_path: Path, name: str) -> None:
    publish_skimming(tmp_path)
    publish_tiny(tmp_path)
    store = ModelStore(tmp_path)
    engine, plain = (create_engine(name, store.load(model), threads=1) for model in ("skimming", "tiny"))
    whole = window(some_text(43))
    left = skim(whole, HALF, SKIMMER)
    (found,), (wanted,) = engine.run([whole], HALF).logits, plain.run([left], FULL).logits
    np.testing.assert_allclose(found.start[left.places], wanted.start, atol=1e-5)
    assert (np.delete(found.end, left.places) == LEFT_OUT_LOGIT).all()
    engine.close()
    plain.close()
