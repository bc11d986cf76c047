"""A synthetic release of full size (tools/make_synthetic_data.py), compared with the numbers of the literature."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile
from benchmarks.data import time_iemocap
from make_synthetic_data import make_synthetic_data
from synthetic.sounds import WORDS

from harmonifuse_espnet.bin.prepare_data import main
from harmonifuse_espnet.corpora.iemocap import prepare
from harmonifuse_espnet.corpora.iemocap_labels import LABEL_SETS

FOLDS = {  # test session: ang, hap + exc, sad, neu; test, train
    1: (229, 278, 194, 384, 1085, 4446),
    2: (137, 327, 197, 362, 1023, 4508),
    3: (240, 286, 305, 320, 1151, 4380),
    4: (327, 303, 143, 258, 1031, 4500),
    5: (170, 442, 245, 384, 1241, 4290),
}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("synthetic")
    make_synthetic_data(folder, ["iemocap"], seconds=(0.1, 0.12))
    yield folder / "IEMOCAP_full_release"
    shutil.rmtree(folder)


@contextmanager
def without(path: Path, line: str = "") -> Iterator[None]:
    """Temporarily remove a line from a file, or the file."""
    content = path.read_bytes()
    if line:
        path.write_bytes(b"".join(row for row in content.splitlines(keepends=True) if line.encode() not in row))
        assert path.stat().st_size < len(content)
    else:
        path.unlink()
    yield
    path.write_bytes(content)


def test_the_release_passes_its_own_check(release: Path) -> None:
    rows = [row for rows in prepare(release, "espnet", labels=["all"], check_counts="true").values() for row in rows]
    assert (len(rows), len({row.speaker for row in rows})) == (10039, 10)
    assert Counter(row.text for row in rows) == {
        "neu": 1708, "fru": 1849, "ang": 1103, "sad": 1084, "exc": 1041, "hap": 595,
        "sur": 107, "fea": 40, "oth": 3, "dis": 2, "xxx": 2507,
    }  # fmt: skip


def test_the_command_takes_less_than_ten_seconds(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    main(
        [
            "iemocap",
            str(release),
            str(tmp_path),
            "--protocol",
            "emobox",
            "--fold",
            "1",
            "--labels",
            "fru",
            "hap=joy",
            "exc=joy",
        ]
    )
    assert time.monotonic() - start < 10
    summary = capsys.readouterr().out.splitlines()[0]
    assert summary.startswith(f"{tmp_path}/test: ") and summary.endswith(", joy 278")


def test_transcripts_of_all_turns_are_in_the_format_of_librispeech(release: Path) -> None:
    rows = [row for rows in prepare(release, "espnet", task="asr").values() for row in rows]
    assert len(rows) == 10039
    assert {word for row in rows for word in row.text.split()} == set(WORDS)


def test_a_shell_script_prepares_the_same(release: Path, tmp_path: Path) -> None:
    report = time_iemocap(release.parent, tmp_path)
    assert report.startswith("IEMOCAP: 5,531 utterances, identical wav.scp, text, utt2spk: ")


def test_dialogs_have_the_names_of_the_release_and_two_speakers(release: Path) -> None:
    dialogs = {path.name: path for path in release.glob("Session*/sentences/wav/*")}
    assert len(dialogs) == 151
    assert [len(list(release.glob(f"Session{n}/sentences/wav/*"))) for n in range(1, 6)] == [28, 30, 32, 30, 31]
    odd = {"Ses03M_impro05a", "Ses03M_impro05b", "Ses03M_impro08a", "Ses03M_impro08b", "Ses05M_script01_1b"}
    assert odd < set(dialogs) and "Ses03M_impro05" not in dialogs
    for dialog, folder in dialogs.items():
        assert {path.stem[-4] for path in folder.glob("[!.]*.wav")} == {"F", "M"}, dialog


def test_the_audio_is_16_khz_mono_wav(release: Path) -> None:
    info = soundfile.info(release / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert 0.1 <= info.duration <= 0.12


@pytest.mark.parametrize(("fold", "expected"), FOLDS.items())
def test_emobox_has_the_folds_of_the_literature(release: Path, fold: int, expected: tuple[int, ...]) -> None:
    sets = prepare(release, "emobox", fold)
    labels = Counter(row.text for row in sets["test"])
    assert (*(labels[name] for name in ("ang", "hap", "sad", "neu")), *map(len, sets.values())) == expected
    assert {row.speaker[:5] for row in sets["test"]} == {f"Ses0{fold}"}


@pytest.mark.parametrize("fold", range(1, 6))
def test_superb_draws_about_a_fifth_of_the_training_sessions(release: Path, fold: int) -> None:
    sets = prepare(release, "superb", fold)
    *_, test, train = FOLDS[fold]
    assert len(sets["test"]) == test and len(sets["train"]) + len(sets["dev"]) == train
    assert len(sets["dev"]) == pytest.approx(0.2 * train, rel=0.1)
    speakers = {name: {row.speaker for row in rows} for name, rows in sets.items()}
    assert speakers["test"].isdisjoint(speakers["train"] | speakers["dev"])


def test_loso10_tests_each_speaker_once(release: Path) -> None:
    tested = []
    for fold in range(1, 11):
        sets = prepare(release, "loso10", fold)
        speakers = {name: {row.speaker for row in rows} for name, rows in sets.items()}
        assert [len(speakers[name]) for name in ("test", "dev", "train")] == [1, 1, 8]
        assert len(speakers["test"] | speakers["dev"] | speakers["train"]) == 10
        assert sum(map(len, sets.values())) == 5531
        tested += speakers["test"]
    assert len(set(tested)) == 10


def test_espnets_split_has_all_turns_of_the_four_classes(release: Path) -> None:
    sets = prepare(release, "espnet")
    assert len(sets["test"]) == FOLDS[5][4]
    assert sum(map(len, sets.values())) == 5531
    assert {row.id[:6] for row in sets["dev"]} == {"Ses04M"}
    assert {row.id[:6] for row in sets["train"]} == {f"Ses0{n}{sex}" for n in (1, 2, 3) for sex in "FM"} | {"Ses04F"}


@pytest.mark.parametrize(("labels", "utterances"), [("4", 5531), ("4_no_exc", 4490), ("9", 7529), ("all", 10039)])
def test_label_sets_have_their_published_sizes(release: Path, labels: str, utterances: int) -> None:
    assert sum(map(len, prepare(release, "espnet", labels=[labels]).values())) == utterances
    assert labels in LABEL_SETS


def test_a_missing_label_is_named_with_its_session(release: Path) -> None:
    turn = prepare(release, "espnet", labels=["ang"])["train"][0].id
    path = release / f"Session{turn[4]}/dialog/EmoEvaluation/{turn.rpartition('_')[0]}.txt"
    message = (
        r"utterances 10038 \(release: 10039\), ang 1102 \(release: 1103\), Session1 ang 228 \(release: 229\); "
        rf"1 wavs have no label, first {turn}; unpack the release again, or give --check_counts false"
    )
    with without(path, f"\t{turn}\t"), pytest.raises(ValueError, match=message):
        prepare(release, "espnet")


def test_a_missing_wav_is_named(release: Path) -> None:
    path = release / "Session3/sentences/wav/Ses03M_impro05b/Ses03M_impro05b_F001.wav"
    with (
        without(path),
        pytest.raises(FileNotFoundError, match=r"Ses03M_impro05b_F001\.wav: missing, but .*05b\.txt:\d+"),
    ):
        prepare(release, "espnet")


def test_missing_labels_are_an_error_even_if_most_are_missing(release: Path) -> None:
    """The automatic check depends on the number of wavs, so a release with few labels is checked."""
    folders = [release / f"Session{number}/dialog/EmoEvaluation" for number in (1, 2, 3)]
    for folder in folders:
        folder.rename(folder.with_name("aside"))
        folder.mkdir()
        (folder / "README.txt").write_text("no evaluations yet\n")
    try:
        with pytest.raises(ValueError, match=r"Session3 neu 0 \(release: 320\); \d+ wavs have no label, first Ses01"):
            prepare(release, "espnet")
    finally:
        for folder in folders:
            shutil.rmtree(folder)
            folder.with_name("aside").rename(folder)
