"""Damaged copies of valid files: changed bytes, Unicode spaces, line ends, duplicates, odd numbers, truncation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

SPACES = "\u00a0\u1680\u2003\u2009\u2028\u2029\u202f\u205f\u3000\x85\x0b\x0c\x1c\x1d\x1e\x1f\t "
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u00ad\u202e\x00\x07\x1b\x7f\x9f"
NUMBERS = (
    "nan",
    "NaN",
    "inf",
    "-inf",
    "Infinity",
    "1e999",
    "1e-3",
    "-1",
    "0",
    "-0.0",
    "1_0",
    "0x1",
    "01",
    "1.5",
    "٣",
    "²",
)
NUMBERS += ("１", "9" * 30, "9" * 5000, "1e", ".5", "+1", "1:30", "None", "null", "~", "true", "NO", "on", "2024-99-99")
SYNTAX = ("{", "}", "[", "]", ":", ": ", ",", '"', "'", "\\", "- ", "? ", "&a ", "*a", "<<: *a", "!!null ", "!!binary ")
SYNTAX += (
    "!!int ",
    "!x ",
    "|\n ",
    ">",
    "#",
    " #",
    "%",
    "@",
    "---\n",
    "...\n",
    ";;",
    ";",
    "|",
    "/",
    "..",
    "</s>",
    "<s>",
    "()",
)
ESCAPES = (
    "\\ud800",
    "\\udc80",
    "\\ud83d\\ude00",
    "\\u0000",
    "\\n",
    "\\u2028",
    "\\x85",
    "\\U0010ffff",
    "\\N",
    "\\",
    "%n",
)
LETTERS = ("é", "e\u0301", "\u212b", "ß", "İ", "漢", "😀", "\U000e0041", "ﬁ", "و\u200cم", "id", "base", "a" * 300)
BYTES = (
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xe9",
    b"\x00",
)
NESTED = tuple(word * 1500 for word in ("[", "{", '{"a":', "- ", "(", "[[],"))
FRAGMENTS = (
    tuple(
        text.encode()
        for text in (
            *SPACES,
            *INVISIBLE,
            *NUMBERS,
            *SYNTAX,
            *ESCAPES,
            *LETTERS,
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            "",
            " ",
            "  ",
        )
    )
    + BYTES
)
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 5\n"
LONG = 20_000  # bytes of a very long line
RARE = 0.003  # share of the inputs with a very long line or deeply nested brackets, which take long


def damage(random: Random, valid: Sequence[bytes], fragments: Sequence[bytes]) -> bytes:
    """Return one of the ``valid`` contents after up to eight changes.

    Args:
        random: Source of all choices.
        valid: Valid contents of the file.
        fragments: Bytes to insert, beside those of this module.
    """
    content = random.choice(valid)
    if random.random() < RARE:
        content = _insert(random, content, random.choice((*NESTED, b"a" * LONG, b"9" * LONG, b" a" * LONG)))
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        content = random.choice(_CHANGES)(random, content, valid, fragments)
    return content


def _insert(random: Random, content: bytes, what: str | bytes) -> bytes:
    at = random.randint(0, len(content))
    return content[:at] + (what.encode() if isinstance(what, str) else what) + content[at:]


def _fragment(random: Random, fragments: Sequence[bytes]) -> bytes:
    return random.choice(fragments) if fragments and random.random() < 0.3 else random.choice(FRAGMENTS)


def _insert_fragment(random: Random, content: bytes, valid: Sequence[bytes], fragments: Sequence[bytes]) -> bytes:
    return _insert(random, content, _fragment(random, fragments))


def _insert_at_line(random: Random, content: bytes, valid: Sequence[bytes], fragments: Sequence[bytes]) -> bytes:
    """Insert at the beginning or the end of a line."""
    lines = content.split(b"\n")
    number = random.randrange(len(lines))
    pair = [lines[number], _fragment(random, fragments)]
    random.shuffle(pair)
    lines[number] = b"".join(pair)
    return b"\n".join(lines)


def _replace_word(random: Random, content: bytes, valid: Sequence[bytes], fragments: Sequence[bytes]) -> bytes:
    words = list(re.finditer(rb"[\w.+-]+|[^\w\s]|[ \t]+|\n", content))
    if not words:
        return content
    start, end = random.choice(words).span()
    return content[:start] + _fragment(random, fragments) + content[end:]


def _replace_byte(random: Random, content: bytes, valid: Sequence[bytes], fragments: Sequence[bytes]) -> bytes:
    at = random.randrange(len(content) + 1)
    return content[:at] + bytes([random.randrange(256)]) + content[at + 1 :]


def _flip_bit(random: Random, content: bytes, valid: Sequence[bytes], fragments: Sequence[bytes]) -> bytes:
    if not content:
        return content
    at = random.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]


def _delete(random: Random, content: bytes, valid: Sequence[bytes], fragments: Sequence[bytes]) -> bytes:
    at = random.randrange(len(content) + 1)
    return content[:at] + content[at + random.choice((1, 1, 2, 5, 20)) :]


def _truncate(random: Random, content: bytes, valid: Sequence[bytes], fragments: Sequence[bytes]) -> bytes:
    return content[: random.randint(0, len(content))]


def _change_lines(random: Random, content: bytes, valid: Sequence[bytes], fragments: Sequence[bytes]) -> bytes:
    """Repeat, remove, move or join lines, or add one of another valid content."""
    lines = content.split(b"\n")
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    change = random.randrange(5)
    if change == 0:
        lines.insert(other, lines[one])
    elif change == 1:
        del lines[one]
    elif change == 2:
        lines[one], lines[other] = lines[other], lines[one]
    elif change == 3:
        lines[one : one + 2] = [b" ".join(lines[one : one + 2])]
    else:
        lines.insert(one, random.choice(random.choice(valid).split(b"\n")))
    return b"\n".join(lines)


def _change_encoding(random: Random, content: bytes, valid: Sequence[bytes], fragments: Sequence[bytes]) -> bytes:
    text = content.decode("utf-8", "replace")
    return random.choice(
        (
            b"\xef\xbb\xbf" + content,
            text.encode("latin-1", "replace"),
            text.encode("utf-16"),
            content.replace(b"\n", b"\r\n"),
            content.replace(b"\n", b"\r"),
            content.replace(b" ", b"\t"),
            content.replace(b" ", "\u00a0".encode()),
            content.removesuffix(b"\n"),
            LFS_POINTER,
        )
    )


_CHANGES = (
    *[_insert_fragment] * 4,
    *[_insert_at_line] * 3,
    *[_replace_word] * 5,
    *[_change_lines] * 3,
    _replace_byte,
    _flip_bit,
    _delete,
    _truncate,
    _change_encoding,
)
