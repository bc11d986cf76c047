"""What a derived folder was made from, so that a change of its sources is noticed.

A dump folder, a feature folder and a folder of statistics have a file ``made_from.json``: the folders that they were
made from, each with the number of utterances and a checksum of its tables (or of the files of a tokenizer).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.json_file import read_json
from harmonifuse_espnet.common.text import quote

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
        InputError: if a source has changed, with both numbers of utterances and both checksums; if the record is
            damaged.
    """
    _check_sources(Path(folder), remedy, ())


def _check_sources(folder: Path, remedy: str, derived: tuple[Path, ...]) -> None:
    """Check the sources of a folder, from which the folders ``derived`` were made."""
    path = folder / MADE_FROM
    if not path.is_file():
        return
    recorded = read_json(path, remedy)
    if not isinstance(recorded, dict):
        raise InputError(f"{path}: not the record of a stage: {quote(recorded)}; {remedy}")
    for name, record in recorded.items():
        source, then = Path(name), _read_record(path, name, record, remedy)
        if not os.path.exists(source):
            continue
        if source in (folder, *derived):
            raise InputError(f"{path}: the folder {source} was made from itself; {remedy}")
        _check_sources(source, f"run the stage that makes {source} again, then {remedy}", (folder, *derived))
        now = _format(_describe(source))
        if now != then:
            raise InputError(f"{folder} was made from {source} with {then}, which now has {now}; {remedy}")


def _read_record(path: Path, name: str, record: Any, remedy: str) -> str:
    """Return the description of a source as it was; ``record`` is its entry in the file ``path``."""
    kinds = {"utterances": int, "checksum": str}
    valid = isinstance(record, dict) and all(type(value) is kinds.get(key) for key, value in record.items())
    if not valid or not name or "checksum" not in record:
        raise InputError(f"{path}: not the record of a stage: {quote(name)} has {quote(record)}; {remedy}")
    return _format(record)


def _describe(source: Path) -> dict[str, Any]:
    text = source / "text"
    utterances = {"utterances": text.read_bytes().count(b"\n")} if text.is_file() else {}
    return {**utterances, "checksum": checksum(source)}


def _format(record: dict[str, Any]) -> str:
    utterances = f"{record['utterances']} utterances, " if "utterances" in record else ""
    return f"{utterances}checksum {record['checksum']}"
