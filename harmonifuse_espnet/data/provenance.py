"""What a derived folder was made from, so that a change of its sources is noticed.

A dump folder, a feature folder and a folder of statistics have a file ``made_from.json``: the folders that they were
made from, each with the number of utterances and a checksum of its tables (or of the files of a tokenizer).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.text import read_text

MADE_FROM = "made_from.json"
_TOKENIZER = (
    "bpe.model",
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
_TABLES = ("feats.scp", "segments", "text", "utt2num_frames", "utt2num_samples", "utt2spk", "utt2task", "wav.scp")


def checksum(path: str | Path) -> str:
    """Return a checksum of a file, or of the tables or the tokenizer in a folder.

    Other files of a folder, such as the weights of a language model beside its tokenizer, do not count. A missing file,
    and a folder without any of these, have the checksum "missing".
    """
    path = Path(path)
    names = _TOKENIZER if any((path / name).is_file() for name in _TOKENIZER) else _TABLES
    files = [path] if path.is_file() else [path / name for name in names if (path / name).is_file()]
    if not files:
        return "missing"
    digest = hashlib.sha256()
    for file in files:
        name = file.name if path.is_dir() else ""
        digest.update(f"{name} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def format_sources(sources: Iterable[str | Path]) -> str:
    """Return the content of ``made_from.json`` for folders made from ``sources``."""
    return json.dumps({str(source): _describe(Path(source)) for source in sources}, indent=1) + "\n"


def check_sources(folder: str | Path, remedy: str) -> None:
    """Check that the sources of a folder, and their own sources, have not changed since it was made.

    Sources that do not exist any more are not checked.

    Args:
        folder: Dump folder, feature folder or folder of statistics.
        remedy: What to do after a change, such as "run stage 2 again".

    Raises:
        InputError: if a source has changed; the message has both numbers of utterances and both checksums.
    """
    path = Path(folder) / MADE_FROM
    if not path.is_file():
        return
    try:
        recorded = json.loads(read_text(path))
        known = {Path(source): _format(then) for source, then in recorded.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the record of a stage ({error}); {remedy}") from error
    for source, then in known.items():
        if not source.exists():
            continue
        check_sources(source, f"run the stage that makes {source} again, then {remedy}")
        now = _format(_describe(source))
        if now != then:
            raise InputError(f"{folder} was made from {source} with {then}, which now has {now}; {remedy}")


def _describe(source: Path) -> dict[str, Any]:
    text = source / "text"
    utterances = {"utterances": text.read_bytes().count(b"\n")} if text.is_file() else {}
    return {**utterances, "checksum": checksum(source)}


def _format(record: dict[str, Any]) -> str:
    utterances = f"{record['utterances']} utterances, " if "utterances" in record else ""
    return f"{utterances}checksum {record['checksum']}"
