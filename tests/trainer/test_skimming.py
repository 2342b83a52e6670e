"""Training a skimmer, and that what is trained is what runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from model_store import LengthConfiguration, ModelStore
from model_store.skimmer import MARGIN_SHARES, WIDTH, rank_tokens, skimmer_layout
from model_store.tensors import validate_tensors_of
from server.engine.skimmer import Skimmer
from server.engine.skimming import RankedWindow, skim
from tests.trainer.helpers import EXCERPT, SMALL, random_batch, random_network
from tests.trainer.models import Tokens
from trainer.adapt import Adapter, AdaptSettings
from trainer.batches import LabelledBatch, collate
from trainer.cli import app
from trainer.features import Features
from trainer.network import PADDING_LOGIT
from trainer.skimming import (
    UNREAD,
    SkimmedBatch,
    SkimmerNetwork,
    SkimmerTrainer,
    SkimmingSettings,
    calibrated_margins,
    first_words,
    load_skimmer,
    rarity,
    skim_batch,
    skimmer_tensors,
    skimming_loss,
    text_of,
)
from trainer.tensor_files import read_file, write_file

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def features_of(count: int) -> Features:
    """Questions of three word pieces, the second of which stands in the text and is the answer."""
    rng = np.random.default_rng(0)
    windows, places = [], []
    for length in rng.integers(16, 30, count):
        ids = rng.permutation(np.arange(8, SMALL.vocabulary))[:length].astype(np.int32)
        place = int(rng.integers(5, length - 1))
        ids[0], ids[4], ids[-1], ids[place] = 2, 3, 3, ids[2]
        windows.append(ids)
        places.append(place)
    labels = np.asarray(places, dtype=np.int32)
    return Features(
        token_ids=np.concatenate(windows),
        offsets=np.cumsum([0, *map(len, windows)], dtype=np.int64),
        segment_starts=np.full(count, 5, dtype=np.int32),
        label_starts=labels,
        label_ends=labels.copy(),
        label_offsets=np.arange(count + 1, dtype=np.int64),
        questions=np.arange(count, dtype=np.int32),
    )


FEATURES = features_of(40)
SETTINGS = SkimmingSettings(epochs=3, batch_size=8, learning_rate=1e-2, precision="f32", checkpoint_minutes=1e9)


def network(seed: int = 0) -> SkimmerNetwork:
    generator = torch.Generator().manual_seed(seed)
    words = 0.5 * torch.randn(SMALL.vocabulary, WIDTH, generator=generator)
    return SkimmerNetwork(words, torch.rand(SMALL.vocabulary, generator=generator), seed)


def test_numpy_scores_what_torch_was_trained_to_score_whatever_padding_stands_beside() -> None:
    trained = network().eval()
    tensors = skimmer_tensors(trained)
    validate_tensors_of(tensors, skimmer_layout(SMALL.vocabulary))
    with torch.no_grad():
        trained.word.weight.copy_(torch.from_numpy(tensors["word"] * tensors["word.scale"][:, None]))
    batch = random_batch([60, 9, 33, 41], width=64)
    with torch.inference_mode():
        found = trained(batch).numpy()
    skimmer = Skimmer(tensors)
    for row, (length, start) in enumerate(zip(batch.lengths.tolist(), batch.segment_starts.tolist(), strict=True)):
        ids = batch.token_ids[row].numpy().astype(np.int32)
        question = ids[1 : start - 1]
        if len(question):
            wanted = skimmer.scores(question, ids[start : length - 1])
            np.testing.assert_allclose(found[row, start : length - 1], wanted, atol=1e-5)
        outside = np.delete(found[row], np.arange(start, length - 1))
        assert (outside == UNREAD).all()


def test_the_text_of_a_window_is_what_lies_between_its_last_two_separators() -> None:
    batch = random_batch([10, 6], width=12)  # their texts begin at 3 and 2
    assert text_of(batch).int().tolist() == [[0] * 3 + [1] * 6 + [0] * 3, [0] * 2 + [1] * 3 + [0] * 7]


def test_the_loss_asks_for_the_answers_tokens_above_the_others_of_their_text() -> None:
    batch = random_batch([7])  # place 2 begins the text, 6 is the last separator
    starts, ends = torch.zeros(1, 7, dtype=torch.bool), torch.zeros(1, 7, dtype=torch.bool)
    starts[0, 3], ends[0, 4] = True, True
    scores = torch.tensor([[UNREAD, UNREAD, 0.0, 2.0, 2.0, 0.0, UNREAD]])
    total = 2 * np.exp(2.0) + 2.0
    ranked = -np.log(np.exp(2.0) / total)
    each = (2 * np.log1p(np.exp(-2.0)) + 2 * np.log(2.0)) / 4
    loss = skimming_loss(scores, LabelledBatch(batch, starts, ends))
    assert loss.item() == pytest.approx(ranked + each, rel=1e-5)


def test_words_begin_as_the_principal_components_of_a_models() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(200, 3) @ torch.diag(torch.tensor([9.0, 3.0, 1.0])) + 5.0
    found = first_words(hidden)
    assert found.shape == (200, WIDTH)
    assert found.std().item() == pytest.approx(0.5)
    assert (found[:, 3:] == 0).all()
    spread = found[:, :3].std(0)
    assert (spread[:-1] > spread[1:]).all()


def test_a_rare_word_piece_counts_more_than_a_common_one() -> None:
    found = rarity(FEATURES, SMALL.vocabulary)
    texts = [
        set(FEATURES.token_ids[first + start : last - 1].tolist())
        for first, start, last in zip(FEATURES.offsets[:-1], FEATURES.segment_starts, FEATURES.offsets[1:], strict=True)
    ]
    count = {piece: sum(piece in text for text in texts) for piece in range(SMALL.vocabulary)}
    rare, common = min(count, key=count.__getitem__), max(count, key=count.__getitem__)
    assert found[rare] == pytest.approx(max(np.log(40 / (1 + count[rare])), 0.05) / 5.0)
    assert found[rare] > found[common] > 0


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 1.0])
def test_what_training_leaves_of_a_batch_is_what_serving_leaves_of_each_window(share: float) -> None:
    trained = network().eval()
    tensors = skimmer_tensors(trained)
    trained.word.weight.data.copy_(torch.from_numpy(tensors["word"] * tensors["word.scale"][:, None]))
    batch = random_batch([60, 11, 33, 41], width=64)
    with torch.inference_mode():
        left = skim_batch(batch, trained(batch), share, exempt_tokens=16)
    configuration = LengthConfiguration("c01", (1.0,), 16, share)
    for row, (length, start) in enumerate(zip(batch.lengths.tolist(), batch.segment_starts.tolist(), strict=True)):
        ids = batch.token_ids[row, :length].numpy().astype(np.int32)
        wanted = skim(Tokens(ids, start), configuration, Skimmer(tensors))
        count = int(left.inputs.lengths[row])
        assert left.inputs.token_ids[row, :count].tolist() == wanted.token_ids.tolist()
        assert left.places[row, :count].tolist() == wanted.places.tolist()
    assert left.inputs.segment_starts.tolist() == batch.segment_starts.tolist()


def test_logits_of_whole_windows_are_taken_where_the_tokens_stood_and_padding_stays_padding() -> None:
    left = SkimmedBatch(random_batch([3, 2], width=3), torch.tensor([[0, 2, 4], [1, 3, 0]]))
    (found,) = left.of_whole([torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0, 9.0]])])
    assert found.tolist() == [[0.0, 2.0, 4.0], [6.0, 8.0, PADDING_LOGIT]]


def adapting(folder: Path, start_seed: int = 0) -> Adapter:
    settings = AdaptSettings(
        epochs=2, batch_size=8, learning_rate=1e-3, precision="f32", checkpoint_minutes=1e9, input_drop=0.6
    )
    return Adapter(random_network(seed=start_seed, scale=0.1), FEATURES, folder, settings, skimmer=network())


def test_an_adaptation_that_skims_is_resumed_bit_for_bit_and_leaves_the_skimmer_alone(tmp_path: Path) -> None:
    whole = adapting(tmp_path / "whole")
    whole.run()
    adapting(tmp_path / "parts").run(4)
    adapting(tmp_path / "parts", start_seed=9).run()
    one, other = (read_file(tmp_path / each / "checkpoint" / "weights.safetensors") for each in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.skimmer is not None
    assert all(torch.equal(a, b) for a, b in zip(whole.skimmer.parameters(), network().parameters(), strict=True))


def test_sub_models_of_such_an_adaptation_see_less_of_the_text_the_smallest_the_least(tmp_path: Path) -> None:
    loop = adapting(tmp_path)
    batch = collate(FEATURES, np.arange(8), 0).inputs
    full, smallest, *others = loop._passes(batch)
    assert full.skimmed is None
    assert smallest.skimmed is not None
    counts = [one.skimmed.inputs.lengths for one in others if one.skimmed is not None]
    assert len(counts) == 2
    assert all((smallest.skimmed.inputs.lengths <= each).all() for each in counts)
    assert (smallest.skimmed.inputs.lengths < batch.lengths).any()
    kept = smallest.sub_model.kept
    assert kept is not None
    assert (kept[0] <= smallest.skimmed.inputs.lengths).all()


def test_a_skimmer_without_an_input_drop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="go together"):
        Adapter(random_network(), FEATURES, tmp_path, AdaptSettings(), skimmer=network())
    with pytest.raises(ValueError, match="input_drop"):
        AdaptSettings(input_drop=1.0)


def test_a_file_that_holds_no_skimmer_is_refused(tmp_path: Path) -> None:
    write_file({"rarity": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no skimmer"):
        load_skimmer(tmp_path / "other.safetensors")


def test_a_stopped_and_resumed_run_equals_an_unstopped_one_bit_for_bit(tmp_path: Path) -> None:
    whole = SkimmerTrainer(network(), FEATURES, tmp_path / "whole", SETTINGS)
    steps = whole.run()
    for stop_after in (3, 8, None):
        SkimmerTrainer(network(), FEATURES, tmp_path / "parts", SETTINGS).run(stop_after)
    one, other = (read_file(tmp_path / each / "checkpoint" / "weights.safetensors") for each in ("whole", "parts"))
    assert steps > 8
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_training_finds_the_answers(tmp_path: Path) -> None:
    settings = SkimmingSettings(epochs=30, batch_size=8, learning_rate=1e-2, precision="f32", checkpoint_minutes=1e9)
    SkimmerTrainer(network(), FEATURES, tmp_path, settings).run()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_the_stages_train_a_skimmer_publish_it_beside_the_same_tensors_and_search_with_it(tmp_path: Path) -> None:
    def trainer(*arguments: object) -> str:
        done = CliRunner().invoke(app, ["--threads", "1", *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.stdout

    base, run, store = tmp_path / "base", tmp_path / "run", ModelStore(tmp_path / "store")
    at = ("--store", store.root)
    trainer("tiny-base", base, "--data", EXCERPT)
    trainer("prepare", run, "--data", EXCERPT, "--base", base, "--held-out-share", 0.5)
    trainer("finetune", run, "--base", base, "--epochs", 0.1)
    trainer("export", run, *at, "--base", base, "--engine", "reference", "--calibration-windows", 4)
    skimming = ("skim", run, "--epochs", 1, "--batch-size", 4)
    assert "the same command goes on" in trainer(*skimming, "--stop-after", 1)
    trainer(*skimming)
    refused = CliRunner().invoke(app, ["search", str(run), "--store", str(store.root), "--input-drop", "0.5"])
    assert (refused.exit_code, "no skimmer" in refused.stderr) == (1, True)
    assert "published default@2" in trainer("add-skimmer", run, *at)
    plain, skims = store.load("default@1"), store.load("default@2")
    assert (plain.has_skimmer, skims.has_skimmer) == (False, True)
    assert plain.manifest.files["model.safetensors"] == skims.manifest.files["model.safetensors"]
    assert store.verify("default@2") == []
    facts = skims.manifest.training["skimmer"]
    assert isinstance(facts, dict)
    assert facts["epochs"] == 1
    margins = skims.load_skimmer()["margin"]
    assert (np.diff(margins) >= 0).all()
    assert margins[-1] > 0
    cards = [(each.path / "MODEL_CARD.md").read_text(encoding="utf-8") for each in (plain, skims)]
    assert ["skimmer, scores" in card for card in cards] == [False, True]
    search = ("search", run, *at, "--engine", "fake", "--questions", 2, "--exempt-tokens", 8, "--input-drop", 0.5)
    trainer(*search, "--evaluations", 30)
    rows = [json.loads(line) for line in (run / "search" / "evaluations.jsonl").read_text().splitlines()]
    assert rows[0]["settings"]["input_drop"] == 0.5
    assert rows[1]["input_ratio"] == 1.0
    assert min(row["input_ratio"] for row in rows[1:]) < 0.6
    trainer("table", run, *at, "--engine", "fake", "--questions", 2)
    trainer("publish-table", run, *at)
    published = store.load("default@3")
    assert published.table.skims == any(point.configuration.input_ratio < 1 for point in published.table.points)
    assert published.has_skimmer


def ranked(length: int, seed: int) -> RankedWindow:
    """A window of that many tokens of text whose scores are smooth noise."""
    rng = np.random.default_rng(seed)
    scores = np.convolve(rng.standard_normal(length), np.ones(9), "same") * rng.uniform(0.2, 3.0)
    ids = np.zeros(length + 9, dtype=np.int32)
    return RankedWindow(ids, 8, rank_tokens(scores.astype(np.float32)), np.zeros(len(MARGIN_SHARES), np.float32))


def test_margins_keep_as_many_tokens_as_their_shares_in_the_mean() -> None:
    lengths = np.random.default_rng(0).integers(60, 300, 400).tolist()
    windows = [ranked(length, seed) for seed, length in enumerate(lengths)]
    margins = calibrated_margins(windows)
    windows = [replace(window, margins=margins) for window in windows]
    for share in (0.4, 0.6, 0.8):
        configuration = LengthConfiguration("c01", (1.0,), 0, share)
        plain = np.asarray([configuration.input_tokens(len(window.token_ids)) for window in windows])
        kept = np.asarray([window.left_tokens(configuration) for window in windows])
        assert kept.sum() == pytest.approx(plain.sum(), rel=0.03)
        assert np.std(kept / plain) > 0.05  # it is the mean alone that is kept


def test_margins_need_texts() -> None:
    with pytest.raises(ValueError, match="more than 8 tokens"):
        calibrated_margins([])
