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
    foreign = replace(B1, id="é-1", audio="/a\u00a0b.wav", text="ÇA VA BIEN !")
    write_datadir(tmp_path, [B1, foreign, A2])
    assert read_datadir(tmp_path) == [A2, B1, foreign]


def test_texts_are_written_in_one_form(tmp_path: Path) -> None:
    write_datadir(tmp_path, [replace(A2, text=" C\u0327A VA\u2028BIEN \u00a0\t! ")])
    assert (tmp_path / "text").read_text(encoding="utf-8") == "a-2 ÇA VA BIEN !\n"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"id": "a-2"}, "duplicate utterance id 'a-2': /a/2.wav and /audio of b/1.wav"),
        (
            {"id": "b 1"},
            "id of 'b 1': 'b 1' has the space or invisible character U+0020; use letters, digits, '-' and '_'",
        ),
        ({"id": "b/1"}, "id of 'b/1': 'b/1' has a slash; use letters, digits, '-' and '_'"),
        ({"speaker": ""}, "speaker of 'b-1': '' cannot be a name; use letters, digits, '-' and '_'"),
        ({"text": " "}, "the text of 'b-1' is empty; add it or remove the utterance"),
        ({"text": "A\x1bB"}, "text of 'b-1': 'A\\x1bB' has the invisible character U+001B; remove it"),
        (
            {"task": "a sr"},
            "task of 'b-1': 'a sr' has the space or invisible character U+0020; use letters, digits, '-' and '_'",
        ),
        (
            {"audio": "/a.wav "},
            "audio path '/a.wav ' of 'b-1' is empty, has a line break, or starts or ends with a space; rename the file",
        ),
    ],
)
def test_values_that_are_invalid_in_a_table_are_refused(tmp_path: Path, bad: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError) as error:
        write_datadir(tmp_path / "set", [A2, replace(B1, **bad)])
    assert str(error.value) == f"{tmp_path}/set: {message}"
    assert not (tmp_path / "set").exists()


@pytest.mark.bad_input
def test_ids_that_look_the_same_are_named_by_their_code_points(tmp_path: Path) -> None:
    composed, decomposed = replace(A2, id="\u00e9"), replace(B1, id="e\u0301")
    with pytest.raises(ValueError) as error:
        write_datadir(tmp_path, [composed, decomposed])
    assert str(error.value) == (
        f"{tmp_path}: the utterance ids U+0065 U+0301 and U+00E9 both look like 'e\u0301'; rename one"
    )
    write_datadir(tmp_path, [composed])
    (tmp_path / "text").write_text("e\u0301 YES\n", encoding="utf-8")
    with pytest.raises(ValueError) as error:
        read_datadir(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/wav.scp: 1 of 2 utterances missing, first 'e\u0301' (U+0065 U+0301; the file has U+00E9), which "
        "is in text; prepare the folder again"
    )


def test_segments_cut_recordings(tmp_path: Path) -> None:
    write_datadir(tmp_path, [A2, B1])
    (tmp_path / "wav.scp").write_text("r1 /r1.wav\nr2 /r 2.wav\n")
    (tmp_path / "segments").write_text("a-2 r1 0.5 1.25\nb-1 r2 3 -1\n")
    a2, b1 = replace(A2, audio="/r1.wav", segment=(0.5, 1.25)), replace(B1, audio="/r 2.wav", segment=(3.0, -1.0))
    assert read_datadir(tmp_path) == [a2, b1]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ("a-2 r1 0 1\n", "1 of 2 utterances missing, first 'b-1', which is in text; prepare the folder again"),
        ("a-2 r1 0\n", "'a-2' has 'r1 0', expected a recording, and a start and an end in seconds"),
        ("a-2 r1 0 1s\n", "'a-2' has 'r1 0 1s', expected a recording, and a start and an end in seconds"),
        (
            "a-2 r1 2 1\n",
            "'a-2' is from 2 s to 1 s; expected 0 <= start < end, or an end of -1 for the end of the recording",
        ),
        (
            "a-2 r1 nan 1\n",
            "'a-2' has 'r1 nan 1', expected a recording, and a start and an end in seconds",
        ),
        (
            "a-2 r9 0 1\n",
            "the recording 'r9' of 'a-2' is not in wav.scp; add it there, or remove the segment",
        ),
    ],
)
def test_an_invalid_segment_is_named(tmp_path: Path, segments: str, message: str) -> None:
    write_datadir(tmp_path, [A2, B1])
    (tmp_path / "wav.scp").write_text("r1 /r1.wav\n")
    (tmp_path / "segments").write_text(segments)
    with pytest.raises(ValueError) as error:
        read_datadir(tmp_path)
    assert str(error.value) == f"{tmp_path}/segments: {message}"


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no utterances to write; check the corpus folder"):
        write_datadir(tmp_path, [])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"file/set: cannot write to this folder \(.*\); check its permissions or choose another"
    ):
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


def test_the_byte_order_mark_is_not_part_of_the_first_id(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfa 1\n")
    assert read_table(tmp_path / "text") == {"a": "1"}


@pytest.mark.bad_input
def test_an_id_with_an_invisible_character_is_refused_in_every_table(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a 1\n\u200bb 2\n", encoding="utf-8")
    with pytest.raises(ValueError) as error:
        read_table(tmp_path / "text")
    assert str(error.value) == (
        f"{tmp_path}/text:2: '\\u200bb' has the space or invisible character U+200B; use letters, digits, '-' and '_'"
    )


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"a \xe9\n")
    with pytest.raises(ValueError, match="text:1: byte 0xE9 is not UTF-8; convert the file"):
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
