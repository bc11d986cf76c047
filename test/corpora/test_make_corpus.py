"""The corpus of the mini recipe, created at the smallest size by the recipe's script."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from harmonifuse_espnet.corpora import iemocap, librispeech

LOCAL = Path(__file__).parents[2] / "egs2" / "mini" / "slm1" / "local"
RULES = ["voices=^Ses05", "sentences=_script03", "dev=_script02", "train=."]


def make(out_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LOCAL / "make_corpus.py"), str(out_dir), "--scale", "0.01", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    done = make(folder)
    assert done.returncode == 0, done.stderr
    assert "75/75 folders" in done.stdout
    return folder


def test_it_is_read_like_the_releases(corpus: Path) -> None:
    read = librispeech.prepare(corpus)
    assert {name: len(rows) for name, rows in read.items()} == {"dev_mini": 3, "test_mini": 4, "train_mini": 40}
    acted = iemocap.prepare(corpus, "custom", split_rules=RULES)
    assert {name: len(rows) for name, rows in acted.items()} == {"dev": 32, "sentences": 32, "train": 32, "voices": 8}
    for rows in acted.values():
        assert {row.text for row in rows} == {"ang", "hap", "neu", "sad"}


def test_every_reader_has_a_gender(corpus: Path) -> None:
    rows = librispeech.prepare(corpus, ["test-mini"], label="gender")["test_mini"]
    assert [row.text for row in rows] == ["male", "female", "male", "female"]


def test_sentences_are_independent_of_the_emotion_and_not_in_other_sets(corpus: Path) -> None:
    labels = {
        row.id: row.text for rows in iemocap.prepare(corpus, "custom", split_rules=RULES).values() for row in rows
    }
    words = iemocap.prepare(corpus, "custom", split_rules=RULES, task="asr", labels=["4"])
    sentences_of: dict[str, set[str]] = {}
    for name, rows in words.items():
        sentences_of[name] = {row.text for row in rows}
        for sentence in sentences_of[name]:
            emotions = [labels[row.id] for row in rows if row.text == sentence]
            assert sorted(emotions) == ["ang", "hap", "neu", "sad"]
    sets = [*sentences_of.values(), *({row.text for row in rows} for rows in librispeech.prepare(corpus).values())]
    read = [{sentence.upper().rstrip(".") for sentence in sentences} for sentences in sets]
    assert sum(map(len, read)) == len(set().union(*read))


def test_test_voices_are_in_no_training_set(corpus: Path) -> None:
    lines = (corpus / "LibriSpeech" / "SPEAKERS.TXT").read_text().splitlines()
    voices: dict[str, set[str]] = {}
    for line in lines:
        if not line.startswith(";"):
            voices.setdefault(line.split("|")[2].strip(), set()).add(line.partition("+")[2])
    assert len(voices["train-mini"]) == 20
    assert voices["test-mini"].isdisjoint(voices["train-mini"] | voices["dev-mini"])
    assert {"f4", "m2"} < voices["test-mini"]  # and these two act in the fifth session


def test_the_layout_has_the_irregularities_of_the_release(corpus: Path) -> None:
    root = corpus / "IEMOCAP_full_release"
    dialogs = {path.name for path in root.glob("Session*/sentences/wav/*")}
    assert {"Ses03M_impro05a", "Ses03M_impro08b", "Ses05M_script01_1b"} < dialogs
    texts = [path.read_bytes() for path in root.glob("Session*/dialog/transcriptions/[!.]*.txt")]
    assert 0 < sum(b"\r\n" in text for text in texts) < len(texts)
    assert any(b"[LAUGHTER]" in text for text in texts)
    assert all(b"_FXX0 [" in text and (b"\nF: " in text or b"\nM: " in text) for text in texts)
    assert (root / "Session1/dialog/EmoEvaluation/Self-evaluation").is_dir()
    assert list(root.glob("Session1/sentences/wav/*/._*.wav"))


def test_audio_is_sixteen_kilohertz_mono_of_one_to_four_seconds(corpus: Path) -> None:
    paths = [*corpus.rglob("*.flac"), *corpus.glob("IEMOCAP_full_release/Session*/sentences/wav/*/[!.]*.wav")]
    for info in map(soundfile.info, paths):
        assert (info.samplerate, info.channels) == (16000, 1)
        assert 0.6 < info.duration < 4.0


def test_missing_folders_are_created_again_with_the_same_samples(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    chapter = sorted(folder.glob("LibriSpeech/test-mini/*/*"))[0]
    chapter.rename(chapter.with_name(f".{chapter.name}.unfinished"))  # as an interrupted process leaves it
    shutil.rmtree(folder / "IEMOCAP_full_release/Session3/sentences/wav/Ses03M_impro05b")
    done = make(folder, "--nj", "1")
    assert "75 folders, 2 to create" in done.stdout
    assert digests(folder) == digests(corpus)  # although eSpeak NG's default seed is the time
    assert "75 folders, 0 to create" in make(folder).stdout


def test_another_seed_needs_another_folder(corpus: Path) -> None:
    done = make(corpus, "--seed", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert (
        "corpus.json: the corpus was created with {'seed': 0, 'scale': 0.01}, "
        "but this call has {'seed': 1, 'scale': 0.01}" in done.stderr
    )


def test_bad_options_and_folders_are_refused(tmp_path: Path) -> None:
    assert "--nj 0 --scale 0.01: both must be positive" in make(tmp_path, "--nj", "0").stderr
    (tmp_path / "file").write_text("")
    done = make(tmp_path / "file" / "corpus")
    assert (done.returncode, "Not a directory" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_a_killed_process_ends_the_command_with_the_cause(tmp_path: Path) -> None:
    """A pool of ``multiprocessing`` would wait for ever."""
    command = [sys.executable, str(LOCAL / "make_corpus.py"), str(tmp_path / "corpus"), "--scale", "0.3"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
    os.kill(int(found[0]), signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert error.splitlines()[-1] == (
        "error: a worker process was killed, most likely because memory ran out; use fewer processes (--nj), then run "
        "the command again; completed work is kept"
    )
    assert process.returncode == 1
