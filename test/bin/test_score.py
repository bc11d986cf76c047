"""score: scores of a decode folder, and errors for files that contradict each other."""

from __future__ import annotations

import json
import re
import shutil
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
    (data / "utt2spk").write_text("a1 anna\na2 anna\ns1 carl\ns2 dora\n")
    (decode / "text").write_text("a1 GO IN NOW\na2 \ns1 ang\ns2 ang\n")
    (decode / "ctc_text").write_text("a1 GO ON NOW\na2 STOP\n")
    write_probs(decode, PROBS)
    return data, decode


def write_probs(decode: Path, probs: dict[str, dict[str, float]]) -> None:
    lines = [json.dumps({"id": key, "probs": values}) + "\n" for key, values in probs.items()]
    (decode / "label_probs.jsonl").write_text("".join(lines))


def run(data: Path, decode: Path, *options: str) -> dict:
    tasks = decode.parents[1] / "tasks.yaml"
    main(["--data_dir", str(data), "--decode_dir", str(decode), "--tasks", str(tasks), *options])
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
    assert lines == [
        "test  asr (llm)  WER 50.0 %  CER 38.5 %  (1 sub, 1 del, 0 ins in 4 words)  1 empty, 0 looping, 0 over-long  "
        "2 utterances",
        "test  asr (ctc)  WER 0.0 %  CER 0.0 %  (0 sub, 0 del, 0 ins in 4 words)  0 empty, 0 looping, 0 over-long  "
        "2 utterances",
        "test  ser (llm)  WA 50.0 %  UA 50.0 %  macro F1 33.3 %  2 utterances",
        "test  shared with training: not checked; --train_data_dir names the training set",
    ]
    assert scores["leaks"] is None
    assert asr["llm"]["degenerate"] == {"empty": 1, "looping": 0, "over_long": 0}


def test_each_utterance_has_its_errors_or_its_correct_label(folders: tuple[Path, Path]) -> None:
    run(*folders)
    lines = (folders[1] / "utterances.jsonl").read_text().splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == [
        ("a1", "anna", "asr", "llm", 1, 3, 1, 9),
        ("a2", "anna", "asr", "llm", 1, 1, 4, 4),
        ("a1", "anna", "asr", "ctc", 0, 3, 0, 9),
        ("a2", "anna", "asr", "ctc", 0, 1, 0, 4),
        ("s1", "carl", "ser", "llm", "ang", True),
        ("s2", "dora", "ser", "llm", "sad", False),
    ]
    names = ["id", "speaker", "task", "kind"]
    assert list(json.loads(lines[0])) == [*names, "errors", "words", "char_errors", "characters"]
    assert list(json.loads(lines[4])) == [*names, "label", "correct"]


def test_the_utterances_errors_are_those_of_the_table_for_any_white_space(folders: tuple[Path, Path]) -> None:
    """A no-break space, an ideographic space and a line separator each separate two words."""
    data, decode = folders
    text = "a1 GO\u00a0ON NOW\na2 STOP\u3000IT\u2028NOW\ns1 ang\ns2 sad\n"
    (data / "text").write_text(text, encoding="utf-8")
    (decode / "text").write_text("a1 GO ON\u3000NOW\na2 STOP IT\u00a0\u00a0OLD\ns1 ang\ns2 ang\n", encoding="utf-8")
    scores = run(data, decode)["tasks"]["asr"]["scores"]["llm"]
    entries = [json.loads(line) for line in (decode / "utterances.jsonl").read_text().splitlines()]
    found = [entry for entry in entries if (entry["task"], entry["kind"]) == ("asr", "llm")]
    assert [(entry["errors"], entry["words"]) for entry in found] == [(0, 3), (1, 3)]
    assert scores["words"] == 6 and scores["wer"] == pytest.approx(100 / 6)
    assert sum(entry["characters"] for entry in found) == scores["characters"]
    assert sum(entry["char_errors"] for entry in found) == scores["char_substitutions"] == 3


def test_what_is_shared_with_the_training_set_is_printed_and_recorded(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = tmp_path / "dump raw" / "train"
    train.mkdir()
    for name, column in (
        ("text", ("stop", "ang")),
        ("utt2task", ("asr", "ser")),
        ("utt2spk", ("emil", "dora")),
    ):
        (train / name).write_text("".join(f"t{number} {value}\n" for number, value in enumerate(column)))
    scores = run(*folders, "--train_data_dir", str(train))
    assert scores["leaks"] == {
        "speakers": {"shared": 1, "total": 3, "first": ["dora"]},
        "sentences": {"shared": 1, "total": 2, "first": ["stop"]},
        "utterances": {"shared": 0, "total": 4, "first": []},
    }
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "test  shared with training: 1 of 3 speakers ('dora'), 1 of 2 sentences ('stop'), 0 of 4 utterance ids",
        "warning: test has speakers of the training set: its scores are not for unseen speakers",
    ]


@pytest.mark.parametrize("folder", ["train", "test"])
def test_the_speakers_of_all_utterances_are_needed(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    data, decode = folders
    train = data.with_name("train")
    shutil.copytree(data, train)
    path = data.with_name(folder) / "utt2spk"
    for content, message in (
        ("a1 anna\ns1 carl\ns2 dora\n", "1 of the utterances of text missing, first 'a2'; prepare the folder again"),
        (None, "no such file; run stage 2, which writes it"),
    ):
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
        with pytest.raises(SystemExit, match="1"):
            run(data, decode, "--train_data_dir", str(train))
        assert capsys.readouterr().err == f"error: {path}: {message}\n"
        assert not (decode / "score.json").exists()


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
        ("label_probs.jsonl", "nonsense\n", "label_probs.jsonl:1: not valid JSON: Expecting value; decode again"),
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
        (
            {"ang": float("nan"), "hap": 0.2, "sad": 0.2},
            "label_probs.jsonl:1: NaN is not a finite number; decode again",
        ),
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
    assert capsys.readouterr().err == (
        f"error: {data}/utt2task: unknown task 'gender'; the table of tasks has asr, ser; add the task to the table, "
        "or pass the table of the training\n"
    )
    (data / "utt2task").write_text("a1 asr\na2 asr\ns1 ser\n")
    with pytest.raises(SystemExit):
        run(data, decode)
    error = "1 of the utterances of text missing, first 's2'; prepare the folder again"
    assert capsys.readouterr().err == f"error: {data}/utt2task: {error}\n"
    for name in ("text", "utt2task", "utt2spk"):
        (data / name).write_text("")
    with pytest.raises(SystemExit):
        run(data, decode)
    assert capsys.readouterr().err == f"error: {data}/text: no utterances; run stage 2 again\n"
    (data / "text").write_text("a1 GO\n")
    (data / "utt2task").write_text("a1 asr\n")
    (data / "utt2spk").write_text("a1 anna\n")
    (decode / "text").unlink()
    with pytest.raises(SystemExit):
        run(data, decode)
    assert "no such file; run stage 7, which writes it" in capsys.readouterr().err
