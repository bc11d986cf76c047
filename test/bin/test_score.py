"""score: scores of a decode folder, and errors for files that contradict each other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harmonifuse_espnet.bin.score import main

TASKS = """
asr: {answer: text, prompts: [transcribe]}
ser: {answer: label, labels: {ang: ANGRY, hap: HAPPY, sad: SAD}, prompts: [emotion]}
"""
REFERENCES = {"a1": ("asr", "GO ON NOW"), "a2": ("asr", "STOP"), "s1": ("ser", "ang"), "s2": ("ser", "sad")}
DUPLICATE = 2 * '{"id": "s1", "probs": {"ang": 0.7, "hap": 0.2, "sad": 0.1}}\n'
PROBS = {"s1": {"ang": 0.7, "hap": 0.2, "sad": 0.1}, "s2": {"ang": 0.5, "hap": 0.2, "sad": 0.3}}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A test set of two tasks and its decode folder: a substitution, an empty hypothesis, an incorrect label."""
    data, decode = tmp_path / "dump raw" / "test", tmp_path / "decode" / "test"
    data.mkdir(parents=True)
    decode.mkdir(parents=True)
    (tmp_path / "tasks.yaml").write_text(TASKS)
    (data / "utt2task").write_text("".join(f"{key} {task}\n" for key, (task, _) in REFERENCES.items()))
    (data / "text").write_text("".join(f"{key} {text}\n" for key, (_, text) in REFERENCES.items()))
    (decode / "text").write_text("a1 GO IN NOW\na2 \ns1 ang\ns2 ang\n")
    (decode / "ctc_text").write_text("a1 GO ON NOW\na2 STOP\n")
    write_probs(decode, PROBS)
    return data, decode


def write_probs(decode: Path, probs: dict[str, dict[str, float]]) -> None:
    lines = [json.dumps({"id": key, "probs": values}) + "\n" for key, values in probs.items()]
    (decode / "label_probs.jsonl").write_text("".join(lines))


def run(data: Path, decode: Path) -> dict:
    tasks = decode.parents[1] / "tasks.yaml"
    main(["--data_dir", str(data), "--decode_dir", str(decode), "--tasks", str(tasks)])
    return json.loads((decode / "score.json").read_text())


def test_scores_of_both_tasks_and_both_kinds_of_hypothesis(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    scores = run(*folders)
    assert (scores["test_set"], scores["utterances"], list(scores["tasks"])) == ("test", 4, ["asr", "ser"])
    asr, ser = scores["tasks"]["asr"]["scores"], scores["tasks"]["ser"]["scores"]
    assert (asr["llm"]["wer"], asr["llm"]["substitutions"], asr["llm"]["deletions"]) == (50.0, 1, 1)
    assert asr["ctc"]["wer"] == 0.0
    assert list(ser) == ["llm"]
    assert (ser["llm"]["wa"], ser["llm"]["confusion"]) == (50.0, [[1, 0, 0], [0, 0, 0], [1, 0, 0]])
    assert ser["llm"]["recall"] == {"ang": 100.0, "hap": None, "sad": 0.0}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "test  asr (llm)  WER 50.0 %  CER 38.5 %  (1 sub, 1 del, 0 ins in 4 words)  2 utterances"
    assert lines[2] == "test  ser (llm)  WA 50.0 %  UA 50.0 %  macro F1 33.3 %  2 utterances"


def test_each_utterance_has_its_errors_or_its_correct_label(folders: tuple[Path, Path]) -> None:
    run(*folders)
    lines = (folders[1] / "utterances.jsonl").read_text().splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == [
        ("a1", "asr", "llm", 1, 3),
        ("a2", "asr", "llm", 1, 1),
        ("a1", "asr", "ctc", 0, 3),
        ("a2", "asr", "ctc", 0, 1),
        ("s1", "ser", "llm", "ang", True),
        ("s2", "ser", "llm", "sad", False),
    ]
    assert [list(json.loads(line))[3:] for line in (lines[0], lines[4])] == [["errors", "words"], ["label", "correct"]]


def test_the_sentence_error_rate_does_not_have_the_name_of_the_task(folders: tuple[Path, Path]) -> None:
    scores = run(*folders)["tasks"]["asr"]["scores"]["llm"]
    assert scores["sentence_error_rate"] == 100.0 and "ser" not in scores


def test_optional_files_may_be_missing(folders: tuple[Path, Path]) -> None:
    data, decode = folders
    (decode / "ctc_text").unlink()
    (decode / "label_probs.jsonl").unlink()
    scores = run(data, decode)
    assert list(scores["tasks"]["asr"]["scores"]) == ["llm"]
    assert list(decode.glob(".*")) == []


def test_with_a_tie_the_hypothesis_may_be_either_label(folders: tuple[Path, Path]) -> None:
    write_probs(folders[1], PROBS | {"s2": {"ang": 0.4, "hap": 0.2, "sad": 0.4}})
    assert run(*folders)["tasks"]["ser"]["scores"]["llm"]["wa"] == 50.0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text", "a1 GO\na2 STOP\ns1 ang\n", "decode/test/text: 1 of 4 utterances have no hypothesis: s2"),
        ("text", "a1 X\na2 X\ns1 ang\ns2 ang\nz X\n", "decode/test/text: 1 of 5 hypotheses have no reference: z"),
        ("text", "a1 X\na1 X\n", "decode/test/text:2: duplicate key 'a1'"),
        ("text", "a1 X\na2 X\ns1 ang\ns2 joy\n", "label_probs.jsonl:2: the most probable label of 's2' is ang"),
        ("ctc_text", "a1 GO\n", "ctc_text: 1 of 2 utterances have no hypothesis: a2"),
        ("ctc_text", "a1 GO\na2 X\ns1 X\n", "ctc_text: 1 of 3 hypotheses have no reference: s1"),
        ("label_probs.jsonl", "nonsense\n", "label_probs.jsonl:1: expected .* got 'nonsense'"),
        ("label_probs.jsonl", DUPLICATE, "label_probs.jsonl:2: duplicate utterance 's1'"),
        ("label_probs.jsonl", '{"id": "a1", "probs": {}}\n', "jsonl:1: 'a1' is not an utterance of a task with labels"),
        (
            "label_probs.jsonl",
            '{"id": "s1", "probs": {"ang": 1}}\n',
            "labels ang, but its task has ang, hap, sad; decode again",
        ),
        ("label_probs.jsonl", "", "label_probs.jsonl: 2 of 2 utterances missing, first 's1'"),
    ],
)
def test_contradictory_files_are_refused(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], name: str, content: str, message: str
) -> None:
    (folders[1] / name).write_text(content)
    with pytest.raises(SystemExit, match="1"):
        run(*folders)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error), error
    assert not (folders[1] / "score.json").exists()


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        ({"ang": 0.5, "hap": 0.2, "sad": 0.2}, "the probabilities of 's1' sum to 0.900000, not to 1"),
        ({"ang": float("nan"), "hap": 0.2, "sad": 0.2}, "the probabilities of 's1' sum to nan"),
        ({"ang": 0.2, "hap": 0.5, "sad": 0.3}, "the most probable label of 's1' is hap, but its hypothesis is 'ang'"),
    ],
)
def test_probabilities_must_fit_the_hypothesis(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], probs: dict[str, float], message: str
) -> None:
    write_probs(folders[1], PROBS | {"s1": probs})
    with pytest.raises(SystemExit):
        run(*folders)
    assert message in capsys.readouterr().err


def test_unknown_tasks_and_missing_files_are_named(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, decode = folders
    (data / "utt2task").write_text("a1 asr\na2 asr\ns1 gender\ns2 ser\n")
    with pytest.raises(SystemExit):
        run(data, decode)
    assert "unknown task 'gender'; the table of tasks has asr, ser" in capsys.readouterr().err
    (decode / "text").unlink()
    with pytest.raises(SystemExit):
        run(data, decode)
    assert "no such file; run stage 7, which writes it" in capsys.readouterr().err
