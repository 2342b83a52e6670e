"""What a request costs beside inference on this host: tokenizing, hand-overs between threads, reading off answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import numpy as np

from reading.spans import SpanSettings, best_answers
from reading.tokens import TextTokenizer, TokenizedText
from reading.windows import WindowSettings, make_windows
from server.engine.interface import WindowLogits
from server.measuring import Clock

_VOCABULARY = (
    "the of and to in a is was for on by with as at from it that which were are an be this has had first one two "
    "three city river tower house king school water year time people world country state war music game team name "
    "part place work line land church field north south east west built made known called used found moved grew "
    "wrote large small early later great long high old new local national several among between during after before"
)

_QUESTION_WORDS = 10
_TEXT_WORDS = (0, 50, 200, 600, 1_500)
_WINDOWS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class TextCosts:
    """Nanoseconds; see `server.routing.profile.LatencyProfile`."""

    answer_ns: float
    answer_ns_per_window: float
    tokenize_ns: float
    tokenize_ns_per_char: float


def ordinary_text(words: int, seed: int = 0) -> str:
    """ASCII text of that many ordinary English words, the same for the same seed."""
    return " ".join(random.Random(seed).choices(_VOCABULARY.split(), k=words))


def measure_text_costs(  # noqa: PLR0913 - what is measured, each by name
    tokenizer: TextTokenizer,
    settings: WindowSettings,
    spans: SpanSettings,
    *,
    rounds: int,
    seconds: float,
    clock_ns: Clock,
) -> TextCosts:
    """Time texts of several sizes and answers of several windows, interleaved, for `seconds` at most.

    The first round is made in any case.  Not on an event loop: it runs one of its own.
    """
    tasks = [_tokenizing(tokenizer, settings, words) for words in _TEXT_WORDS]
    tasks += [_reading_off(tokenizer, settings, spans, count) for count in _WINDOWS]
    with ThreadPoolExecutor(1, "leeway-measuring") as pool, asyncio.Runner() as runner:
        tasks.append((0, lambda: runner.run(_hand_over(pool))))
        times = _median_times([task for _, task in tasks], rounds, round(seconds * 1e9), clock_ns)
    sizes = [size for size, _ in tasks]
    texts = len(_TEXT_WORDS)
    tokenize_ns, per_char_ns = fit_line(sizes[:texts], times[:texts])
    read_off_ns, per_window_ns = fit_line(sizes[texts:-1], times[texts:-1])
    # to the inference thread and back; long texts, which go to a text thread twice, are more than that takes
    return TextCosts(read_off_ns + times[-1], per_window_ns, tokenize_ns, per_char_ns)


def fit_line(sizes: Sequence[float], times: Sequence[float]) -> tuple[float, float]:
    """Fixed part and slope of the line through `times`, neither negative, by least squares of relative errors.

    Args:
        sizes: at least two different ones.
        times: one for each.
    """
    xs, ys = np.asarray(sizes, dtype=np.float64), np.maximum(times, 1.0)
    weights = 1.0 / ys**2
    mean_x, mean_y = np.average(xs, weights=weights), np.average(ys, weights=weights)
    slope = float(np.sum(weights * (xs - mean_x) * (ys - mean_y)) / np.sum(weights * (xs - mean_x) ** 2))
    fixed = float(mean_y - slope * mean_x)
    if slope < 0.0:
        return float(mean_y), 0.0
    if fixed < 0.0:
        return 0.0, float(np.sum(weights * xs * ys) / np.sum(weights * xs**2))
    return fixed, slope


def _median_times(tasks: Sequence[Callable[[], object]], rounds: int, limit_ns: int, clock_ns: Clock) -> list[float]:
    """Median nanoseconds of each task over at most `rounds` rounds; a round before them is not counted."""
    began_ns = clock_ns()
    seen: list[list[int]] = [[] for _ in tasks]
    order = list(range(len(tasks)))
    shuffle = random.Random(0).shuffle
    for turn in range(rounds + 1):
        shuffle(order)
        for place in order:
            if turn > 1 and clock_ns() - began_ns >= limit_ns:
                return [float(median(times)) for times in seen]
            start_ns = clock_ns()
            tasks[place]()
            if turn:
                seen[place].append(clock_ns() - start_ns)
    return [float(median(times)) for times in seen]


def _tokenizing(tokenizer: TextTokenizer, settings: WindowSettings, words: int) -> tuple[int, Callable[[], object]]:
    """Code points, and the way from them to windows."""
    question, context = ordinary_text(_QUESTION_WORDS, seed=1), ordinary_text(words)

    def task() -> object:
        return make_windows(tokenizer.encode(question), tokenizer.encode(context), tokenizer.special, settings)

    return len(question) + len(context), task


def _reading_off(
    tokenizer: TextTokenizer, settings: WindowSettings, spans: SpanSettings, count: int
) -> tuple[int, Callable[[], object]]:
    """Windows, full ones, and the way from their logits to answers."""
    question = tokenizer.encode(ordinary_text(_QUESTION_WORDS, seed=1))
    room = settings.max_length - min(len(question), settings.max_question) - 3
    wanted = room + (count - 1) * (room - settings.overlap)
    text = ordinary_text(wanted)  # a word has at least one token
    whole = tokenizer.encode(text)
    tokens = TokenizedText(whole.ids[:wanted], whole.starts[:wanted], whole.ends[:wanted])
    windows = make_windows(question, tokens, tokenizer.special, settings)
    draw = np.random.default_rng(0).standard_normal
    logits = [WindowLogits(*draw((2, len(window))).astype(np.float32)) for window in windows]
    return len(windows), lambda: best_answers(text, tokens, windows, logits, spans, kernels=tokenizer.kernels)


async def _hand_over(pool: ThreadPoolExecutor) -> None:
    """From an event loop to a thread and back, as `server.line` does it."""
    loop = asyncio.get_running_loop()
    back = loop.create_future()
    pool.submit(int).add_done_callback(lambda _: loop.call_soon_threadsafe(back.set_result, None))
    await back
