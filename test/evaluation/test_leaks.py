"""Leak check: speakers, sentences and utterance ids shared by training and test."""

from __future__ import annotations

from harmonifuse_espnet.data.tasks import build_tasks
from harmonifuse_espnet.evaluation.leaks import find_leaks, leak_lines
from harmonifuse_espnet.evaluation.references import References

TASKS = build_tasks(
    {
        "asr": {"answer": "text", "prompts": ["transcribe"]},
        "ser": {"answer": "label", "labels": {"ang": "ANGRY", "sad": "SAD"}, "prompts": ["emotion"]},
    }
)


def references(*rows: tuple[str, str, str, str]) -> References:
    """References of rows of utterance id, speaker, task and target."""
    return References(
        {key: target for key, _, _, target in rows},
        {key: TASKS[task] for key, _, task, _ in rows},
        {key: speaker for key, speaker, _, _ in rows},
    )


TRAIN = references(
    ("t1", "anna", "asr", "GO ON NOW"),
    ("t2", "anna", "asr", "STOP"),
    ("t3", "carl", "ser", "ang"),
)


def test_a_test_set_of_its_own_shares_nothing_but_may_have_the_sentences() -> None:
    """Two of three different sentences are in the training set, apart from case and white space."""
    test = references(
        ("u1", "dora", "asr", "Go\u00a0on  now"),
        ("u2", "emil", "asr", "stop"),
        ("u3", "emil", "asr", "STOP"),
        ("u4", "emil", "asr", "YES"),
    )
    leaks = find_leaks(TRAIN, test)
    assert leaks == {
        "speakers": {"shared": 0, "total": 2, "first": []},
        "sentences": {"shared": 2, "total": 3, "first": ["go on now", "stop"]},
        "utterances": {"shared": 0, "total": 4, "first": []},
    }
    assert list(leak_lines("test", leaks)) == [
        "test  shared with training: 0 of 2 speakers, 2 of 3 sentences ('go on now', 'stop'), 0 of 4 utterance ids"
    ]


def test_labels_are_not_sentences() -> None:
    leaks = find_leaks(TRAIN, references(("u1", "dora", "ser", "ang")))
    assert leaks["sentences"] is None
    assert list(leak_lines("test", leaks)) == [
        "test  shared with training: 0 of 1 speakers, 0 of 1 utterance ids; sentences not checked: no transcripts"
    ]
    sentences = find_leaks(TRAIN, references(("u1", "dora", "asr", "ang")))["sentences"]
    assert sentences == {"shared": 0, "total": 1, "first": []}


def test_shared_speakers_and_utterances_are_a_warning() -> None:
    leaks = find_leaks(TRAIN, references(("u1", "carl", "ser", "sad"), ("t3", "dora", "ser", "ang")))
    assert list(leak_lines("test", leaks)) == [
        "test  shared with training: 1 of 2 speakers ('carl'), 1 of 2 utterance ids ('t3'); sentences not checked: no "
        "transcripts",
        "warning: test has speakers of the training set: its scores are not for unseen speakers",
        "warning: test has utterances of the training set: its scores are not for unseen speech",
    ]


def test_the_first_five_are_named() -> None:
    train = references(*((f"t{number}", f"s{number}", "ser", "ang") for number in range(9)))
    speakers = find_leaks(train, train)["speakers"]
    assert speakers == {"shared": 9, "total": 9, "first": ["s0", "s1", "s2", "s3", "s4"]}
    assert "9 of 9 speakers ('s0', 's1', 's2', 's3', 's4', ...)" in next(
        iter(leak_lines("t", find_leaks(train, train)))
    )


def test_without_a_training_set_the_check_is_said_to_be_missing() -> None:
    assert list(leak_lines("test", None)) == [
        "test  shared with training: not checked; --train_data_dir names the training set"
    ]
