"""The skimmer's training: which tokens of a text are likely part of the answer, seen with a fraction of a layer's work.

The network is the one that ``model_store/FORMAT.md``, "skimmer.safetensors", describes; `server.engine.skimmer`
computes the same in numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model_store import LengthConfiguration, Tensors
from model_store.skimmer import (
    DILATIONS,
    HEADS,
    MARGIN_SHARES,
    QUESTION_TAPS,
    SHORTEST_TEXT,
    TAPS,
    WIDTH,
)
from server.engine.skimming import RankedWindow, kept_places, text_tokens
from trainer.batches import LabelledBatch, collate
from trainer.features import Features
from trainer.loop import LoopSettings, TrainingLoop, to_device
from trainer.network import PADDING_LOGIT, Batch
from trainer.quantize import quantize_rows
from trainer.tensor_files import read_file

UNREAD = -10000.0
"""Score of what is no token of the text; its probability is 0."""

_RARITY_SCALE = 5.0
_BISECTIONS = 30


class Block(nn.Module):
    """A convolution of each channel by itself, then one over the channels, added to what came in."""

    def __init__(self, taps: int, dilation: int) -> None:
        super().__init__()
        beside = taps // 2 * dilation
        self.taps = nn.Conv1d(WIDTH, WIDTH, taps, padding=beside, dilation=dilation, groups=WIDTH)
        self.mixed = nn.Linear(WIDTH, WIDTH)

    def forward(self, state: Tensor, there: Tensor) -> Tensor:
        """``[b, n, width]`` of as many; `there` is float ``[b, n, 1]``, 0 where there is no token."""
        seen = self.taps(state.transpose(1, 2)).transpose(1, 2)
        added: Tensor = (state + functional.relu(self.mixed(seen))) * there
        return added


class SkimmerNetwork(nn.Module):
    """Scores the tokens of texts by their questions.

    Args:
        words: float32 ``[vocabulary, width]``, what the word embeddings begin as.
        rarity: float32 ``[vocabulary]``, what an equal word piece in question and text counts at first.
        seed: of the other weights.
    """

    def __init__(self, words: Tensor, rarity: Tensor, seed: int) -> None:
        super().__init__()
        self.word = nn.Embedding(len(words), WIDTH)
        self.word.weight.data.copy_(words)
        self.rarity = nn.Parameter(rarity.clone())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.match = nn.Parameter(
                0.5 * torch.eye(WIDTH).repeat(HEADS, 1, 1) + 0.02 * torch.randn(HEADS, WIDTH, WIDTH)
            )
            self.question = Block(QUESTION_TAPS, 1)
            self.gate = nn.Linear(WIDTH, 1, bias=False)
            self.gate_question = nn.Linear(WIDTH, WIDTH)
            self.mix_text = nn.Linear(WIDTH, WIDTH)
            self.mix_asked, self.mix_product, self.mix_question = (
                nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3)
            )
            self.mix_matches = nn.Linear(HEADS + 1, WIDTH, bias=False)
            self.blocks = nn.ModuleList(Block(TAPS, dilation) for dilation in DILATIONS)
            self.score = nn.Linear(WIDTH, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Scores float32 ``[b, n]``; `UNREAD` for what is no token of the text."""
        ids = batch.token_ids
        longest = max(int(batch.segment_starts.max()) - 2, 1)
        question, asking = ids[:, 1 : 1 + longest], batch.question[:, 1 : 1 + longest]
        text = text_of(batch)
        there = text[..., None].float()
        words, asked_words = self.word(ids) * there, self.word(question)
        read = self.question(asked_words * asking[..., None], asking[..., None].float())
        wanted = torch.einsum("bmd,hde->bhme", asked_words, self.match)
        matches = torch.einsum("bnd,bhmd->bhnm", words, wanted).masked_fill(~asking[:, None, None], UNREAD)
        asked = matches[:, 0].softmax(-1) @ read
        exact = (ids[:, :, None] == question[:, None]) * (self.rarity[question] * asking)[:, None]
        seen = torch.cat([matches.amax(3).transpose(1, 2), exact.amax(2, keepdim=True)], -1)
        gist = self.gate(read)[..., 0].masked_fill(~asking, UNREAD).softmax(-1)[:, None] @ read
        mixed = self.mix_text(words) + self.mix_question(words * self.gate_question(gist)) + self.mix_asked(asked)
        state = functional.relu(mixed + self.mix_product(words * asked) + self.mix_matches(seen)) * there
        for block in self.blocks:
            state = block(state, there)
        scores: Tensor = self.score(state)[..., 0].masked_fill(~text, UNREAD)
        return scores


def text_of(batch: Batch) -> Tensor:
    """Bool ``[b, n]``: the tokens of segment 1, the last [SEP] left out."""
    places = torch.arange(batch.token_ids.shape[1], device=batch.lengths.device)[None]
    return (places >= batch.segment_starts[:, None]) & (places < batch.lengths[:, None] - 1)


@dataclass(frozen=True, slots=True)
class SkimmedBatch:
    """What is left of the windows of a batch.

    Attributes:
        inputs: shorter windows, padded anew.
        places: int64 ``[b, k]``, where their tokens stood in the whole windows; 0 at padding.
    """

    inputs: Batch
    places: Tensor

    def of_whole(self, logits: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`logits` of the whole windows, ``[b, n]`` each, at what is left of them, ``[b, k]`` each."""
        padding = ~self.inputs.real
        return tuple(each.gather(1, self.places).masked_fill(padding, PADDING_LOGIT) for each in logits)


def skim_batch(batch: Batch, scores: Tensor, share: float, exempt_tokens: int) -> SkimmedBatch:
    """What a configuration with this `input_ratio` leaves of a batch, by the rule of `server.engine.skimming`.

    Args:
        batch: whole windows.
        scores: float32 ``[b, n]``, of `SkimmerNetwork`.
        share: the input ratio.
        exempt_tokens: of a window, that it does not count.
    """
    configuration = LengthConfiguration("skimming", (1.0,), exempt_tokens, share)
    of_tokens, rows = scores.detach().float().cpu().numpy(), []
    for row, (length, start) in enumerate(zip(batch.lengths.tolist(), batch.segment_starts.tolist(), strict=True)):
        text = of_tokens[row, start : length - 1]
        rows.append(kept_places(text, start, min(text_tokens(length, start, configuration), len(text))))
    lengths = torch.tensor([len(row) for row in rows])
    places = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for row, kept in enumerate(rows):
        places[row, : len(kept)] = torch.from_numpy(kept)
    places = places.to(batch.token_ids.device)
    inputs = Batch(batch.token_ids.gather(1, places), batch.segment_starts, lengths.to(batch.lengths.device))
    return SkimmedBatch(inputs, places)


def skimming_loss(scores: Tensor, batch: LabelledBatch) -> Tensor:
    """How unlikely the answers' tokens are, of all tokens of their text and each by itself.

    The first part is the cross-entropy of the softmax over the text with the answers' tokens, which ranks tokens within
    a text; the second the binary cross-entropy of "is part of an answer".

    Args:
        scores: float32 ``[b, n]``.
        batch: windows with an answer each.

    Returns:
        Scalar, nats.
    """
    inside = batch.inside.float()
    ranked = -(scores.log_softmax(-1) * inside).sum(1) / inside.sum(1)
    text = text_of(batch.inputs)
    each = functional.binary_cross_entropy_with_logits(scores[text], inside[text])
    return ranked.mean() + each


@dataclass(frozen=True, slots=True)
class SkimmingSettings(LoopSettings):
    """Attributes are the command line's options of the same names.

    Attributes:
        start: digest of the weights whose word embeddings are begun with.
    """

    epochs: float = 5.0
    batch_size: int = 64
    learning_rate: float = 2e-3
    start: str = ""


class SkimmerTrainer(TrainingLoop):
    """One run in one folder, stopped and resumed at will; windows without an answer are left out."""

    def __init__(
        self,
        network: SkimmerNetwork,
        features: Features,
        folder: Path,
        settings: SkimmingSettings,
        *,
        device: torch.device | None = None,
    ) -> None:
        answered = np.flatnonzero(features.label_starts[features.label_offsets[:-1]] > 0)
        super().__init__(network, features, folder, settings, windows=answered, device=device)

    def _gradients(self, indices: NDArray[np.int64]) -> Mapping[str, object]:
        batch = to_device(collate(self.features, indices, 0), self.device)
        loss = skimming_loss(self.network(batch.inputs), batch)
        torch.autograd.backward(loss)
        return {"loss": loss.item()}

    def _updated(self) -> None:
        """There is no working copy."""


def first_words(words: Tensor) -> Tensor:
    """What a skimmer's word embeddings begin as: the principal components of a model's, of standard deviation 1/2.

    Args:
        words: float32 ``[vocabulary, hidden]``; where hidden is less than the skimmer's width, zeros fill it up.
    """
    centred = words - words.mean(0)
    _, _, directions = torch.linalg.svd(centred.T @ centred)
    found = functional.pad(centred @ directions[:WIDTH].T, (0, max(WIDTH - words.shape[1], 0)))
    return 0.5 * found / found.std()


def rarity(features: Features, vocabulary: int) -> Tensor:
    """Float32 ``[vocabulary]``: the logarithm of how rarely a text has a word piece, scaled to be about 1."""
    texts = np.ones(vocabulary)
    ends = features.offsets[1:]
    for window, start in enumerate(features.offsets[:-1] + features.segment_starts):
        texts[np.unique(features.token_ids[start : ends[window] - 1])] += 1
    return torch.from_numpy(np.log(len(features) / texts).clip(0.05) / _RARITY_SCALE).float()


def calibrated_margins(windows: Sequence[RankedWindow]) -> NDArray[np.float32]:
    """The tensor ``margin`` of a skimmer: for each of `MARGIN_SHARES` the margin that keeps as many tokens in the mean.

    By bisection, each share by itself; so that none is below the one before, it is raised to that.

    Args:
        windows: of texts that the skimmer was not trained on; their own margins do not matter.

    Raises:
        ValueError: no text is longer than what always stays of one.
    """
    texts = [window for window in windows if len(window.ranked.worth) > SHORTEST_TEXT]
    if not texts:
        raise ValueError(f"margins need texts of more than {SHORTEST_TEXT} tokens")
    widest, found = max(float(each.ranked.worth[0] - each.ranked.worth[-1]) for each in texts), []
    for share in MARGIN_SHARES:
        wanted = [max(round(share * len(each.ranked.worth)), SHORTEST_TEXT) for each in texts]
        low, high = 0.0, widest
        for _ in range(_BISECTIONS):
            margin = (low + high) / 2
            kept = sum(each.marginal_text(count, margin) for each, count in zip(texts, wanted, strict=True))
            low, high = (low, margin) if kept > sum(wanted) else (margin, high)
        found.append(low)
    return np.maximum.accumulate(np.asarray(found, dtype=np.float32))


def load_skimmer(path: Path) -> SkimmerNetwork:
    """The network of the weights in `path`, as ``skim`` writes them.

    Raises:
        OSError: no such file.
        ValueError: damaged, or of another network.
    """
    state = read_file(path)
    try:
        network = SkimmerNetwork(torch.zeros_like(state["word.weight"]), torch.zeros_like(state["rarity"]), seed=0)
        network.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} holds no skimmer: {error!s:.200}") from error
    return network


def skimmer_tensors(network: SkimmerNetwork) -> Tensors:
    """The tensors of `model_store.skimmer.skimmer_layout`; the words as 8-bit integers, each with a scale."""
    state = {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}
    levels, scale = quantize_rows(state["word.weight"])
    named = {
        "word": levels,
        "word.scale": scale,
        "rarity": state["rarity"],
        "match": state["match"],
        "gate.weight": state["gate.weight"],
        "gate.question": state["gate_question.weight"],
        "gate.question.bias": state["gate_question.bias"],
        "mix.bias": state["mix_text.bias"],
        "score.weight": state["score.weight"],
        "score.bias": state["score.bias"],
    }
    parts = ("text", "asked", "product", "question", "matches")
    named |= {f"mix.{part}": state[f"mix_{part}.weight"] for part in parts}
    for block in ("question", *(f"blocks.{place}" for place in range(len(DILATIONS)))):
        named[f"{block}.taps"] = state[f"{block}.taps.weight"][:, 0]
        named[f"{block}.taps.bias"] = state[f"{block}.taps.bias"]
        named[f"{block}.weight"] = state[f"{block}.mixed.weight"]
        named[f"{block}.bias"] = state[f"{block}.mixed.bias"]
    return {name: np.ascontiguousarray(tensor) for name, tensor in named.items()}
