from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reading import Answer, SpanSettings, TokenizedText, Window, WindowSettings, best_answers, make_windows, spans
from reading.kernels import ReadingKernels
from server.engine.native import obstacle
from server.model import reading_kernels
from tests.reading.helpers import Logits, random_logits, small_tokenizer

EVERY = 10**6
SMALL_WINDOWS = WindowSettings(max_length=14, overlap=3, max_question=4)


def read(context: str, window_settings: WindowSettings = SMALL_WINDOWS) -> tuple[TokenizedText, list[Window]]:
    tokenizer = small_tokenizer()
    tokens = tokenizer.encode(context)
    return tokens, make_windows(tokenizer.encode("on mat"), tokens, tokenizer.special, window_settings)


def flat_logits(windows: list[Window], value: float = 0.0) -> list[Logits]:
    return [Logits(*np.full((2, len(window)), value, dtype=np.float32)) for window in windows]


def brute_force(
    context: str, tokens: TokenizedText, windows: list[Window], logits: list[Logits], max_answer: int
) -> list[Answer]:
    best: dict[tuple[int, int], float] = {}
    for window, values in zip(windows, logits, strict=True):
        for i in range(window.context_count):
            for j in range(i, min(i + max_answer, window.context_count)):
                total = float(values.start[window.segment_start + i]) + float(values.end[window.segment_start + j])
                key = (window.context_first + i, window.context_first + j)
                best[key] = max(best.get(key, -math.inf), total)
    normalizer = math.fsum(map(math.exp, best.values()))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    places = [(int(tokens.starts[i]), int(tokens.ends[j]), total) for (i, j), total in ranked]
    return [Answer(context[a:b], math.exp(total) / normalizer, a, b, total) for a, b, total in places]


@settings(deadline=None)
@given(
    count=st.integers(1, 25),
    seed=st.integers(0, 2**32 - 1),
    max_answer=st.integers(1, 12),
    top_k=st.sampled_from([1, 2, 5, EVERY]),
    whole=st.booleans(),
    cells=st.sampled_from([1, 7, 1 << 20]),
    kernels=st.sampled_from([None, reading_kernels()]),
)
def test_answers_equal_brute_force_over_all_windows(
    count: int, seed: int, max_answer: int, top_k: int, *, whole: bool, cells: int, kernels: ReadingKernels | None
) -> None:
    context = " ".join(["cat"] * count)
    tokens, windows = read(context)
    logits = random_logits(windows, np.random.default_rng(seed), whole=whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "_CELLS_AT_ONCE", cells)
        found = best_answers(context, tokens, windows, logits, SpanSettings(max_answer, top_k), kernels=kernels)
    expected = brute_force(context, tokens, windows, logits, max_answer)[:top_k]
    assert [replace(answer, score=0.0) for answer in found] == [replace(answer, score=0.0) for answer in expected]
    assert [answer.score for answer in found] == pytest.approx([answer.score for answer in expected])


@settings(deadline=None)
@given(count=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_probabilities_of_all_admissible_spans_add_up_to_one(count: int, seed: int) -> None:
    context = "sat " * count
    tokens, windows = read(context)
    logits = random_logits(windows, np.random.default_rng(seed))
    answers = best_answers(context, tokens, windows, logits, SpanSettings(top_k=EVERY))
    assert math.fsum(answer.score for answer in answers) == pytest.approx(1.0)


@settings(deadline=None)
@given(context=st.text(max_size=60), seed=st.integers(0, 2**32 - 1), words=st.booleans())
def test_text_is_its_slice_of_the_context_for_any_text(context: str, seed: int, *, words: bool) -> None:
    tokens, windows = read(context)
    logits = random_logits(windows, np.random.default_rng(seed))
    answers = best_answers(context, tokens, windows, logits, SpanSettings(top_k=50, align_to_words=words))
    assert bool(answers) == bool(len(tokens))
    assert len({(answer.start, answer.end) for answer in answers}) == len(answers)
    for answer in answers:
        assert answer.text
        assert answer.text == context[answer.start : answer.end]


def test_a_span_seen_in_two_windows_counts_once_with_its_greater_logit() -> None:
    context = "cat " * 11
    tokens, windows = read(context)
    assert len(windows) == 2
    logits = flat_logits(windows)
    shared = windows[1].context_first
    for window, values, bonus in zip(windows, logits, (3.0, 5.0), strict=True):
        values.start[window.segment_start + shared - window.context_first] = bonus
    answers = best_answers(context, tokens, windows, logits, SpanSettings(max_answer=1, top_k=EVERY))
    assert len(answers) == 11
    assert (answers[0].start, answers[0].logit) == (4 * shared, 5.0)
    assert answers[0].score == pytest.approx(math.exp(5) / (math.exp(5) + 10))


def test_no_answer_is_longer_than_max_answer_or_reaches_over_a_window() -> None:
    context = "cat " * 30
    tokens, windows = read(context)
    for limit in (1, 3, 30):
        found = best_answers(context, tokens, windows, flat_logits(windows), SpanSettings(limit, EVERY))
        longest = min(limit, max(window.context_count for window in windows))
        assert max(len(answer.text.split()) for answer in found) == longest


def test_logits_outside_the_context_part_win_nothing() -> None:
    context = "the cat"
    tokens, windows = read(context)
    (logits,) = flat_logits(windows)
    logits.start[: windows[0].segment_start] = 50
    logits.end[-1] = 50
    answers = best_answers(context, tokens, windows, [logits], SpanSettings(top_k=EVERY))
    assert [answer.score for answer in answers] == pytest.approx([1 / 3] * 3)


def test_ties_rank_by_earlier_start_then_by_shorter_span() -> None:
    context = "the cat sat"
    tokens, windows = read(context)
    answers = best_answers(context, tokens, windows, flat_logits(windows), SpanSettings(top_k=4))
    assert [answer.text for answer in answers] == ["the", "the cat", "the cat sat", "cat"]


def test_huge_logits_stay_probabilities() -> None:
    context = "the cat sat"
    tokens, windows = read(context)
    answers = best_answers(context, tokens, windows, flat_logits(windows, 3e38), SpanSettings(top_k=EVERY))
    assert math.fsum(answer.score for answer in answers) == pytest.approx(1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    tokens, windows = read("the cat")
    logits = flat_logits(windows)
    logits[0].end[2] = value
    with pytest.raises(ValueError, match="end logits of window 0 hold a value that is not finite"):
        best_answers("the cat", tokens, windows, logits)


needs_kernels = pytest.mark.skipif(reading_kernels() is None, reason=obstacle())


@needs_kernels
@pytest.mark.parametrize("name", ["start", "end"])
@pytest.mark.parametrize("place", [0, 4, -1])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_kernels_pass_no_logits_that_are_not_finite(name: str, place: int, value: float) -> None:
    tokens, windows = read("the cat")
    logits = flat_logits(windows)
    getattr(logits[0], name)[place] = value
    with pytest.raises(ValueError, match=f"{name} logits of window 0 hold a value that is not finite"):
        best_answers("the cat", tokens, windows, logits, kernels=reading_kernels())


@needs_kernels
@pytest.mark.parametrize(
    "kind", ["plain", "ties", "far", "huge", "tiny", "wide", "strided", "two windows", "long", "none"]
)
def test_the_best_answer_is_the_same_with_and_without_kernels(kind: str) -> None:
    generator = np.random.default_rng(0)
    context = {"two windows": "cat " * 20, "long": "cat " * 1100, "none": " "}.get(kind, "the cat sat on mat")
    sizes = WindowSettings(max_length=1200) if kind == "long" else SMALL_WINDOWS
    tokens, windows = read(context, sizes)
    (values, *more) = random_logits(windows, generator, whole=kind == "ties")
    assert bool(more) == (kind == "two windows")
    start, end = values.start, values.end
    if kind == "far":  # the likeliest start lies behind the likeliest end
        end[windows[0].segment_start], start[-2] = 800.0, 800.0
    elif kind in {"huge", "tiny"}:
        values = Logits(*(row * np.float32(1e37 if kind == "huge" else 1e-38) for row in (start, end)))
    elif kind == "wide":
        values = Logits(start.astype(np.float64), end)
    elif kind == "strided":
        values = Logits(np.repeat(start, 2)[::2], end)
    both = [best_answers(context, tokens, windows, [values, *more], kernels=each) for each in (None, reading_kernels())]
    assert [replace(answer, score=0.0) for answer in both[1]] == [replace(answer, score=0.0) for answer in both[0]]
    assert [answer.score for answer in both[1]] == pytest.approx([answer.score for answer in both[0]], rel=1e-12)


def test_logits_that_do_not_fit_are_refused() -> None:
    tokens, windows = read("the cat")
    logits = flat_logits(windows)
    with pytest.raises(ValueError, match="1 windows but logits of 0"):
        best_answers("the cat", tokens, windows, [])
    with pytest.raises(ValueError, match="start logits of shape"):
        best_answers("the cat", tokens, windows, [Logits(logits[0].start[1:], logits[0].end)])
    with pytest.raises(ValueError, match="belong to another text"):
        best_answers("the", tokens, windows, logits)
    with pytest.raises(ValueError, match="reaches beyond the 1 tokens"):
        best_answers("the cat", small_tokenizer().encode("the"), windows, logits)


@pytest.mark.parametrize("context", ["", "   \n\t", "\x00\x01\u200d"])
def test_a_context_without_tokens_has_no_answer_or_the_empty_one(context: str) -> None:
    tokens, windows = read(context)
    logits = flat_logits(windows)
    assert best_answers(context, tokens, windows, logits) == []
    threshold = SpanSettings(no_answer_threshold=0.0)
    assert best_answers(context, tokens, windows, logits, threshold) == [Answer("", 1.0, 0, 0, None)]


def test_below_the_threshold_the_empty_answer_comes_first() -> None:
    context = "the cat"  # three spans of equal probability
    tokens, windows = read(context)
    logits = flat_logits(windows)
    wanted = SpanSettings(top_k=2, no_answer_threshold=0.34)
    empty, best = best_answers(context, tokens, windows, logits, wanted)
    assert replace(empty, score=0.0) == Answer("", 0.0, 0, 0, None)
    assert best.text == "the"
    assert [empty.score, best.score] == pytest.approx([2 / 3, 1 / 3])
    only = best_answers(context, tokens, windows, logits, replace(wanted, top_k=1))
    assert only == [empty]
    above = best_answers(context, tokens, windows, logits, replace(wanted, no_answer_threshold=0.33))
    assert [answer.text for answer in above] == ["the", "the cat"]


def test_answers_widen_to_whole_words_on_request_and_stay_distinct() -> None:
    context = "(cat), parisly  mat"
    tokens, windows = read(context, WindowSettings())
    texts = [
        answer.text
        for answer in best_answers(
            context, tokens, windows, flat_logits(windows), SpanSettings(top_k=EVERY, align_to_words=True)
        )
    ]
    words = ["(cat),", "(cat), parisly", context, "parisly", "parisly  mat", "mat"]
    assert sorted(texts) == sorted(words)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ("caf\u00e9", "caf\u00e9"),
        ("cafe\u0301 x", "cafe\u0301"),
        ("\U0001f469\u200d\U0001f469\u200d\U0001f467 ok", "\U0001f469\u200d\U0001f469\u200d\U0001f467"),
        ("日本", "日"),
        ("a\x00b c", "a\x00b"),
        ("\uac01 x", "\uac01"),
    ],
)
def test_offsets_count_code_points_of_the_text_as_sent(context: str, expected: str) -> None:
    tokens, windows = read(context)
    answers = best_answers(context, tokens, windows, flat_logits(windows), SpanSettings(top_k=EVERY))
    assert expected in [answer.text for answer in answers]
    assert all(answer.text == context[answer.start : answer.end] for answer in answers)


@pytest.mark.parametrize("change", [{"max_answer": 0}, {"top_k": 0}, {"no_answer_threshold": 1.5}])
def test_settings_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        SpanSettings(**change)  # type: ignore[arg-type]
