"""IEMOCAP: turns, labels, protocols, transcripts, and errors, on a small release with its irregularities."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from harmonifuse_espnet.corpora.iemocap import normalize_transcript, prepare
from harmonifuse_espnet.corpora.iemocap_release import Turn, find_wavs, read_turns
from harmonifuse_espnet.data.datadir import Utterance

RATERS = "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\nA-E4:\tval 3; act ; dom  2;\t()\n\n"
LABELS = ("ang", "exc", "hap", "neu", "sad", "fru", "xxx")


def write_dialog(root: Path, dialog: str, newline: str = "\n") -> None:
    """Write a dialog of seven turns per speaker, with the irregularities of the release."""
    session = root / f"Session{int(dialog[3:5])}"
    wavs = session / "sentences" / "wav" / dialog
    wavs.mkdir(parents=True)
    names = [f"{dialog}_{sex}{number:03d}" for number in range(len(LABELS)) for sex in "FM"]
    evaluation, transcript = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n", ""
    for index, name in enumerate(names):
        (wavs / f"{name}.wav").write_bytes(b"RIFF")
        (wavs / f"._{name}.wav").write_bytes(b"")
        evaluation += f"[{index}.2901 - {index}.9]\t{name}\t{LABELS[index // 2]}\t[2.5000, 2.5000, 2.5000]\n{RATERS}"
        transcript += f"{name} [{index:08.4f}-{index + 1:08.4f}]: [LAUGHTER] Excuse me.  [BREATHING] Yes!\n"
    transcript += f"M: [BREATHING]\nF: Hm.\n{dialog}_FXX0 [001.0000-002.0000]: No wav.\n"
    for kind, text in (("EmoEvaluation", evaluation), ("transcriptions", transcript)):
        folder = session / "dialog" / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{dialog}.txt").write_text(text, newline=newline)
        (folder / f"._{dialog}.txt").write_bytes(b"\0\5\xff")
    (session / "dialog" / "EmoEvaluation" / "Categorical" / f"{dialog}.txt").mkdir(parents=True)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "IEMOCAP_full_release"
    for session in range(1, 6):
        write_dialog(root, f"Ses0{session}F_impro01", newline="\r\n" if session == 2 else "\n")
    write_dialog(root, "Ses04M_impro05a")
    write_dialog(root, "Ses05M_script01_1b")
    return root


def turns_of(corpus: Path) -> list[Turn]:
    return read_turns(corpus, find_wavs(corpus))


def counts(sets: dict[str, list[Utterance]]) -> dict[str, int]:
    return {name: len(rows) for name, rows in sets.items()}


def test_the_speaker_comes_from_the_utterance_and_not_from_the_dialog(corpus: Path) -> None:
    turns = {turn.id: turn for turn in turns_of(corpus)}
    assert len(turns) == 7 * 14
    turn = turns["Ses05M_script01_1b_F003"]
    assert (turn.speaker, turn.dialog, turn.label) == ("Ses05F", "Ses05M_script01_1b", "neu")
    assert {turn.speaker for turn in turns.values()} == {
        f"Ses0{session}{sex}" for session in range(1, 6) for sex in "FM"
    }


def test_the_four_classes_merge_excitement_into_happiness(corpus: Path) -> None:
    rows = prepare(corpus.parent, "emobox", fold=1)["test"]
    assert [(row.id[-4:], row.text, row.speaker) for row in rows if row.id[-4] == "M"] == [
        ("M000", "ang", "Ses01M"),
        ("M001", "hap", "Ses01M"),
        ("M002", "hap", "Ses01M"),
        ("M003", "neu", "Ses01M"),
        ("M004", "sad", "Ses01M"),
    ]
    audio = str(corpus / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav")
    assert rows[0] == Utterance("Ses01F_impro01_F000", audio, "ang", "Ses01F", "ser")


@pytest.mark.parametrize(("labels", "utterances"), [("4", 10), ("4_no_exc", 8), ("9", 12), ("all", 14)])
def test_label_sets(corpus: Path, labels: str, utterances: int) -> None:
    assert len(prepare(corpus, "emobox", fold=3, labels=[labels])["test"]) == utterances


def test_custom_labels_are_renamed_and_merged(corpus: Path) -> None:
    rows = prepare(corpus, "emobox", fold=1, labels=["neu", "hap=joy", "exc=joy"])["test"]
    assert [row.text for row in rows if row.id[-4] == "F"] == ["joy", "joy", "neu"]
    merged = prepare(corpus, "emobox", fold=1, labels=["ang,exc=hap hap", "neu, sad"])
    assert merged == prepare(corpus, "emobox", fold=1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["joy"],
            "--labels joy: the release has no label 'joy'; choose from neu, fru, .* the sets 4, 4_no_exc, 9, all",
        ),
        (["4", "fru"], "--labels 4: the release has no label '4'"),
        (["ang", "ang=anger"], "--labels ang=anger: duplicate label 'ang', already mapped to 'ang'"),
        (["ang="], "--labels ang=: expected RELEASED or RELEASED=TARGET"),
        (["ang=very-angry"], "with one word as target"),
        (["exc=hap", "sad"], "--labels exc=hap: 'hap' is also a released label and is not used; add 'hap'"),
        (["exc=hap", "hap=joy"], "'hap' is also a released label and is used as 'joy'"),
    ],
)
def test_invalid_labels_are_refused(corpus: Path, labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(corpus, "espnet", labels=labels)


def test_transcripts_are_in_the_format_of_librispeech(corpus: Path) -> None:
    rows = prepare(corpus, "emobox", fold=2, task="asr")["test"]
    assert {(row.text, row.task) for row in rows} == {("EXCUSE ME YES", "asr")}
    assert len(rows) == 14
    rows = prepare(corpus, "emobox", fold=2, task="asr", text_case="lower")["test"]
    assert {row.text for row in rows} == {"excuse me yes"}


def test_released_transcripts_lose_only_their_tags(corpus: Path) -> None:
    rows = prepare(corpus, "emobox", fold=2, task="asr", text_case="released")["test"]
    assert {row.text for row in rows} == {"Excuse me. Yes!"}
    with pytest.raises(ValueError, match="--text_case released needs --task asr, got --task ser"):
        prepare(corpus, "emobox", fold=2, text_case="released")


@pytest.mark.parametrize(
    ("released", "upper"),
    [
        ("Don\u2019t you -- you know? -- stop.", "DON'T YOU YOU KNOW STOP"),
        ("'Cause Ren\u00e9e's twenty-two; o'clock.", "'CAUSE RENEE'S TWENTY TWO O'CLOCK"),
        ("At 5 ' o'clock", "AT 5 O'CLOCK"),
        ("...", ""),
    ],
)
def test_upper_case_words(released: str, upper: str) -> None:
    assert normalize_transcript(released) == upper


def test_turns_without_words_are_left_out_and_reported(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = corpus / "Session2/dialog/transcriptions/Ses02F_impro01.txt"
    path.write_text(re.sub(r"(?m)^(Ses02F_impro01_F00[01] .*?:).*$", r"\1 [LAUGHTER]", path.read_text()))
    with caplog.at_level(logging.INFO):
        assert len(prepare(corpus, "emobox", fold=2, task="asr")["test"]) == 12
    assert caplog.messages == ["left out 2 turns without words, first Ses02F_impro01_F000"]


def test_protocols_split_by_session_speaker_or_dialog(corpus: Path) -> None:
    assert counts(prepare(corpus, "emobox", fold=4)) == {"test": 20, "train": 50}
    drawn = counts(prepare(corpus, "superb", fold=4))
    assert drawn["test"] == 20 and drawn["train"] + drawn["dev"] == 50 and 3 <= drawn["dev"] <= 20
    assert counts(prepare(corpus, "espnet")) == {"dev": 10, "test": 20, "train": 40}
    sets = prepare(corpus, "loso10", fold=8)
    assert {name: {row.speaker for row in sets[name]} for name in ("test", "dev")} == {
        "test": {"Ses04M"},
        "dev": {"Ses04F"},
    }
    assert {row.speaker[:5] for row in sets["train"]} == {"Ses01", "Ses02", "Ses03", "Ses05"}
    assert {row.id[:6] for row in prepare(corpus, "espnet")["dev"]} == {"Ses04M"}


def test_the_random_dev_set_depends_only_on_the_seed(corpus: Path) -> None:
    first, again, other = (prepare(corpus, "superb", fold=1, seed=seed)["dev"] for seed in (0, 0, 1))
    assert first == again != other


def test_both_tasks_have_the_same_recordings_in_the_dev_set(corpus: Path) -> None:
    ser, asr = (prepare(corpus, "superb", fold=1, task=task) for task in ("ser", "asr"))
    ids = {name: {row.id for row in sets} for name, sets in (("ser", ser["dev"]), ("asr", asr["dev"]))}
    assert ids["ser"] < ids["asr"] and ids["ser"].isdisjoint(row.id for row in asr["train"])


def test_custom_sets_use_the_first_matching_rule(corpus: Path) -> None:
    rules = ["voices=^Ses05", "dialogs=impro05", "train=_F"]
    sets = prepare(corpus, "custom", split_rules=rules)
    assert counts(sets) == {"dialogs": 10, "train": 20, "voices": 20}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "superb"}, r"protocol superb has folds 1\.\.5, got --fold None"),
        ({"protocol": "loso10", "fold": 11}, r"protocol loso10 has folds 1\.\.10, got --fold 11"),
        ({"protocol": "espnet", "fold": 2}, r"protocol espnet has folds 1\.\.1, got --fold 2"),
        ({"protocol": "custom"}, "needs --split SET=REGEX"),
        ({"protocol": "custom", "split_rules": ["train"]}, "--split train: expected SET=REGEX"),
        ({"protocol": "custom", "split_rules": ["train=("]}, r"--split train=\(: not a regular expression"),
        ({"protocol": "espnet", "split_rules": ["a=b"]}, "--split needs --protocol custom, got --protocol espnet"),
        (
            {"protocol": "espnet", "check_counts": "true"},
            r"utterances 98 \(release: 10039\), dialogs 7 \(release: 151\)",
        ),
    ],
)
def test_invalid_options_are_refused(corpus: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(corpus, **options)  # type: ignore[arg-type]


def test_an_unknown_emotion_label_is_named(corpus: Path) -> None:
    path = corpus / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    path.write_text(path.read_text().replace("\tang\t", "\tjoy\t", 1))
    with pytest.raises(
        ValueError, match=r"Ses01F_impro01\.txt:3: unknown emotion label 'joy'; the release has neu, fru"
    ):
        prepare(corpus, "espnet")
    path.write_text("[1.0 - 2.0] Ses01F_impro01_F000 ang\n")
    with pytest.raises(ValueError, match=r"Ses01F_impro01\.txt:1: expected '\[start - end\]<TAB>id<TAB>label"):
        prepare(corpus, "espnet")


def test_the_error_for_a_missing_wav_names_the_line_of_its_label(corpus: Path) -> None:
    (corpus / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M002.wav").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"impro01_M002\.wav: missing, but .*Ses01F_impro01\.txt:\d+ has its label"
    ):
        prepare(corpus, "espnet")


def test_a_wav_without_a_label_is_left_out_and_reported(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    (corpus / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M900.wav").write_bytes(b"RIFF")
    with caplog.at_level(logging.INFO):
        assert len(turns_of(corpus)) == 98
    assert "left out 1 wavs without a label, first Ses01F_impro01_M900" in caplog.text


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such corpus folder; .* IEMOCAP is licensed: request it"):
        prepare(tmp_path / "nowhere", "espnet")
    with pytest.raises(FileNotFoundError, match="no folder Session1 to Session5"):
        prepare(tmp_path, "espnet")
    (tmp_path / "Session1").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Session1/dialog/transcriptions: has no \.txt files"):
        prepare(tmp_path, "espnet")


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["", " 001-002: A", " [001-002]", "\u2009[001.0-002.0]: A", " [x-002.0]: A"])
def test_a_labelled_turn_whose_line_has_no_transcript_is_named(corpus: Path, text: str) -> None:
    path = corpus / "Session4/dialog/transcriptions/Ses04F_impro01.txt"
    first, *lines = path.read_text().splitlines()
    turn = first.split()[0]
    path.write_text("\n".join([*lines, turn + text]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError) as error:
        turns_of(corpus)
    assert str(error.value) == (
        f"{path}:17: expected '{turn} [start-end]: words', got {turn + text!r}; unpack the release again"
    )


@pytest.mark.bad_input
def test_a_turn_with_two_transcripts_is_named(corpus: Path) -> None:
    path = corpus / "Session4/dialog/transcriptions/Ses04F_impro01.txt"
    first = path.read_text().splitlines()[0]
    path.write_text(f"{path.read_text()}{first}\n")
    assert len(turns_of(corpus)) == 7 * 14  # an equal one is no problem
    path.write_text(f"{path.read_text()}{first} And more.\n")
    with pytest.raises(ValueError) as error:
        turns_of(corpus)
    assert str(error.value) == f"{path}:19: a second transcript of {first.split()[0]}; unpack the release again"


@pytest.mark.bad_input
def test_a_bad_line_of_the_labels_is_named(corpus: Path) -> None:
    path = corpus / "Session4/dialog/EmoEvaluation/Ses04F_impro01.txt"
    path.write_text(f"{path.read_text()}[0.1 - 0.2] Ses04F_impro01_F000 neu\n")
    lines = path.read_text().count("\n")
    with pytest.raises(ValueError) as error:
        turns_of(corpus)
    assert str(error.value) == (
        f"{path}:{lines}: expected '[start - end]<TAB>id<TAB>label<TAB>...', got '[0.1 - 0.2] Ses04F_impro01_F000 "
        "neu'; unpack the release again"
    )
