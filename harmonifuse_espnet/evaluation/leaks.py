"""Leak check: the speakers, sentences and utterance ids that a test set shares with the training set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harmonifuse_espnet.evaluation.references import References

SHOWN = 5  # shared speakers, sentences or ids that are named
Leaks = Mapping[str, Any]


def find_leaks(train: References, test: References) -> dict[str, Any]:
    """Return what a test set shares with the training set.

    Sentences are the transcripts of text tasks, without regard to case and white space.

    Returns:
        ``speakers``, ``sentences`` and ``utterances``, each with ``shared`` and ``total``, numbers of different ones in
        the test set, and ``first``, at most five that are shared. ``sentences`` is None without transcripts in the
        test set.
    """
    sentences = _sentences(test)
    return {
        "speakers": _shared(set(train.speakers.values()), set(test.speakers.values())),
        "sentences": _shared(_sentences(train), sentences) if sentences else None,
        "utterances": _shared(set(train.targets), set(test.targets)),
    }


def leak_lines(test_set: str, leaks: Leaks | None) -> Iterator[str]:
    """Yield a line with what is shared, and a warning for shared speakers and for shared utterance ids.

    Args:
        test_set: Name of the test set.
        leaks: Result of :func:`find_leaks`; None if it was not called.

    Example:
        >>> nothing = {"shared": 0, "total": 6, "first": []}
        >>> list(leak_lines("test", {"speakers": nothing, "sentences": None, "utterances": nothing}))
        ['test  shared with training: 0 of 6 speakers, 0 of 6 utterance ids; sentences not checked: no transcripts']
    """
    if leaks is None:
        yield f"{test_set}  shared with training: not checked; --train_data_dir names the training set"
        return
    speakers, sentences, utterances = leaks["speakers"], leaks["sentences"], leaks["utterances"]
    parts = [_describe(speakers, "speakers"), _describe(utterances, "utterance ids")]
    if sentences is not None:
        parts.insert(1, _describe(sentences, "sentences"))
    unchecked = "; sentences not checked: no transcripts" if sentences is None else ""
    yield f"{test_set}  shared with training: {', '.join(parts)}{unchecked}"
    if speakers["shared"]:
        yield f"warning: {test_set} has speakers of the training set: its scores are not for unseen speakers"
    if utterances["shared"]:
        yield f"warning: {test_set} has utterances of the training set: its scores are not for unseen speech"


def _sentences(references: References) -> set[str]:
    texts = (text for key, text in references.targets.items() if references.tasks[key].answer == "text")
    return {" ".join(text.split()).casefold() for text in texts}


def _shared(train: set[str], test: set[str]) -> dict[str, Any]:
    shared = sorted(train & test)
    return {"shared": len(shared), "total": len(test), "first": shared[:SHOWN]}


def _describe(found: Mapping[str, Any], unit: str) -> str:
    names = ", ".join(f"'{name}'" for name in found["first"]) + (", ..." if found["shared"] > SHOWN else "")
    return f"{found['shared']} of {found['total']} {unit}" + (f" ({names})" if names else "")
