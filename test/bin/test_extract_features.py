"""Stage 3: feature folders for stages 5 and 6."""

from __future__ import annotations

from pathlib import Path

import kaldiio
import pytest
import yaml
from tiny import TABLE, make_texts, save_encoder, write_dump

from harmonifuse_espnet.bin.extract_features import main
from harmonifuse_espnet.data.datadir import read_datadir, read_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dump(tmp_path / "raw", make_texts(TABLE, 2, "u"))
    return tmp_path


def extract(folder: Path, feats_type: str, conf: dict[str, object] | None = None) -> Path:
    options = ["--feats_type", feats_type, "--data_dir", str(folder / "raw"), "--out_dir", str(folder / feats_type)]
    if conf is not None:
        (folder / "feats.yaml").write_text(yaml.safe_dump(conf))
        options += ["--config", str(folder / "feats.yaml")]
    main(options)
    return folder / feats_type


def failure(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> str:
    with pytest.raises(SystemExit, match="1"):
        extract(folder, *arguments)  # type: ignore[arg-type]
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    return lines[-1]


@pytest.mark.parametrize(("feats_type", "width"), [("fbank", 20), ("ssl", 32)])
def test_a_feature_folder_has_the_tables_of_the_dump_and_lengths_in_frames(
    folder: Path, feats_type: str, width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    wavlm = save_encoder(folder / "wavlm")
    conf = {"fbank": {"n_mels": 20}, "ssl": {"frontend_conf": {"model": wavlm}, "layers": [1, 3]}}[feats_type]
    out = extract(folder, feats_type, conf)
    for name in ("text", "utt2spk", "spk2utt", "utt2task"):
        assert (out / name).read_text() == (folder / "raw" / name).read_text()
    frames = {key: int(count) for key, count in read_table(out / "utt2num_frames").items()}
    for row in read_datadir(out, "feats.scp"):
        assert kaldiio.load_mat(row.audio).shape == (frames[row.id], width)
    samples = read_table(folder / "raw/utt2num_samples")
    if feats_type == "fbank":
        assert frames == {key: int(count) // 160 + 1 for key, count in samples.items()}
    assert f"{feats_type} features of 4 utterances" in capsys.readouterr().out


def test_a_second_call_keeps_the_features(folder: Path) -> None:
    out = extract(folder, "fbank")
    before = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    stamp = (out / "data/feats.1.ark").stat().st_mtime_ns
    extract(folder, "fbank")
    assert {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert (out / "data/feats.1.ark").stat().st_mtime_ns == stamp


def test_invalid_options_and_missing_files_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--config for ssl has [], expected ['frontend_conf', 'layers']" in failure(capsys, folder, "ssl", {})
    assert "--config for fbank has ['mels'], expected ['n_mels']" in failure(capsys, folder, "fbank", {"mels": 3})
    (folder / "raw/wav.scp").unlink()
    assert "wav.scp" in failure(capsys, folder, "fbank")


def test_a_damaged_file_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "raw/u_asr_1.flac").write_bytes(b"")
    assert "u_asr_1.flac: the file is empty" in failure(capsys, folder, "fbank")
    assert not (folder / "fbank/feats.scp").exists()
