from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reading import TextTokenizer, WindowSettings
from tests.reading.helpers import small_tokenizer
from trainer.features import Features, LabelledQuestion, make_features, token_span

CUT = WindowSettings(max_length=16, overlap=4, max_question=3)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return small_tokenizer()


def labels(features: Features, window: int) -> list[tuple[int, int]]:
    part = slice(features.label_offsets[window], features.label_offsets[window + 1])
    return list(zip(features.label_starts[part].tolist(), features.label_ends[part].tolist(), strict=True))


def ids(features: Features, window: int) -> NDArray[np.int32]:
    return features.token_ids[features.offsets[window] : features.offsets[window + 1]]


def item(context: str, *answers: str, question: str = "on") -> LabelledQuestion:
    """Answers where they first stand in the context."""
    spans = tuple((context.index(answer), context.index(answer) + len(answer)) for answer in answers)
    return LabelledQuestion("q", question, context, spans)


def test_a_label_is_the_first_and_the_last_token_of_the_answer(tokenizer: TextTokenizer) -> None:
    features = make_features([item("the cat sat on the mat", "cat sat")], tokenizer)
    # [CLS] on [SEP] the cat sat on the mat [SEP]
    assert labels(features, 0) == [(4, 5)]
    assert features.segment_starts.tolist() == [3]
    assert features.lengths.tolist() == [10]
    assert (ids(features, 0)[[0, 2, 9]] == [tokenizer.special.cls_id, *[tokenizer.special.sep_id] * 2]).all()


def test_an_answer_that_stands_in_several_places_has_several_labels(tokenizer: TextTokenizer) -> None:
    question = LabelledQuestion("q", "on", "the cat sat on the mat", ((0, 3), (15, 18)))
    assert labels(make_features([question], tokenizer), 0) == [(3, 3), (7, 7)]


def test_an_answer_with_accents_is_found_at_its_code_points(tokenizer: TextTokenizer) -> None:
    context = "the caf\u00e9 \u00c9 sat"
    decomposed = "the cafe\u0301 sat"
    assert labels(make_features([item("cat \u00e9 sat", "\u00e9")], tokenizer), 0) == [(4, 4)]
    for text, answer in ((context, "sat"), (decomposed, "sat")):
        features = make_features([item(text, answer)], tokenizer)
        assert labels(features, 0) == [(features.lengths[0] - 2, features.lengths[0] - 2)]


def test_an_answer_inside_a_word_takes_the_pieces_that_it_touches(tokenizer: TextTokenizer) -> None:
    context = tokenizer.encode("sat parisly cat")  # paris ##ly
    assert token_span(context, (4, 9)) == (1, 1)
    assert token_span(context, (8, 10)) == (1, 2)
    assert token_span(context, (3, 15)) == (1, 3)  # white space before the answer belongs to no token
    assert token_span(context, (4, 12)) == (1, 2)


def test_an_answer_that_a_window_cuts_off_gets_the_label_cls_there(tokenizer: TextTokenizer) -> None:
    words = ["cat"] * 20
    words[11:13] = ["mat", "paris"]
    features = make_features([item(" ".join(words), "mat paris")], tokenizer, CUT)
    # room for 12 context tokens: 0..11, 8..19; the answer is 11..12, so the first window holds one half of it
    assert features.questions.tolist() == [0, 0]
    assert labels(features, 0) == [(0, 0)]
    assert labels(features, 1) == [(3 + 3, 4 + 3)]


def test_every_window_of_a_long_context_belongs_to_its_question(tokenizer: TextTokenizer) -> None:
    questions = [item("cat " * 30 + "mat", "mat"), item("the mat", "mat")]
    features = make_features(questions, tokenizer, CUT)
    assert len(features) == len(features.questions) > 3
    assert features.questions.tolist() == sorted(features.questions.tolist())
    assert set(features.questions.tolist()) == {0, 1}
    assert features.lengths.max() <= CUT.max_length
    answered = [labels(features, window) != [(0, 0)] for window in range(len(features))]
    assert answered == [False] * (len(features) - 2) + [True, True]


def test_an_answer_in_the_overlap_is_labelled_in_both_windows(tokenizer: TextTokenizer) -> None:
    words = ["cat"] * 20
    words[9] = "mat"
    features = make_features([item(" ".join(words), "mat")], tokenizer, CUT)
    assert [labels(features, window) for window in range(2)] == [[(9 + 3, 9 + 3)], [(1 + 3, 1 + 3)]]


def test_no_questions_are_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="no questions"):
        make_features([], tokenizer)


@pytest.fixture
def saved(tokenizer: TextTokenizer, tmp_path: Path) -> Path:
    make_features([item("cat " * 30 + "mat", "mat"), item("the mat", "mat")], tokenizer, CUT).save(tmp_path / "f.npz")
    return tmp_path / "f.npz"


def test_features_come_back_as_they_were_saved_and_nothing_else_is_left(
    saved: Path, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pickle(*args: object, **kwargs: object) -> None:
        raise AssertionError("pickle was used")

    monkeypatch.setattr(pickle, "load", no_pickle)
    expected = make_features([item("cat " * 30 + "mat", "mat"), item("the mat", "mat")], tokenizer, CUT)
    loaded = Features.load(saved)
    for name, values in vars(expected).items():
        assert getattr(loaded, name).dtype == values.dtype
        assert (getattr(loaded, name) == values).all()
    assert [path.name for path in saved.parent.iterdir()] == ["f.npz"]


def objects(path: Path) -> None:
    fields = dict.fromkeys(Features.__dataclass_fields__, np.zeros(1))
    np.savez(path, **fields | {"token_ids": np.array([{}], dtype=object)})


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("features"),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "other bytes": lambda path: path.write_bytes(path.read_bytes()[:60] + b"?" * 20 + path.read_bytes()[80:]),
    "one array": lambda path: np.savez(path, token_ids=np.zeros(1)),
    "pickled objects": objects,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_an_error_that_names_it(saved: Path, damage: Callable[[Path], object]) -> None:
    damage(saved)
    with pytest.raises(ValueError, match=r"f\.npz is damaged, or no file of features"):
        Features.load(saved)


def test_a_bare_array_is_no_file_of_features(tmp_path: Path) -> None:
    with (tmp_path / "f.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="no file of features"):
        Features.load(tmp_path / "f.npz")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Features.load(tmp_path / "f.npz")
