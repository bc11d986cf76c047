"""AN4: ids, sets, headerless audio, and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from harmonifuse_espnet.corpora.an4 import prepare
from harmonifuse_espnet.data.datadir import Utterance


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """102 training and 2 test utterances, headerless audio."""
    root = tmp_path / "an4"
    (root / "etc").mkdir(parents=True)
    speakers = {"train": ["fash"] * 51 + ["mabc"] * 51, "test": ["fcaw"] * 2}
    for part, folder in (("train", "an4_clstk"), ("test", "an4test_clstk")):
        names = [f"an{100 + number}-{speaker}-b" for number, speaker in enumerate(speakers[part])]
        files = [f"{folder}/{name.split('-')[1]}/{name}" for name in names]
        for file in files:
            (root / "wav" / file).parent.mkdir(parents=True, exist_ok=True)
            (root / "wav" / f"{file}.raw").write_bytes(np.array([1, -2, 300], dtype=">i2").tobytes())
        (root / f"etc/an4_{part}.fileids").write_text("\n".join(files))
        words = ["<s> GO ON </s>" if number % 2 else "YES" for number in range(len(names))]
        lines = [f"{word} ({name})" for word, name in zip(words, names, strict=True)]
        (root / f"etc/an4_{part}.transcription").write_text("\n".join(lines) + "\n")
    return root


def test_headerless_audio_is_converted_to_flac(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.raw: headerless audio; give --converted_dir"):
        prepare(corpus)
    sets = prepare(corpus, converted_dir=tmp_path / "flac")
    samples, rate = soundfile.read(sets["test"][0].audio, dtype="int16")
    assert (samples.tolist(), rate) == ([1, -2, 300], 16000)
    assert sets["test"][1].text == "GO ON"


def test_the_first_hundred_training_utterances_by_id_are_the_dev_set(corpus: Path, tmp_path: Path) -> None:
    sets = prepare(corpus.parent, converted_dir=tmp_path / "flac")
    assert {name: len(rows) for name, rows in sets.items()} == {"train_nodev": 2, "train_dev": 100, "test": 2}
    assert sets["train_dev"][0].id == "fash-an100-b"
    assert [row.id for row in sets["train_nodev"]] == ["mabc-an200-b", "mabc-an201-b"]


def test_lists_that_do_not_match_line_by_line_are_refused(corpus: Path) -> None:
    path = corpus / "etc/an4_test.transcription"
    path.write_text("YES (an101-fcaw-b)\nNO (an100-fcaw-b)\n")
    with pytest.raises(ValueError, match=r"an4_test\.transcription:1: expected 'WORDS \(an100-fcaw-b\)'"):
        prepare(corpus)
    path.write_text("YES (an100-fcaw-b)\n")
    with pytest.raises(
        ValueError, match=r"an4_test\.fileids has 2 lines, .*transcription has 1; expected one line for each id"
    ):
        prepare(corpus)


def test_missing_files_are_named(corpus: Path, tmp_path: Path) -> None:
    (corpus / "wav/an4test_clstk/fcaw/an100-fcaw-b.raw").unlink()
    with pytest.raises(FileNotFoundError, match=r"an100-fcaw-b: no audio with the extension \.sph, \.flac"):
        prepare(corpus)
    (corpus / "etc/an4_train.fileids").unlink()
    with pytest.raises(FileNotFoundError, match=r"an4_train\.fileids: no such file; Download and unpack http"):
        prepare(corpus)
    with pytest.raises(FileNotFoundError, match="nowhere: no such corpus folder"):
        prepare(tmp_path / "nowhere")


def test_ids_and_sets_of_the_release_are_those_of_espnet(data_root: Path) -> None:
    sets = prepare(data_root / "an4")
    assert {name: len(rows) for name, rows in sets.items()} == {"train_nodev": 848, "train_dev": 100, "test": 130}
    audio = str(data_root / "an4/wav/an4_clstk/fash/an251-fash-b.flac")
    assert sets["train_dev"][0] == Utterance("fash-an251-b", audio, "YES", "fash", "asr")
    assert sum(len(row.text.split()) for row in sets["test"]) == 773
    train = {row.speaker for name in ("train_nodev", "train_dev") for row in sets[name]}
    test = {row.speaker for row in sets["test"]}
    assert (len(train), len(test), train & test) == (74, 10, set())


def test_sphere_audio_is_used_in_place(data_root: Path, corpus: Path) -> None:
    sphere = data_root / "an4/sph_samples/an251-fash-b.sph"
    files = corpus / "etc/an4_test.fileids"
    files.write_text("an4test_clstk/fash/an251-fash-b")
    (corpus / "etc/an4_test.transcription").write_text("<s> YES </s> (an251-fash-b)")
    (corpus / "wav/an4test_clstk/fash").mkdir()
    (corpus / "wav/an4test_clstk/fash/an251-fash-b.sph").symlink_to(sphere)
    (row,) = prepare(corpus, converted_dir=corpus / "flac")["test"]
    assert (row.text, row.audio) == ("YES", str(corpus / "wav/an4test_clstk/fash/an251-fash-b.sph"))
    ours, theirs = (
        soundfile.read(path)[0] for path in (row.audio, data_root / "an4/wav/an4_clstk/fash/an251-fash-b.flac")
    )
    assert np.array_equal(ours, theirs)


@pytest.mark.bad_input
def test_a_path_stays_in_the_corpus(corpus: Path) -> None:
    path = corpus / "etc/an4_test.fileids"
    path.write_text(path.read_text().replace("an4test_clstk/fcaw/an100-fcaw-b", "/fcaw/an100-fcaw-b"))
    with pytest.raises(FileNotFoundError) as error:
        prepare(corpus)
    assert str(error.value) == (
        f"{corpus}/wav/fcaw/an100-fcaw-b: no audio with the extension .sph, .flac, .wav, .raw. Download and unpack "
        "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"
    )


@pytest.mark.bad_input
@pytest.mark.parametrize("line", ["YES", "YES (an101-fcaw-b)", "(an100-fcaw-b) YES", "<s> YES </s> (an100-fcaw-b"])
def test_a_bad_transcript_is_named(corpus: Path, line: str) -> None:
    path = corpus / "etc/an4_test.transcription"
    path.write_text(f"{line}\n{path.read_text().splitlines()[1]}\n")
    with pytest.raises(ValueError) as error:
        prepare(corpus)
    assert str(error.value) == (
        f"{path}:1: expected 'WORDS (an100-fcaw-b)' as in an4_test.fileids, got '{line}'. Download and unpack "
        "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"
    )
