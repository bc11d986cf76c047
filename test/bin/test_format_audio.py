"""Stage 2: formatted audio, resuming, filters, and errors."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harmonifuse_espnet.bin.format_audio import get_parser, main
from harmonifuse_espnet.data import shards
from harmonifuse_espnet.data.audio import read_audio
from harmonifuse_espnet.data.datadir import Utterance, read_datadir, read_table, write_datadir
from harmonifuse_espnet.data.formatting import format_audio
from harmonifuse_espnet.data.shards import AudioOptions, Source, format_shard, make_shards

OPTIONS = AudioOptions("flac", 16000, 0.1, 30.0)


def make_folder(folder: Path, count: int, rate: int = 16000, prefix: str = "u", seconds: float = 0.2) -> Path:
    """Create a data folder of noise; utterance k has k more samples than utterance 0."""
    (folder / "my audio").mkdir(parents=True)
    random = np.random.default_rng(count)
    rows = []
    for k in range(count):
        path = folder / "my audio" / f"{prefix}{k:04d}.wav"
        soundfile.write(path, random.integers(-9000, 9000, int(seconds * rate) + k).astype(np.int16), rate)
        rows.append(Utterance(f"{prefix}{k:04d}", str(path), f"WORD {k}", f"spk{k % 3}", "asr"))
    write_datadir(folder, rows)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def failure(capsys: pytest.CaptureFixture[str], *cmd: str | Path) -> str:
    """Run the command, which must fail, and return its only line on stderr."""
    with pytest.raises(SystemExit, match="1"):
        main([str(word) for word in cmd])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_folders_are_merged_into_one_that_espnet_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(Path("a"), 3, prefix="a")
    make_folder(Path("b"), 2, rate=11025, prefix="b")
    main(["--out_dir", "my dump/train", "a", "b"])
    assert "my dump/train: 5 of 5 utterances, 0.00 h, flac at 16000 Hz" in capsys.readouterr().out
    rows = read_datadir("my dump/train")
    assert [row.id for row in rows] == ["a0000", "a0001", "a0002", "b0000", "b0001"]
    assert rows[0].audio == "my dump/train/data/format.1/a0000.flac" and rows[0].text == "WORD 0"
    lengths = read_table("my dump/train/utt2num_samples")
    for row in rows:
        samples, rate = read_audio(row.audio)
        assert rate == 16000 and len(samples) == int(lengths[row.id])
    assert lengths["a0002"] == "3202" and abs(int(lengths["b0000"]) - 3200) <= 1
    assert Path("my dump/train/dropped.tsv").read_text() == ""
    sound = pytest.importorskip("espnet2.fileio.sound_scp")
    rate, samples = sound.SoundScpReader("my dump/train/wav.scp", dtype="float32")["a0001"]
    np.testing.assert_array_equal(samples, soundfile.read("a/my audio/a0001.wav", dtype="float32")[0])


def test_flac_wav_and_archives_have_the_same_samples(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "a", 3)
    read = {}
    for audio_format in ("flac", "wav", "kaldi_ark"):
        out = tmp_path / audio_format
        format_audio([source], out, AudioOptions(audio_format, 16000, 0.1, 30.0))
        read[audio_format] = [read_audio(row.audio)[0] for row in read_datadir(out)]
        assert (out / "utt2num_samples").read_text() == (tmp_path / "flac" / "utt2num_samples").read_text()
    for flac, wav, ark in zip(*read.values(), strict=True):
        np.testing.assert_array_equal(flac, wav)
        np.testing.assert_array_equal(flac, ark)


def test_originals_of_the_right_rate_are_used_in_place_and_others_become_flac(tmp_path: Path) -> None:
    make_folder(tmp_path / "a", 2, prefix="a")
    make_folder(tmp_path / "b", 2, rate=11025, prefix="b")
    out = tmp_path / "dump"
    options = AudioOptions("original", 16000, 0.1, 30.0)
    format_audio([tmp_path / "a", tmp_path / "b"], out, options)
    audio = {row.id: row.audio for row in read_datadir(out)}
    assert audio["a0001"] == str(tmp_path / "a" / "my audio" / "a0001.wav")
    assert audio["b0001"] == str(out / "data" / "format.1" / "b0001.flac")
    assert read_table(out / "utt2num_samples")["a0001"] == "3201"
    assert not list(out.rglob("a0*"))
    Path(audio["a0001"]).write_bytes(b"RIFF")  # originals are checked again
    with pytest.raises(ValueError, match="a0001.*not audio, or damaged"):
        format_audio([tmp_path / "a", tmp_path / "b"], out, options)


def test_the_result_does_not_depend_on_the_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_folder(tmp_path / "a", 130, rate=11025)
    for nj in (1, 2):
        (tmp_path / str(nj)).mkdir()
        monkeypatch.chdir(tmp_path / str(nj))
        format_audio([source], "dump", OPTIONS, nj)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_killed_call_is_resumed_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_folder(tmp_path / "a", 450, seconds=2.0)
    command = [
        sys.executable,
        "-m",
        "harmonifuse_espnet.bin.format_audio",
        "--out_dir",
        "dump",
        "--nj",
        "2",
        str(source),
    ]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    format_audio([source], "dump", OPTIONS)
    monkeypatch.chdir(tmp_path / "killed")
    root = Path(shards.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(Path("dump/data").glob("format.?")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("dump/wav.scp").exists() and len(list(Path("dump/data").glob("format.?"))) < 5
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_only_missing_or_damaged_shards_are_formatted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_folder(tmp_path / "a", 250)
    out = tmp_path / "dump"
    format_audio([source], out, OPTIONS)
    before = contents(out)
    (out / "data/format.2/u0150.flac").write_bytes(b"cut")
    (out / "data/format.3.tmp").mkdir()
    (out / "data/format.9").mkdir()
    kept = {n: (out / f"data/format.{n}").stat().st_ino for n in (1, 3)}
    format_audio([source], out, OPTIONS)
    assert contents(out) == before
    assert {n: (out / f"data/format.{n}").stat().st_ino for n in (1, 3)} == kept
    assert sorted(path.name for path in (out / "data").iterdir()) == ["format.1", "format.2", "format.3"]
    monkeypatch.setattr("harmonifuse_espnet.data.formatting._run_parallel", pytest.fail)
    format_audio([source], out, OPTIONS)
    assert contents(out) == before


def test_shards_with_changed_options_or_sources_are_formatted_again(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "a", 3)
    out = tmp_path / "dump"
    format_audio([source], out, OPTIONS)
    soundfile.write(source / "my audio/u0001.wav", np.full(4000, 7, np.int16), 16000)
    format_audio([source], out, OPTIONS)
    assert read_table(out / "utt2num_samples")["u0001"] == "4000"
    format_audio([source], out, AudioOptions("wav", 8000, 0.1, 30.0))
    assert read_audio(read_table(out / "wav.scp")["u0001"])[1] == 8000
    assert not list(out.rglob("*.flac"))
    assert json.loads((out / "format.json").read_text())["options"]["sample_rate"] == 8000


def test_dropped_utterances_are_reported_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_folder(tmp_path / "a", 4)
    for k, samples in enumerate((np.ones(800), np.zeros(3200), np.ones(32000))):
        soundfile.write(source / f"my audio/u000{k}.wav", samples.astype(np.int16), 16000)
    main(["--out_dir", str(tmp_path / "train"), "--max_duration", "1", str(source)])
    assert (tmp_path / "train/dropped.tsv").read_text() == (
        "u0000\tshorter than 0.1 s: 0.050 s\nu0001\tsilence: all 3200 samples are 0\nu0002\tlonger than 1 s: 2.000 s\n"
    )
    assert "dropped 3 (see dropped.tsv): 1 shorter than 0.1 s, 1 silence, 1 longer than 1 s" in capsys.readouterr().out
    assert list(read_table(tmp_path / "train/text")) == ["u0003"]
    main(["--out_dir", str(tmp_path / "test"), "--min_duration", "0", "--max_duration", "inf", str(source)])
    assert len(read_datadir(tmp_path / "test")) == 4


def test_samples_clamped_after_resampling_are_reported(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "a", 1)
    square = np.where(np.arange(8000) // 20 % 2, 32767, -32768).astype(np.int16)
    soundfile.write(source / "my audio/u0000.wav", square, 8000)
    assert "samples beyond full scale in 1 utterances" in format_audio([source], tmp_path / "dump", OPTIONS)


def test_the_error_for_an_id_in_two_folders_names_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make_folder(tmp_path / "first", 1), make_folder(tmp_path / "second", 1)
    message = failure(capsys, "--out_dir", tmp_path / "dump", first, second)
    assert f"utterance 'u0000' is in {first} and in {second}" in message


def test_the_error_for_a_missing_file_has_utterance_file_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_folder(tmp_path / "a", 3)
    gone = source / "my audio/u0001.wav"
    gone.unlink()
    message = failure(capsys, "--out_dir", tmp_path / "dump", source)
    assert f"1 of 3 utterances have unusable audio: 'u0001': {gone}: no such audio file" in message
    assert "--skip_bad true" in message and not (tmp_path / "dump").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", r"the file is empty \(0 bytes\)"), (b"RIFF", "not audio, or damaged"), (None, "truncated, 1589 of")],
)
def test_unusable_audio_is_an_error_unless_it_may_be_skipped(
    tmp_path: Path, content: bytes | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_folder(tmp_path / "a", 2)
    path = source / "my audio/u0000.wav"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=rf"1 of 2 .* 'u0000': .*u0000\.wav: {reason}.* Repair .* --skip_bad true"):
        format_audio([source], tmp_path / "dump", OPTIONS)
    assert not (tmp_path / "dump/wav.scp").exists()
    main(["--out_dir", str(tmp_path / "dump"), "--skip_bad", "true", str(source)])
    assert "1 of 2 utterances" in capsys.readouterr().out
    assert (tmp_path / "dump/dropped.tsv").read_text().startswith("u0000\tunusable: ")
    path.write_bytes(whole)
    format_audio([source], tmp_path / "dump", OPTIONS)
    assert len(read_datadir(tmp_path / "dump")) == 2


def test_the_error_for_a_sampling_rate_has_both_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_folder(tmp_path / "a", 1, rate=8000)
    message = failure(capsys, "--out_dir", tmp_path / "dump", "--expected_sample_rate", "16000", source)
    assert "'u0000':" in message and "sampling rate 8000 Hz, expected 16000 Hz" in message


def test_dropping_all_utterances_is_an_error_with_the_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_folder(tmp_path / "a", 2)
    message = failure(capsys, "--out_dir", tmp_path / "dump", "--min_duration", "5", source)
    assert "all 2 utterances are dropped: 2 shorter than 5 s" in message


def test_a_minimum_above_the_maximum_duration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, "--out_dir", tmp_path / "d", "--min_duration", "5", "--max_duration", "2", tmp_path)
    assert "--min_duration 5 must be at least 0, and below --max_duration 2" in message


def test_a_full_disk_keeps_complete_shards_and_the_error_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_folder(tmp_path / "a", 150)
    rows = (Source(row.id, row.audio) for row in read_datadir(source))
    first, second = make_shards(rows)
    format_shard(first, tmp_path / "data", OPTIONS)
    before = contents(tmp_path / "data")

    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        OSError, match=rf"{tmp_path}/data: cannot write to this folder \(No space left on device\); free space"
    ):
        format_shard(second, tmp_path / "data", OPTIONS)
    monkeypatch.undo()
    assert contents(tmp_path / "data") == before and not (tmp_path / "data/format.2.tmp").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody can create files in /proc."""
    source = make_folder(tmp_path / "a", 1)
    message = failure(capsys, "--out_dir", "/proc/harmonifuse/dump", source)
    assert "/proc/harmonifuse/dump: cannot write to this folder" in message


def test_help_has_stage_and_defaults() -> None:
    text = " ".join(get_parser().format_help().split())
    assert "Stage 2" in text and "0 keeps both, for test sets (default: 0.1)" in text
