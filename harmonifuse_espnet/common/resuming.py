"""Long work on utterances, batch by batch, that a call goes on with where another one was killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.progress import progress

Entry = dict[str, Any]


def in_batches(
    path: Path,
    identity: Mapping[str, Any],
    ids: Sequence[str],
    batch_size: int,
    work: Callable[[Sequence[str]], Iterable[Entry]],
) -> dict[str, Entry]:
    """Do what is left of the work, and keep each batch's in a file as soon as it is done.

    Args:
        path: The file: a JSON mapping a line, ``identity`` first. The caller removes it in the end.
        identity: What the file must have been made with to be gone on with; else it begins anew.
        ids: All utterances.
        batch_size: How many are worked on together.
        work: A batch of ids -> what JSON keeps of each.

    Returns:
        What was kept, by id.
    """
    done = _resume(path, identity)
    batches = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]
    left = [batch for batch in batches if not all(utterance in done for utterance in batch)]
    with path.open("a", encoding="utf-8") as file:
        for batch in progress(left, len(left), "batches"):
            for utterance, entry in zip(batch, work(batch), strict=True):
                done[utterance] = entry
                file.write(json.dumps({"id": utterance, **entry}) + "\n")
            file.flush()
    return done


def file_identity(path: str | Path) -> dict[str, Any]:
    """A file's name, size and time of change, as JSON has them; None for both where there is none."""
    stat = Path(path).stat() if Path(path).exists() else None
    return {"file": str(path), "size": stat and stat.st_size, "mtime": stat and stat.st_mtime}


def _resume(path: Path, identity: Mapping[str, Any]) -> dict[str, Entry]:
    """What a call that was cut short left, if it was the same call; else a new file that begins with who makes it."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    kept = whole[1:] if whole and whole[0] == identity else []
    content = "".join(json.dumps(entry) + "\n" for entry in [identity, *kept])
    write_files(path.parent, {path.name: content})
    return {entry.pop("id"): entry for entry in kept}
