from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.trainer.teacher_fakes import OURS, PIECES, mpnet_like, word_pieces
from trainer.network import Batch
from trainer.teacher_pieces import Framing, PieceMap, find_framing


def ours(*rows: str, segment_starts: tuple[int, ...]) -> Batch:
    """A batch of windows written as pieces."""
    ids = [[OURS[piece] for piece in row.split()] for row in rows]
    lengths = [len(row) for row in ids]
    padded = [row + [0] * (max(lengths) - len(row)) for row in ids]
    return Batch(torch.tensor(padded), torch.tensor(segment_starts), torch.tensor(lengths))


def read(ids: list[int], vocabulary: Mapping[str, int]) -> str:
    names = {number: piece for piece, number in vocabulary.items()}
    return " ".join(names[number] for number in ids)


def bert_like() -> Tokenizer:
    """The same pieces in another order, framed as BERT does."""
    tokenizer = word_pieces({piece: place for place, piece in enumerate(reversed(list(OURS)))})
    ids = [(piece, tokenizer.token_to_id(piece)) for piece in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return tokenizer


def test_an_mpnet_window_has_its_own_specials_and_one_more_between() -> None:
    pieces = PieceMap(word_pieces(OURS), mpnet_like(), pad=1)
    batch = ours("[CLS] a b [SEP] c ##d a [SEP]", "[CLS] b [SEP] [UNK] [SEP]", segment_starts=(4, 3))
    framed = pieces.frame(batch)
    theirs = mpnet_like().get_vocab()
    assert read(framed.input_ids[0].tolist(), theirs) == "<s> a b </s> </s> c ##d a </s>"
    assert read(framed.input_ids[1].tolist(), theirs) == "<s> b </s> </s> [UNK] </s> <pad> <pad> <pad>"
    assert framed.attention_mask.sum(1).tolist() == [9, 6]
    assert framed.token_type_ids.sum().item() == 0


def test_a_bert_window_has_token_types_and_the_same_length() -> None:
    pieces = PieceMap(word_pieces(OURS), bert_like(), pad=3)
    batch = ours("[CLS] a b [SEP] c [SEP]", "[CLS] b [SEP] a [SEP]", segment_starts=(4, 3))
    framed = pieces.frame(batch)
    assert read(framed.input_ids[0].tolist(), bert_like().get_vocab()) == "[CLS] a b [SEP] c [SEP]"
    assert framed.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]


def test_each_of_our_tokens_is_found_at_its_place() -> None:
    pieces = PieceMap(word_pieces(OURS), mpnet_like(), pad=1)
    batch = ours("[CLS] a b [SEP] c ##d [SEP]", "[CLS] b [SEP] a [SEP]", segment_starts=(4, 3))
    framed = pieces.frame(batch)
    found = framed.input_ids.gather(1, framed.places)
    theirs = mpnet_like().get_vocab()
    assert read(found[0].tolist(), theirs) == "<s> a b </s> c ##d </s>"
    assert read(found[1, :5].tolist(), theirs) == "<s> b </s> a </s>"


def test_the_frame_is_read_off_the_tokenizer() -> None:
    theirs = mpnet_like().get_vocab()
    frame = find_framing(mpnet_like(), pad=1)
    assert frame == Framing(theirs["<s>"], (theirs["</s>"],) * 2, theirs["</s>"], context_type=0, pad=1)


def test_a_teacher_that_frames_pairs_without_a_first_token_is_refused() -> None:
    tokenizer = mpnet_like()
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(pair="$A </s> $B </s>", special_tokens=[("</s>", end)])
    with pytest.raises(ValueError, match="cannot follow"):
        PieceMap(word_pieces(OURS), tokenizer, pad=1)


def test_pieces_that_the_teacher_lacks_are_named() -> None:
    pieces = PieceMap(word_pieces(OURS), mpnet_like(without="##d"), pad=1)
    pieces.check_ids(torch.tensor([OURS["a"], OURS["[CLS]"], OURS["[UNK]"]]))
    with pytest.raises(ValueError, match=r"lacks 1 of our word pieces, among them '##d'"):
        pieces.check_ids(torch.tensor([OURS["a"], OURS["##d"]]))


def test_the_same_pieces_pass_and_others_are_shown() -> None:
    texts = ["a b cd", "what? A b"]
    PieceMap(word_pieces(OURS), mpnet_like(), pad=1).check_texts(texts)
    with pytest.raises(ValueError, match=r"\['\[UNK\]'\] where we have \['c', '##d'\] \(piece 2"):
        PieceMap(word_pieces(OURS), mpnet_like(without="##d"), pad=1).check_texts(texts)
    cased = mpnet_like()
    cased.normalizer = normalizers.BertNormalizer(lowercase=False)
    with pytest.raises(ValueError, match="other word pieces"):
        PieceMap(word_pieces(OURS), cased, pad=1).check_texts(texts)


def test_a_text_that_spells_a_special_token_is_text() -> None:
    PieceMap(word_pieces(OURS), mpnet_like(), pad=1).check_texts(["a b [ sep ]", "b"])


def test_a_teacher_with_longer_words_is_refused() -> None:
    whole = Tokenizer(models.WordLevel({**PIECES, "cd": 30, "<s>": 31, "</s>": 32}, unk_token="[UNK]"))  # noqa: S106
    whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    whole.post_processor = mpnet_like().post_processor
    with pytest.raises(ValueError, match=r"\['cd'\] where we have \['c', '##d'\]"):
        PieceMap(word_pieces(OURS), whole, pad=0).check_texts(["cd"])
