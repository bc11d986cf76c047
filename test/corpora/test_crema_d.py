"""CREMA-D: sets by actor, labels, and errors."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from harmonifuse_espnet.corpora.crema_d import prepare, read_genders, split_actors
from harmonifuse_espnet.data.datadir import Utterance


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "AudioWAV").mkdir()
    for actor in range(1001, 1011):
        for emotion in ("ANG_HI", "NEU_XX", "FEA_X"):
            (tmp_path / f"AudioWAV/{actor}_DFA_{emotion}.wav").write_bytes(b"RIFF")
    (tmp_path / "AudioWAV/._1001_DFA_ANG_HI.wav").write_bytes(b"")
    rows = "".join(f'{actor},51,"{"Female" if actor % 2 else "Male"}","x","y"\n' for actor in range(1001, 1010))
    (tmp_path / "VideoDemographics.csv").write_text('"ActorID","Age","Sex","Race","Ethnicity"\n' + rows)
    return tmp_path


def test_actors_are_split_in_sorted_order() -> None:
    parts = split_actors({str(actor) for actor in range(1001, 1032)})
    assert sorted(actor for actor in parts if parts[actor] == "test") == [
        "1005",
        "1010",
        "1015",
        "1020",
        "1025",
        "1030",
    ]
    assert sorted(actor for actor in parts if parts[actor] == "dev") == ["1007", "1014", "1022", "1029"]


def test_label_actor_and_path(corpus: Path) -> None:
    sets = prepare(corpus)
    assert {name: len(rows) for name, rows in sets.items()} == {"train": 14, "dev": 2, "test": 4}
    audio = str(corpus / "AudioWAV/1005_DFA_ANG_HI.wav")
    assert sets["test"][0] == Utterance("1005_DFA_ANG_HI", audio, "ang", "1005", "ser")


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_all_actors_of_a_folder_may_be_one_set(corpus: Path, name: str) -> None:
    sets = prepare(corpus, one_set=name)
    assert list(sets) == [name]
    assert [row.id for row in sets[name]] == sorted(row.id for rows in prepare(corpus).values() for row in rows)
    assert len({row.speaker for row in sets[name]}) == 10


def test_emotions_can_be_selected(corpus: Path) -> None:
    sets = prepare(corpus, emotions=["fea"])
    assert [row.id for row in sets["test"]] == ["1005_DFA_FEA_X", "1010_DFA_FEA_X"]
    with pytest.raises(ValueError, match="unknown emotion label 'joy'; CREMA-D has ang, hap, neu, sad, dis, fea"):
        prepare(corpus, emotions=["ang", "joy"])


def test_gender_is_a_second_task_on_the_same_audio(corpus: Path) -> None:
    with pytest.raises(ValueError, match=r"1010_DFA_ANG_HI\.wav: actor 1010 is not in VideoDemographics\.csv"):
        prepare(corpus, label="gender")
    with open(corpus / "VideoDemographics.csv", "a") as file:
        file.write('1010,20,"Male","x","y"\n')
    rows = prepare(corpus, label="gender")["test"]
    assert {(row.speaker, row.text, row.task) for row in rows} == {
        ("1005", "female", "gender"),
        ("1010", "male", "gender"),
    }


def test_the_silent_clip_is_left_out_and_reported(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    (corpus / "AudioWAV/1076_MTI_SAD_XX.wav").write_bytes(b"RIFF")
    with caplog.at_level(logging.INFO):
        assert "1076_MTI_SAD_XX" not in {row.id for rows in prepare(corpus).values() for row in rows}
    assert caplog.messages == ["left out 1076_MTI_SAD_XX: digital silence"]


@pytest.mark.parametrize("name", ["1001_DFA_JOY_XX", "1001_DFA_ANG_ZZ", "notes"])
def test_an_invalid_file_name_is_refused(corpus: Path, name: str) -> None:
    (corpus / f"AudioWAV/{name}.wav").write_bytes(b"RIFF")
    with pytest.raises(
        ValueError, match=rf"{name}\.wav: invalid clip name, expected a name like 1001_DFA_ANG_XX; remove"
    ):
        prepare(corpus)


def test_a_clip_in_two_formats_is_refused(corpus: Path) -> None:
    (corpus / "AudioWAV/1001_DFA_ANG_HI.flac").write_bytes(b"fLaC")
    with pytest.raises(ValueError, match=r"duplicate clip '1001_DFA_ANG_HI', also in .*\.flac; remove one"):
        prepare(corpus)


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such corpus folder; expected a folder with AudioWAV/"):
        prepare(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"AudioWAV: no \.wav or \.flac clips\. Clone it with git"):
        prepare(tmp_path)


def test_the_second_test_set_has_thirty_actors_of_its_own(data_root: Path) -> None:
    if not (data_root / "crema_d_more").is_dir():
        pytest.skip(f"no {data_root}/crema_d_more")
    rows = prepare(data_root / "crema_d_more", one_set="test")["test"]
    actors = {row.speaker for row in rows}
    assert (len(rows), len(actors)) == (1615, 30)
    assert actors.isdisjoint(row.speaker for part in prepare(data_root / "crema_d").values() for row in part)


def test_a_part_of_the_release_is_split_by_actor(data_root: Path) -> None:
    sets = prepare(data_root / "crema_d")
    actors = {name: {row.speaker for row in rows} for name, rows in sets.items()}
    assert {name: (len(sets[name]), len(actors[name])) for name in sets} == {
        "train": (1132, 21),
        "dev": (212, 4),
        "test": (324, 6),
    }
    assert actors["test"] == {"1013", "1028", "1043", "1058", "1073", "1088"}
    assert actors["train"].isdisjoint(actors["dev"] | actors["test"])


@pytest.mark.bad_input
@pytest.mark.parametrize(("actor", "sex"), [("1001", "Female"), ("1099", "male"), ("1099", ""), ("", "Male")])
def test_a_bad_line_of_the_list_of_actors_is_named(tmp_path: Path, actor: str, sex: str) -> None:
    path = tmp_path / "VideoDemographics.csv"
    path.write_text(f"ActorID,Age,Sex\n1001,51,Male\n{actor},20,{sex}\n")
    with pytest.raises(ValueError) as error:
        read_genders(path)
    assert str(error.value) == (
        f"{path}:3: actor '{actor}' with sex '{sex}'; expected Female or Male, and each actor once; restore the "
        "release's file"
    )
