"""Stage 1: data folders, names of sets, ids of further tasks, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from harmonifuse_espnet.bin.prepare_data import main
from harmonifuse_espnet.corpora.prepare import rename_sets
from harmonifuse_espnet.data.datadir import Utterance, read_datadir


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "CREMA D"
    (folder / "AudioWAV").mkdir(parents=True)
    for actor in range(1001, 1008):
        for emotion in ("ANG", "NEU"):
            (folder / "AudioWAV" / f"{actor}_DFA_{emotion}_XX.wav").write_bytes(b"RIFF")
    rows = "".join(f'{actor},51,"Female","x","y"\n' for actor in range(1001, 1008))
    (folder / "VideoDemographics.csv").write_text('"ActorID","Age","Sex","Race","Ethnicity"\n' + rows)
    return folder


def test_every_set_has_a_folder_and_a_line_of_the_summary(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["crema_d", str(corpus), str(tmp_path / "data"), "--set_names", "train=train_crema_d", "test=test_crema_d"])
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/data/train_crema_d: 10 utterances, 5 speakers, task ser, ang 5, neu 5",
        f"{tmp_path}/data/dev: 2 utterances, 1 speakers, task ser, ang 1, neu 1",
        f"{tmp_path}/data/test_crema_d: 2 utterances, 1 speakers, task ser, ang 1, neu 1",
    ]
    audio = str(corpus / "AudioWAV" / "1005_DFA_ANG_XX.wav")
    assert read_datadir(tmp_path / "data/test_crema_d")[0] == Utterance("1005_DFA_ANG_XX", audio, "ang", "1005", "ser")


def test_one_set_gets_all_actors_and_may_be_renamed(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["crema_d", str(corpus), str(tmp_path / "data"), "--one_set", "test", "--set_names", "test=test_more"])
    line = f"{tmp_path}/data/test_more: 14 utterances, 7 speakers, task ser, ang 7, neu 7"
    assert capsys.readouterr().out.splitlines() == [line]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["test_more"]


def test_audio_paths_are_absolute_even_if_the_corpus_path_is_relative(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus)
    main(["crema_d", ".", str(tmp_path / "data")])
    assert read_datadir(tmp_path / "data/dev")[0].audio == str(corpus / "AudioWAV" / "1007_DFA_ANG_XX.wav")


def test_a_second_task_on_the_same_recordings_has_different_ids(corpus: Path, tmp_path: Path) -> None:
    main(["crema_d", str(corpus), str(tmp_path / "ser")])
    main(["crema_d", str(corpus), str(tmp_path / "gender"), "--label", "gender"])
    ser, gender = (read_datadir(tmp_path / name / "test") for name in ("ser", "gender"))
    assert [row.id for row in gender] == ["1005_DFA_ANG_XX-gender", "1005_DFA_NEU_XX-gender"]
    assert [row.audio for row in gender] == [row.audio for row in ser]
    assert {(row.text, row.task) for row in gender} == {("female", "gender")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["librispeech", "nowhere", "data"], "nowhere: no such corpus folder; expected a folder with LibriSpeech/"),
        (["iemocap", "nowhere", "data", "--protocol", "espnet"], "IEMOCAP is licensed: request it at https://sail"),
        (["an4", "nowhere", "data"], "Download and unpack http://www.speech.cs.cmu.edu"),
        (["crema_d", "nowhere", "data"], "Clone it with git (and git-lfs) from https://github.com/Cheyney"),
    ],
)
def test_the_error_for_a_missing_corpus_is_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        main(arguments)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_the_error_for_a_folder_that_cannot_be_written_is_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="1"):
        main(["crema_d", str(corpus), str(tmp_path / "file")])
    assert "file/train: cannot write to this folder (Not a directory)" in capsys.readouterr().err


def test_unknown_corpora_and_options_are_refused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["timit", "a", "b"], "invalid choice: 'timit'"),
        (["crema_d", str(corpus), "b", "--emotions", "joy"], "invalid choice: 'joy'"),
        (["crema_d", str(corpus), "b", "--one_set", "eval"], "invalid choice: 'eval'"),
        (["iemocap", "a", "b"], "required: --protocol"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err


def test_help_lists_the_corpora(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(corpus in out for corpus in ("an4", "crema_d", "iemocap", "librispeech"))


def test_renaming_of_sets_is_checked() -> None:
    row = Utterance("a", "a.wav", "A", "a", "asr")
    sets = {"train": [row], "test": [row]}
    assert list(rename_sets(sets, ["test=eval"])) == ["train", "eval"]
    for rules, message in (
        (["dev=eval"], "--set_names dev=eval: the corpus has the sets train, test; expected OLD=NEW"),
        (["test"], "--set_names test=: the corpus has the sets train, test"),
        (["test=train"], "two sets would have the same name"),
    ):
        with pytest.raises(ValueError, match=message):
            rename_sets(sets, rules)
