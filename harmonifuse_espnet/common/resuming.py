"""Resumable processing of utterances: the results of each batch are appended to a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.progress import progress

Entry = dict[str, Any]


def process_resumably(
    path: Path,
    settings: Mapping[str, Any],
    ids: Sequence[str],
    batch_size: int,
    process: Callable[[Sequence[str]], Iterable[Entry]],
    keys: Collection[str] = (),
) -> dict[str, Entry]:
    """Process utterances in batches, and skip those that an interrupted call has finished.

    Args:
        path: JSON Lines file of the results so far, ``settings`` first. The caller removes it after the last batch.
        settings: Everything that determines the results. If the file has other settings, it is rewritten.
        ids: Utterance ids.
        batch_size: Utterances in a batch.
        process: Function that returns a JSON-serialisable result for each utterance id of a batch.
        keys: Keys that every result has; a file without them is damaged, and everything is processed again.

    Returns:
        Results by utterance id.
    """
    done = _resume(path, settings, keys)
    batches = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]
    left = [batch for batch in batches if not all(utterance in done for utterance in batch)]
    with path.open("a", encoding="utf-8") as file:
        for batch in progress(left, len(left), "batches"):
            for utterance, entry in zip(batch, process(batch), strict=True):
                done[utterance] = entry
                file.write(json.dumps({"id": utterance, **entry}) + "\n")
            file.flush()
    return done


def longest_first(lengths: Mapping[str, int]) -> list[str]:
    """Sort utterance ids by length, the longest first, for batches with little padding.

    Example:
        >>> longest_first({"b": 5, "a": 5, "c": 9})
        ['c', 'a', 'b']
    """
    return sorted(lengths, key=lambda utterance: (-lengths[utterance], utterance))


def file_fingerprint(path: str | Path) -> dict[str, Any]:
    """Return the name, size and modification time of a file; the latter two are None if it does not exist."""
    stat = Path(path).stat() if Path(path).exists() else None
    return {"file": str(path), "size": stat and stat.st_size, "mtime": stat and stat.st_mtime}


def _resume(path: Path, settings: Mapping[str, Any], keys: Collection[str]) -> dict[str, Entry]:
    """Return the results of an interrupted call with the same settings, and remove incomplete lines from the file."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # without an incomplete last line
    try:
        complete = [json.loads(line) for line in lines]
        kept = {entry.pop("id"): entry for entry in complete[1:]} if complete and complete[0] == settings else {}
        if not all(isinstance(key, str) and entry.keys() >= set(keys) for key, entry in kept.items()):
            kept = {}
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):  # damaged, such as by a power failure
        kept = {}
    content = "".join(json.dumps(entry) + "\n" for entry in [settings, *({"id": key, **kept[key]} for key in kept)])
    write_files(path.parent, {path.name: content})
    return kept
