"""LibriSpeech: sets, transcripts, genders, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from harmonifuse_espnet.corpora.librispeech import prepare, read_genders
from harmonifuse_espnet.data.datadir import Utterance

SPEAKERS = """; a comment | with | bars | in | it
;ID  |SEX| SUBSET           |MINUTES| NAME
14   | F | train-clean-360  | 25.03 | Kristin LeMoine
60   | M | train-clean-100  | 20.18 | |CBW|Simon
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    for subset, reader in (("train-mini", "60"), ("train-mini", "14"), ("dev-mini", "7")):
        chapter = root / subset / reader / "121"
        chapter.mkdir(parents=True)
        for number in (0, 1):
            (chapter / f"{reader}-121-000{number}.flac").write_bytes(b"fLaC")
        (chapter / f"._{reader}-121-0000.flac").write_bytes(b"")
        (chapter / f"{reader}-121.trans.txt").write_text(f"{reader}-121-0000 DON'T GO\n{reader}-121-0001 YES")
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    return root


def test_sets_ids_texts_and_speakers(corpus: Path) -> None:
    sets = prepare(corpus.parent)
    assert {name: [row.id for row in rows] for name, rows in sets.items()} == {
        "dev_mini": ["7-121-0000", "7-121-0001"],
        "train_mini": ["14-121-0000", "14-121-0001", "60-121-0000", "60-121-0001"],
    }
    audio = str(corpus / "dev-mini/7/121/7-121-0000.flac")
    assert sets["dev_mini"][0] == Utterance("7-121-0000", audio, "DON'T GO", "7-121", "asr")
    assert sets["dev_mini"][1].text == "YES"


def test_the_corpus_folder_itself_and_single_subsets_can_be_given(corpus: Path) -> None:
    assert prepare(corpus, ["dev-mini"]) == {"dev_mini": prepare(corpus.parent)["dev_mini"]}


def test_transcripts_in_lower_case(corpus: Path) -> None:
    assert [row.text for row in prepare(corpus, ["dev-mini"], text_case="lower")["dev_mini"]] == ["don't go", "yes"]


def test_gender_comes_from_the_list_of_speakers(corpus: Path) -> None:
    rows = prepare(corpus, ["train-mini"], label="gender")["train_mini"]
    assert [(row.text, row.task) for row in rows] == [("female", "gender")] * 2 + [("male", "gender")] * 2
    with pytest.raises(ValueError, match=r"reader 7 is not in SPEAKERS\.TXT"):
        prepare(corpus, ["dev-mini"], label="gender")


def test_a_bar_in_a_name_and_comments_are_read(corpus: Path) -> None:
    assert read_genders(corpus / "SPEAKERS.TXT") == {"14": "female", "60": "male"}


def test_the_error_for_missing_audio_names_the_transcript(corpus: Path) -> None:
    (corpus / "dev-mini/7/121/7-121-0001.flac").unlink()
    with pytest.raises(FileNotFoundError, match=r"7-121-0001\.flac: missing, but .*7-121\.trans\.txt:2 transcribes it"):
        prepare(corpus)


def test_audio_without_a_transcript_is_named(corpus: Path) -> None:
    (corpus / "dev-mini/7/121/7-121-0002.flac").write_bytes(b"fLaC")
    with pytest.raises(ValueError, match=r"7-121-0002\.flac: no transcript \(1 such files in .*dev-mini\)"):
        prepare(corpus)


def test_a_chapter_without_transcripts_is_an_error(corpus: Path) -> None:
    (corpus / "train-mini/14/121/14-121.trans.txt").unlink()
    with pytest.raises(ValueError, match=r"14-121-0000\.flac: no transcript \(2 such files in .*train-mini\)"):
        prepare(corpus)


def test_the_result_does_not_depend_on_the_number_of_threads(corpus: Path) -> None:
    assert prepare(corpus, nj=1) == prepare(corpus, nj=16)
    with pytest.raises(ValueError, match="--nj must be at least 1, got 0"):
        prepare(corpus, nj=0)


def test_an_invalid_line_is_named(corpus: Path) -> None:
    (corpus / "dev-mini/7/121/7-121.trans.txt").write_text("7-121-0000 A\n7-121-0001\n")
    with pytest.raises(ValueError, match=r"7-121\.trans\.txt:2: expected '7-121-<nnnn> TEXT', got '7-121-0001'"):
        prepare(corpus)


def test_a_missing_subset_or_corpus_is_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"test-clean: has no .* has dev-mini, train-mini\. Download .*openslr"):
        prepare(corpus, ["test-clean"])
    with pytest.raises(FileNotFoundError, match="nowhere: no such corpus folder; expected a folder with LibriSpeech/"):
        prepare(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: has no <subset>/<reader>/<chapter>/\*\.trans\.txt"):
        prepare(tmp_path / "empty")


def test_a_part_of_a_release_subset_is_refused_unless_counts_are_not_checked(corpus: Path) -> None:
    (corpus / "dev-mini").rename(corpus / "dev-clean")
    with pytest.raises(ValueError, match="dev-clean: 2 utterances, the release has 2703"):
        prepare(corpus)
    assert len(prepare(corpus, check_counts=False)["dev_clean"]) == 2


def test_real_speech(data_root: Path) -> None:
    (rows,) = prepare(data_root / "mini_librispeech").values()
    assert (len(rows), len({row.id.split("-")[0] for row in rows})) == (84, 12)
    assert all(set(row.text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ") for row in rows)
    assert all(Path(row.audio).is_file() for row in rows)
    assert len(read_genders(data_root / "mini_librispeech/LibriSpeech/SPEAKERS.TXT")) > 2000


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "14 F train-clean-360",
            "expected 'ID | F or M | SUBSET | MINUTES | NAME', got '14 F train-clean-360'; restore the release's file",
        ),
        (
            " | F | train-mini | 25.0 | A B",
            "expected 'ID | F or M | SUBSET | MINUTES | NAME', got ' | F | train-mini | 25.0 | A B'; restore the "
            "release's file",
        ),
        ("60 | F | train-mini | 25.0 | A B", "duplicate reader '60'; restore the release's file"),
    ],
)
def test_a_bad_line_of_the_list_of_speakers_is_named(corpus: Path, line: str, message: str) -> None:
    (corpus / "SPEAKERS.TXT").write_text(f"{SPEAKERS}{line}\n")
    with pytest.raises(ValueError) as error:
        read_genders(corpus / "SPEAKERS.TXT")
    assert str(error.value) == f"{corpus}/SPEAKERS.TXT:5: {message}"


@pytest.mark.bad_input
@pytest.mark.parametrize("line", ["60-121-0001", "14-121-0001 YES", "60-121-0001\u00a0YES", "60-121-0001\tYES"])
def test_a_bad_line_of_the_transcripts_is_named(corpus: Path, line: str) -> None:
    path = corpus / "train-mini/60/121/60-121.trans.txt"
    path.write_text(f"60-121-0000 GO\n{line}\n")
    with pytest.raises(ValueError) as error:
        prepare(corpus)
    assert str(error.value) == f"{path}:2: expected '60-121-<nnnn> TEXT', got {line!r}; restore the release's file"
