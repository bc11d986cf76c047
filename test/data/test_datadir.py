"""Kaldi data folders: writing, reading, and what is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harmonifuse_espnet.data.datadir import Utterance, corpus_root, read_datadir, read_table, write_datadir

B1 = Utterance("b-1", "/audio of b/1.wav", "GO LEFT", "b", "asr")
A2 = Utterance("a-2", "/a/2.wav", "YES", "a", "asr")
A10 = Utterance("a-10", "/a/10.wav", "hap", "a", "ser")


def test_the_five_files_are_sorted_by_code_point(tmp_path: Path) -> None:
    assert write_datadir(tmp_path / "set", [B1, A2, A10]) == 3
    files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "set").iterdir()}
    assert files == {
        "wav.scp": "a-10 /a/10.wav\na-2 /a/2.wav\nb-1 /audio of b/1.wav\n",
        "text": "a-10 hap\na-2 YES\nb-1 GO LEFT\n",
        "utt2spk": "a-10 a\na-2 a\nb-1 b\n",
        "spk2utt": "a a-10 a-2\nb b-1\n",
        "utt2task": "a-10 ser\na-2 asr\nb-1 asr\n",
    }


def test_reading_restores_what_was_written(tmp_path: Path) -> None:
    foreign = replace(B1, id="é-1", text="ÇA VA\u2028BIEN \u00a0!")
    write_datadir(tmp_path, [B1, foreign, A2])
    assert read_datadir(tmp_path) == [A2, B1, foreign]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"id": "a-2"}, "duplicate utterance id 'a-2': /a/2.wav and /audio of b/1.wav"),
        ({"id": "b 1"}, "id 'b 1' of 'b 1' is empty or contains a space"),
        ({"id": "b/1"}, "contains a space or a slash"),
        ({"speaker": ""}, "speaker '' of 'b-1' is empty"),
        ({"text": " "}, "text ' ' of 'b-1' is empty, has"),
        ({"text": "A\nB"}, "is empty, has a line break, or starts or ends with a space"),
        ({"task": "a sr"}, "task 'a sr' of 'b-1'"),
    ],
)
def test_values_that_are_invalid_in_a_table_are_refused(tmp_path: Path, bad: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_datadir(tmp_path / "set", [A2, replace(B1, **bad)])
    assert not (tmp_path / "set").exists()


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no utterances to write; check the corpus folder"):
        write_datadir(tmp_path, [])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/set: cannot write to this folder \(.*\); free space or choose another"):
        write_datadir(tmp_path / "file" / "set", [A2])


def test_a_full_disk_leaves_the_old_folder_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_datadir(tmp_path, [A2])
    write_bytes = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "utt2task" in self.name:
            raise OSError(28, os.strerror(28), str(self))
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device\); free space"):
        write_datadir(tmp_path, [A2, B1])
    assert read_datadir(tmp_path) == [A2]
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1\nb\n", r"text:2: expected 'key value', got 'b'"),
        ("a 1\n\n", r"text:2: expected 'key value', got ''"),
        ("a 1\nb 2\na 3\n", r"text:3: duplicate key 'a'"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "text").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "text")


def test_a_table_may_have_tabs_crlf_and_no_final_newline(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"a\tONE  TWO\r\nb  THREE")
    assert read_table(tmp_path / "text") == {"a": "ONE  TWO", "b": "THREE"}


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"a \xe9\n")
    with pytest.raises(ValueError, match="text: not UTF-8 text"):
        read_table(tmp_path / "text")


def test_missing_files_are_named(tmp_path: Path) -> None:
    write_datadir(tmp_path, [A2])
    (tmp_path / "text").unlink()
    (tmp_path / "utt2task").unlink()
    with pytest.raises(FileNotFoundError, match="incomplete data folder, text, utt2task missing; prepare it again"):
        read_datadir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"feats\.scp, text, utt2task missing"):
        read_datadir(tmp_path, audio="feats.scp")


def test_missing_utterances_are_named(tmp_path: Path) -> None:
    write_datadir(tmp_path, [A2, B1])
    (tmp_path / "text").write_text("a-2 YES\n")
    with pytest.raises(ValueError, match=r"text: 1 of 2 utterances missing, first 'b-1', which is in wav\.scp"):
        read_datadir(tmp_path)


def test_a_corpus_folder_is_made_absolute_and_keeps_its_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    assert corpus_root("../link", "x", "y") == tmp_path / "link"
    with pytest.raises(FileNotFoundError, match=r"/nowhere: no such corpus folder; expected a folder with x\. y"):
        corpus_root("/nowhere", "x", "y")
