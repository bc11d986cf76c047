"""The benchmark of data preparation, whose two implementations must agree (IEMOCAP: in test/corpora)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bench import main
from benchmarks import data
from make_synthetic_data import make_synthetic_data


def test_both_implementations_agree_and_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.py", "data", "--work_dir", str(tmp_path), "--subsets", "dev-clean=150"])
    monkeypatch.setattr(data, "time_iemocap", lambda work, out: "IEMOCAP has its own test")
    monkeypatch.setattr(data, "KINDS", {"librispeech": "LibriSpeech"})
    main()
    last = capsys.readouterr().out.splitlines()[-1]
    number, tables = r"\d+\.\d+", r"wav\.scp, text, utt2spk"
    assert re.fullmatch(
        rf"LibriSpeech: 150 utterances, identical {tables}: {number} s, shell {number} s, ratio {number}",
        last,
    )


def test_different_results_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_synthetic_data(tmp_path, ["librispeech"], subsets=["dev-clean=10"], empty=True)
    monkeypatch.setattr(data, "SHELL", tmp_path)
    script = (Path(data.__file__).parent / "librispeech.sh").read_text()
    (tmp_path / "librispeech.sh").write_text(script.replace("print $1, speaker", "print $1, $1"))
    with pytest.raises(ValueError, match=r"ours/dev_clean/utt2spk and .*shell/dev_clean/utt2spk differ"):
        data.time_librispeech(tmp_path, tmp_path / "out")
    (tmp_path / "librispeech.sh").write_text("exit 3\n")
    with pytest.raises(OSError, match="failed: bash .*librispeech.sh .*dev-clean"):
        data.time_librispeech(tmp_path, tmp_path / "other")
