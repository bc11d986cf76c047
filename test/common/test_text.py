"""The gate of all text files: encodings, line ends, white space, names, csv."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

import pytest

from harmonifuse_espnet.common.errors import AccessError, InputError, MissingFileError
from harmonifuse_espnet.common.text import check_name, normalize_text, parse_decimal, read_csv, read_lines, read_text


@pytest.mark.parametrize(
    "content",
    [b"a b\nc d\n", b"\xef\xbb\xbfa b\nc d\n", b"a b\r\nc d\r\n", b"a b\rc d\r", b"a b\nc d"],
    ids=["unix", "byte order mark", "windows", "old mac", "no final line end"],
)
def test_encodings_and_line_ends_give_the_same_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text").write_bytes(content)
    assert list(read_lines(tmp_path / "text")) == [(1, "a b"), (2, "c d")]


def test_other_separators_do_not_end_a_line(tmp_path: Path) -> None:
    line = "a \x0b \x0c \x1c \x85 \u2028 \u2029 b"
    (tmp_path / "text").write_text(line + "\n", encoding="utf-8")
    assert list(read_lines(tmp_path / "text")) == [(1, line)]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"A\nCAF\xe9\n",
            "2: byte 0xE9 is not UTF-8; convert the file from its encoding, for example: iconv -f ISO-8859-1 -t UTF-8",
        ),
        (
            b"A\r\nB\r\xff",
            "3: byte 0xFF is not UTF-8; convert the file from its encoding, for example: iconv -f ISO-8859-1 -t UTF-8",
        ),
        ("A".encode("utf-16"), " UTF-16 text, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8"),
        (b"\xfe\xff\x00A", " UTF-16 text, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8"),
        (
            b"a: 1\n\xef\xbb\xbfb: 2\n",
            "2: has a byte order mark in the middle, as in a file that was joined from others; remove it",
        ),
        (b"A\nB\x00C\n", "2: has a zero byte, so it is not a text file; restore the file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 5\n",
            " a git-lfs pointer, not the file itself; run 'git lfs pull' in its repository",
        ),
    ],
)
def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_text(path)
    assert str(error.value) == f"{path}:{message}"


@pytest.mark.bad_input
def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError) as missing:
        read_text(tmp_path / "text", "run stage 2")
    assert str(missing.value) == f"{tmp_path}/text: no such file; run stage 2"
    with pytest.raises(InputError) as folder:
        read_text(tmp_path, "run stage 2")
    assert str(folder.value) == f"{tmp_path}: a folder, expected a text file; run stage 2"


def test_transcripts_have_one_form() -> None:
    assert normalize_text("\u3000CAFE\u0301\u00a0\u2009NOIR\t", "u1") == "CAFÉ NOIR"
    assert normalize_text("می\u200cخواهم", "u1") == "می\u200cخواهم"  # a letter of Persian


@pytest.mark.bad_input
@pytest.mark.parametrize("character", ["\ufeff", "\u200b", "\u00ad", "\x07"])
def test_an_invisible_character_in_a_transcript_is_refused(character: str) -> None:
    with pytest.raises(InputError) as error:
        normalize_text(f"GO{character}ON", "data/text:3")
    point = f"U+{ord(character):04X}"
    assert str(error.value) == f"data/text:3: {f'GO{character}ON'!r} has the invisible character {point}; remove it"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("\ufeffu1", "has the space or invisible character U+FEFF; use letters, digits, '-' and '_'"),
        ("u\u00a01", "has the space or invisible character U+00A0; use letters, digits, '-' and '_'"),
        ("u\u20281", "has the space or invisible character U+2028; use letters, digits, '-' and '_'"),
        ("a/u1", "has a slash; use letters, digits, '-' and '_'"),
        ("..", "cannot be a name; use letters, digits, '-' and '_'"),
        ("", "cannot be a name; use letters, digits, '-' and '_'"),
    ],
)
def test_a_name_that_nobody_sees_or_that_is_no_file_name_is_refused(name: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        check_name(name, "data/wav.scp:1")
    assert str(error.value) == f"data/wav.scp:1: {name!r} {problem}"


@pytest.mark.bad_input
def test_a_name_that_is_too_long_for_a_file_is_refused() -> None:
    check_name("é" * 100, "text")
    with pytest.raises(InputError) as error:
        check_name("é" * 101, "text")
    assert str(error.value) == f"text: '{'é' * 40}...' has 202 bytes, at most 200 fit into a file name"


def test_names_in_all_scripts_are_names() -> None:
    for name in ("Ses01F_impro01_M000", "19-198-0001", "utt:1,2", "发言-1", unicodedata.normalize("NFD", "é")):
        check_name(name, "text")


@pytest.mark.parametrize("content", ["ID,Sex\n1,M\n", "Age;Sex;ID\n7;M;1\n", '\ufeff"ID"\t"Sex"\n"1"\t" M"\n\n'])
def test_csv_as_programs_write_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    assert list(read_csv(tmp_path / "a.csv", ["ID", "Sex"], "restore it")) == [(2, {"ID": "1", "Sex": "M"})]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ID,Gender\n1,M\n", ": has the columns 'ID,Gender', expected ID, Sex; restore it"),
        ("", ": has the columns '', expected ID, Sex; restore it"),
        ("ID,Sex\n1,M\n2\n", ":3: 1 fields, the header has 2; restore it"),
        ('ID,Sex\n1,"M\n', ":2: not csv (unexpected end of data); restore it"),
    ],
)
def test_csv_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        list(read_csv(path, ["ID", "Sex"], "restore it"))
    assert str(error.value) == f"{path}{message}"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("ID,Sex,Sex", ": has two columns 'Sex'; restore it"),
        ("x" * 150, f": has the columns '{'x' * 100}'..., expected ID, Sex; restore it"),
    ],
)
def test_csv_with_a_bad_header(tmp_path: Path, header: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n1,M,F\n")
    with pytest.raises(InputError) as error:
        list(read_csv(path, ["ID", "Sex"], "restore it"))
    assert str(error.value) == f"{path}{message}"


@pytest.mark.bad_input
def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(AccessError) as loop:
        read_text(tmp_path / "loop")
    assert str(loop.value) == f"{tmp_path}/loop: cannot be read (Too many levels of symbolic links); correct the path"
    with pytest.raises(AccessError) as long:
        read_text(tmp_path / ("a" * 300))
    assert str(long.value) == f"{tmp_path}/{'a' * 300}: cannot be read (File name too long); correct the path"
    for name, escaped in (("a\0b", "a\\x00b"), ("a\ud800", "a\\ud800")):
        with pytest.raises(InputError) as impossible:
            read_text(name)
        assert str(impossible.value) == f"'{escaped}': a path with a character that no path can have; correct the path"


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "1_0", "٣", "0x1", "", " 1", "1 ", "--1", "1e", "."])
def test_what_is_no_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_decimal(text)
    assert str(error.value) == f"'{text}' is not a number"


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("-.5", -0.5), ("2.", 2.0), ("+1.5E-3", 0.0015)])
def test_decimal_numbers_as_programs_write_them(text: str, value: float) -> None:
    assert parse_decimal(text) == value


def test_a_long_run_of_digits_is_refused_quickly() -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match="is not a number"):
        parse_decimal("9" * 100_000 + "x")
    assert time.process_time() - start < 1
