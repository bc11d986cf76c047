"""The spelling of an answer's tokens is what CTC was trained to write for that answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import save_llm

from harmonifuse_espnet.data.tokenizer import SentencePieceTokenizer, Tokenizer, load_tokenizer
from harmonifuse_espnet.data.tokenizer_training import train_sentencepiece
from harmonifuse_espnet.inference.ctc_spelling import Spelling, spell_tokens, text_of

TEXTS = ["ONE TWO THREE", "THEY TELL THE TIME", "TWO TWO ONE"]


def sentencepiece(folder: Path, kind: str, symbols: tuple[str, ...] = (), texts: list[str] = TEXTS) -> Tokenizer:
    path = folder / f"{kind}.model"
    path.write_bytes(train_sentencepiece(texts, symbols, 60, kind))
    return SentencePieceTokenizer(path)


def spelled(spelling: Spelling, tokenizer: Tokenizer, text: str) -> list[int]:
    """CTC tokens of a text by way of the language model's."""
    units = [*spelling.opening, *(unit for token in tokenizer.encode(text) for unit in spelling.tokens[token])]
    return [unit - 1 for unit in units]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_transcript_is_spelled_as_ctc_s_target_prompt_words_in_it_too(tmp_path: Path, kind: str) -> None:
    tokenizer, ctc = sentencepiece(tmp_path, kind, ("ANGRY", "THE")), sentencepiece(tmp_path, "char")
    spelling = spell_tokens(tokenizer, ctc)
    assert spelling.opening == ()  # sentencepiece puts a blank before the first word, on both sides
    for text in TEXTS:
        assert spelled(spelling, tokenizer, text) == ctc.encode(text)
    the = tokenizer.encode("THE")
    assert len(the) == 1 and spelling.tokens[the[0]] == tuple(unit + 1 for unit in ctc.encode("THE"))


def test_what_ctc_cannot_write_has_no_spelling(tmp_path: Path) -> None:
    tokenizer, ctc = sentencepiece(tmp_path, "bpe", ("ANGRY",)), sentencepiece(tmp_path, "char")
    spelling = spell_tokens(tokenizer, ctc)
    [angry] = tokenizer.encode("ANGRY")  # no transcript has an A, nor a G
    for token in (angry, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id):
        assert spelling.tokens[token] == ()
    assert sum(not units for units in spelling.tokens) == 5


def test_ctc_s_target_may_open_with_a_blank_that_the_answer_lacks(tmp_path: Path) -> None:
    tokenizer, ctc = load_tokenizer(save_llm(tmp_path / "llm")), sentencepiece(tmp_path, "char")
    spelling = spell_tokens(tokenizer, ctc)
    blank = ctc.encode("ONE")[0]
    assert spelling.opening == (blank + 1,)
    for text in TEXTS:
        assert spelled(spelling, tokenizer, text) == ctc.encode(text)
    with pytest.raises(
        ValueError, match=r"answers in .*char.model begin with a blank, the CTC head's targets in .*llm"
    ):
        spell_tokens(ctc, tokenizer)


def test_one_tokenizer_for_both_needs_no_spelling(tmp_path: Path) -> None:
    tokenizer = sentencepiece(tmp_path, "bpe")
    spelling = spell_tokens(tokenizer, SentencePieceTokenizer(tmp_path / "bpe.model"))
    specials = {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id}
    assert spelling == Spelling([() if i in specials else (i + 1,) for i in range(tokenizer.vocab_size)])


def test_other_pairs_are_refused(tmp_path: Path) -> None:
    tokenizer, ctc = sentencepiece(tmp_path, "bpe"), sentencepiece(tmp_path, "unigram")
    with pytest.raises(
        ValueError, match=r"tokens \(.*bpe.model\) cannot be written .* \(.*unigram.model\).*_type char"
    ):
        spell_tokens(tokenizer, ctc)


def test_a_token_says_its_blank_wherever_it_stands(tmp_path: Path) -> None:
    tokenizer = sentencepiece(tmp_path, "bpe", ("ANGRY",))
    assert [text_of(tokenizer, token) for token in tokenizer.encode("ANGRY")] == [" ANGRY"]
    assert "".join(text_of(tokenizer, token) for token in tokenizer.encode("TWO ONE")) == " TWO ONE"
