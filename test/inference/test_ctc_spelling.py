"""Spelling of tokens in CTC units: a transcript is spelled as its CTC target."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import save_llm

from harmonifuse_espnet.data.tokenizer import SentencePieceTokenizer, Tokenizer, load_tokenizer
from harmonifuse_espnet.data.tokenizer_training import train_sentencepiece
from harmonifuse_espnet.inference.ctc_spelling import Spelling, spell_tokens, token_text

TEXTS = ["ONE TWO THREE", "THEY TELL THE TIME", "TWO TWO ONE"]


def sentencepiece(folder: Path, kind: str, symbols: tuple[str, ...] = (), texts: list[str] = TEXTS) -> Tokenizer:
    path = folder / f"{kind}.model"
    path.write_bytes(train_sentencepiece(texts, symbols, 60, kind))
    return SentencePieceTokenizer(path)


def spelled(spelling: Spelling, tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the CTC tokens of a text, by the spelling of its language model tokens."""
    units = [*spelling.initial_units, *(unit for token in tokenizer.encode(text) for unit in spelling.tokens[token])]
    return [unit - 1 for unit in units]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_transcript_with_words_of_prompts_is_spelled_as_its_ctc_target(tmp_path: Path, kind: str) -> None:
    tokenizer, ctc = sentencepiece(tmp_path, kind, ("ANGRY", "THE")), sentencepiece(tmp_path, "char")
    spelling = spell_tokens(tokenizer, ctc)
    assert spelling.initial_units == ()  # sentencepiece puts a space before the first word, in both tokenizers
    for text in TEXTS:
        assert spelled(spelling, tokenizer, text) == ctc.encode(text)
    the = tokenizer.encode("THE")
    assert len(the) == 1 and spelling.tokens[the[0]] == tuple(unit + 1 for unit in ctc.encode("THE"))


def test_tokens_that_ctc_cannot_emit_have_no_spelling(tmp_path: Path) -> None:
    tokenizer, ctc = sentencepiece(tmp_path, "bpe", ("ANGRY",)), sentencepiece(tmp_path, "char")
    spelling = spell_tokens(tokenizer, ctc)
    [angry] = tokenizer.encode("ANGRY")  # no transcript has an A or a G
    for token in (angry, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id):
        assert spelling.tokens[token] == ()
    assert sum(not units for units in spelling.tokens) == 5


def test_the_initial_unit_is_a_space_if_only_ctc_targets_start_with_a_space(tmp_path: Path) -> None:
    tokenizer, ctc = load_tokenizer(save_llm(tmp_path / "llm")), sentencepiece(tmp_path, "char")
    spelling = spell_tokens(tokenizer, ctc)
    space = ctc.encode("ONE")[0]
    assert spelling.initial_units == (space + 1,)
    for text in TEXTS:
        assert spelled(spelling, tokenizer, text) == ctc.encode(text)
    with pytest.raises(
        ValueError, match=r"hypotheses start with a space \(.*char.model\), but CTC targets do not \(.*llm"
    ):
        spell_tokens(ctc, tokenizer)


def test_with_a_shared_tokenizer_each_token_is_one_unit(tmp_path: Path) -> None:
    tokenizer = sentencepiece(tmp_path, "bpe")
    spelling = spell_tokens(tokenizer, SentencePieceTokenizer(tmp_path / "bpe.model"))
    specials = {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id}
    assert spelling == Spelling([() if i in specials else (i + 1,) for i in range(tokenizer.vocab_size)])


def test_other_pairs_of_tokenizers_are_refused(tmp_path: Path) -> None:
    tokenizer, ctc = sentencepiece(tmp_path, "bpe"), sentencepiece(tmp_path, "unigram")
    with pytest.raises(
        ValueError, match=r"tokens \(.*bpe.model\) cannot be spelled .* \(.*unigram.model\).*_type char"
    ):
        spell_tokens(tokenizer, ctc)


def test_the_text_of_a_token_includes_the_space_before_it(tmp_path: Path) -> None:
    tokenizer = sentencepiece(tmp_path, "bpe", ("ANGRY",))
    assert [token_text(tokenizer, token) for token in tokenizer.encode("ANGRY")] == [" ANGRY"]
    assert "".join(token_text(tokenizer, token) for token in tokenizer.encode("TWO ONE")) == " TWO ONE"
