"""Stage 5: lengths, statistics in ESPnet's format, and errors."""

from __future__ import annotations

from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
import yaml

from harmonifuse_espnet.bin.collect_stats import main
from harmonifuse_espnet.data.datadir import Utterance, write_datadir
from harmonifuse_espnet.data.tokenizer import load_tokenizer
from harmonifuse_espnet.data.tokenizer_training import train_sentencepiece

TASKS = {
    "asr": {"answer": "text", "prompts": ["TRANSCRIBE"]},
    "ser": {"answer": "label", "labels": {"ang": "ANGRY", "sad": "SAD"}, "prompts": ["EMOTION"]},
}
LENGTHS = {"a0": 4000, "a1": 8000, "b0": 6000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dump folder with both tasks, a tokenizer, and a table of tasks."""
    dump = tmp_path / "dump"
    dump.mkdir()
    random = np.random.default_rng(0)
    for name, length in LENGTHS.items():
        soundfile.write(dump / f"{name}.flac", random.integers(-9000, 9000, length).astype(np.int16), 16000)
    texts = {"a0": ("ONE TWO", "asr"), "a1": ("ONE", "asr"), "b0": ("ang", "ser")}
    write_datadir(
        dump, [Utterance(name, str(dump / f"{name}.flac"), text, "s", task) for name, (text, task) in texts.items()]
    )
    (dump / "utt2num_samples").write_text("".join(f"{name} {length}\n" for name, length in LENGTHS.items()))
    (tmp_path / "bpe.model").write_bytes(train_sentencepiece(["ONE TWO THREE"], ["ANGRY", "SAD"], 40, "char"))
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump(TASKS, sort_keys=False))
    return tmp_path


def collect(folder: Path, *options: str) -> None:
    main(
        ["--data_dir", str(folder / "dump"), "--tasks", str(folder / "tasks.yaml"), "--tokenizer", str(folder)]
        + ["--out_dir", str(folder / "stats"), *options]
    )


def failure(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    with pytest.raises(SystemExit, match="1"):
        collect(folder, *options)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and not (folder / "stats").exists()
    return lines[0]


def test_shape_files_have_the_numbers_of_samples_and_target_tokens(folder: Path) -> None:
    collect(folder)
    size = load_tokenizer(folder).vocab_size
    assert (folder / "stats/speech_shape").read_text() == "a0 4000\na1 8000\nb0 6000\n"
    # one token for each character, for the space before each word, for a label, and for eos
    assert (folder / "stats/text_shape").read_text() == f"a0 9,{size}\na1 5,{size}\nb0 2,{size}\n"
    assert sorted(path.name for path in (folder / "stats").iterdir()) == [
        "made_from.json",
        "speech_shape",
        "text_shape",
    ]


def test_shape_files_of_feature_folders_have_the_numbers_of_frames(folder: Path) -> None:
    (folder / "dump/wav.scp").rename(folder / "dump/feats.scp")
    (folder / "dump/utt2num_frames").write_text("a0 26\na1 51\nb0 38\n")
    collect(folder, "--feats_type", "ssl")
    assert (folder / "stats/speech_shape").read_text() == "a0 26\na1 51\nb0 38\n"


def test_espnet_normalises_with_the_statistics_to_mean_0_and_variance_1(folder: Path) -> None:
    from espnet2.layers.global_mvn import GlobalMVN

    from harmonifuse_espnet.data.logmel import LogMel

    threads = torch.get_num_threads()
    collect(folder, "--feats_stats", "true", "--n_mels", "20")
    assert torch.get_num_threads() == threads
    normalize, log_mel = GlobalMVN(folder / "stats/feats_stats.npz"), LogMel(20)
    frames = []
    for name, length in LENGTHS.items():
        samples = torch.from_numpy(soundfile.read(folder / f"dump/{name}.flac", dtype="float32")[0])
        features, lengths = log_mel(samples[None], torch.tensor([length]))
        frames.append(normalize(features, lengths)[0][0])
    everything = torch.cat(frames)
    torch.testing.assert_close(everything.mean(0), torch.zeros(20), atol=1e-4, rtol=0)
    torch.testing.assert_close(everything.std(0, unbiased=False), torch.ones(20), atol=1e-4, rtol=0)
    assert np.load(folder / "stats/feats_stats.npz")["count"] == len(everything)


def test_statistics_of_dumped_features(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = folder / "dump"
    features = {name: np.full((3, 20), k, np.float32) for k, name in enumerate(LENGTHS)}
    kaldiio.save_ark(str(dump / "feats.ark"), features, scp=str(dump / "feats.scp"))
    (dump / "utt2num_frames").write_text("".join(f"{name} 3\n" for name in LENGTHS))
    message = failure(capsys, folder, "--feats_type", "fbank", "--feats_stats", "true")
    assert "has shape (3, 20), expected (frames, 80); give the --n_mels that stage 3 used" in message
    collect(folder, "--feats_type", "fbank", "--feats_stats", "true", "--n_mels", "20")
    stats = np.load(folder / "stats/feats_stats.npz")
    assert (stats["count"], stats["sum"][0], stats["sum_square"][19]) == (9, 9.0, 15.0)


def test_dumped_features_that_are_not_finite_give_no_statistics(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = folder / "dump"
    features = {name: np.ones((3, 20), np.float32) for name in LENGTHS}
    features["a1"][2, 5] = np.nan
    kaldiio.save_ark(str(dump / "feats.ark"), features, scp=str(dump / "feats.scp"))
    (dump / "utt2num_frames").write_text("".join(f"{name} 3\n" for name in LENGTHS))
    message = failure(capsys, folder, "--feats_type", "fbank", "--feats_stats", "true", "--n_mels", "20")
    assert message.endswith("1 of 60 values are NaN or infinite, the first in frame 2; run stage 3 again")


def test_the_number_of_mel_bins_may_come_from_the_training_configuration(folder: Path) -> None:
    (folder / "train.yaml").write_text("frontend_conf: {n_mels: 24}\n")
    collect(folder, "--feats_stats", "true", "--train_config", str(folder / "train.yaml"))
    assert np.load(folder / "stats/feats_stats.npz")["sum"].shape == (24,)


def test_the_drawn_utterances_depend_on_the_seed_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = []
    for seed in (*range(12), 3):
        collect(folder, "--feats_stats", "true", "--max_utterances", "1", "--n_mels", "20", "--seed", str(seed))
        counts.append(int(np.load(folder / "stats/feats_stats.npz")["count"]))
    assert set(counts) == {26, 51, 38} and counts[3] == counts[-1]
    assert "lengths of 3 utterances, features of 1 (20 mel bins)" in capsys.readouterr().out


def test_statistics_of_another_sampling_rate_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(folder / "dump/a1.flac", np.ones(8000, np.int16), 8000)
    message = failure(capsys, folder, "--feats_stats", "true")
    assert "utterance 'a1':" in message and "sampling rate 8000 Hz, the features need 16000 Hz" in message


def test_ssl_features_have_no_statistics(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dump/utt2num_frames").write_text("a0 26\na1 51\nb0 38\n")
    message = failure(capsys, folder, "--feats_type", "ssl", "--feats_stats", "true")
    assert "leave it out with --feats_type ssl" in message


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("text", "a0 ONE\na1 ONE\n", "dump/text: 1 of the utterances of utt2task missing, first 'b0'"),
        ("text", "a0 ONE\na1 ONE\nb0 ang\nc0 ONE\n", "dump/utt2task: 1 of the utterances of text missing, first 'c0'"),
        ("text", "a0 ONE\na1\nb0 ang\n", "dump/text:2: expected 'key value', got 'a1'"),
        ("text", "a0 ONE\na1 ONE\nb0 bored\n", "utterance 'b0': unknown label 'bored' for task 'ser'"),
        ("text", "", "dump/text: no utterances"),
        (
            "utt2task",
            "a0 asr\na1 sre\nb0 ser\n",
            "utterance 'a1' has the task 'sre', the table of tasks has asr, ser",
        ),
        ("utt2num_samples", "a0 1\nb0 1\n", "dump/utt2num_samples: 1 of the utterances of text missing, first 'a1'"),
        (
            "utt2num_samples",
            "a0 1\na1 0\nb0 1\n",
            "utt2num_samples: 'a1' has the length '0', expected a positive integer",
        ),
    ],
)
def test_tables_with_different_utterances_or_invalid_values_are_named(
    folder: Path, table: str, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dump" / table).write_text(content)
    assert message in failure(capsys, folder)


def test_errors_name_the_missing_stage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "utt2num_frames: no such file; extract_features (stage 3)" in failure(
        capsys, folder, "--feats_type", "fbank"
    )
    (folder / "dump/utt2num_samples").unlink()
    assert "utt2num_samples: no such file; format_audio (stage 2) creates it" in failure(capsys, folder)
    (folder / "bpe.model").unlink()
    assert "train_tokenizer (stage 4) creates it" in failure(capsys, folder)
